//! What checks cost: one thread, so many descriptors, and nothing when they are dropped. One test, as others would
//! change what it counts.

#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

mod health_bench;

use bpfsmith_gate::{deadline, needs, open_fds};
use bpfsmith_proxy::health::{MOST, State};
use health_bench::{LIMIT, RARELY, Server, http, inside, start, target, tcp};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The numbers of this process's threads.
fn threads() -> BTreeSet<OsString> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.map(|task| task.unwrap().file_name()).collect()
}

/// Addresses that are all this host's.
fn addresses(count: u16, port: u16) -> impl Iterator<Item = SocketAddr> {
    (0..count).map(move |number| {
        let [high, low] = number.to_be_bytes();
        SocketAddr::from(([127, 1, high, low], port))
    })
}

#[test]
fn what_it_costs() {
    needs!(NetNs);
    // Both ends of connections are here.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most.min(4096), most).unwrap();
    inside(|| {
        a_thousand_targets_have_one_thread();
        only_so_many_connections_are_open_and_none_is_left();
    });
}

fn a_thousand_targets_have_one_thread() {
    let met: Arc<Mutex<HashMap<IpAddr, u32>>> = Arc::default();
    let count = Arc::clone(&met);
    let server = Server::new("0.0.0.0:81", move |stream| {
        let to = stream.local_addr().unwrap().ip();
        *count.lock().unwrap().entry(to).or_default() += 1;
    });
    let before = threads();
    let health = tcp(Duration::from_millis(100));
    let targets = addresses(1000, 81).map(|address| (target(address), health.clone()));
    let (checks, _told) = start(targets.collect());
    deadline(LIMIT, || {
        let met = met.lock().unwrap();
        (met.len() == 1000 && met.values().all(|&count| count >= 3)).then_some(())
    });
    // One of before may end meanwhile.
    assert_eq!(threads().difference(&before).count(), 1);
    let views = checks.standings();
    assert_eq!(views.len(), 1000);
    for (target, view) in views {
        assert_eq!(
            (view.state, view.failures),
            (State::Up, 0),
            "{target}: {:?}",
            view.last
        );
    }
    drop(checks);
    // A thread that was waited for may be listed for a moment longer.
    deadline(LIMIT, || threads().is_subset(&before).then_some(()));
    drop(server);
}

fn only_so_many_connections_are_open_and_none_is_left() {
    let (server, kept) = Server::silent("0.0.0.0:82");
    let before = open_fds();
    let targets = addresses(400, 82).map(|address| (target(address), http(RARELY)));
    let targets: BTreeMap<_, _> = targets.collect();
    let (checks, _told) = start(targets.clone());
    let most = u64::try_from(MOST).unwrap();
    let reach = |wanted| {
        deadline(LIMIT, || {
            let accepted = server.accepted();
            assert!(accepted <= wanted, "{accepted} of {wanted}");
            (accepted == wanted).then_some(())
        });
    };
    reach(most);
    // Each one that ends makes room for exactly one.
    for more in 1..=20 {
        let ended = deadline(LIMIT, || kept.lock().unwrap().pop());
        drop(ended);
        reach(most + more);
    }
    // Those without a place wait, and are not forgotten.
    let waiting = || {
        let views = checks.standings();
        views.values().filter(|view| view.checks == 0).count()
    };
    assert_eq!(waiting(), 380);
    drop(deadline(LIMIT, || {
        let mut kept = kept.lock().unwrap();
        (kept.len() == MOST).then(|| std::mem::take(&mut *kept))
    }));
    reach(400);

    let kept = deadline(LIMIT, || {
        let mut kept = kept.lock().unwrap();
        (kept.len() == 400 - 20 - MOST).then(|| std::mem::take(&mut *kept))
    });
    // A connection can be accepted before its check has sent anything, and checks that end send nothing more.
    for stream in &kept {
        assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
    }
    drop(checks);
    for mut stream in kept {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.starts_with(b"GET /alive"));
    }
    let left = open_fds().opened_since(&before);
    assert!(left.is_empty(), "{left}");
}
