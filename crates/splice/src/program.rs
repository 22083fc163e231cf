//! The verdict: what becomes of bytes that a joined socket received.

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::stream::{Direction, Otherwise, redirect};
use bpfsmith_asm::report::Report;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const SKB: Reg = R6;
const FLOW: Reg = R7;
const LEN: Reg = R8;
/// What user space has done with what was left to it, or the socket that bytes go to.
const MORE: Reg = R9;

record! {
    /// One direction of a joined pair, under the cookie of the socket that receives its bytes.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct Flow {
        /// Bytes sent on by the program, on top of what the other socket had been given before.
        pub sent_on: u64,
        /// Bytes left to user space.
        pub left: u64,
        /// How far the two together may go before the program looks again what the receiver has
        /// acknowledged.
        pub allowed: u64,
        /// Bytes dropped because too many were left and not taken: the pair has to be broken.
        pub lost: u64,
    }
}

/// How many bytes user space may leave where they are. More than this is in no socket's buffer: if both
/// ends of a pair send and neither reads, what is left for one waits behind what was sent on by it, and
/// the kernel sets no limit to that.
const MOST_LEFT: i32 = 512 << 20;

/// The maps of a [`Splicer`](crate::Splicer), all keyed by the cookie of the socket that receives.
#[derive(Clone, Debug)]
pub struct Tables {
    /// The socket that its bytes go to. This map has no program, so that both sockets of a pair can
    /// be entered before bytes of either flow.
    pub peers: MapDef<u64, u64>,
    /// The socket itself: being in here gives it the program.
    pub sources: MapDef<u64, u64>,
    /// How far it is; the program writes.
    pub flows: MapDef<u64, Flow>,
    /// How much of what was left to user space is with the receiver's socket; user space writes.
    pub taken: MapDef<u64, u64>,
    /// The cookies of flows that user space has to look after.
    pub behind: MapDef<(), ()>,
}

impl Tables {
    /// For this many sockets, which is two for each pair.
    #[must_use]
    pub fn new(sockets: u32) -> Tables {
        // A record of 8 bytes takes 16, and a flow has one at most that is not read.
        let bytes = sockets.saturating_mul(16).clamp(1 << 16, 1 << 26);
        let bytes = bytes.checked_next_power_of_two().unwrap_or(1 << 26);
        Tables {
            peers: MapDef::new(MapType::SOCKHASH, "peers", sockets),
            sources: MapDef::new(MapType::SOCKHASH, "sources", sockets),
            flows: MapDef::hash("flows", sockets),
            taken: MapDef::hash("taken", sockets),
            behind: MapDef::ringbuf("behind", bytes),
        }
    }
}

/// The program: sends bytes on to the peer as long as that is not more than `ahead` bytes behind, and
/// leaves them to user space else.
///
/// # Errors
/// If the checker finds anything wrong with it.
pub fn verdict(tables: &Tables, ahead: u32) -> Result<Program, Report> {
    let key = slot::<u64>("key");
    let (pass, slow, on) = (label("pass"), label("slow"), label("on"));
    let code = code![
        mov(SKB, R1),
        load(LEN, SKB.get(__sk_buff::len)),
        // The end of the stream without bytes. Sent on, it would stop the peer's queue for good.
        LEN.eq(0).then(code![ret(SK_DROP)]),
        get_socket_cookie(SKB),
        store(key.u64(0), R0),
        map_lookup_elem(&tables.flows, key),
        jeq(R0, 0, pass),
        mov(FLOW, R0),
        in_order(tables, key, pass),
        room(tables, key, ahead, slow),
        bind(on),
        load(R1, FLOW.get(Flow::sent_on)),
        add(R1, LEN),
        store(FLOW.get(Flow::sent_on), R1),
        redirect(SKB, &tables.peers, key, Direction::Egress, Otherwise::Drop),
        exit(),
        bind(slow),
        leave(tables, key, on),
        bind(pass),
        ret(SK_PASS),
    ];
    Program::new(ProgType::SK_SKB, "splice", code)
}

/// Goes on if all that was left to user space before is with the peer's socket by now: else these
/// bytes would overtake it, so they are left too, and it jumps to `pass`; or they are dropped, if there are too many. Clobbers R0 to
/// R5 and R9.
fn in_order(tables: &Tables, key: Slot, pass: Label) -> Code {
    let (caught_up, left) = (label("caught_up"), label("left"));
    code![
        load(R1, FLOW.get(Flow::left)),
        jeq(R1, 0, caught_up),
        map_lookup_elem(&tables.taken, key),
        jeq(R0, 0, left),
        load(R1, R0.u64(0)),
        load(R2, FLOW.get(Flow::left)),
        jeq(R1, R2, caught_up),
        bind(left),
        mov(MORE, LEN),
        fetch_add(FLOW.get(Flow::left), MORE),
        // User space may have caught up just now, before it could see these bytes. It sets `taken`
        // and looks at `left`; this adds to `left` and looks at `taken`: one of them notices.
        map_lookup_elem(&tables.taken, key),
        mov(R1, 0),
        R0.ne(0).then(load(R1, R0.u64(0))),
        mov(R2, MORE),
        sub(R2, R1),
        R2.gt(MOST_LEFT).then(lose()),
        jne(R1, MORE, pass),
        ringbuf_output(&tables.behind, key, 8, 0),
        ja(pass),
        bind(caught_up),
    ]
}

/// Drops the bytes, and ends. User space looks at a flow that is behind from time to time, and finds it
/// there.
fn lose() -> Code {
    code![
        load(R1, FLOW.get(Flow::lost)),
        add(R1, LEN),
        store(FLOW.get(Flow::lost), R1),
        ret(SK_DROP),
    ]
}

/// Goes on if the peer's receiver is not too far behind; else jumps to `slow`. Without a peer it drops:
/// its socket is closed. Clobbers R0 to R5 and R9.
fn room(tables: &Tables, key: Slot, ahead: u32, slow: Label) -> Code {
    let there = label("there");
    let sum = code![
        load(R1, FLOW.get(Flow::sent_on)),
        load(R2, FLOW.get(Flow::left)),
        add(R1, R2),
    ];
    code![
        sum.clone(),
        load(R2, FLOW.get(Flow::allowed)),
        jlt(R1, R2, there),
        map_lookup_elem(&tables.peers, key),
        R0.eq(0).then(code![ret(SK_DROP)]),
        mov(MORE, R0),
        skc_to_tcp_sock(R0),
        R0.eq(0).then(code![sk_release(MORE), ja(slow)]),
        load(R1, R0.get(kernel("tcp_sock.bytes_acked"))),
        add(R1, i64::from(ahead)),
        store(FLOW.get(Flow::allowed), R1),
        sk_release(MORE),
        sum,
        load(R2, FLOW.get(Flow::allowed)),
        jge(R1, R2, slow),
        bind(there),
    ]
}

/// Leaves the bytes to user space, which is told of it. If there is no room to tell it, they are sent
/// on all the same, by a jump to `on`: rather too much in the queue than bytes that nobody looks for.
/// Clobbers R0 to R5 and R9.
fn leave(tables: &Tables, key: Slot, on: Label) -> Code {
    code![
        mov(MORE, LEN),
        // Before user space is told: it looks at once.
        fetch_add(FLOW.get(Flow::left), MORE),
        ringbuf_output(&tables.behind, key, 8, 0),
        R0.ne(0).then(code![
            store(FLOW.get(Flow::left), MORE),
            ja(on),
        ]),
    ]
}
