//! A map whose values hold one of everything, described by BTF.

use bpfsmith_btf::{Builder, IntEncoding, NewMember, Number, TypeId};
use bpfsmith_sys::map::{Create, Map};
use bpfsmith_sys::misc::load_btf;
use bpfsmith_sys::prog::Log;
use bpfsmith_uapi::MapType;
use std::os::fd::{AsFd, AsRawFd};

/// The types of a value that holds one of everything.
fn rich() -> (Vec<u8>, TypeId, TypeId) {
    let mut b = Builder::new();
    let u32 = b.number(Number::U32);
    let (u8, u16, u64) = (
        b.number(Number::U8),
        b.number(Number::U16),
        b.number(Number::U64),
    );
    let (i32, i64) = (b.number(Number::I32), b.number(Number::I64));
    let (bool, char) = (b.number(Number::Bool), b.number(Number::Char));
    let wide = b.int("unsigned__int128", 16, IntEncoding::UNSIGNED);
    let colour = b.enumeration("colour", 4, &[("RED", -1), ("GREEN", 2)]);
    let large = b.enumeration("large", 8, &[("FAR", 1 << 40)]);
    let comm = b.list(char, 8);
    let list = b.list(u16, 3);
    let grid = b.list(list, 2);
    let tail = b.list(u32, 0);
    let inner = b.structure("inner", 16, [("x", i64, 0), ("y", i32, 8)]);
    let nameless = b.structure("", 8, [("low", u32, 0), ("high", u32, 4)]);
    let union = b.union("", 8, [("", nameless, 0), ("whole", u64, 0)]);
    let alias = b.typedef("alias", u32);
    let constant = b.constant(alias);
    let plain = |name, ty, offset| NewMember::from((name, ty, offset));
    let bit = |name, ty, bit_offset, bits| NewMember {
        name,
        ty,
        bit_offset,
        bits: Some(bits),
    };
    let value = b.structure(
        "value",
        128,
        [
            plain("wide", wide, 0),
            plain("inner", inner, 16),
            plain("", union, 32),
            plain("comm", comm, 40),
            plain("grid", grid, 48),
            plain("ok", bool, 60),
            plain("colour", colour, 64),
            plain("large", large, 72),
            bit("b1", u32, 80 * 8, 3),
            bit("b2", i32, 80 * 8 + 3, 10),
            bit("b3", u64, 84 * 8 + 5, 25),
            bit("b4", u8, 88 * 8 + 7, 1),
            plain("alias", constant, 92),
            plain("signed", i64, 96),
            plain("inners", inner, 104),
            plain("tail", tail, 128),
        ],
    );
    (b.build().expect("BTF"), u32, value)
}

/// Bytes in which every member is something special.
fn rich_value() -> Vec<u8> {
    let mut bytes = vec![0; 128];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    put(0, &(u128::from(u64::MAX) + 5).to_ne_bytes());
    put(16, &(-7_i64).to_ne_bytes());
    put(24, &(-8_i32).to_ne_bytes());
    put(32, &0x0000_0002_0000_0001_u64.to_ne_bytes());
    put(40, b"sh\0\0\0\0\0\0");
    for index in 0..6_u16 {
        put(48 + usize::from(index) * 2, &(index * 11).to_ne_bytes());
    }
    put(60, &[1]);
    put(64, &(-1_i32).to_ne_bytes());
    put(72, &(1_u64 << 40).to_ne_bytes());
    // b1 = 5, b2 = -3; b3 = 0x1234567, b4 = 1.
    put(
        80,
        &(5_u32 | ((-3_i32).cast_unsigned() & 0x3ff) << 3).to_ne_bytes(),
    );
    put(84, &(0x0123_4567_u64 << 5 | 1 << 39).to_ne_bytes());
    put(92, &77_u32.to_ne_bytes());
    put(96, &i64::MIN.to_ne_bytes());
    put(104, &9_i64.to_ne_bytes());
    bytes
}

/// The map with one entry, 3, and its number.
pub(crate) fn map() -> (Map, String) {
    let (blob, key, value) = rich();
    let mut log = Log {
        level: 0,
        buffer: &mut [],
        true_size: 0,
    };
    let btf = load_btf(&blob, &mut log, None).expect("BTF");
    let map = Map::create(&Create {
        kind: MapType::HASH.0,
        key: 4,
        value: 128,
        entries: 4,
        flags: 0,
        name: *b"bs_btfcli_rich\0\0",
        inner: None,
        numa_node: 0,
        ifindex: 0,
        btf: Some((btf.as_fd(), key.0, value.0)),
        kernel_value_type: 0,
        module_btf: None,
        extra: 0,
        token: None,
        exclusive: &[],
    })
    .expect("a map");
    map.update(&3_u32.to_ne_bytes(), &rich_value(), 0)
        .expect("an entry");
    let path = format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd());
    let info = std::fs::read_to_string(path).expect("information");
    let id = info.lines().find_map(|line| line.strip_prefix("map_id:"));
    (map, id.expect("a number").trim().to_owned())
}
