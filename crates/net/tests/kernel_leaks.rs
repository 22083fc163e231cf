//! A thousand namespaces leave nothing. Alone in its process, because it counts open files.

#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

mod support;

use bpfsmith_gate::{deadline, needs, open_fds, rounds};
use bpfsmith_net::{Device, Kind, NetNs, Netlink, Node, Pair};
use std::time::Duration;

/// What the names of this process start with: another run of this test may go on beside it.
fn prefix() -> String {
    format!("bs-net-leak-{}-", std::process::id())
}

fn mounts() -> usize {
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    table
        .lines()
        .filter(|line| line.contains(&prefix()))
        .count()
}

fn files() -> usize {
    let Ok(dir) = std::fs::read_dir("/run/netns") else {
        return 0;
    };
    dir.flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix()))
        .count()
}

#[test]
fn a_thousand_namespaces_leave_nothing() {
    needs!(NetNs, Veth);
    support::private_mounts();
    let outer = Node::new().unwrap();
    let before = open_fds();
    for round in 0..rounds(1000) {
        let inner = match round % 10 {
            0 => NetNs::named(&format!("{}{round}", prefix())).unwrap(),
            _ => NetNs::new().unwrap(),
        };
        let device = Device::new(&format!("v{round}"));
        outer
            .net
            .add_link(&device, &Kind::Veth(Device::new("eth0").netns(&inner)))
            .unwrap();
        if round % 10 == 0 {
            assert_eq!((mounts() > 0, files()), (true, 1));
            assert!(Netlink::open_in(&inner).unwrap().link("eth0").is_ok());
        }
    }
    assert_eq!((mounts(), files()), (0, 0));
    let left = open_fds().opened_since(&before);
    assert!(left.is_empty(), "{left:?}");
    // A pair of devices goes when either namespace goes, so this shows that all of them went.
    deadline(Duration::from_secs(60), || {
        (outer.net.links().unwrap().len() == 1).then_some(())
    });

    for _ in 0..10 {
        Pair::new().unwrap();
    }
    let left = open_fds().opened_since(&before);
    assert!(left.is_empty(), "{left:?}");
}
