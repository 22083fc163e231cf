//! A reverse proxy in the kernel, as people run it.
//!
//! `bpfsmith-datapath` makes the programs; this crate keeps them as they are wanted: it reads configurations,
//! resolves names, asks targets whether they live, and puts one generation of programs after the other into
//! place. The command `bpfsmith-proxy` is made of it, and it is a library for who wants a proxy in a program of their
//! own: [`Proxy`](proxy::Proxy).
//!
//! ```no_run
//! use bpfsmith_config::{Document, Value, toml};
//! use bpfsmith_proxy::commands::words::By;
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
//!
//!     proxy.drain("10.2.0.2:8080".parse()?, None)?;
//!     for group in proxy.status()?.groups {
//!         for target in group.targets {
//!             println!("{}: {}, {} connections", target.address, target.state, target.connections);
//!         }
//!     }
//!     println!("{} connections", proxy.connections(&Filter::default())?.len());
//!     for (client, sum) in proxy.sums(By::Source, &Filter::default())? {
//!         println!("{client}: {} connections, {} bytes", sum.connections, sum.there.bytes);
//!     }
//!     // An iterator that waits; for async runtimes it has `poll_next`.
//!     for told in proxy.events(1000).take(10) {
//!         println!("{:?}", told.event.what);
//!     }
//!     proxy.change(|document| document.set("settings.events", &Value::from(false)))?;
//!     Ok(())
//! }
//! ```
//!
//! What can be done, here, by a command, and by HTTP with JSON:
//!
//! | | here | `bpfsmith-proxy` | HTTP |
//! |---|---|---|---|
//! | begin | [`Proxy::open`](proxy::Proxy::open) | `run` | |
//! | end | drop it, [`Pins::detach`](bpfsmith_datapath::pins::Pins::detach) | SIGTERM, `detach` | |
//! | another configuration | [`Proxy::apply`](proxy::Proxy::apply) | `reload` | `PUT /v1/config`, `POST /v1/reload` |
//! | proxies | [`Proxy::change`](proxy::Proxy::change) with `add_proxy`, `update_proxy`, `remove_proxy` | `add`, `update`, `remove` | `/v1/proxies` |
//! | routes | `add_route`, `remove_route` | `route add`, `route remove` | `/v1/proxies/NAME/routes` |
//! | targets and groups | `add_target`, `remove_target`, `put_group` | `target add`, `target remove` | `/v1/groups/NAME` |
//! | a value | `set` | `set` | `PUT /v1/values/…` |
//! | no new connections | [`Proxy::drain`](proxy::Proxy::drain), [`Proxy::undrain`](proxy::Proxy::undrain) | `drain`, `undrain` | `POST /v1/drain` |
//! | connections | [`Proxy::connections`](proxy::Proxy::connections), [`listing::sort`] | `conns` | `GET /v1/connections` |
//! | one of them | [`Proxy::connection`](proxy::Proxy::connection) | `conns --protocol … --client … --service …` | `GET /v1/connections/tcp/CLIENT/SERVICE` |
//! | sums by source, target, proxy, listener | [`Proxy::sums`](proxy::Proxy::sums), of events [`listing::ended`] | `conns --by` | `GET /v1/connections?by=…` |
//! | events | [`Proxy::events`](proxy::Proxy::events), [`Proxy::add_sink`](proxy::Proxy::add_sink) | `events --follow` | `GET /v1/events` |
//! | events on and off | `set` of `settings.events`, [`Proxy::want`](proxy::Proxy::want) | `set settings.events` | `PUT /v1/events` |
//! | how everything stands | [`Proxy::status`](proxy::Proxy::status) | `status`, `top` | `GET /v1/status`, `GET /metrics` |
//!
//! What the machine must be told before, and which rights and kernels it takes, is said at `bpfsmith-datapath`; what it
//! is to operate one, in `OPERATING.md` beside this crate.

pub mod access_log;
pub mod act;
pub mod api;
pub mod change;
mod columns;
pub mod commands;
pub mod daemon;
pub mod demo;
pub mod dns;
pub mod doctor;
pub mod error;
pub mod explain;
pub mod feed;
mod file;
pub mod filter;
pub mod foresee;
pub mod health;
pub mod http;
pub mod keeper;
mod leaving;
pub mod listing;
mod lock;
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
