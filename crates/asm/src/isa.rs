//! The instruction set: one table row per operation, and the eight bytes that carry it.
//!
//! [`Raw`] is what the kernel reads, [`Op`] is what it means. The tables below are the only place
//! where an opcode bit or a symbol is written; encoder, decoder, printer, parser and the DSL's
//! constructors are expanded from them.

pub use bpfsmith_uapi::Order;
use std::fmt;

/// One instruction slot: eight bytes, not yet judged.
///
/// In memory it is what a machine of the host's order reads, but for the order of the nibbles in
/// `regs`: reading and writing little-endian bytes is a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Raw {
    /// Class, source bit and operation.
    pub code: u8,
    /// Destination register in the low nibble, source register in the high one.
    pub regs: u8,
    /// Jump or memory offset, or a variant of the operation.
    pub off: i16,
    /// Constant, jump distance, helper id, …
    pub imm: i32,
}

impl Raw {
    /// A slot from its parts.
    #[inline]
    #[must_use]
    pub const fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Raw {
        Raw {
            code,
            regs: (dst & 15) | (src << 4),
            off,
            imm,
        }
    }

    /// The destination register's number, 0 to 15.
    #[inline]
    #[must_use]
    pub const fn dst(self) -> u8 {
        self.regs & 15
    }

    /// The source register's number, 0 to 15.
    #[inline]
    #[must_use]
    pub const fn src(self) -> u8 {
        self.regs >> 4
    }

    /// The bytes that a machine of the given order reads.
    #[inline]
    #[must_use]
    pub const fn to_bytes(self, order: Order) -> [u8; 8] {
        let (regs, off, imm) = match order {
            Order::Little => (self.regs, self.off.to_le_bytes(), self.imm.to_le_bytes()),
            Order::Big => (
                self.regs.rotate_left(4),
                self.off.to_be_bytes(),
                self.imm.to_be_bytes(),
            ),
        };
        [
            self.code, regs, off[0], off[1], imm[0], imm[1], imm[2], imm[3],
        ]
    }

    /// The slot in eight bytes of the given order.
    #[inline]
    #[must_use]
    pub const fn from_bytes(b: [u8; 8], order: Order) -> Raw {
        match order {
            // One load and one store: this is the inner loop of decoding.
            Order::Little => Raw::from_word(u64::from_le_bytes(b)),
            Order::Big => Raw {
                code: b[0],
                regs: b[1].rotate_left(4),
                off: i16::from_be_bytes([b[2], b[3]]),
                imm: i32::from_be_bytes([b[4], b[5], b[6], b[7]]),
            },
        }
    }

    /// The slot as one number: code, registers, off and imm from the lowest byte up.
    #[inline]
    pub(crate) const fn to_word(self) -> u64 {
        u64::from_le_bytes(self.to_bytes(Order::Little))
    }

    #[inline]
    const fn from_word(word: u64) -> Raw {
        Raw {
            code: (word & 0xff) as u8,
            regs: (word >> 8 & 0xff) as u8,
            off: ((word >> 16 & 0xffff) as u16).cast_signed(),
            imm: ((word >> 32) as u32).cast_signed(),
        }
    }

    /// True for the first slot of a two-slot `lddw`.
    #[inline]
    #[must_use]
    pub const fn is_wide(self) -> bool {
        self.code == class::LDDW
    }
}

/// The bits that an opcode byte is made of.
pub(crate) mod class {
    pub(crate) const LD: u8 = 0x00;
    pub(crate) const LDX: u8 = 0x01;
    pub(crate) const ST: u8 = 0x02;
    pub(crate) const STX: u8 = 0x03;
    pub(crate) const ALU: u8 = 0x04;
    pub(crate) const JMP: u8 = 0x05;
    pub(crate) const JMP32: u8 = 0x06;
    pub(crate) const ALU64: u8 = 0x07;

    /// The operand is a register.
    pub(crate) const X: u8 = 0x08;

    pub(crate) const ABS: u8 = 0x20;
    pub(crate) const IND: u8 = 0x40;
    pub(crate) const MEM: u8 = 0x60;
    pub(crate) const MEMSX: u8 = 0x80;
    pub(crate) const ATOMIC: u8 = 0xc0;

    pub(crate) const NEG: u8 = 0x80;
    pub(crate) const MOV: u8 = 0xb0;
    pub(crate) const END: u8 = 0xd0;

    /// Load a 64-bit constant: the one instruction of two slots.
    pub(crate) const LDDW: u8 = 0x18;
    pub(crate) const JA: u8 = JMP;
    /// `gotol`: the distance is in the 32-bit constant.
    pub(crate) const JA32: u8 = JMP32;
    pub(crate) const CALL: u8 = JMP | 0x80;
    pub(crate) const EXIT: u8 = JMP | 0x90;
    pub(crate) const MAY_GOTO: u8 = JMP | 0xe0;

    /// The `off` of an address space cast, a variant of `mov`.
    pub(crate) const CAST: i16 = 1;
    /// The source register's place says what a call calls.
    pub(crate) const CALL_HELPER: u8 = 0;
    pub(crate) const CALL_LOCAL: u8 = 1;
    pub(crate) const CALL_KFUNC: u8 = 2;
    /// The atomic constants that are loads and stores.
    pub(crate) const LOAD_ACQUIRE: i32 = 0x100;
    pub(crate) const STORE_RELEASE: i32 = 0x110;
}

/// A register by number: `r0` to `r10`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(pub(crate) u8);

impl Reg {
    /// The register with that number. A number above 10 is reported when the program is built.
    #[must_use]
    pub const fn n(number: u8) -> Reg {
        // Four bits of an instruction hold it: 15 stands for all that do not fit.
        Reg(if number > 15 { 15 } else { number })
    }

    /// The register's number.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl fmt::Debug for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{}", self.0)
    }
}

/// How many bytes a memory access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Size {
    /// One byte.
    B,
    /// Two bytes.
    H,
    /// Four bytes.
    W,
    /// Eight bytes.
    DW,
}

impl Size {
    /// All of them, smallest first.
    pub const ALL: [Size; 4] = [Size::B, Size::H, Size::W, Size::DW];

    /// The number of bytes.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> u8 {
        match self {
            Size::B => 1,
            Size::H => 2,
            Size::W => 4,
            Size::DW => 8,
        }
    }

    #[inline]
    pub(crate) const fn bits(self) -> u8 {
        match self {
            Size::W => 0x00,
            Size::H => 0x08,
            Size::B => 0x10,
            Size::DW => 0x18,
        }
    }

    #[inline]
    pub(crate) const fn of_code(code: u8) -> Size {
        match code & 0x18 {
            0x00 => Size::W,
            0x08 => Size::H,
            0x10 => Size::B,
            _ => Size::DW,
        }
    }
}

/// How much of a register an operation works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bits {
    /// The low 32 bits; the high ones become zero when the register is written.
    B32,
    /// All 64 bits.
    B64,
}

/// The second operand of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Src {
    /// A register.
    Reg(Reg),
    /// A constant, sign-extended to the operation's width.
    Imm(i32),
}

/// Arithmetic: `bits / off  Name  function  symbol`. Calls `$then!` with one row per operation.
macro_rules! for_each_alu {
    ($then:path) => {
        $then! {
            /// Adds.
            Add    = 0x00 / 0,  add,    "+=",      both;
            /// Subtracts.
            Sub    = 0x10 / 0,  sub,    "-=",      both;
            /// Multiplies.
            Mul    = 0x20 / 0,  mul,    "*=",      both;
            /// Divides, unsigned; by zero gives zero.
            Div    = 0x30 / 0,  div,    "/=",      both;
            /// Divides, signed; by zero gives zero. Linux 6.6.
            SDiv   = 0x30 / 1,  sdiv,   "s/=",     both;
            /// Sets the bits that either has.
            Or     = 0x40 / 0,  or,     "|=",      both;
            /// Keeps the bits that both have.
            And    = 0x50 / 0,  and,    "&=",      both;
            /// Shifts left.
            Lsh    = 0x60 / 0,  lsh,    "<<=",     both;
            /// Shifts right, filling with zeros.
            Rsh    = 0x70 / 0,  rsh,    ">>=",     both;
            /// Remainder, unsigned; by zero leaves the destination.
            Mod    = 0x90 / 0,  rem,    "%=",      both;
            /// Remainder, signed; by zero leaves the destination. Linux 6.6.
            SMod   = 0x90 / 1,  srem,   "s%=",     both;
            /// Flips the bits that the operand has.
            Xor    = 0xa0 / 0,  xor,    "^=",      both;
            /// Copies.
            Mov    = 0xb0 / 0,  mov,    "=",       both;
            /// Copies the low byte, sign-extended. Linux 6.6.
            MovSx8 = 0xb0 / 8,  movsx8, "= (s8)",  reg;
            /// Copies the low two bytes, sign-extended. Linux 6.6.
            MovSx16 = 0xb0 / 16, movsx16, "= (s16)", reg;
            /// Copies the low four bytes, sign-extended to eight. Linux 6.6.
            MovSx32 = 0xb0 / 32, movsx32, "= (s32)", reg64;
            /// Shifts right, filling with the sign.
            Arsh   = 0xc0 / 0,  arsh,   "s>>=",    both;
        }
    };
}
pub(crate) use for_each_alu;

/// Conditional jumps: `bits  Name  inverse  function  method  symbol`.
macro_rules! for_each_jump {
    ($then:path) => {
        $then! {
            /// Equal.
            Eq  = 0x10, Some(Ne),  jeq,  eq,  "==";
            /// Greater, unsigned.
            Gt  = 0x20, Some(Le),  jgt,  gt,  ">";
            /// Greater or equal, unsigned.
            Ge  = 0x30, Some(Lt),  jge,  ge,  ">=";
            /// Shares a bit; the only one without an inverse.
            Set = 0x40, None,      jset, has, "&";
            /// Not equal.
            Ne  = 0x50, Some(Eq),  jne,  ne,  "!=";
            /// Greater, signed.
            SGt = 0x60, Some(SLe), jsgt, sgt, "s>";
            /// Greater or equal, signed.
            SGe = 0x70, Some(SLt), jsge, sge, "s>=";
            /// Less, unsigned.
            Lt  = 0xa0, Some(Ge),  jlt,  lt,  "<";
            /// Less or equal, unsigned.
            Le  = 0xb0, Some(Gt),  jle,  le,  "<=";
            /// Less, signed.
            SLt = 0xc0, Some(SGe), jslt, slt, "s<";
            /// Less or equal, signed.
            SLe = 0xd0, Some(SGt), jsle, sle, "s<=";
        }
    };
}
pub(crate) use for_each_jump;

/// Atomic read-modify-write: `imm  Name  function`, then how the kernel's text starts and, for the
/// forms without a result, the symbol between memory and register.
macro_rules! for_each_atomic {
    ($then:path) => {
        $then! {
            /// Adds to memory.
            Add      = 0x00, atomic_add, "+=";
            /// Sets bits in memory.
            Or       = 0x40, atomic_or,  "|=";
            /// Clears bits in memory.
            And      = 0x50, atomic_and, "&=";
            /// Flips bits in memory.
            Xor      = 0xa0, atomic_xor, "^=";
            /// Adds to memory; the register receives what was there.
            FetchAdd = 0x01, fetch_add,  "fetch_add";
            /// Sets bits in memory; the register receives what was there.
            FetchOr  = 0x41, fetch_or,   "fetch_or";
            /// Clears bits in memory; the register receives what was there.
            FetchAnd = 0x51, fetch_and,  "fetch_and";
            /// Flips bits in memory; the register receives what was there.
            FetchXor = 0xa1, fetch_xor,  "fetch_xor";
            /// Swaps memory and register.
            Xchg     = 0xe1, xchg,       "xchg";
            /// Stores the register if memory equals R0; R0 receives what was there.
            CmpXchg  = 0xf1, cmpxchg,    "cmpxchg";
        }
    };
}
pub(crate) use for_each_atomic;

/// Constants of 64 bits: `source  Name(fields)`: what the two `imm` fields mean.
macro_rules! define_alu {
    ($($(#[$doc:meta])* $name:ident = $bits:literal / $off:literal, $f:ident, $symbol:literal, $forms:ident;)*) => {
        /// An arithmetic operation with two operands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Alu { $($(#[$doc])* $name,)* }

        impl Alu {
            /// All of them.
            pub const ALL: &[Alu] = &[$(Alu::$name,)*];

            /// The opcode bits and the `off` field.
            #[inline]
            #[must_use]
            pub const fn bits(self) -> (u8, i16) {
                match self { $(Alu::$name => ($bits, $off),)* }
            }

            /// The kernel's symbol, such as `+=` or `= (s8)`.
            #[inline]
            #[must_use]
            pub const fn symbol(self) -> &'static str {
                match self { $(Alu::$name => $symbol,)* }
            }

            #[inline]
            const fn from_bits(bits: u8, off: i16) -> Option<Alu> {
                $(if bits == $bits && off == $off { return Some(Alu::$name); })*
                None
            }

            /// True if the operation exists with a constant operand.
            #[must_use]
            pub const fn takes_imm(self) -> bool {
                !matches!(self, Alu::MovSx8 | Alu::MovSx16 | Alu::MovSx32)
            }

            /// True if the operation exists at this width.
            #[must_use]
            pub const fn has(self, bits: Bits) -> bool {
                !matches!((self, bits), (Alu::MovSx32, Bits::B32))
            }

            /// True for operations that do not read their destination.
            #[must_use]
            pub const fn is_move(self) -> bool {
                self.bits().0 == class::MOV
            }
        }
    };
}
for_each_alu!(define_alu);

macro_rules! define_jump {
    ($($(#[$doc:meta])* $name:ident = $bits:literal, $inverse:expr, $f:ident, $m:ident, $symbol:literal;)*) => {
        /// A comparison that a conditional jump makes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Jmp { $($(#[$doc])* $name,)* }

        impl Jmp {
            /// All of them.
            pub const ALL: &[Jmp] = &[$(Jmp::$name,)*];

            /// The opcode bits.
            #[inline]
            #[must_use]
            pub const fn bits(self) -> u8 {
                match self { $(Jmp::$name => $bits,)* }
            }

            /// The kernel's symbol, such as `s>=`.
            #[inline]
            #[must_use]
            pub const fn symbol(self) -> &'static str {
                match self { $(Jmp::$name => $symbol,)* }
            }

            /// The comparison that is true when this one is false; `Set` has none.
            #[must_use]
            pub const fn inverse(self) -> Option<Jmp> {
                use Jmp::*;
                match self { $(Jmp::$name => $inverse,)* }
            }

            /// The comparison of a conditional jump's opcode.
            #[must_use]
            pub const fn of_code(code: u8) -> Option<Jmp> {
                match code & 7 {
                    class::JMP | class::JMP32 => Jmp::from_bits(code & 0xf0),
                    _ => None,
                }
            }

            #[inline]
            const fn from_bits(bits: u8) -> Option<Jmp> {
                match bits { $($bits => Some(Jmp::$name),)* _ => None }
            }
        }
    };
}
for_each_jump!(define_jump);

macro_rules! define_atomic {
    ($($(#[$doc:meta])* $name:ident = $imm:literal, $f:ident, $text:literal;)*) => {
        /// An atomic read-modify-write of memory.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum AtomicOp { $($(#[$doc])* $name,)* }

        impl AtomicOp {
            /// All of them.
            pub const ALL: &[AtomicOp] = &[$(AtomicOp::$name,)*];

            /// The constant that selects it.
            #[inline]
            #[must_use]
            pub const fn imm(self) -> i32 {
                match self { $(AtomicOp::$name => $imm,)* }
            }

            /// The symbol (`+=`) of a plain form, the name (`fetch_add`) of a fetching one.
            #[inline]
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(AtomicOp::$name => $text,)* }
            }

            /// True if the old value comes back in a register.
            #[must_use]
            pub const fn fetches(self) -> bool {
                self.imm() & 1 != 0
            }

            #[inline]
            pub(crate) const fn from_imm(imm: i32) -> Option<AtomicOp> {
                match imm { $($imm => Some(AtomicOp::$name),)* _ => None }
            }
        }
    };
}
for_each_atomic!(define_atomic);

/// What a byte swap does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Swap {
    /// To little-endian: swaps on a big-endian machine, else only truncates.
    Le,
    /// To big-endian: swaps on a little-endian machine, else only truncates.
    Be,
    /// Always swaps. Linux 6.6.
    Always,
}

/// Where a 64-bit constant comes from: the source register's place of `lddw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wide {
    /// The number itself.
    Imm(u64),
    /// The map with this fd.
    MapFd(i32),
    /// The value of the one-element map with this fd, plus an offset. Linux 5.2.
    MapValue(i32, i32),
    /// The address of a kernel variable: BTF id, and fd of its module's BTF or 0. Linux 5.10.
    BtfId(i32, i32),
    /// The address of a function in this program, as a distance in slots. Linux 5.13.
    Func(i32),
    /// The map at this index of the fd array. Linux 5.14.
    MapIdx(i32),
    /// The value of the map at this index of the fd array, plus an offset. Linux 5.14.
    MapIdxValue(i32, i32),
}

impl Wide {
    /// The pseudo source register and the two `imm` fields.
    #[inline]
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "the constant is split into its halves"
    )]
    pub const fn parts(self) -> (u8, i32, i32) {
        match self {
            Wide::Imm(v) => (0, v as u32 as i32, (v >> 32) as u32 as i32),
            Wide::MapFd(fd) => (1, fd, 0),
            Wide::MapValue(fd, off) => (2, fd, off),
            Wide::BtfId(id, fd) => (3, id, fd),
            Wide::Func(distance) => (4, distance, 0),
            Wide::MapIdx(index) => (5, index, 0),
            Wide::MapIdxValue(index, off) => (6, index, off),
        }
    }

    #[inline]
    #[expect(clippy::cast_sign_loss, reason = "the halves are joined bit for bit")]
    fn from_parts(src: u8, low: i32, high: i32) -> Result<Wide, Refused> {
        let one_half = if high == 0 {
            Ok(())
        } else {
            Err(Refused::Reserved("imm of slot two"))
        };
        Ok(match src {
            0 => Wide::Imm(u64::from(low as u32) | u64::from(high as u32) << 32),
            1 => one_half.map(|()| Wide::MapFd(low))?,
            2 => Wide::MapValue(low, high),
            3 => Wide::BtfId(low, high),
            4 => one_half.map(|()| Wide::Func(low))?,
            5 => one_half.map(|()| Wide::MapIdx(low))?,
            6 => Wide::MapIdxValue(low, high),
            n => return Err(Refused::WideSource(n)),
        })
    }
}

/// What a call calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Callee {
    /// A helper, by id.
    Helper(i32),
    /// A function of this program, by distance in slots from the next instruction.
    Local(i32),
    /// A kernel function: BTF id, and index of its module's BTF in the fd array or 0.
    Kfunc(i32, i16),
}

/// One instruction, typed. Two slots for [`Op::Wide`], one for all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `r1 += r2`, `w1 = 5`, `r1 = (s8)r2`.
    Alu(Alu, Bits, Reg, Src),
    /// `r1 = -r1`.
    Neg(Bits, Reg),
    /// `r1 = be16 r1`: what, to how many bits (16, 32, 64).
    Swap(Swap, u8, Reg),
    /// `r1 = addr_space_cast(r2, 0, 1)`: destination, source, spaces in one constant. Linux 6.9.
    Cast(Reg, Reg, i32),
    /// `r1 = *(u32 *)(r2 + 4)`: size, destination, base, offset.
    Load(Size, Reg, Reg, i16),
    /// `r1 = *(s32 *)(r2 + 4)`: sign-extended; not for eight bytes. Linux 6.6.
    LoadSx(Size, Reg, Reg, i16),
    /// `*(u32 *)(r1 + 4) = r2`: size, base, offset, what.
    Store(Size, Reg, i16, Src),
    /// `lock *(u64 *)(r1 + 0) += r2`: four or eight bytes; base, offset, register.
    Atomic(AtomicOp, Size, Reg, i16, Reg),
    /// `r1 = load_acquire((u64 *)(r2 + 0))`. Linux 6.15.
    LoadAcquire(Size, Reg, Reg, i16),
    /// `store_release((u64 *)(r1 + 0), r2)`: size, base, offset, register. Linux 6.15.
    StoreRelease(Size, Reg, i16, Reg),
    /// `r0 = *(u16 *)skb[12]`: packet access of old; one to four bytes.
    LoadAbs(Size, i32),
    /// `r0 = *(u16 *)skb[r2 + 12]`: the same, relative to a register.
    LoadInd(Size, Reg, i32),
    /// `r1 = 0x1122334455667788 ll`.
    Wide(Reg, Wide),
    /// `goto +5`.
    Ja(i16),
    /// `gotol +70000`. Linux 6.6.
    JaLong(i32),
    /// `may_goto +5`: falls through until the kernel's budget is used up. Linux 6.9.
    MayGoto(i16),
    /// `if r1 == 5 goto +3`.
    Jump(Jmp, Bits, Reg, Src, i16),
    /// `call 1`.
    Call(Callee),
    /// `exit`.
    Exit,
}

/// Why eight bytes are no instruction.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// No such operation.
    Opcode(u8),
    /// A register above r10.
    Register(u8),
    /// A field that this operation does not use is not zero.
    Reserved(&'static str),
    /// A byte swap to a width other than 16, 32 or 64.
    SwapWidth(i32),
    /// An atomic operation that does not exist.
    AtomicOp(i32),
    /// A call of something that does not exist.
    CallSource(u8),
    /// A 64-bit constant from a source that does not exist.
    WideSource(u8),
    /// The second slot of a 64-bit constant is missing.
    WideCut,
    /// The second slot of a 64-bit constant holds something else.
    WideSecond,
    /// The bytes do not come in groups of eight.
    Length(usize),
}

bpfsmith_uapi::debug_as_display!(Refused);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Opcode(code) => write!(f, "opcode {code:#04x} is no BPF instruction"),
            Refused::Register(n) => write!(f, "r{n} is no register: BPF has r0 to r10"),
            Refused::Reserved(field) => {
                write!(
                    f,
                    "{field} must be zero here: this instruction does not use it"
                )
            }
            Refused::SwapWidth(n) => write!(f, "a byte swap to {n} bits: use 16, 32 or 64"),
            Refused::AtomicOp(imm) => write!(f, "imm {imm:#x} is no atomic operation"),
            Refused::CallSource(n) => {
                write!(
                    f,
                    "src {n} is no kind of call: use 0 (helper), 1 (local), 2 (kfunc)"
                )
            }
            Refused::WideSource(n) => {
                write!(f, "src {n} is no source of a 64-bit constant: use 0 to 6")
            }
            Refused::WideCut => f.write_str("the second half of lddw is missing: append its slot"),
            Refused::WideSecond => {
                f.write_str("lddw is followed by a slot that is not its second half")
            }
            Refused::Length(n) => {
                write!(f, "{n} bytes left over: instructions are 8 bytes each")
            }
        }
    }
}

impl std::error::Error for Refused {}

/// One or two slots: what an [`Op`] encodes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// The first slot.
    pub first: Raw,
    /// The second slot, of `lddw` only.
    pub second: Option<Raw>,
}

impl Op {
    /// The slots that carry this instruction.
    #[inline]
    #[must_use]
    pub const fn encode(self) -> Slots {
        let first = match self {
            Op::Alu(op, bits, dst, src) => {
                let class = match bits {
                    Bits::B32 => class::ALU,
                    Bits::B64 => class::ALU64,
                };
                let (code, off) = op.bits();
                with_src(class | code, dst, src, off)
            }
            Op::Neg(bits, dst) => {
                let class = match bits {
                    Bits::B32 => class::ALU,
                    Bits::B64 => class::ALU64,
                };
                Raw::new(class | class::NEG, dst.0, 0, 0, 0)
            }
            Op::Swap(how, width, dst) => {
                let code = match how {
                    Swap::Le => class::ALU | class::END,
                    Swap::Be => class::ALU | class::END | class::X,
                    Swap::Always => class::ALU64 | class::END,
                };
                Raw::new(code, dst.0, 0, 0, width as i32)
            }
            Op::Cast(dst, src, imm) => Raw::new(
                class::ALU64 | class::MOV | class::X,
                dst.0,
                src.0,
                class::CAST,
                imm,
            ),
            Op::Load(size, dst, base, off) => {
                Raw::new(class::LDX | class::MEM | size.bits(), dst.0, base.0, off, 0)
            }
            Op::LoadSx(size, dst, base, off) => Raw::new(
                class::LDX | class::MEMSX | size.bits(),
                dst.0,
                base.0,
                off,
                0,
            ),
            Op::Store(size, base, off, src) => match src {
                Src::Reg(r) => Raw::new(class::STX | class::MEM | size.bits(), base.0, r.0, off, 0),
                Src::Imm(v) => Raw::new(class::ST | class::MEM | size.bits(), base.0, 0, off, v),
            },
            Op::Atomic(op, size, base, off, src) => Raw::new(
                class::STX | class::ATOMIC | size.bits(),
                base.0,
                src.0,
                off,
                op.imm(),
            ),
            Op::LoadAcquire(size, dst, base, off) => {
                let code = class::STX | class::ATOMIC | size.bits();
                Raw::new(code, dst.0, base.0, off, class::LOAD_ACQUIRE)
            }
            Op::StoreRelease(size, base, off, src) => {
                let code = class::STX | class::ATOMIC | size.bits();
                Raw::new(code, base.0, src.0, off, class::STORE_RELEASE)
            }
            Op::LoadAbs(size, imm) => Raw::new(class::LD | class::ABS | size.bits(), 0, 0, 0, imm),
            Op::LoadInd(size, src, imm) => {
                Raw::new(class::LD | class::IND | size.bits(), 0, src.0, 0, imm)
            }
            Op::Wide(dst, wide) => {
                let (src, low, high) = wide.parts();
                return Slots {
                    first: Raw::new(class::LDDW, dst.0, src, 0, low),
                    second: Some(Raw {
                        code: 0,
                        regs: 0,
                        off: 0,
                        imm: high,
                    }),
                };
            }
            Op::Ja(off) => Raw::new(class::JA, 0, 0, off, 0),
            Op::JaLong(imm) => Raw::new(class::JA32, 0, 0, 0, imm),
            Op::MayGoto(off) => Raw::new(class::MAY_GOTO, 0, 0, off, 0),
            Op::Jump(op, bits, dst, src, off) => {
                let class = match bits {
                    Bits::B32 => class::JMP32,
                    Bits::B64 => class::JMP,
                };
                with_src(class | op.bits(), dst, src, off)
            }
            Op::Call(Callee::Helper(id)) => Raw::new(class::CALL, 0, class::CALL_HELPER, 0, id),
            Op::Call(Callee::Local(imm)) => Raw::new(class::CALL, 0, class::CALL_LOCAL, 0, imm),
            Op::Call(Callee::Kfunc(id, off)) => {
                Raw::new(class::CALL, 0, class::CALL_KFUNC, off, id)
            }
            Op::Exit => Raw::new(class::EXIT, 0, 0, 0, 0),
        };
        Slots {
            first,
            second: None,
        }
    }

    /// The instruction in `first`, for which `second` is the slot behind it, if there is one.
    ///
    /// # Errors
    /// [`Refused`] says what is wrong with the bytes.
    pub fn decode(first: Raw, second: Option<Raw>) -> Result<Op, Refused> {
        let Raw { code, off, imm, .. } = first;
        for n in [first.dst(), first.src()] {
            if n > 10 && code != class::CALL && code != class::LDDW {
                return Err(Refused::Register(n));
            }
        }
        let (dst, src) = (Reg(first.dst()), Reg(first.src()));
        let is_x = code & class::X != 0;
        let no_dst = reserved(dst.0 == 0, "dst");
        let no_src = reserved(src.0 == 0, "src");
        let no_off = reserved(off == 0, "off");
        let no_imm = reserved(imm == 0, "imm");
        let operand = if is_x {
            no_imm.map(|()| Src::Reg(src))
        } else {
            no_src.map(|()| Src::Imm(imm))
        };
        let size = Size::of_code(code);
        match code & 7 {
            class::LD => match code & 0xe0 {
                0 if code == class::LDDW => decode_wide(first, second),
                class::ABS if size != Size::DW => {
                    no_dst.and(no_src).and(no_off)?;
                    Ok(Op::LoadAbs(size, imm))
                }
                class::IND if size != Size::DW => {
                    no_dst.and(no_off)?;
                    Ok(Op::LoadInd(size, src, imm))
                }
                _ => Err(Refused::Opcode(code)),
            },
            class::LDX => match code & 0xe0 {
                class::MEM => no_imm.map(|()| Op::Load(size, dst, src, off)),
                class::MEMSX if size != Size::DW => {
                    no_imm.map(|()| Op::LoadSx(size, dst, src, off))
                }
                _ => Err(Refused::Opcode(code)),
            },
            class::ST if code & 0xe0 == class::MEM => {
                no_src.map(|()| Op::Store(size, dst, off, Src::Imm(imm)))
            }
            class::STX => match code & 0xe0 {
                class::MEM => no_imm.map(|()| Op::Store(size, dst, off, Src::Reg(src))),
                class::ATOMIC => match imm {
                    class::LOAD_ACQUIRE => Ok(Op::LoadAcquire(size, dst, src, off)),
                    class::STORE_RELEASE => Ok(Op::StoreRelease(size, dst, off, src)),
                    _ if matches!(size, Size::B | Size::H) => Err(Refused::Opcode(code)),
                    _ => match AtomicOp::from_imm(imm) {
                        Some(op) => Ok(Op::Atomic(op, size, dst, off, src)),
                        None => Err(Refused::AtomicOp(imm)),
                    },
                },
                _ => Err(Refused::Opcode(code)),
            },
            class @ (class::ALU | class::ALU64) => {
                let bits = if class == class::ALU {
                    Bits::B32
                } else {
                    Bits::B64
                };
                match code & 0xf0 {
                    class::NEG if !is_x => {
                        no_src.and(no_off).and(no_imm)?;
                        Ok(Op::Neg(bits, dst))
                    }
                    class::END => {
                        let how = match (bits, is_x) {
                            (Bits::B32, false) => Swap::Le,
                            (Bits::B32, true) => Swap::Be,
                            (Bits::B64, false) => Swap::Always,
                            (Bits::B64, true) => return Err(Refused::Opcode(code)),
                        };
                        no_src.and(no_off)?;
                        match imm {
                            16 => Ok(Op::Swap(how, 16, dst)),
                            32 => Ok(Op::Swap(how, 32, dst)),
                            64 => Ok(Op::Swap(how, 64, dst)),
                            _ => Err(Refused::SwapWidth(imm)),
                        }
                    }
                    class::MOV if is_x && bits == Bits::B64 && off == class::CAST => {
                        Ok(Op::Cast(dst, src, imm))
                    }
                    op => match Alu::from_bits(op, off) {
                        Some(op) if op.has(bits) && (is_x || op.takes_imm()) => {
                            operand.map(|src| Op::Alu(op, bits, dst, src))
                        }
                        _ if Alu::from_bits(op, 0).is_some() => Err(Refused::Reserved("off")),
                        _ => Err(Refused::Opcode(code)),
                    },
                }
            }
            class @ (class::JMP | class::JMP32) => match code {
                class::JA => no_dst.and(no_src).and(no_imm).map(|()| Op::Ja(off)),
                class::JA32 => no_dst.and(no_src).and(no_off).map(|()| Op::JaLong(imm)),
                class::MAY_GOTO => no_dst.and(no_src).and(no_imm).map(|()| Op::MayGoto(off)),
                class::EXIT => {
                    no_dst.and(no_src).and(no_off).and(no_imm)?;
                    Ok(Op::Exit)
                }
                class::CALL => {
                    no_dst?;
                    match src.0 {
                        class::CALL_HELPER => no_off.map(|()| Op::Call(Callee::Helper(imm))),
                        class::CALL_LOCAL => no_off.map(|()| Op::Call(Callee::Local(imm))),
                        class::CALL_KFUNC => Ok(Op::Call(Callee::Kfunc(imm, off))),
                        n => Err(Refused::CallSource(n)),
                    }
                }
                _ => match Jmp::from_bits(code & 0xf0) {
                    Some(op) => {
                        let bits = if class == class::JMP {
                            Bits::B64
                        } else {
                            Bits::B32
                        };
                        operand.map(|src| Op::Jump(op, bits, dst, src, off))
                    }
                    None => Err(Refused::Opcode(code)),
                },
            },
            _ => Err(Refused::Opcode(code)),
        }
    }

    /// How many slots it takes: 2 for a 64-bit constant, else 1.
    #[inline]
    #[must_use]
    pub const fn slots(self) -> usize {
        match self {
            Op::Wide(..) => 2,
            _ => 1,
        }
    }
}

const fn with_src(code: u8, dst: Reg, src: Src, off: i16) -> Raw {
    match src {
        Src::Reg(r) => Raw::new(code | class::X, dst.0, r.0, off, 0),
        Src::Imm(v) => Raw::new(code, dst.0, 0, off, v),
    }
}

const fn reserved(is_zero: bool, field: &'static str) -> Result<(), Refused> {
    if is_zero {
        Ok(())
    } else {
        Err(Refused::Reserved(field))
    }
}

fn decode_wide(first: Raw, second: Option<Raw>) -> Result<Op, Refused> {
    if first.dst() > 10 {
        return Err(Refused::Register(first.dst()));
    }
    reserved(first.off == 0, "off")?;
    let second = second.ok_or(Refused::WideCut)?;
    if (Raw { imm: 0, ..second }) != Raw::default() {
        return Err(Refused::WideSecond);
    }
    Ok(Op::Wide(
        Reg(first.dst()),
        Wide::from_parts(first.src(), first.imm, second.imm)?,
    ))
}
