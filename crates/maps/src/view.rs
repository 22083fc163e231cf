//! Views: which kinds of maps each is for, and how all of them are made and opened.

use crate::error::{Problem, Result};
use crate::handle::Handle;
use bpfsmith_uapi::MapType;
use bpfsmith_uapi::map::MapShape;

/// Which view each kind belongs to.
const VIEWS: &[(&str, &[MapType])] = &[
    (
        "Map",
        &[
            MapType::HASH,
            MapType::ARRAY,
            MapType::LRU_HASH,
            MapType::LPM_TRIE,
            MapType::STACK_TRACE,
            MapType::CGROUP_STORAGE,
        ],
    ),
    (
        "PerCpuMap",
        &[
            MapType::PERCPU_HASH,
            MapType::PERCPU_ARRAY,
            MapType::LRU_PERCPU_HASH,
            MapType::PERCPU_CGROUP_STORAGE,
        ],
    ),
    (
        "ObjectMap",
        &[
            MapType::PROG_ARRAY,
            MapType::PERF_EVENT_ARRAY,
            MapType::CGROUP_ARRAY,
            MapType::ARRAY_OF_MAPS,
            MapType::HASH_OF_MAPS,
            MapType::SOCKMAP,
            MapType::SOCKHASH,
            MapType::REUSEPORT_SOCKARRAY,
            MapType::XSKMAP,
        ],
    ),
    (
        "TargetMap",
        &[
            MapType::DEVMAP,
            MapType::DEVMAP_HASH,
            MapType::CPUMAP,
        ],
    ),
    ("Queue", &[MapType::QUEUE, MapType::STACK]),
    ("Bloom", &[MapType::BLOOM_FILTER]),
    (
        "Storage",
        &[
            MapType::SK_STORAGE,
            MapType::TASK_STORAGE,
            MapType::INODE_STORAGE,
            MapType::CGRP_STORAGE,
        ],
    ),
    ("RingBuf", &[MapType::RINGBUF]),
    ("UserRing", &[MapType::USER_RINGBUF]),
    ("Arena", &[MapType::ARENA]),
    ("Handle", &[MapType::STRUCT_OPS]),
];

/// Something that looks at the map of a definition `D`: what sets of maps open by one method.
pub trait View<D>: Sized {
    /// Looks at an open map.
    ///
    /// # Errors
    /// [`Problem`] says why the map does not fit.
    fn view(handle: Handle) -> Result<Self>;
}

/// The name of the view for maps of a kind; [`Handle`] for kinds that came later than this table.
#[must_use]
pub fn view_of(kind: MapType) -> &'static str {
    let has = |row: &&(&str, &[MapType])| row.1.contains(&kind);
    VIEWS.iter().find(has).map_or("Handle", |row| row.0)
}

/// Refuses a map that another view is for.
pub(crate) fn is_for(handle: &Handle, view: &'static str) -> Result<()> {
    let right = view_of(handle.facts().kind);
    if right == view {
        return Ok(());
    }
    Err(handle.problem(crate::Operation::View(view), Problem::Kind { view: right }))
}

/// Refuses a definition that another view is for, before there is a map.
pub(crate) fn is_made_for(shape: &MapShape, view: &'static str) -> Result<()> {
    let right = view_of(shape.kind);
    if right == view {
        return Ok(());
    }
    Err(crate::Error::new(
        crate::Operation::View(view),
        shape.into(),
        Problem::Kind { view: right },
    ))
}

/// Refuses a map whose keys and values have other sizes than the types of the view.
pub(crate) fn fits<K, V>(handle: &Handle, view: &'static str) -> Result<()> {
    let (key, value) = (size_of::<K>(), size_of::<V>());
    let facts = handle.facts();
    if facts.key as usize != key {
        return Err(handle.problem(crate::Operation::View(view), Problem::Key { ours: key }));
    }
    if facts.value as usize != value {
        return Err(handle.problem(crate::Operation::View(view), Problem::Value { ours: value }));
    }
    Ok(())
}

/// Defines a view: a [`Handle`] with the types of a `MapDef<$key, $value>`.
macro_rules! view {
    (
        $(#[$meta:meta])*
        $name:ident[$($param:ident $(= $default:ty)?),*] $text:literal MapDef<$key:ty, $value:ty>
        $(where $($bound_ty:ident: $bound:path),+)?
    ) => {
        $(#[$meta])*
        pub struct $name<$($param $(= $default)?),*> {
            handle: $crate::Handle,
            types: ::std::marker::PhantomData<fn() -> ($key, $value)>,
        }

        impl<$($param),*> ::std::ops::Deref for $name<$($param),*> {
            type Target = $crate::Handle;

            #[inline]
            fn deref(&self) -> &$crate::Handle {
                &self.handle
            }
        }

        impl<$($param),*> ::std::os::fd::AsFd for $name<$($param),*> {
            #[inline]
            fn as_fd(&self) -> ::std::os::fd::BorrowedFd<'_> {
                self.handle.as_fd()
            }
        }

        impl<$($param),*> ::std::fmt::Debug for $name<$($param),*> {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_tuple($text).field(&self.handle).finish()
            }
        }

        impl<$($param),*> From<$name<$($param),*>> for $crate::Handle {
            fn from(view: $name<$($param),*>) -> $crate::Handle {
                view.handle
            }
        }

        impl<$($param),*> $crate::View<::bpfsmith_uapi::map::MapDef<$key, $value>>
            for $name<$($param),*>
        $(where $($bound_ty: $bound),+)?
        {
            fn view(handle: $crate::Handle) -> $crate::Result<Self> {
                Self::from_handle(handle)
            }
        }

        impl<$($param),*> $name<$($param),*>
        $(where $($bound_ty: $bound),+)?
        {
            /// Makes the map of a definition.
            ///
            /// # Errors
            /// [`Problem::Kind`](crate::Problem::Kind) for a kind that another view is for, and
            /// what the kernel answers.
            pub fn create(
                def: &::bpfsmith_uapi::map::MapDef<$key, $value>,
            ) -> $crate::Result<Self> {
                Self::create_with(def, &$crate::Options::default())
            }

            /// Makes the map of a definition, with options.
            ///
            /// # Errors
            /// As for [`create`](Self::create).
            pub fn create_with(
                def: &::bpfsmith_uapi::map::MapDef<$key, $value>,
                options: &$crate::Options<'_>,
            ) -> $crate::Result<Self> {
                $crate::view::is_made_for(def.shape(), $text)?;
                Self::from_handle($crate::Handle::create_with(def.shape(), options)?)
            }

            /// Opens the map of this name in bpffs if it has the definition's shape; where the name
            /// is free, makes the map and pins it there. The result says which.
            ///
            /// # Errors
            /// [`Problem::Shape`](crate::Problem::Shape) when the name belongs to another map, and
            /// what the kernel answers.
            pub fn open_or_create(
                def: &::bpfsmith_uapi::map::MapDef<$key, $value>,
                path: impl AsRef<::std::path::Path>,
            ) -> $crate::Result<(Self, $crate::Origin)> {
                $crate::view::is_made_for(def.shape(), $text)?;
                let (handle, origin) = $crate::Handle::open_or_create(def.shape(), path)?;
                Ok((Self::from_handle(handle)?, origin))
            }

            /// Opens the map of this name in bpffs.
            ///
            /// # Errors
            /// When there is none, or it does not fit this view.
            pub fn open_pin(path: impl AsRef<::std::path::Path>) -> $crate::Result<Self> {
                Self::from_handle($crate::Handle::open_pin(path)?)
            }

            /// Opens the map with this number.
            ///
            /// # Errors
            /// When there is none, or it does not fit this view.
            pub fn open_id(id: u32) -> $crate::Result<Self> {
                Self::from_handle($crate::Handle::open_id(id)?)
            }

            /// Takes over the fd of a map.
            ///
            /// # Errors
            /// When it is no map, or it does not fit this view.
            pub fn from_fd(fd: ::std::os::fd::OwnedFd) -> $crate::Result<Self> {
                Self::from_handle($crate::Handle::from_fd(fd)?)
            }

            /// Looks at an open map through this view.
            ///
            /// # Errors
            /// [`Problem::Kind`](crate::Problem::Kind), [`Problem::Key`](crate::Problem::Key) or
            /// [`Problem::Value`](crate::Problem::Value) when it does not fit.
            pub fn from_handle(handle: $crate::Handle) -> $crate::Result<Self> {
                $crate::view::is_for(&handle, $text)?;
                $crate::view::fits::<$key, $value>(&handle, $text)?;
                Ok($name {
                    handle,
                    types: ::std::marker::PhantomData,
                })
            }

            /// Another handle of the same map.
            ///
            /// # Errors
            /// `EMFILE` when the process has too many files open.
            pub fn try_clone(&self) -> $crate::Result<Self> {
                Ok($name {
                    handle: self.handle.try_clone()?,
                    types: ::std::marker::PhantomData,
                })
            }
        }
    };
}

pub(crate) use view;

#[cfg(test)]
mod tests {
    use super::{VIEWS, view_of};
    use bpfsmith_uapi::MapType;

    #[test]
    fn each_kind_has_one_view() {
        for &kind in MapType::ALL {
            let views = VIEWS.iter().filter(|row| row.1.contains(&kind)).count();
            let expected = usize::from(kind != MapType::UNSPEC);
            assert_eq!(views, expected, "{kind}");
        }
        assert_eq!(view_of(MapType(99)), "Handle");
    }
}
