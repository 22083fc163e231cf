//! Whether the targets of groups live.
//!
//! [`Checks`] asks each target again and again, as the configuration's
//! [`Health`](bpfsmith_config::desired::Health) has it, and keeps a [`Standing`] of each: in how far new
//! connections should go there. One thread with one epoll set does all of it.
//!
//! - A new target is [`Unknown`](State::Unknown), and **counts as up**: it gets connections until `down`
//!   checks in a row have failed. Else a proxy that starts would refuse all until it has asked around.
//! - `down` bad answers in turn take a target out, `up` good ones bring it back. One good answer is enough
//!   for a target that was never out.
//! - One that came back gets a tenth of its share at first, and all of it in ten steps over `slow_start`.
//! - An operator's word ([`Forced`]) goes before what checks say. Checks go on, so that it can be taken back.
//!
//! # Where checks come from
//!
//! They connect from the proxy's own host, in the network namespace of the thread that called
//! [`Checks::start`], straight to the address of the target. They do **not** pass the proxy's programs: a check
//! says that a target answers this host, and not that packets which the programs send on arrive
//! there (a target that answers only the proxy's clients, such as one behind a firewall that knows only them,
//! is found down). UDP has no check of its own: what is asked is always by TCP.
//!
//! # How a connection ends
//!
//! Targets should have nothing to write in their logs. So no connection is reset as long as a target behaves:
//! `SO_LINGER` is left alone, and as the kernel resets a connection that is closed with unread bytes, or
//! gets some after it, a check reads on for a moment ([`Attempt`] says how long) after it knows its answer. A
//! check of TCP ends its own stream at once and waits for the end of the other; one of HTTP asks the target to
//! close, and waits for that.

mod agenda;
mod chance;
mod check;
mod connect;
mod engine;
mod error;
mod failure;
mod standing;
mod status;
mod table;
mod watch;

pub use check::{Attempt, Step};
pub use error::Error;
pub use failure::Failure;
pub use standing::{Forced, Standing, State};
pub use watch::{Checks, MOST, Target, View};
