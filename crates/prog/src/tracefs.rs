//! Trace events by name: the kernel numbers them in tracefs.

use crate::error::{Error, Kernel, Result};
use crate::near::Nearest;
use bpfsmith_uapi::Errno;
use std::path::{Path, PathBuf};

/// Where it usually is, newest place first.
const USUAL: &[&str] = &[
    "/sys/kernel/tracing",
    "/sys/kernel/debug/tracing",
];

/// Where tracefs is mounted, wherever that is.
fn root() -> Result<PathBuf> {
    let is_one = |dir: &PathBuf| dir.join("events").is_dir();
    let usual = USUAL.iter().map(PathBuf::from).find(is_one);
    let any = || {
        // The thread's own list: it may live in another mount namespace than the process.
        let mounts = std::fs::read_to_string("/proc/thread-self/mounts").ok()?;
        mounts.lines().filter_map(mounted).find(is_one)
    };
    usual.or_else(any).ok_or_else(|| {
        Error::Kernel(Kernel {
            call: "open".to_owned(),
            kind: "tracefs",
            object: USUAL[0].to_owned(),
            errno: Errno::ENOENT,
        })
    })
}

/// The place in a line of the list of mounts, if it is a tracefs.
fn mounted(line: &str) -> Option<PathBuf> {
    let mut words = line.split(' ').skip(1);
    let (dir, kind) = (words.next()?, words.next()?);
    // The list writes a space as \040.
    (kind == "tracefs").then(|| PathBuf::from(dir.replace("\\040", " ")))
}

/// The number of a trace event.
pub(crate) fn event(given: Option<&Path>, category: &str, name: &str) -> Result<u64> {
    let root = match given {
        Some(root) => root.to_owned(),
        None => root()?,
    };
    let events = root.join("events");
    if !events.is_dir() {
        return Err(Error::Kernel(Kernel {
            call: "open".to_owned(),
            kind: "tracefs",
            object: root.display().to_string(),
            errno: Errno::ENOENT,
        }));
    }
    let is_plain = |part: &str| !part.is_empty() && !part.contains('/') && !part.starts_with('.');
    if !is_plain(category) || !is_plain(name) {
        return Err(unknown(&events, category, name));
    }
    let path = events.join(category).join(name).join("id");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(unknown(&events, category, name));
        }
        Err(error) => {
            let path = path.display().to_string();
            return Err(Error::io("open", "tracefs", path, &error));
        }
    };
    text.trim().parse().map_err(|_| Error::File {
        path,
        problem: format!("holds {:?} instead of a number", text.trim()),
    })
}

fn unknown(events: &Path, category: &str, name: &str) -> Error {
    let wanted = format!("{category}:{name}");
    let mut nearest = Nearest::to(&wanted);
    for known in dirs(events) {
        for event in dirs(&events.join(&known)) {
            nearest.see(&format!("{known}:{event}"));
        }
    }
    Error::Unknown {
        what: "tracepoint",
        near: nearest.names(),
        name: wanted,
        hint: "`available_events` in tracefs lists them; those of modules come with the module",
    }
}

/// The names of directories inside one; none if it cannot be read.
fn dirs(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let is_dir = entry.file_type().ok()?.is_dir();
            is_dir.then(|| entry.file_name().into_string().ok())?
        })
        .collect()
}

/// The kernel functions that can be traced, where the kernel tells.
pub(crate) fn functions() -> Result<Vec<String>> {
    let path = root()?.join("available_filter_functions");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let path = path.display().to_string();
        Error::io("open", "tracefs", path, &error)
    })?;
    // A line is `name`, or `name [module]`.
    let mut names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::{event, mounted};
    use std::path::{Path, PathBuf};

    #[test]
    fn only_tracefs_counts() {
        for (line, wanted) in [
            ("tracefs /a\\040b tracefs rw 0 0", Some("/a b")),
            (
                "x /sys/kernel/tracing tracefs rw 0 0",
                Some("/sys/kernel/tracing"),
            ),
            ("proc /proc proc rw 0 0", None),
            ("proc", None),
            ("", None),
        ] {
            assert_eq!(mounted(line), wanted.map(PathBuf::from), "{line}");
        }
    }

    #[test]
    fn a_directory_without_events_is_not_mounted() {
        let error = event(Some(Path::new("/proc")), "sched", "sched_switch").unwrap_err();
        assert_eq!(
            error.to_string(),
            "open tracefs /proc: ENOENT (it is not mounted: `mount -t tracefs tracefs \
             /sys/kernel/tracing`, or give its place with Tracepoint::tracefs)"
        );
    }
}
