//! TCP congestion control: what an algorithm is made of, for programs that are members of
//! `tcp_congestion_ops`.
//!
//! Each fragment takes the socket in a register, as the kernel hands it over, and reaches its fields by
//! the running kernel's names. Nothing is left to functions of the kernel: the arithmetic is here, so
//! that an algorithm may change any part of it.
//!
//! ```
//! use bpfsmith_asm::dsl::*;
//! use kit::tcp;
//!
//! const SK: Reg = R6;
//! const ACKED: Reg = R7;
//!
//! /// Grows as TCP Reno does.
//! fn cong_avoid() -> Code {
//!     let done = label("done");
//!     let args = args("tcp_congestion_ops.cong_avoid");
//!     code![
//!         load(SK, args.get("sk")),
//!         load(ACKED, args.get("acked")),
//!         tcp::need_limited(SK, [R1, R2], done),
//!         tcp::reno(SK, ACKED, [R1, R2, R3, R4]),
//!         bind(done),
//!         ret(0),
//!     ]
//! }
//!
//! Program::new(ProgType::STRUCT_OPS, "cong_avoid", cong_avoid()).unwrap();
//! ```
//!
//! What a program may write of a socket is `snd_cwnd`, `snd_cwnd_cnt`, `snd_ssthresh` and `ecn_flags` of
//! `tcp_sock`, and on kernels newer than 6.1 also `snd_cwnd_stamp` and `app_limited`; `sk_pacing_rate`
//! and `sk_pacing_status` of `sock`; and `icsk_ack.pending` and `icsk_ca_priv` of
//! `inet_connection_sock`. The last one is the algorithm's own memory in each socket: see [`private`].

use crate::dsl::*;
use crate::kernel::KernelField;
use crate::kit::event::event;
use bpfsmith_uapi::record;
use zerocopy::{FromBytes, Immutable, KnownLayout};

pub mod cubic;

/// Packets that may be on their way.
pub const CWND: KernelField = kernel("tcp_sock.snd_cwnd");
/// What was acknowledged since the window grew last.
pub const CWND_CNT: KernelField = kernel("tcp_sock.snd_cwnd_cnt");
/// Below this, the window grows with every packet that is acknowledged.
pub const SSTHRESH: KernelField = kernel("tcp_sock.snd_ssthresh");
/// The largest window that the user allows.
pub const CLAMP: KernelField = kernel("tcp_sock.snd_cwnd_clamp");
/// The window before the present recovery.
pub const PRIOR: KernelField = kernel("tcp_sock.prior_cwnd");
/// Eight times the smoothed round-trip time, in microseconds.
pub const SRTT: KernelField = kernel("tcp_sock.srtt_us");

/// How many bytes an algorithm has for itself in each socket.
const ROOM: usize = 104;

/// The algorithm's own memory in a socket, which the kernel makes zero when the socket gets the
/// algorithm. `T` is what the algorithm keeps there, mostly a [`record!`](bpfsmith_uapi::record!):
/// `private::<State>(SK).get(State::field)`.
///
/// # Panics
/// If `T` has more than the 104 bytes that there are: this is known when the Rust code compiles.
#[must_use]
pub fn private<T>(sk: Reg) -> Place {
    const {
        assert!(
            size_of::<T>() <= ROOM,
            "an algorithm has 104 bytes in a socket"
        );
        assert!(
            align_of::<T>() <= 8,
            "an algorithm's memory in a socket is aligned to 8 bytes"
        );
    }
    sk.to(kernel("inet_connection_sock.icsk_ca_priv"))
}

/// Makes `least` the smaller one of the two.
fn at_most(least: Reg, other: Reg) -> Code {
    code![least.gt(other).then(mov(least, other))]
}

/// Stores the window, at most what the user allows. Clobbers cwnd and scratch.
fn set_window(sk: Reg, cwnd: Reg, scratch: Reg) -> Code {
    code![
        load(scratch, sk.get(CLAMP)),
        at_most(cwnd, scratch),
        store(sk.get(CWND), cwnd),
    ]
}

/// Goes on only if the window is what holds the sender back, and else jumps: a window that nobody
/// fills says nothing about the path, and must not grow. In slow start, one that is filled by half
/// is filled. Reads sk; clobbers cwnd and scratch.
pub fn need_limited(sk: Reg, [cwnd, scratch]: [Reg; 2], otherwise: Label) -> Code {
    let limited = label("limited");
    code![
        load_bits(scratch, sk, kernel("tcp_sock.is_cwnd_limited")),
        jne(scratch, 0, limited),
        load(cwnd, sk.get(CWND)),
        load(scratch, sk.get(SSTHRESH)),
        jge(cwnd, scratch, otherwise),
        load(scratch, sk.get(kernel("tcp_sock.max_packets_out"))),
        lsh(scratch, 1),
        jge(cwnd, scratch, otherwise),
        bind(limited),
    ]
}

/// Slow start: below the threshold, the window grows by what was acknowledged, up to the threshold.
/// What is left over stays in `acked`; at or above the threshold, that is all. Only the low 32 bits
/// of `acked` count. Reads sk; clobbers acked, cwnd and scratch.
pub fn slow_start(sk: Reg, acked: Reg, [cwnd, scratch]: [Reg; 2]) -> Code {
    let past = label("past");
    code![
        // What the kernel hands over has 32 bits, and anything above them.
        mov(acked.low(), acked.low()),
        load(cwnd, sk.get(CWND)),
        load(scratch, sk.get(SSTHRESH)),
        jge(cwnd, scratch, past),
        sub(scratch, cwnd),
        at_most(scratch, acked),
        add(cwnd, scratch),
        sub(acked, scratch),
        set_window(sk, cwnd, scratch),
        bind(past),
    ]
}

/// Additive increase: one packet more for every `per` packets that are acknowledged, which
/// `snd_cwnd_cnt` counts. `per` is not 0. Reads sk, per and acked; clobbers the others.
pub fn increase(sk: Reg, per: Reg, acked: Reg, [cwnd, count, more]: [Reg; 3]) -> Code {
    code![
        load(cwnd, sk.get(CWND)),
        load(count, sk.get(CWND_CNT)),
        // It was counted for a larger `per`: let it not all come at once.
        count.ge(per).then([mov(count, 0), add(cwnd, 1)]),
        add(count, acked),
        count.ge(per).then([
            mov(more, count),
            div(more, per),
            add(cwnd, more),
            mul(more, per),
            sub(count, more),
        ]),
        store(sk.get(CWND_CNT), count),
        set_window(sk, cwnd, more),
    ]
}

/// Growth of TCP Reno (RFC 5681): slow start, then one packet for each window. Only the low 32 bits
/// of `acked` count. Reads sk; clobbers acked and the others.
pub fn reno(sk: Reg, acked: Reg, [per, cwnd, count, more]: [Reg; 4]) -> Code {
    let done = label("used_up");
    code![
        slow_start(sk, acked, [cwnd, count]),
        jeq(acked, 0, done),
        load(per, sk.get(CWND)),
        increase(sk, per, acked, [cwnd, count, more]),
        bind(done),
    ]
}

/// Makes `to` half of the window, and at least 2: the threshold of TCP Reno after a loss.
pub fn half(to: Reg, sk: Reg) -> Code {
    code![
        load(to, sk.get(CWND)),
        rsh(to, 1),
        to.lt(2).then(mov(to, 2)),
    ]
}

/// Makes `to` the window after a reduction that turned out to be needless: the one from before it,
/// if the present one has not grown beyond. Clobbers scratch.
pub fn undo(to: Reg, sk: Reg, scratch: Reg) -> Code {
    code![
        load(to, sk.get(CWND)),
        load(scratch, sk.get(PRIOR)),
        to.lt(scratch).then(mov(to, scratch)),
    ]
}

/// Makes R0 the time in milliseconds since the machine started. Clobbers R0 to R5.
pub fn now() -> Code {
    code![ktime_get_ns(), div(R0, 1_000_000)]
}

record! {
    /// How a sender stands at one moment: what [`tell`] writes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
    pub struct Window {
        /// When, in nanoseconds since the machine started.
        pub time: u64,
        /// The socket's cookie; 0 until somebody asks the socket for it (`SO_COOKIE`).
        pub cookie: u64,
        /// Packets that may be on their way.
        pub cwnd: u32,
        /// Below this, the window grows with every packet that is acknowledged.
        pub ssthresh: u32,
        /// The smoothed round-trip time, in microseconds.
        pub srtt: u32,
        /// Packets on their way, as far as the sender knows.
        pub in_flight: u32,
        /// Packets that arrived, since the connection began.
        pub delivered: u32,
        /// Packets that were taken for lost, since the connection began.
        pub lost: u32,
        /// What happened: the program's own number.
        pub what: u32,
        /// The socket's own port.
        pub port: u32,
    }
}

/// Writes a [`Window`] into a ring buffer; if there is no room, `dropped` runs instead. `sk` and
/// `record` are two of R6 to R9. Clobbers record and R0 to R5. Linux 5.8.
pub fn tell(map: &MapDef<(), ()>, sk: Reg, record: Reg, what: u32, dropped: Option<Code>) -> Code {
    let copy = |to: Field, from| {
        [
            load(R1, sk.get(kernel(from))),
            store(record.get(to), R1),
        ]
    };
    let body = code![
        ktime_get_ns(),
        store(record.get(Window::time), R0),
        copy(Window::cookie, "sock.__sk_common.skc_cookie"),
        copy(Window::port, "sock.__sk_common.skc_num"),
        copy(Window::cwnd, "tcp_sock.snd_cwnd"),
        copy(Window::ssthresh, "tcp_sock.snd_ssthresh"),
        copy(Window::delivered, "tcp_sock.delivered"),
        copy(Window::lost, "tcp_sock.lost"),
        load(R1, sk.get(SRTT)),
        rsh(R1, 3),
        store(record.get(Window::srtt), R1),
        in_flight(R1, sk, R2),
        store(record.get(Window::in_flight), R1),
        store(record.get(Window::what), what),
    ];
    event::<Window>(map, record, body, dropped)
}

/// Makes `to` the packets on their way: sent or sent again, and neither arrived nor lost. Clobbers
/// scratch.
pub fn in_flight(to: Reg, sk: Reg, scratch: Reg) -> Code {
    let part = |field| load(scratch, sk.get(kernel(field)));
    code![
        load(to, sk.get(kernel("tcp_sock.packets_out"))),
        part("tcp_sock.retrans_out"),
        add(to, scratch),
        part("tcp_sock.sacked_out"),
        sub(to, scratch),
        part("tcp_sock.lost_out"),
        sub(to, scratch),
    ]
}
