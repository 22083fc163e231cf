//! Processes that are there for a run, and end with it, however it ends.

use super::ROLE;
use super::place::Processors;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// How long one may take until it listens, and to end.
const LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked at meanwhile.
const GLANCE: Duration = Duration::from_millis(5);

/// This program in a role. It ends when its standard input does: so also when nobody could end it.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts it in the namespace of the calling thread, and waits until it listens there.
    ///
    /// # Errors
    /// When it ends before it listens, or does not listen at all.
    pub fn start(role: &str, listens: SocketAddr) -> io::Result<Process> {
        let mut command = Command::new(env::current_exe()?);
        let command = command.env(ROLE, role).stdin(Stdio::piped());
        let mut process = Process(command.spawn()?);
        let end = Instant::now() + LIMIT;
        while TcpStream::connect(listens).is_err() {
            if let Some(status) = process.0.try_wait()? {
                return Err(io::Error::other(format!("it ended at once: {status}")));
            }
            if Instant::now() > end {
                return Err(io::Error::other("it does not listen"));
            }
            thread::sleep(GLANCE);
        }
        Ok(process)
    }

    /// All that it is made of stays on these processors.
    pub fn keep(&self, processors: &Processors) {
        for thread in threads(self.0.id()) {
            processors.keep(thread);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let end = Instant::now() + LIMIT;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(GLANCE);
        }
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The threads of a process, of those that it started, and so on. Those that end meanwhile are not missed.
fn threads(process: u32) -> Vec<Pid> {
    let mut found = Vec::new();
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let number = task.file_name().to_string_lossy().parse();
        found.extend(number.map(Pid::from_raw));
        let children = fs::read_to_string(task.path().join("children"));
        for child in children.unwrap_or_default().split_whitespace() {
            found.extend(child.parse().map(threads).unwrap_or_default());
        }
    }
    found
}

/// Waits until nobody needs this process any more.
pub fn wait_for_the_end() {
    let mut input = io::stdin();
    // Whoever started it is gone when this ends or fails.
    while matches!(input.read(&mut [0; 64]), Ok(1..)) {}
}

/// A program that is installed here, and what it reads.
#[derive(Debug)]
pub struct Installed {
    /// What it is called.
    pub name: &'static str,
    /// How it is asked whether it takes its configuration, which comes last.
    pub check: &'static [&'static str],
    /// How it is started.
    pub start: &'static [&'static str],
    /// What is in its configuration.
    pub text: String,
}

impl Installed {
    /// Runs it until nobody needs this process any more.
    ///
    /// # Errors
    /// When it is not installed, or does not take its configuration; it has said why.
    pub fn run(&self) -> io::Result<()> {
        let name = format!("bpfsmith-bench-{}-{}", self.name, std::process::id());
        let path = Scratch(env::temp_dir().join(name));
        fs::write(&path.0, &self.text)?;
        let command = |words: &[&str]| {
            let mut command = Command::new(self.name);
            command.args(words).arg(&path.0).stdin(Stdio::null());
            command
        };
        let output = command(self.check).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(said));
        }
        let mut child = command(self.start).spawn()?;
        let id = i32::try_from(child.id()).map_err(io::Error::other)?;
        thread::spawn(move || {
            wait_for_the_end();
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        });
        child.wait()?;
        Ok(())
    }
}

/// A file that goes when this is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nobody looks for it.
        let _ = fs::remove_file(&self.0);
    }
}
