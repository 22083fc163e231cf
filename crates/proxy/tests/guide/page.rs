//! The guide as a text: its blocks, their commands, and whether what a command prints is what they say.

/// A block of code of the guide.
#[derive(Debug)]
pub(crate) struct Block {
    /// The line of its first line.
    pub(crate) line: usize,
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Commands on the proxy's machine.
    Here,
    /// Commands at a client.
    Client,
    /// The daemon, which goes on running.
    Daemon,
    /// Commands that are only to be read.
    NotRun,
    /// What the daemon says some time.
    Log,
    /// The file of configuration from now on.
    File,
    /// A configuration, or a part of one.
    Example,
}

/// A command and what it prints.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) command: String,
    pub(crate) printed: Vec<String>,
}

/// The blocks of a text.
#[track_caller]
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block {
                    line: number + 1,
                    kind: kind(number, info),
                    text: String::new(),
                });
            }
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "the last block has no end");
    blocks
}

/// What is written behind the beginning of a block.
#[track_caller]
fn kind(line: usize, info: &str) -> Kind {
    match info.split_whitespace().collect::<Vec<_>>()[..] {
        ["sh"] => Kind::Here,
        ["sh", "client"] => Kind::Client,
        ["sh", "daemon"] => Kind::Daemon,
        ["sh", "no-run"] => Kind::NotRun,
        ["log"] => Kind::Log,
        ["toml", "first" | "change"] => Kind::File,
        ["toml"] => Kind::Example,
        _ => panic!("line {line}: a block of {info:?} is nothing that is known"),
    }
}

impl Block {
    /// Its commands: lines that begin with a dollar, and what is between them is printed.
    #[track_caller]
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for (line, text) in (self.line..).zip(self.text.lines()) {
            match (text.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    line,
                    command: command.to_owned(),
                    printed: Vec::new(),
                }),
                (None, Some(step)) => step.printed.push(text.to_owned()),
                (None, None) => panic!("line {line}: a block of commands begins with `$ `"),
            }
        }
        steps
    }
}

/// Whether lines are what was expected: `…` stands for anything in a line, and alone for any lines.
pub(crate) fn fits(expected: &[&str], lines: &[&str]) -> bool {
    match (expected, lines) {
        ([], []) => true,
        (["…", rest @ ..], _) => (0..=lines.len()).any(|skipped| fits(rest, &lines[skipped..])),
        ([first, rest @ ..], [line, more @ ..]) => line_fits(first, line) && fits(rest, more),
        _ => false,
    }
}

/// The same of a line. How many spaces are between words does not count: columns are as wide as they have to be.
pub(crate) fn line_fits(expected: &str, line: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, line) = (words(expected), words(line));
    let mut parts = expected.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn lines_fit() {
    assert!(fits(&["a … c", "…", "z"], &["a  b c", "1", "2", "z"]));
    assert!(fits(&["…"], &[]));
    assert!(fits(&["up …, g …"], &["up 1 s, g 2"]));
    assert!(!fits(&["a"], &["a", "b"]));
    assert!(!fits(&["a…b"], &["ab c"]));
    assert!(!fits(&["…a", "b"], &["a"]));
}
