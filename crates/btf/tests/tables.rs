//! Every table of `bpfsmith_uapi` against the types of the running kernel. Needs no privilege.
//!
//! The tables know Linux 6.18: on that version every difference is an error. What an older kernel
//! lacks and what a newer one adds is none.

use bpfsmith_btf::{Btf, Kind, TypeId};
use bpfsmith_gate::{Version, needs, version};
use bpfsmith_uapi::ops::{OPERATIONS, Operation};
use bpfsmith_uapi::{self as uapi, Field, HELPERS, Layout, flags};
use std::collections::HashMap;

/// The kernel whose facts the tables hold.
const TABLES: Version = Version {
    major: 6,
    minor: 18,
};

/// Names that the kernel defines as macros, which BTF does not hold.
const MACROS: &[&str] = &[
    "TC_ACT_",
    "NF_",
    "XDP_FLAGS_",
    "BPF_F_STRICT_ALIGNMENT",
    "BPF_F_ANY_ALIGNMENT",
    "BPF_F_TEST_",
    "BPF_F_SLEEPABLE",
    "BPF_F_XDP_",
    "BPF_F_ALLOW_",
    "BPF_F_REPLACE",
    "BPF_F_BEFORE",
    "BPF_F_AFTER",
    "BPF_F_ID",
    "BPF_F_PREORDER",
    "BPF_F_NETFILTER_IP_DEFRAG",
    "BPF_F_QUERY_EFFECTIVE",
];

/// Differences that are meant: the start of the line, and why.
const MEANT: &[(&str, &str)] = &[
    (
        "bpf_raw_tracepoint_args: size is 0, not 96",
        "the kernel's array has no length; ours has as many arguments as a tracepoint can have",
    ),
    (
        "bpf_raw_tracepoint_args.args: offset and size are (Some(0), 0), not (Some(0), 96)",
        "as above",
    ),
    (
        "bpf_lpm_trie_key: no field for data at 4",
        "the bytes of the prefix are as many as the map's key has",
    ),
];

/// Differences between the tables and the kernel.
struct Found {
    lines: Vec<String>,
}

impl Found {
    fn new() -> Found {
        Found { lines: Vec::new() }
    }

    /// The kernel lacks what a table has: an error, unless the kernel is older than the tables.
    fn lacks(&mut self, line: String) {
        if version() >= TABLES {
            self.differs(line);
        }
    }

    /// A table lacks what the kernel has: an error, unless the kernel is newer than the tables.
    fn new_in_kernel(&mut self, line: String) {
        if version() <= TABLES {
            self.differs(line);
        }
    }

    fn differs(&mut self, line: String) {
        if MEANT.iter().all(|(meant, _)| *meant != line) {
            self.lines.push(line);
        }
    }
}

impl Drop for Found {
    /// Here, so that no test forgets it.
    fn drop(&mut self) {
        assert!(
            std::thread::panicking() || self.lines.is_empty(),
            "{}",
            self.lines.join("\n")
        );
    }
}

/// Kernel constants that end an enumeration or count it.
fn is_end(name: &str) -> bool {
    name.starts_with("__") || name.contains("_MAX") || name.starts_with("MAX_")
}

struct Kernel {
    btf: Btf,
    /// Constants by name: the enumeration and the value.
    constants: HashMap<String, (TypeId, i128)>,
}

fn kernel() -> Kernel {
    let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("the kernel's BTF");
    let btf = Btf::parse(bytes).expect("BTF");
    let mut constants = HashMap::new();
    for ty in btf.types() {
        for value in ty.enumerators() {
            constants
                .entry(value.name.to_string())
                .or_insert((ty.id(), value.value));
        }
    }
    Kernel { btf, constants }
}

/// One enumeration of the tables.
struct Table {
    name: &'static str,
    rows: Vec<(String, i128)>,
    /// Further names; some of them are whole, others go on behind the prefix.
    aliases: Vec<([String; 2], i128)>,
    value: fn(&str) -> Option<i128>,
}

macro_rules! tables {
    ($($ty:ident),+ $(,)?) => {
        vec![$(Table {
            name: stringify!($ty),
            rows: uapi::$ty::ALL.iter().map(|value| (value.to_string(), i128::from(value.0))).collect(),
            aliases: uapi::$ty::ALIASES
                .iter()
                .map(|(name, value)| {
                    let names = [format!("{}{name}", uapi::$ty::PREFIX), (*name).to_owned()];
                    (names, i128::from(value.0))
                })
                .collect(),
            value: |name| uapi::$ty::from_name(name).map(|value| i128::from(value.0)),
        }),+]
    };
}

fn is_macro(name: &str) -> bool {
    MACROS.iter().any(|start| name.starts_with(start))
}

#[test]
fn enumerations_are_the_kernels() {
    needs!(Btf);
    let kernel = kernel();
    let tables = tables![
        Cmd,
        MapType,
        ProgType,
        AttachType,
        LinkType,
        StatsType,
        TaskFdType,
        PerfEventType,
        CgroupIterOrder,
        StackBuildIdStatus,
        StreamId,
        OpsState,
        XdpAction,
        TcAction,
        TcxAction,
        SkAction,
        LwtAction,
        NfAction,
        SockOp,
        TcpState,
        FibResult,
        MtuResult,
        HdrStart,
        AdjRoomMode,
        LwtEncapMode,
        CsumLevel,
        SkbClock,
        RingbufQuery,
        WriteHdrTcp,
    ];
    let mut found = Found::new();
    for table in &tables {
        let mut enumeration = None;
        for (name, value) in &table.rows {
            match kernel.constants.get(name) {
                None if is_macro(name) => {}
                None => found.lacks(format!("{}: the kernel has no {name}", table.name)),
                Some((id, real)) if real == value => {
                    enumeration.get_or_insert(*id);
                }
                Some((_, real)) => {
                    found.differs(format!("{}: {name} is {real}, not {value}", table.name));
                }
            }
        }
        for (names, value) in &table.aliases {
            let real = names.iter().find_map(|name| kernel.constants.get(name));
            match real {
                None => found.lacks(format!("{}: the kernel has none of {names:?}", table.name)),
                Some((_, real)) if real == value => {}
                Some((_, real)) => {
                    found.differs(format!("{}: {names:?} is {real}, not {value}", table.name));
                }
            }
        }
        let Some(id) = enumeration else { continue };
        for value in kernel.btf.get(id).expect("a type").enumerators() {
            let name = value.name.to_string();
            if !is_end(&name) && (table.value)(&name) != Some(value.value) {
                found.new_in_kernel(format!(
                    "{}: no row for {name} = {}",
                    table.name, value.value
                ));
            }
        }
    }
}

#[test]
fn flags_are_the_kernels() {
    needs!(Btf);
    let kernel = kernel();
    let mut found = Found::new();
    macro_rules! modules {
        ($($module:ident),+ $(,)?) => {[$((stringify!($module), flags::$module::ALL)),+]};
    }
    let modules = modules![
        map_create,
        map_elem,
        prog_load,
        attach,
        link,
        uprobe_multi,
        netfilter,
        query,
        test_run,
        xdp,
        skb_store_bytes,
        csum_replace,
        redirect,
        tunnel_key,
        stack,
        perf_event,
        branch_records,
        ringbuf,
        storage,
        adjust_room,
        sk_lookup,
        sock_ops,
        hdr_opt,
        fib_lookup,
        check_mtu,
        timer,
        sysctl,
        bprm,
        flow_dissector,
    ];
    for (module, rows) in modules {
        for (name, value) in rows {
            match kernel.constants.get(*name) {
                None if is_macro(name) => {}
                None => found.lacks(format!("{module}: the kernel has no {name}")),
                // The kernel's enumerations are signed where one of their values is.
                Some((_, real))
                    if *real == i128::from(*value) || *real & 0xffff_ffff == i128::from(*value) => {
                }
                Some((_, real)) => {
                    found.differs(format!("{module}: {name} is {real:#x}, not {value:#x}"));
                }
            }
        }
    }
}

#[test]
fn helpers_are_the_kernels() {
    needs!(Btf);
    let kernel = kernel();
    let id = kernel.btf.find_enum("bpf_func_id").expect("bpf_func_id");
    let mut found = Found::new();
    let mut count = 0;
    for value in kernel.btf.get(id).expect("a type").enumerators() {
        let name = value.name.to_string();
        if is_end(&name) || name == "BPF_FUNC_unspec" {
            continue;
        }
        count += 1;
        let row = HELPERS
            .iter()
            .find(|helper| i128::from(helper.id) == value.value);
        let ours = row.map(|helper| format!("BPF_FUNC_{}", helper.name));
        if ours.as_deref() != Some(&name) {
            let line = format!("{} is {name}, not {ours:?}", value.value);
            match row {
                None => found.new_in_kernel(line),
                Some(_) => found.differs(line),
            }
        }
    }
    if count < HELPERS.len() {
        found.lacks(format!(
            "the kernel has {count} helpers, the table {}",
            HELPERS.len()
        ));
    }
}

fn compare_field(kernel: &Kernel, id: TypeId, layout: &Layout, field: &Field, found: &mut Found) {
    let place = match kernel.btf.member(id, field.kernel) {
        Ok(place) => place,
        Err(error) => {
            found.lacks(format!("{}.{}: {error}", layout.name, field.name));
            return;
        }
    };
    let size = match place.bits {
        Some(bits) => u32::from(bits) / 8,
        None => kernel.btf.size_of(place.ty).expect("a size"),
    };
    let real = (place.offset(), size);
    let ours = (Some(u32::from(field.offset)), u32::from(field.size));
    if real != ours {
        found.differs(format!(
            "{}.{}: offset and size are {real:?}, not {ours:?}",
            layout.name, field.name
        ));
    }
}

fn compare(kernel: &Kernel, layouts: &[Layout]) {
    let mut found = Found::new();
    for layout in layouts.iter().filter(|layout| !layout.kernel.is_empty()) {
        let ty = kernel
            .btf
            .named(layout.kernel)
            .find(|ty| matches!(ty.kind(), Kind::STRUCT | Kind::UNION | Kind::TYPEDEF));
        let Some(ty) = ty else {
            found.lacks(format!(
                "{}: the kernel has no {}",
                layout.name, layout.kernel
            ));
            continue;
        };
        let size = kernel.btf.size_of(ty.id()).expect("a size");
        if size as usize != layout.size {
            let line = format!("{}: size is {size}, not {}", layout.name, layout.size);
            match version() {
                // Structures grow.
                kernel if kernel < TABLES => assert!((size as usize) < layout.size, "{line}"),
                kernel if kernel > TABLES => assert!((size as usize) > layout.size, "{line}"),
                _ => found.differs(line),
            }
        }
        for field in layout
            .fields
            .iter()
            .filter(|field| !field.kernel.is_empty())
        {
            compare_field(kernel, ty.id(), layout, field, &mut found);
        }
        uncovered(kernel, ty.id(), layout, 0, &mut found);
    }
}

/// Named members of the kernel's structure that start where no field of ours lies.
fn uncovered(kernel: &Kernel, id: TypeId, layout: &Layout, base: u32, found: &mut Found) {
    for member in kernel.btf.resolve(id).expect("a type").members() {
        let start = base + member.bit_offset / 8;
        if member.name.is_empty() {
            uncovered(kernel, member.ty, layout, start, found);
            continue;
        }
        let covered = layout
            .fields
            .iter()
            .any(|field| (u32::from(field.offset)..u32::from(field.end())).contains(&start));
        if !covered {
            found.new_in_kernel(format!(
                "{}: no field for {} at {start}",
                layout.name, member.name
            ));
        }
    }
}

#[test]
fn contexts_are_the_kernels() {
    needs!(Btf);
    compare(&kernel(), uapi::ctx::CONTEXTS);
}

#[test]
fn structures_are_the_kernels() {
    needs!(Btf);
    compare(&kernel(), uapi::structs::STRUCTS);
}

#[test]
fn headers_are_the_kernels() {
    needs!(Btf);
    compare(&kernel(), uapi::net::HEADERS);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn registers_are_the_kernels() {
    needs!(Btf);
    compare(&kernel(), uapi::arch::x86_64::LAYOUTS);
}

#[cfg(target_arch = "aarch64")]
#[test]
fn registers_are_the_kernels() {
    needs!(Btf);
    compare(&kernel(), uapi::arch::arm64::LAYOUTS);
}

#[test]
fn macros_are_not_in_the_kernels_types() {
    needs!(Btf);
    let kernel = kernel();
    for name in MACROS {
        assert!(
            !kernel.constants.contains_key(*name),
            "{name} can be compared"
        );
    }
}

/// Arguments that the tables do not list: the helper, how many, and why.
const EXTRA_ARGUMENTS: &[(&str, usize, &str)] = &[
    ("trace_printk", 3, "up to three numbers to print"),
    ("sk_storage_get", 1, "the verifier passes allocation flags"),
    (
        "inode_storage_get",
        1,
        "the verifier passes allocation flags",
    ),
    (
        "task_storage_get",
        1,
        "the verifier passes allocation flags",
    ),
    (
        "cgrp_storage_get",
        1,
        "the verifier passes allocation flags",
    ),
    ("timer_set_callback", 1, "the verifier passes the program"),
];

/// The kernel keeps a type definition `btf_bpf_NAME` for the arguments of most helpers.
#[test]
fn helpers_take_as_many_arguments_as_the_kernels() {
    needs!(Btf);
    let kernel = kernel();
    let mut found = Found::new();
    let mut compared = 0;
    for helper in HELPERS {
        let name = format!("btf_bpf_{}", helper.name);
        let Some(id) = kernel.btf.find_typedef(&name) else {
            continue;
        };
        let proto = kernel
            .btf
            .prototype(id)
            .expect("types")
            .expect("a prototype");
        compared += 1;
        let extra = EXTRA_ARGUMENTS
            .iter()
            .find(|(name, ..)| *name == helper.name);
        let ours = helper.args.len() + extra.map_or(0, |(_, count, _)| *count);
        let real = proto.len() as usize;
        if real != ours {
            found.differs(format!(
                "{} takes {real} arguments, not {ours}",
                helper.name
            ));
        }
    }
    assert!(compared > 100, "{compared}");
}

/// The attribute structures of bpf(2), which the loader passes: every member at its place.
#[test]
fn attributes_are_the_kernels() {
    needs!(Btf);
    let kernel = kernel();
    let attr = kernel.btf.require("bpf_attr", Kind::UNION).unwrap();
    let mut found = Found::new();
    let mut compared = 0;
    for structure in bpfsmith_sys::attr::ATTRS {
        for member in structure.members {
            let name = member.name.trim_start_matches("r#");
            if name.starts_with('_') {
                continue;
            }
            let path = match structure.part {
                "" => name.to_owned(),
                part => format!("{part}.{name}"),
            };
            let what = format!("{} {path}", structure.cmd);
            match kernel.btf.member(attr, &path) {
                Ok(place) => {
                    let size = kernel.btf.size_of(place.ty).unwrap() as usize;
                    let offset = place.offset().unwrap() as usize;
                    if (offset, size) != (member.offset, member.size) {
                        let ours = (member.offset, member.size);
                        found.differs(format!("{what}: {ours:?}, not {:?}", (offset, size)));
                    }
                    compared += 1;
                }
                Err(error) => found.lacks(format!("{what}: {error}")),
            }
        }
    }
    println!("{compared} members compared");
    assert!(compared > 100 || version() < TABLES);
}

/// The arguments of the functions in the kernel's structures of functions: how many, and of what.
#[test]
fn operations_take_what_the_table_says() {
    needs!(Btf);
    let Kernel { btf, .. } = kernel();
    let mut found = Found::new();
    let structures = ["tcp_congestion_ops", "bpf_dummy_ops"];
    for structure in structures {
        let Some(id) = btf.find_struct(structure) else {
            found.lacks(format!("{structure}: not there"));
            continue;
        };
        let ty = btf.ty(id).expect("it was found");
        let mut compared = 0;
        for member in ty.members() {
            let Ok(Some(prototype)) = btf.prototype(member.ty) else {
                continue;
            };
            let params: Vec<_> = prototype.params().collect();
            let name = member.name.to_string();
            let Some(row) = Operation::find(structure, &name, params.len()) else {
                let count = params.len();
                found.new_in_kernel(format!("{structure}.{name}: no row for {count} arguments"));
                continue;
            };
            compared += 1;
            for ((param, arg), wanted) in params.iter().zip(row.args).zip(row.types) {
                let is = pointee(&btf, param.ty);
                if is != *wanted {
                    found.differs(format!(
                        "{structure}.{name}: {arg} is {is:?}, not {wanted:?}"
                    ));
                }
            }
        }
        assert!(compared > 2, "{structure}: {compared} functions compared");
        for row in OPERATIONS.iter().filter(|row| row.structure == structure) {
            if btf.member(id, row.member).is_err() {
                found.lacks(format!("{structure}.{}: not there", row.member));
            }
        }
    }
    let mut rows = OPERATIONS.iter();
    assert!(rows.all(|row| structures.contains(&row.structure)));
}

/// The name of the structure or union that a pointer leads to.
fn pointee(btf: &Btf, id: TypeId) -> String {
    let target = btf.resolve(id).ok().filter(|ty| ty.kind() == Kind::PTR);
    let target = target.and_then(|ty| btf.resolve(ty.target()?).ok());
    let target = target.filter(|ty| matches!(ty.kind(), Kind::STRUCT | Kind::UNION));
    target.map_or_else(String::new, |ty| ty.name().to_string())
}
