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
        /// Bytes dropped because too many were left and not taken, or because those before them are
        /// missing: the pair has to be broken.
        pub lost: u64,
        /// How many bytes may be left and not taken; user space writes it before bytes flow.
        pub most_left: u64,
        /// Packets that the program has judged.
        pub packets: u64,
        /// How far bytes have to be with the other socket before more packets are sent on than
        /// `sent_due`.
        pub sent_mark: u64,
        /// How far `packets` may go until then.
        pub sent_due: u64,
        /// How much has to be taken of what was left before more packets are left than `left_due`.
        pub left_mark: u64,
        /// How far `packets` may go until then.
        pub left_due: u64,
        /// The sequence number, of TCP, of the first byte that has not come; from the first packet on.
        pub next: u64,
    }
}

record! {
    /// What user space has done for one direction of a joined pair.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    pub struct Taken {
        /// The cookie, once more: what is written anew is written elsewhere, and a program may still
        /// look at the place where it was when that belongs to another flow.
        pub cookie: u64,
        /// Bytes that were left to it and are with the receiver's socket.
        pub bytes: u64,
    }
}

/// What the buffers of a joined socket have room for beyond `ahead`.
const SPARE: u32 = 1 << 20;

/// What the buffers of a joined socket have room for: what it sends, so that nothing waits before it that
/// the program sent on; and what it receives, which is as far as its sender may go. The kernel doubles
/// both, for what it adds to bytes.
pub(crate) const fn buffers(ahead: u32) -> u32 {
    ahead.saturating_add(SPARE)
}

/// How small the packets can be of a sender that goes as far as it may, and is not broken off.
///
/// The kernel spends up to a KiB on each, however small it is. So they are counted too.
const SMALL: u32 = 64;

/// After how many packets the program wants to see that those before have moved: at most twice as
/// many wait.
fn packets(ahead: u32) -> u32 {
    buffers(ahead) / SMALL
}

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
    pub taken: MapDef<u64, Taken>,
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
/// leaves them to user space else. Bytes that have come before it takes away.
///
/// What is left is held by the receive buffer, which stops the sender when it is full; but only once
/// the kernel has moved what was sent on through the same socket. That may take long for a receiver
/// that does not read, unless the socket's send buffer has room for it: it has to have room for
/// `ahead` bytes.
///
/// # Errors
/// If the checker finds anything wrong with it.
pub fn verdict(tables: &Tables, ahead: u32) -> Result<Program, Report> {
    let key = slot::<u64>("key");
    let (pass, slow, on) = (label("pass"), label("slow"), label("on"));
    let lose = label("lose");
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
        load(R1, FLOW.get(Flow::packets)),
        add(R1, 1),
        store(FLOW.get(Flow::packets), R1),
        load(R2, FLOW.get(Flow::lost)),
        jne(R2, 0, lose),
        R1.eq(1).then(first(lose)),
        once(lose),
        in_order(tables, key, packets(ahead), [pass, on]),
        room(tables, key, ahead, slow),
        bind(on),
        load(R1, FLOW.get(Flow::sent_on)),
        add(R1, LEN),
        store(FLOW.get(Flow::sent_on), R1),
        redirect(SKB, &tables.peers, key, Direction::Egress, Otherwise::Drop),
        exit(),
        bind(slow),
        // Before user space is told: it looks at once.
        mov(MORE, LEN),
        fetch_add(FLOW.get(Flow::left), MORE),
        tell(tables, key, on),
        bind(pass),
        ret(SK_PASS),
        bind(lose),
        // What comes later must not close the gap.
        load(LEN, SKB.get(__sk_buff::len)),
        load(R1, FLOW.get(Flow::lost)),
        mov(MORE, R1),
        add(R1, LEN),
        store(FLOW.get(Flow::lost), R1),
        MORE.eq(0).then(ringbuf_output(&tables.behind, key, 8, 0)),
        ret(SK_DROP),
    ];
    Program::new(ProgType::SK_SKB, "splice", code)
}

/// Sets which byte comes next, before the first packet: the one behind those that user space has read.
/// Clobbers R0 to R5.
fn first(lose: Label) -> Code {
    code![
        load(R1, SKB.get(__sk_buff::sk)),
        jeq(R1, 0, lose),
        skc_to_tcp_sock(R1),
        jeq(R0, 0, lose),
        load(R1, R0.get(kernel("tcp_sock.copied_seq"))),
        store(FLOW.get(Flow::next), R1),
    ]
}

/// The most bytes that the kernel takes away at once from the front of a packet.
const AT_ONCE: u16 = 0xfff;

/// How often that is done: for as much as a packet has, of the largest ones.
const TIMES: i32 = 256;

/// Takes away from the front of a packet what has come before.
///
/// TCP may send bytes again together with new ones. The kernel queues such a packet as a whole, and readers
/// skip the bytes that they have read; but the program is given all of them. It ends if none is new,
/// which a packet is that is queued for the end of the stream; and it jumps to `lose` if bytes are missing
/// before these, or if the kernel cannot take away what it should. Clobbers R0 to R5 and R9.
fn once(lose: Label) -> Code {
    let (fresh, rest, done) = (label("fresh"), label("rest"), label("once"));
    code![
        // What is free for notes elsewhere has the numbers of the first byte, and behind the last, here.
        load(R2, SKB.get(__sk_buff::cb.at(0))),
        load(R3, SKB.get(__sk_buff::cb.at(1))),
        mov(R4, R2),
        add(R4.low(), LEN.low()),
        // The end of the stream has a number too. If these are not the numbers, which a kernel may keep to
        // itself before Linux 5.16, there is nothing to compare.
        sub(R3.low(), R4.low()),
        jgt(R3, 1, done),
        load(MORE, FLOW.get(Flow::next)),
        sub(MORE.low(), R2.low()),
        jeq(MORE, 0, fresh),
        jslt(MORE.low(), 0, lose),
        MORE.ge(LEN).then(code![ret(SK_DROP)]),
        store(FLOW.get(Flow::next), R4),
        // All of it in one place at once, else it would be moved each time.
        MORE.gt(AT_ONCE).then(code![
            skb_pull_data(SKB, MORE),
            jne(R0, 0, lose),
        ]),
        repeat(LEN, 0..TIMES).body(code![
            jle(MORE, AT_ONCE, rest),
            skb_adjust_room(SKB, -i32::from(AT_ONCE), 0, 0),
            jne(R0, 0, lose),
            sub(MORE, AT_ONCE),
        ]),
        ja(lose),
        bind(rest),
        neg(MORE),
        skb_adjust_room(SKB, MORE, 0, 0),
        load(LEN, SKB.get(__sk_buff::len)),
        jne(R0, 0, lose),
        ja(done),
        bind(fresh),
        store(FLOW.get(Flow::next), R4),
        bind(done),
    ]
}

/// Goes on if all that was left to user space before is with the peer's socket by now: else these
/// bytes would overtake it, so they are left too, and it jumps to `pass`; or they are dropped, if there
/// are too many. Clobbers R0 to R5 and R9.
fn in_order(tables: &Tables, key: Slot, packets: u32, [pass, on]: [Label; 2]) -> Code {
    let (caught_up, left) = (label("caught_up"), label("left"));
    code![
        load(R1, FLOW.get(Flow::left)),
        jeq(R1, 0, caught_up),
        taken(tables, key, left),
        load(R2, FLOW.get(Flow::left)),
        jeq(R1, R2, caught_up),
        bind(left),
        mov(MORE, LEN),
        fetch_add(FLOW.get(Flow::left), MORE),
        // User space may have caught up just now, before it could see these bytes. It sets `taken`
        // and looks at `left`; this adds to `left` and looks at `taken`: one of them notices. If it
        // has set it since the look began, it is the one.
        taken(tables, key, pass),
        too_many(packets),
        jne(R1, MORE, pass),
        tell(tables, key, on),
        ja(pass),
        bind(caught_up),
    ]
}

/// What user space has taken, in R1; jumps to `moved` if user space writes it at this moment.
/// Clobbers R0 to R5.
fn taken(tables: &Tables, key: Slot, moved: Label) -> Code {
    code![
        map_lookup_elem(&tables.taken, key),
        mov(R1, 0),
        R0.ne(0).then(code![
            // In this order, which is not that of the writer.
            load(R1, R0.get(Taken::bytes)),
            load(R2, R0.get(Taken::cookie)),
            load(R3, key.u64(0)),
            jne(R2, R3, moved),
        ]),
    ]
}

/// Drops the bytes, and ends, if too many are left, or too many packets. User space looks at a flow that
/// is behind from time to time, and finds it there. R1 has what was taken, R9 what was left before.
/// Clobbers R2 to R5.
fn too_many(packets: u32) -> Code {
    let (lose, fine) = (label("lose"), label("fine"));
    code![
        mov(R2, MORE),
        sub(R2, R1),
        load(R3, FLOW.get(Flow::most_left)),
        jgt(R2, R3, lose),
        load(R2, FLOW.get(Flow::left_mark)),
        load(R3, FLOW.get(Flow::packets)),
        R1.ge(R2).then(code![
            store(FLOW.get(Flow::left_mark), MORE),
            add(R3, i64::from(packets)),
            store(FLOW.get(Flow::left_due), R3),
            ja(fine),
        ]),
        load(R2, FLOW.get(Flow::left_due)),
        jlt(R3, R2, fine),
        bind(lose),
        load(R1, FLOW.get(Flow::lost)),
        add(R1, LEN),
        store(FLOW.get(Flow::lost), R1),
        ret(SK_DROP),
        bind(fine),
    ]
}

/// Goes on if the peer's receiver is not too far behind; else jumps to `slow`. Without a peer it drops:
/// its socket is closed. Clobbers R0 to R5 and R9.
fn room(tables: &Tables, key: Slot, ahead: u32, slow: Label) -> Code {
    let (look, moved, there) = (label("look"), label("moved"), label("there"));
    let with_peer = slot::<u64>("with_peer");
    let sum = code![
        load(R1, FLOW.get(Flow::sent_on)),
        load(R2, FLOW.get(Flow::left)),
        add(R1, R2),
    ];
    code![
        sum.clone(),
        load(R2, FLOW.get(Flow::allowed)),
        jge(R1, R2, look),
        load(R3, FLOW.get(Flow::packets)),
        load(R4, FLOW.get(Flow::sent_due)),
        jlt(R3, R4, there),
        bind(look),
        map_lookup_elem(&tables.peers, key),
        R0.eq(0).then(code![ret(SK_DROP)]),
        mov(MORE, R0),
        skc_to_tcp_sock(R0),
        R0.eq(0).then(code![sk_release(MORE), ja(slow)]),
        load(R1, R0.get(kernel("tcp_sock.bytes_acked"))),
        load(R2, R0.get(kernel("tcp_sock.write_seq"))),
        load(R3, R0.get(kernel("tcp_sock.snd_una"))),
        // Both wrap around.
        sub(R2, R3),
        lsh(R2, 32),
        rsh(R2, 32),
        add(R2, R1),
        store(with_peer.u64(0), R2),
        add(R1, i64::from(ahead)),
        store(FLOW.get(Flow::allowed), R1),
        sk_release(MORE),
        sum,
        load(R2, FLOW.get(Flow::allowed)),
        jge(R1, R2, slow),
        load(R3, FLOW.get(Flow::packets)),
        load(R2, with_peer.u64(0)),
        load(R4, FLOW.get(Flow::sent_mark)),
        jge(R2, R4, moved),
        load(R4, FLOW.get(Flow::sent_due)),
        jge(R3, R4, slow),
        ja(there),
        bind(moved),
        store(FLOW.get(Flow::sent_mark), R1),
        add(R3, i64::from(packets(ahead))),
        store(FLOW.get(Flow::sent_due), R3),
        bind(there),
    ]
}

/// Tells user space that bytes are left to it, of a flow that had none left. If there is no room to tell
/// it, they are sent on all the same, by a jump to `on`: rather too much in the queue than bytes that
/// nobody looks for. R9 has what was left before. Clobbers R0 to R5.
fn tell(tables: &Tables, key: Slot, on: Label) -> Code {
    code![
        ringbuf_output(&tables.behind, key, 8, 0),
        R0.ne(0).then(code![
            store(FLOW.get(Flow::left), MORE),
            ja(on),
        ]),
    ]
}
