//! One name, asked for once.

use super::ask::{Stop, ask};
use super::error::{Error, Failure};
use super::hosts::Hosts;
use super::message::{Family, Outcome, Question};
use super::name::Name;
use super::random;
use super::system::{Server, Settings};
use crate::lock::locked;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The shortest time that an answer lasts, whatever the server says: one that says 0 is not asked all the time.
pub const LEAST: Duration = Duration::from_secs(1);
/// The longest time that an answer lasts, whatever the server says: a mistake in a zone is over after that.
pub const MOST: Duration = Duration::from_secs(3600);
/// How long what a file says lasts, before the file is looked at again.
pub const OF_HOSTS: Duration = Duration::from_secs(10);
/// How long an answer lasts at most when a part of it is missing.
const OF_PART: Duration = Duration::from_secs(30);

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// All of them, of both families; at least one.
    pub addresses: BTreeSet<IpAddr>,
    /// When to ask again: from [`LEAST`] to [`MOST`].
    pub lasts: Duration,
    /// The family that nobody could be asked for, where the other has addresses.
    pub partial: Option<Partial>,
}

/// A family about which nothing is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Which.
    pub family: Family,
    /// Why.
    pub error: Error,
}

/// Asks for the addresses of names.
///
/// First the file of hosts is looked at, then the servers are asked, for both families. A server that is silent or
/// fails is followed by the next, and the one that answered last is asked first. Each question has a number and a
/// port that are chosen by chance, and only what comes from the server with this number about this question
/// is its answer: anything else is left unread.
#[derive(Debug)]
pub struct Resolver {
    origin: Origin,
    /// The server to begin with.
    first: AtomicUsize,
}

#[derive(Debug)]
enum Origin {
    Given(Arc<System>),
    Files {
        paths: [PathBuf; 2],
        read: Mutex<Option<([Stamp; 2], Arc<System>)>>,
    },
}

/// What the files say.
#[derive(Debug)]
struct System {
    settings: Settings,
    hosts: Hosts,
}

/// What changes when a file does: where it is, how long, and when it was written.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl Resolver {
    /// One that does as `/etc/resolv.conf` and `/etc/hosts` say; they are read again when they have changed.
    ///
    /// # Errors
    ///
    /// When one is there and cannot be read. One that is not there is as good as an empty one.
    pub fn of_system() -> Result<Resolver, Error> {
        Resolver::of_files("/etc/resolv.conf", "/etc/hosts")
    }

    /// One that does as two other files say, of the same forms.
    ///
    /// # Errors
    ///
    /// When one is there and cannot be read.
    pub fn of_files(
        resolv_conf: impl Into<PathBuf>,
        hosts: impl Into<PathBuf>,
    ) -> Result<Resolver, Error> {
        let resolver = Resolver::from(Origin::Files {
            paths: [resolv_conf.into(), hosts.into()],
            read: Mutex::new(None),
        });
        resolver.system()?;
        Ok(resolver)
    }

    /// One that asks these servers.
    #[must_use]
    pub fn with(servers: Vec<SocketAddr>, hosts: Hosts) -> Resolver {
        let settings = Settings {
            servers: servers.into_iter().map(Server::from).collect(),
            ..Settings::default()
        };
        Resolver::of(settings, hosts)
    }

    /// One that asks as it is told.
    #[must_use]
    pub fn of(settings: Settings, hosts: Hosts) -> Resolver {
        Resolver::from(Origin::Given(Arc::new(System { settings, hosts })))
    }

    fn from(origin: Origin) -> Resolver {
        Resolver {
            origin,
            first: AtomicUsize::new(0),
        }
    }

    /// Finds the addresses of a host.
    ///
    /// An address is its own answer. `localhost` and names below it need no server.
    ///
    /// This blocks until there is an answer or all servers have had their time; see [`Settings::timeout`].
    ///
    /// # Errors
    ///
    /// When the host is no name, has no address, or no server tells.
    pub fn resolve(&self, host: &str) -> Result<Answer, Error> {
        self.resolve_until(host, &Stop::new()?)
    }

    /// The same, as long as nobody ends it.
    pub(super) fn resolve_until(&self, host: &str, stop: &Stop) -> Result<Answer, Error> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Answer::whole([address], MOST));
        }
        let name: Name = host.parse().map_err(|why| Error::Name {
            host: host.to_owned(),
            why,
        })?;
        let system = self.system()?;
        if let Some(addresses) = system.hosts.find(&name) {
            return Ok(Answer::whole(addresses.iter().copied(), OF_HOSTS));
        }
        if name.is_localhost() {
            let own = [
                Ipv4Addr::LOCALHOST.into(),
                Ipv6Addr::LOCALHOST.into(),
            ];
            return Ok(Answer::whole(own, MOST));
        }
        let asking = Asking {
            settings: &system.settings,
            first: &self.first,
            stop,
        };
        asking.candidates(host, name)
    }

    fn system(&self) -> Result<Arc<System>, Error> {
        let (paths, read) = match &self.origin {
            Origin::Given(system) => return Ok(Arc::clone(system)),
            Origin::Files { paths, read } => (paths, read),
        };
        let mut read = locked(read);
        let [resolv_conf, hosts] = paths;
        let now = [stamp(resolv_conf)?, stamp(hosts)?];
        if let Some((_, system)) = read.as_ref().filter(|(then, _)| *then == now) {
            return Ok(Arc::clone(system));
        }
        let system = Arc::new(System {
            settings: Settings::parse(&text(resolv_conf)?),
            hosts: Hosts::parse(&text(hosts)?),
        });
        // Stamped before it was read: what was written in between is seen the next time.
        *read = Some((now, Arc::clone(&system)));
        Ok(system)
    }
}

fn stamp(path: &PathBuf) -> Result<Stamp, Error> {
    match std::fs::metadata(path) {
        Ok(it) => {
            let stamp = (it.dev(), it.ino(), it.size(), it.mtime(), it.mtime_nsec());
            Ok(Some(stamp))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("stat", path, &error)),
    }
}

/// What is in a file. Bytes that are no text are replaced, and so the line around them is ignored.
fn text(path: &PathBuf) -> Result<String, Error> {
    let mut bytes = Vec::new();
    match std::fs::File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(Error::file("open", path, &error)),
    }
    .map_err(|error| Error::file("read", path, &error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Answer {
    fn whole(addresses: impl IntoIterator<Item = IpAddr>, lasts: Duration) -> Answer {
        Answer {
            addresses: addresses.into_iter().collect(),
            lasts: lasts.clamp(LEAST, MOST),
            partial: None,
        }
    }
}

/// A host that is asked for.
struct Asking<'a> {
    settings: &'a Settings,
    first: &'a AtomicUsize,
    stop: &'a Stop,
}

impl Asking<'_> {
    /// Asks for what the host can mean, until something is there.
    ///
    /// A failure ends the search: while a server does not tell whether the first name is there, the second is not
    /// the right one.
    fn candidates(&self, host: &str, name: Name) -> Result<Answer, Error> {
        let mut absence = None;
        for candidate in self.settings.candidates(host, name) {
            match self.both(host, &candidate) {
                Err(it @ (Error::NoName { .. } | Error::NoAddress { .. })) => {
                    // That one is there says more than that another is not.
                    match (&absence, &it) {
                        (Some(Error::NoAddress { .. }), Error::NoName { .. }) => {}
                        _ => absence = Some(it),
                    }
                }
                outcome => return outcome,
            }
        }
        Err(absence.unwrap_or_else(|| Error::NoServers {
            host: host.to_owned(),
        }))
    }

    /// The addresses of a complete name.
    fn both(&self, host: &str, name: &Name) -> Result<Answer, Error> {
        let (four, six) = (Family::V4, Family::V6);
        let first = self.one(name, four);
        match first {
            // Neither is there anything of the other family.
            Ok(Outcome::NoName { holds }) => {
                return Err(Error::NoName {
                    host: host.to_owned(),
                    holds,
                });
            }
            // It would be the same silence once more.
            Err(error) if !error.is_told() => return Err(error),
            _ => {}
        }
        match (first, self.one(name, six)) {
            (Ok(first), Ok(second)) => joined(host, first, second),
            (Ok(Outcome::Addresses { addresses, holds }), Err(error)) => {
                Ok(Answer::part(addresses, holds, six, error))
            }
            (Err(error), Ok(Outcome::Addresses { addresses, holds })) => {
                Ok(Answer::part(addresses, holds, four, error))
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// The addresses of one family.
    fn one(&self, name: &Name, family: Family) -> Result<Outcome, Error> {
        let servers = &self.settings.servers;
        let mut failures: Vec<Option<Failure>> = vec![None; servers.len()];
        let begin = match self.settings.rotate {
            true => self.first.fetch_add(1, Ordering::Relaxed),
            false => self.first.load(Ordering::Relaxed),
        };
        for _ in 0..self.settings.attempts.max(1) {
            for step in 0..servers.len() {
                let at = begin.wrapping_add(step) % servers.len();
                let (Some(server), Some(failure)) = (servers.get(at), failures.get_mut(at)) else {
                    continue;
                };
                if failure.as_ref().is_some_and(|it| !it.may_pass()) {
                    continue;
                }
                let question = Question {
                    id: random::number()?,
                    name: name.clone(),
                    family,
                };
                match self.ask(server, &question) {
                    Ok(outcome) => {
                        if !self.settings.rotate {
                            self.first.store(at, Ordering::Relaxed);
                        }
                        return Ok(outcome);
                    }
                    Err(why) => *failure = Some(why),
                }
            }
        }
        let host = name.to_string();
        let failures = servers.iter().cloned().zip(failures);
        let failures: Vec<_> = failures.filter_map(|(it, why)| Some((it, why?))).collect();
        Err(match failures.is_empty() {
            true => Error::NoServers { host },
            false => Error::Servers {
                host,
                family,
                failures,
            },
        })
    }

    fn ask(&self, server: &Server, question: &Question) -> Result<Outcome, Failure> {
        ask(server.place()?, question, self.settings.timeout, self.stop)
    }
}

impl Answer {
    fn part(addresses: BTreeSet<IpAddr>, holds: Duration, family: Family, error: Error) -> Answer {
        Answer {
            addresses,
            lasts: holds.clamp(LEAST, OF_PART),
            partial: Some(Partial { family, error }),
        }
    }
}

/// What both families have.
fn joined(host: &str, first: Outcome, second: Outcome) -> Result<Answer, Error> {
    let mut all = BTreeSet::new();
    let mut shortest: Option<Duration> = None;
    let mut absent: Option<Duration> = None;
    let shorter = |one: Option<Duration>, other| Some(one.map_or(other, |it| it.min(other)));
    for outcome in [first, second] {
        match outcome {
            Outcome::Addresses { addresses, holds } => {
                all.extend(addresses);
                shortest = shorter(shortest, holds);
            }
            Outcome::Nothing { holds } | Outcome::NoName { holds } => {
                absent = holds.map_or(absent, |it| shorter(absent, it));
            }
        }
    }
    match shortest {
        Some(lasts) => Ok(Answer::whole(all, lasts)),
        None => Err(Error::NoAddress {
            host: host.to_owned(),
            holds: absent,
        }),
    }
}

impl Error {
    /// Whether some server said something.
    fn is_told(&self) -> bool {
        match self {
            Error::Servers { failures, .. } => failures
                .iter()
                .any(|(_, it)| matches!(it, Failure::Said(_) | Failure::Garbled(_) | Failure::Cut)),
            _ => false,
        }
    }
}
