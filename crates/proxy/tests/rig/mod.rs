//! The daemon as it is run, on the proxy's machine of a world.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../datapath/tests/support/mod.rs"]
pub(crate) mod support;

use bpfsmith_config::edit::Document;
use bpfsmith_config::value::Kind;
use bpfsmith_config::{Value, json};
use bpfsmith_gate::{Mount, bpffs, deadline};
use bpfsmith_net::Node;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use support::people::try_who;
use support::world::{LIMIT, World};

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_bpfsmith-proxy");

/// The port of backends, where [`World::serve`] is told so.
pub(crate) const SERVED: u16 = 8080;

/// The daemon, its file, its socket and its names in the kernel, all of them its own.
///
/// It sees a mount namespace of the test's thread, so that nobody else sees its bpffs. When it is dropped, also in
/// a panic, it is killed, and what the kernel does is detached.
pub(crate) struct Daemon<'a> {
    pub(crate) world: &'a World,
    dir: PathBuf,
    mount: Mount,
    child: Option<Child>,
}

/// Where a target of a world is: the first backend has the number 0.
pub(crate) fn target(number: u8) -> String {
    format!("10.20.{number}.2:{SERVED}")
}

/// What a value has at a path.
#[track_caller]
pub(crate) fn at<'v>(value: &'v Value, path: &[&str]) -> &'v Value {
    path.iter().fold(value, |value, key| {
        let inner = match key.parse::<usize>() {
            Ok(number) => items(value).get(number),
            Err(_) => value.get(key),
        };
        inner.unwrap_or_else(|| panic!("no {key} of {path:?} in {value:?}"))
    })
}

/// The values of a list.
#[track_caller]
pub(crate) fn items(value: &Value) -> &[Value] {
    match &value.kind {
        Kind::List(items) => items,
        other => panic!("{other:?} is no list"),
    }
}

/// A text of a value.
#[track_caller]
pub(crate) fn text<'v>(value: &'v Value, path: &[&str]) -> &'v str {
    match &at(value, path).kind {
        Kind::Text(text) => text,
        other => panic!("{path:?} is {other:?}"),
    }
}

/// A whole number of a value.
#[track_caller]
pub(crate) fn number(value: &Value, path: &[&str]) -> i64 {
    match at(value, path).kind {
        Kind::Int(number) => number,
        ref other => panic!("{path:?} is {other:?}"),
    }
}

impl<'a> Daemon<'a> {
    /// Runs it with this configuration, and waits until it answers.
    ///
    /// What the configuration does not say of devices, names in the kernel and the socket is added: all devices of
    /// the proxy's machine are used.
    #[track_caller]
    pub(crate) fn start(world: &'a World, config: &str) -> Daemon<'a> {
        let mut daemon = Daemon::prepare(world, config);
        daemon.restart();
        daemon
    }

    /// As [`Daemon::start`] does, but it is not run.
    #[track_caller]
    pub(crate) fn prepare(world: &'a World, config: &str) -> Daemon<'a> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bs-e2e-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        let daemon = Daemon {
            world,
            dir,
            mount: bpffs(),
            child: None,
        };
        fs::write(daemon.config(), daemon.complete(config)).unwrap();
        daemon
    }

    /// A configuration, and what makes it this daemon's.
    #[track_caller]
    pub(crate) fn complete(&self, config: &str) -> String {
        let mut document = Document::read(config).unwrap_or_else(|error| panic!("{error}"));
        let ports = [&self.world.proxy.front].into_iter();
        let ports = ports.chain(&self.world.proxy.backs);
        let mut set = |path: &str, value: Value| {
            document
                .set(path, &value)
                .unwrap_or_else(|error| panic!("{path}: {error}"));
        };
        set("settings.pins", Value::shown(self.pins().display()));
        set("settings.control", Value::shown(self.socket().display()));
        if document.desired().settings.devices.is_empty() {
            let names = Value::list(ports.map(|port| port.name.as_str().into()));
            document.set("settings.devices", &names).unwrap();
        }
        document.text().to_owned()
    }

    /// Runs it again, with the same file and the same names in the kernel, and waits until it answers.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.run();
        self.wait_ready();
    }

    /// Begins to run it.
    #[track_caller]
    pub(crate) fn run(&mut self) {
        self.run_as(|command| command);
    }

    /// The same with more.
    #[track_caller]
    pub(crate) fn run_as(&mut self, with: impl FnOnce(&mut Command) -> &mut Command + Send) {
        assert!(self.child.is_none(), "it runs already");
        let log = || -> File {
            let mut options = OpenOptions::new();
            options.create(true).append(true);
            options.open(self.dir.join("log")).unwrap()
        };
        let mut command = Command::new(PROGRAM);
        command
            .arg("run")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log())
            .env_remove("NOTIFY_SOCKET");
        let child = self.at_home(|| with(&mut command).spawn());
        self.child = Some(child.unwrap());
    }

    /// Waits until it answers.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self) {
        let pid = self.pid();
        deadline(LIMIT, || {
            if let Ok(Some(status)) = self.child.as_mut().unwrap().try_wait() {
                panic!("it ended with {status}: {}", self.log());
            }
            let output = self.cli(&["status", "--json"]);
            let status = json::read(std::str::from_utf8(&output.stdout).unwrap()).ok()?;
            // What answers might be another one.
            (output.status.success() && number(&status, &["pid"]) == i64::from(pid)).then_some(())
        });
    }

    /// Where the daemon is: in the proxy's network namespace, and with the test's mounts.
    #[track_caller]
    pub(crate) fn at_home<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        // The thread that it runs on begins with this one's mounts.
        self.world.proxy.node.run(body).unwrap()
    }

    /// A command to the daemon, without its arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg("--socket")
            .arg(self.socket())
            .stdin(Stdio::null());
        command
    }

    /// What a command answers.
    #[track_caller]
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        let mut command = self.command();
        command.args(args);
        self.at_home(|| command.output()).unwrap()
    }

    /// What a command prints that has to succeed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && error.is_empty(),
            "{args:?}: {}: {error}\nlog: {}",
            output.status,
            self.log()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command says that has to end with this code.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.cli(args);
        let error = String::from_utf8(output.stderr).unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}{said}");
        assert!(!error.trim().is_empty(), "{args:?} does not say why");
        error
    }

    /// What a command answers with `--json`.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let text = self.ok(&args);
        json::read(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// How everything stands.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.json(&["status"])
    }

    /// The connections that there are, as far as they are asked for.
    #[track_caller]
    pub(crate) fn conns(&self, args: &[&str]) -> Vec<Value> {
        let answer = self.json(&[&["conns"], args].concat());
        items(at(&answer, &["list"])).to_vec()
    }

    /// How many generations of programs there have been.
    #[track_caller]
    pub(crate) fn generation(&self) -> i64 {
        number(&self.status(), &["generation"])
    }

    /// How a target of a group stands, if the group has it.
    #[track_caller]
    pub(crate) fn target(&self, group: &str, address: &str) -> Option<Value> {
        let status = self.status();
        let groups = items(at(&status, &["groups"])).iter();
        let group = groups.filter(|it| text(it, &["name"]) == group);
        let mut targets = group.flat_map(|it| items(at(it, &["targets"])));
        targets
            .find(|it| text(it, &["address"]) == address)
            .cloned()
    }

    /// Events from now on: each line that `events --follow` prints. It follows until it is dropped.
    #[track_caller]
    pub(crate) fn follow(&self, args: &[&str]) -> Follower {
        let mut command = self.command();
        command.args(["events", "--follow", "--json"]).args(args);
        command.stdout(Stdio::piped());
        let mut child = self.at_home(|| command.spawn()).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (send, receive) = channel();
        std::thread::spawn(move || {
            // Nobody hears it when the test is over.
            lines
                .map_while(Result::ok)
                .try_for_each(|it| send.send(it))
                .ok()
        });
        Follower {
            child,
            lines: receive,
        }
    }

    /// Its process.
    #[track_caller]
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it does not run").id()
    }

    /// Sends it a signal.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Kills it: the kernel goes on.
    #[track_caller]
    pub(crate) fn kill9(&mut self) {
        let mut child = self.child.take().expect("it does not run");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Tells it to end, and waits until it has.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_over()
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn wait_over(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it does not run");
        let status = deadline(LIMIT, || child.try_wait().unwrap());
        self.child = None;
        status
    }

    /// Everything is taken away; what the command prints.
    #[track_caller]
    pub(crate) fn detach(&self) -> String {
        self.ok(&[
            "detach",
            "--pins",
            self.pins().to_str().unwrap(),
        ])
    }

    /// A directory of its own.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("proxy.toml")
    }

    /// Where commands come in.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// Its names in the kernel, which only this thread and those that it starts can see.
    pub(crate) fn pins(&self) -> PathBuf {
        self.mount.path().join("proxy")
    }

    /// What it has written so far, in all of its lives.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits until it has written this, so many times.
    #[track_caller]
    pub(crate) fn wait_log(&self, what: &str, times: usize) {
        deadline(LIMIT, || {
            (self.log().matches(what).count() >= times).then_some(())
        });
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", self.log());
        }
        if self.pins().exists() {
            let mut command = self.command();
            command.arg("detach").arg("--pins").arg(self.pins());
            let done = self.world.proxy.node.run(|| command.output());
            if let Ok(Ok(output)) = done
                && !output.status.success()
            {
                eprintln!("detach: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Who follows events.
pub(crate) struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    /// The next event.
    #[track_caller]
    pub(crate) fn next(&self) -> Value {
        let line = self.lines.recv_timeout(LIMIT).expect("no event came");
        json::read(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The next event, if one comes soon.
    pub(crate) fn next_within_a_second(&self) -> Option<Value> {
        let line = self.lines.recv_timeout(Duration::from_secs(1)).ok()?;
        Some(json::read(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The next event for which this is true.
    #[track_caller]
    pub(crate) fn find(&self, is_it: impl Fn(&Value) -> bool) -> Value {
        deadline(LIMIT, || Some(self.next()).filter(&is_it))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often each server answers of so many connections that are made one after the other.
#[track_caller]
pub(crate) fn answers(node: &Node, to: SocketAddr, count: u32) -> Vec<(String, u32)> {
    let mut all = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..count {
        let name = try_who(node, to).unwrap_or_else(|error| panic!("{to}: {error}"));
        *all.entry(name).or_default() += 1;
    }
    all.into_iter().collect()
}

/// The names of those who answer.
#[track_caller]
pub(crate) fn names(node: &Node, to: SocketAddr, count: u32) -> Vec<String> {
    let answers = answers(node, to, count).into_iter();
    answers.map(|(name, _)| name).collect()
}

/// What clients ask for, at this port.
pub(crate) fn asked(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(support::world::VIP4), port)
}
