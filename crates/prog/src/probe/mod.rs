//! What the running kernel can do, found out by trying and never by its version.
//!
//! Every question is a small program, map or link that stands for an ability. The kernel accepts it
//! or says why not. One question is cheap and can be asked alone; [`Report::ask`] asks all of them.
//!
//! | to know of … | ask |
//! |---|---|
//! | a program type | [`prog_type`] |
//! | a map type | [`map_type`] |
//! | a place to attach to | [`attach_type`] |
//! | a kind of link | [`link`] |
//! | a helper in a program type | [`helper`] |
//! | a kernel function; in a program type | [`kfunc`], [`kfunc_in`] |
//! | an instruction | [`isa`] |
//! | anything else | [`feature`] |
//! | a kernel interface that BPF can implement | [`struct_ops`] |
//!
//! Nothing is left behind. What can only be tried on a device is tried in a network namespace that
//! exists for that moment.
//!
//! ```no_run
//! use bpfsmith_prog::probe;
//! use bpfsmith_uapi::{Helper, ProgType};
//!
//! let output = Helper::by_name("ringbuf_output").expect("a helper of the table");
//! if probe::helper(output, ProgType::XDP).is_yes() {
//!     println!("programs can send records to a ring buffer");
//! }
//! ```

mod attach;
mod calls;
mod features;
mod isa;
mod links;
mod map_types;
mod netns;
mod prog_types;
mod report;
mod table;
mod trial;

pub use attach::attach_type;
pub use calls::{helper, kfunc, kfunc_in, kfunc_names, kfuncs_of};
pub use features::{feature, feature_names, struct_ops, struct_ops_names};
pub use isa::{isa, isa_names};
pub use links::link;
pub use map_types::map_type;
pub use prog_types::prog_type;
pub use report::{Group, Progress, Report, Row, UnknownGroup};
pub use table::Table;

use bpfsmith_uapi::Errno;
use std::fmt;

/// Whether the kernel can do something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Support {
    /// It can.
    Yes,
    /// It cannot, and this is how it said so.
    No(String),
    /// It did not answer the question: a right is missing, or memory.
    Unknown(Errno),
}

impl Support {
    /// Whether it certainly can.
    #[must_use]
    pub const fn is_yes(&self) -> bool {
        matches!(self, Support::Yes)
    }

    /// What an error number alone says.
    fn because(errno: Errno) -> Support {
        match errno {
            Errno::EPERM
            | Errno::ENOMEM
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::EAGAIN
            | Errno::EINTR => Support::Unknown(errno),
            other => Support::No(other.to_string()),
        }
    }

    /// Yes if it worked, or failed with one of these error numbers, which only a kernel that
    /// understood the question answers.
    fn unless<T>(done: Result<T, Errno>, understood: &[Errno]) -> Support {
        match done {
            Ok(_) => Support::Yes,
            Err(errno) if understood.contains(&errno) => Support::Yes,
            Err(errno) => Support::because(errno),
        }
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Support::Yes => f.write_str("yes"),
            Support::No(reason) => write!(f, "no: {reason}"),
            Support::Unknown(errno) => write!(f, "unknown: {errno}"),
        }
    }
}
