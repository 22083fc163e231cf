//! Packets of the same few flows, from several threads at once.

use crate::rig::{Flow, Rig, client, config, inside, listener};
use crate::state::{table, wrongs};
use crate::support::judge::judge;
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::programs::{Hook, Usual};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::{needs, rounds};
use bpfsmith_prog::Prog;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex, RwLock};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// Flows go as soon as they may, and their kernel looks after them all the time.
pub(crate) fn hasty(config: &mut Config, millis: u64) {
    let time = Duration::from_millis(millis);
    config.timeouts = Timeouts {
        unanswered: time,
        established: time,
        half_closed: time,
        closed: time,
        udp: time,
        round: Duration::from_millis(1),
    };
}

/// Flows stay.
pub(crate) fn patient(config: &mut Config) {
    hasty(config, 3_600_000);
}

/// The backend sees one of few sources.
pub(crate) fn scarce(config: &mut Config, ports: u16) {
    for group in &mut config.groups {
        group.mode = Mode::FullNat;
    }
    config.sources = vec![
        "10.98.0.1".parse().unwrap(),
        "fd98::1".parse().unwrap(),
    ];
    config.source_ports = 2000..=2000 + ports - 1;
}

pub(crate) fn small(flows: u32) -> Config {
    let mut config = config(Algorithm::LeastConnections, &[1, 1, 1]);
    config.room.flows = flows;
    config.mid_stream = MidStream::Drop;
    config
}

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % count
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// One of the clients, and what it learned of its flow.
struct Client {
    protocol: Protocol,
    address: SocketAddr,
    listener: SocketAddr,
    flow: Mutex<Option<Flow>>,
    /// Packets that two flows had a part in.
    torn: AtomicU32,
}

impl Client {
    fn asks(&self, rig: &Rig, prog: &Prog, flags: &str) {
        let flow = Flow {
            protocol: self.protocol,
            client: self.address,
            listener: self.listener,
            source: self.address,
            backend: self.listener,
        };
        let Some(sent) = rig.sent(prog, &flow.ask(flags)) else {
            return;
        };
        let (view, wrong) = judge(&sent);
        let Some((from, to)) = view.ports() else {
            return;
        };
        if !wrong.is_empty() {
            self.torn.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *self.flow.lock().unwrap() = Some(Flow {
            source: SocketAddr::new(view.src(), from),
            backend: SocketAddr::new(view.dst(), to),
            ..flow
        });
    }

    fn is_answered(&self, rig: &Rig, prog: &Prog, flags: &str) {
        let flow = *self.flow.lock().unwrap();
        if let Some(flow) = flow {
            rig.sent(prog, &flow.answer(flags));
        }
    }
}

const PATHS: [Path; 4] = Path::ALL;

/// What comes.
struct Storm {
    clients: u32,
    threads: u64,
    packets: u32,
    /// Meanwhile the kernel takes flows out.
    is_swept: bool,
    /// Meanwhile configurations come and go.
    is_changed: bool,
}

impl Storm {
    const fn new(clients: u32) -> Storm {
        Storm {
            clients,
            threads: 4,
            packets: 8000,
            is_swept: false,
            is_changed: false,
        }
    }

    fn clients(&self) -> Vec<Client> {
        let of = |path: Path| {
            (0..self.clients).map(move |n| Client {
                protocol: path.protocol,
                address: client(path.family, n),
                listener: listener(path.family),
                flow: Mutex::new(None),
                torn: AtomicU32::new(0),
            })
        };
        PATHS.into_iter().flat_map(of).collect()
    }

    /// Sends it, and looks at what is left.
    #[track_caller]
    fn passes(&self, config: &Config) {
        inside(config, Hook::Xdp, |rig| {
            if self.is_swept {
                rig.generation.sweep().unwrap();
            }
            let torn = self.rages(rig, config);
            eprintln!("torn: {torn}; {:?}", rig.counts());
            let counts = rig.counts();
            if self.is_swept {
                // It still goes on.
                vanishes(rig, || wrongs(rig, &PATHS));
            } else {
                let wrongs = wrongs(rig, &PATHS);
                assert!(wrongs.is_empty(), "{wrongs:#?}\n{counts:?}");
            }
            let count = |reason| counts.iter().find(|it| it.0 == reason).map(|it| it.1);
            assert!(count(Reason::Opened) > Some(100), "{counts:?}");
            nothing_stays(rig, config);
        });
    }

    fn rages(&self, rig: &Rig, config: &Config) -> u32 {
        let clients = self.clients();
        let packets = rounds(self.packets);
        let first = rig.generation.load(Hook::Xdp, Usual::Device).unwrap();
        let prog = RwLock::new(Arc::new(first));
        let over = AtomicBool::new(false);
        let held = rig;
        let (prog, over, clients) = (&prog, &over, clients.as_slice());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|seed| {
                    scope.spawn(move || {
                        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (seed + 1) << 20);
                        for _ in 0..packets {
                            let now = prog.read().unwrap().clone();
                            let client = &clients[dice.below(clients.len())];
                            something(&mut dice, held, &now, client);
                        }
                    })
                })
                .collect();
            let changes = self.is_changed.then(|| {
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let next = held.generation.next(config).unwrap();
                        let new = next.load(Hook::Xdp, Usual::Device).unwrap();
                        *prog.write().unwrap() = Arc::new(new);
                        if self.is_swept {
                            next.sweep().unwrap();
                        }
                    }
                })
            });
            let results: Vec<_> = threads
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join)
                .collect();
            over.store(true, Ordering::Relaxed);
            if let Some(changes) = changes {
                changes.join().unwrap();
            }
            for result in results {
                result.unwrap();
            }
        });
        clients
            .iter()
            .map(|it| it.torn.load(Ordering::Relaxed))
            .sum()
    }
}

/// A packet, or a few that belong together.
fn something(dice: &mut Dice, rig: &Rig, prog: &Prog, client: &Client) {
    match dice.below(8) {
        0 => client.asks(rig, prog, "S"),
        1 => client.is_answered(rig, prog, "SA"),
        2 => client.asks(rig, prog, "A"),
        3 => {
            client.asks(rig, prog, "S");
            client.is_answered(rig, prog, "SA");
            client.asks(rig, prog, "A");
        }
        4 => client.asks(rig, prog, dice.of(&["FA", "R", "A", "PA"])),
        5 => client.is_answered(rig, prog, dice.of(&["FA", "R", "A", "PA"])),
        6 => {
            client.asks(rig, prog, "FA");
            client.is_answered(rig, prog, "FA");
            client.asks(rig, prog, "S");
        }
        _ => client.asks(rig, prog, dice.of(&["SA", "FR", "SF", "", "SR"])),
    }
}

/// What is wrong is so only for the moment.
#[track_caller]
pub(crate) fn vanishes<T: std::fmt::Debug>(rig: &Rig, mut wrong: impl FnMut() -> Vec<T>) {
    let start = Instant::now();
    loop {
        let is_late = start.elapsed() > LIMIT;
        let wrong = wrong();
        if wrong.is_empty() {
            return;
        }
        assert!(!is_late, "{wrong:#?}\n{:?}", rig.counts());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Once all may be forgotten, no entry stays.
#[track_caller]
pub(crate) fn all_vanishes(rig: &Rig, config: &Config) {
    let mut config = config.clone();
    hasty(&mut config, 20);
    let next = rig.generation.next(&config).unwrap();
    next.sweep().unwrap();
    vanishes(rig, || {
        let entries = PATHS.iter().flat_map(|path| table(rig, *path).0);
        entries.collect()
    });
}

/// Nor is anything counted then.
#[track_caller]
pub(crate) fn nothing_stays(rig: &Rig, config: &Config) {
    all_vanishes(rig, config);
    let wrongs = wrongs(rig, &PATHS);
    assert!(wrongs.is_empty(), "{wrongs:#?}");
}

#[test]
fn few_flows_in_much_room() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let mut config = small(64);
    patient(&mut config);
    Storm::new(4).passes(&config);
}

#[test]
fn flows_that_make_room_for_each_other() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let mut config = small(0);
    patient(&mut config);
    Storm::new(60).passes(&config);
}

#[test]
fn flows_that_want_the_same_ports() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    for room in [0, 64] {
        let mut config = small(room);
        scarce(&mut config, 3);
        patient(&mut config);
        Storm::new(16).passes(&config);
    }
}

#[test]
fn flows_that_are_taken_out_meanwhile() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    for (room, ports) in [(0, 2000), (64, 3)] {
        let mut config = small(room);
        scarce(&mut config, ports);
        hasty(&mut config, 1);
        let storm = Storm {
            is_swept: true,
            is_changed: true,
            ..Storm::new(16)
        };
        storm.passes(&config);
    }
}

/// Threads that wait for each other send the very same packet.
#[test]
fn one_packet_from_everywhere() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    for mode in [Mode::Dnat, Mode::FullNat] {
        let mut config = small(64);
        patient(&mut config);
        if mode == Mode::FullNat {
            scarce(&mut config, 64);
        }
        inside(&config, Hook::Xdp, |rig| {
            let count = rounds(2000);
            let barrier = Barrier::new(2);
            let clients = Storm::new(1).clients();
            let held: &Rig = rig;
            let (barrier, clients) = (&barrier, clients.as_slice());
            let steps = |client: &Client| {
                let step = |act: &dyn Fn()| {
                    barrier.wait();
                    act();
                };
                let prog = &held.prog;
                step(&|| client.asks(held, prog, "S"));
                step(&|| client.is_answered(held, prog, "SA"));
                step(&|| client.asks(held, prog, "A"));
                step(&|| client.asks(held, prog, "FA"));
                step(&|| client.is_answered(held, prog, "FA"));
                step(&|| client.asks(held, prog, "S"));
                step(&|| client.is_answered(held, prog, "SA"));
                step(&|| client.asks(held, prog, "A"));
                step(&|| client.is_answered(held, prog, "R"));
            };
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for round in 0..count as usize {
                            steps(&clients[round % clients.len()]);
                        }
                    });
                }
            });
            let wrongs = wrongs(held, &PATHS);
            assert!(wrongs.is_empty(), "{wrongs:#?}\n{:?}", rig.counts());
            nothing_stays(held, &config);
        });
    }
}
