//! Types and values as C.

use bpfsmith_btf::{
    Btf, Builder, Error, FwdKind, IntEncoding, Linkage, NewMember, Number, Order, TypeId, Variable,
};
use bpfsmith_gate::needs;
use bpfsmith_uapi::{ctx, net};

struct Types {
    builder: Builder,
}

impl Types {
    fn new(order: Order) -> Types {
        Types {
            builder: Builder::with_order(order),
        }
    }

    fn btf(&self) -> Btf {
        Btf::parse(self.builder.build().expect("bytes")).expect("BTF")
    }
}

#[test]
fn declarators_nest_as_in_c() {
    let mut types = Types::new(Order::HOST);
    let b = &mut types.builder;
    let int = b.int("int", 4, IntEncoding::SIGNED);
    let char = b.number(Number::Char);
    let constant = b.constant(char);
    let text = b.pointer(constant);
    let fixed = b.constant(text);
    let list = b.list(text, 4);
    let to_list = b.pointer(list);
    let proto = b.func_proto(
        int,
        &[
            ("fd", int),
            ("name", text),
            ("", TypeId::VOID),
        ],
    );
    let to_func = b.pointer(proto);
    let table = b.list(to_func, 8);
    let node = b.forward("node", FwdKind::Struct);
    let tagged = b.type_tag("user", node);
    let to_node = b.pointer(tagged);
    let func = b.func("open", proto, Linkage::GLOBAL);
    let nothing = b.func_proto(TypeId::VOID, &[]);
    let handler = b.typedef("handler_t", to_func);
    let var = b.var("count", int, Linkage::STATIC);
    let section = b.data_sec(
        ".bss",
        4,
        &[Variable {
            ty: var,
            offset: 0,
            size: 4,
        }],
    );
    let tag = b.decl_tag("hot", func, Some(1));
    let btf = types.btf();
    for (id, name, text) in [
        (int, "x", "int x"),
        (int, "", "int"),
        (text, "s", "const char *s"),
        (fixed, "s", "const char *const s"),
        (list, "argv", "const char *argv[4]"),
        (to_list, "p", "const char *(*p)[4]"),
        (to_func, "f", "int (*f)(int fd, const char *name, ...)"),
        (table, "t", "int (*t[8])(int fd, const char *name, ...)"),
        (to_node, "n", "/* user */ struct node *n"),
        (nothing, "f", "void f(void)"),
        (handler, "h", "handler_t h"),
        (TypeId::VOID, "", "void"),
    ] {
        assert_eq!(btf.spell(id, name).as_deref(), Ok(text));
    }
    for (id, text) in [
        (func, "int open(int fd, const char *name, ...);"),
        (
            handler,
            "typedef int (*handler_t)(int fd, const char *name, ...);",
        ),
        (node, "struct node;"),
        (
            section,
            "/* section .bss, 4 bytes */\n/* 0 */ static int count;",
        ),
        (tag, "/* hot on open, part 1 */"),
    ] {
        assert_eq!(btf.define(id).as_deref(), Ok(text));
    }
}

#[test]
fn structures_are_defined_with_their_anonymous_parts() {
    let mut types = Types::new(Order::HOST);
    let b = &mut types.builder;
    let int = b.number(Number::U32);
    let inner = b.structure("", 8, [("a", int, 0), ("b", int, 4)]);
    let union = b.union("", 8, [("", inner, 0), ("all", int, 0)]);
    let bit = |name, bit_offset, bits| NewMember {
        name,
        ty: int,
        bit_offset,
        bits: Some(bits),
    };
    let bits = b.structure("bits", 4, [bit("low", 0, 3), bit("high", 3, 29)]);
    let colour = b.enumeration("colour", 4, &[("RED", -1), ("GREEN", 2)]);
    let outer = b.structure("outer", 12, [("", union, 0), ("c", colour, 8)]);
    let btf = types.btf();
    let text = "struct outer {\n\tunion {\n\t\tstruct {\n\t\t\tu32 a;\n\t\t\tu32 b;\n\t\t};\n\t\tu32 all;\n\t};\n\tenum colour c;\n};";
    assert_eq!(btf.define(outer).as_deref(), Ok(text));
    let text = "struct bits {\n\tu32 low: 3;\n\tu32 high: 29;\n};";
    assert_eq!(btf.define(bits).as_deref(), Ok(text));
    let text = "enum colour {\n\tRED = -1,\n\tGREEN = 2,\n};";
    assert_eq!(btf.define(colour).as_deref(), Ok(text));
}

/// One value of every kind, in both byte orders.
#[test]
fn values_are_shown_by_their_type() {
    for order in [Order::Little, Order::Big] {
        let mut types = Types::new(order);
        let b = &mut types.builder;
        let (u32, i16, bool) = (
            b.number(Number::U32),
            b.number(Number::I16),
            b.number(Number::Bool),
        );
        let (char, be16) = (b.number(Number::Char), b.number(Number::Be16));
        let pointer = b.pointer(TypeId::VOID);
        let comm = b.list(char, 8);
        let list = b.list(i16, 2);
        let colour = b.enumeration("colour", 4, &[("RED", -1), ("GREEN", 2)]);
        let double = b.float("double", 8);
        let union = b.union("", 4, [("word", u32, 0), ("half", i16, 0)]);
        let bit = |name, ty, bit_offset, bits| NewMember {
            name,
            ty,
            bit_offset,
            bits: Some(bits),
        };
        let plain = |name, ty, offset| NewMember::from((name, ty, offset));
        let event = b.structure(
            "event",
            56,
            [
                plain("pid", u32, 0),
                plain("list", list, 4),
                plain("comm", comm, 8),
                plain("ptr", pointer, 16),
                plain("ratio", double, 24),
                plain("colour", colour, 32),
                plain("other", colour, 36),
                plain("", union, 40),
                plain("port", be16, 44),
                plain("ok", bool, 46),
                bit("low", u32, 48 * 8, 3),
                bit("mid", i16, 48 * 8 + 3, 7),
            ],
        );
        let btf = types.btf();
        let mut bytes = Vec::new();
        let little = order == Order::Little;
        let word = |value: u32| {
            if little {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let wide = |value: u64| {
            if little {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let half = |value: i16| {
            if little {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        bytes.extend(word(7));
        bytes.extend(half(-1));
        bytes.extend(half(300));
        bytes.extend(b"s\"h\0xxxx");
        bytes.extend(wide(0xffff_8880_0000_1000));
        bytes.extend(wide(1.5_f64.to_bits()));
        bytes.extend(word(u32::MAX));
        bytes.extend(word(9));
        bytes.extend(half(5));
        bytes.extend(half(0));
        bytes.extend([0, 80, 1, 0]);
        // low = 5, mid = -2, from the first bit on.
        let bits: u32 = 5 | (0x7e << 3);
        let bits_big: u32 = 5 << 29 | 0x7e << 22;
        bytes.extend(if little {
            bits.to_le_bytes()
        } else {
            bits_big.to_be_bytes()
        });
        bytes.extend([0; 4]);
        let both = if little { 5 } else { 5 << 16 };
        assert_eq!(
            btf.show(event, &bytes),
            Ok(format!(
                "{{ .pid = 7, .list = {{ -1, 300 }}, .comm = \"s\\\"h\", .ptr = 0xffff888000001000, \
                 .ratio = 1.5, .colour = RED, .other = 9, .word = {both}, .half = 5, .port = 80, \
                 .ok = true, .low = 5, .mid = -2 }}"
            ))
        );
        let short = btf.show(event, &bytes[..55]);
        assert_eq!(
            short,
            Err(Error::ShortValue {
                id: event,
                need: 56,
                have: 55
            })
        );
    }
}

#[test]
fn layouts_become_types_of_the_same_shape() {
    let mut types = Types::new(Order::HOST);
    let layouts = ctx::CONTEXTS.iter().chain(net::HEADERS);
    let ids: Vec<_> = layouts
        .clone()
        .map(|layout| types.builder.layout(layout))
        .collect();
    let btf = types.btf();
    for (layout, id) in layouts.zip(ids) {
        assert_eq!(btf.size_of(id).ok(), u32::try_from(layout.size).ok());
        for field in layout.fields {
            let place = btf.member(id, field.name).expect("a member");
            assert_eq!(place.offset(), Some(field.offset.into()), "{}", field.name);
            assert_eq!(
                btf.size_of(place.ty),
                Ok(field.size.into()),
                "{}",
                field.name
            );
        }
    }
    let ports = btf.find_struct("udphdr").expect("a struct");
    let text = btf
        .show(ports, &[0, 53, 0x80, 0, 0, 8, 0, 0])
        .expect("a value");
    assert!(
        text.starts_with("{ .sport = 53, .dport = 32768, .len = 8,"),
        "{text}"
    );
}

#[test]
fn all_of_the_kernel_is_printed() {
    needs!(Btf);
    let btf = Btf::parse(std::fs::read("/sys/kernel/btf/vmlinux").expect("bytes")).expect("BTF");
    let zeros = vec![0; 1 << 24];
    let mut shown = 0;
    for ty in btf.types() {
        let text = btf.define(ty.id()).expect("a definition");
        assert!(!text.contains("  "), "{text}");
        match btf.show(ty.id(), &zeros) {
            Ok(_) => shown += 1,
            Err(Error::NoSize { .. }) => {}
            // Large tables of structures, such as those of the memory zones.
            Err(Error::TooDeep(_) | Error::ShortValue { .. }) => {
                assert!(btf.size_of(ty.id()).expect("a size") > 10_000, "{text}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(shown > 20_000, "{shown}");
    let xdp = btf.find_struct("xdp_md").expect("a struct");
    let text = "struct xdp_md {\n\t__u32 data;\n\t__u32 data_end;\n\t__u32 data_meta;\n\t__u32 ingress_ifindex;\n\t__u32 rx_queue_index;\n\t__u32 egress_ifindex;\n};";
    assert_eq!(btf.define(xdp).as_deref(), Ok(text));
}
