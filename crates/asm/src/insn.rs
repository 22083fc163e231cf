//! Instructions as Rust values: registers, operands and one constructor per operation.

use crate::code::{Func, Label};
use crate::isa::{
    Alu, AtomicOp, Bits, Callee, Jmp, Op, Order, Raw, Reg, Size, Src, Swap, Wide, class,
    for_each_alu, for_each_atomic, for_each_jump,
};
use crate::kernel::Known;
use crate::mem::{Base, Mem};
use bpfsmith_uapi::map::Name;
use bpfsmith_uapi::record::Record;
use std::panic::Location;

/// The result of a call; what a program returns.
pub const R0: Reg = Reg(0);
/// The first argument: the context when a program starts. Lost in a call.
pub const R1: Reg = Reg(1);
/// The second argument. Lost in a call.
pub const R2: Reg = Reg(2);
/// The third argument. Lost in a call.
pub const R3: Reg = Reg(3);
/// The fourth argument. Lost in a call.
pub const R4: Reg = Reg(4);
/// The fifth argument. Lost in a call.
pub const R5: Reg = Reg(5);
/// Kept over calls.
pub const R6: Reg = Reg(6);
/// Kept over calls.
pub const R7: Reg = Reg(7);
/// Kept over calls.
pub const R8: Reg = Reg(8);
/// Kept over calls.
pub const R9: Reg = Reg(9);
/// The frame pointer: the end of 512 bytes of stack. Read only.
pub const R10: Reg = Reg(10);

/// The low 32 bits of a register; writing them zeroes the high ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct W(u8);

macro_rules! views {
    ($($name:ident = $n:literal),*) => { $(
        #[doc = concat!("The low 32 bits of R", $n, ".")]
        pub const $name: W = W($n);
    )* };
}
views!(
    W0 = 0,
    W1 = 1,
    W2 = 2,
    W3 = 3,
    W4 = 4,
    W5 = 5,
    W6 = 6,
    W7 = 7,
    W8 = 8,
    W9 = 9
);

impl Reg {
    /// The low 32 bits of this register.
    #[must_use]
    pub const fn low(self) -> W {
        W(self.0)
    }
}

/// What an operand is combined with: a [`Reg`] (64 bits), a [`W`] (32 bits) or [`Stored`].
pub trait Side: sealed::Sealed {
    /// How many bits of a constant count.
    const BITS: Bits;
}

/// A register as destination: [`Reg`] (64 bits) or [`W`] (32 bits).
pub trait Dst: Copy + Side {
    /// The whole register.
    fn reg(self) -> Reg;
}

/// The side of memory: what [`store`] takes.
#[derive(Clone, Copy, Debug)]
pub enum Stored {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::isa::Reg {}
    impl Sealed for super::W {}
    impl Sealed for super::Stored {}
}

impl Side for Reg {
    const BITS: Bits = Bits::B64;
}

impl Side for W {
    const BITS: Bits = Bits::B32;
}

impl Side for Stored {
    const BITS: Bits = Bits::B64;
}

impl Dst for Reg {
    #[inline]
    fn reg(self) -> Reg {
        self
    }
}

impl Dst for W {
    #[inline]
    fn reg(self) -> Reg {
        Reg(self.0)
    }
}

/// What of an instruction is settled when the target is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// Nothing.
    No,
    /// The constant is compared with, or stored as, two bytes in network order.
    Be16,
    /// The same, four bytes.
    Be32,
    /// What the running kernel answers is added to the constant, or to the offset.
    Kernel(Known),
}

impl Late {
    /// The constant that compares equal with packet bytes on a machine of that order. Applying it
    /// twice gives the number back.
    pub(crate) const fn imm(self, imm: i32, order: Order) -> i32 {
        match (self, order) {
            (Late::No | Late::Kernel(_), _) | (_, Order::Big) => imm,
            (Late::Be16, Order::Little) => (imm.cast_unsigned().swap_bytes() >> 16).cast_signed(),
            (Late::Be32, Order::Little) => imm.swap_bytes(),
        }
    }
}

/// Two bytes as they stand in a packet: compare or store them without swapping the packet's.
///
/// ```
/// # use bpfsmith_asm::dsl::*;
/// let is_http = R2.eq(be16(80));
/// # let _ = is_http;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Be16(i64);

/// Four bytes as they stand in a packet. They are compared with the 32-bit view of a register
/// (`W2.eq(be32(…))`), because a 64-bit comparison would extend their sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Be32(i64);

/// Two bytes in network order.
#[inline]
#[must_use]
pub fn be16(value: impl Into<i64>) -> Be16 {
    Be16(value.into())
}

/// Four bytes in network order: an address, or a mask of one.
///
/// It goes with 32-bit registers and with stores. A literal above `i32::MAX` needs its type.
///
/// ```
/// use bpfsmith_asm::dsl::*;
/// use std::net::Ipv4Addr;
///
/// let (other, address) = (label("other"), slot::<u32>("address"));
/// let in_network = code![
///     load(R1, R9.get(ipv4::saddr)),
///     and(W1, be32(0xffff_ff00_u32)),
///     jne(W1, be32(u32::from(Ipv4Addr::new(10, 1, 2, 0))), other),
///     store(address.u32(0), R1),
/// ];
/// # let _ = in_network;
/// ```
#[inline]
#[must_use]
pub fn be32(value: impl Into<i64>) -> Be32 {
    Be32(value.into())
}

impl Be16 {
    #[inline]
    fn val(self) -> Value {
        Value(u16::try_from(self.0).map_or(Val::NotNet(self.0), |n| Val::Imm(n.into(), Late::Be16)))
    }
}

impl Be32 {
    #[inline]
    fn val(self) -> Value {
        let fits = u32::try_from(self.0).map(u32::cast_signed);
        Value(fits.map_or(Val::NotNet(self.0), |n| Val::Imm(n, Late::Be32)))
    }
}

/// The second operand of an instruction whose destination is a `D`: a register of the same width,
/// or a number. A number that does not fit is reported when the program is built.
pub trait Operand<D> {
    /// The operand.
    fn value(self) -> Value;
}

/// What an operand is, after conversion.
#[derive(Clone, Copy, Debug)]
pub struct Value(pub(crate) Val);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Val {
    Reg(Reg),
    Imm(i32, Late),
    /// A number that no 32-bit constant can stand for.
    TooWide(i64),
    /// A number that does not fit its two or four bytes in network order.
    NotNet(i64),
}

impl Operand<Reg> for Reg {
    #[inline]
    fn value(self) -> Value {
        Value(Val::Reg(self))
    }
}

impl Operand<W> for W {
    #[inline]
    fn value(self) -> Value {
        Value(Val::Reg(Reg(self.0)))
    }
}

impl Operand<Stored> for Reg {
    #[inline]
    fn value(self) -> Value {
        Value(Val::Reg(self))
    }
}

impl<D: Side> Operand<D> for Be16 {
    #[inline]
    fn value(self) -> Value {
        self.val()
    }
}

impl Operand<W> for Be32 {
    #[inline]
    fn value(self) -> Value {
        self.val()
    }
}

impl Operand<Stored> for Be32 {
    #[inline]
    fn value(self) -> Value {
        self.val()
    }
}

macro_rules! small_numbers {
    ($($t:ty),*) => { $(
        impl<D: Side> Operand<D> for $t {
            #[inline]
            fn value(self) -> Value {
                Value(Val::Imm(i32::from(self), Late::No))
            }
        }
    )* };
}
small_numbers!(i8, u8, i16, u16, i32, bool);

/// A wide number as a constant: for 64-bit operations it is what sign extension restores, for
/// 32-bit ones any value of 32 bits, signed or not.
#[inline]
fn narrow<D: Side>(v: i64) -> Value {
    match (i32::try_from(v), u32::try_from(v), D::BITS) {
        (Ok(imm), ..) => Value(Val::Imm(imm, Late::No)),
        (_, Ok(imm), Bits::B32) => Value(Val::Imm(imm.cast_signed(), Late::No)),
        _ => Value(Val::TooWide(v)),
    }
}

impl<D: Side> Operand<D> for i64 {
    #[inline]
    fn value(self) -> Value {
        narrow::<D>(self)
    }
}

impl<D: Side> Operand<D> for u64 {
    #[inline]
    fn value(self) -> Value {
        narrow::<D>(self.cast_signed())
    }
}

impl<D: Side> Operand<D> for u32 {
    #[inline]
    fn value(self) -> Value {
        narrow::<D>(i64::from(self))
    }
}

impl<D: Side> Operand<D> for usize {
    #[inline]
    fn value(self) -> Value {
        // A usize above i64::MAX does not fit either way.
        narrow::<D>(i64::try_from(self).unwrap_or(i64::MAX))
    }
}

/// What an instruction refers to beyond its eight bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extra {
    None,
    /// The jump's target.
    Label {
        id: u32,
        name: &'static str,
    },
    /// The high half of a 64-bit constant.
    High(i32),
    /// The offset (of an access) or the constant (of an address) counts from this stack slot.
    Slot {
        align: u8,
        size: u16,
        id: u32,
        name: &'static str,
    },
    /// The same; the address goes into a register that may outlive the fragment.
    KeptSlot {
        align: u8,
        size: u16,
        id: u32,
        name: &'static str,
    },
    /// The map's fd.
    Map(Name),
    /// The address in the map's one value, the offset is in the second slot.
    MapValue {
        off: u32,
        name: Name,
    },
    /// A function of this program: its address or a call of it.
    Func(u32),
    /// The address of a global variable.
    Global(&'static str),
    /// A kernel function by name.
    Kfunc(&'static str),
    /// A kernel variable by name.
    Ksym(&'static str),
    /// A structure of the program's own, which the kernel must be told.
    Record(&'static Record),
    /// A value that its field cannot hold.
    Bad {
        what: Misfit,
        value: i64,
    },
}

/// The field that a value does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The 32-bit constant of a 64-bit operation.
    Imm64,
    /// The 32-bit constant of a 32-bit operation.
    Imm32,
    /// The two bytes of a store.
    Imm16,
    /// The byte of a store.
    Imm8,
    /// The bytes of a number in network order.
    Net,
    /// A store of a number in network order, in bytes.
    NetWidth,
    /// A number in network order, stored where the kernel says.
    NetKernel,
    /// A stack slot, where the kernel says how far off an access is.
    KernelSlot,
    /// The 16-bit offset of a memory access.
    Offset,
    /// The width of an atomic operation or a sign-extending load, in bytes.
    Width,
}

/// An instruction: a value that knows the Rust line that made it.
#[derive(Clone, Copy, Debug)]
#[must_use = "an instruction does nothing by itself: splice it with code![…]"]
pub struct Insn {
    pub(crate) raw: Raw,
    pub(crate) late: Late,
    pub(crate) arg: Extra,
    pub(crate) at: &'static Location<'static>,
}

impl Insn {
    #[inline]
    #[track_caller]
    pub(crate) fn new(raw: Raw) -> Insn {
        Insn {
            raw,
            late: Late::No,
            arg: Extra::None,
            at: Location::caller(),
        }
    }

    #[inline]
    pub(crate) fn with(self, arg: Extra) -> Insn {
        Insn { arg, ..self }
    }

    /// An instruction with a register or a constant as its second operand.
    #[inline]
    #[track_caller]
    fn with_operand(code: u8, dst: Reg, off: i16, bits: Bits, value: Value) -> Insn {
        match value.0 {
            Val::Reg(src) => Insn::new(Raw::new(code | class::X, dst.0, src.0, off, 0)),
            Val::Imm(imm, late) => Insn {
                late,
                ..Insn::new(Raw::new(code, dst.0, 0, off, imm))
            },
            Val::TooWide(value) => {
                let what = match bits {
                    Bits::B64 => Misfit::Imm64,
                    Bits::B32 => Misfit::Imm32,
                };
                Insn::new(Raw::new(code, dst.0, 0, off, 0)).with(Extra::Bad { what, value })
            }
            Val::NotNet(value) => {
                let what = Misfit::Net;
                Insn::new(Raw::new(code, dst.0, 0, off, 0)).with(Extra::Bad { what, value })
            }
        }
    }

    /// An access to memory: `dst` and `src` registers with the place's base in one of them.
    #[inline]
    #[track_caller]
    fn access(code: u8, mem: Mem, other: Reg, base_is_dst: bool, imm: i32) -> Insn {
        let off = match i16::try_from(mem.off) {
            Ok(off) => off,
            Err(_) => {
                let bad = Extra::Bad {
                    what: Misfit::Offset,
                    value: i64::from(mem.off),
                };
                return Insn::new(Raw::new(code, 0, 0, 0, imm)).with(bad);
            }
        };
        let (base, arg) = match mem.base {
            Base::Reg(reg) => (reg, Extra::None),
            Base::Slot(slot) => (R10, slot.arg()),
        };
        let (dst, src) = if base_is_dst {
            (base, other)
        } else {
            (other, base)
        };
        let insn = Insn::new(Raw::new(code, dst.0, src.0, off, imm)).with(arg);
        match (mem.kernel, mem.base) {
            (None, _) => insn,
            // Slots are placed, and share bytes, before the kernel says how far off this is.
            (Some(_), Base::Slot(_)) => {
                let what = Misfit::KernelSlot;
                insn.with(Extra::Bad { what, value: 0 })
            }
            (Some(known), Base::Reg(_)) => Insn {
                late: Late::Kernel(known),
                ..insn
            },
        }
    }

    /// Any instruction, as the machine has it. Jumps and calls keep their numeric distance.
    #[inline]
    #[track_caller]
    pub fn op(op: Op) -> Insn {
        let slots = op.encode();
        let insn = Insn::new(slots.first);
        match slots.second {
            Some(second) => insn.with(Extra::High(second.imm)),
            None => insn,
        }
    }

    /// The Rust line that made it.
    #[must_use]
    pub const fn location(&self) -> &'static Location<'static> {
        self.at
    }

    /// The same, with the slot that it names kept as long as the function.
    pub(crate) fn escapes(self) -> Insn {
        match self.arg {
            Extra::Slot {
                align,
                size,
                id,
                name,
            } => self.with(Extra::KeptSlot {
                align,
                size,
                id,
                name,
            }),
            _ => self,
        }
    }

    /// True if the next instruction is not reached from this one.
    pub(crate) fn ends(&self) -> bool {
        matches!(self.raw.code, class::EXIT | class::JA | class::JA32)
    }
}

macro_rules! alu_constructor {
    (both, $(#[$doc:meta])*, $f:ident, $op:expr) => {
        $(#[$doc])*
        #[inline]
        #[track_caller]
        pub fn $f<D: Dst>(dst: D, src: impl Operand<D>) -> Insn {
            const PARTS: (u8, i16) = $op.bits();
            let class = match D::BITS {
                Bits::B32 => class::ALU,
                Bits::B64 => class::ALU64,
            };
            Insn::with_operand(class | PARTS.0, dst.reg(), PARTS.1, D::BITS, src.value())
        }
    };
    (reg, $(#[$doc:meta])*, $f:ident, $op:expr) => {
        $(#[$doc])*
        #[inline]
        #[track_caller]
        pub fn $f<D: Dst>(dst: D, src: D) -> Insn {
            Insn::op(Op::Alu($op, D::BITS, dst.reg(), Src::Reg(src.reg())))
        }
    };
    (reg64, $(#[$doc:meta])*, $f:ident, $op:expr) => {
        $(#[$doc])*
        #[inline]
        #[track_caller]
        pub fn $f(dst: Reg, src: Reg) -> Insn {
            Insn::op(Op::Alu($op, Bits::B64, dst, Src::Reg(src)))
        }
    };
}

macro_rules! alu_constructors {
    ($($(#[$doc:meta])* $name:ident = $bits:literal / $off:literal, $f:ident, $symbol:literal, $forms:ident;)*) => {
        $(alu_constructor!($forms, $(#[$doc])*, $f, Alu::$name);)*
    };
}
for_each_alu!(alu_constructors);

macro_rules! jump_constructors {
    ($($(#[$doc:meta])* $name:ident = $bits:literal, $inverse:expr, $f:ident, $m:ident, $symbol:literal;)*) => {
        $(
            #[doc = concat!("Jumps to `to` if `a ", $symbol, " b`.")]
            #[inline]
            #[track_caller]
            pub fn $f<D: Dst>(a: D, b: impl Operand<D>, to: Label) -> Insn {
                jump_if(Jmp::$name, D::BITS, a.reg(), b.value(), to)
            }
        )*

        impl Reg {
            $(
                #[doc = concat!("The condition `self ", $symbol, " other`, 64 bits wide.")]
                #[inline]
                #[track_caller]
                pub fn $m(self, other: impl Operand<Reg>) -> Cond {
                    Cond::new(Jmp::$name, Bits::B64, self, other.value())
                }
            )*
        }

        impl W {
            $(
                #[doc = concat!("The condition `self ", $symbol, " other`, 32 bits wide.")]
                #[inline]
                #[track_caller]
                pub fn $m(self, other: impl Operand<W>) -> Cond {
                    Cond::new(Jmp::$name, Bits::B32, self.reg(), other.value())
                }
            )*
        }
    };
}
for_each_jump!(jump_constructors);

/// A comparison, to be used by `then`, `while_`, [`all`](crate::flow::all) or
/// [`any`](crate::flow::any).
#[derive(Clone, Copy, Debug)]
#[must_use = "a condition does nothing by itself: follow it with .then(code![…])"]
pub struct Cond {
    pub(crate) op: Jmp,
    bits: Bits,
    a: Reg,
    b: Value,
    pub(crate) at: &'static Location<'static>,
}

impl Cond {
    #[inline]
    #[track_caller]
    fn new(op: Jmp, bits: Bits, a: Reg, b: Value) -> Cond {
        Cond {
            op,
            bits,
            a,
            b,
            at: Location::caller(),
        }
    }

    /// The jump that is taken if the condition holds, with `op` in place of its comparison.
    #[inline]
    pub(crate) fn jump(&self, op: Jmp, to: Label) -> Insn {
        Insn {
            at: self.at,
            ..jump_if(op, self.bits, self.a, self.b, to)
        }
    }
}

#[inline]
#[track_caller]
fn jump_if(op: Jmp, bits: Bits, a: Reg, b: Value, to: Label) -> Insn {
    let class = match bits {
        Bits::B32 => class::JMP32,
        Bits::B64 => class::JMP,
    };
    let insn = Insn::with_operand(class | op.bits(), a, 0, bits, b);
    match insn.arg {
        Extra::None => insn.with(to.arg()),
        _ => insn,
    }
}

macro_rules! atomic_constructors {
    ($($(#[$doc:meta])* $name:ident = $imm:literal, $f:ident, $text:literal;)*) => {
        $(
            $(#[$doc])*
            /// Four or eight bytes.
            #[inline]
            #[track_caller]
            pub fn $f(mem: Mem, src: Reg) -> Insn {
                if mem.size < Size::W {
                    return bad_width(mem);
                }
                let code = class::STX | class::ATOMIC | mem.size.bits();
                Insn::access(code, mem, src, true, AtomicOp::$name.imm())
            }
        )*
    };
}
for_each_atomic!(atomic_constructors);

#[track_caller]
fn bad_width(mem: Mem) -> Insn {
    let bad = Extra::Bad {
        what: Misfit::Width,
        value: i64::from(mem.size.bytes()),
    };
    Insn::new(Raw::default()).with(bad)
}

/// Negates.
#[inline]
#[track_caller]
pub fn neg<D: Dst>(dst: D) -> Insn {
    Insn::op(Op::Neg(D::BITS, dst.reg()))
}

macro_rules! swaps {
    ($($f:ident, $how:ident, $width:literal, $what:literal;)*) => { $(
        #[doc = concat!("Makes the low ", $width, " bits ", $what, ", and the rest zero.")]
        #[inline]
        #[track_caller]
        pub fn $f(dst: Reg) -> Insn {
            Insn::op(Op::Swap(Swap::$how, $width, dst))
        }
    )* };
}
swaps! {
    to_be16, Be, 16, "big-endian";
    to_be32, Be, 32, "big-endian";
    to_be64, Be, 64, "big-endian";
    to_le16, Le, 16, "little-endian";
    to_le32, Le, 32, "little-endian";
    to_le64, Le, 64, "little-endian";
    bswap16, Always, 16, "change their byte order (Linux 6.6)";
    bswap32, Always, 32, "change their byte order (Linux 6.6)";
    bswap64, Always, 64, "change their byte order (Linux 6.6)";
}

/// Casts a pointer between address spaces, `to << 16 | from`, as arenas need it. Linux 6.9.
#[inline]
#[track_caller]
pub fn addr_space_cast(dst: Reg, src: Reg, to: u16, from: u16) -> Insn {
    let imm = (u32::from(to) << 16 | u32::from(from)).cast_signed();
    Insn::op(Op::Cast(dst, src, imm))
}

/// Loads from memory: the rest of the register becomes zero, or the sign for a signed place.
#[inline]
#[track_caller]
pub fn load(dst: Reg, mem: Mem) -> Insn {
    let (mode, size) = match (mem.signed, mem.size) {
        (false, size) => (class::MEM, size),
        // The width of a field of the kernel comes later; there is no sign to extend from 8 bytes.
        (true, Size::DW) if mem.has_late_width() => (class::MEMSX, Size::W),
        (true, Size::DW) => return bad_width(mem),
        (true, size) => (class::MEMSX, size),
    };
    Insn::access(class::LDX | mode | size.bits(), mem, dst, false, 0)
}

/// Stores a register or a constant.
#[inline]
#[track_caller]
pub fn store(mem: Mem, value: impl Operand<Stored>) -> Insn {
    match value.value().0 {
        Val::Reg(src) => Insn::access(class::STX | class::MEM | mem.size.bits(), mem, src, true, 0),
        Val::Imm(imm, late) => {
            let code = class::ST | class::MEM | mem.size.bits();
            let insn = Insn::access(code, mem, R0, true, imm);
            let insn = match (mem.kernel, late) {
                (None, _) => Insn { late, ..insn },
                // No constant is too wide for a width that is not known yet.
                (Some(_), Late::No) if mem.has_late_width() => return insn,
                (Some(_), Late::No) => insn,
                // The slot remembers one thing that is settled later, and not two.
                (Some(_), _) => {
                    let what = Misfit::NetKernel;
                    return insn.with(Extra::Bad { what, value: 0 });
                }
            };
            match misfit(mem.size, imm, late) {
                None => insn,
                Some(bad) => insn.with(bad),
            }
        }
        Val::NotNet(value) => {
            let code = class::ST | class::MEM | mem.size.bits();
            let what = Misfit::Net;
            Insn::access(code, mem, R0, true, 0).with(Extra::Bad { what, value })
        }
        Val::TooWide(value) => {
            let fits = mem.size == Size::W && u32::try_from(value).is_ok();
            let imm = u32::try_from(value).map_or(0, u32::cast_signed);
            let code = class::ST | class::MEM | mem.size.bits();
            let insn = Insn::access(code, mem, R0, true, imm);
            if fits {
                insn
            } else {
                insn.with(Extra::Bad {
                    what: Misfit::Imm64,
                    value,
                })
            }
        }
    }
}

/// What is wrong with storing that constant in that many bytes.
#[inline]
fn misfit(size: Size, imm: i32, late: Late) -> Option<Extra> {
    let (fits, what, value) = match (late, size) {
        (Late::No, Size::B) => ((-0x80..0x100).contains(&imm), Misfit::Imm8, imm),
        (Late::No, Size::H) => ((-0x8000..0x1_0000).contains(&imm), Misfit::Imm16, imm),
        (Late::Be16, Size::H) | (Late::Be32, Size::W) | (Late::No, _) => return None,
        _ => (false, Misfit::NetWidth, i32::from(size.bytes())),
    };
    let value = i64::from(value);
    (!fits).then_some(Extra::Bad { what, value })
}

/// Loads with acquire order: later accesses come later. Linux 6.15.
#[inline]
#[track_caller]
pub fn load_acquire(dst: Reg, mem: Mem) -> Insn {
    let code = class::STX | class::ATOMIC | mem.size.bits();
    Insn::access(code, mem, dst, false, class::LOAD_ACQUIRE)
}

/// Stores with release order: earlier accesses come earlier. Linux 6.15.
#[inline]
#[track_caller]
pub fn store_release(mem: Mem, src: Reg) -> Insn {
    let code = class::STX | class::ATOMIC | mem.size.bits();
    Insn::access(code, mem, src, true, class::STORE_RELEASE)
}

/// Loads packet bytes at a constant offset into R0, in host order; R6 must hold the context.
/// One to four bytes; ends the program if the packet is too short.
#[inline]
#[track_caller]
pub fn ld_abs(size: Size, offset: i32) -> Insn {
    Insn::op(Op::LoadAbs(size, offset))
}

/// As [`ld_abs`], at a register plus an offset.
#[inline]
#[track_caller]
pub fn ld_ind(size: Size, src: Reg, offset: i32) -> Insn {
    Insn::op(Op::LoadInd(size, src, offset))
}

/// Loads a 64-bit number. Two slots.
#[inline]
#[track_caller]
pub fn lddw(dst: Reg, value: u64) -> Insn {
    Insn::op(Op::Wide(dst, Wide::Imm(value)))
}

/// Loads a 64-bit constant from any source, by number: map fd, index, BTF id.
#[inline]
#[track_caller]
pub fn ld_wide(dst: Reg, from: Wide) -> Insn {
    Insn::op(Op::Wide(dst, from))
}

/// Loads the address of a kernel variable whose type the kernel knows, by name: `runqueues`, or
/// `module:name` for one of that module. It is found when the program is loaded. For a
/// per-CPU variable, `this_cpu_ptr` and `per_cpu_ptr` make it the address of one CPU's part.
#[inline]
#[track_caller]
pub fn ld_ksym(dst: Reg, name: &'static str) -> Insn {
    Insn::op(Op::Wide(dst, Wide::BtfId(0, 0))).with(Extra::Ksym(name))
}

/// Loads the address of a function of this program, as callbacks need it.
#[inline]
#[track_caller]
pub fn ld_func(dst: Reg, func: &Func) -> WithFunc<'_> {
    WithFunc {
        insn: Insn::op(Op::Wide(dst, Wide::Func(0))).with(func.arg()),
        func,
    }
}

/// Calls a function of this program: arguments in R1 to R5, result in R0.
#[inline]
#[track_caller]
pub fn call(func: &Func) -> WithFunc<'_> {
    WithFunc {
        insn: Insn::op(Op::Call(Callee::Local(0))).with(func.arg()),
        func,
    }
}

/// Calls a kernel function by name: `bpf_task_from_pid`, or `module:name` for one of that module.
/// It is found when the program is loaded: in the kernel, or else in the one module that has it.
#[inline]
#[track_caller]
pub fn call_kfunc(name: &'static str) -> Insn {
    Insn::op(Op::Call(Callee::Kfunc(0, 0))).with(Extra::Kfunc(name))
}

/// Calls a helper by number: arguments in R1 to R5. The typed functions of
/// [`helper`](crate::helper) are the better way.
#[inline]
#[track_caller]
pub fn call_helper(id: i32) -> Insn {
    Insn::op(Op::Call(Callee::Helper(id)))
}

/// An instruction that refers to a function; splicing it brings the function along.
#[derive(Clone, Copy, Debug)]
#[must_use = "an instruction does nothing by itself: splice it with code![…]"]
pub struct WithFunc<'a> {
    pub(crate) insn: Insn,
    pub(crate) func: &'a Func,
}

/// Jumps.
#[inline]
#[track_caller]
pub fn ja(to: Label) -> Insn {
    Insn::op(Op::Ja(0)).with(to.arg())
}

/// Falls through until the kernel's budget for the loop is used up, then jumps. Linux 6.9.
#[inline]
#[track_caller]
pub fn may_goto(to: Label) -> Insn {
    Insn::op(Op::MayGoto(0)).with(to.arg())
}

/// Ends the program or returns from the function; the result is in R0.
#[inline]
#[track_caller]
pub fn exit() -> Insn {
    Insn::op(Op::Exit)
}

/// Sets R0 and ends.
#[inline]
#[track_caller]
#[must_use = "instructions do nothing by themselves: splice them with code![…]"]
pub fn ret(value: impl Operand<Reg>) -> [Insn; 2] {
    [mov(R0, value), exit()]
}
