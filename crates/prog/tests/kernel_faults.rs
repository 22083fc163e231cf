//! Faults: each is told by its type, and leaves nothing behind. One test, because it counts the
//! process's descriptors; it runs itself again where a process must be without rights, files or
//! peace.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod net_bench;

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::isa::Raw;
use bpfsmith_gate::{Fds, Version, bpffs, deadline, is_slow, needs, open_fds, rounds, version};
use bpfsmith_maps::{Handle, Map, RingBuf};
use bpfsmith_prog::blame::Evidence;
use bpfsmith_prog::target::{Netns, SocketFilter, Tcx, Xdp};
use bpfsmith_prog::{Error, Load, Maps, Prog, list};
use bpfsmith_sys::object::{self, Kind};
use bpfsmith_uapi::map::Name;
use net_bench::{Bench, LIMIT, check_refused, id, load_to};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

/// Tells a child what to be.
const ROLE: &str = "BS_FAULTS_ROLE";

static HITS: MapDef<u32, u64> = MapDef::array("bs_f_hits", 1);
static FEW: MapDef<u32, u64> = MapDef::hash("bs_f_few", 4);
static EVENTS: MapDef<(), ()> = MapDef::ringbuf("bs_f_events", 4096);
static STATE: Global<u64> = Global::data("state", 7);

#[test]
fn nothing_is_left_behind() {
    match std::env::var(ROLE).as_deref() {
        Ok("unprivileged") => return without_rights(),
        Ok("inheriting") => return inherits_nothing(),
        Ok("few files") => return with_few_files(),
        Ok("interrupted") => return is_interrupted(),
        _ => {}
    }
    needs!(Root, Bpf, Bpffs, RingBuf, NetNs, Veth, XdpLink, SkLookup);
    // What is opened once and kept, like the kernel's types, is open after the first round.
    everything();
    let before = open_fds();
    everything();
    check_nothing_new(&before);
    cycles(rounds(10_000));
    check_nothing_new(&before);
}

/// Each fault once.
fn everything() {
    wrong_programs();
    wrong_maps();
    maps_that_cannot_be_made();
    a_full_map_and_a_full_ring();
    pins_that_cannot_be();
    busy_hooks();
    a_vanished_device();
    logs_that_are_cut();
    programs_that_are_too_large();
    an_exec_between();
    again("unprivileged", |command| command.uid(65534).gid(65534));
    again("few files", |command| command);
    an_interrupted_load();
}

#[track_caller]
fn check_nothing_new(before: &Fds) {
    let left = open_fds().opened_since(before);
    assert!(left.is_empty(), "{left}");
}

fn xdp(name: &str, code: Code) -> Program {
    Program::new(ProgType::XDP, name, code).unwrap_or_else(|report| panic!("{report}"))
}

fn counting() -> Program {
    xdp(
        "counting",
        code![
            kit::map::count_at(&HITS, 0, 1),
            ret(XDP_PASS)
        ],
    )
}

fn loaded(program: &Program, maps: &Maps) -> Prog {
    let load = Load::new(program).maps(maps).load();
    load.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Waits until the kernel has freed them.
fn gone(kind: Kind, ids: &[u32]) {
    let is_gone = |&id: &u32| object::open_id(kind, id, 0, None).is_err();
    deadline(LIMIT, || ids.iter().all(is_gone).then_some(()));
}

fn wrong_programs() {
    let wrong = xdp(
        "wrong",
        code![
            load(R2, R1.get(xdp_md::data)),
            load(R0, R2.u32(0)),
            exit(),
        ],
    );
    let error = Load::new(&wrong).load().unwrap_err();
    let Error::Refused(refusal) = &error else {
        panic!("{error}")
    };
    assert_eq!(
        (refusal.errno, refusal.slot),
        (Errno::EACCES, Some(1)),
        "{error:#}"
    );
    assert!(refusal.at.is_some() && refusal.hint.is_some(), "{error:#}");

    let prog = loaded(&counting(), &Maps::of(&counting()).unwrap());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = prog.attach(&SocketFilter::on(&socket)).unwrap_err();
    assert!(matches!(error, Error::WrongHook { .. }), "{error}");
    let ns = std::fs::File::open("/proc/self/ns/net").unwrap();
    let error = prog.attach(&Netns::lookup(&ns)).unwrap_err();
    assert!(matches!(error, Error::WrongHook { .. }), "{error}");
    let about = list::prog_info(&prog).unwrap();
    drop(prog);
    gone(Kind::Prog, &[about.id]);
    gone(Kind::Map, &about.maps);
}

fn wrong_maps() {
    static LONG_KEY: MapDef<u64, u64> = MapDef::hash("bs_f_few", 4);
    static SHORT_KEY: MapDef<u16, u64> = MapDef::hash("bs_f_few", 4);
    static SHORT_VALUE: MapDef<u32, u32> = MapDef::hash("bs_f_few", 1);
    let program = xdp("inserting", inserting());
    for (shape, member) in [
        (LONG_KEY.shape(), "size of a key"),
        (SHORT_KEY.shape(), "size of a key"),
        (SHORT_VALUE.shape(), "size of a value"),
    ] {
        let mut maps = Maps::new();
        maps.insert(shape.name, Handle::create(shape).unwrap());
        let error = Load::new(&program).maps(&maps).load().unwrap_err();
        let Error::OtherMap {
            map,
            member: differs,
            ..
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!((*map, *differs), (shape.name, member), "{error}");
        assert!(maps.open::<Map<u32, u64>, _, _>(&FEW).is_err());
    }
    // Of the right sizes, but of a kind that no program may write to.
    static SOCKETS: MapDef<u32, u64> = MapDef::new(MapType::SOCKHASH, "bs_f_few", 1);
    let mut maps = Maps::new();
    maps.insert(
        SOCKETS.shape().name,
        Handle::create(SOCKETS.shape()).unwrap(),
    );
    let error = Load::new(&program).maps(&maps).load().unwrap_err();
    assert!(
        matches!(error, Error::OtherMap { .. } | Error::Refused(_)),
        "{error}"
    );

    let error = Load::new(&program).load().unwrap_err();
    assert!(matches!(error, Error::MissingMap { .. }), "{error}");
}

fn maps_that_cannot_be_made() {
    static NONE: MapDef<u32, u64> = MapDef::array("bs_f_none", 0);
    let program = xdp(
        "two_maps",
        code![
            kit::map::count_at(&HITS, 0, 1),
            kit::map::count_at(&NONE, 0, 1),
            ret(XDP_PASS),
        ],
    );
    let error = Maps::of(&program).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    assert!(error.to_string().contains("\"bs_f_none\""), "{error}");
    let mut maps = Maps::new();
    assert!(maps.add(&program).is_err());
    let held: Vec<Name> = maps.names().collect();
    assert_eq!(
        held,
        [HITS.shape().name],
        "what was made before stays in the set"
    );
}

/// Inserts the packet's length as a key; returns what the kernel answers.
fn inserting() -> Code {
    let (key, value) = (slot::<u32>("key"), slot::<u64>("value"));
    code![
        load(R2, R1.get(xdp_md::data)),
        load(R3, R1.get(xdp_md::data_end)),
        sub(R3, R2),
        store(key.u32(0), R3),
        store(value.u64(0), 1),
        map_update_elem(&FEW, key, value, flags::map_elem::BPF_NOEXIST),
        exit(),
    ]
}

fn a_full_map_and_a_full_ring() {
    let program = xdp("inserting", inserting());
    let maps = Maps::of(&program).unwrap();
    let prog = loaded(&program, &maps);
    let insert = |length| {
        let packet = vec![0; length];
        prog.run().data(&packet).go().unwrap().retval.cast_signed()
    };
    assert_eq!([20, 21, 22, 23].map(insert), [0; 4]);
    assert_eq!(insert(20), -Errno::EEXIST.0);
    assert_eq!(insert(24), -Errno::E2BIG.0);
    let few: Map<u32, u64> = maps.open(&FEW).unwrap();
    let error = few.update(&99, &1).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::E2BIG));
    assert!(error.hint().is_some(), "{error}");
    assert!(few.delete(&20).unwrap());
    assert_eq!(insert(24), 0, "there is room again");

    let program = xdp(
        "reporting",
        code![
            kit::event::event::<[u64; 16]>(
                &EVENTS,
                R6,
                (),
                Some(code![
                    kit::map::count_at(&HITS, 0, 1),
                    ret(XDP_DROP)
                ]),
            ),
            ret(XDP_PASS),
        ],
    );
    let maps = Maps::of(&program).unwrap();
    let prog = loaded(&program, &maps);
    let ran = prog.run().data(&[0; 64]).repeat(100).go().unwrap();
    assert_eq!(ran.xdp(), XdpAction::DROP);
    let mut ring: RingBuf = maps.open(&EVENTS).unwrap();
    let mut records = 0;
    ring.consume(|_: &[u8]| records += 1).unwrap();
    let hits: Map<u32, u64> = maps.open(&HITS).unwrap();
    // A record of 128 bytes has a head of 8; the last byte of a ring is never used.
    assert_eq!((records, hits.lookup(&0).unwrap()), (30, Some(70)));
    let ran = prog.run().data(&[0; 64]).go().unwrap();
    assert_eq!(ran.xdp(), XdpAction::PASS, "there is room again");
}

fn pins_that_cannot_be() {
    // The mount is seen by one thread alone.
    std::thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            let fs = bpffs();
            let prog = loaded(&counting(), &Maps::of(&counting()).unwrap());
            let outside = std::env::temp_dir().join("bs-faults-pin");
            check_refused(prog.pin(&outside), Errno::EPERM, "");
            assert!(!outside.exists());
            let inside = fs.path().join("pin");
            prog.pin(&inside).unwrap();
            check_refused(prog.pin(&inside), Errno::EEXIST, "");
            let again = Prog::open_pin(&inside, prog.attach_type()).unwrap();
            assert_eq!(id(&again), id(&prog));
            let missing = Prog::open_pin(fs.path().join("none"), prog.attach_type());
            check_refused(missing, Errno::ENOENT, "");
            // A map is no program.
            let map = fs.path().join("map");
            Handle::create(HITS.shape()).unwrap().pin(&map).unwrap();
            let error = Prog::open_pin(&map, prog.attach_type()).unwrap_err();
            assert!(matches!(error, Error::Kernel(_)), "{error:?}");
            id(&prog)
        });
        // With its file system goes the pin, with that the program.
        gone(Kind::Prog, &[pinned.join().unwrap()]);
    });
}

/// Links of this program.
fn links_of(prog: u32) -> usize {
    let all = list::links().unwrap();
    all.iter().filter(|link| link.prog == prog).count()
}

fn busy_hooks() {
    let bench = Bench::new();
    let on = Xdp::on(bench.index());
    let mut maps = Maps::new();
    let mut program =
        |name: &str| load_to(&on, ProgType::XDP, name, code![ret(XDP_PASS)], &mut maps);
    let (first, second) = (program("first"), program("second"));
    let link = bench.attach(&first, &on).unwrap();
    for way in [on, on.netlink(), on.replace(&first)] {
        let error = bench.attach(&second, &way).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EBUSY), "{error}");
    }
    let numbers = [id(&first), id(&second)];
    assert_eq!(numbers.map(links_of), [1, 0]);
    drop(second);
    gone(Kind::Prog, &numbers[1..]);
    link.detach().unwrap();
    assert_eq!(links_of(numbers[0]), 0);
}

fn a_vanished_device() {
    let bench = Bench::new();
    let (on, index) = (Xdp::on(bench.index()), bench.index());
    let mut maps = Maps::new();
    let mut program =
        |name: &str| load_to(&on, ProgType::XDP, name, code![ret(XDP_PASS)], &mut maps);
    let (first, second) = (program("first"), program("second"));
    let mut link = bench.attach(&first, &on).unwrap();
    bench.client_net().delete_link(bench.far()).unwrap();
    deadline(LIMIT, || {
        bench.server_net().link_at(index).is_err().then_some(())
    });
    check_refused(link.update(&second), Errno::ENOLINK, "attach anew");
    check_refused(bench.attach(&second, &on), Errno::EINVAL, "no such device");
    let generic = bench.attach(&second, &on.netlink()).unwrap_err();
    assert_eq!(generic.errno(), Some(Errno::ENODEV), "{generic}");
    let tcx = Tcx::ingress(index);
    let other = load_to(
        &tcx,
        ProgType::SCHED_CLS,
        "other",
        code![ret(TCX_NEXT)],
        &mut Maps::new(),
    );
    let error = bench.attach(&other, &tcx.clsact()).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENODEV), "{error}");
    let numbers = [id(&first), id(&second), id(&other)];
    drop((link, first, second, other));
    gone(Kind::Prog, &numbers);
}

/// Adds so often that the verifier's log is long.
fn long_way(rounds: i32, end: Code) -> Program {
    xdp(
        "long_way",
        code![
            mov(R2, 0),
            repeat(R3, 0..rounds).body(add(R2, 1)),
            end,
        ],
    )
}

fn logs_that_are_cut() {
    let fine = long_way(2000, code![ret(XDP_PASS)]);
    let whole = Load::new(&fine).log_level(2).load().unwrap();
    let log = &whole.account().log;
    assert!(
        log.len() > 100_000 && whole.account().stats.processed.is_some(),
        "{}",
        log.len()
    );

    assert!(!whole.account().is_log_cut);
    // A log that does not fit is no reason to refuse the program.
    let cut = Load::new(&fine).log_level(2).log_limit(4096).load();
    let cut = cut.unwrap_or_else(|error| panic!("{error:#}"));
    let account = cut.account();
    assert!(
        account.is_log_cut && account.log.len() <= 4096,
        "{account:?}"
    );

    // The sentence is at the end, and it is the beginning that is cut; before 6.4 it is the end.
    let wrong = long_way(
        2000,
        code![
            load(R4, R1.get(xdp_md::data)),
            load(R0, R4.u32(0)),
            exit()
        ],
    );
    let is_end_kept = version() >= Version { major: 6, minor: 4 };
    for (level, limit) in [
        (0, 64 << 20),
        (0, 512),
        (0, 0),
        (2, 64 << 20),
        (2, 70_000),
        (2, 4096),
        (2, 0),
    ] {
        let error = Load::new(&wrong)
            .log_level(level)
            .log_limit(limit)
            .load()
            .unwrap_err();
        let Error::Refused(refusal) = &error else {
            panic!("{error}")
        };
        assert_eq!(refusal.errno, Errno::EACCES, "{error:#}");
        assert!(!error.to_string().contains('\n'), "{error}");
        let is_end_here = limit > 256 << 10 || is_end_kept;
        assert!(
            is_end_here || (refusal.evidence != Evidence::Whole && refusal.slot.is_none()),
            "what is cut off at the end blames an instruction: {error:#}"
        );
        if limit > 256 << 10 || (is_end_kept && limit > 0) {
            assert!(refusal.hint.is_some(), "{error:#}");
            let sentence = "invalid access to packet";
            assert!(
                refusal.sentence.contains(sentence),
                "{level} {limit}: {error:#}"
            );
        }
    }
}

fn programs_that_are_too_large() {
    let [one, end] = ret(XDP_PASS);
    let small = xdp("small", code![one, end]);
    let mut slots: Vec<Raw> = vec![small.insns()[0]; 1_000_001];
    slots.push(small.insns()[1]);
    let large = Program::from_slots(ProgType::XDP, "large", slots);
    let error = Load::new(&large).load().unwrap_err();
    let Error::Refused(refusal) = &error else {
        panic!("{error}")
    };
    assert_eq!(refusal.errno, Errno::E2BIG);
    assert!(error.to_string().contains("more slots than"), "{error}");

    if is_slow() {
        // A million verified instructions, three times, take minutes there.
        return;
    }
    let endless = long_way(600_000, code![ret(XDP_PASS)]);
    // A log of all its instructions would take longer than everything else here.
    let error = Load::new(&endless).log_limit(64 << 10).load().unwrap_err();
    let Error::Refused(refusal) = &error else {
        panic!("{error}")
    };
    assert!(
        refusal.sentence.contains("too large") || refusal.sentence.contains("too complex"),
        "{error:#}"
    );
    assert!(refusal.hint.is_some(), "{error:#}");
}

/// Loads, runs and drops, with a map and global data.
fn cycles(count: u32) {
    let program = xdp(
        "cycle",
        code![
            kit::map::count_at(&HITS, 0, 1),
            ld_global(R1, &STATE),
            load(R0, R1.u64(0)),
            exit(),
        ],
    );
    let mut ids = Vec::new();
    let mut maps_made = Vec::new();
    for round in 0..count {
        let maps = Maps::of(&program).unwrap();
        let prog = loaded(&program, &maps);
        if round % 100 == 0 {
            assert_eq!(prog.run().data(&[0; 64]).go().unwrap().retval, 7);
            prog.write(&STATE, &9).unwrap();
            assert_eq!(prog.run().data(&[0; 64]).go().unwrap().retval, 9);
            let info = list::prog_info(&prog).unwrap();
            assert_eq!(info.maps.len(), 2);
            maps_made.extend(info.maps);
        }
        ids.push(id(&prog));
    }
    gone(Kind::Prog, &ids);
    gone(Kind::Map, &maps_made);
}

/// Runs this test again in a role; it must pass there.
#[track_caller]
fn again(role: &str, as_whom: impl FnOnce(&mut Command) -> &mut Command) {
    let status = as_whom(&mut in_role(role)).status().unwrap();
    assert!(status.success(), "{role}: {status}");
}

fn in_role(role: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args([
        "--exact",
        "nothing_is_left_behind",
        "--nocapture",
    ]);
    command.env(ROLE, role).stdout(std::process::Stdio::null());
    command
}

fn an_exec_between() {
    let program = counting();
    let maps = Maps::of(&program).unwrap();
    let prog = loaded(&program, &maps);
    let ns = bpfsmith_net::NetNs::new().unwrap();
    let lookup = Program::new(ProgType::SK_LOOKUP, "lookup", code![ret(SK_PASS)]).unwrap();
    let lookup = Load::new(&lookup).load().unwrap();
    let link = lookup.attach(&Netns::lookup(&ns)).unwrap();
    let about = list::prog_info(&prog).unwrap();
    again("inheriting", |command| command);
    // All of it goes on here.
    prog.run().data(&[0; 64]).go().unwrap();
    let hits: Map<u32, u64> = maps.open(&HITS).unwrap();
    assert_eq!(hits.lookup(&0).unwrap(), Some(1));
    assert_eq!(links_of(id(&lookup)), 1);
    link.detach().unwrap();
    drop((prog, hits, maps));
    gone(Kind::Prog, &[about.id]);
    gone(Kind::Map, &about.maps);
}

fn inherits_nothing() {
    for kind in ["bpf", "btf", "perf", "net:", "NETLINK"] {
        let inherited = open_fds().to(kind);
        assert!(inherited.is_empty(), "{inherited}");
    }
}

fn without_rights() {
    let program = xdp("forbidden", code![ret(XDP_PASS)]);
    let error = Load::new(&program).load().unwrap_err();
    let Error::Refused(refusal) = &error else {
        panic!("{error}")
    };
    assert_eq!(refusal.errno, Errno::EPERM);
    assert!(error.to_string().contains("CAP_BPF"), "{error}");
    let error = Maps::of(&counting()).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EPERM));
    assert!(error.to_string().contains("CAP_BPF"), "{error}");
    for error in [
        list::progs().unwrap_err(),
        list::links().unwrap_err(),
        Prog::open_id(1, AttachType::XDP).unwrap_err(),
    ] {
        assert_eq!(error.errno(), Some(Errno::EPERM), "{error}");
    }
    let left = open_fds().to("bpf");
    assert!(left.is_empty(), "{left}");
}

/// Everything that has descriptors, from the maps to the link.
fn build_all(ns: &bpfsmith_net::NetNs) -> Result<(), Error> {
    let program = Program::new(
        ProgType::SK_LOOKUP,
        "all",
        code![
            kit::map::count_at(&HITS, 0, 1),
            kit::event::event::<u64>(&EVENTS, R6, (), None),
            ld_global(R1, &STATE),
            load(R2, R1.u64(0)),
            ret(SK_PASS),
        ],
    );
    let program = program.unwrap_or_else(|report| panic!("{report}"));
    let maps = Maps::of(&program)?;
    let lookup = Netns::lookup(ns);
    let prog = Load::new(&program).maps(&maps).to(&lookup)?.load()?;
    let _hits: Map<u32, u64> = maps.open(&HITS)?;
    let _events: RingBuf = maps.open(&EVENTS)?;
    prog.read(&STATE)?;
    prog.attach(&lookup)?.detach()
}

/// Lets the descriptors run out at each place in turn.
fn with_few_files() {
    let ns = bpfsmith_net::NetNs::new().unwrap();
    build_all(&ns).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let before = open_fds();
    let mut refusals = 0;
    // Descriptors that are open already stay so, and new ones get the lowest free number.
    for limit in 3..64 {
        setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
        let done = build_all(&ns);
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        check_nothing_new(&before);
        match done {
            Ok(()) => {
                assert!(refusals > 4, "{refusals} refusals");
                return;
            }
            Err(error) => {
                assert_eq!(error.errno(), Some(Errno::EMFILE), "{error}");
                let text = error.to_string();
                assert!(
                    text.contains("open files") || text.contains("ulimit -n"),
                    "{text}"
                );
                refusals += 1;
            }
        }
    }
    panic!("64 descriptors are not enough, {refusals} refusals");
}

/// Stops and continues a child that loads, until a load says that it was asked again.
fn an_interrupted_load() {
    let mut child = in_role("interrupted").spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    let status = deadline(LIMIT * 3, || {
        kill(pid, Signal::SIGSTOP).unwrap();
        // To be continued before it stopped would undo the signal, and its other threads never see it.
        deadline(LIMIT, || is_still(pid).then_some(()));
        kill(pid, Signal::SIGCONT).unwrap();
        child.try_wait().unwrap()
    });
    assert!(status.success(), "{status}");
}

/// Whether a process is stopped or has ended.
fn is_still(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, behind) = stat.rsplit_once(')').unwrap();
    matches!(behind.split_whitespace().next(), Some("T" | "Z"))
}

fn is_interrupted() {
    // Takes the kernel longer than the parent leaves it in peace.
    let program = long_way(200_000, code![ret(XDP_PASS)]);
    let start = Instant::now();
    let interrupted = loop {
        match Load::new(&program).load() {
            Ok(prog) if prog.account().tries > 1 => break Ok(prog.account().tries),
            Ok(_) => assert!(start.elapsed() < LIMIT, "not interrupted within {LIMIT:?}"),
            Err(error) => break Err(error),
        }
    };
    match interrupted {
        Ok(tries) => assert!(tries <= 10, "{tries}"),
        // Never left in peace: it gives up, and says why.
        Err(error) => {
            assert_eq!(error.errno(), Some(Errno::EAGAIN), "{error}");
            assert!(error.to_string().contains("load again"), "{error}");
        }
    }
    let left = open_fds().to("bpf-prog");
    assert!(left.is_empty(), "{left}");
}
