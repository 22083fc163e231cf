//! What peers that do not behave cost: a bounded amount of memory.
#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

#[allow(
    unreachable_pub,
    dead_code,
    reason = "shared by test programs, of which each needs a part"
)]
mod rig;

use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::Node;
use bpfsmith_splice::{Settings, Splicer};
use rig::{By, LIMIT, Running};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Writes as much as there is room for; `false` when the connection is broken.
fn fill(mut socket: &TcpStream, sent: &mut usize) -> bool {
    let chunk = vec![7; 1 << 18];
    loop {
        match socket.write(&chunk) {
            Ok(bytes) => *sent += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
        if *sent > 1 << 28 {
            return true;
        }
    }
}

/// Both ends send, and neither reads. What is left for one then waits behind what it was to send on,
/// which the kernel holds without limit: so the pair is broken, or the senders have to wait before.
#[test]
fn two_that_only_send_do_not_fill_the_memory() {
    needs!(Root, NetNs, Loopback, Sockmap, RingBuf, Btf);
    let node = Node::new().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = node.run(|| TcpListener::bind(any)).unwrap().unwrap();
    let target = listener.local_addr().unwrap();
    let running = Running::new(&node, any, target, By::Kernel(Settings::default()));
    let client = node.run(|| TcpStream::connect(running.address));
    let client = client.unwrap().unwrap();
    let (server, _) = listener.accept().unwrap();
    deadline(LIMIT, || (running.tally().spliced > 0).then_some(()));
    for socket in [&client, &server] {
        socket.set_nonblocking(true).unwrap();
    }
    let (mut up, mut down) = (0, 0);
    let (mut before, mut moved) = (0, Instant::now());
    let is_broken = loop {
        if !fill(&client, &mut up) || !fill(&server, &mut down) {
            break true;
        }
        if up + down > before {
            (before, moved) = (up + down, Instant::now());
        }
        if moved.elapsed() > Duration::from_secs(5) || up.max(down) > 1 << 28 {
            break false;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    println!("{up} bytes up, {down} bytes down; broken: {is_broken}");
    // Both directions' limits, what may be ahead, and the buffers of four sockets.
    assert!(up.max(down) < 100 << 20, "{up} {down}");
    drop((client, server));
    let tally = running.idle();
    assert_eq!(tally.open, 0, "{tally:#?}");
}

#[test]
fn settings_out_of_range_are_named() {
    let of = |pairs, ahead| Settings { pairs, ahead };
    for (settings, expected) in [
        (of(0, 1), "splice: pairs is 0: it can be 1 to 1073741824"),
        (of(1, 0), "splice: ahead is 0: it can be 1 to 2147483647"),
        (
            of(1, u32::MAX),
            "splice: ahead is 4294967295: it can be 1 to 2147483647",
        ),
    ] {
        let refused = Splicer::new(settings).map(drop).map_err(|e| e.to_string());
        assert_eq!(refused, Err(expected.to_owned()));
    }
}
