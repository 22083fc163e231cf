//! The command.

use bpfsmith_proxy::act::act;
use bpfsmith_proxy::commands::{Exit, Surroundings, parse};
use std::io::{stderr, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1).collect();
    match parse(args, &Surroundings::of_process()) {
        Ok(parsed) => act(&parsed, &mut stdout(), &mut stderr()).into(),
        Err(error) => {
            eprintln!("bpfsmith-proxy: {error}");
            Exit::Usage.into()
        }
    }
}
