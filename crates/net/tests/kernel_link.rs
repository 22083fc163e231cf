//! Devices: made, found, changed, moved, deleted.

use bpfsmith_gate::needs;
use bpfsmith_net::wire::Message;
use bpfsmith_net::{
    Device, Errno, Ethtool, Feature, IfIndex, Kind, Mac, MacvlanMode, NetNs, Netlink, Node,
    OperState, Operation, Peer, Reason, Vxlan,
};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MAC: Mac = Mac([2, 0, 0, 1, 2, 3]);

#[test]
fn a_pair_is_made_as_it_was_asked_for() {
    needs!(NetNs, Veth);
    let (near, far) = (Node::new().unwrap(), Node::new().unwrap());
    let peer = Device::new("far").netns(&far.ns).queues(3).mtu(1400);
    let device = Device::new("near").mac(MAC).mtu(9000).queues(2);
    near.net.add_link(&device, &Kind::Veth(peer)).unwrap();

    let link = near.net.link("near").unwrap();
    assert_eq!((link.mac, link.mtu), (Some(MAC), 9000));
    assert_eq!((link.tx_queues, link.rx_queues), (2, 2));
    assert_eq!(link.kind.as_deref(), Some("veth"));
    assert_eq!(near.net.link_at(link.index).unwrap(), link);
    assert!(near.net.links().unwrap().contains(&link));

    let other = far.net.link("far").unwrap();
    assert_eq!((other.mtu, other.tx_queues, other.rx_queues), (1400, 3, 3));
    let nsid = near.net.nsid(&far.ns).unwrap();
    assert!(nsid.is_some());
    assert_eq!(
        link.peer,
        Some(Peer {
            index: other.index,
            nsid
        })
    );
    assert_eq!(
        far.net.link("near").unwrap_err().errno(),
        Some(Errno::ENODEV)
    );
}

#[test]
fn a_device_comes_up_when_both_ends_are_up() {
    needs!(NetNs, Veth);
    let node = Node::new().unwrap();
    node.net
        .add_link(&Device::new("a"), &Kind::Veth(Device::new("b")))
        .unwrap();
    let (a, b) = (node.net.link("a").unwrap(), node.net.link("b").unwrap());
    assert_eq!(
        a.peer,
        Some(Peer {
            index: b.index,
            nsid: None
        })
    );
    assert_eq!(a.state, OperState::DOWN);
    node.net.set_up(a.index).unwrap();
    let late = node
        .net
        .wait_up(a.index, Duration::from_millis(5))
        .unwrap_err();
    assert_eq!(
        late.to_string(),
        "wait for RTM_GETLINK IFLA_OPERSTATE up \"a\": it did not happen within 5ms"
    );
    node.net.set_up(b.index).unwrap();
    let a = node.net.wait_up(a.index, Duration::from_secs(30)).unwrap();
    assert_eq!(a.state, OperState::UP);
    node.net.set_down(a.index).unwrap();
    assert!(!node.net.link("a").unwrap().flags.is_up());
}

#[test]
fn devices_change() {
    needs!(NetNs, Veth);
    let (node, other) = (Node::new().unwrap(), Node::new().unwrap());
    node.net
        .add_link(&Device::new("a"), &Kind::Veth(Device::new("b")))
        .unwrap();
    node.net
        .add_link(&Device::new("br"), &Kind::Bridge)
        .unwrap();
    let (a, br) = (
        node.net.link("a").unwrap().index,
        node.net.link("br").unwrap(),
    );
    assert_eq!(br.kind.as_deref(), Some("bridge"));

    node.net.rename(a, "renamed").unwrap();
    node.net.set_mtu(a, 1300).unwrap();
    node.net.set_mac(a, MAC).unwrap();
    node.net.set_master(a, br.index).unwrap();
    let link = node.net.link("renamed").unwrap();
    assert_eq!((link.index, link.mtu, link.mac), (a, 1300, Some(MAC)));
    assert_eq!(link.master, Some(br.index));
    node.net.clear_master(a).unwrap();
    assert_eq!(node.net.link_at(a).unwrap().master, None);

    node.net.move_to(a, &other.ns).unwrap();
    assert_eq!(
        node.net.link("renamed").unwrap_err().errno(),
        Some(Errno::ENODEV)
    );
    let moved = other.net.link("renamed").unwrap();
    assert_eq!(moved.mac, Some(MAC));
    other.net.delete_link(moved.index).unwrap();
    assert!(other.net.link("renamed").is_err());
    assert!(node.net.link("b").is_err(), "the other end goes too");
}

#[test]
fn refusals_name_device_number_and_sentence() {
    needs!(NetNs, Veth);
    let node = Node::new().unwrap();
    node.net
        .add_link(&Device::new("a"), &Kind::Veth(Device::new("b")))
        .unwrap();
    let a = node.net.link("a").unwrap().index;

    let twice = node
        .net
        .add_link(&Device::new("a"), &Kind::Bridge)
        .unwrap_err();
    assert_eq!(
        (twice.operation, twice.errno()),
        (Operation::NEW_LINK, Some(Errno::EEXIST))
    );
    assert!(
        twice
            .to_string()
            .starts_with("RTM_NEWLINK bridge \"a\": EEXIST"),
        "{twice}"
    );

    let large = node.net.set_mtu(a, 1 << 30).unwrap_err();
    assert_eq!(large.sentence(), Some("mtu greater than device maximum"));
    assert_eq!(
        large.to_string(),
        format!(
            "RTM_SETLINK \"a\" (ifindex {}) mtu 1073741824: EINVAL, the kernel says \"mtu greater \
             than device maximum\"",
            a.0
        )
    );
    let none = node.net.set_up(IfIndex(4711)).unwrap_err();
    assert_eq!(none.errno(), Some(Errno::ENODEV));
    assert!(
        none.to_string()
            .starts_with("RTM_SETLINK ifindex 4711 up: ENODEV"),
        "{none}"
    );
    let unknown = Kind::Macvlan {
        parent: IfIndex(4711),
        mode: MacvlanMode::BRIDGE,
    };
    let error = node.net.add_link(&Device::new("m"), &unknown).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENODEV), "{error}");
}

#[test]
fn the_kernel_points_at_the_attribute_it_does_not_like() {
    needs!(NetNs);
    const RTM_NEWADDR: u16 = 20;
    const IFA_LOCAL: u16 = 2;
    let node = Node::new().unwrap();
    let message = Message::new(RTM_NEWADDR, 0)
        .fixed(&[2, 24, 0, 0, 1, 0, 0, 0])
        .u32(8, 0)
        .attr(IFA_LOCAL, &[10, 0, 0]);
    let error = node
        .net
        .ack(Operation::NEW_ADDR, "10.0.0", message)
        .unwrap_err();
    let Reason::Refused(refusal) = &error.reason else {
        panic!("{error}")
    };
    assert_eq!(
        (refusal.attribute, refusal.offset),
        (Some(IFA_LOCAL), Some(32)),
        "{error}"
    );
    assert!(refusal.sentence.is_some(), "{error}");
    assert!(
        error
            .to_string()
            .contains("because of attribute 2 at byte 32"),
        "{error}"
    );
}

#[test]
fn a_kind_is_made_or_refused_by_name() {
    needs!(NetNs, Veth);
    let node = Node::new().unwrap();
    node.net
        .add_link(&Device::new("p"), &Kind::Veth(Device::new("q")))
        .unwrap();
    let parent = node.net.link("p").unwrap().index;
    let vxlan = Vxlan {
        id: 7,
        remote: Some(Ipv4Addr::new(10, 0, 0, 9).into()),
        local: Some(Ipv4Addr::new(10, 0, 0, 1).into()),
        port: 4789,
        parent: Some(parent),
    };
    let kinds = [
        Kind::Bridge,
        Kind::Dummy,
        Kind::Ifb,
        Kind::Macvlan {
            parent,
            mode: MacvlanMode::BRIDGE,
        },
        Kind::Vxlan(vxlan),
        Kind::Netkit(Device::new("k")),
        Kind::Veth(Device::new("w")),
    ];
    for kind in kinds {
        match node.net.add_link(&Device::new("x"), &kind) {
            Ok(()) => {
                let link = node.net.link("x").unwrap();
                assert_eq!(link.kind.as_deref(), Some(kind.name()));
                node.net.delete_link(link.index).unwrap();
            }
            Err(error) => {
                assert!(error.is_unsupported(), "{error}");
                assert!(
                    matches!(kind, Kind::Dummy | Kind::Netkit(_) | Kind::Ifb),
                    "{error}"
                );
                assert!(
                    error
                        .hint()
                        .is_some_and(|hint| hint.contains("built without")),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn offloads_are_switched() {
    needs!(NetNs, Veth);
    let node = Node::new().unwrap();
    node.net
        .add_link(&Device::new("a"), &Kind::Veth(Device::new("b")))
        .unwrap();
    let a = node.net.link("a").unwrap().index;
    let ethtool = Ethtool::open_in(&node.ns).unwrap();
    let fresh = ethtool.features(a).unwrap();
    assert!(fresh.has(Feature::TX_CHECKSUM) && fresh.has(Feature::TSO));
    assert!(!fresh.has(Feature::GRO), "off on a new veth");
    assert!(ethtool.enable(a, Feature::GRO).unwrap().has(Feature::GRO));
    let without = ethtool.disable(a, Feature::TX_CHECKSUM).unwrap();
    assert!(!without.has(Feature::TX_CHECKSUM));
    assert!(!without.has(Feature::TSO), "needs checksums");
    assert!(!ethtool.disable(a, Feature::GSO).unwrap().has(Feature::GSO));
    ethtool.enable(a, Feature::TX_CHECKSUM).unwrap();
    assert!(ethtool.features(a).unwrap().has(Feature::TX_CHECKSUM));

    let fixed = ethtool.enable(a, Feature(&["loopback"])).unwrap_err();
    assert_eq!(
        fixed.to_string(),
        format!(
            "ETHTOOL_MSG_FEATURES_SET ifindex {}: the device keeps loopback as it is",
            a.0
        )
    );
    assert_eq!(
        ethtool.features(IfIndex(4711)).unwrap_err().errno(),
        Some(Errno::ENODEV)
    );
}

#[test]
fn a_list_that_changes_meanwhile_is_started_again() {
    needs!(NetNs, Veth);
    let node = Node::new().unwrap();
    for number in 0..60 {
        let peer = Device::new(&format!("q{number}"));
        node.net
            .add_link(&Device::new(&format!("p{number}")), &Kind::Veth(peer))
            .unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let net = Netlink::open_in(&node.ns).unwrap();
            while !stop.load(Ordering::Relaxed) {
                net.add_link(&Device::new("x"), &Kind::Bridge).unwrap();
                net.delete_link(net.link("x").unwrap().index).unwrap();
            }
        });
        let start = Instant::now();
        while node.net.restarts() == 0 && start.elapsed() < Duration::from_secs(30) {
            match node.net.links() {
                Ok(links) => {
                    let pairs = links
                        .iter()
                        .filter(|link| link.kind.as_deref() == Some("veth"));
                    assert_eq!(pairs.count(), 120, "no device is missing or listed twice");
                }
                Err(error) => {
                    assert!(
                        error.to_string().contains("changed while it was listed"),
                        "{error}"
                    );
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(node.net.restarts() > 0);
    assert_eq!(node.net.links().unwrap().len(), 121);
}

#[test]
fn one_socket_serves_many_threads() {
    needs!(NetNs, Veth);
    let node = Node::new().unwrap();
    node.net
        .add_link(&Device::new("a"), &Kind::Veth(Device::new("b")))
        .unwrap();
    std::thread::scope(|scope| {
        for name in ["a", "b", "lo", "a"] {
            let net = &node.net;
            scope.spawn(move || {
                for _ in 0..200 {
                    assert_eq!(net.link(name).unwrap().name, name);
                    assert_eq!(net.links().unwrap().len(), 3);
                }
            });
        }
    });
}

#[test]
fn a_bridge_carries_packets_between_its_ports() {
    needs!(NetNs, Veth);
    let (switch, left, right) = (
        Node::new().unwrap(),
        Node::new().unwrap(),
        Node::new().unwrap(),
    );
    switch
        .net
        .add_link(&Device::new("br"), &Kind::Bridge)
        .unwrap();
    let br = switch.net.link("br").unwrap().index;
    for (node, port, addr) in [
        (&left, "l", "10.5.0.1/24"),
        (&right, "r", "10.5.0.2/24"),
    ] {
        let peer = Device::new("eth0").netns(&node.ns);
        switch
            .net
            .add_link(&Device::new(port), &Kind::Veth(peer))
            .unwrap();
        let port = switch.net.link(port).unwrap().index;
        switch.net.set_master(port, br).unwrap();
        let eth0 = node.net.link("eth0").unwrap().index;
        node.net
            .add_address(&bpfsmith_net::Address::new(eth0, addr.parse().unwrap()))
            .unwrap();
        switch.net.set_up(port).unwrap();
        node.net.set_up(eth0).unwrap();
        node.net.wait_up(eth0, Duration::from_secs(30)).unwrap();
    }
    switch.net.set_up(br).unwrap();
    switch.net.wait_up(br, Duration::from_secs(30)).unwrap();
    let server = right
        .run(|| UdpSocket::bind("10.5.0.2:5000"))
        .unwrap()
        .unwrap();
    let client = left.run(|| UdpSocket::bind("10.5.0.1:0")).unwrap().unwrap();
    client.send_to(b"over the bridge", "10.5.0.2:5000").unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut buffer = [0; 64];
    let (len, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..len], from),
        (&b"over the bridge"[..], client.local_addr().unwrap())
    );
    assert!(NetNs::current().unwrap().id().unwrap() != switch.ns.id().unwrap());
}
