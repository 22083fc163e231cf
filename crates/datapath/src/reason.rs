//! What became of packets, as counters.

macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident = $text:literal,)+) => {
        /// What became of a packet. Each has a counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])+ $name,)+
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),+];

            /// How many there are.
            #[expect(clippy::cast_possible_truncation, reason = "there are a few dozen")]
            pub const COUNT: u32 = Reason::ALL.len() as u32;

            /// Its name in listings.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$name => $text,)+
                }
            }

            /// Its place among the counters.
            #[must_use]
            pub const fn number(self) -> u32 {
                self as u32
            }
        }
    };
}

reasons! {
    /// Sent on by an established flow.
    Forwarded = "forwarded",
    /// It opened a flow.
    Opened = "opened",
    /// The first answer to its flow.
    Answered = "answered",
    /// Passed: neither IPv4 nor IPv6, as far as listeners need them.
    OtherProtocol = "other protocol",
    /// Passed: neither TCP nor UDP.
    OtherTransport = "other transport",
    /// Passed: it ends before its headers do, or they contradict themselves.
    Malformed = "malformed",
    /// Passed: a fragment that is not looked into.
    Fragment = "fragment",
    /// Passed or dropped: a fragment of a packet whose first fragment has not come.
    LostFragment = "lost fragment",
    /// Passed: no flow and no listener has it.
    NotOurs = "not ours",
    /// Passed or dropped: TCP in the middle of a connection that nobody knows.
    MidStream = "mid-stream",
    /// Dropped: its group has no backend.
    NoBackend = "no backend",
    /// Dropped: no tuple is left for it on the way to its backend.
    NoPort = "no port",
    /// Dropped: nothing leads to its next hop.
    NoRoute = "no route",
    /// Passed to the next program or the kernel: its next hop is not known yet.
    NoNeighbour = "no neighbour",
    /// Dropped: its time to live is over. Its sender is told.
    Expired = "expired",
    /// Dropped: longer than the next hop takes. Its sender is told.
    TooBig = "too big",
    /// One of these, but its sender could not be told.
    Untold = "untold",
    /// Sent on: an ICMP error about a packet of a flow.
    IcmpError = "icmp error",
    /// Passed: an ICMP error that does not say which flow it is about.
    OddError = "odd icmp error",
    /// Dropped: there is no room for its flow.
    Full = "table full",
    /// It opened a flow, and the oldest one nearby that nobody answered made room.
    MadeRoom = "made room",
    /// Dropped: its flow has ended, and another CPU is taking it out just now.
    Leaving = "leaving",
    /// Dropped: its source began too many flows.
    SourceLimit = "source limit",
    /// Dropped: too many flows began at its listener.
    ListenerLimit = "listener limit",
    /// Something about a flow was not told: nobody reads the ring fast enough.
    EventLost = "event lost",
    /// Passed to this machine's own sockets, with the backend's address.
    ToOwnSocket = "to own socket",
    /// Answered by the proxy itself, with a cookie: too many flows began at its listener.
    CookieSent = "cookie sent",
    /// It brought a cookie back, and became what begins its connection at a backend.
    CookieTaken = "cookie taken",
    /// Answered by the proxy itself: a backend accepted a connection that its client has already.
    CookieAnswered = "cookie answered",
    /// Dropped: of a connection by cookie whose backend has not answered yet.
    CookieEarly = "cookie early",
    /// Dropped: of a connection by cookie, by whose numbers it cannot be shifted, or no room is in it for
    /// what it should become.
    CookieLost = "cookie lost",
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn numbers_are_places() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(u32::try_from(place).unwrap(), reason.number());
        }
    }
}
