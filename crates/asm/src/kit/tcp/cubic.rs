//! TCP Cubic (RFC 9438) in whole numbers: windows in packets, times in milliseconds.
//!
//! After a loss at the window `max`, the window follows `W(t) = 0.4 (t - K)^3 + max`, with t and K in
//! seconds: quickly back towards `max`, flat around it, and then quickly away from it. K is the time
//! that it takes to come back, the cube root of `2.5 (max - cwnd)`. Where Reno would be faster, Cubic
//! is as fast as Reno. Left out is HyStart: slow start ends with a loss.
//!
//! An algorithm is four calls: [`loss`] is `ssthresh`, [`growth`] belongs into `cong_avoid` behind
//! [`slow_start`](super::slow_start), [`reset`] into `set_state` for `TCP_CA_Loss`, and [`idle`] into
//! `cwnd_event` for `CA_EVENT_TX_START`. All take the place of a [`State`], which is mostly
//! [`private`](super::private) memory of the socket.

use super::{CWND, SRTT, at_most, increase};
use crate::dsl::*;
use crate::kit::event::zero;
use bpfsmith_uapi::record;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

record! {
    /// What Cubic keeps for a connection. All zero is a new one.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    pub struct State {
        /// When the window began to follow the present curve; 0 if it follows none.
        pub epoch: u64,
        /// When it grew last.
        pub last: u64,
        /// The window at which the curve is flat.
        pub origin: u32,
        /// How long after the epoch the curve is flat.
        pub k: u32,
        /// The window at the last loss, or a little less.
        pub max: u32,
        /// The window that Reno would have.
        pub reno: u32,
        /// What was acknowledged since Reno's window grew.
        pub acked: u32,
        /// Nothing.
        pub rest: u32,
    }
}

/// Differences of windows count up to here, so that nothing overflows.
const HIGHEST: i32 = 1 << 28;

/// Distances in time count up to here: 17 minutes.
const FARTHEST: i32 = 1 << 20;

/// Makes `root` the cube root of `of`, rounded down. `of` is below 2^63. One loop of 21 rounds, a bit
/// of the root in each. Clobbers of and the others.
pub fn cube_root(root: Reg, of: Reg, [shift, step]: [Reg; 2]) -> Code {
    let next = label("next_bit");
    code![
        mov(root, 0),
        mov(shift, 60),
        bind(next),
        lsh(root, 1),
        // What one more would cost: (root + 1)^3 - root^3.
        mov(step, root),
        mul(step, root),
        add(step, root),
        mul(step, 3),
        add(step, 1),
        lsh(step, shift),
        of.ge(step).then([sub(of, step), add(root, 1)]),
        sub(shift, 3),
        jsge(shift, 0, next),
    ]
}

/// Makes `k` the milliseconds in which the curve climbs by `by` packets. Clobbers by and the others.
pub fn climb(k: Reg, by: Reg, [shift, step]: [Reg; 2]) -> Code {
    code![
        by.gt(HIGHEST).then(mov(by, HIGHEST)),
        // 1 / 0.4, and the milliseconds of a second cubed.
        lddw(step, 2_500_000_000),
        mul(by, step),
        cube_root(k, by, [shift, step]),
    ]
}

/// Makes `window`, which is the window where the curve is flat, that of the curve at `time`. It is 0
/// where the curve is below. Reads k; clobbers time and part.
pub fn curve(window: Reg, time: Reg, k: Reg, part: Reg) -> Code {
    code![
        time.lt(k)
            .then(code![
                mov(part, k),
                sub(part, time),
                cubed(part, time),
                at_most(part, window),
                sub(window, part),
            ])
            .or_else(code![
                sub(time, k),
                mov(part, time),
                cubed(part, time),
                add(window, part),
            ]),
    ]
}

/// `0.4 d^3`, of milliseconds in seconds. Clobbers scratch.
fn cubed(d: Reg, scratch: Reg) -> Code {
    code![
        d.gt(FARTHEST).then(mov(d, FARTHEST)),
        mov(scratch, d),
        mul(d, scratch),
        mul(d, scratch),
        lsh(d, 2),
        lddw(scratch, 10_000_000_000),
        div(d, scratch),
    ]
}

/// A loss: makes R0 the threshold, seven tenths of the window, and at least 2. If the window was
/// smaller than at the loss before, others want a share: the next curve is flat a little lower.
/// Reads sk; clobbers R0 and R1.
pub fn loss(sk: Reg, state: Place) -> Code {
    code![
        store(state.get(State::epoch), 0),
        load(R0, sk.get(CWND)),
        load(R1, state.get(State::max)),
        R0.lt(R1)
            .then(code![mov(R1, R0), mul(R1, 17), div(R1, 20)])
            .or_else(mov(R1, R0)),
        store(state.get(State::max), R1),
        mul(R0, 7),
        div(R0, 10),
        R0.lt(2).then(mov(R0, 2)),
    ]
}

/// Forgets everything: nothing arrived for so long that the path may be another. Clobbers nothing.
pub fn reset(state: Place) -> Code {
    zero::<State>(state)
}

/// The sender sends again after a pause, which the curve is not to notice. `now` is the time in
/// milliseconds. Clobbers R1 and R2.
pub fn idle(state: Place, now: Reg) -> Code {
    let done = label("no_epoch");
    code![
        load(R1, state.get(State::epoch)),
        jeq(R1, 0, done),
        add(R1, now),
        load(R2, state.get(State::last)),
        sub(R1, R2),
        store(state.get(State::epoch), R1),
        store(state.get(State::last), now),
        bind(done),
    ]
}

/// The window grows towards the curve, for `acked` packets; `now` is the time in milliseconds. Reads
/// sk, acked and now, which are not among R0 to R5; clobbers R0 to R5.
pub fn growth(sk: Reg, state: Place, acked: Reg, now: Reg) -> Code {
    code![
        store(state.get(State::last), now),
        begin(sk, state, now),
        // One round trip ahead: what is sent now is acknowledged then.
        load(R1, sk.get(SRTT)),
        div(R1, 8000),
        add(R1, now),
        load(R2, state.get(State::epoch)),
        sub(R1, R2),
        load(R0, state.get(State::origin)),
        load(R2, state.get(State::k)),
        curve(R0, R1, R2, R3),
        friendly(sk, state, acked),
        per_packet(sk),
        increase(sk, R1, acked, [R2, R3, R4]),
    ]
}

/// Begins an epoch if there is none. Clobbers R0 to R4.
fn begin(sk: Reg, state: Place, now: Reg) -> Code {
    let going = label("going");
    code![
        load(R1, state.get(State::epoch)),
        jne(R1, 0, going),
        store(state.get(State::epoch), now),
        load(R0, sk.get(CWND)),
        store(state.get(State::reno), R0),
        store(state.get(State::acked), 0),
        load(R1, state.get(State::max)),
        mov(R2, 0),
        R1.gt(R0)
            .then(code![
                store(state.get(State::origin), R1),
                sub(R1, R0),
                climb(R2, R1, [R3, R4]),
            ])
            .or_else(store(state.get(State::origin), R0)),
        store(state.get(State::k), R2),
        bind(going),
    ]
}

/// Keeps Reno's window, which with a loss of three tenths instead of half grows by nine packets in
/// 17 windows; makes R0 that one if it is larger. Clobbers R1 to R5.
fn friendly(sk: Reg, state: Place, acked: Reg) -> Code {
    code![
        load(R5, state.get(State::reno)),
        load(R1, state.get(State::acked)),
        add(R1, acked),
        load(R2, sk.get(CWND)),
        mul(R2, 17),
        div(R2, 9),
        R1.ge(R2).then(code![
            mov(R3, R1),
            div(R3, R2),
            add(R5, R3),
            store(state.get(State::reno), R5),
            mul(R3, R2),
            sub(R1, R3),
        ]),
        store(state.get(State::acked), R1),
        R0.lt(R5).then(mov(R0, R5)),
    ]
}

/// Makes R1 how many packets are to be acknowledged for one packet more, so that the window is R0
/// after one round trip, or half as large again if that is less. Clobbers R0, R2 and R3.
fn per_packet(sk: Reg) -> Code {
    code![
        load(R2, sk.get(CWND)),
        mov(R1, R2),
        mov(R3, R2),
        rsh(R3, 1),
        add(R3, R2),
        at_most(R0, R3),
        R0.gt(R2)
            .then(code![sub(R0, R2), div(R1, R0)])
            // There already: hardly at all.
            .or_else(mul(R1, 100)),
    ]
}
