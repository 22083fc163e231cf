//! Two algorithms of TCP congestion control, registered, and compared with the kernel's own. Needs root.
//!
//! `bpf_reno` and `bpf_cubic` are here from the first loss to the last acknowledgement; nothing is left
//! to the kernel's algorithms. Two machines in namespaces of their own are joined by a slow cable with
//! a short queue, so that every sender sooner or later sends too much. Each algorithm carries the same
//! bytes. What it does with its window comes through a ring buffer, is drawn as text, and goes into an
//! SVG file: `cargo run --example tcp_congestion_bpf [FILE]`.
//!
//! Namespaces have no name and algorithms hang on links: whatever ends this process ends them too.

use bpfsmith::dsl::*;
use bpfsmith::kit::map::count_at;
use bpfsmith::kit::tcp::{self as cc, Window, cubic};
use bpfsmith::maps::{Map, RingBuf};
use bpfsmith::net::{Pair, Tbf};
use bpfsmith::prog::ops::{LoadedOps, StructOps};
use bpfsmith::prog::{Link, Maps};
use bpfsmith::{record, sys};
use std::error::Error;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SK: Reg = R6;
const ACKED: Reg = R7;
const NOW: Reg = R8;
const RECORD: Reg = R9;

record! {
    /// What an algorithm keeps in each socket.
    pub struct Own {
        /// What Cubic keeps; Reno needs nothing.
        cubic: cubic::State,
        /// The window that user space was told last.
        told: u32,
        /// Nothing.
        rest: u32,
    }
}

/// A socket chose the algorithm. This and the others are indices of counters.
pub const INIT: u32 = 0;
/// Something was acknowledged; and [`Window::what`], where the window grew.
pub const GROWTH: u32 = 1;
/// A loss; and [`Window::what`], before the window shrinks.
pub const LOSS: u32 = 2;
/// A loss that was none.
pub const UNDO: u32 = 3;
/// An event that found no room.
pub const UNTOLD: u32 = 4;

/// How often each of them happened.
pub static CALLS: MapDef<u32, u64> = MapDef::array("calls", 5);
/// Windows, as they change.
pub static EVENTS: MapDef<(), ()> = MapDef::ringbuf("windows", 1 << 20);

/// A member of the structure of functions, with its arguments in registers. All of them count their
/// calls.
fn member(of: &'static str, arguments: &[(Reg, &str)], index: u32, body: Code) -> Program {
    let code = code![
        each(
            arguments
                .iter()
                .map(|&(reg, name)| load(reg, args(of).get(name)))
        ),
        count_at(&CALLS, index, 1),
        body,
        exit(),
    ];
    let name = of.rsplit('.').next().unwrap_or(of);
    Program::new(ProgType::STRUCT_OPS, name, code).unwrap_or_else(|report| panic!("{report}"))
}

fn own(field: Field) -> Mem {
    cc::private::<Own>(SK).get(field)
}

/// Where Cubic's part is.
fn state() -> Place {
    cc::private::<Own>(SK).at(Own::cubic.offset.into())
}

/// Tells user space how the sender stands.
fn tell(what: u32) -> Code {
    let full = Some(count_at(&CALLS, UNTOLD, 1));
    cc::tell(&EVENTS, SK, RECORD, what, full)
}

/// The same, if the window is another one than last time.
fn tell_growth() -> Code {
    let same = label("same");
    code![
        load(R1, SK.get(cc::CWND)),
        load(R2, own(Own::told)),
        jeq(R1, R2, same),
        store(own(Own::told), R1),
        tell(GROWTH),
        bind(same),
    ]
}

/// Growth, if the window is what holds the sender back.
fn cong_avoid(growth: Code) -> Program {
    let done = label("done");
    member(
        "tcp_congestion_ops.cong_avoid",
        &[(SK, "sk"), (ACKED, "acked")],
        GROWTH,
        code![
            cc::need_limited(SK, [R1, R2], done),
            growth,
            tell_growth(),
            bind(done),
        ],
    )
}

/// The threshold after a loss is what `threshold` makes of R0.
fn ssthresh(threshold: Code) -> Program {
    let kept = slot::<u64>("threshold");
    member(
        "tcp_congestion_ops.ssthresh",
        &[(SK, "sk")],
        LOSS,
        code![
            threshold,
            store(kept.u64(0), R0),
            tell(LOSS),
            load(R0, kept.u64(0)),
        ],
    )
}

/// The members by their names.
pub type Members = Vec<(&'static str, Program)>;

fn shared() -> Members {
    let init = member("tcp_congestion_ops.init", &[(SK, "sk")], INIT, code![]);
    let undo = member(
        "tcp_congestion_ops.undo_cwnd",
        &[(SK, "sk")],
        UNDO,
        cc::undo(R0, SK, R1),
    );
    vec![("init", init), ("undo_cwnd", undo)]
}

/// TCP Reno: half of the window after a loss, and then one packet more in each round trip.
#[must_use]
pub fn reno() -> Members {
    let mut all = shared();
    all.push(("ssthresh", ssthresh(cc::half(R0, SK))));
    let growth = cc::reno(SK, ACKED, [R1, R2, R3, R4]);
    all.push(("cong_avoid", cong_avoid(growth)));
    all
}

/// TCP Cubic: seven tenths of the window after a loss, and then along the cubic curve.
#[must_use]
pub fn cubic() -> Members {
    let mut all = shared();
    all.push(("ssthresh", ssthresh(cubic::loss(SK, state()))));
    let used_up = label("used_up");
    let growth = code![
        cc::slow_start(SK, ACKED, [R1, R2]),
        jeq(ACKED, 0, used_up),
        cc::now(),
        mov(NOW, R0),
        cubic::growth(SK, state(), ACKED, NOW),
        bind(used_up),
    ];
    all.push(("cong_avoid", cong_avoid(growth)));
    // After a timeout the path may be another one.
    let of = args("tcp_congestion_ops.set_state");
    let set_state = code![
        load(SK, of.get("sk")),
        load(R1, of.get("new_state")),
        R1.eq(kernel_const("TCP_CA_Loss"))
            .then(cubic::reset(state())),
        exit(),
    ];
    all.push(("set_state", plain("set_state", set_state)));
    let of = args("tcp_congestion_ops.cwnd_event");
    let cwnd_event = code![
        load(SK, of.get("sk")),
        load(R1, of.get("ev")),
        W1.eq(kernel_const("CA_EVENT_TX_START")).then(code![
            cc::now(),
            mov(NOW, R0),
            cubic::idle(state(), NOW),
        ]),
        exit(),
    ];
    all.push(("cwnd_event", plain("cwnd_event", cwnd_event)));
    all
}

fn plain(name: &'static str, code: Code) -> Program {
    Program::new(ProgType::STRUCT_OPS, name, code).unwrap_or_else(|report| panic!("{report}"))
}

/// The structure of functions of that name, for everybody to choose.
///
/// # Errors
/// When this kernel has no such structure or member.
pub fn ops<'a>(name: &str, members: &'a Members) -> Result<StructOps<'a>, Box<dyn Error>> {
    let mut ops = StructOps::new("tcp_congestion_ops")?.text("name", name)?;
    for (member, program) in members {
        ops = ops.func(member, program)?;
    }
    const TCP_CONG_NON_RESTRICTED: i32 = 1;
    Ok(ops.number("flags", TCP_CONG_NON_RESTRICTED)?)
}

/// An algorithm of ours in the kernel.
struct Ours {
    name: &'static str,
    maps: Maps,
    _ops: LoadedOps,
    _link: Link,
}

impl Ours {
    fn register(name: &'static str, members: &Members) -> Result<Ours, Box<dyn Error>> {
        let ops = ops(name, members)?;
        let maps = ops.maps()?;
        let ops = ops.load(&maps)?;
        let link = ops.attach()?;
        Ok(Ours {
            name,
            maps,
            _ops: ops,
            _link: link,
        })
    }
}

/// The names of all algorithms that sockets may choose.
fn available() -> std::io::Result<Vec<String>> {
    let path = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    let all = std::fs::read_to_string(path)?;
    Ok(all.split_whitespace().map(str::to_owned).collect())
}

/// 100 Mbit/s, and a queue for 66 frames of full size.
const CABLE: Tbf = Tbf {
    rate: 12_500_000,
    burst: 20_000,
    limit: 100_000,
};

/// Bytes that look random, over and over. Their number is prime: what is lost or doubled is noticed.
fn pattern() -> Vec<u8> {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_be_bytes()[0]
    };
    (0..65_537).map(|_| next()).collect()
}

/// Reads to the end, and compares each byte with what was sent; says how many there were.
fn receive(mut from: TcpStream, pattern: &[u8]) -> Result<usize, String> {
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    loop {
        let got = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(got) => got,
            Err(error) => return Err(error.to_string()),
        };
        let mut left = &buffer[..got];
        while !left.is_empty() {
            let wanted = &pattern[total % pattern.len()..];
            let same = left.len().min(wanted.len());
            if left[..same] != wanted[..same] {
                return Err(format!("wrong bytes in the {same} behind {total}"));
            }
            left = &left[same..];
            total += same;
        }
    }
}

/// What a transfer came to.
struct Transfer {
    name: String,
    took: Duration,
    /// What the algorithm told; nothing of the kernel's own.
    windows: Vec<Window>,
}

/// Sends so many bytes with an algorithm; what it tells meanwhile is read from `ring`.
fn transfer(
    net: &Pair,
    name: &str,
    bytes: usize,
    ring: Option<&mut RingBuf>,
) -> Result<Transfer, Box<dyn Error>> {
    let listener = net
        .server
        .run(|| TcpListener::bind((net.server.v4(), 0)))??;
    let to = listener.local_addr()?;
    let mut stream = net.client.run(|| TcpStream::connect(to))??;
    sys::socket::set_congestion(stream.as_fd(), name)?;
    let chosen = sys::socket::congestion(stream.as_fd())?;
    if chosen != name {
        return Err(format!("the socket has {chosen}, not {name}").into());
    }
    // Now the socket has a cookie, and the algorithm sees it.
    let cookie = sys::socket::cookie(stream.as_fd())?;
    let (incoming, _) = listener.accept()?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    incoming.set_read_timeout(Some(Duration::from_secs(20)))?;

    let pattern = pattern();
    let begun = Instant::now();
    let mut windows = Vec::new();
    print!("{name:>10} ");
    let received = std::thread::scope(|scope| -> Result<usize, Box<dyn Error>> {
        let receiver = scope.spawn(|| receive(incoming, &pattern));
        let sent = send(&mut stream, &pattern, bytes, ring, |window| {
            if window.cookie == cookie {
                windows.push(*window);
            }
        });
        // The other end waits for this one.
        drop(stream);
        let received = receiver.join().map_err(|_| "the receiver panicked")?;
        sent?;
        Ok(received?)
    })?;
    let took = begun.elapsed();
    if received != bytes {
        return Err(format!("{bytes} bytes sent with {name}, {received} received").into());
    }
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let rate = bytes as f64 * 8.0 / 1e6 / took.as_secs_f64();
    println!(" {rate:6.1} Mbit/s");
    Ok(Transfer {
        name: name.to_owned(),
        took,
        windows,
    })
}

/// Sends, with a dot for each tenth, and reads what is told.
fn send(
    stream: &mut TcpStream,
    pattern: &[u8],
    bytes: usize,
    mut ring: Option<&mut RingBuf>,
    mut seen: impl FnMut(&Window),
) -> Result<(), Box<dyn Error>> {
    let mut sent = 0;
    while sent < bytes {
        let start = sent % pattern.len();
        let end = pattern.len().min(start + bytes - sent);
        let now = stream.write(&pattern[start..end])?;
        if (sent + now) * 10 / bytes > sent * 10 / bytes {
            print!(".");
            std::io::stdout().flush()?;
        }
        sent += now;
        if let Some(ring) = &mut ring {
            ring.for_each(&mut seen)?;
        }
    }
    Ok(())
}

/// What an algorithm of ours did must be what it is for.
fn check(ours: &Ours, transfer: &Transfer) -> Result<(), Box<dyn Error>> {
    let calls: Map<u32, u64> = ours.maps.open(&CALLS)?;
    let count = |index| calls.lookup(&index).map(Option::unwrap_or_default);
    println!(
        "{:>10} {} acknowledgements, {} losses, {} of them needless; {} windows told, {} not",
        ours.name,
        count(GROWTH)?,
        count(LOSS)?,
        count(UNDO)?,
        transfer.windows.len(),
        count(UNTOLD)?,
    );
    let holds = |what: &str, holds: bool| match holds {
        true => Ok(()),
        false => Err(format!("{}: this does not hold: {what}", ours.name)),
    };
    let losses = transfer.windows.iter().filter(|window| window.what == LOSS);
    holds("one socket chose it", count(INIT)? == 1)?;
    // Of few megabytes on a slow machine an acknowledgement may be of many packets.
    holds("its window grew", count(GROWTH)? > 20)?;
    holds("there were losses", count(LOSS)? > 0)?;
    holds("each was told", losses.count() > 0)?;
    let windows = transfer.windows.iter().map(|window| window.cwnd);
    let (least, most) = (windows.clone().min(), windows.max());
    holds("the window moved", least < most)?;
    Ok(())
}

/// Far more packets than the cable and its queue hold.
///
/// A kernel may pass over a call of a program, and then takes whatever stands on its stack for the
/// answer: Linux before 6.1 if one call interrupts another, and some kernels while a process runs that
/// they protect. A threshold that nobody chose makes such windows, until losses have halved them often
/// enough.
const NOBODYS: u32 = 1 << 12;

/// Where each window is that the algorithm chose: seconds since the first one, and packets.
fn points(transfer: &Transfer) -> Vec<(f64, u32)> {
    let first = transfer.windows.first().map_or(0, |window| window.time);
    let point = |window: &Window| {
        let since = Duration::from_nanos(window.time.saturating_sub(first));
        (since.as_secs_f64(), window.cwnd)
    };
    let chosen = transfer
        .windows
        .iter()
        .filter(|window| window.cwnd <= NOBODYS);
    chosen.map(point).collect()
}

const WIDTH: u32 = 72;
const HEIGHT: u32 = 14;

/// A number of steps, out of so many.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a small number"
)]
fn step(share: f64, of: u32) -> u32 {
    (share.clamp(0.0, 1.0) * f64::from(of)) as u32
}

/// The window over time, as text.
fn draw(transfer: &Transfer) {
    let points = points(transfer);
    let end = transfer.took.as_secs_f64();
    let most = points.iter().map(|point| point.1).max().unwrap_or(1).max(1);
    let mut rows = vec![vec![' '; WIDTH as usize + 1]; HEIGHT as usize + 1];
    for &(time, cwnd) in &points {
        let row = step(f64::from(cwnd) / f64::from(most), HEIGHT);
        rows[row as usize][step(time / end, WIDTH) as usize] = '*';
    }
    let rest = transfer.windows.len() - points.len();
    println!("\n{}: packets in the window", transfer.name);
    if rest > 0 {
        println!("{rest} windows of more than {NOBODYS} packets are not drawn: nobody chose them");
    }
    for (row, number) in rows.iter().rev().zip((0..=HEIGHT).rev()) {
        let line: String = row.iter().collect();
        println!("{:>5} |{}", most * number / HEIGHT, line.trim_end());
    }
    println!(
        "      +{}\n       0 s{end:>68.1} s",
        "-".repeat(WIDTH as usize)
    );
}

/// The windows of all algorithms over time, as SVG.
#[must_use]
fn svg(transfers: &[Transfer]) -> String {
    const COLOURS: [&str; 3] = ["#1f77b4", "#d62728", "#2ca02c"];
    let told = || {
        transfers
            .iter()
            .filter(|transfer| !transfer.windows.is_empty())
    };
    let end = told()
        .map(|transfer| transfer.took.as_secs_f64())
        .fold(0.1, f64::max);
    let most = told()
        .flat_map(points)
        .map(|point| point.1)
        .max()
        .unwrap_or(1);
    let most = f64::from(most.max(1));
    let mut out = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 900 420\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"900\" height=\"420\" fill=\"white\"/>\n\
         <path d=\"M60 20V370H880\" fill=\"none\" stroke=\"black\"/>\n",
    );
    for tenth in (0..=10).step_by(2) {
        let share = f64::from(tenth) / 10.0;
        let (x, y) = (60.0 + 820.0 * share, 370.0 - 350.0 * share);
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "<text x=\"{x:.0}\" y=\"390\" text-anchor=\"middle\">{:.1} s</text>\n\
             <text x=\"52\" y=\"{:.0}\" text-anchor=\"end\">{:.0}</text>",
            end * share,
            y + 4.0,
            most * share,
        );
    }
    for (transfer, (row, colour)) in told().zip((1..).zip(COLOURS)) {
        let _ = write!(out, "<polyline fill=\"none\" stroke=\"{colour}\" points=\"");
        for (time, cwnd) in points(transfer) {
            let (x, y) = (time / end, f64::from(cwnd) / most);
            let _ = write!(out, "{:.1},{:.1} ", 60.0 + 820.0 * x, 370.0 - 350.0 * y);
        }
        let (y, name) = (row * 18 + 10, &transfer.name);
        let _ = writeln!(
            out,
            "\"/>\n<text x=\"780\" y=\"{y}\" fill=\"{colour}\">{name}</text>"
        );
    }
    out.push_str("</svg>\n");
    out
}

/// Registers both algorithms, sends so many bytes with each and with those of the kernel, and draws
/// what happened.
///
/// # Errors
/// When a step is refused, bytes are wrong, or an algorithm did not do what it is for.
pub fn compare(bytes: usize, picture: &Path) -> Result<(), Box<dyn Error>> {
    let net = Pair::new()?;
    net.client.node.net.set_tbf(net.client.port.index, CABLE)?;
    let before = available()?;
    let ours = [
        Ours::register("bpf_reno", &reno())?,
        Ours::register("bpf_cubic", &cubic())?,
    ];
    let now = available()?;
    println!("algorithms: {}", now.join(" "));
    if let Some(missing) = ours
        .iter()
        .find(|ours| !now.iter().any(|name| name == ours.name))
    {
        return Err(format!("{} is not among them", missing.name).into());
    }

    let mut transfers = Vec::new();
    for ours in &ours {
        let mut ring: RingBuf = ours.maps.open(&EVENTS)?;
        let done = transfer(&net, ours.name, bytes, Some(&mut ring))?;
        check(ours, &done)?;
        transfers.push(done);
    }
    let known = ["reno", "cubic", "bbr"];
    for name in known
        .into_iter()
        .filter(|name| before.iter().any(|known| known == name))
    {
        transfers.push(transfer(&net, name, bytes, None)?);
    }
    transfers
        .iter()
        .filter(|transfer| !transfer.windows.is_empty())
        .for_each(draw);
    std::fs::write(picture, svg(&transfers))?;
    println!("\ndrawn in {}", picture.display());
    Ok(())
}

/// Compares with 20 MB each.
///
/// # Errors
/// As for [`compare`].
pub fn run() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).map(PathBuf::from);
    let file = file.unwrap_or_else(|| std::env::temp_dir().join("tcp_congestion_bpf.svg"));
    compare(20_000_000, &file)
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
