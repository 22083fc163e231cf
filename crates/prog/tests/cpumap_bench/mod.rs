//! Programs that send the packets of the bench to CPUs, count them there, and count what the kernel
//! tells.

#![expect(clippy::unwrap_used, reason = "it is part of tests")]

use crate::net_bench::{Bench, load_to};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::map::lookup_or_zero;
use bpfsmith_asm::kit::packet::{self, Exits, Packet};
use bpfsmith_asm::kit::redirect::{self, Otherwise, spread};
use bpfsmith_maps::{Map, Target, TargetMap};
use bpfsmith_net::{Feature, IfIndex};
use bpfsmith_prog::target::{TpBtf, Xdp};
use bpfsmith_prog::{Link, Load, Maps, Prog};
use std::collections::BTreeMap;
use std::net::UdpSocket;

pub(crate) const P: Packet = Packet {
    data: R6,
    end: R7,
    cursor: R8,
    scratch: R5,
};
const PROTO: Reg = R4;

/// The CPUs that packets are sent to.
pub(crate) const BOTH: [u32; 2] = [0, 1];

/// More than this machine has.
static CPUS: MapDef<u32, Target> = MapDef::new(MapType::CPUMAP, "cpus", 64);
pub(crate) static TURNS: MapDef<u32, u64> = MapDef::percpu_array("turns", 1);
pub(crate) static SHARES: MapDef<u32, u32> = MapDef::array("shares", 64);

/// Packets by the sender's port, as it is in the packet, and the CPU.
static ARRIVED: MapDef<[u32; 2], u64> = MapDef::hash("arrived", 256);

/// Goes to `other` unless it is UDP to port 7; leaves the cursor on the UDP header.
fn udp_to_bench(other: Label) -> Code {
    code![
        packet::xdp(P, R1),
        packet::ethernet(P, PROTO, other),
        jne(PROTO, be16(ETH_P_IP), other),
        packet::ipv4(P, PROTO, Exits::both(other)),
        jne(PROTO, IPPROTO_UDP, other),
        packet::udp(P, other),
        load(R2, P.cursor.get(udp::dport)),
        jne(R2, be16(7), other),
    ]
}

/// Sends packets of the bench to the CPU that `choose` leaves in R0; with the maps of both ends.
pub(crate) fn balancer(choose: impl FnOnce(Label) -> Code) -> (Maps, Prog) {
    let pass = label("pass");
    let code = code![
        udp_to_bench(pass),
        choose(pass),
        redirect::to_map(&CPUS, R0, Otherwise::Pass),
        exit(),
        bind(pass),
        ret(XDP_PASS),
    ];
    let mut maps = Maps::of(&arrival_program(XDP_PASS)).unwrap();
    let on = Xdp::on(IfIndex(0));
    let prog = load_to(&on, ProgType::XDP, "balancer", code, &mut maps);
    (maps, prog)
}

/// Sends every packet to the first CPU of the same map.
pub(crate) fn to_first() -> Program {
    let code = code![
        redirect::to_map(&CPUS, 0, Otherwise::Pass),
        exit()
    ];
    Program::new(ProgType::XDP, "to_first", code).unwrap_or_else(|report| panic!("{report}"))
}

/// Counts packets of the bench where it runs.
pub(crate) fn arrival_program(verdict: i32) -> Program {
    let (pass, key) = (label("pass"), slot::<[u32; 2]>("key"));
    let code = code![
        udp_to_bench(pass),
        load(R9, P.cursor.get(udp::sport)),
        store(key.u32(0), R9),
        get_smp_processor_id(),
        store(key.u32(4), R0),
        lookup_or_zero(&ARRIVED, key, pass),
        mov(R1, 1),
        atomic_add(R0.u64(0), R1),
        ret(verdict),
        bind(pass),
        ret(XDP_PASS),
    ];
    Program::new(ProgType::XDP, "arrival", code).unwrap_or_else(|report| panic!("{report}"))
}

/// The same, loaded for entries of the map.
pub(crate) fn arrival(maps: &Maps, verdict: i32) -> Prog {
    let program = arrival_program(verdict);
    let load = Load::new(&program).maps(maps);
    let load = load.attach_type(AttachType::XDP_CPUMAP).load();
    load.unwrap_or_else(|error| panic!("{error:#}"))
}

pub(crate) fn cpus(maps: &Maps) -> TargetMap<Target> {
    maps.open(&CPUS).unwrap()
}

/// Both CPUs get a queue and the program that counts.
pub(crate) fn queues(maps: &Maps) {
    let prog = arrival(maps, XDP_PASS);
    for cpu in BOTH {
        cpus(maps).set_with(cpu, 2048, &prog).unwrap();
    }
}

fn arrivals(maps: &Maps) -> Map<[u32; 2], u64> {
    maps.open(&ARRIVED).unwrap()
}

/// How many packets came, by the sender's port and the CPU.
pub(crate) fn arrived(maps: &Maps) -> BTreeMap<(u32, u32), u64> {
    let arrivals = arrivals(maps);
    let entries = arrivals.iter().map(|entry| {
        let ([port, cpu], count) = entry.unwrap();
        ((port, cpu), count)
    });
    entries.collect()
}

pub(crate) fn forget(maps: &Maps) {
    for (port, cpu) in arrived(maps).into_keys() {
        assert!(arrivals(maps).delete(&[port, cpu]).unwrap());
    }
}

pub(crate) fn total(maps: &Maps) -> u64 {
    arrived(maps).values().sum()
}

pub(crate) fn by_cpu(arrived: &BTreeMap<(u32, u32), u64>) -> BTreeMap<u32, u64> {
    let mut cpus = BTreeMap::new();
    for ((_, cpu), count) in arrived {
        *cpus.entry(*cpu).or_default() += count;
    }
    cpus
}

/// The table of shares, and the map that holds it.
pub(crate) struct Table {
    map: Map<u32, u32>,
    entries: [u32; 64],
}

impl Table {
    pub(crate) fn new(maps: &Maps) -> Table {
        Table {
            map: maps.open(&SHARES).unwrap(),
            entries: [0; 64],
        }
    }

    pub(crate) fn share_out(&mut self, weights: [u32; 2]) {
        spread(&mut self.entries, &weights);
        for (at, cpu) in (0..).zip(&self.entries) {
            self.map.update(&at, cpu).unwrap();
        }
    }
}

/// A bench whose client computes its checksums itself.
pub(crate) fn plain_bench() -> Bench {
    let bench = Bench::new();
    compute_checksums(&bench);
    bench
}

pub(crate) fn compute_checksums(bench: &Bench) {
    let ethtool = bench.net.client.node.ethtool().unwrap();
    ethtool.disable(bench.far(), Feature::TX_CHECKSUM).unwrap();
}

/// How many UDP packets the server dropped for their checksum.
pub(crate) fn wrong_checksums(bench: &Bench) -> u64 {
    let read = || std::fs::read_to_string("/proc/thread-self/net/snmp");
    let text = bench.net.server.run(read).unwrap().unwrap();
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let at = names.split(' ').position(|name| name == "InCsumErrors");
    values.split(' ').nth(at.unwrap()).unwrap().parse().unwrap()
}

/// Senders with ports that are the same in each run.
pub(crate) struct Flows(Vec<UdpSocket>);

impl Flows {
    pub(crate) fn new(bench: &Bench, count: u16) -> Flows {
        let sockets = (0..count).map(|n| {
            let bind = || UdpSocket::bind(("10.0.0.2", 20_000 + n));
            let socket = bench.net.client.run(bind).unwrap().unwrap();
            socket.connect("10.0.0.1:7").unwrap();
            socket
        });
        Flows(sockets.collect())
    }

    /// A packet of each, all of which arrive.
    pub(crate) fn send_and_receive(&self, bench: &Bench) {
        // Before Linux 6.6 a veth gives each frame a page: a socket has room for some 50 of them.
        for sockets in self.0.chunks(16) {
            for socket in sockets {
                socket.send(b"flow").unwrap();
            }
            for _ in sockets {
                let mut packet = [0; 8];
                assert_eq!(bench.server.recv(&mut packet).unwrap(), 4);
            }
        }
    }
}

/// A packet to port 7, as a frame.
pub(crate) fn udp_frame() -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([
        0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0,
    ]);
    frame.extend([
        10, 0, 0, 2, 10, 0, 0, 1, 0, 9, 0, 7, 0, 26, 0, 0,
    ]);
    frame.resize(60, 0);
    frame
}

/// What trace events told of one map.
static TOLD: MapDef<u32, u64> = MapDef::array("told", 8);

/// Frames that were to go into queues, and those of them that found no room.
pub(crate) const OFFERED: u32 = 0;
pub(crate) const QUEUE_DROPS: u32 = 1;
/// Frames that the kernel's threads took out, and that they could make no packets of.
pub(crate) const TAKEN: u32 = 2;
pub(crate) const TAKE_DROPS: u32 = 3;
/// What the programs there decided.
pub(crate) const PASSED: u32 = 4;
pub(crate) const DROPPED: u32 = 5;
/// Redirections that failed, and the sum of their error numbers.
pub(crate) const ERRORS: u32 = 6;
pub(crate) const ERROR_SUM: u32 = 7;

/// The map that is meant: the events are those of all maps of the machine.
static MAP: Global<u32> = Global::rodata("map", 0);

const EVENT: Reg = R6;
const NUMBER: Reg = R7;

/// Adds numbers of an event, if it is of the map.
fn adds(event: &'static str, numbers: &[(u32, Code)]) -> Program {
    let other = label("other");
    let code = code![
        mov(EVENT, R1),
        ld_global(R3, &MAP),
        load(R3, R3.u32(0)),
        load(R2, args(event).from(EVENT).get("map_id")),
        jne(R2.low(), R3.low(), other),
        numbers.iter().map(|(index, number)| code![
            number.clone(),
            kit::map::count_at(&TOLD, *index, NUMBER),
        ]),
        bind(other),
        ret(0),
    ];
    Program::new(ProgType::TRACING, "adds", code).unwrap_or_else(|report| panic!("{report}"))
}

fn argument(event: &'static str, name: &str) -> Code {
    code![load(
        NUMBER,
        args(event).from(EVENT).get(name)
    )]
}

fn verdicts(field: &'static str) -> Code {
    code![
        load(R1, args(KTHREAD).from(EVENT).get("xdp_stats")),
        load(NUMBER, R1.get(kernel(field))),
    ]
}

const ENQUEUE: &str = "xdp_cpumap_enqueue";
const KTHREAD: &str = "xdp_cpumap_kthread";
const REDIRECT_ERR: &str = "xdp_redirect_err";

/// Programs that count while this is there.
pub(crate) struct Statistics {
    told: Map<u32, u64>,
    _links: [Link; 3],
}

impl Statistics {
    /// Of the map of CPUs.
    pub(crate) fn of(maps: &Maps) -> Statistics {
        let id = cpus(maps).info().unwrap().id;
        let programs = [
            (
                ENQUEUE,
                adds(
                    ENQUEUE,
                    &[
                        (OFFERED, argument(ENQUEUE, "processed")),
                        (QUEUE_DROPS, argument(ENQUEUE, "drops")),
                    ],
                ),
            ),
            (
                KTHREAD,
                adds(
                    KTHREAD,
                    &[
                        (TAKEN, argument(KTHREAD, "processed")),
                        (TAKE_DROPS, argument(KTHREAD, "drops")),
                        (PASSED, verdicts("xdp_cpumap_stats.pass")),
                        (DROPPED, verdicts("xdp_cpumap_stats.drop")),
                    ],
                ),
            ),
            (
                REDIRECT_ERR,
                adds(
                    REDIRECT_ERR,
                    &[
                        (
                            ERROR_SUM,
                            code![
                                argument(REDIRECT_ERR, "err"),
                                neg(NUMBER.low())
                            ],
                        ),
                        (ERRORS, code![mov(NUMBER, 1)]),
                    ],
                ),
            ),
        ];
        let told = Maps::of(&programs[0].1).unwrap();
        let links = programs.map(|(event, program)| {
            let target = TpBtf::named(event);
            let load = Load::new(&program).maps(&told).to(&target).unwrap();
            let prog = load.set(&MAP, &id).unwrap().load();
            let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
            prog.attach(&target).unwrap()
        });
        Statistics {
            told: told.open(&TOLD).unwrap(),
            _links: links,
        }
    }

    pub(crate) fn at(&self, index: u32) -> u64 {
        self.told.lookup(&index).unwrap().unwrap_or(0)
    }
}
