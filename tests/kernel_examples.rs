//! Every example and chapter that needs a kernel runs on this one, and finds the effect it speaks of.

use bpfsmith_gate::needs;
use std::error::Error;

/// Takes an example or a chapter in as a module.
macro_rules! file {
    ($name:ident, $file:literal) => {
        #[expect(
            unreachable_pub,
            dead_code,
            reason = "an example is a program of its own"
        )]
        #[path = $file]
        mod $name;
    };
}

file!(packet_histogram, "../examples/packet_histogram.rs");
file!(xdp_drop_counter, "../examples/xdp_drop_counter.rs");

/// Fails with the error's own words.
#[track_caller]
fn works(result: Result<(), Box<dyn Error>>) {
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn xdp_drop_counter() {
    needs!(Root, NetNs, Veth, XdpLink);
    works(xdp_drop_counter::run());
}

#[test]
fn packet_histogram() {
    needs!(Root, NetNs, Veth, XdpLink);
    works(packet_histogram::run());
}
