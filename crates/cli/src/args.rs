//! The command line.

pub mod btf;

use crate::given::{
    ANY, BYTES, CTX, Given, INPUT, JITED, JSON, OUTPUT, Operands, REPEAT, TYPE, is_option, shown,
};
use crate::help::Topic;
use crate::source::Format;
use bpfsmith_prog::probe::Group;
use bpfsmith_uapi::ProgType;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Print a page of help.
    Help(Topic),
    /// Print the version.
    Version,
    /// Text to bytes.
    Asm {
        /// The text.
        input: Input,
        /// Where the bytes go.
        output: Output,
        /// The form of the bytes.
        format: Format,
    },
    /// Bytes to text.
    Disasm {
        /// The bytes.
        input: Input,
        /// The form of the bytes.
        format: Format,
    },
    /// Run the checker.
    Check {
        /// The program.
        input: Input,
        /// The form of the program.
        format: Format,
        /// What kind of program it is, if that was said.
        kind: Option<ProgType>,
    },
    /// Load a program and run it once on given input.
    Run(Trial),
    /// Ask the kernel what it can do.
    Probe {
        /// What to ask; all groups if none is named.
        groups: Vec<Group>,
        /// The form of the answers.
        form: Form,
    },
    /// Print, look for or compare types.
    Btf(btf::Btf),
    /// Show what is loaded.
    Objects {
        /// Which kind.
        kind: Objects,
        /// What to do.
        action: Action,
        /// The form of what is printed.
        form: Form,
    },
}

/// A program and what it is run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The program.
    pub input: Input,
    /// The form of the program.
    pub format: Format,
    /// What kind of program it is, if that was said.
    pub kind: Option<ProgType>,
    /// The packet: digits, or a file.
    pub packet: Option<OsString>,
    /// The context: digits, or a file.
    pub ctx: Option<OsString>,
    /// How often.
    pub repeat: u32,
    /// The form of what is printed.
    pub form: Form,
}

/// The form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The kinds of objects that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    /// Programs.
    Progs,
    /// Maps.
    Maps,
    /// Links.
    Links,
}

impl Objects {
    /// The command's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Objects::Progs => "progs",
            Objects::Maps => "maps",
            Objects::Links => "links",
        }
    }
}

/// What to do with objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// One line for each.
    List,
    /// All about one.
    Show(u32),
    /// What one consists of.
    Dump(u32),
    /// The machine code of a program.
    Jited(u32),
}

/// Where the input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// Where the output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

/// Why a command line is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    /// The command whose arguments they are, if there was one.
    pub command: Option<&'static str>,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bpfsmith")?;
        if let Some(command) = self.command {
            write!(f, " {command}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for UsageError {}

/// All commands but help, for messages.
const COMMANDS: &str = "asm, disasm, check, run, probe, progs, maps, links, btf";

/// Reads a command line without the program's name.
///
/// # Errors
/// What is wrong with it; no file has been touched then.
pub fn parse(args: Vec<OsString>) -> Result<Command, UsageError> {
    let wrong = |message| UsageError {
        command: None,
        message,
    };
    let mut args = args.into_iter();
    let Some(first) = args.next() else {
        let message = format!("no command is given: use {COMMANDS} or help");
        return Err(wrong(message));
    };
    let rest: Vec<OsString> = args.collect();
    match first.to_str() {
        Some("asm") => asm(rest),
        Some("disasm") => disasm(rest),
        Some("check") => check(rest),
        Some("run") => run(rest),
        Some("probe") => probe(rest),
        Some("progs") => objects(Objects::Progs, rest),
        Some("maps") => objects(Objects::Maps, rest),
        Some("links") => objects(Objects::Links, rest),
        Some("btf") => btf::parse(rest),
        Some("help") => help(&rest),
        Some("-h" | "--help") => Ok(Command::Help(Topic::Overview)),
        Some("-V" | "--version") => Ok(Command::Version),
        _ => {
            let (what, first) = (kind_of(&first), shown(&first));
            Err(wrong(format!(
                "unknown {what} {first}: use {COMMANDS}, help, --help or --version"
            )))
        }
    }
}

fn asm(args: Vec<OsString>) -> Result<Command, UsageError> {
    let Some(given) = Given::new("asm", args, &[OUTPUT, BYTES], Operands::File)? else {
        return Ok(Command::Help(Topic::Asm));
    };
    Ok(Command::Asm {
        output: match given.value(OUTPUT) {
            None => Output::Stdout,
            Some(path) if path == "-" => Output::Stdout,
            Some(path) => Output::File(path.into()),
        },
        format: given.format(BYTES, Format::Hex)?,
        input: given.input(),
    })
}

fn disasm(args: Vec<OsString>) -> Result<Command, UsageError> {
    let Some(given) = Given::new("disasm", args, &[BYTES], Operands::File)? else {
        return Ok(Command::Help(Topic::Disasm));
    };
    Ok(Command::Disasm {
        format: given.format(BYTES, Format::Hex)?,
        input: given.input(),
    })
}

fn check(args: Vec<OsString>) -> Result<Command, UsageError> {
    let Some(given) = Given::new("check", args, &[ANY, TYPE], Operands::File)? else {
        return Ok(Command::Help(Topic::Check));
    };
    Ok(Command::Check {
        format: given.format(ANY, Format::Text)?,
        kind: given.kind()?,
        input: given.input(),
    })
}

fn run(args: Vec<OsString>) -> Result<Command, UsageError> {
    let options = [ANY, TYPE, INPUT, CTX, REPEAT, JSON];
    let Some(given) = Given::new("run", args, &options, Operands::File)? else {
        return Ok(Command::Help(Topic::Run));
    };
    Ok(Command::Run(Trial {
        format: given.format(ANY, Format::Text)?,
        kind: given.kind()?,
        packet: given.value(INPUT).map(OsStr::to_owned),
        ctx: given.value(CTX).map(OsStr::to_owned),
        repeat: match given.value(REPEAT) {
            Some(value) => given.number("--repeat", value, i32::MAX.unsigned_abs())?,
            None => 1,
        },
        form: form(&given),
        input: given.input(),
    }))
}

fn form(given: &Given) -> Form {
    if given.has(JSON) {
        Form::Json
    } else {
        Form::Text
    }
}

fn probe(args: Vec<OsString>) -> Result<Command, UsageError> {
    let Some(given) = Given::new("probe", args, &[JSON], Operands::Words)? else {
        return Ok(Command::Help(Topic::Probe));
    };
    let group = |word: &OsString| {
        // `links` as well as `link`, as the other commands are called.
        let one = word
            .to_str()
            .map(|word| word.strip_suffix('s').unwrap_or(word));
        let is = |group: &&Group| word == group.name() || one == Some(group.name());
        let known = Group::ALL.iter().find(is);
        known.copied().ok_or_else(|| {
            let names: Vec<&str> = Group::ALL.iter().map(|group| group.name()).collect();
            let (word, names) = (shown(word), names.join(", "));
            given.wrong(format!("unknown group {word}: use {names}"))
        })
    };
    let groups: Vec<Group> = given.words().iter().map(group).collect::<Result<_, _>>()?;
    Ok(Command::Probe {
        form: form(&given),
        groups: if groups.is_empty() {
            Group::ALL.to_vec()
        } else {
            groups
        },
    })
}

fn objects(kind: Objects, args: Vec<OsString>) -> Result<Command, UsageError> {
    let options = match kind {
        Objects::Progs => &[JSON, JITED][..],
        _ => &[JSON],
    };
    let Some(given) = Given::new(kind.name(), args, options, Operands::Words)? else {
        return Ok(Command::Help(Topic::Objects(kind)));
    };
    let id = |word: &OsStr| given.number("ID", word, u32::MAX);
    let action = match given.words() {
        [] => Action::List,
        [verb] if verb == "list" => Action::List,
        [verb, word] if verb == "show" => Action::Show(id(word)?),
        [verb, word] if verb == "dump" && given.has(JITED) => Action::Jited(id(word)?),
        [verb, word] if verb == "dump" => Action::Dump(id(word)?),
        words => {
            let words: Vec<String> = words.iter().map(|word| shown(word)).collect();
            let words = words.join(" ");
            return Err(given.wrong(format!("cannot {words}: use list, show ID or dump ID")));
        }
    };
    if given.has(JITED) && !matches!(action, Action::Jited(_)) {
        return Err(given.wrong("--jited belongs to dump: use dump ID --jited".to_owned()));
    }
    Ok(Command::Objects {
        kind,
        action,
        form: form(&given),
    })
}

fn help(args: &[OsString]) -> Result<Command, UsageError> {
    let topic = match args {
        [] => Some(Topic::Overview),
        [topic, verb] if topic == "btf" && btf::is_verb(verb) => Some(Topic::Btf),
        [topic] => match topic.to_str() {
            Some("asm") => Some(Topic::Asm),
            Some("disasm") => Some(Topic::Disasm),
            Some("check") => Some(Topic::Check),
            Some("run") => Some(Topic::Run),
            Some("probe") => Some(Topic::Probe),
            Some("progs") => Some(Topic::Objects(Objects::Progs)),
            Some("maps") => Some(Topic::Objects(Objects::Maps)),
            Some("links") => Some(Topic::Objects(Objects::Links)),
            Some("btf") => Some(Topic::Btf),
            Some("help" | "-h" | "--help") => Some(Topic::Overview),
            _ => None,
        },
        _ => None,
    };
    topic.map(Command::Help).ok_or_else(|| {
        let args: Vec<String> = args.iter().map(|arg| shown(arg)).collect();
        UsageError {
            command: None,
            message: format!("no help about {}: use {COMMANDS}", args.join(" ")),
        }
    })
}

/// The names of all program types, as `--type` takes them.
pub(crate) fn type_names() -> impl Iterator<Item = String> {
    let real = ProgType::ALL
        .iter()
        .filter(|&&kind| kind != ProgType::UNSPEC);
    real.filter_map(|kind| kind.name())
        .map(str::to_ascii_lowercase)
}

fn kind_of(arg: &OsStr) -> &'static str {
    if is_option(arg) { "option" } else { "command" }
}
