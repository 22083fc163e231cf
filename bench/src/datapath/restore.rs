//! Putting a packet back as it was before the last run changed it, in both languages.

use super::packet::Frame;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::insn::ld_wide;
use bpfsmith_datapath::programs::Hook;
use std::fmt::Write as _;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Always the same.
    One,
    /// Each time another one: a number below this one, by chance, is put into the client's address.
    Any(u32),
}

/// What a program's prelude does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    pieces: Vec<Piece>,
    /// How many bytes the packet must have.
    least: i32,
    client: Option<(i32, u32, u32)>,
}

/// Bytes that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    at: i32,
    size: i32,
    /// As the machine has them.
    value: u64,
}

const fn data(hook: Hook) -> [Field; 2] {
    match hook {
        Hook::Xdp => [xdp_md::data, xdp_md::data_end],
        _ => [__sk_buff::data, __sk_buff::data_end],
    }
}

impl Restore {
    /// All that a program changes in such a packet.
    #[must_use]
    pub fn of(frame: &Frame, client: Client) -> Restore {
        let bytes = frame.bytes();
        let check = frame.check();
        let mut pieces = vec![
            Piece::of(bytes, 0, 8),
            Piece::of(bytes, 8, 4),
        ];
        let addresses = if frame.is_v4() {
            // The time to live with the protocol; the checksum.
            pieces.push(Piece::of(bytes, 22, 2));
            pieces.push(Piece::of(bytes, 24, 2));
            26
        } else {
            pieces.push(Piece::of(bytes, 20, 2));
            22
        };
        let client = match client {
            Client::One => None,
            Client::Any(count) => {
                let word = [26, 27, 28, 29].map(|at| bytes[at]);
                Some((addresses, u32::from_be_bytes(word), count))
            }
        };
        let skip = if client.is_some() { 4 } else { 0 };
        let mut at = addresses + skip;
        let end = frame.l4();
        while at < end {
            let size = if end - at >= 8 { 8 } else { 4 };
            pieces.push(Piece::of(bytes, at, size));
            at += size;
        }
        pieces.push(Piece::of(bytes, end, 4));
        pieces.push(Piece::of(bytes, check, 2));
        Restore {
            pieces,
            least: check + 2,
            client,
        }
    }

    /// For a generated program: the context is in R6.
    pub fn code(&self, hook: Hook) -> Code {
        const START: Reg = R2;
        let [start, end] = data(hook);
        let short = label("short");
        let to = |piece: &Piece| match piece.size {
            8 => START.u64(piece.at),
            4 => START.u32(piece.at),
            _ => START.u16(piece.at),
        };
        code![
            self.client.map(|(_, base, count)| code![
                get_prandom_u32(),
                mov(W0, W0),
                mul(R0, count.cast_signed()),
                rsh(R0, 32),
                or(W0, base.cast_signed()),
                to_be32(R0),
            ]),
            load(R3, R6.get(end)),
            load(START, R6.get(start)),
            mov(R4, START),
            add(R4, self.least),
            jgt(R4, R3, short),
            self.client.map(|(at, ..)| store(START.u32(at), R0)),
            each(self.pieces.iter().map(|piece| code![match piece.size {
                8 => code![
                    ld_wide(R1, Wide::Imm(piece.value)),
                    store(to(piece), R1)
                ],
                _ => code![store(
                    to(piece),
                    piece.value as u32 as i32
                )],
            },])),
            bind(short),
        ]
    }

    /// For a program in C: the context is `ctx`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        if let Some((_, base, count)) = self.client {
            let _ = writeln!(
                out,
                "u32 client = __builtin_bswap32((u32)((u64)prandom() * {count} >> 32) | {base:#x});"
            );
        }
        out.push_str("u8 *restored = (u8 *)(long)ctx->data;\n");
        let least = self.least;
        let _ = writeln!(
            out,
            "if (restored + {least} <= (u8 *)(long)ctx->data_end) {{"
        );
        if let Some((at, ..)) = self.client {
            let _ = writeln!(out, "U32(restored, {at}) = client;");
        }
        for Piece { at, size, value } in &self.pieces {
            let bits = 8 * size;
            let _ = writeln!(out, "U{bits}(restored, {at}) = {value:#x}ull;");
        }
        out.push_str("}\n");
        out
    }
}

impl Piece {
    fn of(bytes: &[u8], at: i32, size: i32) -> Piece {
        let mut value = [0; 8];
        let start = usize::try_from(at).expect("a place in the packet");
        let len = usize::try_from(size).expect("a few bytes");
        value[..len].copy_from_slice(&bytes[start..start + len]);
        Piece {
            at,
            size,
            value: u64::from_ne_bytes(value),
        }
    }
}
