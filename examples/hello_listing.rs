//! Builds a program and prints it in both forms. Needs no privileges, and no Linux either.
//!
//! The program drops and counts UDP packets to port 7 (echo), and lets everything else pass.

use bpfsmith::dsl::*;
use bpfsmith::kit::map::count_at;
use bpfsmith::kit::packet::{self, Exits, Packet};

const P: Packet = Packet {
    data: R6,
    end: R7,
    cursor: R8,
    scratch: R5,
};
const PROTO: Reg = R4;

const ECHO: u16 = 7;

static HITS: MapDef<u32, u64> = MapDef::array("hits", 1);

/// Drops and counts IPv4/UDP packets to the echo port.
fn drop_echo(hits: &MapDef<u32, u64>) -> Code {
    let pass = label("pass");
    code![
        packet::xdp(P, R1),
        packet::ethernet(P, PROTO, pass),
        jne(PROTO, be16(ETH_P_IP), pass),
        packet::ipv4(P, PROTO, Exits::both(pass)),
        jne(PROTO, IPPROTO_UDP, pass),
        packet::udp(P, pass),
        load(R2, P.cursor.get(udp::dport)),
        R2.eq(be16(ECHO))
            .then(code![count_at(hits, 0, 1), ret(XDP_DROP)]),
        bind(pass),
        ret(XDP_PASS),
    ]
}

/// The program.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    Program::new(ProgType::XDP, "drop_echo", drop_echo(&HITS))
        .unwrap_or_else(|report| panic!("{report}"))
}

/// Prints the stable form, for reading and for snapshots, and the annotated one, which tells where
/// each instruction was written.
pub fn run() {
    let program = program();
    println!("{}", program.listing());
    println!("{}", program.annotated());
}

fn main() {
    run();
}
