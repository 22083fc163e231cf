//! What this machine has of what tests need.

use bpfsmith_gate::{Need, State, release};

fn main() {
    println!("Linux {}", release());
    for need in Need::ALL {
        let (sign, why) = match need.state() {
            State::Here => ("yes", String::new()),
            State::Explained(why) => ("no", why),
            State::Missing(why) => ("MISSING", format!("{why} ({})", need.hint())),
        };
        println!("{need:16} {:>6}  {sign:8}{why}", need.since().to_string());
    }
}
