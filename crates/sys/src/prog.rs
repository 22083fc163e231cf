//! Programs: loading, running on request, binding maps, reading streams.

use crate::attr::{self, Fd, Ptr, PtrMut, token_flag};
use crate::call::{Failed, Result, bpf, bpf_as, bpf_fd};
use crate::info;
use bpfsmith_uapi::{Cmd, Errno, ProgType};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Records of one size, as func_info and line_info are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Records<'a> {
    /// All bytes.
    pub bytes: &'a [u8],
    /// Bytes of one record.
    pub size: u32,
}

impl Records<'_> {
    fn count(&self) -> Option<u32> {
        if self.bytes.is_empty() {
            return Some(0);
        }
        let size = self.size as usize;
        if size == 0 || !self.bytes.len().is_multiple_of(size) {
            return None;
        }
        u32::try_from(self.bytes.len() / size).ok()
    }
}

/// What the verifier is to write.
#[derive(Debug, Default)]
pub struct Log<'a> {
    /// Bits: 1 the path, 2 every path, 4 statistics; 0 with an empty buffer.
    pub level: u32,
    /// Where to.
    pub buffer: &'a mut [u8],
    /// How long the whole log is, from the kernel; 0 before Linux 6.4.
    pub true_size: u32,
}

/// What a program is loaded from.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// What it is for.
    pub kind: u32,
    /// The slots, in this machine's order, 8 bytes each.
    pub insns: &'a [u8],
    /// Decides which helpers it may call.
    pub license: &'a CStr,
    /// Its name, zero-terminated.
    pub name: [u8; 16],
    /// `BPF_F_…` of [`prog_load`](bpfsmith_uapi::flags::prog_load). `BPF_F_TOKEN_FD` is added where
    /// a token is given.
    pub flags: u32,
    /// The device that it is tied to, or 0.
    pub ifindex: u32,
    /// Where it will be attached.
    pub attach_type: u32,
    /// The BTF that functions and lines refer to.
    pub btf: Option<BorrowedFd<'a>>,
    /// Names and types of its functions.
    pub funcs: Records<'a>,
    /// Source lines of its slots.
    pub lines: Records<'a>,
    /// The BTF id of the kernel function or structure that it attaches to, or 0.
    pub attach_btf_id: u32,
    /// The program or module BTF that this id belongs to.
    pub attach_to: Option<BorrowedFd<'a>>,
    /// Maps and module BTFs that slots name by index.
    pub fd_array: &'a [BorrowedFd<'a>],
    /// Whether all of `fd_array` is to be bound to the program. Linux 6.14.
    pub is_fd_array_counted: IsCounted,
    /// A token that lends the right. Linux 6.9.
    pub token: Option<BorrowedFd<'a>>,
    /// A signature and the keyring that it is checked with. Linux 6.18.
    pub signature: Option<(&'a [u8], i32)>,
}

/// Whether the kernel learns the length of an fd array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsCounted {
    /// It only looks up what slots refer to.
    #[default]
    No,
    /// It takes a reference to every map in it.
    Yes,
}

fn length<T>(cmd: Cmd, bytes: &[T]) -> Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| Failed {
        cmd,
        errno: Errno::E2BIG,
    })
}

/// Has the kernel verify a program, and returns its fd.
///
/// # Errors
/// What the kernel answers; the log says more.
pub fn load(load: &Load<'_>, log: &mut Log<'_>) -> Result<OwnedFd> {
    let cmd = Cmd::PROG_LOAD;
    let invalid = Failed {
        cmd,
        errno: Errno::EINVAL,
    };
    if !load.insns.len().is_multiple_of(8) {
        return Err(invalid);
    }
    let fds: Vec<i32> = load.fd_array.iter().map(AsRawFd::as_raw_fd).collect();
    let (signature, keyring) = load.signature.unwrap_or((&[], 0));
    let log_size = length(cmd, log.buffer)?;
    let mut attr = attr::ProgLoad {
        prog_type: load.kind,
        insn_cnt: length(cmd, load.insns)? / 8,
        insns: Ptr::to(load.insns),
        license: Ptr::to(load.license.to_bytes_with_nul()),
        log_level: log.level,
        log_size,
        log_buf: PtrMut::to_some(log.buffer),
        kern_version: 0,
        prog_flags: load.flags | token_flag(load.token),
        prog_name: load.name,
        prog_ifindex: load.ifindex,
        expected_attach_type: load.attach_type,
        prog_btf_fd: Fd::some(load.btf),
        func_info_rec_size: if load.funcs.bytes.is_empty() {
            0
        } else {
            load.funcs.size
        },
        func_info: Ptr::to_some(load.funcs.bytes),
        func_info_cnt: load.funcs.count().ok_or(invalid)?,
        line_info_rec_size: if load.lines.bytes.is_empty() {
            0
        } else {
            load.lines.size
        },
        line_info: Ptr::to_some(load.lines.bytes),
        line_info_cnt: load.lines.count().ok_or(invalid)?,
        attach_btf_id: load.attach_btf_id,
        attach_prog_fd: Fd::some(load.attach_to),
        core_relo_cnt: 0,
        fd_array: Ptr::to_some(&fds),
        core_relos: Ptr::NULL,
        core_relo_rec_size: 0,
        log_true_size: 0,
        prog_token_fd: Fd::some(load.token),
        fd_array_cnt: match load.is_fd_array_counted {
            IsCounted::No => 0,
            IsCounted::Yes => length(cmd, &fds)?,
        },
        signature: Ptr::to_some(signature),
        signature_size: length(cmd, signature)?,
        keyring_id: keyring,
    };
    // SAFETY: every length is that of its slice. A slot that names an index behind the end of
    // `fd_array` makes the kernel read behind it, into this process, and refuse what it finds.
    let done = unsafe { bpf_fd(cmd, &mut attr) };
    log.true_size = attr.log_true_size;
    done
}

/// What a test run is given.
#[derive(Debug, Default)]
pub struct TestRun<'a> {
    /// The packet, for programs that see one.
    pub data: &'a [u8],
    /// Room for the packet as the program left it.
    pub data_out: &'a mut [u8],
    /// The context, for programs that take one from here. A `SYSCALL` program writes to it.
    pub ctx: &'a mut [u8],
    /// Room for the context as the program left it.
    pub ctx_out: &'a mut [u8],
    /// How often; 0 is once.
    pub repeat: u32,
    /// `BPF_F_TEST_…` of [`test_run`](bpfsmith_uapi::flags::test_run).
    pub flags: u32,
    /// The CPU, with `BPF_F_TEST_RUN_ON_CPU`.
    pub cpu: u32,
    /// Frames at once, with live frames.
    pub batch: u32,
}

/// What a test run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// What the program returned last.
    pub retval: u32,
    /// The average time of one run in nanoseconds.
    pub nanos: u32,
    /// The length of the packet afterwards, which may exceed the room.
    pub data: u32,
    /// The length of the context afterwards.
    pub ctx: u32,
}

/// Runs a program on given input, without any hook. Linux 4.12.
///
/// # Errors
/// `ENOSPC` when the packet does not fit into `data_out`: what fits was written, and `Ran` says
/// how long it is. `ENOTSUPP` for types that cannot be run so, `EOPNOTSUPP` for a `STRUCT_OPS`
/// function with arguments.
pub fn test_run(
    prog: BorrowedFd<'_>,
    run: &mut TestRun<'_>,
) -> std::result::Result<Ran, (Failed, Ran)> {
    let cmd = Cmd::PROG_TEST_RUN;
    let none = Ran {
        retval: 0,
        nanos: 0,
        data: 0,
        ctx: 0,
    };
    // The arguments of a `STRUCT_OPS` function may be addresses, which the kernel writes to.
    if !run.ctx.is_empty() {
        let about = info::prog(prog).map_err(|failed| (failed, none))?;
        if ProgType(about.kind) == ProgType::STRUCT_OPS {
            let errno = Errno::EOPNOTSUPP;
            return Err((Failed { cmd, errno }, none));
        }
    }
    // SAFETY: a context holds no addresses that the kernel would write to: only `STRUCT_OPS` takes
    // such, and was refused.
    unsafe { ask_for_run(prog, run) }
}

/// # Safety
/// Addresses in the context must be those of memory that the kernel may write to.
unsafe fn ask_for_run(
    prog: BorrowedFd<'_>,
    run: &mut TestRun<'_>,
) -> std::result::Result<Ran, (Failed, Ran)> {
    let none = Ran {
        retval: 0,
        nanos: 0,
        data: 0,
        ctx: 0,
    };
    let size = |bytes: &[u8]| length(Cmd::PROG_TEST_RUN, bytes).map_err(|failed| (failed, none));
    let mut attr = attr::TestRun {
        prog_fd: Fd::of(prog),
        retval: 0,
        data_size_in: size(run.data)?,
        data_size_out: size(run.data_out)?,
        data_in: Ptr::to_some(run.data),
        data_out: PtrMut::to_some(run.data_out),
        repeat: run.repeat,
        duration: 0,
        ctx_size_in: size(run.ctx)?,
        ctx_size_out: size(run.ctx_out)?,
        ctx_in: PtrMut::to_some(run.ctx),
        ctx_out: PtrMut::to_some(run.ctx_out),
        flags: run.flags,
        cpu: run.cpu,
        batch_size: run.batch,
        _end: 0,
    };
    // SAFETY: every length is that of its slice; for addresses in the context, the caller vouches.
    let done = unsafe { bpf(&mut attr) };
    let ran = Ran {
        retval: attr.retval,
        nanos: attr.duration,
        data: attr.data_size_out,
        ctx: attr.ctx_size_out,
    };
    done.map(|_| ran).map_err(|failed| (failed, ran))
}

/// Calls a function of `bpf_dummy_ops`: with a state, which it may change, and other arguments. Linux
/// 5.16.
///
/// # Errors
/// `EOPNOTSUPP` when the program is a function of anything else; `EINVAL` when it takes another
/// number of arguments.
pub fn call_dummy(prog: BorrowedFd<'_>, state: Option<&mut [u8]>, rest: &[u64]) -> Result<u32> {
    let cmd = Cmd::PROG_TEST_RUN;
    // The kernel reads and writes a structure of its own there, of 4 bytes today.
    let mut room = [0_u8; 4096];
    if let Some(state) = &state {
        let Some(to) = room.get_mut(..state.len()) else {
            return Err(Failed {
                cmd,
                errno: Errno::E2BIG,
            });
        };
        to.copy_from_slice(state);
    }
    let first = match &state {
        Some(_) => room.as_mut_ptr().expose_provenance() as u64,
        None => 0,
    };
    let args = std::iter::once(first).chain(rest.iter().copied());
    let mut bytes: Vec<u8> = args.flat_map(u64::to_ne_bytes).collect();
    let mut run = TestRun {
        ctx: &mut bytes,
        ..TestRun::default()
    };
    // SAFETY: of the arguments, the kernel takes only the first for an address, and only for a
    // function of `bpf_dummy_ops`, whose state is far smaller than the room.
    let ran = unsafe { ask_for_run(prog, &mut run) }.map_err(|(failed, _)| failed)?;
    if let Some(state) = state {
        let length = state.len();
        state.copy_from_slice(&room[..length]);
    }
    Ok(ran.retval)
}

/// Ties the lifetime of a map to a program that does not mention it. Linux 5.10.
///
/// # Errors
/// What the kernel answers.
pub fn bind_map(prog: BorrowedFd<'_>, map: BorrowedFd<'_>) -> Result<()> {
    let mut attr = attr::BindMap {
        prog_fd: Fd::of(prog),
        map_fd: Fd::of(map),
        flags: 0,
    };
    // SAFETY: only fds are passed.
    unsafe { bpf(&mut attr).map(drop) }
}

/// Reads what a program printed to one of its streams, and how much it was. Linux 6.17.
///
/// # Errors
/// What the kernel answers; older kernels do not know the command.
pub fn read_stream(
    prog: BorrowedFd<'_>,
    stream: bpfsmith_uapi::StreamId,
    into: &mut [u8],
) -> Result<usize> {
    let mut attr = attr::StreamRead {
        stream_buf_len: length(Cmd::PROG_STREAM_READ_BY_FD, into)?,
        stream_buf: PtrMut::to(into),
        stream_id: stream.0,
        prog_fd: Fd::of(prog),
        _end: 0,
    };
    // SAFETY: the length is that of the buffer.
    let count = unsafe { bpf(&mut attr)? };
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Attaches a program to a raw tracepoint by name, or a typed one to what it was loaded for, and
/// returns the link. Linux 4.17; cookies 6.10.
///
/// # Errors
/// `ENOENT` when there is no such tracepoint.
pub fn open_raw_tracepoint(
    name: Option<&CStr>,
    prog: BorrowedFd<'_>,
    cookie: u64,
) -> Result<OwnedFd> {
    let mut attr = attr::RawTracepoint {
        name: name.map_or(Ptr::NULL, |name| Ptr::to(name.to_bytes_with_nul())),
        prog_fd: Fd::of(prog),
        _hole: 0,
        cookie,
    };
    // SAFETY: the name is zero-terminated.
    unsafe { bpf_fd(Cmd::RAW_TRACEPOINT_OPEN, &mut attr) }
}

/// What hangs on a perf event fd of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFd {
    /// The program.
    pub prog: u32,
    /// What kind of event it is.
    pub kind: bpfsmith_uapi::TaskFdType,
    /// The tracepoint, symbol or file.
    pub name: String,
    /// The offset of the probe.
    pub offset: u64,
    /// The address of the probe.
    pub addr: u64,
}

/// Says which program hangs on a perf event fd of a task. Linux 4.18.
///
/// # Errors
/// `ENOTSUPP` when no program does.
pub fn query_task_fd(pid: u32, fd: i32) -> Result<TaskFd> {
    let mut name = [0_u8; 4096];
    let mut attr = attr::TaskFdQuery {
        pid,
        fd,
        flags: 0,
        buf_len: 4096,
        buf: PtrMut::to(&mut name),
        prog_id: 0,
        fd_type: 0,
        probe_offset: 0,
        probe_addr: 0,
    };
    // SAFETY: the length is that of the buffer.
    unsafe { bpf_as(Cmd::TASK_FD_QUERY, &mut attr)? };
    let (prog, kind) = (attr.prog_id, attr.fd_type);
    let (offset, addr) = (attr.probe_offset, attr.probe_addr);
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    Ok(TaskFd {
        prog,
        kind: bpfsmith_uapi::TaskFdType(kind),
        name: String::from_utf8_lossy(&name[..end]).into_owned(),
        offset,
        addr,
    })
}
