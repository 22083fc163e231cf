//! What to do about a refusal: rows of a table.

use crate::call_hint;
use crate::error::{Object, Operation};
use bpfsmith_uapi::flags::map_create::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use bpfsmith_uapi::{Cmd, Errno, MapType};

/// A row: which refusals it is about, and what it says.
struct Row {
    cmd: Cmd,
    /// Empty for all kinds.
    kinds: &'static [MapType],
    errno: Errno,
    when: fn(&Object) -> bool,
    say: &'static str,
}

/// What the first fitting row says.
pub(crate) fn find(operation: Operation, object: &Object, errno: Errno) -> Option<&'static str> {
    let cmd = match operation {
        Operation::Bpf(cmd) => cmd,
        Operation::Call("mmap") if is_unmappable(object) => {
            return Some("the definition needs BPF_F_MMAPABLE");
        }
        Operation::Call(call) => return call_hint::find(call, errno).or_else(|| of_any(errno)),
        Operation::View(_) => return None,
    };
    let fits = |row: &&Row| {
        row.errno == errno
            && row.cmd == cmd
            && (row.kinds.is_empty() || row.kinds.contains(&object.kind))
            && (row.when)(object)
    };
    let row = ROWS.iter().find(fits);
    row.map(|row| row.say).or_else(|| of_any(errno))
}

/// What an error means whatever was attempted.
fn of_any(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EMFILE => Some("too many open files: raise ulimit -n, or drop handles"),
        Errno::ENFILE => Some("the system has too many open files"),
        _ => None,
    }
}

fn is_unmappable(object: &Object) -> bool {
    object.kind == MapType::ARRAY && object.flags & BPF_F_MMAPABLE == 0
}

/// What all rows say, for the test that provokes each.
#[doc(hidden)]
#[must_use]
pub fn hints() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.say).collect()
}

const ANY: &[MapType] = &[];
/// Elements by index.
const INDEXED: &[MapType] = &[
    MapType::ARRAY,
    MapType::PERCPU_ARRAY,
    MapType::PROG_ARRAY,
    MapType::PERF_EVENT_ARRAY,
    MapType::CGROUP_ARRAY,
    MapType::ARRAY_OF_MAPS,
    MapType::DEVMAP,
    MapType::DEVMAP_HASH,
    MapType::CPUMAP,
    MapType::XSKMAP,
    MapType::SOCKMAP,
    MapType::REUSEPORT_SOCKARRAY,
    MapType::STACK_TRACE,
];
/// Elements are there from the start, and stay.
const FIXED: &[MapType] = &[MapType::ARRAY, MapType::PERCPU_ARRAY];
const HASHES: &[MapType] = &[
    MapType::HASH,
    MapType::PERCPU_HASH,
    MapType::LPM_TRIE,
    MapType::HASH_OF_MAPS,
    MapType::SOCKHASH,
    MapType::DEVMAP_HASH,
];
const STORAGE: &[MapType] = &[
    MapType::SK_STORAGE,
    MapType::TASK_STORAGE,
    MapType::INODE_STORAGE,
    MapType::CGRP_STORAGE,
];
const KEYLESS: &[MapType] = &[
    MapType::QUEUE,
    MapType::STACK,
    MapType::BLOOM_FILTER,
];
const RINGS: &[MapType] = &[MapType::RINGBUF, MapType::USER_RINGBUF];
const NESTED: &[MapType] = &[
    MapType::ARRAY_OF_MAPS,
    MapType::HASH_OF_MAPS,
];
const SOCKETS: &[MapType] = &[MapType::SOCKMAP, MapType::SOCKHASH];
const OF_FDS: &[MapType] = &[
    MapType::PROG_ARRAY,
    MapType::PERF_EVENT_ARRAY,
    MapType::CGROUP_ARRAY,
    MapType::ARRAY_OF_MAPS,
    MapType::HASH_OF_MAPS,
    MapType::XSKMAP,
];

const fn always(_: &Object) -> bool {
    true
}

macro_rules! rows {
    ($($cmd:ident, $kinds:expr, $errno:ident, $when:expr, $say:literal;)+) => {
        /// The more special come first.
        const ROWS: &[Row] = &[$(Row {
            cmd: Cmd::$cmd,
            kinds: $kinds,
            errno: Errno::$errno,
            when: $when,
            say: $say,
        }),+];
    };
}

rows! {
    MAP_CREATE, &[MapType::ARRAY], EINVAL, |map| map.key != 4, "an array key is 4 bytes";
    MAP_CREATE, INDEXED, EINVAL, |map| map.key != 4, "a key of this kind is an index of 4 bytes";
    MAP_CREATE, KEYLESS, EINVAL, |map| map.key != 0, "maps of this kind have no keys: use ()";
    MAP_CREATE, RINGS, EINVAL, |map| map.key != 0 || map.value != 0,
        "a ring has neither keys nor values: use ()";
    MAP_CREATE, RINGS, EINVAL, always, "the size of a ring is a power of two, and whole pages";
    MAP_CREATE, STORAGE, EINVAL, |map| map.key != 4, "the key of local storage is an fd of 4 bytes";
    MAP_CREATE, STORAGE, EINVAL, |map| map.entries != 0, "local storage has 0 entries";
    MAP_CREATE, STORAGE, EINVAL, |map| map.flags & BPF_F_NO_PREALLOC == 0,
        "local storage demands BPF_F_NO_PREALLOC";
    MAP_CREATE, STORAGE, EINVAL, always, "local storage demands types (MapDef::described), or the kernel is too old for it";
    MAP_CREATE, &[MapType::ARENA], EINVAL, |map| map.flags & BPF_F_MMAPABLE == 0,
        "an arena demands BPF_F_MMAPABLE";
    MAP_CREATE, &[MapType::CGROUP_STORAGE, MapType::PERCPU_CGROUP_STORAGE], EINVAL,
        |map| map.entries != 0, "cgroup storage has 0 entries";
    MAP_CREATE, ANY, EINVAL, |map| map.entries == 0, "a map has at least one entry";
    MAP_CREATE, &[MapType::LPM_TRIE], EINVAL, |map| map.flags & BPF_F_NO_PREALLOC == 0,
        "an LPM trie demands BPF_F_NO_PREALLOC";
    MAP_CREATE, &[MapType::LPM_TRIE], EINVAL, |map| !(5..=260).contains(&map.key),
        "an LPM key is the length in 4 bytes and 1 to 256 bytes more: LpmKey";
    MAP_CREATE, OF_FDS, EINVAL, |map| map.value != 4, "values of this kind are fds of 4 bytes";
    MAP_CREATE, &[MapType::PERCPU_ARRAY, MapType::PERCPU_HASH, MapType::LRU_PERCPU_HASH], E2BIG,
        always, "a per-CPU value has at most 32 kB";
    MAP_CREATE, ANY, EINVAL, |map| map.key == 0 && !KEYLESS.contains(&map.kind),
        "a key has at least one byte";
    MAP_CREATE, ANY, EINVAL, |map| map.value == 0, "a value has at least one byte";
    MAP_CREATE, ANY, EPERM, always, "it takes CAP_BPF, for device kinds also CAP_NET_ADMIN: run as root, give the process these, or a token";
    BTF_LOAD, ANY, EPERM, always,
        "it takes CAP_BPF: run as root, give the process that capability, or a token";
    MAP_LOOKUP_ELEM, SOCKETS, ENOSPC, always, "values of u64 show the cookies of sockets";
    MAP_LOOKUP_ELEM, &[MapType::REUSEPORT_SOCKARRAY], ENOSPC, always,
        "values of u64 show cookies of sockets";
    MAP_LOOKUP_ELEM, &[MapType::PERF_EVENT_ARRAY, MapType::CGROUP_ARRAY], ENOTSUPP, always,
        "objects of this kind cannot be read back";
    MAP_LOOKUP_ELEM, &[MapType::XSKMAP], EOPNOTSUPP, always, "XDP sockets cannot be read back";
    MAP_LOOKUP_ELEM, &[MapType::HASH, MapType::ARRAY, MapType::LRU_HASH], EINVAL, always,
        "the kernel knows of no lock in the value: SpinLock, and MapDef::described";
    MAP_LOOKUP_ELEM, ANY, EPERM, always, "the map is open for writing alone";
    MAP_UPDATE_ELEM, INDEXED, E2BIG, always, "the index is behind the end";
    MAP_UPDATE_ELEM, HASHES, E2BIG, always, "the map is full";
    MAP_UPDATE_ELEM, &[MapType::LPM_TRIE], ENOSPC, always, "the trie is full";
    MAP_UPDATE_ELEM, &[MapType::LPM_TRIE], EINVAL, always,
        "the prefix has more bits than the address";
    MAP_UPDATE_ELEM, ANY, EPERM, always, "the map is frozen, or open for reading alone";
    MAP_UPDATE_ELEM, &[MapType::STACK_TRACE], EINVAL, always, "only programs write stack traces";
    MAP_UPDATE_ELEM, NESTED, EINVAL, always,
        "its shape is not that of MapDef::inner, or no map is what was given";
    MAP_UPDATE_ELEM, OF_FDS, EBADF, always, "no such object: the fd is closed or of another kind";
    MAP_UPDATE_ELEM, &[MapType::PROG_ARRAY], EINVAL, always,
        "no program, or of another type than those that use the map";
    MAP_UPDATE_ELEM, SOCKETS, EBUSY, always,
        "the socket is in a map with programs of the same kind: take it out there first";
    MAP_UPDATE_ELEM, SOCKETS, ENOTSOCK, always, "that is no socket";
    MAP_UPDATE_ELEM, SOCKETS, EOPNOTSUPP, always,
        "it takes listening TCP, established whose peer has not closed, and without a parser bound UDP \
         and connected Unix sockets";
    MAP_UPDATE_ELEM, &[MapType::XSKMAP], EOPNOTSUPP, always,
        "it takes XDP sockets that were opened with a ring to receive";
    MAP_UPDATE_ELEM, &[MapType::DEVMAP, MapType::DEVMAP_HASH], EINVAL, always,
        "no such device in the network namespace of this thread, or no XDP_DEVMAP program";
    MAP_UPDATE_ELEM, &[MapType::CPUMAP], ENODEV, always, "this machine cannot have that CPU";
    MAP_UPDATE_ELEM, &[MapType::CPUMAP], EOVERFLOW, always, "a CPU's queue has at most 16384 places";
    MAP_UPDATE_ELEM, &[MapType::CPUMAP], ENOMEM, always,
        "no XDP_CPUMAP program, or one with other buffers than those that send to the map (frags)";
    MAP_DELETE_ELEM, FIXED, EINVAL, always, "elements of an array stay: write zeros instead";
    MAP_LOOKUP_AND_DELETE_ELEM, ANY, ENOTSUPP, always, "this kind cannot: look up, then delete";
    MAP_FREEZE, ANY, EBUSY, always, "it is frozen already, or mapped for writing";
    MAP_CREATE, ANY, E2BIG, always, "too many entries, or too large ones";
    MAP_CREATE, ANY, ENOMEM, always,
        "no memory for all entries at once: fewer of them, or BPF_F_NO_PREALLOC for a hash";
    MAP_FREEZE, ANY, EPERM, always, "it is frozen already, or open for reading alone";
    OBJ_PIN, ANY, EPERM, always, "the directory is not in a bpffs: mount -t bpf none DIR";
    OBJ_PIN, ANY, EEXIST, always, "the name is taken";
    OBJ_GET, ANY, ENOENT, always, "nothing has that name";
    OBJ_GET, ANY, EACCES, always, "the file is not in a bpffs";
    MAP_GET_FD_BY_ID, ANY, ENOENT, always, "no map has that number any more";
    OBJ_GET_INFO_BY_FD, ANY, EINVAL, always, "it is no map";
}
