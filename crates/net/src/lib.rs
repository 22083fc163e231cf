//! Network namespaces, devices, addresses, routes and attachments over netlink.

mod error;
mod hints;
mod ns;
mod socket;
mod types;
pub mod wire;

pub use bpfsmith_uapi::Errno;
pub use error::{Error, Operation, Reason, Refusal};
pub use ns::{NetNs, NetNsId};
pub use socket::Netlink;
pub use types::{BadPrefix, IfIndex, Mac, Prefix};
