//! What a machine's kernel has counted.

use bpfsmith_net::Node;
use std::collections::BTreeMap;

/// All counters of protocols by name, like `Tcp.InCsumErrors` and `Udp6InCsumErrors`.
#[track_caller]
pub(crate) fn protocols(node: &Node) -> BTreeMap<String, u64> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
    let texts = node.run(|| ["snmp", "netstat", "snmp6"].map(|name| read(name).unwrap()));
    let [snmp, netstat, six] = texts.unwrap();
    let mut counters = BTreeMap::new();
    for text in [snmp, netstat] {
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks(2) {
            let (names, values) = (pair[0].split_whitespace(), pair[1].split_whitespace());
            let prefix = pair[0].split(':').next().unwrap();
            for (name, value) in names.zip(values).skip(1) {
                // Some are -1 for "no limit".
                let value = value.parse().unwrap_or(u64::MAX);
                counters.insert(format!("{prefix}.{name}"), value);
            }
        }
    }
    for line in six.lines() {
        let mut words = line.split_whitespace();
        if let Some((name, value)) = words.next().zip(words.next()) {
            counters.insert(name.to_owned(), value.parse().unwrap());
        }
    }
    counters
}

/// Packets that were dropped for a wrong checksum, by protocol. An IPv4 header's is `ip`, and TCP is of
/// both families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BadSums {
    pub(crate) ip: u64,
    pub(crate) tcp: u64,
    pub(crate) udp: u64,
    pub(crate) icmp: u64,
    pub(crate) udp6: u64,
    pub(crate) icmp6: u64,
}

#[track_caller]
pub(crate) fn bad_sums(node: &Node) -> BadSums {
    let all = protocols(node);
    BadSums {
        ip: all["IpExt.InCsumErrors"],
        tcp: all["Tcp.InCsumErrors"],
        udp: all["Udp.InCsumErrors"],
        icmp: all["Icmp.InCsumErrors"],
        udp6: all["Udp6InCsumErrors"],
        icmp6: all["Icmp6InCsumErrors"],
    }
}

/// What a device has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) received: Direction,
    pub(crate) sent: Direction,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Direction {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) errors: u64,
    pub(crate) dropped: u64,
}

#[track_caller]
pub(crate) fn traffic(node: &Node, device: &str) -> Traffic {
    let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
    let text = node.run(read).unwrap().unwrap();
    let of = |line: &str| {
        let (name, values) = line.split_once(':')?;
        (name.trim() == device).then(|| values.to_owned())
    };
    let line = text.lines().find_map(of).unwrap();
    let values = line.split_whitespace().map(|it| it.parse().unwrap());
    let values: Vec<u64> = values.collect();
    let direction = |at: usize| Direction {
        bytes: values[at],
        packets: values[at + 1],
        errors: values[at + 2],
        dropped: values[at + 3],
    };
    Traffic {
        received: direction(0),
        sent: direction(8),
    }
}
