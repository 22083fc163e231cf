//! What can go wrong on the way to the tests' own results.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The result of a step.
pub type Result<T> = std::result::Result<T, Error>;

/// A step that failed, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A version for which there is no row in the table of kernels.
    #[error("there is no kernel {asked} in the table; there are {known}")]
    Kernel {
        /// What was asked for.
        asked: String,
        /// The table's versions.
        known: String,
    },
    /// A program that is not installed.
    #[error("{program} is not installed; on Debian: apt-get install {package}")]
    Program {
        /// The program.
        program: &'static str,
        /// The package that brings it.
        package: &'static str,
    },
    /// A program that ran and failed.
    #[error("`{command}` failed: {said}")]
    Failed {
        /// The command line.
        command: String,
        /// The end of what it wrote.
        said: String,
    },
    /// A file that could not be read or written.
    #[error("{path}: {why}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// An unpacked package that is not as expected.
    #[error("no {what} in {dir}; remove that directory and try again")]
    Package {
        /// What was looked for.
        what: &'static str,
        /// Where it was unpacked.
        dir: PathBuf,
    },
    /// Nothing to run.
    #[error("no test target is called {pattern}; a kernel test is a file tests/kernel*.rs")]
    NoTests {
        /// What was looked for.
        pattern: String,
    },
}

impl Error {
    /// For `map_err`: a file and why not.
    pub fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |why| Error::File { path, why }
    }
}

/// The programs that are called, and the Debian packages that bring them.
const PACKAGES: &[(&str, &str)] = &[
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("dpkg-deb", "dpkg"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("xz", "xz-utils"),
    ("ldd", "libc-bin"),
    ("cargo", "cargo"),
];

/// Says which package brings the command's program, if it could not be started for want of it.
pub(crate) fn start(command: &Command, why: std::io::Error) -> Error {
    let program = command.get_program();
    let name = Path::new(program).file_name().unwrap_or(program);
    let row = PACKAGES.iter().find(|(program, _)| name == *program);
    match (why.kind(), row) {
        (std::io::ErrorKind::NotFound, Some((program, package))) => {
            Error::Program { program, package }
        }
        _ => Error::File {
            path: PathBuf::from(program),
            why,
        },
    }
}

/// Runs a command to its end, and fails if it does.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let output = command.output().map_err(|why| start(command, why))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let mut end: Vec<&str> = said.trim().lines().rev().take(5).collect();
    end.reverse();
    Err(Error::Failed {
        command: line(command),
        said: end.join("\n"),
    })
}

/// The command as a shell would take it, as far as it has no odd characters.
pub(crate) fn line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let command = Command::new("qemu-system-x86_64");
        let why = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert_eq!(
            start(&command, why).to_string(),
            "qemu-system-x86_64 is not installed; on Debian: apt-get install qemu-system-x86"
        );
    }

    #[test]
    fn a_failure_quotes_the_end_of_the_complaint() {
        let mut command = Command::new("sh");
        command.args(["-c", "seq 9 >&2; false"]);
        assert_eq!(
            output(&mut command).unwrap_err().to_string(),
            "`sh -c seq 9 >&2; false` failed: 5\n6\n7\n8\n9"
        );
    }
}
