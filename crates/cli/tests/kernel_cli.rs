//! Commands that ask the kernel, about objects that the tests make.

#[path = "support/json.rs"]
mod json;

use bpfsmith_asm::dsl::*;
use bpfsmith_cli::probing::Watcher;
use bpfsmith_cli::{DONE, REFUSED, run_watched};
use bpfsmith_gate::needs;
use bpfsmith_maps::{Map, PerCpu, PerCpuMap, Queue};
use bpfsmith_net::{IfIndex, NetNs};
use bpfsmith_prog::target::Xdp;
use bpfsmith_prog::{Load, Maps, Prog, list};
use json::Value;
use std::io::{self, ErrorKind, Write};

/// Status, standard output and standard error of a command.
fn command(args: &[&str], stdin: &str) -> (u8, String, String) {
    watched(args, stdin, Watcher::Nobody)
}

fn watched(args: &[&str], stdin: &str, watcher: Watcher) -> (u8, String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let args = args.iter().map(Into::into).collect();
    let mut stdin = stdin.as_bytes();
    let status = run_watched(args, &mut stdin, &mut stdout, &mut stderr, watcher);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status, text(stdout), text(stderr))
}

/// Standard output of a command that has nothing to complain about.
#[track_caller]
fn good(args: &[&str], stdin: &str) -> String {
    let (status, stdout, stderr) = command(args, stdin);
    assert_eq!((status, stderr.as_str()), (DONE, ""), "{args:?}");
    stdout
}

#[track_caller]
fn good_json(args: &[&str], stdin: &str) -> Value {
    let text = good(args, stdin);
    assert_eq!(text.matches('\n').count(), 1, "one line: {text}");
    json::parse(&text).unwrap_or_else(|at| panic!("{args:?}: no JSON at {at}: {text}"))
}

#[track_caller]
fn refused(args: &[&str], stdin: &str) -> String {
    let (status, stdout, stderr) = command(args, stdin);
    assert_eq!(
        (status, stdout.as_str()),
        (REFUSED, ""),
        "{args:?}: {stderr}"
    );
    stderr
}

const COUNTER: &str = "\
program count XDP
map bs_cli_hits HASH key 4 value 8 entries 2
  r2 = *(u32 *)(r1 + 0)
  r3 = *(u32 *)(r1 + 4)
  r4 = r2
  r4 += 14
  if r4 > r3 goto out
  r4 = 42
  *(u8 *)(r2 + 3) = r4
  r4 = 0
  *(u32 *)(r10 - 4) = r4
  r2 = r10
  r2 += -4
  r1 = map[bs_cli_hits]
  call map_lookup_elem
  if r0 == 0 goto out
  r1 = 1
  lock *(u64 *)(r0 + 0) += r1
out:
  r0 = 2
  exit
";

#[test]
fn a_run_tells_answer_and_packet() {
    needs!(Root, Bpf);
    let text = good(
        &[
            "run",
            "--input",
            "00112233445566778899aabbccddeeff",
        ],
        COUNTER,
    );
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "retval    2 (XDP_PASS)");
    assert!(
        lines[1].starts_with("duration  ") && lines[1].ends_with(" ns"),
        "{text}"
    );
    assert_eq!(
        lines[2..],
        [
            "data_out  16 bytes, 1 changed",
            "  0000  00 11 22 2a 44 55 66 77  88 99 aa bb cc dd ee ff",
            "   was           33",
        ]
    );

    let value = good_json(&["run", "--json", "--repeat", "7"], COUNTER);
    assert_eq!(value.at("retval").number(), 2);
    assert_eq!(value.at("action").text(), "XDP_PASS");
    assert_eq!(value.at("program").text(), "count");
    assert_eq!(value.at("type").text(), "xdp");
    assert_eq!(value.at("repeat").number(), 7);
    assert_eq!(value.at("data_in").text(), "00".repeat(64));
    assert_eq!(
        value.at("data_out").text(),
        format!("0000002a{}", "00".repeat(60))
    );
}

#[test]
fn bytes_and_contexts_run_too() {
    needs!(Root, Bpf);
    let shot = "b7 00 00 00 02 00 00 00  95 00 00 00 00 00 00 00";
    let value = good_json(
        &[
            "run",
            "--format=hex",
            "--type=tc",
            "--json",
        ],
        shot,
    );
    assert_eq!(value.at("action").text(), "TC_ACT_SHOT");
    // A program that runs on request doubles the first number of its context.
    let double = "r2 = *(u32 *)(r1 + 0)\nr2 += r2\n*(u32 *)(r1 + 0) = r2\nr0 = 0\nexit\n";
    let value = good_json(
        &[
            "run",
            "--type=syscall",
            "--ctx",
            "15000000",
            "--json",
        ],
        double,
    );
    assert_eq!(value.at("ctx_out").text(), "2a000000");
    assert_eq!(value.at("data_out").text(), "");
    assert_eq!(*value.at("action"), Value::Null);
}

#[test]
fn a_refused_program_is_shown_with_its_instruction() {
    needs!(Root, Bpf);
    let careless = COUNTER.replace("  if r0 == 0 goto out\n", "");
    let stderr = refused(&["run"], &careless);
    let first = stderr.lines().next().expect("a line");
    assert!(
        first.starts_with("<stdin>:17:3: load count: EACCES at insn 15: R0 invalid mem access"),
        "{stderr}"
    );
    assert!(stderr.contains("\n>   15: "), "{stderr}");
    assert!(stderr.contains("lock *(u64 *)(r0 + 0) += r1"), "{stderr}");
    assert!(stderr.contains("\nhelp: "), "{stderr}");
    // The checker's refusals go to the kernel, for its own word.
    let stderr = refused(&["run", "--type=xdp"], "r0 = r7\nexit\n");
    assert!(
        stderr.starts_with("<stdin>:1:1: load main: EACCES at insn 0: R7 !read_ok\n"),
        "{stderr}"
    );
}

#[test]
fn what_cannot_be_run_says_what_to_do() {
    needs!(Root, Bpf);
    let program = "r0 = 0\nexit\n";
    assert_eq!(
        refused(&["run", "--type=kprobe"], program),
        "bpfsmith: BPF_PROG_TEST_RUN run \"main\": ENOTSUPP (programs of this type cannot be run on \
         request: attach it and cause the event)\n"
    );
    let stderr = refused(&["run", "--type=xdp", "--input=00"], program);
    assert!(
        stderr.contains("EINVAL (a packet has at least 14 bytes"),
        "{stderr}"
    );
}

/// A program with a map, attached to `lo` of a namespace of its own.
fn load(name: &str, maps: &Maps, code: Code) -> Prog {
    let program = Program::new(ProgType::XDP, name, code).expect("a program");
    Load::new(&program).maps(maps).load().expect("it loads")
}

#[test]
fn programs_are_listed_shown_and_dumped() {
    needs!(Root, Bpf);
    let prog = load("bs_cli_prog", &Maps::new(), code![ret(XDP_PASS)]);
    let own = list::prog_info(&prog).expect("information");
    let id = own.id.to_string();

    let table = good(&["progs"], "");
    let titles: Vec<&str> = table
        .lines()
        .next()
        .expect("titles")
        .split_whitespace()
        .collect();
    assert_eq!(titles[..3], ["id", "type", "name"]);
    let line = table
        .lines()
        .find(|line| line.trim_start().starts_with(&format!("{id} ")));
    let words: Vec<&str> = line.expect("our program").split_whitespace().collect();
    assert_eq!(words[..3], [id.as_str(), "xdp", "bs_cli_prog"]);

    let all = good_json(&["progs", "list", "--json"], "");
    let listed = all.at("progs").find("id", own.id.into());
    let shown = good_json(&["progs", "show", &id, "--json"], "");
    assert_eq!(*listed, shown);
    assert_eq!(shown.at("name").text(), "bs_cli_prog");
    assert_eq!(shown.at("xlated").number(), own.xlated.into());
    assert!(good(&["progs", "show", &id], "").contains("\nname      bs_cli_prog\n"));

    let text = good(&["progs", "dump", &id], "");
    assert_eq!(text, list::xlated_text(&prog).expect("instructions"));
    assert!(text.contains("r0 = 2"), "{text}");
    let dump = good_json(&["progs", "dump", &id, "--json"], "");
    let insns = dump.at("insns").list();
    assert_eq!(insns[0].at("slot").number(), 0);
    assert!(text.starts_with(&format!("    0: {}\n", insns[0].at("text").text())));

    let jited = good_json(
        &[
            "progs", "dump", &id, "--jited", "--json",
        ],
        "",
    );
    let code = &list::jited(&prog).expect("code")[0].code;
    let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(jited.at("functions").list()[0].at("code").text(), hex);
    let text = good(&["progs", "dump", &id, "--jited"], "");
    assert!(text.starts_with("function 0 at 0x"), "{text}");
    drop(prog);
    let stderr = refused(&["progs", "show", &id], "");
    assert!(
        stderr.starts_with(&format!(
            "bpfsmith: BPF_PROG_GET_FD_BY_ID program id {id}: ENOENT"
        )),
        "{stderr}"
    );
}

static HITS: MapDef<u32, u64> = MapDef::hash("bs_cli_hits", 8).described();
static PLAIN: MapDef<u16, u64> = MapDef::hash("bs_cli_plain", 8);
static EACH: MapDef<u32, u32> = MapDef::percpu_array("bs_cli_each", 2).described();
static LINE: MapDef<(), u32> = MapDef::new(MapType::QUEUE, "bs_cli_line", 2);

fn id_of(map: &bpfsmith_maps::Handle) -> String {
    map.info().expect("information").id.to_string()
}

#[test]
fn maps_are_listed_shown_and_dumped() {
    needs!(Root, Bpf, Btf);
    let hits = Map::create(&HITS).expect("a map");
    hits.update(&7, &1000).expect("an entry");
    let id = id_of(&hits);
    let table = good(&["maps"], "");
    let line = table
        .lines()
        .find(|line| line.trim_start().starts_with(&format!("{id} ")));
    let words: Vec<&str> = line.expect("our map").split_whitespace().collect();
    assert_eq!(
        words[..6],
        [
            id.as_str(),
            "hash",
            "bs_cli_hits",
            "4",
            "8",
            "8"
        ]
    );
    let shown = good_json(&["maps", "show", &id, "--json"], "");
    let all = good_json(&["maps", "--json"], "");
    assert_eq!(*all.at("maps").find("id", shown.at("id").number()), shown);
    assert!(good(&["maps", "show", &id], "").contains("\nname     bs_cli_hits\n"));

    // Its types say what the bytes mean.
    assert_eq!(good(&["maps", "dump", &id], ""), "7: 1000\n");
    let dump = good_json(&["maps", "dump", &id, "--json"], "");
    let entries = dump.at("entries").list();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].at("key").at("text").text(), "7");
    let values = entries[0].at("values").list();
    assert_eq!(values[0].at("hex").text(), "e803000000000000");

    // Without them it is bytes.
    let plain = Map::create(&PLAIN).expect("a map");
    assert_eq!(good(&["maps", "dump", &id_of(&plain)], ""), "");
    let dump = good_json(&["maps", "dump", &id_of(&plain), "--json"], "");
    assert_eq!(dump.at("entries").list(), []);
    plain.update(&0x102, &3).expect("an entry");
    assert_eq!(
        good(&["maps", "dump", &id_of(&plain)], ""),
        "02 01: 03 00 00 00 00 00 00 00\n"
    );
}

#[test]
fn values_of_each_cpu_are_dumped() {
    needs!(Root, Bpf, Btf);
    let each = PerCpuMap::create(&EACH).expect("a map");
    let mut values: PerCpu<u32> = each.values();
    for cpu in 0..values.len() {
        assert!(values.set(cpu, &(5 + u32::try_from(cpu).expect("a CPU"))));
    }
    each.update(&1, &values).expect("an entry");
    let text = good(&["maps", "dump", &id_of(&each)], "");
    let second = text.split_once("1:\n").expect("the second entry").1;
    for (cpu, line) in second.lines().enumerate() {
        assert_eq!(line, format!("  cpu {cpu}: {}", 5 + cpu));
    }
    let dump = good_json(&["maps", "dump", &id_of(&each), "--json"], "");
    assert_eq!(*dump.at("per_cpu"), Value::Bool(true));
    let entries = dump.at("entries").list();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].at("values").list()[0].at("text").text(), "5");
}

#[test]
fn a_map_without_keys_says_so() {
    needs!(Root, Bpf);
    let line = Queue::create(&LINE).expect("a map");
    let id = id_of(&line);
    assert_eq!(
        refused(&["maps", "dump", &id], ""),
        format!(
            "bpfsmith: map {id} is a queue, whose entries cannot be walked: see `bpfsmith maps show {id}`\n"
        )
    );
}

#[test]
fn links_are_listed_and_shown() {
    needs!(Root, Bpf, NetNs, XdpLink);
    let prog = load("bs_cli_link", &Maps::new(), code![ret(XDP_PASS)]);
    let namespace = NetNs::new().expect("a namespace");
    let attach = || prog.attach(&Xdp::on(IfIndex::LOOPBACK).generic());
    let link = namespace.run(attach).expect("a namespace").expect("a link");
    let id = link.info().expect("information").id.to_string();
    let prog_id = list::prog_info(&prog).expect("information").id;
    let table = good(&["links"], "");
    let line = table
        .lines()
        .find(|line| line.trim_start().starts_with(&format!("{id} ")));
    let words: Vec<&str> = line.expect("our link").split_whitespace().collect();
    assert_eq!(
        words,
        [
            id.as_str(),
            "xdp",
            &prog_id.to_string(),
            "ifindex",
            "1"
        ]
    );
    let shown = good_json(&["links", "show", &id, "--json"], "");
    assert_eq!(shown.at("prog").number(), prog_id.into());
    assert_eq!(shown.at("place").at("ifindex").number(), 1);
    let all = good_json(&["links", "--json"], "");
    assert_eq!(*all.at("links").find("id", shown.at("id").number()), shown);
    assert_eq!(
        good(&["links", "dump", &id], ""),
        good(&["links", "show", &id], "")
    );
    // Looking at it did not detach it.
    assert!(link.info().is_ok());
}

#[test]
fn the_kernel_is_probed() {
    needs!(Root, Bpf, Btf);
    let text = good(&["probe", "isa", "maps"], "");
    assert!(text.starts_with("map types:\n  yes      HASH\n"), "{text}");
    assert!(
        text.contains("\n\ninstructions:\n  yes      v1\n"),
        "{text}"
    );
    let value = good_json(&["probe", "--json", "helper"], "");
    let rows = value.at("rows").list();
    let row = |name: &str, kind: &str| {
        let is = |row: &&Value| row.at("name").text() == name && row.at("type").text() == kind;
        rows.iter().find(is).expect("the row")
    };
    assert_eq!(row("map_lookup_elem", "xdp").at("support").text(), "yes");
    assert_eq!(*row("map_lookup_elem", "xdp").at("reason"), Value::Null);
    assert_eq!(row("redirect_peer", "xdp").at("support").text(), "no");
    assert!(
        row("redirect_peer", "xdp")
            .at("reason")
            .text()
            .contains("redirect_peer")
    );

    // At a terminal the line about what is going on is taken away at the end.
    let (status, stdout, stderr) = watched(&["probe", "isa"], "", Watcher::Terminal);
    assert_eq!(status, DONE);
    assert!(text.ends_with(&stdout));
    assert_eq!(stderr, "\r\u{1b}[Kasking for instructions…\r\u{1b}[K");
}

/// A reader that went away.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    needs!(Root, Bpf, Btf);
    let hits = Map::create(&HITS).expect("a map");
    hits.update(&7, &1000).expect("an entry");
    let id = id_of(&hits);
    for args in [
        &["progs"][..],
        &["maps", "dump", &id],
        &["maps", "dump", &id, "--json"],
        &["probe", "isa"],
    ] {
        let mut stderr = Vec::new();
        let args = args.iter().map(Into::into).collect();
        let status = bpfsmith_cli::run(args, &mut io::empty(), &mut Gone, &mut stderr);
        assert_eq!((status, stderr), (DONE, Vec::new()));
    }
}
