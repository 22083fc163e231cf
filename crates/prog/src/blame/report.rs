//! The report that Linux 7.3 writes behind its sentence.
//!
//! The form was read from the kernel's public sources and from logs that others published: no 7.3
//! kernel has been tried. So every section may be missing, and an unknown one is skipped.

use super::line::number;

/// What the verifier itself explains, Linux 7.3: problem, reason and suggestion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The rule that is broken, such as `Memory Safety`.
    pub category: String,
    /// What is wrong, in a few words.
    pub problem: String,
    /// Why that is wrong.
    pub reason: String,
    /// The instruction that the report is about.
    pub slot: Option<usize>,
    /// What the arrow under the instruction says.
    pub mark: String,
    /// The instructions that led there, each with what happened there, oldest first.
    pub causes: Vec<(usize, String)>,
    /// What the verifier proposes.
    pub suggestion: String,
}

/// The line that the report begins with.
pub(super) const HEAD: &str = "Verification failed:";

/// Splits a log in front of the report; the report is empty if there is none.
pub(super) fn split(log: &str) -> (&str, &str) {
    let mut end = log.len();
    for text in log.rsplit('\n') {
        let start = end - text.len();
        if text.starts_with(HEAD) {
            return log.split_at(start);
        }
        // The report stands behind all instructions: there is no need to look any further.
        if matches!(super::line::line(text), super::line::Line::Step(_)) {
            break;
        }
        end = start.saturating_sub(1);
    }
    (log, "")
}

/// A section of the report.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Reason,
    At,
    Causes,
    Suggestion,
    Unknown,
}

/// Reads the report.
pub(super) fn parse(text: &str) -> Option<Report> {
    let mut lines = text.lines();
    let title = lines.next()?.strip_prefix(HEAD)?.trim();
    let (category, problem) = title.split_once(": ").unwrap_or((title, ""));
    let mut report = Report {
        category: category.to_owned(),
        problem: problem.to_owned(),
        ..Report::default()
    };
    let mut section = Section::Unknown;
    let mut place = Place::default();
    for line in lines {
        let line = line.trim_end();
        if !line.starts_with([' ', '\t', '|', '>']) && !line.is_empty() {
            if super::line::line(line) == super::line::Line::Stat {
                break;
            }
            let (name, rest) = line.split_once(':').unwrap_or((line, ""));
            report.place(section, &mut place);
            section = match name {
                "Reason" => Section::Reason,
                "At" => Section::At,
                "Causal path" => Section::Causes,
                "Suggestion" => Section::Suggestion,
                _ => Section::Unknown,
            };
            report.text(section, rest);
            continue;
        }
        if line.is_empty() {
            report.place(section, &mut place);
        }
        match section {
            Section::At | Section::Causes => place.line(line),
            other => report.text(other, line),
        }
    }
    report.place(section, &mut place);
    Some(report)
}

impl Report {
    /// Adds a line of running text.
    fn text(&mut self, section: Section, line: &str) {
        let to = match section {
            Section::Reason => &mut self.reason,
            Section::Suggestion => &mut self.suggestion,
            _ => return,
        };
        join(to, line);
    }

    /// Takes over a place that is complete.
    fn place(&mut self, section: Section, place: &mut Place) {
        let Place { slot, mark, .. } = std::mem::take(place);
        let Some(slot) = slot else { return };
        match section {
            Section::At if self.slot.is_none() => {
                self.slot = Some(slot);
                self.mark = mark;
            }
            Section::Causes => self.causes.push((slot, mark)),
            _ => {}
        }
    }
}

/// An instruction and the text of the arrow that points at it.
#[derive(Default)]
struct Place {
    slot: Option<usize>,
    mark: String,
    arrow: bool,
    instructions: bool,
}

impl Place {
    fn line(&mut self, line: &str) {
        let line = line.trim_start();
        if line == "Instruction context:" {
            self.instructions = true;
        } else if let Some(rest) = line.strip_prefix("insn ") {
            self.slot = number(rest).map(|(slot, _)| slot).or(self.slot);
        } else if let Some(rest) = line.strip_prefix(">>> ") {
            // The same mark stands at the source line, which has numbers of another kind.
            if self.instructions {
                self.slot = number(rest.trim_start())
                    .map(|(slot, _)| slot)
                    .or(self.slot);
            }
            self.arrow = false;
        } else if let Some((_, text)) = line.split_once("^-- ") {
            join(&mut self.mark, text);
            self.arrow = true;
        } else if let (true, Some(text)) = (self.arrow, line.strip_prefix('|')) {
            join(&mut self.mark, text);
        } else {
            self.arrow = false;
        }
    }
}

/// Puts wrapped lines together again.
fn join(to: &mut String, line: &str) {
    let line = line.trim();
    if !(line.is_empty() || to.is_empty()) {
        to.push(' ');
    }
    to.push_str(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "0: (95) exit
R0 !read_ok

Verification failed: Register Type Safety: Unreadable register

Reason:
  R0 is read here, and nothing
  wrote it on this path.

At:
  bump @ src/count.rs:24:1
  Source context:
  >>> 24 | exit()
         | ^-- error: R0 is not readable
         |     at all
  Instruction context:
      4 | (b7) r1 = 0
  >>> 5 | (95) exit

Causal path:
  insn 3
        | ^-- branch: took the true branch
  Instruction context:
  >>> 3 | (15) if r1 == 0x0 goto pc+1

Suggestion:
  Write R0 on every path to this instruction.

processed 1 insns (limit 1000000)
";

    #[test]
    fn sections() {
        let (log, report) = split(LOG);
        assert!(log.ends_with("R0 !read_ok\n\n"));
        let report = parse(report).expect("a report");
        assert_eq!(report.category, "Register Type Safety");
        assert_eq!(report.problem, "Unreadable register");
        assert_eq!(
            report.reason,
            "R0 is read here, and nothing wrote it on this path."
        );
        assert_eq!(report.slot, Some(5));
        assert_eq!(report.mark, "error: R0 is not readable at all");
        assert_eq!(
            report.causes,
            [(3, "branch: took the true branch".to_owned())]
        );
        assert_eq!(
            report.suggestion,
            "Write R0 on every path to this instruction."
        );
    }

    #[test]
    fn pieces_of_a_report() {
        assert_eq!(parse(""), None);
        assert_eq!(split("no report"), ("no report", ""));
        assert_eq!(split("; Verification failed: x").1, "");
        let short = parse("Verification failed: Memory Safety\nReason: one line\nNew:\n  x\nAt:\n")
            .expect("a report");
        assert_eq!(short.category, "Memory Safety");
        assert_eq!(short.reason, "one line");
        assert_eq!(short.slot, None);
    }
}
