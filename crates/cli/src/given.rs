//! The arguments of a command, sorted into options and operands.

use crate::args::{Input, UsageError, type_names};
use crate::source::Format;
use bpfsmith_uapi::ProgType;
use std::ffi::{OsStr, OsString};

/// An option.
#[derive(Clone, Copy)]
pub(crate) struct Opt {
    /// `--name`, or `-n`.
    pub(crate) name: &'static str,
    pub(crate) takes: Takes,
}

/// What follows an option.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    /// A value; this is what to write for it.
    Value(&'static str),
}

impl Opt {
    pub(crate) const fn value(name: &'static str, value: &'static str) -> Opt {
        Opt {
            name,
            takes: Takes::Value(value),
        }
    }

    pub(crate) const fn flag(name: &'static str) -> Opt {
        Opt {
            name,
            takes: Takes::Nothing,
        }
    }

    /// What to write for its value.
    fn wanted(self) -> &'static str {
        match self.takes {
            Takes::Nothing => "nothing",
            Takes::Value(wanted) => wanted,
        }
    }
}

pub(crate) const OUTPUT: Opt = Opt::value("-o", "a file to write, or - for standard output");
pub(crate) const BYTES: Opt = Opt::value("--format", "raw or hex");
pub(crate) const ANY: Opt = Opt::value("--format", "text, hex or raw");
pub(crate) const TYPE: Opt = Opt::value("--type", "a program type, such as xdp or sched_cls");
pub(crate) const INPUT: Opt = Opt::value("--input", "a packet in hex, or its file");
pub(crate) const CTX: Opt = Opt::value("--ctx", "a context in hex, or its file");
pub(crate) const REPEAT: Opt = Opt::value("--repeat", "a number of runs");
pub(crate) const JSON: Opt = Opt::flag("--json");
pub(crate) const JITED: Opt = Opt::flag("--jited");
pub(crate) const FILE: Opt = Opt::value("--file", "a file of BTF, or an ELF file with some");
pub(crate) const MODULE: Opt = Opt::value("--module", "a module that is loaded");
pub(crate) const ID: Opt = Opt::value("--id", "a number of BTF, as progs and maps show it");
pub(crate) const BASE: Opt = Opt::value("--base", "a file of BTF that the other continues");
pub(crate) const KIND: Opt = Opt::value("--kind", "member, constant, struct, func or another kind");
pub(crate) const DEEP: Opt = Opt::flag("--deep");
pub(crate) const RAW: Opt = Opt::flag("--raw");

/// What a command takes besides options.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operands {
    /// A file.
    File,
    /// Any number of words.
    Words,
}

/// The arguments of a command, sorted.
pub(crate) struct Given {
    pub(crate) command: &'static str,
    values: Vec<(&'static str, OsString)>,
    operands: Vec<OsString>,
    kind: Operands,
}

impl Given {
    /// Sorts the arguments; nothing if they ask for help.
    pub(crate) fn new(
        command: &'static str,
        args: Vec<OsString>,
        options: &[Opt],
        kind: Operands,
    ) -> Result<Option<Given>, UsageError> {
        let mut given = Given {
            command,
            values: Vec::new(),
            operands: Vec::new(),
            kind,
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
            let value = match (opt.takes, inline) {
                (Takes::Nothing, None) => Some(OsString::new()),
                (Takes::Nothing, Some(_)) => {
                    return Err(given.wrong(format!("{} takes no value: leave it out", opt.name)));
                }
                (Takes::Value(_), inline) => inline.or_else(|| args.next()),
            };
            let Some(value) = value else {
                return Err(given.wrong(format!("{} needs a value: {}", opt.name, opt.wanted())));
            };
            if given.has(opt) {
                return Err(given.wrong(format!("{} is given twice: once is enough", opt.name)));
            }
            given.values.push((opt.name, value));
        }
        Ok(Some(given))
    }

    fn operand(&mut self, arg: OsString) -> Result<(), UsageError> {
        if self.kind == Operands::File {
            if arg.is_empty() {
                let message = "the file's name is empty: name a file, or - for standard input";
                return Err(self.wrong(message.to_owned()));
            }
            if let Some(first) = self.operands.first() {
                let (first, second) = (shown(first), shown(&arg));
                return Err(self.wrong(format!(
                    "two files are given, {first} and {second}: one is allowed"
                )));
            }
        }
        self.operands.push(arg);
        Ok(())
    }

    pub(crate) fn wrong(&self, message: String) -> UsageError {
        UsageError {
            command: Some(self.command),
            message,
        }
    }

    pub(crate) fn has(&self, opt: Opt) -> bool {
        self.values.iter().any(|(name, _)| *name == opt.name)
    }

    pub(crate) fn value(&self, opt: Opt) -> Option<&OsStr> {
        let found = self.values.iter().find(|(name, _)| *name == opt.name);
        found.map(|(_, value)| value.as_os_str())
    }

    pub(crate) fn words(&self) -> &[OsString] {
        &self.operands
    }

    pub(crate) fn format(&self, opt: Opt, default: Format) -> Result<Format, UsageError> {
        let Some(value) = self.value(opt) else {
            return Ok(default);
        };
        match value.to_str() {
            Some("raw") => Ok(Format::Raw),
            Some("hex") => Ok(Format::Hex),
            Some("text") if opt.takes == ANY.takes => Ok(Format::Text),
            _ => {
                let (name, value, allowed) = (opt.name, shown(value), opt.wanted());
                Err(self.wrong(format!("{name} {value} is not known: use {allowed}")))
            }
        }
    }

    /// The program type, if it was said.
    pub(crate) fn kind(&self) -> Result<Option<ProgType>, UsageError> {
        let Some(value) = self.value(TYPE) else {
            return Ok(None);
        };
        let name = value.to_str().map(str::to_ascii_uppercase);
        let known = name.and_then(|name| match name.as_str() {
            // What people call the type that tc, tcx and netkit run.
            "TC" => Some(ProgType::SCHED_CLS),
            name => ProgType::from_name(name),
        });
        known
            .filter(|&kind| kind != ProgType::UNSPEC)
            .map(Some)
            .ok_or_else(|| {
                let all: Vec<String> = type_names().collect();
                let (value, all) = (shown(value), all.join(", "));
                self.wrong(format!("--type {value} is not known: use one of {all}"))
            })
    }

    /// A number from 1 to `most`.
    pub(crate) fn number(&self, what: &str, value: &OsStr, most: u32) -> Result<u32, UsageError> {
        let number = value.to_str().and_then(|text| text.parse().ok());
        match number {
            Some(number) if (1..=most).contains(&number) => Ok(number),
            _ => {
                let value = shown(value);
                Err(self.wrong(format!("{what} {value} is not a number from 1 to {most}")))
            }
        }
    }

    pub(crate) fn input(self) -> Input {
        match self.operands.into_iter().next() {
            None => Input::Stdin,
            Some(file) if file == "-" => Input::Stdin,
            Some(file) => Input::File(file.into()),
        }
    }
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

pub(crate) fn is_option(arg: &OsStr) -> bool {
    arg.as_encoded_bytes().starts_with(b"-") && arg != "-"
}

/// An argument in a message.
pub(crate) fn shown(arg: &OsStr) -> String {
    match crate::visible(&arg.to_string_lossy()) {
        empty if empty.is_empty() => "''".to_owned(),
        text => text,
    }
}
