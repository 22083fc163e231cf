//! Loading: names are filled in, the kernel verifies, a refusal is explained.

use crate::blame::{Hint, Refusal, Stats};
use crate::error::{Error, Result};
use crate::globals::Initial;
use crate::maps::Maps;
use crate::prog::Prog;
use crate::resolve::{self, Resolved};
use crate::target::{Hook, Target, default_attach};
use crate::tell::{Quoted, Told};
use bpfsmith_asm::global::Global;
use bpfsmith_asm::kernel::{Ask, Question};
use bpfsmith_asm::program::{Program, Target as Reference};
use bpfsmith_net::IfIndex;
use bpfsmith_sys::prog as sys;
use bpfsmith_uapi::flags::prog_load;
use bpfsmith_uapi::{AttachType, Errno, ProgType};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use zerocopy::{Immutable, IntoBytes};

/// What loading a program takes besides the program.
///
/// ```no_run
/// use bpfsmith_asm::dsl::*;
/// use bpfsmith_prog::{Load, Maps};
///
/// let program = Program::new(ProgType::XDP, "pass", code![ret(XDP_PASS)])?;
/// let maps = Maps::of(&program)?;
/// let prog = Load::new(&program).maps(&maps).load()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Load<'a> {
    program: &'a Program,
    maps: Option<&'a Maps>,
    license: CString,
    hook: Option<Hook>,
    attach_type: Option<AttachType>,
    flags: u32,
    device: Option<IfIndex>,
    token: Option<BorrowedFd<'a>>,
    log_level: u32,
    log_limit: usize,
    lines: Lines,
    context: Option<&'a str>,
    initial: Initial,
}

/// Whether the kernel learns functions, source lines, and names and types of global variables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lines {
    /// It does, where it can read BTF and the program has lines. Each comes with its text where the
    /// Rust source is at hand and older than the running program, and with its fragments. The source
    /// is looked for where its path leads, and above the package and the program that run.
    #[default]
    Told,
    /// It does, with the fragments as text: no source is read.
    Paths,
    /// It does not: the load is smaller and quicker. Functions are told all the same where the
    /// kernel insists: for callbacks and with [`Load::context`].
    Kept,
}

/// How a program came to be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// How often the kernel was asked: more than once where it wanted to be asked again (`EAGAIN`).
    pub tries: u32,
    /// What the verifier wrote, where a log level was asked for: the end of it, or before Linux 6.4
    /// the beginning, if it is longer than [`Load::log_limit`].
    pub log: String,
    /// Whether the log is longer than that.
    pub is_log_cut: bool,
    /// The verifier's effort, as far as the log level tells.
    pub stats: Stats,
    /// What the program names and this kernel lacks: a test kept the verifier away from it.
    pub lacking: Vec<String>,
    /// The lines that the kernel was told, and with which texts.
    pub lines: Quoted,
    /// Why the kernel was not told functions, lines and global variables, where it was to be.
    pub lines_refused: Option<Errno>,
}

/// The log that explains a refusal starts with this much room.
const FIRST_LOG: usize = 64 << 10;

/// Before Linux 6.4, the kernel takes no smaller one.
const LEAST_LOG: usize = 128;

/// Where the kernel keeps the end of a log, this much of it explains a refusal: some 10,000 steps.
const END_OF_LOG: usize = 1 << 20;

/// The kernel answers `EAGAIN` when a signal interrupts it; a profiler may keep that up.
const TRIES: u32 = 5;

impl<'a> Load<'a> {
    /// Loads this program, under the GPL, without maps.
    #[must_use]
    pub fn new(program: &'a Program) -> Load<'a> {
        Load {
            program,
            maps: None,
            license: c"GPL".to_owned(),
            hook: None,
            attach_type: None,
            flags: 0,
            device: None,
            token: None,
            log_level: 0,
            log_limit: 64 << 20,
            lines: Lines::Told,
            context: None,
            initial: Initial::default(),
        }
    }

    /// With the maps that it mentions.
    #[must_use]
    pub fn maps(mut self, maps: &'a Maps) -> Load<'a> {
        self.maps = Some(maps);
        self
    }

    /// For this hook: what the kernel must know of it before it verifies.
    ///
    /// # Errors
    /// When the hook does not exist on this kernel.
    pub fn to(mut self, target: &impl Target) -> Result<Load<'a>> {
        self.hook = Some(target.hook()?);
        Ok(self)
    }

    /// For a hook that is no target of its own.
    pub(crate) fn hook(mut self, hook: Hook) -> Load<'a> {
        self.hook = Some(hook);
        self
    }

    /// Under another license. Helpers that need the GPL are refused then, unless it is compatible:
    /// `Dual BSD/GPL`, `GPL v2`, `Dual MIT/GPL`, …
    ///
    /// # Errors
    /// When it holds a zero byte.
    pub fn license(mut self, license: &str) -> Result<Load<'a>> {
        self.license = CString::new(license).map_err(|_| Error::Argument {
            what: "license",
            problem: format!("{license:?} holds a zero byte: leave it out"),
        })?;
        Ok(self)
    }

    /// To be attached as this type. A target given to [`Load::to`] knows it already.
    #[must_use]
    pub fn attach_type(mut self, attach_type: AttachType) -> Load<'a> {
        self.attach_type = Some(attach_type);
        self
    }

    /// With these `BPF_F_…` of [`prog_load`], beside those that the hook asks for.
    #[must_use]
    pub fn flags(mut self, flags: u32) -> Load<'a> {
        self.flags |= flags;
        self
    }

    /// The program can handle XDP frames with fragments. Linux 5.18.
    #[must_use]
    pub fn frags(self) -> Load<'a> {
        self.flags(prog_load::BPF_F_XDP_HAS_FRAGS)
    }

    /// Tied to a device, for its metadata. Linux 6.3.
    #[must_use]
    pub fn device(mut self, device: IfIndex) -> Load<'a> {
        self.device = Some(device);
        self.flags(prog_load::BPF_F_XDP_DEV_BOUND_ONLY)
    }

    /// With a token that lends the right. Linux 6.9.
    #[must_use]
    pub fn token(mut self, token: BorrowedFd<'a>) -> Load<'a> {
        self.token = Some(token);
        self
    }

    /// With a log also when all goes well. Bits: 1 the path, 2 every path, 4 statistics.
    #[must_use]
    pub fn log_level(mut self, level: u32) -> Load<'a> {
        self.log_level = level;
        self
    }

    /// With at most this much room for a log, 64 MiB otherwise and 128 bytes at least. What is cut
    /// off is the beginning, before Linux 6.4 the end.
    #[must_use]
    pub fn log_limit(mut self, bytes: usize) -> Load<'a> {
        self.log_limit = bytes;
        self
    }

    /// With another first value of a global variable. For a constant (`.rodata`) this is the last
    /// chance, and the verifier leaves out what the value makes impossible.
    ///
    /// # Errors
    /// When the program has no such variable.
    pub fn set<T: IntoBytes + Immutable>(
        mut self,
        global: &Global<T>,
        value: &T,
    ) -> Result<Load<'a>> {
        self.initial.set(self.program, global, value)?;
        Ok(self)
    }

    /// With or without functions, source lines and global variables for the kernel.
    #[must_use]
    pub fn lines(mut self, lines: Lines) -> Load<'a> {
        self.lines = lines;
        self
    }

    /// With the name of the context's structure (`xdp_md`, `__sk_buff`) told to the kernel: what
    /// [`Freplace`](crate::target::Freplace) demands of both programs.
    #[must_use]
    pub fn context(mut self, structure: &'a str) -> Load<'a> {
        self.context = Some(structure);
        self
    }

    /// Has the kernel verify the program.
    ///
    /// # Errors
    /// [`Error::Refused`] when it says no, with the Rust line; others when a name in the program
    /// cannot be filled in.
    pub fn load(self) -> Result<Prog> {
        let none = Maps::new();
        let maps = self.maps.unwrap_or(&none);
        for shape in self.program.maps() {
            maps.agree(self.program, shape)?;
        }
        self.has_hook()?;
        if let Some(of) = self.hook.as_ref().and_then(|hook| hook.args.as_deref()) {
            resolve::takes_arguments_of(self.program, of)?;
        }
        let told = Told::new(self.program, self.lines, self.context, self.token);
        let resolved = Resolved::new(self.program, maps, &self.initial, &told, self.token)?;
        let mut account = Account {
            lacking: resolved
                .missing
                .iter()
                .map(|(_, lack)| lack.to_string())
                .collect(),
            lines: told.quoted,
            lines_refused: told.refused,
            ..Account::default()
        };
        let attach_type = self.attach();
        let hook = self.hook.unwrap_or_default();
        let fd_array = resolved.fd_array();
        let load = sys::Load {
            kind: self.program.kind().0,
            insns: &resolved.insns,
            license: &self.license,
            name: kernel_name(self.program.name()),
            flags: self.flags | hook.flags | needed_flags(self.program.kind()),
            ifindex: self.device.map_or(0, |device| device.0),
            attach_type: attach_type.0,
            btf: told.btf.as_ref().map(OwnedFd::as_fd),
            funcs: records(&told.funcs, bpfsmith_btf::FUNC_INFO_SIZE),
            lines: records(&told.lines, bpfsmith_btf::LINE_INFO_SIZE),
            attach_btf_id: hook.btf_id,
            attach_to: hook.object.as_ref().map(AsFd::as_fd),
            fd_array: &fd_array,
            is_fd_array_counted: sys::IsCounted::No,
            token: self.token,
            signature: None,
        };
        let fd = Attempt {
            program: self.program,
            load: &load,
            level: self.log_level,
            limit: self.log_limit,
        }
        .run(&mut account)
        .map_err(|error| lacking(self.program, error, &resolved.missing))?;
        Ok(Prog::new(
            fd,
            self.program,
            attach_type,
            resolved.data,
            account,
        ))
    }

    /// Refuses programs that are for one function or event, if nobody said for which: the kernel has
    /// numbers for that which say less.
    fn has_hook(&self) -> Result<()> {
        let problem = match self.program.kind() {
            _ if self.hook.is_some() => return Ok(()),
            ProgType::STRUCT_OPS => {
                "it is to be a member of a structure of functions: bind it with ops::StructOps, which \
                 loads it"
            }
            ProgType::TRACING | ProgType::LSM | ProgType::EXT => {
                "it is loaded for one function or event: pass that to Load::to"
            }
            _ => return Ok(()),
        };
        Err(Error::Argument {
            what: "program",
            problem: format!(
                "{} is of type {}: {problem}",
                self.program.name(),
                self.program.kind()
            ),
        })
    }

    /// The attach type: given, the hook's, or the only sensible one of the program type.
    fn attach(&self) -> AttachType {
        self.attach_type
            .or(self.hook.as_ref().map(|hook| hook.attach_type))
            .unwrap_or_else(|| default_attach(self.program.kind()))
    }
}

/// A program that is ready for the kernel.
struct Attempt<'a> {
    program: &'a Program,
    load: &'a sys::Load<'a>,
    level: u32,
    limit: usize,
}

impl Attempt<'_> {
    /// Without a log first, unless one is asked for: most programs load, and logs cost time. Then
    /// with one, to say why not.
    fn run(&self, account: &mut Account) -> Result<OwnedFd> {
        let mut verdict = None;
        if self.level == 0 {
            match self.ask(&mut sys::Log::default(), account) {
                Ok(fd) => return Ok(fd),
                // Nothing that a verifier would write about.
                Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => {
                    return Err(self.refused(errno, &[]));
                }
                Err(errno) => verdict = Some(errno),
            }
        }
        let (level, limit) = (self.level.max(1), self.limit.max(LEAST_LOG));
        let mut room = FIRST_LOG.min(limit);
        loop {
            let mut buffer = vec![0_u8; room];
            let mut log = sys::Log {
                level,
                buffer: &mut buffer,
                true_size: 0,
            };
            let done = self.ask(&mut log, account);
            let wanted = log.true_size as usize;
            // The buffer keeps the end of the log; before 6.4 the beginning, and an ENOSPC.
            let is_short = wanted > room || matches!(done, Err(Errno::ENOSPC));
            // Nobody asked for more of the log than explains the refusal, which is its end.
            let limit = match self.level {
                0 if wanted > 0 => limit.min(END_OF_LOG),
                _ => limit,
            };
            if is_short && room < limit {
                room = wanted.max(room.saturating_mul(4)).min(limit);
                continue;
            }
            let answer = done.as_ref().err().copied();
            let done = match (done, verdict) {
                // That the log did not fit hides what the verifier decided.
                (Err(Errno::ENOSPC), Some(errno)) => Err(errno),
                (Err(Errno::ENOSPC), None) => self.ask(&mut sys::Log::default(), account),
                (done, _) => done,
            };
            let end = buffer.iter().position(|&b| b == 0).unwrap_or(room);
            let log = &buffer[..end];
            return match done {
                Ok(fd) if self.level > 0 => {
                    account.log = String::from_utf8_lossy(log).into_owned();
                    account.stats = Stats::of(&account.log);
                    account.is_log_cut = is_short;
                    Ok(fd)
                }
                Ok(fd) => Ok(fd),
                Err(errno) => {
                    let answer = answer.unwrap_or(errno);
                    let refusal = Refusal::answered(self.program, errno, answer, log);
                    Err(Error::Refused(Box::new(refusal.quoted())))
                }
            };
        }
    }

    fn ask(
        &self,
        log: &mut sys::Log<'_>,
        account: &mut Account,
    ) -> std::result::Result<OwnedFd, Errno> {
        let mut tries = 0;
        loop {
            tries += 1;
            account.tries += 1;
            match sys::load(self.load, log) {
                Err(failed) if failed.errno == Errno::EAGAIN && tries < TRIES => {}
                done => return done.map_err(|failed| failed.errno),
            }
        }
    }

    fn refused(&self, errno: Errno, log: &[u8]) -> Error {
        Error::Refused(Box::new(Refusal::new(self.program, errno, log).quoted()))
    }
}

/// Where the verifier came to something that the kernel lacks, that is the reason: what it says
/// itself is about what stands there instead.
fn lacking(program: &Program, mut error: Error, missing: &[(usize, Error)]) -> Error {
    if let Error::Refused(refusal) = &mut error
        && let Some(slot) = refusal.slot
    {
        if let Some((_, lack)) = missing.iter().find(|(at, _)| *at == slot) {
            refusal.sentence = lack.to_string();
            refusal.hint = None;
            // Its listing shows the instruction itself.
            refusal.steps.retain(|(point, _)| point.slot != slot);
        } else if let Some(path) = reaches_for(program, slot)
            && (refusal.hint.is_none() || refusal.sentence.contains("only read is supported"))
        {
            refusal.hint = Some(Hint {
                name: "field",
                text: format!(
                    "the instruction reaches for {path}: the register may point to another \
                     structure, or programs of this type may not read, or not write, this member"
                ),
            });
        }
    }
    error
}

/// The field of the kernel in an access.
fn reaches_for(program: &Program, slot: usize) -> Option<&str> {
    let mut relocs = program.relocs().iter();
    let reloc = relocs.find(|reloc| reloc.at as usize == slot)?;
    match &reloc.target {
        Reference::Kernel(Question {
            ask: Ask::Field | Ask::Offset | Ask::Bits,
            path,
        }) => Some(path),
        _ => None,
    }
}

/// What the kernel demands of every program of a type.
const fn needed_flags(kind: ProgType) -> u32 {
    match kind {
        ProgType::SYSCALL => prog_load::BPF_F_SLEEPABLE,
        _ => 0,
    }
}

fn records(bytes: &[u8], size: u32) -> sys::Records<'_> {
    sys::Records { bytes, size }
}

/// The part of a name that the kernel takes: 15 bytes of `A-Za-z0-9_.`, others as `_`.
pub(crate) fn kernel_name(name: &str) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().take(15).zip(name.bytes()) {
        *to = match from {
            b'_' | b'.' => from,
            _ if from.is_ascii_alphanumeric() => from,
            _ => b'_',
        };
    }
    out
}

/// A name of the kernel, up to its zero.
pub(crate) fn from_kernel(name: &[u8; 16]) -> String {
    CStr::from_bytes_until_nul(name)
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{from_kernel, kernel_name};

    #[test]
    fn names_are_cut_to_what_the_kernel_takes() {
        for (name, short) in [
            ("drop", "drop"),
            ("a-b c", "a_b_c"),
            ("sixteen_letters_", "sixteen_letters"),
            ("größe", "gr____e"),
        ] {
            assert_eq!(from_kernel(&kernel_name(name)), short);
        }
    }
}
