//! What a proxy counts.

use crate::error::{Error, Refusal, Why};
use crate::joined::Outcome;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// What a [`Proxy`](crate::Proxy) counts while it runs.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(pub(super) $name: AtomicU64,)+
            refusal: Mutex<Option<Refusal>>,
            error: Mutex<Option<String>>,
            outcome: Mutex<Option<Outcome>>,
        }

        /// The numbers at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Tally {
            $($(#[$doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// The numbers now.
            #[must_use]
            pub fn tally(&self) -> Tally {
                Tally { $($name: self.$name.load(Relaxed),)+ }
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Connections accepted whose end is not reached.
    open,
    /// Pairs whose bytes the kernel moves.
    spliced,
    /// Pairs whose bytes are copied one way or both, because the proxy copies, or the kernel did not
    /// take them, or a stream ended before both connections stood.
    copied,
    /// Of these, pairs for which the maps had no room.
    full,
    /// And pairs that the kernel did not take for another reason.
    refused,
    /// Connections whose target could not be reached, or for which no socket could be made.
    /// [`last_error`](Counters::last_error) tells why.
    unreachable,
    /// Pairs both of whose streams ended.
    ended,
    /// Pairs of which a connection broke.
    broken,
    /// Pairs that ended because the kernel refused something unforeseen.
    failed,
    /// How often the receiver of a flow fell too far behind.
    behind,
    /// How often nobody could be accepted, mostly for lack of descriptors or memory.
    pauses,
    /// Bytes that the kernel moved, of streams that have ended.
    bytes_spliced,
    /// Bytes that went through user space, of pairs that have ended.
    bytes_copied,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Relaxed);
    }

    pub(super) fn sub(counter: &AtomicU64, number: u64) {
        counter.fetch_sub(number, Relaxed);
    }

    /// A pair that could not be joined.
    pub(super) fn refused(&self, error: &Error) {
        match error.refusal() {
            Some(refusal) => {
                let full = refusal.why() == Why::Full;
                Counters::add(if full { &self.full } else { &self.refused }, 1);
                let mut last = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some(*refusal);
            }
            None => {
                Counters::add(&self.refused, 1);
                self.keep(error);
            }
        }
    }

    /// A pair that came to nothing.
    pub(super) fn failed(&self, error: &Error) {
        Counters::add(&self.failed, 1);
        self.keep(error);
    }

    /// A target that could not be reached.
    pub(super) fn unreachable(&self, error: std::io::Error) {
        Counters::add(&self.unreachable, 1);
        self.keep(&Error::io("connect to the target")(error));
    }

    /// Nobody can be accepted for now.
    pub(super) fn paused(&self, error: std::io::Error) {
        Counters::add(&self.pauses, 1);
        self.keep(&Error::io("accept")(error));
    }

    fn keep(&self, error: &Error) {
        let mut last = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(error.to_string());
    }

    /// A pair that is over.
    pub(super) fn over(&self, outcome: Outcome) {
        if outcome == Outcome::Ended {
            return Counters::add(&self.ended, 1);
        }
        Counters::add(&self.broken, 1);
        let mut last = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(outcome);
    }

    /// Why the last pair broke that did.
    #[must_use]
    pub fn last_broken(&self) -> Option<Outcome> {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the kernel did not take the last pair that it did not take.
    #[must_use]
    pub fn last_refusal(&self) -> Option<Refusal> {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last error that ended a pair or had it copied, and that was no refusal; or why a target was
    /// not reached or nobody could be accepted.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        let last = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }
}
