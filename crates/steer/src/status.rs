//! What came in, for each binding; and all of it as text.

use crate::binding::Rule;
use crate::error::Result;
use crate::layout::Tally;
use crate::services::{ServiceInfo, Services};
use crate::steering::Steering;
use bpfsmith_asm::kit::lookup::Fallback;
use std::fmt;

/// What a binding's packets came to, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that a socket got.
    pub hits: u64,
    /// Packets without a socket: none of the service's lived.
    pub misses: u64,
    /// Packets whose socket the kernel refused.
    pub errors: u64,
}

/// Rules with what was counted, and services: how things are at a moment. `Display` is a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The rules, by protocol, prefix and ports.
    pub rules: Vec<(Rule, Counts)>,
    /// The services, by label.
    pub services: Vec<ServiceInfo>,
}

impl Steering {
    /// How things are.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn status(&mut self) -> Result<Status> {
        let services = self.services()?;
        let _lock = self.reading()?;
        let labels = Services::read(self)?;
        let rules = self.known.table.iter().map(|(binding, owner)| {
            let rule = Rule::new(binding, labels.label(owner.service)?);
            let counts = self.tallies.fold(&owner.counter, Counts::default(), add)?;
            Ok((rule, counts.unwrap_or_default()))
        });
        Ok(Status {
            rules: rules.collect::<Result<_>>()?,
            services,
        })
    }
}

fn add(sum: Counts, tally: Tally) -> Counts {
    Counts {
        hits: sum.hits.wrapping_add(tally.hits),
        misses: sum.misses.wrapping_add(tally.misses),
        errors: sum.errors.wrapping_add(tally.errors),
    }
}

impl Status {
    /// What was counted for all bindings of a service.
    #[must_use]
    pub fn counts(&self, service: &str) -> Counts {
        let own = self
            .rules
            .iter()
            .filter(|(rule, _)| rule.service.as_str() == service);
        own.fold(Counts::default(), |sum, (_, counts)| Counts {
            hits: sum.hits.wrapping_add(counts.hits),
            misses: sum.misses.wrapping_add(counts.misses),
            errors: sum.errors.wrapping_add(counts.errors),
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "protocol", "prefix", "ports", "service", "hits", "misses", "errors",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        for (Rule { binding, service }, counts) in &self.rules {
            rows.push([
                binding.protocol().to_string(),
                binding.prefix().to_string(),
                binding.ports().to_string(),
                service.to_string(),
                counts.hits.to_string(),
                counts.misses.to_string(),
                counts.errors.to_string(),
            ]);
        }
        table(f, &rows, 4)?;
        writeln!(f)?;
        let head = ["service", "without a socket", "sockets"];
        let mut rows = vec![head.map(str::to_owned)];
        for service in &self.services {
            let sockets = service
                .sockets
                .iter()
                .map(|socket| format!("{} {} #{}", socket.protocol, socket.family, socket.cookie));
            rows.push([
                service.label.to_string(),
                match service.fallback {
                    Fallback::Pass => "pass".to_owned(),
                    Fallback::Drop => "refuse".to_owned(),
                },
                sockets.collect::<Vec<_>>().join(", "),
            ]);
        }
        table(f, &rows, 3)
    }
}

/// Columns as wide as they must be; from the one with this number on, flush right.
fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    rows: &[[String; N]],
    right: usize,
) -> fmt::Result {
    let width = |n: usize| rows.iter().map(|row| row[n].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|n| width(n).unwrap_or(0));
    for row in rows {
        let mut line = String::new();
        for (n, (cell, width)) in row.iter().zip(widths).enumerate() {
            let cell = match n >= right {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            };
            line.push_str(if n == 0 { "" } else { "  " });
            line.push_str(&cell);
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Counts, Status};
    use crate::binding::{Label, Protocol, Rule};
    use crate::services::ServiceInfo;
    use crate::sockets::{Family, Socket};
    use bpfsmith_asm::kit::lookup::Fallback;

    #[test]
    fn a_table_is_straight() {
        let web = Label::new("web").unwrap();
        let counts = Counts {
            hits: 12_345,
            misses: 1,
            errors: 0,
        };
        let rule = |text: &str| Rule::new(text.parse().unwrap(), web.clone());
        let status = Status {
            rules: vec![
                (rule("tcp 203.0.113.0/24 *"), counts),
                (rule("udp 2001:db8::/32 443"), Counts::default()),
            ],
            services: vec![ServiceInfo {
                label: web.clone(),
                fallback: Fallback::Drop,
                sockets: vec![Socket {
                    protocol: Protocol::Tcp,
                    family: Family::V4,
                    slot: 0,
                    cookie: 77,
                }],
            }],
        };
        let text = "\
protocol  prefix          ports  service   hits  misses  errors
tcp       203.0.113.0/24  *      web      12345       1       0
udp       2001:db8::/32   443    web          0       0       0

service  without a socket  sockets
web      refuse            tcp v4 #77
";
        assert_eq!(status.to_string(), text);
        assert_eq!(status.counts("web").hits, 12_345);
    }
}
