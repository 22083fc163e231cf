//! Checksums of a packet that becomes what its flow says.
//!
//! What a flow changes them by is in its entry. Where the kernel keeps a sum beside the packet, or left
//! the packet's to the device, as it may in TCX, it has to be told.

use super::lane::Lane;
use super::{CTX, FLOW, IP, L4};
use crate::config::Protocol;
use crate::shape::Sums6;
use bpfsmith_asm::dsl::flags::csum_replace::{BPF_F_IPV6, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::checksum::fold;

/// What one taken from the time to live changes the checksum of an IPv4 header by.
pub(super) const LESS_TTL: u16 = 0xfeff;

/// What one taken from the hop limit changes the sum of a packet of IPv6 by.
pub(super) const LESS_HOPS: u16 = 0xfffe;

/// How the kernel keeps a packet's checksum: nowhere but in the packet, or it has found it right.
const CHECKSUM_UNNECESSARY: i32 = 1;
/// The packet's has the addresses only: a device, or the receiver, does the rest.
const CHECKSUM_PARTIAL: i32 = 3;

impl Lane<'_> {
    /// A device may have computed the sum of the whole packet: no checksum of IPv6 makes up for the hop
    /// limit. Clobbers R0 to R5.
    pub(super) fn less_hops(&self) -> Code {
        code![
            mov(R2, be16(LESS_HOPS)),
            csum_update(CTX, R2)
        ]
    }

    /// Clobbers R1, R3.
    pub(super) fn ip_check(&self) -> Code {
        let check = IP.get(ipv4::check);
        code![
            load(R1, check),
            xor(R1, 0xffff),
            load(R3, FLOW.get(self.fields.ip_sum)),
            add(R1, R3),
            once(R1, R3),
            store(check, R1),
        ]
    }

    /// The checksum of all that the packet becomes. Clobbers R1, R3.
    pub(super) fn l4_check(&self) -> Code {
        self.change_check(code![
            xor(R1, 0xffff),
            load(R3, FLOW.get(self.fields.l4_sum)),
            add(R1, R3),
            once(R1, R3),
        ])
    }

    /// A checksum that has the addresses only, uncomplemented. Clobbers R1, R3.
    fn partial_check(&self) -> Code {
        self.change_check(code![
            load(R3, FLOW.get(self.fields.ip_sum)),
            add(R3, be16(!LESS_TTL)),
            add(R1, R3),
            fold(R1, R3, 2),
        ])
    }

    /// The checksum goes through R1. UDP may have none. Clobbers R1, R3.
    fn change_check(&self, change: Code) -> Code {
        let check = self.check();
        let none = label("no_checksum");
        let is_udp = self.path.protocol == Protocol::Udp;
        code![
            load(R1, check),
            is_udp.then(|| jeq(R1, 0, none)),
            change,
            is_udp.then(|| code![
                and(R1, 0xffff),
                R1.eq(0).then(mov(R1, 0xffff)),
            ]),
            store(check, R1),
            bind(none),
        ]
    }

    /// In TCX, most packets need no call either: only what the kernel keeps of a sum beside the packet
    /// is out of reach, and goes on at `beside`. Before Linux 6.2 nothing says where it is. Clobbers R0 to
    /// R5.
    pub(super) fn l4_check_in_place(&self, beside: Label, by_kernel: Label) -> Code {
        code![
            mov(R1, kfunc("bpf_cast_to_kern_ctx").exists()),
            jeq(R1, 0, by_kernel),
            mov(R1, CTX),
            call_kfunc("bpf_cast_to_kern_ctx"),
            load_bits(R1, R0, kernel("sk_buff.ip_summed")),
            jgt(R1, CHECKSUM_UNNECESSARY, beside),
            self.l4_check(),
        ]
    }

    /// Where `l4_check_in_place` goes on. Clobbers R0 to R5 and L4.
    pub(super) fn l4_check_beside(&self, beside: Label, by_kernel: Label, over: Label) -> Code {
        code![
            bind(beside),
            jne(R1, CHECKSUM_PARTIAL, by_kernel),
            self.partial_check(),
            ja(over),
            bind(by_kernel),
            self.l4_check_by_kernel(),
            (!self.is_v4()).then(|| self.less_hops()),
            ja(over),
        ]
    }

    /// The checksum may be left to the device, or be kept outside the packet too: the kernel knows.
    /// Clobbers R0 to R5 and L4.
    pub(super) fn l4_check_by_kernel(&self) -> Code {
        let fields = self.fields;
        let is_udp = self.path.protocol == Protocol::Udp;
        let mangled = if is_udp { BPF_F_MARK_MANGLED_0 } else { 0 };
        let (flag, undone) = match (self.is_v4(), self.context.shape.sums6) {
            (true, _) => (0, false),
            (false, Sums6::Flag) => (BPF_F_IPV6, false),
            (false, Sums6::Undone) => (0, true),
        };
        let same = label("same_ports");
        let place = self.check();
        code![
            // Without a checksum, what a device computed is all there is.
            is_udp.then(|| code![
                load(R1, place),
                R1.eq(0).then(code![self.unchecked(), ja(same)]),
            ]),
            load(R1, CTX.get(__sk_buff::data)),
            sub(L4, R1),
            add(L4, Place::from(place).offset()),
            // What the addresses change, without the time to live.
            load(R4, FLOW.get(fields.ip_sum)),
            add(R4, be16(!LESS_TTL)),
            l4_csum_replace(CTX, L4, 0, R4, BPF_F_PSEUDO_HDR | mangled | flag),
            undone.then(|| code![
                load(R2, FLOW.get(fields.ip_sum)),
                add(R2, be16(!LESS_TTL)),
                csum_update(CTX, R2),
            ]),
            load(R1, FLOW.to(fields.ports).u32(0)),
            load(R2, self.key.u32(2 * self.address())),
            jeq(R1, R2, same),
            load(R4, FLOW.get(fields.ip_sum)),
            xor(R4, 0xffff),
            add(R4, be16(LESS_TTL)),
            load(R1, FLOW.get(fields.l4_sum)),
            add(R4, R1),
            l4_csum_replace(CTX, L4, 0, R4, mangled),
            bind(same),
        ]
    }

    /// A device may have computed the sum of a packet that has no checksum of its own to make up for what is
    /// changed. Clobbers R0 to R5.
    fn unchecked(&self) -> Code {
        let fields = self.fields;
        code![
            load(R2, FLOW.get(fields.l4_sum)),
            // For the addresses, the header of IPv4 has one.
            self.is_v4().then(|| code![
                load(R1, FLOW.get(fields.ip_sum)),
                xor(R1, 0xffff),
                add(R1, be16(LESS_TTL)),
                add(R2, R1),
            ]),
            csum_update(CTX, R2),
        ]
    }
}

/// The complement of a sum of two numbers of 16 bits, of which the low 16 bits are meant. Clobbers
/// scratch.
fn once(sum: Reg, scratch: Reg) -> [Insn; 4] {
    [
        mov(scratch, sum),
        rsh(scratch, 16),
        add(sum, scratch),
        xor(sum, 0xffff),
    ]
}
