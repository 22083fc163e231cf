//! # Part 3, chapter 15: kernel extension with struct_ops
//!
//! Run it as root: `cargo build --example chapter_3_15`, then
//! `sudo target/debug/examples/chapter_3_15`.
//!
//! So far the kernel asked our programs about packets and events, and went its own way. Here they
//! become a part of it. In many places the kernel calls through a structure of functions, so that a
//! module can bring another implementation. With *struct_ops*, the functions are programs: verified, and
//! replaced without a reboot. Which structures are open is the kernel's to say:
//!
//! | structure | what it decides | Linux |
//! |---|---|---|
//! | `tcp_congestion_ops` | how much a TCP sender sends | 5.6 |
//! | `bpf_dummy_ops` | nothing: for tests | 5.16 |
//! | `sched_ext_ops` | which task runs next | 6.12 |
//! | `hid_bpf_ops` | what keyboards and mice say | 6.11 |
//! | `Qdisc_ops` | which packet leaves next | 6.16 |
//!
//! This chapter writes an algorithm of TCP congestion control. A sender cannot see the path; it sees
//! what is acknowledged and what is not. Its *window* is how many packets may be on their way at once.
//! As long as everything arrives, the window grows: doubling at first (*slow start*), and more carefully
//! above a *threshold*. A loss says that it was too much. The structure asks four things:
//!
//! | member | it is asked |
//! |---|---|
//! | `ssthresh` | something was lost: what is the new threshold? |
//! | `cong_avoid` | so many packets arrived: let the window grow |
//! | `undo_cwnd` | that loss was none: what window was it before? |
//! | `init` | a socket chose this algorithm (may be left out) |
//!
//! Our algorithm is Reno with one difference: it keeps three quarters after a loss instead of half. The
//! pieces are in `kit::tcp`. `cargo run --example tcp_congestion_bpf` goes on from here: all of Reno and
//! Cubic, beside the kernel's own, with pictures.

use bpfsmith::dsl::*;
use bpfsmith::kit::map::count_at;
use bpfsmith::kit::tcp::{self as cc, Window};
use bpfsmith::maps::{Map, RingBuf};
use bpfsmith::net::{Pair, Tbf};
use bpfsmith::prog::ops::{self, LoadedOps, StructOps};
use bpfsmith::prog::{Error, Maps};
use bpfsmith::record;
use bpfsmith::sys::socket::{congestion, cookie, set_congestion};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

type Checked = Result<(), Box<dyn std::error::Error>>;

const SK: Reg = R6;
const ACKED: Reg = R7;
const RECORD: Reg = R8;

const NAME: &str = "three_quarters";

/// Calls, by what they were.
static CALLS: MapDef<u32, u64> = MapDef::array("calls", 4);
const GROWTH: u32 = 0;
const LOSS: u32 = 1;
const CHOSEN: u32 = 2;
const UNDO: u32 = 3;

/// Windows: before each loss, before it is undone, and after each growth.
static WINDOWS: MapDef<(), ()> = MapDef::ringbuf("windows", 1 << 18);

record! {
    /// An algorithm has 104 bytes for itself in every socket, zero at first. `private` refuses to
    /// compile if a structure is larger.
    struct Own {
        /// The window that was told last.
        told: u64,
    }
}

fn build(name: &str, code: Code) -> Program {
    Program::new(ProgType::STRUCT_OPS, name, code).unwrap_or_else(|report| panic!("{report}"))
}

/// The new threshold, after a loss. Arguments are in the context, and found by name. The verifier knows
/// that `sk` is a `tcp_sock`, so its fields are read like any of the kernel's.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn ssthresh() -> Program {
    let code = code![
        load(SK, args("tcp_congestion_ops.ssthresh").get("sk")),
        count_at(&CALLS, LOSS, 1),
        cc::tell(&WINDOWS, SK, RECORD, LOSS, None),
        load(R0, SK.get(cc::CWND)),
        mul(R0, 3),
        rsh(R0, 2),
        // A window of one packet waits for every acknowledgement, and those may be delayed.
        R0.lt(2).then(mov(R0, 2)),
        exit(),
    ];
    build("ssthresh", code)
}

/// Growth. Most fields of a socket are for reading; the kernel lets algorithms write a few, `snd_cwnd`
/// first of all, and that is what `reno` does. A window that the sender does not fill must not grow.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn program() -> Program {
    let (done, told) = (label("done"), cc::private::<Own>(SK).get(Own::told));
    let args = args("tcp_congestion_ops.cong_avoid");
    let code = code![
        load(SK, args.get("sk")),
        // A number of 32 bits: they are loaded, and not what stands above them in the context.
        load(ACKED, args.get("acked")),
        count_at(&CALLS, GROWTH, 1),
        cc::need_limited(SK, [R1, R2], done),
        cc::reno(SK, ACKED, [R1, R2, R3, R4]),
        load(R1, SK.get(cc::CWND)),
        load(R2, told),
        jeq(R1, R2, done),
        store(told, R1),
        cc::tell(&WINDOWS, SK, RECORD, GROWTH, None),
        bind(done),
        // The kernel expects nothing of this member, and R0 may be anything.
        exit(),
    ];
    build("cong_avoid", code)
}

/// The other two.
fn undo_cwnd() -> Program {
    let code = code![
        load(SK, args("tcp_congestion_ops.undo_cwnd").get("sk")),
        count_at(&CALLS, UNDO, 1),
        cc::tell(&WINDOWS, SK, RECORD, UNDO, None),
        cc::undo(R0, SK, R1),
        exit(),
    ];
    build("undo_cwnd", code)
}

fn init() -> Program {
    build("init", code![count_at(&CALLS, CHOSEN, 1), exit()])
}

/// All programs of the algorithm: they have to live as long as the structure is put together.
struct Algorithm {
    init: Program,
    ssthresh: Program,
    avoid: Program,
    undo: Program,
}

impl Algorithm {
    fn new() -> Algorithm {
        Algorithm {
            init: init(),
            ssthresh: ssthresh(),
            avoid: program(),
            undo: undo_cwnd(),
        }
    }

    /// Puts them together. The members and what they take come from the kernel's BTF: a wrong name, or
    /// a program that was written for another member, is refused here.
    fn ops(&self) -> Result<StructOps<'_>, Error> {
        // Whoever may not administer the network may choose it too.
        const TCP_CONG_NON_RESTRICTED: i32 = 1;
        StructOps::new("tcp_congestion_ops")?
            .func("init", &self.init)?
            .func("ssthresh", &self.ssthresh)?
            .func("cong_avoid", &self.avoid)?
            .func("undo_cwnd", &self.undo)?
            .number("flags", TCP_CONG_NON_RESTRICTED)?
            .text("name", NAME)
    }
}

/// Whether sockets may choose it.
fn is_available() -> std::io::Result<bool> {
    let all = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
    Ok(all.split_whitespace().any(|name| name == NAME))
}

/// What goes wrong is told with the member, and what the verifier refuses also with the line.
fn mistakes_name_the_member() -> Checked {
    let algorithm = Algorithm::new();
    let swapped = StructOps::new("tcp_congestion_ops")?.func("undo_cwnd", &algorithm.ssthresh);
    let error = swapped.err().ok_or("undo_cwnd took ssthresh")?;
    println!("{error}\n");
    expect("the member", error.to_string().contains("undo_cwnd"))?;

    // The round-trip time is measured, not decided.
    let faulty = build(
        "faulty",
        code![
            load(SK, args("tcp_congestion_ops.ssthresh").get("sk")),
            store(SK.get(cc::SRTT), 1),
            ret(2),
        ],
    );
    let ops = algorithm.ops()?.func("ssthresh", &faulty)?;
    let refused = ops.load(&ops.maps()?);
    let error = refused.err().ok_or("the kernel took it")?;
    println!("{error}\n");
    let (told, here) = (error.to_string(), file!());
    expect("the member", told.contains("tcp_congestion_ops.ssthresh"))?;
    expect("the line", told.contains(here))
}

/// A cable of 40 Mbit/s, with a queue for some 40 packets: what is too much gets lost.
const CABLE: Tbf = Tbf {
    rate: 5_000_000,
    burst: 10_000,
    limit: 60_000,
};

/// A connection over the cable, and its cookie. As long as nobody asks for the cookie, a socket has none.
fn connect(net: &Pair) -> Result<(TcpStream, TcpStream), Box<dyn std::error::Error>> {
    let listener = net
        .server
        .run(|| TcpListener::bind((net.server.v4(), 0)))??;
    let to = listener.local_addr()?;
    let client = net.client.run(|| TcpStream::connect(to))??;
    let (server, _) = listener.accept()?;
    server.set_read_timeout(Some(Duration::from_secs(20)))?;
    client.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok((client, server))
}

/// Sends bytes, and compares what arrives.
fn carry(client: &mut TcpStream, server: &mut TcpStream, bytes: usize) -> Checked {
    let sent: Vec<u8> = (0..bytes).map(|n| (n % 251).to_le_bytes()[0]).collect();
    let mut received = vec![0; bytes];
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| client.write_all(&sent));
        server.read_exact(&mut received)?;
        sender.join().map_err(|_| "the sender panicked")??;
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    expect("every byte arrived", received == sent)
}

/// After each loss, the threshold has to be ours: three quarters of the window.
fn thresholds(windows: &[Window]) -> Checked {
    let mut checked = 0;
    for pair in windows.windows(2) {
        let [loss, next] = pair else { continue };
        if loss.what == LOSS && next.what == GROWTH {
            println!("lost at {:>3}: threshold {:>3}", loss.cwnd, next.ssthresh);
            // Whatever the window was: the program counts with 64 bits too.
            let ours = (u64::from(loss.cwnd) * 3 / 4).max(2);
            expect("three quarters", u64::from(next.ssthresh) == ours)?;
            checked += 1;
        }
    }
    expect("there were losses", checked > 0)
}

/// Registers the algorithm, and lets a connection use it.
fn a_connection_uses_it(net: &Pair, ops: &LoadedOps, maps: &Maps) -> Checked {
    // A link: when it goes, also because the process is killed, the algorithm goes. Before Linux 6.4
    // there is no such link, and `register` is what there is; that one stays if the process is killed.
    let link = ops.attach()?;
    expect("it is among the algorithms", is_available()?)?;
    let again = ops.attach().err().ok_or("registered twice")?;
    println!("{again}\n");

    let (mut client, mut server) = connect(net)?;
    set_congestion(client.as_fd(), NAME)?;
    expect("the socket has it", congestion(client.as_fd())? == NAME)?;
    let cookie = cookie(client.as_fd())?;
    carry(&mut client, &mut server, 4_000_000)?;

    let mut windows = Vec::new();
    let mut ring: RingBuf = maps.open(&WINDOWS)?;
    ring.for_each(|window: &Window| windows.push(*window))?;
    let ours = windows.iter().all(|window| window.cookie == cookie);
    expect("only our socket told anything", ours)?;
    thresholds(&windows)?;
    let calls: Map<u32, u64> = maps.open(&CALLS)?;
    let count = |index| calls.lookup(&index).map(Option::unwrap_or_default);
    let (growth, losses) = (count(GROWTH)?, count(LOSS)?);
    println!("{growth} acknowledgements, {losses} losses\n");
    expect("one socket chose it", count(CHOSEN)? == 1)?;

    // It goes, also where somebody else holds the link too, and who has chosen it keeps it. The programs
    // are freed with the last socket.
    link.force_detach()?;
    expect("nobody can choose it", !is_available()?)?;
    carry(&mut client, &mut server, 1_000_000)?;
    expect(
        "the socket has it still",
        congestion(client.as_fd())? == NAME,
    )?;
    expect("and uses it", count(GROWTH)? > growth)?;
    let (other, _) = connect(net)?;
    let refused = set_congestion(other.as_fd(), NAME);
    expect("others are refused", refused.is_err())
}

/// All of it.
///
/// # Errors
/// When the kernel refuses a step, or something is not as the text says.
pub fn run() -> Checked {
    println!("structures of this kernel: {}\n", ops::all()?.join(", "));
    mistakes_name_the_member()?;
    let algorithm = Algorithm::new();
    let ops = algorithm.ops()?;
    let maps = ops.maps()?;
    let ops = ops.load(&maps)?;
    let net = Pair::new()?;
    net.client.node.net.set_tbf(net.client.port.index, CABLE)?;
    a_connection_uses_it(&net, &ops, &maps)
}

fn expect(what: &str, holds: bool) -> Checked {
    match holds {
        true => Ok(()),
        false => Err(format!("this does not hold: {what}").into()),
    }
}

#[allow(dead_code, reason = "tests include this file for its program")]
fn main() -> Checked {
    run()
}
