//! Programs on functions of the kernel and of other programs: calls are counted exactly, results
//! seen and changed.

#![expect(
    clippy::unwrap_used,
    reason = "tests may panic, and so may what they call"
)]

mod trace;

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{Need, State, needs, tracefs};
use bpfsmith_prog::target::{Fentry, Freplace, Kprobe, KprobeMulti, Lsm, Target};
use bpfsmith_prog::{Error, Load, Way, kernel};
use bpfsmith_uapi::Errno;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use trace::*;

/// What the kernel calls for a system call that a safe function makes once, with an answer of our
/// choice.
#[cfg(target_arch = "x86_64")]
const SYS_LSEEK: &str = "__x64_sys_lseek";

/// The other one.
#[cfg(target_arch = "x86_64")]
const SYS_GETPID: &str = "__x64_sys_getpid";

/// Sets the position in a file so many times, and returns the sum of the answers.
fn seek(times: u64) -> u64 {
    let mut file = File::open("/proc/self/exe").unwrap();
    (0..times)
        .map(|n| file.seek(SeekFrom::Start(n * 10 + 5)).unwrap())
        .sum()
}

/// Counts, and adds up the word at that place of the context.
fn see(at: i32) -> Code {
    for_this_thread(code![load(R0, CTX.u64(at)), tally()])
}

#[test]
fn an_entry_is_seen() {
    needs!(Root, Fentry);
    let target = Fentry::entry(SYS_LSEEK);
    let (prog, link) = attach(ProgType::TRACING, for_this_thread(count()), &target);
    seek(6);
    assert_eq!(counted(&prog).0, 6);
    drop(link);
    seek(6);
    assert_eq!(counted(&prog).0, 6, "it is still attached");
    let error = prog.attach(&Fentry::entry("vfs_read")).unwrap_err();
    assert!(error.to_string().contains("another function"), "{error}");
}

#[test]
fn an_exit_knows_the_result() {
    needs!(Root, Fentry);
    // One argument, then the result.
    let (prog, _link) = attach(ProgType::TRACING, see(8), &Fentry::exit(SYS_LSEEK));
    let sum = seek(4);
    assert_eq!(counted(&prog), (4, sum));
}

#[test]
fn a_cookie_comes_with_the_entry() {
    needs!(Root, Fentry);
    let target = Fentry::entry(SYS_LSEEK).cookie(21);
    let (prog, _link) = attach(ProgType::TRACING, for_this_thread(cookies()), &target);
    seek(2);
    assert_eq!(counted(&prog), (2, 42));
}

#[test]
fn a_result_is_changed_before_the_function_runs() {
    needs!(Root, Fentry, FmodRet);
    // A test run calls this function, which returns 4 and has an effect that is counted in the
    // upper half.
    let code = code![
        mov(CTX, R1),
        get_current_pid_tgid(),
        W0.eq(thread()).then(ret(9)),
        ret(0),
    ];
    let target = Fentry::modify("bpf_modify_return_test");
    let (prog, link) = attach(ProgType::TRACING, code, &target);
    let changed = prog.run().go().unwrap().retval;
    drop(link);
    let own = prog.run().go().unwrap().retval;
    assert_eq!(own - changed, (1 << 16) + 4 - 9, "{own:#x} {changed:#x}");
}

#[test]
fn a_program_that_may_sleep_is_loaded_as_one() {
    needs!(Root, Fentry, FmodRet);
    // Only such a program may call this helper.
    let code = for_this_thread(code![
        mov(R1, R10),
        add(R1, -8),
        store(R10.u64(-8), 0),
        copy_from_user(R1, 8, 0),
        count(),
    ]);
    let target = Fentry::entry("bpf_fentry_test1").sleepable();
    let (prog, _link) = attach(ProgType::TRACING, code, &target);
    prog.run().go().unwrap();
    assert_eq!(counted(&prog).0, 1);
}

#[test]
fn a_function_of_another_program_is_traced() {
    needs!(Root, Fentry);
    let pass = Program::new(ProgType::XDP, "bs_traced", code![ret(XDP_TX)]).unwrap();
    let pass = Load::new(&pass).context("xdp_md").load().unwrap();
    // One argument, then the result.
    let exit = code![load(R0, R1.u64(8)), tally(), ret(0)];
    let target = Fentry::exit("bs_traced").of(&pass);
    let error = Fentry::exit("bs_tracd").of(&pass).hook().unwrap_err();
    assert!(error.to_string().contains("near: bs_traced"), "{error}");
    let (prog, _link) = attach(ProgType::TRACING, exit, &target);
    for _ in 0..3 {
        pass.run().data(&[0; 64]).go().unwrap();
    }
    assert_eq!(counted(&prog), (3, 3 * 3));
}

#[test]
fn where_trampolines_are_refused_the_error_says_what_may_be_the_cause() {
    needs!(Root, Btf);
    if Need::Fentry.state() == State::Here {
        return;
    }
    let target = Fentry::entry("vfs_read");
    let program = Program::new(ProgType::TRACING, "refused", code![ret(0)]).unwrap();
    let error = Load::new(&program).to(&target).unwrap().load().unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert!(error.to_string().contains("EPERM"), "{error}");
    assert!(error.to_string().contains("forbids"), "{error}");
}

#[test]
fn functions_that_do_not_exist_have_neighbours() {
    needs!(Root, Btf);
    let error = Fentry::entry("vfs_raed").hook().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("this kernel has no function \"vfs_raed\" (near: "),
        "{error}"
    );
    let Error::Unknown { near, .. } = Lsm::on("file_opn").hook().unwrap_err() else {
        panic!("it exists")
    };
    assert_eq!(near[0], "file_open");
}

#[test]
fn a_file_is_denied_to_this_thread_only() {
    needs!(Root, Lsm);
    let offset = |structure: &str, path: &str| {
        let btf = kernel::btf().unwrap();
        let id = btf.find_struct(structure).unwrap();
        let offset = btf.member(id, path).unwrap().offset().unwrap();
        i32::try_from(offset).unwrap()
    };
    let dir = std::env::temp_dir();
    let paths = ["denied", "allowed"].map(|name| {
        let path = dir.join(format!("bs-hooktrace-{}-{name}", std::process::id()));
        std::fs::write(&path, name).unwrap();
        path
    });
    let inode = File::open(&paths[0]).unwrap().metadata().unwrap().ino();
    let code = code![
        mov(CTX, R1),
        get_current_pid_tgid(),
        W0.ne(thread()).then(ret(0)),
        load(R1, CTX.u64(0)),
        load(R1, R1.u64(offset("file", "f_inode"))),
        load(R1, R1.u64(offset("inode", "i_ino"))),
        lddw(R2, inode),
        R1.ne(R2).then(ret(0)),
        ret(-1),
    ];
    for target in [
        Lsm::on("file_open"),
        Lsm::on("file_open").sleepable(),
    ] {
        let (_prog, link) = attach(ProgType::LSM, code.clone(), &target);
        let refused = File::open(&paths[0]).map(drop).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(1), "{refused}");
        File::open(&paths[1]).unwrap();
        let other = std::thread::scope(|scope| {
            let open = || File::open(&paths[0]).map(drop);
            scope.spawn(open).join().unwrap()
        });
        other.unwrap();
        drop(link);
        File::open(&paths[0]).unwrap();
    }
    for path in paths {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_function_of_a_program_is_replaced() {
    needs!(Root, Freplace);
    let pass = Program::new(ProgType::XDP, "bs_replaced", code![ret(XDP_PASS)]).unwrap();
    let pass = Load::new(&pass).context("xdp_md").load().unwrap();
    let run = || pass.run().data(&[0; 64]).go().unwrap().retval;
    assert_eq!(run(), 2);
    let target = Freplace::of(&pass, "bs_replaced");
    let other = Program::new(ProgType::EXT, "other", code![ret(XDP_TX)]).unwrap();
    let other = Load::new(&other).context("xdp_md").to(&target).unwrap();
    let other = other.load().unwrap_or_else(|error| panic!("{error:#}"));
    let link = other.attach(&target).unwrap();
    assert_eq!(run(), 3);
    drop(link);
    assert_eq!(run(), 2);
}

#[test]
fn a_kprobe_is_hit() {
    needs!(Root, Kprobe);
    let target = Kprobe::entry(SYS_LSEEK).cookie(5);
    let (prog, link) = attach(ProgType::KPROBE, for_this_thread(cookies()), &target);
    assert_eq!(link.way(), Way::Link);
    seek(8);
    assert_eq!(counted(&prog), (8, 40));
    drop(link);
    seek(8);
    assert_eq!(counted(&prog).0, 8, "it is still attached");
    let target = Kprobe::inside(SYS_LSEEK, 0).way(Way::Attachment);
    let (prog, link) = attach(ProgType::KPROBE, for_this_thread(count()), &target);
    assert_eq!(link.way(), Way::Attachment);
    seek(3);
    assert_eq!(counted(&prog).0, 3);
}

#[test]
fn a_kretprobe_knows_the_result() {
    needs!(Root, Kprobe);
    let code = for_this_thread(code![load(R0, CTX.get(ARGS[2])), tally()]);
    let (prog, _link) = attach(ProgType::KPROBE, code, &Kprobe::exit(SYS_LSEEK));
    let sum = seek(5);
    assert_eq!(counted(&prog), (5, sum));
}

#[test]
fn a_kprobe_on_nothing_has_neighbours() {
    needs!(Root, Kprobe);
    let target = Kprobe::entry("vfs_raed");
    let prog = load_for(ProgType::KPROBE, code![ret(0)], &target);
    let error = prog.attach(&target).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("this kernel has no function \"vfs_raed\" (near: "),
        "{error}"
    );
}

#[test]
fn a_kernel_without_kprobes_says_so() {
    needs!(Root, Bpf);
    let target = Kprobe::entry("vfs_read");
    let prog = load_for(ProgType::KPROBE, code![ret(0)], &target);
    match prog.attach(&target) {
        Ok(_) => assert_eq!(Need::Kprobe.state(), State::Here),
        Err(error) => assert!(
            error.to_string().contains("CONFIG_KPROBE_EVENTS"),
            "{error}"
        ),
    }
    let target = KprobeMulti::on(["vfs_read"]);
    if let Ok(program) = Program::new(ProgType::KPROBE, "multi", code![ret(0)])
        && let Ok(prog) = Load::new(&program).to(&target).unwrap().load()
    {
        match prog.attach(&target) {
            Ok(_) => assert_eq!(Need::KprobeMulti.state(), State::Here),
            Err(error) => assert!(error.to_string().contains("BPF_LINK_CREATE"), "{error}"),
        }
    }
}

#[test]
fn many_functions_have_one_link_and_a_cookie_each() {
    needs!(Root, KprobeMulti);
    let target = KprobeMulti::on([SYS_LSEEK, SYS_GETPID]).cookies([1000, 1]);
    let (prog, link) = attach(ProgType::KPROBE, for_this_thread(cookies()), &target);
    seek(3);
    for _ in 0..4 {
        std::hint::black_box(std::process::id());
    }
    assert_eq!(counted(&prog), (7, 3004));
    // Asked for types, such a link would take the length of their name for that many addresses.
    let error = bpfsmith_sys::info::btf(link.fd().unwrap()).unwrap_err();
    assert_eq!(error.errno, Errno::EINVAL);
    drop(link);
    seek(3);
    assert_eq!(counted(&prog).0, 7, "it is still attached");
    let error = prog.attach(&KprobeMulti::on(["vfs_raed"])).unwrap_err();
    assert!(
        error.to_string().contains("no function \"vfs_raed\""),
        "{error}"
    );
    let error = prog.attach(&target.cookies([1])).unwrap_err();
    assert!(
        error.to_string().contains("1 of them for 2 functions"),
        "{error}"
    );
}

#[test]
fn functions_that_fit_a_pattern_return() {
    needs!(Root, KprobeMulti, Tracefs);
    let _tracefs = tracefs();
    let target = KprobeMulti::matching("*_sys_lsee*").returning();
    let code = for_this_thread(code![load(R0, CTX.get(ARGS[2])), tally()]);
    let (prog, _link) = attach(ProgType::KPROBE, code, &target);
    let sum = seek(3);
    let (count, seen) = counted(&prog);
    // Another function with such a name may be called on the way.
    assert!(count >= 3 && seen >= sum, "{count} {seen}");
    let error = prog
        .attach(&KprobeMulti::matching("bs_no*such"))
        .unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
}

#[test]
fn a_session_sees_both_sides_unless_it_declines() {
    needs!(Root, KprobeSession);
    let target = KprobeMulti::on([SYS_LSEEK]).session();
    let (prog, link) = attach(ProgType::KPROBE, for_this_thread(count()), &target);
    seek(3);
    assert_eq!(counted(&prog).0, 6);
    drop(link);
    let declines = code![
        mov(CTX, R1),
        get_current_pid_tgid(),
        W0.eq(thread()).then(count()),
        ret(1),
    ];
    let (prog, _link) = attach(ProgType::KPROBE, declines, &target);
    seek(3);
    assert_eq!(counted(&prog).0, 3);
}
