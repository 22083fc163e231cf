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
//! | [`Storage<V>`](Storage) | what belongs to sockets, tasks, inodes, cgroups |
//!
//! All views are [`Handle`]s as well: they have a name, can be pinned, described and frozen.

pub mod list;

mod batch;
mod describe;
mod error;
mod handle;
mod hint;
mod map;
mod object_map;
mod percpu;
mod plain;
mod queue;
mod special;
mod storage;
mod target;
mod view;
mod walk;

pub use batch::{Batch, Batches, PerCpuBatch, PerCpuBatches, Way};
pub use error::{Error, Object, Operation, Problem, Result};
pub use handle::{Described, Handle, Options, Origin};
pub use map::{Locked, Map};
pub use object_map::{Number, ObjectMap};
pub use percpu::{PerCpu, PerCpuMap};
pub use plain::Plain;
pub use queue::{Bloom, Queue};
pub use special::{CgroupStorageKey, LpmKey, SpinLock, Timer, WorkQueue, frames};
pub use storage::Storage;
pub use target::{Target, TargetMap};
pub use view::view_of;
pub use walk::{Entries, Keys};
