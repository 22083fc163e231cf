//! The arithmetic of congestion control on the running kernel: every fragment does to a socket what a
//! plain function does to numbers. The socket is a packet that is laid out like the kernel's.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

#[path = "../../asm/tests/kit/programs.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod programs;

use bpfsmith_asm::kit::tcp::Window;
use bpfsmith_asm::kit::tcp::cubic::State;
use bpfsmith_gate::{needs, rounds};
use bpfsmith_maps::RingBuf;
use bpfsmith_prog::{Load, Maps, Prog, kernel as running};
use programs::congestion::{BYTES, NUMBERS};
use std::collections::HashMap;
use std::ops::Range;
use zerocopy::{FromBytes, IntoBytes};

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn of(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// Of any size: as likely to have three bits as thirty.
    fn sized(&mut self, bits: u64) -> u64 {
        let bits = self.of(0..bits + 1);
        match bits {
            0 => 0,
            _ => self.next() >> (64 - bits),
        }
    }

    fn word(&mut self, bits: u64) -> u32 {
        u32::try_from(self.sized(bits)).unwrap()
    }

    /// A window: small, usual, or large.
    fn window(&mut self) -> u32 {
        self.word(24).max(1)
    }
}

/// Where a field of the kernel is, and how wide.
#[derive(Clone, Copy)]
struct Seat {
    at: usize,
    bytes: usize,
    bit: Option<u32>,
}

/// A socket, and numbers.
struct Socket {
    bytes: Vec<u8>,
    seats: HashMap<&'static str, Seat>,
}

const FIELDS: &[&str] = &[
    "tcp_sock.snd_cwnd",
    "tcp_sock.snd_cwnd_cnt",
    "tcp_sock.snd_ssthresh",
    "tcp_sock.snd_cwnd_clamp",
    "tcp_sock.prior_cwnd",
    "tcp_sock.srtt_us",
    "tcp_sock.max_packets_out",
    "tcp_sock.is_cwnd_limited",
    "tcp_sock.packets_out",
    "tcp_sock.retrans_out",
    "tcp_sock.sacked_out",
    "tcp_sock.lost_out",
    "tcp_sock.lost",
    "tcp_sock.delivered",
    "sock.__sk_common.skc_cookie",
    "sock.__sk_common.skc_num",
    "inet_connection_sock.icsk_ca_priv",
];

impl Socket {
    fn new() -> Socket {
        let btf = running::btf().unwrap();
        let numbers = usize::try_from(NUMBERS).unwrap();
        let seat = |path: &'static str| {
            let (root, field) = path.split_once('.').unwrap();
            let root = btf
                .named(root)
                .find(|ty| ty.own_size().is_some())
                .unwrap_or_else(|| panic!("{root}"));
            let place = btf.member(root.id(), field).unwrap();
            let bytes = usize::try_from(btf.size_of(place.ty).unwrap()).unwrap();
            let seat = Seat {
                at: usize::try_from(place.bit_offset / 8).unwrap(),
                bytes,
                bit: place.bits.map(|_| place.bit_offset % 8),
            };
            assert!(seat.at + bytes <= numbers, "{path}");
            (path, seat)
        };
        Socket {
            bytes: vec![0; usize::try_from(BYTES).unwrap()],
            seats: FIELDS.iter().copied().map(seat).collect(),
        }
    }

    /// Rubbish everywhere, to be seen if a fragment writes where it should not.
    fn shake(&mut self, dice: &mut Dice) {
        self.bytes.chunks_mut(8).for_each(|chunk| {
            let bytes = dice.next().to_ne_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        });
        // Most senders have a user who sets no limit.
        self.set("snd_cwnd_clamp", u32::MAX);
    }

    fn seat(&self, field: &str) -> Seat {
        let path = FIELDS
            .iter()
            .find(|path| path.ends_with(&format!(".{field}")));
        self.seats[path.unwrap()]
    }

    fn set(&mut self, field: &str, value: u32) {
        let seat = self.seat(field);
        match seat.bit {
            Some(bit) => {
                self.bytes[seat.at] &= !(1 << bit);
                self.bytes[seat.at] |= u8::from(value != 0) << bit;
            }
            None => {
                let bytes = &mut self.bytes[seat.at..seat.at + seat.bytes];
                bytes.fill(0);
                let len = seat.bytes.min(4);
                bytes[..len].copy_from_slice(&value.to_ne_bytes()[..len]);
            }
        }
    }

    fn is_set(&self, field: &str) -> bool {
        let seat = self.seat(field);
        self.bytes[seat.at] & (1 << seat.bit.unwrap()) != 0
    }

    fn get(&self, field: &str) -> u32 {
        let at = self.seat(field).at;
        u32::from_ne_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    fn state(&self) -> State {
        let at = self.seat("icsk_ca_priv").at;
        State::read_from_prefix(&self.bytes[at..]).unwrap().0
    }

    fn set_state(&mut self, state: &State) {
        let at = self.seat("icsk_ca_priv").at;
        let bytes = state.as_bytes();
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn number(&self, n: usize) -> u64 {
        let at = usize::try_from(NUMBERS).unwrap() + n * 8;
        u64::from_ne_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    fn set_number(&mut self, n: usize, value: u64) {
        let at = usize::try_from(NUMBERS).unwrap() + n * 8;
        self.bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }

    /// Runs the program of a fragment on it; the result is the program's.
    fn run(&mut self, prog: &Prog) -> u32 {
        let ran = prog.run().data(&self.bytes).go().unwrap();
        self.bytes = ran.data;
        ran.retval
    }
}

fn load(name: &str) -> Prog {
    let program = programs::case(name);
    let load = Load::new(&program).maps(&Maps::new()).load();
    load.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Runs the fragment on many sockets, and compares what it does with what `model` does.
fn compare(name: &str, set: impl Fn(&mut Socket, &mut Dice), model: impl Fn(&mut Socket) -> u32) {
    let prog = load(name);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut socket = Socket::new();
    for round in 0..rounds(5000) {
        socket.shake(&mut dice);
        set(&mut socket, &mut dice);
        let before = socket.bytes.clone();
        let answer = socket.run(&prog);
        let mut expected = Socket {
            bytes: before.clone(),
            seats: socket.seats.clone(),
        };
        let wanted = model(&mut expected);
        let read = |bytes: &[u8]| {
            let socket = Socket {
                bytes: bytes.to_vec(),
                seats: socket.seats.clone(),
            };
            let fields = FIELDS
                .iter()
                .filter(|path| !path.contains("limited") && !path.contains("skc_num"));
            let fields: Vec<_> = fields
                .map(|path| (*path, socket.get(path.rsplit('.').next().unwrap())))
                .collect();
            let numbers: Vec<_> = (0..4).map(|n| socket.number(n)).collect();
            format!("{fields:?} {numbers:?} {:?}", socket.state())
        };
        assert!(
            answer == wanted && socket.bytes == expected.bytes,
            "{name}, round {round}\nfrom {}\nmade {answer} {}\nnot  {wanted} {}",
            read(&before),
            read(&socket.bytes),
            read(&expected.bytes)
        );
    }
}

/// A window of any kind, before a threshold or behind it.
fn window(socket: &mut Socket, dice: &mut Dice) {
    let cwnd = dice.window();
    socket.set("snd_cwnd", cwnd);
    let threshold = match dice.of(0..3) {
        0 => 0x7fff_ffff,
        1 => dice.window(),
        _ => cwnd + u32::try_from(dice.of(0..40)).unwrap(),
    };
    socket.set("snd_ssthresh", threshold);
    socket.set("snd_cwnd_cnt", dice.word(24));
    if dice.of(0..4) == 0 {
        socket.set("snd_cwnd_clamp", dice.window());
    }
}

/// What the kernel says was acknowledged: a number of 32 bits, with anything above it.
fn acked(socket: &mut Socket, dice: &mut Dice, n: usize) {
    let acked = u64::from(dice.word(16)) | dice.next() << 32;
    socket.set_number(n, acked);
}

// What RFC 5681 and the kernel say, in numbers.

fn set_window(socket: &mut Socket, cwnd: u32) {
    let clamp = socket.get("snd_cwnd_clamp");
    socket.set("snd_cwnd", cwnd.min(clamp));
}

fn slow_start(socket: &mut Socket, acked: u32) -> u32 {
    let (cwnd, threshold) = (socket.get("snd_cwnd"), socket.get("snd_ssthresh"));
    if cwnd >= threshold {
        return acked;
    }
    let grown = (cwnd + acked).min(threshold);
    set_window(socket, grown);
    acked - (grown - cwnd)
}

fn increase(socket: &mut Socket, per: u32, acked: u32) {
    let (mut cwnd, mut count) = (socket.get("snd_cwnd"), socket.get("snd_cwnd_cnt"));
    if count >= per {
        count = 0;
        cwnd += 1;
    }
    count += acked;
    if count >= per {
        cwnd += count / per;
        count %= per;
    }
    socket.set("snd_cwnd_cnt", count);
    set_window(socket, cwnd);
}

fn low(number: u64) -> u32 {
    u32::try_from(number & 0xffff_ffff).unwrap()
}

#[test]
fn reno_grows_as_the_reference() {
    needs!(Root, Bpf, Btf);
    compare(
        "tcp_slow_start",
        |socket, dice| {
            window(socket, dice);
            acked(socket, dice, 0);
        },
        |socket| {
            let rest = slow_start(socket, low(socket.number(0)));
            socket.set_number(0, rest.into());
            0
        },
    );
    compare(
        "tcp_increase",
        |socket, dice| {
            window(socket, dice);
            socket.set_number(0, dice.window().into());
            socket.set_number(1, dice.word(16).into());
        },
        |socket| {
            let (per, acked) = (socket.number(0), socket.number(1));
            increase(socket, low(per), low(acked));
            0
        },
    );
    compare(
        "tcp_reno",
        |socket, dice| {
            window(socket, dice);
            acked(socket, dice, 0);
        },
        |socket| {
            let rest = slow_start(socket, low(socket.number(0)));
            if rest > 0 {
                increase(socket, socket.get("snd_cwnd"), rest);
            }
            0
        },
    );
}

#[test]
fn windows_are_halved_and_restored() {
    needs!(Root, Bpf, Btf);
    compare("tcp_half", window, |socket| {
        (socket.get("snd_cwnd") / 2).max(2)
    });
    compare(
        "tcp_undo",
        |socket, dice| {
            window(socket, dice);
            socket.set("prior_cwnd", dice.window());
        },
        |socket| socket.get("snd_cwnd").max(socket.get("prior_cwnd")),
    );
}

#[test]
fn a_window_that_nobody_fills_is_found() {
    needs!(Root, Bpf, Btf);
    compare(
        "tcp_need_limited",
        |socket, dice| {
            window(socket, dice);
            let cwnd = socket.get("snd_cwnd");
            // Around half of the window.
            let most = cwnd / 2 + u32::try_from(dice.of(0..3)).unwrap();
            socket.set("max_packets_out", most.saturating_sub(1));
            socket.set("is_cwnd_limited", u32::from(dice.of(0..4) == 0));
        },
        |socket| {
            let cwnd = socket.get("snd_cwnd");
            let is_slow_start = cwnd < socket.get("snd_ssthresh");
            u32::from(
                socket.is_set("is_cwnd_limited")
                    || is_slow_start && cwnd < 2 * socket.get("max_packets_out"),
            )
        },
    );
    compare(
        "tcp_in_flight",
        |socket, dice| {
            let (sent, again) = (dice.word(20), dice.word(10));
            socket.set("packets_out", sent);
            socket.set("retrans_out", again);
            let lost = dice.of(0..u64::from(sent) + 1);
            socket.set("lost_out", low(lost));
            let arrived = dice.of(0..u64::from(sent) - lost + 1);
            socket.set("sacked_out", low(arrived));
        },
        |socket| {
            socket.get("packets_out") + socket.get("retrans_out")
                - socket.get("lost_out")
                - socket.get("sacked_out")
        },
    );
}

/// The largest number whose cube is not above.
fn cube_root(of: u64) -> u64 {
    let cube = |root: u64| u128::from(root).pow(3);
    let (mut least, mut most) = (0, 1 << 22);
    while most - least > 1 {
        let middle = (least + most) / 2;
        match cube(middle) <= u128::from(of) {
            true => least = middle,
            false => most = middle,
        }
    }
    least
}

#[test]
fn cube_roots_are_exact() {
    needs!(Root, Bpf, Btf);
    compare(
        "cubic_root",
        |socket, dice| {
            // A cube, or next to one, or anything.
            let root = dice.sized(20);
            let of = match dice.of(0..4) {
                0 => root.pow(3),
                1 => root.pow(3).saturating_sub(1),
                2 => i64::MAX.unsigned_abs() - dice.sized(4),
                _ => dice.sized(63),
            };
            socket.set_number(0, of);
        },
        |socket| {
            let root = cube_root(socket.number(0));
            socket.set_number(1, root);
            low(root)
        },
    );
}

fn climb(by: u64) -> u64 {
    cube_root(by.min(1 << 28) * 2_500_000_000)
}

fn curve(origin: u64, time: u64, k: u64) -> u64 {
    let far = time.abs_diff(k).min(1 << 20);
    let by = 4 * far.pow(3) / 10_000_000_000;
    match time < k {
        true => origin.saturating_sub(by),
        false => origin + by,
    }
}

/// The same by the RFC, with fractions.
#[expect(clippy::cast_precision_loss, reason = "windows and times are small")]
fn curve_in_seconds(origin: u64, time: u64, k: f64) -> f64 {
    origin as f64 + 0.4 * (time as f64 / 1000.0 - k).powi(3)
}

#[test]
fn the_curve_is_the_rfcs() {
    needs!(Root, Bpf, Btf);
    compare(
        "cubic_climb",
        |socket, dice| socket.set_number(0, dice.sized(32)),
        |socket| {
            let k = climb(socket.number(0));
            socket.set_number(1, k);
            low(k)
        },
    );
    compare(
        "cubic_curve",
        |socket, dice| {
            socket.set_number(0, dice.sized(32));
            socket.set_number(1, dice.sized(22));
            socket.set_number(2, dice.sized(20));
        },
        |socket| {
            let window = curve(socket.number(0), socket.number(1), socket.number(2));
            socket.set_number(3, window);
            low(window)
        },
    );
    // As with fractions: milliseconds and whole packets cost less than a packet in a thousand.
    let (climbs, curves) = (load("cubic_climb"), load("cubic_curve"));
    let (mut socket, mut dice) = (Socket::new(), Dice(77));
    for _ in 0..rounds(2000) {
        let origin = dice.of(10..100_000);
        let by = origin * 3 / 10;
        socket.set_number(0, by);
        let k = socket.run(&climbs);
        #[expect(clippy::cast_precision_loss, reason = "windows are small")]
        let exact = (by as f64 / 0.4).cbrt();
        assert!((f64::from(k) / 1000.0 - exact).abs() <= 0.001, "{by} {k}");
        let time = dice.of(0..60_000);
        socket.set_number(0, origin);
        socket.set_number(1, time);
        socket.set_number(2, k.into());
        let window = f64::from(socket.run(&curves));
        let wanted = curve_in_seconds(origin, time, exact).max(0.0);
        // The slope, times the millisecond that K may be off.
        let slope = 1.2 * (f64::from(low(time)) / 1000.0 - exact).powi(2);
        assert!(
            (window - wanted).abs() <= 1.0 + slope * 0.0011,
            "origin {origin}, at {time} ms: {window}, not {wanted}"
        );
    }
}

/// A state at any point of a connection's life.
fn state(socket: &mut Socket, dice: &mut Dice, now: u64) {
    let cwnd = u64::from(socket.get("snd_cwnd"));
    let age = dice.sized(20).min(now - 1);
    let is_new = dice.of(0..3) == 0;
    let max = low(match dice.of(0..3) {
        0 => 0,
        1 => cwnd + dice.sized(10),
        _ => dice.sized(24),
    });
    socket.set_state(&State {
        epoch: if is_new { 0 } else { now - age },
        last: now - dice.of(0..age + 1),
        origin: low(cwnd + dice.sized(10)),
        k: dice.word(18),
        max,
        reno: low(cwnd / 2 + dice.sized(20) % (cwnd + 1)),
        acked: dice.word(12),
        rest: dice.word(32),
    });
}

/// RFC 9438, in whole numbers.
fn growth(socket: &mut Socket) {
    let mut state = socket.state();
    let (acked, now) = (low(socket.number(0)), socket.number(1));
    let cwnd = socket.get("snd_cwnd");
    state.last = now;
    if state.epoch == 0 {
        let by = u64::from(state.max.saturating_sub(cwnd));
        state.epoch = now;
        state.reno = cwnd;
        state.acked = 0;
        state.origin = cwnd.max(state.max);
        state.k = low(climb(by));
    }
    let rtt = u64::from(socket.get("srtt_us")) / 8000;
    let time = now + rtt - state.epoch;
    let wanted = curve(state.origin.into(), time, state.k.into());
    let per = u64::from(cwnd) * 17 / 9;
    let count = u64::from(state.acked) + u64::from(acked);
    state.reno += low(count / per);
    state.acked = low(count % per);
    let cwnd = u64::from(cwnd);
    let wanted = wanted.max(state.reno.into()).min(cwnd + cwnd / 2);
    let per = match wanted > cwnd {
        true => cwnd / (wanted - cwnd),
        false => cwnd * 100,
    };
    socket.set_state(&state);
    increase(socket, low(per), acked);
}

#[test]
fn cubic_grows_and_shrinks_as_the_reference() {
    needs!(Root, Bpf, Btf);
    let any = |socket: &mut Socket, dice: &mut Dice| {
        window(socket, dice);
        let now = dice.of(1 << 21..1 << 40);
        socket.set("srtt_us", dice.word(24));
        socket.set_number(0, dice.word(16).into());
        socket.set_number(1, now);
        state(socket, dice, now);
    };
    compare("cubic_growth", any, |socket| {
        growth(socket);
        0
    });
    compare("cubic_loss", any, |socket| {
        let mut state = socket.state();
        let cwnd = socket.get("snd_cwnd");
        state.max = match cwnd < state.max {
            true => low(u64::from(cwnd) * 17 / 20),
            false => cwnd,
        };
        state.epoch = 0;
        socket.set_state(&state);
        low((u64::from(cwnd) * 7 / 10).max(2))
    });
    compare("cubic_reset", any, |socket| {
        socket.set_state(&State::default());
        0
    });
    compare(
        "cubic_idle",
        |socket, dice| {
            any(socket, dice);
            let now = socket.state().last + dice.sized(20);
            socket.set_number(0, now);
        },
        |socket| {
            let (mut state, now) = (socket.state(), socket.number(0));
            if state.epoch != 0 {
                state.epoch += now - state.last;
                state.last = now;
            }
            socket.set_state(&state);
            0
        },
    );
}

#[test]
fn what_is_told_is_how_the_sender_stands() {
    needs!(Root, Bpf, Btf, RingBuf);
    let program = programs::case("tcp_tell");
    let maps = Maps::of(&program).unwrap();
    let prog = Load::new(&program).maps(&maps).load().unwrap();
    let mut ring: RingBuf = RingBuf::new(maps.handle(program.maps()[0].name).unwrap()).unwrap();
    let (mut socket, mut dice) = (Socket::new(), Dice(5));
    for _ in 0..20 {
        socket.shake(&mut dice);
        socket.set("packets_out", 1000);
        socket.set("retrans_out", 7);
        socket.set("sacked_out", 20);
        socket.set("lost_out", 30);
        socket.set("skc_num", 4321);
        socket.run(&prog);
        let record = ring.next_record().unwrap().unwrap();
        let told = Window::read_from_bytes(&record).unwrap();
        let at = socket.seat("skc_cookie").at;
        let cookie = u64::from_ne_bytes(socket.bytes[at..at + 8].try_into().unwrap());
        let wanted = Window {
            time: told.time,
            cookie,
            cwnd: socket.get("snd_cwnd"),
            ssthresh: socket.get("snd_ssthresh"),
            srtt: socket.get("srtt_us") / 8,
            in_flight: 957,
            delivered: socket.get("delivered"),
            lost: socket.get("lost"),
            what: 7,
            port: 4321,
        };
        assert_eq!(told, wanted);
        assert!(told.time > 0);
    }
}
