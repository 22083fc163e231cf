//! BPF maps with types.
//!
//! A [`MapDef<K, V>`](bpfsmith_uapi::map::MapDef) says what a map holds; a *view* of this crate is an
//! open map of that kind. Each kind of map belongs to one view:
//!
//! | view | kinds |
//! |---|---|
//! | [`Map<K, V>`](Map) | hash, LRU hash, array, LPM trie, stack trace, older cgroup storage |
//! | [`PerCpuMap<K, V>`](PerCpuMap) | those with a value for every CPU |
//! | [`ObjectMap<K, V>`](ObjectMap) | programs, perf events, cgroups, maps of maps, sockets, XDP sockets |
//! | [`TargetMap<V>`](TargetMap) | devices and CPUs that XDP redirects to |
//! | [`Queue<V>`](Queue), [`Bloom<V>`](Bloom) | queue and stack; bloom filter |
//! | [`RingBuf`], several in a [`RingSet`] | ring buffer |
//! | [`UserRing`] | user ring buffer |
//! | [`PerfBuffer`] | perf event array, as a ring for each CPU |
//! | [`Arena`] | arena |
//! | [`Storage<V>`](Storage) | what belongs to sockets, tasks, inodes, cgroups |
//!
//! A map is read element by element with [`Map::iter`], whole with [`Map::read_all`], and in steps of
//! many elements with [`Map::batches`]; [`Map::update_many`] and [`Map::delete_many`] write so. Views of
//! per-CPU maps have the same.
//!
//! Values may have members that belong to the kernel: locks, timers, pointers. See [`member`].
//!
//! All views are [`Handle`]s as well: they have a name, can be pinned, described and frozen.

pub mod list;
pub mod member;

mod batch;
mod call_hint;
mod describe;
mod error;
mod handle;
mod hint;
mod map;
mod mapped;
mod object_map;
mod percpu;
mod perf_buffer;
mod plain;
mod queue;
mod ring;
mod special;
mod storage;
mod target;
mod user_ring;
mod view;
mod walk;

pub use batch::{Batch, Batches, PerCpuBatch, PerCpuBatches, Way};
#[doc(hidden)]
pub use describe::spell;
pub use error::{Error, Object, Operation, Problem, Result};
pub use handle::{Described, Handle, Options, Origin, Types};
#[doc(hidden)]
pub use hint::hints;
pub use map::{Locked, Map};
pub use mapped::{Arena, Mapped};
pub use member::{
    Kptr, List, ListNode, RefCount, ResilientLock, SpinLock, TaskWork, Timer, Tree, TreeNode,
    WorkQueue,
};
pub use object_map::{Number, ObjectMap};
pub use percpu::{PerCpu, PerCpuMap};
pub use perf_buffer::{Direction, Lost, PerfBuffer, PerfOptions, Sample, Skip, Wakeup};
pub use plain::Plain;
pub use queue::{Bloom, Queue};
pub use ring::{
    Drained, End, Pace, Polled, Positions, Record, RingBuf, RingProblem, RingSet, Stats, Typed,
    Verdict,
};
pub use special::{CgroupStorageKey, LpmKey, frames};
pub use storage::Storage;
pub use target::{Target, TargetMap};
pub use user_ring::{Reserved, UserRing};
pub use view::{View, view_of};
pub use walk::{Entries, Keys};
