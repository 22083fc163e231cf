//! A reverse proxy of packets: XDP and TCX programs made from its configuration.
//!
//! A [`Config`](config::Config) says who listens and who answers. It becomes the contents of maps
//! ([`Tables`](tables::Tables)) and what programs contain ([`Shape`](shape::Shape)), from which
//! [`programs::program`] makes the instructions: all of this without a kernel. A
//! [`Generation`](generation::Generation) is a configuration in the kernel, and
//! [`Attached`](attach::Attached) the devices that run it, where [`look`] and [`choice`] say how each is served
//! and why. What became of packets is counted by [`Reason`](reason::Reason), what became of flows is told by
//! [`events`], and [`flows`] reads the tables that programs keep. [`pins`] let all of it outlive its process.
//!
//! # An example
//!
//! Everybody who asks 192.0.2.80 gets one of two backends, one of them twice as often. Clients come by `eth0`,
//! backends are behind `eth1`:
//!
//! ```no_run
//! use bpfsmith_net::Netlink;
//! use bpfsmith_datapath::attach::Attached;
//! use bpfsmith_datapath::choice::Wish;
//! use bpfsmith_datapath::config::{
//!     Algorithm, Backend, BackendId, Config, Group, GroupId, Listener, Member, Mode, Protocol,
//! };
//! use bpfsmith_datapath::generation::Generation;
//! use bpfsmith_datapath::look::Look;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let config = Config {
//!         listeners: vec![Listener {
//!             number: 1,
//!             devices: Vec::new(), // all
//!             address: "192.0.2.80:80".parse()?,
//!             protocol: Protocol::Tcp,
//!             routes: Vec::new(),
//!             group: GroupId(0), // the first in `groups`
//!         }],
//!         groups: vec![Group {
//!             algorithm: Algorithm::Maglev,
//!             mode: Mode::Dnat,
//!             members: vec![
//!                 Member { backend: BackendId(1), weight: 2 },
//!                 Member { backend: BackendId(2), weight: 1 },
//!             ],
//!         }],
//!         backends: vec![
//!             Backend { id: BackendId(1), address: "10.2.0.2:8080".parse()? },
//!             Backend { id: BackendId(2), address: "10.2.0.3:8080".parse()? },
//!         ],
//!         ..Config::default()
//!     };
//!     let net = Netlink::open()?;
//!     let devices = [net.link("eth0")?.index, net.link("eth1")?.index];
//!     let devices = devices.map(|device| (device, Wish::Best));
//!
//!     let generation = Generation::first(&config)?;
//!     let attached = Attached::new(&Look::here()?, &generation, &devices)?;
//!     for choice in attached.choices() {
//!         println!("{choice}"); // what each device got, and why
//!     }
//!     for note in attached.notes() {
//!         println!("{note}"); // backends that are not reached as they should be
//!     }
//!     loop {
//!         std::thread::park(); // it works as long as `attached` lives
//!     }
//! }
//! ```
//!
//! # Before it works
//!
//! The proxy changes no setting of the machine. Packets for the listeners must come here, and the kernel must be
//! willing to send them on:
//!
//! ```sh
//! sysctl -w net.ipv4.ip_forward=1              # IPv6: net.ipv6.conf.all.forwarding=1
//! ip route get 10.2.0.2                        # leads to each backend?
//! ip address add 192.0.2.80/32 dev lo          # or a route to 192.0.2.80 by way of this machine, at who asks
//! ```
//!
//! With [`Mode::Dnat`](config::Mode::Dnat) backends see clients' addresses and must answer by way of this machine: on
//! them, `ip route add default via` its address. With [`Mode::FullNat`](config::Mode::FullNat) they need a way to
//! [`Config::sources`](config::Config::sources) alone. [`Obstacle`](choice::Obstacle) and [`Note`](choice::Note) say what
//! is not as it should be where that can be seen.
//!
//! # What it needs
//!
//! Root, or `CAP_BPF`, `CAP_NET_ADMIN` and `CAP_PERFMON`: programs subtract pointers. To look at far ends of
//! cables in other namespaces, and to name programs that others attached, takes `CAP_SYS_ADMIN`; without, it is not
//! done. It is tested on Linux 6.1, 6.12 and 6.18:
//!
//! | from Linux | |
//! |---|---|
//! | 5.17 | all but what follows: the timer that forgets flows needs it; programs behind the driver are filters of `clsact` |
//! | 5.18 | XDP programs |
//! | 6.0 | connections by cookie ([`Above::Cookies`](config::Above::Cookies)), with `CONFIG_SYN_COOKIES` |
//! | 6.3 | [`Wish::Best`](choice::Wish::Best) finds drivers with XDP; before, [`Wish::Native`](choice::Wish::Native) asks for it |
//! | 6.6 | programs behind the driver are at TCX, by links that end with their process, also a killed one, or outlive it |
//!
//! # What there is, and what not
//!
//! This is a library. What [`Generation::first`](generation::Generation::first) makes ends with its process: links, and
//! with the maps all flows. (Before Linux 6.6, a process that is killed leaves its filters:
//! `tc qdisc del dev eth0 clsact`.) What [`Generation::kept`](generation::Generation::kept) makes has names in a BPF
//! file system ([`Pins`](pins::Pins)): packets, timeouts and events go on when the process is killed, and the next one,
//! also of another version with other programs, [adopts](pins::Pins::adopted) it without losing a packet, unless tables
//! have another [layout]: that is refused, for flows are then ended by who runs this, and by nobody else. It takes
//! `mount -t bpf bpf /sys/fs/bpf`, where nobody did so, and Linux 6.6.
//!
//! Configurations change ([`Attached::replace`](attach::Attached::replace)), and devices come and go
//! ([`Attached::replace_on`](attach::Attached::replace_on)), while flows stay; what fails leaves everything as it was.
//! There is no daemon here, no file of configuration, no command, and no checks of backends' health.
//!
//! # To read the code
//!
//! In this order: `config`, `layout` (what bytes mean), then in `programs` the way of a packet: `parse`,
//! `table` (is its flow known?), `established` (yes), `open` (no: who gets it?), `claim` (as whom?), `enter`.

pub use bpfsmith_net::{IfIndex, NetNs, Prefix};

mod adopt;
pub mod attach;
pub mod choice;
pub mod clock;
pub mod config;
pub mod connections;
pub mod error;
pub mod event;
pub mod events;
pub mod flows;
pub mod generation;
pub mod layout;
mod links;
pub mod look;
mod memory;
pub mod mss;
pub mod pins;
pub mod programs;
mod reach;
pub mod reason;
pub mod ring;
mod sense;
pub mod shape;
mod sums;
pub mod tables;
