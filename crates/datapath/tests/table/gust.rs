//! Millions of packets of few flows: each program makes its own, as fast as a CPU can.

use crate::races::{hasty, nothing_stays, patient, scarce, small, vanishes};
use crate::rig::{Rig, inside};
use crate::state::{table, wrongs};
use bpfsmith_asm::dsl::*;
use bpfsmith_datapath::config::{Config, Family, Mode, Protocol};
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::programs::{Hook, Usual, program_with};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::{needs, rounds};
use bpfsmith_prog::{Load, Prog};
use bpfsmith_uapi::AttachType;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// What comes: packets of IPv4, drawn anew each time.
#[derive(Clone, Copy)]
struct Gust {
    protocol: Protocol,
    mode: Mode,
    /// A power of two.
    clients: u8,
    /// A power of two: of the proxy's own addresses.
    ports: u8,
}

/// Ports, addresses and more that do not change, as a program of this machine writes them.
fn word(bytes: [u8; 4]) -> i32 {
    i32::from_ne_bytes(bytes)
}

fn half(bytes: [u8; 2]) -> i32 {
    i32::from(u16::from_ne_bytes(bytes))
}

/// Flags of TCP, one of which is drawn.
const ASKS: u64 = u64::from_le_bytes([
    0x02, 0x02, 0x10, 0x10, 0x18, 0x11, 0x04, 0x02,
]);
const ANSWERS: u64 = u64::from_le_bytes([
    0x12, 0x12, 0x12, 0x10, 0x18, 0x11, 0x14, 0x11,
]);

impl Gust {
    /// Writes a packet over what is there.
    fn prelude(self) -> Code {
        const FRAME: Reg = R7;
        const DRAWN: Reg = R8;
        let (answer, done) = (label("answer"), label("done"));
        let protocol = u8::try_from(self.protocol.number()).unwrap();
        let (address, port) = (R2, R3);
        let flags = |all| {
            [
                lddw(R4, all),
                rsh(R4, R5),
                store(FRAME.u8(47), R4),
            ]
        };
        code![
            load(FRAME, R6.get(xdp_md::data)),
            load(R3, R6.get(xdp_md::data_end)),
            mov(R2, FRAME),
            add(R2, 54),
            R2.gt(R3).then(ret(0)),
            get_prandom_u32(),
            mov(DRAWN, R0),
            store(FRAME.u16(12), half([8, 0])),
            store(FRAME.u32(14), word([0x45, 0, 0, 40])),
            store(FRAME.u32(18), 0),
            store(FRAME.u32(22), word([64, protocol, 0, 0])),
            store(FRAME.u8(46), 0x50),
            // The client.
            mov(R1, DRAWN),
            and(R1, i32::from(self.clients) - 1),
            mov(address, R1),
            lsh(address, 24),
            or(address, word([10, 64, 0, 0])),
            mov(port, R1),
            lsh(port, 8),
            add(port, half([0x9c, 0x40])),
            mov(R5, DRAWN),
            rsh(R5, 8),
            and(R5, 7),
            lsh(R5, 3),
            jset(DRAWN, 1 << 16, answer),
            store(FRAME.u32(26), address),
            store(FRAME.u32(30), word([10, 99, 0, 1])),
            store(FRAME.u16(34), port),
            store(FRAME.u16(36), half(80_u16.to_be_bytes())),
            flags(ASKS),
            ja(done),
            bind(answer),
            (self.mode == Mode::FullNat).then(|| code![
                lddw(address, u64::from(word([10, 98, 0, 1]).cast_unsigned())),
                mov(port, R1),
                and(port, i32::from(self.ports) - 1),
                lsh(port, 8),
                add(port, half([0x07, 0xd0])),
            ]),
            store(FRAME.u32(30), address),
            store(FRAME.u16(36), port),
            mov(R1, DRAWN),
            rsh(R1, 12),
            and(R1, 1),
            lsh(R1, 24),
            or(R1, word([10, 2, 0, 0])),
            store(FRAME.u32(26), R1),
            store(FRAME.u16(34), half(8080_u16.to_be_bytes())),
            flags(ANSWERS),
            bind(done),
        ]
    }

    fn loaded(self, generation: &Generation) -> Prog {
        let shape = generation.shape();
        let program = program_with(self.prelude(), Hook::Xdp, Usual::Device, shape).unwrap();
        let load = Load::new(&program).maps(generation.maps());
        load.attach_type(AttachType::XDP).load().unwrap()
    }

    /// Sends them from two CPUs, while the kernel looks after flows and generations change, if that is
    /// wanted; and looks at what is left.
    #[track_caller]
    fn passes(self, config: &Config, meanwhile: Meanwhile) {
        inside(config, Hook::Xdp, |rig| {
            if meanwhile == Meanwhile::All {
                rig.generation.sweep().unwrap();
            }
            self.blows(rig, config, meanwhile);
            let counts = rig.counts();
            let path = Path::new(Family::V4, self.protocol);
            match meanwhile {
                Meanwhile::All => vanishes(rig, || wrongs(rig, &[path])),
                Meanwhile::Nothing => {
                    let wrongs = wrongs(rig, &[path]);
                    assert!(wrongs.is_empty(), "{wrongs:#?}\n{counts:?}");
                    assert!(!table(rig, path).0.is_empty());
                }
            }
            assert!(rig.count(Reason::Answered) > 0, "{counts:?}");
            nothing_stays(rig, config);
        });
    }

    fn blows(self, rig: &Rig, config: &Config, meanwhile: Meanwhile) {
        let prog = RwLock::new(std::sync::Arc::new(self.loaded(&rig.generation)));
        let left = AtomicU32::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..rounds(40) {
                        let now = prog.read().unwrap().clone();
                        let run = now.run().data(&[0; 64]).repeat(25_000);
                        run.go().unwrap();
                    }
                    left.fetch_sub(1, Ordering::Relaxed);
                });
            }
            while meanwhile == Meanwhile::All && left.load(Ordering::Relaxed) > 0 {
                let next = rig.generation.next(config).unwrap();
                *prog.write().unwrap() = std::sync::Arc::new(self.loaded(&next));
                next.sweep().unwrap();
            }
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    All,
}

fn blow(mode: Mode, clients: u8, ports: u8, room: u32, meanwhile: Meanwhile) {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut config = small(room);
        if mode == Mode::FullNat {
            scarce(&mut config, ports.into());
        }
        match meanwhile {
            Meanwhile::Nothing => patient(&mut config),
            Meanwhile::All => hasty(&mut config, 4),
        }
        let gust = Gust {
            protocol,
            mode,
            clients,
            ports,
        };
        gust.passes(&config, meanwhile);
    }
}

#[test]
fn a_gust_of_few_flows() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    blow(Mode::Dnat, 4, 1, 64, Meanwhile::Nothing);
}

#[test]
fn a_gust_where_room_is_short() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    blow(Mode::Dnat, 64, 1, 0, Meanwhile::Nothing);
}

#[test]
fn a_gust_where_ports_are_short() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    blow(Mode::FullNat, 16, 4, 64, Meanwhile::Nothing);
    blow(Mode::FullNat, 32, 16, 0, Meanwhile::Nothing);
}

#[test]
fn a_gust_while_flows_are_taken_out() {
    needs!(Root, Bpf, NetNs, Veth, BpfLoop, Timer);
    blow(Mode::Dnat, 64, 1, 0, Meanwhile::All);
    blow(Mode::FullNat, 16, 4, 64, Meanwhile::All);
}
