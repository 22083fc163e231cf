//! `bpfsmith btf` on the running kernel's types, and values in maps by their types.

#[path = "support/json.rs"]
mod json;
#[path = "support/rich.rs"]
mod rich;

use bpfsmith_btf::{Btf, Builder, NewMember};
use bpfsmith_cli::{DIFFERENT, DONE, REFUSED, run};
use bpfsmith_gate::needs;
use std::io::{self, ErrorKind, Write};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Status, standard output and standard error of a command. That the kernel's types were copied is
/// said by kernels before 6.16, and not part of what these tests are about.
fn command(args: &[&str]) -> (u8, String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let args = args.iter().map(Into::into).collect();
    let status = run(args, &mut io::empty(), &mut stdout, &mut stderr);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let mut stderr = text(stderr);
    if stderr.starts_with("note: the kernel's types were copied") {
        stderr = stderr.split_off(stderr.find('\n').expect("a line") + 1);
    }
    (status, text(stdout), stderr)
}

#[track_caller]
fn good(args: &[&str]) -> String {
    let (status, stdout, stderr) = command(args);
    assert_eq!((status, stderr.as_str()), (DONE, ""), "{args:?}");
    stdout
}

#[test]
fn the_kernels_types_are_found_and_shown() {
    needs!(Btf);
    let btf = Btf::parse(std::fs::read(VMLINUX).expect("bytes")).expect("BTF");
    let id = btf.find_struct("tcp_sock").expect("a struct");
    let place = btf.member(id, "snd_cwnd").expect("a member");
    let offset = place.offset().expect("bytes");
    assert_eq!(
        good(&["btf", "find", "tcp_sock.snd_cwnd"]),
        format!(
            "member   {:>8} {:>8}  tcp_sock.snd_cwnd at {offset}: u32\n",
            format!("#{}", id.0),
            4
        )
    );
    let text = good(&["btf", "dump", "tcp_sock"]);
    let line = text.lines().find(|line| line.contains("\tu32 snd_cwnd;"));
    assert!(
        line.expect("a line")
            .ends_with(&format!("/* {offset:>5}     4 */")),
        "{line:?}"
    );
    let size = btf.size_of(id).expect("a size");
    let last = text.lines().rev().nth(1).expect("a summary");
    assert!(last.starts_with(&format!("\t/* {size} bytes, ")), "{last}");

    let constant = good(&["btf", "find", "BPF_MAP_TYPE_HASH"]);
    assert!(
        constant.ends_with("BPF_MAP_TYPE_HASH = 1 in enum bpf_map_type\n"),
        "{constant}"
    );
    let func = good(&[
        "btf",
        "find",
        "--kind",
        "func",
        "tcp_v4_rcv",
    ]);
    assert!(
        func.ends_with("int tcp_v4_rcv(struct sk_buff *skb)\n"),
        "{func}"
    );
    let (status, stdout, stderr) = command(&["btf", "find", "tcp_sock.snd_cwn"]);
    assert_eq!((status, stdout.as_str()), (REFUSED, ""));
    assert!(stderr.contains(": near: tcp_sock.snd_cwnd"), "{stderr}");
    let (status, _, stderr) = command(&[
        "btf",
        "dump",
        "--module",
        "bs_btfcli_none",
    ]);
    assert_eq!(status, REFUSED);
    assert!(
        stderr.starts_with("bpfsmith: module bs_btfcli_none: No such file"),
        "{stderr}"
    );
}

/// The header has the name of every structure, and defines each once.
#[test]
fn the_kernel_is_printed_whole() {
    needs!(Btf);
    let text = good(&["btf", "dump"]);
    let definitions = text
        .lines()
        .filter(|line| line.starts_with("struct ") && line.ends_with(" {"));
    let mut names: Vec<&str> = definitions.collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a structure is defined twice");
    let btf = Btf::parse(std::fs::read(VMLINUX).expect("bytes")).expect("BTF");
    let is_struct = |ty: &bpfsmith_btf::Type<'_>| {
        ty.kind() == bpfsmith_btf::Kind::STRUCT && !ty.name().is_empty()
    };
    assert_eq!(btf.types().filter(is_struct).count(), count);
    let value = good(&[
        "btf",
        "dump",
        "--json",
        "tcp_congestion_ops",
    ]);
    let value = json::parse(&value).expect("JSON");
    let members = value.at("types").list()[0].at("members").list();
    assert_eq!(members[0].at("name").text(), "ssthresh");
}

/// The kernel's types again, but for one structure: what was a member is gone, another has become
/// wider, and those behind it have moved.
#[test]
fn a_kernel_differs_from_a_changed_one() {
    needs!(Btf);
    let bytes = std::fs::read(VMLINUX).expect("bytes");
    let btf = Btf::parse(bytes.clone()).expect("BTF");
    let changed = btf.find_struct("tcp_congestion_ops").expect("a struct");
    let wide = btf.find_typedef("u64").expect("a type");
    let mut b = Builder::new();
    for ty in btf.types() {
        if ty.id() != changed {
            b.copy(&ty);
            continue;
        }
        let names: Vec<String> = ty.members().map(|member| member.name.to_string()).collect();
        let members = ty
            .members()
            .zip(&names)
            .filter(|(_, name)| *name != "owner");
        let members = members.map(|(member, name)| NewMember {
            name,
            ty: if name == "key" { wide } else { member.ty },
            bit_offset: match name.as_str() {
                "flags" => member.bit_offset + 32,
                _ => member.bit_offset,
            },
            bits: member.bits,
        });
        let members: Vec<NewMember<'_>> = members.collect();
        b.structure(
            "tcp_congestion_ops",
            ty.own_size().expect("a size"),
            members,
        );
    }
    let path = std::env::temp_dir().join(format!("bs-btfcli-{}", std::process::id()));
    std::fs::write(&path, b.build().expect("BTF")).expect("a file");
    let file = path.to_str().expect("a path");
    let whole = command(&["btf", "diff", "kernel", file]);
    let narrow = command(&[
        "btf", "diff", "kernel", file, "tcp_sock", "sk_buff",
    ]);
    let same = command(&["btf", "diff", "kernel", VMLINUX]);
    let back = command(&[
        "btf",
        "diff",
        file,
        "kernel",
        "struct tcp_congestion_ops",
    ]);
    std::fs::remove_file(&path).expect("the file");
    assert_eq!(same, (DONE, String::new(), String::new()));
    assert_eq!(narrow, (DONE, String::new(), String::new()));
    let at = |name: &str| {
        let place = btf.member(changed, name).expect("a member");
        place.offset().expect("bytes")
    };
    let (owner, flags) = (at("owner"), at("flags"));
    let expected = format!(
        "--- the kernel\n+++ {file}\n~ struct tcp_congestion_ops\n    \
         - owner: struct module * at {owner}\n    key: u32 -> u64\n    \
         flags: at {flags} -> {}\n",
        flags + 4
    );
    assert_eq!(whole, (DIFFERENT, expected, String::new()));
    assert_eq!(back.0, DIFFERENT);
    let added = format!("    + owner: struct module * at {owner}\n");
    assert!(back.1.ends_with(&added), "{}", back.1);
}

/// A module's types continue those of the kernel.
#[test]
fn modules_have_types_of_their_own() {
    needs!(Btf, Modules);
    let module = ["--module", "nf_conntrack"];
    let raw = good(&[&["btf", "dump", "--raw"], &module[..]].concat());
    // The numbers go on behind those of the kernel.
    let btf = Btf::parse(std::fs::read(VMLINUX).expect("bytes")).expect("BTF");
    assert!(raw.starts_with(&format!("[{}] ", btf.end().0)), "{raw}");
    let header = good(&[&["btf", "dump"], &module[..]].concat());
    // What it needs of the kernel's types is there too.
    assert!(header.contains("\nstruct list_head {\n"), "{header}");
    assert!(!header.contains("is broken"), "{header}");
    let place = "module:nf_conntrack";
    let same = command(&["btf", "diff", place, place, "nf_*"]);
    assert_eq!(same, (DONE, String::new(), String::new()));
    // It has all that the kernel has, and more.
    let (status, text, stderr) = command(&["btf", "diff", "kernel", place, "nf_*"]);
    assert_eq!((status, stderr.as_str()), (DIFFERENT, ""));
    let mut lines = text.lines().skip(2);
    assert!(lines.all(|line| line.starts_with("+ ")), "{text}");
}

/// A reader that went away.
struct Gone(usize);

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        self.0 += 1;
        Err(ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_went_away_ends_the_work() {
    needs!(Btf);
    for args in [
        &["btf", "dump"][..],
        &["btf", "dump", "--raw"],
        &["btf", "dump", "--json"],
        &["btf", "dump", "*sock*"],
        &["btf", "find", "*sock*", "--json"],
    ] {
        let (mut out, mut stderr) = (Gone(0), Vec::new());
        let args = args.iter().map(Into::into).collect();
        let status = run(args, &mut io::empty(), &mut out, &mut stderr);
        let stderr = String::from_utf8(stderr).expect("text");
        assert_eq!(status, DONE, "{stderr}");
        assert!(!stderr.contains("bpfsmith:"), "{stderr}");
        // Nothing more was tried, but for what was in the buffer.
        assert!(out.0 <= 2, "{} writes", out.0);
    }
}

#[test]
#[cfg(target_endian = "little")]
fn values_are_shown_by_their_types() {
    needs!(Root, Bpf, Btf);
    let (_map, id) = rich::map();
    assert_eq!(
        good(&["maps", "dump", &id]),
        "3: { .wide = 18446744073709551620, .inner = { .x = -7, .y = -8 }, .low = 1, .high = 2, \
         .whole = 8589934593, .comm = \"sh\", .grid = { { 0, 11, 22 }, { 33, 44, 55 } }, \
         .ok = true, .colour = RED, .large = FAR, .b1 = 5, .b2 = -3, .b3 = 19088743, .b4 = 1, \
         .alias = 77, .signed = -9223372036854775808, .inners = { .x = 9, .y = 0 }, .tail = {} }\n"
    );
    // Its types by their own number.
    let shown = json::parse(&good(&["maps", "show", &id, "--json"])).expect("JSON");
    let own = shown.at("btf").number().to_string();
    let text = good(&["btf", "dump", "value", "--id", &own]);
    assert!(
        text.contains("\tint b2: 10;") || text.contains("\ti32 b2: 10;"),
        "{text}"
    );
}
