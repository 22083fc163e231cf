//! The other commands.

use super::{Kind, Operand, Opt, Section, Spec};
use crate::commands::words::{Exit, Names, Shell};

const PRINT: &[Exit] = &[Exit::Done, Exit::Failed, Exit::Usage];

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "shell",
        section: Section::Other,
        summary: "commands one after the other, with completion",
        text: "\
Reads the commands of this page without the program's name, one on each line, and runs them. Tab completes commands, \
options and names of what is there; arrows and Ctrl-R bring back lines of before. Ctrl-D or `exit` ends it. Where \
standard input is no terminal, it runs the lines that it reads there, and stops at the first that fails.",
        usage: &[],
        operands: &[],
        options: &[],
        examples: &[("shell", "")],
        exits: &[
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Absent,
        ],
    },
    Spec {
        name: "completions",
        section: Section::Other,
        summary: "print what lets a shell complete these commands",
        text: "\
Prints a script for the shell. Names of proxies, groups and targets are asked of the daemon while one types; where \
none runs, there are none.",
        usage: &[],
        operands: &[Operand::one(
            "SHELL",
            Kind::Words(Shell::WORDS),
            "bash, zsh or fish",
        )],
        options: &[],
        examples: &[
            (
                "completions bash > /usr/share/bash-completion/completions/bpfsmith-proxy",
                "for everybody",
            ),
            (
                "completions zsh > ~/.zfunc/_bpfsmith-proxy",
                "in a directory that is in fpath",
            ),
            (
                "completions fish > ~/.config/fish/completions/bpfsmith-proxy.fish",
                "for oneself",
            ),
        ],
        exits: PRINT,
    },
    Spec {
        name: "man",
        section: Section::Other,
        summary: "print the manual page, or write it to a directory",
        text: "\
Prints bpfsmith-proxy(8), which has all of these pages, for man(1) or another reader of roff.",
        usage: &[],
        operands: &[],
        options: &[Opt::value(
            "--output",
            "DIRECTORY",
            Kind::Directory,
            "write bpfsmith-proxy.8 to this directory instead, in the place of one that is there",
        )
        .short('o')],
        examples: &[
            ("man | man -l -", "read it"),
            ("man --output /usr/local/share/man/man8", "install it"),
        ],
        exits: PRINT,
    },
    Spec {
        name: "help",
        section: Section::Other,
        summary: "print this page, or that of a command",
        text: "\
Prints the page of a command; without one, what commands there are.",
        usage: &["[COMMAND]"],
        operands: &[Operand::optional(
            "COMMAND",
            Kind::Command,
            "a command, such as `add` or `route add`",
        )],
        options: &[],
        examples: &[("help add", ""), ("help route add", "")],
        exits: PRINT,
    },
    Spec {
        name: "version",
        section: Section::Other,
        summary: "print the version",
        text: "\
Prints the program's name and its version. `--version` and `-V` in the place of a command do the same.",
        usage: &[],
        operands: &[],
        options: &[],
        examples: &[("version", "")],
        exits: PRINT,
    },
    Spec {
        name: "__names",
        section: Section::Hidden,
        summary: "names that completions ask for, one on each line",
        text: "\
Prints names of what the daemon keeps, for completions. It prints nothing, and is content with that, where no daemon \
is there.",
        usage: &[],
        operands: &[Operand::one(
            "WHAT",
            Kind::Words(Names::WORDS),
            "proxies, groups, targets or devices",
        )],
        options: &[],
        examples: &[],
        exits: &[Exit::Done, Exit::Usage],
    },
];
