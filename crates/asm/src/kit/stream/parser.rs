//! Parsers: where messages end in what a socket receives.
//!
//! A parser sees the bytes from some place in the stream on, and that is not where the next message
//! starts: several messages may have come in one segment. How far in front of it the buffer begins
//! stands in a note that only programs with the kernel's own context read.

use crate::dsl::*;

/// The bytes that a length takes, and their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Length {
    /// One byte.
    U8,
    /// Two bytes, in network order.
    Be16,
    /// Two bytes, the least first.
    Le16,
    /// Four bytes, in network order.
    Be32,
    /// Four bytes, the least first.
    Le32,
}

impl Length {
    const fn size(self) -> i32 {
        match self {
            Length::U8 => 1,
            Length::Be16 | Length::Le16 => 2,
            Length::Be32 | Length::Le32 => 4,
        }
    }

    /// `to` becomes the number.
    fn load(self, to: Reg, from: Slot) -> Code {
        match self {
            Length::U8 => code![load(to, from.u8(0))],
            Length::Be16 => code![load(to, from.u16(0)), to_be16(to)],
            Length::Le16 => code![load(to, from.u16(0)), to_le16(to)],
            Length::Be32 => code![load(to, from.u32(0)), to_be32(to)],
            Length::Le32 => code![load(to, from.u32(0)), to_le32(to)],
        }
    }
}

/// What a length counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counts {
    /// What stands behind it.
    Rest,
    /// The message from its first byte on, itself included.
    Whole,
}

/// How a message tells its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// How many bytes stand before the length.
    pub at: u8,
    /// The length.
    pub length: Length,
    /// What it counts.
    pub counts: Counts,
    /// How long a whole message may be. The kernel refuses what is longer than the receive buffer.
    pub most: u16,
}

/// `from` becomes the place where the message starts in the buffer; `skb` is one of R6 to R9.
/// Clobbers R0 to R5. Linux 6.2.
fn start(skb: Reg, from: Reg) -> Code {
    code![
        mov(R1, skb),
        call_kfunc("bpf_cast_to_kern_ctx"),
        load(
            from,
            R0.to(kernel("sk_buff.cb"))
                .get(kernel("sk_skb_cb.strp.strp.offset"))
        ),
    ]
}

/// For a verdict behind a parser: `first` becomes the place where the message that it judges begins in
/// the buffer, for `skb_load_bytes`, and `length` how many bytes it has. The context's `len` counts the
/// whole segment that the message came in, with others before and after it.
///
/// `skb` is one of R6 to R9, `first` and `length` are none of R0, R1 and each other. Clobbers R0 to R5.
/// Linux 6.2.
pub fn message(skb: Reg, first: Reg, length: Reg) -> Code {
    code![
        start(skb, first),
        load(
            length,
            R0.to(kernel("sk_buff.cb"))
                .get(kernel("sk_skb_cb.strp.strp.full_len"))
        ),
    ]
}

/// The parser of streams without messages: whatever arrived is one. `skb` is the context of an
/// `SK_SKB` parser, in one of R6 to R9. Ends the program.
///
/// Before Linux 6.2, bytes of a segment that was read in part before the socket entered the map wait
/// for as many more as were read. A verdict without a parser has no such trouble, from Linux 5.13 on.
pub fn parser_whole(skb: Reg) -> Code {
    code![
        mov(R2, 0),
        mov(R1, kfunc("bpf_cast_to_kern_ctx").exists()),
        R1.ne(0).then(start(skb, R2)),
        load(R0, skb.get(__sk_buff::len)),
        sub(R0, R2),
        exit(),
    ]
}

/// The parser of streams whose messages begin with their length. `skb` is the context of an `SK_SKB`
/// parser, in one of R6 to R9. Ends the program. Linux 6.2.
///
/// A message that is longer than it may be is refused with `EMSGSIZE`, and a length that does not
/// even count its own bytes with `EBADMSG`: the owner of the socket reads that error, and what came
/// before the bad message has gone where the verdict sent it.
pub fn parser_length_prefixed(skb: Reg, prefix: Prefix) -> Code {
    let Prefix {
        at,
        length,
        counts,
        most,
    } = prefix;
    let header = i32::from(at) + length.size();
    let (number, more) = (slot::<u32>("length"), label("more"));
    code![
        start(skb, R2),
        load(R1, skb.get(__sk_buff::len)),
        sub(R1, R2),
        jlt(R1, header, more),
        add(R2, i32::from(at)),
        skb_load_bytes(skb, R2, number, length.size()),
        jne(R0, 0, more),
        length.load(R1, number),
        match counts {
            Counts::Rest => code![add(R1, header)],
            Counts::Whole => code![R1.lt(header).then(ret(-Errno::EBADMSG.0))],
        },
        R1.gt(i32::from(most)).then(ret(-Errno::EMSGSIZE.0)),
        mov(R0, R1),
        exit(),
        bind(more),
        ret(0),
    ]
}
