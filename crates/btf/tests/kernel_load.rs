//! The running kernel takes what the builder writes, and quotes the lines of it.

use bpfsmith_btf::{
    Btf, Builder, FUNC_INFO_SIZE, FwdKind, IntEncoding, LINE_INFO_SIZE, Line, Linkage, Number,
    TypeId, Variable,
};
use bpfsmith_gate::{Version, needs, version};
use bpfsmith_sys::prog::{IsCounted, Load, Log, Records};
use bpfsmith_sys::{info, misc, prog};
use bpfsmith_uapi::{Errno, ProgType, ctx, structs};
use std::os::fd::{AsFd, OwnedFd};

fn load(bytes: &[u8]) -> Result<OwnedFd, String> {
    let mut buffer = vec![0; 1 << 16];
    let mut log = Log {
        level: 1,
        buffer: &mut buffer,
        true_size: 0,
    };
    misc::load_btf(bytes, &mut log, None).map_err(|error| {
        let end = buffer.iter().position(|byte| *byte == 0).unwrap_or(0);
        format!(
            "{:?} {}",
            error.errno,
            String::from_utf8_lossy(&buffer[..end])
        )
    })
}

/// One type of each kind, and every structure of the tables.
#[test]
fn every_kind_is_taken_and_given_back() {
    needs!(Root);
    let mut b = Builder::new();
    let int = b.int("int", 4, IntEncoding::SIGNED);
    let list = b.list(int, 3);
    let pointer = b.pointer(list);
    b.structure("s", 24, [("p", pointer, 0), ("l", list, 8)]);
    b.union("u", 8, [("p", pointer, 0), ("l", int, 0)]);
    b.enumeration("e", 4, &[("A", 1), ("B", -2)]);
    b.enumeration("w", 8, &[("C", 1 << 40)]);
    b.forward("f", FwdKind::Union);
    let constant = b.constant(int);
    let volatile = b.volatile(constant);
    let to_volatile = b.pointer(volatile);
    b.restrict(to_volatile);
    b.typedef("t", volatile);
    let proto = b.func_proto(int, &[("a", int)]);
    let func = b.func("go", proto, Linkage::STATIC);
    let var = b.var("v", int, Linkage::STATIC);
    b.data_sec(
        ".data",
        4,
        &[Variable {
            ty: var,
            offset: 0,
            size: 4,
        }],
    );
    b.float("double", 8);
    b.decl_tag("hot", func, Some(0));
    b.decl_tag("cold", func, None);
    let tagged = b.type_tag("user", int);
    b.pointer(tagged);
    for number in [
        Number::I8,
        Number::I16,
        Number::I64,
        Number::Char,
        Number::Bool,
        Number::Be64,
    ] {
        b.number(number);
    }
    for layout in structs::STRUCTS.iter().chain(ctx::CONTEXTS) {
        b.layout(layout);
    }
    let bytes = b.build().expect("bytes");
    let fd = load(&bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(info::btf_bytes(fd.as_fd()).expect("the bytes"), bytes);
    let again = Btf::parse(bytes).expect("BTF");
    assert_eq!(again.find_func("go"), Some(func));
}

/// Older kernels want no flag on tags.
#[test]
fn attributes_are_taken_since_they_exist() {
    needs!(Root);
    let mut b = Builder::new();
    let int = b.int("int", 4, IntEncoding::SIGNED);
    let proto = b.func_proto(int, &[]);
    let func = b.func("go", proto, Linkage::STATIC);
    let space = b.type_attribute("address_space(1)", int);
    b.pointer(space);
    b.decl_attribute("noreturn", func, None);
    let loaded = load(&b.build().expect("bytes"));
    let first = Version {
        major: 6,
        minor: 15,
    };
    match version() >= first {
        true => drop(loaded.unwrap_or_else(|error| panic!("{error}"))),
        false => {
            let error = loaded.expect_err("a flag");
            assert!(error.contains("Invalid btf_info kind_flag"), "{error}");
        }
    }
}

#[test]
fn a_type_without_target_is_refused() {
    needs!(Root);
    let mut b = Builder::new();
    b.pointer(TypeId(77));
    let error = load(&b.build().expect("bytes")).expect_err("no such type");
    assert!(error.contains("Invalid type_id"), "{error}");
}

/// A register without a value, in the line that we said it is in.
#[test]
fn the_verifier_quotes_the_line() {
    needs!(Root);
    let mut b = Builder::new();
    let int = b.int("int", 4, IntEncoding::SIGNED);
    let proto = b.func_proto(int, &[]);
    let func = b.func("go", proto, Linkage::STATIC);
    let funcs = b.func_info([(0, func)]);
    let line = |slot, line, text| Line {
        slot,
        file: "rules.rs",
        line,
        column: 5,
        text,
    };
    let lines = b.line_info([
        line(0, 12, "mov(R0, 7),"),
        line(1, 13, "ldx(R0, R9),"),
    ]);
    let btf = load(&b.build().expect("bytes")).unwrap_or_else(|error| panic!("{error}"));
    let dst_src = |dst: u8, src: u8| {
        if cfg!(target_endian = "big") {
            dst << 4 | src
        } else {
            src << 4 | dst
        }
    };
    let mut insns = vec![0xb7, dst_src(0, 0), 0, 0];
    insns.extend(7_i32.to_ne_bytes());
    insns.extend([0x61, dst_src(0, 9), 0, 0, 0, 0, 0, 0]);
    insns.extend([0x95, 0, 0, 0, 0, 0, 0, 0]);
    let mut buffer = vec![0; 1 << 16];
    let mut log = Log {
        level: 1,
        buffer: &mut buffer,
        true_size: 0,
    };
    let refused = prog::load(
        &Load {
            kind: ProgType::SOCKET_FILTER.0,
            insns: &insns,
            license: c"MIT",
            name: [0; 16],
            flags: 0,
            ifindex: 0,
            attach_type: 0,
            btf: Some(btf.as_fd()),
            funcs: Records {
                size: FUNC_INFO_SIZE,
                bytes: &funcs,
            },
            lines: Records {
                size: LINE_INFO_SIZE,
                bytes: &lines,
            },
            attach_btf_id: 0,
            attach_to: None,
            fd_array: &[],
            is_fd_array_counted: IsCounted::No,
            token: None,
            signature: None,
        },
        &mut log,
    );
    let text = String::from_utf8_lossy(&buffer).into_owned();
    assert_eq!(
        refused.expect_err("R9 has no value").errno,
        Errno::EACCES,
        "{text}"
    );
    let quoted = text.find("; ldx(R0, R9),").expect("the line");
    let reason = text.find("R9 !read_ok").expect("the reason");
    assert!(quoted < reason, "{text}");
}
