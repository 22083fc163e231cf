//! `btf`: types of the kernel and of files, printed, looked for and compared.

mod diff;
mod dump;
mod find;
mod glob;
mod json;
mod layout;
mod pick;
mod source;

use crate::args::btf::Btf;
use crate::{DONE, Failure, Out, TROUBLE};
use source::Source;
use std::borrow::Cow;

/// Does what a command line asks for, and gives the exit status.
pub(crate) fn run(
    asked: Btf,
    out: &mut Out<'_>,
    note: &mut dyn FnMut(String),
) -> Result<u8, Failure> {
    match asked {
        Btf::Dump {
            origin,
            types,
            detail,
        } => {
            let source = Source::open(&origin)?;
            source.note().into_iter().for_each(note);
            dump::run(&source, &types, detail, out)?;
            Ok(DONE)
        }
        Btf::Find {
            origin,
            patterns,
            kind,
            form,
        } => {
            let source = Source::open(&origin)?;
            source.note().into_iter().for_each(note);
            find::run(&source, &patterns, kind, form, out)?;
            Ok(DONE)
        }
        Btf::Diff {
            old,
            new,
            types,
            form,
        } => {
            let (old, new) = (Source::open(&old), Source::open(&new));
            let (old, new) = (old.map_err(trouble)?, new.map_err(trouble)?);
            // Both may be on top of the kernel's, and be told the same.
            old.note().or(new.note()).into_iter().for_each(note);
            diff::run(&old, &new, &types, form, out).map_err(trouble)
        }
    }
}

/// A failure of a command whose status 1 means something else.
fn trouble(failure: Failure) -> Failure {
    match failure {
        Failure::Failed(line) => Failure::Status(TROUBLE, line),
        other => other,
    }
}

/// Text of several lines whose names may hold anything: control characters are spelled out.
fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || c == '\u{feff}';
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A declaration on one line: bodies of structures without a name are left out.
fn brief(text: &str) -> String {
    let mut out = String::new();
    let mut depth: u32 = 0;
    for c in text.chars() {
        match c {
            '{' => {
                if depth == 0 {
                    out.push_str("{…}");
                }
                depth += 1;
            }
            '}' => depth = depth.saturating_sub(1),
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    crate::visible(&out)
}

#[cfg(test)]
mod tests {
    use super::{brief, printable};

    #[test]
    fn texts_do_not_steer_a_terminal() {
        assert_eq!(printable("a\n\tb;"), "a\n\tb;");
        assert_eq!(printable("a\u{1b}[2J\n"), "a\\u{1b}[2J\n");
    }

    #[test]
    fn bodies_are_left_out() {
        let text = "struct {\n\tunion {\n\t\tint a;\n\t};\n} [3]";
        assert_eq!(brief(text), "struct {…} [3]");
        assert_eq!(brief("char *"), "char *");
    }
}
