//! An open map without types: what every view is made of.

use crate::describe;
use crate::error::{Error, Object, Operation, Problem, Result};
use bpfsmith_btf::TypeId;
use bpfsmith_sys::info::{self, MapInfo};
use bpfsmith_sys::map::{self as raw, Create, Facts};
use bpfsmith_sys::{Failed, object};
use bpfsmith_uapi::map::{MapShape, Name};
use bpfsmith_uapi::{Cmd, Errno, MapType};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// An open map that knows its name and the sizes of its elements, but not their types.
#[derive(Debug)]
pub struct Handle {
    map: raw::Map,
    name: Option<Name>,
    described: Described,
}

/// Whether the kernel knows the types of a map's keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Described {
    /// It knows them.
    Yes,
    /// Nobody told it.
    No,
    /// The definition describes them, but the kernel takes no types for maps of this kind.
    NotForKind,
}

/// Where a pinned map came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was made and pinned now.
    Created,
    /// It was pinned already, and was opened.
    Opened,
}

/// What a definition leaves to the moment of creation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// How many entries, if not as many as the definition says.
    pub entries: Option<u32>,
    /// Allocate on this NUMA node.
    pub numa_node: Option<u32>,
    /// A map of the shape of those inside; without it one is made from the definition's
    /// [`inner`](bpfsmith_uapi::map::MapDef::inner) for the moment.
    pub inner: Option<BorrowedFd<'a>>,
    /// A token that lends the right. Linux 6.9.
    pub token: Option<BorrowedFd<'a>>,
    /// The SHA-256 of the only program that may use the map. Linux 6.18.
    pub exclusive: &'a [u8],
    /// Types that the kernel has already, instead of those that the definition describes.
    pub types: Option<Types<'a>>,
}

/// The types of a map's keys and values, in BTF that was loaded.
#[derive(Clone, Copy, Debug)]
pub struct Types<'a> {
    /// The BTF.
    pub btf: BorrowedFd<'a>,
    /// The type of a key; [`VOID`](TypeId::VOID) for a section of global data.
    pub key: TypeId,
    /// The type of a value.
    pub value: TypeId,
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl Handle {
    /// Makes a map of any kind.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn create(shape: &MapShape) -> Result<Handle> {
        Handle::create_with(shape, &Options::default())
    }

    /// Makes a map with options.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn create_with(shape: &MapShape, options: &Options<'_>) -> Result<Handle> {
        const NUMA: u32 = bpfsmith_uapi::flags::map_create::BPF_F_NUMA_NODE;
        let is_nested = matches!(shape.kind, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS);
        let template = match (options.inner, shape.inner) {
            (None, Some(inner)) => Some(Handle::create(inner)?),
            // The kernel would take standard input for it.
            (None, None) if is_nested => {
                let problem = Problem::NoInner;
                return Err(Error::new(Cmd::MAP_CREATE, shape.into(), problem));
            }
            _ => None,
        };
        let types = match options.types {
            Some(_) => None,
            None => describe::load(shape, options.token)?,
        };
        let types = types
            .as_ref()
            .map(describe::Loaded::types)
            .or(options.types);
        let create = Create {
            kind: shape.kind.0,
            key: shape.key,
            value: shape.value,
            entries: options.entries.unwrap_or(shape.entries),
            flags: shape.flags | options.numa_node.map_or(0, |_| NUMA),
            name: padded(shape.name),
            inner: options.inner.or(template.as_ref().map(AsFd::as_fd)),
            numa_node: options.numa_node.unwrap_or(0),
            btf: types.map(|types| (types.btf, types.key.0, types.value.0)),
            extra: shape.extra,
            token: options.token,
            exclusive: options.exclusive,
            ..Create::default()
        };
        let object = Object::of_create(&create, shape.name);
        let map = raw::Map::create(&create)
            .map_err(|failed| Error::kernel(failed.cmd, object, failed.errno))?;
        Ok(Handle {
            map,
            name: Some(shape.name),
            described: match (types, shape.value_type) {
                (Some(_), _) => Described::Yes,
                (None, None) => Described::No,
                (None, Some(_)) => Described::NotForKind,
            },
        })
    }

    /// Opens the map of this name in bpffs if it has this shape; where the name is free, makes the
    /// map and pins it there. The result says which.
    ///
    /// # Errors
    /// [`Problem::Shape`] when the name belongs to another map, and what the kernel answers.
    pub fn open_or_create(shape: &MapShape, path: impl AsRef<Path>) -> Result<(Handle, Origin)> {
        let path = path.as_ref();
        match Handle::open_pin(path) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => {}
            opened => return Ok((opened?.expect_shape(shape)?, Origin::Opened)),
        }
        let made = Handle::create(shape)?;
        match made.pin(path) {
            // Somebody else pinned one in between.
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                let opened = Handle::open_pin(path)?;
                Ok((opened.expect_shape(shape)?, Origin::Opened))
            }
            pinned => pinned.map(|()| (made, Origin::Created)),
        }
    }

    /// The map itself, if it has this shape.
    ///
    /// # Errors
    /// [`Problem::Shape`], with the first member that differs.
    pub fn expect_shape(self, shape: &MapShape) -> Result<Handle> {
        /// What the kernel adds to the flags by itself, or forgets.
        const PASSING: u32 = bpfsmith_uapi::flags::map_create::BPF_F_TOKEN_FD
            | bpfsmith_uapi::flags::map_create::BPF_F_RDONLY
            | bpfsmith_uapi::flags::map_create::BPF_F_WRONLY
            // Device maps are always read-only for programs.
            | bpfsmith_uapi::flags::map_create::BPF_F_RDONLY_PROG;
        let facts = self.facts();
        let members = [
            ("kind", shape.kind.0, facts.kind.0),
            ("the size of a key", shape.key, facts.key),
            ("the size of a value", shape.value, facts.value),
            ("the number of entries", shape.entries, facts.entries),
            ("flags", shape.flags & !PASSING, facts.flags & !PASSING),
        ];
        match members.iter().find(|(_, ours, theirs)| ours != theirs) {
            None => Ok(self),
            Some(&(member, ours, theirs)) => {
                let problem = Problem::Shape {
                    member,
                    ours: ours.into(),
                    theirs: theirs.into(),
                };
                Err(self.problem(Operation::View("a definition"), problem))
            }
        }
    }

    /// Takes over an fd.
    ///
    /// # Errors
    /// When it is no map.
    pub fn from_fd(fd: OwnedFd) -> Result<Handle> {
        Handle::found(fd, || "behind an fd".to_owned())
    }

    fn found(fd: OwnedFd, place: impl Fn() -> String) -> Result<Handle> {
        let unknown = |failed: Failed| Error::unopened(failed.cmd, place(), failed.errno);
        let map = raw::Map::from_fd(fd).map_err(unknown)?;
        let info = info::map(map.as_fd()).map_err(unknown)?;
        Ok(Handle {
            map,
            name: name_of(&info),
            described: if info.btf_id == 0 {
                Described::No
            } else {
                Described::Yes
            },
        })
    }

    /// Opens a map by its number.
    ///
    /// # Errors
    /// `ENOENT` when it is gone; `EPERM` without `CAP_SYS_ADMIN`.
    pub fn open_id(id: u32) -> Result<Handle> {
        let place = || format!("id {id}");
        let fd = object::open_id(object::Kind::Map, id, 0, None)
            .map_err(|failed| Error::unopened(failed.cmd, place(), failed.errno))?;
        Handle::found(fd, place)
    }

    /// Opens a map by its name in bpffs.
    ///
    /// # Errors
    /// `ENOENT` without such a name; `EINVAL` when it is the name of something else.
    pub fn open_pin(path: impl AsRef<Path>) -> Result<Handle> {
        let path = path.as_ref();
        let place = || path.display().to_string();
        let fd = object::open_pin(object::From::Here, path, 0)
            .map_err(|failed| Error::unopened(failed.cmd, place(), failed.errno))?;
        Handle::found(fd, place)
    }

    /// The map as bytes.
    #[inline]
    #[must_use]
    pub fn raw(&self) -> &raw::Map {
        &self.map
    }

    /// What it is made of.
    #[inline]
    #[must_use]
    pub fn facts(&self) -> &Facts {
        self.map.facts()
    }

    /// What it is called, if it has a name.
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        self.name
    }

    /// Whether the kernel knows the types of its keys and values.
    #[must_use]
    pub fn described(&self) -> Described {
        self.described
    }

    /// How errors show it.
    #[must_use]
    pub fn object(&self) -> Object {
        Object::of_facts(self.facts(), self.name)
    }

    /// A refusal of the kernel, for this map.
    #[cold]
    pub(crate) fn refused(&self, operation: impl Into<Operation>, errno: Errno) -> Error {
        Error::kernel(operation, self.object(), errno)
    }

    /// A problem with this map.
    #[cold]
    pub(crate) fn problem(&self, operation: impl Into<Operation>, problem: Problem) -> Error {
        Error::new(operation, self.object(), problem)
    }

    #[cold]
    pub(crate) fn failed(&self, failed: bpfsmith_sys::Failed) -> Error {
        self.refused(failed.cmd, failed.errno)
    }

    /// What the kernel says about it now.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn info(&self) -> Result<MapInfo> {
        info::map(self.as_fd()).map_err(|failed| self.failed(failed))
    }

    /// Gives it a name in bpffs, which keeps it alive.
    ///
    /// # Errors
    /// `EPERM` when the directory is not in a bpffs; `EEXIST` when the name is taken.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<()> {
        object::pin(self.as_fd(), object::From::Here, path.as_ref())
            .map_err(|failed| self.failed(failed))
    }

    /// Takes the name in bpffs away. It need not be this map's.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn unpin(&self, path: impl AsRef<Path>) -> Result<()> {
        std::fs::remove_file(path).map_err(|error| {
            let errno = Errno::of(&error).unwrap_or(Errno::EIO);
            self.refused(Operation::Call("unlink"), errno)
        })
    }

    /// Forbids further writes from user space. Linux 5.2.
    ///
    /// # Errors
    /// `EBUSY` while it is mapped for writing; `EPERM` when it is frozen already (`EBUSY` on older
    /// kernels).
    pub fn freeze(&self) -> Result<()> {
        self.map.freeze().map_err(|failed| self.failed(failed))
    }

    /// Another handle of the same map.
    ///
    /// # Errors
    /// `EMFILE` when the process has too many files open.
    pub fn try_clone(&self) -> Result<Handle> {
        let map = self.map.try_clone().map_err(|error| {
            let errno = Errno::of(&error).unwrap_or(Errno::EIO);
            self.refused(Operation::Call("fcntl"), errno)
        })?;
        Ok(Handle {
            map,
            name: self.name,
            described: self.described,
        })
    }

    /// The fd alone.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.map.into_fd()
    }
}

fn padded(name: Name) -> [u8; 16] {
    let mut bytes = [0; 16];
    let text = name.as_str().as_bytes();
    bytes[..text.len()].copy_from_slice(text);
    bytes
}

fn name_of(info: &MapInfo) -> Option<Name> {
    let end = info.name.iter().position(|&byte| byte == 0)?;
    Name::new(std::str::from_utf8(&info.name[..end]).ok()?)
}
