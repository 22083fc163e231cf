//! A TCP proxy whose sockets a program in the kernel joins, beside proxies that carry the bytes
//! themselves: `cargo bench --bench relay`, as root.
//!
//! Client, proxy and server are namespaces with cables between them. Each proxy is a process of its
//! own, all of them run at the same time, and each round uses one after the other. Words choose
//! workloads: `-- fro '1 connection'`.

use bpfsmith_bench::relay::{Kind, Machine, Running, Shape, Workload, answer, be_a_proxy};
use bpfsmith_bench::rounds;
use bpfsmith_net::Chain;
use std::env;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::thread;

const KB: usize = 1 << 10;
const MB: usize = 1 << 20;

/// Messages of all sizes to and fro, a single client and many, and streams.
const WORK: [Workload; 8] = [
    ping_pong(KB, 1, 4_000),
    ping_pong(16 * KB, 1, 2_000),
    ping_pong(64 * KB, 1, 1_000),
    ping_pong(MB, 1, 100),
    ping_pong(KB, 32, 400),
    ping_pong(64 * KB, 32, 60),
    stream(64 * KB, 1, 8_000),
    stream(64 * KB, 8, 1_000),
];

const fn ping_pong(size: usize, connections: usize, messages: usize) -> Workload {
    Workload {
        shape: Shape::PingPong,
        size,
        connections,
        messages,
    }
}

const fn stream(size: usize, connections: usize, messages: usize) -> Workload {
    Workload {
        shape: Shape::Stream,
        size,
        connections,
        messages,
    }
}

/// What is printed of each workload.
const COLUMNS: [&str; 3] = [
    "MB per second, both directions together",
    "seconds of all processors per GB: client, server and kernel included",
    "seconds of the proxy's process per GB",
];

struct Peer {
    kind: Kind,
    to: SocketAddr,
    running: Running,
}

fn main() {
    if be_a_proxy() {
        return;
    }
    let rounds = env::var("ROUNDS").map_or(7, |n| n.parse().expect("ROUNDS is a number"));
    let only = env::var("PEERS").unwrap_or_default();
    let net = Chain::new().expect("root, and a kernel with namespaces and veth");
    let server = SocketAddr::from((net.server.v4(), 7000));
    let listener = net.server.run(|| TcpListener::bind(server));
    let listener = listener.expect("a namespace").expect("a free port");
    thread::spawn(move || answer(&listener));
    let wanted = |kind: &Kind| only.is_empty() || only.split(',').any(|name| name == kind.name());
    let mut peers = Vec::new();
    for (kind, port) in Kind::ALL.into_iter().filter(wanted).zip(7001..) {
        if !kind.is_here() {
            println!("{} is not on this machine: left out", kind.name());
            continue;
        }
        let to = match kind {
            Kind::Direct => server,
            _ => SocketAddr::from((net.proxy.left.v4, port)),
        };
        let started = net.proxy.run(|| kind.start(to, server));
        let running = started.expect("a namespace");
        peers.push(Peer { kind, to, running });
    }
    let words: Vec<String> = env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let chosen = |work: &Workload| words.iter().all(|word| work.to_string().contains(word));
    for work in WORK.into_iter().filter(chosen) {
        measure(&net, &work, rounds, &peers);
    }
}

fn measure(net: &Chain, work: &Workload, rounds: usize, peers: &[Peer]) {
    let mut samples = vec![vec![Vec::new(); COLUMNS.len()]; peers.len()];
    // The first round warms up.
    for round in 0..=rounds {
        for (peer, samples) in peers.iter().zip(&mut samples) {
            let sample = sample(net, work, peer);
            if round > 0 {
                let figures = samples.iter_mut().zip(sample);
                figures.for_each(|(all, figure)| all.push(figure));
            }
        }
        eprint!(".");
        // Whoever waits sees that it goes on; nothing depends on it.
        let _ = std::io::stderr().flush();
    }
    eprintln!();
    for (at, column) in COLUMNS.iter().enumerate() {
        let rows = peers.iter().zip(&mut samples);
        let rows = rows.map(|(peer, samples)| (peer.kind.name(), std::mem::take(&mut samples[at])));
        rounds::print(&format!("{work}: {column}"), "copy", rows.collect());
    }
}

fn sample(net: &Chain, work: &Workload, peer: &Peer) -> [f64; COLUMNS.len()] {
    let (usage, machine) = (peer.running.usage(), Machine::now());
    let load = net.client.run(|| work.run(peer.to)).expect("a namespace");
    let (usage, machine) = (peer.running.usage() - usage, Machine::now() - machine);
    let gigabytes = load.bytes as f64 / 1e9;
    [
        gigabytes * 1e3 / load.took.as_secs_f64(),
        machine / gigabytes,
        usage / gigabytes,
    ]
}
