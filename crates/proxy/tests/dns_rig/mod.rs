//! What the tests of names share: answers as bytes, and a server that gives them.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

pub(crate) mod server;

use bpfsmith_proxy::dns::Name;
use bpfsmith_proxy::dns::message::{Family, Question};
use std::net::IpAddr;

pub(crate) const CNAME: u16 = 5;
pub(crate) const NS: u16 = 2;
pub(crate) const SOA: u16 = 6;
pub(crate) const CUT: u16 = 0x0200;
/// A reply of a server that asks others, to a question that wants it to.
const FLAGS: u16 = 0x8180;

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn question(text: &str, family: Family) -> Question {
    Question {
        id: 0x1234,
        name: name(text),
        family,
    }
}

pub(crate) fn number(family: Family) -> u16 {
    match family {
        Family::V4 => 1,
        Family::V6 => 28,
    }
}

/// A reply in the making.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) question: Question,
    pub(crate) flags: u16,
    /// Answers and authority, as bytes.
    sections: [Vec<u8>; 2],
    counts: [u16; 2],
}

impl Reply {
    pub(crate) fn to(question: &Question) -> Reply {
        Reply {
            question: question.clone(),
            flags: FLAGS,
            sections: [Vec::new(), Vec::new()],
            counts: [0; 2],
        }
    }

    pub(crate) fn flag(mut self, flag: u16) -> Reply {
        self.flags ^= flag;
        self
    }

    pub(crate) fn code(mut self, code: u16) -> Reply {
        self.flags |= code;
        self
    }

    /// Any record; the name that was asked for is compressed.
    pub(crate) fn record(
        mut self,
        section: usize,
        owner: &str,
        kind: u16,
        ttl: u32,
        data: &[u8],
    ) -> Reply {
        let owner = name(owner);
        let bytes = &mut self.sections[section];
        match owner == self.question.name {
            true => bytes.extend([0xc0, 12]),
            false => bytes.extend(owner.wire()),
        }
        bytes.extend(kind.to_be_bytes());
        bytes.extend(1_u16.to_be_bytes());
        bytes.extend(ttl.to_be_bytes());
        bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend(data);
        self.counts[section] += 1;
        self
    }

    pub(crate) fn address(self, owner: &str, ttl: u32, address: IpAddr) -> Reply {
        match address {
            IpAddr::V4(it) => self.record(0, owner, 1, ttl, &it.octets()),
            IpAddr::V6(it) => self.record(0, owner, 28, ttl, &it.octets()),
        }
    }

    pub(crate) fn alias(self, owner: &str, ttl: u32, other: &str) -> Reply {
        let other = name(other);
        self.record(0, owner, CNAME, ttl, other.wire())
    }

    /// Says how long an absence holds.
    pub(crate) fn zone(self, owner: &str, ttl: u32, minimum: u32) -> Reply {
        let mut data = b"\x02ns\x00\x05admin\x00".to_vec();
        for number in [1, 2, 3, 4, minimum] {
            data.extend(number.to_be_bytes());
        }
        self.record(1, owner, SOA, ttl, &data)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let [answers, authority] = self.counts;
        let mut bytes = self.question.to_bytes();
        for (at, word) in [
            (2, self.flags),
            (6, answers),
            (8, authority),
        ] {
            bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
        }
        bytes.extend(self.sections.concat());
        bytes
    }
}
