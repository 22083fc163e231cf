//! How much a test does: less where each instruction is emulated.

/// True where `BPFSMITH_SLOW=1` says that this machine is some ten times slower than others.
///
/// `cargo xtask vm` sets it inside the machine that it emulates.
#[must_use]
pub fn is_slow() -> bool {
    std::env::var("BPFSMITH_SLOW").as_deref() == Ok("1")
}

/// How often a test repeats what shows only by repetition: `full` times, or a tenth of that on a
/// [slow](is_slow) machine, but once at least.
#[must_use]
pub fn rounds(full: u32) -> u32 {
    match is_slow() {
        true => tenth(full),
        false => full,
    }
}

fn tenth(full: u32) -> u32 {
    (full / 10).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_machine_does_a_tenth() {
        assert_eq!([1000, 19, 9, 1].map(tenth), [100, 1, 1, 1]);
    }
}
