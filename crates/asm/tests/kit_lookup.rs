//! The fragments for socket lookup: what each looks like, and that none minds being used again.

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::lookup::{self, AddressKey, End, Fallback, Network};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

static TABLE: MapDef<AddressKey, u32> = MapDef::lpm_trie("table", 8);
static SOCKETS: MapDef<u32, u64> = MapDef::new(MapType::SOCKMAP, "sockets", 8);

/// Every test of a packet, one after the other.
fn tests(other: Label) -> Code {
    let four = Network::v4(Ipv4Addr::new(10, 1, 2, 3), 20);
    let six = Network::v6(Ipv6Addr::new(0xfd00, 1, 2, 3, 4, 5, 6, 7), 68);
    code![
        lookup::protocol(R6, IPPROTO_UDP, R2, other),
        lookup::unchosen(R6, R2, other),
        lookup::port(R6, End::Local, 7..=7, R2, other),
        lookup::port(R6, End::Local, 0..=7, R2, other),
        lookup::port(R6, End::Remote, 1024..=u16::MAX, R2, other),
        lookup::port(R6, End::Remote, 7..=9, R2, other),
        lookup::load_port(R3, R6, End::Local),
        lookup::load_port(R3, R6, End::Remote),
        lookup::network(R6, End::Remote, four, R2, other),
        lookup::network(R6, End::Local, six, R2, other),
        lookup::network(R6, End::Local, IpAddr::V4(Ipv4Addr::LOCALHOST), R2, other),
    ]
}

fn program(times: usize) -> Program {
    let code = (0..times).map(|_| {
        let (other, found) = (label("other"), slot::<u32>("found"));
        code![
            tests(other),
            lookup::find(R6, End::Local, &TABLE, found, other),
            lookup::assign(R6, &SOCKETS, found, R7, 0, other),
            bind(other),
        ]
    });
    let (found, nobody) = (slot::<u32>("found"), label("nobody"));
    let code = code![
        mov(R6, R1),
        code,
        lookup::find(R6, End::Remote, &TABLE, found, nobody),
        lookup::assign_or(R6, &SOCKETS, found, R7, 0, Fallback::Pass),
        bind(nobody),
        ret(SK_DROP),
    ];
    Program::new(ProgType::SK_LOOKUP, "lookup", code).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn listing() {
    insta::assert_snapshot!(program(1).listing());
}

#[test]
fn every_fragment_may_be_used_again() {
    for times in 1..4 {
        assert_eq!(program(times).warnings(), []);
    }
}

#[test]
fn networks_are_checked() {
    for (text, bits, holds) in [
        ("10.0.0.1", 0, true),
        ("10.0.0.1", 32, true),
        ("10.0.0.1", 33, false),
        ("::1", 128, true),
        ("::1", 129, false),
    ] {
        let address: IpAddr = text.parse().unwrap();
        assert_eq!(
            Network::new(address, bits).is_some(),
            holds,
            "{text}/{bits}"
        );
    }
    assert!(std::panic::catch_unwind(|| Network::v4(Ipv4Addr::LOCALHOST, 33)).is_err());
    assert!(std::panic::catch_unwind(|| Network::v6(Ipv6Addr::LOCALHOST, 129)).is_err());
}

/// Ports are numbers for both orders of bytes.
#[test]
fn ports_for_either_machine() {
    let (other, same) = (label("other"), 0x1234..=0x1234);
    let code = code![
        lookup::port(R1, End::Remote, same, R2, other),
        ret(SK_PASS),
        bind(other),
        ret(SK_DROP),
    ];
    let program = Program::new(ProgType::SK_LOOKUP, "port", code).unwrap();
    let text = program.listing();
    assert!(
        text.contains("r2 = be16 r2") && text.contains("r2 != 4660"),
        "{text}"
    );
}
