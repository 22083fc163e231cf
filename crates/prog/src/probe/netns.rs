//! Trials that need a device: in a network namespace that lives as long as they do.

use super::Support;
use bpfsmith_net::{Device, Kind, NetNs, Netlink};
use bpfsmith_uapi::Errno;

/// What cannot be told without a namespace.
pub(super) fn unknown(error: &bpfsmith_net::Error) -> Support {
    Support::Unknown(error.errno().unwrap_or(Errno::EIO))
}

/// The answer of `work`, which runs in a new namespace. Its only device is `lo`, with index 1.
pub(super) fn alone(work: impl FnOnce() -> Support + Send) -> Support {
    match NetNs::new().and_then(|namespace| namespace.run(work)) {
        Ok(support) => support,
        Err(error) => unknown(&error),
    }
}

/// The answer of `work` about a veth device in a new namespace, by its index.
pub(super) fn with_veth(work: impl FnOnce(u32) -> Support + Send) -> Support {
    let run = || {
        let namespace = NetNs::new()?;
        let net = Netlink::open_in(&namespace)?;
        net.add_link(&Device::new("bs0"), &Kind::Veth(Device::new("bs1")))?;
        let index = net.link("bs0")?.index.0;
        namespace.run(|| work(index))
    };
    match run() {
        Ok(support) => support,
        Err(error) => unknown(&error),
    }
}
