//! Sockets by the dozen, and sockets for both families.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_gate::needs;
use bpfsmith_steer::{Answer, Error, Protocol, Steering};
use std::net::{TcpListener, TcpStream};
use support::{binding, cookie, label, listen, to, world};

#[test]
fn a_full_service_is_switched() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let mut steering = Steering::new(&node.ns).unwrap();
    let web = label("web");
    let many =
        |n: u8| -> Vec<TcpListener> { (0..n).map(|_| listen(&node, "127.0.0.1:0")).collect() };
    let held = |steering: &mut Steering| -> Vec<u64> {
        let sockets = steering.sockets(&web).unwrap().into_iter();
        let mut all: Vec<u64> = sockets.map(|socket| socket.cookie).collect();
        all.sort_unstable();
        all
    };
    let cookies = |all: &[TcpListener]| -> Vec<u64> {
        let mut all: Vec<u64> = all.iter().map(cookie).collect();
        all.sort_unstable();
        all
    };
    let (first, second, too_many) = (many(40), many(64), many(65));
    for set in [&first, &second, &first] {
        steering.switch(&web, set).unwrap();
        assert_eq!(held(&mut steering), cookies(set));
    }
    let full = steering.switch(&web, &too_many).unwrap_err();
    assert!(matches!(full, Error::Full { most: 64, .. }), "{full}");
    assert_eq!(held(&mut steering), cookies(&first), "as before");
    // One for both families has both places or none.
    let six: Vec<TcpListener> = (0..64).map(|_| listen(&node, "[::1]:0")).collect();
    steering.switch(&web, &six).unwrap();
    let any = listen(&node, "[::]:0");
    let full = steering.register(&web, &any).unwrap_err();
    assert!(matches!(full, Error::Full { .. }), "{full}");
    assert!(!held(&mut steering).contains(&cookie(&any)));
}

#[test]
fn addresses_have_two_forms_and_packets_one_family() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let mut steering = Steering::new(&node.ns).unwrap();
    let web = label("web");
    steering
        .bind(binding("tcp 203.0.113.0/24 80"), &web)
        .unwrap();
    steering
        .bind(binding("tcp ::/0 80"), &label("six"))
        .unwrap();
    let any = listen(&node, "[::]:0");
    steering.register(&web, &any).unwrap();
    let client = node
        .run(|| TcpStream::connect("203.0.113.7:80"))
        .unwrap()
        .unwrap();
    let (end, from) = any.accept().unwrap();
    let at = end.local_addr().unwrap();
    assert!(
        at.is_ipv6() && from.is_ipv6(),
        "as a socket for both families writes them"
    );
    let rule = steering.find(Protocol::Tcp, at).unwrap().unwrap();
    assert_eq!(rule.service, web);
    let answer = steering.ask(Protocol::Tcp, from, at).unwrap();
    assert_eq!(answer, Answer::Socket(cookie(&any)));
    drop(client);
    let mixed = steering
        .ask(Protocol::Tcp, to("[2001:db8::1]:7"), at)
        .unwrap_err();
    assert!(matches!(mixed, Error::Families { .. }), "{mixed}");
}
