//! A cable whose server end sends the bench's packets to XDP sockets.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "it is part of tests")]

use crate::net_bench::{LIMIT, load_to, value};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::map::lookup_or_zero;
use bpfsmith_asm::kit::redirect::{self, Otherwise};
use bpfsmith_gate::{Need, State, deadline};
use bpfsmith_maps::{Map, ObjectMap};
use bpfsmith_net::{Address, Device, IfIndex, Kind, Netlink, Node, Prefix};
use bpfsmith_prog::target::{TpBtf, Xdp};
use bpfsmith_prog::{Link, Load, Maps, Prog};
use bpfsmith_sys::xsk::{Error, Plan, Socket, Statistics, Umem};
use std::net::UdpSocket;

/// Ethernet, IPv4, UDP.
pub(crate) const HEADERS: usize = 14 + 20 + 8;

static SOCKETS: MapDef<u32, u32> = MapDef::new(MapType::XSKMAP, "sockets", 8);
static SEEN: MapDef<u32, u64> = MapDef::array("seen", 1);

/// The payload of a packet: its number, and bytes that follow from it, of many lengths.
pub(crate) fn content(number: u32) -> Vec<u8> {
    let len = 64 + (number % 700) as usize;
    let mut bytes = number.to_ne_bytes().to_vec();
    let mut state = number | 1;
    while bytes.len() < len {
        state = state.wrapping_mul(0x9e37_79b1).rotate_left(7);
        bytes.extend(state.to_ne_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// What a frame carries behind its headers.
#[track_caller]
pub(crate) fn payload_of(frame: &[u8]) -> &[u8] {
    assert_eq!(frame[12..14], [8, 0]);
    assert_eq!(frame[23], 17);
    let len = usize::from(u16::from_be_bytes([frame[38], frame[39]]));
    &frame[HEADERS..34 + len]
}

/// Sender and receiver change places, in each header.
pub(crate) fn turn_around(frame: &mut [u8]) {
    frame[..12].rotate_left(6);
    frame[26..34].rotate_left(4);
    frame[34..38].rotate_left(2);
    frame[40..42].fill(0);
}

/// What a socket lost. How often it had nothing to send is no loss.
pub(crate) fn lost(socket: &Socket) -> Statistics {
    let statistics = socket.statistics().unwrap();
    Statistics {
        receive_full: statistics.receive_full.filter(|count| *count > 0),
        fill_empty: None,
        send_empty: None,
        ..statistics
    }
}

/// UDP to port 7 goes to the socket of its queue; what has none passes. Counts them.
fn program() -> Code {
    let pass = label("pass");
    code![
        mov(R9, R1),
        load(R6, R1.get(xdp_md::data)),
        load(R7, R1.get(xdp_md::data_end)),
        mov(R2, R6),
        add(R2, i32::try_from(HEADERS).unwrap()),
        jgt(R2, R7, pass),
        load(R2, R6.u16(12)),
        jne(R2, be16(ETH_P_IP), pass),
        load(R2, R6.u8(23)),
        jne(R2, IPPROTO_UDP, pass),
        load(R2, R6.u16(36)),
        jne(R2, be16(7), pass),
        kit::map::count_at(&SEEN, 0, 1),
        // All to one entry, so that the tests say which socket it is.
        redirect::to_map(&SOCKETS, 0, Otherwise::Pass),
        exit(),
        bind(pass),
        ret(XDP_PASS),
    ]
}

pub(crate) struct XskBench {
    _client: Node,
    server: Node,
    index: IfIndex,
    maps: Maps,
    inbox: UdpSocket,
    outbox: UdpSocket,
    macs: [[u8; 6]; 2],
    _prog: Prog,
    _link: Link,
}

fn end(node: &Node, name: &str, address: &str) -> IfIndex {
    let index = node.net.link(name).unwrap().index;
    let prefix: Prefix = address.parse().unwrap();
    node.net.add_address(&Address::new(index, prefix)).unwrap();
    node.net.set_up(index).unwrap();
    index
}

impl XskBench {
    pub(crate) fn new() -> XskBench {
        XskBench::of_queues(1)
    }

    /// The device of the server has so many queues; that of the client sends on one.
    pub(crate) fn of_queues(queues: u32) -> XskBench {
        let (client, server) = (Node::new().unwrap(), Node::new().unwrap());
        let near = Device::new("server0").queues(queues).netns(&server.ns);
        let far = Device::new("client0").queues(1);
        client.net.add_link(&far, &Kind::Veth(near)).unwrap();
        let far = end(&client, "client0", "10.0.0.2/24");
        let index = end(&server, "server0", "10.0.0.1/24");
        client.net.wait_up(far, LIMIT).unwrap();
        server.net.wait_up(index, LIMIT).unwrap();
        let bind = |node: &Node, address: &'static str| {
            let bind = || UdpSocket::bind(address).unwrap();
            let socket = node.run(bind).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let inbox = bind(&server, "10.0.0.1:7");
        let outbox = bind(&client, "10.0.0.2:9");
        outbox.connect("10.0.0.1:7").unwrap();
        let macs = [(&client, far), (&server, index)]
            .map(|(node, index)| node.net.link_at(index).unwrap().mac.unwrap().0);
        let mut maps = Maps::new();
        let on = Xdp::on(index).native();
        let prog = load_to(&on, ProgType::XDP, "to_sockets", program(), &mut maps);
        let link = server.run(|| prog.attach(&on)).unwrap().unwrap();
        let bench = XskBench {
            _client: client,
            server,
            index,
            maps,
            inbox,
            outbox,
            macs,
            _prog: prog,
            _link: link,
        };
        bench.check_passes(0);
        bench
    }

    pub(crate) fn device(&self) -> u32 {
        self.index.0
    }

    pub(crate) fn index(&self) -> IfIndex {
        self.index
    }

    pub(crate) fn server_net(&self) -> &Netlink {
        &self.server.net
    }

    pub(crate) fn plan(&self) -> Plan<'static> {
        Plan::new(self.device(), 0)
    }

    pub(crate) fn try_open(&self, plan: &Plan<'_>, umem: &Umem) -> Result<Socket, Error> {
        self.server.run(|| plan.open(umem)).unwrap()
    }

    #[track_caller]
    pub(crate) fn open(&self, plan: &Plan<'_>, umem: &Umem) -> Socket {
        // The kernel lets go of a queue a moment after its last socket was closed.
        deadline(LIMIT, || match self.try_open(plan, umem) {
            Ok(socket) => Some(socket),
            Err(error) if error.errno == Errno::EBUSY => None,
            Err(error) => panic!("{error}"),
        })
    }

    pub(crate) fn sockets(&self) -> ObjectMap<u32> {
        self.maps.open(&SOCKETS).unwrap()
    }

    pub(crate) fn connect(&self, key: u32, socket: &Socket) {
        self.sockets().set(&key, socket).unwrap();
    }

    pub(crate) fn send(&self, number: u32) {
        self.send_bytes(&content(number));
    }

    pub(crate) fn send_bytes(&self, payload: &[u8]) {
        assert_eq!(self.outbox.send(payload).unwrap(), payload.len());
    }

    fn received(socket: &UdpSocket) -> Option<Vec<u8>> {
        let mut packet = [0; 2048];
        match socket.recv(&mut packet) {
            Ok(len) => Some(packet[..len].to_vec()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn receive_at_client(&self) -> Option<Vec<u8>> {
        XskBench::received(&self.outbox)
    }

    pub(crate) fn receive_at_server(&self) -> Option<Vec<u8>> {
        XskBench::received(&self.inbox)
    }

    /// A packet goes through the network stack.
    #[track_caller]
    pub(crate) fn check_passes(&self, number: u32) {
        self.send(number);
        let packet = deadline(LIMIT, || self.receive_at_server());
        assert_eq!(packet, content(number));
    }

    /// A packet goes to the socket.
    #[track_caller]
    pub(crate) fn check_taken(&self, socket: &mut Socket, number: u32) {
        self.send(number);
        let mut frames = Vec::new();
        deadline(LIMIT, || {
            (socket.receive(&mut frames, 8).unwrap() == 1).then_some(())
        });
        assert_eq!(payload_of(&frames[0]), content(number));
        assert!(self.receive_at_server().is_none(), "it passed as well");
    }

    /// Waits until the program has seen so many packets more than the first one.
    pub(crate) fn wait_packets(&self, count: u64) {
        deadline(LIMIT, || {
            (value(&self.maps, &SEEN, 0) > count).then_some(())
        });
    }

    /// The headers of a packet from the server to the client's socket.
    pub(crate) fn headers_to_client(&self, payload: usize) -> [u8; HEADERS] {
        let len = u16::try_from(payload).unwrap();
        let mut headers = [0; HEADERS];
        headers[..6].copy_from_slice(&self.macs[0]);
        headers[6..12].copy_from_slice(&self.macs[1]);
        headers[12..14].copy_from_slice(&[8, 0]);
        headers[14] = 0x45;
        headers[16..18].copy_from_slice(&(20 + 8 + len).to_be_bytes());
        headers[22..24].copy_from_slice(&[64, 17]);
        headers[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let sum: u32 = headers[14..34]
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        headers[24..26].copy_from_slice(&(!folded).to_be_bytes());
        headers[34..36].copy_from_slice(&7_u16.to_be_bytes());
        headers[36..38].copy_from_slice(&9_u16.to_be_bytes());
        headers[38..40].copy_from_slice(&(8 + len).to_be_bytes());
        headers
    }

    /// Counts redirections to this map that fail, where the kernel tells.
    pub(crate) fn redirect_errors(&self) -> Option<RedirectErrors> {
        (Need::TpBtf.state() == State::Here).then(|| RedirectErrors::of(&self.sockets()))
    }
}

static BY_ERROR: MapDef<u32, u64> = MapDef::hash("by_error", 64);
static MAP: Global<u32> = Global::rodata("map", 0);
const EVENT: &str = "xdp_redirect_err";

/// What the kernel told of redirections that failed.
pub(crate) struct RedirectErrors {
    errors: Map<u32, u64>,
    _link: Link,
}

impl RedirectErrors {
    fn of(sockets: &ObjectMap<u32>) -> RedirectErrors {
        let (other, key) = (label("other"), slot::<u32>("error"));
        let code = code![
            mov(R6, R1),
            ld_global(R3, &MAP),
            load(R3, R3.u32(0)),
            load(R2, args(EVENT).from(R6).get("map_id")),
            jne(R2.low(), R3.low(), other),
            load(R2, args(EVENT).from(R6).get("err")),
            neg(R2.low()),
            store(key.u32(0), R2),
            lookup_or_zero(&BY_ERROR, key, other),
            mov(R1, 1),
            atomic_add(R0.u64(0), R1),
            bind(other),
            ret(0),
        ];
        let program = Program::new(ProgType::TRACING, "errors", code).unwrap();
        let (maps, target) = (Maps::of(&program).unwrap(), TpBtf::named(EVENT));
        let load = Load::new(&program).maps(&maps).to(&target).unwrap();
        let load = load.set(&MAP, &sockets.info().unwrap().id).unwrap();
        let prog = load.load().unwrap_or_else(|error| panic!("{error:#}"));
        RedirectErrors {
            errors: maps.open(&BY_ERROR).unwrap(),
            _link: prog.attach(&target).unwrap(),
        }
    }

    pub(crate) fn all(&self) -> Vec<(Errno, u64)> {
        let errors = self.errors.iter().map(|entry| entry.unwrap());
        let known = errors.map(|(number, count)| (Errno(i32::try_from(number).unwrap()), count));
        known.collect()
    }
}
