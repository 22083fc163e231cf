//! The kit: what each fragment looks like, and what it does to packets.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

#[path = "kit/checksums.rs"]
mod checksums;
#[path = "kit/flows.rs"]
mod flows;
#[path = "support/kernel.rs"]
mod kernel;
#[path = "kit/packets.rs"]
mod packets;
#[path = "kit/programs.rs"]
mod programs;
#[path = "kit/state.rs"]
mod state;
#[path = "support/vm.rs"]
mod vm;

use programs::CASES;
use std::collections::HashSet;

#[test]
fn listings() {
    let mut names = HashSet::new();
    for case in CASES.into_iter().flatten() {
        assert!(names.insert(case.name), "{} comes twice", case.name);
        let program = case.program(1);
        assert_eq!(program.warnings(), [], "{}", case.name);
        insta::assert_snapshot!(case.name, program.listing());
    }
}

/// Labels and slots are fresh in each call.
#[test]
fn every_fragment_may_be_used_again() {
    for case in CASES.into_iter().flatten() {
        for times in [2, 3] {
            assert_eq!(case.program(times).warnings(), [], "{}", case.name);
        }
    }
}
