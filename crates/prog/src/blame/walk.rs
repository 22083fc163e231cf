//! Reads a log from its end: the sentence, the last instruction, and the way that led there.

use super::line::{Line, Step, line};
use super::state::{State, frame, written};
use crate::answered::is_poison;
use bpfsmith_asm::isa::Raw;

/// How many steps of the way are kept.
const STEPS: usize = 8;
/// How many lines are read back for the registers: a loop may go on for millions without a line that
/// has them all.
const SEGMENT: usize = 1 << 14;
/// How many lines a refusal's sentence has at most.
const SENTENCES: usize = 16;

/// What a log says about the instruction at its end.
#[derive(Debug, Default)]
pub(super) struct Walk<'a> {
    /// What is wrong, in the log's order.
    pub(super) messages: Vec<&'a str>,
    /// The last instructions on the way, oldest first; the last is where the verifier stood.
    pub(super) steps: Vec<Step<'a>>,
    /// The registers before the last step.
    pub(super) state: State<'a>,
    /// The slots of the calls that led into the last function, outermost first.
    pub(super) calls: Vec<usize>,
    /// The last step before the last that wrote each register, while the way is without a break.
    writers: Vec<(u32, usize)>,
}

impl Walk<'_> {
    /// The step that gave register `n` its value.
    pub(super) fn writer(&self, n: u32) -> Option<usize> {
        let found = self.writers.iter().find(|(bits, _)| bits & (1 << n) != 0);
        found.map(|&(_, slot)| slot)
    }
}

/// Reads the log back from its end. Only steps that fit the program count: the first line of a log
/// whose front is cut off may be the tail of a number.
pub(super) fn back<'a>(log: &'a str, insns: &[Raw]) -> Walk<'a> {
    let mut way = Way::default();
    let mut lines = log.rsplit('\n').map(line);
    for line in &mut lines {
        match line {
            Line::Message(text) if way.walk.messages.len() < SENTENCES => {
                way.walk.messages.push(text);
            }
            Line::Step(step) if fits(step, insns) => {
                way.walk.steps.push(step);
                break;
            }
            // The verifier gave up before it wrote the next instruction down.
            Line::From(..) | Line::Callee | Line::Caller | Line::Start => {
                way.line(line, insns);
                break;
            }
            _ => {}
        }
    }
    for line in &mut lines {
        if way.done() {
            break;
        }
        way.line(line, insns);
    }
    way.finish(insns)
}

/// Whether the program has such an instruction there. A field of the kernel has its width only when
/// the program is loaded, and what the kernel lacks is poison.
fn fits(step: Step<'_>, insns: &[Raw]) -> bool {
    let is_access = |code: u8| (1..=3).contains(&(code & 7));
    insns.get(step.slot).is_some_and(|raw| {
        raw.code == step.code
            || (is_access(raw.code) && (raw.code ^ step.code) & 7 == 0)
            || is_poison(step.text)
    })
}

/// The way back, while it is walked.
#[derive(Default)]
struct Way<'a> {
    walk: Walk<'a>,
    /// States and steps back to a line that has every register, newest first.
    segment: Vec<Line<'a>>,
    /// The segment is complete.
    whole: bool,
    /// The branch that is looked for: what lies between belongs to other ways.
    seek: Option<usize>,
    /// How many callers are still to be found; unknown before the first state.
    depth: Option<usize>,
    /// Functions that returned, whose calls are not ours.
    returned: usize,
    /// The next step is the call.
    called: bool,
    /// A branch whose other end may be in another function: a callback's.
    branch: Option<usize>,
    /// The step that was met last.
    last: Option<usize>,
    /// Nothing of this way lies further back.
    start: bool,
}

impl<'a> Way<'a> {
    fn done(&self) -> bool {
        let found = self.depth == Some(0) && !self.called && self.branch.is_none();
        self.start || (self.whole && found && self.walk.steps.len() >= STEPS)
    }

    fn line(&mut self, line: Line<'a>, insns: &[Raw]) {
        match line {
            Line::Step(step) if fits(step, insns) => self.step(step),
            Line::Start => self.start = true,
            _ if self.seek.is_some() => {}
            Line::From(slot, state) => {
                self.state(state);
                self.keep(line);
                self.whole = true;
                self.seek = Some(slot);
                self.branch = self.depth.is_some_and(|depth| depth > 0).then_some(slot);
            }
            Line::State(state) => {
                self.state(state);
                self.keep(line);
            }
            Line::Callee => {
                self.whole = true;
                if self.returned > 0 {
                    self.returned -= 1;
                } else if self.depth.is_some_and(|depth| depth > 0) {
                    self.called = true;
                }
            }
            Line::Caller => {
                self.whole = true;
                self.returned += 1;
            }
            _ => {}
        }
    }

    fn step(&mut self, step: Step<'a>) {
        if self.seek.is_some_and(|slot| slot != step.slot) {
            return;
        }
        self.seek = None;
        if !step.after.is_empty() {
            self.state(step.after);
        }
        self.last = Some(step.slot);
        if self.called {
            self.called = false;
            self.enter(step.slot);
        }
        self.keep(Line::Step(step));
        if self.walk.steps.len() < STEPS {
            self.walk.steps.push(step);
        }
    }

    /// A state tells which function it is in.
    fn state(&mut self, text: &str) {
        if self.returned > 0 || self.called {
            return;
        }
        let frame = frame(text);
        match self.depth {
            None => self.depth = Some(frame),
            // A callback begins without a line of its own.
            Some(depth) if frame < depth => {
                if let Some(slot) = self.branch.take().or(self.last) {
                    self.enter(slot);
                }
            }
            Some(_) => self.branch = None,
        }
    }

    fn enter(&mut self, slot: usize) {
        self.walk.calls.push(slot);
        self.depth = self.depth.map(|depth| depth.saturating_sub(1));
    }

    fn keep(&mut self, line: Line<'a>) {
        if !self.whole {
            self.segment.push(line);
            self.whole = self.segment.len() >= SEGMENT;
        }
    }

    /// Turns everything round, and replays the states.
    fn finish(mut self, insns: &[Raw]) -> Walk<'a> {
        let raw = |slot: usize| insns.get(slot).copied().unwrap_or_default();
        for line in &self.segment {
            if let Line::Step(step) = line {
                self.walk.writers.push((written(raw(step.slot)), step.slot));
            }
        }
        let state = &mut self.walk.state;
        let mut depth = None;
        for line in self.segment.into_iter().rev() {
            match line {
                Line::Step(step) => {
                    state.overwrite(raw(step.slot));
                    if !step.after.is_empty() {
                        enter(state, &mut depth, step.after);
                    }
                }
                Line::State(text) | Line::From(_, text) => enter(state, &mut depth, text),
                _ => {}
            }
        }
        self.walk.messages.reverse();
        self.walk.steps.reverse();
        self.walk.calls.reverse();
        self.walk
    }
}

/// Takes over a state, which has everything if it is that of another function than before.
fn enter<'a>(state: &mut State<'a>, depth: &mut Option<usize>, text: &'a str) {
    let frame = frame(text);
    if depth.replace(frame).is_some_and(|before| before != frame) {
        *state = State::default();
    }
    state.apply(text);
}
