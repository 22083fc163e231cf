//! Loads BPF programs, explains refusals, attaches, runs and lists them.
//!
//! | to … | see |
//! |---|---|
//! | hold the maps of programs | [`Maps`] |
//! | load | [`Load`], which gives a [`Prog`] |
//! | know why not | [`Error`], [`blame`] |
//! | attach | [`Prog::attach`] with a [`Target`](target::Target), which gives a [`Link`] |
//! | run it on given input | [`Prog::run`], [`Outcome`] |
//! | start timers by such a run | [`with_room_for_timers`] |
//! | give the kernel functions of its own (struct_ops) | [`ops`] |
//! | send frames to devices of a namespace | [`Ports`] |
//! | see what is loaded | [`list`] |
//! | find a function in a program or library | [`elf`] |
//! | know the running kernel's types | [`kernel`] |
//! | know what the running kernel can do | [`probe`] |

pub mod blame;
pub mod elf;
pub mod kernel;
pub mod list;
pub mod near;
pub mod ops;
pub mod probe;
pub mod target;

mod answered;
mod error;
mod globals;
mod hints;
mod ksyms;
mod link;
mod load;
mod maps;
mod ports;
mod prog;
mod resolve;
mod run;
mod source;
mod tell;
mod timers;
mod tracefs;

pub use error::{Error, Kernel, Result};
pub use link::{Link, Way};
pub use load::{Account, Lines, Load};
pub use maps::Maps;
pub use ports::{Asked, Ports};
pub use prog::Prog;
pub use run::{Outcome, Run};
pub use source::NoSource;
pub use tell::Quoted;
pub use timers::with_room_for_timers;
