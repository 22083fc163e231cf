//! Why loading, attaching or asking failed.

use crate::blame::{Point, Refusal};
use crate::hints;
use bpfsmith_sys::{Failed, Refused};
use bpfsmith_uapi::map::Name;
use bpfsmith_uapi::{AttachType, Errno, ProgType};
use std::fmt;

/// Why something about programs failed. `Display` is one line; `{:#}` adds the picture of a refused
/// program. `Debug` is that picture too, because it is what a `main` prints that returns an error.
#[non_exhaustive]
pub enum Error {
    /// The kernel refused the program.
    Refused(Box<Refusal>),
    /// A map could not be made or opened.
    Map(bpfsmith_maps::Error),
    /// A system call failed.
    Kernel(Kernel),
    /// The device or namespace could not be reached.
    Net(bpfsmith_net::Error),
    /// The kernel's BTF could not be read, or lacks something.
    Btf {
        /// What it was wanted for.
        wanted: String,
        /// What is wrong.
        cause: bpfsmith_btf::Error,
    },
    /// The kernel has nothing of that name.
    Unknown {
        /// What was looked for: `kernel function`, `tracepoint`, …
        what: &'static str,
        /// Its name.
        name: String,
        /// Names of the same kind that look like it, nearest first.
        near: Vec<String>,
        /// What to do next.
        hint: &'static str,
    },
    /// Neither the kernel nor a module has a structure of functions of that name.
    NoOps {
        /// Its name.
        name: String,
        /// Those that there are.
        has: Vec<String>,
    },
    /// What an instruction names cannot be filled in.
    Name {
        /// The program.
        program: String,
        /// The instruction.
        point: Box<Point>,
        /// Why.
        cause: Box<Error>,
    },
    /// A member of a structure of functions cannot be what it is to be.
    Operation {
        /// The member: `tcp_congestion_ops.ssthresh`.
        member: String,
        /// Why.
        cause: Box<Error>,
    },
    /// The program names a map that the set does not hold.
    MissingMap {
        /// The program that was to be loaded, if that was the occasion.
        program: Option<String>,
        /// The map.
        map: Name,
    },
    /// The program means another map than the one that the set holds under the name.
    OtherMap {
        /// The program.
        program: String,
        /// The map.
        map: Name,
        /// What differs.
        member: &'static str,
        /// As it is in the set.
        is: u32,
        /// As the program defines it.
        wanted: u32,
    },
    /// A program is of the wrong type, or was loaded for another hook.
    WrongHook {
        /// The program.
        program: String,
        /// What it was loaded as.
        is: (ProgType, AttachType),
        /// What is wanted.
        wanted: (ProgType, AttachType),
    },
    /// A file has no such symbol or place.
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An argument that no kernel would take.
    Argument {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// A system call that failed, with the object that it was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The command or call, as the kernel names it.
    pub call: String,
    /// What kind of object or hook: selects the hint.
    pub kind: &'static str,
    /// The object: `"drop" on ifindex 3`.
    pub object: String,
    /// Why.
    pub errno: Errno,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {}: {}",
            self.call, self.kind, self.object, self.errno
        )?;
        match hints::find(self.kind, &self.call, self.errno) {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl Error {
    /// The error number, where the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Refused(refusal) => Some(refusal.errno),
            Error::Kernel(kernel) => Some(kernel.errno),
            Error::Map(error) => error.errno(),
            Error::Net(error) => error.errno(),
            Error::Operation { cause, .. } | Error::Name { cause, .. } => cause.errno(),
            _ => None,
        }
    }

    pub(crate) fn call(failed: Failed, kind: &'static str, object: impl Into<String>) -> Error {
        Error::Kernel(Kernel {
            call: failed.cmd.to_string(),
            kind,
            object: object.into(),
            errno: failed.errno,
        })
    }

    pub(crate) fn refused(
        refused: Refused,
        kind: &'static str,
        object: impl Into<String>,
    ) -> Error {
        Error::Kernel(Kernel {
            call: refused.call.to_owned(),
            kind,
            object: object.into(),
            errno: refused.errno,
        })
    }

    pub(crate) fn io(
        call: &str,
        kind: &'static str,
        object: impl Into<String>,
        error: &std::io::Error,
    ) -> Error {
        Error::Kernel(Kernel {
            call: call.to_owned(),
            kind,
            object: object.into(),
            errno: Errno::of(error).unwrap_or(Errno::EIO),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(refusal) => refusal.fmt(f),
            Error::Map(error) => error.fmt(f),
            Error::Net(error) => error.fmt(f),
            Error::Kernel(kernel) => kernel.fmt(f),
            Error::Btf { wanted, cause } => write!(f, "{wanted}: {cause}"),
            Error::Unknown {
                what,
                name,
                near,
                hint,
            } => {
                write!(f, "this kernel has no {what} \"{name}\" (")?;
                if !near.is_empty() {
                    write!(f, "near: {}; ", near.join(", "))?;
                }
                write!(f, "{hint})")
            }
            Error::NoOps { name, has } => {
                write!(
                    f,
                    "this kernel has no struct_ops named \"{name}\"; it has: "
                )?;
                match has.as_slice() {
                    [] => write!(
                        f,
                        "none (they need CONFIG_BPF_JIT and CONFIG_DEBUG_INFO_BTF)"
                    ),
                    has => write!(
                        f,
                        "{} (others come with newer kernels, other options, or modules)",
                        has.join(", ")
                    ),
                }
            }
            Error::Name {
                program,
                point,
                cause,
            } => {
                write!(f, "load {program}: at {point}: ")?;
                cause.fmt(f)?;
                match f.alternate() {
                    true => point.excerpt(f),
                    false => Ok(()),
                }
            }
            Error::Operation { member, cause } => {
                write!(f, "{member}: ")?;
                cause.fmt(f)
            }
            Error::MissingMap { program, map } => {
                if let Some(program) = program {
                    write!(f, "load {program}: ")?;
                }
                write!(
                    f,
                    "the set of maps has no \"{map}\" (add it with Maps::insert, or make what is \
                     missing with Maps::add)"
                )
            }
            Error::OtherMap {
                program,
                map,
                member,
                is,
                wanted,
            } => write!(
                f,
                "load {program}: the {member} of \"{map}\" in the set of maps is {is}, this program \
                 defines {wanted} (give the maps different names, or each program a set of its own)"
            ),
            // What it was to be attached as says nothing about another type.
            Error::WrongHook {
                program,
                is,
                wanted,
            } if is.0 != wanted.0 => write!(
                f,
                "attach {program}: it was loaded as {}, this hook wants {} (give Program::new this \
                 type)",
                is.0, wanted.0
            ),
            Error::WrongHook {
                program,
                is,
                wanted,
            } => write!(
                f,
                "attach {program}: it was loaded as {} for {}, this hook wants {} for {} (pass the \
                 target to Load::to before loading)",
                is.0, is.1, wanted.0, wanted.1
            ),
            Error::File { path, problem } => write!(f, "{}: {problem}", path.display()),
            Error::Argument { what, problem } => write!(f, "{what}: {problem}"),
        }
    }
}

bpfsmith_uapi::debug_as_display!(Error);

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Map(error) => Some(error),
            Error::Net(error) => Some(error),
            Error::Btf { cause, .. } => Some(cause),
            Error::Operation { cause, .. } | Error::Name { cause, .. } => Some(cause.as_ref()),
            Error::Kernel(kernel) => Some(&kernel.errno),
            _ => None,
        }
    }
}

impl From<bpfsmith_maps::Error> for Error {
    fn from(error: bpfsmith_maps::Error) -> Error {
        Error::Map(error)
    }
}

impl From<bpfsmith_net::Error> for Error {
    fn from(error: bpfsmith_net::Error) -> Error {
        Error::Net(error)
    }
}

/// What functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
