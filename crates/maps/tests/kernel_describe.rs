//! Types of keys and values, told to the kernel.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod every_kind;

use bpfsmith_btf::{Btf, Builder, Kind, Number, TypeId};
use bpfsmith_gate::{Need, allows, needs};
use bpfsmith_maps::{Described, Handle, LpmKey, Map, SpinLock};
use bpfsmith_sys::map::Create;
use bpfsmith_sys::prog::Log;
use bpfsmith_sys::{info, misc, object};
use bpfsmith_uapi::map::MapDef;
use bpfsmith_uapi::{Errno, MapType};
use std::os::fd::AsFd;
use zerocopy::{FromBytes, Immutable, IntoBytes};

bpfsmith_uapi::record! {
    /// A connection.
    #[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
    struct Conn {
        pid: u32,
        ports: [u16; 2],
        balance: i64,
    }
}

bpfsmith_uapi::record! {
    /// A counter with its lock.
    #[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable)]
    struct Guarded {
        lock: SpinLock,
        count: u32,
    }
}

static CONNS: MapDef<u32, Conn> = MapDef::hash("bs_maps_conns", 8).described();
static GUARDED: MapDef<u32, Guarded> = MapDef::hash("bs_maps_guarded", 8).described();

/// The same map with types, whatever our table says about its kind.
fn create_with_types(kind: MapType) -> Result<(), Errno> {
    let shape = every_kind::shape(kind);
    let mut builder = Builder::new();
    let number = builder.number(Number::U32);
    let words = builder.list(number, shape.value / 4);
    let value = if shape.value > 4 { words } else { number };
    let key = if shape.key == 0 { TypeId(0) } else { number };
    let mut log = Log::default();
    let btf = misc::load_btf(&builder.build().unwrap(), &mut log, None).unwrap();
    let inner = Handle::create(every_kind::INNER.shape()).unwrap();
    let create = Create {
        kind: kind.0,
        key: shape.key,
        value: shape.value,
        entries: shape.entries,
        flags: shape.flags,
        inner: shape.inner.map(|_| inner.as_fd()),
        btf: Some((btf.as_fd(), key.0, value.0)),
        ..Create::default()
    };
    match bpfsmith_sys::map::Map::create(&create) {
        Ok(_) => Ok(()),
        Err(failed) => Err(failed.errno),
    }
}

#[test]
fn each_kind_takes_types_or_refuses_them() {
    needs!(Root);
    for &kind in MapType::ALL {
        if matches!(kind, MapType::UNSPEC | MapType::STRUCT_OPS) {
            continue;
        }
        let since = match kind {
            MapType::CGRP_STORAGE => &[Need::CgroupStorage][..],
            MapType::ARENA => &[Need::Arena],
            MapType::USER_RINGBUF => &[Need::UserRingbuf],
            _ => &[],
        };
        if !allows("kernel_describe::each_kind", since) {
            continue;
        }
        let map = Handle::create(&every_kind::shape(kind)).unwrap_or_else(|e| panic!("{e}"));
        match map.described() {
            Described::Yes => assert_ne!(map.info().unwrap().btf_id, 0, "{kind}"),
            Described::NotForKind => {
                assert_eq!(map.info().unwrap().btf_id, 0, "{kind}");
                let refused = create_with_types(kind).expect_err("the kernel takes types");
                assert!(
                    matches!(refused, Errno::ENOTSUPP | Errno::EINVAL),
                    "{kind}: {refused}"
                );
            }
            Described::No => panic!("{kind}: the shape is described"),
        }
    }
}

#[test]
fn the_kernel_gives_the_members_back() {
    needs!(Root);
    let conns = Map::create(&CONNS).unwrap();
    assert_eq!(conns.described(), Described::Yes);
    let info = conns.info().unwrap();
    let fd = object::open_id(object::Kind::Btf, info.btf_id, 0, None).unwrap();
    let btf = Btf::parse(info::btf_bytes(fd.as_fd()).unwrap()).unwrap();
    let conn = btf.find("Conn", Kind::STRUCT).unwrap();
    assert_eq!(conn, TypeId(info.btf_value_type_id));
    assert_ne!(info.btf_key_type_id, 0);
    let place = |path| btf.member(conn, path).unwrap().offset();
    assert_eq!(
        (place("pid"), place("ports"), place("balance")),
        (Some(0), Some(4), Some(8))
    );
}

#[test]
fn bpftool_prints_the_members() {
    needs!(Root);
    let conns = Map::create(&CONNS).unwrap();
    let conn = Conn {
        pid: 77,
        ports: [80, 443],
        balance: -5,
    };
    conns.update(&3, &conn).unwrap();
    let id = conns.info().unwrap().id.to_string();
    let Ok(out) = std::process::Command::new("bpftool")
        .args(["map", "dump", "id", &id])
        .output()
    else {
        eprintln!("SKIP bpftool_prints_the_members: bpftool is not installed");
        return;
    };
    let text: String = String::from_utf8(out.stdout)
        .unwrap()
        .split_whitespace()
        .collect();
    let members = r#""value":{"pid":77,"ports":[80,443],"balance":-5}"#;
    assert!(text.contains(members), "{text}");
    assert!(text.contains(r#""key":3"#), "{text}");
}

#[test]
fn values_are_copied_under_their_lock() {
    needs!(Root);
    let guarded = Map::create(&GUARDED).unwrap();
    let of = |count| Guarded {
        lock: SpinLock::default(),
        count,
    };
    guarded.update(&1, &of(4)).unwrap();
    let locked = guarded.locked();
    assert_eq!(locked.lookup(&1).unwrap(), Some(of(4)));
    locked.update(&1, &of(5)).unwrap();
    assert!(locked.replace(&1, &of(6)).unwrap());
    assert!(!locked.replace(&2, &of(6)).unwrap());
    assert!(!locked.insert(&1, &of(7)).unwrap());
    assert_eq!(guarded.lookup(&1).unwrap(), Some(of(6)));
    assert_eq!(locked.lookup(&9).unwrap(), None);
}

#[test]
fn a_prefix_has_members_too() {
    needs!(Root);
    static ROUTES: MapDef<LpmKey<[u8; 4]>, u32> = MapDef::lpm_trie("bs_maps_routes", 4).described();
    assert_eq!(Map::create(&ROUTES).unwrap().described(), Described::Yes);
}
