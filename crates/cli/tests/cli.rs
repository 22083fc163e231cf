//! The `bpfsmith` binary: what it prints, where, and with which status.

#[path = "../../asm/tests/support/mod.rs"]
mod support;

use bpfsmith_asm::isa::{Callee, Jmp, Op, Order, Raw, Reg, Src, Wide};
use bpfsmith_cli::{DONE, REFUSED, USAGE};
use proptest::prelude::*;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use support::{all_ops, any_op, encode};

/// What a run left behind.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    status: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

/// A directory of the test's own, empty at first.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _not_there_yet = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a directory for the test");
    path
}

fn binary(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpfsmith"));
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn feed(mut command: Command, stdin: &[u8]) -> Ran {
    let mut child = command.spawn().expect("the binary runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A command that refuses its arguments reads nothing.
            let _closed_early = pipe.write_all(stdin);
        });
        child.wait_with_output().expect("the binary ends")
    });
    Ran {
        status: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).expect("messages are text"),
    }
}

fn run(args: &[&str], stdin: &[u8]) -> Ran {
    feed(binary(args), stdin)
}

/// Asserts status and both streams of a run.
#[track_caller]
fn says(args: &[&str], stdin: impl AsRef<[u8]>, status: u8, stdout: &str, stderr: &str) {
    let ran = run(args, stdin.as_ref());
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert_eq!(
        (ran.status, out.as_str(), ran.stderr.as_str()),
        (Some(i32::from(status)), stdout, stderr),
        "{args:?}"
    );
}

/// The standard output of a run that has nothing to complain about.
#[track_caller]
fn good(args: &[&str], stdin: &[u8]) -> Vec<u8> {
    let ran = run(args, stdin);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
    ran.stdout
}

fn raw_bytes(insns: &[Raw]) -> Vec<u8> {
    insns
        .iter()
        .flat_map(|raw| raw.to_bytes(Order::Little))
        .collect()
}

/// The same command without a process: status and streams.
fn inside(args: &[&str], stdin: &[u8]) -> (u8, Vec<u8>, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let args = args.iter().map(Into::into).collect();
    let status = bpfsmith_cli::run(args, &mut &stdin[..], &mut stdout, &mut stderr);
    let stderr = String::from_utf8(stderr).expect("messages are text");
    (status, stdout, stderr)
}

const PROGRAM: &str = "\
; counts
  r6 = r1
  r1 = 0x1122334455667788 ll
  call ktime_get_ns
  if r0 != 0 goto done
  r0 = 1
done:
  exit
";

const HEX: &str = "\
bf 16 00 00 00 00 00 00
18 01 00 00 88 77 66 55
00 00 00 00 44 33 22 11
85 00 00 00 05 00 00 00
55 00 01 00 00 00 00 00
b7 00 00 00 01 00 00 00
95 00 00 00 00 00 00 00
";

const LISTING: &str = "  \
  r6 = r1
  r1 = 0x1122334455667788 ll
  call ktime_get_ns#5
  if r0 != 0 goto L6
  r0 = 1
L6:
  exit
";

// Round trips.

#[test]
fn asm_and_disasm_undo_each_other_in_hex() {
    says(&["asm"], PROGRAM, DONE, HEX, "");
    says(&["asm", "-"], PROGRAM, DONE, HEX, "");
    says(&["asm", "--format=hex", "-o", "-"], PROGRAM, DONE, HEX, "");
    says(&["disasm"], HEX, DONE, LISTING, "");
    says(
        &["disasm", "--format", "hex", "--", "-"],
        HEX,
        DONE,
        LISTING,
        "",
    );
    says(&["asm"], LISTING, DONE, HEX, "");
    let dense: String = HEX.to_uppercase().split_whitespace().collect();
    says(&["disasm"], dense, DONE, LISTING, "");
}

#[test]
fn asm_and_disasm_undo_each_other_in_raw_bytes() {
    let bytes = good(&["asm", "--format", "raw"], PROGRAM.as_bytes());
    assert_eq!(bytes[..8], [0xbf, 0x16, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes.len(), 7 * 8);
    let text = good(&["disasm", "--format", "raw"], &bytes);
    assert_eq!(String::from_utf8_lossy(&text), LISTING);
}

#[test]
fn nothing_is_a_program_of_no_bytes() {
    for args in [
        &["asm"][..],
        &["disasm"],
        &["disasm", "--format=raw"],
    ] {
        says(args, "", DONE, "", "");
    }
    says(&["asm"], "; a comment\n\nlabel:\n", DONE, "", "");
    says(&["disasm"], " \n\t\r\n", DONE, "", "");
}

#[test]
fn every_form_of_every_instruction_comes_back() {
    let insns = encode(&all_ops());
    let bytes = raw_bytes(&insns);
    let text = good(&["disasm", "--format=raw"], &bytes);
    assert!(
        good(&["asm", "--format=raw"], &text) == bytes,
        "raw bytes differ"
    );
    let hex = good(&["asm"], &text);
    assert_eq!(good(&["disasm"], &hex), text);
    // One by one, so that no neighbour becomes the target of a jump.
    for op in all_ops() {
        let insns = encode(&[op]);
        let text = bpfsmith_cli::disasm::text(&insns).expect("an instruction");
        let (status, bytes, stderr) = inside(&["asm", "--format=raw"], text.as_bytes());
        assert_eq!((status, stderr.as_str()), (DONE, ""), "{text}");
        assert_eq!(bytes, raw_bytes(&insns), "{text}");
    }
}

#[test]
fn a_jump_to_no_instruction_keeps_its_distance() {
    let text = "  goto +1\n  r1 = 0x0 ll\n  goto -9\n  call pc+0\n";
    let (_, hex, _) = inside(&["asm"], text.as_bytes());
    says(&["disasm"], &hex, DONE, text, "");
}

#[test]
fn labels_name_what_is_called_jumped_to_and_pointed_at() {
    let text = "  call L4\n  r1 = func[L4]\n  gotol L5\nL4:\n  may_goto L4\nL5:\n  exit\n";
    let (_, hex, _) = inside(&["asm"], text.as_bytes());
    says(&["disasm"], &hex, DONE, text, "");
}

/// Instructions that go to a place nearby, most of which exist.
fn near() -> impl Strategy<Value = Op> {
    (0..6, -9..9i16).prop_map(|(form, off)| match form {
        0 => Op::Ja(off),
        1 => Op::JaLong(i32::from(off)),
        2 => Op::MayGoto(off),
        3 => Op::Call(Callee::Local(i32::from(off))),
        4 => Op::Wide(Reg::n(3), Wide::Func(i32::from(off))),
        _ => Op::Jump(
            Jmp::SLt,
            bpfsmith_asm::isa::Bits::B32,
            Reg::n(4),
            Src::Imm(-1),
            off,
        ),
    })
}

fn any_program(most: usize) -> impl Strategy<Value = Vec<Raw>> {
    prop::collection::vec(prop_oneof![any_op(), near()], 0..most).prop_map(|ops| encode(&ops))
}

/// Text that is almost right, bytes that are nothing, and all between.
fn any_input() -> impl Strategy<Value = Vec<u8>> {
    let snippets = prop::sample::select(
        &[
            "r1",
            "w10",
            " = ",
            "*(u32 *)(",
            "goto ",
            "if ",
            "call ",
            "map[",
            "]",
            "exit\n",
            "\n",
            "0x",
            "99999999999999999999",
            "- ",
            "\0",
            "\u{feff}",
            "é",
            ":",
            ";",
            "(85) ",
            "b7 ",
            "18",
            "00 ",
            "lock ",
            "func[pc+",
            "cmpxchg_64(",
            " ll",
            "program p XDP\n",
            "map m ARRAY key 4 value 8 entries 1\n",
            "func f\n",
            "section .data ",
        ][..],
    );
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        prop::collection::vec(snippets, 0..24).prop_map(|parts| parts.concat().into_bytes()),
        (any_program(8), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(insns, at, b)| {
            let mut text = bpfsmith_cli::disasm::text(&insns)
                .expect("a program")
                .into_bytes();
            if !text.is_empty() {
                let at = at.index(text.len());
                text[at] = b;
            }
            text
        }),
        (any_program(8), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(insns, at, b)| {
            let mut bytes = raw_bytes(&insns);
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = b;
                bytes.truncate(bytes.len() - usize::from(b & 3));
            }
            bytes
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_program_comes_back(insns in any_program(24)) {
        let text = bpfsmith_cli::disasm::text(&insns).expect("a program");
        let (status, hex, stderr) = inside(&["asm"], text.as_bytes());
        prop_assert_eq!((status, stderr.as_str()), (DONE, ""), "{}", text);
        let expected = bpfsmith_cli::hex::write(&insns).into_bytes();
        prop_assert_eq!(&hex, &expected, "{}", text);
        let (_, again, _) = inside(&["disasm"], &hex);
        prop_assert_eq!(String::from_utf8_lossy(&again), text);
    }

    /// Whatever comes in: no panic, and either an output or a reason, each line with its place.
    #[test]
    fn any_input_is_taken_or_refused(input in any_input()) {
        for args in [
            &["asm"][..],
            &["disasm"],
            &["disasm", "--format=raw"],
            &["check", "--type=xdp"],
            &["check", "--format=hex"],
            &["check", "--format=raw"],
        ] {
            let (status, stdout, stderr) = inside(args, &input);
            match status {
                DONE => prop_assert!(stderr.lines().all(|line| line.starts_with("note: "))),
                _ => {
                    prop_assert_eq!(status, REFUSED);
                    let stdout = String::from_utf8_lossy(&stdout);
                    prop_assert!(stdout.is_empty() || stdout.contains(": error: "));
                    prop_assert!(stdout.is_empty() != stderr.is_empty());
                    for line in stderr.lines().chain(stdout.lines()) {
                        prop_assert!(line.starts_with("<stdin>:"), "{args:?} {line}");
                        prop_assert!(!line.contains(char::is_control), "{line:?}");
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_program_comes_back_through_pipes(insns in any_program(400)) {
        let bytes = raw_bytes(&insns);
        let text = good(&["disasm", "--format=raw"], &bytes);
        prop_assert_eq!(good(&["asm", "--format=raw"], &text), bytes);
    }
}

// Files.

#[test]
fn files_are_read_and_written() {
    let home = directory("files");
    let in_home = |args: &[&str]| {
        let mut command = binary(args);
        command.current_dir(&home);
        feed(command, b"this is not read")
    };
    let quiet = Ran {
        status: Some(0),
        stdout: Vec::new(),
        stderr: String::new(),
    };
    std::fs::write(home.join("p.txt"), PROGRAM).expect("a file");
    assert_eq!(in_home(&["asm", "p.txt", "-o", "p.hex"]), quiet);
    let hex = std::fs::read_to_string(home.join("p.hex")).expect("the output");
    assert_eq!(hex, HEX);
    assert_eq!(
        in_home(&[
            "asm", "-o", "p.raw", "--format", "raw", "p.txt"
        ]),
        quiet
    );
    let raw = std::fs::read(home.join("p.raw")).expect("the output");
    assert_eq!(raw, good(&["asm", "--format=raw"], PROGRAM.as_bytes()));
    for args in [
        &["disasm", "p.hex"][..],
        &["disasm", "--format=raw", "p.raw"],
    ] {
        let ran = in_home(args);
        assert_eq!(String::from_utf8_lossy(&ran.stdout), LISTING);
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    }
    // Over its own input: that was read before.
    assert_eq!(in_home(&["asm", "p.txt", "-o", "p.txt"]), quiet);
    assert_eq!(
        std::fs::read_to_string(home.join("p.txt")).expect("the output"),
        HEX
    );
    // A name that looks like an option.
    std::fs::write(home.join("-o"), "exit").expect("a file");
    assert_eq!(
        in_home(&["asm", "--", "-o"]).stdout,
        b"95 00 00 00 00 00 00 00\n"
    );
}

#[test]
fn a_refused_input_leaves_the_output_alone() {
    let home = directory("refused");
    let out = home.join("out.hex");
    std::fs::write(&out, "as before").expect("a file");
    let path = out.to_str().expect("a plain path");
    says(
        &["asm", "-o", path],
        "exit\nexti\n",
        REFUSED,
        "",
        "<stdin>:2:1: `exti` starts no instruction: expected r0 to r10, w0 to w10, `*(`, if, goto, \
         gotol, may_goto, call, exit, lock, store_release or a label and `:`\n",
    );
    assert_eq!(
        std::fs::read_to_string(&out).expect("the file"),
        "as before"
    );
    let new = home.join("new.hex");
    let path = new.to_str().expect("a plain path");
    assert_eq!(run(&["asm", "-o", path], b"exti").status, Some(1));
    assert!(!new.exists());
}

#[test]
fn files_that_cannot_be_used_are_named() {
    for command in ["asm", "disasm", "check"] {
        says(
            &[command, "/no/such/file"],
            "",
            REFUSED,
            "",
            "bpfsmith: cannot read /no/such/file: No such file or directory (os error 2)\n",
        );
        says(
            &[command, "/"],
            "",
            REFUSED,
            "",
            "bpfsmith: cannot read /: Is a directory (os error 21)\n",
        );
    }
    says(
        &["asm", "-o", "/no/such/place"],
        "exit",
        REFUSED,
        "",
        "bpfsmith: cannot write /no/such/place: No such file or directory (os error 2)\n",
    );
    says(
        &["asm", "-o", "/dev/full"],
        "exit",
        REFUSED,
        "",
        "bpfsmith: cannot write /dev/full: No space left on device (os error 28)\n",
    );
}

#[test]
fn a_full_standard_output_is_an_error() {
    for (args, input) in [
        (&["asm"][..], "exit"),
        (&["disasm"], "95 00 00 00 00 00 00 00"),
        (&["check"], "exit"),
        (&["--help"], ""),
        (&["--version"], ""),
    ] {
        let mut command = binary(args);
        let full = std::fs::File::options().write(true).open("/dev/full");
        command.stdout(full.expect("the full device"));
        let ran = feed(command, input.as_bytes());
        let message =
            "bpfsmith: cannot write standard output: No space left on device (os error 28)\n";
        assert_eq!(
            (ran.status, ran.stderr.as_str()),
            (Some(1), message),
            "{args:?}"
        );
    }
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let mut child = binary(&["asm"]).spawn().expect("the binary runs");
    drop(child.stdout.take());
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all("r0 = 0\n".repeat(100_000).as_bytes())
        .expect("it reads");
    drop(pipe);
    let output = child.wait_with_output().expect("the binary ends");
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

// Refused input.

#[test]
fn every_error_in_a_text_has_line_and_column() {
    says(
        &["asm"],
        "r1 = 5 ll\n  r11 = 0\nr0 = r1 r2\n goto nowhere\nexit",
        REFUSED,
        "",
        "<stdin>:2:3: `r11` is no register: BPF has r0 to r10\n\
         <stdin>:3:9: expected the end of the line or a comment (`;`), found `r2`\n\
         <stdin>:4:7: no label `nowhere`: write `nowhere:` in front of its target\n",
    );
    says(
        &["check"],
        "r1 = 0x1ffffffff",
        REFUSED,
        "",
        "<stdin>:1:6: 8589934591 does not fit in the 32 bits that are sign-extended: append ll, \
         `r1 = 8589934591 ll`\n",
    );
}

#[test]
fn what_is_no_text_is_refused() {
    says(
        &["asm"],
        b"exit\n; \xc3\xa9 \xff\n",
        REFUSED,
        "",
        "<stdin>:2:5: byte 0xff is not UTF-8, so this is no text\n",
    );
    says(
        &["disasm"],
        b"\xb7\0\0\0\0\0\0\0",
        REFUSED,
        "",
        "<stdin>:1:1: byte 0xb7 is no hexadecimal digit: for bytes as they are use --format raw\n",
    );
    says(
        &["asm"],
        "exit \0\u{1b}[2J",
        REFUSED,
        "",
        "<stdin>:1:6: expected the end of the line or a comment (`;`), found `\\u{0}`\n",
    );
}

#[test]
fn a_huge_line_is_refused_in_a_short_one() {
    let word = "x".repeat(1 << 20);
    let ran = run(&["asm"], word.as_bytes());
    assert_eq!(ran.status, Some(1));
    assert!(
        ran.stderr.starts_with("<stdin>:1:1: `xxxx"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.len() < 300, "{}", ran.stderr);
    let many = "exit exit\n".repeat(5000);
    let ran = run(&["asm"], many.as_bytes());
    assert_eq!((ran.status, ran.stderr.lines().count()), (Some(1), 100));
}

#[test]
fn hex_that_is_no_hex_has_line_and_column() {
    for command in [
        &["disasm"][..],
        &["check", "--format=hex"],
    ] {
        says(
            command,
            "95 00 00 00\n00 00 zz 00",
            REFUSED,
            "",
            "<stdin>:2:7: `z` is no hexadecimal digit: write bytes as `b7 00`\n",
        );
        says(
            command,
            "95 00 00 00 00 00 00 0\n",
            REFUSED,
            "",
            "<stdin>:1:22: `0` stands alone: a byte is two hexadecimal digits\n",
        );
    }
}

#[test]
fn every_slot_that_is_no_instruction_is_named() {
    let bytes = [
        [0xff, 0, 0, 0, 0, 0, 0, 0],
        [0x95, 0, 0, 0, 0, 0, 0, 0],
        [0xb7, 0x0b, 0, 0, 0, 0, 0, 0],
        [0xb7, 0x10, 0, 0, 0, 0, 0, 0],
        [0x18, 0x01, 0, 0, 0, 0, 0, 0],
    ];
    let mut raw = bytes.concat();
    raw.extend([0; 3]);
    let errors = "\
<stdin>: instruction 0: opcode 0xff is no BPF instruction
<stdin>: instruction 2: r11 is no register: BPF has r0 to r10
<stdin>: instruction 3: src must be zero here: this instruction does not use it
<stdin>: instruction 4: the second half of lddw is missing: append its slot
<stdin>: instruction 5: 3 bytes left over: instructions are 8 bytes each
";
    says(&["disasm", "--format=raw"], &raw, REFUSED, "", errors);
    says(&["check", "--format=raw"], &raw, REFUSED, "", errors);
}

#[test]
fn a_slot_in_hex_that_is_no_instruction_has_line_and_column() {
    says(
        &["disasm"],
        "9500000000000000 180100000000000095\n000000 00000000\nb7",
        REFUSED,
        "",
        "<stdin>:1:18: instruction 1: lddw is followed by a slot that is not its second half\n\
         <stdin>:3:1: instruction 3: 1 bytes left over: instructions are 8 bytes each\n",
    );
}

#[test]
fn of_very_many_bad_slots_a_hundred_are_named() {
    let ran = run(&["disasm", "--format=raw"], &[0xff; 8 * 250]);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!((ran.status, lines.len()), (Some(1), 101));
    assert_eq!(
        lines[99],
        "<stdin>: instruction 99: r15 is no register: BPF has r0 to r10"
    );
    assert_eq!(lines[100], "<stdin>: and 150 more errors");
}

// Names.

#[test]
fn names_that_loading_fills_in_are_noted() {
    says(
        &["asm"],
        "r1 = map[hits]\nr2 = map[hits] + 8\nr3 = section[.data] + 4\nr4 = ksym[jiffies]\n\
         call kfunc[bpf_xdp_metadata_rx_hash]\n",
        DONE,
        "\
18 11 00 00 00 00 00 00
00 00 00 00 00 00 00 00
18 22 00 00 00 00 00 00
00 00 00 00 08 00 00 00
18 23 00 00 00 00 00 00
00 00 00 00 04 00 00 00
18 34 00 00 00 00 00 00
00 00 00 00 00 00 00 00
85 20 00 00 00 00 00 00
",
        "\
note: instruction 0 refers to map hits: filled in when loaded
note: instruction 2 refers to the value of map hits + 8: filled in when loaded
note: instruction 4 refers to section .data + 4: filled in when loaded
note: instruction 6 refers to kernel variable jiffies: filled in when loaded
note: instruction 8 refers to kernel function bpf_xdp_metadata_rx_hash: filled in when loaded
",
    );
}

// The checker.

#[test]
fn a_good_program_has_no_findings() {
    for kind in [
        "xdp",
        "sched_cls",
        "XDP",
        "BPF_PROG_TYPE_XDP",
        "socket_filter",
    ] {
        says(&["check", "--type", kind], "r0 = 0\nexit", DONE, "", "");
    }
    says(&["check"], PROGRAM, DONE, "", "");
    says(&["check", "--format=hex"], HEX, DONE, "", "");
    says(&["check"], "r1 = map[hits]\nr0 = 0\nexit", DONE, "", "");
}

#[test]
fn every_finding_is_where_it_was_written() {
    let text = "; reads two registers\nr0 = 0x1 ll\n  r2 = r3\nx: *(u32 *)(r10 - 6) = r4\nexit\n";
    says(
        &["check"],
        text,
        REFUSED,
        "\
<stdin>:3:3: error: r3 is read but was never written: write it first
<stdin>:4:4: error: r4 is read but was never written: write it first
<stdin>:4:4: error: 4 bytes at r10-6 are misaligned: on the stack an offset is a multiple of the size
",
        "",
    );
    let (_, hex, _) = inside(&["asm"], text.as_bytes());
    says(
        &["check", "--format", "hex"],
        hex,
        REFUSED,
        "\
<stdin>:3:1: instruction 2: error: r3 is read but was never written: write it first
<stdin>:4:1: instruction 3: error: r4 is read but was never written: write it first
<stdin>:4:1: instruction 3: error: 4 bytes at r10-6 are misaligned: on the stack an offset is a multiple of the size
",
        "",
    );
    let (_, raw, _) = inside(&["asm", "--format=raw"], b"r1 = r9\nr0 = 0\nexit");
    says(
        &["check", "--format", "raw"],
        raw,
        REFUSED,
        "<stdin>: instruction 0: error: r9 is read but was never written: write it first\n",
        "",
    );
}

#[test]
fn warnings_alone_do_not_refuse() {
    says(
        &["check"],
        "if r1 == 0 goto skip\nr0 = 1\nskip: exit",
        DONE,
        "<stdin>:3:7: warning: r0 is the result, but is not set on some paths: set it with \
         mov(R0, …) or end with ret(…)\n",
        "",
    );
}

#[test]
fn the_type_decides_which_helpers_may_be_called() {
    let text = "r2 = 0\ncall xdp_adjust_head\nexit";
    let message = "<stdin>:2:1: error: helper xdp_adjust_head may not be called from \
                   BPF_PROG_TYPE_SCHED_CLS: it is for XDP, EXT\n";
    says(&["check", "--type=sched_cls"], text, REFUSED, message, "");
    says(&["check", "--type=xdp"], text, DONE, "", "");
    says(&["check"], text, DONE, "", "");
}

#[test]
fn a_listing_says_its_own_type_and_describes_its_maps() {
    let text = "\
program adjust SCHED_CLS
map hits ARRAY key 4 value 8 entries 1

func adjust
  r2 = 0
  call xdp_adjust_head#44
  r1 = map[hits]
  exit
";
    says(
        &["check"],
        text,
        REFUSED,
        "<stdin>:6:3: error: helper xdp_adjust_head may not be called from \
         BPF_PROG_TYPE_SCHED_CLS: it is for XDP, EXT\n",
        "",
    );
    says(&["check", "--type=xdp"], text, DONE, "", "");
    says(&["check"], text.replace("SCHED_CLS", "XDP"), DONE, "", "");
    says(
        &["check", "--type=xdp"],
        text.replace("SCHED_CLS", "XDP")
            .replace("map[hits]", "map[misses]"),
        REFUSED,
        "<stdin>:7:3: error: map `misses` is not described: add `map misses ARRAY key 4 value 8 \
         entries 1`\n",
        "",
    );
    says(
        &["check"],
        "program p XDP\nif r1 == 0 goto skip\nr0 = 1\nskip: exit",
        DONE,
        "<stdin>:4:7: warning: r0 is the result, but is not set on some paths: set it with \
         mov(R0, …) or end with ret(…)\n",
        "",
    );
    says(
        &["asm"],
        text,
        DONE,
        "\
b7 02 00 00 00 00 00 00
85 00 00 00 2c 00 00 00
18 11 00 00 00 00 00 00
00 00 00 00 00 00 00 00
95 00 00 00 00 00 00 00
",
        "note: instruction 2 refers to map hits: filled in when loaded\n",
    );
}

#[test]
fn an_empty_program_is_refused_without_a_place_in_it() {
    for format in ["text", "hex", "raw"] {
        says(
            &["check", "--format", format],
            "",
            REFUSED,
            "<stdin>: error: the program is empty: end it with ret(…) or exit()\n",
            "",
        );
    }
}

// The command line.

#[test]
fn help_is_the_same_on_both_ways() {
    for (topic, page) in [
        ("asm", good(&["help", "asm"], b"")),
        ("disasm", good(&["help", "disasm"], b"")),
        ("check", good(&["help", "check"], b"")),
        ("run", good(&["help", "run"], b"")),
        ("probe", good(&["help", "probe"], b"")),
        ("progs", good(&["help", "progs"], b"")),
        ("maps", good(&["help", "maps"], b"")),
        ("links", good(&["help", "links"], b"")),
    ] {
        for flag in ["--help", "-h"] {
            assert_eq!(good(&[topic, flag], b""), page, "{topic} {flag}");
            assert_eq!(good(&[topic, "file", flag], b""), page, "{topic} {flag}");
        }
        let page = String::from_utf8(page).expect("text");
        assert!(
            page.lines().all(|line| line.chars().count() <= 80),
            "{page}"
        );
        insta::assert_snapshot!(format!("help_{topic}"), page);
    }
    let page = good(&["help", "btf"], b"");
    for args in [
        &["btf", "-h"][..],
        &["btf", "dump", "--help"],
        &["btf", "find", "x", "-h"],
        &["help", "btf", "diff"],
    ] {
        assert_eq!(good(args, b""), page, "{args:?}");
    }
    let page = String::from_utf8(page).expect("text");
    assert!(
        page.lines().all(|line| line.chars().count() <= 80),
        "{page}"
    );
    insta::assert_snapshot!("help_btf", page);
    let page = good(&["--help"], b"");
    for args in [
        &["-h"][..],
        &["help"],
        &["help", "help"],
    ] {
        assert_eq!(good(args, b""), page, "{args:?}");
    }
    insta::assert_snapshot!("help", String::from_utf8(page).expect("text"));
}

#[test]
fn the_example_in_the_help_is_one() {
    let page = String::from_utf8(good(&["asm", "--help"], b"")).expect("text");
    let example = page
        .split("\n\n")
        .find(|part| part.starts_with("  r0"))
        .expect("an example");
    says(&["check"], example, DONE, "", "");
}

#[test]
fn the_version_is_the_packages() {
    let version = concat!("bpfsmith ", env!("CARGO_PKG_VERSION"), "\n");
    says(&["--version"], "", DONE, version, "");
    says(&["-V"], "", DONE, version, "");
}

#[track_caller]
fn misused(args: &[&str], message: &str, help: &str) {
    says(
        args,
        "exit",
        USAGE,
        "",
        &format!("{message}\nsee `{help}`\n"),
    );
}

#[test]
fn a_command_line_that_is_wrong_says_what_is_allowed() {
    let commands = "use asm, disasm, check, run, probe, progs, maps, links, btf, help, --help or \
                    --version";
    let general = [
        (
            &[][..],
            "no command is given: use asm, disasm, check, run, probe, progs, maps, links, btf or help"
                .to_owned(),
        ),
        (
            &["assemble"],
            format!("unknown command assemble: {commands}"),
        ),
        (&[""], format!("unknown command '': {commands}")),
        (&["-x", "asm"], format!("unknown option -x: {commands}")),
        (
            &["\u{1b}[2J"],
            format!("unknown command \\u{{1b}}[2J: {commands}"),
        ),
        (
            &["help", "me"],
            "no help about me: use asm, disasm, check, run, probe, progs, maps, links, btf".to_owned(),
        ),
        (
            &["help", "asm", "check"],
            "no help about asm check: use asm, disasm, check, run, probe, progs, maps, links, btf"
                .to_owned(),
        ),
    ];
    for (args, message) in general {
        misused(args, &format!("bpfsmith: {message}"), "bpfsmith help");
    }
}

#[test]
fn arguments_of_asm_that_are_wrong_say_what_is_allowed() {
    for (args, message) in [
        (&["-x"][..], "unknown option -x: use -o, --format or --help"),
        (
            &["--out=x"],
            "unknown option --out=x: use -o, --format or --help",
        ),
        (&["-o=x"], "unknown option -o=x: use -o, --format or --help"),
        (
            &["-o"],
            "-o needs a value: a file to write, or - for standard output",
        ),
        (&["--format"], "--format needs a value: raw or hex"),
        (
            &["--format", "text"],
            "--format text is not known: use raw or hex",
        ),
        (&["--format="], "--format '' is not known: use raw or hex"),
        (
            &["--format=raw", "--format=hex"],
            "--format is given twice: once is enough",
        ),
        (&["-o", "a", "-o", "b"], "-o is given twice: once is enough"),
        (&["a", "b"], "two files are given, a and b: one is allowed"),
        (&["-", "-"], "two files are given, - and -: one is allowed"),
        (
            &[""],
            "the file's name is empty: name a file, or - for standard input",
        ),
    ] {
        let args = [&["asm"], args].concat();
        misused(
            &args,
            &format!("bpfsmith asm: {message}"),
            "bpfsmith help asm",
        );
    }
}

#[test]
fn arguments_of_the_others_that_are_wrong_say_what_is_allowed() {
    misused(
        &["disasm", "-o", "x"],
        "bpfsmith disasm: unknown option -o: use --format or --help",
        "bpfsmith help disasm",
    );
    misused(
        &["disasm", "--format", "elf"],
        "bpfsmith disasm: --format elf is not known: use raw or hex",
        "bpfsmith help disasm",
    );
    misused(
        &["check", "--format", "elf"],
        "bpfsmith check: --format elf is not known: use text, hex or raw",
        "bpfsmith help check",
    );
    misused(
        &["check", "--type"],
        "bpfsmith check: --type needs a value: a program type, such as xdp or sched_cls",
        "bpfsmith help check",
    );
    for kind in ["tcx", "unspec"] {
        misused(
            &["check", "--type", kind],
            &format!(
                "bpfsmith check: --type {kind} is not known: use one of socket_filter, kprobe, \
                 sched_cls, sched_act, tracepoint, xdp, perf_event, cgroup_skb, cgroup_sock, \
                 lwt_in, lwt_out, lwt_xmit, sock_ops, sk_skb, cgroup_device, sk_msg, \
                 raw_tracepoint, cgroup_sock_addr, lwt_seg6local, lirc_mode2, sk_reuseport, \
                 flow_dissector, cgroup_sysctl, raw_tracepoint_writable, cgroup_sockopt, tracing, \
                 struct_ops, ext, lsm, sk_lookup, syscall, netfilter"
            ),
            "bpfsmith help check",
        );
    }
}

#[test]
fn arguments_of_commands_that_ask_the_kernel_say_what_is_allowed() {
    let types = "--type needs a value: a program type, such as xdp or sched_cls";
    for (command, args, message) in [
        ("run", &["--type"][..], types),
        (
            "run",
            &["--json=yes"],
            "--json takes no value: leave it out",
        ),
        (
            "run",
            &["--json", "--json"],
            "--json is given twice: once is enough",
        ),
        (
            "run",
            &["--repeat", "0"],
            "--repeat 0 is not a number from 1 to 2147483647",
        ),
        (
            "run",
            &["-x"],
            "unknown option -x: use --format, --type, --input, --ctx, --repeat, --json or --help",
        ),
        (
            "run",
            &["a", "b"],
            "two files are given, a and b: one is allowed",
        ),
        (
            "probe",
            &["map", "mop"],
            "unknown group mop: use prog, map, attach, link, isa, feature, struct_ops, helper, \
             kfunc",
        ),
        (
            "progs",
            &["list", "7"],
            "cannot list 7: use list, show ID or dump ID",
        ),
        (
            "progs",
            &["show"],
            "cannot show: use list, show ID or dump ID",
        ),
        ("maps", &[""], "cannot '': use list, show ID or dump ID"),
        (
            "links",
            &["show", "x\u{7}"],
            "ID x\\u{7} is not a number from 1 to 4294967295",
        ),
        (
            "maps",
            &["dump", "4294967296"],
            "ID 4294967296 is not a number from 1 to 4294967295",
        ),
        (
            "progs",
            &["--jited"],
            "--jited belongs to dump: use dump ID --jited",
        ),
        (
            "links",
            &["dump", "1", "--jited"],
            "unknown option --jited: use --json or --help",
        ),
    ] {
        let args = [&[command], args].concat();
        misused(
            &args,
            &format!("bpfsmith {command}: {message}"),
            &format!("bpfsmith help {command}"),
        );
    }
}

#[test]
fn a_program_that_cannot_be_loaded_says_what_is_missing() {
    says(
        &["run"],
        "r0 = 0\nexit\n",
        REFUSED,
        "",
        "<stdin>: the program's type is not known: give --type, or start the text with \
         `program NAME XDP`\n",
    );
    says(
        &["run", "--type", "tc"],
        "program p XDP\nr0 = 0\nexit\n",
        REFUSED,
        "",
        "<stdin>: its `program` line says BPF_PROG_TYPE_XDP, --type says BPF_PROG_TYPE_SCHED_CLS: \
         leave one out\n",
    );
    says(
        &["run", "--type", "xdp"],
        "r1 = map[hits]\nr0 = 0\nexit\n",
        REFUSED,
        "",
        "<stdin>: refers to maps or data by name: start the text with `program \
         NAME XDP` and describe its maps, `map hits ARRAY key 4 value 8 entries 1`\n",
    );
    says(
        &["run"],
        "program p XDP\nr1 = map[hits]\nr0 = 0\nexit\n",
        REFUSED,
        "",
        "<stdin>:2:1: error: map `hits` is not described: add `map hits ARRAY key 4 value 8 \
         entries 1`\n",
    );
    says(
        &[
            "run",
            "--type",
            "xdp",
            "--input",
            "/no/such/file",
        ],
        "r0 = 0\nexit\n",
        REFUSED,
        "",
        "bpfsmith: --input /no/such/file is not hex (`b7 00`), and as a file cannot be read: No \
         such file or directory (os error 2)\n",
    );
}

#[test]
fn arguments_that_are_no_unicode_are_taken_and_told() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let odd = OsStr::from_bytes(b"p\xff.txt");
    let home = directory("odd");
    std::fs::write(home.join(odd), "exit").expect("a file");
    let mut command = binary(&["asm"]);
    command.arg(odd).current_dir(&home);
    let ran = feed(command, b"");
    assert_eq!(
        (ran.status, ran.stdout, ran.stderr.as_str()),
        (Some(0), b"95 00 00 00 00 00 00 00\n".to_vec(), "")
    );
    let mut command = binary(&["check", "--type"]);
    command.arg(odd);
    let ran = feed(command, b"");
    assert_eq!(ran.status, Some(2));
    let start = "bpfsmith check: --type p\u{fffd}.txt is not known: use one of socket_filter,";
    assert!(ran.stderr.starts_with(start), "{}", ran.stderr);
}
