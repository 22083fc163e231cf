//! The reference tells every key that there is and no other, its examples are right, and so are its defaults.

use bpfsmith_config::desired::Desired;
use bpfsmith_config::{Document, Problems, Value, json, toml};
use std::collections::{BTreeMap, BTreeSet};

const REFERENCE: &str = include_str!("../REFERENCE.md");

/// A name that means nothing anywhere, and is like none that does.
const NOTHING: &str = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";

/// The cells of all rows of the table: key, type, default, meaning.
fn rows() -> Vec<[&'static str; 4]> {
    let lines = REFERENCE.lines().filter(|line| line.starts_with("| `"));
    let cells = lines.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        <[&str; 4]>::try_from(cells).unwrap_or_else(|cells| panic!("{cells:?}"))
    });
    cells.collect()
}

/// The names that a table may have, if there is a table at that place: what is told of one that means nothing.
fn names(at: &[&str]) -> Option<Vec<String>> {
    let mut table = vec![(NOTHING, Value::from(true))];
    match at.last() {
        // Checks of this kind have all names that any have.
        Some(&"health") => table.push(("kind", "http".into())),
        // A route may be anybody's.
        Some(&"routes") => table.push(("group", "x".into())),
        _ => {}
    }
    let mut value = Value::table(table);
    for key in at.iter().rev() {
        // Groups are told apart by their names.
        value = match *key {
            "groups" => Value::table([("x", value)]),
            _ => value,
        };
        value = Value::table([(*key, value)]);
    }
    let problems = Desired::read(&value)
        .err()
        .map_or_else(Vec::new, |it| Problems::list(&it));
    let begin = format!("there is no {NOTHING} here: there are ");
    let told = problems
        .iter()
        .find_map(|it| it.what.strip_prefix(&begin))?;
    Some(told.split(", ").map(str::to_owned).collect())
}

fn visit<'a>(at: &mut Vec<&'a str>, keys: &mut BTreeSet<String>) {
    let path = |at: &[&str]| at.join(".");
    // These may be one alone, and have a row of their own for it.
    let is_told_elsewhere = at.last() == Some(&"target");
    for name in names(at).unwrap_or_default() {
        // All others get a table, to see whether they take one.
        let is_answer = [
            "target",
            "targets",
            "algorithm",
            "nat",
            "health",
            "drain",
        ];
        let is_of_group = at.first() != Some(&"groups") && is_answer.contains(&name.as_str());
        if at.is_empty() && !["proxies", "groups", "settings"].contains(&name.as_str())
            || is_of_group
            || is_told_elsewhere
        {
            continue;
        }
        let name: &'a str = Box::leak(name.into_boxed_str());
        at.push(name);
        keys.insert(path(at));
        visit(at, keys);
        at.pop();
    }
}

#[test]
fn all_keys_are_told_and_no_others() {
    let mut known = BTreeSet::new();
    visit(&mut Vec::new(), &mut known);
    assert!(known.len() > 50, "{known:?}");
    let told = rows()
        .into_iter()
        .map(|[key, ..]| key.trim_matches('`').to_owned());
    let told: Vec<String> = told.collect();
    let all: BTreeSet<String> = told.iter().cloned().collect();
    assert_eq!(all.len(), told.len());
    let missing: Vec<_> = known.difference(&all).collect();
    let unknown: Vec<_> = all.difference(&known).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "not told: {missing:?}; told, but not there: {unknown:?}"
    );
}

#[test]
fn a_proxy_at_the_top_has_the_same_keys() {
    let mut value = Value::table([
        (NOTHING, Value::from(true)),
        ("port", 1_u8.into()),
    ]);
    let told = |value: &Value| {
        Desired::read(value)
            .err()
            .map(|it| it.to_string())
            .unwrap_or_default()
    };
    let short = told(&value);
    value = Value::table([(
        "proxies",
        Value::table([
            (NOTHING, true.into()),
            ("name", "a".into()),
        ]),
    )]);
    let listed = told(&value);
    let keys = |text: &str| -> BTreeSet<String> {
        let line = text
            .lines()
            .find_map(|line| line.split_once("here: there are "));
        let (_, keys) = line.unwrap_or_else(|| panic!("{text}"));
        keys.split(", ").map(str::to_owned).collect()
    };
    let top = ["proxies", "groups", "settings"].map(str::to_owned);
    let short: BTreeSet<String> = keys(&short)
        .into_iter()
        .filter(|it| !top.contains(it))
        .collect();
    assert_eq!(short, keys(&listed));
}

fn examples() -> Vec<&'static str> {
    let parts = REFERENCE.split("```toml\n").skip(1);
    parts
        .map(|part| part.split("```").next().expect("an end"))
        .collect()
}

#[test]
fn examples_are_right() {
    let examples = examples();
    assert_eq!(examples.len(), 3);
    for text in examples {
        let document = Document::read(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
        // They could have been written by the machine, but for the choice of words.
        let written = document.desired().text().expect("a text");
        let read = Document::read(&written).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(read.desired().bare(), document.desired().bare());
    }
}

/// What is said to be the default changes nothing when it is written.
#[test]
fn defaults_are_what_is_said() {
    // They need something beside them.
    let beside = BTreeMap::from([
        ("proxies.limit", r#"{"rate": 7}"#),
        ("groups.health", r#"{"kind": "http"}"#),
        ("settings.source_limit", r#"{"rate": 7}"#),
        ("settings.access_log", r#"{"path": "/x"}"#),
        ("groups.targets", r#"[{"address": "a:1"}]"#),
        ("proxies.routes", r#"[{"source": "::/0", "group": "x"}]"#),
    ]);
    // Those of the datapath are not written down: it has its own, which `proxy/tests/reference.rs` compares.
    let of_datapath = [
        "source_ports",
        "flows",
        "unanswered",
        "established",
        "half_closed",
        "closed",
        "udp",
        "room",
        "fragments",
        "mid_stream",
        "vlan",
    ];
    let mut compared = 0;
    for [key, _, default, _] in rows() {
        let path: Vec<&str> = key.trim_matches('`').split('.').collect();
        let (Some((name, tables)), Some(default)) = (path.split_last(), default.strip_prefix('`'))
        else {
            continue;
        };
        if of_datapath.contains(name) {
            continue;
        }
        let default = toml::read(&format!("it = {}", default.trim_end_matches('`'))).expect(key);
        let default = default.get("it").expect("it").clone();
        let with = |entry: Option<Value>| {
            let mut value = match beside.get(tables.join(".").as_str()) {
                Some(text) => json::read(text).expect("JSON"),
                None => Value::table::<String>([]),
            };
            if let (Some(entry), false) = (entry, *name == "as") {
                value = added(value, name, entry);
            }
            let mut tables = tables.to_vec();
            if tables.len() > 1 {
                let last = tables.pop().expect("one");
                value = Value::table([(last, value)]);
            }
            let (proxy, group, settings) = match tables[0] {
                "proxies" => (value, empty(), empty()),
                "groups" => (empty(), value, empty()),
                _ => (empty(), empty(), value),
            };
            let proxy = added(proxy, "name", "a".into());
            let proxy = added(proxy, "port", 1_u8.into());
            let proxy = added(proxy, "group", "x".into());
            let value = Value::table([
                ("proxies", Value::list([proxy])),
                ("groups", Value::table([("x", group)])),
                ("settings", settings),
            ]);
            Desired::read(&value)
                .unwrap_or_else(|problems| panic!("{key}: {problems}"))
                .bare()
        };
        assert_eq!(with(Some(default)), with(None), "{key}");
        compared += 1;
    }
    assert!(compared > 15, "{compared}");
}

fn empty() -> Value {
    Value::table::<String>([])
}

/// A table, or all of a list, with one more.
fn added(value: Value, key: &str, entry: Value) -> Value {
    use bpfsmith_config::{Entry, Kind};
    match value.kind {
        Kind::Table(mut entries) => {
            entries.push(Entry {
                at: Default::default(),
                key: key.to_owned(),
                value: entry,
            });
            Value::new(Kind::Table(entries))
        }
        Kind::List(list) => Value::list(
            list.into_iter()
                .map(|value| added(value, key, entry.clone())),
        ),
        _ => value,
    }
}
