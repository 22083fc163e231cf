//! How large a terminal is.

use crate::refused::{Answer, Refused};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The size of a terminal's window, in characters. Both may be 0 where nobody told the terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Asks a terminal for the size of its window.
///
/// # Errors
/// `ENOTTY` when it is no terminal.
pub fn window_size(terminal: BorrowedFd<'_>) -> Answer<WindowSize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let place = std::ptr::from_mut(&mut size);
    // SAFETY: the request writes one `winsize`, at an address that is valid for that until it returns.
    match unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, place) } {
        0 => Ok(WindowSize {
            rows: size.ws_row,
            columns: size.ws_col,
        }),
        _ => Err(Refused::last("ioctl TIOCGWINSZ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfsmith_uapi::Errno;
    use nix::pty::{Winsize, openpty};
    use std::os::fd::AsFd;

    #[test]
    fn a_terminal_says_its_size() {
        let told = Winsize {
            ws_row: 7,
            ws_col: 33,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&told), None).unwrap();
        let size = window_size(pair.slave.as_fd()).unwrap();
        assert_eq!((size.rows, size.columns), (7, 33));
    }

    #[test]
    fn a_pipe_is_no_terminal() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let refused = window_size(reader.as_fd()).unwrap_err();
        assert_eq!(refused.errno, Errno::ENOTTY);
    }
}
