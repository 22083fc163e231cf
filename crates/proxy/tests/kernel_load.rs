//! The daemon under load: nobody's connection is lost, whatever happens to the configuration and the process.
//!
//! `BPFSMITH_LONG=1` does all of it, which takes minutes; without it, a part.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod load;
mod rig;
