//! Everything that is loaded: programs, links and BTF objects by id, and what they consist of.

use crate::error::{Error, Result};
use crate::load::from_kernel;
use bpfsmith_asm::decode::ops;
use bpfsmith_asm::isa::{Op, Order, Raw, Wide};
use bpfsmith_asm::text::{Symbol, write_op, write_op_named};
use bpfsmith_btf::Btf;
use bpfsmith_sys::info::{self, List};
use bpfsmith_sys::object::{Kind, next_id, open_id};
use bpfsmith_sys::{Failed, misc};
use bpfsmith_uapi::{Errno, ProgType, StatsType};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub use bpfsmith_sys::info::{BtfInfo, LinkInfo, MapInfo, Place};

/// A program, as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgInfo {
    /// Its number.
    pub id: u32,
    /// What it is for.
    pub kind: ProgType,
    /// Its name.
    pub name: String,
    /// A hash of its instructions.
    pub tag: [u8; 8],
    /// When it was loaded, since boot.
    pub loaded: Duration,
    /// Who loaded it.
    pub uid: u32,
    /// Bytes of BPF code after the verifier rewrote it.
    pub xlated: u32,
    /// Bytes of machine code; 0 where it is interpreted.
    pub jited: u32,
    /// Ids of its maps.
    pub maps: Vec<u32>,
    /// The BTF that describes it.
    pub btf: Option<u32>,
    /// How many instructions the verifier looked at. Linux 5.16.
    pub verified: u32,
    /// How often it ran, while statistics are on.
    pub runs: u64,
    /// For how long it ran in total, while statistics are on.
    pub run_time: Duration,
    /// Runs left out because it was running on that CPU already.
    pub misses: u64,
    /// Whether its license is compatible with the GPL.
    pub is_gpl: bool,
}

/// Describes an open program.
///
/// # Errors
/// What the kernel answers.
pub fn prog_info(fd: &impl AsFd) -> Result<ProgInfo> {
    let failed = |failed| Error::call(failed, "program", "behind an fd");
    let raw = info::prog(fd.as_fd()).map_err(failed)?;
    let maps = info::prog_list(fd.as_fd(), List::Maps).map_err(failed)?;
    Ok(ProgInfo {
        id: raw.id,
        kind: ProgType(raw.kind),
        name: from_kernel(&raw.name),
        tag: raw.tag,
        loaded: Duration::from_nanos(raw.load_time),
        uid: raw.created_by_uid,
        xlated: raw.xlated_len,
        jited: raw.jited_len,
        maps: words(&maps),
        btf: (raw.btf_id != 0).then_some(raw.btf_id),
        verified: raw.verified_insns,
        runs: raw.run_cnt,
        run_time: Duration::from_nanos(raw.run_time_ns),
        misses: raw.recursion_misses,
        is_gpl: raw.gpl_compatible & 1 == 1,
    })
}

/// Every program that is loaded. Those that go while the list is made are left out.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn progs() -> Result<Vec<ProgInfo>> {
    all(Kind::Prog, "programs", |fd| prog_info(&fd))
}

/// Every link.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn links() -> Result<Vec<LinkInfo>> {
    all(Kind::Link, "links", |fd| {
        info::link(fd).map_err(|failed| Error::call(failed, "link", "behind an fd"))
    })
}

/// Every BTF object, with its name: `vmlinux`, a module's, or empty for those of programs.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn btfs() -> Result<Vec<(BtfInfo, String)>> {
    all(Kind::Btf, "BTF objects", |fd| {
        info::btf(fd).map_err(|failed| Error::call(failed, "BTF", "behind an fd"))
    })
}

/// The types in a BTF object, by its number: those that describe a map or a program. Objects of
/// modules build on the kernel's own and cannot be read alone.
///
/// # Errors
/// `ENOENT` when it is gone; `EPERM` without `CAP_SYS_ADMIN`; when it cannot be read.
pub fn btf(id: u32) -> Result<Btf> {
    let object = || format!("id {id}");
    let bytes = open_id(Kind::Btf, id, 0, None).and_then(|fd| info::btf_bytes(fd.as_fd()));
    let bytes = bytes.map_err(|failed| Error::call(failed, "BTF", object()))?;
    Btf::parse(bytes).map_err(|cause| Error::Btf {
        wanted: object(),
        cause,
    })
}

fn all<T>(
    kind: Kind,
    what: &'static str,
    describe: impl Fn(BorrowedFd<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let failed = |failed: Failed| Error::call(failed, "list", what);
    let mut found = Vec::new();
    let mut id = 0;
    loop {
        id = match next_id(kind, id) {
            Ok(next) => next,
            Err(end) if end.errno == Errno::ENOENT => return Ok(found),
            Err(other) => return Err(failed(other)),
        };
        match open_id(kind, id, 0, None) {
            Ok(fd) => found.push(describe(fd.as_fd())?),
            Err(gone) if gone.errno == Errno::ENOENT => {}
            Err(other) => return Err(failed(other)),
        }
    }
}

/// Opens a program by its number, for the functions of this module.
///
/// # Errors
/// `ENOENT` when it is gone; `EPERM` without `CAP_SYS_ADMIN`.
pub fn open_prog(id: u32) -> Result<OwnedFd> {
    open_id(Kind::Prog, id, 0, None)
        .map_err(|failed| Error::call(failed, "program", format!("id {id}")))
}

/// The instructions as the verifier left them: checks put in, dead code gone, helpers and maps as
/// addresses and ids. Empty without the right to see them.
///
/// # Errors
/// What the kernel answers.
pub fn xlated(fd: &impl AsFd) -> Result<Vec<Raw>> {
    let bytes = info::prog_list(fd.as_fd(), List::Xlated)
        .map_err(|failed| Error::call(failed, "program", "behind an fd"))?;
    // Not judged: the kernel has opcodes of its own.
    let (slots, _) = bytes.as_chunks::<8>();
    Ok(slots
        .iter()
        .map(|&slot| Raw::from_bytes(slot, Order::HOST))
        .collect())
}

/// The same as text, one line for each instruction. Maps stand there by their ids: `map[id:7]`.
///
/// # Errors
/// As for [`xlated`].
pub fn xlated_text(fd: &impl AsFd) -> Result<String> {
    let raws = xlated(fd)?;
    let mut out = String::new();
    for op in ops(&raws) {
        match op {
            Ok((slot, op)) => {
                out.push_str(&format!("{slot:>5}: "));
                write_loaded(&mut out, op);
            }
            Err(error) => out.push_str(&format!("{:>5}: {}", error.at, error.why)),
        }
        out.push('\n');
    }
    Ok(out)
}

/// Where a program that is to be loaded has the fd of a map, a loaded one shows its id.
fn write_loaded(out: &mut String, op: Op) {
    let Op::Wide(_, Wide::MapFd(id) | Wide::MapValue(id, _)) = op else {
        return write_op(out, op);
    };
    let id = format!("id:{}", id.cast_unsigned());
    let symbol = match op {
        Op::Wide(_, Wide::MapValue(_, offset)) => Symbol::MapValue(&id, offset.cast_unsigned()),
        _ => Symbol::Map(&id),
    };
    write_op_named(out, op, Some(symbol));
}

/// A function in machine code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jited {
    /// Where it lies in the kernel; 0 without the right to know.
    pub address: u64,
    /// Its bytes.
    pub code: Vec<u8>,
}

/// The machine code, one entry for each function. Empty without the right to see it.
///
/// # Errors
/// What the kernel answers.
pub fn jited(fd: &impl AsFd) -> Result<Vec<Jited>> {
    let ask = |list| {
        info::prog_list(fd.as_fd(), list)
            .map_err(|failed| Error::call(failed, "program", "behind an fd"))
    };
    let (code, lengths, symbols) = (ask(List::Jited)?, ask(List::Lengths)?, ask(List::Symbols)?);
    let mut rest = code.as_slice();
    let mut functions = Vec::new();
    for (index, length) in words(&lengths).into_iter().enumerate() {
        let length = (length as usize).min(rest.len());
        let (code, behind) = rest.split_at(length);
        rest = behind;
        let address = symbols.get(index * 8..index * 8 + 8);
        functions.push(Jited {
            address: address
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u64::from_ne_bytes),
            code: code.to_vec(),
        });
    }
    Ok(functions)
}

/// Counts runs and time of every program while it lives. Linux 5.8.
#[derive(Debug)]
pub struct RunStats {
    _fd: OwnedFd,
}

impl RunStats {
    /// Starts to count. It costs each run some 20 to 50 ns.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`.
    pub fn enable() -> Result<RunStats> {
        misc::enable_stats(StatsType::RUN_TIME)
            .map(|fd| RunStats { _fd: fd })
            .map_err(|failed| Error::call(failed, "statistics", "of all programs"))
    }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
        .collect()
}
