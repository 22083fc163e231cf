//! Names of hosts: asked for, and asked again when their time is over.
//!
//! The C library resolves names too, but does not tell how long an answer holds. So this is a small resolver
//! of its own: it sends a question to the servers of `/etc/resolv.conf` and reads what they answer.
//!
//! - [`message`]: questions and answers as bytes. Nothing in it asks anybody.
//! - [`Settings`] and [`Hosts`]: what the machine's files say.
//! - [`Resolver`]: one name, asked for once.
//! - [`Names`]: many names, kept fresh by threads of their own, with the last good answer of each.
//!
//! ```no_run
//! use bpfsmith_proxy::dns::{Names, Resolver};
//! use std::collections::BTreeSet;
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let names = Names::start(Resolver::of_system()?, || println!("something moved"))?;
//! let wanted = BTreeSet::from(["web.example".to_owned()]);
//! for (name, answer) in names.resolve_all(&wanted, Duration::from_secs(5)) {
//!     println!("{name}: {:?}", answer?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it does not do: it asks no server about signatures, speaks neither DNS over TLS nor multicast DNS, and
//! reads no `nsswitch.conf`. A name ending in `.local` is asked of the servers like any other.

mod ask;
mod entry;
mod error;
mod hosts;
pub mod message;
mod name;
mod random;
mod resolver;
mod system;
mod watch;

pub use entry::Known;
pub use error::{Error, Failure};
pub use hosts::Hosts;
pub use name::{BadName, Name};
pub use resolver::{Answer, LEAST, MOST, OF_HOSTS, Partial, Resolver};
pub use system::{Ignored, Server, Settings};
pub use watch::Names;
