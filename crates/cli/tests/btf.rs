//! `bpfsmith btf` on files: what it prints, and what it says of files that are none.

#[path = "support/json.rs"]
mod json;

use bpfsmith_btf::{Btf, Builder, Linkage, NewMember, Number, TypeId};
use bpfsmith_cli::{DIFFERENT, DONE, REFUSED, TROUBLE, run};
use json::Value;
use std::path::PathBuf;

/// Status, standard output and standard error of a command.
fn command(args: &[&str]) -> (u8, String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let args = ["btf"].iter().chain(args).map(Into::into).collect();
    let status = run(args, &mut std::io::empty(), &mut stdout, &mut stderr);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status, text(stdout), text(stderr))
}

#[track_caller]
fn says(args: &[&str], status: u8, stdout: &str, stderr: &str) {
    let ran = command(args);
    assert_eq!(
        (ran.0, ran.1.as_str(), ran.2.as_str()),
        (status, stdout, stderr),
        "{args:?}"
    );
}

#[track_caller]
fn good(args: &[&str]) -> String {
    let (status, stdout, stderr) = command(args);
    assert_eq!((status, stderr.as_str()), (DONE, ""), "{args:?}");
    stdout
}

#[track_caller]
fn good_json(args: &[&str]) -> Value {
    let text = good(args);
    assert_eq!(text.matches('\n').count(), 1, "one line: {text}");
    json::parse(&text).unwrap_or_else(|at| panic!("{args:?}: no JSON at {at}: {text}"))
}

/// A directory of the test's own, in which the files of the test lie.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Home {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _not_there_yet = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory");
        Home(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file");
        path.to_str().expect("a path").to_owned()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _may_stay = std::fs::remove_dir_all(&self.0);
    }
}

/// Which types a file gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edition {
    First,
    Second,
}

/// A few types of each kind; the second edition differs in some.
fn types(edition: Edition) -> Vec<u8> {
    let is_first = edition == Edition::First;
    let mut b = Builder::new();
    let (u8, u16) = (b.number(Number::U8), b.number(Number::U16));
    let (u32, u64) = (b.number(Number::U32), b.number(Number::U64));
    let char = b.number(Number::Char);
    let plain = |name, ty, offset| NewMember::from((name, ty, offset));
    let bit = |name, ty, bit_offset, bits| NewMember {
        name,
        ty,
        bit_offset,
        bits: Some(bits),
    };
    let comm = b.list(char, 16);
    let pair = b.structure("", 8, [("low", u32, 0), ("high", u32, 4)]);
    let word = b.union("", 8, [("", pair, 0), ("whole", u64, 0)]);
    let inner = b.structure("", 4, [("x", u16, 0), ("y", u16, 2)]);
    let mut event = vec![
        plain("pid", u32, 0),
        plain("comm", comm, 4),
    ];
    event.push(plain("", word, 24));
    event.push(plain("at", inner, 32));
    event.push(bit("kind", u8, 36 * 8, if is_first { 3 } else { 4 }));
    event.push(bit("flag", u8, 36 * 8 + 4, 1));
    if is_first {
        event.push(plain("old", u16, 38));
        b.structure("event", 40, event);
    } else {
        event.push(plain("port", u16, 40));
        event.push(plain("new", u64, 48));
        b.structure("event", 56, event);
    }
    let to_event = b.pointer(TypeId(b.next_id().0 - 1));
    b.enumeration(
        "colour",
        4,
        &[
            ("RED", 0),
            ("GREEN", if is_first { 1 } else { 2 }),
        ],
    );
    let params = [("event", to_event), ("size", u32)];
    let proto = b.func_proto(u32, &params[..if is_first { 2 } else { 1 }]);
    b.func("handle", proto, Linkage::GLOBAL);
    let same = b.func_proto(TypeId::VOID, &[(if is_first { "a" } else { "b" }, u64)]);
    b.func("unchanged", same, Linkage::GLOBAL);
    b.var("total", if is_first { u32 } else { u64 }, Linkage::GLOBAL);
    b.typedef("handle_t", if is_first { u32 } else { u64 });
    if is_first {
        b.structure("gone", 4, [("a", u32, 0)]);
    } else {
        b.union("come", 4, [("a", u32, 0)]);
        b.enumeration("", 4, &[("MOST", 7)]);
    }
    b.structure("twin", 4, [("a", u32, 0)]);
    b.structure("twin", 8, [("b", u64, 0)]);
    b.build().expect("BTF")
}

#[test]
fn named_types_are_shown_with_places() {
    let home = Home::new("btf-places");
    let file = home.file("a.btf", &types(Edition::First));
    insta::assert_snapshot!(good(&[
        "dump", "event", "colour", "handle", "total", "handle_t", "twin", "--file", &file
    ]));
    let event = good(&["dump", "struct event", "--file", &file]);
    assert_eq!(good(&["dump", "ev*t", "--file", &file]), event);
    let id = Btf::parse(types(Edition::First)).expect("BTF");
    let id = id.find_struct("event").expect("a struct").0;
    for word in [id.to_string(), format!("#{id}")] {
        assert_eq!(good(&["dump", &word, "--file", &file]), event);
    }
}

#[test]
fn types_come_with_all_that_they_need() {
    let home = Home::new("btf-deep");
    let file = home.file("a.btf", &types(Edition::First));
    let text = good(&[
        "dump", "--deep", "handle", "--file", &file,
    ]);
    insta::assert_snapshot!(text.replace(&file, "FILE"));
    let all = good(&["dump", "--file", &file]);
    for part in [
        "enum colour {",
        "struct gone {",
        "struct twin___2 {",
        "typedef u32 handle_t;",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
}

#[test]
fn types_are_objects_for_programs() {
    let home = Home::new("btf-json");
    let file = home.file("a.btf", &types(Edition::First));
    let value = good_json(&[
        "dump", "event", "colour", "handle", "--json", "--file", &file,
    ]);
    let [event, colour, handle] = value.at("types").list() else {
        panic!("{value:?}");
    };
    assert_eq!(event.at("kind").text(), "struct");
    assert_eq!(event.at("size").number(), 40);
    let members = event.at("members").list();
    assert_eq!(*members[2].at("name"), Value::Null);
    assert_eq!(members[4].at("name").text(), "kind");
    assert_eq!(members[4].at("bit_offset").number(), 288);
    assert_eq!(members[4].at("bits").number(), 3);
    assert_eq!(*members[4].at("bit_field"), Value::Bool(true));
    assert_eq!(members[4].at("type").text(), "u8");
    assert_eq!(colour.at("constants").list()[1].at("value").number(), 1);
    assert_eq!(handle.at("linkage").text(), "global");
    assert_eq!(
        handle.at("type").text(),
        "u32 (struct event *event, u32 size)"
    );
    let all = good_json(&["dump", "--json", "--file", &file]);
    let count = Btf::parse(types(Edition::First)).expect("BTF").len();
    assert_eq!(all.at("types").list().len(), count);
    let raw = good(&["dump", "--raw", "--file", &file]);
    assert_eq!(
        raw.lines().filter(|line| line.starts_with('[')).count(),
        count
    );
}

#[test]
fn names_are_found() {
    let home = Home::new("btf-find");
    let file = home.file("a.btf", &types(Edition::First));
    let find = |args: &[&str]| good(&[&["find", "--file", &file], args].concat());
    insta::assert_snapshot!(find(&[
        "event.*",
        "event.at.*",
        "event.comm[3]",
        "handle",
        "GREEN",
        "tot*",
        "tw?n",
        "handle_t"
    ]));
    assert_eq!(
        find(&["low", "--kind", "member"]),
        "member        #10        4  event.low at 24: u32\n"
    );
    let value = good_json(&[
        "find",
        "--json",
        "event.kind",
        "GREEN",
        "--file",
        &file,
    ]);
    let [kind, green] = value.at("found").list() else {
        panic!("{value:?}");
    };
    assert_eq!(kind.at("bit_offset").number(), 288);
    assert_eq!(kind.at("bits").number(), 3);
    assert_eq!(green.at("value").number(), 1);
    // What is there is told, whatever else is not.
    let (status, stdout, stderr) = command(&[
        "find", "zzzzzz", "tot*", "--file", &file,
    ]);
    assert_eq!(status, REFUSED);
    assert!(stdout.ends_with("u32 total\n"), "{stdout}");
    assert!(stderr.starts_with("bpfsmith: no type, function or constant zzzzzz"));
    let (status, stdout, _) = command(&[
        "find", "zzzzzz", "tot*", "--json", "--file", &file,
    ]);
    assert_eq!(status, REFUSED);
    let found = json::parse(&stdout).expect("JSON");
    assert_eq!(found.at("found").list().len(), 1);
    for (word, hint) in [
        (
            "evnt",
            "no type, function or constant evnt in FILE: near: event",
        ),
        (
            "GREN",
            "no type, function or constant GREN in FILE: near: GREEN",
        ),
        ("evnt.pid", "no member evnt.pid in FILE: near: event"),
        ("event.com", "no member event.com in FILE: near: event.comm"),
        (
            "event.zzzzzz",
            "no member event.zzzzzz in FILE: `bpfsmith btf find 'event.*'` shows those that it has",
        ),
        (
            "zzzzzz",
            "no type, function or constant zzzzzz in FILE: names are case-sensitive, and * stands \
             for any text, as in '*sock*'",
        ),
    ] {
        let line = format!("bpfsmith: {}\n", hint.replace("FILE", &file));
        says(&["find", word, "--file", &file], REFUSED, "", &line);
    }
}

#[test]
fn differences_are_told() {
    let home = Home::new("btf-diff");
    let old = home.file("old.btf", &types(Edition::First));
    let new = home.file("new.btf", &types(Edition::Second));
    says(&["diff", &old, &old], DONE, "", "");
    let (status, text, stderr) = command(&["diff", &old, &new]);
    assert_eq!((status, stderr.as_str()), (DIFFERENT, ""));
    insta::assert_snapshot!(text.replace(&old, "OLD").replace(&new, "NEW"));

    says(&["diff", &old, &new, "unchanged", "twin"], DONE, "", "");
    let (status, text, _) = command(&["diff", &old, &new, "colour"]);
    assert_eq!(status, DIFFERENT);
    assert!(
        text.ends_with("~ enum colour\n    GREEN: 1 -> 2\n"),
        "{text}"
    );

    let (status, text, _) = command(&[
        "diff", &old, &new, "event", "gone", "--json",
    ]);
    assert_eq!(status, DIFFERENT);
    let value = json::parse(&text).expect("JSON");
    let [event, gone] = value.at("differences").list() else {
        panic!("{text}");
    };
    assert_eq!(event.at("old_size").number(), 40);
    assert_eq!(event.at("new_size").number(), 56);
    assert_eq!(event.at("changes").list()[0].at("change").text(), "size");
    assert_eq!(gone.at("difference").text(), "removed");
    assert_eq!(*gone.at("new_id"), Value::Null);
    says(
        &["diff", &old, &old, "--json"],
        DONE,
        &format!("{{\"old\":\"{old}\",\"new\":\"{old}\",\"differences\":[]}}\n"),
        "",
    );
}

#[test]
fn types_on_top_of_others_need_these() {
    let home = Home::new("btf-split");
    let bytes = types(Edition::First);
    let base = Btf::parse(bytes.clone()).expect("BTF");
    let mut b = Builder::on(&base);
    let event = base.find_struct("event").expect("a struct");
    b.structure("wrapped", 40, [("event", event, 0)]);
    let base = home.file("base.btf", &bytes);
    let file = home.file("split.btf", &b.build().expect("BTF"));
    let (status, stdout, stderr) = command(&["dump", "wrapped", "--file", &file]);
    assert_eq!((status, stdout.as_str()), (REFUSED, ""));
    assert!(stderr.ends_with(": name these with --base\n"), "{stderr}");
    let args = ["--file", &file, "--base", &base];
    assert_eq!(
        good(&[&["dump", "wrapped"], &args[..]].concat()),
        "struct wrapped {\n\tstruct event event; /*     0    40 */\n\
         \t/* 40 bytes, aligned to 8 */\n};\n"
    );
    // Its own types, and what they need.
    let all = good(&[&["dump"], &args[..]].concat());
    assert!(
        all.contains("struct event {") && !all.contains("struct gone {"),
        "{all}"
    );
    assert!(good(&[&["find", "gone"], &args[..]].concat()).starts_with("struct "));
}

#[test]
fn files_that_cannot_be_read_say_what_to_do() {
    let home = Home::new("btf-files");
    let good = home.file("good.btf", &types(Edition::First));
    let text = home.file("text", b"no types at all, just text");
    let cut = home.file("cut", b"\x7fELF\x02\x01");
    let missing = home.0.join("missing");
    let missing = missing.to_str().expect("a path");
    let lines = [
        (
            text.as_str(),
            format!(
                "bpfsmith: {text}: read BTF: it starts with 6e 6f instead of eb9f in either order: \
                 name a file of BTF, such as /sys/kernel/btf/vmlinux, or an ELF file with some\n"
            ),
        ),
        (
            missing,
            format!(
                "bpfsmith: read file {missing}: ENOENT (name a file of BTF, or an ELF file with \
                 some)\n"
            ),
        ),
    ];
    for (file, line) in &lines {
        says(&["dump", "--file", file], REFUSED, "", line);
        says(&["find", "x", "--file", file], REFUSED, "", line);
        says(&["diff", &good, file], TROUBLE, "", line);
    }
    let (status, _, stderr) = command(&["dump", "--file", &cut]);
    assert_eq!(status, REFUSED);
    assert!(
        stderr.contains(": no whole ELF file") && stderr.ends_with("was it cut off?\n"),
        "{stderr}"
    );
    says(
        &["dump", "evnt", "--file", &good],
        REFUSED,
        "",
        &format!("bpfsmith: no type evnt in {good}: near: event\n"),
    );
    says(
        &["dump", "event.pid", "--file", &good],
        REFUSED,
        "",
        &format!(
            "bpfsmith: no type event.pid in {good}: for a member use `bpfsmith btf find event.pid`\n"
        ),
    );
    says(
        &["diff", &good, &good, "evnt"],
        TROUBLE,
        "",
        &format!("bpfsmith: no type evnt in {good} and {good}: near: event\n"),
    );
}

/// The section of an ELF file, as a compiler leaves it.
#[test]
fn elf_files_have_a_section() {
    let home = Home::new("btf-elf");
    let types = types(Edition::First);
    let file = home.file("a.btf", &types);
    let elf = home.file("a.o", &elf_with(&[(".text", b"\xc3"), (".BTF", &types)]));
    assert_eq!(
        good(&["dump", "--raw", "--file", &elf]),
        good(&["dump", "--raw", "--file", &file])
    );
    says(&["diff", &elf, &file], DONE, "", "");
    let other = home.file("b.o", &elf_with(&[(".text", b"\xc3")]));
    says(
        &["dump", "--file", &other],
        REFUSED,
        "",
        &format!(
            "bpfsmith: {other}: no section .BTF: compile with -g for the target bpf, or add \
             types with pahole -J\n"
        ),
    );
    // A module brings a base of its own.
    let base = Btf::parse(types.clone()).expect("BTF");
    let mut b = Builder::on(&base);
    let event = base.find_struct("event").expect("a struct");
    b.structure("wrapped", 40, [("event", event, 0)]);
    let own = b.build().expect("BTF");
    let module = home.file("m.ko", &elf_with(&[(".BTF", &own), (".BTF.base", &types)]));
    let text = good(&[
        "find",
        "wrapped.event",
        "--file",
        &module,
    ]);
    assert!(
        text.ends_with("wrapped.event at 0: struct event\n"),
        "{text}"
    );
    says(
        &[
            "dump", "--file", &module, "--base", &file,
        ],
        REFUSED,
        "",
        &format!(
            "bpfsmith: {module} brings the types that it continues, in .BTF.base: leave out --base\n"
        ),
    );
}

/// A little-endian ELF file of 64 bits that consists of these sections.
fn elf_with(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = vec![0; 64];
    let mut names = vec![0];
    let mut headers = vec![0; 64];
    let mut header = |name: u32, kind: u32, offset: usize, size: usize| {
        let word = |value: usize| u64::try_from(value).expect("a size").to_le_bytes();
        headers.extend(name.to_le_bytes());
        headers.extend(kind.to_le_bytes());
        headers.extend([0; 16]);
        headers.extend(word(offset));
        headers.extend(word(size));
        headers.extend([0; 8]);
        headers.extend(word(1));
        headers.extend([0; 8]);
    };
    for (name, bytes) in sections {
        header(
            u32::try_from(names.len()).expect("a size"),
            1,
            out.len(),
            bytes.len(),
        );
        names.extend(name.as_bytes());
        names.push(0);
        out.extend(*bytes);
    }
    let own = u32::try_from(names.len()).expect("a size");
    names.extend(b".shstrtab\0");
    header(own, 3, out.len(), names.len());
    out.extend(&names);
    // The table is aligned.
    out.resize(out.len().next_multiple_of(8), 0);
    let start = u64::try_from(out.len()).expect("a size");
    let count = u16::try_from(sections.len() + 2).expect("a count");
    out.extend(&headers);
    out[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // A relocatable file for BPF.
    out[16..24].copy_from_slice(&[1, 0, 247, 0, 1, 0, 0, 0]);
    out[40..48].copy_from_slice(&start.to_le_bytes());
    out[52..54].copy_from_slice(&64_u16.to_le_bytes());
    out[58..60].copy_from_slice(&64_u16.to_le_bytes());
    out[60..62].copy_from_slice(&count.to_le_bytes());
    out[62..64].copy_from_slice(&(count - 1).to_le_bytes());
    out
}

#[test]
fn words_that_are_not_understood() {
    let usage = |args: &[&str], command: &str, message: &str| {
        let text = format!("bpfsmith {command}: {message}\nsee `bpfsmith help {command}`\n");
        says(args, 2, "", &text);
    };
    usage(&[], "btf", "nothing to do: use dump, find or diff");
    usage(&["show"], "btf", "cannot show: use dump, find or diff");
    usage(
        &["dump", "--raw", "--json"],
        "btf dump",
        "--raw and --json exclude each other: leave one out",
    );
    usage(
        &["dump", "--file", "x", "--module", "y"],
        "btf dump",
        "--file and --module exclude each other: leave one out",
    );
    usage(
        &["find", "--module", "../x", "y"],
        "btf find",
        "../x is no name of a module: write it as lsmod does",
    );
    usage(
        &["find"],
        "btf find",
        "nothing to look for: name a type, function or constant, or a member as tcp_sock.snd_cwnd",
    );
    usage(
        &["find", "x", "--kind", "thing"],
        "btf find",
        "--kind thing is not known: use one of member, constant, struct, union, enum, typedef, \
         func, var, int, float, fwd, datasec, decl_tag, type_tag",
    );
    usage(
        &["diff", "kernel"],
        "btf diff",
        "two places of types are needed: name files, kernel, module:NAME or id:N",
    );
    usage(
        &["diff", "kernel", "id:x"],
        "btf diff",
        "id x is not a number from 1 to 4294967295",
    );
    usage(
        &["dump", ""],
        "btf dump",
        "'' is no name: name a type, as tcp_sock or 'tcp_*'",
    );
}

/// Names may hold anything; terminals must not obey them.
#[test]
fn names_do_not_steer_a_terminal() {
    let home = Home::new("btf-names");
    let mut b = Builder::new();
    let int = b.number(Number::U32);
    b.structure("a\u{1b}[2Jb", 4, [("c\u{7}d", int, 0)]);
    b.enumeration("e\u{9b}", 4, &[("f\r", 1)]);
    let file = home.file("a.btf", &b.build().expect("BTF"));
    for args in [
        &["dump"][..],
        &["dump", "*"],
        &["dump", "--raw"],
        &["dump", "--json"],
        &["find", "*", "*.*"],
        &["find", "a*.*", "--json"],
        &["diff", "FILE", "kernel-of-nobody"],
    ] {
        let is_diff = args[0] == "diff";
        let mut args: Vec<&str> = args
            .iter()
            .map(|arg| if *arg == "FILE" { &file } else { *arg })
            .collect();
        if !is_diff {
            args.extend(["--file", &file]);
        }
        let (_, stdout, stderr) = command(&args);
        let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        assert!(!(stdout + &stderr).contains(steers), "{args:?}");
    }
}
