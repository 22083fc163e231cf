//! Broken bytes: every way to read them ends with an answer or an error, never with a panic, and no
//! walk goes on for ever.

use bpfsmith_btf::{Btf, Builder, Error, Ext, Kind, Line, Number, Order, TypeId};
use bpfsmith_gate::needs;
use proptest::prelude::*;

#[path = "support/exercise.rs"]
mod exercise;
#[path = "support/seeds.rs"]
mod seeds;

fn read(bytes: &[u8]) {
    exercise::ext(bytes);
    exercise::alone(bytes);
}

fn sample() -> Vec<u8> {
    seeds::every_kind(Order::HOST)
}

#[test]
fn the_sample_has_every_kind() {
    let bytes = sample();
    let btf = Btf::parse(bytes.as_slice()).expect("BTF");
    for kind in &Kind::ALL[1..] {
        assert!(btf.types().any(|ty| ty.kind() == *kind), "{kind}");
    }
    assert!(exercise::alone(&bytes));
}

#[test]
fn every_truncation_and_every_bit_flip_is_survived() {
    for order in [Order::Little, Order::Big] {
        let (program, ext) = seeds::program(order);
        for mut bytes in [seeds::every_kind(order), program, ext] {
            for len in 0..bytes.len() {
                read(&bytes[..len]);
            }
            // The same code reads both, so some bits suffice for one of them.
            let step = if order == Order::HOST { 1 } else { 5 };
            for bit in (0..bytes.len() * 8).step_by(step) {
                bytes[bit / 8] ^= 1 << (bit % 8);
                read(&bytes);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

#[test]
fn cycles_end() {
    let mut b = Builder::new();
    let me = b.next_id();
    b.typedef("loop", me);
    let me = b.next_id();
    let array = b.array(me, me, 1);
    let inside = b.next_id();
    b.structure("inside", 4, [("", inside, 0)]);
    let bytes = b.build().expect("bytes");
    let btf = Btf::parse(bytes.as_slice()).expect("BTF");
    assert!(exercise::alone(&bytes));
    assert_eq!(
        btf.resolve(TypeId(1)).expect_err("a cycle"),
        Error::TooDeep(TypeId(1))
    );
    assert_eq!(btf.size_of(array), Err(Error::TooDeep(array)));
    assert!(matches!(btf.member(inside, "x"), Err(Error::TooDeep(_))));
    assert!(matches!(btf.align_of(inside), Err(Error::TooDeep(_))));
}

/// Each structure holds the next one a hundred times: without a budget this takes for ever.
#[test]
fn wide_and_deep_structures_end() {
    let mut b = Builder::new();
    for level in 1..40 {
        let next = TypeId(level + 1);
        b.structure("s", 4, (0..100).map(|_| ("", next, 0)));
    }
    b.number(Number::U32);
    let bytes = b.build().expect("bytes");
    let btf = Btf::parse(bytes.as_slice()).expect("BTF");
    assert!(matches!(btf.align_of(TypeId(1)), Err(Error::TooDeep(_))));
    assert!(matches!(btf.member(TypeId(1), "x"), Err(Error::TooDeep(_))));
    assert!(matches!(
        btf.show(TypeId(1), &[0; 4]),
        Err(Error::TooDeep(_))
    ));
}

/// Half a million types of one name: a table that probes would look at each pair.
#[test]
fn equal_names_do_not_make_the_index_slow() {
    let mut b = Builder::new();
    for _ in 0..500_000 {
        b.typedef("same", TypeId::VOID);
    }
    let last = b.typedef("other", TypeId::VOID);
    let bytes = b.build().expect("bytes");
    let btf = Btf::parse(bytes.as_slice()).expect("BTF");
    assert_eq!(btf.find_typedef("same"), Some(TypeId(1)));
    assert_eq!(btf.find_typedef("other"), Some(last));
    assert_eq!(btf.own_named("same").count(), 500_000);
}

#[test]
fn headers_that_lie_are_refused() {
    let good = sample();
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        Btf::parse(bad).expect_err("broken").to_string()
    };
    let max = u32::MAX.to_ne_bytes();
    assert!(with(0, &[1]).contains("instead of eb9f"));
    assert!(with(2, &[2]).contains("version 2"));
    assert!(with(4, &23_u32.to_ne_bytes()).contains("a header of 23 bytes"));
    assert!(with(4, &max).contains("the header alone needs"));
    assert!(with(8, &max).contains("type section"));
    assert!(with(20, &max).contains("string section"));
    assert!(with(good.len() - 1, b"x").contains("does not end with a zero byte"));
    assert_eq!(
        with(28, &(31_u32 << 24).to_ne_bytes()),
        "read BTF: type #1 at 0 is of the unknown kind 31"
    );
    assert!(with(28, &(4_u32 << 24 | 0xffff).to_ne_bytes()).contains("type #1 at 0 does not end"));
}

/// A newer header says how long the records of kinds are that nobody here knows.
#[test]
fn the_layout_section_leads_over_unknown_kinds() {
    let mut bytes = Vec::new();
    let word = |bytes: &mut Vec<u8>, word: u32| bytes.extend(word.to_le_bytes());
    bytes.extend([0x9f, 0xeb, 1, 0]);
    // Types: kind 20 with 4 + 2 * 8 bytes, and a pointer; then strings; then 21 layout entries.
    let (types, strings, layout) = (12 + 4 + 16 + 12, 4, 21 * 4);
    for value in [
        32,
        0,
        types,
        types,
        strings,
        types + strings,
        layout,
    ] {
        word(&mut bytes, value);
    }
    for value in [1, 20 << 24 | 2, 0, 0, 0, 0, 0, 0] {
        word(&mut bytes, value);
    }
    for value in [0, 2 << 24, 0] {
        word(&mut bytes, value);
    }
    bytes.extend(b"\0ab\0");
    for kind in 0..21 {
        bytes.extend(if kind == 20 {
            [4, 8, 0, 0]
        } else {
            [9, 9, 9, 9]
        });
    }
    let btf = Btf::parse(bytes.as_slice()).expect("BTF");
    assert_eq!(btf.len(), 2);
    assert_eq!(btf.find("ab", Kind(20)), Some(TypeId(1)));
    assert_eq!(btf.get(TypeId(2)).expect("a type").kind(), Kind::PTR);
    assert!(exercise::alone(&bytes));
}

/// A part of the kernel's types, with its header made to fit.
fn slice(all: &[u8], from: usize, count: usize) -> Vec<u8> {
    let btf = Btf::parse(all).expect("BTF");
    let mut builder = Builder::new();
    for ty in btf.types().skip(from).take(count) {
        builder.copy(&ty);
    }
    builder.build().expect("bytes")
}

#[test]
fn mutations_of_the_kernels_types_are_survived() {
    needs!(Btf);
    let all = std::fs::read("/sys/kernel/btf/vmlinux").expect("the kernel's BTF");
    let slices: Vec<_> = (0..8).map(|n| slice(&all, n * 15_000, 100)).collect();
    let cases = std::env::var("PROPTEST_CASES").map_or(2000, |cases| cases.parse().unwrap());
    proptest!(ProptestConfig::with_cases(cases), |(
        which in 0..slices.len(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::weighted(0.2, any::<proptest::sample::Index>()),
    )| {
        let mut bytes = slices[which].clone();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read(&bytes);
    });
}

proptest! {
    #[test]
    fn random_bytes_are_survived(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        header in any::<bool>(),
    ) {
        if header && bytes.len() >= 24 {
            // The records and the strings meet somewhere behind the header.
            let body = u32::try_from(bytes.len() - 24).unwrap();
            let types = u32::from(bytes[0]) % (body + 1);
            let words = [24, 0, types, types, body - types];
            bytes[..4].copy_from_slice(&[0x9f, 0xeb, 1, 0]);
            for (chunk, word) in bytes[4..24].chunks_mut(4).zip(words) {
                chunk.copy_from_slice(&word.to_le_bytes());
            }
        }
        read(&bytes);
    }
}

/// Many members that share one long name: texts stay small, and longer names are refused.
#[test]
fn long_names_do_not_fill_the_memory() {
    let build = |len: usize| {
        let mut b = Builder::new();
        let name = "n".repeat(len);
        let int = b.number(Number::U32);
        b.structure("s", 4, (0..1000).map(|_| (name.as_str(), int, 0)));
        b.build().expect("bytes")
    };
    let bytes = build(16_000);
    let btf = Btf::parse(bytes.as_slice()).expect("BTF");
    assert!(matches!(btf.define(TypeId(2)), Err(Error::TooDeep(_))));
    assert!(matches!(
        btf.show(TypeId(2), &[0; 4]),
        Err(Error::TooDeep(_))
    ));
}

/// The limit is the same wherever in the section the name lies, and for what is written and read.
#[test]
fn names_end_at_their_limit() {
    const MOST: usize = 16_383;
    for before in [0, 1, 8191, 8192, 16_000] {
        let mut b = Builder::new();
        b.typedef(&"a".repeat(before), TypeId::VOID);
        b.typedef(&"n".repeat(MOST), TypeId::VOID);
        let mut bytes = b.build().expect("bytes");
        let btf = Btf::parse(bytes.as_slice()).expect("BTF");
        assert_eq!(btf.get(TypeId(2)).expect("a type").name().len(), MOST);
        b.typedef(&"x".repeat(MOST + 1), TypeId::VOID);
        let error = b.build().expect_err("a long name").to_string();
        assert_eq!(
            error,
            "build BTF: the name \"xxxxxxxxxxxxxxxx\"... has 16384 bytes, and 16383 are the most"
        );
        // One byte more: the zero at the end moves.
        bytes.pop();
        bytes.extend(b"n\0");
        let strings = u32::from_ne_bytes(bytes[20..24].try_into().expect("a word")) + 1;
        bytes[20..24].copy_from_slice(&strings.to_ne_bytes());
        let error = Btf::parse(bytes.as_slice()).expect_err("a long name");
        assert!(
            error.to_string().contains("more than 16383 bytes"),
            "{error}"
        );
    }
}

/// Lines of source may be longer than names.
#[test]
fn long_lines_are_cut() {
    let mut b = Builder::new();
    let text = format!("a{}", "é".repeat(10_000));
    let line = Line {
        slot: 0,
        file: "a.rs",
        line: 1,
        column: 1,
        text: &text,
    };
    let lines = b.line_info([line]);
    let bytes = b.build().expect("bytes");
    let btf = Btf::parse(bytes.as_slice()).expect("BTF");
    let at = Order::HOST.u32_at(&lines, 8).expect("a record");
    let kept = btf.name_at(at).to_str().expect("text");
    assert!(kept.len() == 16_383 && text.starts_with(kept));
}

/// An array of nothing has as many elements as it likes.
#[test]
fn long_arrays_of_nothing_end() {
    let mut b = Builder::new();
    let nothing = b.structure("nothing", 0, [] as [(&str, TypeId, u32); 0]);
    let list = b.list(nothing, u32::MAX);
    let bytes = b.build().expect("bytes");
    let btf = Btf::parse(bytes.as_slice()).expect("BTF");
    assert_eq!(btf.size_of(list), Ok(0));
    assert!(matches!(btf.show(list, &[]), Err(Error::TooDeep(_))));
}

/// The section of an object file, as a compiler writes it.
#[test]
fn records_of_object_files_are_read() {
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    let words = [
        32,
        0,
        28,
        28,
        28,
        56,
        28, // Header: three parts of 28 bytes.
        8,
        1,
        2,
        0,
        7,
        16,
        9, // Functions at 0 and 16.
        16,
        1,
        1,
        8,
        3,
        4,
        12 << 10 | 5, // A line.
        16,
        1,
        1,
        24,
        6,
        2,
        0, // A relocation.
    ];
    bytes.extend(words.iter().flat_map(|word: &u32| word.to_le_bytes()));
    let ext = Ext::parse(bytes.as_slice()).expect("records");
    let funcs: Vec<_> = ext
        .funcs()
        .map(|func| (func.section, func.offset, func.func))
        .collect();
    assert_eq!(funcs, [(1, 0, TypeId(7)), (1, 16, TypeId(9))]);
    let line = ext.lines().next().expect("a line");
    assert_eq!(
        (line.offset, line.file, line.text, line.line, line.column),
        (8, 3, 4, 12, 5)
    );
    let relo = ext.relos().next().expect("a relocation");
    assert_eq!(
        (relo.offset, relo.ty, relo.access, relo.kind),
        (24, TypeId(6), 2, 0)
    );
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        read(&flipped);
    }
    let cut = Ext::parse(&bytes[..bytes.len() - 4]).expect_err("cut off");
    assert!(cut.to_string().contains("core_relo section"), "{cut}");
}
