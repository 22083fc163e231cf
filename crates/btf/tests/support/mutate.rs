//! Numbers that look random, and what they do to BTF.

/// A sequence that depends on its start alone (splitmix64), so that the number of a case says it all.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(start: u64) -> Random {
        Random(start.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below a limit; 0 below 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("a length").max(1);
        usize::try_from(self.next() % limit).expect("a length")
    }

    pub(crate) fn word(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.next().to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

fn is_big(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0xeb)
}

fn put(bytes: &mut [u8], at: usize, word: u32) {
    let word = match is_big(bytes) {
        true => word.to_be_bytes(),
        false => word.to_le_bytes(),
    };
    if let Some(to) = bytes.get_mut(at..at + 4) {
        to.copy_from_slice(&word);
    }
}

fn word_at(bytes: &[u8], at: usize) -> u32 {
    let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>) else {
        return 0;
    };
    match is_big(bytes) {
        true => u32::from_be_bytes(*chunk),
        false => u32::from_le_bytes(*chunk),
    }
}

/// A word that means something at many places: an id, a count, a kind, a limit.
fn telling(random: &mut Random) -> u32 {
    let small = random.word() % 64;
    match random.below(10) {
        0 => u32::MAX,
        1 => 1 << (random.word() % 32),
        2 => ((random.word() % 22) << 24) | (random.word() % 4),
        3 => (1 << 31) | ((random.word() % 22) << 24) | (random.word() % 4),
        4 => ((random.word() % 22) << 24) | 0xffff,
        5 => i32::MAX.cast_unsigned(),
        6 => random.word(),
        _ => small,
    }
}

/// Where a word is likely to be found: in the types, which the string section ends.
fn place(bytes: &[u8], random: &mut Random) -> usize {
    match random.below(8) {
        0 => random.below(bytes.len() / 4) * 4,
        1 => random.below(9) * 4,
        _ => 24 + random.below(word_at(bytes, 12) as usize / 4) * 4,
    }
}

/// Kinds whose records have the same form, by the bytes behind their header: a fixed part, and a part
/// for each element.
const FORMS: [(&[u32], usize, usize); 5] = [
    (&[2, 7, 8, 9, 10, 11, 12, 16, 18], 0, 0),
    (&[1, 14, 17], 4, 0),
    (&[3], 12, 0),
    (&[4, 5, 15, 19], 0, 12),
    (&[6, 13], 0, 8),
];

/// Where a record starts, how long it is, and which kinds have its form.
fn record(bytes: &[u8], random: &mut Random) -> Option<(usize, usize, &'static [u32])> {
    let end = 24 + word_at(bytes, 12) as usize;
    let mut records = Vec::new();
    let mut at = 24;
    while at + 12 <= end.min(bytes.len()) {
        let info = word_at(bytes, at + 4);
        let (kinds, fixed, each) = *FORMS
            .iter()
            .find(|(kinds, ..)| kinds.contains(&(info >> 24 & 0x1f)))?;
        let size = 12 + fixed + each * (info & 0xffff) as usize;
        records.push((at, size, kinds));
        at += size;
    }
    records.get(random.below(records.len())).copied()
}

/// Changes a record such that all records still end where they did.
fn reshape(bytes: &mut [u8], random: &mut Random) -> Option<()> {
    let (at, size, kinds) = record(bytes, random)?;
    let word = random.below(size / 4);
    if word != 1 {
        put(bytes, at + word * 4, telling(random));
        return Some(());
    }
    let info = word_at(bytes, at + 4);
    let flag = random.word() & 1 << 31;
    // What counts the elements is something else where there are none.
    let count = match size {
        12 | 16 | 24 if random.below(4) == 0 && !matches!(kinds, [4, ..] | [6, ..]) => {
            random.word() & 0xffff
        }
        _ => info & 0xffff,
    };
    let kind = kinds[random.below(kinds.len())];
    put(bytes, at + 4, flag | kind << 24 | count);
    Some(())
}

/// Moves what is behind a place, and makes the header agree.
fn resize(bytes: &mut Vec<u8>, random: &mut Random) {
    let types = word_at(bytes, 12);
    let at = (24 + random.below(types as usize / 4) * 4).min(bytes.len());
    let len = [4_u32, 8, 12, 24][random.below(4)];
    let (types, strings) = if random.below(2) == 0 {
        let from = random.below(bytes.len());
        let extra: Vec<u8> = bytes
            .iter()
            .cycle()
            .skip(from)
            .take(len as usize)
            .copied()
            .collect();
        bytes.splice(at..at, extra);
        (
            types.wrapping_add(len),
            word_at(bytes, 16).wrapping_add(len),
        )
    } else {
        let end = (at + len as usize).min(bytes.len());
        bytes.drain(at..end);
        (
            types.wrapping_sub(len),
            word_at(bytes, 16).wrapping_sub(len),
        )
    };
    put(bytes, 12, types);
    put(bytes, 16, strings);
}

/// One change.
fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.len() < 28 {
        bytes.push(random.byte());
        return;
    }
    match random.below(24) {
        0..=9 => {
            let _ = reshape(bytes, random);
        }
        10..=12 => {
            let at = place(bytes, random);
            put(bytes, at, telling(random));
        }
        13..=14 => {
            let at = random.below(bytes.len());
            bytes[at] = random.byte();
        }
        15..=17 => {
            let at = place(bytes, random).min(bytes.len() - 1);
            bytes[at] ^= 1 << random.below(8);
        }
        18..=20 => {
            // Another word of the same bytes: ids become cycles, names become others.
            let (from, to) = (place(bytes, random), place(bytes, random));
            let word = word_at(bytes, from);
            put(bytes, to, word);
        }
        21 => resize(bytes, random),
        22 => {
            let len = random.below(bytes.len());
            bytes.truncate(len);
        }
        _ => {
            // Two records of one size change places.
            let (a, b) = (place(bytes, random), place(bytes, random));
            if a.max(b) + 12 <= bytes.len() && a.abs_diff(b) >= 12 {
                for step in 0..12 {
                    bytes.swap(a + step, b + step);
                }
            }
        }
    }
}

/// A few changes, mostly one or two.
pub(crate) fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let count = [1, 1, 1, 2, 2, 3, 5, 9][random.below(8)];
    for _ in 0..count {
        change(bytes, random);
    }
}

/// A change of some bytes that keeps the length: where, and what was there.
pub(crate) fn poke(bytes: &mut [u8], random: &mut Random) -> (usize, [u8; 4]) {
    let at = place(bytes, random).min(bytes.len() - 4);
    let mut before = [0; 4];
    before.copy_from_slice(&bytes[at..at + 4]);
    match random.below(3) {
        0 => put(bytes, at, telling(random)),
        1 => bytes[at + random.below(4)] = random.byte(),
        _ => bytes[at + random.below(4)] ^= 1 << random.below(8),
    }
    (at, before)
}
