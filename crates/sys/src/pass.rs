//! Descriptors that go to another process over a Unix socket (`SCM_RIGHTS`).
//!
//! What arrives is another descriptor of the same object: a listening socket goes on listening while
//! it is on its way, whoever closes what.

use crate::refused::{Answer, Refused};
use bpfsmith_uapi::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        controls,
        flags,
        None,
    )
    .map_err(|errno| Refused::because(CALL, Errno(errno as i32)))
}

/// Receives bytes and the descriptors that came with them, which a program that is started later does not
/// inherit. No bytes mean that the other end is closed.
///
/// # Errors
/// `EAGAIN` when nothing came in the time that the socket waits.
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Answer<(usize, Vec<OwnedFd>)> {
    const CALL: &str = "recvmsg SCM_RIGHTS";
    let refused = |errno: nix::errno::Errno| Refused::because(CALL, Errno(errno as i32));
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let mut parts = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags).map_err(refused)?;
    let mut fds = Vec::new();
    for control in message.cmsgs().map_err(refused)? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel made these descriptors for this process just now, and nobody else
            // knows of them.
            fds.extend(
                raw.into_iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
            );
        }
    }
    Ok((message.bytes, fds))
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
