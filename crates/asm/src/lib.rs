//! A checked BPF assembler: Rust values in, bytecode out. It needs neither root nor Linux.
//!
//! A program is made of *fragments*: Rust functions that return [`Code`](code::Code), put together
//! with [`code!`](crate::code!). [`Program::new`](program::Program::new) lays a fragment out and checks it; what is
//! wrong comes back as one [`Report`](report::Report), each finding with its Rust line.
//!
//! ```
//! use bpfsmith_asm::dsl::*;
//!
//! fn long_enough() -> Code {
//!     code![
//!         load(R2, R1.get(xdp_md::data)),
//!         load(R3, R1.get(xdp_md::data_end)),
//!         sub(R3, R2),
//!         R3.lt(64).then(ret(XDP_DROP)),
//!         ret(XDP_PASS),
//!     ]
//! }
//!
//! let program = Program::new(ProgType::XDP, "long_enough", long_enough())?;
//! assert_eq!(program.insns().len(), 8);
//! assert!(program.listing().contains("r3 -= r2"));
//! # Ok::<(), bpfsmith_asm::report::Report>(())
//! ```
//!
//! | to … | see |
//! |---|---|
//! | write programs | [`dsl`], which a file of programs imports whole |
//! | use ready parts | [`kit`] |
//! | read and write text | [`listing`], [`mod@text`] |
//! | read bytes | [`decode`], [`isa`] |
//! | know what is wrong | [`check`](mod@check), [`report`] |

pub mod check;
pub mod code;
pub mod decode;
pub mod dsl;
pub mod flow;
pub mod global;
pub mod helper;
pub mod insn;
pub mod isa;
pub mod kernel;
pub mod kit;
pub mod link;
pub mod listing;
pub mod mem;
pub mod program;
pub mod report;
pub mod text;

mod certain;
mod relax;
mod stack;
