//! What each command makes of what was given to it.

use super::given::Given;
use super::{
    Add, Adding, Answer, Check, Command, Conns, Demo, Detach, Doctor, Drain, Events, Explain,
    Import, Input, Man, Offer, Output, Peer, Prefix, Remove, RouteAdd, RouteRemove, Run, Set,
    TargetAdd, TargetRemove, Text, Top, Topic, Update, usual_config,
};
use crate::commands::table::{self, Family, PINS, place};
use crate::commands::words::{By, Format, Sort, Word};
use crate::commands::wrong::{UsageError, Wrong, nearest, shown};
use bpfsmith_config::desired::Source;
use bpfsmith_config::{Value, json};
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

type Result<T> = std::result::Result<T, UsageError>;

/// The command.
pub(super) fn command(given: &Given) -> Result<Command> {
    Ok(match given.spec.name {
        "run" => Command::Run(run(given)?),
        "demo" => Command::Demo(Demo {
            is_plain: given.has("--plain"),
            rounds: given.one("--rounds", number)?,
        }),
        "status" => Command::Status,
        "top" => Command::Top(Top {
            interval: given
                .one("--interval", table::time)?
                .unwrap_or(Duration::from_secs(1)),
            is_once: given.has("--once"),
        }),
        "conns" => Command::Conns(conns(given)?),
        "events" => Command::Events(events(given)?),
        "config" => Command::Config,
        "add" => Command::Add(add(given)?),
        "update" => Command::Update(update(given)?),
        "remove" => Command::Remove(Remove {
            name: given.at(0, text)?,
            is_saved: given.has("--save"),
        }),
        "reload" => Command::Reload,
        "set" => Command::Set(set(given)?),
        "save" => Command::Save,
        "shell" => Command::Shell,
        "completions" => Command::Completions(given.at(0, Word::of)?),
        "man" => Command::Man(Man {
            output: given.path("--output"),
        }),
        "help" => Command::Help(topic(given)?),
        "version" => Command::Version,
        "__names" => Command::Names(given.at(0, Word::of)?),
        name => return more(name, given),
    })
}

/// The same for those that have more to it.
fn more(name: &str, given: &Given) -> Result<Command> {
    Ok(match name {
        "route add" => Command::RouteAdd(RouteAdd {
            proxy: given.at(0, text)?,
            source: given.at(1, source)?,
            answer: needed(given, answer(given)?)?,
            is_saved: given.has("--save"),
        }),
        "route remove" => Command::RouteRemove(RouteRemove {
            proxy: given.at(0, text)?,
            source: given.at(1, source)?,
            is_saved: given.has("--save"),
        }),
        "target add" => Command::TargetAdd(TargetAdd {
            group: given.at(0, text)?,
            place: given.at(1, place)?,
            weight: given.one("--weight", number)?.unwrap_or(1),
            is_saved: given.has("--save"),
        }),
        "target remove" => Command::TargetRemove(TargetRemove {
            group: given.at(0, text)?,
            place: given.at(1, place)?,
            is_saved: given.has("--save"),
        }),
        "drain" => Command::Drain(drain(given)?),
        "undrain" => Command::Undrain(drain(given)?),
        "check" => Command::Check(check(given)?),
        "import" => Command::Import(Import {
            input: input(given.path_at(0).unwrap_or_else(|| "-".into())),
            output: match given.path("--output") {
                Some(path) if path != Path::new("-") => Output::File(path),
                _ => Output::Stdout,
            },
        }),
        "doctor" => Command::Doctor(Doctor {
            config: given.path_at(0),
        }),
        "explain" => Command::Explain(Explain {
            config: given.path_at(0).unwrap_or_else(usual_config),
            hook: given.one("--hook", Word::of)?,
            device: given.one("--device", text)?,
        }),
        "detach" => Command::Detach(Detach {
            pins: given.path("--pins").unwrap_or_else(|| PINS.into()),
        }),
        // The table has no other: a test asks for each of its rows.
        _ => return Err(given.wrong(Wrong::NoCommand)),
    })
}

fn text(it: &str) -> Option<String> {
    Some(it.to_owned())
}

fn source(it: &str) -> Option<Source> {
    it.parse().ok()
}

fn number<T: TryFrom<u64>>(it: &str) -> Option<T> {
    table::whole(it)?.try_into().ok()
}

fn run(given: &Given) -> Result<Run> {
    let config = match (given.path_at(0), given.path("--config")) {
        (Some(_), Some(_)) => {
            return Err(given.wrong(Wrong::Together {
                one: "CONFIG",
                other: "--config",
                why: "both are the configuration, and there is one",
            }));
        }
        (one, other) => one.or(other),
    };
    Ok(Run {
        config: config.unwrap_or_else(usual_config),
    })
}

fn conns(given: &Given) -> Result<Conns> {
    let peer = |it: &str| table::peer(it).map(|(address, port)| Peer { address, port });
    let client = given.one("--client", table::client)?;
    let conns = Conns {
        protocol: given.one("--protocol", Word::of)?,
        client: client.map(|(address, bits, _)| Prefix { address, bits }),
        client_port: client.and_then(|(.., port)| port),
        service: given.one("--service", peer)?,
        target: given.one("--target", peer)?,
        proxy: given.one("--proxy", text)?,
        state: given.one("--state", Word::of)?,
        is_open: given.has("--open"),
        sort: given.one("--sort", Sort::of)?,
        by: given.one("--by", By::of)?,
        limit: given.one("--limit", number)?,
    };
    match (conns.by, conns.sort) {
        (Some(_), Some(Sort::Age | Sort::Idle)) => Err(given.wrong(Wrong::Together {
            one: "--by",
            other: "--sort age or idle",
            why: "connections that are put together are sorted by bytes or packets, or by number without --sort",
        })),
        _ => Ok(conns),
    }
}

fn events(given: &Given) -> Result<Events> {
    let kinds = given.all("--kind", |it| {
        it.split(',').map(Word::of).collect::<Option<Vec<_>>>()
    })?;
    let mut kinds = kinds.concat();
    kinds.sort_unstable();
    kinds.dedup();
    Ok(Events {
        is_following: given.has("--follow"),
        kinds,
        proxy: given.one("--proxy", text)?,
    })
}

/// Who answers, if anybody says.
fn answer(given: &Given) -> Result<Answer> {
    let answer = Answer {
        group: given.one("--group", text)?,
        targets: given.all("--target", table::weighted)?,
        algorithm: given.one("--algorithm", Word::of)?,
        nat: given.one("--nat", Word::of)?,
    };
    let own = ["--target", "--algorithm", "--nat"];
    match own.into_iter().find(|option| given.has(option)) {
        Some(other) if answer.group.is_some() => Err(given.wrong(Wrong::Together {
            one: "--group",
            other,
            why: "a group has targets, an algorithm and NAT of its own",
        })),
        _ => Ok(answer),
    }
}

/// The same, if anybody does answer.
fn needed(given: &Given, answer: Answer) -> Result<Answer> {
    match answer.group.is_none() && answer.targets.is_empty() {
        false => Ok(answer),
        true => Err(given.wrong(Wrong::Missing {
            what: "--target or --group",
            allowed: Cow::Borrowed("it says who answers"),
        })),
    }
}

fn offer(given: &Given) -> Result<Offer> {
    Ok(Offer {
        port: given.one("--port", number)?,
        addresses: given.all("--address", |it| it.parse().ok())?,
        devices: given.all("--device", text)?,
        protocols: given.all("--protocol", Word::of)?,
        answer: answer(given)?,
    })
}

fn add(given: &Given) -> Result<Add> {
    let is_saved = given.has("--save");
    if let Some(path) = given.path("--file") {
        let beside = ["--file", "--format", "--save"];
        let mut others = given.spec.options.iter().map(|option| option.long);
        let other = others.find(|long| !beside.contains(long) && given.has(long));
        let name = given.spec.operands.first().map(|operand| operand.name);
        let other = name.filter(|_| !given.operands.is_empty()).or(other);
        if let Some(other) = other {
            return Err(given.wrong(Wrong::Together {
                one: "--file",
                other,
                why: "the file has all that describes the proxy",
            }));
        }
        return Ok(Add {
            what: Adding::Table(file(given, path, &[Format::Toml, Format::Json])?),
            is_saved,
        });
    }
    if given.has("--format") {
        return Err(given.wrong(Wrong::Alone {
            one: "--format",
            other: "--file",
        }));
    }
    let name = given.at(0, text)?;
    let offer = offer(given)?;
    if offer.port.is_none() {
        return Err(given.wrong(Wrong::Missing {
            what: "--port",
            allowed: table::PORT.allowed(),
        }));
    }
    needed(given, offer.answer.clone())?;
    Ok(Add {
        what: Adding::Offer(name, offer),
        is_saved,
    })
}

fn update(given: &Given) -> Result<Update> {
    let offer = offer(given)?;
    if offer == Offer::default() {
        return Err(given.wrong(Wrong::Nothing));
    }
    Ok(Update {
        name: given.at(0, text)?,
        offer,
        is_saved: given.has("--save"),
    })
}

fn drain(given: &Given) -> Result<Drain> {
    Ok(Drain {
        place: given.at(0, place)?,
        group: given.one("--group", text)?,
    })
}

fn set(given: &Given) -> Result<Set> {
    let path = given.at(0, |it| Some(it.split('.').map(str::to_owned).collect()))?;
    let value = given.at(1, |it| match json::read(it) {
        Ok(value) => Some(value.bare()),
        // What begins as JSON was meant to be that.
        Err(_) if it.starts_with(['"', '[', '{']) => None,
        Err(_) => Some(Value::from(it)),
    });
    let value = value.map_err(|error| match error.wrong {
        Wrong::Value {
            of,
            given: it,
            near,
            ..
        } => given.wrong(Wrong::Value {
            of,
            given: it,
            allowed: "it begins like JSON, and is none".into(),
            near,
        }),
        wrong => given.wrong(wrong),
    })?;
    Ok(Set {
        path,
        value,
        is_saved: given.has("--save"),
    })
}

fn check(given: &Given) -> Result<Check> {
    let files = given.operands.iter().map(PathBuf::from);
    let texts = files.map(|path| file(given, path, Format::ALL));
    Ok(Check {
        texts: texts.collect::<Result<_>>()?,
    })
}

fn input(path: PathBuf) -> Input {
    match path == Path::new("-") {
        true => Input::Stdin,
        false => Input::File(path),
    }
}

/// A file in one of these formats: that which is said, or that which its ending says.
fn file(given: &Given, path: PathBuf, known: &[Format]) -> Result<Text> {
    let said = given.one("--format", Format::of)?;
    let input = input(path);
    let ending = match &input {
        Input::Stdin => Some(Format::Toml),
        Input::File(path) => path
            .extension()
            .and_then(OsStr::to_str)
            .and_then(Format::of),
    };
    let format = said.or(ending).filter(|format| known.contains(format));
    match (format, input) {
        (Some(format), input) => Ok(Text { input, format }),
        (None, Input::File(path)) => Err(given.wrong(Wrong::Ending {
            file: shown(path.as_os_str()),
            known: known.iter().map(|format| format.word()).collect(),
        })),
        (None, Input::Stdin) => Err(given.wrong(Wrong::Alone {
            one: "-",
            other: "--format",
        })),
    }
}

fn topic(given: &Given) -> Result<Topic> {
    let words: Vec<Cow<'_, str>> = given
        .operands
        .iter()
        .map(|it| it.to_string_lossy())
        .collect();
    let name = words.join(" ");
    if name.is_empty() {
        return Ok(Topic::Overview);
    }
    let topic = match Family::find(&name) {
        Some(family) => Some(Topic::Family(family)),
        None => table::find(&name).map(Topic::Command),
    };
    topic.ok_or_else(|| {
        let shown_ones = table::all().filter(|spec| spec.section != table::Section::Hidden);
        let families = table::FAMILIES.iter().map(|family| family.name);
        let name = OsString::from(name);
        given.wrong(Wrong::Command {
            given: shown(&name),
            near: nearest(&name, shown_ones.map(|spec| spec.name).chain(families)),
        })
    })
}
