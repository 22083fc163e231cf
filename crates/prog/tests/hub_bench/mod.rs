//! Machines around one that floods what it receives, and what each of them got.

#![expect(clippy::unwrap_used, reason = "it is part of tests")]

use crate::net_bench::{LIMIT, load_to, value};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::map::lookup_or_zero;
use bpfsmith_gate::deadline;
use bpfsmith_maps::{Map, Target, TargetMap};
use bpfsmith_net::{Address, Device, Feature, IfIndex, Kind, Node, Prefix};
use bpfsmith_prog::target::{TpBtf, Xdp};
use bpfsmith_prog::{Link, Load, Maps, Ports, Prog};
use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU32, Ordering};

/// The payload of the hub's packets, and the frame around it; no other has that length.
const PAYLOAD: usize = 83;
const FRAME: i32 = 14 + 20 + 8 + 83;
/// Where the last byte is, which nobody needs.
const LAST: i32 = FRAME - 1;
const MARK: i32 = 0x5a;

/// Frames that the hub received.
static SEEN: MapDef<u32, u64> = MapDef::array("seen", 1);
/// Frames that hosts received, by host; and those of them that have the mark.
static GOT: MapDef<u32, u64> = MapDef::array("got", 8);
pub(crate) static MARKED: MapDef<u32, u64> = MapDef::array("marked", 8);
/// Frames that left through a device, by its number.
pub(crate) static EGRESS: MapDef<u32, u64> = MapDef::hash("egress", 16);

/// Where the hub's program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Native,
    Generic,
}

/// Does it for frames of the hub alone; leaves their first byte in R6.
fn for_frames(then: Code) -> Code {
    let pass = label("pass");
    code![
        mov(R9, R1),
        load(R6, R1.get(xdp_md::data)),
        load(R7, R1.get(xdp_md::data_end)),
        mov(R2, R7),
        sub(R2, R6),
        jne(R2, FRAME, pass),
        mov(R2, R6),
        add(R2, FRAME),
        jgt(R2, R7, pass),
        then,
        bind(pass),
        ret(XDP_PASS),
    ]
}

pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) index: IfIndex,
    inbox: UdpSocket,
    outbox: UdpSocket,
}

impl Host {
    /// The number of the next packet.
    #[track_caller]
    pub(crate) fn receive(&self) -> u32 {
        let mut packet = [0; PAYLOAD];
        assert_eq!(self.inbox.recv(&mut packet).unwrap(), PAYLOAD);
        u32::from_ne_bytes(*packet.first_chunk().unwrap())
    }
}

pub(crate) struct Hub {
    pub(crate) hosts: Vec<Host>,
    pub(crate) server: Node,
    pub(crate) ports: Vec<IfIndex>,
    pub(crate) maps: Maps,
    way: Way,
    name: u32,
    sent: Cell<u32>,
    counters: OnceCell<(Maps, Vec<(Prog, Link)>)>,
    _links: Vec<Link>,
}

fn host(hub: &Node, number: u8, far_name: &str) -> (Host, IfIndex) {
    let node = Node::new().unwrap();
    let far = Device::new(far_name).netns(&hub.ns);
    let near = Device::new("host0");
    node.net.add_link(&near, &Kind::Veth(far)).unwrap();
    let index = node.net.link("host0").unwrap().index;
    let port = hub.net.link(far_name).unwrap().index;
    let address: Prefix = format!("10.7.0.{number}/24").parse().unwrap();
    node.net.add_address(&Address::new(index, address)).unwrap();
    node.net.set_up(index).unwrap();
    hub.net.set_up(port).unwrap();
    node.net.wait_up(index, LIMIT).unwrap();
    hub.net.wait_up(port, LIMIT).unwrap();
    // A native frame takes no offload along.
    let ethtool = node.ethtool().unwrap();
    ethtool.disable(index, Feature::TX_CHECKSUM).unwrap();
    let bind = |port| {
        let bind = || UdpSocket::bind(("0.0.0.0", port)).unwrap();
        let socket = node.run(bind).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket
    };
    let (inbox, outbox) = (bind(7), bind(9));
    outbox.set_broadcast(true).unwrap();
    let host = Host {
        node,
        index,
        inbox,
        outbox,
    };
    (host, port)
}

static HUBS: AtomicU32 = AtomicU32::new(0);

impl Hub {
    /// So many hosts, and a program that does that with each frame of theirs.
    pub(crate) fn new(hosts: u8, way: Way, to_ports: Code) -> Hub {
        let server = Node::new().unwrap();
        let process = std::process::id() % 10_000;
        let name = process * 100 + HUBS.fetch_add(1, Ordering::Relaxed) % 100;
        let device = |number| format!("h{name:06}p{number}");
        let (hosts, ports): (Vec<_>, Vec<_>) = (0..hosts)
            .map(|number| host(&server, number + 1, &device(number)))
            .unzip();
        let code = for_frames(code![
            kit::map::count_at(&SEEN, 0, 1),
            mov(R1, R9),
            to_ports,
            exit(),
        ]);
        let mut maps = Maps::new();
        maps.add(&egress_program(XDP_PASS)).unwrap();
        let on = |port| match way {
            Way::Native => Xdp::on(port).native(),
            Way::Generic => Xdp::on(port).generic(),
        };
        let prog = load_to(&on(ports[0]), ProgType::XDP, "hub", code, &mut maps);
        let attach = |port: &IfIndex| server.run(|| prog.attach(&on(*port))).unwrap().unwrap();
        let links = ports.iter().map(attach).collect();
        Hub {
            hosts,
            server,
            ports,
            maps,
            way,
            name,
            sent: Cell::new(0),
            counters: OnceCell::new(),
            _links: links,
        }
    }

    /// The name of a port.
    pub(crate) fn device_name(&self, port: usize) -> String {
        format!("h{:06}p{port}", self.name)
    }

    pub(crate) fn ports_of<'a>(&'a self, map: &'a TargetMap<Target>) -> Ports<'a, Target> {
        match self.way {
            Way::Native => Ports::native(map, &self.server.ns),
            Way::Generic => Ports::generic(map, &self.server.ns),
        }
    }

    /// Native programs at the hosts count what comes, and let it pass.
    pub(crate) fn count_at_hosts(&self) {
        let mut maps = Maps::new();
        let attach = |(number, host): (u32, &Host)| {
            let code = for_frames(code![
                kit::map::count_at(&GOT, number, 1),
                load(R2, R6.u8(LAST)),
                R2.eq(MARK)
                    .then(code![kit::map::count_at(&MARKED, number, 1)]),
            ]);
            let on = Xdp::on(host.index).native();
            let prog = load_to(&on, ProgType::XDP, "got", code, &mut maps);
            let link = host.node.run(|| prog.attach(&on)).unwrap().unwrap();
            (prog, link)
        };
        let links = (0..).zip(&self.hosts).map(attach).collect();
        assert!(
            self.counters.set((maps, links)).is_ok(),
            "they count already"
        );
    }

    pub(crate) fn hosts_maps(&self) -> &Maps {
        &self.counters.get().unwrap().0
    }

    /// A host sends to all.
    pub(crate) fn send(&self, host: usize) {
        self.sent.set(self.sent.get() + 1);
        let mut packet = [0; PAYLOAD];
        packet[..4].copy_from_slice(&self.sent.get().to_ne_bytes());
        let outbox = &self.hosts[host].outbox;
        outbox.send_to(&packet, "10.7.0.255:7").unwrap();
    }

    /// Waits until hosts have got so many frames, and not one more.
    #[track_caller]
    pub(crate) fn wait<const N: usize>(&self, counts: [u64; N]) {
        let maps = self.hosts_maps();
        let got = || std::array::from_fn(|host| value(maps, &GOT, u32::try_from(host).unwrap()));
        deadline(LIMIT, || {
            let got: [u64; N] = got();
            let is_enough = got.iter().zip(&counts).all(|(got, count)| got >= count);
            is_enough.then_some(())
        });
        assert_eq!(got(), counts);
    }

    /// Waits until the hub has received so many frames.
    #[track_caller]
    pub(crate) fn wait_seen(&self, count: u64) {
        deadline(LIMIT, || {
            (value(&self.maps, &SEEN, 0) >= count).then_some(())
        });
    }

    /// A program for entries of the map: counts by the device's number, marks, and decides.
    pub(crate) fn egress(&self, verdict: i32) -> Prog {
        let program = egress_program(verdict);
        let load = Load::new(&program).maps(&self.maps);
        let load = load.attach_type(AttachType::XDP_DEVMAP).load();
        load.unwrap_or_else(|error| panic!("{error:#}"))
    }
}

fn egress_program(verdict: i32) -> Program {
    let (none, key) = (label("none"), slot::<u32>("device"));
    let code = for_frames(code![
        load(R2, R9.get(xdp_md::egress_ifindex)),
        store(key.u32(0), R2),
        lookup_or_zero(&EGRESS, key, none),
        mov(R1, 1),
        atomic_add(R0.u64(0), R1),
        bind(none),
        store(R6.u8(LAST), MARK),
        ret(verdict),
    ]);
    Program::new(ProgType::XDP, "egress", code).unwrap_or_else(|report| panic!("{report}"))
}

/// Under an error number how many frames it cost; under 0 how many were sent.
static TOLD: MapDef<u32, u64> = MapDef::hash("told", 64);
static MAP: Global<u32> = Global::rodata("map", 0);
static NAME: Global<u64> = Global::rodata("name", 0);

const FAILED: &str = "xdp_redirect_err";
const SENT: &str = "xdp_devmap_xmit";

/// What the kernel tells of redirections through a map to one device.
pub(crate) struct Told {
    told: Map<u32, u64>,
    _links: [Link; 2],
}

/// Adds R8 to what is told under R7.
fn tell(other: Label) -> Code {
    let key = slot::<u32>("errno");
    code![
        store(key.u32(0), R7),
        lookup_or_zero(&TOLD, key, other),
        atomic_add(R0.u64(0), R8),
    ]
}

fn failed() -> Program {
    let other = label("other");
    let code = code![
        mov(R6, R1),
        ld_global(R3, &MAP),
        load(R3, R3.u32(0)),
        load(R2, args(FAILED).from(R6).get("map_id")),
        jne(R2.low(), R3.low(), other),
        load(R7, args(FAILED).from(R6).get("err")),
        neg(R7.low()),
        mov(R8, 1),
        tell(other),
        bind(other),
        ret(0),
    ];
    Program::new(ProgType::TRACING, "failed", code).unwrap_or_else(|report| panic!("{report}"))
}

fn sent() -> Program {
    let other = label("other");
    let code = code![
        mov(R6, R1),
        load(R2, args(SENT).from(R6).get("to_dev")),
        load(R2, R2.to(kernel("net_device.name")).u64(0)),
        ld_global(R3, &NAME),
        load(R3, R3.u64(0)),
        jne(R2, R3, other),
        load(R8, args(SENT).from(R6).get("sent")),
        mov(R7, 0),
        tell(other),
        load(R7, args(SENT).from(R6).get("err")),
        jeq(R7, 0, other),
        neg(R7.low()),
        load(R8, args(SENT).from(R6).get("drops")),
        tell(other),
        bind(other),
        ret(0),
    ];
    Program::new(ProgType::TRACING, "sent", code).unwrap_or_else(|report| panic!("{report}"))
}

impl Told {
    /// The device's name has at least 8 bytes.
    pub(crate) fn of(ports: &TargetMap<Target>, device: &str) -> Told {
        let name = u64::from_ne_bytes(*device.as_bytes().first_chunk().unwrap());
        let map = ports.info().unwrap().id;
        let (failed, sent) = (failed(), sent());
        let mut maps = Maps::of(&failed).unwrap();
        maps.add(&sent).unwrap();
        let target = TpBtf::named(FAILED);
        let load = Load::new(&failed).maps(&maps).to(&target).unwrap();
        let prog = load.set(&MAP, &map).unwrap().load();
        let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
        let first = prog.attach(&target).unwrap();
        let target = TpBtf::named(SENT);
        let load = Load::new(&sent).maps(&maps).to(&target).unwrap();
        let prog = load.set(&NAME, &name).unwrap().load();
        let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
        Told {
            told: maps.open(&TOLD).unwrap(),
            _links: [first, prog.attach(&target).unwrap()],
        }
    }

    fn all(&self) -> BTreeMap<u32, u64> {
        self.told.iter().map(Result::unwrap).collect()
    }

    /// How many frames were lost, by error.
    pub(crate) fn errors(&self) -> BTreeMap<Errno, u64> {
        let lost = |(errno, count): (u32, u64)| (Errno(i32::try_from(errno).unwrap()), count);
        let all = self.all().into_iter();
        all.filter(|(errno, count)| *errno != 0 && *count > 0)
            .map(lost)
            .collect()
    }

    pub(crate) fn sent(&self) -> u64 {
        self.all().get(&0).copied().unwrap_or(0)
    }
}
