//! Every type of the running kernel, and one of each kind of ours, as bpftool reads them.

use bpfsmith_btf::{Btf, Builder, FwdKind, IntEncoding, Linkage, Shape, Type, TypeId, Variable};
use bpfsmith_gate::needs;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;

/// True if bpftool is here. Says so past the capture of the test's output if not, and fails the test
/// if `BPFSMITH_STRICT` is set.
fn has_bpftool(test: &str) -> bool {
    if Command::new("bpftool").arg("version").output().is_ok() {
        return true;
    }
    let line = format!("SKIP {test}: bpftool is not installed (Debian: apt-get install bpftool)\n");
    assert!(
        std::env::var("BPFSMITH_STRICT").as_deref() != Ok("1"),
        "{line}"
    );
    if let Ok(mut to) = std::fs::OpenOptions::new().append(true).open("/dev/stderr") {
        let _ = to.write_all(line.as_bytes());
    }
    false
}

fn bpftool(path: &str) -> String {
    let run = Command::new("bpftool")
        .args(["btf", "dump", "file", path])
        .output();
    let output = run.expect("bpftool runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

fn linkage(linkage: Linkage) -> &'static str {
    match linkage {
        Linkage::STATIC => "static",
        Linkage::GLOBAL => "global",
        Linkage::EXTERN => "extern",
        _ => "?",
    }
}

/// A type in the words of bpftool.
fn describe(ty: &Type<'_>) -> String {
    let name = match ty.name() {
        name if name.is_empty() => "(anon)".to_owned(),
        name => name.to_string(),
    };
    let kind = ty.kind().name().expect("a known kind");
    let mut out = format!("[{}] {kind} '{name}'", ty.id().0);
    let _ = match ty.shape() {
        Shape::Int(int) => {
            let encoding = match int.encoding.0 {
                0 => "(none)".to_owned(),
                1 => "SIGNED".to_owned(),
                2 => "CHAR".to_owned(),
                4 => "BOOL".to_owned(),
                _ => "UNKN".to_owned(),
            };
            write!(
                out,
                " size={} bits_offset={} nr_bits={} encoding={encoding}",
                int.size, int.bit_offset, int.bits
            )
        }
        Shape::Array(array) => write!(
            out,
            " type_id={} index_type_id={} nr_elems={}",
            array.element.0, array.index.0, array.len
        ),
        Shape::Struct(size, members) | Shape::Union(size, members) => {
            let _ = write!(out, " size={size} vlen={}", members.len());
            for member in members {
                let name = member.name.to_string();
                let name = if name.is_empty() { "(anon)" } else { &name };
                let _ = write!(out, "\n\t'{name}' type_id={}", member.ty.0);
                let _ = write!(out, " bits_offset={}", member.bit_offset);
                if let Some(bits) = member.bits {
                    let _ = write!(out, " bitfield_size={bits}");
                }
            }
            Ok(())
        }
        Shape::Enum(size, values) => {
            let sign = if ty.flag() { "SIGNED" } else { "UNSIGNED" };
            let _ = write!(out, " encoding={sign} size={size} vlen={}", values.len());
            for value in values {
                let _ = write!(out, "\n\t'{}' val={}", value.name, value.value);
                if size == 8 {
                    let _ = write!(out, "{}", if ty.flag() { "LL" } else { "ULL" });
                }
            }
            Ok(())
        }
        Shape::Fwd(FwdKind::Struct) => write!(out, " fwd_kind=struct"),
        Shape::Fwd(FwdKind::Union) => write!(out, " fwd_kind=union"),
        Shape::Func(proto, of) => write!(out, " type_id={} linkage={}", proto.0, linkage(of)),
        Shape::FuncProto(result, params) => {
            let _ = write!(out, " ret_type_id={} vlen={}", result.0, params.len());
            for param in params {
                let name = param.name.to_string();
                let name = if name.is_empty() { "(anon)" } else { &name };
                let _ = write!(out, "\n\t'{name}' type_id={}", param.ty.0);
            }
            Ok(())
        }
        Shape::Var(target, of) => write!(out, " type_id={}, linkage={}", target.0, linkage(of)),
        Shape::DataSec(size, variables) => {
            let _ = write!(out, " size={size} vlen={}", ty.len());
            for variable in variables {
                let _ = write!(
                    out,
                    "\n\ttype_id={} offset={} size={}",
                    variable.ty.0, variable.offset, variable.size
                );
            }
            Ok(())
        }
        Shape::Float(size) => write!(out, " size={size}"),
        Shape::DeclTag(target, part) => {
            let part = part.map_or(-1, i64::from);
            write!(out, " type_id={} component_idx={part}", target.0)
        }
        Shape::Unknown(_) | Shape::Void => Ok(()),
        _ => write!(out, " type_id={}", ty.target().expect("a target").0),
    };
    out
}

fn compare(btf: &Btf, theirs: &str) {
    let ours: Vec<String> = btf.types().map(|ty| describe(&ty)).collect();
    let ours = ours.join("\n");
    let mut lines = ours.lines();
    let mut count = 0;
    for line in theirs.lines() {
        // bpftool names the variables of a section, but not where they come from.
        let theirs = line.split_once(" (VAR").map_or(line, |(line, _)| line);
        assert_eq!(lines.next(), Some(theirs));
        count += 1;
    }
    assert_eq!(lines.next(), None);
    assert!(count >= btf.len());
}

#[test]
fn the_kernel_reads_the_same() {
    needs!(Btf);
    if !has_bpftool("bpftool::the_kernel_reads_the_same") {
        return;
    }
    let path = "/sys/kernel/btf/vmlinux";
    let btf = Btf::parse(std::fs::read(path).expect("bytes")).expect("BTF");
    compare(&btf, &bpftool(path));
}

#[test]
fn what_we_build_reads_the_same() {
    if !has_bpftool("bpftool::what_we_build_reads_the_same") {
        return;
    }
    let mut b = Builder::new();
    let int = b.int("int", 4, IntEncoding::SIGNED);
    let list = b.array(int, int, 3);
    let pointer = b.pointer(list);
    b.structure("s", 24, [("p", pointer, 0), ("l", list, 8)]);
    b.union("u", 8, [("p", pointer, 0), ("l", int, 0)]);
    b.enumeration("e", 4, &[("A", 1), ("B", -2)]);
    b.enumeration("w", 8, &[("C", 1 << 40)]);
    b.forward("f", FwdKind::Union);
    let constant = b.constant(int);
    let volatile = b.volatile(constant);
    b.restrict(volatile);
    b.typedef("t", volatile);
    let proto = b.func_proto(int, &[("a", int), ("", pointer)]);
    let func = b.func("go", proto, Linkage::GLOBAL);
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
    b.decl_tag("hot", func, Some(1));
    b.decl_tag("cold", func, None);
    b.type_tag("user", TypeId(1));
    let bytes = b.build().expect("bytes");
    let path = std::env::temp_dir().join(format!("bpfsmith-btf-{}", std::process::id()));
    std::fs::write(&path, &bytes).expect("a file");
    let text = bpftool(path.to_str().expect("text"));
    std::fs::remove_file(&path).expect("the file");
    compare(&Btf::parse(bytes).expect("BTF"), &text);
}
