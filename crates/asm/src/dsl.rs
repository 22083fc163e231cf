//! Everything that a file of programs needs: `use bpfsmith::dsl::*`.

pub use crate::code;
pub use crate::code::{Code, Func, FuncName, Label, Param, Splice, addr, bind, each, func, label};
pub use crate::flow::{Test, all, any, may_while, repeat, while_};
pub use crate::global::{Global, ld_global};
pub use crate::helper::*;
pub use crate::insn::*;
pub use crate::isa::{Order, Reg, Size, Wide};
pub use crate::kernel::{
    Args, KernelConst, KernelField, KernelType, KernelValue, Kfunc, Ksym, args, kernel,
    kernel_const, kernel_type, kfunc, ksym, ld_type, load_bits,
};
pub use crate::kit;
pub use crate::link::Isa;
pub use crate::mem::{Mem, Place, Slot, slot};
pub use crate::program::Program;
pub use bpfsmith_uapi::ctx::*;
pub use bpfsmith_uapi::map::{MapDef, MapShape};
pub use bpfsmith_uapi::net::*;
pub use bpfsmith_uapi::structs::*;
pub use bpfsmith_uapi::*;
