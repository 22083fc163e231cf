//! The datapath's own defaults are those that the reference of the configuration tells: where a key is not written, the
//! configuration leaves it to the datapath.

use bpfsmith_config::Document;
use bpfsmith_datapath::IfIndex;
use bpfsmith_datapath::config::Config;
use bpfsmith_proxy::numbers::Numbers;
use bpfsmith_proxy::plan::{Plan, World};
use std::collections::BTreeSet;

const REFERENCE: &str = include_str!("../../config/REFERENCE.md");

/// The tables of what the datapath has to know.
const TABLES: [&str; 3] = [
    "settings",
    "settings.timeouts",
    "settings.source_limit",
];

/// What the datapath gets where one of the tables has that line.
fn config(table: &str, line: &str) -> Config {
    let mut text = "devices = 'eth0'\nport = 80\ntarget = '10.0.0.1:8080'\n".to_owned();
    for name in TABLES {
        text += &format!("[{name}]\n");
        // A limit of sources is there if it has a rate.
        if name == "settings.source_limit" {
            text += "rate = 7\n";
        }
        if table == name {
            text += &format!("{line}\n");
        }
    }
    let document = Document::read(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    let world = World {
        devices: [("eth0".to_owned(), IfIndex(1))].into(),
        ..World::default()
    };
    let plan = Plan::new(document.desired(), &world, &mut Numbers::default());
    plan.unwrap_or_else(|problems| panic!("{text}\n{problems}"))
        .config
}

/// A value that is not the default.
fn another(kind: &str, default: &str) -> String {
    let words = kind.split(", ").filter(|word| word.starts_with("`\""));
    let mut words = words.map(|word| word.trim_matches('`'));
    match kind {
        "time" => "'7s'".to_owned(),
        "true or false" => (default == "false").to_string(),
        text if text.starts_with("text like") => "'1500-2000'".to_owned(),
        _ => words
            .find(|word| *word != default)
            .map_or_else(|| "9".to_owned(), str::to_owned),
    }
}

#[test]
fn the_datapath_has_the_defaults_that_are_told() {
    let with_none = config("", "");
    let mut heard = BTreeSet::new();
    for row in REFERENCE
        .lines()
        .filter(|line| line.starts_with("| `settings."))
    {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let (table, key) = cells[0].trim_matches('`').rsplit_once('.').unwrap();
        let Some(default) = cells[2]
            .strip_prefix('`')
            .and_then(|it| it.strip_suffix('`'))
        else {
            continue;
        };
        if !TABLES.contains(&table) || ["control", "pins", "events"].contains(&key) {
            // Not the datapath's.
            continue;
        }
        let with = |value: &str| config(table, &format!("{key} = {value}"));
        assert_eq!(with(default), with_none, "{key} = {default}");
        let other = another(cells[1], default);
        assert_ne!(with(&other), with_none, "{key} = {other}");
        heard.insert(key);
    }
    let all = [
        "bits4",
        "bits6",
        "closed",
        "established",
        "flows",
        "fragments",
        "half_closed",
        "mid_stream",
        "room",
        "source_ports",
        "udp",
        "unanswered",
        "vlan",
    ];
    assert_eq!(heard, all.into());
}
