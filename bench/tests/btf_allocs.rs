//! How often a reader of the kernel's types allocates, exactly. Needs no privilege, but Linux 6.16.

use bpfsmith_bench::btf::{OPS, Query, Reader, Smith};
use bpfsmith_bench::count::{Counting, allocations};
use bpfsmith_btf::{Btf, Builder, Kind, Number};
use std::sync::Arc;

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn opening_allocates_for_the_places_of_the_types_alone() {
    let bytes = std::fs::read(bpfsmith_bench::btf::PATH).expect("the kernel's BTF");
    // The vector grows once, to what is certainly enough, and is then cut.
    let open = || Btf::parse(bytes.as_slice()).expect("BTF");
    assert_eq!(allocations(open), 2);
    assert_eq!(open().extra_bytes(), open().len() * 4);
}

#[test]
fn the_first_lookup_allocates_for_the_index_and_no_other_does() {
    let smith = Smith::open();
    let queries = [
        Query::new(OPS, Kind::STRUCT),
        Query::new("no such name", Kind::FUNC),
    ];
    let before = smith.btf().extra_bytes();
    assert_eq!(allocations(|| smith.find(&queries[0])), 2);
    println!(
        "index: {} bytes for {} types",
        smith.btf().extra_bytes() - before,
        smith.btf().len()
    );
    // A link for each type, and at most three list heads for each name.
    assert!(smith.btf().extra_bytes() - before <= smith.btf().len() * 16);
    for query in &queries {
        assert_eq!(allocations(|| smith.find(query)), 0, "{}", query.name);
    }
}

#[test]
fn looking_at_everything_allocates_nothing() {
    let smith = Smith::open();
    let ops = smith.find(&Query::new(OPS, Kind::STRUCT));
    assert_eq!(allocations(|| smith.members(ops)), 0);
    assert_eq!(allocations(|| smith.walk()), 0);
}

/// A module costs what it has itself, however large the kernel's types are.
#[test]
fn split_types_cost_what_they_add() {
    let bytes = std::fs::read(bpfsmith_bench::btf::PATH).expect("the kernel's BTF");
    let base = Arc::new(Btf::parse(bytes).expect("BTF"));
    let mut builder = Builder::on(&base);
    let number = builder.number(Number::U32);
    builder.structure("mine", 4, [("x", number, 0)]);
    let bytes = builder.build().expect("bytes");
    let base_of = || (bytes.clone(), base.clone());
    let (own, of) = base_of();
    assert_eq!(allocations(|| Btf::parse_split(own, of).expect("BTF")), 2);
    let (own, of) = base_of();
    let split = Btf::parse_split(own, of).expect("BTF");
    assert_eq!(split.extra_bytes(), 8);
    assert!(split.find_struct("mine").is_some());
    assert!(split.extra_bytes() < 100);
}
