//! Programs on a control group of the test's own: what its processes notice of them.

mod net_bench;

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{Cgroup as Group, bpffs, cgroup, deadline, needs};
use bpfsmith_net::Node;
use bpfsmith_prog::target::{Cgroup, Target};
use bpfsmith_prog::{Link, Load, Maps, Prog, Way};
use bpfsmith_sys::info::Place;
use net_bench::{LIMIT, check_refused, hit, hits, id, load_to};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A control group with this process in it, and a network of its own. The threads of a process are
/// in one group, so that one test at a time has it.
struct Inside {
    dir: File,
    group: Group,
    node: Node,
    _turn: MutexGuard<'static, ()>,
}

impl Inside {
    #[expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]
    fn new() -> Inside {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let group = cgroup("net");
        group.enter(std::process::id()).unwrap();
        Inside {
            dir: group.open().unwrap(),
            group,
            node: Node::new().unwrap(),
            _turn: turn,
        }
    }

    /// Runs in the network, on a thread in the group.
    #[track_caller]
    fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        self.node
            .run(body)
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

fn loaded(target: &Cgroup<'_>, kind: ProgType, code: Code, maps: &mut Maps) -> Prog {
    load_to(target, kind, "judge", code, maps)
}

/// A program that counts and returns a number.
fn judge(target: &Cgroup<'_>, index: u32, verdict: i32, maps: &mut Maps) -> Prog {
    let to = target.hook().map(|hook| hook.attach_type);
    let row = Cgroup::HOOKS
        .iter()
        .find(|row| to.as_ref().ok() == Some(&row.0));
    let kind = row.map_or(ProgType::LSM, |row| row.1);
    loaded(target, kind, code![hit(index), ret(verdict)], maps)
}

/// The UDP port that packets of this kind go to.
fn udp(host: &str) -> io::Result<(UdpSocket, UdpSocket)> {
    let server = UdpSocket::bind((host, 0))?;
    server.set_read_timeout(Some(LIMIT))?;
    Ok((server, UdpSocket::bind((host, 0))?))
}

fn send(host: &str) -> io::Result<()> {
    let (server, client) = udp(host)?;
    client.send_to(b"hello", server.local_addr()?)?;
    server.recv_from(&mut [0; 5]).map(drop)
}

fn connect(host: &str) -> io::Result<()> {
    let (server, client) = udp(host)?;
    client.connect(server.local_addr()?)?;
    client.peer_addr().map(drop)
}

fn tcp() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    TcpStream::connect(listener.local_addr()?).map(drop)
}

fn unix_stream() -> io::Result<()> {
    let address = SocketAddr::from_abstract_name("stream")?;
    let _listener = UnixListener::bind_addr(&address)?;
    let client = UnixStream::connect_addr(&address)?;
    client.peer_addr().map(drop)
}

fn unix_datagram() -> io::Result<()> {
    let address = SocketAddr::from_abstract_name("datagram")?;
    let server = UnixDatagram::bind_addr(&address)?;
    let client = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name("sender")?)?;
    client.send_to_addr(b"hello", &address)?;
    server.recv_from(&mut [0; 5])?;
    server.local_addr().map(drop)
}

fn option() -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_ttl(9)?;
    socket.ttl().map(drop)
}

type Hook = for<'a> fn(&'a File) -> Cgroup<'a>;
type Action = fn() -> io::Result<()>;

/// A program on each hook counts what happens, and nothing once it is detached.
#[track_caller]
fn check_counts(rows: &[(Hook, Action)]) {
    let inside = Inside::new();
    for (index, (hook, action)) in rows.iter().enumerate() {
        let mut maps = Maps::new();
        let target = hook(&inside.dir);
        let prog = judge(&target, 0, 1, &mut maps);
        let link = prog.attach(&target).unwrap_or_else(|e| panic!("{e}"));
        let listed = target.query().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(listed.progs, [id(&prog)]);
        inside
            .run(action)
            .unwrap_or_else(|e| panic!("row {index}: {e}"));
        let count = hits(&maps, 0);
        assert!(count > 0, "{target:?}");
        link.detach().unwrap_or_else(|e| panic!("{e}"));
        inside
            .run(action)
            .unwrap_or_else(|e| panic!("row {index}: {e}"));
        assert_eq!(hits(&maps, 0), count, "{target:?}");
    }
}

#[test]
fn every_hook_of_sockets_sees_what_happens() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf);
    check_counts(&[
        (|dir| Cgroup::ingress(dir), || send("127.0.0.1")),
        (|dir| Cgroup::egress(dir), || send("127.0.0.1")),
        (|dir| Cgroup::sock_create(dir), || send("127.0.0.1")),
        (|dir| Cgroup::sock_release(dir), || send("127.0.0.1")),
        (|dir| Cgroup::post_bind4(dir), || send("127.0.0.1")),
        (|dir| Cgroup::post_bind6(dir), || send("::1")),
        (|dir| Cgroup::bind4(dir), || send("127.0.0.1")),
        (|dir| Cgroup::bind6(dir), || send("::1")),
        (|dir| Cgroup::connect4(dir), || connect("127.0.0.1")),
        (|dir| Cgroup::connect6(dir), || connect("::1")),
        (|dir| Cgroup::sendmsg4(dir), || send("127.0.0.1")),
        (|dir| Cgroup::sendmsg6(dir), || send("::1")),
        (|dir| Cgroup::recvmsg4(dir), || send("127.0.0.1")),
        (|dir| Cgroup::recvmsg6(dir), || send("::1")),
        (|dir| Cgroup::getpeername4(dir), || connect("127.0.0.1")),
        (|dir| Cgroup::getpeername6(dir), || connect("::1")),
        (|dir| Cgroup::getsockname4(dir), || connect("127.0.0.1")),
        (|dir| Cgroup::getsockname6(dir), || connect("::1")),
        (|dir| Cgroup::sock_ops(dir), tcp),
        (|dir| Cgroup::getsockopt(dir), option),
        (|dir| Cgroup::setsockopt(dir), option),
    ]);
}

#[test]
fn every_hook_of_unix_sockets_sees_what_happens() {
    needs!(Root, NetNs, Cgroup2, CgroupUnix);
    check_counts(&[
        (|dir| Cgroup::connect_unix(dir), unix_stream),
        (|dir| Cgroup::getpeername_unix(dir), unix_stream),
        (|dir| Cgroup::sendmsg_unix(dir), unix_datagram),
        (|dir| Cgroup::recvmsg_unix(dir), unix_datagram),
        (|dir| Cgroup::getsockname_unix(dir), unix_datagram),
    ]);
}

#[test]
fn every_hook_of_files_sees_what_happens() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf);
    check_counts(&[
        (
            |dir| Cgroup::device(dir),
            || File::open("/dev/zero").map(drop),
        ),
        (
            |dir| Cgroup::sysctl(dir),
            || std::fs::read("/proc/sys/kernel/ostype").map(drop),
        ),
    ]);
}

/// A verdict of 0 refuses with `EPERM`, and only while it is attached.
#[track_caller]
fn check_refuses(rows: &[(Hook, Action)]) {
    let inside = Inside::new();
    for (hook, action) in rows {
        let target = hook(&inside.dir);
        let prog = judge(&target, 0, 0, &mut Maps::new());
        let link = prog.attach(&target).unwrap_or_else(|e| panic!("{e}"));
        let refused = inside.run(action).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::PermissionDenied), "{target:?}");
        drop(link);
        inside.run(action).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn what_is_refused_is_refused_to_the_caller() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf);
    check_refuses(&[
        (|dir| Cgroup::egress(dir), || send("127.0.0.1")),
        (|dir| Cgroup::sock_create(dir), || send("127.0.0.1")),
        (|dir| Cgroup::post_bind4(dir), || send("127.0.0.1")),
        (|dir| Cgroup::bind6(dir), || send("::1")),
        (|dir| Cgroup::connect4(dir), || connect("127.0.0.1")),
        (|dir| Cgroup::sendmsg6(dir), || send("::1")),
        (|dir| Cgroup::setsockopt(dir), option),
        (
            |dir| Cgroup::device(dir),
            || File::open("/dev/zero").map(drop),
        ),
        (
            |dir| Cgroup::sysctl(dir),
            || std::fs::read("/proc/sys/kernel/ostype").map(drop),
        ),
    ]);
}

#[test]
fn a_security_hook_refuses_only_in_its_group() {
    needs!(Root, NetNs, Cgroup2, LsmCgroup);
    let inside = Inside::new();
    let target = Cgroup::lsm(&inside.dir, "socket_bind");
    let mut maps = Maps::new();
    let prog = judge(&target, 0, 0, &mut maps);
    let link = prog.attach(&target).unwrap();
    let refused = inside.run(|| send("127.0.0.1")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert_eq!(hits(&maps, 0), 1);
    drop(link);
    inside.run(|| send("127.0.0.1")).unwrap();
}

#[test]
fn a_security_hook_that_is_none_names_its_neighbours() {
    needs!(Root, Cgroup2, Btf);
    let inside = Inside::new();
    let target = Cgroup::lsm(&inside.dir, "socket_bindd");
    let error = target.hook().unwrap_err().to_string();
    assert!(error.contains("\"bpf_lsm_socket_bindd\""), "{error}");
    assert!(error.contains("security_"), "{error}");
}

/// A program that puts another port in place of one.
fn swap_port(target: &Cgroup<'_>, from: u16, to: u16) -> Prog {
    let code = code![
        load(R2, R1.get(bpf_sock_addr::user_port)),
        R2.eq(be16(from)).then(code![
            mov(R2, be16(to)),
            store(R1.get(bpf_sock_addr::user_port), R2),
        ]),
        ret(1),
    ];
    loaded(target, ProgType::CGROUP_SOCK_ADDR, code, &mut Maps::new())
}

#[test]
fn a_connection_goes_elsewhere_and_does_not_know() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf);
    let inside = Inside::new();
    let there = Cgroup::connect4(&inside.dir);
    let back = Cgroup::getpeername4(&inside.dir);
    let listener = inside.run(|| TcpListener::bind("127.0.0.1:7001")).unwrap();
    let link = swap_port(&there, 7000, 7001).attach(&there).unwrap();
    let client = inside.run(|| TcpStream::connect("127.0.0.1:7000")).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(client.local_addr().unwrap(), from);
    assert_eq!(client.peer_addr().unwrap().port(), 7001);
    let named = swap_port(&back, 7001, 7000).attach(&back).unwrap();
    assert_eq!(client.peer_addr().unwrap().port(), 7000);
    drop((link, named));
    let refused = inside.run(|| TcpStream::connect("127.0.0.1:7000"));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(client.peer_addr().unwrap().port(), 7001);
}

#[test]
fn datagrams_and_names_are_changed_on_the_way() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf);
    let inside = Inside::new();
    let dir = &inside.dir;
    let (bind, name) = (Cgroup::bind4(dir), Cgroup::getsockname4(dir));
    let _bind = swap_port(&bind, 7000, 7001).attach(&bind).unwrap();
    let server = inside.run(|| UdpSocket::bind("127.0.0.1:7000")).unwrap();
    assert_eq!(server.local_addr().unwrap().port(), 7001);
    let _name = swap_port(&name, 7001, 7000).attach(&name).unwrap();
    assert_eq!(server.local_addr().unwrap().port(), 7000);

    let (to, from) = (Cgroup::sendmsg4(dir), Cgroup::recvmsg4(dir));
    let _to = swap_port(&to, 7002, 7001).attach(&to).unwrap();
    let client = inside.run(|| UdpSocket::bind("127.0.0.1:7003")).unwrap();
    client.send_to(b"hello", "127.0.0.1:7002").unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let _from = swap_port(&from, 7003, 7004).attach(&from).unwrap();
    let (_, sender) = server.recv_from(&mut [0; 5]).unwrap();
    assert_eq!(sender.port(), 7004);
}

#[test]
fn an_option_reads_as_the_program_says() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf);
    const IP_TTL: i32 = 2;
    let inside = Inside::new();
    let target = Cgroup::getsockopt(&inside.dir);
    let code = code![
        load(R2, R1.get(bpf_sockopt::optname)),
        load(R3, R1.get(bpf_sockopt::optval)),
        load(R4, R1.get(bpf_sockopt::optval_end)),
        mov(R5, R3),
        add(R5, 4),
        all([R2.eq(IP_TTL), R5.le(R4)]).then(code![store(R3.u32(0), 42)]),
        ret(1),
    ];
    let prog = loaded(&target, ProgType::CGROUP_SOCKOPT, code, &mut Maps::new());
    let socket = inside.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
    socket.set_ttl(9).unwrap();
    let link = prog.attach(&target).unwrap();
    assert_eq!(socket.ttl().unwrap(), 42);
    drop(link);
    assert_eq!(socket.ttl().unwrap(), 9);
}

#[test]
fn attachments_without_links_share_or_stand_alone() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf);
    let inside = Inside::new();
    let on = Cgroup::sock_create(&inside.dir);
    let mut maps = Maps::new();
    let progs: Vec<Prog> = (0..3).map(|n| judge(&on, n, 1, &mut maps)).collect();
    let act = || {
        inside
            .run(|| UdpSocket::bind("127.0.0.1:0").map(drop))
            .unwrap()
    };
    let counts = || {
        [
            hits(&maps, 0),
            hits(&maps, 1),
            hits(&maps, 2),
        ]
    };

    let mut first = progs[0].attach(&on.multi()).unwrap();
    assert_eq!(first.way(), Way::Attachment);
    let linked = progs[1].attach(&on).unwrap();
    assert_eq!(linked.info().unwrap().prog, id(&progs[1]));
    act();
    assert_eq!(counts(), [1, 1, 0]);
    check_refused(progs[2].attach(&on.alone()), Errno::EPERM, "Cgroup::multi");
    check_refused(progs[0].attach(&on.multi()), Errno::EINVAL, "");
    let missing = on.replace(&progs[2]);
    check_refused(progs[2].attach(&missing), Errno::ENOENT, "");
    first.update(&progs[2]).unwrap();
    act();
    assert_eq!(counts(), [1, 2, 1]);
    let again = progs[0].attach(&on.replace(&progs[2])).unwrap();
    act();
    assert_eq!(counts(), [2, 3, 1]);
    // It was replaced, and another program is not its to detach.
    check_refused(first.detach(), Errno::ENOENT, "");
    again.detach().unwrap();
    drop(linked);
    act();
    assert_eq!(counts(), [2, 3, 1]);

    let mut alone = progs[0].attach(&on.alone()).unwrap();
    check_refused(progs[1].attach(&on), Errno::EPERM, "Cgroup::multi");
    act();
    alone.update(&progs[1]).unwrap();
    act();
    assert_eq!(counts(), [3, 4, 1]);
    alone.detach().unwrap();
    act();
    assert_eq!(counts(), [3, 4, 1]);
    assert!(on.query().unwrap().progs.is_empty());
}

/// The kernel itself would take away whatever stands there.
#[test]
fn a_program_that_stood_alone_does_not_detach_its_successor() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf);
    let inside = Inside::new();
    let on = Cgroup::sock_create(&inside.dir).overridable();
    let mut maps = Maps::new();
    let progs: Vec<Prog> = (0..3).map(|n| judge(&on, n, 1, &mut maps)).collect();
    let mut first = progs[0].attach(&on).unwrap();
    let second = progs[1].attach(&on).unwrap();
    let there = || on.query().unwrap().progs;
    assert_eq!(there(), [id(&progs[1])]);
    let refused = first.update(&progs[2]).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::ENOENT), "{refused}");
    assert_eq!(there(), [id(&progs[1])]);
    check_refused(first.detach(), Errno::ENOENT, "took its place");
    assert_eq!(there(), [id(&progs[1])]);
    second.detach().unwrap();
    assert!(there().is_empty());
}

#[test]
fn an_overridable_program_gives_way_to_one_below() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf);
    let inside = Inside::new();
    let below_path = inside.group.path().join("bs-hooknet-below");
    std::fs::create_dir(&below_path).unwrap();
    let below = File::open(&below_path).unwrap();
    let (outer, inner) = (Cgroup::egress(&inside.dir), Cgroup::egress(&below));
    let mut maps = Maps::new();
    let progs: Vec<Prog> = (0..2).map(|n| judge(&outer, n, 1, &mut maps)).collect();
    let above = progs[0].attach(&outer.overridable()).unwrap();
    assert_eq!(inner.query_effective().unwrap().progs, [id(&progs[0])]);
    let own = progs[1].attach(&inner.overridable()).unwrap();
    assert_eq!(inner.query_effective().unwrap().progs, [id(&progs[1])]);
    own.detach().unwrap();
    above.detach().unwrap();
    let both = [
        progs[0].attach(&outer).unwrap(),
        progs[1].attach(&inner).unwrap(),
    ];
    let ids = [id(&progs[1]), id(&progs[0])];
    assert_eq!(inner.query_effective().unwrap().progs, ids);
    drop((both, below));
    std::fs::remove_dir(&below_path).unwrap();
}

#[test]
fn places_decide_the_order() {
    needs!(Root, NetNs, Cgroup2, CgroupOrder);
    let inside = Inside::new();
    let on = Cgroup::egress(&inside.dir);
    let mut maps = Maps::new();
    let progs: Vec<Prog> = (0..5).map(|n| judge(&on, n, 1, &mut maps)).collect();
    let three = progs[3].attach(&on).unwrap();
    let four = progs[4].attach(&on.last()).unwrap();
    let one = progs[1].attach(&on.first()).unwrap();
    let two = progs[2].attach(&on.before(&three)).unwrap();
    let zero = progs[0].attach(&on.before(&one)).unwrap();
    let list = on.query().unwrap();
    assert_eq!(list.progs, progs.iter().map(id).collect::<Vec<_>>());
    let stale = on.revision(list.revision - 1);
    check_refused(progs[0].attach(&stale), Errno::ESTALE, "Cgroup::query");
    drop([zero, one, two, three, four]);
}

#[test]
fn a_link_swaps_pins_and_outlives_its_group_without_effect() {
    needs!(Root, NetNs, Cgroup2, CgroupBpf, Bpffs);
    let dir = bpffs();
    let inside = Inside::new();
    let on = Cgroup::sock_create(&inside.dir);
    let mut maps = Maps::new();
    let progs: Vec<Prog> = (0..2).map(|n| judge(&on, n, 1, &mut maps)).collect();
    let act = || {
        inside
            .run(|| UdpSocket::bind("127.0.0.1:0").map(drop))
            .unwrap()
    };
    let mut link = progs[0].attach(&on).unwrap();
    act();
    link.replace(&progs[0], &progs[1]).unwrap();
    check_refused(
        link.replace(&progs[0], &progs[1]),
        Errno::EPERM,
        "Link::info",
    );
    link.pin(dir.path().join("link")).unwrap();
    drop(link);
    act();
    assert_eq!((hits(&maps, 0), hits(&maps, 1)), (1, 1));
    let link = Link::open_pin(dir.path().join("link")).unwrap();
    link.force_detach().unwrap();
    act();
    assert_eq!((hits(&maps, 0), hits(&maps, 1)), (1, 1));

    let gone = cgroup("gone");
    let mut link = {
        let dir = gone.open().unwrap();
        progs[0].attach(&Cgroup::sock_create(&dir)).unwrap()
    };
    drop(gone);
    deadline(LIMIT, || match link.info().unwrap().place {
        Place::Cgroup { id: 0, .. } => Some(()),
        _ => None,
    });
    check_refused(link.update(&progs[1]), Errno::ENOLINK, "vanished");
    link.detach().unwrap();
}

#[test]
fn programs_for_other_hooks_are_refused() {
    needs!(Root, Cgroup2, CgroupBpf);
    let inside = Inside::new();
    let on = Cgroup::connect4(&inside.dir);
    let prog = judge(&on, 0, 1, &mut Maps::new());
    let error = prog.attach(&Cgroup::connect6(&inside.dir)).unwrap_err();
    assert!(
        error.to_string().contains("BPF_CGROUP_INET6_CONNECT"),
        "{error}"
    );
    let file = File::open("/").unwrap();
    let error = prog.attach(&Cgroup::connect4(&file));
    check_refused(error, Errno::EBADF, "cgroup 2");
    let program = Program::new(ProgType::CGROUP_SKB, "both", code![ret(1)]).unwrap();
    let egress = Cgroup::egress(&inside.dir);
    let loaded = Load::new(&program).to(&egress).unwrap().load().unwrap();
    loaded.attach(&egress).unwrap().detach().unwrap();
}
