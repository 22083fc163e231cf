//! Proxies of TCP connections, each a process of its own, and what a client and a server see of them.

mod peers;
mod usage;
mod work;

pub use peers::{Kind, Running, serve};
pub use usage::{Machine, Usage};
pub use work::{Load, Shape, Workload, answer};

use std::env;
use std::net::SocketAddr;

/// What the environment variable is called that makes a process a proxy.
const ROLE: &str = "BPFSMITH_BENCH_RELAY";

/// Whether this process is to be a proxy; then it is one until its standard input ends.
///
/// # Panics
/// If the proxy cannot work.
#[must_use]
pub fn be_a_proxy() -> bool {
    let Ok(role) = env::var(ROLE) else {
        return false;
    };
    let mut words = role.split(' ');
    let mut word = || {
        words
            .next()
            .expect("a kind, where to listen, and where to connect")
    };
    let kind = Kind::named(word()).expect("the kind of a proxy");
    let address = |text: &str| -> SocketAddr { text.parse().expect("an address with a port") };
    serve(kind, address(word()), address(word()));
    true
}
