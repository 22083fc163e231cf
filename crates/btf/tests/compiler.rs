//! The sections that a compiler makes, for either byte order: LLVM's own BTF, function, line and
//! relocation records.

#[path = "support/exercise.rs"]
mod exercise;

use bpfsmith_btf::{Btf, CoreRelo, Ext, Kind, LineInfo, Order, TypeId};
use bpfsmith_gate::needs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = include_str!("fixtures/count.ll");
/// A directory that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("bpfsmith-btf-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("the tool runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

fn dump(object: &Path, section: &str, to: &Path) -> Vec<u8> {
    run(Command::new("llvm-objcopy-19")
        .arg(format!("--dump-section={section}={}", to.display()))
        .args([object, Path::new("/dev/null")]));
    std::fs::read(to).expect("the section")
}

/// Both sections of the program for a byte order.
fn compiled(scratch: &Scratch, order: Order) -> (Vec<u8>, Vec<u8>) {
    let (letter, target) = match order {
        Order::Little => ("e", "bpfel"),
        Order::Big => ("E", "bpfeb"),
    };
    let text = PROGRAM.replace("ORDER", letter).replace("TARGET", target);
    let [source, object, section] = ["in.ll", "in.o", "section"].map(|name| scratch.0.join(name));
    std::fs::write(&source, text).expect("a file");
    run(Command::new("llc-19")
        .args(["-march", target, "-filetype=obj", "-o"])
        .args([&object, &source]));
    (
        dump(&object, ".BTF", &section),
        dump(&object, ".BTF.ext", &section),
    )
}

#[test]
fn what_a_compiler_writes_is_read_in_either_order() {
    needs!(Llvm);
    let scratch = Scratch::new("compiler");
    let [little, big] = [Order::Little, Order::Big].map(|order| {
        let (types, records) = compiled(&scratch, order);
        assert!(exercise::alone(&types) && exercise::ext(&records));
        let types = Btf::parse(types).expect("BTF");
        let records = Ext::parse(records).expect("records");
        assert_eq!((types.order(), records.order()), (order, order));
        check(&types, &records);
        (types, records)
    });
    assert_eq!(little.0.len(), big.0.len());
    for (old, new) in little.0.types().zip(big.0.types()) {
        exercise::same(&old, &new);
        assert_eq!(little.0.raw(old.id()), big.0.raw(new.id()));
    }
    assert!(little.1.funcs().eq(big.1.funcs()));
    assert!(little.1.lines().eq(big.1.lines()));
    assert!(little.1.relos().eq(big.1.relos()));
}

fn check(types: &Btf, records: &Ext) {
    let event = types.find_struct("event").expect("the structure");
    let text =
        "struct event {\n\tint pid;\n\tchar comm[8];\n\tstruct event *next;\n\tint flag: 3;\n};";
    assert_eq!(types.define(event).as_deref(), Ok(text));
    let flag = types.member(event, "flag").expect("a bit field");
    assert_eq!((flag.bit_offset, flag.bits), (96, Some(3)));
    let section = types.require(".data", Kind::DATASEC).expect("a section");
    let section = types.ty(section).expect("a type");
    let variable = section.variables().next().expect("a variable");
    assert_eq!(Some(variable.ty), types.find_var("count"));
    assert_eq!((variable.offset, variable.size), (0, 8));

    let name = |offset| types.name_at(offset).to_string();
    let funcs: Vec<_> = records.funcs().collect();
    let [func] = funcs[..] else {
        panic!("{funcs:?}");
    };
    assert_eq!((name(func.section), func.offset), ("xdp".to_owned(), 0));
    assert_eq!(Some(func.func), types.find_func("entry"));
    let lines: Vec<LineInfo> = records.lines().collect();
    let places: Vec<_> = lines
        .iter()
        .map(|line| (line.offset, line.line, line.column))
        .collect();
    assert_eq!(places, [(0, 6, 9), (32, 7, 11), (48, 8, 5)]);
    assert!(lines.iter().all(|line| name(line.file) == "/src/count.c"));
    let relos: Vec<CoreRelo> = records.relos().collect();
    let [relo] = relos[..] else {
        panic!("{relos:?}");
    };
    assert_eq!((relo.ty, relo.offset, relo.kind), (event, 0, 0));
    assert_eq!(
        (name(relo.section), name(relo.access)),
        ("xdp".to_owned(), "0:2".to_owned())
    );
    assert_ne!(relo.ty, TypeId::VOID);
}
