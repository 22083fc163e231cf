//! Names and numbers of objects: pins in bpffs, ids of everything that is loaded.

use crate::attr::{self, Fd, Ptr, PtrMut, token_flag};
use crate::call::{Failed, Result, bpf, bpf_as, bpf_fd};
use crate::info;
use bpfsmith_uapi::{Cmd, Errno};
use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The kinds of objects that the kernel numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Programs.
    Prog,
    /// Maps.
    Map,
    /// BTF objects.
    Btf,
    /// Links.
    Link,
}

impl Kind {
    const fn next(self) -> Cmd {
        match self {
            Kind::Prog => Cmd::PROG_GET_NEXT_ID,
            Kind::Map => Cmd::MAP_GET_NEXT_ID,
            Kind::Btf => Cmd::BTF_GET_NEXT_ID,
            Kind::Link => Cmd::LINK_GET_NEXT_ID,
        }
    }

    const fn open(self) -> Cmd {
        match self {
            Kind::Prog => Cmd::PROG_GET_FD_BY_ID,
            Kind::Map => Cmd::MAP_GET_FD_BY_ID,
            Kind::Btf => Cmd::BTF_GET_FD_BY_ID,
            Kind::Link => Cmd::LINK_GET_FD_BY_ID,
        }
    }
}

/// Refuses an fd of another kind of object. Information structures do not say what they are about: a
/// program's reads like a map of nonsense.
///
/// # Errors
/// `EINVAL` when it is another kind, or no BPF object at all.
pub fn expect(kind: Kind, object: BorrowedFd<'_>) -> Result<()> {
    if kind == Kind::Btf {
        return info::expect_btf(object);
    }
    let is_refused = |fd, errno| matches!(touch(kind, fd), Err(failed) if failed.errno == errno);
    // A kernel without the command refuses all fds in the same way, and is not asked.
    if is_refused(Fd::of(object), Errno::EINVAL) && is_refused(Fd::NOBODY, Errno::EBADF) {
        return Err(Failed {
            cmd: Cmd::OBJ_GET_INFO_BY_FD,
            errno: Errno::EINVAL,
        });
    }
    Ok(())
}

/// Runs a command that only this kind of object takes, and that does nothing to it: a batch of no
/// elements (Linux 5.6), a program without a map to bind (5.10), a link without a program to put
/// behind it (5.7).
fn touch(kind: Kind, object: Fd<'_>) -> Result<()> {
    match kind {
        Kind::Map => {
            let mut attr = attr::MapBatch {
                in_batch: Ptr::NULL,
                out_batch: PtrMut::NULL,
                keys: PtrMut::NULL,
                values: PtrMut::NULL,
                count: 0,
                map_fd: object,
                elem_flags: 0,
                flags: 0,
            };
            // SAFETY: there are no addresses, and no element is asked for.
            unsafe { bpf(&mut attr).map(drop) }
        }
        Kind::Prog => {
            let mut attr = attr::BindMap {
                prog_fd: object,
                map_fd: Fd::NOBODY,
                flags: 0,
            };
            // SAFETY: only fds are passed.
            unsafe { bpf(&mut attr).map(drop) }
        }
        Kind::Link => {
            let mut attr = attr::LinkUpdate {
                link_fd: object,
                new_prog_fd: Fd::NOBODY,
                flags: 0,
                old_prog_fd: Fd::NONE,
            };
            // SAFETY: only fds are passed.
            unsafe { bpf(&mut attr).map(drop) }
        }
        Kind::Btf => Ok(()),
    }
}

/// The id that follows another; the first one follows 0.
///
/// # Errors
/// `ENOENT` after the last one; `EPERM` without `CAP_SYS_ADMIN`.
pub fn next_id(kind: Kind, after: u32) -> Result<u32> {
    let mut attr = attr::Id {
        start_id: after,
        next_id: 0,
        open_flags: 0,
        fd_by_id_token_fd: Fd::NONE,
    };
    // SAFETY: only numbers are passed.
    unsafe { bpf_as(kind.next(), &mut attr)? };
    Ok(attr.next_id)
}

/// Opens an object by its id.
///
/// # Errors
/// `ENOENT` when it is gone; `EPERM` without the right.
pub fn open_id(kind: Kind, id: u32, flags: u32, token: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let mut attr = attr::Id {
        start_id: id,
        next_id: 0,
        open_flags: flags | token_flag(token),
        fd_by_id_token_fd: Fd::some(token),
    };
    // SAFETY: only numbers and an fd are passed.
    unsafe { bpf_fd(kind.open(), &mut attr) }
}

/// Where a relative path starts.
#[derive(Clone, Copy, Debug)]
pub enum From<'a> {
    /// The working directory of the process.
    Here,
    /// An open directory. Linux 6.5.
    Dir(BorrowedFd<'a>),
}

impl From<'_> {
    /// The fd and the flag that says it is there.
    fn split(&self) -> (Fd<'_>, u32) {
        const PATH_FD: u32 = bpfsmith_uapi::flags::map_create::BPF_F_PATH_FD;
        match self {
            From::Here => (Fd::NONE, 0),
            From::Dir(fd) => (Fd::of(*fd), PATH_FD),
        }
    }
}

fn path_of(cmd: Cmd, path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Failed {
        cmd,
        errno: Errno::EINVAL,
    })
}

/// Gives an object a name in bpffs, which keeps it alive.
///
/// # Errors
/// `EPERM` when the directory is not in a bpffs; `EEXIST` when the name is taken.
pub fn pin(object: BorrowedFd<'_>, from: From<'_>, path: &Path) -> Result<()> {
    let name = path_of(Cmd::OBJ_PIN, path)?;
    let (path_fd, file_flags) = from.split();
    let mut attr = attr::ObjPin {
        pathname: Ptr::to(name.as_bytes_with_nul()),
        bpf_fd: Fd::of(object),
        file_flags,
        path_fd,
        _end: 0,
    };
    // SAFETY: the path is zero-terminated.
    unsafe { bpf(&mut attr).map(drop) }
}

/// Opens an object by its name in bpffs. `flags` are `BPF_F_RDONLY`, `BPF_F_WRONLY` or 0.
///
/// # Errors
/// `ENOENT` without such a name; `EACCES` when it is no BPF object.
pub fn open_pin(from: From<'_>, path: &Path, flags: u32) -> Result<OwnedFd> {
    let name = path_of(Cmd::OBJ_GET, path)?;
    let (path_fd, path_flag) = from.split();
    let mut attr = attr::ObjPin {
        pathname: Ptr::to(name.as_bytes_with_nul()),
        bpf_fd: Fd::NONE,
        file_flags: flags | path_flag,
        path_fd,
        _end: 0,
    };
    // SAFETY: the path is zero-terminated.
    unsafe { bpf_fd(Cmd::OBJ_GET, &mut attr) }
}
