//! A peer that sends more descriptors than this process may have. Alone in its process, whose limit it lowers.

use bpfsmith_gate::open_fds;
use bpfsmith_sys::pass::{MOST, receive, send};
use bpfsmith_uapi::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

#[test]
fn descriptors_that_do_not_fit_are_not_left_open() {
    let (near, far) = UnixStream::pair().unwrap();
    // The kernel tells of the sender, too: that takes no room from the descriptors.
    setsockopt(&far, sockopt::PassCred, &true).unwrap();
    let many = vec![near.as_fd(); MOST];
    send(near.as_fd(), b"all", &many).unwrap();
    let (read, fds) = receive(far.as_fd(), &mut [0; 8]).unwrap();
    assert_eq!((read, fds.len()), (3, MOST));
    drop(fds);

    let before = open_fds();
    let at_most = u64::from(far.as_raw_fd().unsigned_abs()) + 20;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    send(near.as_fd(), b"some", &many[..100]).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, at_most, hard).unwrap();
    let refused = receive(far.as_fd(), &mut [0; 8]).unwrap_err();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!(refused.errno, Errno::EMFILE);
    assert_eq!(open_fds(), before);
    send(near.as_fd(), b"next", &[]).unwrap();
    assert_eq!(receive(far.as_fd(), &mut [0; 8]).unwrap().0, 4);
}
