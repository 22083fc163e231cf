//! A proxy that has no descriptor left. A binary of one test, because it changes how many there can be.
#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

#[expect(
    unreachable_pub,
    dead_code,
    reason = "shared by test programs, of which each needs a part"
)]
mod rig;

use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::Node;
use bpfsmith_splice::Proxy;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rig::LIMIT;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// A client for whom there is a descriptor, but none for the connection to its target, waits until
/// there is one.
#[test]
fn a_client_waits_for_a_descriptor() {
    needs!(Root, NetNs, Loopback);
    let node = Node::new().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let bind = || node.run(|| TcpListener::bind(any)).unwrap().unwrap();
    let (front, target) = (bind(), bind());
    let near = front.local_addr().unwrap();
    let mut proxy = Proxy::copying(front, target.local_addr().unwrap()).unwrap();
    let (stopper, counters) = (proxy.stopper(), proxy.counters());
    let mut client = node.run(|| TcpStream::connect(near)).unwrap().unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let entered = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            node.run(|| {
                // What it takes to get into the namespace is over.
                entered.wait();
                entered.wait();
                proxy.run()
            })
        });
        entered.wait();
        // The lowest that is free, and no other.
        let free = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
        let limit = u64::try_from(free).unwrap() + 1;
        setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
        entered.wait();
        deadline(LIMIT, || (counters.tally().pauses > 1).then_some(()));
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        let (mut server, _) = target.accept().unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"hello");
        server.write_all(b"welcome").unwrap();
        drop(server);
        got.clear();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"welcome");
        deadline(LIMIT, || (counters.tally().ended == 1).then_some(()));
        stopper.stop();
        running.join().unwrap().unwrap().unwrap();
    });
    let tally = counters.tally();
    assert_eq!(
        (tally.accepted, tally.unreachable, tally.broken),
        (1, 0, 0),
        "{tally:#?}"
    );
}
