//! Words that stand for something on the command line.

use bpfsmith_config::desired::{Algorithm, Nat, Protocol};
use bpfsmith_datapath::connections::State;
use bpfsmith_datapath::event::Kind;

/// What a word stands for.
pub trait Word: Sized {
    /// What this one stands for, if it does for anything.
    fn of(word: &str) -> Option<Self>;
}

bpfsmith_config::words! {
    /// What connections are put in order by.
    Sort {
        /// The oldest first.
        Age = "age",
        /// Those that are silent for longest first.
        Idle = "idle",
        /// Those with most bytes first, of both ways.
        Bytes = "bytes",
        /// Those with most packets first, of both ways.
        Packets = "packets",
    }
    /// What connections are put together by.
    By {
        /// The client's address.
        Source = "source",
        /// The target.
        Target = "target",
        /// The proxy that they came to.
        Proxy = "proxy",
        /// The place where it listens.
        Listener = "listener",
    }
    /// Where a program runs.
    Hook {
        /// Where packets come in, behind the driver.
        Tcx = "tcx",
        /// Where packets come in, in the driver.
        Xdp = "xdp",
        /// Where packets go out.
        Out = "out",
    }
    /// Shells that have completions.
    Shell {
        /// Bash.
        Bash = "bash",
        /// Zsh.
        Zsh = "zsh",
        /// Fish.
        Fish = "fish",
    }
    /// What has names that only the daemon knows.
    Names {
        /// Proxies.
        Proxies = "proxies",
        /// Groups.
        Groups = "groups",
        /// Targets, with their ports.
        Targets = "targets",
        /// Network devices of this machine.
        Devices = "devices",
    }
    /// What a text with a configuration is written in.
    Format {
        /// TOML.
        Toml = "toml",
        /// JSON.
        Json = "json",
        /// EDN, in the form of `clj-ebpf`.
        Edn = "edn",
    }
}

macro_rules! word {
    ($($name:ident)+) => {$(
        impl Word for $name {
            fn of(word: &str) -> Option<$name> {
                $name::of(word)
            }
        }
    )+};
}

word! { Sort By Hook Shell Names Format Algorithm Nat Protocol }

/// States of connections.
const ALL_STATES: [State; 5] = [
    State::Opening,
    State::Established,
    State::Closing,
    State::Closed,
    State::Reset,
];

/// Words of [`State`].
pub const STATES: &[&str] = &[
    State::Opening.name(),
    State::Established.name(),
    State::Closing.name(),
    State::Closed.name(),
    State::Reset.name(),
];

/// Words of the [kinds](Kind) of events.
pub const EVENTS: &[&str] = &["new", "closed", "periodic", "refused"];

impl Word for bpfsmith_datapath::config::Protocol {
    fn of(word: &str) -> Option<bpfsmith_datapath::config::Protocol> {
        Protocol::of(word).map(|it| match it {
            Protocol::Tcp => bpfsmith_datapath::config::Protocol::Tcp,
            Protocol::Udp => bpfsmith_datapath::config::Protocol::Udp,
        })
    }
}

impl Word for State {
    fn of(word: &str) -> Option<State> {
        ALL_STATES.into_iter().find(|it| it.name() == word)
    }
}

impl Word for Kind {
    fn of(word: &str) -> Option<Kind> {
        match word {
            "new" => Some(Kind::New),
            "closed" => Some(Kind::Closed),
            "refused" => Some(Kind::Refused),
            "periodic" => Some(Kind::Periodic),
            _ => None,
        }
    }
}

/// With what a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// It is done.
    Done,
    /// It was refused or failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// No daemon is there.
    Absent,
    /// A configuration is wrong.
    Wrong,
}

impl Exit {
    /// All of them.
    pub const ALL: &'static [Exit] = &[
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Absent,
        Exit::Wrong,
    ];

    /// The exit status.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Absent => 3,
            Exit::Wrong => 4,
        }
    }

    /// What it says.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "it is done",
            Exit::Failed => "it was refused, or failed: the last line says why",
            Exit::Usage => "the command line is wrong, and nothing was done",
            Exit::Absent => "no daemon answers at the socket, or it may not be used",
            Exit::Wrong => "the configuration is wrong: each problem is told with its line",
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> std::process::ExitCode {
        std::process::ExitCode::from(exit.code())
    }
}
