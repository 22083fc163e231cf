//! The pages of help.

use crate::args::type_names;

/// What a page is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// All commands.
    Overview,
    /// `bpfsmith asm`.
    Asm,
    /// `bpfsmith disasm`.
    Disasm,
    /// `bpfsmith check`.
    Check,
}

impl Topic {
    /// The page, with a line's end behind each line.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Topic::Overview => OVERVIEW.to_owned(),
            Topic::Asm => ASM.to_owned(),
            Topic::Disasm => DISASM.to_owned(),
            Topic::Check => format!("{CHECK}{}", types()),
        }
    }
}

const OVERVIEW: &str = "\
bpfsmith: BPF instructions from text to bytes, back, and checked

Usage: bpfsmith COMMAND [OPTION…] [FILE]

Commands:
  asm       turn text in the kernel's syntax into bytes
  disasm    turn bytes into text that asm accepts
  check     say what is wrong with a program before a kernel does
  help      show this page, or that of a command: bpfsmith help asm

Options:
  -h, --help       show this page, or behind a command its page
  -V, --version    show the version

FILE is - or left out for standard input.

Exit status:
  0    done; the checker has warnings at most
  1    the input is refused, or a file cannot be read or written
  2    the command line is refused
";

const ASM: &str = "\
Turn text in the kernel's syntax into bytes

Usage: bpfsmith asm [-o OUT] [--format hex|raw] [FILE]

The text has one instruction to a line, as the verifier's log, bpftool and
llvm-objdump print them; labels are `name:`, comments start with `;`.

  r0 = 2
  if r1 == 0 goto done
  call ktime_get_ns
done:
  exit

Options:
  -o OUT             write to OUT instead of standard output
  --format FORMAT    hex: pairs of digits, 8 bytes to a line (default)
                     raw: the bytes that a little-endian machine reads
  -h, --help         show this page

Lines of a listing that are no instructions (`program`, `map`, `func` and so on)
make no bytes. References by name (`map[hits]`) are left for loading to fill in;
a note on standard error names each of them, with its slot counted from 0.

A text that is refused writes nothing: every error goes to standard error as
FILE:LINE:COLUMN: message, and the exit status is 1.
";

const DISASM: &str = "\
Turn bytes into text that asm accepts

Usage: bpfsmith disasm [--format hex|raw] [FILE]

The text gives exactly the same bytes again: bpfsmith disasm | bpfsmith asm.
Jumps to an instruction of the program have labels, L7 for slot 7; other jumps
keep their distance.

Options:
  --format FORMAT    hex: pairs of digits, white space between them (default)
                     raw: the bytes that a little-endian machine reads
  -h, --help         show this page

Bytes that are no instruction are refused with the number of the slot, counted
from 0, and for hex with line and column; the exit status is 1.
";

const CHECK: &str = "\
Say what is wrong with a program before a kernel does

Usage: bpfsmith check [--format text|hex|raw] [--type TYPE] [FILE]

Prints every finding on standard output, one to a line:

  FILE:LINE:COLUMN: error: r2 is read but was never written: write it first

For bytes the number of the slot stands there, counted from 0. An error is what
every kernel refuses; a warning is what some may. The exit status is 0 without
errors (warnings may have been printed) and 1 with errors.

Options:
  --format FORMAT    text: the kernel's syntax, as asm reads it (default)
                     hex:  pairs of digits, white space between them
                     raw:  the bytes that a little-endian machine reads
  --type TYPE        what kind of program it is: decides which helpers it may
                     call. Without it a listing's own `program NAME TYPE` line
                     decides; without that all helpers are allowed.
  -h, --help         show this page

Types:
";

/// The program types, indented and wrapped.
fn types() -> String {
    let mut out = String::new();
    let mut line = String::from(" ");
    for name in type_names() {
        if line.len() + 1 + name.len() > 78 {
            out.push_str(&line);
            out.push('\n');
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(&name);
    }
    out.push_str(&line);
    out.push('\n');
    out
}
