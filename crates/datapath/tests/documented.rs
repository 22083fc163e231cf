//! Numbers in the documentation are those of the code. Needs no kernel.

use bpfsmith_datapath::config::{Config, Events, Room, Timeouts};
use bpfsmith_datapath::shape::Path;
use std::time::Duration;

/// What is written before a field of a structure, on one line.
fn written(structure: &str, field: &str) -> String {
    let source = include_str!("../src/config.rs");
    let start = format!("pub struct {structure} {{");
    let body = source.split_once(&start).expect(structure).1;
    let body = body.split_once("\n}\n").expect("an end").0;
    let mark = format!("    pub {field}:");
    let before = body.split_once(&mark).expect(field).0;
    let lines = before.lines().rev();
    let doc = lines.map_while(|line| line.trim().strip_prefix("///"));
    let mut doc: Vec<&str> = doc.collect();
    doc.reverse();
    doc.concat()
}

#[track_caller]
fn says(structure: &str, field: &str, what: &str) {
    let doc = written(structure, field);
    assert!(doc.contains(what), "{structure}::{field}: {doc} <> {what}");
}

#[test]
fn defaults_are_as_documented() {
    let room = Room::default();
    says("Room", "flows", &format!("{} by default", room.flows));
    for path in Path::ALL {
        let table = path.flows(room);
        let bytes = u64::from(table.entries) * u64::from(table.value);
        let tenths = (bytes + 50_000) / 100_000;
        let (family, _) = table.name.as_str()["flows".len()..].split_at(1);
        let said = format!("{}.{} MB for IPv{family}", tenths / 10, tenths % 10);
        says("Room", "flows", &said);
    }
    says(
        "Room",
        "fragments",
        &format!("{} by default", room.fragments),
    );

    let ports = Config::default().source_ports;
    let said = format!("{} to {} by default", ports.start(), ports.end());
    says("Config", "source_ports", &said);

    let events = Events::default();
    says("Events", "bytes", &format!("{} by default", events.bytes));
    let said = format!("every {} seconds by default", events.every.as_secs());
    says("Events", "every", &said);

    let times = Timeouts::default();
    let seconds = |time: Duration| format!(": {}", time.as_secs());
    says("Timeouts", "unanswered", &seconds(times.unanswered));
    says("Timeouts", "established", &seconds(times.established));
    says("Timeouts", "half_closed", &seconds(times.half_closed));
    says("Timeouts", "closed", &seconds(times.closed));
    says("Timeouts", "udp", &seconds(times.udp));
    says("Timeouts", "round", &seconds(times.round));
}
