//! A program that fills a ring, and how it is loaded and run.

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::program::Target;
use bpfsmith_btf::{Builder, IntEncoding, Linkage};
use bpfsmith_maps::{Handle, PerCpuMap};
use bpfsmith_sys::prog::{IsCounted, Load, Log, Records, TestRun};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

record! {
    /// What the program does next.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
    pub(crate) struct State {
        /// The number of the next record.
        pub(crate) next: u64,
        /// Flags of the helper.
        pub(crate) flags: u64,
    }
}

/// A record: its number, and 5 words that follow from it.
pub(crate) type Words = [u64; 6];

/// Words follow each other at this distance.
pub(crate) const STEP: i32 = 0x0101_0101;

pub(crate) fn words(number: u64) -> Words {
    std::array::from_fn(|index| number + index as u64 * STEP.unsigned_abs() as u64)
}

/// How a record gets into the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// `ringbuf_reserve`, `ringbuf_submit`, 48 bytes.
    Reserve,
    /// The same, but every third is discarded.
    Discard,
    /// `ringbuf_output` with as many bytes as the number's last 6 bits say, plus 1.
    Output,
}

static STATE: MapDef<u32, State> = MapDef::array("bs_rings_state", 1);
/// Records that found no room.
pub(crate) static DROPS: MapDef<u32, u64> = MapDef::percpu_array("bs_rings_drops", 1);

const VALUE: Reg = R6;
const NUMBER: Reg = R7;
const RECORD: Reg = R8;

/// Writes the words of `NUMBER` to `place`; clobbers R1.
fn write(place: Place, count: i32) -> Code {
    code![
        mov(R1, NUMBER),
        (0..count).map(move |index| code![
            store(place.u64(index * 8), R1),
            add(R1, STEP),
        ]),
    ]
}

/// Counts a drop.
fn drop_one() -> Code {
    let key = slot::<u32>("key");
    code![
        store(key.u32(0), 0),
        map_lookup_elem(&DROPS, key),
        R0.ne(0).then(code![
            load(R1, R0.u64(0)),
            add(R1, 1),
            store(R0.u64(0), R1),
        ]),
    ]
}

fn count() -> Code {
    code![
        add(NUMBER, 1),
        store(VALUE.u64(0), NUMBER),
    ]
}

fn by_reserve(ring: &MapDef<(), ()>, how: How) -> Code {
    let is_discarded = label("discarded");
    let done = label("done");
    code![
        ringbuf_reserve(ring, 48, 0),
        R0.eq(0).then(code![drop_one(), ret(0)]),
        mov(RECORD, R0),
        write(RECORD.at(0), 6),
        load(R2, VALUE.u64(8)),
        (how == How::Discard).then(|| code![
            mov(R1, NUMBER),
            rem(R1, 3),
            jeq(R1, 0, is_discarded),
        ]),
        ringbuf_submit(RECORD, R2),
        (how == How::Discard).then(|| code![
            ja(done),
            bind(is_discarded),
            ringbuf_discard(RECORD, R2),
            bind(done),
        ]),
        count(),
    ]
}

fn by_output(ring: &MapDef<(), ()>) -> Code {
    let bytes = slot::<[u64; 8]>("bytes");
    code![
        write(bytes.at(0), 8),
        mov(R3, NUMBER),
        and(R3, 63),
        add(R3, 1),
        load(R4, VALUE.u64(8)),
        ringbuf_output(ring, bytes, R3, R4),
        W0.ne(0).then(code![drop_one(), ret(0)]),
        count(),
    ]
}

/// The state's value in `VALUE` and its number in `NUMBER`, then what is to be done.
pub(crate) fn around(state: &MapDef<u32, State>, body: Code) -> Code {
    let key = slot::<u32>("key");
    code![
        mov(R9, R1),
        store(key.u32(0), 0),
        map_lookup_elem(state, key),
        R0.eq(0).then(ret(0)),
        mov(VALUE, R0),
        load(NUMBER, VALUE.u64(0)),
        body,
        ret(1),
    ]
}

/// A loaded program with its state.
pub(crate) struct Producer {
    program: OwnedFd,
    state: Handle,
    pub(crate) drops: PerCpuMap<u32, u64>,
}

/// Loads a program after filling in the fds of its maps.
pub(crate) fn load_with(program: &Program, maps: &[(&str, &Handle)]) -> OwnedFd {
    let mut insns = program.to_bytes(Order::HOST);
    for reloc in program.relocs() {
        let Target::Map(name) = &reloc.target else {
            panic!("{reloc:?}")
        };
        let map = maps.iter().find(|map| map.0 == name.as_str());
        let (_, map) = map.unwrap_or_else(|| panic!("no map {name}"));
        let at = reloc.at as usize * 8;
        insns[at + 1] = insns[at + 1] & 0x0f | 0x10;
        insns[at + 4..at + 8].copy_from_slice(&map.as_fd().as_raw_fd().to_ne_bytes());
    }
    // Callbacks are only taken with a description of every function.
    let mut types = Builder::new();
    let int = types.int("int", 4, IntEncoding::SIGNED);
    let proto = types.func_proto(int, &[]);
    let funcs = program.funcs().iter();
    let funcs = funcs.map(|func| (func.at, types.func(&func.name, proto, Linkage::STATIC)));
    let funcs: Vec<_> = funcs.collect();
    let funcs = types.func_info(funcs);
    let blob = types.build().unwrap();
    let btf = bpfsmith_sys::misc::load_btf(&blob, &mut Log::default(), None).unwrap();
    let mut text = vec![0; 1 << 20];
    let mut log = Log {
        level: 1,
        buffer: &mut text,
        true_size: 0,
    };
    let load = Load {
        kind: program.kind().0,
        insns: &insns,
        license: c"GPL",
        name: *b"bs_rings\0\0\0\0\0\0\0\0",
        flags: 0,
        ifindex: 0,
        attach_type: 0,
        btf: Some(btf.as_fd()),
        funcs: Records {
            bytes: &funcs,
            size: 8,
        },
        lines: Records::default(),
        attach_btf_id: 0,
        attach_to: None,
        fd_array: &[],
        is_fd_array_counted: IsCounted::No,
        token: None,
        signature: None,
    };
    let loaded = bpfsmith_sys::prog::load(&load, &mut log);
    loaded.unwrap_or_else(|failed| {
        panic!(
            "{failed}\n{}",
            String::from_utf8_lossy(&text).trim_end_matches('\0')
        )
    })
}

pub(crate) fn run(program: &OwnedFd, repeat: u32) -> u32 {
    let mut run = TestRun {
        data: &[0; 64],
        data_out: &mut [],
        ctx: &mut [],
        ctx_out: &mut [],
        repeat,
        flags: 0,
        cpu: 0,
        batch: 0,
    };
    let ran = bpfsmith_sys::prog::test_run(program.as_fd(), &mut run);
    ran.unwrap_or_else(|(failed, _)| panic!("{failed}")).retval
}

impl Producer {
    pub(crate) fn new(def: &MapDef<(), ()>, ring: &Handle, how: How) -> Producer {
        let body = match how {
            How::Reserve | How::Discard => by_reserve(def, how),
            How::Output => by_output(def),
        };
        let name = def.shape().name;
        Producer::of(body, &[(name.as_str(), ring)])
    }

    /// A program around a body.
    pub(crate) fn of(body: Code, maps: &[(&str, &Handle)]) -> Producer {
        let program = Program::new(ProgType::SCHED_CLS, "produce", around(&STATE, body));
        let program = program.unwrap_or_else(|report| panic!("{report}"));
        let state = Handle::create(STATE.shape()).unwrap();
        let drops = PerCpuMap::create(&DROPS).unwrap();
        let mut maps = maps.to_vec();
        maps.push(("bs_rings_state", &state));
        maps.push(("bs_rings_drops", &drops));
        Producer {
            program: load_with(&program, &maps),
            state,
            drops,
        }
    }

    /// Tries to write so many records.
    pub(crate) fn run(&self, times: u32) {
        run(&self.program, times);
    }

    pub(crate) fn state(&self) -> State {
        let mut bytes = [0; 16];
        self.state.raw().lookup(&[0; 4], &mut bytes, 0).unwrap();
        zerocopy::transmute!(bytes)
    }

    pub(crate) fn set(&self, state: State) {
        let bytes: [u8; 16] = zerocopy::transmute!(state);
        self.state.raw().update(&[0; 4], &bytes, 0).unwrap();
    }

    /// Sets the flags with which records are written.
    pub(crate) fn flags(&self, flags: u64) {
        self.set(State {
            flags,
            ..self.state()
        });
    }
}
