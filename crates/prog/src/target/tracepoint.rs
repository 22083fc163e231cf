//! Tracepoints: trace events with their record as context.

use super::event::{self, Manner};
use super::{Hook, Target};
use crate::error::Result;
use crate::link::{Link, Way};
use crate::prog::Prog;
use crate::tracefs;
use bpfsmith_sys::perf::{Event, Open, Scope};
use bpfsmith_uapi::{AttachType, ProgType};
use std::path::PathBuf;

/// A trace event, for `TRACEPOINT` programs. The context is the record that its `format` file in
/// tracefs describes. Linux 4.7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracepoint {
    which: Which,
    manner: Manner,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    Named {
        category: String,
        name: String,
        tracefs: Option<PathBuf>,
    },
    Number(u64),
}

impl Tracepoint {
    /// The event of that category and name: `syscalls`, `sys_enter_openat`. Its number is looked up
    /// in tracefs, wherever that is mounted.
    #[must_use]
    pub fn named(category: &str, name: &str) -> Tracepoint {
        Tracepoint {
            which: Which::Named {
                category: category.to_owned(),
                name: name.to_owned(),
                tracefs: None,
            },
            manner: Manner::default(),
        }
    }

    /// The event of that number, as in its `id` file: needs no tracefs.
    #[must_use]
    pub fn number(number: u64) -> Tracepoint {
        Tracepoint {
            which: Which::Number(number),
            manner: Manner::default(),
        }
    }

    /// With tracefs at this place.
    #[must_use]
    pub fn tracefs(mut self, place: impl Into<PathBuf>) -> Tracepoint {
        if let Which::Named { tracefs, .. } = &mut self.which {
            *tracefs = Some(place.into());
        }
        self
    }

    /// With a number that the program reads with `get_attach_cookie`. Linux 5.15.
    #[must_use]
    pub fn cookie(mut self, cookie: u64) -> Tracepoint {
        self.manner.cookie = cookie;
        self
    }

    /// Only in this way. Otherwise by a link, and before Linux 5.15 without one.
    #[must_use]
    pub fn way(mut self, way: Way) -> Tracepoint {
        self.manner.way = Some(way);
        self
    }
}

impl Target for Tracepoint {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::default())
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        prog.expect(ProgType::TRACEPOINT, AttachType(0))?;
        let (number, name) = match &self.which {
            Which::Number(number) => (*number, format!("number {number}")),
            Which::Named {
                category,
                name,
                tracefs,
            } => (
                tracefs::event(tracefs.as_deref(), category, name)?,
                format!("{category}:{name}"),
            ),
        };
        // Programs run on every CPU, whichever the event is for.
        let open = Open::new(Event::Tracepoint(number), Scope::Cpu(0));
        let object = format!("{} on {name}", prog.quoted());
        event::attach(prog, &open, self.manner, "tracepoint", object)
    }
}
