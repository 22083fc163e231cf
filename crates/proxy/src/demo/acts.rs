//! The acts. What each finds is measured, and judged.

use super::board::{Sight, Tally, time};
use super::error::{Error, Result};
use super::play::{Play, after};
use super::stage::Line;
use super::visitor::{Asked, Download, Session, Then};
use super::world::{CLIENT, GUEST, GUESTS, PICTURE, SERVICE, TREES, place};
use crate::commands::words::Exit;
use crate::terminal::Style;
use std::time::{Duration, Instant};

/// The backend that dies.
const DYING: usize = 1;
/// How long requests go on in each part of an act.
const WHILE: Duration = Duration::from_millis(1000);
/// How many bytes the long download has.
const LONG: u64 = 20 << 20;
/// Shares of a hundred may be so far from what is wanted.
const OFF: f64 = 5.0;

/// Holds, with what was found, or does not.
fn found(holds: bool, text: String) -> std::result::Result<String, String> {
    if holds { Ok(text) } else { Err(text) }
}

fn name(tree: usize) -> &'static str {
    TREES.get(tree).copied().unwrap_or("?")
}

/// `elm and fir`.
fn others(tree: usize) -> String {
    let others = TREES.iter().enumerate().filter(|(it, _)| *it != tree);
    let others: Vec<&str> = others.map(|(_, name)| *name).collect();
    others.join(" and ")
}

impl Play<'_, '_> {
    /// All of them, in their order.
    pub(super) fn acts(&mut self) -> Result<()> {
        self.network()?;
        self.requests()?;
        self.route()?;
        self.death()?;
        self.draining()?;
        self.reloading()?;
        self.killing()
    }

    fn network(&mut self) -> Result<()> {
        let what =
            "Five machines, each a network namespace, and a daemon on the one in the middle.";
        self.stage.act("The network", what)?;
        for row in PICTURE.lines() {
            self.stage.say(row)?;
        }
        self.write([1; TREES.len()])?;
        self.stage.say("")?;
        for row in self.text([1; TREES.len()]).lines() {
            let row = format!("  | {row}");
            self.stage
                .line(&Line::default().styled(Style::PLAIN.dim(), row))?;
        }
        let dir = self.dir.path().display();
        self.stage.command(&format!("cd {dir}"))?;
        self.stage.command("bpfsmith-proxy run demo.toml &")?;
        let (sight, took) = self.start()?;
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        self.stage.say(&format!(
            "  process {} on Linux {}: it made, loaded and attached these programs:",
            sight.pid,
            kernel.trim()
        ))?;
        for row in sight.devices.iter().chain(&sight.notes) {
            self.stage.say(&format!("    {row}"))?;
        }
        let devices = sight.devices.len();
        let text = format!("{devices} devices have programs, {}", after(took));
        self.stage.judge(found(devices > 0, text))?;
        let socket = self.dir.file("control.sock");
        self.stage
            .say("  Look yourself, as long as it runs, from another terminal:")?;
        let export = format!("export BPFSMITH_PROXY_SOCKET={}", socket.display());
        self.stage.command(&export)?;
        self.stage
            .command("bpfsmith-proxy status; bpfsmith-proxy events; bpfsmith-proxy conns")
    }

    fn requests(&mut self) -> Result<()> {
        let what = format!(
            "{} HTTP requests, each on a connection of its own; backends answer in turn.",
            self.rounds
        );
        self.stage.act("Requests", &what)?;
        self.stage
            .command(&format!("curl http://{}/", SERVICE.ip()))?;
        let crowd = self.crowd(CLIENT, Some(self.rounds))?;
        let tally = self.all(crowd)?;
        let all = (0..TREES.len()).all(|tree| tally.tree(tree) > 0);
        let text = format!(
            "{} answered, {} failed, {}",
            tally.answered(),
            tally.failed.len(),
            tally.latency()
        );
        self.stage
            .judge(found(tally.failed.is_empty() && all, text))
    }

    fn route(&mut self) -> Result<()> {
        let name = name(GUESTS);
        let what = format!("Who comes from {GUEST} has a route of its own, to {name} alone.");
        self.stage.act("A source route", &what)?;
        self.stage.command(&format!(
            "curl --interface {GUEST} http://{}/",
            SERVICE.ip()
        ))?;
        let crowd = self.crowd(GUEST, Some((self.rounds / 4).max(1)))?;
        let tally = self.all(crowd)?;
        let text = format!(
            "{} of {} requests from {GUEST} were answered by {name}, {} failed",
            tally.tree(GUESTS),
            tally.total(),
            tally.failed.len()
        );
        self.stage
            .judge(found(tally.tree(GUESTS) == tally.total(), text))
    }

    fn death(&mut self) -> Result<()> {
        let name = name(DYING);
        let what =
            format!("The server of {name} ends while requests come. Health checks find that out.");
        self.stage.act("A backend dies", &what)?;
        let crowd = self.crowd(CLIENT, None)?;
        let begun = Instant::now();
        self.until("all is well", &crowd, |_, asked| {
            asked.len() > 20 && begun.elapsed() > WHILE / 4
        })?;
        let died = Instant::now();
        if let Some(backend) = self.backends.get_mut(DYING) {
            backend.stop();
        }
        self.until("its health is checked", &crowd, |sight, _| {
            sight.is_some_and(|it| it.tree(DYING).share == 0)
        })?;
        // A request that began before may be on its way.
        let known = Instant::now();
        self.until("it is known", &crowd, |_, asked| {
            Tally::since(asked, known).total() > 20 && known.elapsed() > WHILE
        })?;
        let asked = crowd.asked();
        let tally = Tally::since(&asked, known);
        let before = Tally::of(asked.iter().filter(|one| one.begun <= known));
        self.show(&tally)?;
        let text = format!(
            "{name} was out {}; until then {} of {} requests failed, which had come to it",
            after(known - died),
            before.failed.len(),
            before.total(),
        );
        self.sums.expected += before.failed.len();
        self.stage.judge(Ok(text))?;
        let fine = tally.failed.is_empty() && tally.tree(DYING) == 0;
        let text = format!(
            "since then {} answered by {}, {} failed",
            tally.answered(),
            others(DYING),
            tally.failed.len()
        );
        self.stage.judge(found(fine, text))?;
        self.recovery(crowd)
    }

    /// The server is there again.
    fn recovery(&mut self, crowd: super::visitor::Crowd) -> Result<()> {
        let name = name(DYING);
        self.stage.say(&format!(
            "The server of {name} is back, and gets its share step by step."
        ))?;
        let back = Instant::now();
        if let Some(backend) = self.backends.get_mut(DYING) {
            backend.serve()?;
        }
        self.until("its health is checked", &crowd, |sight, _| {
            sight.is_some_and(|it| it.tree(DYING).share > 0)
        })?;
        let up = Instant::now();
        let mut shares: Vec<u64> = Vec::new();
        self.until("its share rises", &crowd, |sight, _| {
            let share = sight.map_or(0, |it| it.tree(DYING).share);
            if shares.last() != Some(&share) {
                shares.push(share);
            }
            share == 100
        })?;
        let full = Instant::now();
        self.until("it has its whole share", &crowd, |_, asked| {
            Tally::since(asked, full).total() > 20 && full.elapsed() > WHILE
        })?;
        let asked = crowd.end()?;
        self.count(&asked);
        let within = |from, to| {
            let those = asked.iter();
            Tally::of(those.filter(|one: &&Asked| one.begun > from && one.begun <= to))
        };
        let (rising, whole) = (within(up, full), Tally::since(&asked, full));
        self.show(&whole)?;
        let steps: Vec<String> = shares.iter().map(ToString::to_string).collect();
        self.stage.say(&format!(
            "  its share of its weight, in percent: {}",
            steps.join(" ")
        ))?;
        let failed = within(back, up).failed.len() + rising.failed.len() + whole.failed.len();
        let fine = failed == 0
            && shares.iter().any(|share| (1..100).contains(share))
            && whole.tree(DYING) > 0
            && rising.percent(DYING) < whole.percent(DYING);
        let text = format!(
            "{name} was back {}: it answered {:.0} % while its share rose, then {:.0} %; {failed} failed",
            after(up - back),
            rising.percent(DYING),
            whole.percent(DYING),
        );
        self.stage.judge(found(fine, text))
    }

    fn draining(&mut self) -> Result<()> {
        let what = "A backend with a long download gets no new connections; the download goes on.";
        self.stage.act("Draining", what)?;
        let download = Download::start(&self.world.client, CLIENT, LONG)?;
        let (tree, by) = (download.by, name(download.by));
        self.stage
            .command(&format!("curl http://{}/download/{LONG}", SERVICE.ip()))?;
        self.sums.requests += 1;
        if let Some(count) = self.sums.by.get_mut(tree) {
            *count += 1;
        }
        let crowd = self.crowd(CLIENT, None)?;
        self.until("a download begins", &crowd, |_, asked| {
            download.came() > LONG / 8 && asked.len() > 20
        })?;
        self.drain("drain", tree)?;
        let (drained, had) = (Instant::now(), download.came());
        let mut meanwhile = Sight::default();
        self.until("the download goes on", &crowd, |sight, asked| {
            if let Some(sight) = sight.filter(|_| !download.is_over()) {
                meanwhile = sight.clone();
            }
            download.is_over() && Tally::since(asked, drained).total() > 20
        })?;
        let asked = crowd.end()?;
        self.count(&asked);
        let tally = Tally::since(&asked, drained);
        self.show_as(&meanwhile, &tally)?;
        let (bytes, came) = (download.bytes, download.came());
        let wrong = download.end()?;
        let text = format!(
            "{by} sent {} of {} after it was drained; {came} bytes came, {wrong} wrong",
            crate::show::bytes(came.saturating_sub(had)),
            crate::show::bytes(bytes),
        );
        self.stage
            .judge(found(came == bytes && wrong == 0 && had < bytes, text))?;
        let text = format!(
            "{} new requests meanwhile: {} of them to {by}, {} failed",
            tally.total(),
            tally.tree(tree),
            tally.failed.len()
        );
        let fine = tally.tree(tree) == 0 && tally.failed.is_empty();
        self.stage.judge(found(fine, text))?;
        self.undraining(tree)
    }

    /// It gets connections again.
    fn undraining(&mut self, tree: usize) -> Result<()> {
        let by = name(tree);
        self.drain("undrain", tree)?;
        let crowd = self.crowd(CLIENT, Some((self.rounds / 4).max(6)))?;
        let tally = self.all(crowd)?;
        let text = format!(
            "{by} answers again: {} of {} requests, {} failed",
            tally.tree(tree),
            tally.total(),
            tally.failed.len()
        );
        let fine = tally.tree(tree) > 0 && tally.failed.is_empty();
        self.stage.judge(found(fine, text))
    }

    fn reloading(&mut self) -> Result<()> {
        let weights = [6, 1, 1];
        let what = "The file gets other weights. The daemon watches it: nobody has to tell.";
        self.stage.act("Reload", what)?;
        let before = self.sight()?.generation;
        self.write(weights)?;
        self.stage.command(&format!(
            "sed -i '/{}/s/weight = 1/weight = {}/' demo.toml",
            place(0),
            weights[0],
        ))?;
        let begun = Instant::now();
        let idle = self.crowd(CLIENT, None)?;
        self.until("the file is read", &idle, |sight, _| {
            sight.is_some_and(|it| it.tree(0).weight == u64::from(weights[0]))
        })?;
        let took = begun.elapsed();
        let asked = idle.end()?;
        let during = self.count(&asked);
        let after = self.sight()?.generation;
        let text = format!(
            "generation {after} followed {before} within {}; {} requests meanwhile, {} failed",
            time(took),
            during.total(),
            during.failed.len()
        );
        self.stage
            .judge(found(after > before && during.failed.is_empty(), text))?;
        let crowd = self.crowd(CLIENT, Some(self.rounds))?;
        let tally = self.all(crowd)?;
        let sum = f64::from(weights.iter().sum::<u32>());
        let wanted = weights.map(|weight| f64::from(weight) * 100.0 / sum);
        let parts = wanted.iter().enumerate().map(|(tree, wanted)| {
            format!("{} {:.1} % of {wanted:.1}", name(tree), tally.percent(tree))
        });
        let parts: Vec<String> = parts.collect();
        // Few requests say little about shares.
        let off = OFF + 100.0 / f64::from(self.rounds.max(1));
        let near = wanted
            .iter()
            .enumerate()
            .all(|(tree, wanted)| (tally.percent(tree) - wanted).abs() <= off);
        let text = format!("{}, {} failed", parts.join(", "), tally.failed.len());
        self.stage
            .judge(found(near && tally.failed.is_empty(), text))
    }

    fn killing(&mut self) -> Result<()> {
        let what = "The daemon is killed while requests come. Programs stay, a new daemon goes on.";
        self.stage.act("kill -9", what)?;
        let open = || -> std::io::Result<(Session, usize)> {
            let mut session = Session::open(CLIENT)?;
            let by = session.name(Then::More)?;
            Ok((session, by))
        };
        let opened = self.world.client.run(open)?;
        let (session, by) = opened.map_err(Error::machine("open a connection"))?;
        let crowd = self.crowd(CLIENT, None)?;
        let begun = Instant::now();
        self.until("all is well", &crowd, |_, _| begun.elapsed() > WHILE / 2)?;
        self.count_generations()?;
        let killed = Instant::now();
        if let Some(daemon) = self.daemon.take() {
            self.stage.command(&format!("kill -9 {}", daemon.pid()))?;
            daemon.kill()?;
        }
        self.until("there is no daemon", &crowd, |_, asked| {
            killed.elapsed() > WHILE && Tally::since(asked, killed).total() > 20
        })?;
        let alone = Instant::now();
        self.stage.command("bpfsmith-proxy run demo.toml &")?;
        let (sight, took) = self.start()?;
        let back = Instant::now();
        self.until("a new daemon is there", &crowd, |_, asked| {
            back.elapsed() > WHILE && Tally::since(asked, back).total() > 20
        })?;
        let asked = crowd.end()?;
        let alone = asked
            .iter()
            .filter(|one| one.begun > killed && one.begun <= alone);
        let without = Tally::of(alone);
        let tally = self.count(&asked);
        self.show(&tally)?;
        let text = format!(
            "{} requests while nobody was there, {} failed",
            without.total(),
            without.failed.len()
        );
        self.stage.judge(found(without.failed.is_empty(), text))?;
        let text = format!(
            "process {} goes on {}; {} requests in all, {} failed{}",
            sight.pid,
            after(took),
            tally.total(),
            tally.failed.len(),
            match tally.failed.is_empty() {
                true => String::new(),
                false => format!(": {}", tally.why()),
            }
        );
        self.stage.judge(found(tally.failed.is_empty(), text))?;
        self.count_generations()?;
        self.afterwards(session, by)
    }

    /// A connection from before goes on.
    fn afterwards(&mut self, mut session: Session, by: usize) -> Result<()> {
        let again = session.name(Then::Close);
        let text = match &again {
            Ok(tree) => format!(
                "a connection to {} from before the kill still talks, to {}",
                name(by),
                name(*tree)
            ),
            Err(error) => format!("a connection from before the kill is broken: {error}"),
        };
        self.stage
            .judge(found(again.is_ok_and(|it| it == by), text))
    }
}

/// What it ends with.
pub(super) fn exit(findings: &[super::stage::Finding]) -> Exit {
    match findings.iter().all(|finding| finding.holds) {
        true => Exit::Done,
        false => Exit::Failed,
    }
}
