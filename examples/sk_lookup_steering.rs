//! Several services on one port of one address, chosen by who asks; and nobody bound that address.
//! Needs root.
//!
//! Three machines in a row, each a network namespace. The one in the middle takes all of 203.0.113.0/24
//! and 2001:db8:71::/48 for its own. It runs two services over TCP and two over UDP, which listen
//! somewhere else. A program gives what comes from one side to the first service, and what comes from
//! the other side to the second: on any address of these networks, and on one port. Who may come at
//! all stands in a map, which the example changes under way.

use bpfsmith::dsl::*;
use bpfsmith::kit::lookup::{self, End, Fallback, Network};
use bpfsmith::maps::{LpmKey, Map, ObjectMap};
use bpfsmith::net::{Chain, Node, Prefix, Route};
use bpfsmith::prog::target::Netns;
use bpfsmith::prog::{Load, Maps};
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// What the services seem to be bound to.
const PORT: u16 = 53;
const NETWORK4: (Ipv4Addr, u8) = (Ipv4Addr::new(203, 0, 113, 0), 24);
const NETWORK6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2001, 0xdb8, 0x71, 0, 0, 0, 0, 0), 48);

const CTX: Reg = R6;
const ANSWER: Reg = R7;

/// Which service a client belongs to, by the longest prefix of its address.
static TENANTS: MapDef<LpmKey<[u8; 16]>, u32> = MapDef::lpm_trie("tenants", 1024);

/// The sockets of the services: two for each, TCP first.
static SOCKETS: MapDef<u32, u64> = MapDef::new(MapType::SOCKMAP, "sockets", 64);

/// The program.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    let (v6, ours, others) = (label("v6"), label("ours"), label("others"));
    let (tenant, nobody) = (slot::<u32>("tenant"), label("nobody"));
    let code = code![
        mov(CTX, R1),
        lookup::port(CTX, End::Local, PORT..=PORT, R2, others),
        lookup::network(CTX, End::Local, Network::v4(NETWORK4.0, NETWORK4.1), R2, v6),
        ja(ours),
        bind(v6),
        lookup::network(
            CTX,
            End::Local,
            Network::v6(NETWORK6.0, NETWORK6.1),
            R2,
            others
        ),
        bind(ours),
        lookup::find(CTX, End::Remote, &TENANTS, tenant, nobody),
        load(R1, tenant.u32(0)),
        lsh(R1, 1),
        load(R2, CTX.get(bpf_sk_lookup::protocol)),
        R2.eq(IPPROTO_UDP).then(add(R1, 1)),
        store(tenant.u32(0), R1),
        lookup::assign_or(CTX, &SOCKETS, tenant, ANSWER, 0, Fallback::Drop),
        bind(nobody),
        ret(SK_DROP),
        bind(others),
        ret(SK_PASS),
    ];
    Program::new(ProgType::SK_LOOKUP, "steering", code).unwrap_or_else(|report| panic!("{report}"))
}

/// A service: a TCP listener and a UDP socket, both for IPv4 and IPv6, on ports of no importance.
struct Service {
    name: &'static str,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Service {
    fn new(node: &Node, name: &'static str) -> Result<Service, Box<dyn Error>> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let tcp = node.run(|| TcpListener::bind(any))??;
        let udp = node.run(|| UdpSocket::bind(any))??;
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        Ok(Service { name, tcp, udp })
    }
}

/// The machines, the services in the middle, and what the program goes by.
struct World {
    net: Chain,
    services: [Service; 2],
    tenants: Map<LpmKey<[u8; 16]>, u32>,
}

impl World {
    /// Makes the services reachable by the program's maps.
    fn new(maps: &Maps) -> Result<World, Box<dyn Error>> {
        let net = Chain::new()?;
        let middle = &net.proxy.node;
        for (address, bits) in [
            (IpAddr::V4(NETWORK4.0), NETWORK4.1),
            (IpAddr::V6(NETWORK6.0), NETWORK6.1),
        ] {
            let ours = Prefix::new(address, bits)?;
            middle.net.add_route(&Route::local(ours))?;
        }
        // Answers to IPv6 leave from an address that no device has.
        middle.ns.set_sysctl("ipv6/ip_nonlocal_bind", "1")?;
        // Each datagram to nobody is to be answered by an error, however many there are.
        middle.ns.set_sysctl("ipv4/icmp_ratelimit", "0")?;
        middle.ns.set_sysctl("ipv6/icmp/ratelimit", "0")?;
        let services = [
            Service::new(middle, "gold")?,
            Service::new(middle, "silver")?,
        ];
        let sockets: ObjectMap<u32, u64> = maps.open(&SOCKETS)?;
        for (service, first) in services.iter().zip([0, 2]) {
            sockets.set(&first, &service.tcp)?;
            sockets.set(&(first + 1), &service.udp)?;
        }
        let tenants = maps.open(&TENANTS)?;
        Ok(World {
            net,
            services,
            tenants,
        })
    }

    /// Whoever is in this network, belongs to a service from now on.
    fn place(&self, address: IpAddr, bits: u32, service: u32) -> Result<(), Box<dyn Error>> {
        self.tenants
            .update(&LpmKey::mapped(address, bits), &service)?;
        Ok(())
    }

    /// Connects from a machine to an address, and returns who accepted.
    fn connect(&self, from: &Node, to: SocketAddr) -> Result<Option<&'static str>, Box<dyn Error>> {
        let client = match from.run(|| TcpStream::connect(to))? {
            Ok(client) => client,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (service, (end, from)) = wait(|| self.first(|service| service.tcp.accept()))?;
        // To the service it looks as if it had listened there.
        let ends = (canonical(end.local_addr()?), canonical(from));
        if ends != (to, client.local_addr()?) {
            return Err(format!("{} accepted {ends:?}, not {client:?}", service.name).into());
        }
        Ok(Some(service.name))
    }

    /// Asks over UDP, and returns who answered.
    fn ask(&self, from: &Node, to: SocketAddr) -> Result<Option<&'static str>, Box<dyn Error>> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let client = from.run(|| UdpSocket::bind((any, 0)))??;
        client.set_nonblocking(true)?;
        // From now on it takes answers from there alone, and is told of refusals.
        client.connect(to)?;
        client.send(b"who?")?;
        let mut bytes = [0; 16];
        let asked = wait(|| match ready(client.recv(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Some(None)),
            Err(error) => Err(error),
            Ok(_) => {
                let asked = self.first(|service| service.udp.recv_from(&mut [0; 16]))?;
                Ok(asked.map(Some))
            }
        })?;
        let Some((service, (_, asker))) = asked else {
            return Ok(None);
        };
        // It is an answer only if it comes from where the question went.
        let answer = self.net.proxy.run(|| UdpSocket::bind(to))??;
        answer.send_to(service.name.as_bytes(), canonical(asker))?;
        let read = wait(|| ready(client.recv(&mut bytes)))?;
        if bytes.get(..read) != Some(service.name.as_bytes()) {
            return Err(format!("not the answer of {}", service.name).into());
        }
        Ok(Some(service.name))
    }

    /// The first service that has something.
    fn first<T>(
        &self,
        take: impl Fn(&Service) -> io::Result<T>,
    ) -> io::Result<Option<(&Service, T)>> {
        for service in &self.services {
            if let Some(taken) = ready(take(service))? {
                return Ok(Some((service, taken)));
            }
        }
        Ok(None)
    }

    /// Both protocols, to several addresses of both networks.
    fn expect(&self, who: &str, from: &Node, service: Option<&str>) -> Result<(), Box<dyn Error>> {
        let [a, b, c, ..] = NETWORK6.0.segments();
        for n in [1, 77, 254] {
            let four = Ipv4Addr::from_bits(NETWORK4.0.to_bits() | u32::from(n));
            let six = Ipv6Addr::new(a, b, c, n, 0, 0, 0, n);
            for address in [IpAddr::V4(four), IpAddr::V6(six)] {
                let to = SocketAddr::new(address, PORT);
                let came_to = [
                    self.connect(from, to)?,
                    self.ask(from, to)?,
                ];
                let name = |name: Option<&'static str>| name.unwrap_or("nobody");
                println!(
                    "{who:<6} {to:<24} TCP {:<8} UDP {}",
                    name(came_to[0]),
                    name(came_to[1])
                );
                if came_to != [service; 2] {
                    return Err(format!("{who} came to {came_to:?}, not {service:?}").into());
                }
            }
        }
        Ok(())
    }
}

/// Nothing, if nothing is there yet.
fn ready<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks until something is there.
fn wait<T>(mut ask: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match ask()? {
            Some(value) => return Ok(value),
            None if Instant::now() > end => return Err(io::ErrorKind::TimedOut.into()),
            None => std::thread::yield_now(),
        }
    }
}

/// A socket for both families sees IPv4 addresses as IPv6 ones.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Attaches the program, and asks from everywhere who is there.
///
/// # Errors
/// When a step is refused, or somebody came to the wrong service.
pub fn run() -> Result<(), Box<dyn Error>> {
    let program = program();
    let maps = Maps::of(&program)?;
    let world = World::new(&maps)?;
    let (left, right) = (&world.net.client, &world.net.server);
    let middle = &world.net.proxy.node;
    let hook = Netns::lookup(&middle.ns);
    let prog = Load::new(&program).maps(&maps).to(&hook)?.load()?;

    world.expect("left", &left.node, None)?;
    let link = prog.attach(&hook)?;
    world.expect("left", &left.node, None)?;

    // The left machine alone, the right one with its whole network.
    world.place(left.v4().into(), 32, 0)?;
    world.place(left.v6().into(), 128, 0)?;
    world.place(right.v4().into(), 24, 1)?;
    world.place(right.v6().into(), 64, 1)?;
    world.expect("left", &left.node, Some("gold"))?;
    world.expect("right", &right.node, Some("silver"))?;

    // Nothing is loaded or bound again for this: the longer prefix counts.
    println!("the right one moves");
    world.place(right.v4().into(), 32, 0)?;
    world.place(right.v6().into(), 128, 0)?;
    world.expect("right", &right.node, Some("gold"))?;
    world.expect("left", &left.node, Some("gold"))?;
    link.detach()?;
    world.expect("left", &left.node, None)
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
