//! What somebody would try who wants the proxy to be wrong.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod packets {
    #![allow(dead_code, reason = "a part of it is used")]
    pub(crate) mod row;
    pub(crate) mod stage;
    pub(crate) mod talk;
}
#[path = "life/age.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod age;
#[path = "life/rig.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod rig;
mod support;

#[path = "attack/change.rs"]
mod change;
#[path = "attack/config.rs"]
mod config;
#[path = "attack/flows.rs"]
mod flows;
#[path = "attack/torn.rs"]
mod torn;
#[path = "attack/wire.rs"]
mod wire;
