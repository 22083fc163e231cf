//! Programs that call: each other, their own functions, and back from the kernel.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{deadline, needs, rounds};
use bpfsmith_maps::{Map, ObjectMap, Timer};
use bpfsmith_prog::{Error, Lines, Load, Maps, Prog, list, with_room_for_timers};
use bpfsmith_sys::object::{self, Kind};
use std::os::fd::AsFd;
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const LIMIT: Duration = Duration::from_secs(20);
const PACKET: [u8; 64] = [0; 64];

static PROGS: MapDef<u32, u32> = MapDef::prog_array("bs_progs", 4);
/// The numbers of the programs that ran, as decimal digits.
static TRAIL: MapDef<u32, u64> = MapDef::array("bs_trail", 1);

fn build(name: &str, code: Code) -> Program {
    Program::new(ProgType::XDP, name, code).unwrap_or_else(|report| panic!("{report}"))
}

#[track_caller]
fn load_with(maps: &mut Maps, program: &Program) -> Prog {
    maps.add(program).unwrap();
    let load = Load::new(program).maps(maps);
    load.load().unwrap_or_else(|error| panic!("{error:#}"))
}

#[track_caller]
fn answer(prog: &Prog) -> u32 {
    prog.run().data(&PACKET).go().unwrap().retval
}

/// Writes `digit` to the trail.
fn mark(digit: i32) -> Code {
    code![
        ld_map_value(R1, &TRAIL, 0),
        load(R2, R1.u64(0)),
        mul(R2, 10),
        add(R2, digit),
        store(R1.u64(0), R2),
    ]
}

/// Marks itself and goes on to the program at `next`; returns its digit if there is none.
fn step(digit: i32, next: i32) -> Code {
    code![
        mov(R6, R1),
        mark(digit),
        tail_call(R6, &PROGS, next),
        ret(digit),
    ]
}

#[test]
fn programs_go_on_in_each_other() {
    needs!(Root, Bpf);
    let mut maps = Maps::new();
    // 1 goes on at index 0, 2 at index 1, 3 at an index where nothing is, 4 behind the end.
    let [first, second, third, fourth] =
        [(1, 0), (2, 1), (3, 3), (4, 1000)].map(|(digit, next)| {
            let program = build(&format!("step{digit}"), step(digit, next));
            load_with(&mut maps, &program)
        });
    let progs: ObjectMap<u32> = maps.open(&PROGS).unwrap();
    let trail: Map<u32, u64> = maps.open(&TRAIL).unwrap();
    let walk = || {
        trail.update(&0, &0).unwrap();
        (answer(&first), trail.lookup(&0).unwrap().unwrap())
    };
    assert_eq!(walk(), (1, 1), "an empty array: what follows the call runs");
    progs.set(&0, &second).unwrap();
    assert_eq!(walk(), (2, 12));
    progs.set(&1, &third).unwrap();
    assert_eq!(walk(), (3, 123));
    assert_eq!(
        progs.id(&1).unwrap(),
        Some(list::prog_info(&third).unwrap().id)
    );
    progs.set(&1, &fourth).unwrap();
    assert_eq!(walk(), (4, 124), "replaced while all are loaded");
    assert!(progs.delete(&0).unwrap());
    assert_eq!(walk(), (1, 1), "taken out");
}

#[test]
fn a_circle_of_programs_ends_and_is_freed() {
    needs!(Root, Bpf);
    let mut maps = Maps::new();
    let circle = load_with(
        &mut maps,
        &build(
            "circle",
            code![
                mov(R6, R1),
                ld_map_value(R1, &TRAIL, 0),
                mov(R2, 1),
                atomic_add(R1.u64(0), R2),
                tail_call(R6, &PROGS, 0),
                ret(7),
            ],
        ),
    );
    let progs: ObjectMap<u32> = maps.open(&PROGS).unwrap();
    progs.set(&0, &circle).unwrap();
    assert_eq!(answer(&circle), 7);
    let trail: Map<u32, u64> = maps.open(&TRAIL).unwrap();
    assert_eq!(
        trail.lookup(&0).unwrap(),
        Some(34),
        "33 calls and the first run"
    );

    // The array holds the program and the program the array: the last descriptor frees both.
    let info = list::prog_info(&circle).unwrap();
    drop((circle, progs, trail, maps));
    gone(Kind::Prog, &[info.id]);
    gone(Kind::Map, &info.maps);
}

/// Waits until the kernel has freed all of them.
fn gone(kind: Kind, ids: &[u32]) {
    let is_gone = |&id: &u32| object::open_id(kind, id, 0, None).is_err();
    deadline(LIMIT, || ids.iter().all(is_gone).then_some(()));
}

#[test]
fn an_array_takes_only_programs_of_its_kind() {
    needs!(Root, Bpf);
    let mut maps = Maps::new();
    load_with(&mut maps, &build("first", step(1, 0)));
    let progs: ObjectMap<u32> = maps.open(&PROGS).unwrap();
    let other = Program::new(ProgType::SOCKET_FILTER, "other", code![ret(0)]).unwrap();
    let other = Load::new(&other).load().unwrap();
    let refused = progs.set(&0, &other).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::EINVAL));
    assert_eq!(progs.id(&0).unwrap(), None);
}

static A: Global<u64> = Global::data("a", 3);
static B: Global<u64> = Global::data("b", 4);

fn global(reg: Reg, global: &Global<u64>) -> Code {
    code![
        ld_global(reg, global),
        load(reg, reg.u64(0))
    ]
}

#[test]
fn functions_take_arguments_and_keep_registers() {
    needs!(Root, Bpf);
    let square = func("square").body(code![
        mov(R6, R1),
        mov(R0, R6),
        mul(R0, R6),
        exit()
    ]);
    let both = func("sum_of_squares").body(code![
        mov(R7, R2),
        call(&square),
        mov(R6, R0),
        mov(R1, R7),
        call(&square),
        add(R0, R6),
        exit(),
    ]);
    let code = code![
        mov(R6, 1000),
        global(R1, &A),
        global(R2, &B),
        call(&both),
        add(R0, R6),
        exit(),
    ];
    let prog = Load::new(&build("squares", code)).load().unwrap();
    assert_eq!(answer(&prog), 1025);
    prog.write(&A, &5).unwrap();
    prog.write(&B, &12).unwrap();
    assert_eq!(answer(&prog), 1169);
    assert_eq!(list::jited(&prog).unwrap().len(), 3);
}

/// Functions that call each other, so many deep; each adds one.
fn nested(depth: usize) -> Program {
    let mut inner = func("f0").body(code![ret(1)]);
    for _ in 1..depth {
        inner = func("f").body(code![call(&inner), add(R0, 1), exit()]);
    }
    build("nested", code![call(&inner), exit()])
}

#[test]
fn eight_frames_and_not_nine() {
    needs!(Root, Bpf);
    let prog = Load::new(&nested(7)).load().unwrap();
    assert_eq!(answer(&prog), 7);
    let error = Load::new(&nested(8)).load().unwrap_err();
    let Error::Refused(refusal) = &error else {
        panic!("{error}")
    };
    assert!(refusal.sentence.contains("too deep"), "{error:#}");
    assert!(refusal.at.is_some(), "{error:#}");
}

#[test]
fn a_function_goes_on_in_a_program_and_its_caller_continues() {
    needs!(Root, Bpf);
    let go = func("go").body(code![tail_call(R1, &PROGS, 2), ret(5)]);
    let mut maps = Maps::new();
    let outer = load_with(
        &mut maps,
        &build("outer", code![call(&go), add(R0, 100), exit()]),
    );
    let seven = load_with(&mut maps, &build("seven", code![ret(7)]));
    assert_eq!(answer(&outer), 105);
    let progs: ObjectMap<u32> = maps.open(&PROGS).unwrap();
    progs.set(&2, &seven).unwrap();
    assert_eq!(answer(&outer), 107);
}

static ROUNDS: Global<u64> = Global::bss("rounds");

/// Adds up 0, 1, 2 … in a callback, which stops the loop behind `last`.
fn looping(count: i32, last: i32) -> Code {
    let sum = slot::<u64>("sum");
    let each = func("each").body(code![
        load(R3, R2.u64(0)),
        add(R3, R1),
        store(R2.u64(0), R3),
        R1.eq(last).then(ret(1)),
        ret(0),
    ]);
    code![
        store(sum.u64(0), 0),
        r#loop(count, &each, sum, 0),
        ld_global(R1, &ROUNDS),
        store(R1.u64(0), R0),
        load(R0, sum.u64(0)),
        exit(),
    ]
}

#[test]
fn the_kernel_calls_a_function_many_times() {
    needs!(Root, Bpf, BpfLoop);
    for (count, last, sum, rounds) in [
        (100, -1, 4950, 100),
        (100, 9, 45, 10),
        (0, 0, 0, 0),
    ] {
        let prog = Load::new(&build("looping", looping(count, last))).load();
        let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(answer(&prog), sum);
        assert_eq!(prog.read(&ROUNDS).unwrap(), rounds);
    }
}

/// The same without a global variable, which bare slots cannot name.
fn looping_bare() -> Code {
    let sum = slot::<u64>("sum");
    let double = func("double").body(code![mov(R0, R1), add(R0, R1), exit()]);
    let each = func("each").body(code![
        mov(R6, R2),
        call(&double),
        load(R3, R6.u64(0)),
        add(R3, R0),
        store(R6.u64(0), R3),
        ret(0),
    ]);
    code![
        store(sum.u64(0), 0),
        r#loop(10, &each, sum, 0),
        load(R0, sum.u64(0)),
        exit(),
    ]
}

/// The kernel takes callbacks only with the records that say they are static functions.
#[test]
fn callbacks_load_also_without_lines() {
    needs!(Root, Bpf, BpfLoop);
    let program = build("looping", looping_bare());
    let bare = Program::from_slots(ProgType::XDP, "bare", program.insns().to_vec());
    for (program, lines, count) in [
        (&program, Lines::Told, true),
        (&program, Lines::Kept, false),
        (&bare, Lines::Told, false),
        (&bare, Lines::Kept, false),
    ] {
        let prog = Load::new(program).lines(lines).load();
        let prog = prog.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(answer(&prog), 90);
        let info = bpfsmith_sys::info::prog(prog.as_fd()).unwrap();
        assert_eq!((info.nr_func_info, info.nr_line_info > 0), (3, count));
    }
}

static NUMBERS: MapDef<u32, u64> = MapDef::array("bs_numbers", 4);
static PAIRS: MapDef<u32, u64> = MapDef::hash("bs_pairs", 8);

/// Adds up keys and values of a map, 1000 for each key.
fn visiting(map: &MapDef<u32, u64>) -> Code {
    let sum = slot::<u64>("sum");
    let each = func("each").body(code![
        load(R1, R4.u64(0)),
        load(R2, R2.u32(0)),
        mul(R2, 1000),
        add(R1, R2),
        load(R2, R3.u64(0)),
        add(R1, R2),
        store(R4.u64(0), R1),
        ret(0),
    ]);
    code![
        store(sum.u64(0), 0),
        for_each_map_elem(map, &each, sum, 0),
        ld_global(R1, &ROUNDS),
        store(R1.u64(0), R0),
        load(R0, sum.u64(0)),
        exit(),
    ]
}

#[test]
fn the_kernel_calls_a_function_for_each_element() {
    needs!(Root, Bpf, ForEachElem);
    for (map, keys, sum, count) in [
        (&NUMBERS, [0, 1, 3], 6000 + 222, 4),
        (&PAIRS, [7, 8, 9], 24_000 + 222, 3),
    ] {
        let mut maps = Maps::new();
        let prog = load_with(&mut maps, &build("visiting", visiting(map)));
        let held: Map<u32, u64> = maps.open(map).unwrap();
        for (key, value) in keys.iter().zip([2, 20, 200]) {
            held.update(key, &value).unwrap();
        }
        assert_eq!(answer(&prog), sum);
        assert_eq!(prog.read(&ROUNDS).unwrap(), count);
    }
}

bpfsmith_uapi::record! {
    /// A timer and how often it went off.
    #[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable)]
    struct Tick {
        timer: Timer,
        count: u64,
        last: u64,
    }
}

static TICKS: MapDef<u32, Tick> = MapDef::array("bs_ticks", 1).described();

/// Starts a timer, which starts itself anew until it went off as often as the value says. Returns
/// what `bpf_timer_init` answers.
fn ticking() -> Code {
    let key = slot::<u32>("key");
    let tick = func("tick").body(code![
        load(R1, R3.u64(16)),
        add(R1, 1),
        store(R3.u64(16), R1),
        load(R2, R3.u64(24)),
        R1.lt(R2).then(timer_start(R3, 1000, 0)),
        ret(0),
    ]);
    code![
        store(key.u32(0), 0),
        map_lookup_elem(&TICKS, key),
        R0.eq(0).then(ret(1)),
        mov(R6, R0),
        timer_init(R6, &TICKS, 1),
        mov(R7, R0),
        timer_set_callback(R6, &tick),
        timer_start(R6, 1000, 0),
        mov(R0, R7),
        exit(),
    ]
}

static MANY: MapDef<u32, Tick> = MapDef::array("bs_many", 2000).described();

/// The kernel may have no memory at hand for a timer, and gets none: each is made all the same.
#[test]
fn there_is_room_for_each_of_many_timers() {
    needs!(Root, Bpf, Timer);
    let number = slot::<u32>("number");
    let program = build(
        "many",
        code![
            load(R2, R1.get(xdp_md::data)),
            load(R3, R1.get(xdp_md::data_end)),
            mov(R4, R2),
            add(R4, 4),
            R4.gt(R3).then(ret(1)),
            load(R1, R2.u32(0)),
            store(number.u32(0), R1),
            map_lookup_elem(&MANY, number),
            R0.eq(0).then(ret(1)),
            mov(R1, R0),
            timer_init(R1, &MANY, 1),
            exit(),
        ],
    );
    let mut maps = Maps::new();
    let prog = load_with(&mut maps, &program);
    let mut short = 0;
    for number in 0..rounds(2000) {
        let mut packet = PACKET;
        packet[..4].copy_from_slice(&number.to_ne_bytes());
        let mut tries = 0;
        let outcome = with_room_for_timers(|| {
            tries += 1;
            prog.run().data(&packet).go()
        });
        assert_eq!(outcome.unwrap().retval, 0, "timer {number}");
        short += u32::from(tries > 1);
    }
    println!("{short} times the kernel had no memory at hand");
}

#[test]
fn a_timer_calls_until_it_is_not_started_again() {
    needs!(Root, Bpf, Timer);
    let mut maps = Maps::new();
    let prog = load_with(&mut maps, &build("ticking", ticking()));
    let ticks: Map<u32, Tick> = maps.open(&TICKS).unwrap();
    let ends_at = |last| Tick {
        last,
        ..Tick::default()
    };
    let count = || ticks.lookup(&0).unwrap().unwrap().count;
    ticks.update(&0, &ends_at(5)).unwrap();
    let started = with_room_for_timers(|| prog.run().data(&PACKET).go());
    assert_eq!(started.unwrap().retval, 0);
    deadline(LIMIT, || (count() >= 5).then_some(()));
    assert_eq!(
        answer(&prog),
        Errno::EBUSY.0.wrapping_neg().cast_unsigned(),
        "it is there"
    );
    deadline(LIMIT, || (count() == 6).then_some(()));

    // One that never ends goes with the last descriptor of its map.
    ticks.update(&0, &ends_at(u64::MAX)).unwrap();
    answer(&prog);
    deadline(LIMIT, || (count() > 100).then_some(()));
    let info = list::prog_info(&prog).unwrap();
    drop((prog, ticks, maps));
    gone(Kind::Prog, &[info.id]);
    gone(Kind::Map, &info.maps);
}
