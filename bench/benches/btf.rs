//! The kernel's types, beside the peers: `cargo bench --bench btf`
//!
//! Each sample is a process of its own, so that nothing is warm that is not warm for a program that
//! has just started. What is done once more in the same process is told apart.

use bpfsmith_bench::arguments::number;
use bpfsmith_bench::btf::{OPS, PEERS, Query, Reader, Smith, Walk};
use bpfsmith_bench::{rounds, with_reader};
use bpfsmith_btf::Kind;
use std::env;
use std::fs;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the environment variable is called that makes a process a peer.
const PEER: &str = "BPFSMITH_BENCH_BTF";

/// What a process prints, in this order.
const COLUMNS: [&str; 13] = [
    "open, us",
    "open: extra peak memory, kB",
    "open: anonymous memory afterwards, kB",
    "1,000 lookups from cold, us",
    "open and lookups: extra peak memory, kB",
    "tcp_congestion_ops with its prototypes, the first time, us",
    "walk of all types, the first time, us",
    "the same process: tcp_congestion_ops again, us",
    "the same process: walk again, us",
    "the same process: lookup of a name that exists, ns",
    "the same process: lookup of a name that does not, ns",
    "the same process: open again, us",
    "the same process: 1,000 lookups from cold again, us",
];

fn main() {
    if let Ok(peer) = env::var(PEER) {
        let queries = read_queries();
        return with_reader!(peer.as_str(), as_peer(&queries));
    }
    let rounds = number("ROUNDS", 11);
    let only = env::var("PEERS").unwrap_or_default();
    let peers: Vec<_> = PEERS
        .into_iter()
        .filter(|peer| only.is_empty() || only.split(',').any(|wanted| wanted == *peer))
        .collect();
    let queries = choose();
    let truth = answers(&Smith::open(), &queries);
    let seen = truth.walk;
    println!(
        "{} types; {} members, enumerators and parameters; {} bytes of names",
        seen.types, seen.elements, seen.bytes
    );
    for peer in &peers {
        with_reader!(*peer, compare(peer, &queries, &truth));
    }
    let text: String = queries
        .iter()
        .map(|query| format!("{} {}\n", query.kind.0, query.name))
        .collect();
    let mut samples = vec![vec![Vec::new(); COLUMNS.len()]; peers.len()];
    // The first round warms up what processes share: the pages of the file.
    for round in 0..=rounds {
        for (peer, samples) in peers.iter().zip(&mut samples) {
            let sample = sample(peer, &text);
            if round > 0 {
                let figures = samples.iter_mut().zip(sample);
                figures.for_each(|(all, figure)| all.extend(figure));
            }
        }
    }
    for (at, column) in COLUMNS.iter().enumerate() {
        let rows = peers.iter().zip(&mut samples);
        let rows = rows.map(|(peer, samples)| (*peer, std::mem::take(&mut samples[at])));
        rounds::print(column, "libbpf", rows.collect());
    }
}

/// 500 structures, 300 functions and 200 type definitions, chosen at random, always the same ones
/// for the same kernel. Names that two types of a kind share are left out.
fn choose() -> Vec<Query> {
    let smith = Smith::open();
    let btf = smith.btf();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut queries = Vec::new();
    for (kind, count) in [
        (Kind::STRUCT, 500),
        (Kind::FUNC, 300),
        (Kind::TYPEDEF, 200),
    ] {
        let all: Vec<_> = btf.types().filter(|ty| ty.kind() == kind).collect();
        let end = queries.len() + count;
        while queries.len() < end {
            let ty = all[(next() % all.len() as u64) as usize];
            let name = ty.name().to_string();
            let same = btf.named(&name).filter(|other| other.kind() == kind);
            if !name.is_empty() && same.count() == 1 {
                queries.push(Query::new(&name, kind));
            }
        }
    }
    for at in (1..queries.len()).rev() {
        queries.swap(at, (next() % (at as u64 + 1)) as usize);
    }
    queries
}

/// What all peers have to agree on.
#[derive(Debug, PartialEq)]
struct Answers {
    ids: Vec<u32>,
    members: u64,
    walk: Walk,
}

fn answers<R: Reader>(reader: &R, queries: &[Query]) -> Answers {
    let ids = queries.iter().map(|query| reader.find(query)).collect();
    let ops = reader.find(&Query::new(OPS, Kind::STRUCT));
    Answers {
        ids,
        members: reader.members(ops),
        walk: reader.walk(),
    }
}

fn compare<R: Reader>(peer: &str, queries: &[Query], truth: &Answers) {
    let answers = answers(&R::open(), queries);
    assert!(answers.ids.iter().all(|id| *id != 0), "{peer} finds all");
    assert!(answers.ids == truth.ids, "{peer} finds others");
    if R::LISTS {
        assert_eq!(answers.members, truth.members, "{peer}");
        assert_eq!(answers.walk, truth.walk, "{peer}");
    }
    for query in absent(queries).iter().take(10) {
        assert_eq!(R::open().find(query), 0, "{peer}: {}", query.name);
    }
}

/// Names like the others, of nothing.
fn absent(queries: &[Query]) -> Vec<Query> {
    let absent = |query: &Query| Query::new(&format!("{}~", query.name), query.kind);
    queries.iter().map(absent).collect()
}

fn read_queries() -> Vec<Query> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .expect("there are queries");
    let query = |line: &str| {
        let (kind, name) = line.split_once(' ').expect("a kind and a name");
        Query::new(name, Kind(kind.parse().expect("a number")))
    };
    text.lines().map(query).collect()
}

/// Measures everything once, and prints it.
fn as_peer<R: Reader>(queries: &[Query]) {
    let absent = absent(queries);
    let ops = Query::new(OPS, Kind::STRUCT);
    let mut figures = Vec::new();
    let us = |time: Duration| Some(time.as_secs_f64() * 1e6);
    let each = |time: Duration| time.as_secs_f64() * 1e9;
    let lists = |figure: Option<f64>| figure.filter(|_| R::LISTS);

    memory();
    fs::write("/proc/self/clear_refs", "5").expect("the peak is reset");
    let (_, peak, anonymous) = memory();
    let (reader, time) = timed(R::open);
    let (_, peak_then, anonymous_then) = memory();
    figures.extend([
        us(time),
        Some(peak_then - peak),
        Some(anonymous_then - anonymous),
    ]);
    let find_all = |reader: &R, queries: &[Query]| {
        for query in queries {
            black_box(reader.find(query));
        }
    };
    let (_, time) = timed(|| find_all(&reader, queries));
    figures.extend([us(time), Some(memory().1 - peak)]);

    let ops = reader.find(&ops);
    let (_, time) = timed(|| reader.members(ops));
    figures.push(lists(us(time)));
    let (_, time) = timed(|| reader.walk());
    figures.push(lists(us(time)));

    let time = best(|| repeated(100, || reader.members(ops)));
    figures.push(lists(us(time / 100)));
    let time = best(|| timed(|| reader.walk()).1);
    figures.push(lists(us(time)));
    for queries in [queries, &absent] {
        // Where a lookup is a search through all types, a tenth of them will do.
        let few = if is_slow(|| reader.find(&queries[0])) {
            &queries[..100]
        } else {
            queries
        };
        let time = best(|| timed(|| find_all(&reader, few)).1);
        figures.push(Some(each(time) / few.len() as f64));
    }
    drop(reader);
    let (mut open, mut cold) = (Duration::MAX, Duration::MAX);
    let start = Instant::now();
    while start.elapsed() < BUDGET {
        let (reader, time) = timed(R::open);
        open = open.min(time);
        cold = cold.min(timed(|| find_all(&reader, queries)).1);
    }
    figures.extend([us(open), us(cold)]);
    for figure in figures {
        println!(
            "{}",
            figure.map_or(String::from("-"), |figure| figure.to_string())
        );
    }
}

/// How long something is repeated.
const BUDGET: Duration = Duration::from_millis(30);

/// Whether it takes more than ten microseconds.
fn is_slow<T>(work: impl Fn() -> T) -> bool {
    timed(work).1 > Duration::from_micros(10)
}

/// The shortest time of those that fit into the budget, of one at least.
fn best(mut work: impl FnMut() -> Duration) -> Duration {
    let start = Instant::now();
    let mut best = work();
    while start.elapsed() < BUDGET {
        best = best.min(work());
    }
    best
}

fn repeated<T>(times: u32, work: impl Fn() -> T) -> Duration {
    timed(|| (0..times).for_each(|_| drop(black_box(work())))).1
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = black_box(work());
    (result, start.elapsed())
}

/// Memory of this process in kB: now, at most since the peak was reset, and anonymous pages now.
fn memory() -> (f64, f64, f64) {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    };
    (field("VmRSS:"), field("VmHWM:"), field("RssAnon:"))
}

/// The figures of one process.
fn sample(peer: &str, queries: &str) -> Vec<Option<f64>> {
    let mut child = Command::new(env::current_exe().expect("it has a path"))
        .env(PEER, peer)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(queries.as_bytes()).expect("it reads them");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{peer} failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<_> = text.lines().map(|line| line.parse().ok()).collect();
    assert_eq!(figures.len(), COLUMNS.len(), "{peer}");
    figures
}
