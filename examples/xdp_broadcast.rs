//! A hub: what one machine sends to all, XDP hands to all others, before the network stack sees it.
//! Needs root.
//!
//! The ports of the hub are the entries of a device map, each with a second program, which runs
//! before a copy leaves through that port and counts there. Nothing here forwards but the program: the
//! hub has no bridge and no route.
//!
//! A cable between namespaces takes redirected frames only if its far end is prepared. At first it
//! is not, and you see what [`Ports`] says to that: the kernel itself would take the entry and drop
//! every copy without a word.

use bpfsmith::dsl::*;
use bpfsmith::kit::map::lookup_or_zero;
use bpfsmith::kit::redirect::{self, Ingress};
use bpfsmith::maps::{Map, Target, TargetMap};
use bpfsmith::net::{Address, Device, Feature, IfIndex, Kind, NetDev, Node, Prefix};
use bpfsmith::prog::target::Xdp;
use bpfsmith::prog::{Link, Load, Maps, Ports, Prog};
use std::error::Error;
use std::net::UdpSocket;
use std::time::Duration;

type Done<T> = Result<T, Box<dyn Error>>;

const HOSTS: u8 = 4;
const ROUNDS: u64 = 25;
const PORT: u16 = 7785;
const UP: Duration = Duration::from_secs(20);

/// The devices that frames are copied to.
static PORTS: MapDef<u32, Target> = MapDef::new(MapType::DEVMAP_HASH, "ports", 16);
/// How many frames left, by the number of the device.
static LEFT: MapDef<u32, u64> = MapDef::hash("left", 16);

/// Goes to `other` unless the frame is IPv4, which is all that the hub floods.
fn is_ipv4(other: Label) -> Code {
    code![
        load(R6, R1.get(xdp_md::data)),
        load(R7, R1.get(xdp_md::data_end)),
        mov(R2, R6),
        add(R2, eth::SIZE),
        jgt(R2, R7, other),
        load(R2, R6.get(eth::proto)),
        jne(R2, be16(ETH_P_IP), other),
    ]
}

/// The program on every port: to all others.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    let pass = label("pass");
    let code = code![
        is_ipv4(pass),
        redirect::broadcast(&PORTS, Ingress::Excluded),
        exit(),
        bind(pass),
        ret(XDP_PASS),
    ];
    Program::new(ProgType::XDP, "hub", code).unwrap_or_else(|report| panic!("{report}"))
}

/// The program of each entry: it counts where the copy leaves.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn leaving() -> Program {
    let (pass, key) = (label("pass"), slot::<u32>("device"));
    let code = code![
        load(R2, R1.get(xdp_md::egress_ifindex)),
        store(key.u32(0), R2),
        lookup_or_zero(&LEFT, key, pass),
        mov(R1, 1),
        atomic_add(R0.u64(0), R1),
        bind(pass),
        ret(XDP_PASS),
    ];
    Program::new(ProgType::XDP, "leaving", code).unwrap_or_else(|report| panic!("{report}"))
}

/// A machine on a cable to the hub.
struct Host {
    node: Node,
    index: IfIndex,
    /// The hub's end of the cable.
    port: IfIndex,
    inbox: UdpSocket,
    outbox: UdpSocket,
}

impl Host {
    fn new(hub: &Node, number: u8) -> Done<Host> {
        let (node, far) = (Node::new()?, format!("port{number}"));
        let peer = Device::new(&far).netns(&hub.ns);
        node.net
            .add_link(&Device::new("host0"), &Kind::Veth(peer))?;
        let index = node.net.link("host0")?.index;
        let port = hub.net.link(&far)?.index;
        let address: Prefix = format!("10.8.0.{number}/24").parse()?;
        node.net.add_address(&Address::new(index, address))?;
        node.net.set_up(index)?;
        hub.net.set_up(port)?;
        node.net.wait_up(index, UP)?;
        hub.net.wait_up(port, UP)?;
        // A redirected frame takes no offload along: checksums are computed before it leaves.
        node.ethtool()?.disable(index, Feature::TX_CHECKSUM)?;
        let open = |port| node.run(|| UdpSocket::bind(("0.0.0.0", port)));
        let (inbox, outbox) = (open(PORT)??, open(PORT + 1)??);
        inbox.set_read_timeout(Some(Duration::from_secs(20)))?;
        outbox.set_broadcast(true)?;
        Ok(Host {
            node,
            index,
            port,
            inbox,
            outbox,
        })
    }

    fn send(&self, number: u64) -> Done<()> {
        self.outbox
            .send_to(&number.to_ne_bytes(), ("10.8.0.255", PORT))?;
        Ok(())
    }

    fn receive(&self) -> Done<u64> {
        let mut packet = [0; 8];
        self.inbox.recv(&mut packet)?;
        Ok(u64::from_ne_bytes(packet))
    }
}

fn check(holds: bool, what: &str) -> Done<()> {
    match holds {
        true => Ok(()),
        false => Err(what.into()),
    }
}

/// The hub with its program on each port.
fn attach(hub: &Node, hosts: &[Host]) -> Done<(Maps, Prog, Vec<Link>)> {
    let (program, leaving) = (program(), leaving());
    let mut maps = Maps::of(&program)?;
    maps.add(&leaving)?;
    let prog = Load::new(&program).maps(&maps).load()?;
    let load = Load::new(&leaving).maps(&maps);
    let leaving = load.attach_type(AttachType::XDP_DEVMAP).load()?;
    let mut links = Vec::new();
    for host in hosts {
        let on = Xdp::on(host.port).native();
        links.push(hub.run(|| prog.attach(&on))??);
    }
    Ok((maps, leaving, links))
}

/// Prepares the far ends as the advice says, after a look at it.
fn prepare(ports: &Ports<'_, Target>, hosts: &[Host], leaving: &Prog) -> Done<()> {
    let first = &hosts[0];
    match (ports.set_with(0, first.port, leaving), NetDev::open()) {
        (Err(error), Ok(_)) => println!("refused:  {error}"),
        (Ok(asked), Err(_)) => println!("{asked:?}: this kernel does not tell"),
        (done, _) => return Err(format!("a port was {done:?}").into()),
    }
    for host in hosts {
        let ethtool = host.node.ethtool()?;
        ethtool.enable(host.index, Feature::GRO)?;
    }
    println!("prepared: GRO is on at the far ends");
    for (key, host) in (0..).zip(hosts) {
        ports.set_with(key, host.port, leaving)?;
    }
    Ok(())
}

/// Sends from each host, and compares what the others got.
///
/// # Errors
/// When a step is refused, or a packet is where it should not be.
pub fn run() -> Done<()> {
    let hub = Node::new()?;
    let hosts = (1..=HOSTS).map(|number| Host::new(&hub, number));
    let hosts = hosts.collect::<Done<Vec<_>>>()?;
    let (maps, leaving, _links) = attach(&hub, &hosts)?;
    let entries: TargetMap<Target> = maps.open(&PORTS)?;
    let ports = Ports::native(&entries, &hub.ns);
    prepare(&ports, &hosts, &leaving)?;

    let left: Map<u32, u64> = maps.open(&LEFT)?;
    let mut expected = vec![0; hosts.len()];
    for sender in 0..hosts.len() {
        for number in 0..ROUNDS {
            hosts[sender].send(number)?;
            // The network stack of the sender hands it its own, once: nothing of it comes back.
            for host in &hosts {
                check(host.receive()? == number, "a packet was lost")?;
            }
        }
        for (host, expected) in expected.iter_mut().enumerate() {
            *expected += if host == sender { 0 } else { ROUNDS };
        }
        let counts = hosts.iter().map(|host| left.lookup(&host.port.0));
        let counts = counts.map(|count| Ok(count?.unwrap_or(0)));
        let counts = counts.collect::<Done<Vec<u64>>>()?;
        println!("host {} sent {ROUNDS}: left by port {counts:?}", sender + 1);
        check(counts == expected, "a copy left where it should not")?;
    }

    // A port that is taken out of the map gets nothing.
    check(entries.delete(3)?, "the port was not in the map")?;
    hosts[0].send(ROUNDS)?;
    for host in &hosts[..3] {
        check(host.receive()? == ROUNDS, "a packet was lost")?;
    }
    let last = left.lookup(&hosts[3].port.0)?.unwrap_or(0);
    check(last == expected[3], "a copy left through no port")?;
    for host in &hosts {
        host.inbox.set_nonblocking(true)?;
        check(host.receive().is_err(), "somebody got too much")?;
    }
    println!("port 4 was taken out: nothing left there");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
