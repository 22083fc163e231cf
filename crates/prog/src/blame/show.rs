//! A refusal as text: one line, or the whole picture.

use super::{Evidence, Point, Refusal};
use std::fmt;
use std::panic::Location;

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line(f)?;
        if f.alternate() {
            if let (Some(at), Some(source)) = (self.at, &self.source) {
                let (file, line, column) = (at.file(), at.line(), at.column());
                write!(f, "\n\n  --> {file}:{line}:{column}")?;
                excerpt(f, at, source)?;
            }
            self.listing(f)?;
            self.registers(f)?;
            self.way(f)?;
            self.explained(f)?;
            self.effort(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// `load drop_echo: EACCES at insn 17, src/count.rs:24, in drop_echo > bump: R0 invalid …`.
    fn line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "load {}: {}", self.program, self.errno)?;
        if let Some(slot) = self.slot {
            write!(f, " at insn {slot}")?;
            if let Some(at) = self.at {
                write!(f, ", {}:{}", at.file(), at.line())?;
            }
            if !self.path.is_empty() {
                write!(f, ", in {}", self.path)?;
            }
        }
        if !self.sentence.is_empty() {
            return write!(f, ": {}", self.sentence);
        }
        f.write_str(match self.evidence {
            Evidence::Nothing => ", no log",
            Evidence::Whole => ", no reason in the log",
            Evidence::Cut => ", the log is cut off",
        })?;
        // Without a sentence the hint is all there is to say. The picture has it at its end.
        match &self.hint {
            Some(hint) if !f.alternate() => write!(f, ": {}", hint.text),
            _ => Ok(()),
        }
    }

    fn listing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.listing.is_empty() {
            return Ok(());
        }
        f.write_str("\n")?;
        for line in self.listing.lines() {
            write!(f, "\n{line}")?;
        }
        Ok(())
    }

    fn registers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.state.is_empty() {
            return Ok(());
        }
        f.write_str("\n\nknown before it:")?;
        let width = self.state.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or(0);
        for (name, value) in &self.state {
            write!(f, "\n  {name:width$} = {value}")?;
        }
        Ok(())
    }

    fn way(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.len() > 1 {
            f.write_str("\n\nthe way there:")?;
            for (point, text) in &self.steps {
                write!(f, "\n  {:4}: {text}", point.slot)?;
            }
        }
        if !self.calls.is_empty() || self.origin.is_some() {
            f.write_str("\n")?;
        }
        for call in &self.calls {
            write!(f, "\ncalled at {call}")?;
            call.excerpt(f)?;
        }
        if let Some(origin) = &self.origin {
            write!(f, "\nmade at {origin}")?;
            origin.excerpt(f)?;
        }
        Ok(())
    }

    fn explained(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(report) = &self.report {
            write!(f, "\n\nkernel: {}: {}", report.category, report.problem)?;
            for text in [
                &report.reason,
                &report.mark,
                &report.suggestion,
            ] {
                if !text.is_empty() {
                    write!(f, "\n  {text}")?;
                }
            }
            for (slot, text) in &report.causes {
                write!(f, "\n  insn {slot}: {text}")?;
            }
        }
        match &self.hint {
            Some(hint) => write!(f, "\n\nhelp: {}", hint.text),
            None => Ok(()),
        }
    }

    fn effort(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(processed) = self.stats.processed else {
            return Ok(());
        };
        write!(f, "\nthe verifier looked at {processed} instructions")?;
        match self.stats.total_states {
            Some(states) => write!(f, ", states kept: {states}"),
            None => Ok(()),
        }
    }
}

impl Point {
    /// Its line as the Rust compiler quotes it.
    pub(crate) fn excerpt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.at, &self.source) {
            (Some(at), Some(source)) => excerpt(f, at, source),
            _ => Ok(()),
        }
    }
}

/// A line as the Rust compiler quotes it, with marks below the word that starts at the column.
fn excerpt(f: &mut fmt::Formatter<'_>, at: &Location<'_>, source: &str) -> fmt::Result {
    let text = source.trim_start();
    let indent = source.chars().count() - text.chars().count();
    let before = (at.column() as usize).saturating_sub(indent + 1);
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
    let marks = text.chars().skip(before).take_while(is_word).count();
    let number = at.line().to_string();
    let (gap, marks) = (" ".repeat(number.len()), "^".repeat(marks.max(1)));
    write!(f, "\n{gap} |\n{number} | ")?;
    for c in text.chars() {
        write!(f, "{}", if c.is_control() { ' ' } else { c })?;
    }
    write!(f, "\n{gap} | {:before$}{marks}", "")
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "insn {}", self.slot)?;
        if let Some(at) = self.at {
            write!(f, ", {}:{}", at.file(), at.line())?;
        }
        if self.path.is_empty() {
            return Ok(());
        }
        write!(f, ", in {}", self.path)
    }
}
