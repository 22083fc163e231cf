//! The daemon as people run it: the program itself, in a world of clients and backends.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod dns_rig;
mod rig;

#[path = "daemon/admin.rs"]
mod admin;
#[path = "daemon/change.rs"]
mod change;
#[path = "daemon/devices.rs"]
mod devices;
#[path = "daemon/file.rs"]
mod file;
#[path = "daemon/first.rs"]
mod first;
#[path = "daemon/health.rs"]
mod health;
#[path = "daemon/look.rs"]
mod look;
#[path = "daemon/names.rs"]
mod names;
#[path = "daemon/remembered.rs"]
mod remembered;
#[path = "daemon/restless.rs"]
mod restless;
#[path = "daemon/rights.rs"]
mod rights;
#[path = "daemon/told.rs"]
mod told;
#[path = "daemon/wrong.rs"]
mod wrong;
