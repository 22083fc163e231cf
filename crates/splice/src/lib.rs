//! Joins TCP connections in the kernel: for proxies that accept, connect, and leave the bytes to a
//! program.
//!
//! - [`Splicer`] holds the program and its maps; [`Splicer::join`] joins two connections.
//! - [`Joined`] is such a pair. The kernel moves the bytes; what is left to user space is to end one
//!   stream when all of the other has passed, and to say so when a connection breaks. It is driven by
//!   whoever waits for its sockets.
//! - [`Proxy`] does that for thousands of connections on one thread.
//!
//! ```no_run
//! use bpfsmith_splice::{Proxy, Settings, Splicer};
//! use std::net::TcpListener;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("0.0.0.0:8080")?;
//! let splicer = Splicer::new(Settings::default())?;
//! let mut proxy = Proxy::splicing(listener, "10.0.0.7:80".parse()?, splicer)?;
//! proxy.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What to know
//!
//! - **Established connections only.** If one side has ended its stream before both connections stand,
//!   the kernel refuses the pair, and it has to be copied: [`Joined::copying`]. [`Splicer::expect`]
//!   enters one of them early, so that at least its answer is spliced.
//! - **Slow receivers.** The kernel acknowledges what it redirects and accounts it to nobody: a sender
//!   that is faster than the receiver fills its memory. [`Settings::ahead`] sets a limit for each flow.
//!   Beyond it the sender has to wait, and user space copies, until it has caught up; with a sender that
//!   never pauses that may be the rest of the stream. Up to `ahead` bytes and two socket buffers are in
//!   the kernel for each such flow: times the number of slow receivers that you expect.
//!   Where both ends send and neither reads, what is left to user space waits behind what waits to be sent
//!   through the same socket, and counts for nobody: at 512 MiB the pair is broken, with `ENOBUFS`.
//! - **What was read before.** A proxy may read the beginning of a stream and write something of its own
//!   before it joins. If the rest of a segment is unread, user space copies until the queue is empty, because
//!   the kernel would give the whole segment to the program again.
//! - **Urgent bytes** arrive where they stand in the stream, and are not urgent any more.
//! - **A process that is killed** ends its connections as the kernel does when sockets are closed: their
//!   peers may see an end where bytes were still waiting. A pair that is dropped is reset.
//! - **No time limits:** connections on which nothing happens stay. Set keep-alive on a
//!   listener before, which those that are accepted inherit, or drop them.

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
