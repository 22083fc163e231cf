//! `Errno`: why a system call failed.

use crate::uapi_enum;

uapi_enum! {
    /// The error number of a system call. Numbers are those of x86-64, arm64, riscv64 and s390x.
    pub Errno: i32, "" {
        /// Not allowed.
        EPERM = 1,
        /// Nothing of that name or key.
        ENOENT = 2,
        /// No such process or type.
        ESRCH = 3,
        /// A signal came in between.
        EINTR = 4,
        /// The device or file failed.
        EIO = 5,
        /// No such device or address.
        ENXIO = 6,
        /// The argument, map or program is too large.
        E2BIG = 7,
        /// Not an open file descriptor of that kind.
        EBADF = 9,
        /// No child process.
        ECHILD = 10,
        /// Not now; try again.
        EAGAIN = 11,
        /// No memory.
        ENOMEM = 12,
        /// Permission denied; the verifier's usual refusal.
        EACCES = 13,
        /// A pointer leads outside the process.
        EFAULT = 14,
        /// Not a block device.
        ENOTBLK = 15,
        /// In use by something else.
        EBUSY = 16,
        /// It exists already.
        EEXIST = 17,
        /// The two lie on different devices.
        EXDEV = 18,
        /// No such device.
        ENODEV = 19,
        /// Not a directory.
        ENOTDIR = 20,
        /// A directory.
        EISDIR = 21,
        /// An argument makes no sense to the kernel.
        EINVAL = 22,
        /// The system has too many open files.
        ENFILE = 23,
        /// This process has too many open files.
        EMFILE = 24,
        /// The file does not know this request.
        ENOTTY = 25,
        /// The file is being executed.
        ETXTBSY = 26,
        /// The file is too large.
        EFBIG = 27,
        /// No room left.
        ENOSPC = 28,
        /// The file cannot be sought.
        ESPIPE = 29,
        /// Read-only.
        EROFS = 30,
        /// Too many links.
        EMLINK = 31,
        /// Nobody reads the other end.
        EPIPE = 32,
        /// Outside the function's domain.
        EDOM = 33,
        /// Outside the range.
        ERANGE = 34,
        /// It would wait for itself.
        EDEADLK = 35,
        /// The name is too long.
        ENAMETOOLONG = 36,
        /// The kernel has no such system call.
        ENOSYS = 38,
        /// The directory is not empty.
        ENOTEMPTY = 39,
        /// Too many links in a row.
        ELOOP = 40,
        /// No message of that type.
        ENOMSG = 42,
        /// No data.
        ENODATA = 61,
        /// The time is over.
        ETIME = 62,
        /// The link is gone.
        ENOLINK = 67,
        /// The protocol was broken.
        EPROTO = 71,
        /// Not a valid message.
        EBADMSG = 74,
        /// The value is too large for its type.
        EOVERFLOW = 75,
        /// Not valid text.
        EILSEQ = 84,
        /// Not a socket.
        ENOTSOCK = 88,
        /// The destination is missing.
        EDESTADDRREQ = 89,
        /// The message is too long.
        EMSGSIZE = 90,
        /// The wrong protocol for this socket.
        EPROTOTYPE = 91,
        /// No such option.
        ENOPROTOOPT = 92,
        /// The protocol is not there.
        EPROTONOSUPPORT = 93,
        /// The socket type is not there.
        ESOCKTNOSUPPORT = 94,
        /// The object cannot do this.
        EOPNOTSUPP = 95,
        /// The address family does not fit.
        EAFNOSUPPORT = 97,
        /// The address is in use.
        EADDRINUSE = 98,
        /// The address is not ours.
        EADDRNOTAVAIL = 99,
        /// The network is down.
        ENETDOWN = 100,
        /// No route to that network.
        ENETUNREACH = 101,
        /// The connection was aborted.
        ECONNABORTED = 103,
        /// The peer reset the connection.
        ECONNRESET = 104,
        /// No buffer space.
        ENOBUFS = 105,
        /// Connected already.
        EISCONN = 106,
        /// Not connected.
        ENOTCONN = 107,
        /// No answer in time.
        ETIMEDOUT = 110,
        /// Nobody listens there.
        ECONNREFUSED = 111,
        /// No route to that host.
        EHOSTUNREACH = 113,
        /// Under way already.
        EALREADY = 114,
        /// Under way.
        EINPROGRESS = 115,
        /// The handle is out of date.
        ESTALE = 116,
        /// The structure needs cleaning.
        EUCLEAN = 117,
        /// Over the quota.
        EDQUOT = 122,
        /// Cancelled.
        ECANCELED = 125,
        /// The key is not there.
        ENOKEY = 126,
        /// The key was refused.
        EKEYREJECTED = 129,
        /// Not supported for this object; a number that libc has no name for.
        ENOTSUPP = 524,
    }
    aliases {
        /// The same number.
        EWOULDBLOCK = EAGAIN,
    }
}

impl Errno {
    /// The number behind an I/O error of the standard library, if it came from the kernel.
    #[must_use]
    pub fn of(error: &std::io::Error) -> Option<Errno> {
        error.raw_os_error().map(Errno)
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> std::io::Error {
        std::io::Error::from_raw_os_error(errno.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Errno;
    use std::io::{Error, ErrorKind};

    #[test]
    fn numbers_print_as_the_kernel_names_them() {
        assert_eq!(Errno(22).to_string(), "EINVAL");
        assert_eq!(Errno(524).to_string(), "ENOTSUPP");
        assert_eq!(Errno(4000).to_string(), "4000");
        assert_eq!(Errno::from_name("E2BIG"), Some(Errno(7)));
    }

    #[test]
    fn they_are_the_standard_librarys() {
        assert_eq!(Error::from(Errno::ENOENT).kind(), ErrorKind::NotFound);
        let refused = Error::from(Errno::ECONNREFUSED);
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(Errno::of(&refused), Some(Errno::ECONNREFUSED));
    }
}
