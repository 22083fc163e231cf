//! Programs of socket maps: what one socket receives or writes goes to another, past user space.
//!
//! A map of sockets has up to three programs: a parser and a verdict (`SK_SKB`) for what its sockets
//! receive, and a verdict (`SK_MSG`) for what they write. [`redirect`] and [`redirect_message`] send
//! on to a socket of a `SOCKMAP`, by index, or of a `SOCKHASH`, by any key:
//!
//! ```
//! use bpfsmith_asm::dsl::*;
//! use bpfsmith_asm::kit::stream::{self, Context, Direction, Otherwise, Side, TupleKey};
//!
//! static SOCKETS: MapDef<TupleKey, u64> = MapDef::new(MapType::SOCKHASH, "sockets", 1024);
//!
//! /// What a local process writes is at once received by the other, if both are in the map.
//! fn shortcut() -> Code {
//!     let key = slot::<TupleKey>("key");
//!     code![
//!         mov(R6, R1),
//!         stream::tuple_key(Context::Message(R6), Side::Peer, key, R2),
//!         stream::redirect_message(R6, &SOCKETS, key, Direction::Ingress, Otherwise::Pass),
//!         exit(),
//!     ]
//! }
//! # Program::new(ProgType::SK_MSG, "shortcut", shortcut()).unwrap();
//! ```
//!
//! and a program of a control group puts the connections there, as soon as they stand:
//!
//! ```
//! # use bpfsmith_asm::dsl::*;
//! # use bpfsmith_asm::kit::stream::{self, Connections, TupleKey};
//! # static SOCKETS: MapDef<TupleKey, u64> = MapDef::new(MapType::SOCKHASH, "sockets", 1024);
//! static TALLY: MapDef<u32, u64> = MapDef::array("tally", stream::TALLIES);
//!
//! let code = code![
//!     mov(R6, R1),
//!     stream::fill(R6, &SOCKETS, Connections::Service(5432..=5432), &TALLY),
//!     ret(1),
//! ];
//! # Program::new(ProgType::SOCK_OPS, "fill", code).unwrap();
//! ```
//!
//! What the kernel does with the bytes:
//!
//! - Nobody slows a writer down whose bytes are sent on: what a slow reader has not taken waits in
//!   the kernel's memory, however much it is. Only messages sent on with [`Direction::Egress`] wait
//!   for room.
//! - Bytes that wait are lost when the owner of the socket between closes it, and nobody is told.
//! - Of a peer that is gone, the socket through which bytes are sent is told (`EPIPE`), not who wrote
//!   them.
//! - The end of a stream is judged too, as an empty message, unless there is a parser.
//! - What a verdict sends on with [`Direction::Egress`] is a message of the socket that sends it: an
//!   `SK_MSG` program of the same map judges it again.
//! - A listening socket does not belong into a map with programs for what is received: who waits for
//!   bytes of connections accepted from it is not woken.
//! - A read that may wait answers `EAGAIN` nevertheless, if bytes came for which the verdict has yet
//!   to be passed: ask again.
//! - A socket has one place in maps whose programs are of the same kind.

mod parser;

pub use parser::{Counts, Length, Prefix, message, parser_length_prefixed, parser_whole};

use crate::dsl::flags::map_elem::BPF_NOEXIST;
use crate::dsl::flags::redirect::BPF_F_INGRESS;
use crate::dsl::*;
use crate::kit::lookup::{End, within};
use crate::kit::map::count;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where at the other socket the bytes come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It sends them to its peer, as if its owner had written them.
    Egress,
    /// Its owner reads them, as if its peer had sent them.
    Ingress,
}

impl Direction {
    const fn flags(self) -> u64 {
        match self {
            Direction::Egress => 0,
            Direction::Ingress => BPF_F_INGRESS,
        }
    }
}

/// What becomes of bytes for which no socket is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Otherwise {
    /// They go where they would go without the program.
    Pass,
    /// They are lost. Who wrote a message is told `EACCES`, from then on at every write: the program is
    /// not asked again.
    Drop,
}

/// Sends received bytes to the socket under a key; R0 becomes the verdict to return. `skb` is the
/// context of an `SK_SKB` verdict. The key is a `u32` for a `SOCKMAP`, anything for a `SOCKHASH`.
///
/// No socket is under the key if its owner closed it; nor does one count that listens. Clobbers R0
/// to R5. Linux 4.14, for a `SOCKHASH` 4.18.
pub fn redirect<K>(
    skb: Reg,
    sockets: &MapDef<K, u64>,
    key: impl Into<Place>,
    direction: Direction,
    otherwise: Otherwise,
) -> Code {
    let (key, flags) = (key.into(), direction.flags());
    code![
        match sockets.shape().kind {
            MapType::SOCKHASH => code![sk_redirect_hash(
                skb, sockets, key, flags
            )],
            _ => code![sk_redirect_map(
                skb,
                sockets,
                key.u32(0),
                flags
            )],
        },
        verdict(otherwise),
    ]
}

/// As [`redirect`], for bytes that a socket's owner writes: `msg` is the context of an `SK_MSG`
/// verdict. Linux 4.17, for a `SOCKHASH` 4.18.
///
/// A program that judges a write in parts (`msg_apply_bytes`) cannot take the choice back: once a part
/// was sent to another socket, `SK_PASS` sends the rest of the write there as well.
pub fn redirect_message<K>(
    msg: Reg,
    sockets: &MapDef<K, u64>,
    key: impl Into<Place>,
    direction: Direction,
    otherwise: Otherwise,
) -> Code {
    let (key, flags) = (key.into(), direction.flags());
    code![
        match sockets.shape().kind {
            MapType::SOCKHASH => code![msg_redirect_hash(
                msg, sockets, key, flags
            )],
            _ => code![msg_redirect_map(
                msg,
                sockets,
                key.u32(0),
                flags
            )],
        },
        verdict(otherwise),
    ]
}

/// The kernel's functions answer `SK_PASS` if a socket is there, which then gets the bytes, and
/// `SK_DROP` if not.
fn verdict(otherwise: Otherwise) -> Option<Insn> {
    match otherwise {
        Otherwise::Pass => Some(mov(R0, SK_PASS)),
        Otherwise::Drop => None,
    }
}

/// The program that a fragment is part of, with the register that has its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// `SK_SKB`: bytes that a socket received.
    Buffer(Reg),
    /// `SK_MSG`: bytes that a socket's owner writes.
    Message(Reg),
    /// `SOCK_OPS`: something that happens to a connection.
    Event(Reg),
}

/// What the three contexts call the ends of a connection.
struct Ends {
    ctx: Reg,
    family: Field,
    v4: [Field; 2],
    v6: [Field; 2],
    ports: [Field; 2],
}

macro_rules! ends {
    ($ctx:expr, $layout:ident) => {
        Ends {
            ctx: $ctx,
            family: $layout::family,
            v4: [$layout::local_ip4, $layout::remote_ip4],
            v6: [$layout::local_ip6, $layout::remote_ip6],
            ports: [
                $layout::local_port,
                $layout::remote_port,
            ],
        }
    };
}

impl Context {
    const fn ends(self) -> Ends {
        match self {
            Context::Buffer(ctx) => ends!(ctx, __sk_buff),
            Context::Message(ctx) => ends!(ctx, sk_msg_md),
            Context::Event(ctx) => ends!(ctx, bpf_sock_ops),
        }
    }
}

/// `to` becomes the port of that end of the connection: the plain number, in the machine's order for
/// both ends.
pub fn load_port(to: Reg, context: Context, end: End) -> Code {
    let Ends {
        ctx,
        ports: [local, remote],
        ..
    } = context.ends();
    match end {
        End::Local => code![load(to, ctx.get(local))],
        // Four bytes in network order, of which the last two are the port.
        End::Remote => code![load(to, ctx.get(remote)), to_be32(to)],
    }
}

/// The port of that end is one of these; else jumps to `other`. Clobbers scratch.
pub fn port(
    context: Context,
    end: End,
    ports: RangeInclusive<u16>,
    scratch: Reg,
    other: Label,
) -> Code {
    code![
        load_port(scratch, context, end),
        within(ports, scratch, other)
    ]
}

record! {
    /// A connection as one of its sockets sees it: the key of a `SOCKHASH`.
    ///
    /// An IPv4 address stands there as the IPv6 address that means the same, `::ffff:a.b.c.d`, so a
    /// socket for both families has the key of one for IPv4 alone. Namespaces are no part of it:
    /// connections of several network namespaces may have the same key, and need a map each.
    #[derive(
        Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct TupleKey {
        /// The socket's own address.
        pub local: [u8; 16],
        /// Its peer's.
        pub remote: [u8; 16],
        /// Its own port, a plain number.
        pub local_port: u32,
        /// Its peer's.
        pub remote_port: u32,
    }
}

impl TupleKey {
    /// The key of the socket with these two names: `local_addr` and `peer_addr`.
    #[must_use]
    pub fn of(local: SocketAddr, remote: SocketAddr) -> TupleKey {
        TupleKey {
            local: mapped(local.ip()),
            remote: mapped(remote.ip()),
            local_port: local.port().into(),
            remote_port: remote.port().into(),
        }
    }

    /// The key of the socket at the other end.
    #[must_use]
    pub const fn peer(self) -> TupleKey {
        TupleKey {
            local: self.remote,
            remote: self.local,
            local_port: self.remote_port,
            remote_port: self.local_port,
        }
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The socket's that the program runs for.
    Own,
    /// The socket's at the other end of its connection, if that is on this machine.
    Peer,
}

/// Writes the [`TupleKey`] of one side of a TCP connection. Clobbers scratch.
pub fn tuple_key(context: Context, side: Side, key: impl Into<Place>, scratch: Reg) -> Code {
    let key = key.into();
    let ends = context.ends();
    let mut addresses = [
        key.to(TupleKey::local),
        key.to(TupleKey::remote),
    ];
    let mut ports = [
        key.get(TupleKey::local_port),
        key.get(TupleKey::remote_port),
    ];
    if side == Side::Peer {
        addresses.reverse();
        ports.reverse();
    }
    let copy = |to: Mem, from: Field| {
        code![
            load(scratch, ends.ctx.get(from)),
            store(to, scratch)
        ]
    };
    let mapped = [0, 1].map(|end: usize| {
        let to = addresses[end];
        code![
            store(to.u32(0), 0),
            store(to.u32(4), 0),
            store(to.u32(8), be32(0xffff)),
            copy(to.u32(12), ends.v4[end]),
        ]
    });
    let whole = [0, 1].map(|end: usize| {
        let words = (0_u16..4).map(|word| {
            let to = addresses[end].u32(4 * i32::from(word));
            copy(to, ends.v6[end].at(word))
        });
        words.collect::<Vec<Code>>()
    });
    code![
        load(scratch, ends.ctx.get(ends.family)),
        scratch.eq(AF_INET).then(mapped).or_else(whole),
        load_port(scratch, context, End::Local),
        store(ports[0], scratch),
        load_port(scratch, context, End::Remote),
        store(ports[1], scratch),
    ]
}

/// Writes the socket's cookie, eight bytes: the number that `SO_COOKIE` tells. `ctx` is the context
/// of an `SK_SKB` or `SOCK_OPS` program; one of `SK_MSG` does not get it. Clobbers R0 to R5. Linux
/// 4.18.
pub fn cookie_key(ctx: Reg, key: impl Into<Place>) -> Code {
    code![
        get_socket_cookie(ctx),
        store(key.into().u64(0), R0)
    ]
}

/// Which connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Connections {
    /// All of the control group.
    All,
    /// Those whose own port is one of these: a server's.
    Local(RangeInclusive<u16>),
    /// Those whose peer's port is one of these: a client's.
    Remote(RangeInclusive<u16>),
    /// Those with such a port at either end, so that both sockets of a local connection belong to it.
    Service(RangeInclusive<u16>),
}

impl Connections {
    /// Falls through for one of these; else jumps to `other`.
    fn among(self, event: Context, scratch: Reg, other: Label) -> Code {
        match self {
            Connections::All => code![],
            Connections::Local(ports) => port(event, End::Local, ports, scratch, other),
            Connections::Remote(ports) => port(event, End::Remote, ports, scratch, other),
            Connections::Service(ports) => {
                let (client, found) = (label("client"), label("of_service"));
                code![
                    port(event, End::Local, ports.clone(), scratch, client),
                    ja(found),
                    bind(client),
                    port(event, End::Remote, ports, scratch, other),
                    bind(found),
                ]
            }
        }
    }
}

/// How many entries the array has in which [`fill`] counts.
pub const TALLIES: u32 = 3;
/// Where [`fill`] counts the sockets that it put into the map.
pub const ADDED: u32 = 0;
/// Where it counts those for which there was no room.
pub const FULL: u32 = 1;
/// Where it counts those that the kernel refused for something else: another socket has the key (of
/// another network namespace), or this one is in another map with such programs.
pub const REFUSED: u32 = 2;

/// Puts the socket of a new connection into a `SOCKHASH` under its own [`TupleKey`], whoever opened
/// it, and counts what came of it in `tally`, an array of [`TALLIES`] entries. A connection that finds
/// no room goes on unharmed, without the map.
///
/// `event` is the context of a `SOCK_OPS` program, in one of R6 to R9. Other events, and connections
/// that are none of these, fall through. Clobbers R0 to R5. Linux 4.18.
pub fn fill(
    event: Reg,
    sockets: &MapDef<TupleKey, u64>,
    connections: Connections,
    tally: &MapDef<u32, u64>,
) -> Code {
    let (stands, done) = (label("stands"), label("filled"));
    let (key, index) = (slot::<TupleKey>("key"), slot::<u32>("tally"));
    let op = |op: SockOp| op.0.cast_signed();
    code![
        load(R1, event.get(bpf_sock_ops::op)),
        jeq(R1, op(SockOp::ACTIVE_ESTABLISHED_CB), stands),
        jne(R1, op(SockOp::PASSIVE_ESTABLISHED_CB), done),
        bind(stands),
        connections.among(Context::Event(event), R1, done),
        tuple_key(Context::Event(event), Side::Own, key, R1),
        sock_hash_update(event, sockets, key, BPF_NOEXIST),
        store(index.u32(0), ADDED),
        R0.ne(0).then(store(index.u32(0), REFUSED)),
        R0.eq(-Errno::E2BIG.0).then(store(index.u32(0), FULL)),
        count(tally, index, 1),
        bind(done),
    ]
}

/// Waits until a socket's owner has written that many bytes, or closes: less than them passes no
/// verdict yet. Falls through with all of them. `msg` is the context of an `SK_MSG` verdict, in one
/// of R6 to R9. Clobbers R0 to R5. Linux 4.17.
pub fn gather(msg: Reg, bytes: u16) -> Code {
    let bytes = i32::from(bytes);
    code![
        load(R1, msg.get(sk_msg_md::size)),
        R1.lt(bytes)
            .then(code![msg_cork_bytes(msg, bytes), ret(SK_PASS)]),
    ]
}

/// Makes the first bytes of what is written readable: `start` becomes a pointer to them. Goes to
/// `short` if there are less. `msg` is the context of an `SK_MSG` verdict, in one of R6 to R9, as is
/// `start`. Clobbers R0 to R5. Linux 4.17.
pub fn readable(msg: Reg, bytes: u16, start: Reg, short: Label) -> Code {
    let bytes = i32::from(bytes);
    let there = label("readable");
    let look = |missing: Label| {
        code![
            load(start, msg.get(sk_msg_md::data)),
            load(R1, msg.get(sk_msg_md::data_end)),
            mov(R2, start),
            add(R2, bytes),
            jgt(R2, R1, missing),
        ]
    };
    let apart = label("apart");
    code![
        look(apart),
        ja(there),
        bind(apart),
        msg_pull_data(msg, 0, bytes, 0),
        look(short),
        bind(there),
    ]
}
