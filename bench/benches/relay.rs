//! Proxies between a client and a server: `cargo bench --bench relay`, as root.
//!
//! Client, proxy and server are namespaces with cables between them. Proxies are processes of their own, which
//! all run at the same time, or rules and programs in the kernel, which are there only while they are used. Each
//! round uses one after the other. Words choose workloads: `-- requests '1 client;'`.

use bpfsmith_bench::arguments::{number, words};
use bpfsmith_bench::relay::{
    Cables, Figures, Idle, PEERS, Peer, Row, Running, Stage, Suite, WORK, Work, play, print,
    processors,
};
use bpfsmith_bench::rounds::Spread;
use std::io::Write as _;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// How long each peer works in each round.
const SAMPLE: Duration = Duration::from_millis(400);

/// A round before the first one, in which caches and tables fill.
const WARM_UP: Duration = Duration::from_millis(100);

/// A peer that failed so many times at something is not asked to do it again.
const FAILURES: usize = 2;

fn main() {
    if play() {
        return;
    }
    let wanted = Wanted::of_environment();
    let load = || fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average before: {}", load().trim());
    let stages = Cables::ALL
        .into_iter()
        .filter(|cables| wanted.peers.iter().any(|peer| peer.cables == *cables));
    let stages: Vec<(Cables, Stage)> = stages.map(|it| (it, Stage::new(it))).collect();
    let stage = |peer: &Peer| {
        let found = stages.iter().find(|(cables, _)| *cables == peer.cables);
        &found.expect("cables of all peers").1
    };
    let mut running = Vec::new();
    for peer in &wanted.peers {
        match peer.start(stage(peer)) {
            Ok(it) => running.push((it, stage(peer))),
            Err(why) => println!("{} is left out: {why}", peer.name),
        }
    }
    for (at, work) in wanted.work.iter().enumerate() {
        eprint!("{} of {}: {work} ", at + 1, wanted.work.len());
        stages.iter().for_each(|(_, stage)| stage.prepare(work));
        let peers = running.iter().filter(|(it, _)| it.peer.can(work));
        let peers: Vec<_> = peers.map(|(it, stage)| (it, *stage)).collect();
        peers.iter().for_each(|(it, _)| it.prepare(work));
        let (rows, others) = measure(work, &wanted, &peers);
        eprintln!();
        print(work, &rows);
        if let Some(Spread { median, max, .. }) = Spread::of(others) {
            println!(
                "other work on the processors: {median:.0} % of their time, at most {max:.0} %"
            );
        }
    }
    println!("\nload average after: {}", load().trim());
}

/// What to measure.
struct Wanted {
    peers: Vec<&'static Peer>,
    work: Vec<&'static Work>,
    rounds: usize,
    /// When it has to be over.
    end: Instant,
}

impl Wanted {
    fn of_environment() -> Wanted {
        let suite = env::var("SUITE").unwrap_or_else(|_| String::from("packets"));
        let suite = Suite::named(&suite).expect("SUITE is packets or sockets");
        let names = env::var("PEERS").unwrap_or_default();
        let is_named = |peer: &&Peer| match names.as_str() {
            "" => peer.suites.contains(&suite),
            names => names.split(',').any(|name| name == peer.name),
        };
        let words = words();
        let is_chosen = |work: &&Work| {
            let text = work.to_string();
            work.suites.contains(&suite) && words.iter().all(|word| text.contains(word))
        };
        let minutes: u64 = number("MINUTES", 9);
        Wanted {
            peers: PEERS.iter().filter(is_named).collect(),
            work: WORK.iter().filter(is_chosen).collect(),
            rounds: number("ROUNDS", 7),
            end: Instant::now() + Duration::from_secs(60 * minutes),
        }
    }
}

/// Interleaved rounds of all peers; and what the processors do while nobody works here, in percent.
fn measure(work: &Work, wanted: &Wanted, peers: &[(&Running, &Stage)]) -> (Vec<Row>, Vec<f64>) {
    let mut others = Vec::new();
    let mut rows: Vec<Row> = peers.iter().map(|(it, _)| Row::new(it.peer.name)).collect();
    for round in 0..=wanted.rounds {
        let lasting = if round == 0 { WARM_UP } else { SAMPLE };
        let mut figures = vec![None; peers.len()];
        // Who comes first differs from round to round.
        for at in (0..peers.len()).map(|at| (at + round) % peers.len()) {
            let ((running, stage), row) = (peers[at], &mut rows[at]);
            if row.failures >= FAILURES || Instant::now() > wanted.end {
                continue;
            }
            match sample(work, lasting, running, stage) {
                Ok(it) => figures[at] = Some(it),
                Err(why) => row.fail(why),
            }
        }
        if round > 0 {
            let pairs = rows.iter_mut().zip(figures);
            pairs.for_each(|(row, figures)| row.rounds.push(figures));
        }
        let idle = Idle::now();
        thread::sleep(WARM_UP);
        others.push(idle.work_since() * 1e2 / (WARM_UP.as_secs_f64() * processors()));
        eprint!(".");
        // Whoever waits sees that it goes on; nothing depends on it.
        let _ = std::io::stderr().flush();
    }
    (rows, others)
}

fn sample(
    work: &Work,
    lasting: Duration,
    running: &Running,
    stage: &Stage,
) -> Result<Figures, String> {
    let run = || stage.net.client.run(|| work.run(running.to, lasting));
    let load = running.during(stage, run)?.expect("a namespace");
    let load = load.map_err(|error| error.to_string())?;
    Ok(Figures::of(work, &load))
}
