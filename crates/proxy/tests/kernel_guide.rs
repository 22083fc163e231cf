//! The operator's guide, played from its beginning to its end: each of its commands is run, and prints what the guide
//! says that it prints.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "guide/page.rs"]
mod page;
mod rig;

use bpfsmith_config::edit::Document;
use bpfsmith_gate::{Mount, bpffs, deadline, needs};
use bpfsmith_net::Node;
use bpfsmith_sys::mount::FileSystem;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use page::{Block, Kind, Step, fits, line_fits};
use rig::support::world::{LIMIT, World};
use rig::{PROGRAM, SERVED};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// The guide.
const GUIDE: &str = include_str!("../OPERATING.md");

/// Commands that only look: what they print may take a moment to come true.
const LOOKS: &[&str] = &[
    "bpfsmith-proxy status",
    "bpfsmith-proxy conns",
    "bpfsmith-proxy events",
    "cat ",
    "tail ",
    "head ",
    "ls ",
];

/// The guide's machine.
struct Player<'a> {
    world: &'a World,
    /// Where all commands are run, and the configuration is.
    dir: PathBuf,
    daemon: Option<Child>,
    /// How much of the daemon's log was looked at.
    read: usize,
    /// Groups of processes that commands left running.
    groups: Vec<Pid>,
    /// Places that the guide names, seen by this thread and its commands alone; the first is only there so that the
    /// others are its own.
    _mounts: [Mount; 4],
}

#[test]
fn the_guide_is_true() {
    needs!(NetNs, Veth, Tcx, Bpffs, Bash);
    let blocks = page::blocks(GUIDE);
    let is_run = |it: &&Block| it.kind == Kind::Here;
    assert!(blocks.iter().filter(is_run).count() > 10, "{blocks:#?}");
    let world = World::new(2, 3);
    let _servers = world.serve(SERVED);
    let mut player = Player::new(&world);
    for block in &blocks {
        player.play(block);
    }
}

impl<'a> Player<'a> {
    fn new(world: &'a World) -> Player<'a> {
        let apart = bpffs();
        let on = |dir: &str, kind| Mount::on(dir, kind).unwrap();
        let tmpfs = FileSystem("tmpfs");
        let mounts = [
            apart,
            on("/sys/fs/bpf", FileSystem::BPF),
            on("/run", tmpfs),
            on("/var/log", tmpfs),
        ];
        fs::create_dir("/var/log/bpfsmith-proxy").unwrap();
        let dir = std::env::temp_dir().join(format!("bs-guide-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Player {
            world,
            dir,
            daemon: None,
            read: 0,
            groups: Vec::new(),
            _mounts: mounts,
        }
    }

    fn play(&mut self, block: &Block) {
        match block.kind {
            Kind::Here => self.run(&self.world.proxy.node, block),
            Kind::Client => self.run(&self.world.client().node, block),
            Kind::Daemon => self.start(block),
            Kind::NotRun => drop(block.steps()),
            Kind::Log => self.wait_log(block),
            Kind::File => {
                Self::check(block);
                let new = self.dir.join("new");
                fs::write(&new, &block.text).unwrap();
                fs::rename(new, self.dir.join("proxy.toml")).unwrap();
            }
            Kind::Example => Self::check(block),
        }
    }

    /// That a configuration is one.
    fn check(block: &Block) {
        if let Err(error) = Document::read(&block.text) {
            panic!("line {}: {error}\n{}", block.line, block.text);
        }
    }

    fn run(&mut self, node: &Node, block: &Block) {
        for step in block.steps() {
            let may_wait = LOOKS.iter().any(|it| step.command.starts_with(it));
            let begun = Instant::now();
            loop {
                let is_late = !may_wait || begun.elapsed() > LIMIT;
                let (is_done, printed) = self.once(node, &step);
                if is_done && fits(&lines(&step.printed), &lines(&printed)) {
                    break;
                }
                assert!(
                    !is_late,
                    "line {}: $ {}\nis to print\n{}\nand prints\n{}\nthe daemon said\n{}",
                    step.line,
                    step.command,
                    step.printed.join("\n"),
                    printed.join("\n"),
                    self.log()
                );
            }
        }
    }

    /// Whether a command succeeds, and what it prints.
    fn once(&mut self, node: &Node, step: &Step) -> (bool, Vec<String>) {
        let path = self.dir.join(".printed");
        let mut child = self.spawn(node, &step.command, File::create(&path).unwrap());
        let status = deadline(LIMIT, || child.try_wait().unwrap());
        let printed = fs::read(path).unwrap();
        let printed = String::from_utf8_lossy(&printed);
        let printed = printed.lines().map(str::to_owned).collect();
        (status.success(), printed)
    }

    /// Begins to run a command, as a group of processes of its own.
    fn spawn(&mut self, node: &Node, command: &str, out: File) -> Child {
        let bin = PathBuf::from(PROGRAM);
        let old = std::env::var("PATH").unwrap();
        let path = format!("{}:{old}", bin.parent().unwrap().display());
        let mut bash = Command::new("bash");
        bash.args(["-c", command])
            .current_dir(&self.dir)
            .env("PATH", path)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("BPFSMITH_PROXY_SOCKET")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .process_group(0);
        let child = node.run(|| bash.spawn()).unwrap().unwrap();
        if command.ends_with('&') {
            let group = i32::try_from(child.id()).unwrap();
            self.groups.push(Pid::from_raw(group));
        }
        child
    }

    /// Runs the daemon when the one before has ended, and waits until it has said what the block has.
    fn start(&mut self, block: &Block) {
        self.wait_over();
        let [step] = &block.steps()[..] else {
            panic!("line {}: one command runs the daemon", block.line);
        };
        self.read = 0;
        let log = File::create(self.dir.join(".log")).unwrap();
        let command = format!("exec {}", step.command);
        let node = &self.world.proxy.node;
        self.daemon = Some(self.spawn(node, &command, log));
        let begun = Instant::now();
        loop {
            let log = self.log();
            let said: Vec<&str> = log.lines().collect();
            if fits(&lines(&step.printed), &said) {
                self.read = log.len();
                return;
            }
            let status = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(
                status.is_none() && begun.elapsed() < LIMIT,
                "line {}: {status:?}: {log}",
                step.line
            );
            std::thread::yield_now();
        }
    }

    /// Waits until nothing runs: the guide has said that it ends.
    fn wait_over(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            deadline(LIMIT, || child.try_wait().unwrap());
        }
    }

    /// Waits until the daemon has said these lines, after those of earlier blocks.
    fn wait_log(&mut self, block: &Block) {
        for line in block.text.lines() {
            let begun = Instant::now();
            loop {
                let log = self.log();
                let mut at = self.read;
                let found = log[at..].split_inclusive('\n').find_map(|said| {
                    at += said.len();
                    line_fits(line, said).then_some(at)
                });
                if let Some(at) = found {
                    self.read = at;
                    break;
                }
                let is_late = begun.elapsed() > LIMIT;
                assert!(!is_late, "line {}: {line}\nin\n{log}", block.line);
                std::thread::yield_now();
            }
        }
    }

    fn log(&self) -> String {
        let log = fs::read(self.dir.join(".log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

fn lines(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

impl Drop for Player<'_> {
    fn drop(&mut self) {
        for group in &self.groups {
            // What was left running may have ended by itself.
            let _ = killpg(*group, Signal::SIGKILL);
        }
        if let Some(mut child) = self.daemon.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let mut detach = Command::new(PROGRAM);
        detach.arg("detach");
        // Where the guide went to its end, nothing is there.
        let _ = self.world.proxy.node.run(|| detach.output());
        let _ = fs::remove_dir_all(&self.dir);
    }
}
