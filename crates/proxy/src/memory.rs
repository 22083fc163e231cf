//! [`Memory`]: what no file says, and the next process is to know all the same.

use crate::plan::Target;
use bpfsmith_config::desired::Desired;
use bpfsmith_config::edit::Document;
use bpfsmith_config::{Kind, Value, json};
use std::collections::BTreeSet;

/// What was asked of a proxy while it ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Targets that get no new connections.
    pub(crate) drained: BTreeSet<Target>,
    /// What became of a configuration by changes that are not in its file yet.
    pub(crate) unsaved: Option<Unsaved>,
}

/// A configuration that has been changed since it was read or saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsaved {
    /// The mark of the text that was read or saved.
    pub(crate) of: u64,
    /// The text now.
    pub(crate) text: String,
}

/// What is known of a proxy when it begins.
#[derive(Debug)]
pub(crate) struct Begin {
    pub(crate) document: Document,
    /// The mark of the text that was given.
    pub(crate) given: u64,
    pub(crate) drained: BTreeSet<Target>,
    /// What whoever runs it has to know.
    pub(crate) note: Option<String>,
}

/// A number that another text does not have, as good as never; the same in all versions of this program.
pub(crate) fn mark(text: &str) -> u64 {
    // FNV-1a.
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Memory {
    /// What was written by [`text`](Memory::text); nothing of what is not understood.
    pub(crate) fn read(text: &[u8]) -> Option<Memory> {
        let value = json::read(str::from_utf8(text).ok()?).ok()?;
        let Kind::List(drained) = &value.get("drained")?.kind else {
            return None;
        };
        let target = |value: &Value| {
            Some(Target {
                group: text_of(value, "group")?.to_owned(),
                address: text_of(value, "address")?.parse().ok()?,
            })
        };
        let unsaved = match value.get("unsaved") {
            None => None,
            Some(unsaved) => Some(Unsaved {
                of: u64::from_str_radix(text_of(unsaved, "of")?, 16).ok()?,
                text: text_of(unsaved, "text")?.to_owned(),
            }),
        };
        Some(Memory {
            drained: drained.iter().map(target).collect::<Option<_>>()?,
            unsaved,
        })
    }

    /// It, as JSON.
    pub(crate) fn text(&self) -> String {
        let target = |target: &Target| {
            Value::table([
                ("group", Value::shown(&target.group)),
                ("address", Value::shown(target.address)),
            ])
        };
        let drained = Value::list(self.drained.iter().map(target));
        let unsaved = self.unsaved.as_ref().map(|unsaved| {
            let of = Value::shown(format_args!("{:x}", unsaved.of));
            let text = Value::shown(&unsaved.text);
            ("unsaved", Value::table([("of", of), ("text", text)]))
        });
        json::write(&Value::table(
            [("drained", drained)].into_iter().chain(unsaved),
        ))
    }

    /// How a proxy begins that is given this configuration.
    pub(crate) fn begin(self, document: Document) -> Begin {
        let given = mark(document.text());
        let changed = self.unsaved.map(|unsaved| match unsaved.of == given {
            true => Document::read(&unsaved.text).map_err(|problems| {
                format!("changes that were not saved are given up: {problems}")
            }),
            false => Err(
                "changes that were not saved are given up: the configuration is another one by now"
                    .to_owned(),
            ),
        });
        let (document, note) = match changed {
            None => (document, None),
            Some(Ok(changed)) => (changed, None),
            Some(Err(note)) => (document, Some(note)),
        };
        let drained = still(self.drained, document.desired());
        Begin {
            document,
            given,
            drained,
            note,
        }
    }
}

/// Those whose groups are there still.
fn still(mut drained: BTreeSet<Target>, desired: &Desired) -> BTreeSet<Target> {
    drained.retain(|target| desired.group(&target.group).is_some());
    drained
}

fn text_of<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    match &value.get(key)?.kind {
        Kind::Text(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(target: &str) -> Document {
        let text = format!(
            "name = \"web\"\nport = 80\ntarget = \"{target}\" # \"quoted\"\n[settings]\ndevices = [\"eth0\"]\n"
        );
        Document::read(&text).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn memory(of: &Document, now: &Document) -> Memory {
        let group = now.desired().groups[0].name.clone();
        let target = |group: &str, address: &str| Target {
            group: group.to_owned(),
            address: address.parse().expect("an address"),
        };
        Memory {
            drained: BTreeSet::from([
                target(&group, "10.0.0.2:80"),
                target(&group, "[fd00::2]:80"),
                target("gone", "10.0.0.2:80"),
            ]),
            unsaved: Some(Unsaved {
                of: mark(of.text()),
                text: now.text().to_owned(),
            }),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let (one, two) = (document("10.0.0.2:80"), document("10.0.0.3:80"));
        for memory in [Memory::default(), memory(&one, &two)] {
            assert_eq!(Memory::read(memory.text().as_bytes()), Some(memory));
        }
        for wrong in [
            "",
            "{}",
            "{\"drained\": [1]}",
            "{\"drained\": [], \"unsaved\": {}}",
            "\u{0}",
        ] {
            assert_eq!(Memory::read(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Memory::read(b"\xff"), None);
    }

    #[test]
    fn changes_go_on_where_the_configuration_is_the_same() {
        let (one, two) = (document("10.0.0.2:80"), document("10.0.0.3:80"));
        let begun = memory(&one, &two).begin(one.clone());
        assert_eq!(begun.document, two);
        assert_eq!(begun.given, mark(one.text()));
        assert_eq!(begun.note, None);
        assert_eq!(begun.drained.len(), 2, "of groups that are there");
        let three = document("10.0.0.4:80");
        let begun = memory(&one, &two).begin(three.clone());
        assert_eq!(begun.document, three);
        assert!(
            begun
                .note
                .is_some_and(|note| note.contains("another one by now"))
        );
    }

    #[test]
    fn what_cannot_be_read_any_more_is_told() {
        let one = document("10.0.0.2:80");
        let mut wrong = memory(&one, &one);
        wrong.unsaved.as_mut().expect("it is there").text = "port = 1\nflavour = 2".to_owned();
        let begun = wrong.begin(one.clone());
        assert_eq!(begun.document, one);
        let note = begun.note.unwrap_or_default();
        assert!(
            note.contains("given up") && note.contains("flavour"),
            "{note}"
        );
    }

    #[test]
    fn marks_differ() {
        assert_eq!(mark(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(mark("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
