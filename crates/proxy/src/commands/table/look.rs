//! Commands that look.

use super::{Kind, Opt, Section, Spec};
use crate::commands::words::{By, EVENTS, Exit, Names, STATES, Sort};
use bpfsmith_config::desired::Protocol;

const ASK: &[Exit] = &[
    Exit::Done,
    Exit::Failed,
    Exit::Usage,
    Exit::Absent,
];

/// Connections or events of one proxy.
const PROXY: Opt = Opt::value(
    "--proxy",
    "NAME",
    Kind::Known(Names::Proxies),
    "only those of this proxy",
);

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "status",
        section: Section::Look,
        summary: "how everything stands: proxies, targets, counters",
        text: "\
Prints who listens where, how each target stands and what share of connections it gets, devices with their \
programs, counters of packets by what became of them, and notes about what is not as it should be.",
        usage: &[],
        operands: &[],
        options: &[],
        examples: &[
            ("status", "for people"),
            ("status --json", "for programs"),
        ],
        exits: ASK,
    },
    Spec {
        name: "top",
        section: Section::Look,
        summary: "the same as a live screen, with rates",
        text: "\
Shows proxies, targets, connections, rates and refused packets by reason, again and again. q or Ctrl-C ends it; \
the screen says which keys there are.",
        usage: &[],
        operands: &[],
        options: &[
            Opt::value(
                "--interval",
                "TIME",
                Kind::Time,
                "look so often: a number of seconds, or a time like 500ms; 1s without it",
            )
            .short('i'),
            Opt::flag(
                "--once",
                "look twice, one interval apart, print one screen, and end; also without a terminal",
            ),
        ],
        examples: &[
            ("top", "look each second"),
            ("top --interval 5", "look each five seconds"),
            ("top --once", "one screen, for a log"),
        ],
        exits: ASK,
    },
    Spec {
        name: "conns",
        section: Section::Look,
        summary: "connections: chosen, sorted, or put together",
        text: "\
Prints a line for each connection that the proxy remembers now: who came, where to, who answers, its state, age, \
and traffic of both ways. Conditions that are given together all have to be true. With `--by`, connections \
are put together, and each line has a sum.",
        usage: &[],
        operands: &[],
        options: &[
            Opt::value(
                "--protocol",
                "PROTOCOL",
                Kind::Words(Protocol::WORDS),
                "only those of tcp or udp",
            ),
            Opt::value(
                "--client",
                "PREFIX",
                Kind::Client,
                "only those of clients whose addresses begin so; with a port, only those from it",
            ),
            Opt::value(
                "--service",
                "ADDRESS",
                Kind::Peer,
                "only those to this address that clients ask for; without a port, at any of its ports",
            ),
            Opt::value(
                "--target",
                "ADDRESS",
                Kind::Peer,
                "only those that this target answers; without a port, at any of its ports",
            ),
            PROXY,
            Opt::value(
                "--state",
                "STATE",
                Kind::Words(STATES),
                "only those that stand so: opening, established, closing, closed or reset",
            ),
            Opt::flag(
                "--open",
                "only those that are not over: closed and reset ones are remembered for a while",
            ),
            Opt::value(
                "--sort",
                "KEY",
                Kind::Words(Sort::WORDS),
                "the most of this first: age, idle, bytes or packets; age without it. With `--by` only bytes \
                 and packets, and without it the number of connections",
            )
            .short('s'),
            Opt::value(
                "--by",
                "WHAT",
                Kind::Words(By::WORDS),
                "a line for each source, target, proxy or listener, not for each connection",
            )
            .short('b'),
            Opt::value(
                "--limit",
                "N",
                Kind::Number {
                    least: 1,
                    most: u32::MAX as u64,
                },
                "no more than so many lines; the last one says how many there are",
            )
            .short('n'),
        ],
        examples: &[
            ("conns", "all of them, the oldest first"),
            (
                "conns --client 10.0.0.0/8 --state established",
                "those of a network that are established",
            ),
            ("conns --sort bytes --limit 10", "the ten largest"),
            ("conns --by source --json", "who has how many"),
            (
                "conns --protocol tcp --client 10.0.0.7:40000 --service 192.0.2.80:80",
                "one connection, which alone is looked for",
            ),
        ],
        exits: ASK,
    },
    Spec {
        name: "events",
        section: Section::Look,
        summary: "what happens to connections, as it happens",
        text: "\
Prints events of connections: a connection is new, it is closed, it lives still, or a packet that would begin one \
was refused and why. Without `--follow` it prints the last ones that the daemon remembers. New, closed and \
periodic events come only where the configuration says `events = true`, or after `set settings.events true`.\n\
\n\
A connection that ended is told of when it is forgotten, which `settings.timeouts` says; how long it lasted is \
counted up to its last packet. Times are UTC.\n\
\n\
Who reads too slowly loses events, and is told how many.",
        usage: &[],
        operands: &[],
        options: &[
            Opt::flag("--follow", "go on with what happens, until Ctrl-C").short('f'),
            Opt::value(
                "--kind",
                "KIND,…",
                Kind::Several(EVENTS),
                "only these: new, closed, refused or periodic, with commas between them",
            )
            .short('k')
            .repeated(),
            PROXY,
        ],
        examples: &[
            ("events --follow", "all that happens"),
            (
                "events --follow --kind refused",
                "who is turned away, and why",
            ),
            (
                "events --follow --json --proxy web",
                "a table of JSON on each line",
            ),
        ],
        exits: ASK,
    },
    Spec {
        name: "config",
        section: Section::Look,
        summary: "the configuration that runs",
        text: "\
Prints what the daemon keeps at present, as a configuration in TOML: what the file said, and all changes since, \
also those that are not saved.",
        usage: &[],
        operands: &[],
        options: &[],
        examples: &[
            ("config", "in TOML"),
            ("config --json", "in JSON"),
        ],
        exits: ASK,
    },
];
