//! # Part 4, chapter 8.3: socket redirection
//!
//! Run it as root: `cargo build --example chapter_4_8_3`, then
//! `sudo target/debug/examples/chapter_4_8_3`.
//!
//! A TCP proxy accepts a connection, opens another one to a server, and from then on does nothing but
//! copy: out of one socket into a buffer of its own, out of the buffer into the other socket, for each
//! byte twice through the system call. Most proxies look at the first bytes at most. What if the rest
//! never came to the process?
//!
//! The kernel has maps whose values are sockets, and programs that belong to such a map:
//!
//! | program | it sees | its answer |
//! |---|---|---|
//! | stream parser (`SK_SKB`) | what a socket of the map received | how long the next message is |
//! | verdict (`SK_SKB`) | a message, or what came if there is no parser | which socket gets it |
//! | message verdict (`SK_MSG`) | what a socket's owner writes | which socket gets it |
//!
//! A socket that enters the map keeps its place in the process, and its connection. But its
//! bytes now go where the verdict says:
//!
//! | the verdict | the bytes |
//! |---|---|
//! | `sk_redirect_map` or `sk_redirect_hash`, then `SK_PASS` | are sent by another socket of a map |
//! | the same with `BPF_F_INGRESS` | are there to be read from the other socket |
//! | `SK_PASS` alone | are there to be read, as ever |
//! | `SK_DROP` | are gone |
//!
//! The fragments are in `kit::stream`. This chapter builds a proxy with them, finds three ways in which
//! it loses or delays bytes, and ends with `bpfsmith::splice`, which does not.

use bpfsmith::dsl::*;
use bpfsmith::kit::stream::{self, Direction, Otherwise};
use bpfsmith::maps::{Map, ObjectMap};
use bpfsmith::net::Node;
use bpfsmith::prog::target::Sockmap;
use bpfsmith::prog::{Link, Load, Maps};
use bpfsmith::splice::{Proxy, Settings, Splicer};
use bpfsmith::sys::socket::cookie;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

type Checked = Result<(), Box<dyn std::error::Error>>;

const LIMIT: Duration = Duration::from_secs(20);

/// Who is joined with whom, by the cookies of their sockets: numbers that the kernel never gives twice.
static PARTNERS: MapDef<u64, u64> = MapDef::hash("partners", 1024);

/// The sockets, each under its own cookie.
static SOCKETS: MapDef<u64, u64> = MapDef::new(MapType::SOCKHASH, "sockets", 1024);

/// Sends what a socket received through the one that it is joined with.
///
/// A `SOCKMAP` would do as well, were it not for its keys: they are indices, and the program would have
/// to know which index a socket has. With a `SOCKHASH` the key may be anything that the program finds
/// out from its context: the cookie, as here, or the two ends of the connection
/// (`stream::tuple_key`), for which user space needs no system call to know them.
///
/// Nobody's bytes are lost for want of a partner: with `Otherwise::Pass` they are there for the process
/// to read. That is also how a proxy reads a header before it decides where a connection goes.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn program() -> Program {
    let (own, alone) = (slot::<u64>("own"), label("alone"));
    let code = code![
        mov(R6, R1),
        stream::cookie_key(R6, own),
        map_lookup_elem(&PARTNERS, own),
        jeq(R0, 0, alone),
        // The value of one map is the key of the other.
        stream::redirect(R6, &SOCKETS, R0.at(0), Direction::Egress, Otherwise::Pass),
        exit(),
        bind(alone),
        ret(SK_PASS),
    ];
    Program::new(ProgType::SK_SKB, "join", code).unwrap_or_else(|report| panic!("{report}"))
}

/// The program on its map, and a machine for client, proxy and server.
struct Machine {
    node: Node,
    partners: Map<u64, u64>,
    sockets: ObjectMap<u64, u64>,
    _link: Link,
}

impl Machine {
    fn new() -> Result<Machine, Box<dyn std::error::Error>> {
        let program = program();
        let maps = Maps::of(&program)?;
        let map = maps.handle(SOCKETS.shape().name)?;
        // Without a parser: there are no messages here.
        let hook = Sockmap::stream_verdict(&map);
        let prog = Load::new(&program).maps(&maps).to(&hook)?.load()?;
        Ok(Machine {
            node: Node::new()?,
            partners: maps.open(&PARTNERS)?,
            sockets: maps.open(&SOCKETS)?,
            // Before the first socket: those in the map keep the programs that they met.
            _link: prog.attach(&hook)?,
        })
    }

    /// A connection: who opened it, and who accepted it.
    fn connection(&self) -> Result<(TcpStream, TcpStream), Box<dyn std::error::Error>> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let listener = self.node.run(|| TcpListener::bind(any))??;
        let to = listener.local_addr()?;
        let opened = self.node.run(|| TcpStream::connect(to))??;
        let (accepted, _) = listener.accept()?;
        for socket in [&opened, &accepted] {
            socket.set_read_timeout(Some(LIMIT))?;
            socket.set_write_timeout(Some(LIMIT))?;
        }
        Ok((opened, accepted))
    }

    /// A client and a server that have a proxy between them.
    fn proxied(&self) -> Result<Proxied, Box<dyn std::error::Error>> {
        let (client, front) = self.connection()?;
        let (back, server) = self.connection()?;
        Ok(Proxied {
            client,
            front,
            back,
            server,
        })
    }

    /// Joins two connections. The partners first: from the moment on in which a socket is in the map,
    /// its bytes need somewhere to go.
    fn join(&self, proxied: &Proxied) -> Checked {
        let Proxied { front, back, .. } = proxied;
        let (one, other) = (cookie(front.as_fd())?, cookie(back.as_fd())?);
        self.partners.update(&one, &other)?;
        self.partners.update(&other, &one)?;
        self.sockets.set(&other, back)?;
        self.sockets.set(&one, front)?;
        Ok(())
    }
}

/// Client to `front`, `back` to server; the two in the middle are the proxy's.
struct Proxied {
    client: TcpStream,
    front: TcpStream,
    back: TcpStream,
    server: TcpStream,
}

/// What is written at one end is read at the other.
fn carries(mut from: &TcpStream, mut to: &TcpStream, count: usize) -> Checked {
    let sent: Vec<u8> = (0..=u8::MAX).cycle().take(count).collect();
    let mut got = vec![0; count];
    thread::scope(|scope| {
        let writer = scope.spawn(|| from.write_all(&sent));
        to.read_exact(&mut got)?;
        writer
            .join()
            .map_err(|_| io::Error::other("a writer died"))?
    })?;
    expect("the same bytes", sent == got)
}

/// Whether nothing is there to read.
fn is_silent(mut socket: &TcpStream) -> io::Result<bool> {
    socket.set_nonblocking(true)?;
    let read = socket.read(&mut [0; 16]);
    socket.set_nonblocking(false)?;
    match read {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// The proxy joins two connections, and never reads or writes again.
fn bytes_pass_by_the_process(machine: &Machine) -> Checked {
    let proxied = machine.proxied()?;
    machine.join(&proxied)?;
    carries(&proxied.client, &proxied.server, 1 << 20)?;
    carries(&proxied.server, &proxied.client, 1 << 20)?;
    println!("a megabyte each way; the proxy has read nothing");
    expect("nothing in front", is_silent(&proxied.front)?)?;
    expect("nothing at the back", is_silent(&proxied.back)?)
}

/// A socket in the map without a partner works as ever. So does one whose partner was closed: it has
/// left the map by itself, and the fall-back counts.
fn without_a_partner(machine: &Machine) -> Checked {
    let proxied = machine.proxied()?;
    let own = cookie(proxied.front.as_fd())?;
    machine.sockets.set(&own, &proxied.front)?;
    carries(&proxied.client, &proxied.front, 1000)?;
    println!("without a partner, the process reads");

    let proxied = machine.proxied()?;
    machine.join(&proxied)?;
    let gone = cookie(proxied.back.as_fd())?;
    drop(proxied.back);
    wait(|| Ok(machine.sockets.cookie(&gone)?.is_none()))?;
    carries(&proxied.client, &proxied.front, 1000)?;
    println!("the partner is gone from the map, and the process reads");
    Ok(())
}

/// The first trap: what came before the socket was in the map.
///
/// Those bytes lie in the socket's queue, and the verdict is asked about what *comes*. They wait there
/// for the next segment, and only then go along with it, in order. A client that says something and
/// waits for an answer before it goes on, waits forever: almost every protocol.
///
/// A process that reads them first has another problem: between its last read and the insertion, more
/// may come. It has to look again afterwards, and to know how many bytes the kernel has sent on
/// meanwhile, lest it sends its own too late.
fn bytes_that_came_too_early(machine: &Machine) -> Checked {
    let proxied = machine.proxied()?;
    let (mut client, mut server) = (&proxied.client, &proxied.server);
    client.write_all(b"early")?;
    let mut byte = [0];
    wait(|| Ok(proxied.front.peek(&mut byte)? == 1))?;
    machine.join(&proxied)?;
    client.write_all(b", late")?;
    let mut bytes = [0; 11];
    server.read_exact(&mut bytes)?;
    println!("came too early: {}", String::from_utf8_lossy(&bytes));
    expect("in order", &bytes == b"early, late")
}

/// The second trap: there is no back pressure.
///
/// A proxy that copies stops reading when it cannot write, and then the client has to wait. Here the
/// client's bytes are taken off the first connection at once, acknowledged, and wait for room in the
/// second one: in the kernel's memory, as many as the client cares to send.
///
/// The third trap follows: they wait in the socket in the middle. When the client is done, the
/// process reads the end of its stream, and a proxy that copies would know that all was sent on. This
/// one knows nothing. If it closes now, what waits is lost, and nobody is told.
fn a_hasty_end_loses_bytes(machine: &Machine) -> Checked {
    const BYTES: usize = 32 << 20;
    let proxied = machine.proxied()?;
    machine.join(&proxied)?;
    let Proxied {
        mut client,
        front,
        back,
        mut server,
    } = proxied;
    // The server does not read, and yet all of it can be written.
    client.write_all(&vec![7; BYTES])?;
    client.shutdown(Shutdown::Write)?;
    drop((front, back));
    let mut got = 0;
    let mut bytes = vec![0; 1 << 16];
    loop {
        match server.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!("closed too early: {got} of {BYTES} bytes arrived");
    expect("some were lost", got < BYTES)
}

/// `bpfsmith::splice` is that proxy without the traps.
///
/// It has the kernel look at once for what came early (`set_low_water`: a change of how many bytes a
/// reader waits for), looks how far ahead a sender is of its receiver, and has senders wait beyond that;
/// it ends a stream when all of it is with the other socket, not when its end is seen, and one direction
/// at a time. It counts what the kernel moved, and what it had to copy after all.
///
/// Here, every client sends at once, before the proxy can have joined anything, says that it is done, and
/// gets the same back, from a server that answers when it has seen the end.
fn a_proxy_that_knows_better() -> Checked {
    const CLIENTS: usize = 8;
    const BYTES: usize = 3 << 20;
    let node = Node::new()?;
    let any = (Ipv4Addr::LOCALHOST, 0);
    let server = node.run(|| TcpListener::bind(any))??;
    let listener = node.run(|| TcpListener::bind(any))??;
    let (front, target) = (listener.local_addr()?, server.local_addr()?);
    let splicer = Splicer::new(Settings::default())?;
    let mut proxy = Proxy::splicing(listener, target, splicer)?;
    let (stopper, counters) = (proxy.stopper(), proxy.counters());

    let answer = || -> io::Result<()> {
        let (mut stream, _) = server.accept()?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(&all)
    };
    let ask = |seed: u8| -> io::Result<bool> {
        let all: Vec<u8> = (seed..=u8::MAX).cycle().take(BYTES).collect();
        let mut stream = node
            .run(|| TcpStream::connect(front))
            .map_err(io::Error::other)??;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(&all)?;
        stream.shutdown(Shutdown::Write)?;
        let mut back = Vec::new();
        stream.read_to_end(&mut back)?;
        Ok(back == all)
    };
    thread::scope(|scope| -> Checked {
        // It connects to the server from the namespace of the thread that it runs on.
        let running = scope.spawn(|| node.run(|| proxy.run()));
        let done = thread::scope(|clients| {
            for _ in 0..CLIENTS {
                clients.spawn(answer);
            }
            let asked: Vec<_> = (1_u8..)
                .take(CLIENTS)
                .map(|seed| clients.spawn(move || ask(seed)))
                .collect();
            let done = asked.into_iter().map(|asked| asked.join());
            done.collect::<Vec<_>>()
        });
        // The clients have seen their ends; so will the proxy.
        let seen = wait(|| Ok(counters.tally().open == 0));
        stopper.stop();
        running.join().map_err(|_| "the proxy died")???;
        seen?;
        for done in done {
            let same = done.map_err(|_| "a client died")??;
            expect("the same bytes came back", same)?;
        }
        Ok(())
    })?;
    let tally = counters.tally();
    println!(
        "{CLIENTS} clients: {} bytes moved by the kernel, {} copied",
        tally.bytes_spliced, tally.bytes_copied
    );
    let all = u64::try_from(CLIENTS)?;
    expect("all ended well", (tally.ended, tally.broken) == (all, 0))
}

/// All of it.
///
/// # Errors
/// When the kernel refuses a step, or something is not as the text says.
pub fn run() -> Checked {
    let machine = Machine::new()?;
    bytes_pass_by_the_process(&machine)?;
    without_a_partner(&machine)?;
    bytes_that_came_too_early(&machine)?;
    a_hasty_end_loses_bytes(&machine)?;
    a_proxy_that_knows_better()
}

/// Asks until it holds.
fn wait(mut holds: impl FnMut() -> Result<bool, Box<dyn std::error::Error>>) -> Checked {
    let end = Instant::now() + LIMIT;
    while !holds()? {
        if Instant::now() > end {
            return Err("waited in vain".into());
        }
        thread::yield_now();
    }
    Ok(())
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
