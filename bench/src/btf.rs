//! Readers of the kernel's types, beside each other. Every sample is a process of its own.

use aya_obj::btf::BtfKind;
use bpfsmith_btf::{Btf, Kind, TypeId};
use bpfsmith_sys::mmap::KernelBtf;
use btf_rs::BtfType;
use std::ffi::CString;

/// Where the kernel shows its types.
pub const PATH: &str = "/sys/kernel/btf/vmlinux";

/// The structure whose members are asked for.
pub const OPS: &str = "tcp_congestion_ops";

/// A name to look for, as each of the peers wants it.
pub struct Query {
    /// For Rust.
    pub name: String,
    /// For C.
    pub c_name: CString,
    /// What it names.
    pub kind: Kind,
}

impl Query {
    /// # Panics
    /// When the name contains a zero.
    #[must_use]
    pub fn new(name: &str, kind: Kind) -> Query {
        Query {
            name: name.to_owned(),
            c_name: CString::new(name).expect("no zero inside"),
            kind,
        }
    }
}

/// What a walk through all types has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Types.
    pub types: u64,
    /// Members, enumerators and parameters.
    pub elements: u64,
    /// Bytes of all their names.
    pub bytes: u64,
    /// The sum of the numbers of types that members and parameters have behind qualifiers.
    pub targets: u64,
}

/// A reader of the kernel's types.
pub trait Reader: Sized {
    /// Opens the running kernel's.
    fn open() -> Self;

    /// The number of a type, or 0.
    fn find(&self, query: &Query) -> u32;

    /// Whether it lists members and types.
    const LISTS: bool = true;

    /// Of all members of a structure: lengths of names, offsets in bits, and the parameters of the
    /// prototypes that they point to, added up.
    fn members(&self, _id: u32) -> u64 {
        0
    }

    /// Looks at everything.
    fn walk(&self) -> Walk {
        Walk::default()
    }
}

/// bpfsmith, over a memory map.
pub struct Smith(Btf<Map>);

/// The kernel's bytes in place.
pub struct Map(KernelBtf);

impl AsRef<[u8]> for Map {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Smith {
    /// The reader itself.
    #[must_use]
    pub const fn btf(&self) -> &Btf<Map> {
        &self.0
    }
}

impl Reader for Smith {
    fn open() -> Smith {
        let map = Map(KernelBtf::open("vmlinux").expect("Linux 6.16 maps it"));
        Smith(Btf::parse(map).expect("the kernel's BTF"))
    }

    fn find(&self, query: &Query) -> u32 {
        let found = self.0.find(&query.name, query.kind);
        found.map_or(0, |id| id.0)
    }

    fn members(&self, id: u32) -> u64 {
        let ops = self.0.ty(TypeId(id)).expect("it exists");
        let mut sum = 0;
        for member in ops.members() {
            sum += member.name.len() as u64 + u64::from(member.bit_offset);
            if let Some(proto) = self.0.prototype(member.ty).expect("the kernel's types") {
                sum += u64::from(proto.len());
            }
        }
        sum
    }

    fn walk(&self) -> Walk {
        let mut walk = Walk::default();
        let skip = |id| self.0.unqualified(id).expect("the kernel's types").id().0;
        for ty in self.0.types() {
            walk.types += 1;
            walk.bytes += ty.name().len() as u64;
            match ty.kind() {
                Kind::STRUCT | Kind::UNION => {
                    for member in ty.members() {
                        walk.elements += 1;
                        walk.bytes += member.name.len() as u64;
                        walk.targets += u64::from(skip(member.ty));
                    }
                }
                Kind::ENUM | Kind::ENUM64 => {
                    for value in ty.enumerators() {
                        walk.elements += 1;
                        walk.bytes += value.name.len() as u64;
                    }
                }
                Kind::FUNC_PROTO => {
                    for param in ty.params() {
                        walk.elements += 1;
                        walk.bytes += param.name.len() as u64;
                        walk.targets += u64::from(skip(param.ty));
                    }
                }
                _ => {}
            }
        }
        walk
    }
}

/// aya-obj. It lists neither members nor types to others.
pub struct Aya(aya_obj::btf::Btf);

impl Reader for Aya {
    const LISTS: bool = false;

    fn open() -> Aya {
        Aya(aya_obj::btf::Btf::from_sys_fs().expect("aya reads it"))
    }

    fn find(&self, query: &Query) -> u32 {
        let kind = match query.kind {
            Kind::STRUCT => BtfKind::Struct,
            Kind::FUNC => BtfKind::Func,
            _ => BtfKind::Typedef,
        };
        self.0.id_by_type_name_kind(&query.name, kind).unwrap_or(0)
    }
}

/// btf-rs with everything decoded.
pub struct RsCache(btf_rs::Btf);

/// btf-rs over a memory map.
pub struct RsMmap(btf_rs::Btf);

impl Reader for RsCache {
    fn open() -> RsCache {
        let btf = btf_rs::Btf::from_file_with_backend(PATH, btf_rs::Backend::Cache);
        RsCache(btf.expect("btf-rs reads it"))
    }

    fn find(&self, query: &Query) -> u32 {
        rs_find(&self.0, query)
    }

    fn members(&self, id: u32) -> u64 {
        rs_members(&self.0, id)
    }

    fn walk(&self) -> Walk {
        rs_walk(&self.0)
    }
}

impl Reader for RsMmap {
    fn open() -> RsMmap {
        let btf = btf_rs::Btf::from_file_with_backend(PATH, btf_rs::Backend::Mmap);
        RsMmap(btf.expect("btf-rs reads it"))
    }

    fn find(&self, query: &Query) -> u32 {
        rs_find(&self.0, query)
    }

    fn members(&self, id: u32) -> u64 {
        rs_members(&self.0, id)
    }

    fn walk(&self) -> Walk {
        rs_walk(&self.0)
    }
}

fn rs_find(btf: &btf_rs::Btf, query: &Query) -> u32 {
    let ids = btf.resolve_ids_by_name(&query.name).unwrap_or_default();
    let fits = |id: &u32| {
        let ty = btf.resolve_type_by_id(*id).expect("it was found");
        match query.kind {
            Kind::STRUCT => matches!(ty, btf_rs::Type::Struct(_)),
            Kind::FUNC => matches!(ty, btf_rs::Type::Func(_)),
            _ => matches!(ty, btf_rs::Type::Typedef(_)),
        }
    };
    ids.into_iter().find(fits).unwrap_or(0)
}

fn rs_skip(btf: &btf_rs::Btf, mut id: u32) -> (u32, btf_rs::Type) {
    use btf_rs::Type::{Const, Restrict, TypeTag, Volatile};
    loop {
        let ty = btf.resolve_type_by_id(id).expect("the kernel's types");
        if !matches!(ty, Const(_) | Volatile(_) | Restrict(_) | TypeTag(_)) {
            return (id, ty);
        }
        let target = ty.as_btf_type().and_then(BtfType::get_type_id);
        id = target.expect("qualifiers have a target");
    }
}

fn rs_prototype(btf: &btf_rs::Btf, mut id: u32) -> Option<btf_rs::FuncProto> {
    loop {
        let (_, ty) = rs_skip(btf, id);
        match ty {
            btf_rs::Type::FuncProto(proto) => return Some(proto),
            btf_rs::Type::Ptr(_) | btf_rs::Type::Typedef(_) => {
                id = ty.as_btf_type().and_then(BtfType::get_type_id)?;
            }
            _ => return None,
        }
    }
}

fn rs_name(btf: &btf_rs::Btf, named: &dyn BtfType) -> u64 {
    btf.resolve_name(named).map_or(0, |name| name.len() as u64)
}

fn rs_members(btf: &btf_rs::Btf, id: u32) -> u64 {
    let Ok(btf_rs::Type::Struct(ops)) = btf.resolve_type_by_id(id) else {
        return 0;
    };
    let mut sum = 0;
    for member in &ops.members {
        sum += rs_name(btf, member) + u64::from(member.bit_offset());
        let target = member.get_type_id().expect("members have a type");
        if let Some(proto) = rs_prototype(btf, target) {
            sum += proto.parameters.len() as u64;
        }
    }
    sum
}

fn rs_walk(btf: &btf_rs::Btf) -> Walk {
    let mut walk = Walk::default();
    // Its iterator needs a crate more, and does the same.
    for id in 1..=btf.base().type_id_range().1 {
        let ty = btf.resolve_type_by_id(id).expect("the kernel's types");
        walk.types += 1;
        walk.bytes += ty.as_btf_type().map_or(0, |ty| rs_name(btf, ty));
        let mut element = |element: &dyn BtfType| {
            walk.elements += 1;
            walk.bytes += rs_name(btf, element);
            if let Some(id) = element.get_type_id() {
                walk.targets += u64::from(rs_skip(btf, id).0);
            }
        };
        match &ty {
            btf_rs::Type::Struct(ty) | btf_rs::Type::Union(ty) => {
                ty.members.iter().for_each(|member| element(member));
            }
            btf_rs::Type::Enum(ty) => ty.members.iter().for_each(|value| element(value)),
            btf_rs::Type::Enum64(ty) => ty.members.iter().for_each(|value| element(value)),
            btf_rs::Type::FuncProto(ty) => ty.parameters.iter().for_each(|param| element(param)),
            _ => {}
        }
    }
    walk
}

/// Calls something that takes a reader with the one of that name.
#[macro_export]
macro_rules! with_reader {
    ($name:expr, $call:ident($($argument:expr),*)) => {
        match $name {
            "floor" => $call::<$crate::btf_c::Floor>($($argument),*),
            "libbpf" => $call::<$crate::btf_c::Libbpf>($($argument),*),
            "aya-obj" => $call::<$crate::btf::Aya>($($argument),*),
            "btf-rs Cache" => $call::<$crate::btf::RsCache>($($argument),*),
            "btf-rs Mmap" => $call::<$crate::btf::RsMmap>($($argument),*),
            "bpfsmith" => $call::<$crate::btf::Smith>($($argument),*),
            name => panic!("there is no peer {name:?}"),
        }
    };
}

/// The peers, by name.
pub const PEERS: [&str; 6] = [
    "floor",
    "libbpf",
    "aya-obj",
    "btf-rs Cache",
    "btf-rs Mmap",
    "bpfsmith",
];
