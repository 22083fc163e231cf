//! Commands that change what runs.

use super::{Kind, Operand, Opt, PORT, Section, Spec};
use crate::commands::words::{Exit, Format, Names};
use bpfsmith_config::desired::{Algorithm, Nat, Protocol};

const ASK: &[Exit] = &[
    Exit::Done,
    Exit::Failed,
    Exit::Usage,
    Exit::Absent,
];

/// A command that has a configuration in it.
const TELL: &[Exit] = &[
    Exit::Done,
    Exit::Failed,
    Exit::Usage,
    Exit::Absent,
    Exit::Wrong,
];

const SAVE: Opt = Opt::flag(
    "--save",
    "write it to the configuration file too; without it the change lasts until the daemon ends, or reads its file",
);

const PROXY: Operand = Operand::one("NAME", Kind::Known(Names::Proxies), "the name of the proxy");

const GROUP: Operand = Operand::one("GROUP", Kind::Known(Names::Groups), "the name of the group");

const TARGET: Opt = Opt::value(
    "--target",
    "ADDRESS[*WEIGHT]",
    Kind::Weighted,
    "who answers: 10.0.0.1:8080, [fd00::1]:8080 or host.example:8080, with its share of new connections behind a \
     star where that is not 1. All targets that are given share",
)
.short('t')
.repeated();

const ANSWERS: Opt = Opt::value(
    "--group",
    "NAME",
    Kind::Known(Names::Groups),
    "a group that is there answers, instead of targets that are given here",
)
.short('g');

const ALGORITHM: Opt = Opt::value(
    "--algorithm",
    "WORD",
    Kind::Words(Algorithm::WORDS),
    "how a target is chosen: maglev (by addresses and ports; as usual), source (by the client's address), turns, \
     or fewest (connections)",
);

const NAT: Opt = Opt::value(
    "--nat",
    "WORD",
    Kind::Words(Nat::WORDS),
    "how packets get to targets: dnat (targets see the client's address; as usual), full (they see the proxy's), or \
     direct (they answer clients themselves)",
);

const PROXY_PORT: Opt =
    Opt::value("--port", "PORT", PORT, "the port that clients go to").short('p');

const ADDRESS: Opt = Opt::value(
    "--address",
    "ADDRESS",
    Kind::Address,
    "an address that clients go to; all without it",
)
.short('a')
.repeated();

const DEVICE: Opt = Opt::value(
    "--device",
    "NAME",
    Kind::Known(Names::Devices),
    "a network device by which clients come; without it, all that have programs",
)
.short('d')
.repeated();

const PROTOCOL: Opt = Opt::value(
    "--protocol",
    "WORD",
    Kind::Words(Protocol::WORDS),
    "what is spoken: tcp (as usual) or udp; both are allowed",
)
.repeated();

const TARGET_PLACE: Operand = Operand::one(
    "TARGET",
    Kind::Known(Names::Targets),
    "who answers: 10.0.0.1:8080, [fd00::1]:8080 or host.example:8080",
);

const ONE_GROUP: Opt = Opt::value(
    "--group",
    "NAME",
    Kind::Known(Names::Groups),
    "only in this group; in all without it",
)
.short('g');

pub(super) const ROWS: &[Spec] = &[
    Spec {
        name: "add",
        section: Section::Change,
        summary: "another proxy: where clients go, and who answers",
        text: "\
Adds a proxy. It listens when this command ends, or nothing has changed. What options cannot say, such as health \
checks, limits and routes, a file can: a table as it stands in a configuration under `[[proxies]]`.",
        usage: &[
            "NAME --port PORT --target ADDRESS[*WEIGHT]… [OPTION…]",
            "NAME --port PORT --group NAME [OPTION…]",
            "--file FILE [--format FORMAT] [--save]",
        ],
        operands: &[Operand::optional(
            "NAME",
            Kind::New,
            "what it is called",
        )],
        options: &[
            PROXY_PORT,
            ADDRESS,
            DEVICE,
            PROTOCOL,
            TARGET,
            ANSWERS,
            ALGORITHM,
            NAT,
            Opt::value(
                "--file",
                "FILE",
                Kind::File,
                "a table that describes the proxy, in place of all other options but `--save`; - stands for standard \
                 input",
            ),
            Opt::value(
                "--format",
                "FORMAT",
                Kind::Words(&[Format::Toml.word(), Format::Json.word()]),
                "what the file is written in: toml or json; without it its ending says, and standard input is toml",
            ),
            SAVE,
        ],
        examples: &[
            (
                "add web --port 80 --target 10.0.0.2:8080 --target 10.0.0.3:8080*2",
                "two targets, one of which gets twice as much",
            ),
            (
                "add dns --port 53 --protocol udp --protocol tcp --group resolvers --save",
                "a group that is there answers; it is written to the file too",
            ),
            ("add --file proxy.json", "a table of JSON"),
        ],
        exits: TELL,
    },
    Spec {
        name: "update",
        section: Section::Change,
        summary: "change a proxy; what is not said stays",
        text: "\
Changes what is said here, and leaves all else of the proxy as it is. What may be there more than once replaces \
all that was there: `--target` names all targets, not another one (that is `target add`). Connections that are \
established stay where they are.",
        usage: &[],
        operands: &[PROXY],
        options: &[
            PROXY_PORT, ADDRESS, DEVICE, PROTOCOL, TARGET, ANSWERS, ALGORITHM, NAT, SAVE,
        ],
        examples: &[
            ("update web --port 8080", "clients go to another port"),
            ("update web --group blue --save", "another group answers"),
        ],
        exits: TELL,
    },
    Spec {
        name: "remove",
        section: Section::Change,
        summary: "take a proxy away",
        text: "\
Takes a proxy away: no connection begins there any more. Connections that are established go on until they end, or \
until the time is over that its targets have for that.",
        usage: &[],
        operands: &[PROXY],
        options: &[SAVE],
        examples: &[("remove web", "until the file is read again")],
        exits: ASK,
    },
    Spec {
        name: "route add",
        section: Section::Change,
        summary: "let other targets answer some clients of a proxy",
        text: "\
New connections from this source are answered by the targets or the group that are given here, not by those of the \
proxy. Of several routes the one with the longest prefix counts. The name of a host stands for all of its \
addresses, also when they change.",
        usage: &[
            "NAME SOURCE --target ADDRESS[*WEIGHT]… [OPTION…]",
            "NAME SOURCE --group NAME [--save]",
        ],
        operands: &[
            PROXY,
            Operand::one(
                "SOURCE",
                Kind::Source,
                "who comes: a prefix, an address, or the name of a host",
            ),
        ],
        options: &[TARGET, ANSWERS, ALGORITHM, NAT, SAVE],
        examples: &[
            (
                "route add web 10.1.0.0/16 --group canary",
                "a network tries another version",
            ),
            (
                "route add web office.example --target 10.0.0.9:8080",
                "a host has a target of its own",
            ),
        ],
        exits: TELL,
    },
    Spec {
        name: "route remove",
        section: Section::Change,
        summary: "take such a route away",
        text: "\
New connections from this source are answered by the proxy's own targets again.",
        usage: &[],
        operands: &[
            PROXY,
            Operand::one(
                "SOURCE",
                Kind::Source,
                "who comes, as it was said when the route was added",
            ),
        ],
        options: &[SAVE],
        examples: &[("route remove web 10.1.0.0/16", "")],
        exits: ASK,
    },
    Spec {
        name: "target add",
        section: Section::Change,
        summary: "another target of a group",
        text: "\
Adds a target to a group, or gives one that is there another weight. Targets that are written with their proxy are a \
group with the proxy's name. It gets connections when its first health check was good, if the group has any.",
        usage: &[],
        operands: &[
            GROUP,
            Operand::one(
                "TARGET",
                Kind::Place,
                "who answers: 10.0.0.1:8080, [fd00::1]:8080 or host.example:8080",
            ),
        ],
        options: &[
            Opt::value(
                "--weight",
                "N",
                Kind::Number {
                    least: 0,
                    most: u32::MAX as u64,
                },
                "its share of new connections; 1 without it, and 0 gets none",
            )
            .short('w'),
            SAVE,
        ],
        examples: &[("target add web 10.0.0.4:8080 --weight 2 --save", "")],
        exits: TELL,
    },
    Spec {
        name: "target remove",
        section: Section::Change,
        summary: "take a target away from a group",
        text: "\
The target gets no new connections. Those that it has go on until they end, or the group's drain time is over.",
        usage: &[],
        operands: &[GROUP, TARGET_PLACE],
        options: &[SAVE],
        examples: &[("target remove web 10.0.0.4:8080", "")],
        exits: ASK,
    },
    Spec {
        name: "drain",
        section: Section::Change,
        summary: "no new connections to a target, old ones go on",
        text: "\
Keeps the target as it is configured, but gives it no new connections until `undrain`. Connections that it has go on \
until the `drain` time of its group is over, 30 seconds unless the configuration says more: then they are ended. \
`status` and `conns --target` say how many are left. A daemon that starts anew knows nothing of it.",
        usage: &[],
        operands: &[TARGET_PLACE],
        options: &[ONE_GROUP],
        examples: &[
            ("drain 10.0.0.2:8080", "before the machine is restarted"),
            (
                "drain 10.0.0.2:8080 --group web",
                "it goes on answering for other groups",
            ),
        ],
        exits: ASK,
    },
    Spec {
        name: "undrain",
        section: Section::Change,
        summary: "let a drained target have new connections again",
        text: "\
Takes back `drain`. The target gets its share again, by and by where its group has a slow start.",
        usage: &[],
        operands: &[TARGET_PLACE],
        options: &[ONE_GROUP],
        examples: &[("undrain 10.0.0.2:8080", "")],
        exits: ASK,
    },
    Spec {
        name: "reload",
        section: Section::Change,
        summary: "read the configuration file again, now",
        text: "\
Reads the file again, as after SIGHUP, and ends when what it says is in place. Changes that are not saved are gone \
then. If the file is wrong, its problems are printed, and nothing has changed.",
        usage: &[],
        operands: &[],
        options: &[],
        examples: &[("reload", "")],
        exits: TELL,
    },
    Spec {
        name: "set",
        section: Section::Change,
        summary: "change one value of the running configuration",
        text: "\
Changes one value, which is found by the names that lead to it: `settings.…`, `groups.NAME.…` or \
`proxies.NAME.…`. What looks like a number, true, false, a list or a table of JSON, or text in quotes is that; all \
else is text. null takes the value out, so that it is as usual again.",
        usage: &[],
        operands: &[
            Operand::one(
                "PATH",
                Kind::Path,
                "names with dots between them, as `config --json` has them",
            ),
            Operand::one("VALUE", Kind::Any, "what it is from now on"),
        ],
        options: &[SAVE],
        examples: &[
            ("set settings.events true", "switch events on"),
            ("set settings.timeouts.udp 45s", "a time"),
            ("set groups.web.algorithm fewest --save", "also in the file"),
            (
                "set proxies.web.limit.rate 500",
                "no more new connections in a second",
            ),
        ],
        exits: TELL,
    },
    Spec {
        name: "save",
        section: Section::Change,
        summary: "write what runs to the configuration file",
        text: "\
Writes all changes since the file was read to the file, so that they are there after the daemon's next start. The \
file is replaced in one step; what is written between its values, such as comments, stays where it can.",
        usage: &[],
        operands: &[],
        options: &[],
        examples: &[("save", "")],
        exits: ASK,
    },
];
