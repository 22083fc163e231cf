//! [`Warden`] and [`Daemon`]: the real daemon, as a process of its own in the proxy's machine.
//!
//! It is this same executable, with `run` and a file. A thread that stays in the proxy's machine and in a mount
//! namespace with a BPF file system of its own starts it, so it has both. If the demo is killed, so are the thread and
//! with it the daemon; and nobody is left who holds the file system and the programs that have names in it.

use super::error::{Error, Result};
use super::stage::Stage;
use crate::error::{Error as Failure, Result as Tried};
use bpfsmith_datapath::pins::{Pins, Removed};
use bpfsmith_net::Node;
use bpfsmith_sys::mount::{FileSystem, Mount};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Names the configuration to a process that becomes the daemon.
const CONFIG: &str = "BPFSMITH_PROXY_DEMO_CONFIG";
/// Names the process that it must not outlive.
const PARENT: &str = "BPFSMITH_PROXY_DEMO_PARENT";

/// How long a daemon may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// If this process was started to become the daemon, it does so now, and the call does not return; otherwise nothing
/// happens.
///
/// # Errors
/// When it cannot.
pub(super) fn become_daemon() -> Tried<()> {
    let Some(config) = std::env::var_os(CONFIG) else {
        return Ok(());
    };
    let failed = |call| {
        move |error| Failure::Machine {
            call,
            error,
            hint: "the demo starts its daemon so; nobody else should",
        }
    };
    set_pdeathsig(Signal::SIGKILL).map_err(|errno| failed("prctl")(errno.into()))?;
    let parent = std::env::var(PARENT).ok();
    if parent.and_then(|it| it.parse().ok()) != Some(getppid().as_raw()) {
        let error = std::io::Error::from_raw_os_error(nix::libc::ESRCH);
        return Err(failed("getppid")(error));
    }
    let mut command = Command::new("/proc/self/exe");
    command.arg0("bpfsmith-proxy").arg("run").arg(config);
    command.env_remove(CONFIG).env_remove(PARENT);
    // They would tell the daemon of other places.
    command.env_remove("BPFSMITH_PROXY_SOCKET");
    command.env_remove("NOTIFY_SOCKET");
    Err(failed("execve")(command.exec()))
}

/// What the thread is asked to do.
enum Order {
    Start(OsString, File, Sender<std::io::Result<Child>>),
    Detach(Sender<bpfsmith_datapath::error::Result<Removed>>),
}

/// The thread in the proxy's machine.
#[derive(Debug)]
pub(super) struct Warden {
    /// Where the daemon gives names to its programs: seen by it and the thread alone.
    pub(super) pins: PathBuf,
    /// Where that file system is mounted.
    pub(super) mount: PathBuf,
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Warden {
    pub(super) fn start(proxy: &Arc<Node>) -> Result<Warden> {
        let proxy = Arc::clone(proxy);
        let (orders, ordered) = channel();
        let (tell, told) = channel();
        let thread = thread::Builder::new().name("warden".to_owned());
        let thread = thread.spawn(move || {
            let refusal = tell.clone();
            let entered = proxy.ns.run(move || match Mount::private(FileSystem::BPF) {
                Ok(mount) => {
                    // Who started this waits for it.
                    let _ = tell.send(Ok(mount.path().to_owned()));
                    obey(&mount.path().join("proxy"), &ordered);
                }
                Err(refused) => drop(tell.send(Err(Error::Mount(refused)))),
            });
            if let Err(error) = entered {
                let _ = refusal.send(Err(error.into()));
            }
        });
        let thread = thread.map_err(Error::machine("clone"))?;
        let mount = told.recv().unwrap_or_else(|_| Err(silent()))?;
        Ok(Warden {
            pins: mount.join("proxy"),
            mount,
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    fn order<T>(&self, order: impl FnOnce(Sender<T>) -> Order) -> Result<T> {
        let (tell, told) = channel();
        let orders = self.orders.as_ref().ok_or_else(silent)?;
        orders.send(order(tell)).map_err(|_| silent())?;
        told.recv().map_err(|_| silent())
    }

    /// Starts a daemon, which says what it has to say to that file.
    pub(super) fn daemon(&self, config: &Path, log: &Path) -> Result<Daemon> {
        let options = File::options().create(true).append(true).open(log);
        let file = options.map_err(|error| Error::File {
            path: log.to_owned(),
            error,
        })?;
        let child = self.order(|tell| Order::Start(config.into(), file, tell))?;
        Ok(Daemon {
            child: child.map_err(Error::machine("start /proc/self/exe"))?,
            log: log.to_owned(),
        })
    }

    /// Takes away the programs that a daemon has left on devices.
    pub(super) fn detach(&self) -> Result<Removed> {
        Ok(self.order(Order::Detach)??)
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // If it panicked, that was told.
            let _ = thread.join();
        }
    }
}

fn silent() -> Error {
    Error::Machine {
        call: "the thread in the proxy's machine",
        error: std::io::ErrorKind::BrokenPipe.into(),
    }
}

/// Does what it is asked for, until nobody asks any more.
fn obey(pins: &Path, ordered: &Receiver<Order>) {
    for order in ordered {
        match order {
            // Who asked waits for the answer.
            Order::Start(config, log, tell) => drop(tell.send(spawn(&config, &log))),
            Order::Detach(tell) => {
                let removed = Pins::open(pins).and_then(|pins| pins.detach());
                let _ = tell.send(removed);
            }
        }
    }
}

fn spawn(config: &OsString, log: &File) -> std::io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("demo").env(CONFIG, config);
    command.env(PARENT, std::process::id().to_string());
    command.stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log.try_clone()?);
    // Ctrl-C at the terminal is for the demo.
    command.process_group(0).spawn()
}

/// The daemon's process. It is killed if it is dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error if it has ended.
    pub(super) fn expect(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(self.ended(status)),
            _ => Ok(()),
        }
    }

    fn ended(&self, status: ExitStatus) -> Error {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let last = text.lines().last().unwrap_or("it said nothing");
        Error::Daemon {
            how: status.to_string(),
            said: last.to_owned(),
        }
    }

    /// `kill -9`: it is gone when this returns.
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill().map_err(Error::machine("kill"))?;
        self.child.wait().map_err(Error::machine("wait"))?;
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn end(mut self, stage: &mut Stage<'_>) -> Result<()> {
        let pid = i32::try_from(self.pid()).unwrap_or(0);
        kill(Pid::from_raw(pid), Signal::SIGTERM)
            .map_err(|errno| Error::machine("kill")(errno.into()))?;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.ended(status)),
                _ => stage.wait(Duration::from_millis(10))?,
            }
        }
        Err(Error::Late {
            what: "the end of the daemon".to_owned(),
            seconds: PATIENCE.as_secs(),
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
