//! How many flows may begin: of one source, and at one listener.

use super::FLOW;
use super::lane::Lane;
use crate::config::{Family, SourceLimit};
use crate::layout::{Limit, Listener};
use crate::reason::Reason;
use bpfsmith_asm::dsl::flags::map_elem::BPF_NOEXIST;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::rate::{Bucket, Clock, LAST, TOKENS, token_bucket};

/// What the packet's listener is; while limits are looked at, a bucket.
const CHOICE: Reg = FLOW;
/// Billionths of a token.
const TOKEN: i32 = 1_000_000_000;

impl Lane<'_> {
    /// Goes on if a flow more may begin with the packet of the listener at CHOICE. Clobbers R0 to R5.
    pub(super) fn limits(&self) -> Code {
        let limits = &self.context.shape.limits;
        if limits.sources.is_none() && limits.listeners.is_empty() {
            return code![];
        }
        let kept = slot::<u64>("listener_kept");
        code![
            store(kept.u64(0), CHOICE),
            limits.sources.is_some().then(|| self.source_limit()),
            (!limits.listeners.is_empty()).then(|| self.listener_limit(kept)),
            load(CHOICE, kept.u64(0)),
        ]
    }

    /// Clobbers R0 to R5 and CHOICE.
    fn source_limit(&self) -> Code {
        let shape = self.context.shape;
        let Some(limit) = shape.limits.sources else {
            return code![];
        };
        let table = shape.buckets(self.path.family);
        let (key, fresh) = (slot::<[u32; 4]>("prefix"), slot::<Bucket>("bucket"));
        let full = u64::from(limit.rate.burst) * u64::from(TOKEN.unsigned_abs());
        let (there, unknown) = (label("there"), label("unknown"));
        code![
            self.prefix(limit, key),
            map_lookup_elem(&table, key),
            jne(R0, 0, there),
            lddw(R1, full),
            store(fresh.u64(TOKENS), R1),
            store(fresh.u64(LAST), 0),
            map_update_elem(&table, key, fresh, BPF_NOEXIST),
            map_lookup_elem(&table, key),
            jeq(R0, 0, unknown),
            bind(there),
            mov(CHOICE, R0),
            token_bucket(
                CHOICE,
                limit.rate,
                Clock::Coarse,
                self.declined(Reason::SourceLimit)
            ),
            bind(unknown),
        ]
    }

    /// `prefix` becomes what the client has in common with others that are one source with it. Clobbers R1.
    fn prefix(&self, limit: SourceLimit, prefix: Slot) -> Code {
        let bits = match self.path.family {
            Family::V4 => limit.bits4,
            Family::V6 => limit.bits6,
        };
        let words = (0..self.address() / 4).zip(masks(bits));
        code![words.map(|(n, mask)| [
            load(R1, self.key.u32(4 * n)),
            and(W1, be32(mask)),
            store(prefix.u32(4 * n), R1),
        ])]
    }

    /// Gives the packet of the listener with that number back what it took: the program behind this one has it
    /// next, and takes it again. Clobbers R0 to R5.
    pub(super) fn give_back(&self, listener: Slot) -> Code {
        let shape = self.context.shape;
        let (key, took_none) = (slot::<[u32; 4]>("prefix"), label("took_none"));
        let one_more = |tokens: i32| {
            R0.ne(0).then([
                load(R1, R0.u64(tokens)),
                add(R1, TOKEN),
                store(R0.u64(tokens), R1),
            ])
        };
        code![
            self.brought_cookie(took_none),
            shape.limits.sources.map(|limit| code![
                self.prefix(limit, key),
                map_lookup_elem(&shape.buckets(self.path.family), key),
                one_more(TOKENS),
            ]),
            (!shape.limits.listeners.is_empty()).then(|| code![
                map_lookup_elem(&shape.limit_table(), listener),
                one_more(i32::from(Limit::tokens.offset)),
            ]),
            bind(took_none),
        ]
    }

    /// Clobbers R0 to R5 and CHOICE.
    fn listener_limit(&self, kept: Slot) -> Code {
        let index = slot::<u32>("limit");
        let (none, enough) = (label("no_limit"), label("enough"));
        let bucket = |field: Field| CHOICE.get(field);
        code![
            load(R1, kept.u64(0)),
            load(R1, R1.get(Listener::number)),
            store(index.u32(0), R1),
            map_lookup_elem(&self.context.shape.limit_table(), index),
            jeq(R0, 0, none),
            mov(CHOICE, R0),
            ktime_get_coarse_ns(),
            load(R1, bucket(Limit::last)),
            load(R2, bucket(Limit::tokens)),
            mov(R3, R0),
            sub(R3, R1),
            // Another CPU may have read the clock later: no time has passed then.
            R3.sgt(0).then(code![
                store(bucket(Limit::last), R0),
                load(R4, bucket(Limit::longest)),
                R3.gt(R4).then(mov(R3, R4)),
                load(R4, bucket(Limit::per_second)),
                mul(R3, R4),
                add(R2, R3),
                load(R4, bucket(Limit::full)),
                R2.gt(R4).then(mov(R2, R4)),
            ]),
            jge(R2, TOKEN, enough),
            store(bucket(Limit::tokens), R2),
            self.above_limit(kept),
            bind(enough),
            sub(R2, TOKEN),
            store(bucket(Limit::tokens), R2),
            bind(none),
        ]
    }
}

/// The first bits of an address, word by word.
fn masks(bits: u8) -> impl Iterator<Item = u32> {
    (0..4).map(move |word| {
        let left = u32::from(bits).saturating_sub(32 * word).min(32);
        u32::MAX.checked_shl(32 - left).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::masks;

    #[test]
    fn masks_keep_the_first_bits() {
        let of = |bits| masks(bits).collect::<Vec<_>>();
        assert_eq!(of(0), [0; 4]);
        assert_eq!(of(24), [0xffff_ff00, 0, 0, 0]);
        assert_eq!(of(33), [u32::MAX, 1 << 31, 0, 0]);
        assert_eq!(of(64), [u32::MAX, u32::MAX, 0, 0]);
        assert_eq!(of(255), [u32::MAX; 4]);
    }
}
