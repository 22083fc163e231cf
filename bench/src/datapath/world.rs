//! A machine between a client and a server, its configuration, and the flows that it knows.

use super::packet::{Frame, Transport};
use super::rows::{Row, Work};
use bpfsmith_asm::dsl::*;
use bpfsmith_datapath::clock::Clock;
use bpfsmith_datapath::config::{
    Algorithm, Backend, BackendId, Config, Family, Group, GroupId, Listener, Member, Mode,
    Protocol, Room,
};
use bpfsmith_datapath::flows::Flows;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::layout::{Bucket4, Bucket6, Flow4, Key4};
use bpfsmith_datapath::programs::{Hook, Usual, program_with};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::{Path, Shape};
use bpfsmith_net::{Chain, Neighbour, Prefix, Route};
use bpfsmith_prog::{Load, Prog};
use bpfsmith_uapi::AttachType;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Flows are so many ticks of the kernel old before their next hop is asked for again, as a power of
/// two: longer than any measurement.
pub const SHIFT: u32 = 30;

/// The listener's port whose backends see the client's address.
pub const DNAT: u16 = 80;
/// The one whose backends see the proxy's.
pub const FULL_NAT: u16 = 81;
/// Where the backend listens.
pub const BACKEND: u16 = 8080;
/// The client's port.
pub const CLIENT: u16 = 20_000;

/// The client, without the bits that tell many of them apart.
pub const CLIENT4: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
/// The same of IPv6.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);

/// The machine.
#[derive(Debug)]
pub struct World {
    net: Chain,
    generation: Generation,
    shape: Shape,
}

impl World {
    /// With room for so many established flows of each kind.
    ///
    /// # Panics
    /// Without root, or on a kernel that lacks something.
    #[must_use]
    pub fn new(flows: u32) -> World {
        let net = Chain::new().expect("root, and a kernel with namespaces and veth");
        route(&net);
        let config = config(&net, flows);
        let generation = Generation::first(&config).expect("a configuration");
        let mut shape = generation.shape().clone();
        shape.clock = Clock::new(1 << SHIFT);
        let world = World {
            net,
            generation,
            shape,
        };
        world.establish();
        world
    }

    /// The namespaces.
    #[must_use]
    pub const fn net(&self) -> &Chain {
        &self.net
    }

    /// What is configured.
    #[must_use]
    pub const fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The generated program behind what a row has before it.
    ///
    /// # Panics
    /// If the kernel refuses it.
    #[must_use]
    pub fn load(&self, hook: Hook, row: &Row) -> Prog {
        let prelude = row.restore.as_ref().map(|restore| restore.code(hook));
        let prelude = code![prelude];
        let program = match row.work {
            Work::Nothing => {
                let pass = match hook {
                    Hook::Xdp => XDP_PASS,
                    _ => TCX_NEXT,
                };
                let code = code![mov(R6, R1), prelude, ret(pass)];
                Program::new(hook.prog_type(), "nothing", code).expect("a program")
            }
            Work::Datapath => {
                program_with(prelude, hook, Usual::Device, &self.shape).expect("a program")
            }
        };
        let load = Load::new(&program).maps(self.generation.maps());
        let load = match hook {
            Hook::Xdp => load.attach_type(AttachType::XDP).frags(),
            _ => load.attach_type(AttachType::TCX_INGRESS),
        };
        load.load().unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs something in the namespace of the proxy.
    ///
    /// # Panics
    /// If that cannot be entered.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        self.net.proxy.run(body).expect("a namespace")
    }

    /// What the generated programs contain.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What became of packets so far.
    ///
    /// # Panics
    /// If the counters cannot be read.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<Reason, u64> {
        self.generation.counters().expect("counters")
    }

    /// The addresses of a listener.
    #[must_use]
    pub fn listener(&self, v4: bool, port: u16) -> SocketAddr {
        let left = &self.net.proxy.left;
        let ip: IpAddr = if v4 { left.v4.into() } else { left.v6.into() };
        SocketAddr::new(ip, port)
    }

    /// The address of the backend.
    #[must_use]
    pub fn backend(&self, v4: bool) -> SocketAddr {
        let server = &self.net.server;
        let ip: IpAddr = match v4 {
            true => server.v4().into(),
            false => server.v6().into(),
        };
        SocketAddr::new(ip, BACKEND)
    }

    /// The proxy's own address towards the backend.
    #[must_use]
    pub fn source(&self, v4: bool) -> IpAddr {
        let right = &self.net.proxy.right;
        if v4 { right.v4.into() } else { right.v6.into() }
    }

    /// A flow of each kind, established as packets do it.
    fn establish(&self) {
        let row = Row::plain();
        let prog = self.load(Hook::Xdp, &row);
        for v4 in [true, false] {
            for port in [DNAT, FULL_NAT] {
                for transport in [Transport::Tcp(0x02), Transport::Udp] {
                    let to = self.listener(v4, port);
                    let frame = Frame::new(client(v4, CLIENT), to, transport);
                    let forth = self.send(&prog, &frame, port);
                    let transport = match transport {
                        Transport::Tcp(_) => Transport::Tcp(0x12),
                        Transport::Udp => Transport::Udp,
                    };
                    let from = self.backend(v4);
                    let answer = Frame::new(from, self.seen_client(v4, &forth), transport);
                    self.send(&prog, &answer, port);
                    // The client says that it has seen the answer.
                    if let Transport::Tcp(_) = transport {
                        let frame = Frame::new(client(v4, CLIENT), to, Transport::Tcp(0x10));
                        self.send(&prog, &frame, port);
                    }
                }
            }
        }
    }

    /// Where the backend sees a packet come from.
    fn seen_client(&self, v4: bool, forth: &Frame) -> SocketAddr {
        let bytes = forth.bytes();
        let at = usize::try_from(forth.l4()).expect("a place");
        let port = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let ip: IpAddr = if v4 {
            let ip: [u8; 4] = bytes[26..30].try_into().expect("four bytes");
            ip.into()
        } else {
            let ip: [u8; 16] = bytes[22..38].try_into().expect("sixteen bytes");
            ip.into()
        };
        SocketAddr::new(ip, port)
    }

    fn send(&self, prog: &Prog, frame: &Frame, port: u16) -> Frame {
        let run = || prog.run().data(frame.bytes()).go().expect("a run");
        let outcome = self.run(run);
        let counters = self.counters();
        assert_eq!(
            outcome.xdp(),
            XdpAction::REDIRECT,
            "{frame:?} to port {port}: {counters:?}"
        );
        frame.after(outcome.data)
    }

    /// The flows with IPv4 that there are.
    ///
    /// # Panics
    /// If the table cannot be read.
    #[must_use]
    pub fn known(&self, protocol: Protocol) -> Flows<Bucket4> {
        Flows::read(self.generation.maps(), v4(protocol)).expect("the table of flows")
    }

    /// Those, and flows of so many clients all like the one that is established, become the ones that there
    /// are.
    ///
    /// # Panics
    /// If there is no room, or the table cannot be written.
    pub fn populate(&self, protocol: Protocol, known: &Flows<Bucket4>, clients: u32) {
        let to = self.listener(true, DNAT);
        let back = self.backend(true);
        let key = |from: SocketAddr, to: SocketAddr| Key4 {
            saddr: octets(from),
            daddr: octets(to),
            ports: ports(from, to),
        };
        let first = client(true, CLIENT);
        let forward = known.find(&key(first, to)).expect("an established flow");
        let answer = known.find(&key(back, first)).expect("its answers");
        let mut flows = known.clone();
        for number in 1..clients {
            let ip = Ipv4Addr::from_bits(CLIENT4.to_bits() | number);
            let from = SocketAddr::new(ip.into(), CLIENT);
            let saddr = octets(from);
            let forward = Flow4 { saddr, ..forward };
            let answer = Flow4 {
                daddr: saddr,
                ..answer
            };
            // One of tens of thousands finds its buckets full, and is sent on as a new one.
            if flows.enter(&key(from, to), &forward) && !flows.enter(&key(back, from), &answer) {
                flows.erase(&key(from, to));
            }
        }
        self.put(protocol, &flows);
    }

    /// These become the flows with IPv4 that there are.
    ///
    /// # Panics
    /// If the table cannot be written.
    pub fn put(&self, protocol: Protocol, flows: &Flows<Bucket4>) {
        let maps = self.generation.maps();
        flows.write(maps, v4(protocol)).expect("the table of flows");
    }
}

const fn v4(protocol: Protocol) -> Path {
    Path::new(Family::V4, protocol)
}

/// Bytes that a flow takes in the kernel when the table has as many as it promises room for: its
/// part of the buckets.
#[must_use]
pub fn flow_bytes(v4: bool, room: Room) -> u64 {
    let (family, bucket) = match v4 {
        true => (Family::V4, size_of::<Bucket4>()),
        false => (Family::V6, size_of::<Bucket6>()),
    };
    let table = Path::new(family, Protocol::Tcp).flows(room);
    u64::from(table.entries) * bucket as u64 / u64::from(room.flows.max(1))
}

/// A client.
#[must_use]
pub fn client(v4: bool, port: u16) -> SocketAddr {
    let ip: IpAddr = if v4 { CLIENT4.into() } else { CLIENT6.into() };
    SocketAddr::new(ip, port)
}

fn octets(address: SocketAddr) -> [u8; 4] {
    match address.ip() {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => panic!("{ip} is not IPv4"),
    }
}

fn ports(from: SocketAddr, to: SocketAddr) -> [u8; 4] {
    let ([a, b], [c, d]) = (from.port().to_be_bytes(), to.port().to_be_bytes());
    [a, b, c, d]
}

/// Ways to all clients and to the server, with neighbours that nobody asks for.
fn route(net: &Chain) {
    let proxy = &net.proxy.node;
    let clients = Prefix::new(CLIENT4.into(), 9).expect("a prefix");
    let gateway = IpAddr::V4(net.client.v4());
    let add = |route: &Route| proxy.net.add_route(route).expect("a route");
    add(&Route::to(clients).via(gateway));
    for (index, host) in [
        (net.proxy.left.index, &net.client),
        (net.proxy.right.index, &net.server),
    ] {
        for ip in [
            IpAddr::V4(host.v4()),
            IpAddr::V6(host.v6()),
        ] {
            let neighbour = Neighbour::permanent(index, ip, host.port.mac);
            proxy.net.add_neighbour(&neighbour).expect("a neighbour");
        }
    }
    // Where test runs seem to come from.
    for name in [
        "ipv4/conf/lo/forwarding",
        "ipv6/conf/lo/forwarding",
    ] {
        proxy.ns.set_sysctl(name, "1").expect("a setting");
    }
}

fn config(net: &Chain, flows: u32) -> Config {
    let (left, right) = (&net.proxy.left, &net.proxy.right);
    let mut config = Config {
        sources: vec![right.v4.into(), right.v6.into()],
        room: Room {
            flows,
            ..Room::default()
        },
        ..Config::default()
    };
    let families: [(IpAddr, IpAddr); 2] = [
        (left.v4.into(), net.server.v4().into()),
        (left.v6.into(), net.server.v6().into()),
    ];
    let mut number = 0;
    for (family, (listen, backend)) in families.into_iter().enumerate() {
        let id = BackendId(u16::try_from(family).expect("a few"));
        config.backends.push(Backend {
            id,
            address: SocketAddr::new(backend, BACKEND),
        });
        for (port, mode) in [
            (DNAT, Mode::Dnat),
            (FULL_NAT, Mode::FullNat),
        ] {
            let group = GroupId(u32::try_from(config.groups.len()).expect("a few"));
            config.groups.push(Group {
                algorithm: Algorithm::Maglev,
                mode,
                members: vec![Member {
                    backend: id,
                    weight: 1,
                }],
            });
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                config.listeners.push(Listener {
                    number,
                    devices: Vec::new(),
                    address: SocketAddr::new(listen, port),
                    protocol,
                    routes: Vec::new(),
                    group,
                });
                number += 1;
            }
        }
    }
    config
}
