//! Random jump graphs, up to several times the reach of a jump: the final bytes, read by a second
//! decoder, go where the graph goes, and everything that refers to a slot has moved with it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/walk.rs"]
mod walk;

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::isa::{Jmp, Op, Order};
use bpfsmith_asm::program::Target;
use proptest::arbitrary::any as whatever;
use proptest::prelude::{Just, ProptestConfig, Strategy, prop, prop_oneof, proptest};
use proptest::sample::select;
use walk::{Stop, Walk, holds};

#[derive(Clone, Debug)]
enum End {
    FallThrough,
    Ja(usize),
    /// Compared with R2, or with the number.
    If(Jmp, bool, Option<i8>, usize),
    May(usize),
    Exit,
}

#[derive(Clone, Debug)]
struct Block {
    fill: usize,
    end: End,
}

fn graph(fill: impl Strategy<Value = usize> + Clone) -> impl Strategy<Value = Vec<Block>> {
    let number = prop_oneof![
        Just(None),
        whatever::<i8>().prop_map(Some)
    ];
    let end = prop_oneof![
        2 => Just(End::FallThrough),
        3 => whatever::<usize>().prop_map(End::Ja),
        6 => (select(Jmp::ALL), whatever::<bool>(), number, whatever::<usize>())
            .prop_map(|(op, wide, b, to)| End::If(op, wide, b, to)),
        1 => whatever::<usize>().prop_map(End::May),
        1 => Just(End::Exit),
    ];
    let block = (fill, end).prop_map(|(fill, end)| Block { fill, end });
    prop::collection::vec(block, 2..40).prop_map(|mut blocks| {
        let n = blocks.len();
        for block in &mut blocks {
            if let End::Ja(to) | End::If(.., to) | End::May(to) = &mut block.end {
                *to %= n;
            }
        }
        blocks[n - 1].end = End::Exit;
        blocks
    })
}

static MAP: MapDef<u32, u64> = MapDef::array("map", 1);

fn jump(op: Jmp, wide: bool, b: Option<i8>, to: Label) -> Insn {
    macro_rules! by_name {
        ($($op:ident $f:ident)*) => {
            match (op, wide, b) {
                $(
                    (Jmp::$op, true, None) => $f(R1, R2, to),
                    (Jmp::$op, true, Some(b)) => $f(R1, b, to),
                    (Jmp::$op, false, None) => $f(W1, W2, to),
                    (Jmp::$op, false, Some(b)) => $f(W1, b, to),
                )*
            }
        };
    }
    by_name!(Eq jeq Gt jgt Ge jge Set jset Ne jne SGt jsgt SGe jsge Lt jlt Le jle SLt jslt SLe jsle)
}

/// The instructions between a block's mark and its end, with one of each thing that must move.
fn filler(n: usize, callee: &Func) -> Code {
    let mut code = code![];
    for i in 0..n {
        let number = i32::try_from(i % 900).unwrap();
        match i % 97 {
            3 | 50 => lddw(R3, 0x0bad_cafe_0000_0000 | (i % 900) as u64).splice(&mut code),
            7 => store(R10.u16(-2), be16(0x1234)).splice(&mut code),
            11 => ld_map(R4, &MAP).splice(&mut code),
            13 => call(callee).splice(&mut code),
            17 => ld_func(R5, callee).splice(&mut code),
            19 => [
                Insn::op(Op::Ja(2)),
                mov(R1, 99),
                mov(R2, 99),
                mov(R8, 1),
            ]
            .splice(&mut code),
            _ => mov(R8, number).splice(&mut code),
        }
    }
    code
}

const CALLEE: i32 = 900_000;

/// The program, and the Rust lines of marks and of ends.
fn build(isa: Isa, blocks: &[Block]) -> Program {
    let callee = func("callee").body(code![mov(R9, CALLEE), mov(R0, 1), exit()]);
    let labels: Vec<Label> = blocks.iter().map(|_| label("block")).collect();
    let parts = blocks.iter().zip(0..).map(|(block, n)| {
        let end = match block.end {
            End::FallThrough => None,
            End::Ja(to) => Some(ja(labels[to])),
            End::If(op, wide, b, to) => Some(jump(op, wide, b, labels[to])),
            End::May(to) => Some(may_goto(labels[to])),
            End::Exit => Some(exit()),
        };
        let mark = 1000 + i32::try_from(n).unwrap();
        code![
            bind(labels[n]),
            mov(R9, mark),
            filler(block.fill, &callee),
            end
        ]
    });
    // Everything is called, whatever the filler.
    let code = code![
        call(&callee),
        ld_func(R5, &callee),
        parts
    ];
    Program::assemble(isa, ProgType::XDP, "graph", code).expect("every jump reaches")
}

/// Numbers for which the comparison comes out so.
fn numbers(op: Jmp, wide: bool, b: Option<i8>, outcome: bool) -> Option<(u64, u64)> {
    let all: [i64; 9] = [0, 1, 2, -1, -2, 127, -128, 4, 64];
    let shift = if wide { 0 } else { 32 };
    let right = b.map_or(all.to_vec(), |b| vec![b.into()]);
    let tried = right.iter().flat_map(|&b| all.iter().map(move |&a| (a, b)));
    let number = |n: i64| n.cast_unsigned();
    tried
        .map(|(a, b)| (number(a), number(b)))
        .find(|&(a, b)| holds(op.bits(), a << shift, b << shift) == outcome)
}

fn check(isa: Isa, blocks: &[Block]) {
    let program = build(isa, blocks);
    let bytes = program.to_bytes(Order::Little);
    let budget = bytes.len() / 8 + 100;
    let mut walk = Walk::new(&bytes);
    let marks = walk.marks();
    assert_eq!(marks.len(), blocks.len() + 1);
    assert_eq!(
        marks.last(),
        Some(&(CALLEE, program.funcs()[1].at as usize))
    );

    // Edges.
    for (n, block) in blocks.iter().enumerate() {
        let mark = |n: usize| Stop::Mark(1000 + i32::try_from(n).unwrap());
        let mut go = |a: u64, b: u64, may: bool| {
            walk.pc = marks[n].1;
            walk.may = may;
            loop {
                (walk.regs[1], walk.regs[2]) = (a, b);
                match walk.run(budget) {
                    // The callee's mark: on through it.
                    Stop::Mark(CALLEE) => {}
                    stop => return stop,
                }
            }
        };
        match block.end {
            End::FallThrough => assert_eq!(go(0, 0, false), mark(n + 1)),
            End::Ja(to) => assert_eq!(go(0, 0, false), mark(to)),
            End::Exit => assert_eq!(go(0, 0, false), Stop::Exit),
            End::May(to) => {
                assert_eq!(go(0, 0, true), mark(to));
                assert_eq!(go(0, 0, false), mark(n + 1));
            }
            End::If(op, wide, b, to) => {
                for (outcome, expect) in [(true, to), (false, n + 1)] {
                    if let Some((left, right)) = numbers(op, wide, b, outcome) {
                        assert_eq!(go(left, right, false), mark(expect), "{op:?} {outcome}");
                    }
                }
            }
        }
    }

    // What refers to slots.
    let at = |slot: u32| &bytes[slot as usize * 8..slot as usize * 8 + 8];
    let labels: Vec<usize> = program
        .labels()
        .iter()
        .map(|&(at, _)| at as usize)
        .collect();
    let places: Vec<usize> = marks[..blocks.len()].iter().map(|mark| mark.1).collect();
    assert_eq!(labels, places);
    for reloc in program.relocs() {
        assert!(matches!(reloc.target, Target::Map(_)));
        assert_eq!(at(reloc.at)[..2], [0x18, 0x14]);
    }
    let is = |code: u8, regs: u8| move |b: &&[u8]| b[0] == code && b[1] == regs;
    let maps = bytes.chunks(8).filter(is(0x18, 0x14)).count();
    assert_eq!(program.relocs().len(), maps);
    for (slot, b) in bytes.chunks(8).enumerate() {
        let imm = i64::from(i32::from_le_bytes(b[4..8].try_into().unwrap()));
        if (b[0], b[1]) == (0x85, 0x10) || (b[0], b[1]) == (0x18, 0x45) {
            let to = i64::try_from(slot).unwrap() + 1 + imm;
            assert_eq!(to, i64::from(program.funcs()[1].at));
        }
    }
    for b in bytes.chunks(8).filter(|b| b[0] == 0x6a) {
        assert_eq!(b[4..8], [0x12, 0x34, 0, 0]);
    }
    let big = program.to_bytes(Order::Big);
    for b in big.chunks(8).filter(|b| b[0] == 0x6a) {
        assert_eq!(b[4..8], [0, 0, 0x12, 0x34]);
    }

    // Lines: one for each kind of instruction in this file.
    assert_eq!(program.lines().len(), program.insns().len());
    let line_of = |code: u8, regs: u8, is: &dyn Fn(i32) -> bool| {
        let slots = bytes.chunks(8).zip(program.lines());
        let mut lines: Vec<u32> = slots
            .filter(|(b, _)| (b[0], b[1]) == (code, regs))
            .filter(|(b, _)| is(i32::from_le_bytes(b[4..8].try_into().unwrap())))
            .map(|(_, line)| line.at.line())
            .collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    };
    let any = |_: i32| true;
    let is_mark = |imm: i32| (1000..CALLEE).contains(&imm);
    assert_eq!(line_of(0xb7, 9, &is_mark).len(), 1);
    assert!(line_of(0x18, 3, &any).len() <= 1);
    assert!(line_of(0x6a, 10, &any).len() <= 1);
    assert!(line_of(0x18, 0x14, &any).len() <= 1);
    assert!(line_of(0x18, 0x45, &any).len() <= 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn near_jumps(blocks in graph(0..40_usize)) {
        check(Isa::V4, &blocks);
        check(Isa::V3, &blocks);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn far_jumps(blocks in graph(prop_oneof![0..10_usize, 2_000..9_000_usize])) {
        check(Isa::V4, &blocks);
        check(Isa::V3, &blocks);
    }
}

/// Distances around the last one that fits, in both directions.
#[test]
fn the_edge_of_reach() {
    for isa in [Isa::V3, Isa::V4] {
        for distance in 32_760..32_775_usize {
            let (there, back) = (label("there"), label("back"));
            let fill = |n: usize| (0..n).map(|_| mov(R8, 0));
            let code = code![
                ja(there),
                bind(back),
                mov(R9, 1000),
                fill(distance - 2),
                jset(R1, 1, back),
                bind(there),
                mov(R9, 1001),
                fill(distance),
                jeq(R1, 0, there),
                exit(),
            ];
            let program = Program::assemble(isa, ProgType::XDP, "edge", code).unwrap();
            let mut walk = Walk::new(&program.to_bytes(Order::Little));
            assert_eq!(walk.run(100_000), Stop::Mark(1001));
            let second = walk.pc;
            assert_eq!(walk.run(100_000), Stop::Mark(1001), "{isa:?} {distance}");
            assert_eq!(walk.pc, second);
            walk.regs[1] = 1;
            assert_eq!(walk.run(100_000), Stop::Exit);
            walk.pc = walk.marks()[0].1;
            assert_eq!(walk.run(100_000), Stop::Mark(1000));
        }
    }
}
