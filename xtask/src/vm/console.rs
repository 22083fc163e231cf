//! What the machine writes: reports, skips, and output to pass on.

use crate::plan::{End, Report};
use std::time::Duration;

/// How one test binary went.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) test: String,
    /// Missing if the machine stopped while it ran.
    pub(super) end: Option<End>,
    /// How many tests it said that it has.
    pub(super) count: Option<u32>,
    /// How many of them were skipped.
    pub(super) skips: u32,
    start: Duration,
    /// How long it ran, by our clock.
    pub(super) took: Duration,
}

/// Reads the console line by line.
#[derive(Debug)]
pub(super) struct Console {
    word: String,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) skips: Vec<String>,
    /// When the first process ran: by our clock and by the machine's.
    pub(super) up: Option<(Duration, Duration)>,
    /// All tests were run.
    pub(super) ended: bool,
}

impl Console {
    pub(super) fn new(word: &str) -> Console {
        Console {
            word: word.to_owned(),
            outcomes: Vec::new(),
            skips: Vec::new(),
            up: None,
            ended: false,
        }
    }

    /// Takes a line that came so long after the start, and returns what is to be shown.
    pub(super) fn line(&mut self, line: &str, after: Duration) -> Option<String> {
        let line = line.trim_end_matches(['\r', '\n']);
        match Report::parse(&self.word, line) {
            Some(report) => self.report(report, after),
            None => {
                self.output(line);
                (!line.trim().is_empty()).then(|| line.to_owned())
            }
        }
    }

    fn output(&mut self, line: &str) {
        let Some(outcome) = self.outcomes.last_mut() else {
            return;
        };
        if let Some(at) = line.find("SKIP ") {
            outcome.skips += 1;
            self.skips.push(line[at..].to_owned());
        }
        // Tests that run tests say it too, but later.
        if outcome.count.is_none() {
            outcome.count = announced(line);
        }
    }

    fn report(&mut self, report: Report, after: Duration) -> Option<String> {
        match report {
            Report::Up(milliseconds) => {
                self.up = Some((after, Duration::from_millis(milliseconds)));
                None
            }
            Report::Start(test) => {
                let shown = format!("-- {test}");
                self.outcomes.push(Outcome {
                    test,
                    end: None,
                    count: None,
                    skips: 0,
                    start: after,
                    took: Duration::ZERO,
                });
                Some(shown)
            }
            Report::Done(end) => {
                let outcome = self.outcomes.last_mut()?;
                outcome.end = Some(end);
                outcome.took = after.saturating_sub(outcome.start);
                let bad = end != End::Code(0);
                bad.then(|| format!("-- {} ended with {end}", outcome.test))
            }
            Report::End => {
                self.ended = true;
                None
            }
        }
    }

    /// True if each of the tests was run and passed.
    pub(super) fn passed(&self, tests: &[String]) -> bool {
        let done = self.outcomes.iter().map(|outcome| &outcome.test);
        let good = |outcome: &Outcome| outcome.end == Some(End::Code(0));
        self.ended && done.eq(tests) && self.outcomes.iter().all(good)
    }
}

/// `running 3 tests`
fn announced(line: &str) -> Option<u32> {
    let rest = line.strip_prefix("running ")?;
    let count = rest
        .strip_suffix(" tests")
        .or_else(|| rest.strip_suffix(" test"))?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(lines: &[&str]) -> (Console, Vec<String>) {
        let mut console = Console::new("w");
        let time = Duration::from_secs(1);
        let shown = lines
            .iter()
            .filter_map(|line| console.line(line, time))
            .collect();
        (console, shown)
    }

    fn tests() -> Vec<String> {
        vec!["p/one".to_owned(), "p/two".to_owned()]
    }

    #[test]
    fn all_done_and_ended_is_passed() {
        let (console, shown) = console(&[
            "@w@ up 2000\r\n",
            "@w@ start p/one\r\n",
            "running 2 tests\r\n",
            "running 1 test\r\n",
            "test x ... SKIP x: Tcx: too old\r\n",
            "ok\r\n",
            "\r\n",
            "@w@ done code 0\r\n",
            "@w@ start p/two\r\n",
            "@w@ done code 0\r\n",
            "@w@ end\r\n",
        ]);
        assert!(console.passed(&tests()));
        assert_eq!(console.skips, ["SKIP x: Tcx: too old"]);
        let counted = |outcome: &Outcome| (outcome.count, outcome.skips);
        let counted: Vec<_> = console.outcomes.iter().map(counted).collect();
        assert_eq!(counted, [(Some(2), 1), (None, 0)]);
        let up = (Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(console.up, Some(up));
        assert_eq!(
            shown,
            [
                "-- p/one",
                "running 2 tests",
                "running 1 test",
                "test x ... SKIP x: Tcx: too old",
                "ok",
                "-- p/two",
            ]
        );
    }

    #[test]
    fn anything_less_is_failed() {
        let whole = [
            "@w@ start p/one",
            "@w@ done code 0",
            "@w@ start p/two",
            "@w@ done code 0",
            "@w@ end",
        ];
        assert!(console(&whole).0.passed(&tests()));
        for end in 0..whole.len() {
            assert!(!console(&whole[..end]).0.passed(&tests()), "{end}");
        }
        for done in ["code 101", "signal 11", "errno 8"] {
            let mut lines = whole.map(str::to_owned);
            lines[3] = format!("@w@ done {done}");
            let lines = lines.each_ref().map(String::as_str);
            let (console, shown) = console(&lines);
            assert!(!console.passed(&tests()), "{done}");
            assert_eq!(shown[2], format!("-- p/two ended with {done}"));
        }
        assert!(!console(&whole).0.passed(&tests()[..1]));
    }

    #[test]
    fn a_test_cannot_report_for_us() {
        let (console, shown) = console(&["@x@ end", "@w@end"]);
        assert!(!console.ended);
        assert_eq!(shown, ["@x@ end", "@w@end"]);
    }
}
