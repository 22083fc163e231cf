//! The first process of a virtual machine: mounts, loads modules, runs the tests, switches off.

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket,
};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use xtask::plan::{self, End, Plan, Report};
use xtask::relay::{Limit, relay};

const MOUNTS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("bpf", "/sys/fs/bpf"),
    ("tracefs", "/sys/kernel/tracing"),
    ("debugfs", "/sys/kernel/debug"),
    ("securityfs", "/sys/kernel/security"),
];

const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

fn main() -> ExitCode {
    // It switches the machine off: not the one that somebody sits at.
    if std::process::id() != 1 {
        eprintln!("this is the first process of a virtual machine; use cargo xtask vm");
        return ExitCode::from(2);
    }
    if let Err(error) = run() {
        say(&format!("init: {error}"));
    }
    let Err(errno) = reboot(RebootMode::RB_POWER_OFF);
    say(&format!("init: power off: {errno}"));
    ExitCode::FAILURE
}

fn run() -> io::Result<()> {
    for (kind, dir) in MOUNTS {
        // A kernel may lack one; then its tests say so.
        let made = fs::create_dir_all(dir).and_then(|()| {
            Ok(mount(
                Some(*kind),
                *dir,
                Some(*kind),
                MsFlags::empty(),
                None::<&str>,
            )?)
        });
        if let Err(error) = made {
            say(&format!("init: mount {dir}: {error}"));
        }
    }
    for (to, at) in LINKS {
        symlink(to, at)?;
    }
    let plan = Plan::parse(&fs::read_to_string(plan::PLAN)?);
    say(&Report::Up(uptime()).to_line(&plan.word));
    load_modules()?;
    loopback_up()?;
    for test in &plan.tests {
        say(&Report::Start(test.clone()).to_line(&plan.word));
        let end = test_binary(&Path::new(plan::TESTS).join(test), &plan.arguments);
        say(&Report::Done(end).to_line(&plan.word));
    }
    say(&Report::End.to_line(&plan.word));
    Ok(())
}

/// On a line of its own, whatever was written before.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "\n{line}\n");
    let _ = out.flush();
}

/// In milliseconds.
fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split(' ').next().unwrap_or_default();
    // Hundredths stand behind the point.
    seconds.replace('.', "").parse::<u64>().unwrap_or(0) * 10
}

fn load_modules() -> io::Result<()> {
    let mut files: Vec<PathBuf> = fs::read_dir(plan::MODULES)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    for path in files {
        match finit_module(File::open(&path)?, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => say(&format!("init: load {}: {errno}", path.display())),
        }
    }
    Ok(())
}

/// Sends the one message that sets a device's flags, to device 1.
fn loopback_up() -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST: u16 = 1;
    const IFF_UP: u32 = 1;
    let mut message = Vec::new();
    message.extend_from_slice(&32_u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message.extend_from_slice(&[0; 12]); // sequence, port, family and kind
    message.extend_from_slice(&1_u32.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    let route = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(route.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
    Ok(())
}

/// Runs a test binary, and ends whatever it left running.
fn test_binary(path: &Path, arguments: &[String]) -> End {
    match run_relayed(path, arguments) {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => End::Code(code),
            (None, signal) => End::Signal(signal.unwrap_or(0)),
        },
        Err(error) => End::Refused(error.raw_os_error().unwrap_or(0)),
    }
}

fn run_relayed(path: &Path, arguments: &[String]) -> io::Result<ExitStatus> {
    const LIMIT: Limit = Limit {
        start: 256 << 10,
        end: 16 << 10,
    };
    let (reader, writer) = io::pipe()?;
    let mut child = Command::new(path)
        .args(arguments)
        .current_dir("/tmp")
        .env("BPFSMITH_STRICT", "1")
        .env("BPFSMITH_SLOW", "1")
        .env("HOME", "/tmp")
        .env("PATH", "/bin:/sbin")
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    let relay = std::thread::spawn(move || relay(reader, io::stdout().lock(), LIMIT));
    let status = child.wait()?;
    // All but this process, so that the pipe ends. There may be none.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    while waitpid(None, None).is_ok() {}
    match relay.join() {
        Ok(done) => done?,
        Err(_) => say("init: the relay of output panicked"),
    }
    Ok(status)
}
