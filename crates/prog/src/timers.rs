//! Memory for the timers that programs make.

use crate::{Outcome, Result};
use bpfsmith_uapi::Errno;

/// How often it is tried.
const TRIES: u32 = 100;

/// Runs a program that makes a timer and answers what `bpf_timer_init` answered, and runs it again while that is
/// `-ENOMEM`, a hundred times at most.
///
/// Linux 6.18 takes a timer's memory only from what the processor has at hand in pieces of its size, and gets no more
/// for it: when the last one is gone, no timer is made on that processor, however much memory is free, until
/// somebody else needs a piece of that size. On a machine where nobody does, that is about each twentieth timer. A pipe
/// is as large, and the kernel gets what it needs for one: then there is some for timers too, so one is opened and
/// closed before each new try.
///
/// # Errors
/// When the program cannot be run. If no pipe can be had, or memory really is short, the answer is `-ENOMEM` still.
///
/// # Example
/// ```no_run
/// # fn example(prog: &bpfsmith_prog::Prog) -> bpfsmith_prog::Result<()> {
/// let outcome = bpfsmith_prog::with_room_for_timers(|| prog.run().data(&[0; 64]).go())?;
/// assert_eq!(outcome.retval, 0);
/// # Ok(())
/// # }
/// ```
pub fn with_room_for_timers(mut run: impl FnMut() -> Result<Outcome>) -> Result<Outcome> {
    let short = Errno::ENOMEM.0.wrapping_neg();
    for _ in 1..TRIES {
        let outcome = run()?;
        if outcome.retval.cast_signed() != short || std::io::pipe().is_err() {
            return Ok(outcome);
        }
    }
    run()
}
