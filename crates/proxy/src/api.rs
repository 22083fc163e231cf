//! What a running proxy answers: HTTP with JSON.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /v1/status` | how everything stands |
//! | `GET /v1/config` | the configuration, as TOML; with `?form=json` as JSON |
//! | `PUT /v1/config` | another configuration in its place, as TOML, or as JSON if its type says so |
//! | `POST /v1/proxies` | one more proxy: the body is its table |
//! | `PATCH /v1/proxies/NAME` | some fields of it get other values; `null` removes one |
//! | `DELETE /v1/proxies/NAME` | it goes |
//! | `POST /v1/proxies/NAME/routes` | one more route |
//! | `DELETE /v1/proxies/NAME/routes/SOURCE` | the route of that source goes |
//! | `PUT`, `PATCH`, `DELETE /v1/groups/NAME` | a group |
//! | `POST /v1/groups/NAME/targets` | one more target |
//! | `DELETE /v1/groups/NAME/targets/ADDRESS` | it goes |
//! | `PUT /v1/values/NAME…` | a value, by the names that lead to it, like `settings/timeouts/udp` or `groups/web/drain`: the body is what it is, `null` removes it |
//! | `POST /v1/drain`, `POST /v1/undrain` | `{"target": "10.0.0.2:80", "group": "web"}`, without a group in all |
//! | `GET /v1/connections` | those of `protocol`, `client`, `client_port`, `service`, `target`, `proxy`, `state`, `open=yes`; `sort` and `limit`; `by` for sums |
//! | `GET /v1/connections/PROTOCOL/CLIENT/SERVICE` | one of them, by its addresses with their ports |
//! | `GET /v1/events` | a line of JSON for each event from now on, of `kind` and `proxy`; with `past=yes` the last ones |
//! | `PUT /v1/events` | `{"kinds": ["new", "closed"]}`: what the kernel tells of |
//! | `POST /v1/reload` | the file of configuration is read again |
//! | `POST /v1/save` | the configuration is written to its file |
//! | `GET /metrics` | counters for Prometheus |
//!
//! Whatever changes something answers with the generation that came of it; `?save=yes` saves it besides. What is
//! refused is answered by `{"error": "…"}`: 400 for what is wrong, 404 for what is not there, 409 for what is
//! there already, 500 if the kernel refused.

use crate::change::Change;
use crate::commands::words::{By, EVENTS, STATES, Sort, Word};
use crate::daemon::{self, Daemon};
use crate::error::{Error, Result};
use crate::feed::{Subscription, Told};
use crate::filter::{Filter, Key};
use crate::http::{Answer, Method, Next, Request, Response, Stream};
use crate::keeper::Turn;
use crate::listing::Query;
use crate::status;
use bpfsmith_config::desired::Protocol;
use bpfsmith_config::edit::Document;
use bpfsmith_config::{Problems, Value, json};
use bpfsmith_datapath::Prefix;
use bpfsmith_datapath::event::Kind;
use std::net::{IpAddr, SocketAddr};

/// Events that wait for one who follows them.
const WAITING: usize = 1 << 14;

/// What a request is answered.
pub fn answer(daemon: &Daemon, request: &Request) -> Answer {
    match route(daemon, request) {
        Ok(answer) => answer,
        Err(error) => Response::error(status_of(&error), &error.to_string()).into(),
    }
}

fn route(daemon: &Daemon, request: &Request) -> Result<Answer> {
    use Method::{GET, POST, PUT};
    let segments = request.segments();
    let path = match segments.as_slice() {
        ["metrics"] => ["metrics"].as_slice(),
        ["v1", rest @ ..] => rest,
        _ => &[],
    };
    let turned = match (request.method, path) {
        (GET, ["metrics"]) => return metrics(daemon),
        (GET, ["status"]) => return told(&daemon.status()?.value()),
        (GET, ["config"]) => return configuration(daemon, request),
        (GET, ["connections"]) => return connections(daemon, request),
        (GET, ["connections", protocol, client, service]) => {
            return connection(daemon, [protocol, client, service]);
        }
        (GET, ["events"]) => return events(daemon, request),
        (PUT, ["events"]) => return want(daemon, request),
        (POST, ["save"]) => {
            let path = daemon.save()?;
            return told(&Value::table([("saved", Value::shown(path.display()))]));
        }
        (POST, ["reload"]) => daemon.reload()?,
        (PUT, ["config"]) => daemon.apply(document(request)?)?,
        (POST, ["drain"]) => {
            let (target, group) = meant(request)?;
            daemon.proxy().drain(target, group.as_deref())?
        }
        (POST, ["undrain"]) => {
            let (target, group) = meant(request)?;
            daemon.proxy().undrain(target, group.as_deref())?
        }
        (method, path) => match Change::of(method, path, request)? {
            Some(change) => daemon.change(|it| change.make(it))?,
            None => {
                let what = format!(
                    "{method} /{} is nothing here: see /v1/status",
                    segments.join("/")
                );
                return Ok(Response::error(404, &what).into());
            }
        },
    };
    let saved = match request.parameter("save") {
        Some("yes") => Some(
            daemon
                .save()
                .map_err(|error| Error::Unsaved(Box::new(error)))?,
        ),
        _ => None,
    };
    let notes = daemon.waiting();
    told(&turn(&turned, saved.as_deref(), &notes))
}

fn told(value: &Value) -> Result<Answer> {
    Ok(Response::json(200, json::write(value) + "\n").into())
}

/// What came of a change.
fn turn(turn: &Turn, saved: Option<&std::path::Path>, notes: &[String]) -> Value {
    let lost = turn.lost.iter().map(|choice| choice.name.as_str().into());
    Value::table([
        ("generation", turn.generation.into()),
        ("new", turn.is_new.into()),
        ("lost_devices", Value::list(lost)),
        ("milliseconds", (turn.took.as_secs_f64() * 1000.0).into()),
        ("saved", saved.map(|path| path.display().to_string()).into()),
        (
            "notes",
            Value::list(notes.iter().map(|note| note.as_str().into())),
        ),
    ])
}

/// The body, which is JSON.
pub(crate) fn body(request: &Request) -> Result<Value> {
    Ok(json::read(text(request)?)?)
}

fn text(request: &Request) -> Result<&str> {
    let text = std::str::from_utf8(&request.body);
    text.map_err(|_| bad("the body is no text: it is UTF-8"))
}

fn bad(what: impl Into<String>) -> Error {
    Error::Wanted(Problems::one(bpfsmith_config::At::default(), what))
}

/// The configuration that a request brings.
///
/// # Errors
/// When it is none.
pub fn document(request: &Request) -> Result<Document> {
    let text = text(request)?;
    let form = request.field("content-type").unwrap_or_default();
    match form.starts_with("application/json") {
        true => daemon::of_json(text),
        false => Ok(Document::read(text)?),
    }
}

fn configuration(daemon: &Daemon, request: &Request) -> Result<Answer> {
    let document = daemon.proxy().document();
    match request.parameter("form") {
        Some("json") => told(document.value()),
        _ => Ok(Response::new(200, "application/toml", document.text()).into()),
    }
}

/// The target that a request means, and its group.
///
/// # Errors
/// When its body names none.
pub fn meant(request: &Request) -> Result<(SocketAddr, Option<String>)> {
    let value = body(request)?;
    let problems = Problems::new();
    let mut fields = value.fields(&problems);
    let target = fields.need::<String>("target").unwrap_or_default();
    let group = fields.get("group");
    fields.end();
    problems.end()?;
    let address = target.parse();
    let address = address.map_err(|_| {
        bad(format!(
            "target is {target:?}: it is an address with a port, like 10.0.0.2:80"
        ))
    })?;
    Ok((address, group))
}

/// A parameter, read by a function.
fn parameter<T>(
    request: &Request,
    name: &str,
    read: impl Fn(&str) -> Option<T>,
    allowed: &str,
) -> Result<Option<T>> {
    let Some(text) = request.parameter(name) else {
        return Ok(None);
    };
    let value = read(text).ok_or_else(|| bad(format!("{name} is {text:?}: it is {allowed}")));
    value.map(Some)
}

/// A parameter that is one of some words.
fn word<T: Word>(request: &Request, name: &str, words: &[&str]) -> Result<Option<T>> {
    parameter(request, name, T::of, &words.join(", "))
}

/// An address, and perhaps a port.
fn place(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let exact = text
        .parse()
        .map(|it: SocketAddr| (it.ip(), Some(it.port())));
    exact.or_else(|_| text.parse().map(|ip| (ip, None))).ok()
}

/// The connections that a request asks for.
///
/// # Errors
/// When a parameter is none of its words, no number or no address.
pub fn query(request: &Request) -> Result<Query> {
    let number = |text: &str| text.parse().ok();
    let prefix = |text: &str| match text.contains('/') {
        true => text.parse().ok(),
        false => text.parse().ok().map(Prefix::host),
    };
    let yes = |text: &str| match text {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    };
    Ok(Query {
        filter: Filter {
            protocol: word(request, "protocol", Protocol::WORDS)?,
            client: parameter(request, "client", prefix, "addresses, like 10.0.0.0/8")?,
            client_port: parameter(request, "client_port", |it| it.parse().ok(), "a port")?,
            service: parameter(request, "service", place, "an address, or one with a port")?,
            target: parameter(request, "target", place, "an address, or one with a port")?,
            proxy: request.parameter("proxy").map(str::to_owned),
            state: word(request, "state", STATES)?,
            is_open: parameter(request, "open", yes, "yes or no")?.unwrap_or(false),
        },
        sort: word(request, "sort", Sort::WORDS)?,
        limit: parameter(request, "limit", number, "a number")?,
        by: word(request, "by", By::WORDS)?,
    })
}

fn connections(daemon: &Daemon, request: &Request) -> Result<Answer> {
    told(&query(request)?.answer(daemon.proxy())?)
}

/// One connection.
fn connection(daemon: &Daemon, [protocol, client, service]: [&str; 3]) -> Result<Answer> {
    let address = |what: &str, text: &str| {
        let wrong =
            || format!("{what} is {text:?}: it is an address with a port, like 10.0.0.2:80");
        text.parse::<SocketAddr>().map_err(|_| bad(wrong()))
    };
    let wrong = || {
        format!(
            "{protocol:?} is no protocol: it is {}",
            Protocol::WORDS.join(" or ")
        )
    };
    let key = Key {
        protocol: Word::of(protocol).ok_or_else(|| bad(wrong()))?,
        client: address("the client", client)?,
        service: address("the service", service)?,
    };
    match daemon.proxy().connection(key)? {
        Some(found) => told(&status::connection(
            &found.connection,
            found.proxy.as_deref(),
        )),
        None => {
            let what = format!(
                "there is no connection {protocol} {client} -> {service}: see /v1/connections"
            );
            Ok(Response::error(404, &what).into())
        }
    }
}

fn kinds<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<Kind>> {
    let kind = |name: &str| {
        let what = || {
            format!(
                "{name:?} is no kind of event: there are {}",
                EVENTS.join(", ")
            )
        };
        Kind::of(name).ok_or_else(|| bad(what()))
    };
    names.map(kind).collect()
}

/// The kinds of events that a request wants the kernel to tell of.
///
/// # Errors
/// When its body names others.
pub fn wanted_kinds(request: &Request) -> Result<Vec<Kind>> {
    let value = body(request)?;
    let problems = Problems::new();
    let mut fields = value.fields(&problems);
    let names: Vec<String> = fields.all("kinds");
    fields.end();
    problems.end()?;
    kinds(names.iter().map(String::as_str))
}

fn want(daemon: &Daemon, request: &Request) -> Result<Answer> {
    daemon.proxy().want(&wanted_kinds(request)?)?;
    Ok(Response::empty().into())
}

/// Which events somebody wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    kinds: Vec<Kind>,
    proxy: Option<String>,
}

impl Wanted {
    /// Those that a request follows.
    ///
    /// # Errors
    /// When it names kinds that there are not.
    pub fn of(request: &Request) -> Result<Wanted> {
        let said: Vec<&str> = request
            .parameters("kind")
            .flat_map(|it| it.split(','))
            .collect();
        Ok(Wanted {
            kinds: match said.as_slice() {
                [] => Kind::ALL.to_vec(),
                some => kinds(some.iter().copied())?,
            },
            proxy: request.parameter("proxy").map(str::to_owned),
        })
    }

    /// The event on a line, if it is one of them.
    #[must_use]
    pub fn line(&self, told: &Told) -> Option<Vec<u8>> {
        let is_wanted = self.kinds.contains(&told.event.what.kind())
            && (self.proxy.is_none() || told.proxy.as_deref() == self.proxy.as_deref());
        let event = || status::event(told.read, told.proxy.as_deref(), &told.event);
        is_wanted.then(|| (json::write(&event()) + "\n").into_bytes())
    }
}

/// A line for each event: those that are over, or those that come, as long as somebody listens.
fn events(daemon: &Daemon, request: &Request) -> Result<Answer> {
    const LINES: &str = "application/x-ndjson";
    let wanted = Wanted::of(request)?;
    if request.parameter("past") == Some("yes") {
        let past = daemon.proxy().past_events();
        let lines: Vec<u8> = past
            .iter()
            .filter_map(|told| wanted.line(told))
            .flatten()
            .collect();
        return Ok(Response::new(200, LINES, lines).into());
    }
    let mut events: Subscription = daemon.proxy().events(WAITING);
    let mut lost = 0;
    let stream = Stream::new(LINES, move |time| {
        let told = events.next_within(time);
        let dropped = events.dropped();
        let mut piece = Vec::new();
        if dropped > lost {
            let missing = Value::table([
                ("event", Value::from("lost")),
                ("count", (dropped - lost).into()),
            ]);
            piece.extend((json::write(&missing) + "\n").into_bytes());
            lost = dropped;
        }
        piece.extend(
            told.as_ref()
                .and_then(|told| wanted.line(told))
                .unwrap_or_default(),
        );
        match piece.is_empty() {
            false => Next::Piece(piece),
            true if told.is_none() && events.is_over() => Next::End,
            true => Next::Nothing,
        }
    });
    Ok(Answer::Stream(stream))
}

fn metrics(daemon: &Daemon) -> Result<Answer> {
    let page = daemon.tally().page(&daemon.proxy().status()?);
    Ok(Response::new(200, "text/plain; version=0.0.4; charset=utf-8", page).into())
}

/// How an error is answered.
fn status_of(error: &Error) -> u16 {
    match error {
        Error::Wanted(_) | Error::Edit(_) | Error::NoFile => 400,
        Error::Unknown { .. } => 404,
        Error::Taken { .. } => 409,
        _ => 500,
    }
}
