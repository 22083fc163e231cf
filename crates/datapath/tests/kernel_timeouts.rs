//! Flows are forgotten when it is time, and not before: a day of them, and months of one that only one side uses.
//!
//! Nobody waits that long: flows age instead. All that the kernel knows of a flow's time are two stamps in its
//! entry, and a small program moves them back, as far as time is to go on. Packets, programs and the sweep are
//! the real ones.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

#[path = "life/age.rs"]
mod age;
#[path = "timeouts/day.rs"]
mod day;
#[path = "timeouts/dice.rs"]
mod dice;
#[path = "timeouts/model.rs"]
mod model;
#[path = "timeouts/months.rs"]
mod months;
#[path = "timeouts/script.rs"]
mod script;
#[path = "timeouts/turns.rs"]
mod turns;

#[expect(dead_code, reason = "another test uses the rest of it")]
#[path = "life/rig.rs"]
mod rig;
