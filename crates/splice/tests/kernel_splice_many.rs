//! A thousand connections at once, both ways, each byte compared at both ends.
#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

#[expect(unreachable_pub, dead_code, reason = "shared by test programs")]
mod rig;

use bpfsmith_gate::{deadline, is_slow, needs};
use bpfsmith_net::Chain;
use bpfsmith_splice::Settings;
use rig::{By, Ends, LIMIT, Random, Running, Stream, Talk, converse, sockets};
use std::net::{SocketAddr, TcpListener, TcpStream};

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

#[test]
fn a_thousand_at_once() {
    needs!(Root, NetNs, Veth, Sockmap, RingBuf, Btf);
    let net = Chain::new().unwrap();
    for v6 in [false, true] {
        let (any, server, proxy): (SocketAddr, SocketAddr, _) = match v6 {
            true => (
                "[::]:0".parse().unwrap(),
                (net.server.v6(), 7000).into(),
                std::net::IpAddr::from(net.proxy.left.v6),
            ),
            false => (
                "0.0.0.0:0".parse().unwrap(),
                (net.server.v4(), 7000).into(),
                net.proxy.left.v4.into(),
            ),
        };
        let listener = net
            .server
            .run(|| TcpListener::bind(server))
            .unwrap()
            .unwrap();
        let by = By::Kernel(Settings::default());
        let running = Running::new(&net.proxy.node, any, server, by);
        let to = SocketAddr::new(proxy, running.address.port());
        let (count, largest, total) = if is_slow() {
            (200, 1 << 20, 20 << 20)
        } else {
            (1000, 10 << 20, 800 << 20)
        };
        let talks = talks(count, largest, total);
        let start = std::time::Instant::now();
        net.client
            .run(|| converse(&listener, &talks, count, || TcpStream::connect(to).unwrap()))
            .unwrap();
        let tally = running.idle();
        println!("{:?} {tally:#?}", start.elapsed());
        let wanted: u64 = talks.iter().map(|it| it.up.len + it.down.len + 32).sum();
        assert_eq!(
            (tally.ended, tally.broken, tally.failed),
            (u64::try_from(count).unwrap(), 0, 0)
        );
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
    }
}
