//! A service on all ports of a network that nobody bound, and a new process that takes it over while
//! clients connect. Needs root.
//!
//! A machine takes all of 203.0.113.0/24 for its own. Rules say that TCP to any port there is for the
//! service "web", and a directory of a bpffs holds them. The old process brings a listener that is bound
//! somewhere else. A client connects without a pause, to other addresses and ports each time. Then a new
//! process starts, and the old one hands its listener over and ends. Each connection is answered, by the
//! old one first, then by the new one.
//!
//! The processes are this program again, with a role in their environment.

use bpfsmith::asm::program::Program;
use bpfsmith::net::{Node, Route};
use bpfsmith::steer::handover::{self, Handed, Offer};
use bpfsmith::steer::{Counts, Label, Steering};
use bpfsmith::sys::mount::{FileSystem, Mount};
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What a process is to be.
const ROLE: &str = "BPFSMITH_HANDOVER_ROLE";
/// Where the rules are pinned.
const DIR: &str = "BPFSMITH_HANDOVER_DIR";

const SERVICE: &str = "web";
/// How many clients are answered before and after.
const ANSWERS: u32 = 500;

type Done<T> = Result<T, Box<dyn Error>>;

/// The program that the rules are read by: it comes with the library.
#[must_use]
pub fn program() -> Program {
    bpfsmith::steer::program()
}

fn web() -> Done<Label> {
    Ok(Label::new(SERVICE)?)
}

/// A process of one role: its end of a stream to the other is its standard input.
struct Process {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Process {
    fn start(node: &Node, role: &str, dir: &Path, peer: UnixStream) -> Done<Process> {
        let start = || {
            Command::new(std::env::current_exe()?)
                .env(ROLE, role)
                .env(DIR, dir)
                .stdin(Stdio::from(OwnedFd::from(peer)))
                .stdout(Stdio::piped())
                .spawn()
        };
        let mut child = node.run(start)??;
        let says = child.stdout.take().ok_or("no standard output")?;
        Ok(Process {
            child,
            says: BufReader::new(says),
        })
    }

    fn hear(&mut self, word: &str) -> Done<()> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        match line.trim_end() {
            said if said == word => Ok(()),
            said => Err(format!("it said {said:?}, not {word:?}").into()),
        }
    }

    fn ends(&mut self) -> Done<()> {
        let status = self.child.wait()?;
        match status.success() {
            true => Ok(()),
            false => Err(status.to_string().into()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is gone already, unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process does that another one started, if this one is such a process.
///
/// # Errors
/// When a step is refused.
pub fn act() -> Option<Done<()>> {
    let role = std::env::var(ROLE).ok()?;
    let dir = PathBuf::from(std::env::var_os(DIR)?);
    Some(match role.as_str() {
        "old" => old(&dir),
        _ => new(),
    })
}

fn peer() -> io::Result<UnixStream> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

fn say(word: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{word}")?;
    out.flush()
}

/// Answers with a word whoever comes, until `is_over`.
fn serve(listener: &TcpListener, word: &str, is_over: impl Fn() -> bool) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    while !is_over() {
        match listener.accept() {
            Ok((mut stream, _)) => stream.write_all(word.as_bytes())?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Serves until somebody asks for its place.
fn old(dir: &Path) -> Done<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Steering::open(dir)?.register(&web()?, &listener)?;
    say("serving")?;
    let mut peer = peer()?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&listener, "old", || is_over.load(Ordering::Acquire)));
        let handed = peer
            .read_exact(&mut [0])
            .map_err(Into::into)
            .and_then(|()| Ok(handover::send(&peer, &[Offer::new(web()?, &listener)])?));
        // The other one accepts by now. Who is in the queue, is in its queue too.
        is_over.store(true, Ordering::Release);
        serving.join().map_err(|_| "serving failed")??;
        handed
    })
}

/// Asks for the place of the old one, and serves until nobody is at the other end.
fn new() -> Done<()> {
    let mut peer = peer()?;
    peer.write_all(b"?")?;
    let arrivals = handover::receive(&peer)?.take()?;
    let mut listeners = arrivals
        .into_iter()
        .filter_map(|arrival| match arrival.socket {
            Handed::Tcp(listener) => Some(listener),
            Handed::Udp(_) => None,
        });
    let listener = listeners.next().ok_or("no listener came")?;
    // It is registered as before: it is the same socket, with another process.
    say("serving")?;
    peer.set_nonblocking(true)?;
    let is_over = || matches!((&peer).read(&mut [0]), Ok(0));
    Ok(serve(&listener, "new", is_over)?)
}

/// What clients heard.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    old: u32,
    new: u32,
    failed: u32,
}

/// Connects without a pause until it is over.
fn ask(heard: &AtomicU32, is_over: &AtomicBool) -> Heard {
    let mut all = Heard::default();
    for n in 0_u32.. {
        if is_over.load(Ordering::Acquire) {
            break;
        }
        let [.., host] = (n % 254 + 1).to_be_bytes();
        let port = u16::try_from(n * 131 % 65_535 + 1).unwrap_or(1);
        let answer = TcpStream::connect((Ipv4Addr::new(203, 0, 113, host), port));
        let answer = answer.and_then(|mut stream| {
            let mut word = String::new();
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.read_to_string(&mut word)?;
            Ok(word)
        });
        match answer.as_deref() {
            Ok("old") => all.old += 1,
            Ok("new") => all.new += 1,
            _ => all.failed += 1,
        }
        heard.fetch_add(1, Ordering::Release);
    }
    all
}

/// Waits until so many more clients were answered.
fn some(heard: &AtomicU32) -> Done<()> {
    let goal = heard.load(Ordering::Acquire) + ANSWERS;
    let end = Instant::now() + Duration::from_secs(60);
    while heard.load(Ordering::Acquire) < goal {
        if Instant::now() > end {
            return Err("clients are not answered".into());
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Ends what waits for it, also when a step fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The old one, then the new one, while clients connect.
fn change_over(node: &Node, dir: &Path) -> Done<Heard> {
    let (near, far) = UnixStream::pair()?;
    // As long as this is open, the new one has somebody at the other end.
    let hold = near.try_clone()?;
    let mut old = Process::start(node, "old", dir, near)?;
    old.hear("serving")?;
    println!("the old process serves, as {}", old.child.id());
    let (heard, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let over = Over(&is_over);
        let asking = scope.spawn(|| node.run(|| ask(&heard, &is_over)));
        some(&heard)?;
        let mut new = Process::start(node, "new", dir, far)?;
        new.hear("serving")?;
        println!("the new process serves, as {}", new.child.id());
        old.ends()?;
        println!("the old process has ended");
        some(&heard)?;
        drop(over);
        let all = asking.join().map_err(|_| "asking failed")??;
        drop(hold);
        new.ends()?;
        Ok(all)
    })
}

/// Has clients connect while one process takes over from the other.
///
/// # Errors
/// When a step is refused, or a client was not answered.
pub fn run() -> Done<()> {
    let node = Node::new()?;
    node.net
        .add_route(&Route::local("203.0.113.0/24".parse()?))?;
    let mount = Mount::private(FileSystem::BPF)?;
    let dir = mount.path().join("steering");
    let mut steering = Steering::create(&dir, &node.ns)?;
    steering.bind("tcp 203.0.113.0/24 *".parse()?, &web()?)?;
    let heard = change_over(&node, &dir)?;
    let status = steering.status()?;
    print!("\n{status}");
    println!(
        "\nanswered by the old one {}, by the new one {}, not at all {}",
        heard.old, heard.new, heard.failed
    );
    steering.remove()?;
    let all = Counts {
        hits: (heard.old + heard.new).into(),
        ..Counts::default()
    };
    match heard {
        Heard { failed: 1.., .. } => Err("a connection failed".into()),
        Heard { old: 0, .. } | Heard { new: 0, .. } => Err("one of them had no clients".into()),
        _ if status.counts(SERVICE) != all => Err("it was not counted so".into()),
        _ => Ok(()),
    }
}

fn main() -> Done<()> {
    act().unwrap_or_else(run)
}
