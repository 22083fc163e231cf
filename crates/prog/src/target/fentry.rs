//! Trampolines: programs where a function starts or returns, of the kernel or of another program.

use super::{Hook, Target, typed};
use crate::error::Result;
use crate::kernel::Wanted;
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_btf::Kind;
use bpfsmith_uapi::flags::prog_load;
use bpfsmith_uapi::{AttachType, ProgType};
use std::os::fd::{AsFd, BorrowedFd};

/// A function, for `TRACING` programs. The context is an array of its arguments, followed by its
/// result at the exit. Linux 5.5.
///
/// It is the kernel's function of that name, or else that of the one loaded module that has it;
/// `module:name` means that module's. Linux 5.11 for those of modules.
#[derive(Clone, Debug)]
pub struct Fentry<'a> {
    function: String,
    attach_type: AttachType,
    flags: u32,
    cookie: u64,
    program: Option<BorrowedFd<'a>>,
}

const FUNCTION: Wanted = Wanted {
    what: "function",
    prefix: "",
    kind: Kind::FUNC,
    hint: "`bpfsmith btf` prints those in the kernel's BTF; the compiler may have inlined it",
};

impl<'a> Fentry<'a> {
    fn new(function: &str, attach_type: AttachType) -> Fentry<'a> {
        Fentry {
            function: function.to_owned(),
            attach_type,
            flags: 0,
            cookie: 0,
            program: None,
        }
    }

    /// Where the function starts.
    #[must_use]
    pub fn entry(function: &str) -> Fentry<'a> {
        Fentry::new(function, AttachType::TRACE_FENTRY)
    }

    /// Where it returns.
    #[must_use]
    pub fn exit(function: &str) -> Fentry<'a> {
        Fentry::new(function, AttachType::TRACE_FEXIT)
    }

    /// Before it starts; if the program returns anything but 0, that is the result and the
    /// function does not run. Only for functions that the kernel opened for it. Linux 5.7.
    #[must_use]
    pub fn modify(function: &str) -> Fentry<'a> {
        Fentry::new(function, AttachType::MODIFY_RETURN)
    }

    /// The function of that loaded program instead of the kernel's.
    #[must_use]
    pub fn of(mut self, program: &'a impl AsFd) -> Fentry<'a> {
        self.program = Some(program.as_fd());
        self
    }

    /// The program may sleep, where the function may. Linux 5.10.
    #[must_use]
    pub fn sleepable(mut self) -> Fentry<'a> {
        self.flags = prog_load::BPF_F_SLEEPABLE;
        self
    }

    /// With a number that the program reads with `get_attach_cookie`. Linux 6.0.
    #[must_use]
    pub fn cookie(mut self, cookie: u64) -> Fentry<'a> {
        self.cookie = cookie;
        self
    }
}

impl Target for Fentry<'_> {
    fn hook(&self) -> Result<Hook> {
        let (btf_id, object) = match self.program {
            Some(program) => (
                typed::function_of(program, &self.function)?,
                Some(typed::owned(program)?),
            ),
            None => {
                let found = FUNCTION.find(&self.function)?;
                (found.id.0, found.open()?)
            }
        };
        Ok(Hook {
            btf_id,
            object,
            flags: self.flags,
            args: self.program.is_none().then(|| self.function.clone()),
            ..Hook::plain(self.attach_type)
        })
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        let names = ("fentry", self.function.as_str());
        typed::attach(prog, ProgType::TRACING, &self.hook()?, self.cookie, names)
    }
}
