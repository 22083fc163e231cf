//! `/etc/resolv.conf`: whom to ask, and how.

use super::error::Failure;
use super::name::Name;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// The port of the protocol.
const PORT: u16 = 53;
/// How many servers the C library takes from the file.
const MOST_SERVERS: usize = 3;

/// Whom to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The servers, the best first.
    pub servers: Vec<Server>,
    /// What is tried behind names with few dots.
    pub search: Vec<Name>,
    /// A name with fewer dots is tried with [`Settings::search`] first, any other without.
    pub dots: u8,
    /// How long a server has for an answer.
    pub timeout: Duration,
    /// How often a silent server is asked.
    pub attempts: u8,
    /// Whether each question begins at the next server, and not at the one that answered last.
    pub rotate: bool,
    /// Lines, or options on them, that say nothing that is understood here.
    pub ignored: Vec<Ignored>,
}

/// A line, or a part of one, that has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Its number, from 1.
    pub line: usize,
    /// What there is.
    pub text: String,
}

/// A server that answers questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The interface to which its address belongs, by name or number: only link-local addresses of IPv6 have one.
    pub scope: Option<String>,
}

impl Default for Settings {
    /// As with an empty file: the machine itself is asked, for 5 seconds, twice.
    fn default() -> Settings {
        Settings {
            servers: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)).into()],
            search: Vec::new(),
            dots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            ignored: Vec::new(),
        }
    }
}

impl Settings {
    /// Reads a text like `/etc/resolv.conf`.
    ///
    /// Of `options`, those are read that matter here: `ndots`, `timeout`, `attempts` and `rotate`, with the limits that
    /// the C library has. The last of `search` and `domain` counts; without any there is no search.
    ///
    /// ```
    /// use bpfsmith_proxy::dns::Settings;
    /// let settings = Settings::parse("nameserver 10.0.0.1\nsearch corp.example\noptions timeout:2\n");
    /// assert_eq!(settings.servers[0].to_string(), "10.0.0.1:53");
    /// assert_eq!(settings.timeout.as_secs(), 2);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Settings {
        let mut settings = Settings::default();
        let mut servers = Vec::new();
        for (line, text) in lines(text, &['#', ';']) {
            let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            let rest = rest.trim();
            let known = match word {
                "nameserver" if servers.len() < MOST_SERVERS => rest
                    .split_whitespace()
                    .next()
                    .and_then(Server::of)
                    .map(|it| servers.push(it)),
                "search" | "domain" => {
                    let names: Result<_, _> = rest
                        .split_whitespace()
                        .filter(|it| *it != ".")
                        .map(str::parse)
                        .collect();
                    names.ok().map(|it| settings.search = it)
                }
                "options" => {
                    let options = rest.split_whitespace();
                    let unknown = options.filter(|it| settings.option(it).is_none());
                    let unknown: Vec<&str> = unknown.collect();
                    settings
                        .ignored
                        .extend(unknown.iter().map(|it| Ignored::new(line, it)));
                    Some(())
                }
                _ => None,
            };
            if known.is_none() {
                settings.ignored.push(Ignored::new(line, text));
            }
        }
        if !servers.is_empty() {
            settings.servers = servers;
        }
        settings
    }

    fn option(&mut self, text: &str) -> Option<()> {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let number = || {
            value
                .parse::<u32>()
                .ok()
                .map(|it| u8::try_from(it).unwrap_or(u8::MAX))
        };
        match name {
            "ndots" => self.dots = number()?.min(15),
            "timeout" => self.timeout = Duration::from_secs(number()?.clamp(1, 30).into()),
            "attempts" => self.attempts = number()?.clamp(1, 5),
            "rotate" => self.rotate = true,
            _ => return None,
        }
        Some(())
    }

    /// The complete names that a text can mean, in the order in which they are asked for.
    pub(super) fn candidates(&self, text: &str, name: Name) -> Vec<Name> {
        if text.ends_with('.') {
            return vec![name];
        }
        let longer = |suffix: &Name| format!("{text}.{suffix}").parse().ok();
        let mut names: Vec<Name> = self.search.iter().filter_map(longer).collect();
        let dots = text.bytes().filter(|it| *it == b'.').count();
        match dots >= self.dots.into() {
            true => names.insert(0, name),
            false => names.push(name),
        }
        names
    }
}

impl Ignored {
    pub(super) fn new(line: usize, text: &str) -> Ignored {
        Ignored {
            line,
            text: text.to_owned(),
        }
    }
}

impl Server {
    fn of(text: &str) -> Option<Server> {
        let (address, scope) = match text.split_once('%') {
            Some((address, scope)) => (address, Some(scope)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let is_scoped = matches!(address, IpAddr::V6(it) if it.is_unicast_link_local());
        match scope {
            Some(scope) if !is_scoped || scope.is_empty() => None,
            scope => Some(Server {
                address,
                port: PORT,
                scope: scope.map(str::to_owned),
            }),
        }
    }

    /// Where to send to. The number of an interface is looked up anew each time, as interfaces come and go.
    pub(super) fn place(&self) -> Result<SocketAddr, Failure> {
        let (IpAddr::V6(address), Some(scope)) = (self.address, &self.scope) else {
            return Ok(SocketAddr::new(self.address, self.port));
        };
        let number = match scope.parse() {
            Ok(number) => number,
            Err(_) => {
                nix::net::if_::if_nametoindex(scope.as_str()).map_err(|_| Failure::Interface {
                    name: scope.clone(),
                })?
            }
        };
        Ok(SocketAddrV6::new(address, self.port, 0, number).into())
    }
}

impl From<SocketAddr> for Server {
    fn from(place: SocketAddr) -> Server {
        let scope = match place {
            SocketAddr::V6(it) if it.scope_id() != 0 => Some(it.scope_id().to_string()),
            _ => None,
        };
        Server {
            address: place.ip(),
            port: place.port(),
            scope,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.address, &self.scope) {
            (IpAddr::V6(it), Some(scope)) => write!(f, "[{it}%{scope}]:{}", self.port),
            (it, _) => SocketAddr::new(*it, self.port).fmt(f),
        }
    }
}

/// The lines of a text that say something, with their numbers and without remarks.
pub(super) fn lines<'a>(
    text: &'a str,
    remarks: &'a [char],
) -> impl Iterator<Item = (usize, &'a str)> {
    text.lines().enumerate().filter_map(move |(number, line)| {
        let line = line.split(remarks).next().unwrap_or_default().trim();
        (!line.is_empty()).then_some((number + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<T: fmt::Display>(of: &[T]) -> Vec<String> {
        of.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_is_read() {
        let settings = Settings::parse(
            "# made by hand\n\
             nameserver 10.0.0.1\n\
             nameserver\tfe80::1%eth0  ; near\n\
             domain old.example\n\
             search corp.example Example. .\n\
             options ndots:2 timeout:3 attempts:4 rotate edns0\n\
             nameserver 10.0.0.x\n\
             nameserver 10.0.0.2%eth0\n\
             nameserver ::1\n\
             nameserver 10.0.0.4\n\
             sortlist 10.0.0.0\n",
        );
        let servers = texts(&settings.servers);
        assert_eq!(
            servers,
            [
                "10.0.0.1:53",
                "[fe80::1%eth0]:53",
                "[::1]:53"
            ]
        );
        assert_eq!(texts(&settings.search), ["corp.example", "example"]);
        assert_eq!((settings.dots, settings.attempts), (2, 4));
        assert_eq!(settings.timeout, Duration::from_secs(3));
        assert!(settings.rotate);
        let ignored: Vec<_> = settings
            .ignored
            .iter()
            .map(|it| (it.line, &*it.text))
            .collect();
        assert_eq!(
            ignored,
            [
                (6, "edns0"),
                (7, "nameserver 10.0.0.x"),
                (8, "nameserver 10.0.0.2%eth0"),
                (10, "nameserver 10.0.0.4"),
                (11, "sortlist 10.0.0.0"),
            ]
        );
    }

    #[test]
    fn numbers_have_limits() {
        let settings = Settings::parse("options ndots:99 timeout:0 attempts:4000000000");
        assert_eq!((settings.dots, settings.attempts), (15, 5));
        assert_eq!(settings.timeout, Duration::from_secs(1));
        let settings = Settings::parse("options ndots:x timeout: attempts:-1");
        assert_eq!(settings.ignored.len(), 3);
        assert_eq!(Settings::parse(""), Settings::default());
    }

    #[test]
    fn the_number_of_dots_tells_what_comes_first() {
        let settings = Settings::parse("search a.example b.example\noptions ndots:2");
        let names = |text: &str| texts(&settings.candidates(text, text.parse().unwrap()));
        assert_eq!(names("web"), ["web.a.example", "web.b.example", "web"]);
        assert_eq!(
            names("w.x.y"),
            [
                "w.x.y",
                "w.x.y.a.example",
                "w.x.y.b.example"
            ]
        );
        assert_eq!(names("web."), ["web"]);
        // What would be too long is nobody's name.
        let long = format!("{}b", "abc.".repeat(62));
        assert_eq!(names(&long), [long.as_str()]);
    }

    #[test]
    fn a_link_local_address_has_an_interface() {
        let server = Server::of("fe80::1%7").unwrap();
        assert_eq!(server.place().unwrap().to_string(), "[fe80::1%7]:53");
        assert_eq!(Server::from(server.place().unwrap()), server);
        let server = Server::of("fe80::1%bs-dns-none").unwrap();
        let failure = server.place().unwrap_err();
        assert_eq!(
            failure,
            Failure::Interface {
                name: "bs-dns-none".to_owned()
            }
        );
    }
}
