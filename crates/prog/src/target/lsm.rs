//! Hooks of security modules: programs that allow or deny.

use super::{Hook, Target, typed};
use crate::error::Result;
use crate::kernel;
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_btf::Kind;
use bpfsmith_uapi::flags::prog_load;
use bpfsmith_uapi::{AttachType, ProgType};

/// A hook of the Linux security modules (`file_open`), for `LSM` programs: anything but 0 is the
/// error number with which the kernel denies. Runs only if `bpf` is among the active modules.
/// Linux 5.7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lsm {
    name: String,
    flags: u32,
    cookie: u64,
}

impl Lsm {
    /// The hook of that name, without `bpf_lsm_`.
    #[must_use]
    pub fn on(name: &str) -> Lsm {
        Lsm {
            name: name.to_owned(),
            flags: 0,
            cookie: 0,
        }
    }

    /// The program may sleep, where the hook may. Linux 5.10.
    #[must_use]
    pub fn sleepable(mut self) -> Lsm {
        self.flags = prog_load::BPF_F_SLEEPABLE;
        self
    }

    /// With a number that the program reads with `get_attach_cookie`. Linux 6.0.
    #[must_use]
    pub fn cookie(mut self, cookie: u64) -> Lsm {
        self.cookie = cookie;
        self
    }
}

impl Target for Lsm {
    fn hook(&self) -> Result<Hook> {
        const HINT: &str = "each is a function bpf_lsm_NAME in the kernel's BTF, if it was built \
                            with CONFIG_BPF_LSM";
        let id = kernel::find_hook("LSM hook", "bpf_lsm_", &self.name, Kind::FUNC, HINT)?;
        Ok(Hook {
            btf_id: id.0,
            flags: self.flags,
            args: Some(format!("bpf_lsm_{}", self.name)),
            ..Hook::plain(AttachType::LSM_MAC)
        })
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        let names = ("lsm", self.name.as_str());
        typed::attach(prog, ProgType::LSM, &self.hook()?, self.cookie, names)
    }
}
