//! A reverse proxy of packets between a client and two backends, each a machine in a namespace.
//!
//! The client connects to an address that no socket has. What its packets become is said by programs on
//! the proxy's two devices, which were made for this very configuration; then the configuration changes
//! while a connection is open. Needs root.

use bpfsmith::datapath::attach::Attached;
use bpfsmith::datapath::choice::Wish;
use bpfsmith::datapath::clock::Clock;
use bpfsmith::datapath::config::{
    Algorithm, Backend, BackendId, Config, Group, GroupId, Listener, Member, Mode, Protocol,
};
use bpfsmith::datapath::generation::Generation;
use bpfsmith::datapath::look::Look;
use bpfsmith::datapath::programs::{self, Hook, Usual};
use bpfsmith::datapath::shape::Shape;
use bpfsmith::dsl::*;
use bpfsmith::net::{Address, Chain, Prefix};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

type Done<T> = Result<T, Box<dyn Error>>;

/// Where the client connects to.
const SERVICE: &str = "192.0.2.80:80";
/// The backends, both on the machine behind the proxy.
const BACKENDS: [&str; 2] = ["10.2.0.2:8080", "10.2.0.3:8080"];
const ROUNDS: usize = 24;
const LIMIT: Duration = Duration::from_secs(20);

/// Two backends in turn; with this share for each.
fn config(weights: [u32; 2]) -> Config {
    let address = |text: &str| text.parse::<SocketAddr>();
    let ids = [BackendId(1), BackendId(2)];
    let members = ids.into_iter().zip(weights);
    Config {
        listeners: address(SERVICE)
            .map(|address| Listener {
                number: 1,
                devices: Vec::new(),
                address,
                protocol: Protocol::Tcp,
                routes: Vec::new(),
                group: GroupId(0),
            })
            .into_iter()
            .collect(),
        groups: vec![Group {
            algorithm: Algorithm::RoundRobin,
            mode: Mode::Dnat,
            members: members
                .map(|(backend, weight)| Member { backend, weight })
                .collect(),
        }],
        backends: BACKENDS
            .iter()
            .zip(ids)
            .filter_map(|(text, id)| {
                let address = address(text).ok()?;
                Some(Backend { id, address })
            })
            .collect(),
        ..Config::default()
    }
}

/// The program at TCX: one listener of IPv4 and TCP, and nothing else.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    let shape = Shape::of(&config([1, 1]), 2, Clock::new(250));
    programs::program(Hook::Tcx, Usual::Device, &shape).unwrap_or_else(|report| panic!("{report}"))
}

/// Says its name to whoever connects, and back what it is sent, until it is stopped.
fn serve(listener: &TcpListener, name: u8, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                // A client that breaks off is none of the backend's business.
                let _talk = thread::spawn(move || -> std::io::Result<()> {
                    stream.set_nonblocking(false)?;
                    stream.write_all(&[name])?;
                    let mut byte = [0];
                    while stream.read(&mut byte)? == 1 {
                        stream.write_all(&byte)?;
                    }
                    Ok(())
                });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(_) => return,
        }
    }
}

/// Stops the backends, however the client ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection through the proxy, and the name of who answered.
fn connect(net: &Chain) -> Done<(TcpStream, u8)> {
    let address: SocketAddr = SERVICE.parse()?;
    let connect = || TcpStream::connect_timeout(&address, LIMIT);
    let mut stream = net.client.run(connect)??;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut name = [0];
    stream.read_exact(&mut name)?;
    Ok((stream, name[0]))
}

/// Who answers how often.
fn ask(net: &Chain, rounds: usize) -> Done<BTreeMap<u8, usize>> {
    let mut answered = BTreeMap::new();
    for _ in 0..rounds {
        let (_, name) = connect(net)?;
        *answered.entry(name).or_insert(0) += 1;
    }
    Ok(answered)
}

fn show(answered: &BTreeMap<u8, usize>) {
    for (name, count) in answered {
        println!("  backend {name}  {count:3}  {}", "#".repeat(*count));
    }
}

fn check(holds: bool, what: &str) -> Done<()> {
    match holds {
        true => Ok(()),
        false => Err(what.into()),
    }
}

/// The client's side of it.
fn talk(net: &Chain) -> Done<()> {
    let first = Generation::first(&config([1, 1]))?;
    let devices = [&net.proxy.left, &net.proxy.right].map(|port| (port.index, Wish::Best));
    let ns = &net.proxy.node.ns;
    let attach = || -> Result<_, bpfsmith::datapath::error::Error> {
        Attached::new(&Look::here()?, &first, &devices)
    };
    let mut attached = ns.run(attach)??;
    for choice in attached.choices() {
        println!("{choice}");
    }
    for note in attached.notes() {
        println!("{note}");
    }

    println!("two backends in turn:");
    let answered = ask(net, ROUNDS)?;
    show(&answered);
    let halves = answered.values().all(|count| *count == ROUNDS / 2);
    check(halves && answered.len() == 2, "they did not take turns")?;

    let (mut open, name) = connect(net)?;
    println!("a connection to backend {name} stays open; backend {name} gets no new ones:");
    let next = first.next(&config(if name == 1 { [0, 1] } else { [1, 0] }))?;
    ns.run(|| attached.replace(&next))??;
    let answered = ask(net, ROUNDS)?;
    show(&answered);
    check(!answered.contains_key(&name), "it got new ones")?;

    open.write_all(b"!")?;
    let mut byte = [0];
    open.read_exact(&mut byte)?;
    check(byte == *b"!", "the open connection came to harm")?;
    println!("the open one still talks to backend {name}");
    for (reason, count) in next.counters()? {
        if count > 0 {
            println!("  {:16} {count:5}", reason.name());
        }
    }
    Ok(())
}

/// Connects through the proxy, changes it, and compares who answered.
///
/// # Errors
/// When a step is refused, or the wrong one answered.
pub fn run() -> Done<()> {
    let net = Chain::new()?;
    let second: Prefix = "10.2.0.3/24".parse()?;
    let server = &net.server;
    server
        .node
        .net
        .add_address(&Address::new(server.port.index, second))?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        for (name, address) in (1..).zip(BACKENDS) {
            let listener = server.run(|| TcpListener::bind(address))??;
            listener.set_nonblocking(true)?;
            let stop = &stop;
            scope.spawn(move || serve(&listener, name, stop));
        }
        talk(&net)
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
