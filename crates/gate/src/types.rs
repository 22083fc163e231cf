//! The number of a kernel type by its name.
//!
//! As much of BTF as that takes: the gate stands below the crate that knows the rest.

/// The kinds that programs attach to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Struct = 4,
    Typedef = 8,
    Function = 12,
}

/// The number of the kernel's type of that kind and name, or why there is none.
pub(crate) fn id(kind: Kind, name: &str) -> Result<u32, String> {
    const FILE: &str = "/sys/kernel/btf/vmlinux";
    let bytes = std::fs::read(FILE).map_err(|e| format!("{FILE}: {e}"))?;
    find(&bytes, kind, name).ok_or_else(|| format!("{FILE}: there is no {kind:?} {name}"))
}

fn find(bytes: &[u8], wanted: Kind, name: &str) -> Option<u32> {
    let head = word(bytes, 4)? as usize;
    let part = |at: usize| {
        let start = head.checked_add(word(bytes, at)? as usize)?;
        bytes.get(start..start.checked_add(word(bytes, at + 4)? as usize)?)
    };
    let (mut types, names) = (part(8)?, part(16)?);
    let mut id = 0;
    while !types.is_empty() {
        id += 1;
        let (at, info) = (word(types, 0)? as usize, word(types, 4)?);
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let fits = || {
            names
                .get(at..)?
                .strip_prefix(name.as_bytes())?
                .first()
                .copied()
        };
        if kind == wanted as u32 && fits() == Some(0) {
            return Some(id);
        }
        types = types.get(12 + tail(kind, count)?..)?;
    }
    None
}

/// Bytes behind the three words that every type has.
fn tail(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        2 | 7..=12 | 16 | 18 => 0,
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => 12 * count,
        6 | 13 => 8 * count,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An integer, a structure with one member, a function.
    fn sample() -> Vec<u8> {
        let names = b"\0int\0pair\0call\0";
        let int = [1, 1 << 24, 4, 32];
        let pair = [5, 4 << 24 | 1, 4, 1, 1, 0];
        let call = [10, 12 << 24, 2];
        let types = int.iter().chain(&pair).chain(&call);
        let words = [
            0x1_eb9f,
            24,
            0,
            52,
            52,
            u32::try_from(names.len()).unwrap(),
        ];
        let bytes = words.iter().chain(types).flat_map(|w| w.to_ne_bytes());
        bytes.chain(*names).collect()
    }

    #[test]
    fn a_type_has_kind_and_name() {
        let bytes = sample();
        assert_eq!(find(&bytes, Kind::Struct, "pair"), Some(2));
        assert_eq!(find(&bytes, Kind::Function, "call"), Some(3));
        assert_eq!(find(&bytes, Kind::Function, "pair"), None);
        assert_eq!(find(&bytes, Kind::Function, "cal"), None);
        assert_eq!(find(&bytes, Kind::Typedef, "call"), None);
    }

    #[test]
    fn cut_bytes_hold_nothing() {
        let bytes = sample();
        for end in 0..bytes.len() {
            assert_eq!(find(&bytes[..end], Kind::Function, "call"), None, "{end}");
        }
    }
}
