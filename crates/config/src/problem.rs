//! What is wrong with a text, and where.

use crate::value::At;
use std::cell::RefCell;
use std::fmt;

/// Something that is wrong. Its place is told if it has one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub at: At,
    /// What, and what is allowed.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not everything that is wrong comes from a text.
        match self.at == At::default() {
            true => f.write_str(&self.what),
            false => write!(f, "{}: {}", self.at, self.what),
        }
    }
}

/// All that is wrong with a text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Problems {
    found: RefCell<Vec<Problem>>,
}

impl Problems {
    /// None yet.
    #[must_use]
    pub fn new() -> Problems {
        Problems::default()
    }

    /// One alone.
    #[must_use]
    pub fn one(at: At, what: impl Into<String>) -> Problems {
        let problems = Problems::new();
        problems.add(at, what);
        problems
    }

    /// One more.
    pub fn add(&self, at: At, what: impl Into<String>) {
        let what = what.into();
        self.found.borrow_mut().push(Problem { at, what });
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// All of them, in the order of the text.
    #[must_use]
    pub fn list(&self) -> Vec<Problem> {
        let mut found = self.found.borrow().clone();
        found.sort();
        found
    }

    /// Itself, if there are any.
    ///
    /// # Errors
    /// When something is wrong.
    pub fn end(self) -> Result<(), Problems> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.list().iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// As a `main` prints it that returns it.
impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for Problems {}
