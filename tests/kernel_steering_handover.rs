//! The example that starts processes of its own. There is no harness around it: it runs this file again.

use bpfsmith_gate::needs;

#[expect(
    unreachable_pub,
    dead_code,
    reason = "an example is a program of its own"
)]
#[path = "../examples/steering_handover.rs"]
mod steering_handover;

fn main() {
    match steering_handover::act() {
        Some(done) => works(done),
        None => steering_handover(),
    }
}

fn steering_handover() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap, Bpffs);
    works(steering_handover::run());
    println!("test steering_handover ... ok");
}

/// Fails with the error's own words.
#[track_caller]
fn works(result: Result<(), Box<dyn std::error::Error>>) {
    if let Err(error) = result {
        panic!("{error}");
    }
}
