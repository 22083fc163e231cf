//! Control groups for tests.

use bpfsmith_sys::cgroup::Cgroup;
use std::sync::atomic::{AtomicU32, Ordering};

/// Makes an empty control group, whose name starts with this one.
///
/// # Panics
///
/// If there is no hierarchy or it cannot be written; a test that needs it says `needs!(Cgroup2)`.
#[must_use]
#[track_caller]
pub fn cgroup(name: &str) -> Cgroup {
    tried(name).unwrap_or_else(|refused| panic!("make a control group {name}: {refused}"))
}

pub(crate) fn tried(name: &str) -> bpfsmith_sys::Answer<Cgroup> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Cgroup::new(&format!("bs-gate-{name}-{}-{number}", std::process::id()))
}
