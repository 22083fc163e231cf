//! The smallest useful program: builds two instructions, has the kernel verify them, and runs them.
//! Needs root.
//!
//! `cargo build --profile tiny --target x86_64-unknown-linux-musl --example minimal_loader` makes one
//! static file of it.

use bpfsmith::dsl::*;
use bpfsmith::prog::Load;
use std::error::Error;

/// The program.
///
/// # Panics
/// If the checker finds anything wrong with it.
#[must_use]
pub fn program() -> Program {
    Program::new(ProgType::SOCKET_FILTER, "two", code![ret(42)])
        .unwrap_or_else(|report| panic!("{report}"))
}

/// Loads the program, and runs it once.
///
/// # Errors
/// When the kernel refuses, or the program does not return what it says.
pub fn run() -> Result<(), Box<dyn Error>> {
    let prog = Load::new(&program()).load()?;
    match prog.run().data(&[0; 14]).go()?.retval {
        42 => Ok(()),
        other => Err(format!("the program returned {other}").into()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    run()
}
