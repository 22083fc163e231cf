//! Packets for each second of one processor, as a machine in the middle forwards them:
//! `cargo bench --bench forward`, as root.
//!
//! A generator sends frames of 64 bytes into a cable, somebody sends them on, and a program at the far end counts
//! and drops them. All three share a processor. Words choose candidates; ROUNDS, REPEAT, CPU as usual.

use bpfsmith_asm::dsl::*;
use bpfsmith_bench::arguments::{number, words};
use bpfsmith_bench::datapath::{
    CLIENT, Clang, Client, Cpu, DNAT, Frame, Restore, Row, Timer, Transport, World, client,
    load_average,
};
use bpfsmith_bench::rounds;
use bpfsmith_datapath::config::Protocol;
use bpfsmith_datapath::programs::Hook;
use bpfsmith_maps::PerCpuMap;
use bpfsmith_net::{Feature, IfIndex};
use bpfsmith_prog::target::{Tcx, Xdp};
use bpfsmith_prog::{Link, Load, Maps, Prog};
use std::io::Write as _;
use std::process::{Command, Stdio};

static SEEN: MapDef<u32, u64> = MapDef::percpu_array("seen", 1);

/// How many frames go at once.
const BATCH: u32 = 64;

/// Who sends packets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    /// A program at the entry drops everything: generator and cable alone.
    Drop,
    Smith(Hook),
    C(Hook),
    /// The kernel, with no addresses to change.
    Routing,
    Nft,
    NftMasquerade,
}

const ALL: [Candidate; 8] = [
    Candidate::Drop,
    Candidate::Smith(Hook::Xdp),
    Candidate::C(Hook::Xdp),
    Candidate::Smith(Hook::Tcx),
    Candidate::C(Hook::Tcx),
    Candidate::Routing,
    Candidate::Nft,
    Candidate::NftMasquerade,
];

impl Candidate {
    const fn name(self) -> &'static str {
        match self {
            Candidate::Drop => "dropped at the entry",
            Candidate::Smith(Hook::Xdp) => "bpfsmith XDP",
            Candidate::Smith(_) => "bpfsmith TCX",
            Candidate::C(Hook::Xdp) => "clang v4 XDP",
            Candidate::C(_) => "clang v4 TCX",
            Candidate::Routing => "ip_forward",
            Candidate::Nft => "nft dnat",
            Candidate::NftMasquerade => "nft dnat, masquerade",
        }
    }
}

fn main() {
    let words = words();
    let chosen = |one: &&Candidate| words.iter().all(|word| one.name().contains(word));
    let bench = Bench::new(number("CPU", 0), number("REPEAT", 500_000));
    println!("load average {}", load_average());
    for clients in [1, 16_384] {
        let known = bench.world.known(Protocol::Udp);
        bench.world.populate(Protocol::Udp, &known, clients);
        let candidates: Vec<Candidate> = ALL.iter().filter(chosen).copied().collect();
        let mut samples = vec![Vec::new(); candidates.len()];
        for round in 0..=number("ROUNDS", 5_u32) {
            for (candidate, samples) in candidates.iter().zip(&mut samples) {
                let Some(nanos) = bench.sample(*candidate, clients) else {
                    continue;
                };
                if round > 0 {
                    samples.push(nanos);
                }
            }
        }
        let names = candidates.iter().map(|candidate| candidate.name());
        rounds::print(
            &format!("{clients} flows of UDP, ns of one processor for a packet"),
            "ip_forward",
            names.zip(samples).collect(),
        );
    }
    println!("load average {}", load_average());
}

struct Bench {
    world: World,
    clang: Option<Clang>,
    /// What the far end counts into.
    seen: PerCpuMap<u32, u64>,
    cpu: usize,
    repeat: u32,
    /// What keeps programs at both far ends.
    _ends: [Link; 2],
}

impl Bench {
    fn new(cpu: usize, repeat: u32) -> Bench {
        let world = World::new(1 << 17);
        let net = world.net();
        // Frames are received where somebody polls for them.
        let ethtool = net.proxy.node.ethtool().expect("ethtool");
        for port in [&net.proxy.left, &net.proxy.right] {
            let on = ethtool.enable(port.index, Feature::GRO);
            on.expect("veth that receives frames");
        }
        let sink = sink();
        let maps = Maps::of(&sink).expect("a map");
        let seen = maps.open(&SEEN).expect("a map");
        let sink = Load::new(&sink).maps(&maps).load().expect("a program");
        let pass = Program::new(ProgType::XDP, "pass", code![ret(XDP_PASS)]).expect("a program");
        let pass = Load::new(&pass).load().expect("a program");
        let (near, far) = (net.client.port.index, net.server.port.index);
        let attach = |prog: &Prog, device| prog.attach(&Xdp::on(device).native()).expect("veth");
        let ends = [
            net.client.run(|| attach(&pass, near)).expect("a namespace"),
            net.server.run(|| attach(&sink, far)).expect("a namespace"),
        ];
        let clang = Clang::find();
        if clang.is_none() {
            println!("clang-19 is not on this machine: left out");
        }
        Bench {
            world,
            clang,
            seen,
            cpu,
            repeat,
            _ends: ends,
        }
    }

    /// Nanoseconds for a packet that arrived; nothing if the candidate is not on this machine.
    fn sample(&self, candidate: Candidate, clients: u32) -> Option<f64> {
        let net = self.world.net();
        let link = self.start(candidate)?;
        let to = match candidate {
            Candidate::Routing => self.world.backend(true),
            _ => self.world.listener(true, DNAT),
        };
        // The kernel knows a flow for a while, and what was decided for it.
        let port = match candidate {
            Candidate::NftMasquerade => CLIENT + 1,
            _ => CLIENT,
        };
        let frame = Frame::new(client(true, port), to, Transport::Udp)
            .between(net.client.port.mac, net.proxy.left.mac);
        let generator = generator(&frame, clients);
        let device = net.client.port.index;
        let send = |count: u32| {
            let run = generator.run().data(frame.bytes());
            let run = run.ctx(came_from(device, &frame)).live(BATCH).repeat(count);
            run.go().expect("live frames");
        };
        let (cpu, repeat) = (self.cpu, self.repeat);
        let (took, arrived) = net
            .client
            .run(|| {
                let timer = Timer::here(cpu, repeat);
                send(20_000);
                let before = self.arrived();
                let took = timer.spent(|| send(repeat));
                (took, self.arrived() - before)
            })
            .expect("a namespace");
        drop(link);
        self.stop(candidate);
        let counted = if candidate == Candidate::Drop {
            f64::from(repeat)
        } else {
            arrived as f64
        };
        assert!(
            counted > f64::from(repeat) * 0.5,
            "{}: {arrived} of {repeat} arrived",
            candidate.name()
        );
        Some(took.as_secs_f64() * 1e9 / counted)
    }

    fn arrived(&self) -> u64 {
        let each = self.seen.lookup(&0).expect("a map");
        each.map_or(0, |each| each.sum())
    }

    /// What keeps the candidate at work, in case it is a program.
    fn start(&self, candidate: Candidate) -> Option<Option<Link>> {
        let row = Row::plain();
        let prog = match candidate {
            Candidate::Drop => {
                let drop = Program::new(ProgType::XDP, "drop", code![ret(XDP_DROP)]);
                Load::new(&drop.expect("a program"))
                    .load()
                    .expect("a program")
            }
            Candidate::Smith(hook) => self.world.load(hook, &row),
            Candidate::C(hook) => self.clang.as_ref()?.load(&self.world, Cpu::V4, hook, &row),
            Candidate::Routing => return Some(None),
            Candidate::Nft | Candidate::NftMasquerade => {
                return self.rules(candidate).then_some(None);
            }
        };
        let device = self.world.net().proxy.left.index;
        let link = self.world.run(|| match candidate {
            Candidate::Smith(Hook::Tcx) | Candidate::C(Hook::Tcx) => {
                prog.attach(&Tcx::ingress(device))
            }
            _ => prog.attach(&Xdp::on(device).native()),
        });
        Some(Some(link.expect("a hook")))
    }

    /// Whether nft has the rules.
    fn rules(&self, candidate: Candidate) -> bool {
        let (to, backend) = (self.world.listener(true, DNAT), self.world.backend(true));
        let mut text = format!(
            "table ip bench {{\nchain in {{ type nat hook prerouting priority -100; \
             ip daddr {} udp dport {} dnat to {backend}; }}\n",
            to.ip(),
            to.port()
        );
        if candidate == Candidate::NftMasquerade {
            text.push_str("chain out { type nat hook postrouting priority 100; masquerade; }\n");
        }
        text.push_str("}\n");
        self.nft(&text)
    }

    fn stop(&self, candidate: Candidate) {
        if matches!(candidate, Candidate::Nft | Candidate::NftMasquerade) {
            assert!(
                self.nft("delete table ip bench\n"),
                "nft takes its rules back"
            );
        }
    }

    fn nft(&self, text: &str) -> bool {
        self.world.run(|| {
            let started = Command::new("nft")
                .args(["-f", "-"])
                .stdin(Stdio::piped())
                .spawn();
            let Ok(mut child) = started else { return false };
            let mut input = child.stdin.take().expect("a pipe");
            input.write_all(text.as_bytes()).expect("nft reads");
            drop(input);
            child.wait().expect("nft ends").success()
        })
    }
}

/// Counts UDP and drops it.
fn sink() -> Program {
    let pass = label("pass");
    let index = slot::<u32>("index");
    let code = code![
        load(R2, R1.get(xdp_md::data)),
        load(R3, R1.get(xdp_md::data_end)),
        mov(R4, R2),
        add(R4, 34),
        jgt(R4, R3, pass),
        load(R4, R2.u8(23)),
        jne(R4, IPPROTO_UDP, pass),
        store(index.u32(0), 0),
        map_lookup_elem(&SEEN, index),
        R0.ne(0).then([
            load(R1, R0.u64(0)),
            add(R1, 1),
            store(R0.u64(0), R1)
        ]),
        ret(XDP_DROP),
        bind(pass),
        ret(XDP_PASS),
    ];
    Program::new(ProgType::XDP, "sink", code).expect("a program")
}

/// Makes each frame anew, and sends it.
fn generator(frame: &Frame, clients: u32) -> Prog {
    let restore = Restore::of(frame, Client::One).code(Hook::Xdp);
    let code = code![
        mov(R6, R1),
        restore,
        (clients > 1).then(|| another_client(frame, clients)),
        ret(XDP_TX),
    ];
    let program = Program::new(ProgType::XDP, "generator", code).expect("a program");
    Load::new(&program).load().expect("a program")
}

/// One of at most 65,536 by chance, with right checksums.
fn another_client(frame: &Frame, clients: u32) -> Code {
    const ADDRESS: i32 = 28;
    const CHECKS: [usize; 2] = [24, 40];
    let short = label("short");
    let bytes = frame.bytes();
    let checks = CHECKS.map(|at| {
        let check = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let at = i32::try_from(at).expect("a place");
        code![
            mov(R1, i32::from(check) + 0xffff),
            sub(R1, R7),
            mov(R3, R1),
            rsh(R3, 16),
            add(R1, R3),
            to_be16(R1),
            store(R2.u16(at), R1),
        ]
    });
    code![
        get_prandom_u32(),
        mov(W7, W0),
        mul(R7, clients.cast_signed()),
        rsh(R7, 32),
        load(R3, R6.get(xdp_md::data_end)),
        load(R2, R6.get(xdp_md::data)),
        mov(R1, R2),
        add(R1, 42),
        jgt(R1, R3, short),
        mov(R1, R7),
        to_be16(R1),
        store(R2.u16(ADDRESS), R1),
        checks,
        bind(short),
    ]
}

/// An XDP context that says so.
fn came_from(device: IfIndex, frame: &Frame) -> Vec<u8> {
    let mut context = vec![0; 24];
    let end = u32::try_from(frame.bytes().len()).expect("a short frame");
    context[4..8].copy_from_slice(&end.to_ne_bytes());
    context[12..16].copy_from_slice(&device.0.to_ne_bytes());
    context
}
