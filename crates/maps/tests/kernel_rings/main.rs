//! Rings: programs write, we read, and the other way round; what arrived is compared byte by byte.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod fill;
mod perf;
mod ring;
mod set;
mod user;

use bpfsmith_maps::{PerfBuffer, Record, Reserved, RingBuf, RingSet, UserRing};

#[test]
fn readers_may_go_to_other_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<RingBuf>();
    send::<RingSet>();
    send::<UserRing>();
    send::<PerfBuffer>();
    send::<Record<'_>>();
    send::<Reserved<'_>>();
    sync::<RingBuf>();
    sync::<PerfBuffer>();
}
