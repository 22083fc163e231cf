//! Proxies that are processes.

use super::process::{Installed, wait_for_the_end};
use bpfsmith_splice::{Proxy, Settings, Splicer};
use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::unistd::pipe2;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;

/// A proxy that carries bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Two threads for each connection, which read and write with 64 KiB between.
    Copy,
    /// The same with a pipe between, and `splice(2)` into it and out of it.
    Pipe,
    /// haproxy, as it comes.
    Haproxy,
    /// haproxy with `option splice-auto`: `splice(2)` where it finds it worth it.
    HaproxySplice,
    /// nginx with its module `stream`; two processes.
    Nginx,
    /// `bpfsmith_splice`: a program in the kernel joins the sockets.
    Smith,
    /// The same proxy as it is without that program: one thread copies.
    SmithCopy,
}

impl Carrier {
    /// Is it, until nobody needs this process any more.
    ///
    /// # Errors
    /// When it cannot listen, or is not installed here.
    pub fn serve(self, listen: SocketAddr, target: SocketAddr) -> io::Result<()> {
        match self {
            Carrier::Copy => threads(listen, target, copy),
            Carrier::Pipe => threads(listen, target, through_a_pipe),
            Carrier::Haproxy => haproxy(listen, target, "").run(),
            Carrier::HaproxySplice => haproxy(listen, target, "option splice-auto").run(),
            Carrier::Nginx => nginx(listen, target).run(),
            Carrier::Smith => smith(listen, move |listener| {
                let splicer = Splicer::new(Settings::default());
                let splicer = splicer.expect("a kernel that joins sockets");
                Proxy::splicing(listener, target, splicer).expect("descriptors")
            }),
            Carrier::SmithCopy => smith(listen, move |listener| {
                Proxy::copying(listener, target).expect("descriptors")
            }),
        }
    }
}

fn haproxy(listen: SocketAddr, target: SocketAddr, option: &str) -> Installed {
    Installed {
        name: "haproxy",
        check: &["-c", "-q", "-f"],
        start: &["-db", "-q", "-f"],
        text: format!(
            "global\n  maxconn 4096\n\
             defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n  {option}\n\
             listen all\n  bind {listen}\n  server one {target}\n"
        ),
    }
}

fn nginx(listen: SocketAddr, target: SocketAddr) -> Installed {
    let file = format!("bpfsmith-bench-nginx-{}.pid", std::process::id());
    let pid = std::env::temp_dir().join(file);
    Installed {
        name: "nginx",
        check: &["-q", "-e", "stderr", "-t", "-c"],
        start: &["-q", "-e", "stderr", "-c"],
        // All datagrams of a client have to reach the same process.
        text: format!(
            "load_module modules/ngx_stream_module.so;\n\
             daemon off;\nworker_processes 2;\npid {};\nerror_log stderr crit;\n\
             events {{ worker_connections 4096; }}\n\
             stream {{\n\
             server {{ listen {listen}; proxy_pass {target}; proxy_half_close on; }}\n\
             server {{ listen {listen} udp reuseport; proxy_pass {target}; proxy_timeout 10s; }}\n\
             }}\n",
            pid.display()
        ),
    }
}

type Carry = fn(&TcpStream, &TcpStream) -> io::Result<()>;

fn threads(listen: SocketAddr, target: SocketAddr, carry: Carry) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    thread::spawn(move || {
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
    });
    wait_for_the_end();
    Ok(())
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

fn smith(
    listen: SocketAddr,
    make: impl FnOnce(TcpListener) -> Proxy + Send + 'static,
) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    thread::spawn(move || make(listener).run().expect("connections that are accepted"));
    wait_for_the_end();
    Ok(())
}
