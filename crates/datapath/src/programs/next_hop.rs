//! Where a flow's packets go next.

use super::lane::{Lane, copy};
use super::{CTX, FLOW, Usual};
use crate::config::{Family, Mode};
use crate::layout::{ANSWER, Backend, Word, way};
use crate::shape::{BACKEND_TABLE, DEVICES};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::event::zero;
use bpfsmith_asm::kit::fib;

type Params = [u64; bpf_fib_lookup::SIZE as usize / 8];

/// The longest packet that a flow remembers.
const LONGEST: i32 = 0xffff;

impl Lane<'_> {
    /// Asks the kernel where packets of the flow at FLOW go, and writes it down there. Clobbers R0 to
    /// R5.
    pub(super) fn next_hop(&self) -> Code {
        let fields = self.fields;
        let params = fib::params();
        let (known, unresolved, own, done) = (
            label("known"),
            label("unresolved"),
            label("own"),
            label("done"),
        );
        let (load_frame, frame) = self.context.frame(R2);
        let (way, index) = (slot::<u64>("way"), slot::<u32>("device"));
        code![
            self.question(params),
            fib_lookup(CTX, params, bpf_fib_lookup::SIZE, 0),
            jeq(R0, BPF_FIB_LKUP_RET_SUCCESS, known),
            jeq(R0, BPF_FIB_LKUP_RET_NO_NEIGH, unresolved),
            jeq(R0, BPF_FIB_LKUP_RET_NOT_FWDED, own),
            store(way.u64(0), way::NOWHERE),
            ja(done),
            // Up to the kernel with the Ethernet addresses that it has.
            bind(own),
            load_frame,
            copy(FLOW.to(fields.dmac), frame, 12, R1),
            store(FLOW.get(fields.mtu), LONGEST),
            store(way.u64(0), way::LOCAL),
            ja(done),
            bind(unresolved),
            store(way.u64(0), way::NEIGHBOUR),
            store(FLOW.get(fields.mtu), LONGEST),
            load(R1, params.get(bpf_fib_lookup::ifindex)),
            store(FLOW.get(fields.ifindex), R1),
            ja(done),
            bind(known),
            store(way.u64(0), way::DEVICE),
            load(R1, params.get(bpf_fib_lookup::ifindex)),
            store(FLOW.get(fields.ifindex), R1),
            store(index.u32(0), R1),
            // Addresses of the answer stand the other way round.
            copy_mac(FLOW.to(fields.dmac), params.to(bpf_fib_lookup::dmac)),
            copy_mac(FLOW.to(fields.dmac).at(6), params.to(bpf_fib_lookup::smac)),
            load(R1, params.get(bpf_fib_lookup::tot_len)),
            store(FLOW.get(fields.mtu), R1),
            (!self.is_xdp() && self.context.usual == Usual::Peer).then(|| code![
                map_lookup_elem(&DEVICES, index),
                R0.ne(0).then(code![
                    load(R1, R0.u32(0)),
                    store(way.u64(0), R1),
                ]),
            ]),
            (self.context.usual == Usual::Back).then(|| code![
                load(R1, FLOW.get(fields.ifindex)),
                load(R2, CTX.get(self.context.hook.device())),
                R1.eq(R2).then(store(way.u64(0), way::BACK)),
            ]),
            bind(done),
            self.write_word(way),
        ]
    }

    /// The flow's word gets the way and the present tick. While the neighbour is not known, the tick
    /// is one of the past, so that the next packet asks again. Clobbers R0 to R3.
    fn write_word(&self, way: Slot) -> Code {
        let word = FLOW.get(self.fields.word);
        code![
            jiffies64(),
            self.tick(R0),
            load(R2, way.u64(0)),
            R2.eq(way::NEIGHBOUR.cast_signed())
                .then([sub(R0, 1), and(R0, 0xffff)]),
            lsh(R2, Word::WAY.cast_signed()),
            or(R0, R2),
            // Only the bits that differ are touched: another CPU may be setting some of the state.
            load(R1, word),
            mov(R2, R1),
            and(W2, !Word::STATE),
            xor(R0, R2),
            atomic_xor(word, R0),
        ]
    }

    /// Who asks, and about which addresses. Clobbers R0 to R5.
    fn question(&self, params: Slot) -> Code {
        let fields = self.fields;
        let (family, from, to) = match self.path.family {
            Family::V4 => (AF_INET, bpf_fib_lookup::ipv4_src, bpf_fib_lookup::ipv4_dst),
            Family::V6 => (AF_INET6, bpf_fib_lookup::ipv6_src, bpf_fib_lookup::ipv6_dst),
        };
        code![
            zero::<Params>(params),
            store(params.get(bpf_fib_lookup::family), family),
            store(params.get(bpf_fib_lookup::l4_protocol), self.ip_protocol()),
            // A length makes the kernel answer with what fits.
            store(params.get(bpf_fib_lookup::tot_len), 1),
            load(R1, CTX.get(self.context.hook.device())),
            store(params.get(bpf_fib_lookup::ifindex), R1),
            copy(params.to(from), FLOW.to(fields.saddr), self.address(), R1),
            copy(params.to(to), FLOW.to(fields.daddr), self.address(), R1),
            self.context
                .shape
                .modes
                .contains(&Mode::DirectReturn)
                .then(|| self.direct(params.to(to))),
        ]
    }

    /// Packets that keep their addresses go where their backend is. Clobbers R0 to R5.
    fn direct(&self, to: Place) -> Code {
        let number = slot::<u32>("backend");
        let other = label("rewritten");
        code![
            load(R1, FLOW.get(self.fields.tag)),
            jset(R1, i32::from(ANSWER), other),
            store(number.u32(0), R1),
            keeps_destination(self, other),
            map_lookup_elem(&BACKEND_TABLE, number),
            R0.ne(0).then(code![(0..self.address() / 4).map(|n| [
                load(R1, R0.to(Backend::address).u32(4 * n)),
                store(to.u32(4 * n), R1),
            ])]),
            bind(other),
        ]
    }

    /// Sends a packet that keeps its addresses to its backend, whose Ethernet address the kernel has to
    /// find: by the packet it would look for that of the listener. Goes on for all others. Clobbers R0
    /// to R5.
    pub(super) fn to_stranger(&self) -> Option<Code> {
        let is_direct = self.context.shape.modes.contains(&Mode::DirectReturn);
        let (hop, other) = (slot::<[u64; 3]>("neighbour"), label("rewritten"));
        let (family, to) = match self.path.family {
            Family::V4 => (AF_INET, bpf_redir_neigh::ipv4_nh),
            Family::V6 => (AF_INET6, bpf_redir_neigh::ipv6_nh),
        };
        is_direct.then(|| {
            code![
                zero::<[u64; 3]>(hop),
                self.direct(hop.to(to)),
                load(R1, hop.get(to)),
                jeq(R1, 0, other),
                store(hop.get(bpf_redir_neigh::nh_family), family),
                redirect_neigh(FLOW.get(self.fields.ifindex), hop, bpf_redir_neigh::SIZE, 0),
                exit(),
                bind(other),
            ]
        })
    }
}

/// Goes on if the flow leaves the packet's destination as it is; else jumps to `other`. Clobbers R1, R2.
fn keeps_destination(lane: &Lane<'_>, other: Label) -> Code {
    let address = lane.address();
    let new = FLOW.to(lane.fields.daddr);
    code![(0..address / 4).map(|n| [
        load(R1, new.u32(4 * n)),
        load(R2, lane.key.u32(address + 4 * n)),
        jne(R1, R2, other),
    ])]
}

/// An address of Ethernet, at places that are aligned to two bytes. Clobbers R1.
fn copy_mac(to: Place, from: Place) -> Code {
    code![(0..6).step_by(2).map(|at| [
        load(R1, from.u16(at)),
        store(to.u16(at), R1)
    ])]
}
