//! How much a test does: less where each instruction is emulated, all of it where somebody asks for that.

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

/// True where `BPFSMITH_LONG=1` asks for all that a test can do, which takes minutes, and not for the part that shows
/// the same most times.
#[must_use]
pub fn is_long() -> bool {
    std::env::var("BPFSMITH_LONG").as_deref() == Ok("1")
}

/// How often a test repeats what it takes minutes to do in full: `full` times if that [is asked for](is_long), or else
/// [as often](rounds) as `part` says.
#[must_use]
pub fn part(full: u32, part: u32) -> u32 {
    match is_long() {
        true => full,
        false => rounds(part),
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
