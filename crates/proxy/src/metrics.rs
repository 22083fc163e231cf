//! Counters for Prometheus.
//!
//! What the kernel counts goes on as long as its maps live; what is counted here begins with this process,
//! from events: none of it ever goes back.

use crate::feed::{Sink, Told};
use crate::lock::locked;
use crate::status::{self, Status};
use bpfsmith_datapath::event::{Flow, Traffic, What};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The upper ends of the buckets that durations of connections fall into, in seconds.
pub const DURATIONS: [f64; 12] = [
    0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0,
];

/// What events add up to. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    sums: Arc<Mutex<Sums>>,
}

#[derive(Debug, Default)]
struct Sums {
    proxies: BTreeMap<String, Sum>,
    targets: BTreeMap<SocketAddr, Sum>,
    refused: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Debug, Default)]
struct Sum {
    opened: u64,
    ended: BTreeMap<&'static str, u64>,
    there: Traffic,
    back: Traffic,
    durations: [u64; DURATIONS.len()],
    duration: Duration,
}

impl Sum {
    fn closed(&mut self, flow: &Flow, end: &'static str) {
        *self.ended.entry(end).or_default() += 1;
        for (sum, more) in [
            (&mut self.there, flow.there),
            (&mut self.back, flow.back),
        ] {
            sum.packets = sum.packets.saturating_add(more.packets);
            sum.bytes = sum.bytes.saturating_add(more.bytes);
        }
        self.duration += flow.lasted();
        let seconds = flow.lasted().as_secs_f64();
        for (count, end) in self.durations.iter_mut().zip(DURATIONS) {
            *count += u64::from(seconds <= end);
        }
    }
}

impl Sink for Tally {
    fn take(&mut self, told: &Told) -> ControlFlow<()> {
        let mut sums = locked(&self.sums);
        let proxy = told.proxy.as_deref().unwrap_or_default();
        match told.event.what {
            What::New(flow) => {
                sums.proxy(proxy).opened += 1;
                sums.targets.entry(flow.target).or_default().opened += 1;
            }
            What::Closed(flow, end) => {
                let end = status::end_name(end);
                sums.proxy(proxy).closed(&flow, end);
                sums.targets
                    .entry(flow.target)
                    .or_default()
                    .closed(&flow, end);
            }
            What::Refused(reason) => *sums.refused.entry(reason.name()).or_default() += 1,
            What::Periodic(_) => {}
        }
        ControlFlow::Continue(())
    }
}

impl Sums {
    /// The sum of a proxy; those whose name is not known any more have one together.
    fn proxy(&mut self, name: &str) -> &mut Sum {
        self.proxies.entry(name.to_owned()).or_default()
    }
}

/// A text of metrics, as Prometheus reads it.
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a string cannot fail.
        let _ = writeln!(
            self.text,
            "# HELP bpfsmith_proxy_{name} {help}\n# TYPE bpfsmith_proxy_{name} {kind}"
        );
    }

    fn row(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let labels = labels.iter().map(|(label, value)| {
            let value = value.to_string();
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{label}=\"{value}\"")
        });
        let labels: Vec<String> = labels.collect();
        let labels = match labels.as_slice() {
            [] => String::new(),
            some => format!("{{{}}}", some.join(",")),
        };
        let _ = writeln!(self.text, "bpfsmith_proxy_{name}{labels} {value}");
    }
}

impl Tally {
    /// Everything, as Prometheus reads it.
    #[must_use]
    pub fn page(&self, status: &Status) -> String {
        let mut page = Page {
            text: String::new(),
        };
        standing(&mut page, status);
        let sums = locked(&self.sums);
        page.family(
            "events_refused_total",
            "counter",
            "Events of packets that began no connection, by reason",
        );
        for (reason, count) in &sums.refused {
            page.row("events_refused_total", &[("reason", reason)], count);
        }
        traffic(
            &mut page,
            "proxy",
            sums.proxies
                .iter()
                .map(|(name, sum)| (name as &dyn Display, sum)),
        );
        traffic(
            &mut page,
            "target",
            sums.targets
                .iter()
                .map(|(name, sum)| (name as &dyn Display, sum)),
        );
        page.text
    }
}

/// What the status says.
fn standing(page: &mut Page, status: &Status) {
    page.family("info", "gauge", "The version of the program");
    page.row("info", &[("version", &status.version)], 1);
    page.family("uptime_seconds", "gauge", "How long the process runs");
    page.row("uptime_seconds", &[], status.uptime.as_secs_f64());
    page.family(
        "generations_total",
        "counter",
        "Generations of programs that came into place",
    );
    page.row("generations_total", &[], status.generation);
    page.family(
        "packets_total",
        "counter",
        "Packets, by what became of them",
    );
    for (reason, count) in &status.counters {
        page.row("packets_total", &[("reason", reason)], count);
    }
    page.family("events_read_total", "counter", "Events that were read");
    page.row("events_read_total", &[], status.events.events);
    page.family(
        "events_dropped_total",
        "counter",
        "Events that readers were too slow for",
    );
    page.row("events_dropped_total", &[], status.events.dropped);
    let targets = || {
        let groups = status.groups.iter();
        groups.flat_map(|group| group.targets.iter().map(move |target| (group, target)))
    };
    page.family(
        "target_connections",
        "gauge",
        "Connections that a target has",
    );
    for (group, target) in targets() {
        let labels: [(&str, &dyn Display); 2] = [
            ("group", &group.name),
            ("target", &target.address),
        ];
        page.row("target_connections", &labels, target.connections);
    }
    page.family(
        "target_share_percent",
        "gauge",
        "What a target gets of its weight",
    );
    for (group, target) in targets() {
        let labels: [(&str, &dyn Display); 2] = [
            ("group", &group.name),
            ("target", &target.address),
        ];
        page.row("target_share_percent", &labels, target.share);
    }
    page.family(
        "target_state",
        "gauge",
        "How a target stands: 1 for the state that it is in",
    );
    for (group, target) in targets() {
        let labels: [(&str, &dyn Display); 3] = [
            ("group", &group.name),
            ("target", &target.address),
            ("state", &target.state),
        ];
        page.row("target_state", &labels, 1);
    }
}

/// What went through proxies, or to targets.
fn traffic<'a>(
    page: &mut Page,
    what: &str,
    sums: impl Iterator<Item = (&'a dyn Display, &'a Sum)> + Clone,
) {
    let name = |rest: &str| format!("{what}_{rest}");
    let opened = name("connections_opened_total");
    page.family(&opened, "counter", "Connections that were established");
    for (whose, sum) in sums.clone() {
        page.row(&opened, &[(what, whose)], sum.opened);
    }
    let ended = name("connections_ended_total");
    page.family(&ended, "counter", "Connections that ended, by how");
    for (whose, sum) in sums.clone() {
        for (end, count) in &sum.ended {
            page.row(&ended, &[(what, whose), ("end", end)], count);
        }
    }
    for (rest, help) in [
        (
            "bytes_total",
            "Bytes of connections that ended, IP headers included",
        ),
        ("packets_total", "Packets of connections that ended"),
    ] {
        let name = name(rest);
        page.family(&name, "counter", help);
        for (whose, sum) in sums.clone() {
            for (direction, traffic) in [
                ("to_target", sum.there),
                ("to_client", sum.back),
            ] {
                let count = match rest {
                    "bytes_total" => traffic.bytes,
                    _ => traffic.packets,
                };
                page.row(&name, &[(what, whose), ("direction", &direction)], count);
            }
        }
    }
    let durations = name("connection_duration_seconds");
    page.family(
        &durations,
        "histogram",
        "How long connections lived that ended",
    );
    for (whose, sum) in sums {
        let count: u64 = sum.ended.values().sum();
        let bucket = format!("{durations}_bucket");
        for (end, below) in DURATIONS.iter().zip(sum.durations) {
            page.row(&bucket, &[(what, whose), ("le", end)], below);
        }
        page.row(&bucket, &[(what, whose), ("le", &"+Inf")], count);
        page.row(
            &format!("{durations}_sum"),
            &[(what, whose)],
            sum.duration.as_secs_f64(),
        );
        page.row(&format!("{durations}_count"), &[(what, whose)], count);
    }
}
