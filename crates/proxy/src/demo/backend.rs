//! [`Backend`]: a small HTTP server in its machine, which answers with its name.

use super::error::{Error, Result};
use super::world::{TREES, place};
use bpfsmith_net::Node;
use nix::sys::socket::{Shutdown, shutdown};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// So much is sent of a download at once, and then nothing for a moment: it is to take a while.
const PIECE: u64 = 64 << 10;
const PAUSE: Duration = Duration::from_millis(8);

/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// The byte that a download has at a place.
pub(super) fn byte(offset: u64) -> u8 {
    u8::try_from(offset % 251).unwrap_or(0)
}

/// A server that can be stopped and started again.
#[derive(Debug)]
pub(super) struct Backend {
    tree: usize,
    node: Arc<Node>,
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    listener: Arc<TcpListener>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// The backend of that number. It begins to serve.
    pub(super) fn start(tree: usize, node: &Arc<Node>) -> Result<Backend> {
        let mut backend = Backend {
            tree,
            node: Arc::clone(node),
            server: None,
        };
        backend.serve()?;
        Ok(backend)
    }

    pub(super) fn serve(&mut self) -> Result<()> {
        let at = place(self.tree);
        let listener = self.node.run(|| TcpListener::bind(at))?;
        let listener = Arc::new(listener.map_err(Error::machine("bind"))?);
        let stop = Arc::new(AtomicBool::new(false));
        let name = TREES.get(self.tree).copied().unwrap_or("?");
        let thread = {
            let (listener, stop) = (Arc::clone(&listener), Arc::clone(&stop));
            let thread = thread::Builder::new().name(name.to_owned());
            thread.spawn(move || accept(&listener, name, &stop))
        };
        let thread = thread.map_err(Error::machine("clone"))?;
        self.server = Some(Server {
            listener,
            stop,
            thread: Some(thread),
        });
        Ok(())
    }

    /// Nobody listens any more: who connects is refused.
    pub(super) fn stop(&mut self) {
        self.server = None;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It wakes who accepts. Nothing else can be done about an error than to wait.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves until the listener is shut down.
fn accept(listener: &TcpListener, name: &'static str, stop: &Arc<AtomicBool>) {
    while let Ok((stream, _)) = listener.accept() {
        let stop = Arc::clone(stop);
        let thread = thread::Builder::new().name(name.to_owned());
        // A client that breaks off is none of the backend's business, and one that finds no thread is refused.
        let _ = thread.spawn(move || serve(&stream, name, &stop));
    }
}

/// Answers requests, as many as come.
fn serve(stream: &TcpStream, name: &str, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut is_last = false;
        loop {
            let mut field = String::new();
            if reader.read_line(&mut field)? == 0 {
                return Ok(());
            }
            let field = field.trim().to_ascii_lowercase();
            is_last |= field == "connection: close";
            if field.is_empty() {
                break;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or("/");
        match path.strip_prefix("/download/").map(str::parse) {
            Some(Ok(bytes)) => download(stream, name, bytes, stop)?,
            _ => answer(stream, name)?,
        }
        if is_last {
            return Ok(());
        }
    }
}

fn head(name: &str, bytes: u64) -> String {
    format!("HTTP/1.1 200 OK\r\nServer: {name}\r\nContent-Length: {bytes}\r\n\r\n")
}

fn answer(mut stream: &TcpStream, name: &str) -> std::io::Result<()> {
    let body = format!("{name}\n");
    let text = head(name, u64::try_from(body.len()).unwrap_or(0)) + &body;
    stream.write_all(text.as_bytes())
}

/// Sends so many bytes, slowly.
fn download(
    mut stream: &TcpStream,
    name: &str,
    bytes: u64,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    stream.write_all(head(name, bytes).as_bytes())?;
    let mut sent = 0;
    while sent < bytes && !stop.load(Ordering::Relaxed) {
        let end = bytes.min(sent + PIECE);
        let piece: Vec<u8> = (sent..end).map(byte).collect();
        stream.write_all(&piece)?;
        sent = end;
        thread::sleep(PAUSE);
    }
    Ok(())
}
