//! Private mounts of the kernel's file systems.

use bpfsmith_sys::mount::{FileSystem, Mount};

/// Mounts a BPF file system of its own, for pins.
///
/// The calling thread stays in a mount namespace of its own.
///
/// # Panics
///
/// If the kernel refuses; a test that needs it says `needs!(Bpffs)`.
#[must_use]
#[track_caller]
pub fn bpffs() -> Mount {
    Mount::private(FileSystem::BPF).unwrap_or_else(|e| panic!("mount a bpffs: {e}"))
}

/// Mounts the tracing file system, wherever the machine has it.
///
/// The calling thread stays in a mount namespace of its own.
///
/// # Panics
///
/// If the kernel refuses; a test that needs it says `needs!(Tracefs)`.
#[must_use]
#[track_caller]
pub fn tracefs() -> Mount {
    Mount::private(FileSystem::TRACE).unwrap_or_else(|e| panic!("mount a tracefs: {e}"))
}

/// Runs in a thread of its own, so that a change of namespace stays there.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
