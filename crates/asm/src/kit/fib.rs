//! Questions to the routing table.
//!
//! The answer replaces fields of the question: device, gateway and Ethernet addresses.
//!
//! ```
//! use bpfsmith_asm::dsl::*;
//! use bpfsmith_asm::kit::{fib, rewrite};
//!
//! /// Forwards the IPv4 packet; the frame is at R7, its IP header at R8, the context in R6.
//! fn forward(other: Label) -> Code {
//!     let params = fib::params();
//!     code![
//!         fib::ipv4(R6, R6.get(xdp_md::ingress_ifindex), R8, params, 0, other),
//!         rewrite::copy_mac(R7, eth::dst, params.get(bpf_fib_lookup::dmac), R1),
//!         rewrite::copy_mac(R7, eth::src, params.get(bpf_fib_lookup::smac), R1),
//!         redirect(params.get(bpf_fib_lookup::ifindex), 0),
//!         exit(),
//!     ]
//! }
//! # let _ = forward(label("other"));
//! ```

use crate::dsl::*;
use crate::kit::event::zero;

type Params = [u64; bpf_fib_lookup::SIZE as usize / 8];

/// The first word of an IPv6 header without its version: traffic class and flow label.
const FLOWINFO: u32 = 0x0fff_ffff;

/// A `bpf_fib_lookup` on the stack.
#[must_use]
pub fn params() -> Slot {
    slot::<Params>("fib")
}

/// Asks where the packet with the IPv4 header at `ip` goes, and jumps to `other` unless it is to be
/// forwarded; R0 holds the answer, a `BPF_FIB_LKUP_RET_` number, in both cases. The question has no
/// ports. `ifindex` is the device it came from (`ctx.get(xdp_md::ingress_ifindex)`), `flags` are
/// `BPF_FIB_LOOKUP_` bits. Reads ctx and ip; clobbers R0 to R5. Linux 4.18.
pub fn ipv4(ctx: Reg, ifindex: Mem, ip: Reg, params: Slot, flags: u64, other: Label) -> Code {
    code![
        start(AF_INET, ifindex, params),
        copy(params, bpf_fib_lookup::tos, ip.get(ipv4::tos)),
        copy(params, bpf_fib_lookup::l4_protocol, ip.get(ipv4::proto)),
        load(R0, ip.get(ipv4::tot_len)),
        to_be16(R0),
        store(params.get(bpf_fib_lookup::tot_len), R0),
        copy(params, bpf_fib_lookup::ipv4_src, ip.get(ipv4::saddr)),
        copy(params, bpf_fib_lookup::ipv4_dst, ip.get(ipv4::daddr)),
        ask(ctx, params, flags, other),
    ]
}

/// As [`ipv4()`], with an IPv6 header at `ip`.
pub fn ipv6(ctx: Reg, ifindex: Mem, ip: Reg, params: Slot, flags: u64, other: Label) -> Code {
    let words = |to: Field, from: Field| {
        let word = move |n| copy(params, to.at(n), ip.get(from.at(n)));
        code![(0..4).map(word)]
    };
    code![
        start(AF_INET6, ifindex, params),
        load(R0, ip.get(ipv6::ver_tc_flow)),
        and(W0, be32(FLOWINFO)),
        store(params.get(bpf_fib_lookup::flowinfo), R0),
        copy(
            params,
            bpf_fib_lookup::l4_protocol,
            ip.get(ipv6::next_header)
        ),
        load(R0, ip.get(ipv6::payload_len)),
        to_be16(R0),
        add(R0, ipv6::SIZE),
        R0.gt(0xffff).then(mov(R0, 0xffff)),
        store(params.get(bpf_fib_lookup::tot_len), R0),
        words(bpf_fib_lookup::ipv6_src, ipv6::saddr),
        words(bpf_fib_lookup::ipv6_dst, ipv6::daddr),
        ask(ctx, params, flags, other),
    ]
}

/// An empty question. Clobbers R0.
fn start(family: i32, ifindex: Mem, params: Slot) -> Code {
    code![
        zero::<Params>(params),
        store(params.get(bpf_fib_lookup::family), family),
        copy(params, bpf_fib_lookup::ifindex, ifindex),
    ]
}

/// Copies a field. Clobbers R0.
fn copy(params: Slot, to: Field, from: Mem) -> [Insn; 2] {
    [
        load(R0, from),
        store(params.get(to), R0),
    ]
}

/// Calls, and goes to `other` unless the packet is to be forwarded.
fn ask(ctx: Reg, params: Slot, flags: u64, other: Label) -> Code {
    code![
        fib_lookup(ctx, params, bpf_fib_lookup::SIZE, flags),
        jne(R0, BPF_FIB_LKUP_RET_SUCCESS, other),
    ]
}
