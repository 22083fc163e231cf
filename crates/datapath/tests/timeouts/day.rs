//! A day of flows in all states.

use crate::age::{APART, Time};
use crate::dice::Dice;
use crate::model::{Did, Known, Span};
use crate::rig::{Flow, Rig, backend, client, config, inside, listener};
use crate::script::{Side, Step, life};
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::connections::{self, Connection};
use bpfsmith_datapath::event::{End, Kind, What};
use bpfsmith_datapath::events::Events as Reader;
use bpfsmith_datapath::flows::Flows;
use bpfsmith_datapath::layout::{Bucket4, Bucket6};
use bpfsmith_datapath::programs::Hook;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::needs;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Flows at a time, of each family and protocol; a third of them come from few ports of the proxy's own.
const FLOWS: u32 = 24;

/// Ports that these share. All of them are tried for a flow.
const PORTS: u16 = 8;

/// How much earlier a flow is looked at that must still be there: so long this machine may stand still.
const EARLIER: Duration = Duration::from_millis(60);

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Beside the usual listener one whose backend sees the proxy's own address.
fn busy(timeouts: Timeouts) -> Config {
    let mut config = config(Algorithm::RoundRobin, &[1, 1]);
    for family in FAMILIES {
        let id = BackendId(config.backends.len().try_into().unwrap());
        config.backends.push(Backend {
            id,
            address: SocketAddr::new(backend(family, 100), 8080),
        });
        let group = GroupId(config.groups.len().try_into().unwrap());
        let member = Member {
            backend: id,
            weight: 1,
        };
        config.groups.push(Group {
            algorithm: Algorithm::RoundRobin,
            mode: Mode::FullNat,
            members: vec![member],
        });
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            config.listeners.push(Listener {
                number: config.listeners.len().try_into().unwrap(),
                devices: Vec::new(),
                address: scarce(family),
                protocol,
                routes: Vec::new(),
                group,
            });
        }
    }
    config.sources = vec![
        "10.98.0.1".parse().unwrap(),
        "fd98::1".parse().unwrap(),
    ];
    config.source_ports = 2000..=2000 + PORTS - 1;
    config.room.flows = 5 * FLOWS;
    config.events = Some(Events::default());
    config.timeouts = timeouts;
    config
}

fn scarce(family: Family) -> SocketAddr {
    SocketAddr::new(listener(family).ip(), 81)
}

/// The machine stood still for so long that nobody knows what came first.
#[derive(Debug)]
struct Stalled;

/// What was looked at.
#[derive(Debug, Default)]
struct Seen {
    checks: u64,
    /// Of these, so many when no flow was about to end.
    exact: u64,
    packets: u64,
    begun: u64,
    /// By the kernel's sweep.
    swept: u64,
    ends: BTreeMap<End, u64>,
    /// Flows that were there just before their end.
    before: u64,
    /// And those that were gone just after.
    after: u64,
}

struct Day<'a> {
    rig: &'a Rig,
    time: Time,
    dice: Dice,
    timeouts: Timeouts,
    unanswered: u64,
    backends: BTreeMap<SocketAddr, u16>,
    reader: Reader,
    told: BTreeMap<End, u64>,
    known: BTreeMap<(Protocol, SocketAddr), Known>,
    /// When flows begin, and where.
    waiting: Vec<(u64, Path, bool)>,
    clients: u32,
    seen: Seen,
}

impl Day<'_> {
    fn new<'a>(rig: &'a Rig, config: &Config) -> Day<'a> {
        let time = Time::new(rig, config.timeouts.round);
        let reader = Reader::open(&rig.generation).unwrap();
        rig.generation.want(&[Kind::Closed]).unwrap();
        rig.generation.sweep().unwrap();
        let backends = config.backends.iter();
        Day {
            rig,
            unanswered: time.ticks(config.timeouts.unanswered),
            time,
            dice: Dice::new(),
            timeouts: config.timeouts,
            backends: backends.map(|it| (it.address, it.id.0)).collect(),
            reader,
            told: BTreeMap::new(),
            known: BTreeMap::new(),
            waiting: Vec::new(),
            clients: 0,
            seen: Seen::default(),
        }
    }

    fn due(&self, known: &Known) -> Span {
        known.is_due(&self.time, &self.timeouts)
    }

    /// Does something that takes a moment, and says when that was.
    fn at<T>(&self, act: impl FnOnce() -> T) -> (T, Span) {
        let from = self.time.now().saturating_sub(APART);
        let result = act();
        let to = self.time.now() + APART;
        (result, Span { from, to })
    }

    /// Begins a flow, whose client comes from somewhere else each time.
    fn begins(&mut self, path: Path, is_scarce: bool) {
        let address = match is_scarce {
            true => scarce(path.family),
            false => listener(path.family),
        };
        self.clients += 1;
        let from = client(path.family, self.clients);
        let (flow, born) = self.at(|| self.rig.begin(path.protocol, from, address));
        let flow = flow.unwrap_or_else(|| panic!("refused: {:?}", self.rig.counts()));
        let mut known = Known::new(flow, born);
        known.steps = life(&mut self.dice, path.protocol);
        known.steps.reverse();
        known.is_probed = self.dice.one_of(20);
        self.seen.begun += 1;
        self.wakes(&mut known);
        self.known.insert((path.protocol, from), known);
    }

    fn wakes(&self, known: &mut Known) {
        known.wakes = known.steps.last().map(|step| {
            let timeout = known.timeout(&self.time, &self.timeouts).from;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "ticks of a few hours"
            )]
            let pause = (timeout as f64 * step.after) as u64;
            self.time.now() + pause
        });
    }

    /// The next packet of a flow, which must be there.
    fn sends(&mut self, key: (Protocol, SocketAddr)) -> Result<(), Stalled> {
        let mut known = self.known.remove(&key).unwrap();
        let now = self.time.now();
        if known.is_close(now, self.time.ticks(EARLIER), self.unanswered) {
            known.wakes = Some(now + self.time.ticks(2 * EARLIER));
            self.known.insert(key, known);
            return Ok(());
        }
        let Step { side, flags, .. } = known.steps.pop().unwrap();
        let frame = match side {
            Side::Client => known.flow.ask(flags),
            Side::Backend => known.flow.answer(flags),
        };
        if known.is_too_late(now.saturating_sub(APART), self.unanswered) {
            // The rest of it is not played: it would be about something else.
            if side == Side::Backend {
                assert!(self.rig.send(&frame).is_none(), "{known:#?}");
            }
            (known.steps, known.wakes) = (Vec::new(), None);
            self.known.insert(key, known);
            return Ok(());
        }
        let (view, at) = self.at(|| self.rig.send(&frame));
        if at.to >= self.due(&known).from || known.is_too_late(at.to, self.unanswered) {
            return Err(Stalled);
        }
        let view = view.unwrap_or_else(|| panic!("vanished before its time: {known:#?}"));
        self.seen.packets += 1;
        match known.has(side, flags, at, self.unanswered) {
            Did::Either => return Err(Stalled),
            Did::Passed => {}
            Did::BeginsAnew(end) => {
                let (from, to) = view.ports().unwrap();
                let flow = Flow {
                    source: SocketAddr::new(view.src(), from),
                    backend: SocketAddr::new(view.dst(), to),
                    ..known.flow
                };
                self.ended(end);
                self.seen.begun += 1;
                let (steps, is_probed) = (known.steps, known.is_probed);
                known = Known::new(flow, at);
                (known.steps, known.is_probed) = (steps, is_probed);
            }
        }
        self.wakes(&mut known);
        self.known.insert(key, known);
        Ok(())
    }

    fn ended(&mut self, end: Option<End>) {
        if let Some(end) = end {
            *self.seen.ends.entry(end).or_default() += 1;
        }
    }

    fn listen(&mut self) {
        let told = &mut self.told;
        let read = self.reader.read(|event| {
            let What::Closed(_, end) = event.what else {
                panic!("{event:?}");
            };
            *told.entry(end).or_default() += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(read.unwrap().malformed, 0);
    }

    /// All flows are there that must be, and no other, after the kernel has looked at them once.
    fn check(&mut self) {
        let start = self.time.now().saturating_sub(APART);
        self.time.is_swept(self.rig);
        let generation = &self.rig.generation;
        let all = connections::all(generation.maps(), generation.shape()).unwrap();
        let end = self.time.now() + APART;
        self.seen.checks += 1;
        let mut there: BTreeMap<(Protocol, SocketAddr), Connection> = BTreeMap::new();
        for it in all {
            assert!(there.insert((it.protocol, it.client), it).is_none());
        }
        let keys: Vec<_> = self.known.keys().copied().collect();
        for key in keys {
            let known = &self.known[&key];
            let due = self.due(known);
            match there.remove(&key) {
                Some(found) => {
                    assert!(start <= due.to, "stays at {start}, due {due:?}: {known:#?}");
                    let flow = &known.flow;
                    assert_eq!(found.state, known.state(), "{known:#?}");
                    assert_eq!((found.source, found.target), (flow.source, flow.backend));
                    assert!(found.listener.is_some(), "without answers: {known:#?}");
                }
                None => {
                    assert!(
                        end > due.from,
                        "vanished before {end}, due {due:?}: {known:#?}"
                    );
                    self.is_gone(key);
                }
            }
        }
        assert!(there.is_empty(), "nobody knows: {there:#?}");
        self.count();
    }

    fn is_gone(&mut self, key: (Protocol, SocketAddr)) {
        let known = self.known.remove(&key).unwrap();
        self.seen.swept += 1;
        self.ended(known.end());
        let path = Path::new(Family::of(key.1.ip()), key.0);
        let is_scarce = known.flow.listener == scarce(path.family);
        let pause = Duration::from_millis(self.dice.below(20 * 60 * 1000));
        let then = self.time.now() + self.time.ticks(pause);
        self.waiting.push((then, path, is_scarce));
    }

    /// All counts are right, if that can be said: while they are read no flow may end.
    fn count(&mut self) {
        let generation = &self.rig.generation;
        let swept = generation.swept().unwrap();
        let counts: Vec<_> = self.backends.values().copied().collect();
        let counts = counts.into_iter().map(|id| (id, self.rig.flows_of(id)));
        let counts: BTreeMap<u16, u32> = counts.collect();
        let entries = match self.seen.checks % 30 {
            0 => Some(
                Path::ALL
                    .map(|path| self.entries(path))
                    .iter()
                    .sum::<usize>(),
            ),
            _ => None,
        };
        self.listen();
        let now = self.time.now() + APART;
        if self.known.values().any(|it| self.due(it).from <= now) {
            return;
        }
        self.seen.exact += 1;
        let mut wanted: BTreeMap<u16, u32> = counts.keys().map(|id| (*id, 0)).collect();
        for known in self.known.values().filter(|it| it.counts()) {
            *wanted.get_mut(&self.backends[&known.flow.backend]).unwrap() += 1;
        }
        assert_eq!(counts, wanted);
        let due = || self.known.values().map(|it| self.due(it).from).min();
        let (removed, gone) = (swept.removed, self.seen.swept);
        assert_eq!(
            removed,
            gone,
            "at {now}, due from {:?}: {:?}",
            due(),
            self.seen
        );
        assert_eq!(self.told, self.seen.ends);
        if let Some(entries) = entries {
            assert_eq!(entries, 2 * self.known.len(), "each has two directions");
        }
    }

    fn entries(&self, path: Path) -> usize {
        let maps = self.rig.generation.maps();
        match path.family {
            Family::V4 => Flows::<Bucket4>::read(maps, path).unwrap().iter().count(),
            Family::V6 => Flows::<Bucket6>::read(maps, path).unwrap().iter().count(),
        }
    }

    /// What comes next, of what is before that time: flows are looked at a moment before and after they end.
    fn next(&self, until: u64) -> u64 {
        let now = self.time.now();
        let earlier = self.time.ticks(EARLIER);
        let probes = self
            .known
            .values()
            .filter(|it| it.is_probed && it.wakes.is_none());
        let probes = probes.flat_map(|it| {
            let due = self.due(it);
            [
                due.from.saturating_sub(earlier),
                due.to + 1 + APART,
            ]
        });
        let wakes = self.known.values().filter_map(|it| it.wakes);
        let begins = self.waiting.iter().map(|(then, ..)| *then);
        let all = probes.filter(|then| *then > now).chain(wakes).chain(begins);
        all.min().unwrap_or(until).min(until).max(now)
    }

    /// Goes on until then, and looks at each minute, and where it is close.
    fn passes(&mut self, until: u64, minute: u64) -> Result<(), Stalled> {
        while self.time.now() < until {
            let looks = (self.time.now() / minute + 1) * minute;
            let then = self.next(looks.min(until));
            self.time.goes_on_until(then);
            let now = self.time.now();
            let due = self.known.iter();
            let due = due.filter(|(_, it)| it.wakes.is_some_and(|at| at <= now));
            let due: Vec<_> = due.map(|(key, _)| *key).collect();
            let begin: Vec<_> = self.waiting.extract_if(.., |it| it.0 <= now).collect();
            let acts = due.len() + begin.len();
            for key in due {
                self.sends(key)?;
            }
            for (_, path, is_scarce) in begin {
                self.begins(path, is_scarce);
            }
            if acts == 0 {
                self.probe();
            }
        }
        Ok(())
    }

    /// Looks at all flows, and says how many of them were about to end or had just ended.
    fn probe(&mut self) {
        let earlier = self.time.ticks(EARLIER);
        let near = |day: &Self, from: u64, to: u64| {
            let range = from..=to;
            let near = day.known.values().map(|it| day.due(it));
            near.filter(|due| range.contains(&due.from)).count() as u64
        };
        let now = self.time.now();
        let (before, after) = (
            near(self, now + APART, now + earlier),
            near(
                self,
                now.saturating_sub(earlier),
                now.saturating_sub(1 + APART),
            ),
        );
        let there = self.known.len();
        self.check();
        if there == self.known.len() {
            self.seen.before += before;
        }
        self.seen.after += after;
    }
}

fn run(config: &Config, rig: &Rig) -> Result<(), Stalled> {
    let start = Instant::now();
    let mut day = Day::new(rig, config);
    let minute = day.time.ticks(Duration::from_secs(60));
    for path in Path::ALL {
        for n in 0..FLOWS {
            let pause = Duration::from_secs(day.dice.below(3600));
            let then = day.time.now() + day.time.ticks(pause);
            day.waiting.push((then, path, n < PORTS.into()));
        }
    }
    let end = day.time.now() + 24 * 60 * minute;
    day.passes(end, minute)?;
    assert!(!day.known.is_empty());
    // Nobody begins, and nobody goes on.
    day.waiting.clear();
    for known in day.known.values_mut() {
        known.wakes = None;
        known.is_probed = true;
    }
    while let Some(last) = day.known.values().map(|it| day.due(it).to).max() {
        day.passes(last + 1 + APART, 30 * minute)?;
        day.waiting.clear();
        day.check();
        day.waiting.clear();
    }
    ends(&mut day);
    eprintln!("{:.1} s: {:?}", start.elapsed().as_secs_f64(), day.seen);
    Ok(())
}

/// Nothing is left of all that, and there is room for others.
fn ends(day: &mut Day<'_>) {
    assert_eq!(Path::ALL.map(|path| day.entries(path)), [0; 4]);
    day.count();
    let counts: BTreeMap<Reason, u64> = day.rig.counts().into_iter().collect();
    let count = |reason| counts.get(&reason).copied().unwrap_or_default();
    assert_eq!(count(Reason::Opened), day.seen.begun);
    for none in [
        Reason::NoPort,
        Reason::Full,
        Reason::MadeRoom,
        Reason::Leaving,
        Reason::EventLost,
    ] {
        assert_eq!(count(none), 0, "{none:?}: {counts:?}");
    }
    let seen = &day.seen;
    assert!(
        seen.ends.len() == 3 && seen.ends.values().all(|it| *it > 20),
        "{seen:?}"
    );
    assert!(seen.exact > seen.checks / 4, "{seen:?}");
    assert!(seen.before > 20 && seen.after > 20, "{seen:?}");
    // Each port is free again.
    for path in Path::ALL {
        let mut ports = Vec::new();
        for _ in 0..PORTS {
            day.clients += 1;
            let from = client(path.family, day.clients);
            let flow = day.rig.open(path.protocol, from, scarce(path.family));
            ports.push(flow.source.port());
        }
        ports.sort_unstable();
        assert_eq!(ports, (2000..2000 + PORTS).collect::<Vec<_>>());
        let from = client(path.family, day.clients + 1);
        let more = day.rig.begin(path.protocol, from, scarce(path.family));
        assert!(more.is_none(), "a port more than there are: {more:?}");
    }
}

#[track_caller]
fn day(timeouts: Timeouts) {
    let config = busy(timeouts);
    for _ in 0..20 {
        let result = inside(&config, Hook::Xdp, |rig| run(&config, rig));
        if result.is_ok() {
            return;
        }
        eprintln!("this machine stood still when it mattered: again");
    }
    panic!("this machine stands still all the time");
}

#[test]
fn a_day_with_the_usual_timeouts() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    day(Timeouts {
        round: Duration::from_millis(1),
        ..Timeouts::default()
    });
}

#[test]
fn a_day_with_other_timeouts() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    let seconds = Duration::from_secs;
    day(Timeouts {
        unanswered: seconds(7),
        established: seconds(45 * 60),
        half_closed: seconds(2 * 3600),
        closed: seconds(90),
        udp: seconds(4 * 3600),
        round: Duration::from_millis(4),
    });
}
