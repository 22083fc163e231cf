//! The open descriptors of this process: what proves that none is left.

use std::fmt;
use std::fs;

/// One open descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fd {
    /// Its number.
    pub number: i32,
    /// What it refers to, with the kernel's id for a BPF object: `anon_inode:bpf-map map_id 7`.
    pub target: String,
}

/// The open descriptors at one moment, ordered by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fds(Vec<Fd>);

/// Lists the open descriptors of this process.
///
/// Tests of one binary share their descriptors: compare with [`Fds::opened_since`] in a binary with
/// one test, or look only at what [`Fds::to`] selects.
///
/// # Panics
///
/// If `/proc` is not mounted.
#[must_use]
pub fn open_fds() -> Fds {
    let entries = fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let mut numbers: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    // The descriptor that listed the directory is closed by now and falls out here.
    let describe = |number| describe(number).map(|target| Fd { number, target });
    Fds(numbers.into_iter().filter_map(describe).collect())
}

fn describe(number: i32) -> Option<String> {
    let link = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    let mut target = link.to_string_lossy().into_owned();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let id = info
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| matches!(*key, "map_id" | "prog_id" | "link_id" | "btf_id"));
    if let Some((key, value)) = id {
        target = format!("{target} {key} {}", value.trim());
    }
    Some(target)
}

impl Fds {
    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each, in the order of the numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Fd> {
        self.0.iter()
    }

    /// Those whose target contains the text, such as `bpf-map` or `map_id 7`.
    #[must_use]
    pub fn to(&self, target: &str) -> Fds {
        let has = |fd: &&Fd| fd.target.contains(target);
        Fds(self.0.iter().filter(has).cloned().collect())
    }

    /// Those that were not open earlier.
    #[must_use]
    pub fn opened_since(&self, earlier: &Fds) -> Fds {
        let new = |fd: &&Fd| !earlier.0.contains(fd);
        Fds(self.0.iter().filter(new).cloned().collect())
    }
}

impl fmt::Display for Fds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fd in &self.0 {
            writeln!(f, "{:4} {}", fd.number, fd.target)?;
        }
        Ok(())
    }
}
