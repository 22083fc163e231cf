//! What rounds came to, as tables.

use super::client::Load;
use super::peers::ROUTING;
use super::work::Work;
use crate::rounds::Spread;

/// What a peer came to in each round.
#[derive(Debug)]
pub struct Row {
    /// What it is called.
    pub name: &'static str,
    /// A figure of each kind; none where it failed.
    pub rounds: Vec<Option<Figures>>,
    /// How many times it failed, those included that count in no round.
    pub failures: usize,
    why: Option<String>,
}

/// What one round of a peer came to.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    rate: f64,
    /// Of the processors.
    cost: f64,
    middle: Option<f64>,
    late: Option<f64>,
    slow: usize,
    lost: usize,
}

impl Figures {
    /// Those of a load.
    #[must_use]
    pub fn of(work: &Work, load: &Load) -> Figures {
        let unit = work.shape.unit();
        Figures {
            rate: load.rate / unit.per,
            cost: load.work * 1e3 * unit.per / load.units,
            middle: load.quantile(0.5),
            late: load.quantile(0.99),
            slow: load.slow(),
            lost: load.lost,
        }
    }
}

/// Prints a line for each peer. Ratios are medians of what each round says.
pub fn print(work: &Work, rows: &[Row]) {
    let unit = work.shape.unit();
    println!("\n{work}");
    println!(
        "{:<16} {:>11} {:>8} {:>8} {:>8}   {:>8} {:>8}   {:>8} {:>8}",
        "", unit.rate, "least", "most", "ratio", "p50 µs", "p99 µs", unit.cpu, "ratio"
    );
    let routing = rows.iter().find(|row| row.name == ROUTING);
    for row in rows {
        let Some(rate) = row.spread(|it| Some(it.rate)) else {
            let why = row.why.as_deref().unwrap_or("there was no time for it");
            println!("{:<16} {why}", row.name);
            continue;
        };
        println!(
            "{:<16} {:>11.2} {:>8.2} {:>8.2} {:>8}   {:>8} {:>8}   {:>8} {:>8}{}",
            row.name,
            rate.median,
            rate.min,
            rate.max,
            text(row.ratio(routing, |it| it.rate), 2),
            text(row.median(|it| it.middle), 1),
            text(row.median(|it| it.late), 1),
            text(row.median(|it| Some(it.cost)), 2),
            text(row.ratio(routing, |it| it.cost), 2),
            row.remark(),
        );
    }
}

impl Row {
    /// Nothing yet.
    #[must_use]
    pub const fn new(name: &'static str) -> Row {
        Row {
            name,
            rounds: Vec::new(),
            failures: 0,
            why: None,
        }
    }

    /// It failed.
    pub fn fail(&mut self, why: String) {
        self.failures += 1;
        self.why = Some(why);
    }

    fn spread(&self, figure: impl Fn(&Figures) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.rounds.iter().flatten().filter_map(figure))
    }

    fn median(&self, figure: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        Some(self.spread(figure)?.median)
    }

    fn ratio(&self, to: Option<&Row>, figure: impl Fn(&Figures) -> f64) -> Option<f64> {
        let pairs = self.rounds.iter().zip(&to?.rounds);
        let ratios = pairs.filter_map(|pair| match pair {
            (Some(ours), Some(theirs)) => Some(figure(ours) / figure(theirs)),
            _ => None,
        });
        Some(Spread::of(ratios)?.median)
    }

    fn remark(&self) -> String {
        let mut text = String::new();
        if let Some(why) = &self.why {
            text.push_str(&format!("   failed {} times: {why}", self.failures));
        }
        let sum = |count: fn(&Figures) -> usize| self.rounds.iter().flatten().map(count).sum();
        let counts: [(usize, &str); 2] = [
            (sum(|it| it.slow), "slow"),
            (sum(|it| it.lost), "lost"),
        ];
        for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
            text.push_str(&format!("   {count} {what}"));
        }
        text
    }
}

fn text(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| String::from("-"), |it| format!("{it:.digits$}"))
}
