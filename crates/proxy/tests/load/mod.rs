//! Clients who never rest, and what they may be answered.

mod changes;
mod killed;
mod large;
mod model;
mod refused;
mod rollback;
mod tracer;
mod upgrades;

use crate::rig::support::people::Session;
use crate::rig::support::world::{LIMIT, VIP4, VIP6, World};
use crate::rig::{Daemon, text};
use bpfsmith_config::{Value, json};
use bpfsmith_proxy::http::{Client, Error, Method, Reply};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// So many in the long form, or else a few, but two at least.
pub(crate) fn count(long: u32, short: u32) -> u32 {
    bpfsmith_gate::part(long, short).max(2)
}

/// Numbers by chance that can be had again: Marsaglia's xorshift.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// By `BPFSMITH_SEED`, or one that is never the same. It is printed.
    pub(crate) fn new(test: &str) -> Chance {
        let given = std::env::var("BPFSMITH_SEED").ok();
        let now = std::time::SystemTime::now();
        let nanos = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = match given {
            Some(seed) => seed.parse().expect("BPFSMITH_SEED is no number"),
            None => u64::from(nanos.subsec_nanos()) << 20 ^ nanos.as_secs(),
        };
        println!("{test}: BPFSMITH_SEED={seed}");
        Chance(seed | 1)
    }

    pub(crate) fn another(&mut self) -> Chance {
        Chance(self.number() | 1)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.number() >> 11) % end
    }
}

/// Where a client goes: its number, and the address and port.
pub(crate) type Way = (usize, SocketAddr);

/// Who may answer each way.
pub(crate) type Allowed = BTreeMap<Way, BTreeSet<String>>;

/// IPv4, at this port.
pub(crate) fn v4(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(VIP4), port)
}

/// IPv6, at this port.
pub(crate) fn v6(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(VIP6), port)
}

/// What was allowed, and since when.
#[derive(Debug)]
pub(crate) struct Truth {
    epochs: Mutex<Vec<(Instant, Allowed)>>,
}

impl Truth {
    pub(crate) fn new(allowed: Allowed) -> Truth {
        Truth {
            epochs: Mutex::new(vec![(Instant::now(), allowed)]),
        }
    }

    /// From now on this may be true, or what was before.
    pub(crate) fn may_become(&self, next: &Allowed) {
        let mut epochs = self.epochs.lock().unwrap();
        let mut both = epochs.last().unwrap().1.clone();
        for (way, names) in next {
            both.entry(*way).or_default().extend(names.iter().cloned());
        }
        epochs.push((Instant::now(), both));
    }

    /// From now on nothing else is true.
    pub(crate) fn is(&self, now: Allowed) {
        self.epochs.lock().unwrap().push((Instant::now(), now));
    }

    /// Who might answer who began at `from`, and has his answer now.
    fn since(&self, way: Way, from: Instant) -> BTreeSet<String> {
        let epochs = self.epochs.lock().unwrap();
        let first = epochs.partition_point(|(begun, _)| *begun <= from);
        let during = epochs[first.saturating_sub(1)..].iter();
        let names = during.filter_map(|(_, allowed)| allowed.get(&way));
        names.flatten().cloned().collect()
    }
}

/// What the clients did, and what happened to them.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    world: &'a World,
    pub(crate) truth: Truth,
    ways: Vec<Way>,
    is_over: AtomicBool,
    pub(crate) opened: AtomicU64,
    pub(crate) echoed: AtomicU64,
    /// Long-lived ones: where the client is, what it asked for, and who serves it.
    pub(crate) lasting: Mutex<Vec<(SocketAddr, SocketAddr, String)>>,
    failed: Mutex<Vec<String>>,
    moved: Condvar,
    begun: Instant,
}

/// Long-lived connections of each client.
const LASTING: usize = 8;

/// So many short ones go by before there is one more long-lived one.
const SELDOM: u64 = 64;

/// Ends the load when whoever wanted it has ended, also by a panic.
struct Over<'l>(&'l AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Who begins, with what, and until when: clients go these ways all the time while `body` runs.
///
/// Nothing of it may have failed when it is over: each connection is made, answered by one who may, and ended in order.
#[track_caller]
pub(crate) fn under_load<'w>(
    world: &'w World,
    allowed: Allowed,
    chance: &mut Chance,
    body: impl FnOnce(&Load<'w>),
) {
    let load = Load {
        world,
        ways: allowed.keys().copied().collect(),
        truth: Truth::new(allowed),
        is_over: AtomicBool::new(false),
        opened: AtomicU64::new(0),
        echoed: AtomicU64::new(0),
        lasting: Mutex::default(),
        failed: Mutex::default(),
        moved: Condvar::new(),
        begun: Instant::now(),
    };
    let before: u64 = (0..world.clients.len()).map(|it| load.resent(it)).sum();
    for client in 0..world.clients.len() {
        // They come and go more often than the kernel would give the same port again.
        let ns = &world.clients[client].node.ns;
        ns.set_sysctl("ipv4/ip_local_port_range", "2048 65000")
            .unwrap();
    }
    std::thread::scope(|scope| {
        let over = Over(&load.is_over);
        for client in 0..world.clients.len() {
            let (one, other) = (chance.another(), chance.another());
            let load = &load;
            scope.spawn(move || load.at(client, |load| load.come_and_go(client, one)));
            scope.spawn(move || load.at(client, |load| load.stay(client, other)));
        }
        // Each long-lived connection of the beginning is there.
        load.wait("the first connections", |load| {
            load.lasting.lock().unwrap().len() >= LASTING * world.clients.len()
        });
        body(&load);
        drop(over);
    });
    let after: u64 = (0..world.clients.len()).map(|it| load.resent(it)).sum();
    load.nothing_failed();
    println!(
        "{}, nothing failed; {} segments were sent twice",
        load.so_far(),
        after.saturating_sub(before),
    );
}

impl Load<'_> {
    /// On a thread at a client's machine.
    fn at(&self, client: usize, body: impl FnOnce(&Self) + Send) {
        let node = &self.world.clients[client].node;
        node.ns.run(|| body(self)).unwrap();
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// How many segments a client's machine has sent again.
    fn resent(&self, client: usize) -> u64 {
        let read = || std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let text = self.world.clients[client].node.ns.run(read).unwrap();
        let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
        let names = lines.next().unwrap().split_whitespace();
        let values = lines.next().unwrap().split_whitespace();
        let mut both = names.zip(values);
        let found = both.find(|(name, _)| *name == "RetransSegs");
        found.unwrap().1.parse().unwrap()
    }

    /// What has been done until now.
    pub(crate) fn so_far(&self) -> String {
        format!(
            "{} connections and {} echoes on {} long-lived ones in {:?}",
            self.opened.load(Ordering::Acquire),
            self.echoed.load(Ordering::Acquire),
            self.lasting.lock().unwrap().len(),
            self.begun.elapsed(),
        )
    }

    fn fail(&self, what: String) {
        let when = self.begun.elapsed();
        let mut failed = self.failed.lock().unwrap();
        failed.push(format!("after {when:?}: {what}"));
    }

    /// Opens a connection, and says who answers; whether he may.
    fn open(&self, client: usize, to: SocketAddr) -> io::Result<Session> {
        let begun = Instant::now();
        let session = Session::on(TcpStream::connect_timeout(&to, LIMIT)?)?;
        let allowed = self.truth.since((client, to), begun);
        if !allowed.contains(&session.server) {
            self.fail(format!(
                "client {client} asked {to} and {} answered: allowed were {allowed:?}",
                session.server
            ));
        }
        Ok(session)
    }

    fn way(&self, client: usize, chance: &mut Chance) -> SocketAddr {
        let own = self.ways.iter().filter(|(it, _)| *it == client);
        let own: Vec<SocketAddr> = own.map(|(_, to)| *to).collect();
        own[usize::try_from(chance.below(own.len() as u64)).unwrap()]
    }

    fn come_and_go(&self, client: usize, mut chance: Chance) {
        while !self.is_over() {
            let to = self.way(client, &mut chance);
            let begun = Instant::now();
            let done = self.open(client, to).and_then(|mut session| {
                session.echo(&chance.number().to_le_bytes())?;
                session.end()
            });
            if let Err(error) = done {
                let time = begun.elapsed();
                self.fail(format!(
                    "client {client} asked {to}: {error} after {time:?}"
                ));
            }
            self.opened.fetch_add(1, Ordering::Release);
            self.moved.notify_all();
            // So that there are ports for minutes.
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    fn stay(&self, client: usize, mut chance: Chance) {
        let mut sessions = Vec::new();
        let mut round = 0;
        while !self.is_over() {
            if sessions.len() < LASTING || (round % SELDOM == 0 && sessions.len() < 4 * LASTING) {
                let to = self.way(client, &mut chance);
                match self.open(client, to) {
                    Ok(session) => {
                        let known = (session.local(), to, session.server.clone());
                        self.lasting.lock().unwrap().push(known);
                        sessions.push((to, session));
                    }
                    Err(error) => self.fail(format!("client {client} asked {to}: {error}")),
                }
            }
            round += 1;
            for (to, session) in &mut sessions {
                let size = usize::try_from(chance.below(3000)).unwrap() + 8;
                let word = chance.number().to_le_bytes();
                let bytes: Vec<u8> = word.iter().copied().cycle().take(size).collect();
                let begun = Instant::now();
                if let Err(error) = session.echo(&bytes) {
                    let (from, time) = (session.local(), begun.elapsed());
                    let who = &session.server;
                    self.fail(format!(
                        "{from} at {to}, served by {who}: {error} after {time:?}"
                    ));
                    // One failure of it is enough.
                    return;
                }
                self.echoed.fetch_add(1, Ordering::Release);
            }
            self.moved.notify_all();
            std::thread::sleep(Duration::from_millis(3));
        }
        for (to, session) in sessions {
            let from = session.local();
            if let Err(error) = session.end() {
                self.fail(format!("the end of {from} at {to}: {error}"));
            }
        }
    }

    /// Waits until more has gone well than now: of short connections, and of echoes.
    #[track_caller]
    pub(crate) fn goes_on(&self) {
        let count = |it: &AtomicU64| it.load(Ordering::Acquire);
        let (opened, echoed) = (count(&self.opened), count(&self.echoed));
        let clients = self.world.clients.len() as u64;
        let lasting = self.lasting.lock().unwrap().len() as u64;
        self.wait("traffic", |load| {
            // Each client has begun and ended one since, and each long-lived one has heard something.
            count(&load.opened) >= opened + 2 * clients
                && count(&load.echoed) >= echoed + 2 * lasting
        });
    }

    #[track_caller]
    fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        let mutex = Mutex::new(());
        let mut guard = mutex.lock().unwrap();
        while !is_so(self) {
            self.nothing_failed();
            assert!(begun.elapsed() < LIMIT, "{what}: nothing moves");
            let time = Duration::from_millis(20);
            guard = self.moved.wait_timeout(guard, time).unwrap().0;
        }
    }

    #[track_caller]
    pub(crate) fn nothing_failed(&self) {
        let failed = self.failed.lock().unwrap().clone();
        let opened = self.opened.load(Ordering::Acquire);
        assert!(
            failed.is_empty(),
            "{} of {opened} failed:\n{}",
            failed.len(),
            failed
                .iter()
                .take(20)
                .cloned()
                .collect::<Vec<_>>()
                .join("\n")
        );
    }

    /// Each long-lived connection is known, and has the target that it always had.
    #[track_caller]
    pub(crate) fn all_are_known(&self, daemon: &Daemon<'_>) {
        let lasting = self.lasting.lock().unwrap().clone();
        let field = |it: &Value, name: &str| text(it, &[name]).to_owned();
        let all: BTreeMap<[String; 2], String> = daemon
            .conns(&[])
            .iter()
            .map(|it| {
                (
                    ["client", "service"].map(|name| field(it, name)),
                    field(it, "target"),
                )
            })
            .collect();
        for (client, to, server) in lasting {
            let target = all.get(&[client.to_string(), to.to_string()]);
            let number: u16 = server[1..].parse().unwrap();
            let there = [
                format!("10.20.{number}.2:8080"),
                SocketAddr::new([0xfd20, number, 0, 0, 0, 0, 0, 2].into(), 8080).to_string(),
            ];
            assert!(
                target.is_some_and(|it| there.contains(it)),
                "{client} is served by {server}, and listed with {target:?}"
            );
        }
    }
}

/// Commands to a daemon without a process for each: they may come from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Api(Client);

impl Api {
    pub(crate) fn of(daemon: &Daemon<'_>) -> Api {
        Api(Client::unix(daemon.socket()).with_time(LIMIT))
    }

    pub(crate) fn ask(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&str>,
    ) -> Result<Reply, Error> {
        let target = bpfsmith_proxy::http::target(path, &[]);
        self.0
            .request(method, &target, body.unwrap_or_default().as_bytes())
    }

    /// What is answered to one that has to succeed.
    #[track_caller]
    pub(crate) fn ok(&self, method: Method, path: &[&str], body: Option<&str>) -> Value {
        let reply = self.ask(method, path, body);
        let reply = reply.unwrap_or_else(|error| panic!("{path:?} {body:?}: {error}"));
        let said = String::from_utf8_lossy(&reply.body);
        assert!(
            reply.is_success(),
            "{path:?} {body:?}: {}: {said}",
            reply.status
        );
        json::read(said.trim()).unwrap()
    }

    /// What is said of one that has to fail.
    #[track_caller]
    pub(crate) fn fails(&self, method: Method, path: &[&str], body: Option<&str>) -> String {
        let reply = self.ask(method, path, body);
        let reply = reply.unwrap_or_else(|error| panic!("{path:?} {body:?}: {error}"));
        let said = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(!reply.is_success(), "{path:?} {body:?}: {said}");
        said
    }
}
