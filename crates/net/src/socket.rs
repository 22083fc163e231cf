//! `Netlink`: a socket to the kernel that asks, lists and reads acknowledgements.

use crate::error::{Error, Operation, Reason, Refusal};
use crate::ns::NetNs;
use crate::wire::{
    Frame, HEADER, Malformed, Message, NLA_TYPE_MASK, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED,
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, aligned,
    attrs, frames,
};
use bpfsmith_sys::socket::explain_netlink;
use bpfsmith_uapi::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvmsg, sendto, socket,
};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often a list is tried while the table keeps changing.
const DUMP_TRIES: u32 = 16;

const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;

/// A netlink socket.
///
/// It belongs to the network namespace in which it was opened, whichever thread uses it later, and
/// may be shared between threads: requests take turns.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    exchange: Mutex<Exchange>,
    restarts: AtomicU64,
}

#[derive(Debug, Default)]
struct Exchange {
    seq: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// A socket for devices, addresses, routes and filters, in the namespace of this thread.
    ///
    /// # Errors
    ///
    /// When the kernel gives no socket.
    pub fn open() -> Result<Netlink, Error> {
        Netlink::of(SockProtocol::NetlinkRoute)
    }

    /// The same in another namespace.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered or the kernel gives no socket.
    pub fn open_in(ns: &NetNs) -> Result<Netlink, Error> {
        ns.run(Netlink::open)?
    }

    /// A socket for generic netlink, in the namespace of this thread.
    ///
    /// # Errors
    ///
    /// When the kernel gives no socket.
    pub fn open_generic() -> Result<Netlink, Error> {
        Netlink::of(SockProtocol::NetlinkGeneric)
    }

    fn of(protocol: SockProtocol) -> Result<Netlink, Error> {
        let refused = |errno| Error::nix(Operation::SOCKET, "", errno);
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).map_err(refused)?;
        explain_netlink(fd.as_fd())
            .map_err(|error| Error::plain(Operation::SOCKET, "", error.errno))?;
        Ok(Netlink {
            fd,
            exchange: Mutex::default(),
            restarts: AtomicU64::new(0),
        })
    }

    /// How often a list was started again because its table changed meanwhile.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Asks for something to be done and waits for the acknowledgement.
    ///
    /// `object` is what an error names.
    ///
    /// # Errors
    ///
    /// [`Reason::Refused`] with the kernel's sentence; what can go wrong with a message else.
    pub fn ack(&self, operation: Operation, object: &str, message: Message) -> Result<(), Error> {
        let error = |reason| Error::new(operation, object, reason);
        let message = message.flags(NLM_F_ACK);
        self.exchange(message, |_| Ok(()))
            .map(|_| ())
            .map_err(error)
    }

    /// Asks for one answer and reads it.
    ///
    /// # Errors
    ///
    /// As [`ack`](Netlink::ack), and [`Reason::NoAnswer`].
    pub fn ask<T>(
        &self,
        operation: Operation,
        object: &str,
        message: Message,
        read: impl Fn(Frame<'_>) -> Result<T, Malformed>,
    ) -> Result<T, Error> {
        let error = |reason| Error::new(operation, object, reason);
        let mut answer = None;
        let message = message.flags(NLM_F_ACK);
        self.exchange(message, |frame| {
            answer = Some(read(frame)?);
            Ok(())
        })
        .map_err(error)?;
        answer.ok_or_else(|| error(Reason::NoAnswer))
    }

    /// Lists a table; rows that `read` turns into nothing are left out.
    ///
    /// When the table changes meanwhile, the list is started again, and
    /// [`restarts`](Netlink::restarts) counts it.
    ///
    /// # Errors
    ///
    /// As [`ack`](Netlink::ack), and [`Reason::Unstable`] when the table never holds still.
    pub fn dump<T>(
        &self,
        operation: Operation,
        object: &str,
        message: &Message,
        read: impl Fn(Frame<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>, Error> {
        let error = |reason| Error::new(operation, object, reason);
        for _ in 0..DUMP_TRIES {
            let mut rows = Vec::new();
            let message = message.clone().flags(NLM_F_DUMP);
            let end = self.exchange(message, |frame| {
                rows.extend(read(frame)?);
                Ok(())
            });
            match end {
                Ok(End::Complete) => return Ok(rows),
                Ok(End::Interrupted) => _ = self.restarts.fetch_add(1, Ordering::Relaxed),
                // The kernel's way of saying the same before it has sent a row.
                Err(Reason::Refused(refusal)) if refusal.errno == Errno::EINTR => {
                    self.restarts.fetch_add(1, Ordering::Relaxed);
                }
                Err(reason) => return Err(error(reason)),
            }
        }
        Err(error(Reason::Unstable { tries: DUMP_TRIES }))
    }

    /// Sends a request and takes its answers up to the end.
    fn exchange(
        &self,
        message: Message,
        mut take: impl FnMut(Frame<'_>) -> Result<(), Malformed>,
    ) -> Result<End, Reason> {
        let mut exchange = self.turn();
        exchange.seq = exchange.seq.wrapping_add(1);
        let seq = exchange.seq;
        let request = message.finish(seq)?;
        self.send(&request)?;
        let mut state = State {
            seq,
            request: &request,
            unread: None,
            end: End::Complete,
        };
        loop {
            let len = self.receive(&mut exchange.buffer)?;
            for frame in frames(&exchange.buffer[..len]) {
                if state.step(frame?, &mut take)? {
                    return match state.unread {
                        Some(malformed) => Err(malformed.into()),
                        None => Ok(state.end),
                    };
                }
            }
        }
    }

    /// A panic while another thread held the turn leaves nothing broken: answers to old requests
    /// are passed over by their sequence number.
    fn turn(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, request: &[u8]) -> Result<(), Reason> {
        let kernel = NetlinkAddr::new(0, 0);
        loop {
            match sendto(self.fd.as_raw_fd(), request, &kernel, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(refused(errno)),
            }
        }
    }

    /// Receives one datagram from the kernel, whatever its size.
    fn receive(&self, buffer: &mut Vec<u8>) -> Result<usize, Reason> {
        loop {
            // A list fills the buffer that it is offered, so the first look offers a large one.
            if buffer.len() < 32 << 10 {
                buffer.resize(32 << 10, 0);
            }
            let (len, _) = self.receive_into(buffer, MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC)?;
            if len > buffer.len() {
                buffer.resize(len, 0);
            }
            let (len, from_kernel) = self.receive_into(buffer, MsgFlags::MSG_TRUNC)?;
            if from_kernel && len <= buffer.len() {
                return Ok(len);
            }
        }
    }

    fn receive_into(&self, buffer: &mut [u8], flags: MsgFlags) -> Result<(usize, bool), Reason> {
        loop {
            let mut slices = [IoSliceMut::new(buffer)];
            match recvmsg::<NetlinkAddr>(self.fd.as_raw_fd(), &mut slices, None, flags) {
                Ok(got) => {
                    let from_kernel = got.address.is_none_or(|from| from.pid() == 0);
                    return Ok((got.bytes, from_kernel));
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(refused(errno)),
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn refused(errno: nix::errno::Errno) -> Reason {
    Reason::Refused(Refusal::plain(Errno(errno as i32)))
}

/// How the answers to a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    /// The table changed while it was listed.
    Interrupted,
}

/// What is known while the answers to one request come in.
struct State<'a> {
    seq: u32,
    request: &'a [u8],
    /// The first answer that could not be read. The rest is taken all the same, because a list
    /// that is left half read blocks the socket for the next one.
    unread: Option<Malformed>,
    end: End,
}

impl State<'_> {
    /// Takes a message; returns whether it was the last.
    fn step(
        &mut self,
        frame: Frame<'_>,
        take: &mut impl FnMut(Frame<'_>) -> Result<(), Malformed>,
    ) -> Result<bool, Reason> {
        if frame.seq != self.seq {
            return Ok(false);
        }
        if frame.flags & NLM_F_DUMP_INTR != 0 && frame.kind != NLMSG_ERROR {
            self.end = End::Interrupted;
        }
        match frame.kind {
            NLMSG_NOOP => Ok(false),
            NLMSG_OVERRUN => Err(Reason::Refused(Refusal::plain(Errno::ENOBUFS))),
            NLMSG_ERROR | NLMSG_DONE => verdict(frame, self.request).map(|()| true),
            _ => {
                if let Err(malformed) = take(frame) {
                    self.unread.get_or_insert(malformed);
                }
                Ok(false)
            }
        }
    }
}

/// Reads the message that ends an exchange.
pub(crate) fn verdict(frame: Frame<'_>, request: &[u8]) -> Result<(), Reason> {
    let what = "an acknowledgement is cut short";
    let Some((code, rest)) = frame.body.split_first_chunk::<4>() else {
        return match frame.kind {
            // Old kernels end a list without a number.
            NLMSG_DONE => Ok(()),
            _ => Err(Malformed { what, at: HEADER }.into()),
        };
    };
    let code = i32::from_ne_bytes(*code);
    if code >= 0 {
        return Ok(());
    }
    let mut refusal = Refusal::plain(Errno(code.saturating_neg()));
    if frame.flags & NLM_F_ACK_TLVS != 0 {
        let quoted = match frame.kind {
            NLMSG_DONE => 0,
            _ if frame.flags & NLM_F_CAPPED != 0 => HEADER,
            _ => aligned(quoted_len(rest)),
        };
        for attr in attrs(rest.get(quoted..).unwrap_or_default()) {
            let attr = attr?;
            match attr.kind {
                NLMSGERR_ATTR_MSG => refusal.sentence = Some(attr.str()?.to_owned()),
                NLMSGERR_ATTR_OFFS => refusal.offset = Some(attr.u32()?),
                _ => {}
            }
        }
        refusal.attribute = refusal
            .offset
            .and_then(|offset| attribute_at(request, offset));
    }
    Err(Reason::Refused(refusal))
}

/// The length in the header of the request that an acknowledgement quotes.
fn quoted_len(rest: &[u8]) -> usize {
    let len = rest
        .first_chunk::<4>()
        .map_or(0, |len| u32::from_ne_bytes(*len));
    usize::try_from(len).unwrap_or(usize::MAX)
}

fn attribute_at(request: &[u8], offset: u32) -> Option<u16> {
    let start = usize::try_from(offset).ok()?.checked_add(2)?;
    let kind = request.get(start..)?.first_chunk::<2>()?;
    Some(u16::from_ne_bytes(*kind) & NLA_TYPE_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(flags: u16, kind: u16, build: impl FnOnce(Message) -> Message) -> Vec<u8> {
        build(Message::new(kind, flags)).finish(1).unwrap()
    }

    fn read(bytes: &[u8], request: &[u8]) -> Result<(), Reason> {
        verdict(frames(bytes).next().unwrap()?, request)
    }

    #[test]
    fn a_refusal_carries_sentence_and_attribute() {
        let request = Message::new(16, 0).u32(3, 1).finish(1).unwrap();
        let bytes = answer(NLM_F_CAPPED | NLM_F_ACK_TLVS, NLMSG_ERROR, |m| {
            m.fixed(&(-22i32).to_ne_bytes())
                .fixed(&[0; 16])
                .str(1, "Not so.")
                .u32(2, 16)
        });
        let expected = Refusal {
            errno: Errno::EINVAL,
            sentence: Some("Not so.".into()),
            attribute: Some(3),
            offset: Some(16),
        };
        assert_eq!(read(&bytes, &request), Err(Reason::Refused(expected)));
    }

    #[test]
    fn a_quoted_request_is_passed_over() {
        let request = Message::new(16, 0).u32(3, 1).finish(1).unwrap();
        let bytes = answer(NLM_F_ACK_TLVS, NLMSG_ERROR, |m| {
            m.fixed(&(-1i32).to_ne_bytes())
                .fixed(&request)
                .str(1, "No.")
        });
        let Err(Reason::Refused(refusal)) = read(&bytes, &request) else {
            panic!("refused")
        };
        assert_eq!(
            (refusal.errno, refusal.sentence.as_deref()),
            (Errno::EPERM, Some("No."))
        );
    }

    /// Feeds answers to one request; returns how it ended and how many rows there were.
    fn run(answers: &[Vec<u8>]) -> (Option<Result<End, Reason>>, usize) {
        let mut state = State {
            seq: 1,
            request: &[],
            unread: None,
            end: End::Complete,
        };
        let mut rows = 0;
        for bytes in answers {
            let frame = frames(bytes).next().unwrap().unwrap();
            let mut take = |_: Frame<'_>| {
                rows += 1;
                Ok(())
            };
            match state.step(frame, &mut take) {
                Ok(false) => {}
                Ok(true) => return (Some(Ok(state.end)), rows),
                Err(reason) => return (Some(Err(reason)), rows),
            }
        }
        (None, rows)
    }

    #[test]
    fn a_list_that_changed_meanwhile_is_known() {
        let row = |flags| answer(2 | flags, 16, |m| m);
        let done = |flags| answer(2 | flags, NLMSG_DONE, |m| m.fixed(&[0; 4]));
        assert_eq!(
            run(&[row(0), row(0), done(0)]),
            (Some(Ok(End::Complete)), 2)
        );
        let changed = Some(Ok(End::Interrupted));
        assert_eq!(
            run(&[row(0), row(NLM_F_DUMP_INTR), done(0)]),
            (changed.clone(), 2)
        );
        assert_eq!(run(&[row(0), done(NLM_F_DUMP_INTR)]), (changed, 1));
    }

    #[test]
    fn answers_to_other_requests_are_passed_over() {
        let stale = Message::new(NLMSG_ERROR, 0)
            .fixed(&(-1i32).to_ne_bytes())
            .finish(9)
            .unwrap();
        let good = answer(0, NLMSG_ERROR, |m| m.fixed(&[0; 4]));
        assert_eq!(run(&[stale.clone(), good]), (Some(Ok(End::Complete)), 0));
        assert_eq!(run(&[stale]), (None, 0));
        let lost = answer(0, NLMSG_OVERRUN, |m| m);
        assert!(matches!(run(&[lost]), (Some(Err(Reason::Refused(_))), 0)));
    }

    #[test]
    fn the_end_of_a_list_may_be_a_refusal() {
        let bytes = answer(0, NLMSG_DONE, |m| m.fixed(&(-22i32).to_ne_bytes()));
        assert!(matches!(read(&bytes, &[]), Err(Reason::Refused(_))));
        assert_eq!(read(&answer(0, NLMSG_DONE, |m| m), &[]), Ok(()));
        assert!(matches!(
            read(&answer(0, NLMSG_ERROR, |m| m), &[]),
            Err(Reason::Malformed(_))
        ));
        let least = answer(0, NLMSG_ERROR, |m| m.fixed(&i32::MIN.to_ne_bytes()));
        assert!(matches!(read(&least, &[]), Err(Reason::Refused(_))));
    }
}
