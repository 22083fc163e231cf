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
//!   never pauses that may be the rest of the stream. That works however slow user space is, and also
//!   where both ends send and neither reads.
//! - **Buffers** of joined sockets have a size of their own, with room for `ahead` bytes and 1 MiB: it is what
//!   senders may be ahead, and the kernel no longer adapts it. The kernel takes up to twice that for each of
//!   the four: 40 MiB for a pair neither end of which reads, with `ahead` as it is unless told otherwise;
//!   times the number of slow receivers that you expect.
//! - **All of the kernel's memory for TCP** is `net.ipv4.tcp_mem`, in pages: a tenth or so of the machine's, so two
//!   such pairs use up that of a machine with 1 GiB. From the second of its numbers on, the kernel drops what comes
//!   and refuses what is written, for all connections of the machine, and may warn of `tcp_sendmsg` in its log, once.
//!   Pairs wait and go on, late; but where a worker of the kernel is refused itself, it may break its pair, with
//!   `EFAULT`. Make `ahead` smaller, or the numbers larger. On Linux 6.0 to 6.4 that is a must where both ends send:
//!   such a worker there takes a negative number for a length. What follows breaks the pair with a
//!   number that is no errno, and may damage more.
//! - **A last limit** is there for pairs that get past their buffers: where a socket's own buffer to send is full
//!   of scraps, what is left behind them counts for nobody; nor does what comes while the kernel's worker waits
//!   for a processor, so that the limit cannot be low. At 64 MiB more than the buffer to receive holds, or at as
//!   many packets as make a full window of 64 bytes each, twice, the pair is broken, with `ENOBUFS`. The kernel
//!   spends up to a KiB on a packet: with `ahead` as it is, whoever tries can have a pair take some 170 MiB, and with
//!   packets of a few bytes twice that.
//! - **What was read before.** A proxy may read the beginning of a stream and write something of its own
//!   before it joins. If the rest of a segment is unread, user space copies until the queue is empty, because
//!   the kernel would give the whole segment to the program again.
//! - **Bytes that come twice.** A sender may repeat old bytes together with new ones in one segment, as it does when
//!   something was lost. The kernel hands such a segment whole to a verdict program, old bytes and all; this one takes them
//!   away, by the sequence numbers, before it sends on or leaves what is new. That takes memory for the old
//!   bytes, at most a packet: if the kernel has none, the pair is broken, with `ENOBUFS`, rather than wrong.
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
pub use program::{Flow, Tables, Taken, verdict};
pub use proxy::{Counters, Proxy, Stopper, Tally};
pub use splicer::{Expected, Settings, Splicer};
