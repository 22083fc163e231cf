//! Targets that are checked, and what they do.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

use bpfsmith_config::desired::{Check, Health};
use bpfsmith_gate::deadline;
use bpfsmith_net::Node;
use bpfsmith_proxy::health::{Checks, Target, View};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long something may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// So rarely that it is done once only, unless it is wanted.
pub(crate) const RARELY: Duration = Duration::from_secs(24 * 3600);

/// Runs in a network of its own, where all ports are free.
pub(crate) fn inside(body: impl FnOnce() + Send) {
    Node::new().unwrap().run(body).unwrap();
}

pub(crate) fn tcp(interval: Duration) -> Health {
    Health {
        check: Check::Tcp,
        interval,
        timeout: LIMIT,
        jitter: 0.1,
        up: 2,
        down: 3,
        slow_start: Duration::ZERO,
    }
}

pub(crate) fn http(interval: Duration) -> Health {
    Health {
        check: Check::Http {
            path: "/alive".to_owned(),
            host: None,
            expect: vec![200],
        },
        ..tcp(interval)
    }
}

pub(crate) fn target(address: SocketAddr) -> Target {
    Target {
        group: "web".to_owned(),
        address,
    }
}

/// Has them checked, and counts how often something was told.
pub(crate) fn start(targets: BTreeMap<Target, Health>) -> (Checks, Arc<AtomicU64>) {
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let checks = Checks::start(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let checks = checks.unwrap();
    checks.set(targets);
    (checks, told)
}

#[track_caller]
pub(crate) fn view(checks: &Checks, target: &Target) -> View {
    checks.works().unwrap();
    checks.standings().remove(target).unwrap()
}

/// Waits until a target was checked so often.
#[track_caller]
pub(crate) fn checked(checks: &Checks, target: &Target, times: u64) -> View {
    deadline(LIMIT, || {
        Some(view(checks, target)).filter(|view| view.checks >= times)
    })
}

/// Someone who accepts connections, until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Does that with each connection, one after the other.
    pub(crate) fn new(address: &str, mut serve: impl FnMut(TcpStream) + Send + 'static) -> Server {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, ended) = (Arc::clone(&accepted), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            loop {
                let (stream, _) = listener.accept().unwrap();
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                serve(stream);
            }
        });
        Server {
            address,
            accepted,
            stop,
            thread: Some(thread),
        }
    }

    /// Keeps each connection, and does nothing with it.
    pub(crate) fn silent(address: &str) -> (Server, Kept) {
        let kept = Kept::default();
        let keep = Arc::clone(&kept);
        let server = Server::new(address, move |stream| keep.lock().unwrap().push(stream));
        (server, kept)
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }
}

pub(crate) type Kept = Arc<Mutex<Vec<TcpStream>>>;

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // It wakes the thread. That may have ended by a panic, which is said when it is waited for.
        let _ = TcpStream::connect(self.address);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// Reads up to the end of a request.
pub(crate) fn request(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    Ok(String::from_utf8(bytes).unwrap())
}
