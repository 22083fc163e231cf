//! From a flow's first packet to its end: who counts it, who forgets it, who is told.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

#[path = "life/age.rs"]
#[expect(dead_code, reason = "another test uses the rest of it")]
mod age;
#[path = "life/counting.rs"]
mod counting;
#[path = "life/events.rs"]
mod events;
#[path = "life/limits.rs"]
mod limits;
#[path = "life/rig.rs"]
mod rig;
#[path = "life/routes.rs"]
mod routes;
#[path = "life/sweep.rs"]
mod sweep;
