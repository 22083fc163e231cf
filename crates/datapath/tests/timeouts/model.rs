//! What must be known of a flow at which time, in plain words.

use crate::age::Time;
use crate::rig;
use crate::script::{Side, Step};
use bpfsmith_datapath::config::{Protocol, Timeouts};
use bpfsmith_datapath::connections::State;
use bpfsmith_datapath::event::End;

/// Something happened no sooner than the one and no later than the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Span {
    fn latest(self, other: Span) -> Span {
        Span {
            from: self.from.max(other.from),
            to: self.to.max(other.to),
        }
    }

    fn later(self, by: Span) -> Span {
        Span {
            from: self.from + by.from,
            to: self.to + by.to,
        }
    }
}

/// What a packet did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    /// It was one of its flow.
    Passed,
    /// It ended its flow, whose tuple begins another. Somebody is told why, unless it was not established.
    BeginsAnew(Option<End>),
    /// Which of both nobody can say: the machine stood still in between.
    Either,
}

/// A flow.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) flow: rig::Flow,
    born: Span,
    /// The last packets of the client and of the backend.
    seen: [Span; 2],
    is_half: bool,
    has_closed: [bool; 2],
    is_reset: bool,
    /// What is still to come.
    pub(crate) steps: Vec<Step>,
    /// When the next of it comes.
    pub(crate) wakes: Option<u64>,
    /// It is looked at just before and just after its end.
    pub(crate) is_probed: bool,
}

impl Known {
    pub(crate) fn new(flow: rig::Flow, born: Span) -> Known {
        Known {
            flow,
            born,
            seen: [born; 2],
            is_half: true,
            has_closed: [false; 2],
            is_reset: false,
            steps: Vec::new(),
            wakes: None,
            is_probed: false,
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.has_closed {
            _ if self.is_half => State::Opening,
            _ if self.is_reset => State::Reset,
            [true, true] => State::Closed,
            [false, false] => State::Established,
            _ => State::Closing,
        }
    }

    /// Whether it is among the flows of its backend.
    pub(crate) fn counts(&self) -> bool {
        matches!(self.state(), State::Established | State::Closing)
    }

    /// Why it will have ended when it is forgotten; nobody is told of one that was not established.
    pub(crate) fn end(&self) -> Option<End> {
        match self.state() {
            State::Opening => None,
            State::Reset => Some(End::Reset),
            State::Closed => Some(End::Closed),
            State::Established | State::Closing => Some(End::Idle),
        }
    }

    /// How long it is remembered without a packet.
    pub(crate) fn timeout(&self, time: &Time, timeouts: &Timeouts) -> Span {
        let is_udp = self.flow.protocol == Protocol::Udp;
        let exactly = match self.state() {
            State::Opening => timeouts.unanswered,
            _ if is_udp => timeouts.udp,
            State::Established => timeouts.established,
            State::Closing => timeouts.half_closed,
            State::Closed => timeouts.closed,
            State::Reset => return self.lived(time, timeouts),
        };
        let ticks = time.ticks(exactly);
        Span {
            from: ticks,
            to: ticks,
        }
    }

    /// A reset may be anybody's: what lived long is remembered as long again. But what both sides closed
    /// is over.
    fn lived(&self, time: &Time, timeouts: &Timeouts) -> Span {
        let closed = time.ticks(timeouts.closed);
        let most = match self.has_closed {
            [true, true] => closed,
            _ => time.ticks(timeouts.half_closed),
        };
        let [client, _] = self.seen;
        Span {
            from: client.from.saturating_sub(self.born.to).clamp(closed, most),
            to: client.to.saturating_sub(self.born.from).clamp(closed, most),
        }
    }

    /// After the first it may be forgotten, after the second it must be.
    pub(crate) fn is_due(&self, time: &Time, timeouts: &Timeouts) -> Span {
        let [client, backend] = self.seen;
        client.latest(backend).later(self.timeout(time, timeouts))
    }

    /// It is not established, and its client has been silent for too long: the backend's answers are not
    /// passed on, however often they come.
    pub(crate) fn is_too_late(&self, now: u64, unanswered: u64) -> bool {
        let [client, _] = self.seen;
        self.is_half && now > client.from + unanswered
    }

    /// About now its client has been silent for too long, or it is too old: what a packet does nobody can say.
    pub(crate) fn is_close(&self, now: u64, margin: u64, unanswered: u64) -> bool {
        let [client, _] = self.seen;
        let range = now.saturating_sub(margin)..=now + margin;
        let limits = [client, self.born].map(|it| it.from + unanswered);
        self.is_half && limits.iter().any(|limit| range.contains(limit))
    }

    /// A packet came.
    pub(crate) fn has(&mut self, side: Side, flags: &str, at: Span, unanswered: u64) -> Did {
        let number = usize::from(side == Side::Backend);
        let is = |flag: char| flags.contains(flag);
        match (self.flow.protocol, self.is_half, side) {
            (Protocol::Udp, true, Side::Client) => {
                // Those of UDP are forgotten however often their client asks.
                if at.from.saturating_sub(self.born.to) > unanswered {
                    return Did::BeginsAnew(None);
                }
                if at.to.saturating_sub(self.born.from) > unanswered {
                    return Did::Either;
                }
            }
            (Protocol::Udp, true, Side::Backend) => self.is_half = false,
            (Protocol::Udp, false, _) => {}
            (Protocol::Tcp, true, _) => {
                // The client has seen an answer: scripts send it no sooner.
                if side == Side::Client && !is('S') {
                    self.is_half = false;
                    self.has_closed[number] = is('F');
                }
            }
            (Protocol::Tcp, false, _) if is('S') => return Did::BeginsAnew(self.end()),
            (Protocol::Tcp, false, _) => {
                self.is_reset = is('R');
                self.has_closed[number] |= is('F');
            }
        }
        self.seen[number] = at;
        Did::Passed
    }
}
