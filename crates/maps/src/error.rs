//! Why an operation on a map failed: one type, one line.

use crate::hint;
use crate::ring::RingProblem;
use bpfsmith_sys::Refused;
use bpfsmith_sys::map::{Create, Facts};
use bpfsmith_uapi::map::{MapShape, Name};
use bpfsmith_uapi::{Cmd, Errno, MapType};
use std::fmt;

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation that failed, with the map that it was for.
///
/// It is one pointer wide, so that the results of hot paths stay small; it is allocated only when
/// there is something to report.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Report>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Report {
    operation: Operation,
    object: Object,
    /// Where it was looked for, for a map that could not be opened.
    place: Option<String>,
    problem: Problem,
}

/// What was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// A command of bpf(2).
    Bpf(Cmd),
    /// Another system call, by its name.
    Call(&'static str),
    /// To look at a map through a view, by the name of the view.
    View(&'static str),
}

/// A map as errors show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// How it stores.
    pub kind: MapType,
    /// What it is called, if it has a name.
    pub name: Option<Name>,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// How many entries at most.
    pub entries: u32,
    /// Creation flags.
    pub flags: u32,
    /// What single types take besides.
    pub extra: u64,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The kernel refused.
    Kernel(Errno),
    /// The Rust type of the key has another size than the map's keys.
    Key {
        /// Bytes of the Rust type.
        ours: usize,
    },
    /// The Rust type of the value has another size than the map's values.
    Value {
        /// Bytes of the Rust type.
        ours: usize,
    },
    /// The map is of a kind that another view is for.
    Kind {
        /// The view to use.
        view: &'static str,
    },
    /// The map found is of another shape than the definition says.
    Shape {
        /// What differs.
        member: &'static str,
        /// As defined.
        ours: u64,
        /// As found.
        theirs: u64,
    },
    /// An entry that is to send somewhere has the number 0. The kernel takes that for a deletion.
    Nowhere,
    /// A map of maps is to be made, and nothing says of what shape those inside are.
    NoInner,
    /// The kernel has no such batch command for this kind of map.
    NoBatch,
    /// The kernel gave up on the way through a batch.
    Stopped {
        /// How many elements were done before.
        done: u64,
        /// Why.
        errno: Errno,
    },
    /// Slices that belong together have different lengths.
    Length {
        /// What was given.
        given: usize,
        /// What is needed.
        needed: usize,
    },
    /// The types of keys and values could not be written as BTF.
    Btf(bpfsmith_btf::BuildError),
    /// A ring cannot be opened, read or written.
    Ring(RingProblem),
    /// Deletions went on faster than the walk: the end was not reached within the bound.
    Unsettled {
        /// How many keys were visited.
        visited: u64,
    },
}

impl Error {
    /// A refusal of the kernel.
    #[cold]
    pub(crate) fn kernel(operation: impl Into<Operation>, object: Object, errno: Errno) -> Error {
        Error::new(operation, object, Problem::Kernel(errno))
    }

    /// Any problem.
    #[cold]
    pub(crate) fn new(operation: impl Into<Operation>, object: Object, problem: Problem) -> Error {
        Error(Box::new(Report {
            operation: operation.into(),
            object,
            place: None,
            problem,
        }))
    }

    /// A map that could not be opened: all that is known of it is where it was looked for.
    #[cold]
    pub(crate) fn unopened(operation: impl Into<Operation>, place: String, errno: Errno) -> Error {
        Error(Box::new(Report {
            operation: operation.into(),
            object: Object::unknown(),
            place: Some(place),
            problem: Problem::Kernel(errno),
        }))
    }

    /// What was attempted.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.0.operation
    }

    /// The map.
    #[must_use]
    pub fn object(&self) -> &Object {
        &self.0.object
    }

    /// What went wrong.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }

    /// The kernel's error number, if it was the kernel that refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self.0.problem {
            Problem::Kernel(errno) | Problem::Stopped { errno, .. } => Some(errno),
            _ => None,
        }
    }

    /// What to do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        hint::find(self.0.operation, &self.0.object, self.errno()?)
    }
}

impl From<Cmd> for Operation {
    fn from(cmd: Cmd) -> Operation {
        Operation::Bpf(cmd)
    }
}

impl From<Refused> for Operation {
    fn from(refused: Refused) -> Operation {
        Operation::Call(refused.call)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Bpf(cmd) => write!(f, "{cmd}"),
            Operation::Call(name) => f.write_str(name),
            Operation::View(name) => write!(f, "use as {name}"),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(name) = self.name {
            write!(f, " {:?}", name.as_str())?;
        }
        write!(f, " key {} value {}", self.key, self.value)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            operation,
            object,
            place,
            problem,
        } = &*self.0;
        match place {
            Some(place) => write!(f, "{operation} map {place}: ")?,
            None => write!(f, "{operation} {object}: ")?,
        }
        match problem {
            Problem::Kernel(errno) => write!(f, "{errno}"),
            Problem::Stopped { done, errno } => write!(f, "{errno} after {done} elements"),
            Problem::Key { ours } => {
                write!(
                    f,
                    "its keys have {} bytes, the Rust type has {ours}",
                    object.key
                )
            }
            Problem::Value { ours } => {
                write!(
                    f,
                    "its values have {} bytes, the Rust type has {ours}",
                    object.value
                )
            }
            Problem::Kind { view } => write!(f, "the view of this kind is {view}"),
            Problem::Shape {
                member,
                ours,
                theirs,
            } => write!(f, "{member} is {theirs}, the definition says {ours}"),
            Problem::Nowhere => f.write_str(
                "0 is no device and no length of a queue (an entry is taken out with delete)",
            ),
            Problem::NoInner => {
                f.write_str("the shape of the maps inside is missing: MapDef::inner")
            }
            Problem::NoBatch => f.write_str(
                "the kernel has no such batch command for this kind (walk the keys instead)",
            ),
            Problem::Length { given, needed } => write!(f, "{given} given, {needed} needed"),
            Problem::Btf(error) => write!(f, "{error}"),
            Problem::Ring(problem) => write!(f, "{problem}"),
            Problem::Unsettled { visited } => write!(
                f,
                "no end after {visited} keys (others delete while this walks: use a batch, or walk again)"
            ),
        }?;
        match self.hint() {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

bpfsmith_uapi::debug_as_display!(Error);

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.problem {
            Problem::Kernel(errno) | Problem::Stopped { errno, .. } => Some(errno),
            Problem::Btf(error) => Some(error),
            _ => None,
        }
    }
}

impl Object {
    /// What stands for a map that could not be opened.
    #[must_use]
    pub const fn unknown() -> Object {
        Object {
            kind: MapType::UNSPEC,
            name: None,
            key: 0,
            value: 0,
            entries: 0,
            flags: 0,
            extra: 0,
        }
    }

    pub(crate) fn of_facts(facts: &Facts, name: Option<Name>) -> Object {
        Object {
            kind: facts.kind,
            name,
            key: facts.key,
            value: facts.value,
            entries: facts.entries,
            flags: facts.flags,
            extra: 0,
        }
    }

    pub(crate) fn of_create(create: &Create<'_>, name: Name) -> Object {
        Object {
            kind: MapType(create.kind),
            name: Some(name),
            key: create.key,
            value: create.value,
            entries: create.entries,
            flags: create.flags,
            extra: create.extra,
        }
    }
}

impl From<&MapShape> for Object {
    fn from(shape: &MapShape) -> Object {
        Object {
            kind: shape.kind,
            name: Some(shape.name),
            key: shape.key,
            value: shape.value,
            entries: shape.entries,
            flags: shape.flags,
            extra: shape.extra,
        }
    }
}
