//! Network namespaces, devices, addresses, routes and attachments over netlink.
//!
//! - [`NetNs`] holds a namespace and runs code inside it; [`Pair`] and [`Chain`] are whole networks.
//! - [`Netlink`] asks the kernel: [`links`](Netlink::links), [`add_link`](Netlink::add_link),
//!   [`add_address`](Netlink::add_address), [`add_route`](Netlink::add_route),
//!   [`add_neighbour`](Netlink::add_neighbour), [`attach_xdp`](Netlink::attach_xdp),
//!   [`add_filter`](Netlink::add_filter) and their kin. [`Ethtool`] switches offloads, [`NetDev`] tells what
//!   devices do for XDP.
//! - [`Error`] names the request, the object, the error number and the kernel's own sentence.
//! - [`wire`] is the format beneath, for requests that are not here.
//!
//! There is no unsafe code, and no thread but those of [`NetNs::run`] changes its namespace.
//!
//! ```
//! use bpfsmith_net::{Address, Device, Kind, NetNs, Netlink};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     # bpfsmith_gate::needs!(NetNs, Veth);
//!     let (left, right) = (NetNs::new()?, NetNs::new()?);
//!     let net = Netlink::open_in(&left)?;
//!     net.add_link(&Device::new("eth0"), &Kind::Veth(Device::new("eth0").netns(&right)))?;
//!     let eth0 = net.link("eth0")?.index;
//!     net.add_address(&Address::new(eth0, "10.9.0.1/24".parse()?))?;
//!     net.set_up(eth0)?;
//!     let listener = left.run(|| std::net::TcpListener::bind("10.9.0.1:80"))??;
//!     println!("listening on {}", listener.local_addr()?);
//!     Ok(())
//! }
//! ```

pub mod addr;
mod error;
mod ethtool;
mod genl;
mod hints;
#[cfg(test)]
mod hostile;
mod link;
mod neigh;
mod ns;
mod nsid;
mod redirect;
mod route;
mod socket;
mod sysctl;
mod tc;
mod topology;
mod types;
pub mod wire;
mod xdp;

pub use addr::Address;
pub use bpfsmith_uapi::Errno;
pub use error::{Error, Operation, Reason, Refusal};
pub use ethtool::{Ethtool, Feature, Features};
pub use link::{Device, Hardware, Kind, Link, LinkFlags, MacvlanMode, OperState, Peer, Vxlan};
pub use neigh::{Neighbour, NeighbourState};
pub use ns::{NetNs, NetNsId};
pub use redirect::{By, NetDev, XdpFeatures, redirect_advice, xdp_act};
pub use route::{Route, RouteKind, RouteTable};
pub use socket::Netlink;
pub use tc::{Filter, FilterId, Qdisc, Tbf, TcParent};
pub use topology::{Chain, Host, Node, Pair, Port, Router};
pub use types::{BadPrefix, IfIndex, Mac, Prefix};
pub use xdp::{XdpAttached, XdpExpect, XdpState};
