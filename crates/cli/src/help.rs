//! The pages of help.

use crate::args::{Objects, type_names};

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
    /// `bpfsmith run`.
    Run,
    /// `bpfsmith probe`.
    Probe,
    /// `bpfsmith btf`.
    Btf,
    /// `bpfsmith progs`, `maps` or `links`.
    Objects(Objects),
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
            Topic::Run => format!("{RUN}{}", types()),
            Topic::Probe => PROBE.to_owned(),
            Topic::Btf => BTF.to_owned(),
            Topic::Objects(Objects::Progs) => PROGS.to_owned(),
            Topic::Objects(Objects::Maps) => MAPS.to_owned(),
            Topic::Objects(Objects::Links) => LINKS.to_owned(),
        }
    }
}

const OVERVIEW: &str = "\
bpfsmith: BPF programs as text and bytes, checked and run

Usage: bpfsmith COMMAND [OPTION…] [FILE]

Commands:
  asm       turn text in the kernel's syntax into bytes
  disasm    turn bytes into text that asm accepts
  check     say what is wrong with a program before a kernel does
  run       load a program and run it on given input
  probe     say what the running kernel can do
  progs     list, show and dump the programs that are loaded
  maps      list, show and dump maps
  links     list and show links
  btf       print, find and compare types of the kernel and of files
  help      show this page, or that of a command: bpfsmith help asm

Options:
  -h, --help       show this page, or behind a command its page
  -V, --version    show the version

FILE is - or left out for standard input.

Exit status:
  0    done; the checker has warnings at most
  1    the input or the kernel refuses, or a file cannot be read or written
  2    the command line is refused
For btf diff 1 means that there are differences, and 2 all that goes wrong.
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

Types (tc is sched_cls):
";

const RUN: &str = "\
Load a program and run it on given input, without attaching it

Usage: bpfsmith run [--format text|hex|raw] [--type TYPE] [--input HEX|FILE]
                    [--ctx HEX|FILE] [--repeat N] [--json] [FILE]

  retval    2 (XDP_PASS)
  duration  31 ns
  data_out  64 bytes, 1 changed
    0000  2a 00 00 00 00 00 00 00  00 00 00 00 08 00 45 00
     was  00

Below a line of the packet stands what the program changed in it. Maps that the
text describes with `map` lines are made for the run. A program that the
verifier refuses is shown with the instruction, what was known before it, and a
hint; the exit status is 1.

What only the kernel knows stands behind an instruction that has 0 for it, and
*(u64 *) for its width:

  r1 = *(u64 *)(r6 + 0) @field[task_struct.tgid]
  r2 = 0 @const[TCP_CA_Loss]
  r3 = 0 @has_field[task_struct.no_such_thing]

Options:
  --format FORMAT    text: the kernel's syntax, as asm reads it (default)
                     hex:  pairs of digits, white space between them
                     raw:  the bytes that a little-endian machine reads
  --type TYPE        what kind of program it is. Without it the text's own
                     `program NAME TYPE` line decides.
  --input HEX|FILE   the packet: pairs of digits, or a file (./ff is one).
                     Without it 64 zero bytes, where the type sees packets.
  --ctx HEX|FILE     the context, as the kernel lays it out for the type
  --repeat N         run N times: the last answer and the average time
  --json             an object with program, type, retval, action (may be
                     null), duration_ns, repeat, and in hex data_in, data_out
                     and ctx_out
  -h, --help         show this page

Types (tc is sched_cls):
";

const PROBE: &str = "\
Say what the running kernel can do

Usage: bpfsmith probe [--json] [GROUP…]

Everything is tried, nothing is concluded from a version: a small program, map
or link that the kernel accepts or refuses with a reason. Nothing stays behind.
`unknown` means that the kernel did not answer the question, most often because
this user may not ask it.

Groups (all without one):
  prog        program types
  map         map types
  attach      places that programs attach to
  link        kinds of links
  isa         instructions
  feature     the rest, from BTF to device-bound XDP
  struct_ops  kernel interfaces that BPF can implement
  helper      helpers, and the program types that may call them
  kfunc       kernel functions, and the program types that may call them

Options:
  --json             {\"rows\":[ROW]}; ROW has group, name, type (the program type
                     for helper and kfunc, else null), support (yes, no or
                     unknown) and reason (may be null)
  -h, --help         show this page
";

const PROGS: &str = "\
List, show and dump the programs that are loaded

Usage: bpfsmith progs [list] [--json]
       bpfsmith progs show ID [--json]
       bpfsmith progs dump ID [--jited] [--json]

  list       one line for each program (default)
  show ID    all that the kernel tells of one
  dump ID    its instructions as the verifier left them

Options:
  --jited            dump machine code instead, as hex, function by function
  --json             list: {\"progs\":[PROG]}; show: PROG, which has id, type,
                     name, tag, loaded_ns, uid, xlated, jited, maps, btf,
                     verified, runs, run_time_ns, misses and gpl
                     dump: id and insns, a list of objects with slot and text;
                     with --jited id and functions, with address and code
  -h, --help         show this page
";

const MAPS: &str = "\
List, show and dump maps

Usage: bpfsmith maps [list] [--json]
       bpfsmith maps show ID [--json]
       bpfsmith maps dump ID [--json]

  list       one line for each map (default)
  show ID    all that the kernel tells of one
  dump ID    its entries: in C where the map says what its bytes mean, else in
             hex; in per-CPU maps a value for each CPU

Options:
  --json             list: {\"maps\":[MAP]}; show: MAP, which has id, type, name,
                     key, value, entries, flags, extra and btf (may be null)
                     dump: id, per_cpu and entries, a list of objects with key,
                     values (one, or one for each CPU) and error (may be null);
                     keys and values have hex and text (may be null)
  -h, --help         show this page
";

const LINKS: &str = "\
List and show links

Usage: bpfsmith links [list] [--json]
       bpfsmith links show ID [--json]

  list       one line for each link: what holds which program where (default)
  show ID    all that the kernel tells of one; dump ID does the same

Options:
  --json             list: {\"links\":[LINK]}; show: LINK, which has id, type,
                     prog and place, an object whose members depend on type
  -h, --help         show this page
";

const BTF: &str = "\
Print, find and compare types of the kernel and of files

Usage: bpfsmith btf dump [TYPE…] [--deep|--raw|--json] [FROM]
       bpfsmith btf find PATTERN… [--kind KIND] [--json] [FROM]
       bpfsmith btf diff OLD NEW [TYPE…] [--json] [--base FILE]

  dump    types in C: of those that are named every member with its place, as
          /* offset size */ in bytes or /* offset:bit bits */, and the holes;
          without TYPE all of them, as a header for -std=gnu11 in which each
          member has its place
  find    types, functions, variables, constants; with a dot members; a line for
          each: kind, number of the type, size in bytes, declaration
  diff    what is added (+), removed (-) or changed (~) between two places

  $ bpfsmith btf find tcp_sock.snd_cwnd
  member      #3021        4  tcp_sock.snd_cwnd at 1444: u32

TYPE is a name (tcp_sock), with its kind ('struct tcp_sock'), a pattern
('tcp_*': * is any text, ? one character) or a number (#3021). PATTERN is a name
or pattern of any kind, or a path of them: tcp_sock.snd_*, 'net.ipv4.*'.

FROM, the running kernel without it:
  --file FILE        a file of BTF, or an ELF file with a section .BTF
  --module MODULE    a module that is loaded
  --id N             BTF in the kernel, as progs and maps show it
  --base FILE        the types that those of FILE continue
OLD and NEW are files, kernel, module:NAME or id:N.

Options:
  --deep             dump TYPE as a header, with all that it needs
  --raw              dump records, in the form of bpftool btf dump
  --kind KIND        find only these: member, constant, struct, union, enum,
                     typedef, func, var, int, float, fwd, datasec, decl_tag or
                     type_tag; member finds members of any type by name alone
  --json             dump: {\"types\":[TYPE]}; TYPE has id, kind, name and size
                     (may be null), and by its kind members (name, bit_offset,
                     bits, bit_field), constants (name, value), params (name),
                     variables (name, offset, size), signed, bits, length,
                     linkage, part; what refers to a type has type_id and type
                     find: {\"found\":[HIT]}; HIT has kind, id, name, bits (may be
                     null) and text; members have bit_offset, bit_field and
                     type, constants have value
                     diff: {\"old\":O,\"new\":N,\"differences\":[D]}; D has
                     difference (added, removed or changed), kind, name, old_id,
                     new_id, old_size, new_size (may be null) and changes, a
                     list of change (size, added, removed, moved, became), name,
                     old and new (may be null)
  -h, --help         show this page

The exit status of diff is 0 without differences, 1 with some, 2 if something
goes wrong.
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
