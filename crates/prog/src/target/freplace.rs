//! Replacing a function of a loaded program.

use super::{Hook, Target, typed};
use crate::error::{Error, Result};
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_sys::link::{More, To, create};
use bpfsmith_uapi::{AttachType, ProgType};
use std::os::fd::{AsFd, BorrowedFd};

/// A global function of a loaded program, for `EXT` programs, which run in its place and take the
/// same arguments. Linux 5.10.
#[derive(Clone, Debug)]
pub struct Freplace<'a> {
    program: BorrowedFd<'a>,
    function: String,
}

impl<'a> Freplace<'a> {
    /// That function of that program. A program loaded for one target can be attached to others
    /// whose function has the same type.
    #[must_use]
    pub fn of(program: &'a impl AsFd, function: &str) -> Freplace<'a> {
        Freplace {
            program: program.as_fd(),
            function: function.to_owned(),
        }
    }
}

impl Target for Freplace<'_> {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook {
            btf_id: typed::function_of(self.program, &self.function)?,
            object: Some(typed::owned(self.program)?),
            ..Hook::default()
        })
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        prog.expect(ProgType::EXT, AttachType(0))?;
        let object = format!("{} on {}", prog.quoted(), self.function);
        let more = More::Function(typed::function_of(self.program, &self.function)?);
        create(prog.as_fd(), To::Fd(self.program), AttachType(0), 0, &more)
            .map_err(|failed| Error::call(failed, "freplace", object.clone()))
            .map(|fd| Link::kernel(fd, "freplace", object))
    }
}
