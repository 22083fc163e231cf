//! What this process may do: capabilities, the memory lock limit, unprivileged BPF.

use bpfsmith_uapi::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;

bitflags::bitflags! {
    /// The capabilities that BPF asks for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Caps: u64 {
        /// Network programs and their hooks.
        const NET_ADMIN = 1 << 12;
        /// The old right to everything; still needed for ids and offload.
        const SYS_ADMIN = 1 << 21;
        /// Raising limits.
        const SYS_RESOURCE = 1 << 24;
        /// Perf events and tracing programs. Linux 5.8.
        const PERFMON = 1 << 38;
        /// Maps, BTF and loading. Linux 5.8.
        const BPF = 1 << 39;
    }
}

/// The capabilities in effect, as far as BPF asks for them.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn capabilities() -> Result<Caps, Errno> {
    let status = fs::read_to_string("/proc/thread-self/status")
        .map_err(|error| Errno::of(&error).unwrap_or(Errno::EIO))?;
    let bits = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .ok_or(Errno::EBADMSG)?;
    Ok(Caps::from_bits_truncate(bits))
}

/// The format of [`Set`]: two of them hold 64 capabilities.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    thread: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Set {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// This thread gives up all capabilities but these, for good. Threads that it starts afterwards have no
/// more than it; others keep what they have.
///
/// # Errors
/// What capget(2) and capset(2) answer; lacking some of these already is no error.
pub fn keep(caps: Caps) -> Result<(), Errno> {
    let mut header = Header {
        version: VERSION_3,
        thread: 0,
    };
    let mut sets = [Set::default(); 2];
    // SAFETY: both pointers are to what capget(2) writes in this version: a header and two sets.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) } != 0 {
        return Err(Errno::of(&std::io::Error::last_os_error()).unwrap_or(Errno::EIO));
    }
    let [a, b, c, d, e, f, g, h] = caps.bits().to_le_bytes();
    let halves = [[a, b, c, d], [e, f, g, h]].map(u32::from_le_bytes);
    for (set, kept) in sets.iter_mut().zip(halves) {
        set.permitted &= kept;
        set.effective &= kept;
        set.inheritable &= kept;
    }
    // SAFETY: as above; capset(2) only reads the sets.
    if unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) } != 0 {
        return Err(Errno::of(&std::io::Error::last_os_error()).unwrap_or(Errno::EIO));
    }
    Ok(())
}

/// What `kernel.unprivileged_bpf_disabled` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unprivileged {
    /// Everybody may load socket filters and make some maps.
    Allowed,
    /// Nobody without `CAP_BPF`; `is_final` until the next boot.
    Refused {
        /// Whether even root cannot change it.
        is_final: bool,
    },
}

/// Whether processes without capabilities may use BPF.
///
/// # Errors
/// When `/proc` is not mounted or says something unknown.
pub fn unprivileged() -> Result<Unprivileged, Errno> {
    let text = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled")
        .map_err(|error| Errno::of(&error).unwrap_or(Errno::EIO))?;
    match text.trim() {
        "0" => Ok(Unprivileged::Allowed),
        "1" => Ok(Unprivileged::Refused { is_final: true }),
        "2" => Ok(Unprivileged::Refused { is_final: false }),
        _ => Err(Errno::EBADMSG),
    }
}

/// The limit of locked memory in bytes, soft and hard; before Linux 5.11 maps count against it.
///
/// # Errors
/// What getrlimit(2) answers.
pub fn memlock() -> Result<(u64, u64), Errno> {
    getrlimit(Resource::RLIMIT_MEMLOCK).map_err(|errno| Errno(errno as i32))
}

/// Raises the soft limit of locked memory to the hard one, and the hard one as far as allowed.
/// Only kernels before 5.11 need it.
///
/// # Errors
/// What setrlimit(2) answers.
pub fn raise_memlock() -> Result<(), Errno> {
    let (soft, hard) = memlock()?;
    let unlimited = nix::sys::resource::RLIM_INFINITY;
    if soft == unlimited || setrlimit(Resource::RLIMIT_MEMLOCK, unlimited, unlimited).is_ok() {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard).map_err(|errno| Errno(errno as i32))
}

#[cfg(test)]
mod tests {
    use super::{Caps, Unprivileged, capabilities, keep, memlock, unprivileged};

    #[test]
    fn a_thread_gives_up_what_others_keep() {
        let before = capabilities().unwrap();
        let left = std::thread::scope(|scope| {
            let less = scope.spawn(|| {
                keep(Caps::BPF | Caps::NET_ADMIN).unwrap();
                let left = capabilities().unwrap();
                // What is gone does not come back.
                keep(Caps::all()).unwrap();
                assert_eq!(capabilities().unwrap(), left);
                left
            });
            less.join().unwrap()
        });
        assert_eq!(left, before & (Caps::BPF | Caps::NET_ADMIN));
        assert_eq!(capabilities().unwrap(), before);
    }

    #[test]
    fn this_process_has_limits_and_rights() {
        let (soft, hard) = memlock().unwrap();
        assert!(soft <= hard);
        capabilities().unwrap();
        assert!(matches!(
            unprivileged().unwrap(),
            Unprivileged::Allowed | Unprivileged::Refused { .. }
        ));
    }
}
