//! Threads that may nothing.

use crate::error::{Error, Result};
use bpfsmith_sys::rights::{self, Caps};
use bpfsmith_uapi::Errno;
use std::thread;

/// That the kernel did not let this process give up rights.
pub(crate) fn failed(errno: Errno) -> Error {
    Error::Machine {
        call: "capset",
        error: std::io::Error::from_raw_os_error(errno.0),
        hint: "a security module forbids to give up rights",
    }
}

/// Starts something on a thread without capabilities, so that the threads that it starts have none either: they talk to
/// strangers or to disks, which takes no more than anybody may.
pub(crate) fn start<T: Send>(start: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let body = || {
        rights::keep(Caps::empty()).map_err(failed)?;
        start()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("powerless".to_owned());
        let thread = thread.spawn_scoped(scope, body);
        let thread = thread.map_err(|error| Error::Machine {
            call: "start a thread without rights",
            error,
            hint: "the limit of processes is reached: see ulimit -u",
        })?;
        // A panic goes on here.
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
