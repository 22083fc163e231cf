//! Commands, carried out.

use crate::columns::count;
use crate::commands::parse::Form;
use crate::commands::parse::{
    Adding, Conns, Drain, Events, Explain, Input, Output, Peer, Set, Text, Top,
};
use crate::commands::table::CONFIG;
use crate::commands::words::{Format, Names};
use crate::commands::{Command, Exit, Parsed, complete, help, man};
use crate::demo;
use crate::error::Error;
use crate::explain::{Asked, Explanation};
use crate::http::{self, Client, Hangup, Method, Reply, target};
use crate::run::{self, Options};
use crate::terminal::plain;
use crate::top;
use crate::{daemon, doctor};
use crate::{shell, show};
use bpfsmith_config::desired::Desired;
use bpfsmith_config::value::Kind;
use bpfsmith_config::{Problems, Value, edn, json, toml};
use bpfsmith_datapath::pins::Pins;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

/// Why a command was not carried out.
enum Failure {
    /// What is wrong with a configuration, problem by problem.
    Wrong(Vec<String>),
    /// Nobody answers.
    Absent(http::Error),
    /// All else, on one line.
    Failed(String),
    /// Nobody reads what is printed.
    Unread,
}

type Result<T> = std::result::Result<T, Failure>;

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::Unread,
            _ => Failure::Failed(format!("write: {error}")),
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Failure {
        Failure::Wrong(problems.list().iter().map(ToString::to_string).collect())
    }
}

impl From<http::Error> for Failure {
    fn from(error: http::Error) -> Failure {
        match error {
            http::Error::File { .. } => Failure::Absent(error),
            _ => Failure::Failed(error.to_string()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Wanted(problems) => problems.into(),
            Error::Http(error) => error.into(),
            error => Failure::Failed(error.to_string()),
        }
    }
}

impl From<bpfsmith_datapath::error::Error> for Failure {
    fn from(error: bpfsmith_datapath::error::Error) -> Failure {
        Failure::Failed(error.to_string())
    }
}

/// Carries a command out. What it finds goes to `out`, what went wrong to `err`.
pub fn act(parsed: &Parsed, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    act_with(parsed, out, err, &|_| ())
}

/// The same; `streaming` gets what ends a stream that would go on for ever.
pub fn act_with(
    parsed: &Parsed,
    out: &mut dyn Write,
    err: &mut dyn Write,
    streaming: &dyn Fn(Hangup),
) -> Exit {
    if let Command::Shell = parsed.command {
        return match shell::shell(&parsed.globals, out, err) {
            Ok(exit) => exit,
            Err(error) => {
                // There is nobody to tell that nobody can be told.
                let _ = writeln!(err, "bpfsmith-proxy: {}", plain(&error.to_string()));
                Exit::Failed
            }
        };
    }
    let mut act = Act {
        client: Client::unix(parsed.globals.socket_path()),
        form: parsed.globals.form,
        parsed,
        out,
        streaming,
    };
    let (exit, lines) = match act.command(&parsed.command) {
        Ok(exit) => return exit,
        Err(Failure::Unread) => return Exit::Done,
        Err(Failure::Wrong(lines)) => (Exit::Wrong, lines),
        Err(Failure::Absent(error)) => (Exit::Absent, vec![error.to_string()]),
        Err(Failure::Failed(line)) => (Exit::Failed, vec![line]),
    };
    for line in lines {
        // There is nobody to tell that nobody can be told.
        let _ = writeln!(err, "bpfsmith-proxy: {}", plain(&line));
    }
    exit
}

struct Act<'a> {
    client: Client,
    form: Form,
    parsed: &'a Parsed,
    out: &'a mut dyn Write,
    streaming: &'a dyn Fn(Hangup),
}

impl Act<'_> {
    fn command(&mut self, command: &Command) -> Result<Exit> {
        use Method::{DELETE, PATCH, POST};
        match command {
            Command::Run(it) => {
                let options = Options {
                    config: it.config.clone(),
                    socket: self.parsed.globals.socket.clone(),
                };
                run::run(&options, self.out).map_err(|error| match error {
                    // It asks no daemon: it is to be one.
                    Error::Http(error) => Failure::Failed(error.to_string()),
                    error => error.into(),
                })?;
                Ok(Exit::Done)
            }
            Command::Demo(it) => Ok(demo::demo(it, &self.parsed.globals, self.out)?),
            Command::Status => self.ask(&["v1", "status"], &[], show::status),
            Command::Conns(it) => self.connections(it),
            Command::Events(it) => self.events(it),
            Command::Config => self.configuration(),
            Command::Top(it) => self.top(it),
            Command::Add(it) => {
                let table = match &it.what {
                    Adding::Offer(name, offer) => offer.value(Some(name)),
                    Adding::Table(text) => value(text)?,
                };
                self.change(POST, &["v1", "proxies"], Some(&table), it.is_saved)
            }
            Command::Update(it) => {
                let path = ["v1", "proxies", &it.name];
                self.change(PATCH, &path, Some(&it.offer.value(None)), it.is_saved)
            }
            Command::Remove(it) => {
                self.change(DELETE, &["v1", "proxies", &it.name], None, it.is_saved)
            }
            Command::RouteAdd(it) => {
                let path = ["v1", "proxies", &it.proxy, "routes"];
                self.change(POST, &path, Some(&it.value()), it.is_saved)
            }
            Command::RouteRemove(it) => {
                let path = [
                    "v1",
                    "proxies",
                    &it.proxy,
                    "routes",
                    &it.source.to_string(),
                ];
                self.change(DELETE, &path, None, it.is_saved)
            }
            Command::TargetAdd(it) => {
                let path = ["v1", "groups", &it.group, "targets"];
                self.change(POST, &path, Some(&it.value()), it.is_saved)
            }
            Command::TargetRemove(it) => {
                let path = [
                    "v1",
                    "groups",
                    &it.group,
                    "targets",
                    &it.place.to_string(),
                ];
                self.change(DELETE, &path, None, it.is_saved)
            }
            Command::Drain(it) => self.drain("drain", it),
            Command::Undrain(it) => self.drain("undrain", it),
            Command::Reload => self.change(POST, &["v1", "reload"], None, false),
            Command::Set(it) => self.set(it),
            Command::Save => self.ask_to(POST, &["v1", "save"], &[], None, |answer| {
                format!("saved to {}\n", show::cell(answer, "saved"))
            }),
            Command::Check(it) => self.check(&it.texts),
            Command::Import(it) => self.import(&it.input, &it.output),
            Command::Detach(it) => {
                let removed = Pins::open(&it.pins)?.detach()?;
                writeln!(
                    self.out,
                    "{} off their devices, {} gone",
                    count(removed.links.into(), "program is", "programs are"),
                    count(removed.maps.into(), "map is", "maps are")
                )?;
                Ok(Exit::Done)
            }
            Command::Doctor(it) => self.doctor(it.config.as_deref()),
            Command::Explain(it) => self.explain(it),
            Command::Names(it) => self.names(*it),
            Command::Help(topic) => self.print(&help::page(*topic)),
            Command::Completions(shell) => self.print(&complete::script(*shell)),
            Command::Man(it) => self.manual(it.output.as_deref()),
            Command::Version => {
                writeln!(self.out, "bpfsmith-proxy {}", env!("CARGO_PKG_VERSION"))?;
                Ok(Exit::Done)
            }
            Command::Shell => Err(Failure::Failed(
                "a shell is not a command of another one: say `exit` first".to_owned(),
            )),
        }
    }

    /// Asks, and prints what is answered: as it is, or as it is shown.
    fn ask(
        &mut self,
        path: &[&str],
        parameters: &[(&str, &str)],
        shown: impl Fn(&Value) -> String,
    ) -> Result<Exit> {
        self.ask_to(Method::GET, path, parameters, None, shown)
    }

    fn ask_to(
        &mut self,
        method: Method,
        path: &[&str],
        parameters: &[(&str, &str)],
        body: Option<&Value>,
        shown: impl Fn(&Value) -> String,
    ) -> Result<Exit> {
        let body = body.map(json::write).unwrap_or_default();
        let reply = self
            .client
            .request(method, &target(path, parameters), body.as_bytes())?;
        let answer = answer(&reply)?;
        match self.form {
            Form::Json => writeln!(self.out, "{}", json::write(&answer))?,
            Form::Text => write!(self.out, "{}", shown(&answer))?,
        }
        Ok(Exit::Done)
    }

    fn change(
        &mut self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
        is_saved: bool,
    ) -> Result<Exit> {
        let parameters: &[(&str, &str)] = if is_saved { &[("save", "yes")] } else { &[] };
        self.ask_to(method, path, parameters, body, show::turn)
    }

    fn drain(&mut self, what: &str, drain: &Drain) -> Result<Exit> {
        let group = drain.group.as_deref().map(|group| ("group", group.into()));
        let target = ("target", Value::shown(&drain.place));
        let body = Value::table([target].into_iter().chain(group));
        self.change(Method::POST, &["v1", what], Some(&body), false)
    }

    fn set(&mut self, set: &Set) -> Result<Exit> {
        let names = set.path.iter().map(String::as_str);
        let path: Vec<&str> = ["v1", "values"].into_iter().chain(names).collect();
        self.change(Method::PUT, &path, Some(&set.value), set.is_saved)
    }

    fn connections(&mut self, conns: &Conns) -> Result<Exit> {
        let client = conns.client.map(|it| format!("{}/{}", it.address, it.bits));
        let at = |peer: Peer| match peer.port {
            Some(port) => std::net::SocketAddr::new(peer.address, port).to_string(),
            None => peer.address.to_string(),
        };
        let (service, target) = (conns.service.map(at), conns.target.map(at));
        let port = conns.client_port.map(|it| it.to_string());
        let limit = conns.limit.map(|it| it.to_string());
        let all = [
            ("protocol", conns.protocol.map(|it| it.word())),
            ("client", client.as_deref()),
            ("client_port", port.as_deref()),
            ("service", service.as_deref()),
            ("target", target.as_deref()),
            ("proxy", conns.proxy.as_deref()),
            ("state", conns.state.map(|it| it.name())),
            ("open", conns.is_open.then_some("yes")),
            ("sort", conns.sort.map(|it| it.word())),
            ("by", conns.by.map(|it| it.word())),
            ("limit", limit.as_deref()),
        ];
        let said = all
            .into_iter()
            .filter_map(|(name, it)| it.map(|it| (name, it)));
        let said: Vec<_> = said.collect();
        self.ask(&["v1", "connections"], &said, show::connections)
    }

    fn events(&mut self, events: &Events) -> Result<Exit> {
        let kinds = events
            .kinds
            .iter()
            .map(|kind| ("kind", crate::status::kind_name(*kind)));
        let proxy = events.proxy.as_deref().map(|proxy| ("proxy", proxy));
        let said: Vec<_> = kinds.chain(proxy).collect();
        if events.is_following {
            let lines = self.client.stream(&target(&["v1", "events"], &said))?;
            (self.streaming)(lines.hangup()?);
            for line in lines {
                self.event(&line?)?;
                self.out.flush()?;
            }
            return Ok(Exit::Done);
        }
        let said: Vec<_> = said.into_iter().chain([("past", "yes")]).collect();
        let reply = self
            .client
            .request(Method::GET, &target(&["v1", "events"], &said), b"")?;
        if !reply.is_success() {
            answer(&reply)?;
        }
        for line in String::from_utf8_lossy(&reply.body).lines() {
            self.event(line)?;
        }
        Ok(Exit::Done)
    }

    fn event(&mut self, line: &str) -> Result<()> {
        match self.form {
            Form::Json => writeln!(self.out, "{line}")?,
            Form::Text => writeln!(self.out, "{}", show::event(&json::read(line)?))?,
        }
        Ok(())
    }

    fn print(&mut self, text: &str) -> Result<Exit> {
        self.out.write_all(text.as_bytes())?;
        Ok(Exit::Done)
    }

    /// The manual, as a file of that directory if one is named.
    fn manual(&mut self, directory: Option<&Path>) -> Result<Exit> {
        let Some(directory) = directory else {
            return self.print(&man::page());
        };
        let path = directory.join(man::FILE);
        let failed = |error| Failure::Failed(format!("{}: {error}", path.display()));
        fs::write(&path, man::page()).map_err(failed)?;
        writeln!(self.out, "{}", path.display())?;
        Ok(Exit::Done)
    }

    fn configuration(&mut self) -> Result<Exit> {
        let form = match self.form {
            Form::Json => "json",
            Form::Text => "toml",
        };
        let path = target(&["v1", "config"], &[("form", form)]);
        let reply = self.client.request(Method::GET, &path, b"")?;
        if !reply.is_success() {
            answer(&reply)?;
        }
        self.out.write_all(&reply.body)?;
        Ok(Exit::Done)
    }

    fn top(&mut self, top: &Top) -> Result<Exit> {
        match (self.form, top.is_once) {
            (Form::Json, _) => Err(Failure::Failed(
                "top is for people: status --json is for programs".to_owned(),
            )),
            (Form::Text, true) => {
                write!(self.out, "{}", top::once(&self.client, top.interval)?)?;
                Ok(Exit::Done)
            }
            (Form::Text, false) => {
                top::live(&self.client, top.interval)?;
                Ok(Exit::Done)
            }
        }
    }

    fn doctor(&mut self, config: Option<&Path>) -> Result<Exit> {
        let usual = Path::new(CONFIG);
        let path = config.or_else(|| usual.exists().then_some(usual));
        let document = path.map(daemon::read).transpose()?;
        let desired = document.as_ref().map(|it| it.desired());
        let globals = &self.parsed.globals;
        let control = desired.map(|it| it.settings.control.as_path());
        let socket = globals.socket.as_deref().or(control);
        let report = doctor::examine(desired, socket.unwrap_or(globals.socket_path()))?;
        match self.form {
            Form::Json => writeln!(self.out, "{}", json::write(&report.value()))?,
            Form::Text => write!(self.out, "{}", report.text())?,
        }
        Ok(match report.is_right() {
            true => Exit::Done,
            false => Exit::Failed,
        })
    }

    fn explain(&mut self, explain: &Explain) -> Result<Exit> {
        let document = daemon::read(&explain.config)?;
        let asked = Asked {
            hook: explain.hook,
            device: explain.device.clone(),
        };
        let explanation = Explanation::new(document.desired(), &asked)?;
        match self.form {
            Form::Json => writeln!(self.out, "{}", json::write(&explanation.value()))?,
            Form::Text => write!(self.out, "{}", explanation.text())?,
        }
        Ok(Exit::Done)
    }

    fn check(&mut self, texts: &[Text]) -> Result<Exit> {
        let mut checked = Vec::new();
        for text in texts {
            let desired = desired(text.format, &read(&text.input)?);
            checked.push((name(&text.input), desired));
        }
        if self.form == Form::Json {
            writeln!(self.out, "{}", json::write(&show::checked(&checked)))?;
            let is_right = checked.iter().all(|(_, it)| it.is_ok());
            return Ok(if is_right { Exit::Done } else { Exit::Wrong });
        }
        let mut wrong = Vec::new();
        for (name, checked) in &checked {
            match checked {
                Ok(desired) => writeln!(
                    self.out,
                    "{name}: right: {}, {}",
                    count(desired.proxies.len() as u64, "proxy", "proxies"),
                    count(desired.groups.len() as u64, "group", "groups")
                )?,
                Err(problems) => {
                    let all = problems.list();
                    wrong.extend(all.iter().map(|it| format!("{name}: {it}")));
                }
            }
        }
        match wrong.is_empty() {
            true => Ok(Exit::Done),
            false => Err(Failure::Wrong(wrong)),
        }
    }

    fn import(&mut self, input: &Input, output: &Output) -> Result<Exit> {
        let text = Desired::import(&edn::read(&read(input)?)?)?.text()?;
        match output {
            Output::Stdout => self.out.write_all(text.as_bytes())?,
            Output::File(path) => {
                let failed = |error| Failure::Failed(format!("{}: {error}", path.display()));
                let mut file = fs::File::create_new(path).map_err(failed)?;
                file.write_all(text.as_bytes()).map_err(failed)?;
            }
        }
        Ok(Exit::Done)
    }

    /// A name on each line. Where nobody answers there are none.
    fn names(&mut self, names: Names) -> Result<Exit> {
        let path = target(&["v1", "status"], &[]);
        let status = answer(&self.client.request(Method::GET, &path, b"")?)?;
        for name in show::names(&status, names) {
            writeln!(self.out, "{name}")?;
        }
        Ok(Exit::Done)
    }
}

/// What was answered; or why not.
fn answer(reply: &Reply) -> Result<Value> {
    let text = String::from_utf8_lossy(&reply.body);
    if reply.is_success() {
        return match text.trim() {
            "" => Ok(Value::new(Kind::Null)),
            text => Ok(json::read(text)?),
        };
    }
    let told = json::read(text.trim()).ok();
    let told = told.as_ref().map(|it| show::cell(it, "error"));
    let told = told
        .filter(|it| !it.is_empty())
        .unwrap_or_else(|| text.into_owned());
    match reply.status {
        400 => Err(Failure::Wrong(told.lines().map(str::to_owned).collect())),
        _ => Err(Failure::Failed(told)),
    }
}

fn name(input: &Input) -> String {
    match input {
        Input::Stdin => "standard input".to_owned(),
        Input::File(path) => path.display().to_string(),
    }
}

fn read(input: &Input) -> Result<String> {
    let text = match input {
        Input::File(path) => fs::read_to_string(path),
        Input::Stdin => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        }
    };
    text.map_err(|error| Failure::Failed(format!("{}: {error}", name(input))))
}

fn value(text: &Text) -> Result<Value> {
    Ok(parsed(text.format, &read(&text.input)?)?)
}

fn parsed(format: Format, text: &str) -> std::result::Result<Value, Problems> {
    match format {
        Format::Toml => toml::read(text),
        Format::Json => json::read(text),
        Format::Edn => edn::read(text),
    }
}

fn desired(format: Format, text: &str) -> std::result::Result<Desired, Problems> {
    let value = parsed(format, text)?;
    match format {
        Format::Edn => Desired::import(&value),
        Format::Toml | Format::Json => Desired::read(&value),
    }
}
