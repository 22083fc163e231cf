//! What is left after many connections: nothing. A binary of one test, because it counts descriptors.
#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

#[expect(unreachable_pub, reason = "shared by test programs")]
mod rig;

use bpfsmith_gate::{deadline, is_slow, needs, open_fds};
use bpfsmith_net::Chain;
use bpfsmith_splice::{Settings, Why};
use rig::{By, Ends, LIMIT, Random, Running, Stream, Talk, converse, sockets};
use std::net::{SocketAddr, TcpListener, TcpStream};

#[test]
fn ten_thousand_connections_leave_nothing() {
    needs!(Root, NetNs, Veth, Sockmap, RingBuf, Btf);
    let net = Chain::new().unwrap();
    let (count, at_once) = if is_slow() { (1000, 50) } else { (10_000, 200) };
    let server = SocketAddr::from((net.server.v4(), 7000));
    let listener = net
        .server
        .run(|| TcpListener::bind(server))
        .unwrap()
        .unwrap();
    let listen = SocketAddr::from((net.proxy.left.v4, 0));
    let running = Running::new(
        &net.proxy.node,
        listen,
        server,
        By::Kernel(Settings::default()),
    );
    let mut random = Random(99);
    let talks: Vec<Talk> = (0..count)
        .map(|index| Talk {
            up: Stream::new(index, random.below(2_000)),
            down: Stream::new(index + 1, random.below(10_000)),
            ends: if index % 5 == 0 {
                Ends::AtOnce
            } else {
                Ends::Last
            },
        })
        .collect();
    // The first ones, for what is opened once.
    let (first, talks) = talks.split_at(100);
    let to = running.address;
    net.client
        .run(|| {
            converse(&listener, first, at_once, || {
                TcpStream::connect(to).unwrap()
            })
        })
        .unwrap();
    running.idle();
    let (fds, memory) = (open_fds(), bpf_memory());
    // In waves, so that the ports of this many are free again.
    for wave in talks.chunks(2000) {
        let to = running.address;
        net.client
            .run(|| converse(&listener, wave, at_once, || TcpStream::connect(to).unwrap()))
            .unwrap();
    }
    let tally = running.idle();
    println!("{tally:#?}");
    assert_eq!((tally.ended, tally.broken, tally.failed), (count, 0, 0));
    assert_eq!(tally.spliced + tally.copied, count);
    // What ends its stream at once may have done so before the proxy could join it.
    assert!(
        tally.refused <= tally.copied && tally.copied <= count / 5,
        "{tally:?}"
    );
    // The proxy's sockets are gone but for those that wait for late packets; only listeners are left.
    let left = deadline(LIMIT, || {
        let left = net.proxy.run(sockets).unwrap();
        (left.in_use <= 1 && left.orphans == 0).then_some(left)
    });
    println!("{left:?}");
    assert_eq!(open_fds().opened_since(&fds).to_string(), "");
    println!(
        "kernel memory for BPF: {memory:?} before, {:?} after",
        bpf_memory()
    );
    let proxy = running.stop();
    assert_eq!(proxy.splicer().unwrap().entries().unwrap(), [0; 4]);
    drop(proxy);
    few_pairs(&net);
    copied(&net);
}

/// Without the kernel's help the same comes out.
fn copied(net: &Chain) {
    let server = SocketAddr::from((net.server.v4(), 7002));
    let listener = net
        .server
        .run(|| TcpListener::bind(server))
        .unwrap()
        .unwrap();
    let listen = SocketAddr::from((net.proxy.left.v4, 0));
    let running = Running::new(&net.proxy.node, listen, server, By::User);
    let talk = Talk {
        up: Stream::new(1, 3_000_000),
        down: Stream::new(2, 2_000_000),
        ends: Ends::Answered,
    };
    let to = running.address;
    net.client
        .run(|| converse(&listener, &[talk; 5], 5, || TcpStream::connect(to).unwrap()))
        .unwrap();
    let tally = running.idle();
    let copied = (tally.ended, tally.copied, tally.spliced, tally.bytes_copied);
    assert_eq!(copied, (5, 5, 0, 5 * 5_000_032));
}

/// More connections than the maps have room for: the rest is copied, and counted.
fn few_pairs(net: &Chain) {
    let server = SocketAddr::from((net.server.v6(), 7001));
    let listener = net
        .server
        .run(|| TcpListener::bind(server))
        .unwrap()
        .unwrap();
    let listen = SocketAddr::from((net.proxy.left.v6, 0));
    let few = Settings {
        pairs: 8,
        ..Settings::default()
    };
    let running = Running::new(&net.proxy.node, listen, server, By::Kernel(few));
    let talks: Vec<Talk> = (0..40)
        .map(|index| Talk {
            up: Stream::new(index, 200_000),
            down: Stream::new(index + 1, 300_000),
            ends: Ends::Last,
        })
        .collect();
    let to = running.address;
    net.client
        .run(|| converse(&listener, &talks, 40, || TcpStream::connect(to).unwrap()))
        .unwrap();
    let tally = running.idle();
    println!("{tally:#?}");
    assert_eq!(
        (tally.ended, tally.broken, tally.failed, tally.refused),
        (40, 0, 0, 0)
    );
    assert!(tally.full > 0 && tally.full == tally.copied, "{tally:?}");
    assert!(tally.spliced >= 8, "{tally:?}");
    assert_eq!(
        tally.bytes_spliced + tally.bytes_copied,
        40 * (500_000 + 32)
    );
    assert!(tally.bytes_copied >= tally.full * 500_000, "{tally:?}");
    let refusal = running.counters.last_refusal().unwrap();
    assert_eq!((refusal.why(), refusal.pairs), (Why::Full, 8));
    assert!(refusal.to_string().contains("Settings::pairs"), "{refusal}");
    let proxy = running.stop();
    assert_eq!(proxy.splicer().unwrap().entries().unwrap(), [0; 4]);
}

/// The kernel's own count of memory for programs and maps, where it tells.
fn bpf_memory() -> Option<String> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("Percpu:") || line.starts_with("SUnreclaim:"));
    line.map(str::to_owned)
}
