//! Why something about the proxy failed: one line, with what to do next.

use crate::config::{BackendId, GroupId};
use bpfsmith_net::IfIndex;
use bpfsmith_uapi::Errno;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something about the proxy failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A map could not be made, read or written.
    #[error(transparent)]
    Map(#[from] bpfsmith_maps::Error),
    /// The kernel has no room for a table of flows.
    #[error("{cause}: make Config::room.flows smaller: {flows} flows take {} MB a table", megabytes(*bytes))]
    NoRoom {
        /// What the kernel answered.
        #[source]
        cause: bpfsmith_maps::Error,
        /// Flows that are to have room.
        flows: u32,
        /// Bytes of the table.
        bytes: u64,
    },
    /// A program could not be loaded or attached.
    #[error(transparent)]
    Prog(#[from] bpfsmith_prog::Error),
    /// A device could not be asked or changed.
    #[error(transparent)]
    Net(#[from] bpfsmith_net::Error),
    /// The checker refused a program: a mistake of this crate's.
    #[error("generated program refused before the kernel saw it: {0}")]
    Report(#[from] bpfsmith_asm::report::Report),
    /// A device cannot have the programs that it should.
    #[error(transparent)]
    Obstacle(#[from] crate::choice::Obstacle),
    /// The kernel does not say how fast its ticks go.
    #[error("clock_getres CLOCK_MONOTONIC_COARSE: {0} (give the ticks a second with Clock::new)")]
    Clock(Errno),
    /// The kernel does not start the timer that looks after flows.
    #[error(
        "the timer of map sweeper: {0} (the map must be open or pinned, and have its BTF; where it is ENOMEM, free memory)"
    )]
    Timer(Errno),
    /// No random numbers are to be had.
    #[error(
        "/dev/urandom: {0} (the hash of the tables of flows needs numbers that nobody knows: give the process that device)"
    )]
    Random(std::io::Error),
    /// A listener or route names a group that is not there.
    #[error("{user} names group {}, but there are {groups}: add it to Config::groups", group.0)]
    NoGroup {
        /// Who names it.
        user: String,
        /// The group.
        group: GroupId,
        /// How many there are.
        groups: usize,
    },
    /// The kernel makes no SYN cookies for programs.
    #[error(
        "SYN cookies need Linux 6.0 with CONFIG_SYN_COOKIES: {0} (leave Above::Drop in Config::limits)"
    )]
    NoCookies(#[source] bpfsmith_prog::Error),
    /// The kernel was built without SYN cookies.
    #[error(
        "bpf_tcp_raw_gen_syncookie: {0} (a kernel with CONFIG_SYN_COOKIES has it; else leave Above::Drop in Config::limits)"
    )]
    CookiesLeftOut(Errno),
    /// Cookies for what has no sequence numbers.
    #[error("listener {0} is of UDP, which has no cookies: leave Above::Drop in Config::limits")]
    CookiesOfDatagrams(u16),
    /// Cookies, but backends answer clients themselves.
    #[error(
        "listener {listener} sends cookies, but answers of group {} do not come by way of the proxy, which has to shift their numbers: give it another mode, or leave Above::Drop in Config::limits", group.0
    )]
    CookiesWithoutAnswers {
        /// The listener.
        listener: u16,
        /// The group.
        group: GroupId,
    },
    /// Cookies, but backends are on the proxy's own host.
    #[error(
        "connections by cookie cannot go to backends on the proxy's own host: put them into a namespace of their own, or leave Above::Drop in Config::limits"
    )]
    CookiesToOwnHost,
    /// A limit is for a listener that is not there.
    #[error("Config::limits has listener {0}, which is not there: add it to Config::listeners")]
    NoListener(u16),
    /// A group has a member that is not there.
    #[error("group {group} has backend {} as a member, which is not among the backends: add it to Config::backends", backend.0)]
    NoBackend {
        /// The group.
        group: usize,
        /// The member.
        backend: BackendId,
    },
    /// A number that is too large for a flow.
    #[error("{what} has number {number}: numbers go up to 32767")]
    Number {
        /// What has it.
        what: &'static str,
        /// The number.
        number: u16,
    },
    /// Two with one number.
    #[error("two {what}s have number {number}: give each its own")]
    SameNumber {
        /// What they are.
        what: &'static str,
        /// The number.
        number: u16,
    },
    /// Two listeners for the same packets.
    #[error("listeners {} and {} both listen on {address}: remove one", numbers[0], numbers[1])]
    SameListener {
        /// Their numbers.
        numbers: [u16; 2],
        /// The address.
        address: SocketAddr,
    },
    /// A backend or source of another family than what comes to it.
    #[error(
        "{what} {address} is not of the family of the listeners that lead to it: packets are not translated between IPv4 and IPv6"
    )]
    Family {
        /// What it is.
        what: &'static str,
        /// Its address.
        address: IpAddr,
    },
    /// Full NAT without an address of its family.
    #[error(
        "group {group} gives its packets a source of the proxy's own, but Config::sources has none of family {family}: add an address to Config::sources"
    )]
    NoSource {
        /// The group.
        group: usize,
        /// The family.
        family: &'static str,
    },
    /// Programs of another proxy's.
    #[error(
        "the generation shares no flows with the one on the devices: make it with Generation::next, or drop Attached and attach anew"
    )]
    Stranger,
    /// What is to outlive the process has no place.
    #[error("{} is in no BPF file system: mount -t bpf bpf {}, or name a directory that is", dir.display(), dir.display())]
    NotBpffs {
        /// The directory.
        dir: PathBuf,
    },
    /// Programs are not on devices by what can have a name.
    #[error(
        "to outlive its process, a proxy needs Linux 6.6: programs behind the driver are filters here, which cannot be pinned (make it with Generation::first)"
    )]
    OldKernel,
    /// Another process is at it.
    #[error("{} is another proxy's{}: end that first, or name another directory", dir.display(), of(*process))]
    Busy {
        /// The directory.
        dir: PathBuf,
        /// The process, if the kernel shows it.
        process: Option<u32>,
    },
    /// Others could put something of theirs there.
    #[error("{} can be changed by others than who runs this: chown it, chmod 700, and look at what is in it", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
    },
    /// Another version of this crate left something.
    #[error("{} holds flows of another version ({found}), which this one cannot take over: detach first, which ends them", dir.display())]
    OtherLayout {
        /// The directory.
        dir: PathBuf,
        /// The layout that was found.
        found: String,
    },
    /// A pinned map is not as this version makes it.
    #[error("{}: {cause}: this version cannot take over: detach first, which ends all flows", path.display())]
    OtherShape {
        /// Its name.
        path: PathBuf,
        /// What differs.
        #[source]
        cause: bpfsmith_maps::Error,
    },
    /// Something is pinned that this crate does not pin.
    #[error("{} is nothing that a proxy puts there: remove it, or detach, which removes all", path.display())]
    Foreign {
        /// Its name.
        path: PathBuf,
    },
    /// More than a map can keep for the next process.
    #[error("{bytes} bytes are more than can be kept for the next process: keep them in a file")]
    TooMuch {
        /// How many there are.
        bytes: usize,
    },
    /// Something is not pinned any more.
    #[error("{} is missing, without which flows are not found: somebody removed it (detach, and begin anew)", path.display())]
    Incomplete {
        /// Its name.
        path: PathBuf,
    },
    /// A pinned link belongs to a device of another network namespace.
    #[error("{} is on a device of another network namespace: run this there, or detach first", path.display())]
    Elsewhere {
        /// Its name.
        path: PathBuf,
    },
    /// Devices of one namespace were attached to, and those of another are named now.
    #[error(
        "the devices are looked at in another network namespace than the attached ones: call this where Attached::new was called"
    )]
    OtherNamespace,
    /// A change failed, and so did the way back.
    #[error("{cause}; what was changed before stays, for: {undo}")]
    NotUndone {
        /// Why the change failed.
        #[source]
        cause: Box<Error>,
        /// Why the way back did.
        undo: Box<Error>,
    },
    /// A program that an earlier process attached cannot come back.
    #[error(
        "the program that was on device {device} before cannot be opened: it takes CAP_SYS_ADMIN"
    )]
    NoWayBack {
        /// The device.
        device: IfIndex,
    },
    /// A file or directory could not be made, opened, locked or removed.
    #[error("{call} {}: {errno}{}", path.display(), file_hint(*errno))]
    File {
        /// The call.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
    /// An address or a port that no packet could have.
    #[error("{what} is at {address}, {why}")]
    Address {
        /// Who has it.
        what: String,
        /// The address.
        address: SocketAddr,
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
    /// No ports for the proxy's own addresses.
    #[error(
        "Config::source_ports is {first}..={last}: give it a first port above 0, and a last one that is no less"
    )]
    SourcePorts {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
    /// A number or a time with which nothing works.
    #[error("Config::{name} is {value}, {why}")]
    Setting {
        /// What it is.
        name: String,
        /// What it was given.
        value: String,
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
    /// One of something twice, where the second would be forgotten.
    #[error("{what} twice: remove one")]
    Twice {
        /// What there is twice.
        what: String,
    },
    /// Too many of something.
    #[error("{count} {what}: at most {most} fit")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many fit.
        most: usize,
    },
}

bpfsmith_uapi::debug_as_display!(Error);

/// Tenths of a megabyte are enough.
fn megabytes(bytes: u64) -> String {
    format!("{}.{}", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

/// Whose something is.
fn of(process: Option<u32>) -> String {
    process.map_or_else(String::new, |id| format!(" (process {id})"))
}

/// What to do where a file cannot be used.
fn file_hint(errno: Errno) -> &'static str {
    let row = FILE_HINTS.iter().find(|(it, _)| *it == errno);
    row.map_or("", |(_, hint)| hint)
}

const FILE_HINTS: &[(Errno, &str)] = &[
    (Errno::ENOENT, " (make the directory above it first)"),
    (
        Errno::EPERM,
        " (run this as root; names in a BPF file system have no dots)",
    ),
    (Errno::EACCES, " (run this as root)"),
    (
        Errno::ENOTEMPTY,
        " (something is in it that no proxy puts there: look, and remove it)",
    ),
    (Errno::ENOTDIR, " (name a directory)"),
    (Errno::EMFILE, " (raise ulimit -n)"),
    (Errno::ENFILE, " (raise the sysctl fs.file-max)"),
];

impl Error {
    /// A failed call with a file.
    pub(crate) fn file(call: &'static str, path: &Path, error: &std::io::Error) -> Error {
        Error::File {
            call,
            path: path.to_owned(),
            errno: Errno::of(error).unwrap_or(Errno::EIO),
        }
    }

    /// This error, or if the way back failed, both.
    pub(crate) fn unless_undone(self, undone: Result<()>) -> Error {
        match undone {
            Ok(()) => self,
            Err(undo) => Error::NotUndone {
                cause: Box::new(self),
                undo: Box::new(undo),
            },
        }
    }

    /// What the kernel answered, if it was asked.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Map(error) | Error::NoRoom { cause: error, .. } => error.errno(),
            Error::Prog(error) => error.errno(),
            Error::Net(error) => error.errno(),
            Error::NoCookies(error) => error.errno(),
            Error::OtherShape { cause, .. } => cause.errno(),
            Error::File { errno, .. } => Some(*errno),
            Error::NotUndone { cause, .. } => cause.errno(),
            Error::Clock(errno) | Error::Timer(errno) | Error::CookiesLeftOut(errno) => {
                Some(*errno)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_say_what_to_do() {
        for (errno, hint) in FILE_HINTS {
            let error = Error::File {
                call: "open",
                path: "/a".into(),
                errno: *errno,
            };
            let text = error.to_string();
            assert_eq!(text, format!("open /a: {errno}{hint}"));
            assert!(hint.starts_with(" (") && hint.ends_with(')'));
            let rows = FILE_HINTS.iter().filter(|(it, _)| it == errno);
            assert_eq!(rows.count(), 1);
        }
    }

    #[test]
    fn both_errors_are_told_where_there_is_no_way_back() {
        let device = IfIndex(3);
        let error = Error::Stranger.unless_undone(Err(Error::NoWayBack { device }));
        let text = error.to_string();
        assert!(text.contains("shares no flows") && text.contains("CAP_SYS_ADMIN"));
        assert!(!text.contains('\n'), "{text}");
    }
}
