//! Logs where the processes of a control group connect to, redirects one port and refuses another.
//! Needs root, and a cgroup2 file system that is mounted somewhere.
//!
//! The example puts itself into a control group of its own, in a network namespace of its own. Three
//! servers listen there. Who connects to the first reaches the second, who connects to the third is
//! refused although it listens; which server accepts says so, and the log says the same.

use bpfsmith::dsl::*;
use bpfsmith::kit::event::event;
use bpfsmith::kit::map::count_at;
use bpfsmith::maps::{Map, RingBuf};
use bpfsmith::net::Node;
use bpfsmith::prog::target::Cgroup;
use bpfsmith::prog::{Load, Maps};
use bpfsmith::record;
use bpfsmith::sys::cgroup::Cgroup as Group;
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use zerocopy::{FromBytes, Immutable, KnownLayout};

const CTX: Reg = R6;
const RECORD: Reg = R7;
const PORT: Reg = R8;
const FATE: Reg = R9;

const MOVED: u16 = 8080;
const TARGET: u16 = 8081;
const CLOSED: u16 = 8082;

const ALLOWED: u32 = 0;
const REDIRECTED: u32 = 1;
const REFUSED: u32 = 2;
const FATES: [&str; 3] = ["allowed", "redirected", "refused"];

/// What a program of this hook answers.
const PROCEED: i32 = 1;
const REJECT: i32 = 0;

record! {
    /// A connection that was asked for, as the program tells it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, KnownLayout, Immutable)]
    pub struct Asked {
        /// The IPv4 address, in network order.
        addr: u32,
        /// The port.
        port: u32,
        /// What became of it.
        fate: u32,
    }
}

static LOG: MapDef<(), ()> = MapDef::ringbuf("connects", 1 << 16);
static LOST: MapDef<u32, u64> = MapDef::array("lost", 1);

/// Tells user space of the connection. Reads context, port and fate; clobbers record and R0 to R5.
fn log() -> Code {
    let body = code![
        load(R1, CTX.get(bpf_sock_addr::user_ip4)),
        store(RECORD.get(Asked::addr), R1),
        mov(R1, PORT),
        to_be16(R1),
        store(RECORD.get(Asked::port), R1),
        store(RECORD.get(Asked::fate), FATE),
    ];
    event::<Asked>(&LOG, RECORD, body, Some(count_at(&LOST, 0, 1)))
}

/// The program.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    let code = code![
        mov(CTX, R1),
        load(PORT, CTX.get(bpf_sock_addr::user_port)),
        mov(FATE, ALLOWED),
        PORT.eq(be16(MOVED)).then(mov(FATE, REDIRECTED)),
        PORT.eq(be16(CLOSED)).then(mov(FATE, REFUSED)),
        log(),
        FATE.eq(REFUSED).then(ret(REJECT)),
        FATE.eq(REDIRECTED).then(code![
            mov(R1, be16(TARGET)),
            store(CTX.get(bpf_sock_addr::user_port), R1),
        ]),
        ret(PROCEED),
    ];
    Program::new(ProgType::CGROUP_SOCK_ADDR, "connect_log", code)
        .unwrap_or_else(|report| panic!("{report}"))
}

/// Attaches the program, connects, and compares who accepted with what was logged.
///
/// # Errors
/// When a step is refused, or a connection went elsewhere than it should.
pub fn run() -> Result<(), Box<dyn Error>> {
    let node = Node::new()?;
    let group = Group::new(&format!("bpfsmith-connect-log-{}", std::process::id()))?;
    group.enter(std::process::id())?;
    let program = program();
    let maps = Maps::of(&program)?;
    let mut log: RingBuf = maps.open(&LOG)?;
    let lost: Map<u32, u64> = maps.open(&LOST)?;
    let hook = Cgroup::connect4(&group);
    let prog = Load::new(&program).maps(&maps).to(&hook)?.load()?;

    let listen = |port| node.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    let (moved, target, closed) = (listen(MOVED)??, listen(TARGET)??, listen(CLOSED)??);
    let connect = |port| node.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)));

    let link = prog.attach(&hook)?;
    let redirected = connect(MOVED)??;
    accepted(&target, &redirected)?;
    let direct = connect(TARGET)??;
    accepted(&target, &direct)?;
    match connect(CLOSED)? {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        other => return Err(format!("port {CLOSED} is not closed: {other:?}").into()),
    }
    link.detach()?;
    accepted(&moved, &connect(MOVED)??)?;
    accepted(&closed, &connect(CLOSED)??)?;

    let mut seen = Vec::new();
    println!("asked for         became");
    log.for_each(|asked: &Asked| {
        let addr = Ipv4Addr::from(u32::from_be(asked.addr));
        println!("{addr}:{}    {}", asked.port, fate(asked.fate));
        seen.push((addr, asked.port, asked.fate));
    })?;
    let wanted = [
        (MOVED, REDIRECTED),
        (TARGET, ALLOWED),
        (CLOSED, REFUSED),
    ]
    .map(|(port, fate)| (Ipv4Addr::LOCALHOST, u32::from(port), fate));
    if seen != wanted || lost.lookup(&0)? != Some(0) {
        return Err(format!("wanted {wanted:?} in the log").into());
    }
    Ok(())
}

fn fate(number: u32) -> &'static str {
    let index = usize::try_from(number).unwrap_or(usize::MAX);
    FATES.get(index).copied().unwrap_or("?")
}

/// Whether this server accepted that connection, and no other one.
fn accepted(server: &TcpListener, client: &TcpStream) -> Result<(), Box<dyn Error>> {
    // The kernel had finished the handshake when `connect` came back: nothing has to be waited for.
    server.set_nonblocking(true)?;
    let (_, from): (_, SocketAddr) = server.accept()?;
    if from != client.local_addr()? {
        let at = server.local_addr()?;
        return Err(format!("{at} accepted {from}, not {client:?}").into());
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
