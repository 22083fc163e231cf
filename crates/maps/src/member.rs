//! Members of values that belong to the kernel: programs hand them to it, and user space learns nothing
//! from them.
//!
//! The kernel finds them by BTF, so a definition with one is [`described`](bpfsmith_uapi::map::MapDef::described).
//! Before Linux 6.11 it looks at the members of the value itself only, not at those of structures and
//! arrays in it.

use bpfsmith_uapi::Layout;
use bpfsmith_uapi::record::{self, Described, Record, Root, Type, member};
use std::fmt;
use std::marker::PhantomData;
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub use bpfsmith_uapi::record::{Hold, Pointee};

macro_rules! opaque {
    ($($(#[$meta:meta])* $name:ident: [$element:ty; $len:literal] as $kernel:literal $member:literal;)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
        #[repr(C)]
        pub struct $name([$element; $len]);

        impl $name {
            const RECORD: Record = Record {
                layout: Layout {
                    name: $kernel,
                    kernel: "",
                    size: size_of::<$name>(),
                    fields: &[member($member, 0, size_of::<$name>(), &<[$element; $len]>::TYPE)],
                },
                types: &[<[$element; $len]>::TYPE],
            };
        }

        impl Described for $name {
            const TYPE: Type = Type::Struct(&$name::RECORD);
        }
    )+};
}

opaque! {
    /// A lock as a member of a value, which programs take, and [`Map::locked`](crate::Map::locked)
    /// as well. It reads as zero. Linux 5.1.
    SpinLock: [u32; 1] as "bpf_spin_lock" "val";
    /// A lock that is refused instead of waited for when that would not end:
    /// `bpf_res_spin_lock` answers with an error then. It reads as zero. Linux 6.15.
    ResilientLock: [u32; 1] as "bpf_res_spin_lock" "val";
    /// A timer as a member of a value, which programs start. It reads as zero. Linux 5.15.
    Timer: [u64; 2] as "bpf_timer" "opaque";
    /// Work for later as a member of a value, which programs start. It reads as zero. Linux 6.10.
    WorkQueue: [u64; 2] as "bpf_wq" "opaque";
    /// Work that a task does for a program the next time that it can be interrupted. It reads as
    /// zero. Linux 6.18.
    TaskWork: [u64; 1] as "bpf_task_work" "opaque";
    /// The member by which an allocated structure hangs in a [`List`]. Linux 6.2.
    ListNode: [u64; 3] as "bpf_list_node" "opaque";
    /// The member by which an allocated structure hangs in a [`Tree`]. Linux 6.3.
    TreeNode: [u64; 4] as "bpf_rb_node" "opaque";
    /// The member that counts who holds an allocated structure. Linux 6.4.
    RefCount: [u32; 1] as "bpf_refcount" "opaque";
}

/// Traits for a type that holds bytes and a marker, whatever the marker.
macro_rules! marked {
    ($name:ident<$($param:ident),+>) => {
        impl<$($param),+> Clone for $name<$($param),+> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($param),+> Copy for $name<$($param),+> {}

        impl<$($param),+> Default for $name<$($param),+> {
            fn default() -> Self {
                $name(Default::default(), PhantomData)
            }
        }

        impl<$($param),+> PartialEq for $name<$($param),+> {
            fn eq(&self, other: &Self) -> bool {
                self.0 == other.0
            }
        }

        impl<$($param),+> Eq for $name<$($param),+> {}

        impl<$($param),+> fmt::Debug for $name<$($param),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

macro_rules! roots {
    ($($(#[$meta:meta])* $name:ident as $kernel:literal of $node:literal;)+) => {$(
        $(#[$meta])*
        #[derive(FromBytes, IntoBytes, Immutable)]
        #[repr(transparent)]
        pub struct $name<T>([u64; 2], PhantomData<fn() -> T>);

        marked!($name<T>);

        impl<T> $name<T> {
            const RECORD: Record = Record {
                layout: Layout {
                    name: $kernel,
                    kernel: "",
                    size: 16,
                    fields: &[member("opaque", 0, 16, &<[u64; 2]>::TYPE)],
                },
                types: &[<[u64; 2]>::TYPE],
            };
        }

        impl<T: Described> Described for $name<T> {
            const TYPE: Type = {
                let Type::Struct(of) = &T::TYPE else {
                    panic!("lists and trees hold structures");
                };
                let Some(by) = of.member_of($node) else {
                    panic!("what hangs in a list has a ListNode, in a tree a TreeNode");
                };
                Type::Root(Root { record: &$name::<T>::RECORD, of, by })
            };
        }
    )+};
}

roots! {
    /// The head of a list of structures `T` that programs allocate; they hang in it by their first
    /// [`ListNode`]. A [`SpinLock`] beside it guards it. Both belong into private global variables:
    /// the kernel wants a program and its lists described by one BTF, and a map has its own.
    /// Linux 6.2.
    List as "bpf_list_head" of "bpf_list_node";
    /// The root of a tree of structures `T` that programs allocate, in the order that a program
    /// says; they hang in it by their first [`TreeNode`]. A [`SpinLock`] beside it guards it, and its
    /// place is that of a [`List`]. Linux 6.3.
    Tree as "bpf_rb_root" of "bpf_rb_node";
}

/// What a [`Kptr`] may point to. [`kernel_structs!`](crate::kernel_structs) names structures of the
/// kernel.
pub trait Target {
    /// What the kernel is told of it.
    const POINTEE: Pointee;
}

/// A structure that programs allocate, as the target of a [`Kptr`].
#[derive(Debug)]
pub enum Allocated<T> {
    #[doc(hidden)]
    Never(std::convert::Infallible, PhantomData<T>),
}

impl<T: Described> Target for Allocated<T> {
    const POINTEE: Pointee = {
        let Type::Struct(record) = T::TYPE else {
            panic!("programs allocate structures");
        };
        Pointee::Allocated(record)
    };
}

/// How a [`Kptr`] holds what it points to: [`Counted`], [`Untrusted`], [`PerCpu`].
pub trait Holds {
    /// What the kernel is told of it.
    const HOLD: Hold;
}

macro_rules! holds {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl Holds for $name {
            const HOLD: Hold = Hold::$name;
        }
    )+};
}

holds! {
    /// What it points to stays. Programs exchange it with `kptr_xchg`, and release what they took
    /// out. Which structures can be held so, the kernel decides: tasks, cgroups, CPU masks, …
    Counted;
    /// What it points to may be gone: programs store it with an instruction, and read through it as
    /// through foreign memory.
    Untrusted;
    /// It counts, and each CPU has its own of what it points to. Linux 6.7.
    PerCpu;
}

/// A pointer of the kernel's as a member of a value: programs put it in and take it out, and the
/// kernel releases what is left in when the value goes. To user space it reads as zero. Linux 5.19.
///
/// ```
/// use bpfsmith_asm::dsl::*;
/// use bpfsmith_maps::{Kptr, kernel_structs};
/// use zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// kernel_structs! {
///     /// A task.
///     pub Task = "task_struct";
/// }
/// bpfsmith_uapi::record! {
///     /// Who asked last.
///     #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
///     pub struct Asker {
///         pub task: Kptr<Task>,
///         pub times: u64,
///     }
/// }
/// static ASKERS: MapDef<u32, Asker> = MapDef::hash("askers", 64).described();
///
/// /// Puts the current task into the value at R6, and releases the one that was there.
/// fn remember() -> Code {
///     code![
///         get_current_task_btf(),
///         mov(R1, R0),
///         call_kfunc("bpf_task_acquire"),
///         R0.ne(0).then(code![
///             kptr_xchg(R6.at(Asker::task.offset.into()), R0),
///             R0.ne(0).then(code![mov(R1, R0), call_kfunc("bpf_task_release")]),
///         ]),
///     ]
/// }
/// # let _ = (remember(), &ASKERS);
/// ```
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct Kptr<T, H = Counted>(u64, PhantomData<fn() -> (T, H)>);

marked!(Kptr<T, H>);

impl<T: Target, H: Holds> Described for Kptr<T, H> {
    const TYPE: Type = Type::Pointer(record::Pointer {
        hold: H::HOLD,
        to: T::POINTEE,
    });
}

/// Names structures of the kernel, as targets of a [`Kptr`]. One that the kernel does not have makes a
/// map into which nothing can be put.
#[macro_export]
macro_rules! kernel_structs {
    ($($(#[$meta:meta])* $vis:vis $name:ident = $kernel:literal;)+) => {$(
        $(#[$meta])*
        #[derive(Debug)]
        $vis enum $name {}

        impl $crate::member::Target for $name {
            const POINTEE: $crate::member::Pointee = $crate::member::Pointee::Kernel($kernel);
        }
    )+};
}

#[cfg(test)]
mod tests {
    use super::{Allocated, Counted, Kptr, List, ListNode, PerCpu, Tree, TreeNode, Untrusted};
    use bpfsmith_btf::{Btf, Builder, Kind};
    use bpfsmith_uapi::record::{Described, Hold, Type};

    kernel_structs! {
        Task = "task_struct";
    }
    bpfsmith_uapi::record! {
        /// What hangs.
        struct Leaf {
            number: u64,
            r#in: TreeNode,
            after: ListNode,
        }
    }
    bpfsmith_uapi::record! {
        /// What holds.
        struct Holder {
            task: Kptr<Task>,
            loose: Kptr<Task, Untrusted>,
            own: Kptr<Allocated<Leaf>, PerCpu>,
            list: List<Leaf>,
            trees: [Tree<Leaf>; 2],
        }
    }

    #[test]
    fn members_are_told_by_their_tags() {
        let mut builder = Builder::new();
        builder.described(&Holder::TYPE);
        let btf = Btf::parse(builder.build().unwrap()).unwrap();
        let named = |id| btf.get(id).unwrap();
        let holder = named(btf.find_struct("Holder").unwrap());
        let pointers: Vec<_> = holder
            .members()
            .take(3)
            .map(|member| {
                let pointer = named(member.ty);
                let tag = named(pointer.target().unwrap());
                assert_eq!((pointer.kind(), tag.kind()), (Kind::PTR, Kind::TYPE_TAG));
                let to = named(tag.target().unwrap()).name().to_string();
                (member.name.to_string(), tag.name().to_string(), to)
            })
            .collect();
        assert_eq!(
            pointers,
            [
                ("task", "kptr", "task_struct"),
                ("loose", "kptr_untrusted", "task_struct"),
                ("own", "percpu_kptr", "Leaf"),
            ]
            .map(|(name, tag, to)| (name.to_owned(), tag.to_owned(), to.to_owned()))
        );
        let tags: Vec<_> = btf
            .types()
            .filter(|ty| ty.kind() == Kind::DECL_TAG)
            .map(|ty| (ty.name().to_string(), ty.target(), ty.shape()))
            .collect();
        assert_eq!(tags.len(), 2, "{tags:?}");
        for ((tag, target, shape), (wanted, part)) in tags.iter().zip([
            ("contains:Leaf:after", 3),
            ("contains:Leaf:in", 4),
        ]) {
            assert_eq!((tag.as_str(), *target), (wanted, Some(holder.id())));
            assert!(
                format!("{shape:?}").contains(&part.to_string()),
                "{shape:?}"
            );
        }
        let leaves = btf.named("Leaf").count();
        assert_eq!(leaves, 1, "the kernel takes the first of a name");
    }

    #[test]
    fn old_tags_are_other_words() {
        let words: Vec<_> = Hold::ALL
            .iter()
            .map(|hold| (hold.tag(), hold.old_tag()))
            .collect();
        assert_eq!(
            words,
            [
                ("kptr", "kptr_ref"),
                ("kptr_untrusted", "kptr"),
                ("percpu_kptr", "percpu_kptr"),
            ]
        );
    }

    #[test]
    fn pointers_are_as_large_as_the_kernels() {
        assert_eq!(size_of::<Kptr<Task, Counted>>(), 8);
        assert_eq!(size_of::<Holder>(), 24 + 16 + 32);
        assert_eq!(format!("{:?}", Kptr::<Task>::default()), "Kptr");
        let Type::Pointer(pointer) = <Kptr<Allocated<Leaf>>>::TYPE else {
            panic!("not a pointer")
        };
        assert_eq!(pointer.hold, Hold::Counted);
    }
}
