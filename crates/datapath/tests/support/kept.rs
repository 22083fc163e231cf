//! A proxy that outlives its process, in a world.

use super::serving::Wanted;
use super::world::World;
use bpfsmith_datapath::attach::Attached;
use bpfsmith_datapath::choice::Wish;
use bpfsmith_datapath::config::{BackendId, Config};
use bpfsmith_datapath::error::Result;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::look::Look;
use bpfsmith_datapath::pins::{Adopted, Pins};
use bpfsmith_gate::{Mount, bpffs};
use bpfsmith_net::{IfIndex, Netlink};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Names in a bpffs of the test's own.
pub(crate) struct Home {
    mount: Mount,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home { mount: bpffs() }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.mount.path().join("proxy")
    }

    #[track_caller]
    pub(crate) fn pins(&self) -> Pins {
        Pins::open(self.dir()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// All names below the directory, without those of generations.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        walk(&self.dir(), &mut names);
        let strip = |path: &PathBuf| path.strip_prefix(self.dir()).unwrap().display().to_string();
        names.iter().map(strip).collect()
    }
}

fn walk(dir: &Path, names: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => walk(&path, names),
            false => names.push(path),
        }
    }
    names.sort();
}

/// A configuration with these backends of a world, which keeps numbers that are known.
pub(crate) fn config(known: &Adopted, backends: &[u8]) -> Config {
    let addresses = |number: &u8| {
        let v4 = IpAddr::from(Ipv4Addr::new(10, 20, *number, 2));
        let v6 = Ipv6Addr::new(0xfd20, (*number).into(), 0, 0, 0, 0, 0, 2);
        ([v4, v6.into()], 1)
    };
    let mut config = Wanted::to(backends.iter().map(addresses).collect()).config();
    let mut numbers: BTreeMap<SocketAddr, u16> = known
        .backends
        .iter()
        .map(|(number, at)| (*at, *number))
        .collect();
    let mut renamed = BTreeMap::new();
    for backend in &mut config.backends {
        let free = numbers.values().max().map_or(0, |last| last + 1);
        let number = *numbers.entry(backend.address).or_insert(free);
        renamed.insert(backend.id, BackendId(number));
        backend.id = BackendId(number);
    }
    for group in &mut config.groups {
        for member in &mut group.members {
            member.backend = renamed[&member.backend];
        }
    }
    config
}

/// The proxy's devices with these names, as seen in its namespace.
pub(crate) fn devices(names: &[&str]) -> Vec<(IfIndex, Wish)> {
    let net = Netlink::open().unwrap();
    let index = |name: &&str| (net.link(name).unwrap().index, Wish::Visible);
    names.iter().map(index).collect()
}

/// Adopts what there is, or begins.
pub(crate) fn keep(
    pins: &Pins,
    config: &Config,
    devices: &[(IfIndex, Wish)],
) -> Result<(Generation, Attached)> {
    let generation = Generation::kept(pins, config)?;
    let attached = Attached::new(&Look::here()?, &generation, devices)?;
    Ok((generation, attached))
}

/// Does something where the proxy is.
#[track_caller]
pub(crate) fn at_proxy<T: Send>(world: &World, body: impl FnOnce() -> T + Send) -> T {
    world.proxy.node.run(body).unwrap()
}
