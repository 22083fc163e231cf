//! `cargo xtask vm`: the kernel tests on another kernel than this machine's.
//!
//! ```text
//! cargo xtask vm --kernel 6.1
//! cargo xtask vm --kernel 6.12 --package bpfsmith-prog -- fentry
//! ```
//!
//! 1. Debian's package of that kernel is fetched by apt and unpacked below `target/vm`, once.
//!    The machine's own list of sources is only read, to find the mirror.
//! 2. All test targets called `kernel*` are built, as `cargo test` does: after that nothing is left to do.
//! 3. They go into an initramfs, together with the libraries that they are linked with, the modules that they may need
//!    and a first process of our own, `vm-init`.
//! 4. qemu boots it under software emulation. The first process runs one test binary after the
//!    other under `BPFSMITH_STRICT=1` and reports on the console.
//!
//! The command succeeds if every test binary was run and passed. A machine that stops early or does
//! not stop in time is a failure.
//!
//! A kernel test finds nothing but itself there: no files of the repository, no shell, no other
//! programs, one CPU, and 2 GiB of memory. `/proc`, `/sys`, `/dev`, `/tmp` and the kernel's special file
//! systems are mounted where they usually are, and `lo` is up. `BPFSMITH_SLOW=1` tells it to repeat less. Of what a binary writes, the first 256 KiB
//! and the last 16 are shown. What it leaves running is killed.

mod binaries;
mod console;
mod cpio;
mod kernel;
mod machine;
mod modules;

use crate::plan::{self, End, Plan};
use crate::{Error, Result};
use binaries::Binary;
use console::{Console, Outcome};
use cpio::Cpio;
use kernel::Kernel;
use machine::Machine;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is to be run, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The version in the table of kernels.
    pub kernel: String,
    /// Only these packages' tests; all if empty.
    pub packages: Vec<String>,
    /// These packages' tests are left out.
    pub excluded: Vec<String>,
    /// Which test targets, as cargo's pattern.
    pub tests: String,
    /// The arguments of each test binary.
    pub arguments: Vec<String>,
    /// How long the machine may run.
    pub seconds: u32,
    /// How many CPUs it has.
    pub cpus: u32,
}

impl Default for Request {
    fn default() -> Request {
        Request {
            kernel: String::new(),
            packages: Vec::new(),
            excluded: Vec::new(),
            tests: "kernel*".to_owned(),
            arguments: Vec::new(),
            seconds: 900,
            cpus: 1,
        }
    }
}

impl Request {
    /// Whether the tests of `package/target` are asked for.
    fn wants(&self, name: &str) -> bool {
        let is_of = |package: &String| name.split('/').next() == Some(package);
        let is_named = self.packages.is_empty() || self.packages.iter().any(is_of);
        is_named && !self.excluded.iter().any(is_of)
    }
}

/// Does it all. True if the tests passed.
///
/// # Errors
///
/// If it does not come to the tests, or the emulator fails.
pub fn run(request: &Request) -> Result<bool> {
    let root = root();
    let cache = target(&root).join("vm");
    let kernel = kernel::fetch(&request.kernel, &cache)?;
    let tests = binaries::tests(request, &root)?;
    let first = binaries::first(&root, &cache.join("build"))?;
    let plan = Plan {
        word: word(),
        tests: tests.iter().map(|test| test.name.clone()).collect(),
        arguments: request.arguments.clone(),
    };
    // Two machines may run at once.
    let initramfs = cache.join(format!("initramfs-{}", plan.word));
    let archive = archive(&kernel, &plan, &tests, &first)?;
    fs::write(&initramfs, archive).map_err(Error::file(&initramfs))?;
    let mut console = Console::new(&plan.word);
    let begin = Instant::now();
    let machine = Machine {
        image: &kernel.image,
        initramfs: &initramfs,
        cpus: request.cpus,
        limit: Duration::from_secs(request.seconds.into()),
    };
    let in_time = machine.run(&mut console);
    fs::remove_file(&initramfs).map_err(Error::file(&initramfs))?;
    let in_time = in_time?;
    println!(
        "{}",
        summary(&kernel.release, &plan.tests, &console, begin.elapsed())
    );
    if !in_time {
        println!("not finished within {} s: stopped", request.seconds);
    }
    Ok(in_time && console.passed(&plan.tests))
}

fn archive(kernel: &Kernel, plan: &Plan, tests: &[Binary], first: &Path) -> Result<Vec<u8>> {
    let mut cpio = Cpio::default();
    // The kernel opens it for the first process before anything is mounted.
    cpio.character_device("/dev/console", (5, 1))?;
    cpio.program("/init", first)?;
    cpio.file(plan::PLAN, plan.to_text().as_bytes())?;
    let config = fs::read(&kernel.config).map_err(Error::file(&kernel.config))?;
    cpio.file(&format!("/boot/config-{}", kernel.release), &config)?;
    cpio.directory(plan::MODULES)?;
    for module in &kernel.modules {
        let bytes = fs::read(module).map_err(Error::file(module))?;
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        cpio.file(&format!("{}/{name}", plan::MODULES), &bytes)?;
    }
    for library in binaries::libraries(tests)? {
        cpio.program(&library.to_string_lossy(), &library)?;
    }
    for test in tests {
        cpio.program(&format!("{}/{}", plan::TESTS, test.name), &test.path)?;
    }
    cpio.finish()
}

fn summary(release: &str, tests: &[String], console: &Console, total: Duration) -> String {
    let mut text = format!("== Linux {release}\n");
    for test in tests {
        let outcome = console.outcomes.iter().find(|o| o.test == *test);
        let end = match outcome.map(|outcome| outcome.end) {
            Some(Some(End::Code(0))) => "passed".to_owned(),
            Some(Some(end)) => format!("FAILED with {end}"),
            Some(None) => "FAILED: the machine stopped while it ran".to_owned(),
            None => "FAILED: the machine stopped before".to_owned(),
        };
        text.push_str(&format!("{test}: {end}"));
        if let Some(outcome) = outcome.filter(|outcome| outcome.end.is_some()) {
            text.push_str(&counts(outcome));
        }
        text.push('\n');
    }
    text.push_str(&format!("{} skips; ", console.skips.len()));
    if let Some((ours, theirs)) = console.up {
        let (ours, theirs) = (ours.as_secs_f32(), theirs.as_secs_f32());
        text.push_str(&format!(
            "up after {ours:.1} s (by its clock {theirs:.1} s), "
        ));
    }
    text.push_str(&format!("off after {:.1} s", total.as_secs_f32()));
    text
}

/// What is known of a test binary that ended.
fn counts(outcome: &Outcome) -> String {
    let mut text = String::new();
    if let Some(count) = outcome.count {
        text.push_str(&format!(", {count} tests"));
    }
    if outcome.skips > 0 {
        text.push_str(&format!(", {} skips", outcome.skips));
    }
    text.push_str(&format!(", {:.1} s", outcome.took.as_secs_f32()));
    text
}

/// The workspace: the directory above this package.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// A word that nobody can guess: the standard library's hashers start at random.
fn word() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_how_each_test_ended() {
        let mut console = Console::new("w");
        for (at, line) in [
            (2600, "@w@ up 1900"),
            (2600, "@w@ start p/a"),
            (2600, "running 3 tests"),
            (2600, "SKIP t: Tcx: too old"),
            (3800, "@w@ done code 0"),
            (3800, "@w@ start p/b"),
            (3900, "@w@ done signal 11"),
            (3900, "@w@ start p/c"),
        ] {
            console.line(line, Duration::from_millis(at));
        }
        let tests = ["p/a", "p/b", "p/c", "p/d"].map(str::to_owned);
        assert_eq!(
            summary("6.1.0", &tests, &console, Duration::from_secs(4)),
            "== Linux 6.1.0\n\
             p/a: passed, 3 tests, 1 skips, 1.2 s\n\
             p/b: FAILED with signal 11, 0.1 s\n\
             p/c: FAILED: the machine stopped while it ran\n\
             p/d: FAILED: the machine stopped before\n\
             1 skips; up after 2.6 s (by its clock 1.9 s), off after 4.0 s"
        );
    }

    #[test]
    fn packages_are_asked_for_or_left_out() {
        let wants = |packages: &[&str], excluded: &[&str], name: &str| {
            let list = |names: &[&str]| names.iter().copied().map(str::to_owned).collect();
            let request = Request {
                packages: list(packages),
                excluded: list(excluded),
                ..Request::default()
            };
            request.wants(name)
        };
        assert!(wants(&[], &[], "a/kernel"));
        assert!(wants(&["b", "a"], &[], "a/kernel"));
        assert!(!wants(&["b", "a-b"], &[], "a/kernel"));
        assert!(!wants(&[], &["a"], "a/kernel"));
        assert!(wants(&[], &["a-b", "b"], "a/kernel"));
    }

    #[test]
    fn words_differ() {
        assert_ne!(word(), word());
    }
}
