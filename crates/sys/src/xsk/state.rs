//! What a socket tells of itself: how it works, what it lost, how full its rings are.

use super::error::{Error, Fault};
use super::open::read;
use super::ring::Ring;
use super::socket::Socket;
use bpfsmith_uapi::Errno;
use bpfsmith_uapi::xsk::option::{XDP_OPTIONS, XDP_STATISTICS};
use bpfsmith_uapi::xsk::options::XDP_OPTIONS_ZEROCOPY;
use std::os::fd::AsFd;

/// What the kernel did not pass on, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets that were dropped for another reason than a full ring: too long for a frame, or there
    /// was no frame.
    pub dropped: u64,
    /// Frames to receive into that the kernel found invalid.
    pub invalid_fill: u64,
    /// Frames to send that the kernel found invalid.
    pub invalid_send: u64,
    /// Packets that were dropped because the ring of received ones was full. Linux 5.9.
    pub receive_full: Option<u64>,
    /// How often there was no frame to receive into. Linux 5.9.
    pub fill_empty: Option<u64>,
    /// How often there was nothing to send when the kernel looked. Linux 5.9.
    pub send_empty: Option<u64>,
}

/// Whether packets are copied between the driver and frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// They are.
    Each,
    /// The driver works in the frames.
    None,
}

impl Socket {
    /// What was lost since the socket was opened. Linux 5.9 tells all of it.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        const CALL: &str = "getsockopt XDP_STATISTICS";
        let mut bytes = [0; 48];
        let len = read(CALL, self.as_fd(), XDP_STATISTICS, &mut bytes);
        let len = len.map_err(|refused| self.refused(refused))?;
        let word = |at: usize| {
            let bytes = bytes
                .get(8 * at..8 * (at + 1))
                .filter(|_| 8 * (at + 1) <= len)?;
            bytes.first_chunk().map(|word| u64::from_ne_bytes(*word))
        };
        let always = |at| word(at).ok_or(Error::new(CALL, Some(self.on()), Errno::EBADMSG));
        Ok(Statistics {
            dropped: always(0)?,
            invalid_fill: always(1)?,
            invalid_send: always(2)?,
            receive_full: word(3),
            fill_empty: word(4),
            send_empty: word(5),
        })
    }

    /// Whether packets are copied: the kernel's answer, also where [`Mode::Any`](super::Mode::Any) left
    /// it the choice.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn copies(&self) -> Result<Copies, Error> {
        const CALL: &str = "getsockopt XDP_OPTIONS";
        let mut bytes = [0; 4];
        let len = read(CALL, self.as_fd(), XDP_OPTIONS, &mut bytes);
        if len.map_err(|refused| self.refused(refused))? != bytes.len() {
            return Err(Error::new(CALL, Some(self.on()), Errno::EBADMSG));
        }
        match u32::from_ne_bytes(bytes) & XDP_OPTIONS_ZEROCOPY {
            0 => Ok(Copies::Each),
            _ => Ok(Copies::None),
        }
    }

    /// How many frames are in the ring to receive into, and how many in that to send, that the kernel
    /// has not looked at.
    ///
    /// # Errors
    /// [`Fault::Corrupt`].
    pub fn waiting(&self) -> Result<[u32; 2], Fault> {
        let send = self.rings().send.as_ref();
        Ok([
            self.rings().fill.pending()?,
            send.map_or(Ok(0), Ring::pending)?,
        ])
    }

    /// How many entries the rings have: to receive into, received, to send, sent.
    #[must_use]
    pub fn lengths(&self) -> [u32; 4] {
        let len = |ring: &Option<Ring>| ring.as_ref().map_or(0, Ring::len);
        [
            self.rings().fill.len(),
            len(&self.rings().receive),
            len(&self.rings().send),
            self.rings().completion.len(),
        ]
    }
}
