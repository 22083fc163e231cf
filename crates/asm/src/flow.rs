//! Control flow without labels: conditional blocks and loops.

use crate::code::{Code, Splice, label};
use crate::insn::{Cond, Insn, ja, may_goto, mov};
use crate::isa::{Jmp, Reg};
use std::ops::Range;
use std::panic::Location;

/// Something that holds or does not: a comparison, or several joined by [`all`] or [`any`].
pub trait Test: Sized {
    /// Jumps to `to` unless it holds; else falls through.
    fn unless(&self, to: crate::code::Label, code: &mut Code);

    /// Jumps to `to` if it holds; else falls through.
    fn jump(&self, to: crate::code::Label, code: &mut Code);

    /// What to do if it holds.
    fn then<B: Splice>(self, body: B) -> Then<Self, B> {
        Then { test: self, body }
    }
}

impl Test for Cond {
    fn unless(&self, to: crate::code::Label, code: &mut Code) {
        match self.op.inverse() {
            Some(op) => code.push(Cond::jump(self, op, to)),
            None => {
                let holds = label("holds");
                code.push(Cond::jump(self, self.op, holds));
                code.push(Insn {
                    at: self.at,
                    ..ja(to)
                });
                code.bind(holds, self.at);
            }
        }
    }

    fn jump(&self, to: crate::code::Label, code: &mut Code) {
        let op: Jmp = self.op;
        code.push(Cond::jump(self, op, to));
    }
}

/// Holds if all of the conditions hold; they are tested in order.
pub fn all<const N: usize>(tests: [Cond; N]) -> All<N> {
    All(tests)
}

/// Holds if one of the conditions holds; they are tested in order.
pub fn any<const N: usize>(tests: [Cond; N]) -> Any<N> {
    Any(tests)
}

/// Made by [`all`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a condition does nothing by itself: follow it with .then(code![…])"]
pub struct All<const N: usize>([Cond; N]);

/// Made by [`any`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a condition does nothing by itself: follow it with .then(code![…])"]
pub struct Any<const N: usize>([Cond; N]);

impl<const N: usize> Test for All<N> {
    fn unless(&self, to: crate::code::Label, code: &mut Code) {
        for test in &self.0 {
            test.unless(to, code);
        }
    }

    #[track_caller]
    fn jump(&self, to: crate::code::Label, code: &mut Code) {
        let Some((last, others)) = self.0.split_last() else {
            code.push(ja(to));
            return;
        };
        let end = label("not_all");
        for test in others {
            test.unless(end, code);
        }
        Test::jump(last, to, code);
        code.bind(end, last.at);
    }
}

impl<const N: usize> Test for Any<N> {
    #[track_caller]
    fn unless(&self, to: crate::code::Label, code: &mut Code) {
        let Some((last, others)) = self.0.split_last() else {
            code.push(ja(to));
            return;
        };
        let holds = label("any");
        for test in others {
            Test::jump(test, holds, code);
        }
        last.unless(to, code);
        code.bind(holds, last.at);
    }

    fn jump(&self, to: crate::code::Label, code: &mut Code) {
        for test in &self.0 {
            Test::jump(test, to, code);
        }
    }
}

/// A block that runs if a test holds: `cond.then(code![…])`, maybe with `.or_else(code![…])`.
#[derive(Clone, Copy, Debug)]
#[must_use = "a block does nothing by itself: splice it with code![…]"]
pub struct Then<T, B> {
    test: T,
    body: B,
}

impl<T: Test, B: Splice> Then<T, B> {
    /// What to do if the test does not hold.
    #[track_caller]
    pub fn or_else<E: Splice>(self, other: E) -> ThenElse<T, B, E> {
        ThenElse {
            then: self,
            other,
            at: Location::caller(),
        }
    }
}

impl<T: Test, B: Splice> Splice for Then<T, B> {
    #[track_caller]
    fn splice(self, code: &mut Code) {
        let end = label("end");
        self.test.unless(end, code);
        self.body.splice(code);
        code.bind(end, Location::caller());
    }
}

/// Made by [`Then::or_else`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a block does nothing by itself: splice it with code![…]"]
pub struct ThenElse<T, B, E> {
    then: Then<T, B>,
    other: E,
    at: &'static Location<'static>,
}

impl<T: Test, B: Splice, E: Splice> Splice for ThenElse<T, B, E> {
    fn splice(self, code: &mut Code) {
        let (other, end) = (label("else"), label("end"));
        self.then.test.unless(other, code);
        let mark = code.mark();
        self.then.body.splice(code);
        let falls_through = code.falls_through(mark);
        if falls_through {
            code.push(Insn {
                at: self.at,
                ..ja(end)
            });
        }
        code.bind(other, self.at);
        self.other.splice(code);
        if falls_through {
            code.bind(end, self.at);
        }
    }
}

/// Begins a counted loop: `repeat(R9, 0..4).body(code![…])`. The register counts up; the body must
/// keep it, so take one of R6 to R9 if it calls. An empty range makes no code.
#[track_caller]
pub fn repeat(counter: Reg, range: Range<i32>) -> Repeat {
    Repeat {
        counter,
        range,
        at: Location::caller(),
    }
}

/// Made by [`repeat`], to be followed by `.body(code![…])`.
#[derive(Clone, Debug)]
#[must_use = "a loop needs a body: repeat(R9, 0..4).body(code![…])"]
pub struct Repeat {
    counter: Reg,
    range: Range<i32>,
    at: &'static Location<'static>,
}

/// Begins a loop: `while_(cond).body(code![…])`. The verifier follows it round by round until the
/// condition ends it.
#[track_caller]
pub fn while_<T: Test>(test: T) -> While<T> {
    While {
        test,
        at: Location::caller(),
    }
}

/// Made by [`while_`], to be followed by `.body(code![…])`.
#[derive(Clone, Copy, Debug)]
#[must_use = "a loop needs a body: while_(cond).body(code![…])"]
pub struct While<T> {
    test: T,
    at: &'static Location<'static>,
}

/// Begins a loop whose rounds the kernel counts: the verifier need not see its end, and a loop that
/// never ends is left after some millions of rounds. Linux 6.9.
///
/// `may_while(cond).body(code![…])`
#[track_caller]
pub fn may_while<T: Test>(test: T) -> MayWhile<T> {
    MayWhile(while_(test))
}

/// Made by [`may_while`], to be followed by `.body(code![…])`.
#[derive(Clone, Copy, Debug)]
#[must_use = "a loop needs a body: may_while(cond).body(code![…])"]
pub struct MayWhile<T>(While<T>);

/// A loop with its body.
#[derive(Clone, Debug)]
#[must_use = "a loop does nothing by itself: splice it with code![…]"]
pub struct Loop<L, B> {
    head: L,
    body: B,
}

macro_rules! bodies {
    ($([$($generics:tt)*] $head:ty;)*) => { $(
        impl $($generics)* $head {
            /// What each round does.
            pub fn body<B: Splice>(self, body: B) -> Loop<Self, B> {
                Loop { head: self, body }
            }
        }
    )* };
}
bodies! {
    [] Repeat;
    [<T: Test>] While<T>;
    [<T: Test>] MayWhile<T>;
}

impl<B: Splice> Splice for Loop<Repeat, B> {
    fn splice(self, code: &mut Code) {
        let Repeat { counter, range, at } = self.head;
        if range.is_empty() {
            return;
        }
        let top = label("repeat");
        code.push(Insn {
            at,
            ..mov(counter, range.start)
        });
        code.bind(top, at);
        self.body.splice(code);
        code.push(Insn {
            at,
            ..crate::insn::add(counter, 1)
        });
        code.push(Insn {
            at,
            ..crate::insn::jslt(counter, range.end, top)
        });
    }
}

impl<T: Test, B: Splice> Splice for Loop<While<T>, B> {
    fn splice(self, code: &mut Code) {
        round(self.head, false, self.body, code);
    }
}

impl<T: Test, B: Splice> Splice for Loop<MayWhile<T>, B> {
    fn splice(self, code: &mut Code) {
        round(self.head.0, true, self.body, code);
    }
}

/// `top: if not test goto end; body; goto top; end:`, with the kernel's own bound if wanted.
fn round<T: Test>(head: While<T>, counted: bool, body: impl Splice, code: &mut Code) {
    let (top, end) = (label("while"), label("end"));
    code.bind(top, head.at);
    if counted {
        code.push(Insn {
            at: head.at,
            ..may_goto(end)
        });
    }
    head.test.unless(end, code);
    let mark = code.mark();
    body.splice(code);
    if code.falls_through(mark) {
        code.push(Insn {
            at: head.at,
            ..ja(top)
        });
    }
    code.bind(end, head.at);
}
