//! Descriptors that go to another process over a Unix socket (`SCM_RIGHTS`).
//!
//! What arrives is another descriptor of the same object: a listening socket goes on listening while
//! it is on its way, whoever closes what.

use crate::refused::{Answer, Refused};
use bpfsmith_uapi::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// How many descriptors one message carries at most.
pub const MOST: usize = 253;

/// Sends bytes, at least one, and descriptors with them; how many bytes went. Those who come first
/// carry the descriptors.
///
/// # Errors
/// `EINVAL` for more than [`MOST`] descriptors; `EPIPE` when the other end is closed.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Answer<usize> {
    const CALL: &str = "sendmsg SCM_RIGHTS";
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let controls: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    // Else a process that lost its peer would be killed by a signal.
    let flags = MsgFlags::MSG_NOSIGNAL;
    loop {
        let part = [IoSlice::new(bytes)];
        match sendmsg::<()>(socket.as_raw_fd(), &part, controls, flags, None) {
            Err(nix::errno::Errno::EINTR) => {}
            done => return done.map_err(|errno| Refused::because(CALL, Errno(errno as i32))),
        }
    }
}

/// Room for all that comes with a message: descriptors, and what options such as `SO_PASSCRED` add.
#[repr(C, align(8))]
struct Controls([u8; CONTROLS]);

const CONTROLS: usize = MOST * size_of::<RawFd>() + 1024;

/// Receives bytes and the descriptors that came with them, which a program that is started later does not
/// inherit. No bytes mean that the other end is closed.
///
/// # Errors
/// `EAGAIN` when nothing came in the time that the socket waits; `EMFILE` when this process may not have
/// all of the descriptors: then it has none of them, and the bytes are gone.
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Answer<(usize, Vec<OwnedFd>)> {
    const CALL: &str = "recvmsg SCM_RIGHTS";
    let mut controls = Controls([0; CONTROLS]);
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all zeros is a header without an address, bytes or controls.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    let read = loop {
        header.msg_control = controls.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROLS as _;
        let (fd, flags) = (socket.as_raw_fd(), libc::MSG_CMSG_CLOEXEC);
        // SAFETY: the header names `bytes` and `controls`, which live and are as long as it says.
        match usize::try_from(unsafe { libc::recvmsg(fd, &raw mut header, flags) }) {
            Ok(read) => break read,
            Err(_) => match Refused::last(CALL) {
                refused if refused.errno == Errno::EINTR => {}
                refused => return Err(refused),
            },
        }
    };
    let fds = taken(&header);
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(Refused::because(CALL, Errno::EMFILE));
    }
    Ok((read, fds))
}

/// The descriptors that a header tells of, also when some did not come.
fn taken(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled in the header and what it names.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: it is one of the kernel's.
        let (control, data) = unsafe { (ptr::read_unaligned(next), libc::CMSG_DATA(next)) };
        if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            #[allow(
                clippy::unnecessary_cast,
                reason = "not every C library has the same type there"
            )]
            let many =
                (next as usize + control.cmsg_len as usize - data as usize) / size_of::<RawFd>();
            for n in 0..many {
                // SAFETY: so many numbers are there. The kernel made these descriptors for this process
                // just now, and nobody else knows of them.
                fds.push(unsafe {
                    OwnedFd::from_raw_fd(ptr::read_unaligned(data.cast::<RawFd>().add(n)))
                });
            }
        }
        // SAFETY: as for the first one.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    fds
}

#[cfg(test)]
mod tests {
    use super::{receive, send};
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_and_is_the_same_object() {
        let (near, far) = UnixStream::pair().unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        assert_eq!(send(near.as_fd(), b"pipe", &[reader.as_fd()]).unwrap(), 4);
        drop(reader);
        let mut bytes = [0; 16];
        let (read, fds) = receive(far.as_fd(), &mut bytes).unwrap();
        assert_eq!(&bytes[..read], b"pipe");
        let [fd] = <[_; 1]>::try_from(fds).unwrap();
        writer.write_all(b"through").unwrap();
        drop(writer);
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");

        assert_eq!(send(near.as_fd(), b"none", &[]).unwrap(), 4);
        let (read, fds) = receive(far.as_fd(), &mut bytes).unwrap();
        assert_eq!((read, fds.len()), (4, 0));
        drop(near);
        assert_eq!(receive(far.as_fd(), &mut bytes).unwrap().0, 0);
        assert!(send(far.as_fd(), b"gone", &[]).is_err());
    }
}
