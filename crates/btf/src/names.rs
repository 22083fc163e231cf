//! Names: where they end, how they hash, and the index that finds them.

use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;
const LOW_128: u128 = u128::MAX / 0xff;
const HIGH_128: u128 = LOW_128 << 7;
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// One bit for each zero byte; only the lowest is certain.
#[inline]
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & HIGH
}

/// The bytes before the first zero.
#[inline]
pub(crate) fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.get(..first_zero(bytes)).unwrap_or_default()
}

/// Where the first zero is, or the end.
#[inline]
fn first_zero(bytes: &[u8]) -> usize {
    // Most names are shorter: whether to go on is easy to predict.
    if let Some((chunk, behind)) = bytes.split_first_chunk::<16>() {
        return zero_among(chunk).unwrap_or_else(|| 16 + first_zero_far(behind));
    }
    first_zero_far(bytes)
}

fn first_zero_far(bytes: &[u8]) -> usize {
    let (chunks, last) = bytes.as_chunks::<16>();
    for (chunk, at) in chunks.iter().zip((0..).step_by(16)) {
        if let Some(found) = zero_among(chunk) {
            return at + found;
        }
    }
    let found = last.iter().position(|byte| *byte == 0);
    bytes.len() - last.len() + found.unwrap_or(last.len())
}

#[inline]
fn zero_among(chunk: &[u8; 16]) -> Option<usize> {
    let word = u128::from_le_bytes(*chunk);
    let found = word.wrapping_sub(LOW_128) & !word & HIGH_128;
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

#[inline]
const fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(MIX)
}

/// The bytes as a number, the missing ones zero.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// The hash of the name at the start of `bytes`, which ends with a zero: one pass that looks for the
/// end at the same time.
#[inline]
fn hash_until_zero(bytes: &[u8]) -> u64 {
    let (mut at, mut hash) = (0, 0);
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let chunk = u64::from_le_bytes(*chunk);
        let found = zeros(chunk);
        if found != 0 {
            // The lowest zero byte, and all above it, do not belong to the name.
            return mix(
                hash,
                chunk & (found & found.wrapping_neg()).wrapping_sub(1) >> 7,
            );
        }
        hash = mix(hash, chunk);
        at += 8;
    }
    mix(hash, word(until_zero(bytes.get(at..).unwrap_or_default())))
}

/// The same hash of a name whose length is known.
#[inline]
fn hash(name: &[u8]) -> u64 {
    let mut chunks = name.chunks_exact(8);
    let hash = chunks
        .by_ref()
        .fold(0, |hash, chunk| mix(hash, word(chunk)));
    mix(hash, word(chunks.remainder()))
}

/// The most types that the index can tell apart: an entry keeps 24 bits of a number.
pub(crate) const MOST_TYPES: u32 = (1 << 24) - 1;

/// Lists of types by hash of their names.
///
/// An entry is the number of a type in its own BTF (from 1) and eight bits of the hash, so that most
/// other names of a list are passed without a look at them; 0 ends a list. Lists keep the order of
/// the types, and equal names cannot make building slow.
pub(crate) struct Index {
    heads: Box<[u32]>,
    next: Box<[u32]>,
    shift: u32,
}

impl Index {
    /// `types` are the tails of the strings where names start, by number from 1; `None` for types
    /// without a name.
    pub(crate) fn build<'a>(
        count: u32,
        named: usize,
        name: impl Fn(u32) -> Option<&'a [u8]>,
    ) -> Index {
        let bits = (named * 3 / 2).next_power_of_two().trailing_zeros().max(3);
        let shift = 64 - bits;
        let mut heads = vec![0; 1 << bits].into_boxed_slice();
        let mut next = vec![0; count as usize + 1].into_boxed_slice();
        // Backwards, so that each list comes out in ascending order.
        for number in (1..=count).rev() {
            let Some(tail) = name(number) else {
                continue;
            };
            let hash = hash_until_zero(tail);
            let head = heads.get_mut(slot(hash, shift));
            if let (Some(head), Some(link)) = (head, next.get_mut(number as usize)) {
                *link = *head;
                *head = number << 8 | tag(hash);
            }
        }
        Index { heads, next, shift }
    }

    /// Numbers of types that may have this name, ascending.
    #[inline]
    pub(crate) fn candidates(&self, name: &[u8]) -> impl Iterator<Item = u32> + use<'_> {
        let hash = hash(name);
        let mut entry = self.heads.get(slot(hash, self.shift)).copied().unwrap_or(0);
        core::iter::from_fn(move || {
            while entry != 0 {
                let this = entry;
                entry = self.next.get((this >> 8) as usize).copied().unwrap_or(0);
                if this & 0xff == tag(hash) {
                    return Some(this >> 8);
                }
            }
            None
        })
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        (self.heads.len() + self.next.len()) * size_of::<u32>()
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "at most 25 bits are left")]
const fn slot(hash: u64, shift: u32) -> usize {
    (hash >> shift) as usize
}

/// Bits that the slot does not depend on.
#[inline]
const fn tag(hash: u64) -> u32 {
    (hash >> 24 & 0xff) as u32
}

/// A name in BTF. Usually text, but nothing makes it so: bytes that are not UTF-8 print as `\xff`.
///
/// It is kept as the bytes from its start on; where it ends is found when it is asked for.
#[derive(Clone, Copy, Default)]
pub struct Name<'a>(pub(crate) &'a [u8]);

impl<'a> Name<'a> {
    /// The bytes, without the zero at the end.
    #[inline]
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        until_zero(self.0)
    }

    /// The text, unless it is not UTF-8.
    #[must_use]
    pub fn to_str(self) -> Option<&'a str> {
        core::str::from_utf8(self.as_bytes()).ok()
    }

    /// Whether there is no name.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        matches!(self.0, [] | [0, ..])
    }

    /// The number of bytes.
    #[inline]
    #[must_use]
    pub fn len(self) -> usize {
        first_zero(self.0)
    }

    #[inline]
    fn is(self, name: &[u8]) -> bool {
        let behind = self.0.strip_prefix(name);
        // No name contains a zero, but what is behind the first one could look like it.
        matches!(behind, Some([] | [0, ..])) && !name.contains(&0)
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_str() {
            Some(text) => f.pad(text),
            None => write!(f, "{}", self.as_bytes().escape_ascii()),
        }
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Name<'_>) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name<'_> {}

impl Ord for Name<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Name<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Name<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialEq<str> for Name<'_> {
    #[inline]
    fn eq(&self, other: &str) -> bool {
        self.is(other.as_bytes())
    }
}

impl PartialEq<&str> for Name<'_> {
    #[inline]
    fn eq(&self, other: &&str) -> bool {
        self.is(other.as_bytes())
    }
}

/// The names that a type can refer to: those of the base come first.
#[derive(Clone, Copy)]
pub(crate) struct Strings<'a> {
    pub(crate) base: &'a [u8],
    pub(crate) own: &'a [u8],
}

impl<'a> Strings<'a> {
    /// The bytes from an offset on.
    #[inline]
    pub(crate) fn tail(self, offset: u32) -> &'a [u8] {
        let offset = offset as usize;
        match offset.checked_sub(self.base.len()) {
            None => self.base.get(offset..),
            Some(offset) => self.own.get(offset..),
        }
        .unwrap_or_default()
    }

    #[inline]
    pub(crate) fn name(self, offset: u32) -> Name<'a> {
        Name(self.tail(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_hashes_agree_at_every_length() {
        for len in 0..40 {
            let name: Vec<u8> = (1..=len).collect();
            for behind in 0..20 {
                let mut tail = name.clone();
                tail.push(0);
                tail.extend((0..behind).map(|byte| 77_u8.wrapping_mul(byte)));
                assert_eq!(until_zero(&tail), name);
                assert_eq!(hash_until_zero(&tail), hash(&name), "{len} {behind}");
            }
        }
        assert_eq!(until_zero(b"ab"), b"ab");
        assert_eq!(until_zero(b""), b"");
    }

    #[test]
    fn bytes_with_the_high_bit_do_not_end_a_name() {
        let name = [
            0x80, 0x81, 0xff, 1, 0x80, 2, 0x80, 0x80, 0x80, 0,
        ];
        assert_eq!(until_zero(&name), &name[..9]);
        assert_eq!(hash_until_zero(&name), hash(&name[..9]));
    }

    #[test]
    fn names_are_compared_up_to_their_end() {
        let strings = b"\0sk\0skb\0sk\0x";
        let names = Strings {
            base: &[],
            own: strings,
        };
        let (sk, skb, again) = (names.name(1), names.name(4), names.name(8));
        assert_eq!(sk, again);
        assert!(sk != skb && sk < skb && sk == "sk" && skb == "skb");
        assert!(sk != "s" && sk != "skb" && sk != "sk\0skb");
        assert_eq!((sk.len(), skb.to_str()), (2, Some("skb")));
        assert!(
            names.name(0).is_empty() && names.name(99).is_empty() && Name::default().is_empty()
        );
        let hashed: std::collections::HashSet<_> = [sk, skb, again].into();
        assert_eq!(hashed.len(), 2);
    }
}
