//! Boots qemu and listens to its console.

use crate::error::start;
use crate::vm::console::Console;
use crate::{Error, Result};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The machine: software emulation, so that it runs where virtualisation is not to be had.
pub(super) struct Machine<'a> {
    pub(super) image: &'a Path,
    pub(super) initramfs: &'a Path,
    pub(super) cpus: u32,
    pub(super) limit: Duration,
}

/// A first process that dies, and a kernel that oopses, end the machine at once. On a busy host a
/// check of the timer fails, and the measured speed of the processor's own clock is wrong by up to 20
/// times, which tests with deadlines do not survive: so no check, and another clock.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 oops=panic rdinit=/init \
    lsm=capability,lockdown,bpf no_timer_check clocksource=hpet tsc=unstable";

impl Machine<'_> {
    /// Runs until the machine is off, and shows what it writes. True if that came within the limit.
    pub(super) fn run(&self, console: &mut Console) -> Result<bool> {
        let begin = Instant::now();
        let mut child = self.start()?;
        let lines = lines(&mut child);
        let mut out = std::io::stdout().lock();
        let in_time = loop {
            let left = self.limit.saturating_sub(begin.elapsed());
            match lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(line) = console.line(&line, begin.elapsed()) {
                        // A closed terminal does not stop the tests.
                        let _ = writeln!(out, "{line}");
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        if !in_time {
            child.kill().map_err(Error::file(Path::new("qemu")))?;
        }
        let status = child.wait().map_err(Error::file(Path::new("qemu")))?;
        match in_time && !status.success() {
            true => Err(Error::Failed {
                command: "qemu-system-x86_64".to_owned(),
                said: status.to_string(),
            }),
            false => Ok(in_time),
        }
    }

    fn start(&self) -> Result<Child> {
        let mut command = Command::new("qemu-system-x86_64");
        command
            // qemu 7.2 leaves rubbish in the flags register behind cmpxchg16b; if an interrupt comes
            // just then, the kernel dies of it. Without it the kernel takes another way.
            .args(["-accel", "tcg", "-cpu", "max,cx16=off"])
            .args(["-m", "2048"])
            .args(["-smp", &self.cpus.to_string()])
            .args([
                "-display", "none", "-vga", "none", "-monitor", "none",
            ])
            .args([
                "-serial",
                "stdio",
                "-nic",
                "none",
                "-no-reboot",
            ])
            .arg("-nodefaults")
            .arg("-kernel")
            .arg(self.image)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", COMMAND_LINE])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command.spawn().map_err(|why| start(&command, why))
    }
}

/// The lines of the console, until it is closed.
fn lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(output) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).into_owned();
                if sender.send(text).is_err() {
                    break;
                }
                line.clear();
            }
        });
    }
    receiver
}
