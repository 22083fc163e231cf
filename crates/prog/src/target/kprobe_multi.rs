//! Many kernel functions by one link.

use super::{Hook, Target};
use crate::elf::fits;
use crate::error::{Error, Result};
use crate::link::Link;
use crate::prog::Prog;
use crate::{ksyms, tracefs};
use bpfsmith_sys::link::{More, To, create};
use bpfsmith_uapi::flags::link::BPF_F_KPROBE_MULTI_RETURN;
use bpfsmith_uapi::{AttachType, Errno, ProgType};
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

/// Kernel functions, for `KPROBE` programs. The context is the registers. Linux 5.18.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KprobeMulti {
    which: Which,
    attach_type: AttachType,
    flags: u32,
    cookies: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    Names(Vec<String>),
    Pattern(String),
    Addresses(Vec<u64>),
}

impl KprobeMulti {
    fn new(which: Which) -> KprobeMulti {
        KprobeMulti {
            which,
            attach_type: AttachType::TRACE_KPROBE_MULTI,
            flags: 0,
            cookies: Vec::new(),
        }
    }

    /// Where these functions start.
    #[must_use]
    pub fn on<S: Into<String>>(functions: impl IntoIterator<Item = S>) -> KprobeMulti {
        KprobeMulti::new(Which::Names(functions.into_iter().map(S::into).collect()))
    }

    /// Where functions start whose names fit a pattern, in which `*` stands for any text. Which
    /// ones these are is read from tracefs.
    #[must_use]
    pub fn matching(pattern: &str) -> KprobeMulti {
        KprobeMulti::new(Which::Pattern(pattern.to_owned()))
    }

    /// Where functions at these addresses start.
    #[must_use]
    pub fn addresses(addresses: impl IntoIterator<Item = u64>) -> KprobeMulti {
        KprobeMulti::new(Which::Addresses(addresses.into_iter().collect()))
    }

    /// Where they return instead.
    #[must_use]
    pub fn returning(mut self) -> KprobeMulti {
        self.flags = BPF_F_KPROBE_MULTI_RETURN;
        self
    }

    /// Where they start and return: the program runs at the return only if it returned 0 at the
    /// start. Linux 6.10.
    #[must_use]
    pub fn session(mut self) -> KprobeMulti {
        self.attach_type = AttachType::TRACE_KPROBE_SESSION;
        self
    }

    /// With a number for each function, in the order in which they were named, which the program
    /// reads with `get_attach_cookie`.
    #[must_use]
    pub fn cookies(mut self, cookies: impl IntoIterator<Item = u64>) -> KprobeMulti {
        self.cookies = cookies.into_iter().collect();
        self
    }

    /// The functions by name, as far as they have one.
    fn names(&self) -> Result<Vec<String>> {
        match &self.which {
            Which::Names(names) => Ok(names.clone()),
            Which::Addresses(_) => Ok(Vec::new()),
            Which::Pattern(pattern) => {
                let mut names = tracefs::functions()?;
                names.retain(|name| fits(pattern, name));
                if names.is_empty() {
                    return Err(Error::Unknown {
                        what: "traceable function like",
                        name: pattern.clone(),
                        near: Vec::new(),
                        hint: "`available_filter_functions` in tracefs lists them",
                    });
                }
                Ok(names)
            }
        }
    }
}

impl Target for KprobeMulti {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::plain(self.attach_type))
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        prog.expect(ProgType::KPROBE, self.attach_type)?;
        let names = self.names()?;
        let addrs: &[u64] = match &self.which {
            Which::Addresses(addresses) => addresses,
            _ => &[],
        };
        let count = names.len().max(addrs.len());
        if !self.cookies.is_empty() && self.cookies.len() != count {
            return Err(Error::Argument {
                what: "cookies",
                problem: format!("{} of them for {count} functions", self.cookies.len()),
            });
        }
        let texts = texts(&names)?;
        let texts: Vec<&CStr> = texts.iter().map(CString::as_c_str).collect();
        let more = More::Kprobes {
            flags: self.flags,
            names: &texts,
            addrs,
            cookies: &self.cookies,
        };
        let object = match names.as_slice() {
            [name] => format!("{} on {name}", prog.quoted()),
            _ => format!("{} on {count} functions", prog.quoted()),
        };
        match create(prog.as_fd(), To::Nothing, self.attach_type, 0, &more) {
            Ok(fd) => Ok(Link::kernel(fd, "kprobe.multi", object)),
            Err(failed) => {
                let missing = match failed.errno {
                    Errno::ESRCH | Errno::ENOENT | Errno::EINVAL => {
                        ksyms::missing(names.iter().map(String::as_str))
                    }
                    _ => None,
                };
                Err(missing.unwrap_or_else(|| Error::call(failed, "kprobe.multi", object)))
            }
        }
    }
}

fn texts(names: &[String]) -> Result<Vec<CString>> {
    let text = |name: &String| {
        CString::new(name.as_str()).map_err(|_| Error::Argument {
            what: "function",
            problem: format!("{name:?} holds a zero byte"),
        })
    };
    names.iter().map(text).collect()
}
