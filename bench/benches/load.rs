//! The first load of a program in a process, beside the peers: `cargo bench --bench load`
//!
//! Needs root. What the kernel does is taken out: a tracer on the entry and exit of system calls,
//! written with the assembler that is measured, adds up the time that a process spends in bpf(2).

use bpfsmith_asm::dsl::*;
use bpfsmith_bench::arguments::number;
use bpfsmith_bench::first_load::{PEER, PEERS, as_peer};
use bpfsmith_maps::Map;
use bpfsmith_prog::target::RawTracepoint;
use bpfsmith_prog::{Link, Load, Maps};
use std::env;
use std::process::Command;

const CTX: Reg = R6;
const NUMBER_OF_BPF: i32 = 321;

static STARTED: MapDef<u64, u64> = MapDef::hash("started", 1024);
static SPENT: MapDef<u32, u64> = MapDef::hash("spent", 65_536);
static CALLS: MapDef<u32, u64> = MapDef::hash("calls", 65_536);

/// Remembers when a thread entered bpf(2).
fn enter() -> Code {
    let (thread, now) = (slot::<u64>("thread"), slot::<u64>("now"));
    code![
        load(R2, R1.u64(8)),
        R2.ne(NUMBER_OF_BPF).then(ret(0)),
        get_current_pid_tgid(),
        store(thread.u64(0), R0),
        ktime_get_ns(),
        store(now.u64(0), R0),
        map_update_elem(&STARTED, thread, now, 0),
        ret(0),
    ]
}

/// Adds the time since then to the process.
fn leave() -> Code {
    let (thread, process) = (slot::<u64>("thread"), slot::<u32>("process"));
    let value = slot::<u64>("value");
    let add_to = |map: &MapDef<u32, u64>| {
        code![
            map_lookup_elem(map, process),
            R0.ne(0)
                .then(code![
                    load(R1, R0.u64(0)),
                    add(R1, R7),
                    store(R0.u64(0), R1)
                ])
                .or_else(code![
                    store(value.u64(0), R7),
                    map_update_elem(map, process, value, 0),
                ]),
        ]
    };
    code![
        get_current_pid_tgid(),
        store(thread.u64(0), R0),
        rsh(R0, 32),
        store(process.u32(0), R0),
        map_lookup_elem(&STARTED, thread),
        R0.eq(0).then(ret(0)),
        load(CTX, R0.u64(0)),
        map_delete_elem(&STARTED, thread),
        ktime_get_ns(),
        mov(R7, R0),
        sub(R7, CTX),
        add_to(&SPENT),
        mov(R7, 1),
        add_to(&CALLS),
        ret(0),
    ]
}

fn attach(maps: &mut Maps, name: &str, code: Code) -> Link {
    let program = Program::new(ProgType::RAW_TRACEPOINT, name, code);
    let program = program.unwrap_or_else(|report| panic!("{report}"));
    maps.add(&program).expect("needs root");
    let prog = Load::new(&program).maps(maps).load();
    let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
    prog.attach(&RawTracepoint::named(name))
        .expect("it attaches")
}

fn main() {
    if let Ok(peer) = env::var(PEER) {
        println!("{}", as_peer(&peer).as_nanos());
        return;
    }
    let rounds = number("ROUNDS", 31);
    let mut maps = Maps::new();
    let _enter = attach(&mut maps, "sys_enter", enter());
    let _leave = attach(&mut maps, "sys_exit", leave());
    let spent: Map<u32, u64> = maps.open(&SPENT).expect("it was made");
    let calls: Map<u32, u64> = maps.open(&CALLS).expect("it was made");

    let mut samples = vec![Vec::new(); PEERS.len()];
    for _ in 0..rounds {
        for (peer, samples) in PEERS.iter().zip(&mut samples) {
            samples.push(sample(peer, &spent, &calls));
        }
    }
    println!("\nfirst load of 1,000 slots in a process, us (median of {rounds})");
    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>9} {:>6}",
        "", "user min", "user", "kernel", "wall", "calls"
    );
    for (peer, samples) in PEERS.iter().zip(&mut samples) {
        let middle = |pick: fn(&Sample) -> f64, samples: &mut Vec<Sample>| {
            samples.sort_by(|a, b| pick(a).total_cmp(&pick(b)));
            (pick(&samples[0]), pick(&samples[rounds / 2]))
        };
        let kernel = middle(|s| s.kernel, samples).1;
        let wall = middle(|s| s.wall, samples).1;
        let (least, user) = middle(|s| s.wall - s.kernel, samples);
        println!(
            "{peer:<34} {least:>9.1} {user:>9.1} {kernel:>9.1} {wall:>9.1} {:>6}",
            samples[0].calls
        );
    }
}

#[derive(Clone)]
struct Sample {
    wall: f64,
    kernel: f64,
    calls: u64,
}

/// One process that loads once.
fn sample(peer: &str, spent: &Map<u32, u64>, calls: &Map<u32, u64>) -> Sample {
    let this = env::current_exe().expect("it has a path");
    let child = Command::new(this)
        .env(PEER, peer)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let process = child.id();
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{peer} failed");
    let wall: f64 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .expect("it prints nanoseconds");
    let total = |map: &Map<u32, u64>| map.take(&process).expect("no error").unwrap_or(0);
    Sample {
        wall: wall / 1e3,
        kernel: total(spent) as f64 / 1e3,
        calls: total(calls),
    }
}
