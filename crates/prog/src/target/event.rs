//! Programs on perf events: what tracepoints, probes and counters share.

use crate::error::{Error, Result};
use crate::link::{Link, Undo, Way};
use crate::prog::Prog;
use bpfsmith_sys::link::{More, To, create};
use bpfsmith_sys::perf::{Open, PerfEvent, Start};
use bpfsmith_uapi::{AttachType, Errno};
use std::os::fd::AsFd;

/// How a program is put on a perf event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    /// What the program reads back.
    pub(crate) cookie: u64,
    /// Only in this way; by a link, or where the kernel has none for events, without it.
    pub(crate) way: Option<Way>,
}

/// Opens the event and puts the program on it.
pub(crate) fn attach(
    prog: &Prog,
    open: &Open<'_>,
    manner: Manner,
    kind: &'static str,
    object: String,
) -> Result<Link> {
    let failed = |refused| Error::refused(refused, kind, object.clone());
    let later = Open {
        start: Start::Later,
        ..*open
    };
    let event = later.open().map_err(failed)?;
    if manner.way != Some(Way::Attachment) {
        let (to, more) = (To::Fd(event.as_fd()), More::Cookie(manner.cookie));
        match create(prog.as_fd(), to, AttachType::PERF_EVENT, 0, &more) {
            Ok(fd) => {
                // The link holds the event.
                event.enable().map_err(failed)?;
                return Ok(Link::kernel(fd, kind, object));
            }
            // Before 5.15 there were no links on events. Where there are, the older request
            // fails for the same reason.
            Err(failed) if failed.errno == Errno::EINVAL && manner == Manner::default() => {}
            Err(failed) => return Err(Error::call(failed, kind, object)),
        }
    }
    if manner.cookie != 0 {
        return Err(Error::Argument {
            what: "cookie",
            problem: "only links carry one: leave Way::Attachment out".to_owned(),
        });
    }
    event.set_program(prog.as_fd()).map_err(failed)?;
    event.enable().map_err(failed)?;
    Ok(Link::undo(Held(Some(event)), kind, object))
}

/// A program that stays on its event while the event is open.
struct Held(Option<PerfEvent>);

impl Undo for Held {
    fn undo(&mut self) -> Result<()> {
        drop(self.0.take());
        Ok(())
    }
}
