//! What is the whole proxy's.

use crate::desired::{AccessLog, Admin, Format, Settings, SourceLimit, Timeouts};
use crate::fields::Fields;
use std::ops::RangeInclusive;
use std::time::Duration;

pub(super) fn read(mut fields: Fields<'_>) -> Settings {
    let usual = Settings::default();
    let read = Settings {
        devices: fields.all("devices"),
        sources: fields.all("sources"),
        source_ports: ports(&mut fields),
        flows: fields.get("flows"),
        timeouts: fields.table("timeouts").map_or(usual.timeouts, timeouts),
        source_limit: fields.table("source_limit").map(source_limit),
        fragments: fields.get("fragments"),
        mid_stream: fields.get("mid_stream"),
        vlan: fields.get("vlan"),
        events: fields.get_or("events", usual.events),
        control: fields.get_or("control", usual.control),
        pins: fields.get_or("pins", usual.pins),
        metrics: fields.get("metrics"),
        admin: fields.table("admin").and_then(admin),
        access_log: fields.table("access_log").and_then(access_log),
    };
    if read.flows == Some(0) {
        fields.wrong_at("flows", "flows is 0: it is 1 or more");
    }
    fields.end();
    read
}

/// Two ports with a dash between.
fn ports(fields: &mut Fields<'_>) -> Option<RangeInclusive<u16>> {
    let text: String = fields.get("source_ports")?;
    let ends = text.split_once('-');
    let ends = ends.map(|(first, last)| (first.trim().parse(), last.trim().parse()));
    match ends {
        Some((Ok(first), Ok(last))) if first > 0 && first <= last => Some(first..=last),
        _ => {
            let what = format!("source_ports is {text:?}: it is like \"1024-32767\"");
            fields.wrong_at("source_ports", what);
            None
        }
    }
}

fn timeouts(mut fields: Fields<'_>) -> Timeouts {
    let mut time = |name| {
        let time: Option<Duration> = fields.get(name);
        if time.is_some_and(|time| time.is_zero()) {
            fields.wrong_at(
                name,
                format!("{name} is nothing: flows would be forgotten at once"),
            );
        }
        time
    };
    let read = Timeouts {
        unanswered: time("unanswered"),
        established: time("established"),
        half_closed: time("half_closed"),
        closed: time("closed"),
        udp: time("udp"),
    };
    fields.end();
    read
}

fn source_limit(mut fields: Fields<'_>) -> SourceLimit {
    let rate = fields.need("rate").unwrap_or(1);
    let read = SourceLimit {
        rate,
        burst: fields.get_or("burst", rate),
        bits4: fields.get_or("bits4", SourceLimit::BITS4),
        bits6: fields.get_or("bits6", SourceLimit::BITS6),
        room: fields.get("room"),
    };
    if read.room == Some(0) {
        fields.wrong_at("room", "room is 0: it is 1 or more");
    }
    for (name, bits, most) in [
        ("bits4", read.bits4, 32),
        ("bits6", read.bits6, 128),
    ] {
        if bits > most {
            fields.wrong_at(name, format!("{name} is {bits}: it is from 0 to {most}"));
        }
    }
    fields.end();
    read
}

fn access_log(mut fields: Fields<'_>) -> Option<AccessLog> {
    let path = fields.need("path");
    let format = fields.get_or("format", Format::Json);
    let bytes = fields.get_or("bytes", AccessLog::BYTES);
    let files = fields.get_or("files", AccessLog::FILES);
    fields.end();
    path.map(|path| AccessLog {
        path,
        format,
        bytes,
        files,
    })
}

/// Both are needed: without a token, whoever reaches the address could change everything.
fn admin(mut fields: Fields<'_>) -> Option<Admin> {
    let listen = fields.need("listen");
    let token_file = fields.need("token_file");
    fields.end();
    Some(Admin {
        listen: listen?,
        token_file: token_file?,
    })
}
