//! Chores in Rust. `cargo xtask` lists them.

pub mod error;
pub mod plan;
pub mod relay;
pub mod vm;

pub use error::{Error, Result};
