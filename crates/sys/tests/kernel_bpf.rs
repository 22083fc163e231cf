//! bpf(2) by hand: what each command does, seen from its effect.

use bpfsmith_gate::needs;
use bpfsmith_sys::map::{Create, Map};
use bpfsmith_sys::object::Kind;
use bpfsmith_sys::prog::{Load, Log, Records, TestRun};
use bpfsmith_sys::{info, object, prog};
use bpfsmith_uapi::{Cmd, Errno, MapType, ProgType, StreamId, TaskFdType};
use std::os::fd::{AsFd, AsRawFd};

fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

fn hash(entries: u32) -> Map {
    let create = Create {
        kind: MapType::HASH.0,
        key: 4,
        value: 8,
        entries,
        name: name("by_hand"),
        ..Create::default()
    };
    Map::create(&create).expect("a map")
}

fn returns(value: i32) -> Vec<u8> {
    let mut slots = vec![0xb7, 0, 0, 0];
    slots.extend(value.to_ne_bytes());
    slots.extend([0x95, 0, 0, 0, 0, 0, 0, 0]);
    slots
}

fn load(insns: &[u8]) -> Load<'_> {
    Load {
        kind: ProgType::XDP.0,
        insns,
        license: c"GPL",
        name: name("two_slots"),
        flags: 0,
        ifindex: 0,
        attach_type: 0,
        btf: None,
        funcs: Records::default(),
        lines: Records::default(),
        attach_btf_id: 0,
        attach_to: None,
        fd_array: &[],
        is_fd_array_counted: prog::IsCounted::No,
        token: None,
        signature: None,
    }
}

#[test]
fn a_map_gives_back_what_it_was_given() {
    needs!(Root, Bpf);
    let map = hash(4);
    let mut value = [0; 8];
    let key = 7_u32.to_ne_bytes();
    let missing = map.lookup(&key, &mut value, 0).unwrap_err();
    assert_eq!(
        (missing.cmd, missing.errno),
        (Cmd::MAP_LOOKUP_ELEM, Errno::ENOENT)
    );
    map.update(&key, &9_u64.to_ne_bytes(), 0).unwrap();
    map.lookup(&key, &mut value, 0).unwrap();
    assert_eq!(u64::from_ne_bytes(value), 9);
    let mut next = [0; 4];
    map.next_key(None, &mut next).unwrap();
    assert_eq!(next, key);
    map.take(&key, &mut value, 0).unwrap();
    assert_eq!(
        map.next_key(None, &mut next).unwrap_err().errno,
        Errno::ENOENT
    );
}

#[test]
fn a_buffer_of_another_size_never_reaches_the_kernel() {
    needs!(Root, Bpf);
    let map = hash(4);
    let mut short = [0; 7];
    let key = [0; 4];
    for failed in [
        map.lookup(&key, &mut short, 0).unwrap_err(),
        map.lookup(&key[..3], &mut [0; 8], 0).unwrap_err(),
        map.update(&key, &short, 0).unwrap_err(),
        map.next_key(Some(&key), &mut [0; 3]).unwrap_err(),
        map.read_batch(
            Cmd::MAP_LOOKUP_BATCH,
            (&mut [0; 4], true),
            &mut [0; 8],
            &mut [0; 16],
            0,
        )
        .unwrap_err(),
        map.read_batch(
            Cmd::MAP_LOOKUP_BATCH,
            (&mut [0; 8], true),
            &mut [0; 8],
            &mut [0; 8],
            0,
        )
        .unwrap_err(),
    ] {
        assert_eq!(failed.errno, Errno::EINVAL);
    }
}

#[test]
fn batches_write_and_read_all() {
    needs!(Root, Bpf);
    let map = hash(100);
    let keys: Vec<u8> = (0..100_u32).flat_map(u32::to_ne_bytes).collect();
    let values: Vec<u8> = (0..100_u64).flat_map(u64::to_ne_bytes).collect();
    assert_eq!(map.update_batch(&keys, &values, 0), Ok(100));
    let (mut keys_back, mut values_back) = ([0; 400], [0; 800]);
    let mut cursor = [0; 8];
    let batch = map
        .read_batch(
            Cmd::MAP_LOOKUP_AND_DELETE_BATCH,
            (&mut cursor, true),
            &mut keys_back,
            &mut values_back,
            0,
        )
        .unwrap();
    assert_eq!(batch.count, 100);
    let sum: u64 = values_back
        .chunks_exact(8)
        .map(|value| u64::from_ne_bytes(value.try_into().unwrap()))
        .sum();
    assert_eq!(sum, 99 * 50);
    assert_eq!(map.delete_batch(&keys).unwrap_err().1.errno, Errno::ENOENT);
}

#[test]
fn a_program_runs_and_is_described() {
    needs!(Root, Bpf);
    let insns = returns(42);
    let fd = prog::load(&load(&insns), &mut Log::default()).unwrap();
    let mut out = [0; 64];
    let mut run = TestRun {
        data: &[0; 64],
        data_out: &mut out,
        ..TestRun::default()
    };
    let ran = prog::test_run(fd.as_fd(), &mut run).unwrap();
    assert_eq!((ran.retval, ran.data), (42, 64));
    let about = info::prog(fd.as_fd()).unwrap();
    assert_eq!(
        (about.kind, &about.name[..9]),
        (ProgType::XDP.0, &b"two_slots"[..])
    );
    let xlated = info::prog_list(fd.as_fd(), info::List::Xlated).unwrap();
    assert_eq!(xlated, insns);
    let again = object::open_id(object::Kind::Prog, about.id, 0, None).unwrap();
    assert_eq!(info::prog(again.as_fd()).unwrap().id, about.id);
}

#[test]
fn a_refused_program_leaves_a_log() {
    needs!(Root, Bpf);
    let exit = [0x95, 0, 0, 0, 0, 0, 0, 0];
    let mut buffer = vec![0; 4096];
    let mut log = Log {
        level: 1,
        buffer: &mut buffer,
        true_size: 0,
    };
    let failed = prog::load(&load(&exit), &mut log).unwrap_err();
    assert_eq!(failed.to_string(), "BPF_PROG_LOAD: EACCES");
    // Linux 6.4 tells how long the log is, its zero included.
    let told = log.true_size as usize;
    let size = buffer.iter().position(|&byte| byte == 0).unwrap();
    assert!(told == 0 || told == size + 1, "{told} and {size}");
    let text = String::from_utf8_lossy(&buffer[..size]).into_owned();
    assert!(text.contains("R0 !read_ok"), "{text}");
}

/// Their information structures can be read as each other's.
#[test]
fn another_kind_of_object_is_refused() {
    needs!(Root, Bpf);
    let map = hash(1);
    let program = prog::load(&load(&returns(2)), &mut Log::default()).unwrap();
    let other = std::fs::File::open("/dev/null").unwrap();
    let kinds = [
        Kind::Map,
        Kind::Prog,
        Kind::Link,
        Kind::Btf,
    ];
    for (fd, own) in [
        (map.as_fd(), Some(Kind::Map)),
        (program.as_fd(), Some(Kind::Prog)),
        (other.as_fd(), None),
    ] {
        for kind in kinds {
            let answer = object::expect(kind, fd).map_err(|failed| failed.errno);
            let right = if own == Some(kind) {
                Ok(())
            } else {
                Err(Errno::EINVAL)
            };
            assert_eq!(answer, right, "{fd:?} as {kind:?}");
        }
    }
    let failed = Map::from_fd(program).unwrap_err();
    assert_eq!(
        (failed.cmd, failed.errno),
        (Cmd::OBJ_GET_INFO_BY_FD, Errno::EINVAL)
    );
}

/// Of every kind that this kernel makes: the question that tells maps from others is one for all.
#[test]
fn every_kind_of_map_is_known_for_one() {
    needs!(Root, Bpf);
    let page = u32::try_from(bpfsmith_sys::mmap::page_size()).unwrap();
    let sizes = [
        (4, 8, 1),
        (4, 4, 1),
        (0, 4, 1),
        (8, 4, 1),
        (0, 0, page),
        (4, 4, 0),
        (8, 8, 0),
    ];
    let mut made = 0;
    for &kind in MapType::ALL {
        for (key, value, entries) in sizes {
            for flags in [
                0,
                bpfsmith_uapi::flags::map_create::BPF_F_NO_PREALLOC,
            ] {
                let create = Create {
                    kind: kind.0,
                    key,
                    value,
                    entries,
                    flags,
                    ..Create::default()
                };
                let Ok(map) = Map::create(&create) else {
                    continue;
                };
                made += 1;
                let facts = *map.facts();
                let again = Map::from_fd(map.into_fd()).unwrap();
                assert_eq!(again.facts().stride, facts.stride, "{kind}");
            }
        }
    }
    assert!(made >= 20, "{made}");
}

/// Attributes say 0 for "no fd": a process without standard input must not get such an fd for a map.
#[test]
fn no_object_has_fd_0() {
    needs!(Root, Bpf);
    const CHILD: &str = "BPFSMITH_TEST_WITHOUT_STDIN";
    if std::env::var_os(CHILD).is_some() {
        nix::unistd::close(0).unwrap();
        let map = hash(4);
        assert!(map.as_fd().as_raw_fd() > 2);
        return;
    }
    let this = std::env::current_exe().unwrap();
    let output = std::process::Command::new(this)
        .args(["--exact", "no_object_has_fd_0"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_task_tells_which_program_hangs_on_its_fd() {
    needs!(Root, Bpf);
    let insns = returns(0);
    let mut load = load(&insns);
    load.kind = ProgType::RAW_TRACEPOINT.0;
    let program = prog::load(&load, &mut Log::default()).unwrap();
    let link = prog::open_raw_tracepoint(Some(c"sys_enter"), program.as_fd(), 0).unwrap();
    let found = prog::query_task_fd(std::process::id(), link.as_raw_fd()).unwrap();
    assert_eq!(found.kind, TaskFdType::RAW_TRACEPOINT);
    assert_eq!(found.name, "sys_enter");
    assert_eq!(found.prog, info::prog(program.as_fd()).unwrap().id);
}

#[test]
fn a_bound_map_lives_as_long_as_its_program() {
    needs!(Root, Bpf);
    let program = prog::load(&load(&returns(0)), &mut Log::default()).unwrap();
    let map = hash(1);
    let id = info::map(map.as_fd()).unwrap().id;
    prog::bind_map(program.as_fd(), map.as_fd()).unwrap();
    drop(map);
    let maps = info::prog_list(program.as_fd(), info::List::Maps).unwrap();
    assert_eq!(maps, id.to_ne_bytes());
    let again = object::open_id(object::Kind::Map, id, 0, None).unwrap();
    assert_eq!(info::map(again.as_fd()).unwrap().name, name("by_hand"));
}

#[test]
fn a_silent_program_has_nothing_in_its_streams() {
    needs!(Root, Bpf, ProgStream);
    let program = prog::load(&load(&returns(0)), &mut Log::default()).unwrap();
    for stream in [StreamId::STDOUT, StreamId::STDERR] {
        let mut buffer = [0; 16];
        assert_eq!(
            prog::read_stream(program.as_fd(), stream, &mut buffer),
            Ok(0)
        );
    }
    let map = hash(1);
    let refused = prog::read_stream(map.as_fd(), StreamId::STDOUT, &mut [0; 16]);
    assert_eq!(refused.unwrap_err().errno, Errno::EINVAL);
}
