//! The examples and chapters about maps of sockets. One of them puts its process into a control group,
//! which is why they have a test program of their own.

#[macro_use]
mod programs;

use bpfsmith_gate::needs;
use programs::works;

program!(sk_msg_bypass, "../examples/sk_msg_bypass.rs");
program!(sockmap_echo, "../examples/sockmap_echo.rs");

program!(
    socket_redirection,
    "../tutorials/part-4-applications/08-3-socket-redirection.rs"
);

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
