//! The same algorithm in C: made by clang, loaded by libbpf, on the maps of the generated programs.

use super::rows::{Row, Work};
use super::world::{SHIFT, World};
use bpfsmith_datapath::programs::Hook;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::{Path, Shape};
use bpfsmith_prog::Prog;
use bpfsmith_uapi::AttachType;
use libbpf_rs::ObjectBuilder;
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

/// The instruction set that clang writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpu {
    /// Linux 5.1.
    V3,
    /// Linux 6.6.
    V4,
}

impl Cpu {
    const fn name(self) -> &'static str {
        match self {
            Cpu::V3 => "v3",
            Cpu::V4 => "v4",
        }
    }
}

/// clang, and where it works.
#[derive(Debug)]
pub struct Clang {
    command: String,
    dir: PathBuf,
}

impl Clang {
    /// The one that the environment variable `CLANG` names, or `clang-19`; nothing if it does not run.
    ///
    /// # Panics
    /// If no directory can be made.
    #[must_use]
    pub fn find() -> Option<Clang> {
        let command = env::var("CLANG").unwrap_or_else(|_| String::from("clang-19"));
        let version = Command::new(&command).arg("--version").output().ok()?;
        version.status.success().then_some(())?;
        let name = format!("bpfsmith-bench-datapath-{}", std::process::id());
        let dir = env::temp_dir().join(name);
        fs::create_dir_all(&dir).expect("a directory for temporary files");
        let mut reasons = String::from("enum {\n");
        for reason in Reason::ALL {
            // Writing to a string does not fail.
            let _ = writeln!(reasons, "\t{},", upper(&format!("{reason:?}")));
        }
        reasons.push_str("};\n");
        fs::write(dir.join("reasons.h"), reasons).expect("room");
        Some(Clang { command, dir })
    }

    /// Makes and loads the program of a row.
    ///
    /// # Panics
    /// If it cannot be made or loaded.
    #[must_use]
    pub fn load(&self, world: &World, cpu: Cpu, hook: Hook, row: &Row) -> Prog {
        let object = self.compile(world.shape(), cpu, hook, row);
        let mut open = ObjectBuilder::default()
            .open_file(&object)
            .expect("an object");
        let maps = world.generation().maps();
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            // Variables of a section of their own are a map too.
            let name = name.strip_prefix(".data.").unwrap_or(&name);
            let found = maps.names().find(|known| known.as_str() == name);
            let known = found.and_then(|name| maps.find(name));
            if let Some(known) = known {
                map.reuse_fd(known.as_fd()).expect("the same shape");
            }
        }
        let object = open.load().unwrap_or_else(|error| panic!("{error}"));
        let prog = object.progs().next().expect("a program");
        let fd = prog.as_fd().try_clone_to_owned().expect("a descriptor");
        let attach_type = match hook {
            Hook::Xdp => AttachType::XDP,
            _ => AttachType::TCX_INGRESS,
        };
        Prog::from_fd(fd, attach_type).expect("a program")
    }

    fn compile(&self, shape: &Shape, cpu: Cpu, hook: Hook, row: &Row) -> PathBuf {
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("peer/datapath.bpf.c");
        let object = self.dir.join("datapath.o");
        let mut command = Command::new(&self.command);
        command
            .args([
                "-O2",
                "-g",
                "-target",
                "bpf",
                "-fno-strict-aliasing",
            ])
            .args([
                "-Wall",
                "-Werror",
                "-Wno-unused-function",
                &format!("-mcpu={}", cpu.name()),
            ])
            .args(constants(shape))
            .arg(format!("-I/usr/include/{}-linux-gnu", env::consts::ARCH))
            .arg("-I")
            .arg(&self.dir);
        if hook != Hook::Xdp {
            command.arg("-DTCX");
        }
        if row.work == Work::Nothing {
            command.arg("-DNOTHING");
        }
        if let Some(restore) = &row.restore {
            command.arg("-DRESTORE");
            fs::write(self.dir.join("restore.h"), restore.text()).expect("room");
        }
        command.arg("-c").arg(source).arg("-o").arg(&object);
        let status = command.status().expect("clang");
        assert!(status.success(), "{command:?}");
        object
    }
}

impl Drop for Clang {
    fn drop(&mut self) {
        // Nobody misses what is left there.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What the generated programs have in their instructions.
fn constants(shape: &Shape) -> Vec<String> {
    let ports = &shape.source_ports;
    // All paths have as many.
    let [path, ..] = Path::ALL;
    [
        ("SHIFT", i64::from(SHIFT)),
        ("BUCKETS", path.flows(shape.room).entries.into()),
        (
            "UNANSWERED",
            shape.clock.ticks(shape.timeouts.unanswered).into(),
        ),
        ("FIRST_PORT", i64::from(*ports.start())),
        ("LAST_PORT", i64::from(*ports.end())),
    ]
    .map(|(name, value)| format!("-D{name}={value}"))
    .into()
}

/// `NotOurs` as `NOT_OURS`.
fn upper(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_uppercase());
    }
    out
}
