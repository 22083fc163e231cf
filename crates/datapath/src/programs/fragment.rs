//! Fragments: only the first one of a packet has ports.
//!
//! The first one is handled like a whole packet, after its ports were written down under the number that
//! all fragments of the packet share. Later ones find them there, go the way of the flow, and are changed in
//! their IP header alone: the checksum of the transport is in the first one.

use super::check::{LESS_HOPS, LESS_TTL};
use super::established::Part;
use super::lane::{Lane, copy};
use super::parse::END;
use super::{CTX, Context, FLOW, Hook, IP, L4};
use crate::config::{Family, Fragments};
use crate::layout::{FragmentKey4, FragmentKey6, Transport};
use crate::reason::Reason;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::packet::need;

/// Whether later fragments follow their first one.
pub(super) fn are_followed(context: &Context<'_>) -> bool {
    // What this machine sends is whole where programs see it, but for what it forwards.
    context.hook != Hook::TcxEgress && context.shape.fragments != Fragments::Pass
}

/// A fragment of IPv4, with its header's `frag_off` in R4. The first one goes on at `whole` with its
/// protocol in R4.
pub(super) fn ipv4(context: &Context<'_>, whole: Label) -> Code {
    let lane = Lane::any(context, Family::V4);
    let key = slot::<[u32; size_of::<FragmentKey4>() / 4]>("packet");
    let later = label("later");
    let number = || {
        [
            load(R1, IP.get(ipv4::id)),
            store(key.to(FragmentKey4::id).u16(0), R1),
            load(R1, IP.get(ipv4::proto)),
            store(key.get(FragmentKey4::protocol), R1),
        ]
    };
    code![
        jset(R4, be16(IP_OFFSET), later),
        number(),
        load(R4, IP.get(ipv4::proto)),
        lane.remember(key, whole),
        bind(later),
        number(),
        lane.follow(key),
    ]
}

/// The first fragment of a packet of IPv6, with its protocol in R4, and what its fragment header says in
/// `place`. Goes on at `whole` with the protocol in R4.
pub(super) fn ipv6_first(context: &Context<'_>, place: Slot, whole: Label) -> Code {
    let (lane, key) = (Lane::any(context, Family::V6), key6());
    code![
        load(R1, place.u32(4)),
        store(key.to(FragmentKey6::id).u32(0), R1),
        lane.remember(key, whole),
    ]
}

/// A later fragment of a packet of IPv6, with what its fragment header says in `place`.
pub(super) fn ipv6_later(context: &Context<'_>, place: Slot) -> Code {
    let (lane, key) = (Lane::any(context, Family::V6), key6());
    code![
        load(R1, place.u32(4)),
        store(key.to(FragmentKey6::id).u32(0), R1),
        lane.follow(key),
    ]
}

fn key6() -> Slot {
    slot::<[u64; size_of::<FragmentKey6>().div_ceil(8)]>("packet")
}

impl Lane<'_> {
    /// Writes the ports of a first fragment down, and goes on with it at `whole`. `number` has the
    /// packet's number; R4 is its protocol, also at `whole`.
    fn remember(&self, number: Slot, whole: Label) -> Code {
        let (exits, table) = (
            &self.context.exits,
            self.context.shape.fragments(self.path.family),
        );
        let known = slot::<[u32; 2]>("ports");
        let (ours, failed) = (label("ours"), label("not_remembered"));
        let malformed = exits.pass(Reason::Malformed);
        code![
            jeq(R4, IPPROTO_TCP, ours),
            jne(R4, IPPROTO_UDP, exits.pass(Reason::Fragment)),
            bind(ours),
            need(L4, END, 4, R5, malformed),
            // The rest of a header that was torn is no padding of the frame.
            R4.eq(IPPROTO_TCP).then(code![
                mov(R1, L4),
                sub(R1, IP),
                add(R1, tcp::SIZE),
                self.stated_length(R2),
                jgt(R1, R2, malformed),
            ]),
            store(known.get(Transport::protocol), R4),
            load(R1, L4.u32(0)),
            store(known.to(Transport::ports).u32(0), R1),
            copy(number.at(0), self.addresses(), 2 * self.address(), R1),
            map_update_elem(&table, number, known, 0),
            // It goes on all the same; the others will be strangers, and are counted.
            jeq(R0, 0, failed),
            bind(failed),
            load(END, CTX.get(self.context.hook.data_end())),
            load(R4, known.get(Transport::protocol)),
            ja(whole),
        ]
    }

    /// A later fragment goes where the first one went. `number` has the packet's number.
    fn follow(&self, number: Slot) -> Code {
        let (exits, fields) = (&self.context.exits, self.fields);
        let both = 2 * self.address();
        let table = self.context.shape.fragments(self.path.family);
        let lost = match self.context.shape.fragments {
            Fragments::FollowOrDrop => exits.drop(Reason::LostFragment),
            Fragments::Follow | Fragments::Pass => exits.pass(Reason::LostFragment),
        };
        code![
            copy(number.at(0), self.addresses(), both, R1),
            map_lookup_elem(&table, number),
            jeq(R0, 0, lost),
            copy(self.key.at(0), self.addresses(), both, R1),
            copy(self.key.at(both), R0.to(Transport::ports), 4, R1),
            load(R4, R0.get(Transport::protocol)),
            self.find_any(R4, exits.pass(Reason::NotOurs)),
            self.touch(),
            self.fresh_next_hop(),
            self.goes_somewhere(),
            self.rewrite(Part::Later),
            // Of these headers, all that has changed is outside the sums in them.
            (!self.is_v4() && !self.is_xdp()).then(|| code![
                load(R2, FLOW.get(fields.ip_sum)),
                add(R2, be16(!LESS_TTL)),
                add(R2, be16(LESS_HOPS)),
                csum_update(CTX, R2),
            ]),
            exits.count(Reason::Forwarded),
            self.leave(),
        ]
    }
}
