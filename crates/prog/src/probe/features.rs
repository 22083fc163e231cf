//! Abilities that are no type, place, link, call or instruction.

use super::Support;
use super::netns::with_veth;
use super::prog_types::{type_id, without_btf};
use super::trial::{RETURN, Trial, create, map};
use crate::error::Error;
use crate::kernel;
use crate::load::{Lines, Load};
use crate::target::Freplace;
use crate::tell::smallest_types;
use bpfsmith_asm::dsl::{Program, R1, R2, R3, R4, call_helper, code, func, ld_func, mov, ret};
use bpfsmith_asm::isa::Raw;
use bpfsmith_btf::{Kind, TypeId};
use bpfsmith_sys::map::{Create, Map};
use bpfsmith_sys::perf;
use bpfsmith_sys::prog::{self, TestRun};
use bpfsmith_uapi::flags::{map_create, prog_load, test_run};
use bpfsmith_uapi::{AttachType, Errno, MapType, ProgType, StreamId};
use std::os::fd::{AsFd, OwnedFd};

/// An ability and how it is tried.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) ask: fn() -> Support,
}

/// All of them.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "BTF",
        ask: btf,
    },
    Row {
        name: "BTF of the kernel",
        ask: kernel_btf,
    },
    Row {
        name: "functions and source lines",
        ask: lines,
    },
    Row {
        name: "global data",
        ask: global_data,
    },
    Row {
        name: "array as shared memory",
        ask: mmapable,
    },
    Row {
        name: "map batch operations",
        ask: batch,
    },
    Row {
        name: "map freeze",
        ask: freeze,
    },
    Row {
        name: "functions in programs",
        ask: functions,
    },
    Row {
        name: "bounded loops",
        ask: bounded_loops,
    },
    Row {
        name: "bpf_loop with a callback",
        ask: callback,
    },
    Row {
        name: "programs of more than 4096 instructions",
        ask: large,
    },
    Row {
        name: "sleepable uprobe",
        ask: sleepable_uprobe,
    },
    Row {
        name: "sleepable iterator",
        ask: sleepable_iterator,
    },
    Row {
        name: "function replacement",
        ask: replacement,
    },
    Row {
        name: "kprobe events",
        ask: || events("kprobe"),
    },
    Row {
        name: "uprobe events",
        ask: || events("uprobe"),
    },
    Row {
        name: "test run",
        ask: runs,
    },
    Row {
        name: "live frames",
        ask: live_frames,
    },
    Row {
        name: "XDP frags",
        ask: frags,
    },
    Row {
        name: "device-bound XDP",
        ask: device_bound,
    },
    Row {
        name: "program streams",
        ask: streams,
    },
    Row {
        name: "token",
        ask: token,
    },
];

/// The abilities that [`feature`] knows.
pub fn feature_names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.name)
}

/// Whether the kernel has an ability of [`feature_names`]; none if the name is not there.
///
/// Ring buffers, arenas, bloom filters and the like are map types; TCX, netkit, kprobe.multi and
/// uprobe.multi are links; fentry and security hooks are attach types.
#[must_use]
pub fn feature(name: &str) -> Option<Support> {
    ROWS.iter()
        .find(|row| row.name == name)
        .map(|row| (row.ask)())
}

/// The smallest BTF object, and the id of the number in it.
fn number() -> Result<(OwnedFd, u32), Errno> {
    smallest_types().map_err(|failed| failed.errno)
}

fn btf() -> Support {
    Support::unless(number(), &[])
}

fn kernel_btf() -> Support {
    match kernel::btf() {
        Ok(_) => Support::Yes,
        Err(error) => without_btf(error),
    }
}

fn lines() -> Support {
    let program = match Program::new(ProgType::SOCKET_FILTER, "bs_probe", code![ret(0)]) {
        Ok(program) => program,
        Err(report) => return Support::No(report.to_string()),
    };
    told(&program)
}

/// Whether the kernel takes the program, with its functions and lines.
fn told(program: &Program) -> Support {
    match Load::new(program).lines(Lines::Told).load() {
        Ok(prog) => match prog.account().lines_refused {
            None => Support::Yes,
            Some(errno) => Support::because(errno),
        },
        Err(error) => failed(&error),
    }
}

/// What an error of loading or attaching says.
fn failed(error: &Error) -> Support {
    match error.errno().map(Support::because) {
        Some(Support::No(_)) | None => Support::No(error.to_string()),
        Some(unknown) => unknown,
    }
}

fn global_data() -> Support {
    match array(0) {
        Ok(map) => {
            let mut trial = Trial::new(ProgType::SOCKET_FILTER);
            // The address in the map's value, then a read from there.
            trial.insns = vec![
                Raw::new(0x18, 1, 2, 0, 0),
                Raw::new(0, 0, 0, 0, 0),
                Raw::new(0x61, 0, 1, 0, 0),
                RETURN[1],
            ];
            trial.with_map(0, &map).ask()
        }
        Err(errno) => Support::because(errno),
    }
}

fn array(flags: u32) -> Result<Map, Errno> {
    map(MapType::ARRAY, [4, 4, 1], flags)
}

fn mmapable() -> Support {
    Support::unless(array(map_create::BPF_F_MMAPABLE), &[])
}

fn batch() -> Support {
    let done = map(MapType::HASH, [4, 4, 2], 0).and_then(|map| {
        map.update_batch(&[0, 0, 0, 0, 1, 1, 1, 1], &[0; 8], 0)
            .map_err(|(_, failed)| failed.errno)
    });
    Support::unless(done, &[])
}

fn freeze() -> Support {
    let done = array(0).and_then(|map| map.freeze().map_err(|failed| failed.errno));
    Support::unless(done, &[])
}

fn functions() -> Support {
    Trial::text(FUNCTIONS).ask()
}

const FUNCTIONS: &str = "call L\nexit\nL:\nr0 = 0\nexit";

fn bounded_loops() -> Support {
    Trial::text(LOOP).ask()
}

const LOOP: &str = "r0 = 0\nL:\nr0 += 1\nif r0 < 4 goto L\nexit";

fn callback() -> Support {
    let each = func("each").body(code![ret(0)]);
    let code = code![
        mov(R1, 1),
        ld_func(R2, &each),
        mov(R3, 0),
        mov(R4, 0),
        call_helper(LOOP_HELPER),
        ret(0),
    ];
    match Program::new(ProgType::SOCKET_FILTER, "bs_probe", code) {
        Ok(program) => told(&program),
        Err(report) => Support::No(report.to_string()),
    }
}

/// Puts a program in the place of another one that nothing runs.
fn replacement() -> Support {
    let load = |kind| Program::new(kind, "bs_replaced", code![ret(1)]);
    let (Ok(old), Ok(new)) = (load(ProgType::XDP), load(ProgType::EXT)) else {
        return Support::Unknown(Errno::EINVAL);
    };
    let replace = || {
        let old = Load::new(&old).context("xdp_md").load()?;
        let target = Freplace::of(&old, "bs_replaced");
        let new = Load::new(&new).context("xdp_md").to(&target)?.load()?;
        new.attach(&target).map(drop)
    };
    replace().map_or_else(|error| failed(&error), |()| Support::Yes)
}

/// `bpf_loop`.
const LOOP_HELPER: i32 = 181;

/// One more than older kernels take, also from root.
fn large() -> Support {
    let mut trial = Trial::new(ProgType::SOCKET_FILTER);
    trial.insns = vec![RETURN[0]; 4096];
    trial.insns.push(RETURN[1]);
    trial.ask()
}

fn sleepable_uprobe() -> Support {
    Trial::new(ProgType::KPROBE)
        .flags(prog_load::BPF_F_SLEEPABLE)
        .ask()
}

fn sleepable_iterator() -> Support {
    match type_id("bpf_iter_task", Kind::FUNC) {
        Ok(id) => Trial::new(ProgType::TRACING)
            .to(AttachType::TRACE_ITER)
            .typed(id)
            .flags(prog_load::BPF_F_SLEEPABLE)
            .ask(),
        Err(support) => support,
    }
}

/// Whether perf has such events. Programs for them load on every kernel.
fn events(driver: &str) -> Support {
    Support::unless(perf::driver(driver).map_err(|refused| refused.errno), &[])
}

fn runs() -> Support {
    run(0, 1)
}

/// Packets that the program drops.
fn live_frames() -> Support {
    run(test_run::BPF_F_TEST_XDP_LIVE_FRAMES, 1)
}

fn run(flags: u32, repeat: u32) -> Support {
    let mut trial = Trial::new(ProgType::XDP);
    // XDP_DROP
    trial.insns[0].imm = 1;
    match trial.load() {
        Ok(program) => {
            let mut run = TestRun {
                data: &[0; 64],
                repeat,
                flags,
                ..TestRun::default()
            };
            let done = prog::test_run(program.as_fd(), &mut run);
            Support::unless(done.map_err(|(failed, _)| failed.errno), &[Errno::ENOSPC])
        }
        Err(no) => no.support(),
    }
}

fn frags() -> Support {
    Trial::new(ProgType::XDP)
        .flags(prog_load::BPF_F_XDP_HAS_FRAGS)
        .ask()
}

fn device_bound() -> Support {
    with_veth(|ifindex| {
        let mut trial = Trial::new(ProgType::XDP).flags(prog_load::BPF_F_XDP_DEV_BOUND_ONLY);
        trial.ifindex = ifindex;
        trial.ask()
    })
}

fn streams() -> Support {
    match Trial::new(ProgType::SOCKET_FILTER).load() {
        Ok(program) => {
            let done = prog::read_stream(program.as_fd(), StreamId::STDOUT, &mut [0; 8]);
            Support::unless(done.map_err(|failed| failed.errno), &[])
        }
        Err(no) => no.support(),
    }
}

/// A token cannot be asked for without a file system to delegate from, so the kernel's own list of
/// its commands is read.
fn token() -> Support {
    match kernel::btf() {
        Ok(btf) if btf.find_constant("BPF_TOKEN_CREATE").is_some() => Support::Yes,
        Ok(_) => Support::No("the kernel's BTF has no BPF_TOKEN_CREATE".to_owned()),
        Err(error) => without_btf(error),
    }
}

/// What precedes the name of an interface in the name of a map's value.
const VALUE: &str = "bpf_struct_ops_";

/// The interfaces of the running kernel that BPF can implement, by the names of their structures,
/// in order. Empty without kernel BTF.
#[must_use]
pub fn struct_ops_names() -> Vec<String> {
    let Ok(btf) = kernel::btf() else {
        return Vec::new();
    };
    let mut names: Vec<String> = btf
        .types()
        .filter(|ty| {
            ty.kind() == Kind::STRUCT && ty.members().any(|m| m.name.as_bytes() == b"data")
        })
        .filter_map(|ty| Some(ty.name().to_str()?.strip_prefix(VALUE)?.to_owned()))
        .filter(|name| btf.find_struct(name).is_some())
        .collect();
    names.sort_unstable();
    names
}

/// Whether a map for this interface can be made.
#[must_use]
pub fn struct_ops(name: &str) -> Support {
    table_of_functions(name, 0)
}

/// Whether such a map can be put behind a link.
pub(super) fn struct_ops_link() -> Support {
    table_of_functions("tcp_congestion_ops", map_create::BPF_F_LINK)
}

fn table_of_functions(name: &str, flags: u32) -> Support {
    let id = match type_id(&format!("{VALUE}{name}"), Kind::STRUCT) {
        Ok(id) => id,
        Err(support) => return support,
    };
    let value = match kernel::btf().map(|btf| btf.size_of(TypeId(id))) {
        Ok(Ok(size)) => size,
        Ok(Err(error)) => return Support::No(error.to_string()),
        Err(error) => return without_btf(error),
    };
    let done = number().and_then(|(types, _)| {
        create(&Create {
            kind: MapType::STRUCT_OPS.0,
            key: 4,
            value,
            entries: 1,
            flags,
            kernel_value_type: id,
            btf: Some((types.as_fd(), 0, 0)),
            ..Create::default()
        })
    });
    Support::unless(done, &[])
}

#[cfg(test)]
mod tests {
    use super::{FUNCTIONS, LOOP};
    use bpfsmith_asm::text::parse;

    #[test]
    fn every_text_is_a_program() {
        for text in [FUNCTIONS, LOOP] {
            parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        }
    }
}
