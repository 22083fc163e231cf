//! A cable with a socket at each end, programs on it, and what they counted.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "it is part of tests")]

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::deadline;
use bpfsmith_net::{IfIndex, Netlink, Pair};
use bpfsmith_prog::target::Target;
use bpfsmith_prog::{Error, Link, Load, Maps, Prog};
use bpfsmith_sys::info;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// What programs count, each at an index of its own.
pub(crate) static HITS: MapDef<u32, u64> = MapDef::array("hits", 16);

/// The payload of packets that programs look for, and the frame around it: no other packet of an
/// idle cable is as long.
const PAYLOAD: usize = 77;
const FRAME: i32 = 14 + 20 + 8 + 77;

/// Adds one to what is counted at an index.
pub(crate) fn hit(index: u32) -> Code {
    kit::map::count_at(&HITS, index, 1)
}

/// An XDP program: counts the packets of the bench and decides over them; others pass.
pub(crate) fn xdp(index: u32, verdict: i32) -> Code {
    code![
        load(R2, R1.get(xdp_md::data)),
        load(R3, R1.get(xdp_md::data_end)),
        sub(R3, R2),
        R3.eq(FRAME).then(code![hit(index), ret(verdict)]),
        ret(XDP_PASS),
    ]
}

/// The same for packets with a length and nothing more: TC.
pub(crate) fn tc(index: u32, verdict: i32) -> Code {
    code![
        load(R2, R1.get(__sk_buff::len)),
        R2.eq(FRAME).then(code![hit(index), ret(verdict)]),
        ret(TCX_NEXT),
    ]
}

/// Loads a program for a target, with the maps that it shares with others.
#[track_caller]
pub(crate) fn load_to(
    target: &impl Target,
    kind: ProgType,
    name: &str,
    code: Code,
    maps: &mut Maps,
) -> Prog {
    let program = Program::new(kind, name, code).unwrap_or_else(|report| panic!("{report}"));
    maps.add(&program).unwrap();
    let load = Load::new(&program).maps(maps).to(target).unwrap();
    load.load().unwrap_or_else(|error| panic!("{error:#}"))
}

/// What was counted at an index.
#[track_caller]
pub(crate) fn hits(maps: &Maps, index: u32) -> u64 {
    value(maps, &HITS, index)
}

/// A number in an array.
#[track_caller]
pub(crate) fn value(maps: &Maps, map: &MapDef<u32, u64>, index: u32) -> u64 {
    let mut value = [0; 8];
    let map = maps.find(map.shape().name).unwrap();
    map.raw()
        .lookup(&index.to_ne_bytes(), &mut value, 0)
        .unwrap();
    u64::from_ne_bytes(value)
}

/// Waits until that much was counted.
#[track_caller]
pub(crate) fn wait_hits(maps: &Maps, index: u32, count: u64) {
    deadline(LIMIT, || (hits(maps, index) >= count).then_some(()));
    assert_eq!(hits(maps, index), count);
}

/// The number of a program.
pub(crate) fn id(prog: &Prog) -> u32 {
    info::prog(prog.as_fd()).unwrap().id
}

/// An error of the kernel with that number and advice, and without a word of what went wrong inside.
#[track_caller]
pub(crate) fn check_refused<T: std::fmt::Debug>(
    done: Result<T, Error>,
    errno: Errno,
    advice: &str,
) {
    let error = done.unwrap_err();
    assert_eq!(error.errno(), Some(errno), "{error}");
    let text = error.to_string();
    assert!(text.contains(advice) && !text.contains('\n'), "{text}");
}

/// Two machines on a cable, a UDP socket on each, and how many packets were sent.
pub(crate) struct Bench {
    pub(crate) net: Pair,
    pub(crate) server: UdpSocket,
    pub(crate) client: UdpSocket,
    sent: u32,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let net = Pair::new().unwrap();
        let server = net.server.run(|| UdpSocket::bind("10.0.0.1:7"));
        let client = net.client.run(|| UdpSocket::bind("10.0.0.2:0"));
        let (server, client) = (server.unwrap().unwrap(), client.unwrap().unwrap());
        client.connect("10.0.0.1:7").unwrap();
        server.set_read_timeout(Some(LIMIT)).unwrap();
        let mut bench = Bench {
            net,
            server,
            client,
            sent: 0,
        };
        bench.check_arrives();
        bench
    }

    /// Attaches in the server's namespace.
    pub(crate) fn attach(&self, prog: &Prog, target: &(impl Target + Sync)) -> Result<Link, Error> {
        self.net.server.run(|| prog.attach(target)).unwrap()
    }

    /// The server's device.
    pub(crate) fn index(&self) -> IfIndex {
        self.net.server.port.index
    }

    /// The client's device.
    pub(crate) fn far(&self) -> IfIndex {
        self.net.client.port.index
    }

    pub(crate) fn server_net(&self) -> &Netlink {
        &self.net.server.node.net
    }

    pub(crate) fn client_net(&self) -> &Netlink {
        &self.net.client.node.net
    }

    /// Sends a packet to the server.
    pub(crate) fn send(&mut self) {
        self.sent += 1;
        let mut packet = [0; PAYLOAD];
        packet[..4].copy_from_slice(&self.sent.to_ne_bytes());
        self.client.send(&packet).unwrap();
    }

    /// The number of the next packet that the server receives.
    #[track_caller]
    pub(crate) fn receive(&self) -> u32 {
        let mut packet = [0; PAYLOAD];
        assert_eq!(self.server.recv(&mut packet).unwrap(), PAYLOAD);
        u32::from_ne_bytes([
            packet[0], packet[1], packet[2], packet[3],
        ])
    }

    /// Sends a packet that is the next to arrive: what was sent since the last one that arrived was
    /// dropped, because the cable keeps the order.
    #[track_caller]
    pub(crate) fn check_arrives(&mut self) {
        self.send();
        assert_eq!(self.receive(), self.sent);
    }

    /// Sends a packet that is counted and does not arrive.
    #[track_caller]
    pub(crate) fn check_dropped(&mut self, maps: &Maps, index: u32) {
        let before = hits(maps, index);
        self.send();
        wait_hits(maps, index, before + 1);
    }
}
