//! Programs on functions of this test itself: calls are counted exactly, arguments and results seen.

#![expect(
    clippy::unwrap_used,
    reason = "tests may panic, and so may what they call"
)]

mod trace;

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{Need, State, needs, open_fds};
use bpfsmith_prog::elf::Elf;
use bpfsmith_prog::target::{Spot, Uprobe, UprobeMulti};
use bpfsmith_prog::{Error, Way};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use trace::*;

#[inline(never)]
extern "C" fn traced_sum(a: u64, b: u64) -> u64 {
    black_box(a) + black_box(b)
}

#[inline(never)]
extern "C" fn traced_product(a: u64, b: u64) -> u64 {
    black_box(a) * black_box(b)
}

#[inline(never)]
extern "C" fn traced_only_for_cycles(a: u64, b: u64) -> u64 {
    black_box(a) ^ black_box(b)
}

type Function = extern "C" fn(u64, u64) -> u64;

/// A call that the compiler cannot look through.
fn call_it(function: Function, a: u64, b: u64) -> u64 {
    black_box(function)(a, b)
}

fn own_file() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// The name of a function, as the compiler mangled it.
fn mangled(part: &str) -> String {
    let elf = Elf::open(own_file()).unwrap();
    let found = elf.matching(&format!("*{part}*"));
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].0.to_owned()
}

/// Counts, and adds up `first * 1000 + second`.
fn see_arguments() -> Code {
    for_this_thread(code![
        load(R0, CTX.get(ARGS[0])),
        mul(R0, 1000),
        load(R1, CTX.get(ARGS[1])),
        add(R0, R1),
        tally(),
    ])
}

/// Counts, and adds up the results.
fn see_results() -> Code {
    for_this_thread(code![load(R0, CTX.get(ARGS[2])), tally()])
}

#[test]
fn a_uprobe_sees_calls_and_arguments() {
    needs!(Root, Uprobe);
    let target = Uprobe::entry(own_file(), mangled("traced_sum"));
    let (prog, link) = attach(ProgType::KPROBE, see_arguments(), &target);
    assert_eq!(link.way(), Way::Link);
    for n in 0..5 {
        assert_eq!(call_it(traced_sum, n, 7), n + 7);
    }
    assert_eq!(counted(&prog), (5, 10 * 1000 + 5 * 7));
    drop(link);
    call_it(traced_sum, 1, 1);
    assert_eq!(counted(&prog).0, 5, "it is still attached");
}

#[test]
fn a_uretprobe_sees_results() {
    needs!(Root, Uprobe);
    let target = Uprobe::exit(own_file(), mangled("traced_product")).pid(std::process::id());
    let (prog, _link) = attach(ProgType::KPROBE, see_results(), &target);
    for n in 1..=4 {
        call_it(traced_product, n, 100);
    }
    assert_eq!(counted(&prog), (4, 1000));
}

#[test]
fn a_uprobe_of_another_process_does_not_see_this_one() {
    needs!(Root, Uprobe);
    let target = Uprobe::entry(own_file(), mangled("traced_sum"));
    let other = target.clone().pid(std::os::unix::process::parent_id());
    let prog = load_for(ProgType::KPROBE, see_arguments(), &target);
    let link = prog.attach(&other).unwrap();
    call_it(traced_sum, 1, 1);
    assert_eq!(counted(&prog).0, 0);
    drop(link);
    let _link = prog.attach(&target).unwrap();
    call_it(traced_sum, 1, 1);
    assert_eq!(counted(&prog).0, 1);
}

#[test]
fn a_uprobe_has_a_cookie_and_works_without_links() {
    needs!(Root, Uprobe);
    let spot = Spot::symbol(mangled("traced_sum"));
    let target = Uprobe::entry(own_file(), spot.clone().cookie(0x5_0000_0005));
    let (prog, link) = attach(ProgType::KPROBE, for_this_thread(cookies()), &target);
    call_it(traced_sum, 1, 1);
    call_it(traced_sum, 1, 1);
    assert_eq!(counted(&prog), (2, 0xa_0000_000a));
    drop(link);

    let target = Uprobe::entry(own_file(), spot).way(Way::Attachment);
    let (prog, link) = attach(ProgType::KPROBE, see_arguments(), &target);
    assert_eq!(link.way(), Way::Attachment);
    call_it(traced_sum, 1, 1);
    assert_eq!(counted(&prog).0, 1);
    link.detach().unwrap();
    call_it(traced_sum, 1, 1);
    assert_eq!(counted(&prog).0, 1, "it is still attached");
}

/// Raised by the kernel while a probe is there that names it. Not zero, else no byte of the file
/// would stand for it.
static SEMAPHORE: AtomicU16 = AtomicU16::new(7);

/// Where in the file of this program the memory at an address comes from.
fn offset_in_file(address: u64) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let found = maps.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let offset = words.nth(1)?;
        (number(start)..number(end))
            .contains(&address)
            .then(|| address - number(start) + number(offset))
    });
    found.unwrap()
}

#[test]
fn a_semaphore_tells_that_somebody_listens() {
    needs!(Root, Uprobe);
    let address = std::ptr::from_ref(&SEMAPHORE).addr() as u64;
    let spot = Spot::symbol(mangled("traced_product")).semaphore(offset_in_file(address));
    let raised = || SEMAPHORE.load(Ordering::SeqCst);
    assert_eq!(raised(), 7);
    let one = Uprobe::entry(own_file(), spot.clone());
    let (_prog, link) = attach(ProgType::KPROBE, for_this_thread(count()), &one);
    assert_eq!(raised(), 8);
    drop(link);
    assert_eq!(raised(), 7);
    if Need::UprobeMulti.state() == State::Here {
        let many = UprobeMulti::on(own_file(), [spot]);
        let (_prog, link) = attach(ProgType::KPROBE, for_this_thread(count()), &many);
        assert_eq!(raised(), 8);
        drop(link);
        assert_eq!(raised(), 7);
    }
}

#[test]
fn a_function_that_does_not_exist_has_neighbours() {
    needs!(Root, Uprobe);
    let name = mangled("traced_sum");
    let target = Uprobe::entry(own_file(), name.as_str());
    let prog = load_for(ProgType::KPROBE, see_arguments(), &target);
    let wrong = Uprobe::entry(own_file(), format!("{name}x"));
    let error = prog.attach(&wrong).unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
    assert!(
        error.to_string().contains(&format!("(near: {name}")),
        "{error}"
    );
    let far = Uprobe::entry(own_file(), Spot::inside(name.as_str(), 1 << 40));
    let error = prog.attach(&far).unwrap_err();
    assert!(error.to_string().contains("there is nothing at"), "{error}");
    let error = prog
        .attach(&Uprobe::entry("libbs-hooktrace", "x"))
        .unwrap_err();
    assert!(
        error.to_string().contains("no library of this name"),
        "{error}"
    );
    let nobody = target.pid(i32::MAX.unsigned_abs());
    let error = prog.attach(&nobody).unwrap_err();
    assert!(
        error.to_string().contains("no process of that number"),
        "{error}"
    );
}

#[test]
fn many_places_have_one_link_and_a_cookie_each() {
    needs!(Root, UprobeMulti);
    let spots = [
        Spot::symbol(mangled("traced_product")).cookie(1),
        Spot::symbol(mangled("traced_sum")).cookie(100),
    ];
    let target = UprobeMulti::on(own_file(), spots).pid(std::process::id());
    let (prog, link) = attach(ProgType::KPROBE, for_this_thread(cookies()), &target);
    for _ in 0..3 {
        call_it(traced_sum, 1, 1);
    }
    for _ in 0..4 {
        call_it(traced_product, 1, 1);
    }
    assert_eq!(counted(&prog), (7, 304));
    drop(link);
    call_it(traced_sum, 1, 1);
    assert_eq!(counted(&prog).0, 7, "it is still attached");
}

#[test]
fn returns_from_functions_that_fit_a_pattern() {
    needs!(Root, UprobeMulti);
    let target = UprobeMulti::matching(own_file(), "*traced_*u*").returning();
    let (prog, _link) = attach(ProgType::KPROBE, see_results(), &target);
    call_it(traced_sum, 2, 3);
    call_it(traced_product, 2, 3);
    assert_eq!(counted(&prog), (2, 11));
}

#[test]
fn a_session_sees_both_sides_unless_it_declines() {
    needs!(Root, UprobeSession);
    let name = mangled("traced_sum");
    let target = UprobeMulti::on(own_file(), [name]).session();
    let (prog, link) = attach(ProgType::KPROBE, for_this_thread(count()), &target);
    call_it(traced_sum, 1, 1);
    call_it(traced_sum, 1, 1);
    assert_eq!(counted(&prog).0, 4);
    drop(link);
    // The same, but it wants to hear no more of this call.
    let declines = code![
        mov(CTX, R1),
        get_current_pid_tgid(),
        W0.eq(thread()).then(code![count()]),
        ret(1),
    ];
    let (prog, _link) = attach(ProgType::KPROBE, declines, &target);
    call_it(traced_sum, 1, 1);
    call_it(traced_sum, 1, 1);
    assert_eq!(counted(&prog).0, 2);
}

#[test]
fn two_thousand_cycles_leave_no_descriptor() {
    needs!(Root, UprobeMulti);
    const THREADS: u64 = 50;
    const CYCLES: u64 = 40;
    let elf = Elf::open(own_file()).unwrap();
    let offset = elf.matching("*traced_only_for_cycles*")[0].1.offset;
    drop(elf);
    // Detaching waits for every CPU: many threads wait together.
    let target = UprobeMulti::on(own_file(), [offset]);
    let all = code![count(), ret(0)];
    let prog = load_for(ProgType::KPROBE, all, &target);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..CYCLES {
                    drop(prog.attach(&target).unwrap());
                }
            });
        }
    });
    call_it(traced_only_for_cycles, 1, 1);
    assert_eq!(counted(&prog).0, 0, "something is still attached");
    // The kernel lets one of these go at a time.
    let target = Uprobe::entry(own_file(), offset);
    let prog = load_for(ProgType::KPROBE, see_arguments(), &target);
    for _ in 0..20 {
        let _link = prog.attach(&target).unwrap();
        call_it(traced_only_for_cycles, 1, 1);
    }
    call_it(traced_only_for_cycles, 1, 1);
    assert_eq!(counted(&prog).0, 20);
    // Other tests of this binary have a few probes of their own at the same time.
    let fds = open_fds();
    let left = fds.to("perf_event").len() + fds.to("bpf_link").len();
    assert!(left < 15, "{fds}");
}
