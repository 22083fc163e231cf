//! Sockets: which may be steered to, and which a service has.

use crate::binding::{Label, Protocol};
use crate::error::{Error, Result, SocketProblem};
use crate::layout::{Group, Kind, SLOTS, SOCKETS, Service, group, place};
use crate::steering::Steering;
use bpfsmith_sys::{Refused, socket as sys};
use bpfsmith_uapi::Errno;
use bpfsmith_uapi::net::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use nix::sys::socket::{SockType, SockaddrStorage, getpeername, getsockname, getsockopt, sockopt};
use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::V4 => "v4",
            Family::V6 => "v6",
        })
    }
}

/// A place of a service that a socket has: one for both families has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Socket {
    /// Its protocol.
    pub protocol: Protocol,
    /// Whose packets come to it.
    pub family: Family,
    /// Its number among those.
    pub slot: u32,
    /// What the kernel calls it: `SO_COOKIE`.
    pub cookie: u64,
}

/// What [`Steering::register`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// What the kernel calls the socket.
    pub cookie: u64,
    /// Where it listens, or is bound.
    pub address: SocketAddr,
    /// Its places.
    pub places: Vec<Socket>,
}

const NO_SLOT: Error = Error::Full {
    what: "sockets of one kind in a service",
    most: SLOTS,
};

/// A socket that may be steered to.
struct Inspected {
    cookie: u64,
    address: SocketAddr,
    kinds: Vec<Kind>,
}

/// Refuses what no packet would ever reach, and says what kinds of packets a socket takes.
fn inspect(socket: BorrowedFd<'_>, netns: u64) -> std::result::Result<Inspected, Wrong> {
    let (protocol, address) = steerable(socket)?;
    if sys::netns_cookie(socket).map_err(Wrong::of)? != netns {
        return Err(SocketProblem::Namespace.into());
    }
    let is_v6_only = match address {
        SocketAddr::V4(_) => false,
        SocketAddr::V6(_) => getsockopt(&socket, sockopt::Ipv6V6Only).map_err(Wrong::option)?,
    };
    Ok(Inspected {
        cookie: sys::cookie(socket).map_err(Wrong::of)?,
        kinds: kinds(protocol, address.ip(), is_v6_only),
        address,
    })
}

/// The protocol of a socket that listens for connections or datagrams, and where.
pub(crate) fn steerable(
    socket: BorrowedFd<'_>,
) -> std::result::Result<(Protocol, SocketAddr), Wrong> {
    let family = sys::family(socket).map_err(Wrong::of)?;
    if ![AF_INET, AF_INET6].contains(&family.cast_signed()) {
        return Err(SocketProblem::Family(family).into());
    }
    let protocol = match sys::protocol(socket).map_err(Wrong::of)? {
        tcp if tcp == IPPROTO_TCP.cast_unsigned() => Protocol::Tcp,
        udp if udp == IPPROTO_UDP.cast_unsigned() => Protocol::Udp,
        other => return Err(SocketProblem::Protocol(other).into()),
    };
    if getsockopt(&socket, sockopt::SockType).map_err(Wrong::option)? == SockType::Raw {
        return Err(SocketProblem::Raw.into());
    }
    let fd = socket.as_raw_fd();
    let address = getsockname::<SockaddrStorage>(fd).map_err(Wrong::option)?;
    let address = as_address(&address).ok_or(SocketProblem::Family(family))?;
    match protocol {
        Protocol::Tcp if !getsockopt(&socket, sockopt::AcceptConn).map_err(Wrong::option)? => {
            Err(SocketProblem::NotListening.into())
        }
        Protocol::Udp if getpeername::<SockaddrStorage>(fd).is_ok() => {
            Err(SocketProblem::Connected.into())
        }
        Protocol::Udp if address.port() == 0 => Err(SocketProblem::Unbound.into()),
        _ => Ok((protocol, address)),
    }
}

/// A socket for any IPv6 address takes IPv4 too, unless it says otherwise; one for the IPv6 form of an
/// IPv4 address takes nothing else.
fn kinds(protocol: Protocol, bound: IpAddr, is_v6_only: bool) -> Vec<Kind> {
    let four = IpAddr::from([0; 4]);
    match bound {
        IpAddr::V6(address) if address.is_unspecified() && !is_v6_only => {
            vec![
                Kind::new(protocol, four),
                Kind::new(protocol, bound),
            ]
        }
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
            vec![Kind::new(protocol, four)]
        }
        _ => vec![Kind::new(protocol, bound)],
    }
}

fn as_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let four = address.as_sockaddr_in().copied().map(SocketAddrV4::from);
    let six = address.as_sockaddr_in6().copied().map(SocketAddrV6::from);
    four.map(SocketAddr::V4).or(six.map(SocketAddr::V6))
}

/// Why a socket is none to be steered to.
pub(crate) enum Wrong {
    Problem(SocketProblem),
    Call(Refused),
}

impl Wrong {
    fn option(errno: nix::errno::Errno) -> Wrong {
        Wrong::Call(Refused {
            call: "getsockopt",
            errno: Errno(errno as i32),
        })
    }

    fn of(refused: Refused) -> Wrong {
        match refused.errno {
            Errno::ENOTSOCK => Wrong::Problem(SocketProblem::NoSocket),
            _ => Wrong::Call(refused),
        }
    }

    pub(crate) fn at(self, label: &Label) -> Error {
        match self {
            Wrong::Problem(problem) => Error::Socket {
                label: label.clone(),
                problem,
            },
            Wrong::Call(refused) => refused.into(),
        }
    }
}

impl From<SocketProblem> for Wrong {
    fn from(problem: SocketProblem) -> Wrong {
        Wrong::Problem(problem)
    }
}

impl Steering {
    /// Gives a service a socket more: a TCP socket that listens, or a UDP socket that is bound and not
    /// connected. Where it is bound to, does not matter. What comes to the service is shared among its
    /// sockets by flow. A socket that is closed, in all processes that have it, leaves by itself; one that
    /// is shut down or connected later gets nothing more, and the others have its flows.
    ///
    /// Only this socket gets packets, not the others of its `SO_REUSEPORT` group: register each.
    ///
    /// # Errors
    /// [`Error::Socket`] says what is wrong with the socket; [`Error::Full`] when the service has 64 of
    /// them. Then it has none more.
    pub fn register(&mut self, label: &Label, socket: impl AsFd) -> Result<Registered> {
        let _lock = self.writing()?;
        let netns = self.home.known(&self.meta)?.netns;
        let found = inspect(socket.as_fd(), netns).map_err(|wrong| wrong.at(label))?;
        let service = self.service_made(label)?;
        self.enter(service, socket.as_fd(), found, |_| false)
    }

    /// Gives a service these sockets in the place of those it has, for the protocols and families that
    /// these are of. There is always one.
    ///
    /// Who waits in the queue of a listener that was replaced is reset when that is closed: accept them
    /// before, or keep the listener and have it handed over, see [`handover`](crate::handover).
    ///
    /// # Errors
    /// [`Error::Socket`] says what is wrong with one of the sockets; [`Error::Full`] when there are more than
    /// 64 of a protocol and family. Then nothing changed.
    pub fn switch<S: AsFd>(
        &mut self,
        label: &Label,
        sockets: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Registered>> {
        let _lock = self.writing()?;
        let netns = self.home.known(&self.meta)?.netns;
        let mut checked = Vec::new();
        for socket in sockets {
            let found = inspect(socket.as_fd(), netns).map_err(|wrong| wrong.at(label))?;
            checked.push((socket, found));
        }
        let cookies: HashSet<u64> = checked.iter().map(|(_, found)| found.cookie).collect();
        let mut kinds = Vec::new();
        for kind in Kind::ALL {
            let own = checked
                .iter()
                .filter(|(_, found)| found.kinds.contains(&kind));
            let own: HashSet<u64> = own.map(|(_, found)| found.cookie).collect();
            match own.len() {
                0 => {}
                many if many > SLOTS as usize => return Err(NO_SLOT),
                _ => kinds.push(kind),
            }
        }
        let service = self.service_made(label)?;
        let mut all = Vec::new();
        for (socket, found) in checked {
            // Where there is no other place, one that is to go makes room.
            let may_go = |cookie| !cookies.contains(&cookie);
            all.push(self.enter(service, socket.as_fd(), found, may_go)?);
        }
        self.keep_sockets(service, &kinds, |cookie| cookies.contains(&cookie))?;
        Ok(all)
    }

    /// Takes a socket from a service, by what the kernel calls it, and says whether it was there. It
    /// stays open, and keeps what came before.
    ///
    /// # Errors
    /// [`Error::NoService`], and what the kernel refuses.
    pub fn unregister(&mut self, label: &Label, cookie: u64) -> Result<bool> {
        let _lock = self.writing()?;
        let service = self.service(label)?;
        let all = self.sockets_of(service.id)?;
        let was_there = all.iter().any(|socket| socket.cookie == cookie);
        self.keep_sockets(service, &Kind::ALL, |other| other != cookie)?;
        Ok(was_there)
    }

    /// The sockets of a service that live.
    ///
    /// # Errors
    /// [`Error::NoService`], and what the kernel refuses.
    pub fn sockets(&mut self, label: &Label) -> Result<Vec<Socket>> {
        let _lock = self.reading()?;
        let service = self.service(label)?;
        self.sockets_of(service.id)
    }

    pub(crate) fn sockets_of(&self, service: u32) -> Result<Vec<Socket>> {
        let mut all = Vec::new();
        for kind in Kind::ALL {
            let index = group(service, kind);
            for (slot, cookie) in self.living(index)? {
                all.push(Socket::new(kind, slot, cookie));
            }
        }
        Ok(all)
    }

    /// The slots of a group whose sockets live, with what these are called.
    fn living(&self, index: u32) -> Result<Vec<(u32, u64)>> {
        let held = self.groups.lookup(&index)?.unwrap_or_default();
        let slots = (0..SLOTS).filter(|slot| held.mask >> slot & 1 == 1);
        let mut living = Vec::new();
        for slot in slots {
            if let Some(cookie) = self.sockets.cookie(&place(index, slot))? {
                living.push((slot, cookie));
            }
        }
        Ok(living)
    }

    /// Gives a socket its places: of each group that it is for, the one that it has, or a free one, or
    /// that of a socket that may go.
    fn enter(
        &self,
        service: Service,
        socket: BorrowedFd<'_>,
        found: Inspected,
        may_go: impl Fn(u64) -> bool,
    ) -> Result<Registered> {
        let mut slots = Vec::new();
        for kind in found.kinds {
            let living = self.living(group(service.id, kind))?;
            let own = living.iter().find(|(_, cookie)| *cookie == found.cookie);
            let is_free = |slot: &u32| living.iter().all(|(taken, _)| taken != slot);
            let gone = || living.iter().find(|(_, cookie)| may_go(*cookie));
            let slot = match own {
                Some((slot, _)) => Some(*slot),
                None => (0..SLOTS)
                    .find(is_free)
                    .or_else(|| gone().map(|(slot, _)| *slot)),
            };
            slots.push((kind, slot.ok_or(NO_SLOT)?, own.is_some(), living));
        }
        let mut places = Vec::new();
        for (kind, slot, is_there, mut living) in slots {
            let index = group(service.id, kind);
            if !is_there {
                let set = self.sockets.set(&place(index, slot), socket);
                set.map_err(|error| Error::room("sockets", SOCKETS, error))?;
                living.retain(|(taken, _)| *taken != slot);
                living.push((slot, found.cookie));
            }
            self.tell(service, index, &living)?;
            places.push(Socket::new(kind, slot, found.cookie));
        }
        Ok(Registered {
            cookie: found.cookie,
            address: found.address,
            places,
        })
    }

    /// Takes all sockets of these kinds from a service but some.
    pub(crate) fn keep_sockets(
        &self,
        service: Service,
        kinds: &[Kind],
        keep: impl Fn(u64) -> bool,
    ) -> Result<()> {
        for kind in kinds {
            let index = group(service.id, *kind);
            let (stay, go): (Vec<_>, Vec<_>) = self
                .living(index)?
                .into_iter()
                .partition(|(_, cookie)| keep(*cookie));
            // First nobody is sent there, then it goes.
            self.tell(service, index, &stay)?;
            for (slot, _) in go {
                self.sockets.delete(&place(index, slot))?;
            }
        }
        Ok(())
    }

    /// Has the program choose among these.
    fn tell(&self, service: Service, index: u32, living: &[(u32, u64)]) -> Result<()> {
        let mask = living.iter().fold(0, |mask, (slot, _)| mask | 1 << slot);
        let told = Group {
            mask,
            count: u64::BITS - mask.leading_zeros(),
            verdict: service.verdict,
        };
        Ok(self.groups.update(&index, &told)?)
    }
}

impl Socket {
    fn new(kind: Kind, slot: u32, cookie: u64) -> Socket {
        Socket {
            protocol: kind.protocol(),
            family: if kind.is_v6() { Family::V6 } else { Family::V4 },
            slot,
            cookie,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::kinds;
    use crate::binding::Protocol;

    #[test]
    fn a_socket_takes_the_families_that_it_is_bound_for() {
        for (address, only, count) in [
            ("::", false, 2),
            ("::", true, 1),
            ("::1", false, 1),
            ("::ffff:10.0.0.1", false, 1),
            ("0.0.0.0", false, 1),
        ] {
            let kinds = kinds(Protocol::Tcp, address.parse().unwrap(), only);
            assert_eq!(kinds.len(), count, "{address}");
        }
        let four = kinds(Protocol::Udp, "::ffff:10.0.0.1".parse().unwrap(), false);
        assert!(!four[0].is_v6());
    }
}
