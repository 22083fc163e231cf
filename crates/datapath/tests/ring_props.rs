//! What tables of backends promise, for any backends.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_datapath::ring::{MOST_TURNS, Share, maglev, size_for, turns, turns_within};
use proptest::collection::btree_map;
use proptest::prelude::*;

fn table(shares: &[Share], size: u32) -> Vec<u32> {
    let mut slots = vec![0; size as usize];
    maglev(shares, &mut slots).unwrap();
    slots
}

/// Keys in place of indices, so that lists of backends can be compared.
fn keys(shares: &[Share], indices: &[u32]) -> Vec<u64> {
    indices.iter().map(|it| shares[*it as usize].key).collect()
}

fn count(indices: &[u32], index: usize) -> u64 {
    let same = |it: &&u32| **it as usize == index;
    u64::try_from(indices.iter().filter(same).count()).unwrap()
}

fn total(shares: &[Share]) -> u64 {
    shares.iter().map(|it| u64::from(it.weight)).sum()
}

fn equal(members: u64) -> Vec<Share> {
    (0..members).map(|key| Share { key, weight: 1 }).collect()
}

/// Backends with different keys, and at least one with a weight.
fn any_shares(most: usize, heaviest: u32) -> impl Strategy<Value = Vec<Share>> {
    let pairs = btree_map(any::<u64>(), 0..=heaviest, 1..=most);
    let shares = pairs.prop_map(|pairs| {
        let share = |(key, weight)| Share { key, weight };
        pairs.into_iter().map(share).collect::<Vec<_>>()
    });
    shares
        .prop_shuffle()
        .prop_filter("somebody has a weight", |shares| total(shares) > 0)
}

/// How many slots went from one backend to another though neither came or went.
fn moved(before: &[u64], after: &[u64], other: u64) -> usize {
    let is_moved = |(a, b): &(&u64, &u64)| a != b && **a != other && **b != other;
    before.iter().zip(after).filter(is_moved).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn slots_are_by_weight(shares in any_shares(40, 100)) {
        let size = size_for(shares.len());
        let slots = table(&shares, size);
        let sum = total(&shares);
        for (index, share) in shares.iter().enumerate() {
            let fair = u64::from(size) * u64::from(share.weight) / sum;
            let has = count(&slots, index);
            // A hundredth of all and no more, and nothing at all for no weight.
            prop_assert!(has.abs_diff(fair) <= 2 + u64::from(size) / 100, "{has}, not {fair} of {size}");
            prop_assert!(share.weight > 0 || has == 0);
        }
    }

    #[test]
    fn the_order_of_backends_is_nothing_to_slots(shares in any_shares(30, 9)) {
        let mut sorted = shares.clone();
        sorted.sort_by_key(|it| it.key);
        let size = size_for(shares.len());
        prop_assert_eq!(keys(&shares, &table(&shares, size)), keys(&sorted, &table(&sorted, size)));
    }

    #[test]
    fn backends_without_weight_are_as_if_not_there(shares in any_shares(30, 2)) {
        let weighty: Vec<Share> = shares.iter().copied().filter(|it| it.weight > 0).collect();
        let (all, some) = (table(&shares, 1_021), table(&weighty, 1_021));
        prop_assert_eq!(keys(&shares, &all), keys(&weighty, &some));
        prop_assert_eq!(keys(&shares, &turns(&shares)), keys(&weighty, &turns(&weighty)));
    }

    #[test]
    fn slots_of_others_stay_when_one_leaves(shares in any_shares(60, 20), which: prop::sample::Index) {
        let mut rest = shares.clone();
        let gone = rest.remove(which.index(shares.len()));
        prop_assume!(total(&rest) > 0);
        let size = 16_381;
        let before = keys(&shares, &table(&shares, size));
        let after = keys(&rest, &table(&rest, size));
        let kept = before.iter().filter(|key| **key != gone.key).count();
        let moved = moved(&before, &after, gone.key);
        // What is set free is filled by the rest, and some of it takes a slot from a third.
        let freed = before.len() - kept;
        prop_assert!(moved <= 20 + freed / 5 + kept / 50, "{moved} of {kept}, {freed} freed");
    }

    #[test]
    fn everybody_has_exactly_the_turns_of_its_weight(shares in any_shares(40, 100)) {
        let turns = turns(&shares);
        let sum = total(&shares);
        let len = u64::try_from(turns.len()).unwrap();
        for (index, share) in shares.iter().enumerate() {
            prop_assert_eq!(count(&turns, index) * sum, len * u64::from(share.weight));
        }
    }

    #[test]
    fn nobody_is_a_turn_ahead_or_behind(shares in any_shares(20, 30)) {
        let turns = turns(&shares);
        let sum = total(&shares);
        let mut had = vec![0; shares.len()];
        for (now, index) in (1..).zip(&turns) {
            had[*index as usize] += 1;
            for (share, had) in shares.iter().zip(&had) {
                let due = now * u64::from(share.weight);
                prop_assert!(due.abs_diff(had * sum) < sum, "{share:?} has {had} of {now}");
            }
        }
    }

    #[test]
    fn the_order_of_backends_is_nothing_to_turns(shares in any_shares(30, 9)) {
        let mut sorted = shares.clone();
        sorted.sort_by_key(|it| it.key);
        prop_assert_eq!(keys(&shares, &turns(&shares)), keys(&sorted, &turns(&sorted)));
    }

    #[test]
    fn fewer_turns_are_still_by_weight(shares in any_shares(20, u32::MAX), most in 0_u32..5_000) {
        let turns = turns_within(&shares, most);
        let members = shares.iter().filter(|it| it.weight > 0).count();
        prop_assert!(turns.len() <= members.max(most as usize));
        let (len, sum) = (u64::try_from(turns.len()).unwrap(), u128::from(total(&shares)));
        for (index, share) in shares.iter().enumerate() {
            let fair = u64::try_from(u128::from(share.weight) * u128::from(len) / sum).unwrap();
            let has = count(&turns, index);
            prop_assert_eq!(has > 0, share.weight > 0);
            // The nearest turn, and the turns of those who would have had none.
            let slack = 2 + u64::try_from(members).unwrap();
            prop_assert!(has.abs_diff(fair) <= slack, "{has}, not {fair}");
        }
    }
}

#[test]
fn few_slots_move_when_one_of_many_equals_leaves() {
    for members in [2, 3, 10, 100, 600] {
        let shares = equal(members);
        let size = size_for(shares.len()).max(65_537);
        let before = keys(&shares, &table(&shares, size));
        for gone in [0, members / 2, members - 1] {
            let rest: Vec<Share> = shares.iter().copied().filter(|it| it.key != gone).collect();
            let after = keys(&rest, &table(&rest, size));
            let moved = moved(&before, &after, gone);
            println!("{members} members: {moved} of {size}");
            assert!(
                moved * 100 < before.len() * 3,
                "{members}: {moved} of {size}"
            );
            // Seen the other way: one joins, and takes its share, from the others.
            let taken = before.iter().filter(|key| **key == gone).count();
            let fair = before.len() / shares.len();
            assert!(taken.abs_diff(fair) <= 1, "{taken}, not {fair}");
        }
    }
}

#[test]
fn few_slots_move_when_a_weight_changes() {
    let mut shares = equal(50);
    for share in &mut shares {
        share.weight = 100;
    }
    let before = keys(&shares, &table(&shares, 16_381));
    shares[7].weight = 50;
    let after = keys(&shares, &table(&shares, 16_381));
    let moved = moved(&before, &after, shares[7].key);
    println!("{moved} of 16381");
    assert!(moved * 100 < before.len() * 3, "{moved}");
}

/// The largest configuration. It takes moments, or this test is seen to hang.
#[test]
fn the_largest_table() {
    let shares: Vec<Share> = (0..4_096)
        .map(|key| Share {
            key,
            weight: if key == 9 { 1 << 16 } else { 16 },
        })
        .collect();
    let size = size_for(shares.len());
    let start = std::time::Instant::now();
    let slots = table(&shares, size);
    println!("{size} slots in {:?}", start.elapsed());
    let (has, sum) = (count(&slots, 9), total(&shares));
    let fair = (u64::from(size) << 16) / sum;
    assert!(has.abs_diff(fair) <= fair / 100, "{has}, not {fair}");
    let start = std::time::Instant::now();
    let turns = turns(&shares);
    println!("{} turns in {:?}", turns.len(), start.elapsed());
    assert_eq!(turns.len(), 8_191);
    let uneven: Vec<Share> = (0..4_096)
        .map(|key| Share {
            key,
            weight: 1 + u32::try_from(key).unwrap(),
        })
        .collect();
    let start = std::time::Instant::now();
    assert_eq!(turns_within(&uneven, MOST_TURNS).len(), MOST_TURNS as usize);
    println!("{MOST_TURNS} turns in {:?}", start.elapsed());
}
