//! [`Splicer`]: the program and its maps.

use crate::error::{Error, Refusal, Result, Side};
use crate::flow::{End, consumed};
use crate::joined::{Joined, NotJoined};
use crate::program::{Flow, Tables, Taken, buffers, verdict};
use bpfsmith_maps::{Map, ObjectMap, RingBuf};
use bpfsmith_prog::target::Sockmap;
use bpfsmith_prog::{Link, Load, Maps, Prog, Way};
use bpfsmith_sys::Refused;
use bpfsmith_sys::socket::{
    TcpState, cookie, force_receive_buffer, force_send_buffer, keep_urgent_in_line, receive_buffer,
    set_low_water, set_window, tcp_progress,
};
use bpfsmith_uapi::Errno;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// How large a [`Splicer`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many pairs it holds at most. 4096 unless told otherwise.
    pub pairs: u32,
    /// How many bytes that a receiver has not acknowledged may wait in the kernel, for each
    /// direction of a pair; less than 2 GiB. Beyond that the sender waits, and user space copies. The
    /// buffers of both sockets are made for it, so less than bandwidth times delay is slow, of the
    /// sender's path and of the receiver's. 4 MiB unless told otherwise.
    pub ahead: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            pairs: 4096,
            ahead: 4 << 20,
        }
    }
}

/// How much is left to user space at most beyond what the receive buffer of a socket holds. That much may
/// come while a worker of the kernel waits for a processor, and has not put into it what came before; and
/// a MiB of it may have been copied, and not counted.
const ON_THE_WAY: u64 = 64 << 20;

impl Settings {
    /// How much may be left to user space and not taken: more than this breaks the pair, so it is more
    /// than a sender that keeps to what it was offered can reach.
    fn most_left(&self, offered: u32) -> u64 {
        u64::from(offered) + 2 * u64::from(buffers(self.ahead)) + ON_THE_WAY
    }

    fn check(&self) -> Result<()> {
        // A map has two entries for each pair; a program adds `ahead` as a positive constant.
        for (name, value, most) in [
            ("pairs", self.pairs, 1 << 30),
            ("ahead", self.ahead, i32::MAX.cast_unsigned()),
        ] {
            let allowed = 1..=most;
            if !allowed.contains(&value) {
                return Err(Error::Setting {
                    name,
                    value,
                    allowed,
                });
            }
        }
        Ok(())
    }
}

/// The verdict program with its maps. What it has joined keeps them alive.
///
/// Linux 5.13. It needs `CAP_BPF`, `CAP_NET_ADMIN` and `CAP_PERFMON`, or root, when it is made; and
/// `CAP_NET_ADMIN` whenever a pair is joined.
#[derive(Debug)]
pub struct Splicer {
    shared: Arc<Shared>,
    behind: RingBuf,
}

/// What each joined pair needs.
#[derive(Debug)]
pub(crate) struct Shared {
    peers: ObjectMap<u64, u64>,
    sources: ObjectMap<u64, u64>,
    flows: Map<u64, Flow>,
    taken: Map<u64, Taken>,
    settings: Settings,
    link: Link,
    prog: Prog,
}

impl Splicer {
    /// Loads the program.
    ///
    /// # Errors
    /// [`Error::Setting`]; and when the kernel refuses a map, the program or the attachment.
    pub fn new(settings: Settings) -> Result<Splicer> {
        settings.check()?;
        let tables = Tables::new(settings.pairs.saturating_mul(2));
        let program = verdict(&tables, settings.ahead)?;
        let mut maps = Maps::of(&program)?;
        let name = tables.sources.shape().name;
        let sources = bpfsmith_maps::Handle::create(tables.sources.shape())?;
        let hooked = sources.try_clone()?;
        maps.insert(name, sources);
        let hook = Sockmap::verdict(&hooked);
        let prog = Load::new(&program).maps(&maps).to(&hook)?.load()?;
        let link = prog.attach(&hook)?;
        Ok(Splicer {
            behind: maps.open(&tables.behind)?,
            shared: Arc::new(Shared {
                peers: maps.open(&tables.peers)?,
                sources: maps.open(&tables.sources)?,
                flows: maps.open(&tables.flows)?,
                taken: maps.open(&tables.taken)?,
                settings,
                link,
                prog,
            }),
        })
    }

    /// Joins two established connections: from now on the kernel gives to one what comes from the
    /// other. What had come before and was not read goes first.
    ///
    /// The pair has to be looked after: [`Joined::advance`].
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel does not take the pair; the sockets come back with it, as
    /// they were but for being non-blocking and for urgent bytes, which stand where they are.
    pub fn join(
        &self,
        first: TcpStream,
        second: TcpStream,
    ) -> std::result::Result<Joined, NotJoined> {
        Joined::new(&self.shared, [first, second], None)
    }

    /// Enters a connection before the other one stands, which is under way: then it may be joined
    /// even if the other side ends its stream meanwhile. What it sent is copied in user space then,
    /// what it receives is not.
    ///
    /// Nobody may read from it before [`Expected::join`].
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel does not take the connection.
    pub fn expect(&self, first: &TcpStream, second: &TcpStream) -> Result<Expected> {
        let cookies = [
            cookie(first.as_fd())?,
            cookie(second.as_fd())?,
        ];
        keep_urgent_in_line(first.as_fd())?;
        // The kernel does not tell any more once the socket is entered.
        let read = consumed(first)?;
        self.shared.pair(Side::Second, cookies[1], first)?;
        Ok(Expected {
            shared: Some(Arc::clone(&self.shared)),
            cookies,
            read,
        })
    }

    /// Hands the cookies of sockets to the callback whose receivers are too far behind: the
    /// [`Joined`] that has one of these [`cookies`](Joined::cookies) wants [`Joined::fell_behind`].
    /// To be called when [`AsFd`] is ready to be read.
    ///
    /// # Errors
    /// When somebody else wrote into the ring of the cookies.
    pub fn behind(&mut self, mut each: impl FnMut(u64)) -> Result<()> {
        self.behind.for_each(|cookie: &u64| each(*cookie))?;
        Ok(())
    }

    /// How the program is attached: by a link since Linux 6.10.
    #[must_use]
    pub fn way(&self) -> Way {
        self.shared.link.way()
    }

    /// The verdict program.
    #[must_use]
    pub fn prog(&self) -> &Prog {
        &self.shared.prog
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.shared.settings
    }

    /// How many entries each of its maps of sockets and flows has: `peers`, `sources`, `flows`,
    /// `taken`. All are 0 when nothing is joined.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn entries(&self) -> Result<[usize; 4]> {
        let shared = &self.shared;
        let mut counts = [0; 4];
        let [peers, sources, flows, taken] = &mut counts;
        for key in shared.peers.keys() {
            key?;
            *peers += 1;
        }
        for key in shared.sources.keys() {
            key?;
            *sources += 1;
        }
        for key in shared.flows.keys() {
            key?;
            *flows += 1;
        }
        for key in shared.taken.keys() {
            key?;
            *taken += 1;
        }
        Ok(counts)
    }
}

/// A connection that is entered and waits for the one to be joined with.
#[derive(Debug)]
pub struct Expected {
    shared: Option<Arc<Shared>>,
    cookies: [u64; 2],
    read: (u64, u32),
}

impl Expected {
    /// As [`Splicer::join`], with the sockets that were entered.
    ///
    /// # Errors
    /// As there; besides, `EINVAL` when these are others.
    pub fn join(
        mut self,
        first: TcpStream,
        second: TcpStream,
    ) -> std::result::Result<Joined, NotJoined> {
        let are = [
            cookie(first.as_fd()),
            cookie(second.as_fd()),
        ];
        let shared = match self.shared.take() {
            Some(shared) if are == self.cookies.map(Ok) => shared,
            shared => {
                self.shared = shared;
                let error = Error::Socket(Refused {
                    call: "join other sockets than were entered",
                    errno: Errno::EINVAL,
                });
                let streams = [first, second];
                return Err(NotJoined { streams, error });
            }
        };
        Joined::new(&shared, [first, second], Some(self.read))
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            // An entry that stays would be of a cookie that no socket has again.
            let _ = self.cookies.iter().try_for_each(|it| shared.forget(*it));
        }
    }
}

impl AsFd for Splicer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.behind.as_fd()
    }
}

impl Shared {
    /// Has the bytes of the socket with this cookie go to that peer, once they flow.
    pub(crate) fn pair(&self, side: Side, cookie: u64, peer: &TcpStream) -> Result<()> {
        let done = self.peers.set(&cookie, peer);
        done.map_err(|error| self.explain(error, side.other(), peer))
    }

    /// Makes the buffers as large as the program expects, and says how large the one for what is
    /// received was: as much may have been offered to the sender.
    pub(crate) fn make_room(&self, from: &TcpStream, to: &TcpStream) -> Result<u32> {
        let room = buffers(self.settings.ahead);
        force_send_buffer(to.as_fd(), room)?;
        let offered = receive_buffer(from.as_fd())?;
        force_receive_buffer(from.as_fd(), room)?;
        set_window(from.as_fd(), room)?;
        Ok(offered)
    }

    /// Has the bytes of a socket flow, those that are there first.
    pub(crate) fn start(
        &self,
        side: Side,
        End { stream, cookie }: &End,
        queued: u64,
        offered: u32,
    ) -> Result<()> {
        let flow = Flow {
            sent_on: queued,
            most_left: self.settings.most_left(offered),
            ..Flow::default()
        };
        self.flows.update(cookie, &flow)?;
        let done = self.sources.set(cookie, stream);
        done.map_err(|error| self.explain(error, side, stream))?;
        // The kernel runs the program when something comes, and what is there has come before.
        set_low_water(stream.as_fd(), 1)?;
        Ok(())
    }

    /// How far a flow is.
    pub(crate) fn flow(&self, cookie: u64) -> Result<Flow> {
        let gone = || Refused {
            call: "look up a flow",
            errno: Errno::ENOENT,
        };
        Ok(self.flows.lookup(&cookie)?.ok_or_else(gone)?)
    }

    /// Says that so much of what was left to user space is with the receiver's socket.
    pub(crate) fn take(&self, cookie: u64, bytes: u64) -> Result<()> {
        Ok(self.taken.update(&cookie, &Taken { cookie, bytes })?)
    }

    /// Forgets a socket whose bytes may flow.
    ///
    /// The program may be at work for it on another CPU, and the place of what it writes to goes at
    /// once to the next flow that is entered. It works under the lock of the socket, so whoever has
    /// had that lock since the socket left the map knows that it is done.
    pub(crate) fn forget_source(&self, cookie: u64, socket: &TcpStream) -> Result<()> {
        self.sources.delete(&cookie)?;
        // That takes the lock.
        let locked = tcp_progress(socket.as_fd());
        self.forget(cookie)?;
        locked?;
        Ok(())
    }

    /// Forgets a socket that has no program.
    pub(crate) fn forget(&self, cookie: u64) -> Result<()> {
        self.peers.delete(&cookie)?;
        self.flows.delete(&cookie)?;
        self.taken.delete(&cookie)?;
        Ok(())
    }

    fn explain(&self, error: bpfsmith_maps::Error, side: Side, socket: &TcpStream) -> Error {
        /// Errors that are about the socket, or about the room for it.
        const OF_SOCKETS: [Errno; 6] = [
            Errno::E2BIG,
            Errno::EOPNOTSUPP,
            Errno::ENOTSUPP,
            Errno::EBUSY,
            Errno::EINVAL,
            Errno::ENOMEM,
        ];
        match error.errno() {
            Some(errno) if OF_SOCKETS.contains(&errno) => Error::Refused(Refusal {
                side,
                errno,
                state: state(socket),
                pairs: self.settings.pairs,
            }),
            _ => Error::Map(error),
        }
    }
}

fn state(socket: &TcpStream) -> Option<TcpState> {
    tcp_progress(socket.as_fd())
        .ok()
        .map(|progress| progress.state)
}
