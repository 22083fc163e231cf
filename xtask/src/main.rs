//! The command line of the chores.

use std::process::ExitCode;
use xtask::vm::{self, Request};

const USAGE: &str = "\
usage: cargo xtask vm --kernel VERSION [OPTIONS] [-- ARGUMENTS OF THE TEST BINARIES]

Runs the kernel tests in a virtual machine with Debian's kernel of that version.

  --kernel VERSION   6.1 or 6.12
  --package NAME     only this package's tests; may be repeated
  --exclude NAME     all packages' tests but this one's; may be repeated
  --test GLOB        the test targets, 'kernel*' unless told
  --limit SECONDS    how long the machine may run, 900 unless told
  --cpus NUMBER      how many CPUs it has, 1 unless told";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let request = match arguments.split_first() {
        Some((chore, rest)) if chore == "vm" => parse(rest),
        Some((chore, _)) => Err(format!("there is no chore {chore}")),
        None => Err("which chore?".to_owned()),
    };
    let request = match request {
        Ok(request) => request,
        Err(why) => {
            eprintln!("{why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match vm::run(&request) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vm: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Result<Request, String> {
    let mut request = Request::default();
    let mut arguments = arguments.iter();
    while let Some(option) = arguments.next() {
        if option == "--" {
            request.arguments = arguments.cloned().collect();
            break;
        }
        let value = arguments
            .next()
            .ok_or_else(|| format!("{option} wants a value"))?;
        let number = || {
            let number = value.parse::<u32>().ok().filter(|number| *number > 0);
            number.ok_or_else(|| format!("{option} wants a number, not {value}"))
        };
        match option.as_str() {
            "--kernel" => request.kernel.clone_from(value),
            "--package" => request.packages.push(value.clone()),
            "--exclude" => request.excluded.push(value.clone()),
            "--test" => request.tests.clone_from(value),
            "--limit" => request.seconds = number()?,
            "--cpus" => request.cpus = number()?,
            _ => return Err(format!("there is no option {option}")),
        }
    }
    match request.kernel.is_empty() {
        true => Err("--kernel is missing".to_owned()),
        false => Ok(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_come_before_the_arguments() {
        let line = "--kernel 6.1 --package a --package b --exclude c --limit 9 -- --limit 8 name";
        let request = parse(&words(line)).unwrap();
        assert_eq!(request.kernel, "6.1");
        assert_eq!(request.packages, ["a", "b"]);
        assert_eq!(request.excluded, ["c"]);
        assert_eq!((request.seconds, request.cpus), (9, 1));
        assert_eq!(request.arguments, ["--limit", "8", "name"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |line: &str, why: &str| assert_eq!(parse(&words(line)).unwrap_err(), why);
        check("", "--kernel is missing");
        check("--kernel", "--kernel wants a value");
        check("--kernel 6.1 --limit x", "--limit wants a number, not x");
        check("--kernel 6.1 --cpus 0", "--cpus wants a number, not 0");
        check("--colonel 6.1", "there is no option --colonel");
    }
}
