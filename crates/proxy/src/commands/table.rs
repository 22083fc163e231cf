//! The table of commands: what they are called, what they take, and what they are for.

mod change;
mod look;
mod other;
mod prepare;
mod run;

use super::words::{Exit, Names};
use bpfsmith_config::Read;
use bpfsmith_config::desired::{Place, Source};
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

/// The name of the program.
pub const PROGRAM: &str = "bpfsmith-proxy";

/// What the program is, in a line.
pub const SUMMARY: &str = "a reverse proxy in the kernel";

/// The same in sentences.
pub const ABOUT: &str = "\
Forwards TCP and UDP connections to the machines that answer them, by programs in the kernel: they choose a \
target for each new connection, rewrite its packets, and go on without this process.\n\
\n\
`run` is the daemon. It reads a configuration, attaches programs to network devices, checks targets, and \
listens at a Unix socket, where the commands that look and change ask it. `demo` shows all of it on a machine \
that has nothing but this program.";

/// The configuration, where nobody says another.
pub const CONFIG: &str = "/etc/bpfsmith-proxy.toml";

/// The daemon's socket, where nobody says another.
pub const SOCKET: &str = "/run/bpfsmith-proxy.sock";

/// Where maps and programs outlive the daemon, where nobody says another place.
pub const PINS: &str = "/sys/fs/bpf/bpfsmith-proxy";

/// A command.
#[derive(Debug)]
pub struct Spec {
    /// Its name: a word, or two for a command of a [family](Family).
    pub name: &'static str,
    /// Where the overview has it.
    pub section: Section,
    /// What it does, in half a line.
    pub summary: &'static str,
    /// What it does, in paragraphs with empty lines between them.
    pub text: &'static str,
    /// How it is written behind its name, where that does not follow from what it takes.
    pub usage: &'static [&'static str],
    /// What it takes by place.
    pub operands: &'static [Operand],
    /// What it takes by name, besides [`GLOBAL`].
    pub options: &'static [Opt],
    /// Command lines without the program's name, each with what it does.
    pub examples: &'static [(&'static str, &'static str)],
    /// With what it ends.
    pub exits: &'static [Exit],
}

/// Commands with the same first word.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// The word.
    pub name: &'static str,
    /// What they do, in half a line.
    pub summary: &'static str,
}

/// Where the overview has a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Among those that run.
    Run,
    /// Among those that look.
    Look,
    /// Among those that change.
    Change,
    /// Among those that prepare, and clean up.
    Prepare,
    /// Among the others.
    Other,
    /// Nowhere: shells call it.
    Hidden,
}

impl Section {
    /// Those that are shown.
    pub const SHOWN: &'static [Section] = &[
        Section::Run,
        Section::Look,
        Section::Change,
        Section::Prepare,
        Section::Other,
    ];

    /// What the overview calls it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Section::Run => "Run it",
            Section::Look => "Look",
            Section::Change => "Change it while it runs",
            Section::Prepare => "Prepare, understand, clean up",
            Section::Other => "Other",
            Section::Hidden => "For shells",
        }
    }
}

/// What a command takes by place.
#[derive(Debug, PartialEq)]
pub struct Operand {
    /// What stands for it.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// How many there may be. Only the last operand may be another than [`Count::One`].
    pub count: Count,
    /// What it is for.
    pub text: &'static str,
}

/// How many there may be of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// One.
    One,
    /// One or none.
    Optional,
    /// One or more.
    Some,
}

/// What a command takes by name.
#[derive(Debug, PartialEq)]
pub struct Opt {
    /// The name, with two dashes.
    pub long: &'static str,
    /// A letter that stands for it behind one dash.
    pub short: Option<char>,
    /// What stands for its value, and what that may be.
    pub value: Option<(&'static str, Kind)>,
    /// Whether it may be there more than once.
    pub is_repeated: bool,
    /// What it is for.
    pub text: &'static str,
}

impl Opt {
    /// An option without a value.
    #[must_use]
    pub const fn flag(long: &'static str, text: &'static str) -> Opt {
        Opt {
            long,
            short: None,
            value: None,
            is_repeated: false,
            text,
        }
    }

    /// An option with a value.
    #[must_use]
    pub const fn value(
        long: &'static str,
        name: &'static str,
        kind: Kind,
        text: &'static str,
    ) -> Opt {
        Opt {
            value: Some((name, kind)),
            ..Opt::flag(long, text)
        }
    }

    /// The same, and a letter stands for it.
    #[must_use]
    pub const fn short(self, letter: char) -> Opt {
        Opt {
            short: Some(letter),
            ..self
        }
    }

    /// The same, and it may be there more than once.
    #[must_use]
    pub const fn repeated(self) -> Opt {
        Opt {
            is_repeated: true,
            ..self
        }
    }
}

impl Operand {
    /// One that has to be there.
    #[must_use]
    pub const fn one(name: &'static str, kind: Kind, text: &'static str) -> Operand {
        Operand {
            name,
            kind,
            count: Count::One,
            text,
        }
    }

    /// One that need not be there.
    #[must_use]
    pub const fn optional(name: &'static str, kind: Kind, text: &'static str) -> Operand {
        Operand {
            count: Count::Optional,
            ..Operand::one(name, kind, text)
        }
    }

    /// One or more.
    #[must_use]
    pub const fn some(name: &'static str, kind: Kind, text: &'static str) -> Operand {
        Operand {
            count: Count::Some,
            ..Operand::one(name, kind, text)
        }
    }
}

/// What may stand somewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// The path of a file.
    File,
    /// The path of a directory.
    Directory,
    /// One of these words.
    Words(&'static [&'static str]),
    /// Some of these words, with commas between them.
    Several(&'static [&'static str]),
    /// A whole number.
    Number {
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A time that is more than nothing.
    Time,
    /// An address.
    Address,
    /// A prefix of addresses, or an address, with a port or without one.
    Client,
    /// A prefix of addresses, an address, or the name of a host.
    Source,
    /// A target: an address or the name of a host, with a port.
    Place,
    /// A target, and its weight behind a star where it is not 1.
    Weighted,
    /// An address, with a port or without one.
    Peer,
    /// The name of something that is there.
    Known(Names),
    /// A name that is given here.
    New,
    /// Names with dots between them.
    Path,
    /// Any text.
    Any,
    /// A command.
    Command,
}

/// A port.
pub const PORT: Kind = Kind::Number {
    least: 1,
    most: 65535,
};

impl Kind {
    /// What is allowed, as errors say it.
    #[must_use]
    pub fn allowed(self) -> Cow<'static, str> {
        let fixed = match self {
            Kind::File => "it is the path of a file",
            Kind::Directory => "it is the path of a directory",
            Kind::Words(words) => return format!("it is {}", either(words)).into(),
            Kind::Several(words) => {
                let words = words.join(", ");
                return format!("it is some of {words}, with commas between them").into();
            }
            Kind::Number { least, most } => {
                return format!("it is a whole number from {least} to {most}").into();
            }
            Kind::Time => {
                "it is a time like 500ms, 2s or 5m, or a number of seconds, and more than 0"
            }
            Kind::Address => "it is an address like 192.0.2.1 or 2001:db8::1",
            Kind::Client => {
                "it is a prefix like 10.0.0.0/8 with nothing set behind its bits, an address, or \
                 one with its port"
            }
            Kind::Source => {
                "it is a prefix like 10.0.0.0/8 with nothing set behind its bits, an address, or \
                 the name of a host"
            }
            Kind::Place | Kind::Known(Names::Targets) => {
                "it is 10.0.0.1:8080, [fd00::1]:8080 or host.example:8080"
            }
            Kind::Weighted => {
                "it is 10.0.0.1:8080, [fd00::1]:8080 or host.example:8080, and may have a weight, \
                 like 10.0.0.1:8080*3"
            }
            Kind::Peer => "it is an address like 10.0.0.1 or fd00::1, or one with its port",
            Kind::Known(names) => return format!("it is the name of one of the {names}").into(),
            Kind::New => "it is a name without white space",
            Kind::Path => "it is names with dots between them, like settings.timeouts.udp",
            Kind::Any => "it is text",
            Kind::Command => "it is the name of a command",
        };
        fixed.into()
    }

    /// Whether a text may stand there, as far as that can be said without asking anybody.
    #[must_use]
    pub fn allows(self, text: &str) -> bool {
        match self {
            Kind::File | Kind::Directory => !text.is_empty(),
            Kind::Words(words) => words.contains(&text),
            Kind::Several(words) => text.split(',').all(|word| words.contains(&word)),
            Kind::Number { least, most } => {
                whole(text).is_some_and(|it| (least..=most).contains(&it))
            }
            Kind::Time => time(text).is_some(),
            Kind::Address => text.parse::<IpAddr>().is_ok(),
            Kind::Client => client(text).is_some(),
            Kind::Source => text.parse::<Source>().is_ok(),
            Kind::Place => place(text).is_some(),
            Kind::Weighted => weighted(text).is_some(),
            Kind::Peer => peer(text).is_some(),
            Kind::Known(Names::Targets) => place(text).is_some(),
            Kind::Known(_) | Kind::New => {
                !text.is_empty() && !text.chars().any(|it| it.is_whitespace() || it.is_control())
            }
            Kind::Path => text.split('.').all(|name| !name.is_empty()),
            Kind::Any | Kind::Command => true,
        }
    }
}

/// A whole number in digits alone: no sign.
pub(crate) fn whole(text: &str) -> Option<u64> {
    let is_digits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    is_digits.then(|| text.parse().ok()).flatten()
}

/// A time as configurations have it; without a unit it is seconds.
pub(crate) fn time(text: &str) -> Option<Duration> {
    let value = match whole(text) {
        Some(seconds) => i64::try_from(seconds).ok()?.into(),
        None => text.into(),
    };
    Duration::read(&value).filter(|time| !time.is_zero())
}

/// A target. Nobody answers at port 0.
pub(crate) fn place(text: &str) -> Option<Place> {
    let place = text.parse().ok()?;
    let port = match &place {
        Place::Address(it) => it.port(),
        Place::Host(_, port) => *port,
    };
    (port != 0).then_some(place)
}

/// A target and its weight.
pub(crate) fn weighted(text: &str) -> Option<(Place, u32)> {
    match text.split_once('*') {
        None => place(text).map(|place| (place, 1)),
        Some((text, weight)) => Some((place(text)?, whole(weight)?.try_into().ok()?)),
    }
}

/// An address, with a port or without.
pub(crate) fn peer(text: &str) -> Option<(IpAddr, Option<u16>)> {
    match text.parse() {
        Ok(address) => Some((address, None)),
        Err(_) => {
            let both: std::net::SocketAddr = text.parse().ok()?;
            Some((both.ip(), Some(both.port())))
        }
    }
}

/// How addresses begin, by so many bits, and perhaps a port.
pub(crate) fn client(text: &str) -> Option<(IpAddr, u8, Option<u16>)> {
    if let Some((address, Some(port))) = peer(text) {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        return Some((address, bits, Some(port)));
    }
    match text.parse().ok()? {
        Source::Prefix(address, bits) => Some((address, bits, None)),
        Source::Host(_) => None,
    }
}

/// Words as one can choose among them.
pub(crate) fn either(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// Options of all commands; they may also stand in front of the command.
pub const GLOBAL: &[Opt] = &[
    Opt::value(
        "--socket",
        "PATH",
        Kind::File,
        "where the daemon listens; without it BPFSMITH_PROXY_SOCKET says, and without that it is \
         /run/bpfsmith-proxy.sock",
    ),
    Opt::flag("--json", "print JSON: for programs, not for people"),
    Opt::flag(
        "--no-color",
        "print without colors, as also where NO_COLOR is set or no terminal is there",
    ),
    HELP,
];

/// The option for help.
pub const HELP: Opt =
    Opt::flag("--help", "print what the command takes, and do nothing").short('h');

/// The option for the version, which stands for a command.
pub const VERSION: Opt = Opt::flag("--version", "print the version").short('V');

/// Commands with the same first word.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "route",
        summary: "let another group answer some sources, or no longer",
    },
    Family {
        name: "target",
        summary: "give a group another target, or take one away",
    },
];

/// All commands, in the order in which they are shown.
pub fn all() -> impl Iterator<Item = &'static Spec> + Clone {
    let rows = [
        run::ROWS,
        look::ROWS,
        change::ROWS,
        prepare::ROWS,
        other::ROWS,
    ];
    rows.into_iter().flatten()
}

/// The command of that name: a word, or two with a space.
#[must_use]
pub fn find(name: &str) -> Option<&'static Spec> {
    all().find(|spec| spec.name == name)
}

impl Family {
    /// The family of that name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.name == name)
    }

    /// Its commands.
    pub fn commands(&self) -> impl Iterator<Item = &'static Spec> + Clone {
        let name = self.name;
        all().filter(move |spec| spec.family().is_some_and(|family| family.name == name))
    }
}

impl Spec {
    /// The family that it is of.
    #[must_use]
    pub fn family(&self) -> Option<&'static Family> {
        let (first, _) = self.name.split_once(' ')?;
        Family::find(first)
    }

    /// The last word of its name.
    #[must_use]
    pub fn word(&self) -> &'static str {
        self.name
            .split_once(' ')
            .map_or(self.name, |(_, last)| last)
    }

    /// The option that is written so, with its dashes: its own or one of all commands.
    #[must_use]
    pub fn option(&self, written: &str) -> Option<&'static Opt> {
        among(self.options, written).or_else(|| among(GLOBAL, written))
    }

    /// Whether it can print JSON.
    #[must_use]
    pub fn has_json(&self) -> bool {
        !matches!(self.name, "help" | "man" | "completions" | "__names")
    }

    /// How it is written, behind the program's name: at least one form.
    #[must_use]
    pub fn usages(&self) -> Vec<String> {
        if !self.usage.is_empty() {
            let each = self.usage.iter();
            return each.map(|usage| format!("{} {usage}", self.name)).collect();
        }
        let mut line = self.name.to_owned();
        for operand in self.operands {
            line += &match operand.count {
                Count::One => format!(" {}", operand.name),
                Count::Optional => format!(" [{}]", operand.name),
                Count::Some => format!(" {}…", operand.name),
            };
        }
        if !self.options.is_empty() {
            line += " [OPTION…]";
        }
        vec![line]
    }
}

/// The option that is written so.
pub(crate) fn among(options: &'static [Opt], written: &str) -> Option<&'static Opt> {
    let mut letters = written.strip_prefix('-').unwrap_or_default().chars();
    let letter = letters.next().filter(|_| letters.next().is_none());
    options
        .iter()
        .find(|opt| opt.long == written || (letter.is_some() && opt.short == letter))
}
