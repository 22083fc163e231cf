//! [`Play`]: all that the acts need, and taking it apart again.

use super::backend::Backend;
use super::board::{Sight, Tally, table, time};
use super::daemon::{Daemon, Warden};
use super::error::{Error, Result};
use super::stage::{Line, Stage};
use super::visitor::{Asked, Crowd};
use super::world::{DEVICES, GUEST, GUESTS, SERVICE, TREES, World, place};
use crate::http::{Client, Method, target};
use crate::show::cell;
use bpfsmith_config::{Value, json};
use std::fs::{self, DirBuilder};
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);
/// How long something that is waited for may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How long requests of one act take together, about.
const ACT: Duration = Duration::from_millis(1200);
/// The longest pause between two requests.
pub(super) const PAUSE: Duration = Duration::from_millis(5);

/// A directory that goes with this value.
#[derive(Debug)]
pub(super) struct Dir(PathBuf);

impl Dir {
    fn make() -> Result<Dir> {
        let name = format!("bpfsmith-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Error::File {
            path: path.clone(),
            error,
        })?;
        Ok(Dir(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // Who looks afterwards whether it is gone tells it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Sums over all acts.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) requests: usize,
    pub(super) by: [usize; TREES.len()],
    /// Those that nobody answered.
    pub(super) unanswered: usize,
    /// Those of them that came to a backend that had died, until that was known.
    pub(super) expected: usize,
    pub(super) generations: u64,
    pub(super) daemons: u32,
}

impl Sums {
    /// Those that nobody answered, and somebody should have.
    pub(super) fn failed(&self) -> usize {
        self.unanswered.saturating_sub(self.expected)
    }
}

/// All that the acts need. The order of its fields is the one in which they go.
pub(super) struct Play<'s, 'a> {
    pub(super) daemon: Option<Daemon>,
    pub(super) backends: Vec<Backend>,
    pub(super) warden: Warden,
    pub(super) world: World,
    pub(super) dir: Dir,
    pub(super) stage: &'s mut Stage<'a>,
    pub(super) client: Client,
    pub(super) rounds: u32,
    pub(super) sums: Sums,
}

impl<'s, 'a> Play<'s, 'a> {
    /// Builds the machines.
    pub(super) fn new(stage: &'s mut Stage<'a>, rounds: u32) -> Result<Play<'s, 'a>> {
        let world = World::build()?;
        let dir = Dir::make()?;
        let warden = Warden::start(&world.proxy)?;
        let mut backends = Vec::new();
        for (tree, node) in world.trees.iter().enumerate() {
            backends.push(Backend::start(tree, node)?);
        }
        let client = Client::unix(dir.file("control.sock")).with_time(Duration::from_secs(20));
        Ok(Play {
            daemon: None,
            backends,
            warden,
            world,
            dir,
            stage,
            client,
            rounds,
            sums: Sums::default(),
        })
    }

    /// The file of configuration, with these weights.
    pub(super) fn text(&self, weights: [u32; TREES.len()]) -> String {
        let targets = weights.iter().enumerate().map(|(tree, weight)| {
            format!(
                "  {{ address = \"{}\", weight = {weight} }}, # {}\n",
                place(tree),
                TREES.get(tree).unwrap_or(&"?")
            )
        });
        let targets: String = targets.collect();
        format!(
            "[[proxies]]\n\
             name = \"web\"\n\
             address = \"{}\"\n\
             port = {}\n\
             group = \"trees\"\n\
             routes = [{{ source = \"{GUEST}\", target = \"{}\" }}]\n\n\
             [groups.trees]\n\
             algorithm = \"turns\"\n\
             targets = [\n\
             {targets}]\n\n\
             [groups.trees.health]\n\
             kind = \"http\"\n\
             interval = \"250ms\"\n\
             up = 2\n\
             down = 2\n\
             slow_start = \"2s\"\n\n\
             [settings]\n\
             devices = {DEVICES:?}\n\
             control = \"{}\"\n\
             pins = \"{}\"\n",
            SERVICE.ip(),
            SERVICE.port(),
            place(GUESTS),
            self.dir.file("control.sock").display(),
            self.warden.pins.display(),
        )
    }

    /// Puts a file of configuration in its place, as editors do.
    pub(super) fn write(&self, weights: [u32; TREES.len()]) -> Result<PathBuf> {
        let (path, new) = (self.dir.file("demo.toml"), self.dir.file("demo.toml.new"));
        let written = fs::write(&new, self.text(weights)).and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| Error::File {
            path: path.clone(),
            error,
        })?;
        Ok(path)
    }

    /// Starts a daemon, and waits until it answers.
    pub(super) fn start(&mut self) -> Result<(Sight, Duration)> {
        let begun = Instant::now();
        let (config, log) = (self.dir.file("demo.toml"), self.dir.file("daemon.log"));
        let mut daemon = self.warden.daemon(&config, &log)?;
        let pid = u64::from(daemon.pid());
        self.sums.daemons += 1;
        let sight = loop {
            match self.sight() {
                Ok(sight) if sight.pid == pid => break sight,
                // It is not there yet, or has failed to begin: that is told below.
                Ok(_) | Err(Error::Http(_)) => {}
                Err(error) => return Err(error),
            }
            daemon.expect()?;
            if begun.elapsed() > LIMIT {
                return Err(late("the start of the daemon"));
            }
            self.stage.wait(Duration::from_millis(5))?;
        };
        self.daemon = Some(daemon);
        Ok((sight, begun.elapsed()))
    }

    /// How everything stands.
    pub(super) fn sight(&self) -> Result<Sight> {
        let status = self.ask(Method::GET, &["v1", "status"], None, "status")?;
        Ok(Sight::of(&status))
    }

    /// Asks the daemon as the commands do.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
        command: &str,
    ) -> Result<Value> {
        let body = body.map(json::write).unwrap_or_default();
        let path = target(path, &[]);
        let reply = self.client.request(method, &path, body.as_bytes())?;
        let text = String::from_utf8_lossy(&reply.body);
        let answer = json::read(text.trim())?;
        match reply.is_success() {
            true => Ok(answer),
            false => Err(Error::Refused {
                command: command.to_owned(),
                why: cell(&answer, "error"),
            }),
        }
    }

    /// Drains a backend, or undrains it; the number of the new generation.
    pub(super) fn drain(&mut self, what: &str, tree: usize) -> Result<u64> {
        let place = place(tree);
        let command = format!("bpfsmith-proxy {what} {place}");
        self.stage.command(&command)?;
        let body = Value::table([("target", Value::shown(place))]);
        let turn = self.ask(Method::POST, &["v1", what], Some(&body), &command)?;
        Ok(crate::show::number(&turn, "generation"))
    }

    pub(super) fn crowd(&self, source: Ipv4Addr, count: Option<u32>) -> Result<Crowd> {
        let pause = match count {
            Some(count) => PAUSE.min(ACT / count.max(1)),
            None => PAUSE,
        };
        Crowd::start(&self.world.client, source, count, pause)
    }

    /// Shows how it stands while it waits, until that holds.
    pub(super) fn until(
        &mut self,
        what: &str,
        crowd: &Crowd,
        mut holds: impl FnMut(Option<&Sight>, &[Asked]) -> bool,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            let sight = match &mut self.daemon {
                Some(daemon) => {
                    daemon.expect()?;
                    Some(self.sight()?)
                }
                None => None,
            };
            let asked = crowd.asked();
            if holds(sight.as_ref(), &asked) {
                return Ok(());
            }
            if begun.elapsed() > LIMIT + crowd.time() {
                return Err(late(what));
            }
            let tally = Tally::of(&asked);
            let mut lines = table(sight.as_ref(), &tally);
            let seconds = self.stage.begun.elapsed().as_secs_f64();
            lines.push(Line::new(format!(
                "  {} requests, {} failed, {}   [{seconds:.1} s] {what} ...",
                tally.total(),
                tally.failed.len(),
                tally.latency(),
            )));
            self.stage.live(&lines)?;
            self.stage.wait(LOOK)?;
        }
    }

    /// Waits until all of a crowd are through, and shows what came of it.
    pub(super) fn all(&mut self, crowd: Crowd) -> Result<Tally> {
        self.until("asking", &crowd, |_, _| crowd.is_over())?;
        let asked = crowd.end()?;
        let tally = self.count(&asked);
        self.show(&tally)?;
        Ok(tally)
    }

    /// A table that stays, of how it stands now.
    pub(super) fn show(&mut self, tally: &Tally) -> Result<()> {
        let sight = self.sight()?;
        self.show_as(&sight, tally)
    }

    /// A table that stays, of how it stood.
    pub(super) fn show_as(&mut self, sight: &Sight, tally: &Tally) -> Result<()> {
        for line in table(Some(sight), tally) {
            self.stage.line(&line)?;
        }
        Ok(())
    }

    /// They count in the sums.
    pub(super) fn count(&mut self, asked: &[Asked]) -> Tally {
        let tally = Tally::of(asked);
        self.sums.requests += tally.total();
        self.sums.unanswered += tally.failed.len();
        for (sum, by) in self.sums.by.iter_mut().zip(tally.by) {
            *sum += by;
        }
        tally
    }

    /// Generations that a daemon has made are counted, at its end.
    pub(super) fn count_generations(&mut self) -> Result<()> {
        self.sums.generations += self.sight()?.generation;
        Ok(())
    }

    /// Takes everything apart, and says what was there.
    pub(super) fn strike(mut self) -> Result<(Struck, Sums)> {
        self.stage.close();
        let mut struck = Struck {
            processes: 0,
            machines: self.world.machines(),
            paths: vec![
                self.dir.path().to_owned(),
                self.warden.mount.clone(),
            ],
            links: 0,
            maps: 0,
        };
        let ended = match self.daemon.take() {
            Some(daemon) => {
                struck.processes += 1;
                daemon.end(self.stage)
            }
            None => Ok(()),
        };
        if self.sums.daemons > 0 {
            let removed = self.warden.detach()?;
            (struck.links, struck.maps) = (removed.links, removed.maps);
        }
        ended?;
        Ok((struck, self.sums.clone()))
    }
}

/// What was there, and is not any more.
#[derive(Clone, Debug)]
pub(super) struct Struck {
    pub(super) processes: u32,
    pub(super) machines: usize,
    pub(super) paths: Vec<PathBuf>,
    pub(super) links: u32,
    pub(super) maps: u32,
}

fn late(what: &str) -> Error {
    Error::Late {
        what: what.to_owned(),
        seconds: LIMIT.as_secs(),
    }
}

/// How long something took, for a sentence.
pub(super) fn after(duration: Duration) -> String {
    format!("after {}", time(duration))
}
