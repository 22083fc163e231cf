//! Connections by cookie, packet by packet at both hooks.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod packets {
    pub(crate) mod row;
    pub(crate) mod stage;
    mod taken;
    pub(crate) mod talk;

    mod cookies;
    mod cookies_end;
}
mod support;
