//! Spreads packets over CPUs before the network stack sees them: in turn, by flow, and by weights
//! that change while packets come. Needs root, and a kernel with BTF.
//!
//! A network card with several queues does the same by a hash of its own. Here the program on the
//! receiving CPU chooses, and the rest of the work on a packet, the making of the socket buffer
//! included, is done where it was sent. A second program counts it there, so what is printed is
//! what happened. The kernel's trace events say how many packets went into the queues of the CPUs,
//! and how many found no room.
//!
//! A native frame takes no offload along: the client computes its checksums itself here. Otherwise
//! its device should have done it, which is no device at all, and the server would drop every
//! packet.

use bpfsmith::dsl::*;
use bpfsmith::kit::map::{count_at, lookup_or_zero};
use bpfsmith::kit::packet::{self, Exits, Packet};
use bpfsmith::kit::redirect::{self, Otherwise, spread};
use bpfsmith::maps::{Map, Target, TargetMap};
use bpfsmith::net::{Feature, Pair};
use bpfsmith::prog::target::{TpBtf, Xdp};
use bpfsmith::prog::{Link, Load, Maps, Prog};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

type Done<T> = Result<T, Box<dyn Error>>;

const P: Packet = Packet {
    data: R6,
    end: R7,
    cursor: R8,
    scratch: R5,
};
const PROTO: Reg = R4;
const FLOW: Reg = R9;

const PORT: u16 = 7783;
const FLOWS: u16 = 33;
const ROUNDS: u64 = 10;
/// Packets that wait for a CPU at most.
const QUEUE: u32 = 2048;
/// As many CPUs as are used at most.
const MOST: u32 = 16;
const SHARES: u32 = 64;

/// The queues: under the number of a CPU its length, and the program that runs there.
static CPUS: MapDef<u32, Target> = MapDef::new(MapType::CPUMAP, "cpus", MOST);
/// Whose turn it is, on each receiving CPU.
static TURNS: MapDef<u32, u64> = MapDef::percpu_array("turns", 1);
/// The CPU for each share of the hashes.
static TABLE: MapDef<u32, u32> = MapDef::array("table", SHARES);
/// How many packets arrived, by flow and CPU.
static ARRIVED: MapDef<[u32; 2], u64> = MapDef::hash("arrived", 1024);
/// What the kernel told of the queues.
static TOLD: MapDef<u32, u64> = MapDef::array("told", 4);

/// Packets for the queues, and those of them that were lost.
const OFFERED: u32 = 0;
const LOST: u32 = 1;
/// Packets that were taken out, and those that could not be made socket buffers.
const TAKEN: u32 = 2;
const SPOILT: u32 = 3;

/// The map of which events are counted. Loading sets it.
static QUEUES: Global<u32> = Global::rodata("queues", 0);

/// How a CPU is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// One after another.
    InTurn,
    /// All packets of a flow the same.
    ByFlow,
    /// As well, but some CPUs take more flows than others.
    ByWeight,
}

/// Goes to `other` unless the packet is UDP to our port; the cursor is then on its header.
fn is_ours(other: Label) -> Code {
    code![
        packet::xdp(P, R1),
        packet::ethernet(P, PROTO, other),
        jne(PROTO, be16(ETH_P_IP), other),
        packet::ipv4(P, PROTO, Exits::both(other)),
        jne(PROTO, IPPROTO_UDP, other),
        packet::udp(P, other),
        load(R2, P.cursor.get(udp::dport)),
        jne(R2, be16(PORT), other),
    ]
}

/// Leaves the hash of the flow in R0; goes to `none` if there is none.
fn hash(none: Label) -> Code {
    code![
        mov(P.cursor, P.data),
        redirect::flow_hash(P, none)
    ]
}

/// The program that chooses among so many CPUs.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn balancer(choice: Choice, cpus: u32) -> Program {
    let pass = label("pass");
    let (name, choose) = match choice {
        Choice::InTurn => ("in_turn", redirect::in_turn(&TURNS, cpus)),
        Choice::ByFlow => ("by_flow", code![hash(pass), redirect::share(R0, cpus)]),
        Choice::ByWeight => (
            "by_weight",
            code![
                hash(pass),
                redirect::by_table(&TABLE, pass)
            ],
        ),
    };
    let code = code![
        is_ours(pass),
        choose,
        redirect::to_map(&CPUS, R0, Otherwise::Pass),
        exit(),
        bind(pass),
        ret(XDP_PASS),
    ];
    build(ProgType::XDP, name, code)
}

/// The program that runs on the chosen CPU, and counts there.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn arrival() -> Program {
    let (pass, key) = (label("pass"), slot::<[u32; 2]>("key"));
    let code = code![
        is_ours(pass),
        load(FLOW, P.cursor.get(udp::sport)),
        store(key.u32(0), FLOW),
        get_smp_processor_id(),
        store(key.u32(4), R0),
        lookup_or_zero(&ARRIVED, key, pass),
        mov(R1, 1),
        atomic_add(R0.u64(0), R1),
        bind(pass),
        ret(XDP_PASS),
    ];
    build(ProgType::XDP, "arrival", code)
}

/// The program on a trace event of the queues: adds up the packets that it speaks of.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn told(event: &'static str, [packets, drops]: [u32; 2]) -> Program {
    const EVENT: Reg = R6;
    const NUMBER: Reg = R7;
    let other = label("other");
    let argument = |name| args(event).from(EVENT).get(name);
    let code = code![
        mov(EVENT, R1),
        ld_global(R3, &QUEUES),
        load(R3, R3.u32(0)),
        load(R2, argument("map_id")),
        jne(R2.low(), R3.low(), other),
        load(NUMBER, argument("processed")),
        count_at(&TOLD, packets, NUMBER),
        load(NUMBER, argument("drops")),
        count_at(&TOLD, drops, NUMBER),
        bind(other),
        ret(0),
    ];
    build(ProgType::TRACING, "told", code)
}

/// The events of both ends of a queue, and where they are counted.
pub const EVENTS: [(&str, [u32; 2]); 2] = [
    ("xdp_cpumap_enqueue", [OFFERED, LOST]),
    ("xdp_cpumap_kthread", [TAKEN, SPOILT]),
];

fn build(kind: ProgType, name: &str, code: Code) -> Program {
    Program::new(kind, name, code).unwrap_or_else(|report| panic!("{report}"))
}

/// Two machines on a cable, with sockets for many flows, and what counts them.
struct Bench {
    net: Pair,
    inbox: UdpSocket,
    outboxes: Vec<UdpSocket>,
    cpus: u32,
    maps: Maps,
    arrived: Map<[u32; 2], u64>,
    told: Map<u32, u64>,
    _arrival: Prog,
    _telling: Vec<Link>,
}

impl Bench {
    fn new() -> Done<Bench> {
        let net = Pair::new()?;
        let ethtool = net.client.node.ethtool()?;
        ethtool.disable(net.client.port.index, Feature::TX_CHECKSUM)?;
        let to = (net.server.v4(), PORT);
        let inbox = net.server.run(|| UdpSocket::bind(to))??;
        inbox.set_read_timeout(Some(Duration::from_secs(20)))?;
        let outbox = |n| -> Done<UdpSocket> {
            let from = (net.client.v4(), 20_000 + n);
            let outbox = net.client.run(|| UdpSocket::bind(from))??;
            outbox.connect(to)?;
            Ok(outbox)
        };
        let outboxes = (0..FLOWS).map(outbox).collect::<Done<_>>()?;

        let cpus = u32::try_from(std::thread::available_parallelism()?.get())?.min(MOST);
        let program = arrival();
        let mut maps = Maps::of(&program)?;
        for choice in [Choice::InTurn, Choice::ByWeight] {
            maps.add(&balancer(choice, cpus))?;
        }
        let load = Load::new(&program).maps(&maps);
        let arrival = load.attach_type(AttachType::XDP_CPUMAP).load()?;
        let queues: TargetMap<Target> = maps.open(&CPUS)?;
        for cpu in 0..cpus {
            queues.set_with(cpu, QUEUE, &arrival)?;
        }
        let telling = EVENTS.map(|(event, counts)| tell(event, counts, &queues, &mut maps));
        Ok(Bench {
            inbox,
            outboxes,
            cpus,
            arrived: maps.open(&ARRIVED)?,
            told: maps.open(&TOLD)?,
            maps,
            _arrival: arrival,
            _telling: telling.into_iter().collect::<Done<_>>()?,
            net,
        })
    }

    fn attach(&self, choice: Choice) -> Done<Link> {
        let program = balancer(choice, self.cpus);
        let device = Xdp::on(self.net.server.port.index).native();
        // Devices have numbers of their own in each namespace: attach where the device is.
        let link = self.net.server.run(|| {
            let load = Load::new(&program).maps(&self.maps).to(&device)?;
            load.load()?.attach(&device)
        })??;
        Ok(link)
    }

    /// Sends, waits until all has arrived, and returns on which CPUs each flow was.
    fn send(&self) -> Done<Placed> {
        for entry in self.arrived.iter() {
            self.arrived.delete(&entry?.0)?;
        }
        for _ in 0..ROUNDS {
            for outbox in &self.outboxes {
                outbox.send(b"packet")?;
            }
            for _ in &self.outboxes {
                self.inbox.recv(&mut [0; 8])?;
            }
        }
        let mut placed = Placed::new();
        for entry in self.arrived.iter() {
            let ([flow, cpu], count) = entry?;
            placed.entry(flow).or_default().insert(cpu, count);
        }
        Ok(placed)
    }

    /// Compares what the kernel told of its queues with what was sent. It tells of packets that are
    /// already on their way: wait for it.
    fn check_told(&self, sent: u64) -> Done<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let of = |index| self.told.lookup(&index).map(Option::unwrap_or_default);
            let counts = [
                of(OFFERED)?,
                of(LOST)?,
                of(TAKEN)?,
                of(SPOILT)?,
            ];
            let [offered, lost, taken, spoilt] = counts;
            let told = format!("{offered} in, {lost} lost; {taken} out, {spoilt} spoilt");
            if counts == [sent, 0, sent, 0] {
                println!("queues: {told}");
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{sent} were sent, but the kernel tells of {told}").into());
            }
            std::thread::yield_now();
        }
    }

    /// Prints where packets were, and returns how many on each CPU.
    fn show(&self, name: &str, placed: &Placed) -> Vec<u64> {
        let mut packets = vec![0; self.cpus as usize];
        print!("{name:<12}");
        for (cpu, sum) in (0..).zip(&mut packets) {
            let counts = placed.values().filter_map(|cpus| cpus.get(&cpu));
            *sum = counts.clone().sum();
            print!("{sum:>9} / {:<3}", counts.count());
        }
        println!();
        packets
    }
}

/// For each flow its packets on each CPU.
type Placed = BTreeMap<u32, BTreeMap<u32, u64>>;

/// Watches an event of these queues.
fn tell(
    event: &'static str,
    counts: [u32; 2],
    queues: &TargetMap<Target>,
    maps: &mut Maps,
) -> Done<Link> {
    let (program, target) = (told(event, counts), TpBtf::named(event));
    maps.add(&program)?;
    let load = Load::new(&program).maps(maps).to(&target)?;
    let prog = load.set(&QUEUES, &queues.info()?.id)?.load()?;
    Ok(prog.attach(&target)?)
}

fn check(holds: bool, what: &str) -> Done<()> {
    match holds {
        true => Ok(()),
        false => Err(what.into()),
    }
}

/// Changes the weights of the CPUs, for packets from now on; returns how many shares changed hands.
fn weigh(map: &Map<u32, u32>, table: &mut [u32], weights: &[u32]) -> Done<usize> {
    let changed = spread(table, weights);
    for (share, cpu) in (0..).zip(table) {
        map.update(&share, cpu)?;
    }
    Ok(changed)
}

/// Sends with each choice, and compares where the packets were with where they should have been.
///
/// # Errors
/// When a step is refused, or a packet was elsewhere.
pub fn run() -> Done<()> {
    let bench = Bench::new()?;
    let sent = u64::from(FLOWS) * ROUNDS;
    println!("packets / flows, CPU by CPU; {sent} packets each time");

    let link = bench.attach(Choice::InTurn)?;
    let packets = bench.show("in turn", &bench.send()?);
    link.detach()?;
    // Each receiving CPU goes round by itself, and may stop in the middle.
    let apart = packets.iter().max().zip(packets.iter().min());
    let is_even = apart.is_some_and(|(most, least)| most - least <= u64::from(bench.cpus));
    check(is_even, "the turns were not even")?;

    let link = bench.attach(Choice::ByFlow)?;
    let placed = bench.send()?;
    let packets = bench.show("by flow", &placed);
    link.detach()?;
    let is_one = placed.values().all(|cpus| cpus.len() == 1);
    check(is_one, "a flow was on two CPUs")?;
    let used = packets.iter().filter(|count| **count > 0).count();
    check(used > 1 || bench.cpus == 1, "all flows were on one CPU")?;

    by_weight(&bench)?;
    bench.check_told(5 * sent)
}

/// Changes weights while the program stays.
fn by_weight(bench: &Bench) -> Done<()> {
    let map: Map<u32, u32> = bench.maps.open(&TABLE)?;
    let mut table = [0; SHARES as usize];
    let _link = bench.attach(Choice::ByWeight)?;
    let rest = bench.cpus as usize - 1;
    let mut before: Option<Placed> = None;
    for (name, first, others) in [
        ("1 : 0", 1, 0),
        ("1 : 1", 1, 1),
        ("3 : 1", 3, 1),
    ] {
        let weights = [vec![first], vec![others; rest]].concat();
        let changed = weigh(&map, &mut table, &weights)?;
        let placed = bench.send()?;
        bench.show(name, &placed);
        println!("{:<12}{changed:>9} shares changed hands", "");
        let moved = before.as_ref().map_or(0, |before| {
            let flows = placed.iter();
            flows
                .filter(|(flow, cpus)| before.get(flow) != Some(cpus))
                .count()
        });
        check((changed > 0) || moved == 0, "a flow moved for nothing")?;
        check(placed.len() == usize::from(FLOWS), "a flow is missing")?;
        let on_first = placed.values().filter(|cpus| cpus.contains_key(&0));
        let is_full = on_first.count() == placed.len();
        check(
            is_full == (others == 0 || rest == 0),
            "the weights do not hold",
        )?;
        before = Some(placed);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
