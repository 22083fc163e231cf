//! # Part 3, chapter 17: programmable socket lookup
//!
//! Run it as root: `cargo build --example chapter_3_17`, then
//! `sudo target/debug/examples/chapter_3_17`.
//!
//! A packet comes in for an address and a port: which socket gets it? `bind` knows two answers. A socket
//! has one address and one port, or every address and one port. That is little for a machine that hosts
//! many tenants:
//!
//! - A tenant has a network of addresses. That is a socket for each address, or one for all of them,
//!   which takes every other tenant's port with it.
//! - A tenant wants all ports. That is 65,535 sockets.
//! - Two services shall share address and port, because the client decides who answers.
//! - A new version shall take over, and no connection may fail meanwhile.
//!
//! Since Linux 5.9 a program can answer. It is attached to a network namespace, and asked when
//! no *established* connection fits, before the kernel looks for listeners:
//!
//! | the kernel asks | |
//! |---|---|
//! | connected sockets | so the packets of a connection never come further |
//! | **`SK_LOOKUP` programs** | in the order in which they were attached |
//! | sockets bound to the address, then to any address | as ever |
//!
//! The program finds the two ends in its context (`bpf_sk_lookup`), and has three answers:
//!
//! | it does | and then |
//! |---|---|
//! | `sk_assign` a socket, return `SK_PASS` | that one gets the packet |
//! | return `SK_PASS` | the next program is asked, at last the kernel |
//! | return `SK_DROP` | nobody gets it, and the client is refused, unless a program chose a socket |
//!
//! Sockets come from a `SOCKMAP` or a `SOCKHASH`, which user space fills with its listeners. The pieces are
//! in `kit::lookup`.
//!
//! This chapter is about TCP. For UDP there is one thing more to know: an answer leaves from the address
//! that its socket is bound to, and not from the one where the question went. A service says so with
//! `IP_PKTINFO`, or answers from a socket that is bound there.
//!
//! The last part is about the library `steer`, which is all of this ready to use: rules that are changed while
//! packets come, for TCP and UDP, IPv4 and IPv6, prefixes and ranges of ports.
//!
//! `cargo run --example sk_lookup_steering` goes on from here: clients of several
//! machines, UDP and IPv6. In `cargo run --example steering_handover`, a process takes over from another one.

use bpfsmith::dsl::*;
use bpfsmith::kit::lookup::{self, End, Fallback};
use bpfsmith::maps::{LpmKey, Map, ObjectMap};
use bpfsmith::net::{Node, Prefix, Route};
use bpfsmith::prog::target::Netns;
use bpfsmith::prog::{Load, Maps, Prog};
use bpfsmith::steer::{Label, Rule, Steering};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

type Checked = Result<(), Box<dyn std::error::Error>>;

/// An address of either family, and how many of its bits count. IPv4 stands there as `::ffff:a.b.c.d`,
/// so that one table serves both.
type Network = LpmKey<[u8; 16]>;

/// What the machine takes for its own, though no device has any of it.
const OURS: (IpAddr, u8) = (IpAddr::V4(Ipv4Addr::new(198, 51, 100, 0)), 24);

/// Each tenant has its part of the addresses; the longest prefix counts.
static TENANTS: MapDef<Network, u32> = MapDef::lpm_trie("tenants", 1024);

/// The listener of each tenant.
static LISTENERS: MapDef<u32, u64> = MapDef::new(MapType::SOCKMAP, "listeners", 64);

const CTX: Reg = R6;
const ANSWER: Reg = R7;

fn build(name: &str, code: Code) -> Program {
    Program::new(ProgType::SK_LOOKUP, name, code).unwrap_or_else(|report| panic!("{report}"))
}

/// Gives each tenant the ports from 8000 to 8999 of its addresses.
///
/// The context tells the local port in the machine's order of bytes, and the remote one in the
/// network's: compare the wrong one with 8000, and the program is right on paper and idle in practice.
/// The fragments take the plain number for both, and so does `load_port`.
///
/// `assign_or` looks the listener up, assigns and releases it: what a program took from a map of
/// sockets, it holds, and the verifier wants it back on every path. Then it ends the program. If
/// there is no listener, the fall-back decides: `Drop` here, because these ports are the tenant's,
/// and nobody else is to answer there.
///
/// # Panics
/// If the program is wrong; the message names the line.
#[must_use]
pub fn program() -> Program {
    let (tenant, other) = (slot::<u32>("tenant"), label("other"));
    let code = code![
        mov(CTX, R1),
        lookup::protocol(CTX, IPPROTO_TCP, R2, other),
        lookup::port(CTX, End::Local, 8000..=8999, R2, other),
        lookup::find(CTX, End::Local, &TENANTS, tenant, other),
        lookup::assign_or(CTX, &LISTENERS, tenant, ANSWER, 0, Fallback::Drop),
        bind(other),
        ret(SK_PASS),
    ];
    build("tenants", code)
}

/// One machine, and the program on it.
struct Machine {
    node: Node,
    prog: Prog,
    tenants: Map<Network, u32>,
    listeners: ObjectMap<u32, u64>,
}

impl Machine {
    fn new() -> Result<Machine, Box<dyn std::error::Error>> {
        let program = program();
        let maps = Maps::of(&program)?;
        let node = Node::new()?;
        // Packets for these addresses are for this machine: `ip route add local 198.51.100.0/24 dev lo`.
        let ours = Prefix::new(OURS.0, OURS.1)?;
        node.net.add_route(&Route::local(ours))?;
        let to = Netns::lookup(&node.ns);
        let prog = Load::new(&program).maps(&maps).to(&to)?.load()?;
        Ok(Machine {
            prog,
            tenants: maps.open(&TENANTS)?,
            listeners: maps.open(&LISTENERS)?,
            node,
        })
    }

    /// Where it listens does not matter, and no client ever sees it.
    fn listen(&self) -> Result<TcpListener, Box<dyn std::error::Error>> {
        let listener = self
            .node
            .run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))??;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    fn connect(&self, host: u8, port: u16) -> std::io::Result<TcpStream> {
        let to = (Ipv4Addr::new(198, 51, 100, host), port);
        let connected = self.node.run(|| TcpStream::connect(to));
        connected.map_err(std::io::Error::other)?
    }

    /// Connects, and says who accepted.
    fn came_to(
        &self,
        listeners: &[&TcpListener],
        host: u8,
        port: u16,
    ) -> Result<Option<usize>, Box<dyn std::error::Error>> {
        let client = match self.connect(host, port) {
            Ok(client) => client,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // On one machine, the handshake is over when `connect` comes back.
        for (index, listener) in listeners.iter().enumerate() {
            if let Ok((end, from)) = listener.accept() {
                expect("it is this client", from == client.local_addr()?)?;
                expect(
                    "which sees no difference",
                    end.local_addr()? == client.peer_addr()?,
                )?;
                return Ok(Some(index));
            }
        }
        Err("nobody accepted".into())
    }
}

/// What `bind` cannot do.
fn an_address_is_taken_once(machine: &Machine) -> Checked {
    let at = SocketAddr::new(OURS.0, 80);
    let first = machine.node.run(|| TcpListener::bind(at))??;
    let again = machine.node.run(|| TcpListener::bind(at))?;
    let error = again.err().ok_or("bound twice")?;
    println!("a second listener on {}: {error}", first.local_addr()?);
    expect("it is taken", error.kind() == ErrorKind::AddrInUse)
}

/// Two tenants with half of the addresses each, a thousand ports of each address, and two sockets.
fn tenants_share_a_port(machine: &Machine) -> Checked {
    let (red, blue) = (machine.listen()?, machine.listen()?);
    machine.listeners.set(&0, &red)?;
    machine.listeners.set(&1, &blue)?;
    machine.tenants.update(&Network::mapped(OURS.0, 25), &0)?;
    let upper = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 128));
    machine.tenants.update(&Network::mapped(upper, 25), &1)?;

    let both = [&red, &blue];
    expect("not yet", machine.came_to(&both, 1, 8000)?.is_none())?;
    let link = machine.prog.attach(&Netns::lookup(&machine.node.ns))?;
    for (host, port, who) in [
        (1, 8000, Some(0)),
        (127, 8080, Some(0)),
        (128, 8080, Some(1)),
        (254, 8999, Some(1)),
        (254, 9000, None),
        (1, 7999, None),
    ] {
        let came = machine.came_to(&both, host, port)?;
        let whom = came.map_or("nobody".to_owned(), |tenant| format!("tenant {tenant}"));
        println!("198.51.100.{host}:{port} is for {whom}");
        expect("the right tenant", came == who)?;
    }

    // A customer of the red tenant moves, with one address. The longer prefix counts.
    let host = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
    machine.tenants.update(&Network::mapped(host, 32), &1)?;
    expect("it moved", machine.came_to(&both, 7, 8000)? == Some(1))?;
    expect("alone", machine.came_to(&both, 8, 8000)? == Some(0))?;

    // Whoever is gone has no black hole behind it. A closed socket leaves the map, and the fall-back
    // decides.
    drop(blue);
    expect("the map knows", machine.listeners.cookie(&1)?.is_none())?;
    expect("refused", machine.came_to(&[&red], 200, 8000)?.is_none())?;
    expect(
        "the other is well",
        machine.came_to(&[&red], 8, 8000)? == Some(0),
    )?;
    link.detach()?;
    Ok(())
}

/// A new version takes over by one write to the map. Connections of the old one go on: they were looked
/// up once, when they were made.
///
/// That is so for those that the old version has accepted. Who has connected and still waits in the queue of
/// its listener is reset when that is closed: accept them first, or hand the listener itself over, as
/// `steer::handover` does.
fn a_new_version_takes_over(machine: &Machine) -> Checked {
    let (old, new) = (machine.listen()?, machine.listen()?);
    machine.listeners.set(&0, &old)?;
    let _link = machine.prog.attach(&Netns::lookup(&machine.node.ns))?;
    let mut client = machine.connect(1, 8443)?;
    let (mut end, _) = old.accept()?;
    machine.listeners.set(&0, &new)?;
    expect(
        "the new one",
        machine.came_to(&[&old, &new], 1, 8443)? == Some(1),
    )?;
    drop(old);
    client.write_all(b"still here")?;
    let mut bytes = [0; 10];
    end.set_nonblocking(false)?;
    end.set_read_timeout(Some(Duration::from_secs(20)))?;
    end.read_exact(&mut bytes)?;
    expect("the old connection works", &bytes == b"still here")
}

/// Several programs. The first choice stands, unless a later program assigns with
/// `BPF_SK_LOOKUP_F_REPLACE`. And `SK_DROP` is no firewall: it weighs less than a choice, whoever
/// comes first.
fn a_choice_weighs_more_than_a_refusal(machine: &Machine) -> Checked {
    let guard = build("guard", code![ret(SK_DROP)]);
    let to = Netns::lookup(&machine.node.ns);
    let guard = Load::new(&guard).to(&to)?.load()?;
    let red = machine.listen()?;
    let at = SocketAddr::new(OURS.0, 80);
    let bound = machine.node.run(|| TcpListener::bind(at))??;
    bound.set_nonblocking(true)?;
    let both = [&red, &bound];
    machine.listeners.set(&0, &red)?;
    expect("as bound", machine.came_to(&both, 0, 80)? == Some(1))?;

    let _guard = guard.attach(&to)?;
    expect("refused", machine.came_to(&both, 0, 80)?.is_none())?;
    let _link = machine.prog.attach(&to)?;
    expect("chosen", machine.came_to(&both, 1, 8000)? == Some(0))?;
    expect("still refused", machine.came_to(&both, 0, 80)?.is_none())?;
    println!("{} programs in order", to.query()?.progs.len());
    expect("both are there", to.query()?.progs.len() == 2)
}

/// The program above knows its ports when it is built. The library `steer` has one program for all rules, which
/// reads them from maps. A *binding* says which packets are meant: a protocol, a prefix, and ports. A
/// *service* is a name for sockets: a `steer::Label`, which is no label to jump to. They know nothing of each
/// other but the name, so a tenant's rules can be there before its process is, and stay when that restarts.
///
/// Of several bindings that cover a packet, the longest prefix has it; then the fewest ports; then those that
/// begin highest. How does one look into an LPM trie find ranges of ports, which are no prefixes? A range
/// is cut into blocks of powers of two, and a block of 2ⁿ ports *is* a prefix: the first 16 - n bits. The key
/// begins with n and the block, and the address follows. The program looks once for each n that is in use
/// near the port, mostly once or twice, and takes the entry with the highest rank.
///
/// `replace` changes all rules at once, however many: it fills a new trie, and puts it in the place of the
/// old one in a map of maps. A packet that looks it up meanwhile is decided by one of them, never by none.
fn rules_that_change(machine: &Machine) -> Checked {
    let (web, api) = (Label::new("web")?, Label::new("api")?);
    let mut steering = Steering::new(&machine.node.ns)?;
    steering.bind("tcp 198.51.100.0/24 *".parse()?, &web)?;
    steering.bind("tcp 198.51.100.0/24 8000-8999".parse()?, &api)?;
    expect(
        "no socket, no service",
        machine.came_to(&[], 1, 80)?.is_none(),
    )?;

    let (first, second) = (machine.listen()?, machine.listen()?);
    steering.register(&web, &first)?;
    steering.register(&api, &second)?;
    let both = [&first, &second];
    for (port, who) in [
        (1, 0),
        (7999, 0),
        (8000, 1),
        (8999, 1),
        (65535, 0),
    ] {
        let came = machine.came_to(&both, 1, port)?;
        expect("all ports, but some", came == Some(who))?;
    }
    steering.bind("tcp 198.51.100.7/32 *".parse()?, &web)?;
    expect("one address", machine.came_to(&both, 7, 8000)? == Some(0))?;

    // The library refuses sockets to which nothing would ever come, and says what to do.
    let stream = machine.connect(1, 80)?;
    let refused = steering.register(&web, &stream).err().ok_or("registered")?;
    println!("{refused}");
    // That one was for nobody; take it out of the queue.
    drop((stream, first.accept()?));

    // A table of what came in, for each binding.
    let status = steering.status()?;
    print!("{status}");
    expect("one had no socket", status.counts("web").misses == 1)?;

    let changes = steering.replace([Rule::new(
        "tcp 198.51.100.0/25 80".parse()?,
        api,
    )])?;
    println!("{changes:?}");
    expect("the new rule", machine.came_to(&both, 1, 80)? == Some(1))?;
    expect("no old one", machine.came_to(&both, 1, 8000)?.is_none())
}

/// All of it.
///
/// # Errors
/// When the kernel refuses a step, or something is not as the text says.
pub fn run() -> Checked {
    let machine = Machine::new()?;
    an_address_is_taken_once(&machine)?;
    tenants_share_a_port(&machine)?;
    a_new_version_takes_over(&machine)?;
    a_choice_weighs_more_than_a_refusal(&machine)?;
    rules_that_change(&machine)
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
