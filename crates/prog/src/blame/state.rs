//! The registers as the verifier knew them.

use bpfsmith_asm::isa::Raw;

/// What is known of the registers and stack slots of one function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State<'a> {
    cells: Vec<(&'a str, &'a str)>,
}

/// The number in `frame2: …`; functions that the program starts in are 0.
pub(super) fn frame(text: &str) -> usize {
    text.strip_prefix("frame")
        .and_then(super::line::number)
        .map_or(0, |(frame, _)| frame)
}

impl<'a> State<'a> {
    /// Takes over what a state line says; what it does not name stays.
    pub(super) fn apply(&mut self, text: &'a str) {
        for (name, value) in cells(text) {
            match self.cells.iter_mut().find(|(known, _)| *known == name) {
                Some(cell) => cell.1 = value,
                None => self.cells.push((name, value)),
            }
        }
    }

    /// Forgets what the instruction overwrites. What follows in the log says what it is then; before
    /// Linux 5.18 nothing does.
    pub(super) fn overwrite(&mut self, raw: Raw) {
        let written = written(raw);
        self.cells.retain(|(name, _)| match register(name) {
            Some(n) => written & (1 << n) == 0,
            None => !(stores(raw) && name.starts_with("fp-")),
        });
    }

    /// Registers first, in order, then the rest.
    pub(super) fn into_sorted(mut self) -> Vec<(String, String)> {
        self.cells
            .sort_by_key(|(name, _)| register(name).unwrap_or(u32::MAX));
        self.cells
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

/// The registers that an instruction writes, as bits.
pub(crate) fn written(raw: Raw) -> u32 {
    const FETCH: i32 = 1;
    const CMPXCHG: i32 = 0xf1;
    const LOAD_ACQUIRE: i32 = 0x100;
    let bit = |n: u8| 1_u32 << n;
    match raw.code & 7 {
        // LD: the packet loads of the classic kind write R0 and destroy R1 to R5.
        0 if raw.code == 0x18 => bit(raw.dst()),
        0 => 0x3f,
        // LDX, ALU, ALU64.
        1 | 4 | 7 => bit(raw.dst()),
        // STX: atomics that fetch.
        3 if raw.code & 0xe0 == 0xc0 => match raw.imm {
            CMPXCHG => bit(0),
            LOAD_ACQUIRE => bit(raw.dst()),
            op if op & FETCH != 0 => bit(raw.src()),
            _ => 0,
        },
        5 if raw.code == 0x85 => 0x3f,
        _ => 0,
    }
}

/// True for an instruction that writes memory.
fn stores(raw: Raw) -> bool {
    matches!(raw.code & 7, 2 | 3)
}

/// The number in `R7`.
fn register(name: &str) -> Option<u32> {
    let n = name.strip_prefix('R')?.parse().ok()?;
    (n < 32).then_some(n)
}

/// `R1_w=ctx() fp-8=0` as names and values, without marks of liveness. Blanks inside brackets are
/// part of a value.
fn cells(text: &str) -> impl Iterator<Item = (&str, &str)> {
    words(text).filter_map(|word| {
        let (name, value) = word.split_once('=')?;
        let name = name.split('_').next().unwrap_or(name);
        let known = register(name).is_some() || name.starts_with("fp-") || name == "refs";
        (known && !value.is_empty()).then_some((name, value))
    })
}

/// The text cut at blanks outside brackets.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |c| {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && c == ' '
    })
    .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(lines: &[&'static str]) -> String {
        let mut state = State::default();
        for line in lines {
            state.apply(line);
        }
        let cells = state.into_sorted();
        let words: Vec<String> = cells.iter().map(|(n, v)| format!("{n}={v}")).collect();
        words.join(" ")
    }

    #[test]
    fn later_lines_overwrite() {
        assert_eq!(
            state(&[
                "R1=ctx() R10=fp0",
                "R2_w=scalar(id=1, umax=4) fp-8_w=0",
                "R2=3"
            ]),
            "R1=ctx() R2=3 R10=fp0 fp-8=0"
        );
        assert_eq!(state(&["frame1: R1=7 refs=2 cb"]), "R1=7 refs=2");
        assert_eq!(state(&["=", "R=1", "R99=1", "R1=", "(((("]), "");
    }

    #[test]
    fn instructions_overwrite() {
        let mut before = State::default();
        before.apply("R0=1 R1=2 R6=3 R10=fp0 fp-8=0");
        let check = |raw: Raw, expect: &str| {
            let mut state = before.clone();
            state.overwrite(raw);
            let left: Vec<String> = state.into_sorted().into_iter().map(|(n, _)| n).collect();
            assert_eq!(left.join(" "), expect, "{raw:?}");
        };
        check(Raw::new(0x85, 0, 0, 0, 1), "R6 R10 fp-8");
        check(Raw::new(0xb7, 6, 0, 0, 1), "R0 R1 R10 fp-8");
        check(Raw::new(0x7b, 10, 6, -8, 0), "R0 R1 R6 R10");
        check(Raw::new(0xdb, 10, 6, -8, 1), "R0 R1 R10");
        check(Raw::new(0xdb, 10, 6, -8, 0xf1), "R1 R6 R10");
        check(Raw::new(0x05, 0, 0, 1, 0), "R0 R1 R6 R10 fp-8");
    }
}
