//! The `bpfsmith` command.

use std::io::{stderr, stdin, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1).collect();
    let status = bpfsmith_cli::run(args, &mut stdin(), &mut stdout(), &mut stderr());
    ExitCode::from(status)
}
