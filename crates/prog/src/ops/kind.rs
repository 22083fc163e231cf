//! A kind of struct_ops, as the running kernel describes it.

use crate::error::{Error, Result};
use crate::kernel::{self, Bytes, Module};
use bpfsmith_btf::{Btf, Error as Wrong, Kind as TypeKind, Place, Shape, TypeId};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What the kernel calls the value that holds a structure of functions.
const PREFIX: &str = "bpf_struct_ops_";

/// These hold what is common to all kinds.
const COMMON: &[&str] = &[
    "value",
    "common_value",
    "map",
    "link",
    "desc",
    "arg_info",
    "state",
];

/// Whether a type is the value of a kind: that has a structure of functions in it.
fn is_value(btf: &Btf<Bytes>, name: &str, id: TypeId) -> bool {
    let data = btf.member(id, "data").and_then(|data| btf.resolve(data.ty));
    !COMMON.contains(&name) && data.is_ok_and(|data| data.kind() == TypeKind::STRUCT)
}

/// A structure of functions that programs can be.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) name: String,
    /// The module that it belongs to; the kernel itself without.
    module: Option<Arc<Module>>,
    /// The structure.
    pub(super) structure: TypeId,
    /// The value of the map: the kernel's own part, then the structure.
    pub(super) value: TypeId,
    /// How large the value is, and where the structure is in it.
    pub(super) size: u32,
    pub(super) data: u32,
    /// Where the kernel says how it stands.
    pub(super) state: u32,
}

impl Kind {
    /// The kind of that name, of the kernel or of a module.
    pub(super) fn find(name: &str) -> Result<Kind> {
        let btf = kernel::btf()?;
        if let Some(kind) = Kind::in_btf(btf, name, None)? {
            return Ok(kind);
        }
        for module in kernel::visible()? {
            if let Some(kind) = Kind::in_btf(module.btf(), name, Some(&module))? {
                return Ok(kind);
            }
        }
        Err(Error::NoOps {
            name: name.to_owned(),
            has: all()?,
        })
    }

    fn in_btf(btf: &Btf<Bytes>, name: &str, module: Option<&Arc<Module>>) -> Result<Option<Kind>> {
        let wrapper = format!("{PREFIX}{name}");
        let mut own = btf.own_named(&wrapper);
        let is_kind = |id| is_value(btf, name, id);
        let Some(value) = own.find(|ty| ty.kind() == TypeKind::STRUCT && is_kind(ty.id())) else {
            return Ok(None);
        };
        let described = || -> std::result::Result<Kind, Wrong> {
            let data = btf.member(value.id(), "data")?;
            // Linux before 6.9 has no structure of its own for what is common.
            let state = btf
                .member(value.id(), "common.state")
                .or_else(|_| btf.member(value.id(), "state"))?;
            Ok(Kind {
                name: name.to_owned(),
                module: module.cloned(),
                structure: btf.resolve(data.ty)?.id(),
                value: value.id(),
                size: btf.size_of(value.id())?,
                data: data.bit_offset / 8,
                state: state.bit_offset / 8,
            })
        };
        described().map(Some).map_err(|cause| Error::Btf {
            wanted: name.to_owned(),
            cause,
        })
    }

    pub(super) fn btf(&self) -> Result<&Btf<Bytes>> {
        match &self.module {
            Some(module) => Ok(module.btf()),
            None => kernel::btf(),
        }
    }

    /// The BTF of its module, for the kernel.
    pub(super) fn module(&self) -> Result<Option<OwnedFd>> {
        self.module.as_ref().map(|module| module.open()).transpose()
    }

    /// What is wrong about one of its members.
    pub(super) fn about(&self, member: &str, problem: impl Into<String>) -> Error {
        Error::Operation {
            member: format!("{}.{member}", self.name),
            cause: Box::new(Error::Argument {
                what: "struct_ops",
                problem: problem.into(),
            }),
        }
    }

    /// Where a member is.
    pub(super) fn member(&self, member: &str) -> Result<Place> {
        let btf = self.btf()?;
        btf.member(self.structure, member).map_err(|_| {
            let all = btf
                .get(self.structure)
                .into_iter()
                .flat_map(|ty| ty.members());
            let mut near = crate::near::Nearest::to(member);
            all.for_each(|known| near.see(&known.name.to_string()));
            Error::Unknown {
                what: "member of struct_ops",
                name: format!("{}.{member}", self.name),
                near: near.names(),
                hint: "`bpfsmith btf dump` shows them; kernels differ",
            }
        })
    }

    /// The prototype of a member, if it is a function.
    pub(super) fn prototype(&self, place: &Place) -> Result<Option<(TypeId, usize)>> {
        let ty = self
            .btf()?
            .prototype(place.ty)
            .map_err(|cause| Error::Btf {
                wanted: self.name.clone(),
                cause,
            })?;
        Ok(ty.and_then(|ty| match ty.shape() {
            Shape::FuncProto(_, params) => Some((ty.id(), params.count())),
            _ => None,
        }))
    }
}

/// The names of all kinds that this kernel and its modules have.
///
/// # Errors
/// When the kernel's BTF cannot be read.
pub fn all() -> Result<Vec<String>> {
    let named = |btf: &Btf<Bytes>| {
        let structs = btf.types().filter(|ty| ty.kind() == TypeKind::STRUCT);
        let wrappers = structs.filter_map(|ty| {
            let name = ty.name().to_str()?.strip_prefix(PREFIX)?.to_owned();
            is_value(btf, &name, ty.id()).then_some(name)
        });
        wrappers.collect::<Vec<_>>()
    };
    let mut all = named(kernel::btf()?);
    for module in kernel::visible()? {
        all.extend(named(module.btf()));
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}
