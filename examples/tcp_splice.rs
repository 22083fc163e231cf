//! A TCP proxy that accepts, connects, and leaves the bytes to the kernel. Needs root.
//!
//! Without arguments it shows itself: three machines in a row, each a network namespace, with the
//! proxy in the middle. A few hundred clients talk to a server, both ways at once, and each byte is
//! compared at both ends; once with the bytes moved by the kernel, once copied by the proxy.
//!
//! With arguments it is a proxy, until it is interrupted:
//!
//! ```text
//! tcp_splice 0.0.0.0:8080 10.0.0.7:80
//! tcp_splice 0.0.0.0:8080 10.0.0.7:80 --ahead 64
//! tcp_splice 0.0.0.0:8080 10.0.0.7:80 --copy
//! ```
//!
//! `--ahead` says how many MiB may wait in the kernel for a receiver. The kernel itself sets no
//! limit, and takes from a fast sender until memory is full; here what goes beyond is copied, at the
//! receiver's pace.

use bpfsmith::dsl::Program;
use bpfsmith::net::{Chain, Host};
use bpfsmith::splice::{Proxy, Settings, Splicer, Tables, Tally, verdict};
use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

type Checked = Result<(), Box<dyn Error + Send + Sync>>;

/// How many clients there are, how many of them at once, and how much they send or receive at most.
/// The standard library's listeners have room for 128 that are not accepted yet.
const CLIENTS: u64 = 360;
const AT_ONCE: u64 = 120;
const LARGEST: u64 = 4_000_000;

/// The program: what becomes of bytes that a joined socket received.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    let settings = Settings::default();
    let tables = Tables::new(settings.pairs * 2);
    verdict(&tables, settings.ahead).unwrap_or_else(|report| panic!("{report}"))
}

/// Bytes without pattern, of a number that no buffer has: what is misplaced is seen.
static NOISE: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..65_521).map(|n| mix(n).to_le_bytes()[0]).collect());

/// Bytes that are known from a number.
#[derive(Clone, Copy)]
struct Content {
    seed: u64,
    len: u64,
}

impl Content {
    fn new(seed: u64) -> Content {
        let mixed = mix(seed);
        // Most are small.
        let largest = if mixed.is_multiple_of(16) {
            LARGEST
        } else {
            50_000
        };
        Content {
            seed,
            len: mix(mixed) % largest,
        }
    }

    fn bytes(self) -> Vec<u8> {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        let mut bytes = mix(self.seed).to_le_bytes().to_vec();
        while bytes.len() < len {
            bytes.extend_from_slice(&NOISE);
        }
        bytes.truncate(len);
        bytes
    }

    /// Receives all of it, and the end of the stream.
    fn receive(self, mut from: &TcpStream) -> Checked {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        if bytes != self.bytes() {
            return Err(format!("{} other bytes than {}", bytes.len(), self.len).into());
        }
        Ok(())
    }
}

/// Spreads a number over all bits.
const fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// When a side ends its stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// As soon as it has sent all.
    First,
    /// When it has received all besides, as most clients do.
    Last,
}

/// Sends and receives at once.
fn exchange(mut stream: &TcpStream, sends: Content, receives: Content, ends: Ends) -> Checked {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    thread::scope(|scope| {
        let received = scope.spawn(move || receives.receive(stream));
        stream.write_all(&sends.bytes())?;
        if ends == Ends::First {
            stream.shutdown(Shutdown::Write)?;
        }
        joined(received)?;
        if ends == Ends::Last {
            stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    })
}

/// A client: says its number, and sends and receives what that stands for.
fn call(to: SocketAddr, number: u64) -> Checked {
    let mut stream = TcpStream::connect(to)?;
    stream.write_all(&number.to_le_bytes())?;
    let (up, down) = (Content::new(number * 2), Content::new(number * 2 + 1));
    // Some have ended their stream before the proxy knows of them.
    let ends = if number.is_multiple_of(20) {
        Ends::First
    } else {
        Ends::Last
    };
    exchange(&stream, up, down, ends)
}

/// The server's part of it.
fn answer(mut stream: TcpStream) -> Checked {
    let mut number = [0; 8];
    stream.read_exact(&mut number)?;
    let number = u64::from_le_bytes(number);
    let (up, down) = (Content::new(number * 2), Content::new(number * 2 + 1));
    exchange(&stream, down, up, Ends::First)
}

/// Some clients at once, from this number on.
fn some_call(from: &Host, to: SocketAddr, listener: &TcpListener, first: u64) -> Checked {
    thread::scope(|scope| {
        let answers = scope.spawn(|| -> Checked {
            thread::scope(|scope| {
                let mut threads = Vec::new();
                for _ in 0..AT_ONCE {
                    let (stream, _) = listener.accept()?;
                    threads.push(scope.spawn(move || answer(stream)));
                }
                threads.into_iter().try_for_each(joined)
            })
        });
        let calls = from.run(|| {
            thread::scope(|scope| {
                let start = |number| scope.spawn(move || call(to, number));
                let threads: Vec<_> = (first..first + AT_ONCE).map(start).collect();
                threads.into_iter().try_for_each(joined)
            })
        });
        calls??;
        joined(answers)
    })
}

fn joined(thread: thread::ScopedJoinHandle<'_, Checked>) -> Checked {
    thread.join().unwrap_or_else(|_| Err("panicked".into()))
}

/// Time that the calling thread has had a processor, as far as the kernel tells.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// Who moves the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Kernel(Settings),
    Proxy,
}

impl By {
    const fn name(self) -> &'static str {
        match self {
            By::Kernel(_) => "the kernel",
            By::Proxy => "the proxy",
        }
    }

    fn proxy(self, listener: TcpListener, target: SocketAddr) -> Result<Proxy, Box<dyn Error>> {
        Ok(match self {
            By::Kernel(settings) => Proxy::splicing(listener, target, Splicer::new(settings)?)?,
            By::Proxy => Proxy::copying(listener, target)?,
        })
    }
}

/// Has all clients call through a proxy, and returns what it counted.
fn measure(net: &Chain, by: By) -> Result<Tally, Box<dyn Error>> {
    let server = SocketAddr::from((net.server.v4(), 7000));
    let listener = net.server.run(|| TcpListener::bind(server))??;
    let near = SocketAddr::from((net.proxy.left.v4, 7000));
    let front = net.proxy.run(|| TcpListener::bind(near))??;
    let mut proxy = by.proxy(front, server)?;
    let (stopper, counters) = (proxy.stopper(), proxy.counters());
    let start = Instant::now();
    let time = thread::scope(|scope| -> Result<Option<Duration>, Box<dyn Error>> {
        let running = scope.spawn(|| {
            net.proxy.run(|| {
                let ended = proxy.run();
                (ended, processor_time())
            })
        });
        let called = (0..CLIENTS / AT_ONCE)
            .try_for_each(|wave| some_call(&net.client, near, &listener, wave * AT_ONCE));
        // The last streams have ended; their pairs may take a moment to.
        let limit = Instant::now() + Duration::from_secs(20);
        while called.is_ok() && counters.tally().open > 0 && Instant::now() < limit {
            thread::sleep(Duration::from_millis(1));
        }
        stopper.stop();
        let (ended, time) = running.join().map_err(|_| "the proxy panicked")??;
        ended?;
        match called {
            Ok(()) => Ok(time),
            Err(error) => Err(error),
        }
    })?;
    let tally = counters.tally();
    let megabytes = |bytes| bytes / 1_000_000;
    let time = time.map_or("?".to_owned(), |time| format!("{} ms", time.as_millis()));
    println!(
        "{:<11}{:>11} {:>8} {:>8} {:>11} MB {:>11} MB {:>11} {:>8} ms",
        by.name(),
        tally.accepted,
        tally.spliced,
        tally.copied,
        megabytes(tally.bytes_spliced),
        megabytes(tally.bytes_copied),
        time,
        start.elapsed().as_millis(),
    );
    if tally.ended != CLIENTS {
        return Err(format!("{} of {CLIENTS} ended: {tally:?}", tally.ended).into());
    }
    Ok(tally)
}

/// Runs both proxies in the middle of three machines.
///
/// # Errors
/// When a step is refused, a byte is not what it should be, or the kernel moved next to nothing.
pub fn run() -> Result<(), Box<dyn Error>> {
    let net = Chain::new()?;
    println!(
        "{:<11}{:>11} {:>8} {:>8} {:>14} {:>14} {:>11} {:>11}",
        "moved by",
        "connections",
        "spliced",
        "copied",
        "bytes spliced",
        "bytes copied",
        "proxy's CPU",
        "took",
    );
    let spliced = measure(&net, By::Kernel(Settings::default()))?;
    let copied = measure(&net, By::Proxy)?;
    if spliced.bytes_spliced < 4 * spliced.bytes_copied || copied.bytes_spliced != 0 {
        return Err(format!("too much was copied: {spliced:?}").into());
    }
    println!(
        "\nA pair is copied in part if a client ended its stream before the proxy could join it, or a\n\
         receiver was too slow. Not in the proxy's time: what the kernel's workers did for it."
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (listen, target, by) = match words[..] {
        [] => return run(),
        [listen, target] => (listen, target, By::Kernel(Settings::default())),
        [listen, target, "--copy"] => (listen, target, By::Proxy),
        [listen, target, "--ahead", megabytes] => {
            let ahead = megabytes.parse::<u32>()?.saturating_mul(1 << 20);
            let settings = Settings {
                ahead,
                ..Settings::default()
            };
            (listen, target, By::Kernel(settings))
        }
        _ => return Err("usage: tcp_splice [LISTEN TARGET [--copy | --ahead MIB]]".into()),
    };
    let mut proxy = by.proxy(TcpListener::bind(listen)?, target.parse()?)?;
    println!("{listen} to {target}, moved by {}", by.name());
    Ok(proxy.run()?)
}
