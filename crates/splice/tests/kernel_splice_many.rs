//! A thousand connections at once, both ways, each byte compared at both ends.
#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

#[expect(unreachable_pub, dead_code, reason = "shared by test programs")]
mod rig;

use bpfsmith_gate::{deadline, is_slow, needs};
use bpfsmith_net::Chain;
use bpfsmith_splice::{Settings, Tally};
use rig::{By, Ends, LIMIT, Random, Running, Stream, Talk, converse, sockets};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

fn talks(count: usize, largest: u64, total: u64) -> Vec<Talk> {
    let mut random = Random(1234);
    let mut left = total;
    let mut len = |index: usize| {
        // Some are as large as can be, most are small, some are empty.
        let bytes = match index % 16 {
            0 => random.below(largest) + 1,
            1 => 0,
            2 => random.below(64),
            _ => random.below(20_000),
        };
        let bytes = if index < 4 { largest } else { bytes };
        let bytes = bytes.min(left);
        left -= bytes;
        bytes
    };
    (0..count)
        .map(|index| {
            let (up, down) = (len(index), len(index + usize::from(index > 4) * 7));
            let seed = u64::try_from(index).unwrap();
            let ends = match index % 7 {
                0 => Ends::AtOnce,
                1..4 => Ends::Answered,
                _ => Ends::Last,
            };
            Talk {
                ends,
                up: Stream::new(seed * 3 + 1, up),
                down: Stream::new(seed * 5 + 2, down),
            }
        })
        .collect()
}

/// Holds these talks over a proxy in the middle of three machines, and looks for what is left.
fn check(net: &Chain, v6: bool, settings: Settings, talks: &[Talk]) -> Tally {
    let (server, proxy): (SocketAddr, IpAddr) = if v6 {
        ((net.server.v6(), 7000).into(), net.proxy.left.v6.into())
    } else {
        ((net.server.v4(), 7000).into(), net.proxy.left.v4.into())
    };
    let listener = net
        .server
        .run(|| TcpListener::bind(server))
        .unwrap()
        .unwrap();
    let near = SocketAddr::new(proxy, 0);
    let running = Running::new(&net.proxy.node, near, server, By::Kernel(settings));
    let to = running.address;
    let start = Instant::now();
    net.client
        .run(|| {
            converse(&listener, talks, talks.len(), || {
                TcpStream::connect(to).unwrap()
            })
        })
        .unwrap();
    let tally = running.idle();
    println!("{:?} {tally:#?}", start.elapsed());
    let wanted: u64 = talks.iter().map(|it| it.up.len + it.down.len + 32).sum();
    let ended = (tally.ended, tally.broken, tally.failed);
    assert_eq!(ended, (u64::try_from(talks.len()).unwrap(), 0, 0));
    assert_eq!(tally.bytes_spliced + tally.bytes_copied, wanted);
    // Of all the machines' sockets, listeners are left, and what waits for late packets.
    for (node, listeners) in [
        (&net.client.node, 0),
        (&net.proxy.node, 1),
        (&net.server.node, 1),
    ] {
        deadline(LIMIT, || {
            let left = node.run(sockets).unwrap();
            (left.in_use == listeners && left.orphans == 0).then_some(())
        });
    }
    let proxy = running.stop();
    assert_eq!(proxy.splicer().unwrap().entries().unwrap(), [0; 4]);
    tally
}

#[test]
fn a_thousand_at_once() {
    needs!(Root, NetNs, Veth, Sockmap, RingBuf, Btf);
    let net = Chain::new().unwrap();
    let (count, largest, total) = if is_slow() {
        (200, 1 << 20, 20 << 20)
    } else {
        (1000, 10 << 20, 800 << 20)
    };
    let talks = talks(count, largest, total);
    for v6 in [false, true] {
        let tally = check(&net, v6, Settings::default(), &talks);
        assert!(tally.bytes_spliced > tally.bytes_copied, "{tally:?}");
    }
}

/// With next to no room in the kernel, flows go back and forth between it and user space.
#[test]
fn flows_that_fall_behind_again_and_again_keep_their_order() {
    needs!(Root, NetNs, Veth, Sockmap, RingBuf, Btf);
    let net = Chain::new().unwrap();
    let (count, largest, total) = if is_slow() {
        (50, 1 << 20, 20 << 20)
    } else {
        (200, 4 << 20, 200 << 20)
    };
    let talks = talks(count, largest, total);
    for ahead in [1, 1 << 14, 1 << 17] {
        let settings = Settings {
            ahead,
            ..Settings::default()
        };
        let tally = check(&net, false, settings, &talks);
        assert!(tally.behind > 0, "{tally:?}");
    }
}
