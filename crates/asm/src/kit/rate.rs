//! Rate limits.

use crate::dsl::*;

/// What a map holds for one token bucket: two words, for [`TOKENS`] and [`LAST`]. All zero is a bucket
/// that is full when it is first used.
pub type Bucket = [u64; 2];

/// Offset of the tokens, in billionths.
pub const TOKENS: i32 = 0;
/// Offset of the time, in nanoseconds, at which the tokens were counted.
pub const LAST: i32 = 8;

/// How much is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back in a second.
    pub per_second: u32,
    /// Tokens of a full bucket.
    pub burst: u32,
}

/// The clock of a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// `ktime_get_ns`.
    Exact,
    /// `ktime_get_coarse_ns`: cheaper, and goes on in steps of milliseconds. Linux 5.11.
    Coarse,
}

/// Nanoseconds of a second, and billionths of a token.
const BILLION: i32 = 1_000_000_000;

/// Takes one token from the [`Bucket`] that the register `bucket` (one of R6 to R9) points to; jumps
/// to `over` if there is none. Exact to the nanosecond: fractions of tokens are kept. Two CPUs that
/// use one bucket at the same time may let one packet too many through: use a per-CPU map, or live
/// with it. Reads bucket; clobbers R0 to R5.
pub fn token_bucket(bucket: Reg, rate: Rate, clock: Clock, over: Label) -> Code {
    let full = u64::from(rate.burst) * u64::from(BILLION.unsigned_abs());
    // After so many nanoseconds any bucket is full; more would only overflow.
    let longest = full.div_ceil(u64::from(rate.per_second).max(1));
    let enough = label("enough");
    code![
        match clock {
            Clock::Exact => ktime_get_ns(),
            Clock::Coarse => ktime_get_coarse_ns(),
        },
        load(R1, bucket.u64(LAST)),
        load(R2, bucket.u64(TOKENS)),
        mov(R3, R0),
        sub(R3, R1),
        // Another CPU may have read the clock later and stored earlier: no time has passed.
        R3.sgt(0).then(code![
            store(bucket.u64(LAST), R0),
            lddw(R4, longest),
            R3.gt(R4).then(mov(R3, R4)),
            lddw(R4, rate.per_second.into()),
            mul(R3, R4),
            add(R2, R3),
            lddw(R4, full),
            R2.gt(R4).then(mov(R2, R4)),
        ]),
        jge(R2, BILLION, enough),
        store(bucket.u64(TOKENS), R2),
        ja(over),
        bind(enough),
        sub(R2, BILLION),
        store(bucket.u64(TOKENS), R2),
    ]
}
