//! # Part 2, chapter 5: testing programs
//!
//! Run it as root: `cargo build --example chapter_2_5`, then
//! `sudo target/debug/examples/chapter_2_5`.
//!
//! A program is a value, and a loaded program is a function from a packet to a packet and a verdict.
//! Both can be tested without a network:
//!
//! * **The listing** needs no kernel at all. `program().listing()` is text in a form that is stable:
//!   one more instruction is one more line, and no number moves. Keep it as a snapshot, beside the
//!   test, and every change of the program shows in review as what it is. The tests of this very
//!   file do so with the `insta` crate:
//!
//!   ```text
//!   #[test]
//!   fn listing() {
//!       insta::assert_snapshot!(program().listing());
//!   }
//!   ```
//!
//! * **A test run** needs root, but no device: the kernel runs the real, verified, compiled program on
//!   bytes that the test gives, and returns the verdict, the bytes as the program left them, and the
//!   time it took. So packets make a table: what goes in, and what has to come out.
//!
//! * **The effect** needs devices, in namespaces of their own: chapter 2 did that. Few such tests are
//!   enough, to see that the program is on the right hook; the table has seen the cases.

use bpfsmith::dsl::*;
use bpfsmith::kit::packet::{self, Exits, Packet};
use bpfsmith::kit::rewrite::swap_macs;
use bpfsmith::prog::{Load, Prog};
use std::error::Error;

const P: Packet = Packet {
    data: R6,
    end: R7,
    cursor: R8,
    scratch: R5,
};
const PROTO: Reg = R4;
const IP: Reg = R9;

/// Swaps two fields of the same width. Clobbers R2 and R3.
fn swap(one: Mem, other: Mem) -> Code {
    code![
        load(R2, one),
        load(R3, other),
        store(one, R3),
        store(other, R2),
    ]
}

/// Sends UDP packets to port 7 back where they came from: the echo service, without a socket.
///
/// No checksum changes: it is a sum, and whoever swaps two addends leaves it as it is.
fn echo() -> Code {
    let pass = label("pass");
    code![
        packet::xdp(P, R1),
        packet::ethernet(P, PROTO, pass),
        jne(PROTO, be16(ETH_P_IP), pass),
        mov(IP, P.cursor),
        packet::ipv4(P, PROTO, Exits::both(pass)),
        jne(PROTO, IPPROTO_UDP, pass),
        packet::udp(P, pass),
        load(R2, P.cursor.get(udp::dport)),
        jne(R2, be16(7), pass),
        swap_macs(P.data, [R2, R3]),
        swap(IP.get(ipv4::saddr), IP.get(ipv4::daddr)),
        swap(P.cursor.get(udp::sport), P.cursor.get(udp::dport)),
        ret(XDP_TX),
        bind(pass),
        ret(XDP_PASS),
    ]
}

/// The program.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn program() -> Program {
    Program::new(ProgType::XDP, "echo", echo()).expect("the program is right")
}

/// One end of a conversation.
#[derive(Clone, Copy)]
struct End {
    mac: [u8; 6],
    ip: [u8; 4],
    port: u16,
}

const ALICE: End = End {
    mac: [2, 0, 0, 0, 0, 1],
    ip: [10, 0, 0, 1],
    port: 40_000,
};
const BOB: End = End {
    mac: [2, 0, 0, 0, 0, 2],
    ip: [10, 0, 0, 2],
    port: 7,
};

/// A UDP packet that says hello.
fn hello(from: End, to: End) -> Vec<u8> {
    let text = b"hello";
    let mut packet = [to.mac, from.mac].concat();
    packet.extend([0x08, 0x00]);
    packet.extend([0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend([from.ip, to.ip].concat());
    packet.extend(
        [
            from.port.to_be_bytes(),
            to.port.to_be_bytes(),
        ]
        .concat(),
    );
    packet.extend([0, 13, 0, 0]);
    packet.extend(text);
    packet
}

/// A packet, what the program has to say to it, and what has to come out.
struct Case {
    name: &'static str,
    packet: Vec<u8>,
    verdict: XdpAction,
    after: Vec<u8>,
}

impl Case {
    /// A packet that passes as it is.
    fn passes(name: &'static str, packet: Vec<u8>) -> Case {
        Case {
            name,
            after: packet.clone(),
            packet,
            verdict: XdpAction::PASS,
        }
    }
}

/// The table. The edges are what is worth a case: each comparison in the program from both sides.
fn cases() -> Vec<Case> {
    let echo = hello(ALICE, BOB);
    // The same packet with one byte changed.
    let but = |at: usize, byte: u8| {
        let mut packet = echo.clone();
        packet[at] = byte;
        packet
    };
    // With four bytes of options behind the IPv4 header, the ports are elsewhere.
    let options = |packet: Vec<u8>| {
        let mut packet = packet;
        packet[14] = 0x46;
        packet.splice(34..34, [1, 1, 1, 0]);
        packet
    };
    vec![
        Case {
            name: "to the echo port",
            packet: echo.clone(),
            verdict: XdpAction::TX,
            after: hello(BOB, ALICE),
        },
        Case {
            name: "with options",
            packet: options(echo.clone()),
            verdict: XdpAction::TX,
            after: options(hello(BOB, ALICE)),
        },
        Case {
            name: "no payload",
            packet: echo[..42].to_vec(),
            verdict: XdpAction::TX,
            after: hello(BOB, ALICE)[..42].to_vec(),
        },
        Case::passes("one byte short", echo[..41].to_vec()),
        Case::passes("to another port", but(37, 8)),
        Case::passes("not UDP", but(23, 6)),
        Case::passes("not IPv4", but(13, 0x06)),
        Case::passes("a later fragment", but(21, 1)),
        Case::passes("a header of 16 bytes", but(14, 0x44)),
        Case::passes("version 6", but(14, 0x65)),
    ]
}

fn check(prog: &Prog, case: &Case) -> Result<(), Box<dyn Error>> {
    let outcome = prog.run().data(&case.packet).go()?;
    println!("{:<22} {}", case.name, outcome.xdp());
    match (outcome.xdp(), &outcome.data) == (case.verdict, &case.after) {
        true => Ok(()),
        false => Err(format!("{}: {outcome:?}", case.name).into()),
    }
}

/// Runs the table, then measures.
///
/// # Errors
/// When the kernel refuses the program, or a case comes out wrong.
pub fn run() -> Result<(), Box<dyn Error>> {
    let program = program();
    let prog = Load::new(&program).load()?;
    for case in cases() {
        check(&prog, &case)?;
    }

    // The same packet many times, and the average. The packet is not put back in between, so this
    // one goes to and fro: only one that passes stays what it is.
    let other = Case::passes("to another port", hello(BOB, ALICE));
    let outcome = prog.run().data(&other.packet).repeat(10_000).go()?;
    println!("{:?} for a packet that passes", outcome.duration);
    match outcome.data == other.after {
        true => Ok(()),
        false => Err("a packet that passes was changed".into()),
    }
}

#[allow(dead_code, reason = "tests include this file for its program")]
fn main() -> Result<(), Box<dyn Error>> {
    run()
}
