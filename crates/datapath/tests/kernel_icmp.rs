//! ICMP errors, fragments and VLAN tags, packet by packet at both hooks.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod packets {
    pub(crate) mod row;
    pub(crate) mod stage;
    pub(crate) mod talk;

    mod errors;
    mod fragments;
    mod tagged;
    mod told;
}
mod support;
