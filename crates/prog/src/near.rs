//! Names that look like one that does not exist.

/// How many are told.
const MOST: usize = 3;

/// Collects the names nearest to a wanted one.
#[derive(Debug)]
pub struct Nearest<'a> {
    wanted: &'a str,
    /// Which letters it has.
    letters: u64,
    limit: usize,
    found: Vec<(usize, String)>,
    /// A row of the table of distances, kept between names.
    row: Vec<usize>,
}

impl<'a> Nearest<'a> {
    /// Starts without any.
    #[must_use]
    pub fn to(wanted: &'a str) -> Nearest<'a> {
        Nearest {
            wanted,
            letters: letters(wanted),
            // A third of the letters may be wrong, but never all of them.
            limit: (wanted.len() / 3).clamp(1, 6),
            found: Vec::new(),
            row: Vec::new(),
        }
    }

    /// Looks at a name that does exist.
    pub fn see(&mut self, name: &str) {
        let Some(distance) = self.distance(name) else {
            return;
        };
        let at = self
            .found
            .partition_point(|(other, known)| (*other, known.as_str()) < (distance, name));
        if at < MOST && self.found.get(at).is_none_or(|(_, known)| known != name) {
            self.found.insert(at, (distance, name.to_owned()));
            self.found.truncate(MOST);
        }
    }

    /// What was found, nearest first, three at most.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.found.into_iter().map(|(_, name)| name).collect()
    }

    /// How many letters differ; a name that only goes on, or has something before, is near too.
    fn distance(&mut self, name: &str) -> Option<usize> {
        let here = letters(name);
        if self.wanted.len() >= 4 && self.letters & !here == 0 && name.contains(self.wanted) {
            return Some(name.len() - self.wanted.len());
        }
        // One change takes a letter away and brings another: most names are out without counting.
        let unlike = (self.letters ^ here).count_ones() as usize;
        if name.len().abs_diff(self.wanted.len()) > self.limit || unlike > 2 * self.limit {
            return None;
        }
        let (from, to) = (self.wanted.as_bytes(), name.as_bytes());
        if are_swapped(from, to) {
            return Some(1);
        }
        edits(&mut self.row, from, to, self.limit)
    }
}

/// The letters of a name as bits; some share one.
fn letters(name: &str) -> u64 {
    name.bytes().fold(0, |all, byte| all | 1 << (byte & 63))
}

/// Whether two neighbours changed places, and nothing else did.
fn are_swapped(from: &[u8], to: &[u8]) -> bool {
    let pairs = from.iter().zip(to);
    let Some(at) = pairs.clone().position(|(a, b)| a != b) else {
        return false;
    };
    from.len() == to.len()
        && from.get(at) == to.get(at + 1)
        && from.get(at + 1) == to.get(at)
        && from.iter().skip(at + 2).eq(to.iter().skip(at + 2))
}

/// The number of bytes to insert, remove or change, if there are no more than `most`.
fn edits(row: &mut Vec<usize>, from: &[u8], to: &[u8], most: usize) -> Option<usize> {
    row.clear();
    row.extend(0..=to.len());
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = i;
        let mut least = i + 1;
        row[0] = least;
        for (j, b) in to.iter().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
            least = least.min(row[j + 1]);
        }
        // From here on it only gets more.
        if least > most {
            return None;
        }
    }
    Some(row[to.len()]).filter(|edits| *edits <= most)
}

#[cfg(test)]
mod tests {
    use super::{Nearest, are_swapped, edits};

    #[test]
    fn neighbours_change_places() {
        for (from, to, wanted) in [
            ("pdi", "pid", true),
            ("makr", "mark", true),
            ("pid", "pid", false),
            ("ab", "b", false),
            ("abc", "bca", false),
            ("abcd", "badc", false),
        ] {
            assert_eq!(
                are_swapped(from.as_bytes(), to.as_bytes()),
                wanted,
                "{from} {to}"
            );
        }
    }

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "abd", 1),
            ("kitten", "sitting", 3),
        ] {
            let edits = |most| edits(&mut Vec::new(), from.as_bytes(), to.as_bytes(), most);
            assert_eq!(edits(9), Some(count), "{from} {to}");
            assert_eq!(edits(count), Some(count), "{from} {to}");
            assert!(count == 0 || edits(count - 1).is_none(), "{from} {to}");
        }
    }

    #[test]
    fn the_nearest_come_first_and_once() {
        let mut nearest = Nearest::to("sched_swich");
        for name in [
            "sched_wakeup",
            "sys_enter",
            "sched_switch",
            "sched_switch",
            "sched_swichy",
            "trace_sched_swich",
        ] {
            nearest.see(name);
        }
        assert_eq!(
            nearest.names(),
            [
                "sched_swichy",
                "sched_switch",
                "trace_sched_swich"
            ]
        );
    }

    #[test]
    fn nothing_is_near_to_nonsense() {
        let mut nearest = Nearest::to("xyzzy");
        nearest.see("vfs_read");
        nearest.see("");
        assert!(nearest.names().is_empty());
    }
}
