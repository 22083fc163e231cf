//! `/etc/hosts`: names that need no server.

use super::name::Name;
use super::system::{Ignored, lines};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Names and their addresses, as a file like `/etc/hosts` has them.
///
/// ```
/// use bpfsmith_proxy::dns::Hosts;
/// let hosts = Hosts::parse("10.0.0.1 web web.example # the old one\nfd00::1 web\n");
/// let web = hosts.find(&"WEB".parse()?).expect("it is there");
/// assert_eq!(web.len(), 2);
/// # Ok::<(), bpfsmith_proxy::dns::BadName>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    names: BTreeMap<Name, BTreeSet<IpAddr>>,
    ignored: Vec<Ignored>,
}

impl Hosts {
    /// Reads a text: an address and its names on each line, `#` before remarks.
    #[must_use]
    pub fn parse(text: &str) -> Hosts {
        let mut hosts = Hosts::default();
        for (number, line) in lines(text, &['#']) {
            let mut words = line.split_whitespace();
            let address = words.next().and_then(|it| it.parse::<IpAddr>().ok());
            let names: Result<Vec<Name>, _> = words.map(str::parse).collect();
            match (address, names) {
                (Some(address), Ok(names)) if !names.is_empty() => {
                    for name in names {
                        hosts.names.entry(name).or_default().insert(address);
                    }
                }
                _ => hosts.ignored.push(Ignored::new(number, line)),
            }
        }
        hosts
    }

    /// The addresses of a name.
    #[must_use]
    pub fn find(&self, name: &Name) -> Option<&BTreeSet<IpAddr>> {
        self.names.get(name)
    }

    /// The lines that say nothing that is understood here, like addresses with a scope.
    #[must_use]
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_names() {
        let hosts = Hosts::parse(
            "# all\n\n127.0.0.1\tlocalhost Machine\n::1 localhost\n10.0.0.1\nx y\n\
             fe80::1%eth0 near\n10.0.0.2 a..b\n10.0.0.3 last#remark",
        );
        let find = |name: &str| {
            let found = hosts.find(&name.parse().unwrap());
            found.map(|it| it.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(find("localhost").unwrap(), ["127.0.0.1", "::1"]);
        assert_eq!(find("MACHINE.").unwrap(), ["127.0.0.1"]);
        assert_eq!(find("last").unwrap(), ["10.0.0.3"]);
        assert_eq!(find("near"), None);
        let ignored: Vec<usize> = hosts.ignored().iter().map(|it| it.line).collect();
        assert_eq!(ignored, [5, 6, 7, 8]);
    }
}
