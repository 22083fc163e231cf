//! What a packet costs in the programs of `bpfsmith_datapath`, and in the same algorithm in C made by
//! clang: `cargo bench --bench datapath`, as root.
//!
//! Words choose rows and hooks: `-- Xdp established`. ROUNDS, REPEAT, CPU: how often, and where.

use bpfsmith_bench::arguments::{number, words};
use bpfsmith_bench::datapath::{
    Clang, Peer, Row, Timer, World, facts, flow_bytes, load_average, once, rows,
};
use bpfsmith_datapath::config::Protocol;
use bpfsmith_datapath::programs::Hook;
use bpfsmith_prog::Prog;
use std::time::{Duration, Instant};

/// Flows that tables have room for.
const FLOWS: u32 = 1 << 20;

fn main() {
    let words = words();
    let (rounds, repeat) = (number("ROUNDS", 7), number("REPEAT", 1_000_000));
    let cpu = number("CPU", 1);
    let clang = Clang::find();
    if clang.is_none() {
        println!("clang-19 is not on this machine: bpfsmith alone");
    }
    let world = World::new(number("ROOM", FLOWS));
    println!("load average {}", load_average());
    for v4 in [true, false] {
        let name = if v4 { "IPv4" } else { "IPv6" };
        println!(
            "{name}: {} bytes for a flow",
            flow_bytes(v4, world.shape().room)
        );
    }
    for hook in [Hook::Xdp, Hook::Tcx] {
        sizes(&world, clang.as_ref(), hook);
        println!(
            "\n{hook:?}, ns for a packet: median (least, most){:>28} rounds of {repeat}",
            rounds
        );
        for row in rows(&world) {
            let name = format!("{hook:?} {}", row.name);
            if words.iter().all(|word| name.contains(word)) {
                measure(&world, clang.as_ref(), hook, &row, (rounds, repeat, cpu));
            }
        }
    }
    println!("load average {}", load_average());
}

fn peers(clang: Option<&Clang>) -> impl Iterator<Item = Peer> {
    let is_here = clang.is_some();
    Peer::ALL
        .into_iter()
        .filter(move |peer| is_here || *peer == Peer::Smith)
}

fn load(world: &World, clang: Option<&Clang>, peer: Peer, hook: Hook, row: &Row) -> Prog {
    match (peer, clang) {
        (Peer::C(cpu), Some(clang)) => clang.load(world, cpu, hook, row),
        _ => world.load(hook, row),
    }
}

/// What programs are, and how long the kernel takes to accept them.
fn sizes(world: &World, clang: Option<&Clang>, hook: Hook) {
    println!(
        "\n{:<12} {:>8} {:>8} {:>10} {:>12}",
        format!("{hook:?}"),
        "insns",
        "jited",
        "verified",
        "load, ms"
    );
    for peer in peers(clang) {
        let row = Row::plain();
        let mut least = Duration::MAX;
        let mut about = None;
        for _ in 0..3 {
            let begun = Instant::now();
            let prog = load(world, clang, peer, hook, &row);
            // clang's own time is not the kernel's: only ours is told.
            least = least.min(begun.elapsed());
            about = Some(facts(&prog));
        }
        let about = about.expect("a program");
        let took = match peer {
            Peer::Smith => format!("{:.1}", least.as_secs_f64() * 1e3),
            Peer::C(_) => String::from("-"),
        };
        println!(
            "{:<12} {:>8} {:>8} {:>10} {:>12}",
            peer.name(),
            about.insns,
            about.jited,
            about.verified,
            took
        );
    }
}

fn measure(
    world: &World,
    clang: Option<&Clang>,
    hook: Hook,
    row: &Row,
    (rounds, repeat, cpu): (u32, u32, usize),
) {
    let peers: Vec<Peer> = peers(clang).collect();
    let progs: Vec<Prog> = peers
        .iter()
        .map(|peer| load(world, clang, *peer, hook, row))
        .collect();
    let known = world.known(Protocol::Tcp);
    if row.clients > 1 {
        world.populate(Protocol::Tcp, &known, row.clients);
    }
    let outputs: Vec<_> = progs
        .iter()
        .map(|prog| once(world, prog, hook, row))
        .collect();
    if row.is_exact {
        let same = outputs.iter().all(|output| *output == outputs[0]);
        assert!(same, "{}: {outputs:02x?}", row.name);
    }
    let mut samples = vec![Vec::new(); progs.len()];
    world.run(|| {
        let timer = Timer::here(cpu, repeat);
        // The first round warms up.
        for round in 0..=rounds {
            for (prog, samples) in progs.iter().zip(&mut samples) {
                if row.opened.is_some() {
                    world.put(Protocol::Tcp, &known);
                }
                let nanos = timer.time(prog, hook, row);
                if round > 0 {
                    samples.push(nanos);
                }
            }
        }
    });
    world.put(Protocol::Tcp, &known);
    for samples in &mut samples {
        samples.sort_by(f64::total_cmp);
    }
    let median = |samples: &[f64]| samples[samples.len() / 2];
    let mut line = format!("{:<40}", row.name);
    for (peer, samples) in peers.iter().zip(&samples) {
        let (least, most) = (samples[0], samples[samples.len() - 1]);
        let text = format!(
            "{} {:.1} ({least:.1}, {most:.1})",
            peer.name(),
            median(samples)
        );
        line.push_str(&format!("{text:<34}"));
    }
    let best = samples[1..].iter().map(|samples| median(samples));
    if let Some(best) = best.reduce(f64::min) {
        line.push_str(&format!("x{:.2}", median(&samples[0]) / best));
    }
    println!("{line}");
}
