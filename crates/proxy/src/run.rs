//! The process of a proxy: its sockets, its signals, and the file that it watches.

use crate::api;
use crate::daemon::{self, Daemon};
use crate::error::{Error, Result};
use crate::http::{self, Guard, Limits, Listener, Server, Token};
use crate::notify::Notify;
use crate::powerless;
use crate::proxy::Life;
use crate::watch::{Seen, Watch};
use bpfsmith_config::desired::Settings;
use bpfsmith_sys::rights;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How a proxy is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file of configuration.
    pub config: PathBuf,
    /// The socket for commands, if it is not the one of the settings.
    pub socket: Option<PathBuf>,
}

/// What the process of a proxy still may when it is at work: whatever loads and attaches programs.
pub const KEPT: rights::Caps = rights::Caps::BPF
    .union(rights::Caps::NET_ADMIN)
    .union(rights::Caps::PERFMON);

/// Signals that mean something.
const SIGNALS: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
];

/// How long a file has to be left alone until it is read: editors write it in several steps.
const QUIET: Duration = Duration::from_millis(200);

/// Nobody tells that another directory has the name of the one of the file: this is how often that is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Does what the file says until it is told to end; `out` is told what happens.
///
/// `SIGTERM` and `SIGINT` end it, and what the kernel does goes on. `SIGHUP` reads the file again, as a change of the
/// file does; `SIGUSR1` opens the access log again.
///
/// # Errors
/// When it cannot begin.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    let signals = signals()?;
    let settings = daemon::settings(&options.config)?;
    // What is wrong with any of this is told before anything is done.
    let ports = Ports::take(&settings)?;
    give_up_rights()?;
    let admin = settings.admin.as_ref();
    let token = admin.map(|admin| token(&admin.token_file)).transpose()?;
    let socket = options.socket.as_ref().unwrap_or(&settings.control);
    let control = Listener::unix(socket)?;
    // From before the file is read, so that no change of it is missed.
    let watch = Watch::of(&options.config)?;
    let daemon = Arc::new(Daemon::open(&options.config, Life::Kernel)?);
    let servers = serve(&daemon, control, ports, token)?;
    say(out, &begun(&daemon, &servers)?);
    let notify = Notify::of_environment();
    notify.ready();
    attend(&daemon, &signals, watch, &notify, out)?;
    notify.stopping();
    say(
        out,
        "ended: the kernel goes on; `bpfsmith-proxy detach` takes everything away",
    );
    drop(servers);
    Ok(())
}

/// What is needed at work is enough for the beginning, too: who can begin can go on. No program that this one might be
/// made to run gets any of it back.
fn give_up_rights() -> Result<()> {
    nix::sys::prctl::set_no_new_privs().map_err(|errno| Error::Machine {
        call: "prctl(PR_SET_NO_NEW_PRIVS)",
        error: errno.into(),
        hint: "a security module forbids to give up rights",
    })?;
    rights::keep(KEPT).map_err(powerless::failed)
}

/// A line for whoever looks.
fn say(out: &mut dyn Write, text: &str) {
    // Nobody has to look.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// From now on these signals wait until they are read: in all threads that are started.
fn signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    SIGNALS.iter().for_each(|signal| set.add(*signal));
    let failed = |call| {
        move |errno: nix::Error| Error::Machine {
            call,
            error: errno.into(),
            hint: "the limit of open files is reached: see ulimit -n",
        }
    };
    set.thread_block().map_err(failed("pthread_sigmask"))?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&set, flags).map_err(failed("signalfd"))
}

/// What the settings name for TCP.
struct Ports {
    metrics: Option<Listener>,
    admin: Option<Listener>,
}

impl Ports {
    /// Low ones take a right that is given up before anything else is done.
    fn take(settings: &Settings) -> Result<Ports> {
        let admin = settings.admin.as_ref().map(|admin| admin.listen);
        Ok(Ports {
            metrics: settings.metrics.map(Listener::tcp).transpose()?,
            admin: admin.map(Listener::tcp).transpose()?,
        })
    }
}

fn serve(
    daemon: &Arc<Daemon>,
    control: Listener,
    ports: Ports,
    token: Option<Token>,
) -> Result<Vec<Server>> {
    let handler: http::Handler = {
        let daemon = Arc::clone(daemon);
        Arc::new(move |request, _peer| api::answer(&daemon, request))
    };
    let metrics = Guard::closed().public(|request| request.segments() == ["metrics"]);
    let places = [
        Some((control, Guard::owner())),
        ports.metrics.map(|listener| (listener, metrics)),
        ports.admin.zip(token.map(Guard::token)),
    ];
    let servers = places.into_iter().flatten().map(|(listener, guard)| {
        Server::start(listener, Limits::default(), guard, Arc::clone(&handler))
    });
    Ok(servers.collect::<http::Result<_>>()?)
}

/// What who wants to change things over TCP has to know.
fn token(path: &Path) -> Result<Token> {
    let failed = |error| Error::File {
        path: path.to_owned(),
        error,
        hint: "it is admin.token_file of the settings: a line of 16 characters at least that nobody can guess",
    };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let token = Token::new(text.trim());
    token.map_err(|bad| {
        failed(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            bad.to_string(),
        ))
    })
}

/// What the operator sees at the beginning.
fn begun(daemon: &Daemon, servers: &[Server]) -> Result<String> {
    let status = daemon.proxy().status()?;
    let mut text = format!("bpfsmith-proxy {} (process {})", status.version, status.pid);
    for device in &status.devices {
        text += &format!("\n  {}", device.choice);
    }
    for proxy in &status.proxies {
        let places = proxy.places.iter();
        let places: Vec<String> = places
            .map(|(address, spoken)| format!("{address}/{}", crate::status::protocol(*spoken)))
            .collect();
        text += &format!(
            "\n  {}: {} -> {}",
            proxy.name,
            places.join(", "),
            proxy.group
        );
    }
    for note in &status.notes {
        text += &format!("\n  note: {note}");
    }
    for server in servers {
        match (server.path(), server.address()) {
            (Some(path), _) => text += &format!("\n  commands: {}", path.display()),
            (None, Some(address)) => text += &format!("\n  HTTP: {address}"),
            (None, None) => {}
        }
    }
    Ok(text)
}

/// Waits for signals and changes of the file.
fn attend(
    daemon: &Daemon,
    signals: &SignalFd,
    mut watch: Watch,
    notify: &Notify,
    out: &mut dyn Write,
) -> Result<()> {
    let mut is_due = false;
    loop {
        let mut ready = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(watch.as_fd(), PollFlags::POLLIN),
        ];
        let time = if is_due { QUIET } else { LOOK };
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO);
        let count = match poll(&mut ready, time) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => continue,
            Err(errno) => {
                return Err(Error::Machine {
                    call: "poll",
                    error: errno.into(),
                    hint: "the machine is out of memory",
                });
            }
        };
        let is_ready = ready.map(|it| it.any().unwrap_or(true));
        if count == 0 && is_due {
            is_due = false;
            let is_new = match watch.look() {
                Seen::Same => false,
                Seen::Other(contents) => !daemon.knows(contents),
                // Reading it tells why.
                Seen::Unreadable => true,
            };
            if is_new {
                reload(daemon, notify, out);
            }
            continue;
        }
        if count == 0 {
            is_due = watch.has_moved()?;
        }
        if is_ready[1] {
            is_due |= watch.take()?;
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            match i32::try_from(signal.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGHUP)) => reload(daemon, notify, out),
                Ok(Ok(Signal::SIGUSR1)) => {
                    daemon.reopen_log();
                    say(out, "opened the access log again");
                }
                _ => return Ok(()),
            }
        }
    }
}

/// Says what the file wants that this process does not do any more.
fn waiting(daemon: &Daemon, out: &mut dyn Write) {
    for note in daemon.waiting() {
        say(out, &format!("note: {note}"));
    }
}

fn reload(daemon: &Daemon, notify: &Notify, out: &mut dyn Write) {
    notify.reloading();
    match daemon.reload() {
        Ok(turn) if turn.is_new => {
            let millis = turn.took.as_millis();
            say(
                out,
                &format!("reloaded: generation {} after {millis} ms", turn.generation),
            );
            waiting(daemon, out);
        }
        Ok(_) => {
            say(out, "reloaded: nothing that the kernel does has changed");
            waiting(daemon, out);
        }
        Err(error) => say(out, &format!("not reloaded, all is as before: {error}")),
    }
    notify.ready();
}
