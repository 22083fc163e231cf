//! Interleaved rounds: in each one every peer runs once, so that what else the machine does falls
//! on all of them.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// One thing to measure.
pub struct Peer<'a> {
    name: &'static str,
    /// Runs that many times and tells how long it took.
    run: Box<dyn FnMut(usize) -> Duration + 'a>,
}

impl<'a> Peer<'a> {
    /// `make` prepares what `work` consumes and is not timed; nor is dropping the result.
    pub fn with<I, O>(
        name: &'static str,
        mut make: impl FnMut() -> I + 'a,
        mut work: impl FnMut(I) -> O + 'a,
    ) -> Peer<'a> {
        Peer {
            name,
            run: Box::new(move |runs| {
                let mut time = Duration::ZERO;
                for _ in 0..runs {
                    let input = black_box(make());
                    let start = Instant::now();
                    let output = black_box(work(input));
                    time += start.elapsed();
                    drop(output);
                }
                time
            }),
        }
    }

    /// Everything is timed, dropping the result included.
    pub fn new<O>(name: &'static str, mut work: impl FnMut() -> O + 'a) -> Peer<'a> {
        Peer {
            name,
            run: Box::new(move |runs| {
                let start = Instant::now();
                for _ in 0..runs {
                    drop(black_box(work()));
                }
                start.elapsed()
            }),
        }
    }
}

/// Runs the peers in turn and prints a row for each. A sample is the mean of as many runs as it
/// takes to see `least` units, of which each run has `slots`. The ratios are to the peer named `to`.
pub fn measure(
    what: &str,
    (slots, unit): (usize, &str),
    rounds: usize,
    least: usize,
    to: &str,
    mut peers: Vec<Peer>,
) {
    let runs = least.div_ceil(slots);
    let mut samples = vec![Vec::with_capacity(rounds); peers.len()];
    // The first round warms up: caches, the allocator's heap, the branch predictor.
    for round in 0..=rounds {
        for (peer, samples) in peers.iter_mut().zip(&mut samples) {
            let time = (peer.run)(runs);
            if round > 0 {
                samples.push(time.as_secs_f64() * 1e9 / (runs * slots) as f64);
            }
        }
    }
    let peers: Vec<_> = peers.iter().map(|peer| peer.name).zip(samples).collect();
    print(
        &format!("{what}, {slots} {unit}s, ns per {unit}"),
        to,
        peers,
    );
}

/// The least, the middle and the greatest of some figures.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of these; nothing of none.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Spread {
            min: *sorted.first()?,
            median: sorted[sorted.len() / 2],
            max: *sorted.last()?,
        })
    }
}

/// Prints a row for each peer that has samples: minimum, median, maximum, and the ratios to the one
/// named `to`.
pub fn print(what: &str, to: &str, peers: Vec<(&str, Vec<f64>)>) {
    let spreads = peers.into_iter();
    let spreads = spreads.filter_map(|(name, samples)| Some((name, Spread::of(samples)?)));
    let peers: Vec<_> = spreads.collect();
    let reference = peers.iter().find(|(name, _)| *name == to).or(peers.first());
    let Some(&(_, unit)) = reference else { return };
    println!("\n{what}");
    println!(
        "{:<34} {:>8} {:>8} {:>8}   {:>9} {:>9}",
        "", "min", "median", "max", "min/peer", "med/peer"
    );
    for (name, Spread { min, median, max }) in &peers {
        println!(
            "{name:<34} {min:>8.2} {median:>8.2} {max:>8.2}   {:>9.2} {:>9.2}",
            min / unit.min,
            median / unit.median,
        );
    }
}
