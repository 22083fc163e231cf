//! The proxies.

use super::{ROLE, Usage};
use bpfsmith_splice::{Proxy, Settings, Splicer};
use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::unistd::pipe2;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

/// A proxy to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No proxy: the machine in the middle forwards packets.
    Direct,
    /// Two threads for each connection, which read and write with 64 KiB between.
    Copy,
    /// The same with a pipe between, and `splice(2)` into it and out of it.
    Pipe,
    /// haproxy, as it comes.
    Haproxy,
    /// haproxy with `option splice-auto`: `splice(2)` where it finds it worth it.
    HaproxySplice,
    /// `bpfsmith_splice`: a program in the kernel joins the sockets.
    Smith,
    /// The same proxy as it is without that program: one thread copies.
    SmithCopy,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 7] = [
        Kind::Direct,
        Kind::Copy,
        Kind::Pipe,
        Kind::Haproxy,
        Kind::HaproxySplice,
        Kind::Smith,
        Kind::SmithCopy,
    ];

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Copy => "copy",
            Kind::Pipe => "splice(2)",
            Kind::Haproxy => "haproxy",
            Kind::HaproxySplice => "haproxy-splice",
            Kind::Smith => "bpfsmith",
            Kind::SmithCopy => "bpfsmith-copy",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether this machine has it.
    #[must_use]
    pub fn is_here(self) -> bool {
        match self {
            Kind::Haproxy | Kind::HaproxySplice => {
                let version = Command::new("haproxy").arg("-v").output();
                version.is_ok_and(|version| version.status.success())
            }
            _ => true,
        }
    }

    /// Starts it, in the network namespace of the calling thread.
    ///
    /// # Panics
    /// If it does not come up.
    #[must_use]
    pub fn start(self, listen: SocketAddr, target: SocketAddr) -> Running {
        let mut command = match self {
            Kind::Direct => return Running(None),
            Kind::Haproxy | Kind::HaproxySplice => haproxy(self, listen, target),
            _ => {
                let mut command = Command::new(env::current_exe().expect("this program"));
                command.env(ROLE, format!("{} {listen} {target}", self.name()));
                command
            }
        };
        let child = command.stdin(Stdio::piped()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}", self.name()));
        let running = Running(Some(child));
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(listen).is_err() {
            assert!(Instant::now() < end, "{} does not listen", self.name());
            thread::sleep(Duration::from_millis(5));
        }
        running
    }
}

/// A proxy that runs, and ends when this is dropped.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Running {
    /// What it used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let usage = |child: &Child| Usage::of(child.id());
        self.0.as_ref().map(usage).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn haproxy(kind: Kind, listen: SocketAddr, target: SocketAddr) -> Command {
    let mut text = String::from("global\n  maxconn 4096\ndefaults\n  mode tcp\n");
    text.push_str("  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n");
    if kind == Kind::HaproxySplice {
        text.push_str("  option splice-auto\n");
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "listen all\n  bind {listen}\n  server one {target}");
    let name = format!("bpfsmith-bench-{}-{}.cfg", kind.name(), std::process::id());
    let path = env::temp_dir().join(name);
    fs::write(&path, text).expect("a configuration in the directory for temporary files");
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-q").arg("-f").arg(path);
    command
}

/// Is a proxy, until standard input ends.
///
/// # Panics
/// If it cannot listen.
pub fn serve(kind: Kind, listen: SocketAddr, target: SocketAddr) {
    thread::spawn(move || match kind {
        Kind::Copy => by_threads(listen, target, copy),
        Kind::Pipe => by_threads(listen, target, through_a_pipe),
        Kind::Smith | Kind::SmithCopy => smith(listen, target, kind),
        Kind::Direct | Kind::Haproxy | Kind::HaproxySplice => {
            unreachable!("{} is no part of this program", kind.name())
        }
    });
    // Whoever started it is gone when this ends.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
}

type Carry = fn(&TcpStream, &TcpStream) -> io::Result<()>;

fn by_threads(listen: SocketAddr, target: SocketAddr, carry: Carry) {
    let listener = TcpListener::bind(listen).expect("a free port");
    for front in listener.incoming().flatten() {
        thread::spawn(move || -> io::Result<()> {
            let back = TcpStream::connect(target)?;
            front.set_nodelay(true)?;
            back.set_nodelay(true)?;
            thread::scope(|scope| {
                scope.spawn(|| one_way(&front, &back, carry));
                one_way(&back, &front, carry);
            });
            Ok(())
        });
    }
}

/// An error ends the connection like an end does: its clients count what arrived.
fn one_way(from: &TcpStream, to: &TcpStream, carry: Carry) {
    let _ = carry(from, to);
    let _ = to.shutdown(Shutdown::Write);
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            got => to.write_all(&buffer[..got])?,
        }
    }
}

fn through_a_pipe(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (outlet, inlet) = pipe2(OFlag::O_CLOEXEC)?;
    let flags = SpliceFFlags::SPLICE_F_MOVE;
    loop {
        let mut left = splice(from.as_fd(), None, inlet.as_fd(), None, 1 << 16, flags)?;
        if left == 0 {
            return Ok(());
        }
        while left > 0 {
            left -= splice(outlet.as_fd(), None, to.as_fd(), None, left, flags)?;
        }
    }
}

fn smith(listen: SocketAddr, target: SocketAddr, kind: Kind) {
    let listener = TcpListener::bind(listen).expect("a free port");
    let proxy = match kind {
        Kind::SmithCopy => Proxy::copying(listener, target),
        _ => {
            let splicer = Splicer::new(Settings::default());
            let splicer = splicer.expect("a kernel that joins sockets");
            Proxy::splicing(listener, target, splicer)
        }
    };
    let mut proxy = proxy.expect("descriptors");
    proxy.run().expect("connections that are accepted");
}
