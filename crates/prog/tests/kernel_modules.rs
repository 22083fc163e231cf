//! Functions, variables and hooks of modules, by name: what they do when a program runs.

#![expect(
    clippy::unwrap_used,
    reason = "tests may panic, and so may what they call"
)]

mod trace;

use bpfsmith_asm::dsl::*;
use bpfsmith_btf::Kind;
use bpfsmith_gate::{deadline, needs, open_fds};
use bpfsmith_net::NetNs;
use bpfsmith_prog::kernel::{self, Module};
use bpfsmith_prog::target::{Fentry, Kprobe, Target, TpBtf};
use bpfsmith_prog::{Error, Load, Prog};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, connect, getsockname, listen,
    socket,
};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use trace::{CTX, attach, count, counted, for_this_thread, tally};

const PACKET: [u8; 64] = [0; 64];
const CONNTRACK: &str = "nf_conntrack";

/// The port that a connection comes from.
static PORT: Global<u64> = Global::bss("port");

fn program(kind: ProgType, name: &str, code: Code) -> Program {
    Program::new(kind, name, code).unwrap_or_else(|report| panic!("{report}"))
}

#[track_caller]
fn load_xdp(name: &str, code: Code) -> Prog {
    let load = Load::new(&program(ProgType::XDP, name, code)).load();
    load.unwrap_or_else(|error| panic!("{error:#}"))
}

#[track_caller]
fn refused(code: Code) -> Error {
    Load::new(&program(ProgType::XDP, "refused", code))
        .load()
        .unwrap_err()
}

fn module(name: &str) -> Arc<Module> {
    let all = kernel::modules().unwrap();
    let found = all.into_iter().find(|module| module.name() == name);
    found.unwrap_or_else(|| panic!("{name} is not loaded"))
}

/// The offset of a member of a structure that a module knows.
fn member(module: &Module, structure: &str, path: &str) -> i32 {
    let btf = module.btf();
    let id = btf.find_struct(structure).unwrap();
    let offset = btf.member(id, path).unwrap().offset().unwrap();
    offset.try_into().unwrap()
}

/// Passes the TCP connection from [`PORT`] to one of the functions that take a packet, addresses
/// and options, which are in `options` afterwards.
fn ask(function: &'static str, options: Slot) -> Code {
    let tuple = slot::<[u32; 3]>("tuple");
    code![
        store(tuple.u32(0), 0x0a63_0001),
        store(tuple.u32(4), 0x0a63_0002),
        ld_global(R2, &PORT),
        load(R2, R2.u64(0)),
        store(tuple.u16(8), R2),
        store(tuple.u16(10), 80),
        // This network namespace, no error, TCP.
        store(options.u32(0), -1),
        store(options.u32(4), 0),
        store(options.u32(8), 6),
        addr(R2, tuple),
        mov(R3, 12),
        addr(R4, options),
        mov(R5, 12),
        call_kfunc(function),
    ]
}

/// Has the kernel track a connection, with this mark. Returns 1, or the error.
fn insert(mark: i32) -> Code {
    let options = slot::<[u32; 3]>("options");
    let offset = member(&module(CONNTRACK), "nf_conn", "mark");
    code![
        ask("bpf_xdp_ct_alloc", options),
        R0.eq(0).then(code![load(R0, options.u32(4)), exit()]),
        store(R0.u32(offset), mark),
        mov(R6, R0),
        mov(R1, R6),
        mov(R2, 600_000),
        call_kfunc("bpf_ct_set_timeout"),
        mov(R1, R6),
        call_kfunc("bpf_ct_insert_entry"),
        R0.eq(0).then(ret(2)),
        mov(R1, R0),
        call_kfunc("bpf_ct_release"),
        ret(1),
    ]
}

/// Looks a connection up by the function of that name. Returns its mark, or the error.
fn look_up(function: &'static str) -> Code {
    let options = slot::<[u32; 3]>("options");
    let mark = member(&module(CONNTRACK), "nf_conn", "mark");
    code![
        ask(function, options),
        R0.eq(0).then(code![load(R0, options.u32(4)), exit()]),
        load(R6, R0.u32(mark)),
        mov(R1, R0),
        call_kfunc("nf_conntrack:bpf_ct_release"),
        mov(R0, R6),
        exit(),
    ]
}

#[track_caller]
fn answer(prog: &Prog, port: u64) -> i32 {
    prog.write(&PORT, &port).unwrap();
    prog.run().data(&PACKET).go().unwrap().retval.cast_signed()
}

#[test]
fn functions_of_modules_are_called_by_name() {
    needs!(Root, Bpf, Modules, NetNs);
    let insert = load_xdp("insert", insert(0x1234));
    let look_up = [
        "bpf_xdp_ct_lookup",
        "nf_conntrack:bpf_xdp_ct_lookup",
    ]
    .map(|name| load_xdp("look_up", look_up(name)));
    let space = NetNs::new().unwrap();
    let absent = -Errno::ENOENT.0;
    let seen = |port| look_up.each_ref().map(|prog| answer(prog, port));
    space
        .run(|| {
            assert_eq!(seen(1000), [absent; 2]);
            assert_eq!(answer(&insert, 1000), 1);
            assert_eq!(seen(1000), [0x1234; 2]);
            assert_eq!(seen(1001), [absent; 2]);
        })
        .unwrap();
    // It is tracked there only.
    let other = NetNs::new().unwrap();
    other.run(|| assert_eq!(seen(1000), [absent; 2])).unwrap();
}

#[test]
fn hooks_are_found_in_modules() {
    needs!(Root, Bpf, Modules, Fentry, Kprobe);
    const FUNCTION: &str = "nf_conntrack_find_get";
    let body = || for_this_thread(count());
    let named = |name| attach(ProgType::TRACING, body(), &Fentry::entry(name));
    let (entry, _entry) = named(FUNCTION);
    let (exit, _exit) = attach(ProgType::TRACING, body(), &Fentry::exit(FUNCTION));
    let (of_module, link) = named("nf_conntrack:nf_conntrack_find_get");
    let (probe, _probe) = attach(
        ProgType::KPROBE,
        body(),
        &Kprobe::entry("nf_conntrack:nf_conntrack_find_get"),
    );
    let look_up = load_xdp("look_up", look_up("bpf_xdp_ct_lookup"));
    let absent = -Errno::ENOENT.0;
    (0..5).for_each(|port| assert_eq!(answer(&look_up, port), absent));
    drop(link);
    (0..3).for_each(|port| assert_eq!(answer(&look_up, port), absent));
    let counts = [&entry, &exit, &of_module, &probe].map(|prog| counted(prog).0);
    assert_eq!(counts, [8, 8, 5, 8]);
}

#[test]
fn a_program_for_one_module_is_not_attached_to_another() {
    needs!(Root, Bpf, Modules, Fentry);
    let (one, other) = (module(CONNTRACK), module("bridge"));
    // Modules number their types from the same number on.
    let name = |module: &Module, id| {
        let ty = module.btf().get(id)?;
        let name = format!("{}:{}", module.name(), ty.name());
        (ty.kind() == Kind::FUNC).then_some(name)
    };
    let pairs = one.btf().types().filter_map(|ty| {
        let names = (name(&one, ty.id())?, name(&other, ty.id())?);
        Some(names)
    });
    let refused = pairs.take(50).find_map(|(ours, theirs)| {
        let load = Load::new(&program(
            ProgType::TRACING,
            "bs_one",
            for_this_thread(count()),
        ))
        .to(&Fentry::entry(&ours))
        .unwrap()
        .load();
        // Some functions cannot be traced.
        let prog = load.ok()?;
        Some(prog.attach(&Fentry::entry(&theirs)).unwrap_err())
    });
    let text = refused.unwrap().to_string();
    assert!(text.contains("another function than bridge:"), "{text}");
}

/// Connects to a socket that nobody answers but the kernel itself.
fn connect_to_this_machine() {
    const LOCAL: u32 = 1;
    let open = || {
        let kind = SockType::Stream;
        socket(AddressFamily::Vsock, kind, SockFlag::SOCK_CLOEXEC, None).unwrap()
    };
    let (listener, client) = (open(), open());
    bind(listener.as_raw_fd(), &VsockAddr::new(LOCAL, u32::MAX)).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let address: VsockAddr = getsockname(listener.as_raw_fd()).unwrap();
    connect(client.as_raw_fd(), &address).unwrap();
}

#[test]
fn trace_events_are_found_in_modules() {
    needs!(Root, Bpf, VsockModule, TpBtf);
    const REQUEST: i32 = 1;
    // The seventh argument says what the packet is for.
    let requests = for_this_thread(code![
        load(R0, CTX.u64(48)),
        W0.eq(REQUEST).then(tally()),
    ]);
    let event = TpBtf::named("virtio_transport_alloc_pkt");
    let (prog, link) = attach(ProgType::TRACING, requests, &event);
    (0..3).for_each(|_| connect_to_this_machine());
    assert_eq!(counted(&prog).0, 3);
    drop(link);
    connect_to_this_machine();
    assert_eq!(counted(&prog).0, 3);
    let error = TpBtf::named("virtio_transport_alloc_pkd")
        .hook()
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("near: virtio_transport_alloc_pkt"), "{text}");
}

static DISTANCE: Global<u64> = Global::bss("distance");

#[test]
fn variables_of_modules_are_found_by_name() {
    needs!(Root, Bpf, Modules, DataSymbols);
    for (name, whole) in [
        ("nft_ct_pcpu_template", "nft_ct:nft_ct_pcpu_template"),
        ("nft_ct:nft_ct_pcpu_template", "nft_ct:nft_ct_pcpu_template"),
    ] {
        // This CPU's part of a variable is as far from that of another variable as the two are.
        let code = code![
            ld_ksym(R1, "runqueues"),
            this_cpu_ptr(R1),
            mov(R6, R0),
            ld_ksym(R1, name),
            this_cpu_ptr(R1),
            load(R7, R0.u64(0)),
            sub(R0, R6),
            ld_global(R1, &DISTANCE),
            store(R1.u64(0), R0),
            mov(R0, 0),
            R7.eq(0).then(ret(1)),
            exit(),
        ];
        let prog = load_xdp("variable", code);
        // No rule has set it.
        assert_eq!(prog.run().data(&PACKET).go().unwrap().retval, 1);
        let address = |name| kernel::address(name).unwrap();
        assert_eq!(
            prog.read(&DISTANCE).unwrap(),
            address(whole).wrapping_sub(address("runqueues"))
        );
    }
}

#[test]
fn a_name_that_no_module_has_has_neighbours_there() {
    needs!(Root, Bpf, Modules);
    for (name, near) in [
        ("bpf_xdp_ct_lookop", "near: bpf_xdp_ct_lookup"),
        (
            "nf_conntrack:bpf_ct_relase",
            "near: nf_conntrack:bpf_ct_release",
        ),
        (
            "nf_conntrak:bpf_ct_release",
            "no module with types \"nf_conntrak\" (near: nf_conntrack",
        ),
        (
            "vmlinux:bpf_ct_release",
            "no kernel function \"vmlinux:bpf_ct_release\"",
        ),
    ] {
        let error = refused(code![call_kfunc(name), ret(0)]).to_string();
        assert!(error.contains(near), "{error}");
    }
    let error = refused(code![
        ld_ksym(R1, "nft_ct_pcpu_templat"),
        ret(0)
    ]);
    let text = error.to_string();
    assert!(text.contains("near: nft_ct_pcpu_template;"), "{text}");
}

#[test]
fn a_name_of_several_modules_must_say_which() {
    needs!(Root, Bpf, Modules);
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for module in kernel::modules().unwrap() {
        let funcs = module.btf().types().filter(|ty| ty.kind() == Kind::FUNC);
        for func in funcs {
            let modules = names.entry(func.name().to_string()).or_default();
            modules.push(module.name().to_owned());
        }
    }
    let btf = kernel::btf().unwrap();
    names.retain(|name, modules| modules.len() > 1 && btf.find_func(name).is_none());
    let (name, modules) = names.first_key_value().unwrap();
    let text = kernel::function(name).unwrap_err().to_string();
    for module in modules {
        let whole = format!("{module}:{name}");
        assert!(text.contains(&format!("`{whole}`")), "{text}");
        let found = kernel::function(&whole).unwrap().module.unwrap();
        assert_eq!(found.name(), module);
    }
}

#[test]
fn modules_are_read_once() {
    needs!(Root, Bpf, Modules);
    let first = kernel::modules().unwrap();
    let again = kernel::modules().unwrap();
    assert!(first.iter().zip(&again).all(|(a, b)| Arc::ptr_eq(a, b)));
    let mut names: Vec<&str> = first.iter().map(|module| module.name()).collect();
    names.sort_unstable();
    let files = std::fs::read_dir("/sys/kernel/btf").unwrap();
    let mut files: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "vmlinux")
        .collect();
    files.sort_unstable();
    assert_eq!(names, files);
    let conntrack = module(CONNTRACK);
    let bytes = std::fs::read("/sys/kernel/btf/nf_conntrack").unwrap();
    assert_eq!(conntrack.btf().as_bytes(), bytes);
    // The kernel holds what a program needs of a module. Other tests may be loading theirs.
    let prog = load_xdp("look_up", look_up("bpf_xdp_ct_lookup"));
    deadline(Duration::from_secs(60), || {
        open_fds().to("btf_id ").is_empty().then_some(())
    });
    drop(prog);
}

#[test]
fn a_module_that_is_not_loaded_is_named() {
    needs!(Root, Bpf, Btf);
    let error = refused(code![call_kfunc("bs_modules_none:f"), ret(0)]);
    let text = error.to_string();
    let start = "this kernel has no module with types \"bs_modules_none\" (";
    assert!(text.contains(start), "{text}");
    // The kernel itself has a name too.
    let found = kernel::function("vmlinux:vfs_read").unwrap();
    assert_eq!(Some(found.id), kernel::btf().unwrap().find_func("vfs_read"));
    assert!(found.module.is_none());
}

/// Who runs this test again without any right says so here.
const ROLE: &str = "BS_MODULES_ROLE";

#[test]
fn who_may_not_see_modules_is_told_so() {
    if std::env::var_os(ROLE).is_some() {
        let text = kernel::function("bpf_ct_relase").unwrap_err().to_string();
        assert!(text.contains("modules were not searched"), "{text}");
        // Those of the kernel itself are for everybody.
        kernel::function("vfs_read").unwrap();
        // Some machines show addresses to everybody.
        match kernel::address("vfs_read") {
            Ok(address) => assert_ne!(address, 0),
            Err(hidden) => assert!(
                hidden.to_string().contains("kernel.kptr_restrict"),
                "{hidden}"
            ),
        }
        return;
    }
    needs!(Root, Bpf, Btf);
    let mut command = Command::new("/proc/self/exe");
    command.args([
        "--exact",
        "who_may_not_see_modules_is_told_so",
        "--nocapture",
    ]);
    command.env(ROLE, "nobody").uid(65534).gid(65534);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

static ADDRESS: Global<u64> = Global::rodata("address", 0);
static TEXT: Global<[u8; 14]> = Global::bss("text");

#[test]
fn what_has_no_type_is_read_by_its_address() {
    needs!(Root, Bpf, DataSymbols);
    let code = code![
        ld_global(R6, &TEXT),
        ld_global(R7, &ADDRESS),
        load(R7, R7.u64(0)),
        probe_read_kernel(R6, 14, R7),
        exit(),
    ];
    let program = program(ProgType::RAW_TRACEPOINT, "banner", code);
    let address = kernel::address("linux_banner").unwrap();
    let load = Load::new(&program).set(&ADDRESS, &address).unwrap();
    let prog = load.load().unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(prog.run().go().unwrap().retval, 0);
    assert_eq!(&prog.read(&TEXT).unwrap(), b"Linux version ");
}

#[test]
fn an_address_that_nothing_has_is_explained() {
    needs!(Root);
    assert_ne!(kernel::address("vfs_read").unwrap(), 0);
    let text = kernel::address("vfs_raed").unwrap_err().to_string();
    assert!(text.contains("near: vfs_read"), "{text}");
}
