//! Congestion control by programs: what real connections do with it, and what becomes of them when the
//! algorithm goes.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

#[macro_use]
mod programs;

use bpfsmith::dsl::*;
use bpfsmith::kit::map::{count_at, lookup_or_zero};
use bpfsmith::kit::packet::{self, Packet};
use bpfsmith::kit::tcp as cc;
use bpfsmith::maps::{Handle, Map, RingBuf};
use bpfsmith::net::Pair;
use bpfsmith::prog::ops::{LoadedOps, Registered, StructOps};
use bpfsmith::prog::target::Xdp;
use bpfsmith::prog::{Link, Load, Maps};
use bpfsmith::record;
use bpfsmith::sys::socket;
use bpfsmith::uapi::{Errno, OpsState};
use bpfsmith_gate::{deadline, is_slow, needs, version};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

program!(example, "../examples/tcp_congestion_bpf.rs");

use example::{CALLS, EVENTS, GROWTH, INIT, LOSS, Members};

const LIMIT: Duration = Duration::from_secs(20);
const MEGABYTE: usize = 1_000_000;

/// An algorithm in the kernel, which nobody may choose yet.
struct Algorithm {
    name: &'static str,
    ops: LoadedOps,
    maps: Maps,
}

impl Algorithm {
    #[track_caller]
    fn load(name: &'static str, members: &Members) -> Algorithm {
        let ops = example::ops(name, members).unwrap();
        let maps = ops.maps().unwrap();
        let ops = ops.load(&maps).unwrap_or_else(|error| panic!("{error:#}"));
        Algorithm { name, ops, maps }
    }

    fn calls(&self, index: u32) -> u64 {
        let calls: Map<u32, u64> = self.maps.open(&CALLS).unwrap();
        calls.lookup(&index).unwrap().unwrap()
    }
}

fn is_available(name: &str) -> bool {
    let all = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    all.unwrap().split_whitespace().any(|known| known == name)
}

/// Bytes that look random, over and over. Their number is prime.
fn pattern() -> Vec<u8> {
    let mut word = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_be_bytes()[0]
    };
    (0..65_537).map(|_| next()).collect()
}

/// A connection whose client uses an algorithm, and how many bytes it carried.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    carried: usize,
}

impl Connection {
    fn new(net: &Pair, algorithm: &str) -> Connection {
        let listen = || TcpListener::bind((net.server.v4(), 0));
        let listener = net.server.run(listen).unwrap().unwrap();
        let to = listener.local_addr().unwrap();
        let client = net.client.run(|| TcpStream::connect(to)).unwrap().unwrap();
        socket::set_congestion(client.as_fd(), algorithm).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(LIMIT)).unwrap();
        client.set_write_timeout(Some(LIMIT)).unwrap();
        let connection = Connection {
            client,
            server,
            carried: 0,
        };
        assert_eq!(connection.algorithm(), algorithm);
        connection
    }

    fn algorithm(&self) -> String {
        socket::congestion(self.client.as_fd()).unwrap()
    }

    fn port(&self) -> u32 {
        self.client.local_addr().unwrap().port().into()
    }

    /// Sends so many bytes; all arrive, and each is what it was. Meanwhile, `look` looks.
    #[track_caller]
    fn carry(&mut self, bytes: usize, mut look: impl FnMut()) {
        let pattern = pattern();
        let (start, end) = (self.carried, self.carried + bytes);
        let piece = |at: usize| &pattern[at % pattern.len()..];
        std::thread::scope(|scope| {
            let (client, piece) = (&mut self.client, &piece);
            let sender = scope.spawn(move || {
                let mut at = start;
                while at < end {
                    let next = piece(at);
                    at += client.write(&next[..next.len().min(end - at)]).unwrap();
                }
            });
            let mut buffer = vec![0; 1 << 17];
            let mut at = start;
            while at < end {
                let got = self.server.read(&mut buffer).unwrap();
                assert!(got > 0, "the connection ended after {at} bytes");
                let mut left = &buffer[..got];
                while !left.is_empty() {
                    let wanted = piece(at);
                    let same = left.len().min(wanted.len());
                    assert!(left[..same] == wanted[..same], "wrong bytes behind {at}");
                    left = &left[same..];
                    at += same;
                }
                look();
            }
            assert_eq!(at, end);
            sender.join().unwrap();
        });
        self.carried = end;
    }
}

static DROPPED: MapDef<u32, u64> = MapDef::array("dropped", 2);

/// Drops each packet of data whose number is a multiple of `nth`.
fn lossy(nth: i32) -> Program {
    const P: Packet = Packet {
        data: R6,
        end: R7,
        cursor: R8,
        scratch: R5,
    };
    let (pass, key) = (label("pass"), slot::<u32>("key"));
    let code = code![
        packet::xdp(P, R1),
        mov(R2, P.end),
        sub(R2, P.data),
        jlt(R2, 1000, pass),
        store(key.u32(0), 0),
        map_lookup_elem(&DROPPED, key),
        jeq(R0, 0, pass),
        mov(R1, 1),
        fetch_add(R0.u64(0), R1),
        rem(R1, nth),
        jne(R1, nth - 1, pass),
        count_at(&DROPPED, 1, 1),
        ret(XDP_DROP),
        bind(pass),
        ret(XDP_PASS),
    ];
    Program::new(ProgType::XDP, "lossy", code).unwrap_or_else(|report| panic!("{report}"))
}

/// A cable that loses packets on the way to the server.
struct Lossy {
    net: Pair,
    maps: Maps,
    _link: Link,
}

impl Lossy {
    fn new(nth: i32) -> Lossy {
        let net = Pair::new().unwrap();
        let program = lossy(nth);
        let maps = Maps::of(&program).unwrap();
        let device = Xdp::on(net.server.port.index).native();
        let attached = net.server.run(|| {
            let prog = Load::new(&program).maps(&maps).to(&device)?.load()?;
            prog.attach(&device)
        });
        let link = attached
            .unwrap()
            .unwrap_or_else(|error| panic!("{error:#}"));
        Lossy {
            net,
            maps,
            _link: link,
        }
    }

    fn dropped(&self) -> u64 {
        let dropped: Map<u32, u64> = self.maps.open(&DROPPED).unwrap();
        dropped.lookup(&1).unwrap().unwrap()
    }
}

/// So many bytes, or a tenth on a slow machine.
fn bytes(megabytes: usize) -> usize {
    let bytes = megabytes * MEGABYTE;
    if is_slow() { bytes / 10 } else { bytes }
}

/// A large transfer over a cable that loses packets: every byte arrives, and the algorithm sees each
/// window and each loss.
fn carries(name: &'static str, members: &Members) {
    let cable = Lossy::new(3000);
    let algorithm = Algorithm::load(name, members);
    let registered = algorithm.ops.register().unwrap();
    assert!(is_available(name));
    let mut ring: RingBuf = algorithm.maps.open(&EVENTS).unwrap();
    let mut connection = Connection::new(&cable.net, name);
    let cookie = socket::cookie(connection.client.as_fd()).unwrap();
    let port = connection.port();
    let (mut windows, mut losses) = (0_u64, 0_u64);
    let (mut least, mut most) = (u32::MAX, 0);
    let begun = std::time::Instant::now();
    let mut look = || {
        ring.for_each(|window: &cc::Window| {
            assert_eq!((window.cookie, window.port), (cookie, port));
            assert!(window.cwnd > 0);
            windows += 1;
            losses += u64::from(window.what == LOSS);
            (least, most) = (least.min(window.cwnd), most.max(window.cwnd));
        })
        .unwrap();
    };
    connection.carry(bytes(100), &mut look);
    look();
    let took = begun.elapsed();
    println!(
        "{name}: {} bytes in {took:?}; {} dropped; {} calls of cong_avoid, {} of ssthresh; {windows} \
         windows from {least} to {most}, {losses} losses told",
        connection.carried,
        cable.dropped(),
        algorithm.calls(GROWTH),
        algorithm.calls(LOSS),
    );
    assert!(cable.dropped() > 0);
    assert_eq!(algorithm.calls(INIT), 1);
    assert!(algorithm.calls(GROWTH) > 10);
    // Several packets may be lost at once, and one loss may lead to another.
    assert!(algorithm.calls(LOSS) > 0 && losses > 0);
    assert!(least < most, "{least} to {most}");
    drop(connection);
    registered.unregister().unwrap();
    assert!(!is_available(name));
}

#[test]
fn reno_carries_every_byte_over_a_cable_that_loses_some() {
    needs!(Root, Bpf, Btf, NetNs, Veth, XdpLink, RingBuf, StructOps);
    carries("bs_reno", &example::reno());
}

#[test]
fn cubic_carries_every_byte_over_a_cable_that_loses_some() {
    needs!(Root, Bpf, Btf, NetNs, Veth, XdpLink, RingBuf, StructOps);
    carries("bs_cubic", &example::cubic());
}

/// Nobody can open the map of that number any more.
#[track_caller]
fn gone(map: u32) {
    deadline(LIMIT, || {
        let opened = Handle::open_id(map);
        (opened.err()?.errno() == Some(Errno::ENOENT)).then_some(())
    });
}

#[test]
fn an_algorithm_outlives_its_name_as_long_as_sockets_use_it() {
    needs!(Root, Bpf, Btf, NetNs, Veth, RingBuf, StructOps);
    let net = Pair::new().unwrap();
    let algorithm = Algorithm::load("bs_leaving", &example::cubic());
    let registered = algorithm.ops.register().unwrap();
    let id = registered.id().unwrap();
    let mut connection = Connection::new(&net, algorithm.name);
    connection.carry(bytes(10), || ());
    registered.unregister().unwrap();
    // Nobody else can choose it.
    assert!(!is_available(algorithm.name));
    let other = net.client.run(|| TcpListener::bind((net.client.v4(), 0)));
    let other = other.unwrap().unwrap();
    let refused = socket::set_congestion(other.as_fd(), algorithm.name).unwrap_err();
    assert_eq!(refused.errno, Errno::ENOENT);
    // This socket still has it, and it works.
    let before = algorithm.calls(GROWTH);
    let left = Registered::open_id(id).unwrap();
    assert_eq!(left.state().unwrap(), OpsState::TOBEFREE);
    left.leak();
    connection.carry(bytes(10), || ());
    assert_eq!(connection.algorithm(), algorithm.name);
    assert!(algorithm.calls(GROWTH) > before);
    drop(algorithm);
    connection.carry(bytes(10), || ());
    assert!(Handle::open_id(id).is_ok());
    drop(connection);
    gone(id);
}

#[test]
fn sockets_keep_what_they_have_when_a_link_goes_over() {
    needs!(Root, Bpf, Btf, NetNs, Veth, RingBuf, StructOpsLink);
    let net = Pair::new().unwrap();
    let first = Algorithm::load("bs_going_over", &example::reno());
    let second = Algorithm::load("bs_going_over", &example::cubic());
    let mut link = first.ops.attach().unwrap();
    let mut old = Connection::new(&net, first.name);
    old.carry(bytes(10), || ());
    second.ops.replace(&mut link).unwrap();
    let mut new = Connection::new(&net, second.name);
    let before = [
        first.calls(GROWTH),
        second.calls(GROWTH),
    ];
    assert!(before[0] > 0 && before[1] == 0, "{before:?}");
    old.carry(bytes(10), || ());
    let between = [
        first.calls(GROWTH),
        second.calls(GROWTH),
    ];
    assert!(between[0] > before[0] && between[1] == 0, "{between:?}");
    new.carry(bytes(10), || ());
    let after = [
        first.calls(GROWTH),
        second.calls(GROWTH),
    ];
    assert!(after[0] == between[0] && after[1] > 0, "{after:?}");
    assert_eq!([first.calls(INIT), second.calls(INIT)], [1, 1]);
    // The link goes, and both end well.
    drop(link);
    // A process that another test starts may hold it for a moment.
    deadline(LIMIT, || (!is_available(first.name)).then_some(()));
    old.carry(bytes(10), || ());
    new.carry(bytes(10), || ());
}

record! {
    /// What the algorithm below keeps in each socket.
    struct Mine {
        acked: u64,
    }
}

/// By port: how many packets were acknowledged, as each socket's own memory says, and as it was added
/// up outside.
static KEPT: MapDef<u32, u64> = MapDef::hash("kept", 16);
static COUNTED: MapDef<u32, u64> = MapDef::hash("counted", 16);

fn counting() -> Program {
    let (port, full) = (slot::<u32>("port"), label("full"));
    let own = || cc::private::<Mine>(R6).get(Mine::acked);
    let of = args("tcp_congestion_ops.cong_avoid");
    let code = code![
        load(R6, of.get("sk")),
        load(R7, of.get("acked")),
        mov(W9, W7),
        cc::reno(R6, R7, [R1, R2, R3, R4]),
        load(R8, own()),
        add(R8, R9),
        store(own(), R8),
        load(R1, R6.get(kernel("sock.__sk_common.skc_num"))),
        store(port.u32(0), R1),
        lookup_or_zero(&KEPT, port, full),
        store(R0.u64(0), R8),
        lookup_or_zero(&COUNTED, port, full),
        atomic_add(R0.u64(0), R9),
        bind(full),
        exit(),
    ];
    Program::new(ProgType::STRUCT_OPS, "counting", code).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn each_socket_has_memory_of_its_own() {
    needs!(Root, Bpf, Btf, NetNs, Veth, StructOps);
    let net = Pair::new().unwrap();
    let mut members = example::reno();
    members.retain(|(name, _)| *name != "cong_avoid");
    members.push(("cong_avoid", counting()));
    let algorithm = Algorithm::load("bs_own", &members);
    let registered = algorithm.ops.register().unwrap();
    let mut connections = [1, 3, 2].map(|n| (n, Connection::new(&net, algorithm.name)));
    for _ in 0..4 {
        for (n, connection) in &mut connections {
            connection.carry(*n * bytes(1), || ());
        }
    }
    drop(registered);
    let kept: Map<u32, u64> = algorithm.maps.open(&KEPT).unwrap();
    let counted: Map<u32, u64> = algorithm.maps.open(&COUNTED).unwrap();
    for (n, connection) in &connections {
        let port = connection.port();
        // Acknowledgements may still be on their way.
        let both = || {
            Some((
                kept.lookup(&port).unwrap()?,
                counted.lookup(&port).unwrap()?,
            ))
        };
        let (kept, _) = deadline(LIMIT, || both().filter(|both| both.0 == both.1));
        // Full packets carry 1448 bytes.
        let bytes = u64::try_from(connection.carried).unwrap();
        println!("{n}: {bytes} bytes in {kept} packets");
        assert!(
            (bytes / 2000..bytes / 1000).contains(&kept),
            "{bytes} {kept}"
        );
    }
}

/// What programs may write, as the documentation of the kit says; and some that they may not.
#[test]
fn a_program_may_write_these_fields_of_a_socket() {
    needs!(Root, Bpf, Btf, StructOps);
    let write = |field: &'static str| {
        let code = code![
            load(R6, args("tcp_congestion_ops.init").get("sk")),
            load(R1, R6.get(kernel(field))),
            store(R6.get(kernel(field)), R1),
            exit(),
        ];
        let program = Program::new(ProgType::STRUCT_OPS, "write", code).unwrap();
        let ops = StructOps::new("tcp_congestion_ops").unwrap();
        let ops = ops.func("init", &program).unwrap();
        ops.load(&Maps::new()).map(drop)
    };
    for field in [
        "tcp_sock.snd_cwnd",
        "tcp_sock.snd_cwnd_cnt",
        "tcp_sock.snd_ssthresh",
        "tcp_sock.ecn_flags",
        "sock.sk_pacing_rate",
        "sock.sk_pacing_status",
        "inet_connection_sock.icsk_ack.pending",
        "inet_connection_sock.icsk_ca_priv[12]",
    ] {
        write(field).unwrap_or_else(|error| panic!("{field}: {error:#}"));
    }
    // Linux 6.1 does not let them, 6.12 does.
    for field in [
        "tcp_sock.snd_cwnd_stamp",
        "tcp_sock.app_limited",
    ] {
        let kernel = (version().major, version().minor);
        match write(field) {
            Ok(()) => assert!(kernel > (6, 1), "{field}"),
            Err(error) => assert!(kernel < (6, 12), "{field}: {error:#}"),
        }
    }
    for field in [
        "tcp_sock.srtt_us",
        "tcp_sock.snd_cwnd_clamp",
        "tcp_sock.prior_cwnd",
        "sock.sk_rcvbuf",
    ] {
        let error = write(field).unwrap_err().to_string();
        assert!(error.contains("EACCES"), "{field}: {error}");
    }
}

const ROLE: &str = "BS_CONGESTION_ROLE";

/// A process that registers, and is killed when it has: the number of the map, if it says one.
fn killed(test: &str, name: &str) -> u32 {
    let mut child = Command::new("/proc/self/exe")
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, "child")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let id = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("registered ")?.parse().ok());
    let was_there = is_available(name);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(was_there, "{name}");
    id.unwrap()
}

fn is_child() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Until it is killed: the other end of standard input stays open.
fn wait_for_the_end(id: u32) {
    println!("\nregistered {id}");
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn what_a_killed_process_registered_stays_and_is_taken_over() {
    needs!(Root, Bpf, Btf, RingBuf, StructOps);
    const NAME: &str = "bs_by_map";
    if is_child() {
        let algorithm = Algorithm::load(NAME, &example::reno());
        let registered = algorithm.ops.register().unwrap();
        wait_for_the_end(registered.id().unwrap());
        return;
    }
    let id = killed(
        "what_a_killed_process_registered_stays_and_is_taken_over",
        NAME,
    );
    assert!(is_available(NAME));
    let found = Registered::open_id(id).unwrap();
    assert_eq!(found.state().unwrap(), OpsState::INUSE);
    found.unregister().unwrap();
    assert!(!is_available(NAME));
    gone(id);
}

#[test]
fn the_links_of_a_killed_process_go_with_it() {
    needs!(Root, Bpf, Btf, RingBuf, StructOpsLink);
    const NAME: &str = "bs_by_link";
    if is_child() {
        let algorithm = Algorithm::load(NAME, &example::reno());
        let _link = algorithm.ops.attach().unwrap();
        wait_for_the_end(0);
        return;
    }
    killed("the_links_of_a_killed_process_go_with_it", NAME);
    deadline(LIMIT, || (!is_available(NAME)).then_some(()));
}

/// Far from the million at which the verifier gives up, on every kernel: the one loop counts to 21.
#[test]
fn the_verifier_has_little_to_follow() {
    needs!(Root, Bpf, Btf, RingBuf, StructOps);
    for (name, members) in [
        ("bs_reno", example::reno()),
        ("bs_cubic", example::cubic()),
    ] {
        let ops = example::ops(name, &members).unwrap();
        let maps = ops.maps().unwrap();
        let ops = ops
            .load_with(&maps, |_, load| Ok(load.log_level(4)))
            .unwrap_or_else(|error| panic!("{error:#}"));
        for ((member, prog), (_, program)) in ops.progs().zip(&members) {
            let followed = prog.account().stats.processed.unwrap();
            let slots = program.insns().len();
            println!("{name} {member}: {slots} slots, {followed} instructions followed");
            assert!(followed < 5000, "{member}: {followed}");
        }
    }
}
