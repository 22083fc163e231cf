//! Types as C declarations, values as C initialisers.

mod fresh;
mod header;
mod layout;
mod raw;
mod record;
mod types;
mod values;

pub use header::Header;

use crate::error::Error;
use crate::graph::STEPS;
use crate::kind::TypeId;
use crate::names::Name;

/// How much one text may still look at, so that types that repeat each other do not fill the memory.
struct Budget {
    root: TypeId,
    steps: u32,
}

impl Budget {
    fn new(root: TypeId) -> Budget {
        Budget { root, steps: STEPS }
    }

    fn step(&mut self, depth: u32) -> Result<u32, Error> {
        let spent = || Error::TooDeep(self.root);
        self.steps = self.steps.checked_sub(1).ok_or_else(spent)?;
        depth.checked_sub(1).ok_or_else(spent)
    }

    fn spend(&mut self, steps: u32) -> Result<(), Error> {
        let left = self.steps.checked_sub(steps);
        self.steps = left.ok_or(Error::TooDeep(self.root))?;
        Ok(())
    }

    /// A long name counts more than a short one.
    fn name(&mut self, name: Name<'_>) -> Result<(), Error> {
        self.text(name.as_bytes())
    }

    /// So do other bytes that are written out.
    fn text(&mut self, text: &[u8]) -> Result<(), Error> {
        self.spend(u32::try_from(text.len() / 16).unwrap_or(u32::MAX))
    }
}
