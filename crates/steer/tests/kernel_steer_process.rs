//! What is pinned outlives processes, also when they are killed in the middle of a change.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{deadline, needs, rounds};
use bpfsmith_maps::{Map, ObjectMap, PerCpuMap};
use bpfsmith_net::NetNs;
use bpfsmith_prog::{Link, Load};
use bpfsmith_steer::{Answer, Error, HomeProblem, Protocol, Steering, Upgrade};
use bpfsmith_uapi::map::MapDef;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;
use support::process::{World, role};
use support::{LIMIT, binding, came_to, client, cookie, label, listen, rule, to};

/// Not a test: what a process does that another test started.
#[test]
fn as_another_process() {
    let Some((role, dir, talk)) = role() else {
        return;
    };
    match role.as_str() {
        "maker" => make(&dir, talk),
        "restless" => change_without_end(&dir),
        "first" => bind_many(&dir, talk, 64),
        "second" => bind_many(&dir, talk, 65),
        other => panic!("{other}"),
    }
}

/// Makes the steering, with a rule and a listener, and waits for its end.
fn make(dir: &Path, mut talk: UnixStream) {
    let ns = NetNs::current().unwrap();
    let mut steering = Steering::create(dir, &ns).unwrap();
    steering
        .bind(binding("tcp 203.0.113.0/24 *"), &label("web"))
        .unwrap();
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    steering.register(&label("web"), &own).unwrap();
    writeln!(talk, "made").unwrap();
    let _ = talk.read(&mut [0]);
    panic!("it was to be killed");
}

#[test]
fn it_goes_on_when_its_process_is_killed() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap, Bpffs);
    let world = World::new();
    let mut maker = world.start("maker");
    maker.hear("made");
    let listener = listen(&world.node, "127.0.0.1:0");
    let web = label("web");
    {
        let mut steering = Steering::open(world.dir()).unwrap();
        steering.register(&web, &listener).unwrap();
        assert_eq!(steering.sockets(&web).unwrap().len(), 2);
    }
    maker.kill();
    // Nobody has it open, half of the sockets died, and everything comes to the other half.
    for port in 1..50 {
        let at = SocketAddr::new([203, 0, 113, 1].into(), port);
        assert_eq!(came_to(&world.node, at, &[&listener]), Some(0));
    }
    let mut steering = Steering::open(world.dir()).unwrap();
    let sockets = steering.sockets(&web).unwrap();
    let cookies: Vec<u64> = sockets.iter().map(|socket| socket.cookie).collect();
    assert_eq!(cookies, [cookie(&listener)]);
    assert_eq!(
        steering.rules().unwrap(),
        [rule("tcp 203.0.113.0/24 *", "web")]
    );
    let status = steering.status().unwrap();
    assert_eq!(status.counts("web").hits, 49);
    assert_eq!(steering.dir(), Some(world.dir().as_path()));
    steering
        .replace([rule("tcp 203.0.113.0/24 80", "web")])
        .unwrap();
    assert_eq!(
        came_to(&world.node, to("203.0.113.1:81"), &[&listener]),
        None
    );
    assert_eq!(
        came_to(&world.node, to("203.0.113.1:80"), &[&listener]),
        Some(0)
    );

    // Its end is everybody's, and nothing stays.
    let other = Steering::open(world.dir()).unwrap();
    let prog = other.link().info().unwrap().prog;
    steering.remove().unwrap();
    assert_eq!(
        came_to(&world.node, to("203.0.113.1:80"), &[&listener]),
        None
    );
    assert!(!world.dir().exists());
    drop(other);
    deadline(LIMIT, || {
        bpfsmith_sys::object::open_id(bpfsmith_sys::object::Kind::Prog, prog, 0, None).err()
    });
}

/// Changes rules until it is killed. One of them stays the same.
fn change_without_end(dir: &Path) {
    let mut steering = Steering::open(dir).unwrap();
    let nth = |n: u32| {
        format!(
            "tcp 100.64.{}.0/24 {}-{}",
            n % 200,
            n % 7 + 1,
            n % 50 + 1000
        )
    };
    for n in 0.. {
        let other = label(if n % 2 == 0 { "web" } else { "other" });
        steering.bind(binding(&nth(n)), &other).unwrap();
        steering.unbind(&binding(&nth(n / 2))).unwrap();
        if n % 16 == 0 {
            let few = (n..n + 40).map(|n| rule(&nth(n), "other"));
            let stays = rule("tcp 203.0.113.0/24 *", "web");
            steering.replace(few.chain([stays])).unwrap();
        }
    }
}

#[test]
fn what_a_killed_writer_left_is_mended() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap, Bpffs);
    let world = World::new();
    let (listener, other) = (
        listen(&world.node, "127.0.0.1:0"),
        listen(&world.node, "127.0.0.1:0"),
    );
    let mut steering = Steering::create(world.dir(), &world.node.ns).unwrap();
    steering.register(&label("web"), &listener).unwrap();
    steering.register(&label("other"), &other).unwrap();
    steering
        .bind(binding("tcp 203.0.113.0/24 *"), &label("web"))
        .unwrap();
    for round in 0..rounds(30) {
        let mut writer = world.start("restless");
        // Some way on, wherever that is.
        let before = steering.rules().unwrap();
        deadline(LIMIT, || {
            (steering.rules().unwrap() != before).then_some(())
        });
        for _ in 0..round {
            std::thread::yield_now();
        }
        writer.kill();
        assert_eq!(
            came_to(&world.node, to("203.0.113.1:80"), &[&listener]),
            Some(0)
        );
        // A change mends; then rules and program agree.
        steering
            .bind(binding("tcp 198.18.0.0/16 1"), &label("web"))
            .unwrap();
        let agrees = |steering: &mut Steering, at: SocketAddr| {
            let rule = steering.find(Protocol::Tcp, at).unwrap();
            let right = match rule.as_ref().map(|rule| rule.service.as_str()) {
                None => Answer::Pass,
                Some("web") => Answer::Socket(cookie(&listener)),
                Some(_) => Answer::Socket(cookie(&other)),
            };
            let (protocol, from) = client(Protocol::Tcp, at, 7);
            assert_eq!(
                steering.ask(protocol, from, at).unwrap(),
                right,
                "{at}: {rule:?}"
            );
        };
        for net in 0..200 {
            for port in [1, 3, 7, 8, 999, 1000, 1024, 1049, 1050] {
                agrees(
                    &mut steering,
                    SocketAddr::new([100, 64, net, 9].into(), port),
                );
            }
        }
    }
    // And what was counted for rules that are gone, is forgotten.
    steering.edit(|_| {}).unwrap();
    let pin = world.dir().join("tallies");
    let tallies: PerCpuMap<u32, [u64; 3]> = PerCpuMap::open_pin(pin).unwrap();
    let mut held = 0;
    tallies.for_each(|_, _| held += 1).unwrap();
    assert_eq!(held, steering.rules().unwrap().len());
}

#[test]
fn a_torn_table_is_mended() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap, Bpffs);
    let world = World::new();
    let listener = listen(&world.node, "127.0.0.1:0");
    let mut steering = Steering::create(world.dir(), &world.node.ns).unwrap();
    steering.register(&label("web"), &listener).unwrap();
    steering
        .bind(binding("tcp 203.0.113.0/24 1-1000"), &label("web"))
        .unwrap();
    steering
        .bind(binding("tcp 203.0.113.0/24 1024-65535"), &label("web"))
        .unwrap();
    // As if somebody had died between two entries.
    type Key = [u8; 28];
    let rules: ObjectMap<u32, u32> = ObjectMap::open_pin(world.dir().join("rules")).unwrap();
    let table: Map<Key, [u8; 16]> = Map::from_handle(rules.inner(&0).unwrap().unwrap()).unwrap();
    let meta: Map<u32, [u8; 32]> = Map::open_pin(world.dir().join("meta")).unwrap();
    let keys: Vec<Key> = table.keys().map(Result::unwrap).collect();
    let blocks: Vec<&Key> = keys.iter().filter(|key| key[4] < 0x80).collect();
    assert!(blocks.len() > 10);
    for key in blocks.iter().step_by(2) {
        assert!(table.delete(key).unwrap());
    }
    let mut bytes = meta.lookup(&0).unwrap().unwrap();
    bytes[8] = bytes[8].wrapping_add(1);
    meta.update(&0, &bytes).unwrap();
    let came = |port| {
        came_to(
            &world.node,
            SocketAddr::new([203, 0, 113, 1].into(), port),
            &[&listener],
        )
    };
    let lost = [1, 500, 1000, 1024, 5000, 65535].map(came);
    assert!(lost.contains(&None), "{lost:?}");
    // Whoever reads, sees what is meant; whoever writes, makes it so.
    assert_eq!(steering.rules().unwrap().len(), 2);
    steering
        .bind(binding("tcp 198.18.0.0/16 1"), &label("web"))
        .unwrap();
    let found = [1, 500, 1000, 1024, 5000, 65535].map(came);
    assert_eq!(found, [Some(0); 6]);
}

#[test]
fn a_binding_without_room_changes_nothing() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap, Bpffs);
    static SMALL: MapDef<[u32; 7], [u8; 16]> = MapDef::lpm_trie("steer_table", 8);
    let world = World::new();
    let mut steering = Steering::create(world.dir(), &world.node.ns).unwrap();
    let web = label("web");
    let rules: ObjectMap<u32, u32> = ObjectMap::open_pin(world.dir().join("rules")).unwrap();
    let table = Map::create(&SMALL).unwrap();
    rules.set(&0, &table).unwrap();
    let meta: Map<u32, [u8; 32]> = Map::open_pin(world.dir().join("meta")).unwrap();
    let mut bytes = meta.lookup(&0).unwrap().unwrap();
    bytes[8] = bytes[8].wrapping_add(1);
    meta.update(&0, &bytes).unwrap();
    steering
        .bind(binding("tcp 203.0.113.0/24 80"), &web)
        .unwrap();
    let full = steering.bind(binding("tcp 203.0.113.0/24 1-1000"), &web);
    assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
    let at = |port| SocketAddr::new([203, 0, 113, 1].into(), port);
    let ask = |port| {
        let (protocol, from) = client(Protocol::Tcp, at(port), 7);
        steering.ask(protocol, from, at(port)).unwrap()
    };
    for port in [1, 2, 79, 81, 500, 1000] {
        assert_eq!(ask(port), Answer::Pass, "{port}");
    }
    assert_eq!(ask(80), Answer::Drop);
    assert_eq!(table.keys().count(), 2);
    assert_eq!(steering.rules().unwrap().len(), 1);
}

fn bind_many(dir: &Path, mut talk: UnixStream, net: u8) {
    let mut steering = Steering::open(dir).unwrap();
    talk.read_exact(&mut [0]).unwrap();
    for n in 0..200 {
        let at = binding(&format!("tcp 100.{net}.{n}.0/24 80"));
        steering.bind(at, &label(&format!("{net}"))).unwrap();
        if n % 10 == 0 {
            steering
                .edit(|rules| {
                    let at = binding(&format!("tcp 100.{net}.{n}.0/24 8000-8999"));
                    rules.insert(at, label(&format!("{net}")));
                })
                .unwrap();
        }
    }
    writeln!(talk, "done").unwrap();
}

#[test]
fn two_writers_lose_nothing() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap, Bpffs);
    let world = World::new();
    let mut steering = Steering::create(world.dir(), &world.node.ns).unwrap();
    let mut writers = ["first", "second"].map(|role| world.start(role));
    for writer in &mut writers {
        writer.say("go");
    }
    for n in 0..100 {
        let at = binding(&format!("udp 100.66.{n}.0/24 53"));
        steering.bind(at, &label("dns")).unwrap();
    }
    for writer in &mut writers {
        writer.hear("done");
        writer.ends();
    }
    let rules = steering.rules().unwrap();
    assert_eq!(rules.len(), 100 + 2 * 220);
    for (service, count) in [("dns", 100), ("64", 220), ("65", 220)] {
        let own = rules.iter().filter(|rule| rule.service.as_str() == service);
        assert_eq!(own.count(), count);
    }
    assert_eq!(steering.services().unwrap().len(), 3);
}

#[track_caller]
fn problem(done: Result<Steering, Error>) -> HomeProblem {
    match done.unwrap_err() {
        Error::Home { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn directories_that_are_not_right_are_told_so() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap, Bpffs);
    let world = World::new();
    let (dir, ns) = (world.dir(), &world.node.ns);
    assert_eq!(problem(Steering::open(&dir)), HomeProblem::Missing);
    let plain = world.path.with_extension("dir");
    assert_eq!(problem(Steering::create(&plain, ns)), HomeProblem::NotBpffs);
    assert!(!plain.exists(), "nothing is left");
    let steering = Steering::create(&dir, ns).unwrap();
    assert_eq!(problem(Steering::create(&dir, ns)), HomeProblem::Exists);
    drop(Steering::open(&dir).unwrap());

    let meta: Map<u32, [u8; 32]> = Map::open_pin(dir.join("meta")).unwrap();
    let right = meta.lookup(&0).unwrap().unwrap();
    let mut newer = right;
    newer[4] = 99;
    meta.update(&0, &newer).unwrap();
    assert_eq!(
        problem(Steering::open(&dir)),
        HomeProblem::Layout { found: 99, ours: 1 }
    );
    let text = Steering::open(&dir).unwrap_err().to_string();
    assert!(
        text.ends_with(
            ": its layout is version 99, this library's 1 (use the version of the library that made \
             it, or remove it and make it again)"
        ),
        "{text}"
    );
    meta.update(&0, &[0; 32]).unwrap();
    assert_eq!(problem(Steering::open(&dir)), HomeProblem::Foreign);
    meta.update(&0, &right).unwrap();
    std::fs::remove_file(dir.join("link")).unwrap();
    assert_eq!(
        problem(Steering::open(&dir)),
        HomeProblem::Incomplete { pin: "link" }
    );
    // What has lost a name is still taken away whole.
    steering.remove().unwrap();
    assert!(!dir.exists());
}

#[test]
fn a_directory_that_was_made_again_is_another_one() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap, Bpffs);
    let world = World::new();
    let (dir, ns) = (world.dir(), &world.node.ns);
    let mut stale = Steering::create(&dir, ns).unwrap();
    Steering::open(&dir).unwrap().remove().unwrap();
    let at = binding("tcp 203.0.113.0/24 *");
    let missing = stale
        .bind(at, &label("web"))
        .map(|_| Steering::new(ns).unwrap());
    assert_eq!(problem(missing), HomeProblem::Missing);
    let mut fresh = Steering::create(&dir, ns).unwrap();
    let replaced = stale
        .bind(at, &label("web"))
        .map(|_| Steering::new(ns).unwrap());
    assert_eq!(problem(replaced), HomeProblem::Replaced);
    assert_eq!(
        problem(stale.remove().map(|()| Steering::new(ns).unwrap())),
        HomeProblem::Replaced
    );
    assert_eq!(fresh.rules().unwrap(), []);
    fresh.bind(at, &label("web")).unwrap();
    fresh.remove().unwrap();
}

#[test]
fn pins_of_another_shape_are_refused() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap, Bpffs);
    static SHORT: MapDef<u32, u32> = MapDef::array("short", 1);
    let world = World::new();
    let dir = world.dir();
    let steering = Steering::create(&dir, &world.node.ns).unwrap();
    for pin in [
        "meta", "rules", "levels", "groups", "sockets", "tallies", "services",
    ] {
        let (path, aside) = (dir.join(pin), dir.join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        Map::create(&SHORT).unwrap().pin(&path).unwrap();
        let text = Steering::open(&dir).unwrap_err().to_string();
        assert!(text.contains("short"), "{pin}: {text}");
        std::fs::rename(&aside, &path).unwrap();
        drop(Steering::open(&dir).unwrap());
    }
    steering.remove().unwrap();
    let plain = Steering::open("/dev/null").unwrap_err().to_string();
    assert!(plain.ends_with("(name a directory of a bpffs)"), "{plain}");
    let nothing = world.mount.path();
    assert_eq!(
        problem(Steering::open(nothing)),
        HomeProblem::Missing,
        "nothing to remove"
    );
}

#[test]
fn the_program_of_another_build_is_replaced() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap, Bpffs);
    let world = World::new();
    let dir = world.dir();
    let listener = listen(&world.node, "127.0.0.1:0");
    let mut steering = Steering::create(&dir, &world.node.ns).unwrap();
    steering
        .bind(binding("tcp 203.0.113.0/24 *"), &label("web"))
        .unwrap();
    steering.register(&label("web"), &listener).unwrap();
    assert_eq!(steering.upgrade().unwrap(), Upgrade::Same);
    drop(steering);

    let other = Program::new(ProgType::SK_LOOKUP, "other", code![ret(SK_PASS)]).unwrap();
    let other = Load::new(&other).load().unwrap();
    Link::open_pin(dir.join("link"))
        .unwrap()
        .update(&other)
        .unwrap();
    std::fs::remove_file(dir.join("program")).unwrap();
    other.pin(dir.join("program")).unwrap();
    // As if somebody had died at it, too.
    other.pin(dir.join("program_next")).unwrap();
    drop(other);
    assert_eq!(
        came_to(&world.node, to("203.0.113.1:80"), &[&listener]),
        None
    );
    let mut steering = Steering::open(&dir).unwrap();
    assert_eq!(steering.upgrade().unwrap(), Upgrade::Replaced);
    assert!(!dir.join("program_next").exists());
    assert_eq!(
        came_to(&world.node, to("203.0.113.1:80"), &[&listener]),
        Some(0)
    );
    drop(steering);
    let mut steering = Steering::open(&dir).unwrap();
    assert_eq!(steering.upgrade().unwrap(), Upgrade::Same);
    steering.remove().unwrap();
}
