//! # Part 1, chapter 2: composing fragments
//!
//! Run it: `cargo run --example chapter_1_2`. It needs neither root nor Linux.
//!
//! `code![…]` makes a *fragment*, and a fragment is spliced into another one exactly like an
//! instruction. So a program grows as all Rust does: functions with arguments, tested alone, used
//! as often as you like. Three things make that safe:
//!
//! * **Labels have identity.** Each call of `label("…")` makes another label, whatever its name.
//!   A fragment may stand in a program any number of times.
//! * **Slots are placed at the end.** `slot::<T>("…")` is a piece of the stack without an address.
//!   When the program is built, fragments side by side share the same bytes.
//! * **Decisions are Rust's.** `option.map(…)`, `(0..4).map(…)` and `if` run while the program is
//!   built. What the configuration does not need is not in the program.

use bpfsmith::dsl::*;

const DATA: Reg = R7;
const END: Reg = R8;
const L4: Place = DATA.at(eth::SIZE + ipv4::SIZE);

/// What the datapath has to do. A real one would be read from a file.
#[derive(Clone, Debug)]
pub struct Config {
    /// Packets to these UDP ports are dropped.
    pub closed: Vec<u16>,
    /// Whether dropped packets are counted.
    pub count: bool,
}

static DROPS: MapDef<u32, u64> = MapDef::array("drops", 16);

/// Adds one to `map[index]`. Clobbers R0 to R5.
fn bump(map: &MapDef<u32, u64>, index: u32) -> Code {
    let key = slot::<u32>("index");
    code![
        store(key.u32(0), index),
        map_lookup_elem(map, key),
        R0.ne(0).then(code![mov(R1, 1), atomic_add(R0.u64(0), R1)]),
    ]
}

/// Drops the packet if its UDP port, in R2, is this one.
fn close(port: u16, index: Option<u32>) -> Code {
    code![R2.eq(be16(port)).then(code![
        index.map(|index| bump(&DROPS, index)),
        ret(XDP_DROP),
    ])]
}

fn firewall(config: &Config) -> Code {
    let pass = label("pass");
    code![
        load(DATA, R1.get(xdp_md::data)),
        load(END, R1.get(xdp_md::data_end)),
        mov(R2, DATA),
        add(R2, L4.offset() + udp::SIZE),
        jgt(R2, END, pass),
        load(R2, DATA.get(eth::proto)),
        jne(R2, be16(ETH_P_IP), pass),
        load(R2, DATA.at(eth::SIZE).get(ipv4::ver_ihl)),
        jne(R2, 0x45, pass),
        load(R2, DATA.at(eth::SIZE).get(ipv4::proto)),
        jne(R2, IPPROTO_UDP, pass),
        load(R2, L4.get(udp::dport)),
        (0..)
            .zip(&config.closed)
            .map(|(i, &port)| close(port, config.count.then_some(i))),
        bind(pass),
        ret(XDP_PASS),
    ]
}

/// The program for a configuration: another configuration gives another program.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn specialised(config: &Config) -> Program {
    Program::new(ProgType::XDP, "firewall", firewall(config)).expect("the program is right")
}

/// Two closed ports, counted: `close` and `bump` stand in it twice, with one stack slot for both.
#[must_use]
pub fn program() -> Program {
    specialised(&Config {
        closed: vec![7, 19],
        count: true,
    })
}

/// Prints the program with and without counting: what is not wanted leaves no trace, not even a
/// map.
pub fn run() {
    println!("{}", program().listing());
    let plain = specialised(&Config {
        closed: vec![7],
        count: false,
    });
    println!("{}", plain.listing());
    println!(
        "maps: {} and {}",
        program().maps().len(),
        plain.maps().len()
    );
}

#[allow(dead_code, reason = "tests include this file for its program")]
fn main() {
    run();
}
