//! The file of a Unix socket: made so that nobody else can connect, taken away if it is still ours.

use super::error::{Error, Result, errno, number};
use super::peer::Peer;
use bpfsmith_uapi::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, setsockopt,
    socket, sockopt::SendTimeout,
};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::time::TimeVal;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A file that this process made.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Makes the file and listens.
    pub(super) fn make(path: &Path) -> Result<(UnixListener, SocketFile)> {
        let address = UnixAddr::new(path).map_err(|no| Error::file("bind", path, errno(no)))?;
        let lock = Lock::take(path, LOCK_TIME)?;
        make_room(path)?;
        let failed = |call| move |no| Error::file(call, path, errno(no));
        let socket = new_socket(SockFlag::SOCK_NONBLOCK).map_err(failed("socket"))?;
        // The file gets its mode from the socket, less what the process masks: there is no moment
        // in which it has another one.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed("fchmod"))?;
        bind(socket.as_raw_fd(), &address).map_err(failed("bind"))?;
        let about = path.symlink_metadata();
        let about = about.map_err(|error| Error::file("stat", path, number(&error)))?;
        let file = SocketFile {
            // The process may go to another directory.
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            device: about.dev(),
            inode: about.ino(),
        };
        let backlog = Backlog::new(BACKLOG).map_err(failed("listen"))?;
        let listening = listen(&socket, backlog).map_err(failed("listen"));
        drop(lock);
        listening.map(|()| (UnixListener::from(socket), file))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn is_ours(&self) -> bool {
        let about = self.path.symlink_metadata();
        about.is_ok_and(|about| (about.dev(), about.ino()) == (self.device, self.inode))
    }
}

impl Drop for SocketFile {
    /// The socket is still open, so that no other file has its inode. If somebody makes another one
    /// for so long, ours is left for that one to find and replace.
    fn drop(&mut self) {
        if let Ok(_lock) = Lock::take(&self.path, Duration::from_secs(1))
            && self.is_ours()
        {
            // If it cannot be removed, the next server will replace it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn new_socket(flags: SockFlag) -> nix::Result<OwnedFd> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// Takes away what a dead process left.
fn make_room(path: &Path) -> Result<()> {
    let about = match path.symlink_metadata() {
        Ok(about) => about,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("stat", path, number(&error))),
    };
    if !about.file_type().is_socket() {
        return Err(Error::NoSocket {
            path: path.to_owned(),
        });
    }
    match open(path, Patience::None) {
        Ok(stream) => Err(Error::Served {
            path: path.to_owned(),
            pid: match Peer::of_unix(&stream) {
                Ok(Peer::Unix { pid, .. }) => pid,
                _ => 0,
            },
        }),
        // It lives, and its queue is full.
        Err(Errno::EAGAIN) => Err(Error::Served {
            path: path.to_owned(),
            pid: 0,
        }),
        Err(Errno::ECONNREFUSED) => match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::file("unlink", path, number(&error)))
            }
            _ => Ok(()),
        },
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::file("connect to see who serves", path, errno)),
    }
}

/// How long to wait while too many others wait, too.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    None,
    Time(Duration),
}

/// Connects; `EAGAIN` when there was no room in time.
pub(super) fn open(path: &Path, patience: Patience) -> std::result::Result<UnixStream, Errno> {
    let address = UnixAddr::new(path).map_err(errno)?;
    let flags = match patience {
        Patience::None => SockFlag::SOCK_NONBLOCK,
        Patience::Time(_) => SockFlag::empty(),
    };
    let socket = new_socket(flags).map_err(errno)?;
    if let Patience::Time(time) = patience {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 2);
        let time = TimeVal::new(seconds, i64::from(time.subsec_micros()));
        setsockopt(&socket, SendTimeout, &time).map_err(errno)?;
    }
    loop {
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) => break,
            Err(nix::errno::Errno::EINTR) => {}
            Err(no) => return Err(errno(no)),
        }
    }
    let stream = UnixStream::from(socket);
    let blocking = stream.set_nonblocking(false);
    blocking.map_err(|error| number(&error)).map(|()| stream)
}

/// How long another server may take to start.
const LOCK_TIME: Duration = Duration::from_secs(5);

/// Keeps other servers of the path out while the file is looked at and made or removed. It is a
/// file beside it, which is gone afterwards.
struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Lock {
    fn take(socket: &Path, time: Duration) -> Result<Lock> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let end = Instant::now() + time;
        loop {
            let late = Instant::now() >= end;
            if let Some(file) = attempt(&path)? {
                return Ok(Lock { path, _file: file });
            }
            if late {
                return Err(Error::file("flock", &path, Errno::EAGAIN));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// `None` while somebody else has it, or had it and took the file away.
fn attempt(path: &Path) -> Result<Option<Flock<File>>> {
    let failed =
        |call: &'static str, error: &std::io::Error| Error::file(call, path, number(error));
    let mut options = OpenOptions::new();
    let nofollow = nix::fcntl::OFlag::O_NOFOLLOW.bits();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nofollow)
        .open(path)
        .map_err(|error| failed("open", &error))?;
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((_, nix::errno::Errno::EAGAIN)) => return Ok(None),
        Err((_, no)) => return Err(Error::file("flock", path, errno(no))),
    };
    let ours = file.metadata().map_err(|error| failed("stat", &error))?;
    let there = path.symlink_metadata();
    let same = there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
    Ok(same.then_some(file))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked: whoever opened it before sees that it is another one, and opens it again.
        // If it stays, it is no harm to the next one.
        let _ = std::fs::remove_file(&self.path);
    }
}
