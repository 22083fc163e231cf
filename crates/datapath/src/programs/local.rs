//! What this machine sends: answers of backends that live on it.

use super::lane::{Lane, copy};
use super::{FLOW, IP, L4};
use crate::layout::{ANSWER, Word};
use crate::reason::Reason;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::checksum::fold;

use super::check::LESS_TTL;
use super::established::TURNING;

impl Lane<'_> {
    /// A packet that this machine sends. An answer of one of its own backends gets the listener's
    /// address, and goes on where its socket sent it; all others pass as they are.
    pub(super) fn sent(&self) -> Code {
        let pass = self.context.exits.pass(Reason::NotOurs);
        let ours = label("ours");
        let is_answer = || {
            [
                load(R1, FLOW.get(self.fields.tag)),
                and(R1, i32::from(ANSWER)),
            ]
        };
        code![
            self.look(),
            is_answer(),
            jne(R1, 0, ours),
            bind(self.miss),
            ja(pass),
            bind(ours),
            self.is_tcp().then(|| [
                load(R1, L4.get(tcp::flags)),
                jset(R1, TURNING, self.turning),
                ja(self.special),
            ]),
            self.is_tcp().then(|| self.turns()),
            bind(self.plain),
            bind(self.special),
            load(R1, FLOW.get(self.fields.word)),
            jset(R1, Word::HALF, self.half),
            self.is_tcp().then(|| self.revive()),
            bind(self.goes),
            self.touch(),
            self.answer_for(),
            self.context.exits.count(Reason::Forwarded),
            ret(TCX_NEXT),
            bind(self.half),
            self.answered(),
            // It opens a connection of its own.
            self.is_tcp().then(|| code![bind(self.reopen), ja(pass)]),
            self.look_elsewhere(),
        ]
    }

    /// The packet comes from whom its flow says. It is still on its way out: its time to live and
    /// Ethernet addresses are the stack's. Clobbers R0 to R5 and L4.
    fn answer_for(&self) -> Code {
        let fields = self.fields;
        let more = |field: Field, by: Insn| {
            [
                load(R4, FLOW.get(field)),
                by,
                store(FLOW.get(field), R4),
            ]
        };
        code![
            self.length(R2),
            more(fields.packets, add(R4, 1)),
            more(fields.bytes, add(R4, R2)),
            self.is_v4().then(|| code![
                load(R1, IP.get(ipv4::check)),
                xor(R1, 0xffff),
                load(R3, FLOW.get(fields.ip_sum)),
                add(R1, R3),
                add(R1, be16(!LESS_TTL)),
                fold(R1, R3, 2),
                xor(R1, 0xffff),
                store(IP.get(ipv4::check), R1),
            ]),
            copy(
                self.addresses(),
                FLOW.to(fields.saddr),
                2 * self.address(),
                R1
            ),
            copy(L4.at(0), FLOW.to(fields.ports), 4, R1),
            self.l4_check_by_kernel(),
        ]
    }
}
