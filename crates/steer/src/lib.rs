//! Connections and datagrams for any prefixes and ports come to any sockets.
//!
//! `bind` gives a socket one port, of one address or of all. Here a *binding* says which packets are
//! meant (a protocol, a prefix, and one port, a range or all of them), and the name of a *service* that
//! they are for; a service has sockets, wherever these are bound. Both change at any time, while packets
//! come, and each packet goes by the old rules or by the new ones. It is done by a program of the kernel's
//! socket lookup (`SK_LOOKUP`), which this crate builds, loads and attaches.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # bpfsmith_gate::needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
//! use bpfsmith_net::{Node, Route};
//! use bpfsmith_steer::{Label, Steering};
//! use std::net::{TcpListener, TcpStream};
//!
//! // A machine that takes a whole network for its own: `ip route add local 203.0.113.0/24 dev lo`.
//! let node = Node::new()?;
//! node.net.add_route(&Route::local("203.0.113.0/24".parse()?))?;
//!
//! let web = Label::new("web")?;
//! let mut steering = Steering::new(&node.ns)?;
//! steering.bind("tcp 203.0.113.0/24 8000-8999".parse()?, &web)?;
//!
//! // Where it listens, does not matter.
//! let listener = node.run(|| TcpListener::bind("127.0.0.1:0"))??;
//! steering.register(&web, &listener)?;
//!
//! let client = node.run(|| TcpStream::connect("203.0.113.77:8080"))??;
//! let (stream, from) = listener.accept()?;
//! assert_eq!(from, client.local_addr()?);
//! assert_eq!(stream.local_addr()?, "203.0.113.77:8080".parse()?);
//! println!("{}", steering.status()?);
//! # Ok(())
//! # }
//! ```
//!
//! | to … | see |
//! |---|---|
//! | steer a namespace, for as long as a handle lives or a directory is there | [`Steering::new`], [`Steering::create`], [`Steering::open`] |
//! | say what goes where | [`Steering::bind`], [`Steering::replace`], [`Steering::edit`] |
//! | say who takes it | [`Steering::register`], [`Steering::switch`] |
//! | say what becomes of the rest | [`Steering::set_fallback`] |
//! | hand listening sockets to another process | [`handover`] |
//! | see what happens, or would | [`Steering::status`], [`Steering::find`], [`Steering::ask`] |
//!
//! # What goes before what
//!
//! Of all bindings that cover a packet, the one with the **longest prefix** has it; of those, the one with
//! the **fewest ports**; of those, the one whose ports **begin highest**.
//!
//! # What it costs
//!
//! A packet is asked about when it belongs to no connection: the first of each TCP connection, and each
//! one to a UDP socket that is not connected. A range of ports is made of at most 30 blocks of powers of
//! two, and there is one look into an LPM trie for each size of blocks that bindings near the port
//! have: one or two as a rule, and never more than 17, however many bindings there are. Each binding
//! takes an entry for each of its blocks and one for itself.
//!
//! [`Steering::bind`] and [`Steering::unbind`] write the entries of one binding, [`Steering::replace`] and
//! [`Steering::edit`] those of all, once: take these for more than a few. A process that comes after a
//! change by another one reads all rules again.
//!
//! # Sockets
//!
//! - What comes for a service is shared among up to 64 sockets of a protocol and family, by flow; when one
//!   comes or goes, only flows of its own move. That is so with `SO_REUSEPORT` too: the kernel's own
//!   choice among a group is left out, so that a socket that is not registered gets nothing.
//! - A socket that is closed leaves by itself, and packets go to the others. When there is none, they
//!   are refused, or passed to the kernel's own search, as the service says. They never go to another
//!   binding.
//! - An answer over UDP leaves from the address that its socket is bound to: use `IP_PKTINFO`.
//!
//! # State
//!
//! All of it is in maps. [`Steering::create`] pins them with the program and its link in a directory of a
//! bpffs: it goes on when the process ends, or is killed, and another one opens it. Writers lock the
//! directory (`flock`); what one of them left undone when it died, the next one mends. A handle of a
//! directory that was removed, or made again, says so and changes nothing. What another
//! version of the library pinned is refused if it means something else by the bytes.
//!
//! Rules look at where packets go. To steer by where they come from, see `kit::lookup` and the example
//! `sk_lookup_steering`.
//!
//! Linux 5.14, and 5.12 of it for [`Steering::ask`]; tested from 6.1 on. The rights are `CAP_NET_ADMIN`,
//! `CAP_BPF` and, to open what is pinned, `CAP_SYS_ADMIN`.

mod ask;
mod binding;
mod error;
pub mod handover;
mod home;
mod layout;
mod levels;
mod program;
mod rules;
mod services;
mod sockets;
mod status;
mod steering;
mod table;

pub use ask::Answer;
pub use binding::{BadBinding, BadLabel, Binding, Label, Ports, Protocol, Rule};
pub use bpfsmith_asm::kit::lookup::Fallback;
pub use error::{Error, HandoverProblem, HomeProblem, Result, SocketProblem};
pub use program::program;
pub use rules::{Changes, RuleSet};
pub use services::ServiceInfo;
pub use sockets::{Family, Registered, Socket};
pub use status::{Counts, Status};
pub use steering::{Steering, Upgrade};
