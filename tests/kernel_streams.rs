//! The examples and chapters about maps of sockets. One of them puts its process into a control group,
//! which is why they have a test program of their own.

use bpfsmith_gate::needs;
use std::error::Error;

/// Takes an example in as a module.
macro_rules! example {
    ($name:ident, $file:literal) => {
        #[expect(
            unreachable_pub,
            dead_code,
            reason = "an example is a program of its own"
        )]
        #[path = $file]
        mod $name;
    };
}

example!(sk_msg_bypass, "../examples/sk_msg_bypass.rs");
example!(sockmap_echo, "../examples/sockmap_echo.rs");

/// Takes a chapter in as a module.
macro_rules! chapter {
    ($name:ident, $file:literal) => {
        #[expect(unreachable_pub, reason = "a chapter is a program of its own")]
        #[path = $file]
        mod $name;
    };
}

chapter!(
    socket_redirection,
    "../tutorials/part-4-applications/08-3-socket-redirection.rs"
);

/// Fails with the error's own words.
#[track_caller]
fn works(result: Result<(), Box<dyn Error>>) {
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn socket_redirection() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf);
    works(socket_redirection::run());
}

#[test]
fn sockmap_echo() {
    needs!(Root, NetNs, Loopback, Sockmap);
    works(sockmap_echo::run());
}

#[test]
fn sk_msg_bypass() {
    needs!(Root, NetNs, Loopback, Cgroup2, CgroupBpf, Sockmap);
    works(sk_msg_bypass::run());
}
