//! Joins TCP connections in the kernel: for proxies that accept, connect, and leave the bytes to a
//! program.
//!
//! - [`Splicer`] holds the program and its maps; [`Splicer::join`] joins two connections.
//! - [`Joined`] is such a pair. The kernel moves the bytes; what is left to user space is to end one
//!   stream when all of the other has passed, and to say so when a connection breaks. It is driven by
//!   whoever waits for its sockets.
//! - [`Proxy`] does that for thousands of connections on one thread.

mod error;
mod flow;
mod joined;
mod program;
mod proxy;
mod splicer;

pub use error::{Error, Refusal, Result, Side, Why};
pub use joined::{Joined, Next, NotJoined, Outcome, Way};
pub use program::{Flow, Tables, verdict};
pub use proxy::{Counters, Proxy, Stopper, Tally};
pub use splicer::{Expected, Settings, Splicer};
