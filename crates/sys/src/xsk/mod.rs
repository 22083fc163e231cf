//! XDP sockets: whole Ethernet frames between a queue of a device and this process.
//!
//! A [`Umem`] is memory cut into frames. A [`Socket`] is opened on it by a [`Plan`] and has four rings,
//! which this process shares with the kernel:
//!
//! ```text
//!            fill ──▶ kernel receives ──▶ receive ──▶ Frame ──┐
//!   pool ──▶ frame ──▶ Frame ──▶ send ──▶ kernel sends ──▶ reap ──▶ pool
//! ```
//!
//! A [`Frame`] is a frame that the kernel does not have, so its bytes can be read and changed; it is
//! moved into [`Socket::send`] or [`Socket::give`], and goes into the pool when it is dropped. Who has each
//! frame is recorded: what stands in the shared rings can neither lead outside of the memory nor
//! make two values of one frame. [`Umem::census`] counts them all.
//!
//! The socket receives what an XDP program redirects to it through an `XSKMAP`, on the queue that both
//! are on. The keys and values of such a map are `u32`, and `bpfsmith_maps::ObjectMap` puts sockets into
//! it; `kit::redirect::to_map` is the program's part. Packets of several frames are not supported: a longer
//! one is dropped, and counted in [`Statistics::dropped`].
//!
//! What goes to the socket, the network stack never sees. A program that redirects everything takes the
//! questions of ARP and of IPv6 neighbours too: nobody answers them, and soon nothing else comes. So
//! redirect what you want, and pass the rest.
//!
//! ```no_run
//! use bpfsmith_sys::xsk::{Layout, Plan, Umem, Wait};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let umem = Umem::new(Layout::new(1024))?;
//! let mut socket = Plan::new(2, 0).open(&umem)?;
//! // Here the socket goes into an XSKMAP.
//! let mut frames = Vec::new();
//! loop {
//!     socket.fill(u32::MAX)?;
//!     socket.wait(Wait::Receive, Duration::from_secs(1))?;
//!     socket.receive(&mut frames, 64)?;
//!     for frame in &mut frames {
//!         // Back to whoever sent it.
//!         frame[..12].rotate_left(6);
//!     }
//!     // Until there was room for all, and the kernel left nothing in the ring.
//!     loop {
//!         socket.send(&mut frames)?;
//!         let left = socket.kick()?.pending;
//!         socket.reap()?;
//!         if frames.is_empty() && left == 0 {
//!             break;
//!         }
//!     }
//! }
//! # }
//! ```

mod error;
mod frame;
#[cfg(test)]
mod hostile;
mod open;
mod ring;
mod socket;
mod state;
mod umem;

pub use error::{Corrupt, Error, Fault, Problem, Queue, Which};
pub use frame::{Frame, NoRoom};
pub use open::{Mode, Plan, Wakeup};
pub use socket::{Kicked, Socket, Wait, WithKernel};
pub use state::{Copies, Statistics};
pub use umem::{Census, Layout, Umem};
