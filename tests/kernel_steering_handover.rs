//! The example that starts processes of its own. There is no harness around it: it runs this file again.

#[macro_use]
mod programs;

use bpfsmith_gate::needs;
use programs::works;

program!(steering_handover, "../examples/steering_handover.rs");

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
