//! What the two sides of the virtual machine agree on: where things lie in the initramfs, and the
//! lines by which the first process reports.

use std::fmt;

/// The modules, in the order of their names.
pub const MODULES: &str = "/modules";
/// The tests: `package/name`.
pub const TESTS: &str = "/tests";
/// The plan, as [`Plan::to_text`] writes it.
pub const PLAN: &str = "/plan";

/// What the first process is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// A word that no test can know, at the head of each report.
    pub word: String,
    /// The tests below [`TESTS`].
    pub tests: Vec<String>,
    /// The arguments of each.
    pub arguments: Vec<String>,
}

impl Plan {
    /// One line for each thing.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("word {}\n", self.word);
        for test in &self.tests {
            text.push_str(&format!("test {test}\n"));
        }
        for argument in &self.arguments {
            text.push_str(&format!("argument {argument}\n"));
        }
        text
    }

    /// Reads what [`Plan::to_text`] wrote; other lines are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Plan {
        let mut plan = Plan::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("word", word)) => word.clone_into(&mut plan.word),
                Some(("test", test)) => plan.tests.push(test.to_owned()),
                Some(("argument", argument)) => plan.arguments.push(argument.to_owned()),
                _ => {}
            }
        }
        plan
    }
}

/// How a test binary ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It could not be started, for this errno.
    Refused(i32),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Code(code) => write!(f, "code {code}"),
            End::Signal(signal) => write!(f, "signal {signal}"),
            End::Refused(errno) => write!(f, "errno {errno}"),
        }
    }
}

/// A line by which the first process reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The machine is up, after so many milliseconds by its own clock.
    Up(u64),
    /// A test binary starts.
    Start(String),
    /// The latest test binary ended.
    Done(End),
    /// All have run.
    End,
}

impl Report {
    /// The line, without its end.
    #[must_use]
    pub fn to_line(&self, word: &str) -> String {
        match self {
            Report::Up(milliseconds) => format!("@{word}@ up {milliseconds}"),
            Report::Start(test) => format!("@{word}@ start {test}"),
            Report::Done(end) => format!("@{word}@ done {end}"),
            Report::End => format!("@{word}@ end"),
        }
    }

    /// Finds a report in a line of the console, perhaps behind something else.
    #[must_use]
    pub fn parse(word: &str, line: &str) -> Option<Report> {
        let (_, report) = line.split_once(&format!("@{word}@ "))?;
        let mut words = report.split_whitespace();
        let report = match (words.next()?, words.next(), words.next()) {
            ("up", Some(milliseconds), None) => Report::Up(milliseconds.parse().ok()?),
            ("start", Some(test), None) => Report::Start(test.to_owned()),
            ("done", Some("code"), Some(code)) => Report::Done(End::Code(code.parse().ok()?)),
            ("done", Some("signal"), Some(s)) => Report::Done(End::Signal(s.parse().ok()?)),
            ("done", Some("errno"), Some(errno)) => Report::Done(End::Refused(errno.parse().ok()?)),
            ("end", None, None) => Report::End,
            _ => return None,
        };
        words.next().is_none().then_some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_comes_back() {
        let plan = Plan {
            word: "f00".to_owned(),
            tests: vec![
                "a/kernel".to_owned(),
                "b/kernel_links".to_owned(),
            ],
            arguments: vec![
                "--exact".to_owned(),
                "a name".to_owned(),
            ],
        };
        assert_eq!(Plan::parse(&plan.to_text()), plan);
    }

    #[test]
    fn a_report_comes_back_also_behind_other_text() {
        for report in [
            Report::Up(2345),
            Report::Start("a/kernel".to_owned()),
            Report::Done(End::Code(101)),
            Report::Done(End::Signal(11)),
            Report::Done(End::Refused(8)),
            Report::End,
        ] {
            let line = format!("no end of line{}\r", report.to_line("f00"));
            assert_eq!(Report::parse("f00", &line), Some(report));
        }
    }

    #[test]
    fn what_is_no_report_is_output() {
        for line in [
            "",
            "@bar@ end",
            "@f00@ ",
            "@f00@ end of it",
            "@f00@ done",
            "@f00@ done code x",
            "@f00@ done code 0 and more",
            "@f00@ up -1",
            "f00 end",
        ] {
            assert_eq!(Report::parse("f00", line), None, "{line}");
        }
    }
}
