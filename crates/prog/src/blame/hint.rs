//! What to do about a refusal: a table of sentences.

use super::Evidence;
use super::errno;
use super::pattern::matches;
use bpfsmith_asm::program::Program;
use bpfsmith_uapi::{Errno, Helper, ProgType};

/// What to do about a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hint {
    /// The row of the table: `null-check`.
    pub name: &'static str,
    /// What to do, in terms of the DSL.
    pub text: String,
}

/// A row: sentences of the verifier, and what to do.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Literal text and stars; any of them will do.
    pub(super) sentences: &'static [&'static str],
    /// `{1}` is the first star, `{type}` the program's type, `{callers}` the types that may call the
    /// helper named by the first star.
    pub(super) help: &'static str,
}

/// The hint for a refusal: by its sentences, or by the error number if there are none.
pub(super) fn find(
    program: &Program,
    errno: Errno,
    evidence: Evidence,
    messages: &[&str],
) -> Option<Hint> {
    if messages.is_empty() {
        return errno::find(errno, evidence);
    }
    let (row, stars) = (super::rows::ROWS.iter()).find_map(|row| {
        let stars = messages.iter().find_map(|message| row.stars(message))?;
        Some((row, stars))
    })?;
    Some(Hint {
        name: row.name,
        text: fill(row.help, &stars, program.kind()),
    })
}

impl Row {
    pub(super) fn stars<'a>(&self, message: &'a str) -> Option<Vec<&'a str>> {
        let mut patterns = self.sentences.iter();
        patterns.find_map(|pattern| matches(pattern, message))
    }
}

/// The text with its placeholders filled in.
fn fill(help: &str, stars: &[&str], kind: ProgType) -> String {
    let mut out = String::with_capacity(help.len() + 64);
    let mut rest = help;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            rest = after;
            break;
        };
        match name {
            "type" => out.push_str(&type_name(kind)),
            "callers" => out.push_str(&callers(stars.first().copied().unwrap_or_default())),
            _ => {
                let index: usize = name.parse().unwrap_or(0);
                let star = index.checked_sub(1).and_then(|index| stars.get(index));
                out.push_str(star.copied().unwrap_or("?"));
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn type_name(kind: ProgType) -> String {
    kind.name().map_or_else(|| kind.to_string(), str::to_owned)
}

/// The types that may call a helper, as far as the table knows.
fn callers(helper: &str) -> String {
    /// More names than this are no help.
    const MOST: usize = 8;
    let Some(helper) = Helper::by_name(helper) else {
        return "a newer kernel may know it".to_owned();
    };
    let allowed: Vec<String> = (ProgType::ALL.iter())
        .filter(|kind| **kind != ProgType::EXT && helper.allows(**kind))
        .map(|kind| type_name(*kind))
        .collect();
    match allowed.len() {
        0..=MOST => format!("it is for {}", allowed.join(", ")),
        n => format!("it is for {n} types, since Linux {}", helper.since),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders() {
        let fill = |help| fill(help, &["sk_assign", "b"], ProgType::XDP);
        assert_eq!(fill("{2}{1}{3}{x}"), "bsk_assign??");
        assert_eq!(fill("{type} {"), "XDP ");
        assert_eq!(
            fill("{callers}"),
            "it is for SCHED_CLS, SCHED_ACT, SK_LOOKUP"
        );
    }
}
