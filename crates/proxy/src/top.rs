//! How everything stands, again and again, with rates.

mod grid;

use crate::error::{Error, Result};
use crate::http::{self, Client, Method};
use crate::show::{bytes, cell, list, number, plain, seconds, share, time};
use crate::terminal::{Colour, Key, Row, Screen, Style};
use bpfsmith_config::value::Kind;
use bpfsmith_config::{Value, json};
use bpfsmith_datapath::reason::Reason;
use grid::Grid;
use std::cmp::Reverse;
use std::time::{Duration, Instant};

/// Counters of packets that nobody gets.
const DROPPED: &[Reason] = &[
    Reason::NoBackend,
    Reason::NoPort,
    Reason::NoRoute,
    Reason::Expired,
    Reason::TooBig,
    Reason::Full,
    Reason::Leaving,
    Reason::SourceLimit,
    Reason::ListenerLimit,
    Reason::CookieEarly,
    Reason::CookieLost,
];

/// Counters of packets that go on.
const PASSED_ON: &[Reason] = &[
    Reason::Forwarded,
    Reason::Opened,
    Reason::Answered,
    Reason::IcmpError,
    Reason::MadeRoom,
];

/// Counters of packets that began a connection.
const BEGUN: &[Reason] = &[Reason::Opened, Reason::MadeRoom];

/// What the daemon told at one time.
#[derive(Clone, Debug)]
pub struct Sight {
    /// `/v1/status`.
    pub status: Value,
    /// `/v1/connections?by=proxy`.
    pub proxies: Value,
    /// `/v1/connections?by=target`.
    pub targets: Value,
}

impl Sight {
    /// What it tells now.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn new(client: &Client) -> Result<Sight> {
        Ok(Sight {
            status: ask(client, "/v1/status")?,
            proxies: ask(client, "/v1/connections?by=proxy")?,
            targets: ask(client, "/v1/connections?by=target")?,
        })
    }

    fn count(&self, reasons: &[Reason]) -> u64 {
        let counters = self.status.get("counters");
        let count = |reason: &Reason| counters.map_or(0, |it| number(it, reason.name()));
        reasons.iter().map(count).fold(0, u64::saturating_add)
    }
}

fn ask(client: &Client, target: &str) -> Result<Value> {
    let reply = client.request(Method::GET, target, b"")?;
    if !reply.is_success() {
        return Err(Error::Http(http::Error::Status {
            target: target.to_owned(),
            status: reply.status,
            body: reply.body,
        }));
    }
    Ok(json::read(String::from_utf8_lossy(&reply.body).trim())?)
}

/// What targets are put in order by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As the configuration has them.
    #[default]
    Group,
    /// Those with most connections first.
    Connections,
    /// Those with most traffic now first.
    Traffic,
    /// Those that are not up first.
    State,
}

impl Order {
    const fn next(self) -> Order {
        match self {
            Order::Group => Order::Connections,
            Order::Connections => Order::Traffic,
            Order::Traffic => Order::State,
            Order::State => Order::Group,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Order::Group => "group",
            Order::Connections => "connections",
            Order::Traffic => "traffic",
            Order::State => "state",
        }
    }
}

/// Whether it looks again and again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// It does.
    #[default]
    Live,
    /// It stands still.
    Paused,
}

/// What is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Page {
    /// How everything stands.
    #[default]
    Status,
    /// What keys do.
    Help,
}

/// How somebody wants to see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What targets are put in order by.
    pub order: Order,
    /// Whether it looks again and again.
    pub pace: Pace,
    /// What is shown.
    pub page: Page,
    /// How many rows below the head are left out.
    pub skipped: usize,
    /// Why the daemon could not be asked last time.
    pub trouble: Option<String>,
}

/// What there is now, and what there was.
#[derive(Clone, Copy, Debug)]
struct Pair<'a> {
    now: &'a Sight,
    before: Option<(&'a Sight, f64)>,
}

impl Pair<'_> {
    /// How many in a second; nothing while only one sight is there. Counters of another daemon begin anew.
    fn rate(&self, count: impl Fn(&Sight) -> u64) -> Option<f64> {
        let (before, seconds) = self.before?;
        let more = count(self.now).saturating_sub(count(before));
        (seconds > 0.0).then(|| more as f64 / seconds)
    }

    /// Bytes in a second of a sum, of connections that are there still.
    fn traffic(&self, which: fn(&Sight) -> &Value, name: &str, way: &str) -> Option<f64> {
        self.rate(|sight| {
            let sums = list(which(sight), "sums").iter();
            let mut sums = sums.filter(|it| cell(it, "name") == name);
            let found = sums.next().and_then(|it| it.get(way));
            found.map_or(0, |it| number(it, "bytes"))
        })
    }
}

/// A rate that people can read.
fn per_second(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate > 0.0 && rate < 10.0 => format!("{rate:.1}/s"),
        Some(rate) => format!("{rate:.0}/s"),
    }
}

/// The same of bytes.
fn bytes_per_second(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) => {
            let whole = Duration::try_from_secs_f64(rate).map_or(u64::MAX, |it| it.as_secs());
            format!("{}/s", bytes(whole))
        }
    }
}

/// The screen: what there is now, with rates if there is what was before and the time since then.
#[must_use]
pub fn rows(now: &Sight, before: Option<(&Sight, Duration)>, view: &View) -> Vec<Row> {
    let pair = Pair {
        now,
        before: before.map(|(sight, time)| (sight, time.as_secs_f64())),
    };
    let mut rows = head(pair, view);
    let body = match view.page {
        Page::Status => body(pair, view.order),
        Page::Help => help(),
    };
    rows.extend(body.into_iter().skip(view.skipped));
    rows
}

fn head(pair: Pair<'_>, view: &View) -> Vec<Row> {
    let status = &pair.now.status;
    let mut first = Row::new()
        .styled(
            Style::PLAIN.bold(),
            format!("bpfsmith-proxy {}", cell(status, "version")),
        )
        .text(format!(
            "  process {}  up {}  generation {}  order: {}",
            cell(status, "pid"),
            time(seconds(status, "uptime")),
            cell(status, "generation"),
            view.order.word(),
        ));
    if view.pace == Pace::Paused {
        first = first.text("  ").styled(Style::PLAIN.reverse(), "paused");
    }
    let dropped = pair.rate(|it| it.count(DROPPED));
    let style = match dropped {
        Some(rate) if rate > 0.0 => Style::PLAIN.colour(Colour::Red),
        _ => Style::PLAIN,
    };
    let second = Row::new()
        .text(format!(
            "packets {}  new connections {}  open {}  ",
            per_second(pair.rate(|it| it.count(PASSED_ON))),
            per_second(pair.rate(|it| it.count(BEGUN))),
            number(&pair.now.proxies, "open"),
        ))
        .styled(style, format!("dropped {}", per_second(dropped)));
    let devices: Vec<String> = list(status, "devices")
        .iter()
        .map(|it| cell(it, "name"))
        .collect();
    let third = Row::new().styled(
        Style::PLAIN.dim(),
        format!("devices {}   ? help  q quit", devices.join(", ")),
    );
    let mut rows = vec![first, second, third];
    if let Some(trouble) = &view.trouble {
        rows.push(Row::new().styled(Style::PLAIN.colour(Colour::Red), trouble));
    }
    rows
}

fn body(pair: Pair<'_>, order: Order) -> Vec<Row> {
    let mut rows = vec![Row::new()];
    rows.extend(proxies(pair).rows());
    rows.push(Row::new());
    rows.extend(targets(pair, order).rows());
    let packets = packets(pair);
    if !packets.is_empty() {
        rows.push(Row::new());
        rows.extend(packets.rows());
    }
    let notes = list(&pair.now.status, "notes");
    if !notes.is_empty() {
        rows.push(Row::new());
    }
    for note in notes {
        let row = Row::new().styled(Style::PLAIN.colour(Colour::Yellow), "note: ");
        rows.push(row.text(plain(note)));
    }
    rows
}

/// How many connections of a sum are not over.
fn open(value: &Value, name: &str) -> u64 {
    let mut sums = list(value, "sums").iter();
    let found = sums.find(|it| cell(it, "name") == name);
    found.map_or(0, |it| number(it, "open"))
}

fn proxies(pair: Pair<'_>) -> Grid {
    let mut grid = Grid::new(&[
        "PROXY",
        "LISTENS",
        "GROUP",
        ">OPEN",
        ">TO TARGETS",
        ">TO CLIENTS",
    ]);
    for proxy in list(&pair.now.status, "proxies") {
        let name = cell(proxy, "name");
        let places = list(proxy, "listens").iter();
        let places = places.map(|it| format!("{}/{}", cell(it, "address"), cell(it, "protocol")));
        let places: Vec<String> = places.collect();
        let places = match places.as_slice() {
            [first, second, .., _] => format!("{first} {second} and {} more", places.len() - 2),
            some => some.join(" "),
        };
        let traffic = |way| bytes_per_second(pair.traffic(|it| &it.proxies, &name, way));
        grid.row(
            Style::PLAIN,
            [
                name.clone(),
                places,
                cell(proxy, "group"),
                open(&pair.now.proxies, &name).to_string(),
                traffic("there"),
                traffic("back"),
            ],
        );
    }
    grid
}

/// A target as it is shown.
struct Shown {
    cells: [String; 8],
    style: Style,
    is_up: bool,
    connections: u64,
    traffic: f64,
}

fn targets(pair: Pair<'_>, order: Order) -> Grid {
    let mut all = Vec::new();
    for group in list(&pair.now.status, "groups") {
        for target in list(group, "targets") {
            all.push(shown(pair, group, target));
        }
    }
    match order {
        Order::Group => {}
        Order::Connections => all.sort_by_key(|it| Reverse(it.connections)),
        Order::Traffic => all.sort_by(|a, b| b.traffic.total_cmp(&a.traffic)),
        Order::State => all.sort_by_key(|it| it.is_up),
    }
    let mut grid = Grid::new(&[
        "GROUP",
        "TARGET",
        "STATE",
        ">SHARE",
        ">OPEN",
        ">TO TARGET",
        ">TO CLIENTS",
        "LAST CHECK",
    ]);
    for it in all {
        grid.row(it.style, it.cells);
    }
    grid
}

fn shown(pair: Pair<'_>, group: &Value, target: &Value) -> Shown {
    let (address, state) = (cell(target, "address"), cell(target, "state"));
    let there = pair.traffic(|it| &it.targets, &address, "there");
    let back = pair.traffic(|it| &it.targets, &address, "back");
    let style = match state.as_str() {
        "up" | "unchecked" => Style::PLAIN,
        "down" => Style::PLAIN.colour(Colour::Red),
        _ => Style::PLAIN.colour(Colour::Yellow),
    };
    Shown {
        is_up: style == Style::PLAIN,
        style,
        connections: number(target, "connections"),
        traffic: there.unwrap_or(0.0) + back.unwrap_or(0.0),
        cells: [
            cell(group, "name"),
            address,
            state,
            format!("{} %", share(group, target)),
            cell(target, "connections"),
            bytes_per_second(there),
            bytes_per_second(back),
            cell(target, "last"),
        ],
    }
}

/// What became of packets that are not just sent on, those that come fastest first.
fn packets(pair: Pair<'_>) -> Grid {
    let mut grid = Grid::new(&["PACKETS", "", ">COUNT", ">NOW"]);
    let Some(Kind::Table(entries)) = pair.now.status.get("counters").map(|it| &it.kind) else {
        return grid;
    };
    let is_usual = |name: &str| {
        [
            Reason::Forwarded,
            Reason::Opened,
            Reason::Answered,
        ]
        .iter()
        .any(|it| it.name() == name)
    };
    let mut all = Vec::new();
    for entry in entries {
        let name = entry.key.as_str();
        if is_usual(name) || matches!(entry.value.kind, Kind::Int(0)) {
            continue;
        }
        let count = |sight: &Sight| {
            sight
                .status
                .get("counters")
                .map_or(0, |it| number(it, name))
        };
        let is_dropped = DROPPED.iter().any(|it| it.name() == name);
        all.push((
            pair.rate(count).unwrap_or(0.0),
            is_dropped,
            name,
            plain(&entry.value),
        ));
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    for (rate, is_dropped, name, count) in all {
        let style = match is_dropped && rate > 0.0 {
            true => Style::PLAIN.colour(Colour::Red),
            false => Style::PLAIN,
        };
        let what = if is_dropped { "dropped" } else { "" };
        let now = per_second(pair.before.map(|_| rate));
        grid.row(
            style,
            [
                name.to_owned(),
                what.to_owned(),
                count,
                now,
            ],
        );
    }
    grid
}

fn help() -> Vec<Row> {
    let lines = [
        "",
        "q, Ctrl-C        end",
        "p, blank         stand still, and go on",
        "s                another order of targets: group, connections, traffic, state",
        "arrows, j, k     a line up and down; also Page up, Page down, Home and End",
        "?                this page, and back",
        "",
        "Rates are of the time between two looks. Bytes are those of connections that",
        "are there still. OPEN counts those that are not over, and SHARE is what a target",
        "gets of its group's new ones.",
    ];
    lines
        .into_iter()
        .map(|line| Row::new().text(line))
        .collect()
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on.
    On,
    /// It ends.
    End,
}

impl View {
    /// Does what a key says, where so many rows fit below the head.
    pub fn press(&mut self, key: Key, page: usize) -> Step {
        let up = |view: &View, rows: usize| view.skipped.saturating_sub(rows);
        let down = |view: &View, rows: usize| view.skipped.saturating_add(rows);
        match key {
            Key::Char('q') | Key::Ctrl('c' | 'd') => return Step::End,
            Key::Char('p' | ' ') => {
                self.pace = match self.pace {
                    Pace::Live => Pace::Paused,
                    Pace::Paused => Pace::Live,
                }
            }
            Key::Char('s') => self.order = self.order.next(),
            Key::Char('?' | 'h') => {
                self.skipped = 0;
                self.page = match self.page {
                    Page::Status => Page::Help,
                    Page::Help => Page::Status,
                }
            }
            Key::Escape => self.page = Page::Status,
            Key::Up | Key::Char('k') => self.skipped = up(self, 1),
            Key::Down | Key::Char('j') => self.skipped = down(self, 1),
            Key::PageUp => self.skipped = up(self, page),
            Key::PageDown => self.skipped = down(self, page),
            Key::Home => self.skipped = 0,
            Key::End => self.skipped = usize::MAX,
            _ => {}
        }
        Step::On
    }

    /// The last rows stay in sight.
    fn fit(&mut self, pair: Pair<'_>, height: usize) -> usize {
        let page = height.saturating_sub(head(pair, self).len()).max(1);
        let body = match self.page {
            Page::Status => body(pair, self.order).len(),
            Page::Help => help().len(),
        };
        self.skipped = self.skipped.min(body.saturating_sub(page));
        page
    }
}

/// One screen as text, after two looks.
///
/// # Errors
/// When the daemon does not answer.
pub fn once(client: &Client, interval: Duration) -> Result<String> {
    let (first, begun) = (Sight::new(client)?, Instant::now());
    std::thread::sleep(interval);
    let second = Sight::new(client)?;
    let rows = rows(&second, Some((&first, begun.elapsed())), &View::default());
    let lines = rows
        .iter()
        .map(|row| format!("{}\n", row.bare().trim_end()));
    Ok(lines.collect())
}

/// The screen, until somebody ends it.
///
/// # Errors
/// When the daemon does not answer at first, or there is no terminal. Later, what it does not answer is shown.
pub fn live(client: &Client, interval: Duration) -> Result<()> {
    let mut now = (Sight::new(client)?, Instant::now());
    let mut before: Option<(Sight, Instant)> = None;
    let mut screen = Screen::open()?;
    let mut view = View::default();
    let mut next = Instant::now() + interval;
    loop {
        let past = before.as_ref();
        let past = past.map(|(sight, at)| (sight, now.1.duration_since(*at)));
        let pair = Pair {
            now: &now.0,
            before: past.map(|(sight, time)| (sight, time.as_secs_f64())),
        };
        let page = view.fit(pair, screen.size()?.rows);
        screen.draw(&rows(&now.0, past, &view))?;
        let wait = next.saturating_duration_since(Instant::now());
        if let Some(key) = screen.next_key(wait)? {
            if view.press(key, page) == Step::End {
                return Ok(());
            }
            continue;
        }
        if Instant::now() < next {
            continue;
        }
        next = Instant::now() + interval;
        if view.pace == Pace::Paused {
            continue;
        }
        match Sight::new(client) {
            Ok(sight) => {
                before = Some(std::mem::replace(&mut now, (sight, Instant::now())));
                view.trouble = None;
            }
            Err(error) => view.trouble = Some(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
