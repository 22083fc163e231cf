//! What one line of a verifier log is.

/// A line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// `17: (71) r2 = *(u8 *)(r1 +0)`, with the state behind `;` where the kernel prints it.
    Step(Step<'a>),
    /// `17: R1=ctx() R10=fp0`, or the same without a number.
    State(&'a str),
    /// `from 3 to 7: R1=…`: another branch begins, behind the jump in the first slot.
    From(usize, &'a str),
    /// The state of a called function follows.
    Callee,
    /// The state of the caller follows: a function returned.
    Caller,
    /// A function is looked at from its beginning.
    Start,
    /// `; source line @ file:line`.
    Source,
    /// What the verifier says about its own work.
    Note,
    /// One of the lines at the end.
    Stat,
    /// Nothing.
    Blank,
    /// A sentence.
    Message(&'a str),
}

/// An instruction that the verifier looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step<'a> {
    pub(super) slot: usize,
    pub(super) code: u8,
    pub(super) text: &'a str,
    /// The registers that it changed; empty where the kernel does not say.
    pub(super) after: &'a str,
}

/// Beginnings of the lines in which the verifier tells how it works, not what is wrong.
const NOTES: &[&str] = &[
    "mark_precise:",
    "last_idx ",
    "regs=",
    "parent ",
    "propagating ",
    "caller:",
    "returning from callee:",
    "cur state:",
    "old state:",
    "Live regs before insn:",
    "Func#",
    "safe",
    "reg invariants violation",
    "REG INVARIANTS VIOLATION",
];

/// Beginnings of the lines at the end.
const STATS: &[&str] = &[
    "processed ",
    "verification time ",
    "stack depth ",
    "insns processed ",
];

/// Tells what a line is.
pub(super) fn line(line: &str) -> Line<'_> {
    let line = line.trim_end_matches(['\r', '\0', ' ']);
    let Some(first) = line.bytes().next() else {
        return Line::Blank;
    };
    match first {
        b'0'..=b'9' => numbered(line),
        b' ' | b'\t' if is_state(line.trim_start()) => Line::State(line.trim_start()),
        b' ' | b'\t' if is_listing(line.trim_start()) => Line::Note,
        b';' => Line::Source,
        b'f' if line.starts_with("from ") => from(line).unwrap_or(Line::Message(line)),
        b'f' if line.starts_with("func#") => Line::Start,
        b'V' if line.starts_with("Validating ") => Line::Start,
        b'c' if line.starts_with("callee:") => Line::Callee,
        b't' if line.starts_with("to caller at ") => Line::Caller,
        _ if STATS.iter().any(|start| line.starts_with(start)) => Line::Stat,
        _ if NOTES.iter().any(|start| line.starts_with(start)) => Line::Note,
        _ if is_backtrack(line) || is_argument(line) => Line::Note,
        _ if is_state(line) => Line::State(line),
        _ => Line::Message(line),
    }
}

/// `func 'ssthresh' arg0 has btf_id 2953 type STRUCT 'sock'`: what an argument was found to be.
fn is_argument(line: &str) -> bool {
    line.starts_with("func '") && line.contains(" has btf_id ")
}

/// The number at the front, and what follows it.
pub(super) fn number(text: &str) -> Option<(usize, &str)> {
    let end = text
        .bytes()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

/// `17: (71) …`, `17: R1=…`, `17: safe` or `17:`.
fn numbered(line: &str) -> Line<'_> {
    let Some((slot, rest)) = number(line) else {
        return Line::Message(line);
    };
    let Some(rest) = rest.strip_prefix(':') else {
        return Line::Message(line);
    };
    let rest = rest.trim_start();
    if let Some((code, text)) = opcode(rest) {
        // No instruction has a semicolon in its text.
        let (text, after) = text
            .split_once(';')
            .or_else(|| jumped(text))
            .unwrap_or((text, ""));
        return Line::Step(Step {
            slot,
            code,
            text: text.trim(),
            after: after.trim(),
        });
    }
    match rest {
        "" | "safe" => Line::Note,
        state if is_state(state) => Line::State(state),
        _ => Line::Message(line),
    }
}

/// `if r2 == 0x3 goto pc+1 7: R1=…`: at log level 1 the lines of a branch that was accepted are taken
/// back, and the other branch goes on in the same line.
fn jumped(text: &str) -> Option<(&str, &str)> {
    let (at, state) = text
        .match_indices(": ")
        .map(|(at, _)| (at, &text[at + 2..]))
        .find(|(_, state)| is_state(state))?;
    let head = text[..at].trim_end_matches(|c: char| c.is_ascii_digit());
    head.ends_with(' ').then_some((head, state))
}

/// `(71) …`.
fn opcode(text: &str) -> Option<(u8, &str)> {
    let (code, text) = text.strip_prefix('(')?.split_once(") ")?;
    if code.len() != 2 {
        return None;
    }
    Some((u8::from_str_radix(code, 16).ok()?, text))
}

/// `from 3 to 7: R1=…`, `from 3 to 7 (speculative execution): safe`.
fn from(line: &str) -> Option<Line<'_>> {
    let (at, rest) = number(line.strip_prefix("from ")?)?;
    let (_, rest) = number(rest.strip_prefix(" to ")?)?;
    let (head, state) = rest.split_once(':')?;
    if !(head.is_empty() || head.starts_with(" (")) {
        return None;
    }
    let state = state.trim();
    if state == "safe" {
        return Some(Line::Note);
    }
    Some(Line::From(at, state))
}

/// `R1=…`, `R1_w=…`, `frame1: …`, `fp-8=…`: the beginning of a state.
fn is_state(text: &str) -> bool {
    for start in ["R", "fp-", "frame"] {
        if let Some((_, rest)) = text.strip_prefix(start).and_then(number) {
            let rest = rest.trim_start_matches(['_', 'r', 'w', 'D', 'P']);
            return match start {
                "frame" => rest.starts_with(':') && !rest[1..].trim_start().starts_with("regs="),
                _ => rest.starts_with('='),
            };
        }
    }
    ["refs=", "cb", "async_cb"].iter().any(|word| {
        text.split(' ')
            .next()
            .is_some_and(|first| first.starts_with(word))
    })
}

/// `frame0: regs=4 stack=0 before 3: …`.
fn is_backtrack(line: &str) -> bool {
    line.strip_prefix("frame")
        .and_then(number)
        .is_some_and(|(_, rest)| rest.trim_start_matches([':', ' ']).starts_with("regs="))
}

/// `  0: .1........ (bf) r6 = r1`: the listing with which a detailed log begins.
fn is_listing(text: &str) -> bool {
    number(text).is_some_and(|(_, rest)| rest.starts_with(": ") && rest.contains(" ("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Line<'_>) {
        assert_eq!(line(text), expect, "{text}");
    }

    const fn step<'a>(slot: usize, code: u8, text: &'a str, after: &'a str) -> Line<'a> {
        Line::Step(Step {
            slot,
            code,
            text,
            after,
        })
    }

    #[test]
    fn instructions() {
        check(
            "17: (71) r2 = *(u8 *)(r1 +0)",
            step(17, 0x71, "r2 = *(u8 *)(r1 +0)", ""),
        );
        check(
            "4: (bf) r2 = r10                      ; R2_w=fp0 R10=fp0",
            step(4, 0xbf, "r2 = r10", "R2_w=fp0 R10=fp0"),
        );
        check(
            "1: (15) if r2 == 0x3 goto pc+1 3: R1=ctx() R2=3 R10=fp0",
            step(1, 0x15, "if r2 == 0x3 goto pc+1", "R1=ctx() R2=3 R10=fp0"),
        );
        check("99999999999999999999: (bf) r2 = r10", {
            Line::Message("99999999999999999999: (bf) r2 = r10")
        });
        check("4 items", Line::Message("4 items"));
        check("4: (bf)", Line::Message("4: (bf)"));
        check("4: (bfx) r1", Line::Message("4: (bfx) r1"));
    }

    #[test]
    fn states() {
        for text in [
            "R1=ctx() R10=fp0",
            "R1_w=scalar()",
            "R2_rwD=inv5",
            "frame1: R1=ctx()",
            "fp-8_w=0",
            "refs=2",
        ] {
            check(text, Line::State(text));
            check(&format!("3: {text}"), Line::State(text));
            check(&format!(" {text}"), Line::State(text));
            check(
                &format!("from 3 to 7 (speculative execution): {text}"),
                Line::From(3, text),
            );
        }
    }

    #[test]
    fn what_the_verifier_says_of_its_work() {
        for text in [
            "from 3 to 7: safe",
            "7: safe",
            "mark_precise: frame0: last_idx 3 first_idx 0 subseq_idx -1",
            "frame0: regs=r2 stack= before 3: (b7) r2 = 1",
            "frame1: regs=r2 stack= before 3: (b7) r2 = 1",
            "regs=4 stack=0 before 3: (b7) r2 = 1",
            "old state: R1=ctx()",
            "  0: .1........ (bf) r6 = r1",
            "Func#1 ('bump') is global and assumed valid.",
        ] {
            check(text, Line::Note);
        }
        check("; r2 = 1 @ a.rs:3", Line::Source);
        check("", Line::Blank);
        check("\r", Line::Blank);
        check("to caller at 4:", Line::Caller);
        check("func#0 @0", Line::Start);
    }

    #[test]
    fn sentences() {
        for text in [
            "R0 invalid mem access 'map_value_or_null'",
            "R1 !read_ok",
            "R1 type=ctx expected=fp, map_key",
            "frame pointer is read only",
            "from here on",
            "calling kernel function bpf_x is not allowed",
            "fd 3 is not pointing to valid bpf_map",
            "same insn cannot be used with different pointers",
        ] {
            check(text, Line::Message(text));
        }
    }
}
