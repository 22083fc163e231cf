//! Time that goes on as fast as a test likes.

use crate::rig::Rig;
use bpfsmith_asm::dsl::*;
use bpfsmith_datapath::clock::Clock;
use bpfsmith_datapath::config::Family;
use bpfsmith_datapath::layout::{Bucket4, Bucket6, Flow4, Flow6, PLACES};
use bpfsmith_datapath::shape::{Path, Shape};
use bpfsmith_gate::deadline;
use bpfsmith_prog::{Load, Prog};
use bpfsmith_uapi::AttachType;
use std::time::Duration;

/// Ticks of the kernel by which this process and programs may see another time.
pub(crate) const APART: u64 = 2;

/// The time of a machine whose flows age: ticks of its kernel, and those that were added.
pub(crate) struct Time {
    prog: Prog,
    clock: Clock,
    /// When it began.
    base: u32,
    added: u64,
    /// How often the timer goes off until it has looked at every flow.
    round: u64,
}

impl Time {
    pub(crate) fn new(rig: &Rig, round: Duration) -> Time {
        let shape = rig.generation.shape();
        let program = program(shape);
        let load = Load::new(&program).maps(rig.generation.maps());
        let prog = load.attach_type(AttachType::XDP).load().unwrap();
        Time {
            prog,
            clock: shape.clock,
            base: shape.clock.now().unwrap(),
            added: 0,
            // It goes off each millisecond.
            round: u64::try_from(round.as_millis()).unwrap().max(1),
        }
    }

    /// The time now, in ticks since it began.
    pub(crate) fn now(&self) -> u64 {
        self.added + u64::from(self.clock.now().unwrap().wrapping_sub(self.base))
    }

    pub(crate) fn ticks(&self, time: Duration) -> u64 {
        u64::from(self.clock.ticks(time).unsigned_abs())
    }

    /// Flows become older by so much.
    pub(crate) fn goes_on(&mut self, by: Duration) {
        let mut left = self.ticks(by);
        while left > 0 {
            left -= self.adds(left);
        }
    }

    /// Goes on until then, if that is not over.
    pub(crate) fn goes_on_until(&mut self, then: u64) {
        while self.adds(then.saturating_sub(self.now())) > 0 {}
    }

    /// Makes flows older by so much or a part of it, and says by how much.
    fn adds(&mut self, ticks: u64) -> u64 {
        /// More at once would be the past.
        const MOST: u64 = 1 << 30;
        let ticks = ticks.min(MOST);
        if ticks > 0 {
            let back = u32::try_from(ticks).unwrap().wrapping_neg();
            let mut data = [0; 64];
            data[..4].copy_from_slice(&back.to_ne_bytes());
            assert_eq!(self.prog.run().data(&data).go().unwrap().retval, 0);
            self.added += ticks;
        }
        ticks
    }

    /// Waits until the kernel has looked at all flows as they are now.
    pub(crate) fn is_swept(&self, rig: &Rig) {
        let ticks = || rig.generation.swept().unwrap().ticks;
        // One time may have begun before.
        let enough = ticks() + self.round + 1;
        deadline(Duration::from_secs(60), || {
            (ticks() >= enough).then_some(())
        });
    }
}

/// Adds what a packet begins with to both stamps of each entry. Places without an entry do not matter.
fn program(shape: &Shape) -> Program {
    let by = slot::<u64>("by");
    let tables = shape.paths.iter().map(|path| {
        let buckets = path.flows(shape.room).entries.cast_signed();
        code![r#loop(
            buckets,
            &bucket(*path, shape),
            by,
            0
        )]
    });
    let code = code![
        load(R2, R1.get(xdp_md::data)),
        load(R3, R1.get(xdp_md::data_end)),
        mov(R4, R2),
        add(R4, 4),
        R4.gt(R3).then(ret(1)),
        load(R1, R2.u32(0)),
        store(by.u64(0), R1),
        tables,
        ret(0),
    ];
    Program::new(ProgType::XDP, "age", code).unwrap()
}

fn bucket(path: Path, shape: &Shape) -> Func {
    let number = slot::<u32>("number");
    let (flows, size, seen, born) = match path.family {
        Family::V4 => (Bucket4::flows, size_of::<Flow4>(), Flow4::seen, Flow4::born),
        Family::V6 => (Bucket6::flows, size_of::<Flow6>(), Flow6::seen, Flow6::born),
    };
    let stamps = (0..PLACES).flat_map(|place| {
        let flow = usize::from(flows.offset) + place * size;
        [seen, born].map(|field| i32::try_from(flow + usize::from(field.offset)).unwrap())
    });
    func("bucket").body(code![
        load(R6, R2.u64(0)),
        store(number.u32(0), R1),
        map_lookup_elem(&path.flows(shape.room), number),
        R0.ne(0)
            .then(code![stamps.map(|at| atomic_add(R0.u32(at), R6))]),
        ret(0),
    ])
}
