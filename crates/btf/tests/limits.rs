//! Small bytes that mean a lot: types that repeat and contain each other, names that are shared. All
//! questions end soon, with an answer of a bearable length or with an error that says why there is none.

#[path = "support/exercise.rs"]
mod exercise;

use bpfsmith_btf::{
    Btf, Builder, Error, Header, IntEncoding, Kind, Linkage, NewMember, Number, TypeId, Variable,
};
use std::time::Duration;

/// A question may keep the processor busy for so long without optimisation. The slowest take about a
/// second; what is not bounded takes years.
const SOON: Duration = Duration::from_secs(20);

/// The longest text that a question may be answered with.
const LONG: usize = 32 << 20;

/// The longest name that can be read.
fn long_name() -> String {
    "n".repeat(16_383)
}

/// How long this thread has run so far, other work on the machine not counted.
fn busy() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("our own times");
    let nanoseconds = stat.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

fn ask<T>(what: &str, question: impl FnOnce() -> T) -> T {
    let start = busy();
    let answer = question();
    let took = busy() - start;
    if took > SOON / 50 {
        println!("{what} took {took:?}");
    }
    assert!(took < SOON, "{what} took {took:?}");
    answer
}

/// Asks everything about a type, and gives back the errors. None of them is unexpected.
fn about(btf: &Btf, id: TypeId, value: &[u8]) -> Vec<Error> {
    let mut errors = Vec::new();
    let texts = [
        ("spell", ask("spell", || btf.spell(id, "x"))),
        ("define", ask("define", || btf.define(id))),
        ("places", ask("places", || btf.define_with_places(id))),
        ("raw", ask("raw", || btf.raw(id))),
        ("show", ask("show", || btf.show(id, value))),
        ("header", ask("header", || Header::new(btf).add(id))),
    ];
    for (what, text) in texts {
        match text {
            Ok(text) => assert!(text.len() < LONG, "{what}: {} bytes", text.len()),
            Err(error) => errors.push(error),
        }
    }
    errors.extend(ask("member", || btf.member(id, "missing").err()));
    errors.extend(ask("align_of", || btf.align_of(id).err()));
    errors.extend(ask("size_of", || btf.size_of(id).err()));
    errors.extend(ask("prototype", || btf.prototype(id).err()));
    for error in &errors {
        assert!(
            matches!(
                error,
                Error::TooDeep(_)
                    | Error::TooLong { .. }
                    | Error::TooLarge(_)
                    | Error::NoSize { .. }
                    | Error::NoMember { .. }
                    | Error::NotComposite { .. }
            ),
            "{error}"
        );
    }
    let found = ask("find", || btf.find("missing", Kind::STRUCT));
    let constant = ask("find_constant", || btf.find_constant("missing"));
    assert!(found.is_none() && constant.is_none());
    ask("copy", || {
        let mut b = Builder::new();
        for ty in btf.types() {
            b.copy(&ty);
        }
        let again = parse(&b);
        assert_eq!(again.len(), btf.len());
    });
    errors
}

fn parse(b: &Builder) -> Btf {
    Btf::parse(b.build().expect("bytes")).expect("BTF")
}

fn is_deep(errors: &[Error]) -> bool {
    errors
        .iter()
        .any(|error| matches!(error, Error::TooDeep(_)))
}

/// Each structure holds the next one twice, or as often as it can.
#[test]
fn structures_that_multiply_end() {
    for (width, name) in [
        (2, ""),
        (2, "a"),
        (60_000, ""),
        (60_000, "a"),
    ] {
        for depth in [4, 62, 90] {
            let mut b = Builder::new();
            for next in (2..).take(depth) {
                b.structure("", 4, (0..width).map(|_| (name, TypeId(next), 0)));
            }
            b.number(Number::U32);
            let errors = about(&parse(&b), TypeId(1), &[0; 4]);
            assert!(depth == 4 || is_deep(&errors));
        }
    }
}

#[test]
fn prototypes_that_multiply_end() {
    let mut b = Builder::new();
    for next in (2..61).map(TypeId) {
        b.func_proto(next, &[("a", next), ("b", next)]);
    }
    let int = b.number(Number::U32);
    b.func_proto(int, &vec![("a", int); 60_000]);
    let btf = parse(&b);
    assert!(is_deep(&about(&btf, TypeId(1), &[])));
    let text = btf.spell(TypeId(61), "f").expect("a wide prototype");
    assert_eq!(text.matches("u32 a").count(), 60_000);
}

/// Arrays of arrays of nothing.
#[test]
fn arrays_that_multiply_end() {
    let mut b = Builder::new();
    let mut id = b.structure("nothing", 0, [] as [(&str, TypeId, u32); 0]);
    for _ in 0..31 {
        id = b.list(id, 2);
    }
    assert!(is_deep(&about(&parse(&b), id, &[])));
}

#[test]
fn shared_names_are_read_in_bounded_time() {
    let name = long_name();
    let mut b = Builder::new();
    let int = b.number(Number::U32);
    let mut last = int;
    for _ in 0..2 {
        last = b.structure(&name, 4, (0..60_000).map(|_| (name.as_str(), int, 0)));
    }
    let errors = about(&parse(&b), last, &[0; 4]);
    assert!(
        matches!(
            errors[2],
            Error::TooLong {
                limit: 0x0100_0000,
                ..
            }
        ),
        "{errors:?}"
    );
    let mut b = Builder::new();
    for _ in 0..80_000 {
        last = b.structure(&name, 4, [] as [(&str, TypeId, u32); 0]);
    }
    let btf = parse(&b);
    about(&btf, last, &[0; 4]);
    let mut header = Header::new(&btf);
    let renamed = ask("header", || header.add(last)).expect("a definition");
    assert!(renamed.len() < 400, "{} bytes", renamed.len());
    let mut b = Builder::new();
    let values = vec![(name.as_str(), 1); 60_000];
    for _ in 0..2 {
        last = b.enumeration("e", 4, &values);
    }
    let list = b.list(last, 10_000);
    let btf = parse(&b);
    about(&btf, last, &[0; 4]);
    about(&btf, list, &[0; 40_000]);
}

/// The same thing with a long name, as often as a section can hold it.
#[test]
fn sections_that_repeat_one_variable_end() {
    let name = long_name();
    let mut b = Builder::new();
    let int = b.number(Number::U32);
    let types = [
        b.var(&name, int, Linkage::STATIC),
        b.structure(&name, 0, [] as [(&str, TypeId, u32); 0]),
        b.enumeration(&name, 4, &[]),
        b.decl_tag(&name, int, None),
        b.float(&name, 4),
    ];
    for ty in types {
        let variable = Variable {
            ty,
            offset: 0,
            size: 4,
        };
        let section = b.data_sec(".data", 4, &vec![variable; 60_000]);
        assert!(is_deep(&about(&parse(&b), section, &[0; 4])));
    }
}

/// Many members that lie over the same megabyte.
#[test]
fn values_that_are_shown_repeatedly_end() {
    let value = vec![b'a'; 1 << 20];
    let mut b = Builder::new();
    let char = b.number(Number::Char);
    for ty in [
        b.list(char, 1 << 20),
        b.int("wide", 1 << 20, IntEncoding::UNSIGNED),
        b.float("wide", 1 << 20),
    ] {
        let id = b.union("u", 1 << 20, (0..60_000).map(|_| ("m", ty, 0)));
        let btf = parse(&b);
        assert!(is_deep(&about(&btf, id, &value)));
        let once = btf.show(ty, &value).expect("one of them");
        assert_eq!(once.len(), (1 << 20) + 2);
    }
}

#[test]
fn long_ways_to_a_type_end() {
    let name = long_name();
    let mut b = Builder::new();
    let mut id = b.number(Number::U32);
    for _ in 0..60 {
        id = b.typedef(&name, id);
    }
    let list = b.list(id, 200_000);
    about(&parse(&b), list, &vec![0; 800_000]);

    let mut b = Builder::new();
    let mut id = b.number(Number::U32);
    for _ in 0..60 {
        for _ in 0..60 {
            id = b.constant(id);
        }
        id = b.list(id, 0);
    }
    for member in ["a", ""] {
        let of = b.structure("s", 4, (0..60_000).map(|_| (member, id, 0)));
        about(&parse(&b), of, &[0; 4]);
    }

    let mut b = Builder::new();
    let mut id = b.number(Number::U32);
    for _ in 0..60 {
        id = b.type_tag(&name, id);
    }
    let of = b.structure("s", 4, (0..60_000).map(|_| ("a", id, 0)));
    assert!(is_deep(&about(&parse(&b), of, &[0; 4])));
}

/// Widths and places that no number has.
#[test]
fn odd_bit_fields_and_numbers_are_shown() {
    let mut b = Builder::new();
    let int = b.number(Number::U32);
    for bits in 0..=255 {
        for bit_offset in [0, 7, 0x00ff_ffff] {
            let member = NewMember {
                name: "a",
                ty: int,
                bit_offset,
                bits: Some(bits),
            };
            b.structure("s", 64, [member]);
        }
    }
    for size in (0..40).chain([u32::MAX]) {
        b.int("i", size, IntEncoding::SIGNED);
        b.float("f", size);
        let list = b.list(int, size);
        b.structure("s", size, [("a", list, size)]);
    }
    let bytes = b.build().expect("bytes");
    assert!(exercise::print(&bytes, &[0xff; 96]));
}
