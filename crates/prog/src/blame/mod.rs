//! Blame: why the kernel refused a program, in terms of the Rust code that made it.
//!
//! [`Refusal::new`] reads what the verifier wrote and finds the instruction, its Rust line and
//! fragments, the registers before it, the way that led there, and what to do about it. It is pure:
//! text in, data out. Logs of Linux 5.x to 6.x are understood, and the report that 7.3 adds.
//!
//! ```
//! use bpfsmith_asm::dsl::*;
//! use bpfsmith_prog::blame::Refusal;
//!
//! let code = code![mov(R1, 1), exit()];
//! let program = Program::assemble(Isa::V4, ProgType::XDP, "half", code).expect("it has two lines");
//! let log = b"0: (b7) r1 = 1 ; R1_w=1\n1: (95) exit\nR0 !read_ok\nprocessed 2 insns (limit 1000000)";
//! let refusal = Refusal::new(&program, Errno::EACCES, log);
//! assert_eq!(refusal.slot, Some(1));
//! assert_eq!(refusal.hint.as_ref().map(|hint| hint.name), Some("unset-register"));
//! assert!(refusal.to_string().starts_with("load half: EACCES at insn 1, "));
//! ```

mod errno;
mod hint;
mod line;
mod pattern;
mod place;
mod report;
mod rows;
mod show;
mod state;
mod stats;
mod walk;

pub use hint::Hint;
pub use report::Report;
pub(crate) use state::written;
pub use stats::Stats;

use crate::source;
use bpfsmith_asm::program::Program;
use bpfsmith_uapi::Errno;
use std::panic::Location;

/// Why the kernel refused a program.
///
/// `Display` is one line; `{:#}` is the whole picture.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The program's name.
    pub program: String,
    /// What the system call answered.
    pub errno: Errno,
    /// How much the log tells.
    pub evidence: Evidence,
    /// The instruction that was refused. Without one the program as a whole was.
    pub slot: Option<usize>,
    /// The Rust line of that instruction.
    pub at: Option<&'static Location<'static>>,
    /// The text of that line, if a load was refused and the source is at hand.
    pub source: Option<String>,
    /// The fragments around it, outermost first: `drop_echo > bump`.
    pub path: String,
    /// The function it is in, if the program has more than one.
    pub func: Option<String>,
    /// The calls that led into that function, outermost first.
    pub calls: Vec<Point>,
    /// The verifier's own sentence; its lines are joined by `; `.
    pub sentence: String,
    /// Where the value or reference that the sentence is about comes from.
    pub origin: Option<Point>,
    /// What the verifier knew before the instruction: registers and stack slots of its function.
    pub state: Vec<(String, String)>,
    /// The last instructions that the verifier looked at on the way, oldest first, in the kernel's
    /// spelling.
    pub steps: Vec<(Point, String)>,
    /// What to do.
    pub hint: Option<Hint>,
    /// The kernel's own explanation, Linux 7.3.
    pub report: Option<Report>,
    /// The verifier's effort.
    pub stats: Stats,
    /// The last lines of what the verifier wrote, 16 kB at most.
    pub log: String,
    /// The program around the instruction.
    pub listing: String,
}

/// How much a log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// There is no log: none was asked for, or the kernel refused before the verifier ran.
    Nothing,
    /// The log goes up to its end; older lines may be missing.
    Whole,
    /// The log stops before the refusal: the buffer was too small.
    Cut,
}

/// A slot and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Point {
    /// The instruction slot.
    pub slot: usize,
    /// Its Rust line, if the program has lines.
    pub at: Option<&'static Location<'static>>,
    /// The text of that line; see [`Refusal::source`].
    pub source: Option<String>,
    /// The fragments around it.
    pub path: String,
}

impl Point {
    /// With the text of its line, where the source is at hand.
    pub(crate) fn quoted(mut self) -> Point {
        self.source = self.at.and_then(|at| source::line(at).ok());
        self
    }

    pub(crate) fn new(program: &Program, slot: usize) -> Point {
        Point {
            slot,
            at: program.lines().get(slot).map(|line| line.at),
            source: None,
            path: program.path(slot),
        }
    }
}

/// How many lines of the listing are shown on either side.
const AROUND: usize = 3;

/// How much of a log is kept.
const KEPT: usize = 16 << 10;

/// The last lines of a log.
fn end_of(log: &str) -> &str {
    let Some(start) = log.len().checked_sub(KEPT + 1) else {
        return log;
    };
    // Behind the end of a line there is no character's middle. One endless line is no log.
    let end = log.as_bytes()[start..].iter().position(|&b| b == b'\n');
    end.map_or("", |end| &log[start + end + 1..])
}

impl Refusal {
    /// Explains a refusal. The log is what the kernel wrote, also in part; it may be empty.
    ///
    /// Time is linear in the log's length, and a long log is read from its end only as far as
    /// needed.
    #[must_use]
    pub fn new(program: &Program, errno: Errno, log: &[u8]) -> Refusal {
        Refusal::answered(program, errno, errno, log)
    }

    /// With the text of the Rust lines, where the source is at hand.
    pub(crate) fn quoted(mut self) -> Refusal {
        let text = |at: Option<&'static Location<'static>>| source::line(at?).ok();
        self.source = text(self.at);
        for point in self.calls.iter_mut().chain(&mut self.origin) {
            point.source = text(point.at);
        }
        self
    }

    /// The same if the log came with another answer than the verdict: that it did not fit.
    pub(crate) fn answered(program: &Program, errno: Errno, answer: Errno, log: &[u8]) -> Refusal {
        let log = String::from_utf8_lossy(log);
        let log = log.trim_end_matches(['\0', '\n', '\r', ' ']);
        let (text, report) = report::split(log);
        let report = report::parse(report);
        let walk = walk::back(text, program.insns());
        let stats = Stats::of(log);
        // Every log ends with numbers. Linux before 6.4 kept the front of one that did not fit, and
        // what stands last there is no reason.
        let is_explained = !walk.messages.is_empty() || report.is_some();
        let is_cut = answer == Errno::ENOSPC || !is_explained;
        let evidence = if log.is_empty() {
            Evidence::Nothing
        } else if stats.processed.is_none() && is_cut {
            Evidence::Cut
        } else {
            Evidence::Whole
        };
        let slot = place::refused(program, &walk, report.as_ref(), evidence);
        let origin = place::origin(&walk, slot).filter(|&at| Some(at) != slot);
        // A report without a sentence is explained by itself.
        let problem = report.iter().map(|report| report.problem.as_str());
        let messages: Vec<&str> = if walk.messages.is_empty() {
            problem.collect()
        } else {
            walk.messages.clone()
        };
        let hint = hint::find(program, errno, evidence, &messages);
        // What is known before the last step is of no use for another one.
        let stood = walk.steps.last().map(|step| step.slot);
        let there = slot.is_some() && slot == stood;
        let steps = walk.steps.iter().filter(|_| slot.is_some());
        let steps = steps.map(|step| (Point::new(program, step.slot), step.text.to_owned()));
        let point = slot.map(|slot| Point::new(program, slot));
        Refusal {
            program: program.name().to_owned(),
            errno,
            evidence,
            slot,
            at: point.as_ref().and_then(|point| point.at),
            source: None,
            path: point.map(|point| point.path).unwrap_or_default(),
            func: slot.and_then(|slot| place::func(program, slot)),
            calls: (walk.calls.iter().filter(|_| there))
                .map(|&slot| Point::new(program, slot))
                .collect(),
            sentence: messages.join("; "),
            origin: origin.map(|slot| Point::new(program, slot)),
            steps: steps.collect(),
            hint,
            report,
            stats,
            log: end_of(log).to_owned(),
            listing: slot.map_or_else(String::new, |slot| program.around(slot, AROUND)),
            state: if there {
                walk.state.into_sorted()
            } else {
                Vec::new()
            },
        }
    }
}
