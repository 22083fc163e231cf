//! Reading and building are inverse: the kernel's own types come out byte for byte.

#[path = "support/excerpt.rs"]
mod excerpt;
#[path = "support/exercise.rs"]
mod exercise;
#[path = "support/seeds.rs"]
mod seeds;

use bpfsmith_btf::{Btf, Builder, Error, Ext, Kind, Order, Shape, TypeId};
use bpfsmith_gate::needs;
use std::collections::HashMap;
use std::sync::Arc;

fn kernel() -> Vec<u8> {
    std::fs::read("/sys/kernel/btf/vmlinux").expect("the kernel's BTF")
}

/// Adds the names of some BTF in their order, so that each gets the offset that it has there.
fn intern(b: &mut Builder, btf: &Btf) {
    let mut at = 1;
    while (at as usize) < btf.strings_len() {
        let name = btf.name_at(at);
        let text = name.to_str().expect("text");
        assert_eq!(b.string(text), at, "{text} is there twice");
        at += u32::try_from(name.len()).expect("a length") + 1;
    }
}

fn rebuilt(btf: &Btf, order: Order) -> Vec<u8> {
    let mut b = Builder::with_order(order);
    intern(&mut b, btf);
    for ty in btf.types() {
        assert_eq!(b.copy(&ty), ty.id());
    }
    b.build().expect("bytes")
}

/// Where the bytes differ first.
fn assert_bytes(ours: &[u8], theirs: &[u8]) {
    let differs = ours.iter().zip(theirs).position(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn the_kernels_types_are_rebuilt_byte_for_byte_in_either_order() {
    needs!(Btf);
    let bytes = kernel();
    let btf = Btf::parse(bytes.clone()).expect("BTF");
    assert_bytes(&rebuilt(&btf, Order::HOST), &bytes);
    let other = match Order::HOST {
        Order::Little => Order::Big,
        Order::Big => Order::Little,
    };
    let swapped = rebuilt(&btf, other);
    assert_ne!(swapped, bytes);
    let swapped = Btf::parse(swapped).expect("BTF in the other order");
    assert_eq!(swapped.order(), other);
    for (old, new) in btf.types().zip(swapped.types()) {
        exercise::same(&old, &new);
    }
    for name in ["tcp_sock", "task_struct", "sk_buff"] {
        let id = swapped.find_struct(name).expect("a struct");
        assert_eq!(Some(id), btf.find_struct(name));
        assert_eq!(swapped.define(id), btf.define(id));
    }
    assert_bytes(&rebuilt(&swapped, Order::HOST), &bytes);
}

/// What [`Builder::copy`] takes as it is, the method for each kind makes anew.
#[test]
fn the_kernels_types_are_written_by_the_methods_for_their_kinds() {
    needs!(Btf);
    let bytes = kernel();
    let btf = Btf::parse(bytes.clone()).expect("BTF");
    let mut b = Builder::new();
    intern(&mut b, &btf);
    let mut kinds: HashMap<Kind, u32> = HashMap::new();
    for ty in btf.types() {
        assert_eq!(excerpt::add(&mut b, &ty, |id| id), ty.id());
        *kinds.entry(ty.kind()).or_default() += 1;
    }
    let ours = Btf::parse(b.build().expect("bytes")).expect("BTF");
    for (old, new) in btf.types().zip(ours.types()) {
        exercise::same(&old, &new);
    }
    assert_bytes(ours.as_bytes(), &bytes);
    println!("{kinds:?}");
    assert!(kinds.len() >= 14, "{kinds:?}");
}

/// Every kind, by the methods and by copy, in either order, alone and on top of the kernel's.
#[test]
fn every_kind_is_rebuilt_byte_for_byte() {
    for order in [Order::Little, Order::Big] {
        let bytes = seeds::every_kind(order);
        let btf = Btf::parse(bytes.clone()).expect("BTF");
        assert_bytes(&rebuilt(&btf, order), &bytes);
        let mut b = Builder::with_order(order);
        intern(&mut b, &btf);
        for ty in btf.types() {
            excerpt::add(&mut b, &ty, |id| id);
        }
        assert_bytes(&b.build().expect("bytes"), &bytes);
    }
}

/// Types on top of the kernel's: numbers and names continue where it ends, and a copy of the copy is
/// the same.
#[test]
fn split_types_are_rebuilt_byte_for_byte() {
    needs!(Btf);
    let base = Arc::new(Btf::parse(kernel()).expect("BTF"));
    let alone = Btf::parse(seeds::every_kind(Order::HOST)).expect("BTF");
    let ahead = base.end().0 - 1;
    let mut b = Builder::on(&base);
    for ty in alone.types() {
        let id = excerpt::add(&mut b, &ty, |id| match id {
            TypeId::VOID => id,
            TypeId(id) => TypeId(id + ahead),
        });
        assert_eq!(id.0, ty.id().0 + ahead);
    }
    let sock = base.find_struct("sock").expect("a struct");
    let pointer = b.pointer(sock);
    b.structure("mine", 8, [("sk", pointer, 0)]);
    let bytes = b.build().expect("bytes");
    let split = Btf::parse_split(bytes.clone(), base.clone()).expect("BTF");
    for (old, new) in alone.types().zip(split.types()) {
        assert_eq!(
            (old.name(), old.kind(), old.len()),
            (new.name(), new.kind(), new.len())
        );
        assert!(old.enumerators().eq(new.enumerators()));
        let names = |btf: &Btf, id| btf.define(id).expect("a definition").replace('#', "");
        // Unless it shows numbers, the text is the same.
        if matches!(
            new.shape(),
            Shape::Struct(..) | Shape::Enum(..) | Shape::Func(..)
        ) {
            assert_eq!(names(&alone, old.id()), names(&split, new.id()));
        }
    }
    let mut again = Builder::on(&base);
    for ty in split.types() {
        assert_eq!(again.copy(&ty), ty.id());
    }
    assert_bytes(&again.build().expect("bytes"), &bytes);
    assert!(exercise::alone(alone.as_bytes()));
    // Without its base it is not BTF: its names lie elsewhere.
    let lone = Btf::parse(bytes);
    assert!(matches!(lone, Err(Error::Strings(_))), "{lone:?}");
}

/// The sections of a program say the same in either order.
#[test]
fn program_sections_are_read_alike_in_either_order() {
    let [little, big] = [Order::Little, Order::Big].map(|order| {
        let (btf, ext) = seeds::program(order);
        let (btf, ext) = (
            Btf::parse(btf).expect("BTF"),
            Ext::parse(ext).expect("records"),
        );
        assert_eq!((btf.order(), ext.order()), (order, order));
        (btf, ext)
    });
    assert!(little.1.funcs().eq(big.1.funcs()) && little.1.funcs().count() == 2);
    assert!(little.1.lines().eq(big.1.lines()) && little.1.lines().count() == 6);
    assert!(little.1.relos().eq(big.1.relos()) && little.1.relos().count() == 1);
    for (old, new) in little.0.types().zip(big.0.types()) {
        exercise::same(&old, &new);
    }
    let line = big.1.lines().nth(1).expect("a line");
    assert_eq!(big.0.name_at(line.file), "src/program.rs");
    assert_eq!(big.0.name_at(line.text), "exit(),");
    assert_eq!((line.line, line.column, line.offset), (11, 5, 2));
    let func = big.1.funcs().next().expect("a function");
    assert_eq!(big.0.name_at(func.section), "xdp");
    assert_eq!(big.0.ty(func.func).expect("a type").name(), "entry");
}
