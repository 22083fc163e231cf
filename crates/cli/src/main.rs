//! The `bpfsmith` command.

use bpfsmith_cli::probing::Watcher;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1).collect();
    let watcher = if stderr().is_terminal() {
        Watcher::Terminal
    } else {
        Watcher::Nobody
    };
    let status =
        bpfsmith_cli::run_watched(args, &mut stdin(), &mut stdout(), &mut stderr(), watcher);
    ExitCode::from(status)
}
