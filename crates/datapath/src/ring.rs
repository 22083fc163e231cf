//! Which backend a number means: tables that are computed beforehand, so that a program only reads one
//! entry of an array.
//!
//! [`maglev`] is for hashes: the same hash goes to the same backend, and mostly still does when other
//! backends come and go. [`turns`] is for counters: one backend after the other, by weight. Both know
//! backends by their [keys](Share::key), so the order in which they are listed changes nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use thiserror::Error;

/// A backend's part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// What the backend is known by, as long as it lives; no two have the same. All of it is hashed, so
    /// any numbers will do.
    pub key: u64,
    /// How much it gets, compared with the others. Nothing, if it is 0.
    pub weight: u32,
}

/// Why a table was not filled. It is as it was before.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
pub enum Unfilled {
    /// There is nobody to fill it with.
    #[error("fill a table of backends: none has a weight: add a backend or give one a weight")]
    Nobody,
    /// Steps through a table reach every slot only if their number is prime.
    #[error(
        "fill a table of backends: {slots} slots, which is no prime: take one that size_for says"
    )]
    NotPrime {
        /// How many slots the table has.
        slots: usize,
    },
}

bpfsmith_uapi::debug_as_display!(Unfilled);

/// Sizes of tables: primes just beside powers of two.
const SIZES: [u32; 8] = [
    1_021, 4_093, 16_381, 65_537, 131_071, 262_139, 524_287, 1_048_573,
];

/// How many slots a backend should have at least.
const SLOTS_EACH: usize = 100;

/// How many slots a table for so many backends should have: 100 for each of them, which keeps shares
/// within about a hundredth of what they should be. A million is the most, also for more than 10,485
/// backends.
///
/// Ask with the number of backends that there may be, not the number that there are: tables of different
/// sizes have nothing in common, so a size that follows the number moves everything at once.
///
/// ```
/// use bpfsmith_datapath::ring::size_for;
/// assert_eq!(size_for(10), 1_021);
/// assert_eq!(size_for(600), 65_537);
/// assert_eq!(size_for(4_096), 524_287);
/// ```
#[must_use]
pub fn size_for(members: usize) -> u32 {
    let enough = |size: &u32| *size as usize / SLOTS_EACH >= members;
    let [.., largest] = SIZES;
    SIZES.into_iter().find(enough).unwrap_or(largest)
}

/// Fills a table with the indices of backends, so that each has its share of the slots and keeps most of
/// them when others come or go.
///
/// Every backend has its own order of all slots, made from its key. They take turns, in proportion to
/// their weights, and who has a turn takes the first slot of its order that is still free. A backend
/// whose share is less than one slot may get none. Some memory is taken meanwhile: as much as the table
/// has, and a little for each backend.
///
/// # Errors
///
/// [`Unfilled`] when no backend has a weight, or the number of slots is no prime.
///
/// ```
/// use bpfsmith_datapath::ring::{Share, maglev, size_for};
/// let shares = [Share { key: 10, weight: 1 }, Share { key: 11, weight: 3 }];
/// let mut slots = vec![0; size_for(2) as usize];
/// maglev(&shares, &mut slots)?;
/// let first = slots.iter().filter(|index| **index == 0).count();
/// assert!(first.abs_diff(1021 / 4) <= 1);
/// # Ok::<(), bpfsmith_datapath::ring::Unfilled>(())
/// ```
pub fn maglev(shares: &[Share], slots: &mut [u32]) -> Result<(), Unfilled> {
    /// No backend has this index: it would be one of four billion.
    const FREE: u32 = u32::MAX;
    let count = slots.len();
    if !is_prime(count) {
        return Err(Unfilled::NotPrime { slots: count });
    }
    let weighty = (0..FREE).zip(shares).filter(|(_, it)| it.weight > 0);
    let mut turns: BinaryHeap<_> = weighty
        .map(|(index, share)| Reverse(Turn::first(index, share, count)))
        .collect();
    if turns.is_empty() {
        return Err(Unfilled::Nobody);
    }
    let order = shuffled(count);
    slots.fill(FREE);
    for _ in 0..count {
        let Some(mut top) = turns.peek_mut() else {
            break;
        };
        let turn = &mut top.0;
        let slot = turn.next_slot(&order, |slot| slots[slot] == FREE);
        slots[slot] = turn.index;
        turn.time += turn.pause;
    }
    Ok(())
}

/// When a backend takes its next slot, and where it begins to look for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// The heap orders by this, then by the key, which is as good as any other order.
    time: u128,
    key: u64,
    index: u32,
    /// How many slots it has looked at.
    seen: usize,
    offset: usize,
    step: usize,
    pause: u128,
}

impl Turn {
    fn first(index: u32, share: &Share, count: usize) -> Turn {
        // With 2^64 for one, the pause of the largest weight has still 32 bits.
        let pause = (1 << 64) / u128::from(share.weight);
        // All are late by their own part of a pause, so that backends with little weight do not come all
        // at once. It depends on nobody else: that is what keeps slots where they are.
        let late = (pause * u128::from(high(hash(share.key, 3)))) >> 32;
        let offset = high(hash(share.key, 1)) as usize % count;
        let step = 1 + high(hash(share.key, 2)) as usize % (count - 1);
        Turn {
            time: late,
            key: share.key,
            index,
            seen: 0,
            offset,
            step,
            pause,
        }
    }

    /// The next slot of its order that is free; there is one.
    ///
    /// Steps of equal length would do for an order, but of two backends with the same step, or one twice
    /// the other, one follows the other around, and takes many new slots when it leaves. It is rare, and ruins the
    /// whole table. So the steps are multiplied with numbers that are
    /// the same for all, but in no order.
    fn next_slot(&mut self, order: &[u32], is_free: impl Fn(usize) -> bool) -> usize {
        loop {
            let slot = (self.offset + self.step * order[self.seen] as usize) % order.len();
            self.seen += 1;
            if is_free(slot) {
                return slot;
            }
        }
    }
}

/// The numbers below `count` in no order, but always the same.
fn shuffled(count: usize) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..u32::MAX).take(count).collect();
    for (seed, last) in (0..).zip((1..count).rev()) {
        let other = high(hash(seed, 4)) as usize % (last + 1);
        numbers.swap(last, other);
    }
    numbers
}

/// How many turns [`turns`] plans at most.
pub const MOST_TURNS: u32 = 65_536;

/// Whose turn it is, for a counter that goes round and round: indices of backends, each as often as its
/// weight says, spread as evenly as can be. At no time is a backend a whole turn ahead or behind.
///
/// There are as many turns as the weights' sum, divided by what they have in common. If that is more than
/// [`MOST_TURNS`], the weights are made smaller: each backend keeps one turn at least, and the shares are
/// right to the nearest turn. With nobody to have a turn, there are none.
///
/// ```
/// use bpfsmith_datapath::ring::{Share, turns};
/// let shares = [Share { key: 10, weight: 40 }, Share { key: 11, weight: 20 }];
/// assert_eq!(turns(&shares), [0, 0, 1]);
/// ```
#[must_use]
pub fn turns(shares: &[Share]) -> Vec<u32> {
    turns_within(shares, MOST_TURNS)
}

/// As [`turns`], with another limit; it is taken for the number of backends if it is less.
#[must_use]
pub fn turns_within(shares: &[Share], most: u32) -> Vec<u32> {
    let mut members: Vec<Member> = (0..u32::MAX)
        .zip(shares)
        .filter(|(_, share)| share.weight > 0)
        .map(|(index, share)| Member {
            key: share.key,
            index,
            weight: share.weight.into(),
        })
        .collect();
    members.sort_unstable_by_key(|member| member.key);
    let common = members.iter().fold(0, |sum, it| divisor(sum, it.weight));
    for member in &mut members {
        member.weight /= common;
    }
    let each_one = members
        .iter()
        .fold(0, |count: u32, _| count.saturating_add(1));
    let most = u64::from(most.max(each_one));
    shrink(&mut members, most);
    plan(&members)
}

/// A backend that has turns.
#[derive(Clone, Copy, Debug)]
struct Member {
    key: u64,
    index: u32,
    weight: u64,
}

/// Makes the sum of the weights `most`, if it is more.
fn shrink(members: &mut [Member], most: u64) {
    let mut sum: u128 = members.iter().map(|it| u128::from(it.weight)).sum();
    let mut left = u128::from(most);
    if sum <= left {
        return;
    }
    // The lightest first: one that would get less than a turn gets one, at the cost of all heavier ones.
    let mut order: Vec<&mut Member> = members.iter_mut().collect();
    order.sort_by_key(|it| it.weight);
    for member in order {
        let weight = u128::from(member.weight);
        let turns = ((weight * left + sum / 2) / sum).max(1);
        sum -= weight;
        left -= turns;
        member.weight = u64::try_from(turns).unwrap_or(most);
    }
}

/// Puts turns in order. Each has a first moment, before which its backend would be ahead, and a last one,
/// after which it would be behind; among those whose moment has come, the one with the least time left is
/// next. None is ever late.
fn plan(members: &[Member]) -> Vec<u32> {
    let sum: u64 = members.iter().map(|it| it.weight).sum();
    let mut waiting: BinaryHeap<Reverse<(u64, usize, u64)>> = (0..members.len())
        .map(|place| Reverse((0, place, 0)))
        .collect();
    let mut ready = BinaryHeap::new();
    let mut turns = Vec::with_capacity(usize::try_from(sum).unwrap_or_default());
    for now in 0..sum {
        while let Some(&Reverse((from, place, turn))) = waiting.peek()
            && from <= now
        {
            waiting.pop();
            let until = ((turn + 1) * sum).div_ceil(members[place].weight);
            ready.push(Reverse((until, place, turn)));
        }
        if let Some(Reverse((_, place, turn))) = ready.pop() {
            turns.push(members[place].index);
            let from = (turn + 1) * sum / members[place].weight;
            waiting.push(Reverse((from, place, turn + 1)));
        }
    }
    turns
}

/// The greatest common divisor.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

fn is_prime(number: usize) -> bool {
    let mut small = (2..).take_while(|it| it * it <= number);
    number > 1 && small.all(|it| !number.is_multiple_of(it))
}

/// Mixes all bits of a number; another `seed` mixes them in another way.
fn hash(number: u64, seed: u64) -> u64 {
    let mut mixed = number.wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

const fn high(number: u64) -> u32 {
    let [.., a, b, c, d] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(key: u64, weight: u32) -> Share {
        Share { key, weight }
    }

    fn table(shares: &[Share], size: usize) -> Vec<u32> {
        let mut slots = vec![7; size];
        maglev(shares, &mut slots).unwrap();
        slots
    }

    fn counts(slots: &[u32], members: usize) -> Vec<usize> {
        let mut counts = vec![0; members];
        for index in slots {
            counts[*index as usize] += 1;
        }
        counts
    }

    #[test]
    fn sizes_are_primes_and_rise() {
        assert!(SIZES.is_sorted());
        for size in SIZES {
            assert!(is_prime(size as usize), "{size}");
        }
        let rows = [
            (0, 1_021),
            (10, 1_021),
            (11, 4_093),
            (655, 65_537),
            (656, 131_071),
            (4_096, 524_287),
            (10_485, 1_048_573),
            (usize::MAX, 1_048_573),
        ];
        for (members, size) in rows {
            assert_eq!(size_for(members), size, "{members}");
        }
    }

    #[test]
    fn primes() {
        let found: Vec<usize> = (0..50).filter(|it| is_prime(*it)).collect();
        let known = [
            2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47,
        ];
        assert_eq!(found, known);
        assert!(!is_prime(65_536) && !is_prime(257 * 257));
    }

    #[test]
    fn a_table_that_cannot_be_filled_stays() {
        let one = [share(1, 1)];
        let mut slots = [5; 4];
        let not_prime = Err(Unfilled::NotPrime { slots: 4 });
        assert_eq!(maglev(&one, &mut slots), not_prime);
        assert_eq!(maglev(&one, &mut []), Err(Unfilled::NotPrime { slots: 0 }));
        let mut slots = [5; 3];
        assert_eq!(maglev(&[], &mut slots), Err(Unfilled::Nobody));
        assert_eq!(maglev(&[share(1, 0)], &mut slots), Err(Unfilled::Nobody));
        assert_eq!(slots, [5; 3]);
    }

    #[test]
    fn equal_weights_get_equal_shares() {
        let shares: Vec<Share> = (0..7).map(|key| share(key, 9)).collect();
        for size in [7, 1_021, 65_537] {
            for count in counts(&table(&shares, size), 7) {
                assert!(count.abs_diff(size / 7) <= 1, "{count} of {size}");
            }
        }
    }

    #[test]
    fn more_backends_than_slots_get_one_or_none() {
        let shares: Vec<Share> = (0..50).map(|key| share(key, 1)).collect();
        for size in [2, 3, 31] {
            let counts = counts(&table(&shares, size), 50);
            assert!(counts.iter().all(|it| *it <= 1));
        }
    }

    /// What a table was stays what it is: machines that share the work must agree, also when they do not
    /// run the same version.
    #[test]
    fn tables_do_not_change_with_versions() {
        let shares = [
            share(10, 1),
            share(11, 2),
            share(12, 0),
            share(13, 4),
        ];
        let slots = table(&shares, 23);
        assert_eq!(
            slots,
            [
                0, 3, 0, 3, 1, 1, 0, 1, 3, 3, 3, 3, 3, 0, 1, 3, 3, 3, 3, 3, 3, 1, 1
            ]
        );
        let fold = |sum: u64, index: &u32| hash(sum ^ u64::from(*index), 5);
        let shares: Vec<Share> = (0..500)
            .map(|key| share(hash(key, 9), 1 + high(hash(key, 8)) % 50))
            .collect();
        assert_eq!(
            table(&shares, 65_537).iter().fold(0, fold),
            12_810_820_901_470_607_136
        );
        assert_eq!(
            turns(&shares).iter().fold(0, fold),
            8_201_928_230_864_083_437
        );
    }

    #[test]
    fn turns_are_spread() {
        let rows: [(&[u32], &[u32]); 8] = [
            (&[], &[]),
            (&[0, 0], &[]),
            (&[0, 5], &[1]),
            (&[1, 1, 1], &[0, 1, 2]),
            (&[2, 1], &[0, 0, 1]),
            (&[3, 1], &[0, 0, 0, 1]),
            (&[100, 200, 100], &[1, 0, 1, 2]),
            (&[5, 1, 1], &[0, 0, 0, 1, 0, 0, 2]),
        ];
        for (weights, expected) in rows {
            let shares: Vec<Share> = (0..).zip(weights).map(|(k, w)| share(k, *w)).collect();
            assert_eq!(turns(&shares), expected, "{weights:?}");
        }
    }

    #[test]
    fn too_many_turns_are_made_fewer() {
        let shares = [
            share(1, 1),
            share(2, 999_999),
            share(3, 2_000_000),
        ];
        let turns = turns(&shares);
        assert_eq!(turns.len(), MOST_TURNS as usize);
        assert_eq!(counts(&turns, 3), [1, 21_845, 43_690]);
        assert_eq!(turns_within(&shares, 0).len(), 3, "one each");
        assert_eq!(counts(&turns_within(&shares, 10), 3), [1, 3, 6]);
        let largest = [
            share(1, u32::MAX),
            share(2, u32::MAX - 1),
        ];
        assert_eq!(counts(&turns_within(&largest, 1_000), 2), [500, 500]);
    }
}
