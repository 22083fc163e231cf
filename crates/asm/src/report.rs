//! What is wrong with a program: all findings at once, each with the Rust line that made it.

use std::fmt;
use std::panic::Location;

/// How sure it is that the kernel refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The kernel refuses on some paths, or does not: it depends on values that are not followed.
    Warning,
    /// The kernel refuses, or the program does not mean what its author thinks.
    Error,
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In Rust: the line, and the fragments around it (`drop_echo > bump`).
    Rust(&'static Location<'static>, String),
    /// In a text: line and column, from 1.
    Text(u32, u32),
    /// In bytes: the instruction's number.
    Slot(u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Rust(at, path) => {
                write!(f, "{}:{}", at.file(), at.line())?;
                if path.is_empty() {
                    Ok(())
                } else {
                    write!(f, ", in {path}")
                }
            }
            Place::Text(line, column) => write!(f, "{line}:{column}"),
            Place::Slot(n) => write!(f, "instruction {n}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How sure it is.
    pub severity: Severity,
    /// Which rule it breaks.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{}: {severity}: {}", self.place, self.message)
    }
}

/// The rule that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A register that does not exist.
    Register,
    /// A constant or offset that does not fit its field.
    DoesNotFit,
    /// A label that is bound twice.
    BoundTwice,
    /// A label that is used but not bound in the same function.
    NeverBound,
    /// A jump that no relaxation can make reach.
    OutOfReach,
    /// A jump to a place that is no instruction.
    BadTarget,
    /// An instruction that no path reaches.
    Unreachable,
    /// A register that is read before it is written.
    Uninitialised,
    /// A register that a call destroyed is read.
    Clobbered,
    /// The frame pointer is written.
    FramePointer,
    /// The 512 bytes of stack are left.
    Stack,
    /// The last instruction goes on into nothing.
    FallsOff,
    /// A helper that this program type may not call.
    Helper,
    /// Two maps, functions or variables of one name that differ.
    Conflict,
    /// Bytes or text that are no instruction.
    Malformed,
}

/// Everything that is wrong with a program, errors and warnings, in the order of the program.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    /// The program's name.
    pub program: String,
    /// What was found.
    pub findings: Vec<Finding>,
}

bpfsmith_uapi::debug_as_display!(Report);

impl Report {
    /// True if something was found that is not only a warning.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|f| f.severity == Severity::Error)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.program)?;
        match self.findings.len() {
            1 => f.write_str("1 finding")?,
            n => write!(f, "{n} findings")?,
        }
        for finding in &self.findings {
            write!(f, "\n  {finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}
