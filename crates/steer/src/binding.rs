//! What a binding says: protocol, prefix and ports; and what a service is called.

use bpfsmith_net::{BadPrefix, Prefix};
use std::fmt;
use std::net::IpAddr;
use std::ops::{RangeFull, RangeInclusive};
use std::str::FromStr;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// Ports in a row, at least one.
///
/// ```
/// use bpfsmith_steer::Ports;
/// assert_eq!(Ports::from(80).to_string(), "80");
/// assert_eq!(Ports::new(8000..=8999)?.count(), 1000);
/// assert_eq!(Ports::from(..), Ports::ALL);
/// # Ok::<(), bpfsmith_steer::BadBinding>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// All of them.
    pub const ALL: Ports = Ports {
        first: 0,
        last: u16::MAX,
    };

    /// A range.
    ///
    /// # Errors
    /// [`BadBinding::EmptyPorts`] when the first one is behind the last one.
    pub const fn new(range: RangeInclusive<u16>) -> Result<Ports, BadBinding> {
        let (first, last) = (*range.start(), *range.end());
        if first > last {
            return Err(BadBinding::EmptyPorts { first, last });
        }
        Ok(Ports { first, last })
    }

    /// The first one.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last one.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// In order, the last of those that begin at this port.
    pub(crate) const fn last_from(first: u16) -> Ports {
        Ports {
            first,
            last: u16::MAX,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    /// Whether a port is one of them.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// One port.
impl From<u16> for Ports {
    fn from(port: u16) -> Ports {
        Ports {
            first: port,
            last: port,
        }
    }
}

/// All ports.
impl From<RangeFull> for Ports {
    fn from(_: RangeFull) -> Ports {
        Ports::ALL
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.first, self.last) {
            (0, u16::MAX) => "*".to_owned(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        f.pad(&text)
    }
}

impl FromStr for Ports {
    type Err = BadBinding;

    fn from_str(text: &str) -> Result<Ports, BadBinding> {
        let number = |text: &str| text.parse().map_err(|_| BadBinding::Port);
        match text.split_once('-') {
            _ if text == "*" => Ok(Ports::ALL),
            Some((first, last)) => Ports::new(number(first)?..=number(last)?),
            None => Ok(Ports::from(number(text)?)),
        }
    }
}

/// What packets a rule is for: a protocol, a prefix of destination addresses, and ports.
///
/// ```
/// use bpfsmith_steer::Binding;
/// let binding: Binding = "tcp 203.0.113.0/24 8000-8999".parse()?;
/// assert!(binding.covers("203.0.113.7".parse()?, 8080));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binding {
    protocol: Protocol,
    prefix: Prefix,
    ports: Ports,
}

impl Binding {
    /// A binding. The host part of the prefix means nothing.
    ///
    /// # Errors
    /// [`BadBinding::Mapped`] for a prefix of IPv6 addresses that stand for IPv4 ones: no packet has them.
    pub fn new(
        protocol: Protocol,
        prefix: Prefix,
        ports: impl Into<Ports>,
    ) -> Result<Binding, BadBinding> {
        if let IpAddr::V6(address) = prefix.addr()
            && prefix.len() >= 96
            && address.to_ipv4_mapped().is_some()
        {
            return Err(BadBinding::Mapped { prefix });
        }
        Ok(Binding {
            protocol,
            prefix: prefix.network(),
            ports: ports.into(),
        })
    }

    /// The protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The addresses.
    #[must_use]
    pub const fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// The ports.
    #[must_use]
    pub const fn ports(&self) -> Ports {
        self.ports
    }

    /// Whether packets of its protocol to this address and port are its. An IPv4 address may be written as
    /// sockets for both families write it, `::ffff:a.b.c.d`.
    #[must_use]
    pub fn covers(&self, address: IpAddr, port: u16) -> bool {
        self.ports.contains(port) && self.prefix.contains(address.to_canonical())
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.protocol, self.prefix, self.ports)
    }
}

impl FromStr for Binding {
    type Err = BadBinding;

    fn from_str(text: &str) -> Result<Binding, BadBinding> {
        let mut words = text.split_whitespace();
        let all = (words.next(), words.next(), words.next(), words.next());
        let (Some(protocol), Some(prefix), Some(ports), None) = all else {
            return Err(BadBinding::Words);
        };
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(BadBinding::Protocol),
        };
        // An address alone is a prefix with all its bits.
        let prefix = match prefix.parse::<IpAddr>() {
            Ok(address) => Prefix::host(address),
            Err(_) => prefix.parse()?,
        };
        Binding::new(protocol, prefix, ports.parse::<Ports>()?)
    }
}

/// Words that make no binding.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadBinding {
    /// There are not three words.
    #[error("a binding is three words; write it like `tcp 203.0.113.0/24 80`")]
    Words,
    /// No protocol is called that.
    #[error("the first word is no protocol; it is `tcp` or `udp`")]
    Protocol,
    /// The prefix is none.
    #[error("the second word is no prefix: {0}")]
    Prefix(#[from] BadPrefix),
    /// The ports are none.
    #[error("the third word is no port; write `80`, `8000-8999`, or `*` for all")]
    Port,
    /// The range of ports is empty.
    #[error("no port is from {first} to {last}; write the smaller number first")]
    EmptyPorts {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
    /// The prefix is of IPv6 addresses that stand for IPv4 ones.
    #[error(
        "{prefix} stands for IPv4 addresses, which packets have in their own form; write a.b.c.d/n"
    )]
    Mapped {
        /// The prefix.
        prefix: Prefix,
    },
}

bpfsmith_uapi::debug_as_display!(BadBinding);

/// The name of a service: 1 to 63 bytes without spaces or control characters.
///
/// `bpfsmith::dsl` has another `Label`, a place to jump to: a file of programs that needs both imports
/// this one `as` something else.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

/// The longest label.
pub(crate) const LABEL: usize = 63;

/// Text that is no label.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no label; that is 1 to {LABEL} bytes without spaces or control characters")]
pub struct BadLabel {
    /// The text.
    pub text: String,
}

bpfsmith_uapi::debug_as_display!(BadLabel);

impl Label {
    /// The name of a service.
    ///
    /// # Errors
    /// [`BadLabel`] when it is empty, long, or has spaces in it.
    pub fn new(text: &str) -> Result<Label, BadLabel> {
        let is_good = |c: char| !c.is_whitespace() && !c.is_control();
        if text.is_empty() || text.len() > LABEL || !text.chars().all(is_good) {
            return Err(BadLabel {
                text: text.to_owned(),
            });
        }
        Ok(Label(text.to_owned()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = BadLabel;

    fn from_str(text: &str) -> Result<Label, BadLabel> {
        Label::new(text)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A binding, and the service that its packets are for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// What packets.
    pub binding: Binding,
    /// Whose they are.
    pub service: Label,
}

impl Rule {
    /// A rule.
    #[must_use]
    pub fn new(binding: Binding, service: Label) -> Rule {
        Rule { binding, service }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.binding, self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::{BadBinding, Binding, Label, Ports};

    #[track_caller]
    fn refused(text: &str) -> BadBinding {
        text.parse::<Binding>().unwrap_err()
    }

    #[test]
    fn bindings_read_as_they_print() {
        for text in [
            "tcp 203.0.113.0/24 80",
            "udp 2001:db8::/32 8000-8999",
            "tcp 0.0.0.0/0 *",
            "udp ::/0 0",
        ] {
            assert_eq!(text.parse::<Binding>().unwrap().to_string(), text);
        }
        let host: Binding = "tcp 10.1.2.3 1-65535".parse().unwrap();
        assert_eq!(host.to_string(), "tcp 10.1.2.3/32 1-65535");
        let cleared: Binding = "tcp 10.1.2.3/8 *".parse().unwrap();
        assert_eq!(cleared.to_string(), "tcp 10.0.0.0/8 *");
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(refused("tcp 10.0.0.0/8"), BadBinding::Words);
        assert_eq!(refused("sctp 10.0.0.0/8 1"), BadBinding::Protocol);
        assert_eq!(refused("tcp 10.0.0.0/8 70000"), BadBinding::Port);
        assert!(matches!(
            refused("tcp 10.0.0.0/33 1"),
            BadBinding::Prefix(_)
        ));
        assert!(matches!(
            refused("tcp 10.0.0.0/8 9-8"),
            BadBinding::EmptyPorts { .. }
        ));
        assert!(matches!(
            refused("tcp ::ffff:0.0.0.0/96 8"),
            BadBinding::Mapped { .. }
        ));
    }

    #[test]
    fn an_address_is_the_same_in_both_forms() {
        let covers = |text: &str, address: &str| {
            let binding: Binding = text.parse().unwrap();
            binding.covers(address.parse().unwrap(), 80)
        };
        assert!(covers("tcp 10.0.0.0/8 80", "::ffff:10.1.2.3"));
        assert!(!covers("tcp ::/0 80", "::ffff:10.1.2.3"));
    }

    #[test]
    fn labels_are_words() {
        for text in ["", "a b", "a\n", &"x".repeat(64)] {
            assert_eq!(Label::new(text).unwrap_err().text, text);
        }
        assert_eq!(Label::new("größe").unwrap().as_str(), "größe");
        assert_eq!(Ports::ALL.count(), 65536);
    }
}
