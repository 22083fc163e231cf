//! Structured flow and the arguments of helpers, against what they mean.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/walk.rs"]
mod walk;

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::helper::{Argument, Given, kind};
use bpfsmith_asm::insn::Cond;
use bpfsmith_asm::isa::{Jmp, Order};
use proptest::arbitrary::any as whatever;
use proptest::prelude::{
    BoxedStrategy, Just, ProptestConfig, Strategy, prop, prop_oneof, proptest,
};
use proptest::sample::select;
use walk::{Stop, Walk, holds};

/// The registers that programs compute with; the others count rounds.
const DATA: u8 = 6;
const FUEL: Reg = R6;
const COUNTERS: [Reg; 3] = [R7, R8, R0];

#[derive(Clone, Copy, Debug)]
struct Compare {
    op: Jmp,
    wide: bool,
    a: u8,
    b: Result<u8, i8>,
}

#[derive(Clone, Debug)]
enum When {
    One(Compare),
    All(Vec<Compare>),
    Any(Vec<Compare>),
}

#[derive(Clone, Debug)]
enum Do {
    Add(u8, i8),
    Copy(u8, u8),
    Xor(u8, u8),
    Exit,
    If(When, Vec<Do>, Option<Vec<Do>>),
    Repeat(u8, Vec<Do>),
    /// Or as `may_while`.
    While(bool, When, Vec<Do>),
}

fn compare() -> impl Strategy<Value = Compare> {
    let b = prop_oneof![
        (1..DATA).prop_map(Ok),
        (-3..4_i8).prop_map(Err)
    ];
    (select(Jmp::ALL), whatever::<bool>(), 1..DATA, b).prop_map(|(op, wide, a, b)| Compare {
        op,
        wide,
        a,
        b,
    })
}

fn when(least: usize) -> impl Strategy<Value = When> {
    let several = || prop::collection::vec(compare(), least..4);
    prop_oneof![
        compare().prop_map(When::One),
        several().prop_map(When::All),
        several().prop_map(When::Any)
    ]
}

fn block() -> BoxedStrategy<Vec<Do>> {
    let leaf = prop_oneof![
        8 => (1..DATA, -3..4_i8).prop_map(|(a, n)| Do::Add(a, n)),
        4 => (1..DATA, 1..DATA).prop_map(|(a, b)| Do::Copy(a, b)),
        4 => (1..DATA, 1..DATA).prop_map(|(a, b)| Do::Xor(a, b)),
        1 => Just(Do::Exit),
    ];
    let deeper = leaf.prop_recursive(4, 40, 4, |inner| {
        let block = || prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            (when(0), block(), prop::option::of(block())).prop_map(|(w, a, b)| Do::If(w, a, b)),
            (0..4_u8, block()).prop_map(|(n, body)| Do::Repeat(n, body)),
            (whatever::<bool>(), when(0), block()).prop_map(|(may, w, b)| Do::While(may, w, b)),
        ]
    });
    prop::collection::vec(deeper, 1..5).boxed()
}

fn cond(c: Compare) -> Cond {
    macro_rules! by_name {
        ($($op:ident $f:ident)*) => {
            match (c.op, c.wide, c.b) {
                $(
                    (Jmp::$op, true, Ok(b)) => Reg::n(c.a).$f(Reg::n(b)),
                    (Jmp::$op, true, Err(b)) => Reg::n(c.a).$f(b),
                    (Jmp::$op, false, Ok(b)) => Reg::n(c.a).low().$f(Reg::n(b).low()),
                    (Jmp::$op, false, Err(b)) => Reg::n(c.a).low().$f(b),
                )*
            }
        };
    }
    by_name!(Eq eq Gt gt Ge ge Set has Ne ne SGt sgt SGe sge Lt lt Le le SLt slt SLe sle)
}

/// Calls `$then!(test)` with the test that `$when` stands for.
macro_rules! with_test {
    ($when:expr, $then:expr) => {
        match $when {
            When::One(c) => $then(cond(*c)),
            When::All(c) => match c[..] {
                [] => $then(all([])),
                [a] => $then(all([cond(a)])),
                [a, b] => $then(all([cond(a), cond(b)])),
                _ => $then(all([cond(c[0]), cond(c[1]), cond(c[2])])),
            },
            When::Any(c) => match c[..] {
                [] => $then(any([])),
                [a] => $then(any([cond(a)])),
                [a, b] => $then(any([cond(a), cond(b)])),
                _ => $then(any([cond(c[0]), cond(c[1]), cond(c[2])])),
            },
        }
    };
}

/// Depth is the number of `repeat`s around, each of which has a counter of its own.
fn build(block: &[Do], depth: usize, out: Label) -> Code {
    let mut code = code![];
    for item in block {
        match item {
            Do::Add(a, n) => add(Reg::n(*a), *n).splice(&mut code),
            Do::Copy(a, b) => mov(Reg::n(*a), Reg::n(*b)).splice(&mut code),
            Do::Xor(a, b) => xor(Reg::n(*a), Reg::n(*b)).splice(&mut code),
            Do::Exit => exit().splice(&mut code),
            Do::If(when, then, None) => {
                let then = build(then, depth, out);
                with_test!(when, |test| Test::then(test, then).splice(&mut code));
            }
            Do::If(when, then, Some(other)) => {
                let (then, other) = (build(then, depth, out), build(other, depth, out));
                with_test!(when, |test| Test::then(test, then)
                    .or_else(other)
                    .splice(&mut code));
            }
            Do::Repeat(n, body) => {
                let Some(&counter) = COUNTERS.get(depth) else {
                    continue;
                };
                let body = build(body, depth + 1, out);
                repeat(counter, 0..i32::from(*n))
                    .body(body)
                    .splice(&mut code);
            }
            Do::While(may, when, body) => {
                let body = code![
                    jeq(FUEL, 0, out),
                    sub(FUEL, 1),
                    build(body, depth, out)
                ];
                if *may {
                    with_test!(when, |test| may_while(test).body(body).splice(&mut code));
                } else {
                    with_test!(when, |test| while_(test).body(body).splice(&mut code));
                }
            }
        }
    }
    code
}

/// False if the program ended.
fn run(block: &[Do], depth: usize, regs: &mut [u64; 11]) -> bool {
    for item in block {
        let goes_on = match item {
            Do::Add(a, n) => {
                let a = &mut regs[usize::from(*a)];
                *a = a.wrapping_add_signed((*n).into());
                true
            }
            Do::Copy(a, b) => {
                regs[usize::from(*a)] = regs[usize::from(*b)];
                true
            }
            Do::Xor(a, b) => {
                regs[usize::from(*a)] ^= regs[usize::from(*b)];
                true
            }
            Do::Exit => false,
            Do::If(when, then, other) => {
                if is_true(when, regs) {
                    run(then, depth, regs)
                } else {
                    other.as_ref().is_none_or(|other| run(other, depth, regs))
                }
            }
            Do::Repeat(n, body) => {
                depth >= COUNTERS.len() || (0..*n).all(|_| run(body, depth + 1, regs))
            }
            Do::While(_, when, body) => loop {
                if !is_true(when, regs) {
                    break true;
                }
                if regs[6] == 0 {
                    break false;
                }
                regs[6] -= 1;
                if !run(body, depth, regs) {
                    break false;
                }
            },
        };
        if !goes_on {
            return false;
        }
    }
    true
}

fn is_true(when: &When, regs: &[u64; 11]) -> bool {
    let one = |c: &Compare| {
        let b = match c.b {
            Ok(b) => regs[usize::from(b)],
            Err(n) => i64::from(n).cast_unsigned(),
        };
        let shift = if c.wide { 0 } else { 32 };
        holds(c.op.bits(), regs[usize::from(c.a)] << shift, b << shift)
    };
    match when {
        When::One(c) => one(c),
        When::All(c) => c.iter().all(one),
        When::Any(c) => c.iter().any(one),
    }
}

/// A helper's argument.
#[derive(Clone, Copy, Debug)]
enum Arg {
    Reg(u8),
    Place(u8, i16),
    Load(u8, i16),
    Number(i64),
}

impl Argument<'static, kind::Ctx> for Arg {
    fn given(self) -> Given<'static> {
        Argument::<kind::Scalar>::given(self)
    }
}

impl Argument<'static, kind::Scalar> for Arg {
    fn given(self) -> Given<'static> {
        match self {
            Arg::Reg(reg) => Argument::<kind::Scalar>::given(Reg::n(reg)),
            Arg::Place(reg, off) => Argument::<kind::Scalar>::given(Reg::n(reg).at(off.into())),
            Arg::Load(reg, off) => Argument::<kind::Scalar>::given(Reg::n(reg).u64(off.into())),
            Arg::Number(n) => Argument::<kind::Scalar>::given(n),
        }
    }
}

fn arg() -> impl Strategy<Value = Arg> {
    let reg = || prop_oneof![6 => 1..6_u8, 1 => Just(0), 1 => 6..10_u8];
    prop_oneof![
        5 => reg().prop_map(Arg::Reg),
        3 => (reg(), -9..9_i16).prop_map(|(reg, off)| Arg::Place(reg, off)),
        3 => (reg(), -9..9_i16).prop_map(|(reg, off)| Arg::Load(reg, off)),
        2 => prop_oneof![
            whatever::<i64>(),
            (-2..3_i64),
            select(&[0xffff_ffff, 0x8000_0000, -0x8000_0000, -0x8000_0001][..])
        ]
        .prop_map(Arg::Number),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn blocks_and_loops_do_what_they_say(block in block(), regs in whatever::<[i8; 5]>()) {
        let out = label("out");
        let code = code![build(&block, 0, out), bind(out), exit()];
        let program = Program::assemble(Isa::V4, ProgType::XDP, "blocks", code).unwrap();
        let mut walk = Walk::new(&program.to_bytes(Order::Little));
        for (to, from) in walk.regs[1..].iter_mut().zip(regs) {
            *to = i64::from(from).cast_unsigned();
        }
        walk.regs[6] = 20;
        let mut expect = walk.regs;
        run(&block, 0, &mut expect);
        assert_eq!(walk.run(100_000), Stop::Exit);
        assert_eq!(walk.regs[1..7], expect[1..7], "{program}");
    }

    #[test]
    fn arguments_arrive(args in prop::array::uniform5(arg()), regs in whatever::<[u64; 11]>()) {
        let [a, b, c, d, e] = args;
        let code = code![l4_csum_replace(a, b, c, d, e), exit()];
        let program = Program::assemble(Isa::V4, ProgType::SCHED_CLS, "args", code).unwrap();
        let mut walk = Walk::new(&program.to_bytes(Order::Little));
        walk.regs = regs;
        assert_eq!(walk.run(100), Stop::Helper(11));
        let reg = |reg: u8| regs[usize::from(reg)];
        let expect = args.map(|arg| match arg {
            Arg::Reg(n) => reg(n),
            Arg::Place(n, off) => reg(n).wrapping_add_signed(off.into()),
            Arg::Load(n, off) => Walk::memory(reg(n).wrapping_add_signed(off.into())),
            Arg::Number(n) => n.cast_unsigned(),
        });
        assert_eq!(walk.regs[1..6], expect, "{program}");
        assert_eq!(walk.regs[6..], regs[6..]);
    }
}

/// A permutation needs no more than one move more than it has circles.
#[test]
fn arguments_that_go_round_in_circles() {
    let code = code![
        l4_csum_replace(R2, R1, R4, R5, R3),
        exit()
    ];
    let program = Program::assemble(Isa::V4, ProgType::SCHED_CLS, "args", code).unwrap();
    assert_eq!(program.insns().len(), 5 + 2 + 2);
    let code = code![
        l4_csum_replace(R1, R2, R3, R4, R5),
        exit()
    ];
    let program = Program::assemble(Isa::V4, ProgType::SCHED_CLS, "args", code).unwrap();
    assert_eq!(program.insns().len(), 2);
}
