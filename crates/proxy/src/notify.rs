//! [`Notify`]: what a service manager is told.

use nix::time::{ClockId, clock_gettime};
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Whom to tell, if anybody.
#[derive(Debug)]
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// Who started this process says by `NOTIFY_SOCKET` that it wants to know.
    #[must_use]
    pub fn of_environment() -> Notify {
        let to = std::env::var_os("NOTIFY_SOCKET").and_then(|name| open(&name));
        Notify { to }
    }

    /// It is at work.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// It reads its configuration again; [`ready`](Notify::ready) says that it has.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// It ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, what: &str) {
        if let Some((socket, to)) = &self.to {
            // A manager that is gone needs to know nothing.
            let _ = socket.send_to_addr(what.as_bytes(), to);
        }
    }
}

fn open(name: &OsString) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        _ => SocketAddr::from_pathname(name),
    };
    Some((UnixDatagram::unbound().ok()?, address.ok()?))
}
