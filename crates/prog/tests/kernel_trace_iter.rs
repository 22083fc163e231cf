//! Iterators: what is read is what exists.

#![expect(
    clippy::unwrap_used,
    reason = "tests may panic, and so may what they call"
)]

mod trace;

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::{cgroup, needs};
use bpfsmith_maps::Handle;
use bpfsmith_prog::kernel;
use bpfsmith_prog::target::{Iter, Target};
use bpfsmith_prog::{Load, Maps};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use trace::*;

/// The offset of a member of a kernel structure.
fn member(structure: &str, path: &str) -> i32 {
    let btf = kernel::btf().unwrap();
    let id = btf.find_struct(structure).unwrap();
    let offset = btf.member(id, path).unwrap().offset().unwrap();
    offset.try_into().unwrap()
}

/// What follows writes `size` bytes of a slot to the reader; keeps R6 to R9.
fn write(record: Slot) -> Code {
    code![
        load(R1, CTX.u64(0)),
        load(R1, R1.u64(0)),
        seq_write(R1, record, record.size()),
    ]
}

/// Writes number, process and name of each task.
fn tasks() -> Code {
    let record = slot::<[u64; 3]>("record");
    let comm = member("task_struct", "comm");
    code![
        mov(CTX, R1),
        load(R7, CTX.u64(8)),
        R7.eq(0).then(ret(0)),
        load(R1, R7.u32(member("task_struct", "pid"))),
        store(record.u32(0), R1),
        load(R1, R7.u32(member("task_struct", "tgid"))),
        store(record.u32(4), R1),
        load(R1, R7.u64(comm)),
        store(record.u64(8), R1),
        load(R1, R7.u64(comm + 8)),
        store(record.u64(16), R1),
        write(record),
        ret(0),
    ]
}

#[derive(Debug, PartialEq, Eq)]
struct Task {
    pid: u32,
    tgid: u32,
    name: String,
}

fn read_tasks(mut from: impl Read) -> Vec<Task> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    let number = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
    let (records, rest) = bytes.as_chunks::<24>();
    assert!(rest.is_empty());
    records
        .iter()
        .map(|record| Task {
            pid: number(&record[..4]),
            tgid: number(&record[4..8]),
            name: String::from_utf8_lossy(&record[8..])
                .trim_end_matches('\0')
                .to_owned(),
        })
        .collect()
}

#[test]
fn every_pass_over_tasks_finds_this_process_once() {
    needs!(Root, Iterators);
    let target = Iter::of("task");
    let (_prog, link) = attach(ProgType::TRACING, tasks(), &target);
    let pid = std::process::id();
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    for _ in 0..2 {
        let tasks = read_tasks(link.iterate().unwrap());
        let own: Vec<&Task> = tasks.iter().filter(|task| task.pid == pid).collect();
        assert_eq!(own.len(), 1, "{tasks:?}");
        assert_eq!((own[0].tgid, own[0].name.as_str()), (pid, comm.trim_end()));
        assert!(tasks.len() > 1, "{tasks:?}");
    }
}

#[test]
fn tasks_of_one_process_or_thread() {
    needs!(Root, IteratorsOfOne);
    let target = Iter::of("task");
    let prog = load_for(ProgType::TRACING, tasks(), &target);
    let pid = std::process::id();
    let tid = u32::try_from(thread()).unwrap();
    let of_process = read_tasks(target.clone().process(pid).read(&prog).unwrap());
    assert!(
        of_process.iter().all(|task| task.tgid == pid),
        "{of_process:?}"
    );
    assert!(
        of_process.iter().any(|task| task.pid == tid),
        "{of_process:?}"
    );
    let of_thread = read_tasks(target.thread(tid).read(&prog).unwrap());
    assert_eq!(of_thread.len(), 1, "{of_thread:?}");
    assert_eq!((of_thread[0].pid, of_thread[0].tgid), (tid, pid));
}

static ELEMENTS: MapDef<u32, u64> = MapDef::hash("bs_elements", 8);

#[test]
fn elements_of_a_map_are_listed() {
    needs!(Root, Iterators);
    let record = slot::<[u64; 2]>("record");
    let code = code![
        mov(CTX, R1),
        load(R7, CTX.u64(16)),
        load(R8, CTX.u64(24)),
        R7.eq(0).then(ret(0)),
        R8.eq(0).then(ret(0)),
        load(R1, R7.u32(0)),
        store(record.u64(0), R1),
        load(R1, R8.u64(0)),
        store(record.u64(8), R1),
        write(record),
        ret(0),
    ];
    let map = Handle::create(ELEMENTS.shape()).unwrap();
    let wanted: Vec<(u64, u64)> = (1..=5).map(|key| (key, key << 40)).collect();
    for (key, value) in &wanted {
        let key = u32::try_from(*key).unwrap();
        map.raw()
            .update(&key.to_ne_bytes(), &value.to_ne_bytes(), 0)
            .unwrap();
    }
    let all = Iter::of("bpf_map_elem");
    let prog = load_for(ProgType::TRACING, code, &all);
    let mut bytes = Vec::new();
    let mut pass = all.clone().map(&map).read(&prog).unwrap();
    pass.read_to_end(&mut bytes).unwrap();
    let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
    let mut found: Vec<(u64, u64)> = bytes
        .chunks(16)
        .map(|record| (word(&record[..8]), word(&record[8..])))
        .collect();
    found.sort_unstable();
    assert_eq!(found, wanted);
    let error = prog.attach(&all).unwrap_err();
    assert!(error.to_string().contains("Iter::map"), "{error}");
}

#[test]
fn one_cgroup_of_many() {
    needs!(Root, IteratorsOfOne, Cgroup2);
    let group = cgroup("bs-hooktrace-iter");
    let dir = group.open().unwrap();
    let id = dir.metadata().unwrap().ino();
    let record = slot::<u64>("record");
    let code = code![
        mov(CTX, R1),
        load(R7, CTX.u64(8)),
        R7.eq(0).then(ret(0)),
        load(R1, R7.u64(member("cgroup", "kn"))),
        load(R1, R1.u64(member("kernfs_node", "id"))),
        store(record.u64(0), R1),
        write(record),
        ret(0),
    ];
    let all = Iter::of("cgroup");
    let prog = load_for(ProgType::TRACING, code, &all);
    let read = |target: Iter<'_>| {
        let mut bytes = Vec::new();
        target.read(&prog).unwrap().read_to_end(&mut bytes).unwrap();
        let (ids, _) = bytes.as_chunks::<8>();
        ids.iter()
            .map(|id| u64::from_ne_bytes(*id))
            .collect::<Vec<_>>()
    };
    let order = CgroupIterOrder::SELF_ONLY;
    assert_eq!(read(all.clone().cgroup(order, &dir)), [id]);
    assert_eq!(read(all.clone().cgroup_id(order, id)), [id]);
    let up = read(all.clone().cgroup(CgroupIterOrder::ANCESTORS_UP, &dir));
    assert!(up.len() >= 2 && up[0] == id, "{up:?}");
}

#[test]
fn iterators_that_do_not_fit_say_why() {
    needs!(Root, Iterators);
    let error = Iter::of("tsk").hook().unwrap_err().to_string();
    assert!(error.contains("no iterator \"tsk\""), "{error}");
    let error = Iter::of("task_fil").hook().unwrap_err().to_string();
    assert!(error.contains("near: task_file"), "{error}");
    let target = Iter::of("task");
    let prog = load_for(ProgType::TRACING, code![ret(0)], &target);
    let error = prog.attach(&Iter::of("bpf_map")).unwrap_err();
    assert!(error.to_string().contains("another function"), "{error}");
    let program = Program::new(ProgType::XDP, "pass", code![ret(XDP_PASS)]).unwrap();
    let maps = Maps::of(&program).unwrap();
    let xdp = Load::new(&program).maps(&maps).load().unwrap();
    assert!(xdp.attach(&target).is_err());
}
