//! Commands that run something.

use super::{Kind, Operand, Opt, Section, Spec};
use crate::commands::words::Exit;

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "run",
        section: Section::Run,
        summary: "be the daemon: keep what a configuration asks for",
        text: "\
Reads the configuration, attaches programs, checks targets and answers at the control socket until it is told \
to end. It stays in the foreground, as systemd wants it, and writes to standard output. Who changes the file, or \
sends SIGHUP, changes what runs; a file that is wrong changes nothing.\n\
\n\
Programs and connections outlive it: after its end, however it came, traffic goes on, and the next `run` takes \
over what it finds. `detach` is what ends that.",
        usage: &[],
        operands: &[Operand::optional(
            "CONFIG",
            Kind::File,
            "the configuration; /etc/bpfsmith-proxy.toml without it",
        )],
        options: &[Opt::value(
            "--config",
            "FILE",
            Kind::File,
            "the same, for those who like names better than places",
        )
        .short('c')],
        examples: &[
            ("run", "what the systemd unit does"),
            ("run ./web.toml", "another configuration"),
            (
                "--socket /run/web.sock run ./web.toml",
                "another control socket than the configuration says",
            ),
        ],
        exits: &[
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Wrong,
        ],
    },
    Spec {
        name: "demo",
        section: Section::Run,
        summary: "show all of it on this machine: clients, a proxy, targets",
        text: "\
Makes network namespaces for clients, a proxy and two targets, serves HTTP there, sends real requests, and shows \
what happens while a target is killed, another is drained and the configuration changes. Everything that it \
made is gone afterwards, also when it is interrupted. It needs root, and nothing but this program.",
        usage: &[],
        operands: &[],
        options: &[
            Opt::flag(
                "--plain",
                "print lines, one after the other, and no live screen; also where standard output is no terminal",
            ),
            Opt::value(
                "--rounds",
                "N",
                Kind::Number {
                    least: 1,
                    most: 1_000_000,
                },
                "send so many requests in each act, instead of as many as make it worth looking at",
            ),
        ],
        examples: &[
            ("demo", "takes about half a minute"),
            ("demo --plain --rounds 20", "short, and for a log"),
        ],
        exits: &[Exit::Done, Exit::Failed, Exit::Usage],
    },
];
