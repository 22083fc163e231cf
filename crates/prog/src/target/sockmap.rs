//! Maps of sockets: what becomes of the data that their sockets receive or send.

use super::attached::Attach;
use super::{Hook, Target};
use crate::error::{Error, Result};
use crate::link::Link;
use crate::prog::Prog;
use bpfsmith_sys::attach::{Attached, query};
use bpfsmith_sys::link::{More, To, create};
use bpfsmith_sys::map::{Create, Map};
use bpfsmith_uapi::{AttachType, Errno, MapType, ProgType};
use std::os::fd::{AsFd, BorrowedFd};

/// A `SOCKMAP` or `SOCKHASH`, for the programs of its sockets.
///
/// The program is held by a link. A kernel that has none for such maps (before Linux 6.10) is asked
/// to attach it without, and [`Link::way`] says so. Attach before sockets enter the map: those in it
/// keep the programs that they met.
#[derive(Clone, Copy, Debug)]
pub struct Sockmap<'a> {
    map: BorrowedFd<'a>,
    attach_type: AttachType,
    kind: ProgType,
    by: By,
}

/// What holds the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// A link, where the kernel has such.
    Link,
    /// The map.
    Map,
}

impl<'a> Sockmap<'a> {
    /// Where messages end in a received stream.
    #[must_use]
    pub fn parser(map: &'a impl AsFd) -> Sockmap<'a> {
        Sockmap::of(
            map.as_fd(),
            AttachType::SK_SKB_STREAM_PARSER,
            ProgType::SK_SKB,
        )
    }

    /// Where the messages of a received stream go.
    #[must_use]
    pub fn stream_verdict(map: &'a impl AsFd) -> Sockmap<'a> {
        Sockmap::of(
            map.as_fd(),
            AttachType::SK_SKB_STREAM_VERDICT,
            ProgType::SK_SKB,
        )
    }

    /// Where received data of any protocol goes. Linux 5.13.
    #[must_use]
    pub fn verdict(map: &'a impl AsFd) -> Sockmap<'a> {
        Sockmap::of(map.as_fd(), AttachType::SK_SKB_VERDICT, ProgType::SK_SKB)
    }

    /// Where sent data goes.
    #[must_use]
    pub fn message(map: &'a impl AsFd) -> Sockmap<'a> {
        Sockmap::of(map.as_fd(), AttachType::SK_MSG_VERDICT, ProgType::SK_MSG)
    }

    fn of(map: BorrowedFd<'a>, attach_type: AttachType, kind: ProgType) -> Sockmap<'a> {
        Sockmap {
            map,
            attach_type,
            kind,
            by: By::Link,
        }
    }

    /// Without a link: the program stays as long as the map, also when this process is killed.
    #[must_use]
    pub const fn attachment(mut self) -> Sockmap<'a> {
        self.by = By::Map;
        self
    }

    /// What is on the hook. Linux 5.17.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn query(&self) -> Result<Attached> {
        query(To::Fd(self.map), self.attach_type, 0)
            .map_err(|failed| Error::call(failed, "sockmap", self.attach_type.to_string()))
    }

    fn by_map(&self, prog: &Prog, object: String) -> Result<Link> {
        let attach = Attach {
            to: self.map,
            attach_type: self.attach_type,
            flags: 0,
            replace: None,
            kind: "sockmap",
            object,
        };
        attach.run(prog)
    }

    /// Whether the kernel has such links: tried on a map that nobody uses.
    fn has_links(&self, prog: &Prog) -> bool {
        let shape = Create {
            kind: MapType::SOCKMAP.0,
            key: 4,
            value: 4,
            entries: 1,
            ..Create::default()
        };
        Map::create(&shape).is_ok_and(|map| {
            let to = To::Fd(map.as_fd());
            create(prog.as_fd(), to, self.attach_type, 0, &More::Nothing).is_ok()
        })
    }
}

impl Target for Sockmap<'_> {
    fn hook(&self) -> Result<Hook> {
        Ok(Hook::plain(self.attach_type))
    }

    fn attach(&self, prog: &Prog) -> Result<Link> {
        prog.expect(self.kind, self.attach_type)?;
        let object = format!("{} at {}", prog.quoted(), self.attach_type);
        if self.by == By::Map {
            return self.by_map(prog, object);
        }
        let to = To::Fd(self.map);
        match create(prog.as_fd(), to, self.attach_type, 0, &More::Nothing) {
            Ok(fd) => Ok(Link::kernel(fd, "sockmap", object)),
            Err(failed) if failed.errno == Errno::EINVAL && !self.has_links(prog) => {
                self.by_map(prog, object)
            }
            Err(failed) => Err(Error::call(failed, "sockmap", object)),
        }
    }
}
