//! Programs on trace events and counters: each is counted exactly.

mod trace;

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{deadline, needs, tracefs};
use bpfsmith_prog::target::{PerfEvent, RawTracepoint, Target, TpBtf, Tracepoint};
use bpfsmith_prog::{Error, Link, Load, Way};
use bpfsmith_sys::info::Place;
use bpfsmith_sys::perf::{Hardware, Software};
use std::time::Duration;
use trace::*;

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_tracepoint_counts_system_calls_of_this_thread() {
    needs!(Root, Tracepoint);
    let tracefs = tracefs();
    let target = Tracepoint::named("syscalls", "sys_enter_getppid").tracefs(tracefs.path());
    let (prog, link) = attach(ProgType::TRACEPOINT, for_this_thread(count()), &target);
    assert_eq!(link.way(), Way::Link);
    getppid(7);
    assert_eq!(counted(&prog).0, 7);
    drop(link);
    getppid(7);
    assert_eq!(counted(&prog).0, 7, "it is still attached");
}

#[test]
fn tracefs_is_found_where_it_is_mounted() {
    needs!(Root, Tracepoint);
    let tracefs = tracefs();
    let target = Tracepoint::named("syscalls", "sys_enter_getppid");
    let (prog, _link) = attach(ProgType::TRACEPOINT, for_this_thread(count()), &target);
    getppid(2);
    assert_eq!(counted(&prog).0, 2);
    drop(tracefs);
}

#[test]
fn a_tracepoint_has_a_cookie() {
    needs!(Root, Tracepoint);
    let tracefs = tracefs();
    let target = Tracepoint::named("syscalls", "sys_exit_getppid")
        .tracefs(tracefs.path())
        .cookie(0x1_0000_0001);
    let (prog, link) = attach(ProgType::TRACEPOINT, for_this_thread(cookies()), &target);
    getppid(3);
    assert_eq!(counted(&prog), (3, 3 * 0x1_0000_0001));
    drop(link);
    let error = prog.attach(&target.way(Way::Attachment)).unwrap_err();
    assert!(error.to_string().starts_with("cookie: "), "{error}");
}

#[test]
fn without_links_a_tracepoint_is_attached_all_the_same() {
    needs!(Root, Tracepoint);
    let tracefs = tracefs();
    let target = Tracepoint::named("syscalls", "sys_enter_getppid")
        .tracefs(tracefs.path())
        .way(Way::Attachment);
    let (prog, link) = attach(ProgType::TRACEPOINT, for_this_thread(count()), &target);
    assert_eq!(link.way(), Way::Attachment);
    assert!(link.fd().is_err());
    getppid(5);
    assert_eq!(counted(&prog).0, 5);
    link.detach().unwrap();
    getppid(5);
    assert_eq!(counted(&prog).0, 5, "it is still attached");
}

#[test]
fn a_tracepoint_that_does_not_exist_has_neighbours() {
    needs!(Root, Tracepoint);
    let tracefs = tracefs();
    let prog = load_for(
        ProgType::TRACEPOINT,
        for_this_thread(count()),
        &Tracepoint::number(0),
    );
    let wrong = Tracepoint::named("syscalls", "sys_enter_getpid1").tracefs(tracefs.path());
    let error = prog.attach(&wrong).unwrap_err();
    let Error::Unknown { what, near, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*what, "tracepoint");
    assert_eq!(near[0], "syscalls:sys_enter_getpid");
    for odd in ["", "..", "../sched"] {
        let target = Tracepoint::named(odd, "enable").tracefs(tracefs.path());
        let error = prog.attach(&target).unwrap_err();
        assert!(matches!(error, Error::Unknown { .. }), "{error}");
    }
}

/// Counts if the second argument is the number of the system call.
fn count_getppid() -> Code {
    code![
        load(R0, CTX.u64(8)),
        R0.eq(GETPPID).then(count())
    ]
}

#[test]
fn a_raw_tracepoint_sees_the_arguments() {
    needs!(Root, RawTracepoint);
    let target = RawTracepoint::named("sys_enter");
    let code = for_this_thread(count_getppid());
    let (prog, link) = attach(ProgType::RAW_TRACEPOINT, code, &target);
    getppid(11);
    assert_eq!(counted(&prog).0, 11);
    let place = link.info().unwrap().place;
    assert!(
        matches!(&place, Place::RawTracepoint { name, .. } if name == "sys_enter"),
        "{place:?}"
    );
    drop(link);
    getppid(1);
    assert_eq!(counted(&prog).0, 11, "it is still attached");
}

#[test]
fn a_raw_tracepoint_that_does_not_exist_has_neighbours() {
    needs!(Root, RawTracepoint, Btf);
    let prog = load_for(
        ProgType::RAW_TRACEPOINT,
        code![ret(0)],
        &RawTracepoint::named("sys_enter"),
    );
    let error = prog
        .attach(&RawTracepoint::named("sched_swich"))
        .unwrap_err();
    let Error::Unknown { near, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(near[0], "sched_switch");
    let said = error.to_string();
    assert!(
        said.starts_with("this kernel has no tracepoint \"sched_swich\" (near: sched_switch"),
        "{said}"
    );
}

#[test]
fn a_writable_raw_tracepoint_answers() {
    needs!(Root, RawTracepoint);
    let pass = Program::new(ProgType::XDP, "pass", code![ret(XDP_PASS)]).unwrap();
    let pass = Load::new(&pass).load().unwrap();
    let run = || pass.run().data(&[0; 64]).go();
    assert_eq!(run().unwrap().retval, 2);
    const EDOM: i32 = 33;
    // The first argument points to the error number with which a test run ends.
    let deny = for_this_thread(code![
        load(R1, CTX.u64(0)),
        store(R1.u32(0), -EDOM),
    ]);
    let target = RawTracepoint::named("bpf_test_finish");
    let (_prog, link) = attach(ProgType::RAW_TRACEPOINT_WRITABLE, deny, &target);
    let error = run().unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EDOM), "{error}");
    drop(link);
    assert_eq!(run().unwrap().retval, 2);
}

#[test]
fn a_typed_tracepoint_sees_the_arguments() {
    needs!(Root, TpBtf);
    let target = TpBtf::named("sys_enter");
    let (prog, link) = attach(ProgType::TRACING, for_this_thread(count_getppid()), &target);
    getppid(13);
    assert_eq!(counted(&prog).0, 13);
    drop(link);
    getppid(1);
    assert_eq!(counted(&prog).0, 13, "it is still attached");
    // The kernel would attach it to what it was loaded for.
    let error = prog.attach(&TpBtf::named("sys_exit")).unwrap_err();
    assert!(error.to_string().contains("another function"), "{error}");
    let error = TpBtf::named("sys_entr").hook().unwrap_err();
    assert!(error.to_string().contains("near: sys_enter"), "{error}");
}

#[test]
fn a_switch_of_tasks_is_seen() {
    needs!(Root, TpBtf);
    // The third argument is the task that runs next: its number is this thread's.
    let btf = bpfsmith_prog::kernel::btf().unwrap();
    let task = btf.find_struct("task_struct").unwrap();
    let pid = btf.member(task, "pid").unwrap().offset().unwrap();
    let code = code![
        load(R1, R1.u64(16)),
        load(R1, R1.u32(pid.try_into().unwrap())),
        W1.eq(thread()).then(count()),
        ret(0),
    ];
    let (prog, _link) = attach(ProgType::TRACING, code, &TpBtf::named("sched_switch"));
    // Whoever sleeps is switched to afterwards.
    deadline(LONG, || (counted(&prog).0 >= 3).then_some(()));
}

fn spin_until(links: &[Link], done: impl Fn() -> bool) {
    assert!(!links.is_empty());
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG, "no sample within {LONG:?}");
        std::hint::black_box((0..10_000_u64).sum::<u64>());
    }
}

#[test]
fn a_clock_of_this_thread_ticks() {
    needs!(Root, PerfEvents);
    let target = PerfEvent::software(Software::CpuClock).hertz(500).cookie(9);
    let code = for_this_thread(cookies());
    let (prog, link) = attach(ProgType::PERF_EVENT, code, &target);
    spin_until(std::slice::from_ref(&link), || counted(&prog).0 >= 3);
    drop(link);
    let (count, sum) = counted(&prog);
    assert_eq!(sum, 9 * count);
    spin_for_a_moment();
    assert_eq!(counted(&prog).0, count, "it is still attached");
}

fn spin_for_a_moment() {
    std::hint::black_box((0..20_000_000_u64).fold(0, |sum: u64, n| sum.wrapping_add(n * n)));
}

#[test]
fn a_clock_of_each_cpu_ticks_without_links() {
    needs!(Root, PerfEvents);
    let clock = PerfEvent::software(Software::CpuClock).hertz(200);
    let prog = load_for(ProgType::PERF_EVENT, for_this_thread(count()), &clock);
    let links: Vec<Link> = clock
        .way(Way::Attachment)
        .each_cpu()
        .unwrap()
        .iter()
        .map(|clock| prog.attach(clock).unwrap())
        .collect();
    assert!(links.iter().all(|link| link.way() == Way::Attachment));
    spin_until(&links, || counted(&prog).0 >= 3);
}

#[test]
fn page_faults_of_this_thread_are_counted() {
    needs!(Root, PerfEvents);
    const PAGES: usize = 64;
    let target = PerfEvent::software(Software::PageFaults).period(1);
    let (prog, link) = attach(ProgType::PERF_EVENT, for_this_thread(count()), &target);
    let mut memory = vec![0_u8; PAGES * 4096];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    std::hint::black_box(&memory);
    drop(link);
    // The allocator may have had a few of them before.
    assert!(counted(&prog).0 >= 32, "{:?}", counted(&prog));
}

#[test]
fn a_counter_that_is_not_there_says_so() {
    needs!(Root, PerfEvents);
    let never = PerfEvent::software(Software::CpuClock);
    let prog = load_for(ProgType::PERF_EVENT, code![ret(0)], &never);
    let error = prog.attach(&never).unwrap_err();
    assert!(error.to_string().contains("never run"), "{error}");
    let error = prog.attach(&never.hertz(9).cpu(4095)).unwrap_err();
    assert!(error.to_string().contains("that cannot exist"), "{error}");
    if let Err(error) = prog.attach(&PerfEvent::hardware(Hardware::CpuCycles).hertz(9)) {
        assert!(error.to_string().contains("virtual machines"), "{error}");
    }
}
