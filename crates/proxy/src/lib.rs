//! A reverse proxy in the kernel, as people run it.
//!
//! `bpfsmith-datapath` makes the programs; this crate keeps them as they are wanted: it reads configurations,
//! resolves names, asks targets whether they live, and puts one generation of programs after the other into
//! place. The command `bpfsmith-proxy` is made of it, and it is a library for who wants a proxy in a program of their
//! own: [`Proxy`](proxy::Proxy).
//!
//! ```no_run
//! use bpfsmith_config::{Document, Value, toml};
//! use bpfsmith_proxy::proxy::{Filter, Life, Proxy};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let wanted = Document::read(
//!         r#"
//!         address = "192.0.2.80"
//!         port = 80
//!         targets = ["10.2.0.2:8080", "10.2.0.3:8080"]
//!         health = "tcp"
//!         [settings]
//!         devices = ["eth0", "eth1"]
//!         events = true
//!         "#,
//!     )?;
//!     // It lives as long as this; Life::Kernel outlives the process.
//!     let proxy = Proxy::open(wanted, Life::Process)?;
//!
//!     // A change comes into place at once, or not at all.
//!     let api = toml::read("name = 'api'\nport = 8080\ntarget = '10.2.0.4:3000'")?;
//!     proxy.change(|document| document.add_proxy(&api))?;
//!     proxy.change(|document| document.remove_proxy("api"))?;
//!     proxy.change(|document| document.set("settings.events", &Value::from(false)))?;
//!
//!     proxy.drain("10.2.0.2:8080".parse()?, None)?;
//!     for group in proxy.status()?.groups {
//!         for target in group.targets {
//!             println!("{}: {}, {} connections", target.address, target.state, target.connections);
//!         }
//!     }
//!     println!("{} connections", proxy.connections(&Filter::default())?.len());
//!     for told in proxy.events(1000).take(10) {
//!         println!("{:?}", told.event.what);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! What the machine must be told before, and which rights and kernels it takes, is said at `bpfsmith-datapath`; what it
//! is to operate one, in `OPERATING.md` beside this crate.

pub mod access_log;
pub mod act;
pub mod api;
pub mod change;
pub mod commands;
pub mod daemon;
pub mod demo;
pub mod dns;
pub mod doctor;
pub mod error;
pub mod explain;
pub mod feed;
mod file;
pub mod health;
pub mod http;
pub mod keeper;
mod leaving;
pub mod listing;
mod memory;
pub mod metrics;
pub mod notify;
pub mod numbers;
pub mod plan;
mod powerless;
pub mod proxy;
pub mod run;
pub mod shell;
pub mod show;
pub mod status;
pub mod terminal;
pub mod top;
pub mod watch;
