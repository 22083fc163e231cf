//! Types as a C header, and a C compiler's opinion on it.

use bpfsmith_btf::{
    Btf, Builder, FwdKind, Header, IntEncoding, Kind, NewMember, Number, Order, Type, TypeId,
};
use bpfsmith_gate::needs;
use proptest::prelude::*;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

fn whole<B: AsRef<[u8]>>(btf: &Btf<B>) -> (String, Header<'_, B>) {
    let mut header = Header::new(btf);
    let text = btf
        .types()
        .map(|ty| header.add(ty.id()).expect("a definition"))
        .collect();
    (text, header)
}

/// What the compiler must find: a line for each size and place, and code that tells the bits of
/// each bit field.
struct Claims {
    checks: String,
    fields: String,
    count: usize,
    field_count: usize,
}

impl Claims {
    fn of<B: AsRef<[u8]>>(btf: &Btf<B>, header: &Header<'_, B>) -> Claims {
        let mut claims = Claims {
            checks: String::new(),
            fields: String::new(),
            count: 0,
            field_count: 0,
        };
        for ty in btf.types() {
            let word = match ty.kind() {
                Kind::STRUCT => "struct",
                Kind::UNION => "union",
                _ => continue,
            };
            if ty.name().is_empty() {
                continue;
            }
            let own = ty.name().to_string();
            let name = format!("{word} {}", header.renamed(ty.id()).unwrap_or(&own));
            let size = ty.own_size().expect("a size");
            let _ = writeln!(
                claims.checks,
                "_Static_assert(sizeof({name}) == {size}, \"\");"
            );
            claims.count += 1;
            claims.members(btf, &name, &ty, 0, &mut HashSet::new());
        }
        claims
    }

    fn members<B: AsRef<[u8]>>(
        &mut self,
        btf: &Btf<B>,
        name: &str,
        ty: &Type<'_>,
        start: u32,
        seen: &mut HashSet<String>,
    ) {
        for member in ty.members() {
            let at = start + member.bit_offset;
            if member.name.is_empty() {
                let inner = btf.resolve(member.ty).expect("a type");
                self.members(btf, name, &inner, at, seen);
                continue;
            }
            let path = member.name.to_string();
            assert!(seen.insert(path.clone()), "{name} has two members {path}");
            let Some(bits) = member.bits else {
                let (offset, size) = (at / 8, btf.size_of(member.ty).expect("a size"));
                let _ = writeln!(
                    self.checks,
                    "_Static_assert(__builtin_offsetof({name}, {path}) == {offset} && \
                     sizeof((({name} *)0)->{path}) == {size}, \"{path}\");"
                );
                self.count += 1;
                continue;
            };
            // All bits of the field are set; then they are counted, and nothing else may be.
            let _ = writeln!(
                self.fields,
                "{{ static union {{ {name} s; unsigned char b[sizeof({name})]; }} u; \
                 u.s.{path} = ({kind})-1; \
                 for (unsigned i = 0; i < sizeof u.b * 8; i++) \
                 if ((u.b[i / 8] >> i % 8 & 1) != (i >= {at} && i < {at} + {bits})) \
                 bad(\"{name}\", \"{path}\"); }}",
                kind = match btf.resolve(member.ty).expect("a type").name() {
                    name if name == "_Bool" => "_Bool",
                    _ => "long long",
                }
            );
            self.field_count += 1;
        }
    }

    /// Compiles the header with all claims, and runs the code.
    fn prove(&self, test: &str, header: &str) {
        let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
        std::fs::create_dir_all(&home).expect("a directory");
        let (source, program) = (home.join("all.c"), home.join("all"));
        let text = format!(
            "{header}\n{}\nextern int printf(const char *, ...);\nstatic int wrong;\n\
             static void bad(const char *s, const char *m) {{ \
             if (wrong++ < 9) printf(\"%s.%s\\n\", s, m); }}\n\
             int main(void) {{\n{}\nreturn wrong != 0; }}\n",
            self.checks, self.fields
        );
        std::fs::write(&source, text).expect("a file");
        let output = Command::new("gcc")
            .args(["-std=gnu11", "-O0", "-w", "-o"])
            .args([&program, &source])
            .output()
            .expect("gcc runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> = errors.lines().take(20).collect();
        assert!(output.status.success(), "{}", errors.join("\n"));
        let output = Command::new(&program).output().expect("the program runs");
        assert!(
            output.status.success(),
            "other bits: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        std::fs::remove_dir_all(&home).expect("the directory");
    }
}

/// All that makes a header hard: packed, padded and overlong structures, bit fields, names that are
/// taken or not of C, rings of pointers.
fn difficult() -> Vec<u8> {
    let mut b = Builder::with_order(Order::Little);
    let (u8, u16) = (b.number(Number::U8), b.number(Number::U16));
    let (u32, u64) = (b.number(Number::U32), b.number(Number::U64));
    let bool = b.number(Number::Bool);
    let bit = |name, ty, bit_offset, bits| NewMember {
        name,
        ty,
        bit_offset,
        bits: Some(bits),
    };
    let plain = |name, ty, offset| NewMember::from((name, ty, offset));
    // A ring: node -> function of a list -> list, which holds the node by value.
    let list = TypeId(b.next_id().0 + 5);
    let to_list = b.pointer(list);
    let proto = b.func_proto(TypeId::VOID, &[("", to_list)]);
    let to_proto = b.pointer(proto);
    let callback = b.typedef("callback_t", to_proto);
    let node = b.structure(
        "node",
        16,
        [
            ("list", to_list, 0),
            ("call", callback, 8),
        ],
    );
    b.structure("list", 24, [("first", node, 0), ("count", u32, 16)]);
    // Not where a compiler would put them.
    b.structure(
        "packed",
        7,
        [
            ("a", u8, 0),
            ("b", u32, 1),
            ("c", u16, 5),
        ],
    );
    b.structure("spread", 128, [("a", u8, 0), ("b", u32, 64)]);
    let inner = b.structure("", 12, [("x", u64, 0), ("y", u32, 8)]);
    let union = b.union("", 24, [("", inner, 0), ("z", u8, 0)]);
    b.structure("nested", 40, [("", union, 4), ("w", u32, 28)]);
    b.structure(
        "bits",
        24,
        [
            bit("a", u32, 0, 3),
            bit("b", u32, 9, 7),
            bit("c", u8, 24, 1),
            bit("d", u32, 32, 32),
            bit("e", u64, 65, 40),
            plain("f", u8, 14),
            bit("g", bool, 15 * 8 + 2, 1),
            bit("h", u16, 160, 16),
        ],
    );
    b.structure(
        "tight",
        4,
        [
            bit("a", u8, 0, 6),
            bit("b", u8, 6, 6),
            bit("c", u32, 12, 20),
        ],
    );
    let empty = b.structure("empty", 0, [] as [(&str, TypeId, u32); 0]);
    let none = b.list(u64, 0);
    b.structure(
        "flexible",
        8,
        [
            ("n", u32, 0),
            ("e", empty, 4),
            ("list", none, 8),
        ],
    );
    // Names.
    b.structure("packed", 4, [("again", u32, 0)]);
    b.union("packed", 8, [("once_more", u64, 0)]);
    b.forward("packed", FwdKind::Union);
    let never = b.forward("never", FwdKind::Struct);
    let to_never = b.pointer(never);
    b.structure("Option<u32>", 8, [("never", to_never, 0)]);
    b.typedef("callback_t", u8);
    let colour = b.enumeration("", 4, &[("RED", -1), ("GREEN", 2)]);
    let once = b.enumeration("", 4, &[("ONCE", 1)]);
    b.structure("s1", 8, [("c", colour, 0), ("o", once, 4)]);
    b.structure("s2", 4, [("c", colour, 0)]);
    let small = b.enumeration("small", 1, &[("RED", 1)]);
    let wide = b.enumeration("wide", 8, &[("W", 1)]);
    let huge = b.enumeration("huge", 8, &[("LEAST", i64::MIN.into()), ("H", 1)]);
    let most = b.enumeration("most", 8, &[("MOST", u64::MAX.into())]);
    b.structure(
        "enums",
        32,
        [
            ("w", wide, 0),
            ("h", huge, 8),
            ("m", most, 16),
            ("s", small, 24),
        ],
    );
    b.int("unsigned __int128", 16, IntEncoding::UNSIGNED);
    b.build().expect("bytes")
}

#[test]
fn a_header_of_difficult_types() {
    let btf = Btf::parse(difficult()).expect("BTF");
    let (text, header) = whole(&btf);
    insta::assert_snapshot!(text);
    needs!(Gcc);
    Claims::of(&btf, &header).prove("difficult", &text);
}

#[test]
fn what_has_been_written_is_not_written_again() {
    let btf = Btf::parse(difficult()).expect("BTF");
    let mut header = Header::new(&btf);
    let list = btf.find_struct("list").expect("a struct");
    let text = header.add(list).expect("text");
    assert_eq!(
        text,
        "struct list;\n\n\
         typedef void (*callback_t)(struct list *);\n\n\
         struct node {\n\tstruct list *list;\n\tcallback_t call;\n};\n\n\
         typedef unsigned int u32;\n\n\
         struct list {\n\tstruct node first;\n\tu32 count;\n};\n\n"
    );
    assert_eq!(header.add(list).as_deref(), Ok(""));
    let node = btf.find_struct("node").expect("a struct");
    assert_eq!(header.add(node).as_deref(), Ok(""));
    assert!(header.add(TypeId(9999)).is_err());
}

/// The compiler gives every member of every structure of the kernel its place.
#[test]
fn the_kernel_is_a_header() {
    needs!(Btf, Gcc);
    let btf = Btf::parse(std::fs::read("/sys/kernel/btf/vmlinux").expect("bytes")).expect("BTF");
    let (text, header) = whole(&btf);
    let claims = Claims::of(&btf, &header);
    assert!(claims.count > 10_000, "{}", claims.count);
    assert!(claims.field_count > 500, "{}", claims.field_count);
    claims.prove("vmlinux", &text);
}

#[test]
fn places_are_shown_with_holes() {
    let btf = Btf::parse(difficult()).expect("BTF");
    let show = |name: &str| {
        let id = btf.named(name).next().expect("a type").id();
        btf.define_with_places(id).expect("text")
    };
    let all: Vec<String> = [
        "list", "packed", "spread", "nested", "bits", "tight", "flexible", "small",
    ]
    .map(show)
    .into();
    insta::assert_snapshot!(all.join("\n\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Bytes that are wrong somewhere print as something, or not at all.
    #[test]
    fn broken_types_print_or_do_not(
        changes in proptest::collection::vec((24..2000_usize, any::<u8>()), 1..8),
    ) {
        let mut bytes = difficult();
        for (at, byte) in changes {
            let len = bytes.len();
            bytes[at % len] = byte;
        }
        if let Ok(btf) = Btf::parse(bytes) {
            let mut header = Header::new(&btf);
            for ty in btf.types() {
                let _ = (header.add(ty.id()), btf.define_with_places(ty.id()), btf.raw(ty.id()));
            }
        }
    }
}
