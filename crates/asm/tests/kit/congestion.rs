//! Programs around the fragments of congestion control. What they take for a socket is a packet, in
//! which the kernel's fields are where they are in a socket; behind it are numbers that go in and out.

use super::{Case, EVENTS, on_bytes, xdp};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::tcp::{self, cubic};

/// Where the numbers are: behind any kernel's `tcp_sock`.
pub(crate) const NUMBERS: i32 = 3072;
/// How long such a packet is.
pub(crate) const BYTES: i32 = NUMBERS + 4 * 8;

const SK: Reg = R6;
const ACKED: Reg = R8;
const NOW: Reg = R9;

fn number(n: i32) -> Mem {
    SK.u64(NUMBERS + n * 8)
}

fn state() -> Place {
    tcp::private::<cubic::State>(SK)
}

fn on_socket(times: usize, fragment: impl Fn(Label) -> Code) -> Code {
    on_bytes(BYTES, times, fragment)
}

pub(super) const TCP: &[Case] = &[
    xdp("tcp_need_limited", |n| {
        on_socket(n, |_| {
            let other = label("other");
            code![
                mov(R0, 0),
                tcp::need_limited(SK, [R1, R2], other),
                mov(R0, 1),
                bind(other),
            ]
        })
    }),
    xdp("tcp_slow_start", |n| {
        on_socket(n, |_| {
            code![
                load(ACKED, number(0)),
                tcp::slow_start(SK, ACKED, [R1, R2]),
                store(number(0), ACKED),
            ]
        })
    }),
    xdp("tcp_increase", |n| {
        on_socket(n, |_| {
            code![
                load(R1, number(0)),
                load(R2, number(1)),
                tcp::increase(SK, R1, R2, [R3, R4, R5]),
            ]
        })
    }),
    xdp("tcp_reno", |n| {
        on_socket(n, |_| {
            code![
                load(ACKED, number(0)),
                tcp::reno(SK, ACKED, [R1, R2, R3, R4]),
            ]
        })
    }),
    xdp("tcp_half", |n| on_socket(n, |_| tcp::half(R0, SK))),
    xdp("tcp_undo", |n| on_socket(n, |_| tcp::undo(R0, SK, R1))),
    xdp("tcp_in_flight", |n| {
        on_socket(n, |_| tcp::in_flight(R0, SK, R1))
    }),
    xdp("tcp_now", |n| on_socket(n, |_| tcp::now())),
    xdp("tcp_tell", |n| {
        on_socket(n, |_| {
            code![
                tcp::tell(&EVENTS, SK, R8, 7, None),
                mov(R0, 0),
            ]
        })
    }),
    xdp("cubic_root", |n| {
        on_socket(n, |_| {
            code![
                load(R1, number(0)),
                cubic::cube_root(R0, R1, [R2, R3]),
                store(number(1), R0),
            ]
        })
    }),
    xdp("cubic_climb", |n| {
        on_socket(n, |_| {
            code![
                load(R1, number(0)),
                cubic::climb(R0, R1, [R2, R3]),
                store(number(1), R0),
            ]
        })
    }),
    xdp("cubic_curve", |n| {
        on_socket(n, |_| {
            code![
                load(R0, number(0)),
                load(R1, number(1)),
                load(R2, number(2)),
                cubic::curve(R0, R1, R2, R3),
                store(number(3), R0),
            ]
        })
    }),
    xdp("cubic_loss", |n| on_socket(n, |_| cubic::loss(SK, state()))),
    xdp("cubic_reset", |n| on_socket(n, |_| cubic::reset(state()))),
    xdp("cubic_idle", |n| {
        on_socket(n, |_| {
            code![
                load(NOW, number(0)),
                cubic::idle(state(), NOW),
            ]
        })
    }),
    xdp("cubic_growth", |n| {
        on_socket(n, |_| {
            code![
                load(ACKED, number(0)),
                load(NOW, number(1)),
                cubic::growth(SK, state(), ACKED, NOW),
                mov(R0, 0),
            ]
        })
    }),
];
