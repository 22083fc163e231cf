//! `probe`: what the running kernel can do.

use crate::args::Form;
use crate::json::Json;
use crate::visible;
use bpfsmith_prog::probe::{Group, Progress, Report, Row, Support};
use std::io::Write;

/// Who looks at standard error while a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher {
    /// A person at a terminal: what is going on is shown.
    Terminal,
    /// Nobody, or a file: only messages are written.
    Nobody,
}

/// Asks, and gives what is printed.
pub(crate) fn probe(
    groups: &[Group],
    form: Form,
    watcher: Watcher,
    stderr: &mut dyn Write,
) -> String {
    let report = Report::ask(groups, |progress| {
        if watcher == Watcher::Terminal {
            // Over the line before, which is cleared.
            let _nowhere_to_tell = write!(stderr, "\r\u{1b}[K{}", step(progress));
            let _nowhere_to_tell = stderr.flush();
        }
    });
    if watcher == Watcher::Terminal {
        let _nowhere_to_tell = write!(stderr, "\r\u{1b}[K");
    }
    match form {
        // Reasons are the kernel's words, a line each.
        Form::Text => report
            .to_string()
            .lines()
            .map(|line| visible(line) + "\n")
            .collect(),
        Form::Json => format!("{}\n", json(&report)),
    }
}

fn step(progress: Progress) -> String {
    let title = progress.group.title();
    match progress.within.and_then(|kind| kind.name()) {
        Some(kind) => format!("asking for {title} in {}…", kind.to_ascii_lowercase()),
        None => format!("asking for {title}…"),
    }
}

/// A report for programs.
#[must_use]
pub fn json(report: &Report) -> Json {
    let rows = report.rows.iter().map(row).collect();
    Json::Object(vec![("rows", Json::List(rows))])
}

fn row(row: &Row) -> Json {
    let (support, reason) = match &row.support {
        Support::Yes => ("yes", None),
        Support::No(reason) => ("no", Some(reason.clone())),
        Support::Unknown(errno) => ("unknown", Some(errno.to_string())),
    };
    let kind = row.within.and_then(|kind| kind.name());
    Json::Object(vec![
        ("group", row.group.name().into()),
        ("name", row.name.as_str().into()),
        ("type", kind.map(str::to_ascii_lowercase).into()),
        ("support", support.into()),
        ("reason", reason.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfsmith_uapi::{Errno, ProgType};

    #[test]
    fn a_report_is_rows() {
        let row = |name: &str, within, support| Row {
            group: Group::Helpers,
            name: name.to_owned(),
            within,
            support,
        };
        let report = Report {
            rows: vec![
                row("a", Some(ProgType::XDP), Support::Yes),
                row("b", None, Support::No("no \"b\"".to_owned())),
                row("c", None, Support::Unknown(Errno::EPERM)),
            ],
        };
        let expected = "{\"rows\":[\
            {\"group\":\"helper\",\"name\":\"a\",\"type\":\"xdp\",\"support\":\"yes\",\"reason\":null},\
            {\"group\":\"helper\",\"name\":\"b\",\"type\":null,\"support\":\"no\",\"reason\":\"no \\\"b\\\"\"},\
            {\"group\":\"helper\",\"name\":\"c\",\"type\":null,\"support\":\"unknown\",\"reason\":\"EPERM\"}\
            ]}";
        assert_eq!(json(&report).to_string(), expected);
    }

    #[test]
    fn a_step_says_what_is_asked() {
        let progress = |within| Progress {
            group: Group::Helpers,
            within,
        };
        assert_eq!(step(progress(None)), "asking for helpers…");
        assert_eq!(
            step(progress(Some(ProgType::XDP))),
            "asking for helpers in xdp…"
        );
    }
}
