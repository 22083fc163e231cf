//! Answers of a running proxy, for people.

use crate::columns::{Table, count};
use crate::commands::words::Names;
use crate::terminal;
use bpfsmith_config::desired::Desired;
use bpfsmith_config::problem::Problem;
use bpfsmith_config::value::Kind;
use bpfsmith_config::{Problems, Value};
use std::time::{Duration, UNIX_EPOCH};

/// What a table has under that name, as text; nothing for what is not there.
#[must_use]
pub fn cell(value: &Value, name: &str) -> String {
    value.get(name).map_or_else(String::new, plain)
}

pub(crate) fn plain(value: &Value) -> String {
    match &value.kind {
        Kind::Null => String::new(),
        Kind::Text(it) => it.clone(),
        Kind::Int(it) => it.to_string(),
        Kind::Float(it) => it.to_string(),
        Kind::Bool(it) => (if *it { "yes" } else { "no" }).to_owned(),
        Kind::List(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        Kind::Table(_) => bpfsmith_config::json::write(value),
    }
}

/// The values of a list, if it is one.
#[must_use]
pub fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    match value.get(name).map(|it| &it.kind) {
        Some(Kind::List(list)) => list,
        _ => &[],
    }
}

/// What the daemon calls what it has, by `/v1/status`.
#[must_use]
pub fn names(status: &Value, of: Names) -> Vec<String> {
    let all = |value: &Value, kind, name| -> Vec<String> {
        let all = list(value, kind).iter();
        all.map(|it| cell(it, name)).collect()
    };
    match of {
        Names::Proxies => all(status, "proxies", "name"),
        Names::Groups => all(status, "groups", "name"),
        Names::Devices => all(status, "devices", "name"),
        Names::Targets => {
            let groups = list(status, "groups").iter();
            groups
                .flat_map(|group| all(group, "targets", "address"))
                .collect()
        }
    }
}

/// A whole number of a table; 0 if there is none.
#[must_use]
pub fn number(value: &Value, name: &str) -> u64 {
    match value.get(name).map(|it| &it.kind) {
        Some(Kind::Int(it)) => u64::try_from(*it).unwrap_or(0),
        _ => 0,
    }
}

pub(crate) fn seconds(value: &Value, name: &str) -> f64 {
    match value.get(name).map(|it| &it.kind) {
        Some(Kind::Float(it)) => *it,
        Some(Kind::Int(it)) => *it as f64,
        _ => 0.0,
    }
}

/// A time that people can read: two units at most.
#[must_use]
pub fn time(seconds: f64) -> String {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
    let whole = time.as_secs();
    match whole {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86400, whole % 86400 / 3600),
    }
}

/// Bytes that people can read.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
    ];
    match UNITS.iter().find(|(_, unit)| count >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", count / unit, count % unit * 10 / unit),
        None => format!("{count} B"),
    }
}

/// Files that were read, each with what is wrong with it.
#[must_use]
pub fn checked(files: &[(String, Result<Desired, Problems>)]) -> Value {
    let problem = |it: &Problem| {
        Value::table([
            ("line", Value::from(it.at.line)),
            ("column", it.at.column.into()),
            ("problem", it.what.as_str().into()),
        ])
    };
    let file = |(name, checked): &(String, Result<Desired, Problems>)| {
        let desired = checked.as_ref().ok();
        let problems = checked.as_ref().err().map(Problems::list);
        let problems = problems.unwrap_or_default();
        Value::table([
            ("name", Value::from(name.as_str())),
            ("right", checked.is_ok().into()),
            ("proxies", desired.map(|it| it.proxies.len()).into()),
            ("groups", desired.map(|it| it.groups.len()).into()),
            ("problems", Value::list(problems.iter().map(problem))),
        ])
    };
    Value::table([("files", Value::list(files.iter().map(file)))])
}

/// How everything stands.
#[must_use]
pub fn status(status: &Value) -> String {
    let mut text = format!(
        "bpfsmith-proxy {}, process {}, up {}, generation {}\n",
        cell(status, "version"),
        cell(status, "pid"),
        time(seconds(status, "uptime")),
        cell(status, "generation"),
    );
    text += &format!("\nDevices\n{}", devices(status));
    let mut proxies = Table::new(&["PROXY", "LISTENS", "GROUP", ">ROUTES"]);
    for proxy in list(status, "proxies") {
        let places = list(proxy, "listens").iter();
        let places = places.map(|it| format!("{}/{}", cell(it, "address"), cell(it, "protocol")));
        proxies.row([
            cell(proxy, "name"),
            places.collect::<Vec<_>>().join(" "),
            cell(proxy, "group"),
            cell(proxy, "routes"),
        ]);
    }
    text += &format!("\n{}", proxies.text());
    text += &format!("\n{}", targets(status));
    for it in list(status, "leaving") {
        text += &format!(
            "{} leaves: {}, for {} still\n",
            cell(it, "address"),
            count(number(it, "connections"), "connection", "connections"),
            time(seconds(it, "seconds_left")),
        );
    }
    let packets = packets(status);
    if !packets.is_empty() {
        text += &format!("\n{}", packets.text());
    }
    for note in list(status, "notes") {
        text += &format!("note: {}\n", terminal::plain(&plain(note)));
    }
    text
}

/// Programs, each with the devices that have it.
fn devices(status: &Value) -> String {
    let mut programs: Vec<(String, Vec<String>)> = Vec::new();
    for device in list(status, "devices") {
        let (name, told) = (cell(device, "name"), cell(device, "programs"));
        let program = told.strip_prefix(&format!("{name}: ")).unwrap_or(&told);
        match programs.iter_mut().find(|(it, _)| it == program) {
            Some((_, names)) => names.push(name),
            None => programs.push((program.to_owned(), vec![name])),
        }
    }
    let lines = programs.iter().map(|(program, names)| {
        let (names, program) = (names.join(", "), terminal::plain(program));
        format!("  {}:\n    {program}\n", terminal::plain(&names))
    });
    lines.collect()
}

/// What of a group's new connections a target gets, in percent: its weight, as much of it as counts now, beside those of
/// all.
pub(crate) fn share(group: &Value, target: &Value) -> u64 {
    let part = |target: &Value| number(target, "weight").saturating_mul(number(target, "share"));
    let all = list(group, "targets").iter().map(part);
    let all = all.fold(0, u64::saturating_add);
    let (part, all) = (u128::from(part(target)), u128::from(all));
    let percent = (part * 100 + all / 2).checked_div(all).unwrap_or(0);
    u64::try_from(percent).unwrap_or(0)
}

/// The targets of all groups.
fn targets(status: &Value) -> String {
    let mut table = Table::new(&[
        "GROUP",
        "TARGET",
        "STATE",
        ">WEIGHT",
        ">SHARE",
        ">OPEN",
        "LAST CHECK",
    ]);
    for group in list(status, "groups") {
        for target in list(group, "targets") {
            table.row([
                cell(group, "name"),
                cell(target, "address"),
                cell(target, "state"),
                cell(target, "weight"),
                format!("{} %", share(group, target)),
                cell(target, "connections"),
                cell(target, "last"),
            ]);
        }
    }
    table.text()
}

/// What became of packets, as far as it is anything.
fn packets(status: &Value) -> Table {
    let mut table = Table::new(&["PACKETS", ">COUNT"]);
    let Some(Kind::Table(entries)) = status.get("counters").map(|it| &it.kind) else {
        return table;
    };
    for entry in entries {
        if !matches!(entry.value.kind, Kind::Int(0)) {
            table.row([entry.key.clone(), plain(&entry.value)]);
        }
    }
    table
}

/// Connections, or sums of them.
#[must_use]
pub fn connections(answer: &Value) -> String {
    let traffic = |value: &Value, name: &str| {
        let traffic = value.get(name);
        traffic.map_or_else(String::new, |it| bytes(number(it, "bytes")))
    };
    let (all, open) = (number(answer, "connections"), number(answer, "open"));
    let count = count(all, "connection", "connections");
    if answer.get("sums").is_some() {
        let mut table = Table::new(&[
            "NAME",
            ">CONNECTIONS",
            ">OPEN",
            ">TO TARGET",
            ">TO CLIENT",
        ]);
        for sum in list(answer, "sums") {
            table.row([
                cell(sum, "name"),
                cell(sum, "connections"),
                cell(sum, "open"),
                traffic(sum, "there"),
                traffic(sum, "back"),
            ]);
        }
        return format!("{}{count}, {open} open\n", table.text());
    }
    let mut table = Table::new(&[
        "PROXY",
        "",
        "CLIENT",
        "SERVICE",
        "TARGET",
        "STATE",
        ">AGE",
        ">IDLE",
        ">TO TARGET",
        ">TO CLIENT",
    ]);
    for it in list(answer, "list") {
        table.row([
            cell(it, "proxy"),
            cell(it, "protocol"),
            cell(it, "client"),
            cell(it, "service"),
            cell(it, "target"),
            cell(it, "state"),
            time(seconds(it, "age")),
            time(seconds(it, "idle")),
            traffic(it, "there"),
            traffic(it, "back"),
        ]);
    }
    let listed = list(answer, "list").len();
    let rest = match u64::try_from(listed) == Ok(all) {
        true => String::new(),
        false => format!(", {listed} of them listed"),
    };
    format!("{}{count}, {open} open{rest}\n", table.text())
}

/// An event, on one line.
#[must_use]
pub fn event(event: &Value) -> String {
    if cell(event, "event") == "lost" {
        let lost = count(number(event, "count"), "event was", "events were");
        return format!("{lost} lost: this reader is too slow");
    }
    let at = UNIX_EPOCH + Duration::try_from_secs_f64(seconds(event, "time")).unwrap_or_default();
    let of_day = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    let mut line = format!(
        "{:02}:{:02}:{:02} {:<8} {} {} -> {}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
        cell(event, "event"),
        cell(event, "protocol"),
        cell(event, "client"),
        cell(event, "service"),
    );
    if event.get("target").is_some() {
        line += &format!(" at {}", cell(event, "target"));
    }
    for (name, before) in [
        ("proxy", "of"),
        ("reason", "because of"),
        ("end", "ended:"),
    ] {
        let text = cell(event, name);
        if !text.is_empty() {
            line += &format!(", {before} {text}");
        }
    }
    if cell(event, "event") == "closed" {
        let traffic = |name| event.get(name).map_or(0, |it| number(it, "bytes"));
        line += &format!(
            " after {}, {} there, {} back",
            time(seconds(event, "age") - seconds(event, "idle")),
            bytes(traffic("there")),
            bytes(traffic("back")),
        );
    }
    terminal::plain(&line).into_owned()
}

/// What came of a change.
#[must_use]
pub fn turn(turn: &Value) -> String {
    let mut text = match turn.get("new").map(|it| &it.kind) {
        Some(Kind::Bool(true)) => format!(
            "generation {} after {:.1} ms\n",
            cell(turn, "generation"),
            seconds(turn, "milliseconds")
        ),
        _ => "done: nothing that the kernel does has changed\n".to_owned(),
    };
    let lost = cell(turn, "lost_devices");
    if !lost.is_empty() {
        text += &format!("gone meanwhile: {}\n", terminal::plain(&lost));
    }
    let saved = cell(turn, "saved");
    if !saved.is_empty() {
        text += &format!("saved to {}\n", terminal::plain(&saved));
    }
    for note in list(turn, "notes") {
        text += &format!("note: {}\n", terminal::plain(&plain(note)));
    }
    text
}
