//! The words of `bpfsmith btf`.

use super::{Command, Form, UsageError, form};
use crate::given::{BASE, DEEP, FILE, Given, ID, JSON, KIND, MODULE, Operands, Opt, RAW, shown};
use crate::help::Topic;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What to do with types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Btf {
    /// Print them.
    Dump {
        /// Where they are.
        origin: Origin,
        /// Patterns of their names, or their numbers; all of them if there is none.
        types: Vec<String>,
        /// What is printed.
        detail: Detail,
    },
    /// Look for names.
    Find {
        /// Where.
        origin: Origin,
        /// Patterns of names.
        patterns: Vec<String>,
        /// What it has to be: a kind of type, `member` or `constant`.
        kind: Option<&'static str>,
        /// The form of what is printed.
        form: Form,
    },
    /// Compare.
    Diff {
        /// What was.
        old: Origin,
        /// What is.
        new: Origin,
        /// Patterns of names; all types if there is none.
        types: Vec<String>,
        /// The form of what is printed.
        form: Form,
    },
}

/// How types are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// As C: named types with places and holes, all types as a header.
    C,
    /// As C, with all that they need.
    Deep,
    /// As their records are.
    Raw,
    /// For programs.
    Json,
}

/// Where types are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The place.
    pub place: Place,
    /// The file with the types that these continue, if that was said.
    pub base: Option<PathBuf>,
}

/// A place that holds types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The running kernel.
    Kernel,
    /// A module that is loaded.
    Module(String),
    /// BTF in the kernel, by its number.
    Id(u32),
    /// A file of BTF, or an ELF file with some.
    File(PathBuf),
}

/// What can be looked for.
pub(crate) const KINDS: &[&str] = &[
    "member", "constant", "struct", "union", "enum", "typedef", "func", "var", "int", "float",
    "fwd", "datasec", "decl_tag", "type_tag",
];

/// The name of the command, and those of what it does.
const NAME: &str = "btf";
const DUMP: &str = "btf dump";
const FIND: &str = "btf find";
const DIFF: &str = "btf diff";

/// Whether it is something that can be done with types.
pub(super) fn is_verb(word: &OsStr) -> bool {
    [DUMP, FIND, DIFF].iter().any(|name| {
        let verb = name.strip_prefix("btf ");
        verb.is_some_and(|verb| word == verb)
    })
}

pub(super) fn parse(args: Vec<OsString>) -> Result<Command, UsageError> {
    let wrong = |message| UsageError {
        command: Some(NAME),
        message,
    };
    let mut args = args.into_iter();
    let Some(verb) = args.next() else {
        return Err(wrong("nothing to do: use dump, find or diff".to_owned()));
    };
    let rest = args.collect();
    let given = |name, options| Given::new(name, rest, options, Operands::Words);
    let parsed = match verb.to_str() {
        Some("dump") => match given(DUMP, &[FILE, MODULE, ID, BASE, DEEP, RAW, JSON])? {
            Some(given) => Some(dump(&given)?),
            None => None,
        },
        Some("find") => match given(FIND, &[FILE, MODULE, ID, BASE, KIND, JSON])? {
            Some(given) => Some(find(&given)?),
            None => None,
        },
        Some("diff") => match given(DIFF, &[BASE, JSON])? {
            Some(given) => Some(diff(&given)?),
            None => None,
        },
        Some("-h" | "--help") => None,
        _ => {
            let verb = shown(&verb);
            return Err(wrong(format!("cannot {verb}: use dump, find or diff")));
        }
    };
    Ok(parsed.map_or(Command::Help(Topic::Btf), Command::Btf))
}

fn dump(given: &Given) -> Result<Btf, UsageError> {
    let types = texts(given, given.words())?;
    let details = [
        (DEEP, Detail::Deep),
        (RAW, Detail::Raw),
        (JSON, Detail::Json),
    ];
    let mut asked = details.iter().filter(|(opt, _)| given.has(*opt));
    let detail = match (asked.next(), asked.next()) {
        (None, _) => Detail::C,
        (Some((_, detail)), None) => *detail,
        (Some((first, _)), Some((second, _))) => {
            let (first, second) = (first.name, second.name);
            return Err(given.wrong(format!(
                "{first} and {second} exclude each other: leave one out"
            )));
        }
    };
    Ok(Btf::Dump {
        origin: origin(given)?,
        types,
        detail,
    })
}

fn find(given: &Given) -> Result<Btf, UsageError> {
    let patterns = texts(given, given.words())?;
    if patterns.is_empty() {
        let message = "nothing to look for: name a type, function or constant, or a member as \
                       tcp_sock.snd_cwnd";
        return Err(given.wrong(message.to_owned()));
    }
    let kind = match given.value(KIND) {
        None => None,
        Some(value) => {
            let known = KINDS.iter().find(|kind| value == **kind).copied();
            Some(known.ok_or_else(|| {
                let (value, all) = (shown(value), KINDS.join(", "));
                given.wrong(format!("--kind {value} is not known: use one of {all}"))
            })?)
        }
    };
    Ok(Btf::Find {
        origin: origin(given)?,
        patterns,
        kind,
        form: form(given),
    })
}

fn diff(given: &Given) -> Result<Btf, UsageError> {
    let [old, new, types @ ..] = given.words() else {
        let message = "two places of types are needed: name files, kernel, module:NAME or id:N";
        return Err(given.wrong(message.to_owned()));
    };
    let base = base(given)?;
    let origin = |word: &OsStr| -> Result<Origin, UsageError> {
        Ok(Origin {
            place: place(given, word)?,
            base: base.clone(),
        })
    };
    Ok(Btf::Diff {
        old: origin(old)?,
        new: origin(new)?,
        types: texts(given, types)?,
        form: form(given),
    })
}

/// A place in one word.
fn place(given: &Given, word: &OsStr) -> Result<Place, UsageError> {
    let text = word.to_str().unwrap_or("");
    Ok(match text.split_once(':') {
        _ if text == "kernel" => Place::Kernel,
        Some(("module", name)) => Place::Module(module(given, name)?),
        Some(("id", number)) => Place::Id(given.number("id", number.as_ref(), u32::MAX)?),
        _ => Place::File(file(given, "the", word)?),
    })
}

/// The place that options name.
fn origin(given: &Given) -> Result<Origin, UsageError> {
    let named: Vec<Opt> = [FILE, MODULE, ID]
        .into_iter()
        .filter(|opt| given.has(*opt))
        .collect();
    if let [first, second, ..] = named[..] {
        let (first, second) = (first.name, second.name);
        return Err(given.wrong(format!(
            "{first} and {second} exclude each other: leave one out"
        )));
    }
    let place = if let Some(path) = given.value(FILE) {
        Place::File(file(given, "--file's", path)?)
    } else if let Some(name) = given.value(MODULE) {
        Place::Module(module(given, name.to_str().unwrap_or(""))?)
    } else if let Some(number) = given.value(ID) {
        Place::Id(given.number("--id", number, u32::MAX)?)
    } else {
        Place::Kernel
    };
    Ok(Origin {
        place,
        base: base(given)?,
    })
}

fn base(given: &Given) -> Result<Option<PathBuf>, UsageError> {
    let base = given.value(BASE);
    base.map(|path| file(given, "--base's", path)).transpose()
}

fn file(given: &Given, whose: &str, path: &OsStr) -> Result<PathBuf, UsageError> {
    match path.is_empty() {
        true => Err(given.wrong(format!("{whose} file name is empty: name a file"))),
        false => Ok(path.into()),
    }
}

/// A module's name is that of a file in a directory of the kernel's.
fn module(given: &Given, name: &str) -> Result<String, UsageError> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !name.is_empty() && name.chars().all(is_part) {
        // As the kernel itself calls them.
        true => Ok(name.replace('-', "_")),
        false => Err(given.wrong(format!(
            "{} is no name of a module: write it as lsmod does",
            shown(name.as_ref())
        ))),
    }
}

fn texts(given: &Given, words: &[OsString]) -> Result<Vec<String>, UsageError> {
    let text = |word: &OsString| match word.to_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(given.wrong(format!(
            "{} is no name: name a type, as tcp_sock or 'tcp_*'",
            shown(word)
        ))),
    };
    words.iter().map(text).collect()
}
