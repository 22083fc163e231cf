//! Each kind of map, seen from its effect on programs and sockets.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod load;

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{cgroup, needs};
use bpfsmith_maps::{
    Arena, Bloom, CgroupStorageKey, Handle, LpmKey, Map, ObjectMap, PerCpuMap, Queue, Storage,
    Target, TargetMap, frames,
};
use bpfsmith_sys::attach::{self, How};
use bpfsmith_sys::link::To;
use bpfsmith_sys::prog::TestRun;
use bpfsmith_sys::{info, misc, perf, socket};
use bpfsmith_uapi::{AttachType, Errno};
use load::{load, run};
use nix::sys::socket as net;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::sync::atomic::Ordering;

static INNER: MapDef<u32, u64> = MapDef::array("bs_maps_inner", 2);

fn returns(value: i32) -> OwnedFd {
    let program = Program::new(ProgType::XDP, "returns", code![ret(value)]).unwrap();
    load(&program, 0, &[])
}

#[test]
fn prog_array_decides_where_a_tail_call_leads() {
    needs!(Root);
    static PROGS: MapDef<u32, u32> = MapDef::prog_array("progs", 2);
    let progs = ObjectMap::create(&PROGS).unwrap();
    let body = code![tail_call(R1, &PROGS, 1), ret(7)];
    let program = Program::new(ProgType::XDP, "jumps", body).unwrap();
    let program = load(&program, 0, &[("progs", progs.as_fd())]);
    assert_eq!((run(&program), progs.id(&1).unwrap()), (7, None));
    let two = returns(2);
    progs.set(&1, &two).unwrap();
    assert_eq!(run(&program), 2);
    let id = info::prog(two.as_fd()).unwrap().id;
    assert_eq!(progs.id(&1).unwrap(), Some(id));
    assert_eq!(progs.keys().map(Result::unwrap).collect::<Vec<_>>(), [0, 1]);
    assert!(progs.delete(&1).unwrap());
    assert!(!progs.delete(&1).unwrap());
    assert_eq!(run(&program), 7);
}

#[test]
fn maps_of_maps_hand_out_what_is_inside() {
    needs!(Root);
    for kind in [
        MapType::ARRAY_OF_MAPS,
        MapType::HASH_OF_MAPS,
    ] {
        let def = MapDef::<u32, u32>::new(kind, "bs_maps_outer", 4).inner(INNER.shape());
        let outer = ObjectMap::create(&def).unwrap();
        assert!(outer.inner(&2).unwrap().is_none());
        let inner = Map::create(&INNER).unwrap();
        inner.update(&1, &42).unwrap();
        outer.set(&2, &inner).unwrap();
        drop(inner);
        let inner = outer.inner(&2).unwrap().unwrap();
        assert_eq!(
            outer.id(&2).unwrap(),
            Some(inner.info().unwrap().id),
            "{kind}"
        );
        let inner = Map::<u32, u64>::from_handle(inner).unwrap();
        assert_eq!(inner.lookup(&1).unwrap(), Some(42), "{kind}");
        static OTHER: MapDef<u32, u32> = MapDef::array("bs_maps_other", 2);
        let other = Map::create(&OTHER).unwrap();
        assert_eq!(
            outer.set(&2, &other).unwrap_err().errno(),
            Some(Errno::EINVAL)
        );
        assert!(outer.delete(&2).unwrap());
        assert!(outer.inner(&2).unwrap().is_none());
    }
}

#[test]
fn lpm_trie_finds_the_longest_prefix() {
    needs!(Root);
    static V4: MapDef<LpmKey<[u8; 4]>, u32> = MapDef::lpm_trie("bs_maps_v4", 8);
    let routes = Map::create(&V4).unwrap();
    let v4 = |a, b, c, d, bits| LpmKey::v4(Ipv4Addr::new(a, b, c, d), bits);
    routes.update(&v4(10, 0, 0, 0, 8), &8).unwrap();
    routes.update(&v4(10, 1, 0, 0, 16), &16).unwrap();
    let find = |a, b, c, d| routes.lookup(&Ipv4Addr::new(a, b, c, d).into()).unwrap();
    assert_eq!(
        (find(10, 1, 2, 3), find(10, 2, 2, 3), find(11, 0, 0, 1)),
        (Some(16), Some(8), None)
    );
    let mut seen: Vec<_> = routes.iter().map(|entry| entry.unwrap().0.bits()).collect();
    seen.sort_unstable();
    assert_eq!(seen, [8, 16]);
    assert_eq!(routes.clear().unwrap(), 2);
    assert!(!routes.delete(&v4(10, 0, 0, 0, 8)).unwrap());
    let long = routes.update(&v4(10, 0, 0, 0, 33), &1).unwrap_err();
    assert_eq!(long.errno(), Some(Errno::EINVAL));

    static V6: MapDef<LpmKey<[u8; 16]>, u32> = MapDef::lpm_trie("bs_maps_v6", 8);
    let routes = Map::create(&V6).unwrap();
    let net: Ipv6Addr = "2001:db8::".parse().unwrap();
    routes.update(&LpmKey::v6(net, 32), &6).unwrap();
    let host: Ipv6Addr = "2001:db8::1".parse().unwrap();
    assert_eq!(routes.lookup(&host.into()).unwrap(), Some(6));
}

#[test]
fn queue_and_stack_differ_in_the_order() {
    needs!(Root);
    for (kind, order) in [
        (MapType::QUEUE, [1, 2]),
        (MapType::STACK, [2, 1]),
    ] {
        let def = MapDef::<(), u32>::new(kind, "bs_maps_row", 2);
        let row = Queue::create(&def).unwrap();
        assert_eq!((row.pop().unwrap(), row.peek().unwrap()), (None, None));
        assert!(row.push(&1).unwrap() && row.push(&2).unwrap());
        assert!(!row.push(&3).unwrap(), "{kind}: it is full");
        assert_eq!(row.peek().unwrap(), Some(order[0]));
        assert_eq!(
            [row.pop(), row.pop()].map(|value| value.unwrap().unwrap()),
            order
        );
        assert_eq!(row.pop().unwrap(), None);
    }
    static QUEUE: MapDef<(), u64> = MapDef::new(MapType::QUEUE, "bs_maps_over", 2);
    let queue = Queue::create(&QUEUE).unwrap();
    for value in 1..=3 {
        queue.push_over(&value).unwrap();
    }
    assert_eq!(queue.pop().unwrap(), Some(2), "the oldest made room");
}

#[test]
fn bloom_filter_never_denies_what_was_added() {
    needs!(Root, Bloom);
    static SEEN: MapDef<(), u64> =
        MapDef::new(MapType::BLOOM_FILTER, "bs_maps_bloom", 100).extra(5);
    let seen = Bloom::create(&SEEN).unwrap();
    for value in 0..100 {
        seen.add(&value).unwrap();
    }
    assert!((0..100).all(|value| seen.may_contain(&value).unwrap()));
    let wrong = (1000..2000)
        .filter(|value| seen.may_contain(value).unwrap())
        .count();
    assert!(wrong < 200, "{wrong} of 1000");
    assert_eq!(seen.info().unwrap().map_extra, 5);
}

#[test]
fn perf_event_array_takes_events_alone() {
    needs!(Root, PerfEvents);
    static EVENTS: MapDef<u32, u32> = MapDef::new(MapType::PERF_EVENT_ARRAY, "events", 2);
    let events = ObjectMap::create(&EVENTS).unwrap();
    let event = perf::Event::Software(perf::Software::CpuClock);
    let clock = perf::Open::new(event, perf::Scope::Cpu(0)).open().unwrap();
    events.set(&0, &clock).unwrap();
    let body = code![perf_event_read(&EVENTS, 0), exit()];
    let program = Program::new(ProgType::RAW_TRACEPOINT, "reads", body).unwrap();
    let program = load(&program, 0, &[("events", events.as_fd())]);
    let mut test = TestRun {
        flags: bpfsmith_uapi::flags::test_run::BPF_F_TEST_RUN_ON_CPU,
        ..TestRun::default()
    };
    let first = bpfsmith_sys::prog::test_run(program.as_fd(), &mut test)
        .unwrap()
        .retval;
    assert!(first.cast_signed() > 0, "{}", first.cast_signed());
    assert!(events.delete(&0).unwrap());
    let gone = bpfsmith_sys::prog::test_run(program.as_fd(), &mut test)
        .unwrap()
        .retval;
    assert_eq!(gone.cast_signed(), -2, "ENOENT");
    let file = std::fs::File::open("/proc/self/maps").unwrap();
    assert_eq!(
        events.set(&0, &file).unwrap_err().errno(),
        Some(Errno::EBADF)
    );
}

#[test]
fn cgroup_array_answers_who_is_inside() {
    needs!(Root, Cgroup2);
    static GROUPS: MapDef<u32, u32> = MapDef::new(MapType::CGROUP_ARRAY, "groups", 2);
    let groups = ObjectMap::create(&GROUPS).unwrap();
    let body = code![
        current_task_under_cgroup(&GROUPS, 0),
        exit()
    ];
    let program = Program::new(ProgType::RAW_TRACEPOINT, "asks", body).unwrap();
    let program = load(&program, 0, &[("groups", groups.as_fd())]);
    let ask = || {
        let done = bpfsmith_sys::prog::test_run(program.as_fd(), &mut TestRun::default());
        done.unwrap().retval.cast_signed()
    };
    assert_eq!(ask(), -11, "EAGAIN: the slot is empty");
    let group = cgroup("array");
    groups.set(&0, group.open().unwrap()).unwrap();
    assert_eq!(ask(), 0);
    let root = std::fs::File::open(group.path().parent().unwrap()).unwrap();
    groups.set(&0, &root).unwrap();
    assert_eq!(ask(), 1);
    assert!(groups.delete(&0).unwrap());
}

#[test]
fn sockets_enter_and_leave_a_map() {
    needs!(Root, Sockmap);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let cookie = socket::cookie(listener.as_fd()).unwrap();
    static ARRAY: MapDef<u32, u64> = MapDef::new(MapType::SOCKMAP, "bs_maps_socks", 4);
    let socks = ObjectMap::create(&ARRAY).unwrap();
    assert_eq!(socks.cookie(&1).unwrap(), None);
    assert!(socks.insert(&1, &listener).unwrap());
    assert!(!socks.insert(&1, &listener).unwrap());
    assert_eq!(socks.cookie(&1).unwrap(), Some(cookie));
    static HASH: MapDef<[u8; 6], u64> = MapDef::new(MapType::SOCKHASH, "bs_maps_sockh", 4);
    let hash = ObjectMap::create(&HASH).unwrap();
    assert!(!hash.replace(b"listen", &listener).unwrap());
    hash.set(b"listen", &listener).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    hash.set(b"stream", &stream).unwrap();
    let mut keys: Vec<_> = hash.keys().map(Result::unwrap).collect();
    keys.sort_unstable();
    assert_eq!(keys, [*b"listen", *b"stream"]);
    assert!(hash.delete(b"stream").unwrap());
    drop(listener);
    assert_eq!(socks.cookie(&1).unwrap(), None, "a closed listener leaves");
    assert_eq!(hash.cookie(b"listen").unwrap(), None);
}

#[test]
fn reuseport_array_holds_sockets_of_a_group() {
    needs!(Root, Reuseport);
    let sock = net::socket(
        net::AddressFamily::Inet,
        net::SockType::Datagram,
        net::SockFlag::empty(),
        None,
    )
    .unwrap();
    net::setsockopt(&sock, net::sockopt::ReusePort, &true).unwrap();
    net::bind(sock.as_raw_fd(), &net::SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    static SOCKS: MapDef<u32, u64> = MapDef::new(MapType::REUSEPORT_SOCKARRAY, "bs_maps_reuse", 2);
    let socks = ObjectMap::create(&SOCKS).unwrap();
    socks.set(&0, &sock).unwrap();
    assert_eq!(
        socks.cookie(&0).unwrap(),
        Some(socket::cookie(sock.as_fd()).unwrap())
    );
    let alone = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(
        socks.set(&1, &alone).unwrap_err().errno(),
        Some(Errno::EINVAL)
    );
    drop(sock);
    assert_eq!(socks.cookie(&0).unwrap(), None);
}

/// What a program gets that redirects to a key, and else lets pass.
fn redirects<K, V>(map: &MapDef<K, V>, key: u32, handle: &Handle) -> OwnedFd {
    let pass = XDP_PASS;
    let body = code![redirect_map(map, key, pass), exit()];
    let program = Program::new(ProgType::XDP, "redirects", body).unwrap();
    load(&program, 0, &[(map.shape().name.as_str(), handle.as_fd())])
}

#[test]
fn a_packet_goes_where_a_device_map_says() {
    needs!(Root);
    for kind in [MapType::DEVMAP, MapType::DEVMAP_HASH] {
        let def = MapDef::<u32, Target>::new(kind, "devices", 4);
        let devices = TargetMap::create(&def).unwrap();
        let program = redirects(&def, 1, &devices);
        assert_eq!(
            (run(&program), devices.lookup(1).unwrap()),
            (2, None),
            "{kind}"
        );
        devices.set(1, 1).unwrap();
        assert_eq!(run(&program), 4, "{kind}: XDP_REDIRECT");
        let entry = Target { number: 1, prog: 0 };
        assert_eq!(devices.lookup(1).unwrap(), Some(entry));
        let body = Program::new(ProgType::XDP, "egress", code![ret(XDP_DROP)]).unwrap();
        let egress = load(&body, AttachType::XDP_DEVMAP.0, &[]);
        devices.set_with(1, 1, &egress).unwrap();
        let prog = info::prog(egress.as_fd()).unwrap().id;
        assert_eq!(devices.lookup(1).unwrap(), Some(Target { number: 1, prog }));
        let entries: Vec<_> = devices.iter().map(Result::unwrap).collect();
        assert_eq!(entries, [(1, Target { number: 1, prog })]);
        assert!(devices.delete(1).unwrap());
        assert_eq!(run(&program), 2);
    }
    static PLAIN: MapDef<u32, u32> = MapDef::new(MapType::DEVMAP, "devices", 4);
    let devices = TargetMap::create(&PLAIN).unwrap();
    devices.set(1, 1).unwrap();
    assert_eq!(devices.lookup(1).unwrap(), Some(1));
}

#[test]
fn a_packet_goes_to_the_cpu_that_a_map_says() {
    needs!(Root);
    static CPUS: MapDef<u32, Target> = MapDef::new(MapType::CPUMAP, "cpus", 2);
    let cpus = TargetMap::create(&CPUS).unwrap();
    let program = redirects(&CPUS, 0, &cpus);
    assert_eq!(run(&program), 2);
    cpus.set(0, 192).unwrap();
    assert_eq!(run(&program), 4);
    let body = Program::new(ProgType::XDP, "arrives", code![ret(XDP_DROP)]).unwrap();
    let arrives = load(&body, AttachType::XDP_CPUMAP.0, &[]);
    cpus.set_with(0, 64, &arrives).unwrap();
    let prog = info::prog(arrives.as_fd()).unwrap().id;
    assert_eq!(cpus.lookup(0).unwrap(), Some(Target { number: 64, prog }));
    assert!(cpus.delete(0).unwrap());
    assert_eq!((run(&program), cpus.lookup(0).unwrap()), (2, None));
}

#[test]
fn xsk_map_takes_xdp_sockets_alone() {
    needs!(Root, Xsk);
    static SOCKS: MapDef<u32, u32> = MapDef::new(MapType::XSKMAP, "xsks", 2);
    let socks = ObjectMap::create(&SOCKS).unwrap();
    assert_eq!(run(&redirects(&SOCKS, 1, &socks)), 2, "the slot is empty");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(
        socks.set(&1, &udp).unwrap_err().errno(),
        Some(Errno::EOPNOTSUPP)
    );
    assert!(socks.delete(&1).is_ok());
}

#[test]
fn stack_traces_are_written_by_programs() {
    needs!(Root);
    static TRACES: MapDef<u32, [u64; 32]> = MapDef::new(MapType::STACK_TRACE, "traces", 64);
    let traces = Map::create(&TRACES).unwrap();
    let body = code![get_stackid(R1, &TRACES, 0), exit()];
    let program = Program::new(ProgType::RAW_TRACEPOINT, "traces", body).unwrap();
    let program = load(&program, 0, &[("traces", traces.as_fd())]);
    let id = bpfsmith_sys::prog::test_run(program.as_fd(), &mut TestRun::default())
        .unwrap()
        .retval;
    let trace = traces
        .lookup(&id)
        .unwrap()
        .expect("the program wrote a trace");
    assert!(frames(&trace).len() >= 2, "{trace:x?}");
    assert_eq!(traces.keys().map(Result::unwrap).collect::<Vec<_>>(), [id]);
    assert!(traces.delete(&id).unwrap());
    assert_eq!(traces.lookup(&id).unwrap(), None);
}

#[test]
fn cgroup_storage_comes_with_an_attached_program() {
    needs!(Root, Cgroup2, CgroupBpf);
    let (direction, how) = (AttachType::CGROUP_INET_EGRESS, How::PLAIN);
    let group = cgroup("storage");
    let dir = group.open().unwrap();
    let key = CgroupStorageKey::new(dir.metadata().unwrap().st_ino(), direction);

    static SHARED: MapDef<CgroupStorageKey, u64> =
        MapDef::new(MapType::CGROUP_STORAGE, "shared", 0);
    let shared = Map::create(&SHARED).unwrap();
    let body = code![get_local_storage(&SHARED, 0), ret(1)];
    let program = Program::new(ProgType::CGROUP_SKB, "shared", body).unwrap();
    let program = load(&program, direction.0, &[("shared", shared.as_fd())]);
    assert_eq!(shared.lookup(&key).unwrap(), None);
    attach::attach(program.as_fd(), To::Fd(dir.as_fd()), direction, &how).unwrap();
    assert_eq!(shared.lookup(&key).unwrap(), Some(0));
    shared.update(&key, &5).unwrap();
    assert_eq!(
        shared.iter().map(Result::unwrap).collect::<Vec<_>>(),
        [(key, 5)]
    );
    attach::detach(Some(program.as_fd()), To::Fd(dir.as_fd()), direction, &how).unwrap();

    static OWN: MapDef<CgroupStorageKey, u64> =
        MapDef::new(MapType::PERCPU_CGROUP_STORAGE, "own", 0);
    let own = PerCpuMap::create(&OWN).unwrap();
    let body = code![get_local_storage(&OWN, 0), ret(1)];
    let program = Program::new(ProgType::CGROUP_SKB, "own", body).unwrap();
    let program = load(&program, direction.0, &[("own", own.as_fd())]);
    attach::attach(program.as_fd(), To::Fd(dir.as_fd()), direction, &how).unwrap();
    let mut values = own.values();
    values.fill(&2);
    own.update(&key, &values).unwrap();
    let cpus = u64::try_from(values.len()).unwrap();
    assert_eq!(own.sum(&key).unwrap(), Some(2 * cpus));
    attach::detach(Some(program.as_fd()), To::Fd(dir.as_fd()), direction, &how).unwrap();
}

/// The life of a value that belongs to something behind an fd.
#[track_caller]
fn belongs(kind: MapType, owner: impl AsFd, other: impl AsFd) {
    let def = MapDef::<i32, u64>::new(kind, "bs_maps_store", 0)
        .flags(1)
        .described();
    let store = Storage::create(&def).unwrap();
    assert_eq!(store.lookup(&owner).unwrap(), None, "{kind}");
    assert!(!store.replace(&owner, &1).unwrap());
    assert!(store.insert(&owner, &2).unwrap());
    assert!(!store.insert(&owner, &3).unwrap());
    store.update(&owner, &4).unwrap();
    assert_eq!(store.lookup(&owner).unwrap(), Some(4), "{kind}");
    assert_eq!(
        store.lookup(&other).unwrap(),
        None,
        "{kind}: not of another one"
    );
    assert!(store.delete(&owner).unwrap());
    assert!(!store.delete(&owner).unwrap());
}

#[test]
fn storage_belongs_to_its_owner() {
    needs!(Root, TaskStorage, Cgroup2, CgroupStorage);
    let udp = || UdpSocket::bind("127.0.0.1:0").unwrap();
    belongs(MapType::SK_STORAGE, udp(), udp());
    let pidfd = |pid| misc::pidfd(pid).unwrap();
    belongs(MapType::TASK_STORAGE, pidfd(std::process::id()), pidfd(1));
    let open = |path| std::fs::File::open(path).unwrap();
    belongs(MapType::INODE_STORAGE, open("/proc/self/exe"), open("/"));
    let (one, two) = (cgroup("one"), cgroup("two"));
    belongs(
        MapType::CGRP_STORAGE,
        one.open().unwrap(),
        two.open().unwrap(),
    );
}

#[test]
fn arena_is_memory_shared_by_all_that_map_it() {
    needs!(Root, Arena);
    static ARENA: MapDef<(), ()> = MapDef::new(MapType::ARENA, "bs_maps_arena", 4).flags(1 << 10);
    let arena = Arena::create(&ARENA).unwrap();
    let memory = arena.mapped().unwrap();
    memory.u64(8192).unwrap().store(77, Ordering::Release);
    assert_eq!(memory.load_u64(8192), Some(77));
    assert_eq!(memory.len(), 4 * bpfsmith_sys::mmap::page_size());
    let other = Arena::open_id(arena.info().unwrap().id).unwrap();
    assert_eq!(other.facts().kind, MapType::ARENA);
}
