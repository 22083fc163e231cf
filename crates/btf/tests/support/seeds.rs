//! Good bytes to start from.

#![allow(
    dead_code,
    reason = "each target that includes this file needs another part"
)]

use bpfsmith_btf::{
    Builder, FwdKind, IntEncoding, Line, Linkage, NewMember, Number, Order, TypeId, Variable,
};

/// One type of each kind, in few bytes.
pub(crate) fn every_kind(order: Order) -> Vec<u8> {
    let mut b = Builder::with_order(order);
    let int = b.number(Number::U32);
    let char = b.number(Number::Char);
    let list = b.list(char, 16);
    let node = TypeId(b.next_id().0 + 1);
    let pointer = b.pointer(node);
    b.structure(
        "x",
        40,
        [
            ("y", pointer, 0),
            ("a", int, 8),
            ("", list, 12),
            ("x", node, 0),
        ],
    );
    let union = b.union("u", 8, [("a", int, 0), ("b", pointer, 0)]);
    let bit = |name, bit_offset, bits| NewMember {
        name,
        ty: int,
        bit_offset,
        bits: Some(bits),
    };
    b.structure("bits", 4, [bit("low", 0, 3), bit("high", 3, 29)]);
    let colour = b.enumeration("e", 4, &[("a", -1), ("b", 7)]);
    b.enumeration("f", 8, &[("c", 1 << 40)]);
    b.forward("fwd", FwdKind::Union);
    let typedef = b.typedef("t", union);
    let constant = b.constant(typedef);
    let volatile = b.volatile(constant);
    b.restrict(volatile);
    let proto = b.func_proto(colour, &[("a", pointer), ("", TypeId::VOID)]);
    let func = b.func("go", proto, Linkage::GLOBAL);
    b.pointer(proto);
    let var = b.var("v", int, Linkage::STATIC);
    let variable = Variable {
        ty: var,
        offset: 0,
        size: 4,
    };
    b.data_sec(".data", 4, &[variable]);
    b.float("double", 8);
    b.decl_tag("tag", func, Some(0));
    b.type_tag("user", int);
    b.type_attribute("address_space(1)", int);
    b.decl_attribute("noreturn", func, None);
    b.int("odd", 3, IntEncoding::SIGNED);
    b.number(Number::Be32);
    b.build().expect("bytes")
}

/// The two sections of a program with functions, lines and a relocation.
pub(crate) fn program(order: Order) -> (Vec<u8>, Vec<u8>) {
    let mut b = Builder::with_order(order);
    let int = b.int("int", 4, IntEncoding::SIGNED);
    let context = b.forward("xdp_md", FwdKind::Struct);
    let pointer = b.pointer(context);
    let proto = b.func_proto(int, &[("ctx", pointer)]);
    let funcs = [
        (0, b.func("entry", proto, Linkage::GLOBAL)),
        (7, b.func("count", proto, Linkage::STATIC)),
    ];
    let section = b.string("xdp");
    let access = b.string("0:1");
    let funcs = b.func_info(funcs);
    let lines = b.line_info((0..6).map(|number| Line {
        slot: number * 2,
        file: "src/program.rs",
        line: 10 + number,
        column: 5,
        text: if number % 2 == 0 {
            "mov(R0, 7),"
        } else {
            "exit(),"
        },
    }));
    let relo: Vec<u8> = [8, context.0, access, 0]
        .iter()
        .flat_map(|word| order.bytes(*word))
        .collect();
    (
        b.build().expect("bytes"),
        ext(order, section, [(&funcs, 8), (&lines, 16), (&relo, 16)]),
    )
}

/// A `.BTF.ext` section: functions, lines, relocations with the sizes of their records.
fn ext(order: Order, section: u32, parts: [(&[u8], u32); 3]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a length");
    let mut words = vec![32];
    let mut at = 0;
    for (records, _) in parts {
        words.extend([at, length(records) + 12]);
        at += length(records) + 12;
    }
    let mut out = match order {
        Order::Little => vec![0x9f, 0xeb, 1, 0],
        Order::Big => vec![0xeb, 0x9f, 1, 0],
    };
    out.extend(words.into_iter().flat_map(|word| order.bytes(word)));
    for (records, size) in parts {
        let head = [size, section, length(records) / size];
        out.extend(head.into_iter().flat_map(|word| order.bytes(word)));
        out.extend(records);
    }
    out
}
