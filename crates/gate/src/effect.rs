//! Known effects: why a machine lacks what its kernel has.

use crate::mount::apart;
use crate::need::Need;
use bpfsmith_sys::mount::{FileSystem, Mount};
use std::fs::File;
use std::io::ErrorKind;

/// Some needs, the sign by which the cause is recognised, and what to say. A row is here only if
/// neither version nor configuration tells.
type Row = (&'static [Need], fn() -> bool, &'static str);

const EFFECTS: &[Row] = &[
    (
        &[
            Need::Fentry,
            Need::Freplace,
            Need::Lsm,
            Need::LsmCgroup,
        ],
        list_of_functions_refused,
        "this machine gives nobody its list of traceable functions (EPERM), and with it no trampoline",
    ),
    (&[Need::TwoCpus], one_cpu, "this machine has one CPU"),
    (
        &[Need::Zsh, Need::Fish],
        always,
        "nobody has to have this shell, and it is not installed",
    ),
];

/// What explains that the need is missing, if anything does.
pub(crate) fn explains(need: Need) -> Option<&'static str> {
    EFFECTS
        .iter()
        .find(|(needs, sign, _)| needs.contains(&need) && sign())
        .map(|(_, _, say)| *say)
}

/// Root may not open the file although it may mount the file system.
pub(crate) fn list_of_functions_refused() -> bool {
    apart(|| {
        Mount::private(FileSystem::TRACE).is_ok_and(|tracefs| {
            File::open(tracefs.path().join("available_filter_functions"))
                .is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
        })
    })
}

/// What is missing needs no other sign.
fn always() -> bool {
    true
}

/// Nothing else runs while a program does.
pub(crate) fn one_cpu() -> bool {
    std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1)
}
