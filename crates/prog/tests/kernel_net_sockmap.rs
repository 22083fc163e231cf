//! Programs of sockmaps: bytes that arrive at another socket than the one they were sent to.

mod net_bench;

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{Need, State, bpffs, needs};
use bpfsmith_net::Node;
use bpfsmith_prog::target::Sockmap;
use bpfsmith_prog::{Link, Maps, Prog, Way};
use bpfsmith_sys::info::Place;
use net_bench::{LIMIT, check_refused, hit, hits, id, load_to};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

static SOCKS: MapDef<u32, u64> = MapDef::new(MapType::SOCKMAP, "socks", 4);
static HASH: MapDef<u32, u64> = MapDef::new(MapType::SOCKHASH, "socks", 4);

/// A client and the server's side of its connection.
#[expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]
fn connection(node: &Node) -> (TcpStream, TcpStream) {
    let listener = node.run(|| TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap().unwrap();
    let to = listener.local_addr().unwrap();
    let client = node.run(|| TcpStream::connect(to)).unwrap().unwrap();
    let (server, _) = listener.accept().unwrap();
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.set_nodelay(true).unwrap();
    }
    (client, server)
}

/// Two connections through a proxy whose sockets are in the map.
struct Splice {
    left: TcpStream,
    left_proxy: TcpStream,
    right_proxy: TcpStream,
    right: TcpStream,
}

impl Splice {
    #[track_caller]
    fn new(node: &Node, maps: &Maps) -> Splice {
        let (left, left_proxy) = connection(node);
        let (right, right_proxy) = connection(node);
        for (index, socket) in [(0_u32, &left_proxy), (1, &right_proxy)] {
            let fd = i64::from(socket.as_raw_fd()).to_ne_bytes();
            maps.find(SOCKS.shape().name)
                .map(|map| map.raw().update(&index.to_ne_bytes(), &fd, 0))
                .unwrap_or_else(|| panic!("no such map"))
                .unwrap_or_else(|error| panic!("{error}"));
        }
        Splice {
            left,
            left_proxy,
            right_proxy,
            right,
        }
    }
}

#[track_caller]
fn check_read(socket: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    let read = socket.read_exact(&mut bytes);
    assert_eq!(read.map_err(|error| error.kind()), Ok(()));
    assert_eq!(bytes, expected);
}

#[track_caller]
fn send(socket: &mut TcpStream, bytes: &[u8]) {
    assert_eq!(
        socket.write_all(bytes).map_err(|error| error.kind()),
        Ok(())
    );
}

/// Sends what arrives to the socket at index 1.
fn forward(map: &MapDef<u32, u64>) -> Code {
    code![
        mov(R6, R1),
        hit(0),
        match map.shape().kind {
            MapType::SOCKMAP => code![sk_redirect_map(R6, map, 1, 0)],
            _ => {
                let key = slot::<u32>("key");
                code![
                    store(key.u32(0), 1),
                    sk_redirect_hash(R6, map, key, 0)
                ]
            }
        },
        exit(),
    ]
}

fn verdict(on: &Sockmap<'_>, map: &MapDef<u32, u64>, maps: &mut Maps) -> Prog {
    load_to(on, ProgType::SK_SKB, "verdict", forward(map), maps)
}

/// A set with that map, and the map for targets.
#[track_caller]
fn set(map: &MapDef<u32, u64>) -> (Maps, bpfsmith_maps::Handle) {
    let program = Program::new(ProgType::SK_SKB, "names", forward(map));
    let maps = program.map(|program| Maps::of(&program));
    let maps = maps.unwrap_or_else(|report| panic!("{report}"));
    let maps = maps.unwrap_or_else(|error| panic!("{error}"));
    let map = maps.handle(map.shape().name);
    let map = map.unwrap_or_else(|error| panic!("{error}"));
    (maps, map)
}

fn way() -> Way {
    match Need::SockmapLink.state() {
        State::Here => Way::Link,
        _ => Way::Attachment,
    }
}

#[test]
fn a_verdict_splices_two_connections() {
    needs!(Root, NetNs, Sockmap);
    let node = Node::new().unwrap();
    for (map, stream) in [
        (&SOCKS, true),
        (&HASH, true),
        (&SOCKS, false),
    ] {
        for linked in [true, false] {
            let (mut maps, handle) = set(map);
            let on = match stream {
                true => Sockmap::stream_verdict(&handle),
                false => Sockmap::verdict(&handle),
            };
            let on = if linked { on } else { on.attachment() };
            let prog = verdict(&on, map, &mut maps);
            let link = prog.attach(&on).unwrap();
            let expected = if linked { way() } else { Way::Attachment };
            assert_eq!(link.way(), expected);
            assert_eq!(on.query().unwrap().progs, [id(&prog)]);

            let mut splice = Splice::new(&node, &maps);
            send(&mut splice.left, b"through");
            check_read(&mut splice.right, b"through");
            assert_eq!(hits(&maps, 0), 1);
            link.detach().unwrap();
            assert!(on.query().unwrap().progs.is_empty());

            let mut plain = Splice::new(&node, &maps);
            send(&mut plain.left, b"not through");
            check_read(&mut plain.left_proxy, b"not through");
            // Before the sockets close: the end of a stream is judged too.
            assert_eq!(hits(&maps, 0), 1);
            drop((splice, plain));
        }
    }
}

#[test]
fn a_parser_says_where_messages_end() {
    needs!(Root, NetNs, Sockmap);
    let node = Node::new().unwrap();
    let (mut maps, handle) = set(&SOCKS);
    let parser = Sockmap::parser(&handle);
    // Messages of four bytes.
    let four = load_to(&parser, ProgType::SK_SKB, "four", code![ret(4)], &mut maps);
    let on = Sockmap::stream_verdict(&handle);
    let prog = verdict(&on, &SOCKS, &mut maps);
    let _parser = four.attach(&parser).unwrap();
    let _verdict = prog.attach(&on).unwrap();
    let mut splice = Splice::new(&node, &maps);
    send(&mut splice.left, b"onetwofour!!");
    check_read(&mut splice.right, b"onetwofour!!");
    assert_eq!(hits(&maps, 0), 3);
}

#[test]
fn a_message_arrives_without_the_wire() {
    needs!(Root, NetNs, Sockmap);
    let node = Node::new().unwrap();
    let (mut maps, handle) = set(&SOCKS);
    let on = Sockmap::message(&handle);
    let code = code![
        mov(R6, R1),
        hit(1),
        // 1: into what the other socket receives, not what it sends.
        msg_redirect_map(R6, &SOCKS, 1, 1),
        exit(),
    ];
    let prog = load_to(&on, ProgType::SK_MSG, "message", code, &mut maps);
    let link = prog.attach(&on).unwrap();
    assert_eq!(link.way(), way());
    let mut splice = Splice::new(&node, &maps);
    send(&mut splice.left_proxy, b"shortcut");
    check_read(&mut splice.right_proxy, b"shortcut");
    assert_eq!(hits(&maps, 1), 1);
    drop((splice, link));
    let mut plain = Splice::new(&node, &maps);
    send(&mut plain.left_proxy, b"the wire");
    check_read(&mut plain.left, b"the wire");
    assert_eq!(hits(&maps, 1), 1);
}

#[test]
fn an_attachment_is_updated_and_refusals_are_explained() {
    needs!(Root, NetNs, Sockmap);
    let (mut maps, handle) = set(&SOCKS);
    let on = Sockmap::stream_verdict(&handle);
    let (one, two) = (
        verdict(&on, &SOCKS, &mut maps),
        verdict(&on, &SOCKS, &mut maps),
    );
    let mut link = one.attach(&on.attachment()).unwrap();
    link.update(&two).unwrap();
    assert_eq!(on.query().unwrap().progs, [id(&two)]);
    let other = Sockmap::verdict(&handle);
    let skb = verdict(&other, &SOCKS, &mut maps);
    let done = skb.attach(&other.attachment());
    check_refused(done, Errno::EBUSY, "one kind of verdict");
    let message = code![ret(SK_PASS)];
    let array = Sockmap::message(&two);
    let message = load_to(&array, ProgType::SK_MSG, "message", message, &mut maps);
    let done = message.attach(&array);
    assert!(done.is_err(), "{done:?}");
    // Another one took its place: it is not this link's to detach.
    let newer = one.attach(&on.attachment()).unwrap();
    check_refused(link.detach(), Errno::ENOENT, "");
    newer.detach().unwrap();
    assert!(on.query().unwrap().progs.is_empty());
}

#[test]
fn a_link_is_busy_swaps_pins_and_ends() {
    needs!(Root, NetNs, Sockmap, SockmapLink, Bpffs);
    let dir = bpffs();
    let (mut maps, handle) = set(&SOCKS);
    let on = Sockmap::stream_verdict(&handle);
    let (one, two) = (
        verdict(&on, &SOCKS, &mut maps),
        verdict(&on, &SOCKS, &mut maps),
    );
    let mut link = one.attach(&on).unwrap();
    let attach = AttachType::SK_SKB_STREAM_VERDICT;
    let map = handle.info().unwrap().id;
    assert_eq!(link.info().unwrap().place, Place::Sockmap { map, attach });
    check_refused(two.attach(&on), Errno::EBUSY, "one kind of verdict");
    check_refused(
        two.attach(&on.attachment()),
        Errno::EBUSY,
        "one kind of verdict",
    );
    link.update(&two).unwrap();
    assert_eq!(on.query().unwrap().progs, [id(&two)]);
    check_refused(link.replace(&one, &one), Errno::EPERM, "Link::info");
    link.pin(dir.path().join("link")).unwrap();
    drop(link);
    assert_eq!(on.query().unwrap().progs, [id(&two)]);
    let link = Link::open_pin(dir.path().join("link")).unwrap();
    link.force_detach().unwrap();
    assert!(on.query().unwrap().progs.is_empty());
}
