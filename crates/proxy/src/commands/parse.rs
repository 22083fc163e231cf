//! From the arguments of the process to what is asked for.

mod given;
mod typed;

use super::table::{CONFIG, Family, SOCKET, Spec};
use super::words::{By, Format, Hook, Names, Shell, Sort};
use super::wrong::UsageError;
use bpfsmith_config::Value;
use bpfsmith_config::desired::{Algorithm, Nat, Place, Protocol, Source};
use bpfsmith_datapath::connections::State;
use bpfsmith_datapath::event::Kind;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// What all commands have.
    pub globals: Globals,
    /// The command.
    pub command: Command,
}

/// What all commands have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Globals {
    /// Where the daemon listens, if anybody said so: the command line, or else the environment.
    pub socket: Option<PathBuf>,
    /// The form of what is printed.
    pub form: Form,
    /// Whether it may have colors.
    pub colors: Colors,
}

impl Globals {
    /// Where the daemon listens.
    #[must_use]
    pub fn socket_path(&self) -> &Path {
        self.socket.as_deref().unwrap_or(Path::new(SOCKET))
    }
}

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Whether there are colors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colors {
    /// Where a terminal is.
    #[default]
    Terminal,
    /// Nowhere.
    Never,
}

/// What the environment says that the command line may say too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `BPFSMITH_PROXY_SOCKET`.
    pub socket: Option<OsString>,
    /// `NO_COLOR`.
    pub no_color: Option<OsString>,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Surroundings {
        Surroundings {
            socket: std::env::var_os("BPFSMITH_PROXY_SOCKET"),
            no_color: std::env::var_os("NO_COLOR"),
        }
    }
}

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Be the daemon.
    Run(Run),
    /// Show all of it on this machine.
    Demo(Demo),
    /// How everything stands.
    Status,
    /// The same as a live screen.
    Top(Top),
    /// Connections.
    Conns(Conns),
    /// What happens to connections.
    Events(Events),
    /// The configuration that runs.
    Config,
    /// Another proxy.
    Add(Add),
    /// A proxy is to be another way.
    Update(Update),
    /// A proxy is to be gone.
    Remove(Remove),
    /// Another route of a proxy.
    RouteAdd(RouteAdd),
    /// A route is to be gone.
    RouteRemove(RouteRemove),
    /// Another target of a group.
    TargetAdd(TargetAdd),
    /// A target is to be gone.
    TargetRemove(TargetRemove),
    /// No new connections to a target.
    Drain(Drain),
    /// New connections to it again.
    Undrain(Drain),
    /// Read the configuration file again.
    Reload,
    /// Change one value.
    Set(Set),
    /// Write what runs to the configuration file.
    Save,
    /// What is wrong with configurations.
    Check(Check),
    /// A configuration of one of `clj-ebpf`.
    Import(Import),
    /// What this machine lacks.
    Doctor(Doctor),
    /// Programs as text.
    Explain(Explain),
    /// Take everything out of the kernel.
    Detach(Detach),
    /// Commands one after the other.
    Shell,
    /// Completions for a shell.
    Completions(Shell),
    /// The manual page.
    Man(Man),
    /// A page of help.
    Help(Topic),
    /// The version.
    Version,
    /// Names that completions ask for.
    Names(Names),
}

/// `run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The configuration.
    pub config: PathBuf,
}

/// `demo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demo {
    /// Print lines, and no live screen.
    pub is_plain: bool,
    /// How many requests are sent in each act, if not as many as usual.
    pub rounds: Option<u32>,
}

/// `top`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// How often it looks.
    pub interval: Duration,
    /// Print one screen and end.
    pub is_once: bool,
}

/// `conns`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conns {
    /// Only this protocol.
    pub protocol: Option<Protocol>,
    /// Only clients whose addresses begin so.
    pub client: Option<Prefix>,
    /// Only clients at this port.
    pub client_port: Option<u16>,
    /// Only those to this address.
    pub service: Option<Peer>,
    /// Only those of this target.
    pub target: Option<Peer>,
    /// Only those of this proxy.
    pub proxy: Option<String>,
    /// Only those that stand so.
    pub state: Option<State>,
    /// Only those that are not over.
    pub is_open: bool,
    /// What comes first; where nobody says, it is [`Sort::Age`], or the number of connections if they are put
    /// together.
    pub sort: Option<Sort>,
    /// What they are put together by. Then the order is by [`Sort::Bytes`], [`Sort::Packets`] or number.
    pub by: Option<By>,
    /// At most so many lines.
    pub limit: Option<u32>,
}

/// Addresses that begin in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// How they begin; all other bits are 0.
    pub address: IpAddr,
    /// How many bits they have in common.
    pub bits: u8,
}

/// An address, and perhaps a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address.
    pub address: IpAddr,
    /// The port; any without one.
    pub port: Option<u16>,
}

/// `events`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Go on with what happens.
    pub is_following: bool,
    /// Only these; all if it is empty.
    pub kinds: Vec<Kind>,
    /// Only those of this proxy.
    pub proxy: Option<String>,
}

/// `add`.
#[derive(Clone, Debug, PartialEq)]
pub struct Add {
    /// The proxy.
    pub what: Adding,
    /// Write it to the configuration file too.
    pub is_saved: bool,
}

/// How a new proxy is described.
#[derive(Clone, Debug, PartialEq)]
pub enum Adding {
    /// By options. There are a port and an answer.
    Offer(String, Offer),
    /// By a table in a file.
    Table(Text),
}

/// `update`.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The proxy.
    pub name: String,
    /// What is another way from now on.
    pub offer: Offer,
    /// Write it to the configuration file too.
    pub is_saved: bool,
}

/// What options say of a proxy; what they do not say is nothing or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer {
    /// The port.
    pub port: Option<u16>,
    /// The addresses that clients go to.
    pub addresses: Vec<IpAddr>,
    /// The devices by which they come.
    pub devices: Vec<String>,
    /// What they speak.
    pub protocols: Vec<Protocol>,
    /// Who answers.
    pub answer: Answer,
}

/// Who answers, as options say it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// A group that is there. Then there are no targets, algorithm or NAT.
    pub group: Option<String>,
    /// Targets, with their weights.
    pub targets: Vec<(Place, u32)>,
    /// How one is chosen.
    pub algorithm: Option<Algorithm>,
    /// How packets get there.
    pub nat: Option<Nat>,
}

/// `remove`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remove {
    /// The proxy.
    pub name: String,
    /// Write it to the configuration file too.
    pub is_saved: bool,
}

/// `route add`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteAdd {
    /// The proxy.
    pub proxy: String,
    /// Who comes.
    pub source: Source,
    /// Who answers: a group or targets.
    pub answer: Answer,
    /// Write it to the configuration file too.
    pub is_saved: bool,
}

/// `route remove`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRemove {
    /// The proxy.
    pub proxy: String,
    /// Who comes.
    pub source: Source,
    /// Write it to the configuration file too.
    pub is_saved: bool,
}

/// `target add`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetAdd {
    /// The group.
    pub group: String,
    /// Who answers.
    pub place: Place,
    /// Its share of new connections.
    pub weight: u32,
    /// Write it to the configuration file too.
    pub is_saved: bool,
}

/// `target remove`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRemove {
    /// The group.
    pub group: String,
    /// Who answered.
    pub place: Place,
    /// Write it to the configuration file too.
    pub is_saved: bool,
}

/// `drain` and `undrain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// The target.
    pub place: Place,
    /// Only in this group.
    pub group: Option<String>,
}

/// `set`.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// The names that lead to it: at least one, none of them empty.
    pub path: Vec<String>,
    /// What it is from now on; null takes it out.
    pub value: Value,
    /// Write it to the configuration file too.
    pub is_saved: bool,
}

/// `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The texts: at least one.
    pub texts: Vec<Text>,
}

/// A text and what it is written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Where it is.
    pub input: Input,
    /// What it is written in.
    pub format: Format,
}

/// Where text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// Where text goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

/// `import`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The EDN.
    pub input: Input,
    /// Where the TOML goes.
    pub output: Output,
}

/// `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doctor {
    /// The configuration; without one, that at its usual place if it is there.
    pub config: Option<PathBuf>,
}

/// `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explain {
    /// The configuration.
    pub config: PathBuf,
    /// Only the program that runs there.
    pub hook: Option<Hook>,
    /// Only programs of this device.
    pub device: Option<String>,
}

/// `detach`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detach {
    /// Where everything is pinned.
    pub pins: PathBuf,
}

/// `man`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Man {
    /// The directory for the page; standard output without one.
    pub output: Option<PathBuf>,
}

/// What a page of help is about.
#[derive(Clone, Copy, Debug)]
pub enum Topic {
    /// All commands.
    Overview,
    /// Commands with the same first word.
    Family(&'static Family),
    /// One command.
    Command(&'static Spec),
}

impl Topic {
    /// What it is called; nothing for the overview.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Topic::Overview => None,
            Topic::Family(family) => Some(family.name),
            Topic::Command(spec) => Some(spec.name),
        }
    }
}

impl PartialEq for Topic {
    fn eq(&self, other: &Topic) -> bool {
        self.name() == other.name()
    }
}

/// Reads a command line without the program's name.
///
/// # Errors
/// What is wrong with it first; no file has been touched then. Where help is asked for, and the command is one,
/// the rest may be wrong.
pub fn parse(args: Vec<OsString>, surroundings: &Surroundings) -> Result<Parsed, UsageError> {
    let found = given::scan(args)?;
    let globals = globals(&found, surroundings);
    let command = match found {
        given::Found::Help(topic, _) => Command::Help(topic),
        given::Found::Given(given) => typed::command(&given)?,
    };
    Ok(Parsed { globals, command })
}

fn globals(found: &given::Found, surroundings: &Surroundings) -> Globals {
    let options = match found {
        given::Found::Help(_, options) => options,
        given::Found::Given(given) => &given.options,
    };
    let has = |name: &str| options.iter().any(|(option, _)| option.long == name);
    let mut values = options
        .iter()
        .filter(|(option, _)| option.long == "--socket");
    let said = values.find_map(|(_, value)| value.clone());
    let is_set = |it: &Option<OsString>| it.clone().filter(|it| !it.is_empty());
    let is_plain = has("--no-color") || is_set(&surroundings.no_color).is_some();
    Globals {
        socket: said
            .or_else(|| is_set(&surroundings.socket))
            .map(PathBuf::from),
        form: if has("--json") {
            Form::Json
        } else {
            Form::Text
        },
        colors: if is_plain {
            Colors::Never
        } else {
            Colors::Terminal
        },
    }
}

/// The configuration at its usual place.
fn usual_config() -> PathBuf {
    PathBuf::from(CONFIG)
}
