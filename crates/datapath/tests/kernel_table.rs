//! The table of flows, when several threads use the same keys at the same time.
//!
//! Test runs of a program may be preempted wherever they are, so that far more happens between two of its
//! instructions here than between those of a program that a device runs.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

#[path = "table/gust.rs"]
mod gust;
#[path = "table/load.rs"]
mod load;
#[path = "table/marks.rs"]
mod marks;
#[path = "table/places.rs"]
mod places;
#[path = "table/races.rs"]
mod races;
#[path = "table/state.rs"]
mod state;

#[expect(dead_code, reason = "another test uses the rest of it")]
#[path = "life/rig.rs"]
mod rig;
