//! A place in the ordered list of programs that a hook runs.

use crate::error::Result;
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_sys::link::{Anchor, More};
use bpfsmith_uapi::flags::attach::{BPF_F_AFTER, BPF_F_BEFORE, BPF_F_ID, BPF_F_LINK};
use std::os::fd::AsFd;

/// Next to what a program is put.
#[derive(Clone, Copy, Debug)]
pub enum Beside<'a> {
    /// An open program.
    Prog(&'a Prog),
    /// An open link.
    Link(&'a Link),
    /// A program, by its number.
    ProgId(u32),
    /// A link, by its number.
    LinkId(u32),
}

impl<'a> From<&'a Prog> for Beside<'a> {
    fn from(prog: &'a Prog) -> Beside<'a> {
        Beside::Prog(prog)
    }
}

impl<'a> From<&'a Link> for Beside<'a> {
    fn from(link: &'a Link) -> Beside<'a> {
        Beside::Link(link)
    }
}

impl<'a> Beside<'a> {
    fn anchor(self) -> Result<(Anchor<'a>, u32)> {
        Ok(match self {
            Beside::Prog(prog) => (Anchor::Fd(prog.as_fd()), 0),
            Beside::Link(link) => (Anchor::Fd(link.fd()?), BPF_F_LINK),
            Beside::ProgId(id) => (Anchor::Id(id), BPF_F_ID),
            Beside::LinkId(id) => (Anchor::Id(id), BPF_F_ID | BPF_F_LINK),
        })
    }
}

/// Where a program goes; anywhere, which is the end, by default.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place<'a> {
    pub(super) side: u32,
    pub(super) beside: Option<Beside<'a>>,
    pub(super) revision: u64,
}

impl<'a> Place<'a> {
    pub(super) fn before(&mut self, beside: Option<Beside<'a>>) {
        (self.side, self.beside) = (BPF_F_BEFORE, beside);
    }

    pub(super) fn after(&mut self, beside: Option<Beside<'a>>) {
        (self.side, self.beside) = (BPF_F_AFTER, beside);
    }

    /// Whether no place was asked for.
    pub(super) const fn is_any(&self) -> bool {
        self.side == 0 && self.revision == 0
    }

    /// The flags and the part of the attributes that say it to the kernel.
    pub(super) fn parts(&self) -> Result<(u32, More<'a>)> {
        let (anchor, flags) = match self.beside {
            Some(beside) => beside.anchor()?,
            None => (Anchor::End, 0),
        };
        let revision = self.revision;
        Ok((self.side | flags, More::Place { anchor, revision }))
    }
}

/// The methods of targets that have a member `place`.
macro_rules! placed {
    ($target:ident) => {
        impl<'a> $target<'a> {
            /// Before all that are there.
            #[must_use]
            pub fn first(mut self) -> Self {
                self.place.before(None);
                self
            }

            /// After all that are there.
            #[must_use]
            pub fn last(mut self) -> Self {
                self.place.after(None);
                self
            }

            /// Right before another one.
            #[must_use]
            pub fn before(mut self, other: impl Into<$crate::target::Beside<'a>>) -> Self {
                self.place.before(Some(other.into()));
                self
            }

            /// Right after another one.
            #[must_use]
            pub fn after(mut self, other: impl Into<$crate::target::Beside<'a>>) -> Self {
                self.place.after(Some(other.into()));
                self
            }

            /// Only while the hook's list has this revision, which a query tells.
            #[must_use]
            pub const fn revision(mut self, revision: u64) -> Self {
                self.place.revision = revision;
                self
            }
        }
    };
}

pub(super) use placed;
