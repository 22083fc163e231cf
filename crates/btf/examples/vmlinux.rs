//! What it costs to open the kernel's BTF, to index its names and to use both.
//!
//! ```text
//! cargo run --release -p bpfsmith-btf --example vmlinux
//! ```
//!
//! The bytes are read into memory first (a loader maps them); each figure is the least and the median
//! of 21 rounds, each on a fresh `Btf`.

use bpfsmith_btf::{Btf, Kind, Shape};
use std::hint::black_box;
use std::time::{Duration, Instant};

const PATH: &str = "/sys/kernel/btf/vmlinux";
const ROUNDS: usize = 21;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::read(PATH)?;
    let names = names(&Btf::parse(bytes.as_slice())?);
    let mut times: [(&str, Vec<Duration>); 7] = [
        ("open, one pass over all records", vec![]),
        ("name index", vec![]),
        ("1000 lookups, first time", vec![]),
        ("1000 lookups, again", vec![]),
        ("1000 lookups that miss", vec![]),
        ("tcp_congestion_ops, members and prototypes", vec![]),
        ("walk: all types, members and names", vec![]),
    ];
    let missing: Vec<String> = names.iter().map(|(name, _)| format!("{name}_")).collect();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let btf = Btf::parse(bytes.as_slice())?;
        times[0].1.push(start.elapsed());
        times[1].1.push(timed(|| btf.prepare()));
        for again in [2, 3] {
            times[again].1.push(timed(|| {
                let found = names
                    .iter()
                    .filter(|(name, kind)| btf.find(name, *kind).is_some());
                assert_eq!(found.count(), names.len());
            }));
        }
        times[4].1.push(timed(|| {
            let found = missing
                .iter()
                .filter(|name| btf.find(name, Kind::STRUCT).is_some());
            assert_eq!(found.count(), 0);
        }));
        times[5].1.push(timed(|| {
            black_box(congestion(&btf));
        }));
        times[6].1.push(timed(|| {
            black_box(walk(&btf));
        }));
    }
    let btf = Btf::parse(bytes.as_slice())?;
    let open = btf.extra_bytes();
    btf.prepare();
    println!("{} types in {} bytes", btf.len(), bytes.len());
    println!(
        "memory beside them: {open} bytes open, {} with names",
        btf.extra_bytes()
    );
    println!("walk: {:?} (members, bytes of names)", walk(&btf));
    for (what, mut times) in times {
        times.sort();
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let (least, median) = (micros(times[0]), micros(times[ROUNDS / 2]));
        println!("{what:45} {least:9.1} {median:9.1} us");
    }
    Ok(())
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// 500 structures, 300 functions, 200 type definitions, spread over the whole.
fn names(btf: &Btf<&[u8]>) -> Vec<(String, Kind)> {
    let mut names = Vec::new();
    for (kind, count) in [
        (Kind::STRUCT, 500),
        (Kind::FUNC, 300),
        (Kind::TYPEDEF, 200),
    ] {
        let all: Vec<_> = btf
            .types()
            .filter(|ty| ty.kind() == kind && !ty.name().is_empty())
            .collect();
        let step = (all.len() / count).max(1);
        let chosen = all.iter().step_by(step).take(count);
        names.extend(chosen.map(|ty| (ty.name().to_string(), kind)));
    }
    // Not in the order of the types.
    let mut state = 1_usize;
    for index in (1..names.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        names.swap(index, (state >> 33) % (index + 1));
    }
    names
}

fn congestion(btf: &Btf<&[u8]>) -> Option<u32> {
    let id = btf.find_struct("tcp_congestion_ops")?;
    let mut params = 0;
    for member in btf.get(id)?.members() {
        if let Ok(Some(proto)) = btf.prototype(member.ty) {
            params += proto.len();
        }
    }
    Some(params)
}

/// Every name, and the type of every member and parameter behind its qualifiers.
fn walk(btf: &Btf<&[u8]>) -> (usize, usize) {
    let (mut members, mut bytes) = (0, 0);
    for ty in btf.types() {
        bytes += ty.name().len();
        match ty.shape() {
            Shape::Struct(_, list) | Shape::Union(_, list) => {
                for member in list {
                    bytes += member.name.len();
                    members += 1;
                    black_box(btf.unqualified(member.ty).is_ok());
                }
            }
            Shape::Enum(_, list) => {
                for value in list {
                    bytes += value.name.len();
                    members += 1;
                }
            }
            Shape::FuncProto(_, list) => {
                for param in list {
                    bytes += param.name.len();
                    members += 1;
                    black_box(btf.unqualified(param.ty).is_ok());
                }
            }
            _ => {}
        }
    }
    (members, bytes)
}
