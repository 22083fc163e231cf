//! What has names outlives processes that are killed, also in the middle of a change.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod support;

use bpfsmith_datapath::config::{Config, Events, Fragments, Timeouts};
use bpfsmith_datapath::error::Error;
use bpfsmith_datapath::event::{Event, Kind, What};
use bpfsmith_datapath::events::Events as Reader;
use bpfsmith_datapath::look::Look;
use bpfsmith_datapath::pins::{Adopted, Pins};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::{deadline, needs, rounds};
use bpfsmith_maps::{Handle, Map, View};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::kept::{Home, at_proxy, config, devices, keep};
use support::people::{Session, who, who_udp};
use support::serving::{SERVED, asked};
use support::world::{LIMIT, World};

const ROLE: &str = "BS_PINS_ROLE";
const DIR: &str = "BS_PINS_DIR";
const ALL: [&str; 3] = ["front", "back0", "back1"];

/// Not a test: what a process does that another test started.
#[test]
fn as_another_process() {
    let Some(role) = std::env::var_os(ROLE) else {
        return;
    };
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    match role.to_str().unwrap() {
        "restless" => change_without_end(&dir),
        "first" => serve(&dir, &[0]),
        "second" => serve(&dir, &[1]),
        "reader" => read_events(&dir),
        other => panic!("{other}"),
    }
}

fn say(word: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "say {word}").unwrap();
    out.flush().unwrap();
}

/// Waits until it is killed, or told to end.
fn wait() {
    let _ = std::io::stdin().read(&mut [0]);
}

/// How long flows of UDP may be silent.
const UDP: Duration = Duration::from_secs(2);

/// Flows of UDP are forgotten soon, and all is told.
fn serving(known: &Adopted, backends: &[u8]) -> Config {
    Config {
        timeouts: Timeouts {
            udp: UDP,
            round: Duration::from_secs(1),
            ..Timeouts::default()
        },
        events: Some(Events::default()),
        ..config(known, backends)
    }
}

fn serve(dir: &Path, backends: &[u8]) {
    let pins = match Pins::open(dir) {
        Err(Error::Busy { process, .. }) => return say(&format!("busy {}", process.unwrap())),
        pins => pins.unwrap(),
    };
    let config = serving(&pins.adopted().unwrap(), backends);
    let (generation, _attached) = keep(&pins, &config, &devices(&ALL)).unwrap();
    generation.want(Kind::ALL).unwrap();
    say("attached");
    wait();
}

fn read_events(dir: &Path) {
    let pins = Pins::open(dir).unwrap();
    let config = serving(&pins.adopted().unwrap(), &[0]);
    let (generation, _attached) = keep(&pins, &config, &devices(&ALL)).unwrap();
    let mut reader = Reader::open(&generation).unwrap();
    deadline(LIMIT, || {
        let mut seen = None;
        let each = |event: Event| match event.what {
            What::New(_) => {
                seen = Some(event.client);
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        };
        reader.read(each).unwrap();
        say(&format!("new {}", seen?));
        Some(())
    });
    wait();
}

/// Adopts what there is, and changes configurations, tables and devices.
fn change_without_end(dir: &Path) {
    let pins = Pins::open(dir).unwrap();
    let config = |number: usize| {
        let known = pins.adopted().unwrap();
        let mut config = config(&known, [&[0_u8][..], &[0, 1], &[1]][number % 3]);
        // Tables come and go.
        config.events = number.is_multiple_of(2).then(Events::default);
        if number % 4 < 2 {
            config.fragments = Fragments::Pass;
        }
        config
    };
    let begin = usize::try_from(std::process::id()).unwrap();
    say("begins");
    let (mut generation, mut attached) = keep(&pins, &config(begin), &devices(&ALL)).unwrap();
    for number in begin + 1.. {
        let next = generation.next(&config(number)).unwrap();
        // One comes and goes that no flow needs.
        let names = match number % 3 {
            0 => &["front", "back0", "back1", "back2"],
            _ => &ALL[..],
        };
        let look = Look::here().unwrap();
        let lost = attached.replace_on(&look, &next, &devices(names)).unwrap();
        assert_eq!(lost, []);
        generation = next;
        say("changed");
    }
}

/// Another process. It does not outlive the test.
struct Process {
    child: Child,
    hears: BufReader<ChildStdout>,
    _says: ChildStdin,
}

impl Process {
    /// On the proxy's machine.
    #[track_caller]
    fn start(world: &World, home: &Home, role: &str) -> Process {
        let start = || {
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "as_another_process",
                    "--nocapture",
                ])
                .env(ROLE, role)
                .env(DIR, home.dir())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
        };
        let mut child = at_proxy(world, start).unwrap();
        Process {
            hears: BufReader::new(child.stdout.take().unwrap()),
            _says: child.stdin.take().unwrap(),
            child,
        }
    }

    /// The next that it says.
    #[track_caller]
    fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            let len = self.hears.read_line(&mut line).unwrap();
            assert!(len > 0, "it ended: {:?}", self.child.wait());
            // The test harness speaks, too, and ends no line before.
            if let Some((_, word)) = line.trim_end().rsplit_once("say ") {
                return word.to_owned();
            }
        }
    }

    /// It ends with `SIGKILL`.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_killed_process_leaves_a_proxy_that_another_one_adopts() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let (world, home) = (World::new(1, 2), Home::new());
    let servers = world.serve(SERVED);
    let node = &world.client().node;
    let mut first = Process::start(&world, &home, "first");
    assert_eq!(first.hear(), "attached");
    // Two at once.
    let mut late = Process::start(&world, &home, "second");
    assert_eq!(late.hear(), format!("busy {}", first.child.id()));
    let mut sessions = asked().map(|to| Session::open(node, to).unwrap());
    first.kill();
    for session in &mut sessions {
        session.echo(b"its process is dead").unwrap();
    }
    let begun = std::time::Instant::now();
    for to in asked() {
        assert_eq!(who(node, to), "b0");
        assert_eq!(who_udp(node, to), "b0");
    }
    // Nobody but the kernel forgets what is idle: the two connections stay.
    let flows = Handle::open_pin(home.dir().join("v1/maps/backend_flows")).unwrap();
    let flows = Map::<u32, u32>::view(flows).unwrap();
    let count = || -> u32 { (0..4).map(|it| flows.lookup(&it).unwrap().unwrap()).sum() };
    let (now, is_late) = (count(), begun.elapsed() > UDP);
    assert!(now >= 4 || is_late, "{now} flows");
    let at = std::time::Instant::now();
    while count() > 2 {
        assert!(at.elapsed() < LIMIT, "{} flows stay", count());
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut second = Process::start(&world, &home, "second");
    assert_eq!(second.hear(), "attached");
    for (session, to) in sessions.iter_mut().zip(asked()) {
        session.echo(b"and here is another one").unwrap();
        assert_eq!(who(node, to), "b1");
    }
    second.kill();
    let known = home.pins().adopted().unwrap();
    assert_eq!((known.backends.len(), known.listeners.len()), (4, 4));
    for session in sessions {
        session.end().unwrap();
    }
    // Counters go on: two connections, four asked, two asked.
    let opened = at_proxy(&world, || {
        let pins = home.pins();
        let config = serving(&pins.adopted().unwrap(), &[0, 1]);
        let (generation, attached) = keep(&pins, &config, &devices(&ALL)).unwrap();
        let opened = generation.counters().unwrap()[&Reason::Opened];
        attached.detach().unwrap();
        opened
    });
    assert_eq!(opened, 8);
    assert!(!home.dir().exists());
    for server in servers {
        assert_eq!(server.failed(), Vec::<String>::new());
    }
}

#[test]
fn events_are_read_by_another_process_when_the_first_is_dead() {
    needs!(NetNs, Veth, Tcx, Bpffs, RingBuf);
    let (world, home) = (World::new(1, 2), Home::new());
    let _servers = world.serve(SERVED);
    let mut first = Process::start(&world, &home, "first");
    assert_eq!(first.hear(), "attached");
    first.kill();
    let session = Session::open(&world.client().node, asked()[0]).unwrap();
    let mut reader = Process::start(&world, &home, "reader");
    assert_eq!(reader.hear(), format!("new {}", session.local()));
    session.end().unwrap();
}

#[test]
fn a_process_that_is_killed_at_any_moment_loses_no_flow() {
    needs!(NetNs, Veth, Tcx, Bpffs);
    let (world, home) = (World::new(1, 3), Home::new());
    let servers = world.serve(SERVED);
    let node = &world.client().node;
    let mut first = Process::start(&world, &home, "first");
    assert_eq!(first.hear(), "attached");
    first.kill();
    let (over, echoes, asks) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let is_over = || over.load(Ordering::Acquire);
    std::thread::scope(|scope| {
        for to in asked() {
            let mut session = Session::open(node, to).unwrap();
            assert_eq!(session.server, "b0");
            let (echoes, is_over) = (&echoes, &is_over);
            scope.spawn(move || {
                while !is_over() {
                    let bytes = vec![
                        7;
                        1 + usize::try_from(echoes.load(Ordering::Relaxed)).unwrap()
                            % 5000
                    ];
                    session.echo(&bytes).unwrap();
                    echoes.fetch_add(1, Ordering::Relaxed);
                    // Others want to run, too.
                    std::thread::sleep(Duration::from_millis(2));
                }
                session.end().unwrap();
            });
        }
        let (asks, is_over) = (&asks, &is_over);
        scope.spawn(move || {
            while !is_over() {
                who(node, asked()[0]);
                asks.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            kill_again_and_again(&world, &home)
        }));
        over.store(true, Ordering::Release);
        killed.unwrap();
    });
    let (echoes, asks) = (echoes.into_inner(), asks.into_inner());
    assert!(echoes > 20 && asks > 20, "{echoes} echoes, {asks} asked");
    for server in &servers {
        assert_eq!(server.failed(), Vec::<String>::new());
    }
    assert!(home.pins().detach().unwrap().links >= 2);
    assert!(!home.dir().exists());
}

/// Kills a process that changes all the time, and looks what it leaves.
fn kill_again_and_again(world: &World, home: &Home) {
    let mut known: BTreeMap<u16, SocketAddr> = BTreeMap::new();
    // Whatever: another one in each run.
    let mut dice = std::process::id() | 1;
    for round in 0..rounds(20) {
        let mut restless = Process::start(world, home, "restless");
        assert_eq!(restless.hear(), "begins");
        // Each second one in the middle of adoption, the others later.
        if round % 2 == 1 {
            assert_eq!(restless.hear(), "changed");
        }
        dice ^= dice << 13;
        dice ^= dice >> 17;
        dice ^= dice << 5;
        std::thread::sleep(Duration::from_micros(u64::from(dice % 400_000)));
        restless.kill();
        let found = home.pins().adopted().unwrap();
        assert_eq!(found.listeners.len(), 4, "{found:?}");
        for (number, address) in &known {
            assert_eq!(found.backends.get(number), Some(address));
        }
        let mut addresses: Vec<_> = found.backends.values().collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), found.backends.len(), "{found:?}");
        known = found.backends;
    }
}
