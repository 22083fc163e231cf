//! Arguments, sorted into a command, its operands and its options, as the table has them.

use super::Topic;
use crate::commands::table::{self, Count, Family, GLOBAL, Kind, Operand, Opt, Spec, VERSION};
use crate::commands::wrong::{UsageError, Wrong, nearest, shown};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// An option, and its value if it has one.
pub(super) type Written = (&'static Opt, Option<OsString>);

/// What arguments are.
pub(super) enum Found {
    /// They ask for help.
    Help(Topic, Vec<Written>),
    /// They ask for a command.
    Given(Given),
}

/// A command with what belongs to it, each of the kind that the table says.
pub(super) struct Given {
    pub(super) spec: &'static Spec,
    pub(super) operands: Vec<OsString>,
    pub(super) options: Vec<Written>,
}

/// What has been seen up to some argument.
#[derive(Default)]
struct Scan {
    family: Option<&'static Family>,
    spec: Option<&'static Spec>,
    operands: Vec<OsString>,
    options: Vec<Written>,
    /// What is wrong first. It is told at the end, if nobody has asked for help until then.
    wrong: Option<Wrong>,
}

/// Sorts arguments.
pub(super) fn scan(args: Vec<OsString>) -> Result<Found, UsageError> {
    let mut scan = Scan::default();
    let mut args = args.into_iter().peekable();
    let mut is_rest = false;
    while let Some(arg) = args.next() {
        if is_rest || !is_option(&arg) {
            // What was wrong before is why this is no command.
            scan.word(arg).map_err(|error| scan.first(error))?;
        } else if arg == "--" {
            is_rest = true;
        } else if let Err(wrong) = scan.option(&arg, || args.next_if(|next| !is_option(next))) {
            scan.wrong.get_or_insert(wrong);
        }
    }
    scan.end()
}

/// Whether this is none but an option: a dash alone is a file, and one with a digit is a number.
fn is_option(arg: &OsStr) -> bool {
    match arg.as_bytes() {
        [b'-', next, ..] => !next.is_ascii_digit(),
        _ => false,
    }
}

impl Scan {
    fn name(&self) -> Option<&'static str> {
        let family = self.family.map(|family| family.name);
        self.spec.map(|spec| spec.name).or(family)
    }

    fn fail(&self, wrong: Wrong) -> UsageError {
        UsageError {
            command: self.name(),
            wrong,
        }
    }

    /// What is wrong first, if this error comes after it.
    fn first(&self, error: UsageError) -> UsageError {
        match &self.wrong {
            Some(wrong) => self.fail(wrong.clone()),
            None => error,
        }
    }

    /// A word is the command, or the second one of it, or an operand.
    fn word(&mut self, arg: OsString) -> Result<(), UsageError> {
        if self.spec.is_some() {
            self.operands.push(arg);
            return Ok(());
        }
        let word = arg.to_str().unwrap_or_default();
        if let Some(family) = self.family {
            let known: Vec<&str> = family.commands().map(Spec::word).collect();
            self.spec = family.commands().find(|spec| spec.word() == word);
            return match self.spec {
                Some(_) => Ok(()),
                None => Err(self.fail(Wrong::Word {
                    given: shown(&arg),
                    near: nearest(&arg, known.iter().copied()),
                    known,
                })),
            };
        }
        self.family = Family::find(word);
        self.spec = table::find(word).filter(|spec| spec.family().is_none());
        match self.family.is_some() || self.spec.is_some() {
            true => Ok(()),
            false => Err(self.fail(unknown(&arg))),
        }
    }

    /// An option; `next` is the argument behind it, if that may be a value.
    fn option(
        &mut self,
        arg: &OsStr,
        next: impl FnOnce() -> Option<OsString>,
    ) -> Result<(), Wrong> {
        let bytes = arg.as_bytes();
        let equals = bytes.iter().position(|it| *it == b'=');
        let equals = equals.filter(|_| bytes.starts_with(b"--"));
        let (name, inline) = match equals {
            Some(at) => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]))),
            None => (bytes, None),
        };
        let name = OsStr::from_bytes(name);
        let written = name.to_str().unwrap_or_default();
        if self.spec.is_none() && self.family.is_none() && is_version(written) {
            self.spec = table::find("version");
            return Ok(());
        }
        let found = match self.spec {
            Some(spec) => spec.option(written),
            None => table::among(GLOBAL, written),
        };
        let option = found.ok_or_else(|| self.no_option(name))?;
        let Some((_, kind)) = option.value else {
            self.options.push((option, None));
            return match inline {
                None => Ok(()),
                Some(_) => Err(Wrong::NotTaken {
                    option: option.long,
                }),
            };
        };
        let value = inline.map(OsStr::to_owned).or_else(next);
        let value = value.ok_or_else(|| Wrong::NoValue {
            option: option.long,
            allowed: kind.allowed(),
        })?;
        suits(option.long, kind, &value)?;
        if !option.is_repeated && self.options.iter().any(|(other, _)| *other == option) {
            return Err(Wrong::Twice {
                option: option.long,
            });
        }
        self.options.push((option, Some(value)));
        Ok(())
    }

    fn no_option(&self, name: &OsStr) -> Wrong {
        let written = name.to_str().unwrap_or_default();
        let Some(spec) = self.spec else {
            let word = self.family.map(|family| family.name);
            let all = table::all().filter(|it| word.is_none_or(|word| it.name.starts_with(word)));
            let having = all.filter(|spec| table::among(spec.options, written).is_some());
            let commands: Vec<&str> = having.clone().map(|spec| spec.name).collect();
            let mut options = having.filter_map(|spec| table::among(spec.options, written));
            if let Some(option) = options.next() {
                return Wrong::Early {
                    option: option.long,
                    commands,
                };
            }
            return no_option(name, GLOBAL.iter().chain([&VERSION]));
        };
        no_option(name, spec.options.iter().chain(GLOBAL))
    }

    fn end(self) -> Result<Found, UsageError> {
        if self
            .options
            .iter()
            .any(|(option, _)| option.long == table::HELP.long)
        {
            let family = self.family.map_or(Topic::Overview, Topic::Family);
            let topic = self.spec.map_or(family, Topic::Command);
            return Ok(Found::Help(topic, self.options));
        }
        if let Some(wrong) = &self.wrong {
            return Err(self.fail(wrong.clone()));
        }
        let Some(spec) = self.spec else {
            return Err(self.fail(match self.family {
                None => Wrong::NoCommand,
                Some(family) => Wrong::NoWord {
                    known: family.commands().map(Spec::word).collect(),
                },
            }));
        };
        let given = Given {
            spec,
            operands: self.operands,
            options: self.options,
        };
        given.check()?;
        Ok(Found::Given(given))
    }
}

fn is_version(written: &str) -> bool {
    let letter = VERSION.short.map(|letter| format!("-{letter}"));
    written == VERSION.long || Some(written) == letter.as_deref()
}

fn unknown(arg: &OsStr) -> Wrong {
    let shown_ones = table::all().filter(|spec| spec.section != table::Section::Hidden);
    let alone = shown_ones.filter(|spec| spec.family().is_none());
    let families = table::FAMILIES.iter().map(|family| family.name);
    Wrong::Command {
        given: shown(arg),
        near: nearest(arg, alone.map(|spec| spec.name).chain(families)),
    }
}

fn no_option(name: &OsStr, options: impl Iterator<Item = &'static Opt>) -> Wrong {
    let known: Vec<&str> = options.map(|option| option.long).collect();
    Wrong::Option {
        given: shown(name),
        near: nearest(name, known.iter().copied()),
        known,
    }
}

/// Whether a value is of that kind.
fn suits(of: &'static str, kind: Kind, value: &OsStr) -> Result<(), Wrong> {
    let is_right = match (kind, value.to_str()) {
        (Kind::File | Kind::Directory, _) => !value.is_empty(),
        (_, None) => false,
        (kind, Some(text)) => kind.allows(text),
    };
    let words = match kind {
        Kind::Words(words) => words,
        _ => &[],
    };
    match is_right {
        true => Ok(()),
        false => Err(Wrong::Value {
            of,
            given: shown(value),
            allowed: kind.allowed(),
            near: nearest(value, words.iter().copied()),
        }),
    }
}

impl Given {
    pub(super) fn wrong(&self, wrong: Wrong) -> UsageError {
        UsageError {
            command: Some(self.spec.name),
            wrong,
        }
    }

    /// Whether there are as many operands as there should be, each of its kind.
    fn check(&self) -> Result<(), UsageError> {
        let wanted = self.spec.operands;
        for (number, operand) in wanted.iter().enumerate() {
            if operand.count != Count::Optional && number >= self.operands.len() {
                return Err(self.wrong(missing(operand)));
            }
        }
        for (number, value) in self.operands.iter().enumerate() {
            let last = wanted.last();
            let more = last.filter(|it| it.count == Count::Some || it.kind == Kind::Command);
            let Some(operand) = wanted.get(number).or(more) else {
                return Err(self.wrong(Wrong::TooMany {
                    given: shown(value),
                    usage: self.spec.usages().join(", or "),
                }));
            };
            suits(operand.name, operand.kind, value).map_err(|wrong| self.wrong(wrong))?;
        }
        if self.has("--json") && !self.spec.has_json() {
            return Err(self.wrong(Wrong::NoJson));
        }
        Ok(())
    }

    /// Whether the option is there.
    pub(super) fn has(&self, long: &str) -> bool {
        self.options.iter().any(|(option, _)| option.long == long)
    }

    fn values<'a>(&'a self, long: &'a str) -> impl Iterator<Item = (&'static Opt, &'a OsStr)> {
        let named = self
            .options
            .iter()
            .filter(move |(option, _)| option.long == long);
        named.filter_map(|(option, value)| Some((*option, value.as_deref()?)))
    }

    /// All values of the option, as `read` reads them.
    pub(super) fn all<T>(
        &self,
        long: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, UsageError> {
        let one = |(option, value): (&'static Opt, &OsStr)| {
            let kind = option.value.map_or(Kind::Any, |(_, kind)| kind);
            self.read(option.long, kind, value, &read)
        };
        self.values(long).map(one).collect()
    }

    /// The value of the option.
    pub(super) fn one<T>(
        &self,
        long: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, UsageError> {
        Ok(self.all(long, read)?.into_iter().next())
    }

    /// The value of an option that is a path.
    pub(super) fn path(&self, long: &str) -> Option<PathBuf> {
        self.values(long).next().map(|(_, value)| value.into())
    }

    /// An operand that is a path.
    pub(super) fn path_at(&self, number: usize) -> Option<PathBuf> {
        self.operands.get(number).map(PathBuf::from)
    }

    /// An operand that has to be there.
    pub(super) fn at<T>(
        &self,
        number: usize,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, UsageError> {
        let operand = self.spec.operands.get(number);
        let (name, kind) = operand.map_or(("it", Kind::Any), |it| (it.name, it.kind));
        match self.operands.get(number) {
            Some(value) => self.read(name, kind, value, read),
            None => Err(self.wrong(Wrong::Missing {
                what: name,
                allowed: kind.allowed(),
            })),
        }
    }

    /// A value; whether it is of its kind has been looked at before.
    fn read<T>(
        &self,
        of: &'static str,
        kind: Kind,
        value: &OsStr,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, UsageError> {
        value.to_str().and_then(read).ok_or_else(|| {
            self.wrong(Wrong::Value {
                of,
                given: shown(value),
                allowed: kind.allowed(),
                near: None,
            })
        })
    }
}

fn missing(operand: &Operand) -> Wrong {
    Wrong::Missing {
        what: operand.name,
        allowed: operand.kind.allowed(),
    }
}
