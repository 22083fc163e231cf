//! Commands that prepare, explain and clean up.

use super::{Kind, Operand, Opt, Section, Spec};
use crate::commands::words::{Exit, Format, Hook, Names};

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "check",
        section: Section::Prepare,
        summary: "say what is wrong with configurations",
        text: "\
Reads configurations without touching the kernel or a daemon, and prints all that is wrong with them, each problem \
with its line and column and what is allowed. Names of hosts are not looked up.",
        usage: &[],
        operands: &[Operand::some(
            "FILE",
            Kind::File,
            "a configuration; - stands for standard input",
        )],
        options: &[Opt::value(
            "--format",
            "FORMAT",
            Kind::Words(Format::WORDS),
            "what all of them are written in: toml, json or edn (of clj-ebpf); without it endings say, and standard \
             input is toml",
        )],
        examples: &[
            ("check /etc/bpfsmith-proxy.toml", "before a reload"),
            ("check --json --format json -", "for an editor"),
        ],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Wrong],
    },
    Spec {
        name: "import",
        section: Section::Prepare,
        summary: "make a configuration of one of clj-ebpf",
        text: "\
Reads a configuration in EDN, as clj-ebpf has it, and prints the same in TOML. What has no equivalent is told, and \
nothing is printed then.",
        usage: &[],
        operands: &[Operand::one(
            "FILE",
            Kind::File,
            "the EDN; - stands for standard input",
        )],
        options: &[Opt::value(
            "--output",
            "FILE",
            Kind::File,
            "write to this file, which must not be there yet; - stands for standard output, as usual",
        )
        .short('o')],
        examples: &[
            ("import lb.edn", "look at it"),
            ("import lb.edn --output lb.toml", "keep it"),
        ],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Wrong],
    },
    Spec {
        name: "doctor",
        section: Section::Prepare,
        summary: "say what this machine lacks, and how to give it that",
        text: "\
Looks at the kernel, privileges, network devices with their drivers and offloads, sysctls, MTU and neighbours, sends a \
packet through the programs in a place of its own, and says for each what is right, what is not, and which command \
changes it. It changes nothing itself. The exit status is 1 if anything stands in the way.",
        usage: &[],
        operands: &[Operand::optional(
            "CONFIG",
            Kind::File,
            "look at what this configuration needs; without it, at /etc/bpfsmith-proxy.toml if that is there",
        )],
        options: &[],
        examples: &[
            ("doctor", "before the first start"),
            ("doctor ./web.toml --json", "for a machine that is made by a program"),
        ],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Wrong],
    },
    Spec {
        name: "explain",
        section: Section::Prepare,
        summary: "the programs that a configuration makes, as text",
        text: "\
Prints the listing of each program that this configuration would load, with the lines of Rust that each instruction \
comes from. Nothing is loaded.",
        usage: &[],
        operands: &[Operand::optional(
            "CONFIG",
            Kind::File,
            "the configuration; /etc/bpfsmith-proxy.toml without it",
        )],
        options: &[
            Opt::value(
                "--hook",
                "HOOK",
                Kind::Words(Hook::WORDS),
                "only the program that runs there: tcx (where packets come in), xdp (the same, in the driver) or out \
                 (where they go out)",
            ),
            Opt::value(
                "--device",
                "NAME",
                Kind::Known(Names::Devices),
                "only programs of this network device",
            )
            .short('d'),
        ],
        examples: &[
            ("explain", "all of them"),
            ("explain ./web.toml --hook xdp --device eth0", "one"),
        ],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Wrong],
    },
    Spec {
        name: "detach",
        section: Section::Prepare,
        summary: "take programs and maps out of the kernel",
        text: "\
Takes out all that a daemon has left pinned in this directory, and nothing else: programs are gone from their \
devices, and connections that went by them end. It is refused while the daemon runs.",
        usage: &[],
        operands: &[],
        options: &[Opt::value(
            "--pins",
            "DIRECTORY",
            Kind::Directory,
            "where they are pinned; /sys/fs/bpf/bpfsmith-proxy without it",
        )],
        examples: &[("detach", "after the daemon has been stopped for good")],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage],
    },
];
