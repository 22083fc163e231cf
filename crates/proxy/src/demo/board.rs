//! What is seen of targets and requests, and how it is drawn.

use super::stage::Line;
use super::visitor::Asked;
use super::world::{TREES, place};
use crate::show::{cell, list, number, share};
use crate::terminal::{Colour, Style};
use bpfsmith_config::Value;
use std::time::{Duration, Instant};

/// How a target stands, as the daemon says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: String,
    pub(super) weight: u64,
    pub(super) share: u64,
    /// What it gets of new connections, in percent.
    pub(super) part: u64,
    pub(super) open: u64,
}

/// What the daemon says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) pid: u64,
    pub(super) generation: u64,
    pub(super) devices: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) trees: [Standing; TREES.len()],
}

impl Sight {
    /// Of `GET /v1/status`.
    pub(super) fn of(status: &Value) -> Sight {
        let mut sight = Sight {
            pid: number(status, "pid"),
            generation: number(status, "generation"),
            ..Sight::default()
        };
        let devices = list(status, "devices").iter();
        sight.devices = devices.map(|it| cell(it, "programs")).collect();
        let notes = list(status, "notes").iter().map(|it| match &it.kind {
            bpfsmith_config::value::Kind::Text(text) => text.clone(),
            _ => bpfsmith_config::json::write(it),
        });
        sight.notes = notes.collect();
        let groups = list(status, "groups").iter();
        for group in groups.filter(|group| cell(group, "name") == "trees") {
            for target in list(group, "targets") {
                let address = cell(target, "address");
                let of = |tree: &usize| place(*tree).to_string() == address;
                let tree = (0..TREES.len()).find(of);
                if let Some(standing) = tree.and_then(|tree| sight.trees.get_mut(tree)) {
                    *standing = Standing {
                        state: cell(target, "state"),
                        weight: number(target, "weight"),
                        share: number(target, "share"),
                        part: share(group, target),
                        open: number(target, "connections"),
                    };
                }
            }
        }
        sight
    }

    pub(super) fn tree(&self, tree: usize) -> Standing {
        self.trees.get(tree).cloned().unwrap_or_default()
    }
}

/// What came of requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) by: [usize; TREES.len()],
    pub(super) failed: Vec<String>,
    times: Vec<Duration>,
}

impl Tally {
    pub(super) fn of<'a>(asked: impl IntoIterator<Item = &'a Asked>) -> Tally {
        let mut tally = Tally::default();
        for one in asked {
            match &one.by {
                Ok(tree) => {
                    if let Some(count) = tally.by.get_mut(*tree) {
                        *count += 1;
                    }
                    tally.times.push(one.took);
                }
                Err(why) => tally.failed.push(why.clone()),
            }
        }
        tally.times.sort();
        tally
    }

    /// Of requests that were begun after that moment.
    pub(super) fn since(asked: &[Asked], moment: Instant) -> Tally {
        Tally::of(asked.iter().filter(|one| one.begun > moment))
    }

    pub(super) fn answered(&self) -> usize {
        self.by.iter().sum()
    }

    pub(super) fn total(&self) -> usize {
        self.answered() + self.failed.len()
    }

    pub(super) fn tree(&self, tree: usize) -> usize {
        self.by.get(tree).copied().unwrap_or(0)
    }

    /// How many of a hundred a backend answered.
    pub(super) fn percent(&self, tree: usize) -> f64 {
        match self.answered() {
            0 => 0.0,
            all => self.tree(tree) as f64 * 100.0 / all as f64,
        }
    }

    /// The time within which so many of a hundred were answered.
    pub(super) fn within(&self, percent: usize) -> Duration {
        let rank = (self.times.len() * percent).div_ceil(100).saturating_sub(1);
        self.times.get(rank).copied().unwrap_or_default()
    }

    /// How long answers took.
    pub(super) fn latency(&self) -> String {
        format!(
            "median {}, p99 {}",
            time(self.within(50)),
            time(self.within(99))
        )
    }

    /// Why the first one failed.
    pub(super) fn why(&self) -> &str {
        self.failed.first().map_or("none failed", String::as_str)
    }
}

/// A time that people can read.
pub(super) fn time(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    match millis {
        0.0..10.0 => format!("{millis:.2} ms"),
        10.0..1000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1000.0),
    }
}

/// How many characters the longest bar has.
const BAR: usize = 16;

/// How targets stand, and what they have answered.
pub(super) fn table(sight: Option<&Sight>, tally: &Tally) -> Vec<Line> {
    let dim = Style::PLAIN.dim();
    let mut lines = vec![Line::default().styled(
        dim,
        "       target         state    weight  share  open  answered",
    )];
    let most = tally.by.iter().max().copied().unwrap_or(0).max(1);
    for (tree, name) in TREES.iter().enumerate() {
        let standing = sight.map(|sight| sight.tree(tree));
        let (state, rest) = match &standing {
            None => (
                "?".to_owned(),
                format!("{:>6}  {:>5}  {:>4}", "?", "?", "?"),
            ),
            Some(it) => (
                it.state.clone(),
                format!("{:>6}  {:>3} %  {:>4}", it.weight, it.part, it.open),
            ),
        };
        let count = tally.tree(tree);
        let bar = match count {
            0 => String::new(),
            count => "#".repeat((count * BAR).div_ceil(most).max(1)),
        };
        let colour = match state.as_str() {
            "up" => Colour::Green,
            "down" => Colour::Red,
            _ => Colour::Yellow,
        };
        let line = Line::default()
            .styled(Style::PLAIN.bold(), format!("  {name}  "))
            .text(format!("{:<14} ", place(tree).to_string()))
            .styled(Style::PLAIN.colour(colour), format!("{state:<8} "))
            .text(format!("{rest}  {count:>8}  "))
            .styled(Style::PLAIN.colour(Colour::Green), bar);
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_sorted_times() {
        let begun = Instant::now();
        let asked: Vec<Asked> = (1..=100)
            .rev()
            .map(|millis| Asked {
                begun,
                took: Duration::from_millis(millis),
                by: Ok(0),
            })
            .collect();
        let tally = Tally::of(&asked);
        assert_eq!(tally.within(50), Duration::from_millis(50));
        assert_eq!(tally.within(99), Duration::from_millis(99));
        assert_eq!(Tally::default().within(99), Duration::ZERO);
        assert_eq!(Tally::default().latency(), "median 0.00 ms, p99 0.00 ms");
    }

    #[test]
    fn a_table_is_no_wider_than_a_terminal() {
        let tally = Tally {
            by: [1000, 1, 0],
            ..Tally::default()
        };
        for line in table(Some(&Sight::default()), &tally) {
            assert!(line.plain().chars().count() < 80, "{line:?}");
        }
    }
}
