//! How many values a per-CPU map holds for each key.

use bpfsmith_uapi::Errno;
use nix::sys::statfs::{SYSFS_MAGIC, fstatfs};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

/// The number of CPUs that this kernel may ever run: one value each in per-CPU maps.
///
/// It is more than the number that are online where CPUs can be plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PossibleCpus(u32);

impl PossibleCpus {
    /// The number; at least 1.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0
    }
}

const PATH: &str = "/sys/devices/system/cpu/possible";

/// Reads the number of possible CPUs, once for the process.
///
/// # Errors
/// When `/sys` is not mounted or the file is not the kernel's. Nothing is guessed then: a wrong
/// number would let the kernel write behind a buffer.
pub fn possible_cpus() -> Result<PossibleCpus, Errno> {
    static COUNT: OnceLock<PossibleCpus> = OnceLock::new();
    if let Some(&count) = COUNT.get() {
        return Ok(count);
    }
    let text = read(Path::new(PATH))?;
    let count = length(text.trim()).ok_or(Errno::EBADMSG)?;
    Ok(*COUNT.get_or_init(|| PossibleCpus(count)))
}

/// What the kernel says in a file. A file that somebody mounted in its place could say anything:
/// `EBADMSG`.
fn read(path: &Path) -> Result<String, Errno> {
    let failed = |error: std::io::Error| Errno::of(&error).unwrap_or(Errno::EIO);
    let mut file = File::open(path).map_err(failed)?;
    let stat = fstatfs(&file).map_err(|errno| Errno(errno as i32))?;
    if stat.filesystem_type() != SYSFS_MAGIC {
        return Err(Errno::EBADMSG);
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// The numbers of the CPUs that run now. They may change at any time.
///
/// # Errors
/// When `/sys` is not mounted or the file is not the kernel's.
pub fn online_cpus() -> Result<Vec<u32>, Errno> {
    let text = read(Path::new("/sys/devices/system/cpu/online"))?;
    let list = text.trim();
    length(list).ok_or(Errno::EBADMSG)?;
    let ranges = list.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    });
    Ok(ranges.flatten().collect())
}

/// How many CPUs a list such as `0-3,8` names.
fn length(list: &str) -> Option<u32> {
    let mut count = 0_u32;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    // No kernel is built for more.
    (count <= 8192).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::{length, possible_cpus, read};
    use bpfsmith_uapi::Errno;

    #[test]
    fn a_list_of_cpus_is_counted() {
        for (list, count) in [
            ("0", Some(1)),
            ("0-1", Some(2)),
            ("0-3,8-11", Some(8)),
            ("", None),
            ("0-", None),
            ("3-1", None),
            ("x", None),
            ("0-4294967295", None),
        ] {
            assert_eq!(length(list), count, "{list:?}");
        }
    }

    /// The kernel would write behind a buffer that such a file made too short.
    #[test]
    fn a_file_that_is_not_the_kernels_is_not_believed() {
        let name = format!("bs-cpus-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "0\n").unwrap();
        let answer = read(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(answer, Err(Errno::EBADMSG));
    }

    #[test]
    fn this_machine_has_some() {
        assert!(possible_cpus().unwrap().count() >= 1);
    }
}
