//! Records of ring buffers, and memory that must start as zero.

use crate::dsl::*;

/// Writes a record of type `T` into a ring buffer: reserves it, makes all its bytes zero, runs `body`
/// and submits. `record` points to it in `body`; it is one of R6 to R9, which `body` keeps, and
/// `body` runs to its end, because the verifier wants the record back. If the buffer is full, only
/// `dropped` runs. Clobbers record and R0 to R5. Linux 5.8.
pub fn event<T>(
    map: &MapDef<(), ()>,
    record: Reg,
    body: impl Splice,
    dropped: Option<Code>,
) -> Code {
    let full = label("full");
    let submitted = label("submitted");
    code![
        ringbuf_reserve(map, bytes::<T>(), 0),
        jeq(R0, 0, full),
        mov(record, R0),
        zero::<T>(record),
        body,
        ringbuf_submit(record, 0),
        dropped.is_some().then(|| ja(submitted)),
        bind(full),
        dropped,
        bind(submitted),
    ]
}

/// Makes all bytes of the `T` at `place` zero, padding included, with stores as wide as the alignment
/// of `T`: eight bytes for a struct with a `u64`. Clobbers nothing.
pub fn zero<T>(place: impl Into<Place>) -> Code {
    let place = place.into();
    // The size of a Rust type is a multiple of its alignment: nothing is left over.
    let (width, word): (_, fn(Place, i32) -> Mem) = match align_of::<T>() {
        1 => (1, |place, at| place.u8(at)),
        2 => (2, |place, at| place.u16(at)),
        4 => (4, |place, at| place.u32(at)),
        _ => (8, |place, at| place.u64(at)),
    };
    let words = bytes::<T>() / width;
    code![(0..words).map(|n| store(word(place, n * width), 0))]
}

/// The size of a type that a program can fill.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "the size is compared with what an offset can reach first"
)]
const fn bytes<T>() -> i32 {
    const {
        assert!(
            size_of::<T>() <= i16::MAX as usize,
            "a record is at most 32767 bytes: an access reaches no further"
        );
    }
    size_of::<T>() as i32
}
