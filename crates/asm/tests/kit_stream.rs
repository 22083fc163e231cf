//! The fragments for maps of sockets: what each looks like, and that none minds being used again.

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::lookup::End;
use bpfsmith_asm::kit::stream::{
    self, Connections, Context, Counts, Direction, Length, Otherwise, Prefix, Side, TALLIES,
    TupleKey,
};
use std::net::SocketAddr;

static INDEXED: MapDef<u32, u64> = MapDef::new(MapType::SOCKMAP, "indexed", 8);
static SOCKETS: MapDef<TupleKey, u64> = MapDef::new(MapType::SOCKHASH, "sockets", 8);
static COOKIES: MapDef<u64, u64> = MapDef::new(MapType::SOCKHASH, "cookies", 8);
static TALLY: MapDef<u32, u64> = MapDef::array("tally", TALLIES);

#[track_caller]
fn program(kind: ProgType, code: impl Fn() -> Code) -> String {
    let program = |times| {
        let code = (0..times).map(|_| code());
        let code = code![mov(R6, R1), code, ret(1)];
        let program = Program::new(kind, "stream", code);
        program.unwrap_or_else(|report| panic!("{report}"))
    };
    for times in 2..4 {
        assert_eq!(program(times).warnings(), []);
    }
    assert_eq!(program(1).warnings(), []);
    program(1).listing()
}

#[test]
fn received() {
    let code = || {
        let (key, cookie) = (slot::<TupleKey>("key"), slot::<u64>("cookie"));
        let index = slot::<u32>("index");
        code![
            stream::tuple_key(Context::Buffer(R6), Side::Own, key, R2),
            stream::redirect(R6, &SOCKETS, key, Direction::Egress, Otherwise::Drop),
            stream::cookie_key(R6, cookie),
            stream::redirect(R6, &COOKIES, cookie, Direction::Ingress, Otherwise::Pass),
            store(index.u32(0), 7),
            stream::redirect(R6, &INDEXED, index, Direction::Egress, Otherwise::Pass),
        ]
    };
    insta::assert_snapshot!(program(ProgType::SK_SKB, code));
}

#[test]
fn written() {
    let code = || {
        let (key, index) = (slot::<TupleKey>("key"), slot::<u32>("index"));
        let other = label("other");
        let message = Context::Message(R6);
        code![
            stream::port(message, End::Local, 7..=7, R2, other),
            stream::port(message, End::Remote, 8..=9, R2, other),
            stream::tuple_key(message, Side::Peer, key, R2),
            stream::redirect_message(R6, &SOCKETS, key, Direction::Ingress, Otherwise::Pass),
            bind(other),
            store(index.u32(0), 7),
            stream::redirect_message(R6, &INDEXED, index, Direction::Egress, Otherwise::Drop),
        ]
    };
    insta::assert_snapshot!(program(ProgType::SK_MSG, code));
}

#[test]
fn events() {
    for (name, connections) in [
        ("all", Connections::All),
        ("local", Connections::Local(80..=81)),
        ("remote", Connections::Remote(0..=1023)),
        ("service", Connections::Service(80..=80)),
    ] {
        let code = || stream::fill(R6, &SOCKETS, connections.clone(), &TALLY);
        let name = format!("events_{name}");
        insta::assert_snapshot!(name, program(ProgType::SOCK_OPS, code));
    }
}

#[test]
fn parsers() {
    // A parser ends the program: another stands behind it for what does not get there.
    let unless_empty = |parser: Code| {
        let empty = label("empty");
        code![
            load(R1, R6.get(__sk_buff::len)),
            jeq(R1, 0, empty),
            parser,
            bind(empty),
        ]
    };
    let whole = || unless_empty(stream::parser_whole(R6));
    insta::assert_snapshot!("parser_whole", program(ProgType::SK_SKB, whole));
    for (name, length, counts) in [
        ("rest_u8", Length::U8, Counts::Rest),
        ("whole_be16", Length::Be16, Counts::Whole),
        ("rest_le16", Length::Le16, Counts::Rest),
        ("rest_be32", Length::Be32, Counts::Rest),
        ("whole_le32", Length::Le32, Counts::Whole),
    ] {
        let prefix = Prefix {
            at: 3,
            length,
            counts,
            most: 9000,
        };
        let code = || unless_empty(stream::parser_length_prefixed(R6, prefix));
        let name = format!("parser_{name}");
        insta::assert_snapshot!(name, program(ProgType::SK_SKB, code));
    }
}

#[test]
fn found() {
    let code = || code![stream::message(R6, R7, R8), add(R7, R8)];
    insta::assert_snapshot!(program(ProgType::SK_SKB, code));
}

#[test]
fn looked_into() {
    let code = || {
        let short = label("short");
        code![
            stream::gather(R6, 8),
            stream::readable(R6, 8, R7, short),
            load(R1, R7.u64(0)),
            bind(short),
        ]
    };
    insta::assert_snapshot!(program(ProgType::SK_MSG, code));
}

/// IPv4 addresses are the same for sockets of either family; both ends swap.
#[test]
fn keys() {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let four = TupleKey::of(at("10.1.2.3:4660"), at("10.4.5.6:7"));
    let six = TupleKey::of(at("[::ffff:10.1.2.3]:4660"), at("[::ffff:10.4.5.6]:7"));
    assert_eq!(four, six);
    assert_eq!(
        four.local,
        [
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 1, 2, 3
        ]
    );
    assert_eq!((four.local_port, four.remote_port), (4660, 7));
    let back = TupleKey::of(at("10.4.5.6:7"), at("10.1.2.3:4660"));
    assert_eq!(four.peer(), back);
    assert_eq!(size_of::<TupleKey>(), 40);
}
