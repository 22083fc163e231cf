//! Where XDP programs send frames: to a CPU or device of a map, chosen in turn, by flow, or by a
//! table.
//!
//! A choice leaves a number in R0, and [`to_map`] sends there:
//!
//! ```
//! use bpfsmith_asm::dsl::*;
//! use bpfsmith_asm::kit::packet::{self, Packet};
//! use bpfsmith_asm::kit::redirect::{self, Otherwise};
//!
//! static CPUS: MapDef<u32, [u32; 2]> = MapDef::new(MapType::CPUMAP, "cpus", 4);
//! const P: Packet = Packet { data: R6, end: R7, cursor: R8, scratch: R5 };
//!
//! let other = label("other");
//! let code = code![
//!     packet::xdp(P, R1),
//!     redirect::flow_hash(P, other),
//!     redirect::share(R0, 4),
//!     redirect::to_map(&CPUS, R0, Otherwise::Pass),
//!     exit(),
//!     bind(other),
//!     ret(XDP_PASS),
//! ];
//! assert!(Program::new(ProgType::XDP, "by_flow", code).is_ok());
//! ```
//!
//! A frame that goes to another CPU or device takes no offload along: what the sender left to its
//! device (checksums, with a veth) is never done, and the receiver drops the packet. Switch that
//! off at senders.

use crate::dsl::*;
use crate::helper::{Argument, kind};
use crate::kit::hash::jhash_3words;
use crate::kit::packet::{self, Packet};
use bpfsmith_uapi::flags::redirect::{BPF_F_BROADCAST, BPF_F_EXCLUDE_INGRESS};

/// What becomes of a frame for which a map has no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// It is dropped, and the trace event `xdp_exception` tells.
    Abort,
    /// It is dropped.
    Drop,
    /// It goes to the network stack, on this CPU.
    Pass,
    /// It goes back out of the device that received it.
    Transmit,
}

impl Otherwise {
    const fn action(self) -> i32 {
        match self {
            Otherwise::Abort => XDP_ABORTED,
            Otherwise::Drop => XDP_DROP,
            Otherwise::Pass => XDP_PASS,
            Otherwise::Transmit => XDP_TX,
        }
    }
}

/// Sends the frame to the CPU, device or socket that the map has at `index`; R0 is the action to
/// return. Clobbers R0 to R5. Linux 5.3 for anything but [`Otherwise::Abort`].
pub fn to_map<'a, V>(
    map: &'a MapDef<u32, V>,
    index: impl Argument<'a, kind::Scalar>,
    otherwise: Otherwise,
) -> Code {
    code![redirect_map(
        map,
        index,
        otherwise.action()
    )]
}

/// Whether a frame that goes to all devices of a map also goes to the one that received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// It does not, as a switch has it.
    Excluded,
    /// It does, if the map has that device.
    Included,
}

/// Sends a copy of the frame to each device of the map; R0 is the action to return, which is always
/// `XDP_REDIRECT`: a device map without entries drops the frame, and a device that takes no
/// redirected frames gets no copy, both without a word. Clobbers R0 to R5. Linux 5.13.
pub fn broadcast<V>(map: &MapDef<u32, V>, ingress: Ingress) -> Code {
    let flags = match ingress {
        Ingress::Excluded => BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS,
        Ingress::Included => BPF_F_BROADCAST,
    };
    code![redirect_map(map, 0, flags)]
}

/// Takes the next of `places` numbers from 0 on: R0 becomes the number. `turns` is a per-CPU array
/// with one entry, so each receiving CPU goes round by itself. The frames of one flow go to many
/// CPUs and may overtake each other. Clobbers R0 to R5.
pub fn in_turn(turns: &MapDef<u32, u64>, places: u32) -> Code {
    let key = slot::<u32>("turn");
    code![
        store(key.u32(0), 0),
        map_lookup_elem(turns, key),
        // Without an entry R0 is 0, which is a place as well.
        R0.ne(0).then(code![
            load(R1, R0.u64(0)),
            mov(R2, R1),
            add(R2, 1),
            store(R0.u64(0), R2),
            mov(R0, R1),
            rem(R0, places),
        ]),
    ]
}

/// A hash of 32 bits that all packets of a flow share, in both directions: of the addresses, the
/// protocol, and the ports of TCP and UDP. R0 becomes the hash.
///
/// Fragments of IPv4 have no ports, the first of them included, so they stay together; nor has what
/// stands behind extension headers of IPv6. What is not IP, or too short, goes to `other`.
///
/// The cursor is on the frame's first byte, and `p` has none of R0 to R4. Clobbers R0 to R4, cursor
/// and scratch.
pub fn flow_hash(p: Packet, other: Label) -> Code {
    let (v4, ports, done) = (label("v4"), label("ports"), label("hashed"));
    code![
        packet::ethernet(p, PROTO, other),
        packet::vlan(p, PROTO, other),
        jeq(PROTO, be16(ETH_P_IP), v4),
        jne(PROTO, be16(ETH_P_IPV6), other),
        ipv6_addresses(p, other),
        ja(ports),
        bind(v4),
        ipv4_addresses(p, done, other),
        bind(ports),
        both_ports(p, done),
        bind(done),
        mov(R0, PORTS),
        lsh(R0, 8),
        or(R0, PROTO),
        jhash_3words([SUM, FLIPPED, R0], 0, p.scratch),
    ]
}

/// The sum of all addresses, and their bits flipped by each other: both directions have the same.
const SUM: Reg = R1;
const FLIPPED: Reg = R2;
/// The sum of the ports, or 0.
const PORTS: Reg = R3;
/// What comes next.
const PROTO: Reg = R4;

/// One word more into the sums.
fn address_word(word: Mem) -> Code {
    code![
        load(R3, word),
        add(SUM, R3),
        xor(FLIPPED, R3)
    ]
}

/// Goes to `fragment` if the ports may be elsewhere.
fn ipv4_addresses(p: Packet, fragment: Label, short: Label) -> Code {
    code![
        packet::need(p.cursor, p.end, ipv4::SIZE, p.scratch, short),
        mov(SUM, 0),
        mov(FLIPPED, 0),
        [ipv4::saddr, ipv4::daddr].map(|address| address_word(p.cursor.get(address))),
        mov(PORTS, 0),
        load(PROTO, p.cursor.get(ipv4::proto)),
        load(p.scratch, p.cursor.get(ipv4::frag_off)),
        and(p.scratch, be16(IP_MF | IP_OFFSET)),
        jne(p.scratch, 0, fragment),
        packet::ipv4_len(p.scratch, p.cursor, short),
        add(p.cursor, p.scratch),
    ]
}

fn ipv6_addresses(p: Packet, short: Label) -> Code {
    let start = i32::from(ipv6::saddr.offset);
    code![
        packet::need(p.cursor, p.end, ipv6::SIZE, p.scratch, short),
        mov(SUM, 0),
        mov(FLIPPED, 0),
        (0..8).map(|word| address_word(p.cursor.u32(start + 4 * word))),
        mov(PORTS, 0),
        load(PROTO, p.cursor.get(ipv6::next_header)),
        add(p.cursor, ipv6::SIZE),
    ]
}

fn both_ports(p: Packet, none: Label) -> Code {
    let here = label("has_ports");
    code![
        jeq(PROTO, IPPROTO_TCP, here),
        jne(PROTO, IPPROTO_UDP, none),
        bind(here),
        packet::need(p.cursor, p.end, 4, p.scratch, none),
        load(PORTS, p.cursor.get(udp::sport)),
        load(R0, p.cursor.get(udp::dport)),
        add(PORTS, R0),
    ]
}

/// Makes a number below `places` of a hash of 32 bits. Hashes that are close stay close: the upper
/// bits decide, and no division is needed. Clobbers nothing else.
pub fn share(hash: Reg, places: u32) -> Code {
    code![mul(hash, places), rsh(hash, 32)]
}

/// Looks up whose share a hash of 32 bits in R0 is: R0 becomes the number that stands there in the
/// table, an array which [`spread`] fills. User space may change it at any time, and the next
/// packet goes by that. Goes to `none` if the table has no entry. Clobbers R0 to R5.
pub fn by_table(table: &MapDef<u32, u32>, none: Label) -> Code {
    let key = slot::<u32>("share");
    code![
        share(R0, table.shape().entries),
        store(key.u32(0), R0),
        map_lookup_elem(table, key),
        jeq(R0, 0, none),
        load(R0, R0.u32(0)),
    ]
}

/// Shares a table for [`by_table`] among places: place `n` gets as many entries as `weights[n]` is
/// worth, exact to one entry. Only what has to change does, so that most flows stay where they are;
/// returns how many entries did. If no weight is above 0, nothing changes.
///
/// ```
/// use bpfsmith_asm::kit::redirect::spread;
///
/// let mut table = [0; 8];
/// assert_eq!(spread(&mut table, &[1, 1]), 4);
/// assert_eq!(spread(&mut table, &[1, 3]), 2);
/// assert_eq!(table, [0, 0, 1, 1, 1, 1, 1, 1]);
/// ```
pub fn spread(table: &mut [u32], weights: &[u32]) -> usize {
    let mut wanted = entries_of(table.len(), weights);
    let mut free = Vec::new();
    for (at, place) in table.iter().enumerate() {
        let left = usize::try_from(*place).ok().and_then(|n| wanted.get_mut(n));
        match left {
            Some(left) if *left > 0 => *left -= 1,
            _ => free.push(at),
        }
    }
    let missing = (0_u32..).zip(wanted);
    let places = missing.flat_map(|(place, left)| std::iter::repeat_n(place, left));
    let mut changed = 0;
    for (at, place) in free.into_iter().zip(places) {
        table[at] = place;
        changed += 1;
    }
    changed
}

/// How many of so many entries each weight is worth: what is left after rounding down goes to those
/// that lost most by it.
fn entries_of(entries: usize, weights: &[u32]) -> Vec<usize> {
    let total: u128 = weights.iter().copied().map(u128::from).sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let parts: Vec<u128> = weights
        .iter()
        .map(|weight| u128::from(*weight) * entries as u128)
        .collect();
    let mut wanted: Vec<usize> = parts
        .iter()
        .map(|part| usize::try_from(part / total).unwrap_or(entries))
        .collect();
    let mut by_loss: Vec<usize> = (0..weights.len()).collect();
    by_loss.sort_by_key(|&place| std::cmp::Reverse(parts[place] % total));
    let left = entries - wanted.iter().sum::<usize>();
    for place in by_loss.into_iter().take(left) {
        wanted[place] += 1;
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(table: &[u32], places: u32) -> Vec<usize> {
        (0..places)
            .map(|place| table.iter().filter(|at| **at == place).count())
            .collect()
    }

    #[test]
    fn weights_become_entries() {
        for (weights, expected) in [
            (&[1, 1][..], &[50, 50][..]),
            (&[3, 1], &[75, 25]),
            (&[1, 1, 1], &[34, 33, 33]),
            (&[0, 7], &[0, 100]),
            (&[u32::MAX, u32::MAX, 0], &[50, 50, 0]),
            (&[1, 1000], &[0, 100]),
            (&[6, 1000], &[1, 99]),
        ] {
            let mut table = [9; 100];
            spread(&mut table, weights);
            let places = u32::try_from(weights.len()).unwrap_or(0);
            assert_eq!(counts(&table, places), expected, "{weights:?}");
        }
    }

    #[test]
    fn only_what_has_to_change_does() {
        let mut table = [0; 64];
        for (weights, changed) in [
            (&[1, 1][..], 32),
            (&[1, 1], 0),
            (&[2, 2], 0),
            (&[3, 1], 16),
            (&[1, 1, 2], 32),
            (&[1], 48),
        ] {
            assert_eq!(spread(&mut table, weights), changed, "{weights:?}");
        }
    }

    #[test]
    fn without_weights_nothing_changes() {
        let mut table = [1, 0, 7];
        for weights in [&[][..], &[0, 0]] {
            assert_eq!(spread(&mut table, weights), 0);
        }
        assert_eq!(table, [1, 0, 7]);
        assert_eq!(spread(&mut [], &[1, 2]), 0);
    }
}
