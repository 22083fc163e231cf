//! Rules and sockets change while thousands of connections are made: none fails.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_gate::{deadline, needs, open_fds, rounds};
use bpfsmith_net::Node;
use bpfsmith_steer::{Rule, Steering};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use support::{
    LIMIT, Stop, binding, came_to, connect_until, counted, drain, label, listen, rule, to, world,
};

/// How many changes there are at least.
const CHANGES: u32 = 12;

/// Connects to these addresses while something changes, so often at least, and until each listener had
/// its turn; how many each accepted.
#[track_caller]
fn under_load<const N: usize>(
    node: &Node,
    addresses: &[SocketAddr],
    listeners: &[TcpListener; N],
    times: u32,
    mut change: impl FnMut(u32),
) {
    let counts: [AtomicU32; N] = std::array::from_fn(|_| AtomicU32::new(0));
    let (made, enough, stop) = (
        AtomicU32::new(0),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    let read = |count: &AtomicU32| count.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let (_enough, _stop) = (Stop(&enough), Stop(&stop));
        for (listener, count) in listeners.iter().zip(&counts) {
            let stop = &stop;
            scope.spawn(move || drain(listener, count, stop));
        }
        let connecting = scope.spawn(|| connect_until(node, addresses, &made, &enough));
        let mut changes = 0;
        deadline(LIMIT, || {
            for _ in 0..CHANGES {
                change(changes);
                changes += 1;
            }
            let had_turns = counts.iter().all(|count| read(count) > 0);
            let is_over = had_turns && read(&made) >= times || connecting.is_finished();
            is_over.then_some(())
        });
        enough.store(true, Ordering::Release);
        assert_eq!(connecting.join().unwrap(), Vec::<String>::new());
        // Everything that was connected, somebody accepted.
        let accepted = || counts.iter().map(read).sum::<u32>();
        deadline(LIMIT, || (accepted() == read(&made)).then_some(()));
    });
}

#[test]
fn rules_move_one_by_one() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let mut steering = Steering::new(&node.ns).unwrap();
    let listeners = [
        listen(&node, "127.0.0.1:0"),
        listen(&node, "127.0.0.1:0"),
    ];
    let names = [label("one"), label("two")];
    for (name, listener) in names.iter().zip(&listeners) {
        steering.register(name, listener).unwrap();
    }
    let times = rounds(4000);
    let addresses = [
        to("203.0.113.1:80"),
        to("203.0.113.2:8080"),
        to("203.0.113.3:1"),
    ];
    steering
        .bind(binding("tcp 203.0.113.0/24 *"), &names[0])
        .unwrap();
    under_load(&node, &addresses, &listeners, times, |n| {
        // It moves; narrower ones come and go before it.
        let name = &names[n as usize % 2];
        steering
            .bind(binding("tcp 203.0.113.0/24 *"), name)
            .unwrap();
        steering
            .bind(binding("tcp 203.0.113.0/25 1-8079"), &names[1])
            .unwrap();
        steering
            .bind(binding("tcp 203.0.113.0/24 8080"), name)
            .unwrap();
        steering
            .unbind(&binding("tcp 203.0.113.0/25 1-8079"))
            .unwrap();
        steering
            .unbind(&binding("tcp 203.0.113.0/24 8080"))
            .unwrap();
    });
    let [_, misses, errors] = counted(&mut steering, "tcp 203.0.113.0/24 *");
    assert_eq!([misses, errors], [0, 0]);
}

#[test]
fn all_rules_are_replaced_at_once() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let mut steering = Steering::new(&node.ns).unwrap();
    let listeners = [
        listen(&node, "127.0.0.1:0"),
        listen(&node, "127.0.0.1:0"),
    ];
    for (name, listener) in ["one", "two"].iter().zip(&listeners) {
        steering.register(&label(name), listener).unwrap();
    }
    // Each set covers the addresses by other prefixes, and blocks of other sizes.
    let more = |service: &str| -> Vec<Rule> {
        let nth = |n: u32| format!("tcp 100.{}.{}.0/24 80", 64 + n / 256, n % 256);
        (0..500).map(|n| rule(&nth(n), service)).collect()
    };
    let sets = [
        [
            rule("tcp 203.0.113.0/24 80", "one"),
            rule("tcp 203.0.113.0/24 8000-8100", "one"),
        ]
        .into_iter()
        .chain(more("one"))
        .collect::<Vec<_>>(),
        [rule("tcp 203.0.0.0/16 *", "two")]
            .into_iter()
            .chain(more("two"))
            .collect(),
        [
            rule("tcp 203.0.113.0/30 1-1000", "one"),
            rule("tcp 203.0.113.2 1024-65535", "two"),
        ]
        .into(),
    ];
    steering.replace(sets[0].clone()).unwrap();
    let addresses = [
        to("203.0.113.1:80"),
        to("203.0.113.2:8080"),
    ];
    let times = rounds(4000);
    under_load(&node, &addresses, &listeners, times, |n| {
        let set = sets[n as usize % 3].clone();
        steering.replace(set).unwrap();
    });
    let status = steering.status().unwrap();
    assert!(
        status
            .rules
            .iter()
            .all(|(_, c)| (c.misses, c.errors) == (0, 0)),
        "{status}"
    );
}

#[test]
fn sockets_are_switched_and_die() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let mut steering = Steering::new(&node.ns).unwrap();
    let web = label("web");
    let listeners: [TcpListener; 4] = std::array::from_fn(|_| listen(&node, "127.0.0.1:0"));
    steering
        .bind(binding("tcp 203.0.113.0/24 *"), &web)
        .unwrap();
    steering.register(&web, &listeners[0]).unwrap();
    let addresses = [
        to("203.0.113.1:80"),
        to("203.0.113.2:8080"),
    ];
    under_load(&node, &addresses, &listeners, rounds(4000), |n| {
        let pair = [
            &listeners[n as usize % 4],
            &listeners[(n as usize + 1) % 4],
        ];
        steering.switch(&web, pair).unwrap();
        // One that comes and is gone before anybody could connect would fail those who did: it is
        // taken out before it closes.
        let passing = listen(&node, "127.0.0.1:0");
        let there = steering.register(&label("passing"), &passing).unwrap();
        drop(passing);
        assert!(
            !steering
                .unregister(&label("passing"), there.cookie)
                .unwrap()
        );
    });
    let [_, misses, errors] = counted(&mut steering, "tcp 203.0.113.0/24 *");
    assert_eq!([misses, errors], [0, 0]);
}

#[test]
fn nothing_is_left_behind() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let node = world();
    let listener = listen(&node, "127.0.0.1:0");
    let ids = |steering: &Steering| {
        let link = steering.link().info().unwrap();
        (link.id, link.prog)
    };
    let round = || {
        let mut steering = Steering::new(&node.ns).unwrap();
        let web = label("web");
        steering.register(&web, &listener).unwrap();
        for _ in 0..20 {
            steering
                .replace([rule("tcp 203.0.113.0/24 *", "web")])
                .unwrap();
            steering.bind(binding("tcp 203.0.113.1 80"), &web).unwrap();
        }
        assert_eq!(came_to(&node, to("203.0.113.1:80"), &[&listener]), Some(0));
        ids(&steering)
    };
    let (link, prog) = round();
    // Other tests of this file have objects of their own; these are gone.
    let gone = |kind, id| {
        deadline(LIMIT, || {
            bpfsmith_sys::object::open_id(kind, id, 0, None).err()
        })
    };
    gone(bpfsmith_sys::object::Kind::Link, link);
    gone(bpfsmith_sys::object::Kind::Prog, prog);
    assert_eq!(open_fds().to(&format!("prog_id {prog}")).len(), 0);
    assert_eq!(came_to(&node, to("203.0.113.1:80"), &[&listener]), None);
}
