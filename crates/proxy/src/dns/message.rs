//! Questions and answers as bytes.
//!
//! An answer comes from anybody who can send a packet, so nothing in it is believed before it has been looked at:
//! whatever the bytes are, reading them ends, and ends soon.

use super::name::Name;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// How many bytes there are before the question.
const HEADER: usize = 12;
/// How many names may lead to one another: servers give up at fewer.
const MOST_LINKS: u32 = 16;

const CLASS_IN: u16 = 1;
const TYPE_A: u16 = 1;
const TYPE_NS: u16 = 2;
const TYPE_CNAME: u16 = 5;
const TYPE_SOA: u16 = 6;
const TYPE_AAAA: u16 = 28;

const FLAG_ANSWER: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const FLAG_OF_ZONE: u16 = 0x0400;
const FLAG_CUT: u16 = 0x0200;
const FLAG_RECURSE: u16 = 0x0100;
const FLAG_RECURSES: u16 = 0x0080;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4: records of type A.
    V4,
    /// IPv6: records of type AAAA.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// Whether an address is one of it.
    #[must_use]
    pub const fn has(self, address: IpAddr) -> bool {
        match self {
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }

    const fn number(self) -> u16 {
        match self {
            Family::V4 => TYPE_A,
            Family::V6 => TYPE_AAAA,
        }
    }

    fn read(self, data: &[u8]) -> Result<IpAddr, Garbled> {
        let address = match self {
            Family::V4 => <[u8; 4]>::try_from(data).map(IpAddr::from),
            Family::V6 => <[u8; 16]>::try_from(data).map(IpAddr::from),
        };
        address.map_err(|_| Garbled::Record)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::V4 => "A",
            Family::V6 => "AAAA",
        })
    }
}

/// The word of a server about a question, where it is no answer.
///
/// Servers may say numbers that are not named here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u8);

impl Code {
    /// The server does not understand the question.
    pub const FORMERR: Code = Code(1);
    /// The server could not find out.
    pub const SERVFAIL: Code = Code(2);
    /// There is no such name.
    pub const NXDOMAIN: Code = Code(3);
    /// The server does not do that.
    pub const NOTIMP: Code = Code(4);
    /// The server does not want to.
    pub const REFUSED: Code = Code(5);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Code::FORMERR => f.write_str("FORMERR"),
            Code::SERVFAIL => f.write_str("SERVFAIL"),
            Code::NXDOMAIN => f.write_str("NXDOMAIN"),
            Code::NOTIMP => f.write_str("NOTIMP"),
            Code::REFUSED => f.write_str("REFUSED"),
            Code(it) => write!(f, "error {it}"),
        }
    }
}

bpfsmith_uapi::debug_as_display!(Code);

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its number: nobody else should be able to guess it.
    pub id: u16,
    /// Whose addresses.
    pub name: Name,
    /// Of which family.
    pub family: Family,
}

/// What a server says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An answer.
    Answer(Outcome),
    /// The answer does not fit into a datagram: it has to be asked for by TCP.
    Truncated,
    /// No answer.
    Said(Code),
    /// The names of other servers: this one asks nobody.
    Referral,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There are addresses.
    Addresses {
        /// All of them, at least one.
        addresses: BTreeSet<IpAddr>,
        /// How long they hold: the shortest time on the way from the name to them.
        holds: Duration,
    },
    /// The name has no address of this family.
    Nothing {
        /// How long that holds, if the server says so.
        holds: Option<Duration>,
    },
    /// There is no such name, and none below it.
    NoName {
        /// How long that holds, if the server says so.
        holds: Option<Duration>,
    },
}

/// Why bytes are no reply to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// They reply to another question, or to none: somebody else may have sent them.
    Foreign,
    /// They reply to this question, and then make no sense.
    Garbled(Garbled),
}

/// What makes no sense in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Garbled {
    /// It ends too early, or has less in it than it says.
    Short,
    /// A name is too long, or does not end.
    Name,
    /// A record has not the size of its kind.
    Record,
    /// Names lead to names, too many of them or in a circle.
    Chain,
}

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Garbled::Short => "it ends too early",
            Garbled::Name => "a name in it does not end",
            Garbled::Record => "a record in it has a wrong size",
            Garbled::Chain => "its names lead nowhere",
        })
    }
}

impl From<Garbled> for Unread {
    fn from(what: Garbled) -> Unread {
        Unread::Garbled(what)
    }
}

impl Question {
    /// The question as a message.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER + self.name.wire().len() + 4);
        for word in [self.id, FLAG_RECURSE, 1, 0, 0, 0] {
            message.extend(word.to_be_bytes());
        }
        message.extend(self.name.wire());
        message.extend(self.family.number().to_be_bytes());
        message.extend(CLASS_IN.to_be_bytes());
        message
    }

    /// What a message says to this question.
    ///
    /// # Errors
    ///
    /// When it does not belong to the question, or makes no sense. Who waits for a reply goes on waiting after
    /// [`Unread::Foreign`].
    pub fn read(&self, message: &[u8]) -> Result<Reply, Unread> {
        let (flags, at) = self.matches(message).ok_or(Unread::Foreign)?;
        if flags & FLAG_CUT != 0 {
            return Ok(Reply::Truncated);
        }
        let code = Code((flags & 0xf).to_be_bytes()[1]);
        if !matches!(code, Code(0) | Code::NXDOMAIN) {
            return Ok(Reply::Said(code));
        }
        let count = |at| word(message, at).ok_or(Garbled::Short);
        let (answers, at) = records(message, at, count(6)?)?;
        let (found, shortest) = self.follow(&answers)?;
        if !found.is_empty() && code == Code(0) {
            return Ok(Reply::Answer(Outcome::Addresses {
                addresses: found,
                holds: shortest.unwrap_or_default(),
            }));
        }
        let (authority, _) = records(message, at, count(8)?)?;
        let of_zone = authority.iter().find_map(Record::absence);
        let holds = of_zone.map(|it| shortest.map_or(it, |other| it.min(other)));
        let others = authority.iter().any(|it| it.kind == TYPE_NS);
        let is_resolver = flags & (FLAG_OF_ZONE | FLAG_RECURSES) != 0;
        Ok(match code {
            Code::NXDOMAIN => Reply::Answer(Outcome::NoName { holds }),
            _ if holds.is_none() && others && answers.is_empty() && !is_resolver => Reply::Referral,
            _ => Reply::Answer(Outcome::Nothing { holds }),
        })
    }

    /// The flags of a message that replies to this question, and where its records begin.
    fn matches(&self, message: &[u8]) -> Option<(u16, usize)> {
        let flags = word(message, 2)?;
        let is_reply = word(message, 0)? == self.id
            && flags & FLAG_ANSWER != 0
            && flags & OPCODE == 0
            && word(message, 4)? == 1;
        let (name, at) = Name::read(message, HEADER).ok()?;
        let is_this = name == self.name
            && word(message, at)? == self.family.number()
            && word(message, at + 2)? == CLASS_IN;
        (is_reply && is_this).then_some((flags, at + 4))
    }

    /// Goes from the name over others to addresses; with the shortest time on the way.
    fn follow(
        &self,
        answers: &[Record<'_>],
    ) -> Result<(BTreeSet<IpAddr>, Option<Duration>), Garbled> {
        let mut owner = &self.name;
        let mut shortest: Option<Duration> = None;
        let mut shorten = |by: Duration| {
            shortest = Some(shortest.map_or(by, |it| it.min(by)));
            shortest
        };
        let mut so_far = None;
        for _ in 0..=MOST_LINKS {
            let of_owner = || answers.iter().filter(|it| it.owner == *owner);
            let mut found = BTreeSet::new();
            for record in of_owner().filter(|it| it.kind == self.family.number()) {
                found.insert(self.family.read(record.data)?);
                so_far = shorten(record.holds);
            }
            let other = of_owner().find_map(|it| it.alias.as_ref().map(|name| (name, it)));
            let (true, Some((next, record))) = (found.is_empty(), other) else {
                return Ok((found, so_far));
            };
            so_far = shorten(record.holds);
            owner = next;
        }
        Err(Garbled::Chain)
    }
}

/// One record of an answer.
struct Record<'a> {
    owner: Name,
    kind: u16,
    holds: Duration,
    data: &'a [u8],
    /// The other name, where it says that its owner is one for that.
    alias: Option<Name>,
}

impl Record<'_> {
    /// How long the absence of something holds, if this is the record that tells.
    fn absence(&self) -> Option<Duration> {
        // Two names of one byte at least, and five numbers, of which it is the last.
        let (_, last) = self.data.split_last_chunk::<4>()?;
        (self.kind == TYPE_SOA && self.data.len() >= 22)
            .then(|| self.holds.min(time(u32::from_be_bytes(*last))))
    }
}

/// So many records from a place on, and the place behind them. Those of another class are left out.
fn records(message: &[u8], mut at: usize, count: u16) -> Result<(Vec<Record<'_>>, usize), Garbled> {
    let mut records = Vec::new();
    for _ in 0..count {
        let (owner, fixed) = Name::read(message, at)?;
        let word = |at| word(message, at).ok_or(Garbled::Short);
        let (kind, class) = (word(fixed)?, word(fixed + 2)?);
        let seconds = (u32::from(word(fixed + 4)?) << 16) | u32::from(word(fixed + 6)?);
        let begin = fixed + 10;
        at = begin + usize::from(word(fixed + 8)?);
        let data = message.get(begin..at).ok_or(Garbled::Short)?;
        if class != CLASS_IN {
            continue;
        }
        let alias = match kind {
            TYPE_CNAME => match Name::read(message, begin)? {
                (alias, behind) if behind == at => Some(alias),
                _ => return Err(Garbled::Record),
            },
            _ => None,
        };
        records.push(Record {
            owner,
            kind,
            holds: time(seconds),
            data,
            alias,
        });
    }
    Ok((records, at))
}

/// A number of seconds; one with the highest bit set means none.
fn time(seconds: u32) -> Duration {
    let seconds = if seconds >> 31 == 0 { seconds } else { 0 };
    Duration::from_secs(seconds.into())
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*bytes))
}
