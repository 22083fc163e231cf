//! The command line.

use crate::help::Topic;
use crate::source::Format;
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

/// An option with a value.
#[derive(Clone, Copy)]
struct Opt {
    /// `--name`, or `-n`.
    name: &'static str,
    /// What to write for the value.
    value: &'static str,
}

const OUTPUT: Opt = Opt {
    name: "-o",
    value: "a file to write, or - for standard output",
};
const BYTES: Opt = Opt {
    name: "--format",
    value: "raw or hex",
};
const ANY: Opt = Opt {
    name: "--format",
    value: "text, hex or raw",
};
const TYPE: Opt = Opt {
    name: "--type",
    value: "a program type, such as xdp or sched_cls",
};

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
        let message = "no command is given: use asm, disasm, check or help";
        return Err(wrong(message.to_owned()));
    };
    let rest: Vec<OsString> = args.collect();
    match first.to_str() {
        Some("asm") => asm(rest),
        Some("disasm") => disasm(rest),
        Some("check") => check(rest),
        Some("help") => help(&rest),
        Some("-h" | "--help") => Ok(Command::Help(Topic::Overview)),
        Some("-V" | "--version") => Ok(Command::Version),
        _ => {
            let (what, first) = (kind_of(&first), shown(&first));
            Err(wrong(format!(
                "unknown {what} {first}: use asm, disasm, check, help, --help or --version"
            )))
        }
    }
}

fn asm(args: Vec<OsString>) -> Result<Command, UsageError> {
    let Some(given) = Given::new("asm", args, &[OUTPUT, BYTES])? else {
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
    let Some(given) = Given::new("disasm", args, &[BYTES])? else {
        return Ok(Command::Help(Topic::Disasm));
    };
    Ok(Command::Disasm {
        format: given.format(BYTES, Format::Hex)?,
        input: given.input(),
    })
}

fn check(args: Vec<OsString>) -> Result<Command, UsageError> {
    let Some(given) = Given::new("check", args, &[ANY, TYPE])? else {
        return Ok(Command::Help(Topic::Check));
    };
    Ok(Command::Check {
        format: given.format(ANY, Format::Text)?,
        kind: given.kind()?,
        input: given.input(),
    })
}

fn help(args: &[OsString]) -> Result<Command, UsageError> {
    let topic = match args {
        [] => Some(Topic::Overview),
        [topic] => match topic.to_str() {
            Some("asm") => Some(Topic::Asm),
            Some("disasm") => Some(Topic::Disasm),
            Some("check") => Some(Topic::Check),
            Some("help" | "-h" | "--help") => Some(Topic::Overview),
            _ => None,
        },
        _ => None,
    };
    topic.map(Command::Help).ok_or_else(|| {
        let args: Vec<String> = args.iter().map(|arg| shown(arg)).collect();
        UsageError {
            command: None,
            message: format!("no help about {}: use asm, disasm or check", args.join(" ")),
        }
    })
}

/// The arguments of a command, sorted.
struct Given {
    command: &'static str,
    values: Vec<(&'static str, OsString)>,
    file: Option<OsString>,
}

impl Given {
    /// Sorts the arguments; nothing if they ask for help.
    fn new(
        command: &'static str,
        args: Vec<OsString>,
        options: &[Opt],
    ) -> Result<Option<Given>, UsageError> {
        let mut given = Given {
            command,
            values: Vec::new(),
            file: None,
        };
        let mut args = args.into_iter();
        let mut only_files = false;
        while let Some(arg) = args.next() {
            if only_files || !is_option(&arg) {
                given.operand(arg)?;
                continue;
            }
            match arg.to_str() {
                Some("--") => {
                    only_files = true;
                    continue;
                }
                Some("-h" | "--help") => return Ok(None),
                _ => {}
            }
            let Some((opt, inline)) = find(options, &arg) else {
                let names: Vec<&str> = options.iter().map(|opt| opt.name).collect();
                let (arg, names) = (shown(&arg), names.join(", "));
                return Err(given.wrong(format!("unknown option {arg}: use {names} or --help")));
            };
            let Some(value) = inline.or_else(|| args.next()) else {
                return Err(given.wrong(format!("{} needs a value: {}", opt.name, opt.value)));
            };
            if given.value(opt).is_some() {
                return Err(given.wrong(format!("{} is given twice: once is enough", opt.name)));
            }
            given.values.push((opt.name, value));
        }
        Ok(Some(given))
    }

    fn operand(&mut self, arg: OsString) -> Result<(), UsageError> {
        if arg.is_empty() {
            let message = "the file's name is empty: name a file, or - for standard input";
            return Err(self.wrong(message.to_owned()));
        }
        match &self.file {
            None => self.file = Some(arg),
            Some(first) => {
                let (first, second) = (shown(first), shown(&arg));
                return Err(self.wrong(format!(
                    "two files are given, {first} and {second}: one is allowed"
                )));
            }
        }
        Ok(())
    }

    fn wrong(&self, message: String) -> UsageError {
        UsageError {
            command: Some(self.command),
            message,
        }
    }

    fn value(&self, opt: Opt) -> Option<&OsStr> {
        let found = self.values.iter().find(|(name, _)| *name == opt.name);
        found.map(|(_, value)| value.as_os_str())
    }

    fn format(&self, opt: Opt, default: Format) -> Result<Format, UsageError> {
        let Some(value) = self.value(opt) else {
            return Ok(default);
        };
        match value.to_str() {
            Some("raw") => Ok(Format::Raw),
            Some("hex") => Ok(Format::Hex),
            Some("text") if opt.value == ANY.value => Ok(Format::Text),
            _ => {
                let (name, value, allowed) = (opt.name, shown(value), opt.value);
                Err(self.wrong(format!("{name} {value} is not known: use {allowed}")))
            }
        }
    }

    fn kind(&self) -> Result<Option<ProgType>, UsageError> {
        let Some(value) = self.value(TYPE) else {
            return Ok(None);
        };
        let name = value.to_str().map(str::to_ascii_uppercase);
        let known = name.and_then(|name| ProgType::from_name(&name));
        known
            .filter(|&kind| kind != ProgType::UNSPEC)
            .map(Some)
            .ok_or_else(|| {
                let all: Vec<String> = type_names().collect();
                let (value, all) = (shown(value), all.join(", "));
                self.wrong(format!("--type {value} is not known: use one of {all}"))
            })
    }

    fn input(self) -> Input {
        match self.file {
            None => Input::Stdin,
            Some(file) if file == "-" => Input::Stdin,
            Some(file) => Input::File(file.into()),
        }
    }
}

/// The names of all program types, as `--type` takes them.
pub(crate) fn type_names() -> impl Iterator<Item = String> {
    let real = ProgType::ALL
        .iter()
        .filter(|&&kind| kind != ProgType::UNSPEC);
    real.filter_map(|kind| kind.name())
        .map(str::to_ascii_lowercase)
}

/// The option that an argument names, and the value that follows in the same argument.
fn find(options: &[Opt], arg: &OsStr) -> Option<(Opt, Option<OsString>)> {
    if let Some(opt) = options.iter().find(|opt| arg == opt.name) {
        return Some((*opt, None));
    }
    // `--format=raw`; a file's name that is not Unicode must be an argument of its own.
    let (name, value) = arg.to_str()?.split_once('=')?;
    let opt = options
        .iter()
        .find(|opt| opt.name == name && name.starts_with("--"))?;
    Some((*opt, Some(value.into())))
}

fn is_option(arg: &OsStr) -> bool {
    arg.as_encoded_bytes().starts_with(b"-") && arg != "-"
}

fn kind_of(arg: &OsStr) -> &'static str {
    if is_option(arg) { "option" } else { "command" }
}

/// An argument in a message.
fn shown(arg: &OsStr) -> String {
    match crate::visible(&arg.to_string_lossy()) {
        empty if empty.is_empty() => "''".to_owned(),
        text => text,
    }
}
