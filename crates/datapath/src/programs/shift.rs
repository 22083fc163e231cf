//! Sequence numbers of connections by cookie: the client knows the backend's by others.
//!
//! What the backend sends has numbers of its own, and those that the client acknowledges are the
//! cookie's: both are shifted, by what was learned with the backend's first answer. Numbers of what the
//! client sends are the same on both sides. There are no selective acknowledgements.

use super::lane::Lane;
use super::parse::END;
use super::tuple::partner;
use super::{CTX, FLOW, IP, L4};
use crate::layout::{ANSWER, Shift, Word};
use crate::reason::Reason;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::checksum::update32;
use bpfsmith_asm::kit::packet::need;

/// Extension headers of IPv6 that are walked over take no more.
const FARTHEST: i32 = 0x3fff;

impl Lane<'_> {
    /// Finds out by how much the packet of the flow at FLOW is to be shifted, and where it is. Nothing of it is
    /// changed yet. Clobbers R0 to R5.
    pub(super) fn measure_shift(&self) -> Option<Code> {
        if !self.has_shifted() {
            return None;
        }
        let by = self.cookies.by();
        let (client, known, done) = (self.context.other, label("known"), label("measured"));
        let lost = self.context.exits.drop(Reason::CookieLost);
        let shifts = self.context.shape.shifts(self.path.family);
        let answers = code![
            partner(self, client, FLOW.at(0)),
            map_lookup_elem(&shifts, client),
            jeq(R0, 0, lost),
            load(R1, R0.get(Shift::by)),
            load(R2, R0.get(Shift::is_known)),
            jne(R2, 0, known),
            // A refusal. The client takes it for what comes after the cookie.
            load(R1, R0.get(Shift::cookie)),
            add(R1, 1),
            load(R2, L4.get(tcp::seq)),
            to_be32(R2),
            sub(W1, W2),
        ];
        Some(code![
            store(by.u64(0), 0),
            load(R1, FLOW.get(self.fields.word)),
            R1.has(Word::SHIFTED).then(code![
                load(R1, FLOW.get(self.fields.tag)),
                R1.has(i32::from(ANSWER)).then(answers).or_else(code![
                    load(R1, L4.get(tcp::flags)),
                    and(R1, TCP_ACK),
                    jeq(R1, 0, done),
                    map_lookup_elem(&shifts, self.key),
                    jeq(R0, 0, lost),
                    mov(R1, 0),
                    load(R2, R0.get(Shift::by)),
                    sub(W1, W2),
                ]),
                bind(known),
                store(by.u32(0), R1),
                (!self.is_xdp()).then(|| [
                    mov(R1, L4),
                    load(R2, CTX.get(self.context.hook.data())),
                    sub(R1, R2),
                    store(by.u32(4), R1),
                ]),
            ]),
            bind(done),
        ])
    }

    /// Shifts the rewritten packet of the flow at FLOW by what was found out. Clobbers R0 to R5, and in TCX IP, L4
    /// and what is known of packet pointers.
    pub(super) fn shift(&self) -> Option<Code> {
        if !self.has_shifted() {
            return None;
        }
        let by = self.cookies.by();
        let done = label("shifted");
        let hook = self.context.hook;
        let lost = self.context.exits.drop(Reason::CookieLost);
        Some(code![
            load(R1, by.u32(0)),
            jeq(R1, 0, done),
            // It may have been moved.
            (!self.is_xdp()).then(|| code![
                load(END, CTX.get(hook.data_end())),
                load(L4, CTX.get(hook.data())),
                load(R2, by.u32(4)),
                and(R2, FARTHEST),
                add(L4, R2),
                need(L4, END, tcp::SIZE, R4, lost),
            ]),
            load(R2, FLOW.get(self.fields.tag)),
            R2.has(i32::from(ANSWER))
                .then(self.shift_number(tcp::seq))
                .or_else(self.shift_number(tcp::ack_seq)),
            bind(done),
        ])
    }

    /// The number gets R1 added. Clobbers R1 to R5, and in TCX R0 and IP.
    fn shift_number(&self, number: Field) -> Code {
        const OLD: Reg = R3;
        const NEW: Reg = R4;
        let place = L4.get(number);
        code![
            load(OLD, place),
            mov(NEW, OLD),
            to_be32(NEW),
            add(NEW.low(), R1.low()),
            to_be32(NEW),
            store(place, NEW),
            match self.is_xdp() {
                true => update32(L4.get(tcp::check), OLD, NEW, R5),
                // It may be left to the device, and the numbers with it.
                false => code![
                    load(IP, self.cookies.by().u32(4)),
                    add(IP, i32::from(tcp::check.offset)),
                    l4_csum_replace(CTX, IP, OLD, NEW, 4),
                ],
            },
        ]
    }

    /// Of an ICMP error that quotes an answer as the client knows it, the number is the backend's again: else
    /// that would not believe it. FLOW is how the error goes. Clobbers R0 to R5.
    pub(super) fn shift_quoted(&self) -> Option<Code> {
        const OLD: Reg = R4;
        const NEW: Reg = R5;
        let (absent, done) = (label("absent"), label("shifted"));
        let shifts = self.context.shape.shifts(self.path.family);
        let is_used = self.context.shape.shifted.contains(&self.path.family);
        let number = L4.get(tcp::seq);
        is_used.then(|| {
            code![
                load(R1, FLOW.get(self.fields.word)),
                and(R1, Word::SHIFTED),
                jeq(R1, 0, done),
                load(R1, FLOW.get(self.fields.tag)),
                jset(R1, i32::from(ANSWER), done),
                map_lookup_elem(&shifts, self.key),
                jeq(R0, 0, done),
                load(R2, R0.get(Shift::by)),
                load(END, CTX.get(self.context.hook.data_end())),
                need(L4, END, i32::from(tcp::seq.offset) + 4, R1, done),
                load(OLD, number),
                mov(NEW, OLD),
                to_be32(NEW),
                sub(NEW.low(), R2.low()),
                to_be32(NEW),
                store(number, NEW),
                // The quoted checksum makes up for it, or that of the error.
                need(L4, END, i32::from(tcp::check.offset) + 2, R1, absent),
                sub(R1, IP),
                self.stated_length(R2),
                jgt(R1, R2, absent),
                update32(L4.get(tcp::check), OLD, NEW, R1),
                ja(done),
                bind(absent),
                update32(IP.u16(self.ip_header() + 2), OLD, NEW, R1),
                bind(done),
            ]
        })
    }
}
