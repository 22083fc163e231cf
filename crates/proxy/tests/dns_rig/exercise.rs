//! What holds whatever the bytes of a reply are. The fuzzer asks the same.

use bpfsmith_proxy::dns::Name;
use bpfsmith_proxy::dns::message::{Family, Outcome, Question, Reply, Unread};

/// Reads bytes as the reply to a question about a fixed name, with the number that they have.
pub(crate) fn reply(bytes: &[u8]) {
    let Ok(name) = "web.example".parse::<Name>() else {
        unreachable!("it is a name");
    };
    let id = bytes
        .first_chunk::<2>()
        .map_or(0, |it| u16::from_be_bytes(*it));
    for family in Family::ALL {
        let question = Question {
            id,
            name: name.clone(),
            family,
        };
        let reply = question.read(bytes);
        let other = Question {
            id: id.wrapping_add(1),
            ..question.clone()
        };
        assert_eq!(other.read(bytes), Err(Unread::Foreign));
        if let Ok(Reply::Answer(Outcome::Addresses { addresses, holds })) = &reply {
            assert!(!addresses.is_empty());
            assert!(addresses.iter().all(|it| family.has(*it)));
            assert!(holds.as_secs() <= u64::from(u32::MAX >> 1));
        }
        // What comes behind the end changes nothing.
        let longer = [bytes, &[0xff; 3]].concat();
        if reply.is_ok() {
            assert_eq!(question.read(&longer), reply);
        }
    }
}
