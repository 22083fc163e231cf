//! Answers as bytes: what they say, and that no bytes bring the reader down.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod dns_rig;
#[path = "dns_rig/exercise.rs"]
mod exercise;

use bpfsmith_proxy::dns::message::{
    Code, Family, Garbled, Outcome, Question, Reply as Says, Unread,
};
use dns_rig::{CNAME, CUT, NS, Reply, question};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

const HOST: &str = "web.example";

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

fn asks(family: Family) -> Question {
    question(HOST, family)
}

fn reads(reply: &Reply) -> Result<Says, Unread> {
    reply.question.read(&reply.bytes())
}

fn addresses(texts: &[&str], holds: u32) -> Result<Says, Unread> {
    Ok(Says::Answer(Outcome::Addresses {
        addresses: texts.iter().map(|it| it.parse().unwrap()).collect(),
        holds: seconds(holds),
    }))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_question_is_bytes() {
    let bytes = asks(Family::V6).to_bytes();
    assert_eq!(
        bytes,
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x07example\x00\x00\x1c\x00\x01"
    );
}

#[test]
fn addresses_of_the_family_are_taken_with_their_shortest_time() {
    let reply = Reply::to(&asks(Family::V4))
        .address(HOST, 300, ip("10.0.0.1"))
        .address("other.example", 1, ip("10.0.0.9"))
        .address(HOST, 200, ip("10.0.0.2"))
        .address(HOST, 1, ip("fd00::1"));
    assert_eq!(reads(&reply), addresses(&["10.0.0.1", "10.0.0.2"], 200));
    let reply = Reply::to(&asks(Family::V6)).address(HOST, 7, ip("fd00::1"));
    assert_eq!(reads(&reply), addresses(&["fd00::1"], 7));
}

#[test]
fn names_lead_to_addresses_in_any_order() {
    let reply = Reply::to(&asks(Family::V4))
        .address("c.example", 300, ip("10.0.0.1"))
        .alias("b.example", 60, "c.example")
        .alias(HOST, 100, "B.example");
    assert_eq!(reads(&reply), addresses(&["10.0.0.1"], 60));
    // It leads to where nothing is.
    let reply = Reply::to(&asks(Family::V4))
        .alias(HOST, 100, "b.example")
        .zone("example", 900, 700);
    let holds = Some(seconds(100));
    assert_eq!(reads(&reply), Ok(Says::Answer(Outcome::Nothing { holds })));
}

#[test]
fn names_in_a_circle_lead_nowhere() {
    let reply = Reply::to(&asks(Family::V4))
        .alias(HOST, 100, "b.example")
        .alias("b.example", 100, HOST);
    assert_eq!(reads(&reply), Err(Unread::Garbled(Garbled::Chain)));
    let many = |count: u32| {
        let mut reply = Reply::to(&asks(Family::V4)).alias(HOST, 9, "n0");
        for n in 0..count {
            reply = reply.alias(&format!("n{n}"), 9, &format!("n{}", n + 1));
        }
        reads(&reply.address(&format!("n{count}"), 9, ip("10.0.0.1")))
    };
    assert_eq!(many(15), addresses(&["10.0.0.1"], 9));
    assert_eq!(many(16), Err(Unread::Garbled(Garbled::Chain)));
}

#[test]
fn absence_holds_as_long_as_the_zone_says() {
    let none = || Reply::to(&asks(Family::V4));
    let nothing = |holds| Ok(Says::Answer(Outcome::Nothing { holds }));
    assert_eq!(reads(&none()), nothing(None));
    assert_eq!(
        reads(&none().zone("example", 900, 60)),
        nothing(Some(seconds(60)))
    );
    assert_eq!(
        reads(&none().zone("example", 30, 60)),
        nothing(Some(seconds(30)))
    );
    let no_name = none().code(3).zone("example", 900, 60);
    let holds = Some(seconds(60));
    assert_eq!(reads(&no_name), Ok(Says::Answer(Outcome::NoName { holds })));
}

#[test]
fn a_time_with_the_highest_bit_is_none() {
    let reply = Reply::to(&asks(Family::V4)).address(HOST, 1 << 31, ip("10.0.0.1"));
    assert_eq!(reads(&reply), addresses(&["10.0.0.1"], 0));
}

#[test]
fn other_words_are_told() {
    let none = || Reply::to(&asks(Family::V4));
    for (code, says) in [
        (1, Code::FORMERR),
        (2, Code::SERVFAIL),
        (5, Code::REFUSED),
        (9, Code(9)),
    ] {
        assert_eq!(reads(&none().code(code)), Ok(Says::Said(says)));
    }
    assert_eq!(reads(&none().flag(CUT)), Ok(Says::Truncated));
    // Of a server that asks nobody, there are only the names of others.
    let referral = none().record(1, "example", NS, 9, b"\x02ns\x00");
    assert_eq!(reads(&referral.clone().flag(0x80)), Ok(Says::Referral));
    let holds = None;
    assert_eq!(
        reads(&referral),
        Ok(Says::Answer(Outcome::Nothing { holds }))
    );
}

#[test]
fn what_replies_to_something_else_is_foreign() {
    let asked = asks(Family::V4);
    let good = Reply::to(&asked).address(HOST, 9, ip("10.0.0.1"));
    let changed = |at: usize, to: u8| {
        let mut bytes = good.bytes();
        assert_ne!(bytes[at], to);
        bytes[at] = to;
        asked.read(&bytes)
    };
    for (at, to, what) in [
        (0, 0x13, "number"),
        (2, 0x01, "a question"),
        (2, 0xa0, "another operation"),
        (5, 0, "no question"),
        (5, 2, "two questions"),
        (13, b'v', "name"),
        (26, 28, "kind"),
        (28, 3, "class"),
    ] {
        assert_eq!(changed(at, to), Err(Unread::Foreign), "{what}");
    }
    // Servers may write the name as they like.
    assert_eq!(changed(13, b'W'), addresses(&["10.0.0.1"], 9));
}

#[test]
fn counts_that_are_wrong_and_records_that_are_cut_are_garbled() {
    let asked = asks(Family::V4);
    let bytes = Reply::to(&asked).address(HOST, 9, ip("10.0.0.1")).bytes();
    for length in 29..bytes.len() {
        let outcome = asked.read(&bytes[..length]);
        assert_eq!(outcome, Err(Unread::Garbled(Garbled::Short)), "{length}");
    }
    let mut more = bytes.clone();
    more[7] = 2;
    assert_eq!(asked.read(&more), Err(Unread::Garbled(Garbled::Short)));
    let garbled = |kind, data: &[u8]| reads(&Reply::to(&asked).record(0, HOST, kind, 9, data));
    assert_eq!(garbled(1, &[1; 5]), Err(Unread::Garbled(Garbled::Record)));
    assert_eq!(
        garbled(CNAME, b"\x01a\x00\x00"),
        Err(Unread::Garbled(Garbled::Record))
    );
    assert_eq!(
        garbled(CNAME, b"\xc0\xff"),
        Err(Unread::Garbled(Garbled::Name))
    );
}

#[test]
fn records_of_other_kinds_and_classes_are_left_out() {
    let asked = asks(Family::V4);
    let reply = Reply::to(&asked)
        .record(0, HOST, 16, 1, b"\x04text")
        .address(HOST, 9, ip("10.0.0.1"));
    assert_eq!(reads(&reply), addresses(&["10.0.0.1"], 9));
    let mut chaos = Reply::to(&asked).address(HOST, 9, ip("10.0.0.1")).bytes();
    chaos[34] = 3;
    let holds = None;
    assert_eq!(
        asked.read(&chaos),
        Ok(Says::Answer(Outcome::Nothing { holds }))
    );
}

#[test]
fn inputs_of_the_fuzzer_are_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/dns_answer");
    let mut answers = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        exercise::reply(&bytes);
        let asked = Question {
            id: u16::from_be_bytes([bytes[0], bytes[1]]),
            ..asks(Family::V4)
        };
        answers += usize::from(asked.read(&bytes).is_ok());
    }
    assert!(answers >= 3, "{answers}");
}

/// Bytes that begin as a reply does, so that the rest is looked at.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    let rest = prop::collection::vec(
        prop_oneof![
            3 => prop::sample::select(b"\x00\x01\x05\x06\x0c\x1c\xc0\xff".to_vec()),
            1 => any::<u8>(),
        ],
        0..200,
    );
    (family, 0_u8..4, 0_u8..4, 0_u16..6, rest).prop_map(|(family, answers, others, code, rest)| {
        let mut bytes = Reply::to(&asks(family)).code(code).bytes();
        (bytes[7], bytes[9]) = (answers, others);
        bytes.extend(rest);
        bytes
    })
}

proptest! {
    #[test]
    fn no_bytes_bring_the_reader_down(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exercise::reply(&bytes);
    }

    #[test]
    fn no_rest_brings_the_reader_down(bytes in nearly()) {
        exercise::reply(&bytes);
    }

    #[test]
    fn changed_answers_do_not_bring_the_reader_down(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Reply::to(&asks(Family::V4))
            .alias(HOST, 100, "b.example")
            .address("b.example", 300, ip("10.0.0.1"))
            .zone("example", 900, 60)
            .bytes();
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        bytes.truncate(length.index(bytes.len() + 1));
        exercise::reply(&bytes);
    }

    #[test]
    fn what_is_written_is_read(
        four in prop::collection::btree_set(any::<[u8; 4]>(), 0..20),
        six in prop::collection::btree_set(any::<[u8; 16]>(), 0..20),
        links in prop::collection::vec(0..1_u32 << 31, 0..5),
        ttl in 0..1_u32 << 31,
    ) {
        let all: Vec<IpAddr> =
            four.into_iter().map(IpAddr::from).chain(six.into_iter().map(IpAddr::from)).collect();
        for family in Family::ALL {
            let mut reply = Reply::to(&asks(family));
            let mut owner = HOST.to_owned();
            for (n, ttl) in links.iter().enumerate() {
                let next = format!("n{n}.example");
                reply = reply.alias(&owner, *ttl, &next);
                owner = next;
            }
            for address in &all {
                reply = reply.address(&owner, ttl, *address);
            }
            let expected: BTreeSet<IpAddr> =
                all.iter().copied().filter(|it| family.has(*it)).collect();
            let shortest = links.iter().copied().chain([ttl]).min().unwrap();
            let outcome = match expected.is_empty() {
                true => Outcome::Nothing { holds: None },
                false => Outcome::Addresses { addresses: expected, holds: seconds(shortest) },
            };
            prop_assert_eq!(reads(&reply), Ok(Says::Answer(outcome)));
        }
    }
}
