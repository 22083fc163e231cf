//! Whatever the bytes are, the parser returns; whatever is built, it reads back.

#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

use bpfsmith_net::wire::{Message, NLA_TYPE_MASK, NLM_F_REQUEST, attrs, frames};
use proptest::collection::vec;
use proptest::prelude::*;

/// A tree of attributes.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Leaf(u16, Vec<u8>),
    Nest(u16, Vec<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = (0..=NLA_TYPE_MASK, vec(any::<u8>(), 0..40)).prop_map(|(k, v)| Tree::Leaf(k, v));
    leaf.prop_recursive(4, 40, 6, |inner| {
        (0..=NLA_TYPE_MASK, vec(inner, 0..6)).prop_map(|(k, members)| Tree::Nest(k, members))
    })
}

fn build(message: Message, tree: &Tree) -> Message {
    match tree {
        Tree::Leaf(kind, value) => message.attr(*kind, value),
        Tree::Nest(kind, members) => {
            message.nest(*kind, |message| members.iter().fold(message, build))
        }
    }
}

fn read(bytes: &[u8]) -> Vec<Tree> {
    attrs(bytes)
        .map(|attr| {
            let attr = attr.unwrap();
            match attr.nested {
                true => Tree::Nest(attr.kind, read(attr.value)),
                false => Tree::Leaf(attr.kind, attr.value.to_vec()),
            }
        })
        .collect()
}

/// Walks into everything that could be an attribute; returns how many there are.
fn walk(bytes: &[u8], depth: u32) -> usize {
    let mut count = 0;
    for attr in attrs(bytes) {
        count += 1;
        let Ok(attr) = attr else { continue };
        let _ = (attr.u8(), attr.u16(), attr.u32(), attr.i32(), attr.str());
        if depth > 0 {
            count += walk(attr.value, depth - 1);
        }
    }
    count
}

proptest! {
    #[test]
    fn what_is_built_reads_back(
        kind: u16, flags: u16, seq: u32,
        header in vec(any::<u8>(), 0..5).prop_map(|words| words.repeat(4)),
        trees in vec(tree(), 0..6),
    ) {
        let message = Message::new(kind, flags).fixed(&header);
        let bytes = trees.iter().fold(message, build).finish(seq).unwrap();
        let twice = [bytes.as_slice(), bytes.as_slice()].concat();
        let seen = frames(&twice).collect::<Result<Vec<_>, _>>().unwrap();
        prop_assert_eq!(seen.len(), 2);
        prop_assert_eq!(seen[0], seen[1]);
        prop_assert_eq!((seen[0].kind, seen[0].seq, seen[0].port), (kind, seq, 0));
        prop_assert_eq!(seen[0].flags, flags | NLM_F_REQUEST);
        prop_assert_eq!(&seen[0].body[..header.len()], &header[..]);
        prop_assert_eq!(read(&seen[0].body[header.len()..]), trees);
    }

    #[test]
    fn any_bytes_end(bytes in vec(any::<u8>(), 0..600)) {
        prop_assert!(frames(&bytes).count() <= bytes.len() / 16 + 1);
        prop_assert!(walk(&bytes, 6) <= 7 * (bytes.len() / 4 + 1));
        for frame in frames(&bytes).flatten() {
            let _ = (frame.split::<1>().is_ok(), frame.split::<20>().is_ok());
        }
    }

    #[test]
    fn a_changed_or_cut_message_ends(
        trees in vec(tree(), 1..6),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut: prop::sample::Index,
    ) {
        let mut bytes = trees.iter().fold(Message::new(1, 0), build).finish(0).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        for frame in frames(&bytes).flatten() {
            walk(frame.body, 8);
        }
    }
}
