//! The `bpfsmith` command: BPF programs as text and bytes, checked and run; what the kernel holds and
//! can do.
//!
//! Everything but the process is here, so that tests can run a command without one: [`run`] takes
//! the arguments and the three streams. What the commands do to bytes and text is in [`source`],
//! [`hex`] and [`disasm`]; [`testrun`], [`probing`], `btf` and [`objects`] ask the kernel and format its
//! answers, with [`columns`], [`picture`] and [`json`]. None of them prints.

pub mod args;
mod btf;
pub mod columns;
pub mod disasm;
mod given;
pub mod help;
pub mod hex;
pub mod json;
pub mod objects;
pub mod picture;
pub mod probing;
pub mod source;
pub mod testrun;

use args::{Command, Input, Output, UsageError};
use bpfsmith_asm::check::check;
use bpfsmith_asm::isa::{Order, Raw};
use bpfsmith_asm::program::{Program, Target};
use bpfsmith_asm::report::{Place, Severity};
use bpfsmith_asm::text::program;
use bpfsmith_uapi::ProgType;
use probing::Watcher;
use source::{Format, Source};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

/// Everything was done; the checker has warnings at most.
pub const DONE: u8 = 0;
/// The input or the kernel refused, or a file could not be read or written.
pub const REFUSED: u8 = 1;
/// The command line was refused.
pub const USAGE: u8 = 2;

/// There are differences.
pub const DIFFERENT: u8 = 1;
/// What was to be compared could not be read.
pub const TROUBLE: u8 = 2;

/// Why a command did not do its work.
pub(crate) enum Failure {
    /// The command line.
    Usage(UsageError),
    /// The input: one line for each thing that is wrong.
    Refused(Vec<String>),
    /// A file, a stream or the kernel: what failed.
    Failed(String),
    /// The same, with a status of its own.
    Status(u8, String),
}

/// Runs one command line (without the program's name) and gives the exit status.
///
/// Nothing is printed but to the two streams. A standard output that nobody reads any more is no
/// failure.
pub fn run(
    args: Vec<OsString>,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    run_watched(args, stdin, stdout, stderr, Watcher::Nobody)
}

/// The same, with somebody who may look at standard error meanwhile.
pub fn run_watched(
    args: Vec<OsString>,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
    watcher: Watcher,
) -> u8 {
    let done = args::parse(args)
        .map_err(Failure::Usage)
        .and_then(|command| execute(command, stdin, stdout, stderr, watcher));
    let (status, lines) = match done {
        Ok(status) => return status,
        Err(Failure::Usage(error)) => {
            let hint = match error.command {
                Some(command) => format!("see `bpfsmith help {command}`"),
                None => "see `bpfsmith help`".to_owned(),
            };
            (USAGE, vec![error.to_string(), hint])
        }
        Err(Failure::Refused(lines)) => (REFUSED, lines),
        Err(Failure::Failed(line)) => (REFUSED, vec![format!("bpfsmith: {line}")]),
        Err(Failure::Status(status, line)) => (status, vec![format!("bpfsmith: {line}")]),
    };
    complain(stderr, &lines);
    status
}

fn execute(
    command: Command,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
    watcher: Watcher,
) -> Result<u8, Failure> {
    match command {
        Command::Help(topic) => print(stdout, topic.text().as_bytes())?,
        Command::Version => {
            let line = concat!("bpfsmith ", env!("CARGO_PKG_VERSION"), "\n");
            print(stdout, line.as_bytes())?;
        }
        Command::Asm {
            input,
            output,
            format,
        } => {
            let source = read(&input, Format::Text, stdin)?;
            let bytes = match format {
                Format::Raw => raw_bytes(&source.insns),
                Format::Hex | Format::Text => hex::write(&source.insns).into_bytes(),
            };
            match output {
                Output::Stdout => print(stdout, &bytes)?,
                Output::File(path) => save(&path, &bytes)?,
            }
            complain(stderr, &notes(&source));
        }
        Command::Disasm { input, format } => {
            let source = read(&input, format, stdin)?;
            let text = disasm::text(&source.insns)
                .map_err(|error| Failure::Refused(vec![error.to_string()]))?;
            print(stdout, text.as_bytes())?;
        }
        Command::Check {
            input,
            format,
            kind,
        } => {
            let source = read(&input, format, stdin)?;
            let (lines, is_refused) = findings(&source, kind);
            print(stdout, lines.as_bytes())?;
            return Ok(if is_refused { REFUSED } else { DONE });
        }
        Command::Run(trial) => {
            let source = read(&trial.input, trial.format, stdin)?;
            let text = testrun::run(&trial, &source)?;
            print(stdout, text.as_bytes())?;
        }
        Command::Probe { groups, form } => {
            let text = probing::probe(&groups, form, watcher, stderr);
            print(stdout, text.as_bytes())?;
        }
        Command::Btf(asked) => {
            let mut out = Out::new(stdout);
            let mut note = |line| complain(stderr, &[line]);
            let status = btf::run(asked, &mut out, &mut note)?;
            out.flush()?;
            return Ok(status);
        }
        Command::Objects { kind, action, form } => {
            let mut out = Out::new(stdout);
            objects::run(kind, action, form, &mut out)?;
            out.flush()?;
        }
    }
    Ok(DONE)
}

fn read(input: &Input, format: Format, stdin: &mut dyn Read) -> Result<Source, Failure> {
    let mut bytes = Vec::new();
    let (name, done) = match input {
        Input::Stdin => (
            "<stdin>".to_owned(),
            stdin.read_to_end(&mut bytes).map(|_| ()),
        ),
        Input::File(path) => (
            visible(&path.to_string_lossy()),
            std::fs::read(path).map(|read| bytes = read),
        ),
    };
    done.map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
    Source::read(&name, format, &bytes).map_err(Failure::Refused)
}

/// The bytes as a little-endian machine reads them.
fn raw_bytes(insns: &[Raw]) -> Vec<u8> {
    insns
        .iter()
        .flat_map(|raw| raw.to_bytes(Order::Little))
        .collect()
}

/// What loading must fill in.
fn notes(source: &Source) -> Vec<String> {
    let note = |target: &Target| match target {
        Target::Map(name) => format!("map {name}"),
        Target::MapValue(name, offset) => format!("the value of map {name} + {offset}"),
        Target::Section(name, offset) => format!("section {name} + {offset}"),
        Target::Kfunc(name) => format!("kernel function {}", visible(name)),
        Target::Ksym(name) => format!("kernel variable {}", visible(name)),
        Target::Kernel(question) => {
            format!("@{}[{}]", question.ask.word(), visible(&question.path))
        }
        // A kind of name that was added since.
        other => format!("{other:?}"),
    };
    source
        .relocs
        .iter()
        .map(|reloc| {
            let (at, what) = (reloc.at, note(&reloc.target));
            format!("note: instruction {at} refers to {what}: filled in when loaded")
        })
        .collect()
}

/// What the checker says, one finding to a line, and whether it refuses.
pub(crate) fn findings(source: &Source, kind: Option<ProgType>) -> (String, bool) {
    let findings = match &source.listing {
        // A whole listing is also checked for maps and sections that it does not describe.
        Some((own, text)) if kind.is_none_or(|kind| kind == *own) => match program(text) {
            Ok(program) => program.warnings().to_vec(),
            Err(report) => report.findings,
        },
        _ => {
            let kind = kind.unwrap_or(ProgType::UNSPEC);
            check(&Program::from_slots(kind, "main", source.insns.clone())).findings
        }
    };
    let mut lines = String::new();
    for finding in &findings {
        let place = match finding.place {
            Place::Slot(slot) => source.place(slot),
            ref other => format!("{}:{other}", source.name),
        };
        let severity = match finding.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let message = visible(&finding.message);
        lines.push_str(&format!("{place}: {severity}: {message}\n"));
    }
    let is_refused = findings.iter().any(|f| f.severity == Severity::Error);
    (lines, is_refused)
}

/// Writes to standard output.
fn print(stdout: &mut dyn Write, bytes: &[u8]) -> Result<(), Failure> {
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Failed(format!(
            "cannot write standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Standard output for texts that come in parts.
pub(crate) struct Out<'a> {
    stdout: &'a mut dyn Write,
    buffer: Vec<u8>,
    is_closed: bool,
}

impl<'a> Out<'a> {
    /// Parts are written together up to this size.
    const ROOM: usize = 64 << 10;

    fn new(stdout: &'a mut dyn Write) -> Out<'a> {
        Out {
            stdout,
            buffer: Vec::new(),
            is_closed: false,
        }
    }

    pub(crate) fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.buffer.extend_from_slice(text.as_bytes());
        if self.buffer.len() >= Out::ROOM {
            self.flush()?;
        }
        Ok(())
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let done = self.stdout.write_all(&self.buffer);
        self.buffer.clear();
        match done.and_then(|()| self.stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            Err(error) => Err(Failure::Failed(format!(
                "cannot write standard output: {error}"
            ))),
        }
    }
}

/// What the kernel, or a crate that asks it, says.
pub(crate) fn kernel(error: &dyn std::fmt::Display) -> Failure {
    Failure::Failed(visible(&error.to_string()))
}

/// Writes a file whole, or says what failed.
fn save(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.flush()
    };
    write().map_err(|error| {
        let name = visible(&path.to_string_lossy());
        Failure::Failed(format!("cannot write {name}: {error}"))
    })
}

/// Writes to standard error, whose own failure there is nowhere to tell.
fn complain(stderr: &mut dyn Write, lines: &[String]) {
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    let _nowhere_to_tell = stderr.write_all(text.as_bytes());
}

/// The text with its control characters spelled out: what was read must not steer a terminal.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || c == '\u{feff}' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
