//! Helpers as typed functions, one per row of the kernel's table.
//!
//! Arguments go to R1 to R5 in whatever order keeps them whole; a register that already holds its
//! argument is left alone. The result is in R0, and R1 to R5 are lost.
//!
//! ```
//! # use bpfsmith_asm::dsl::*;
//! static HITS: MapDef<u32, u64> = MapDef::array("hits", 1);
//! let key = slot::<u32>("key");
//! let fragment = code![store(key.u32(0), 0), map_lookup_elem(&HITS, key)];
//! # let _ = fragment;
//! ```
//!
//! Where a map belongs, nothing else compiles:
//!
//! ```compile_fail
//! # use bpfsmith_asm::dsl::*;
//! let key = slot::<u32>("key");
//! let fragment = code![map_lookup_elem(key, key)];
//! ```

use crate::code::{Code, Func, Splice, address};
use crate::insn::{Extra, Insn, R0, R1, R2, R3, R4, R5, call_helper, ld_func, lddw, load, mov};
use crate::isa::{Op, Reg, Wide};
use crate::mem::{Base, Mem, Place, Slot};
use bpfsmith_uapi::map::{MapDef, MapShape};
use std::panic::Location;

/// What may stand for an argument of kind `K`. The kinds are those of
/// [`ArgKind`](bpfsmith_uapi::ArgKind).
pub trait Argument<'a, K> {
    /// How it gets into its register.
    fn given(self) -> Given<'a>;
}

/// An argument, after conversion.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a>(From<'a>);

#[derive(Clone, Copy, Debug)]
enum From<'a> {
    Place(Place),
    Number(i64),
    Load(Mem),
    Map(&'a MapShape),
    Func(&'a Func),
}

/// The null pointer, for arguments that may be left out.
#[derive(Clone, Copy, Debug)]
pub struct Null;

/// A register may hold anything.
impl<'a, K: kind::Kind> Argument<'a, K> for Reg {
    #[inline]
    fn given(self) -> Given<'a> {
        Given(From::Place(self.at(0)))
    }
}

impl<'a, K, V> Argument<'a, kind::MapPtr> for &'a MapDef<K, V> {
    fn given(self) -> Given<'a> {
        Given(From::Map(self.shape()))
    }
}

impl<'a> Argument<'a, kind::MapPtr> for &'a MapShape {
    fn given(self) -> Given<'a> {
        Given(From::Map(self))
    }
}

impl<'a> Argument<'a, kind::Func> for &'a Func {
    fn given(self) -> Given<'a> {
        Given(From::Func(self))
    }
}

macro_rules! given {
    ($($t:ty => $from:expr, $as:path;)*) => { $(
        impl<'a, K: $as> Argument<'a, K> for $t {
            #[inline]
            fn given(self) -> Given<'a> {
                let convert: fn($t) -> From<'a> = $from;
                Given(convert(self))
            }
        }
    )* };
}
given! {
    Slot => |slot| From::Place(slot.at(0)), kind::Memory;
    Place => From::Place, kind::Memory;
    Mem => From::Load, kind::Number;
    i32 => |n| From::Number(i64::from(n)), kind::Number;
    u16 => |n| From::Number(i64::from(n)), kind::Number;
    u32 => |n| From::Number(i64::from(n)), kind::Number;
    i64 => From::Number, kind::Number;
    u64 => |n| From::Number(n.cast_signed()), kind::Number;
    Null => |_| From::Number(0), kind::Nullable;
}

/// One type per kind of argument, and what may stand for it.
pub mod kind {
    /// A kind of argument.
    pub trait Kind {}
    /// A kind that a place in memory may stand for.
    pub trait Memory: Kind {}
    /// A kind that a number may stand for.
    pub trait Number: Kind {}
    /// A kind that may be left out.
    pub trait Nullable: Kind {}

    macro_rules! kinds {
        ($($name:ident: $($trait:ident)*;)*) => { $(
            #[doc = concat!("See `ArgKind::", stringify!($name), "`.")]
            #[derive(Clone, Copy, Debug)]
            pub enum $name {}
            impl Kind for $name {}
            $(impl $trait for $name {})*
        )* };
    }
    kinds! {
        Ctx: ;
        CtxOrNull: Nullable;
        CtxOrPtr: ;
        MapPtr: ;
        Key: Memory;
        Value: Memory;
        ValueOrNull: Memory Nullable;
        ValueOut: Memory;
        Mem: Memory;
        MemOrNull: Memory Nullable;
        MemOut: Memory;
        MemOutOrNull: Memory Nullable;
        FixedMem: Memory;
        FixedMemOut: Memory;
        Size: Number;
        SizeOrZero: Number;
        ConstSize: Number;
        Scalar: Number Memory;
        Ptr: Memory;
        PtrOrNull: Memory Nullable;
        PerCpuPtr: Memory;
        KptrSlot: Memory;
        StackOrNull: Memory Nullable;
        Func: ;
        Dynptr: Memory;
        DynptrOut: Memory;
        Timer: Memory;
        SpinLock: Memory;
        ConstStr: Memory;
    }
}

/// A call of a helper, arguments and all.
#[derive(Clone, Copy, Debug)]
#[must_use = "a call does nothing by itself: splice it with code![…]"]
pub struct Call<'a> {
    id: i32,
    args: [Option<Given<'a>>; 5],
    at: &'static Location<'static>,
}

/// Loads a map's address (of the map itself, as helpers want it).
#[track_caller]
pub fn ld_map<'a>(dst: Reg, map: impl Argument<'a, kind::MapPtr>) -> Load<'a> {
    Load {
        dst,
        from: map.given(),
        at: Location::caller(),
    }
}

/// Loads the address `off` bytes inside the one value of an array map. Linux 5.2.
#[track_caller]
pub fn ld_map_value<K, V>(dst: Reg, map: &MapDef<K, V>, off: u32) -> WithMap<'_> {
    let arg = Extra::MapValue {
        off,
        name: map.shape().name,
    };
    let insn = Insn::op(Op::Wide(dst, Wide::MapValue(0, 0))).with(arg);
    WithMap {
        insn,
        shape: map.shape(),
    }
}

/// Made by [`ld_map`].
#[derive(Clone, Copy, Debug)]
#[must_use = "an instruction does nothing by itself: splice it with code![…]"]
pub struct Load<'a> {
    dst: Reg,
    from: Given<'a>,
    at: &'static Location<'static>,
}

/// Made by [`ld_map_value`].
#[derive(Clone, Copy, Debug)]
#[must_use = "an instruction does nothing by itself: splice it with code![…]"]
pub struct WithMap<'a> {
    insn: Insn,
    shape: &'a MapShape,
}

impl Splice for WithMap<'_> {
    fn splice(self, code: &mut Code) {
        code.map(self.shape, self.insn.at);
        code.push(self.insn);
    }
}

impl Splice for Load<'_> {
    #[inline]
    fn splice(self, code: &mut Code) {
        put(self.dst, self.from.0, self.at, code);
    }
}

/// The registers of the arguments.
const ARGS: [Reg; 5] = [R1, R2, R3, R4, R5];

impl Splice for Call<'_> {
    #[inline]
    fn splice(self, code: &mut Code) {
        let mut pending = self.args;
        loop {
            let mut blocked = None;
            let mut moved = false;
            for i in 0..pending.len() {
                let Some(given) = pending[i] else { continue };
                let needed = |other: usize| {
                    other != i && pending[other].is_some_and(|g| g.reads() == Some(ARGS[i]))
                };
                if (0..pending.len()).any(needed) {
                    blocked = Some(i);
                } else {
                    put(ARGS[i], given.0, self.at, code);
                    pending[i] = None;
                    moved = true;
                }
            }
            let Some(i) = blocked else { break };
            if !moved {
                // The arguments go round in a circle: R0, which the call overwrites, breaks it.
                code.push(Insn {
                    at: self.at,
                    ..mov(R0, ARGS[i])
                });
                for given in pending.iter_mut().flatten() {
                    given.rename(ARGS[i], R0);
                }
            }
        }
        code.push(Insn {
            at: self.at,
            ..call_helper(self.id)
        });
    }
}

impl Given<'_> {
    /// The register that must still be whole when the argument is put in its place.
    #[inline]
    fn reads(&self) -> Option<Reg> {
        match self.0 {
            From::Place(Place {
                base: Base::Reg(reg),
                ..
            })
            | From::Load(Mem {
                base: Base::Reg(reg),
                ..
            }) => Some(reg),
            _ => None,
        }
    }

    fn rename(&mut self, old: Reg, new: Reg) {
        match &mut self.0 {
            From::Place(Place {
                base: Base::Reg(reg),
                ..
            })
            | From::Load(Mem {
                base: Base::Reg(reg),
                ..
            }) if *reg == old => {
                *reg = new;
            }
            _ => {}
        }
    }
}

/// Puts an argument into a register.
#[inline]
fn put(dst: Reg, from: From<'_>, at: &'static Location<'static>, code: &mut Code) {
    match from {
        From::Place(place) => {
            for insn in address(dst, place).into_iter().flatten() {
                code.push(Insn { at, ..insn });
            }
        }
        From::Number(n) => {
            let insn = match i32::try_from(n) {
                Ok(imm) => mov(dst, imm),
                Err(_) => match u32::try_from(n) {
                    Ok(imm) => mov(dst.low(), imm),
                    Err(_) => lddw(dst, n.cast_unsigned()),
                },
            };
            code.push(Insn { at, ..insn });
        }
        From::Load(mem) => code.push(Insn {
            at,
            ..load(dst, mem)
        }),
        From::Map(shape) => {
            code.map(shape, at);
            let insn = Insn::op(Op::Wide(dst, Wide::MapFd(0))).with(Extra::Map(shape.name));
            code.push(Insn { at, ..insn });
        }
        From::Func(func) => {
            code.func(func);
            code.push(Insn {
                at,
                ..ld_func(dst, func).insn
            });
        }
    }
}

macro_rules! helper_functions {
    ($(
        $(#[$doc:meta])*
        $id:literal $name:ident($($arg:ident: $kind:ident),* $(,)?)
            -> $ret:ident, $since:literal, $allowed:ident $([$($set:ident),* $(,)?])?;
    )*) => { $(
        $(#[$doc])*
        #[doc = concat!("\n\nLinux ", $since, ", helper ", $id, ".")]
        #[inline]
        #[track_caller]
        pub fn $name<'a>($($arg: impl Argument<'a, kind::$kind>),*) -> Call<'a> {
            let given = [$($arg.given()),*];
            let mut args = [None; 5];
            for (to, from) in args.iter_mut().zip(given) {
                *to = Some(from);
            }
            Call { id: $id, args, at: Location::caller() }
        }
    )* };
}
bpfsmith_uapi::for_each_helper!(helper_functions);
