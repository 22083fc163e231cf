//! Pages of help and the manual page.

use bpfsmith_gate::needs;
use bpfsmith_proxy::commands::parse::Topic;
use bpfsmith_proxy::commands::table::{self, FAMILIES, GLOBAL, Section};
use bpfsmith_proxy::commands::{Exit, help, man};
use std::io::Write;
use std::process::{Command, Stdio};

fn shown(topic: Topic) -> String {
    let page = help::page(topic);
    for line in page.lines() {
        let is_example = line.starts_with("  bpfsmith-proxy ");
        let is_usage = line.starts_with("Usage: ") || line.starts_with("       bpfsmith-proxy");
        assert!(
            line.chars().count() <= 80 || is_example || is_usage,
            "{line}"
        );
        assert_eq!(line.trim_end(), line);
    }
    assert!(page.ends_with('\n') && !page.ends_with("\n\n"));
    page
}

#[test]
fn the_overview() {
    insta::assert_snapshot!(shown(Topic::Overview));
}

#[test]
fn pages_of_families() {
    for family in FAMILIES {
        insta::assert_snapshot!(
            format!("family_{}", family.name),
            shown(Topic::Family(family))
        );
    }
}

#[test]
fn pages_of_commands() {
    for spec in table::all() {
        let name = format!("command_{}", spec.name.replace(' ', "_"));
        insta::assert_snapshot!(name, shown(Topic::Command(spec)));
    }
}

#[test]
fn exit_statuses_are_told_apart() {
    let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
    assert_eq!(codes, [0, 1, 2, 3, 4]);
}

#[test]
fn the_manual_has_every_command_and_option() {
    let page = man::page();
    assert!(page.starts_with(".TH BPFSMITH\\-PROXY 8 "));
    assert!(page.is_ascii());
    let escaped = |text: &str| text.replace('-', "\\-");
    for spec in table::all() {
        let is_there = page.contains(&format!(".SS \"{}\"\n", spec.name));
        assert_eq!(is_there, spec.section != Section::Hidden, "{}", spec.name);
        for option in spec.options.iter().chain(GLOBAL) {
            assert!(page.contains(&format!("\\fB{}\\fR", escaped(option.long))));
        }
    }
    // Lines that begin with a dot are requests that this page means.
    let known = [
        ".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".I", ".BR", ".br", ".nf", ".fi", ".RS", ".RE",
    ];
    for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
        let request = line.split(' ').next().unwrap_or_default();
        assert!(known.contains(&request), "{line}");
    }
    assert_eq!(page.matches(".nf\n").count(), page.matches(".fi\n").count());
    assert_eq!(
        page.matches("\\fB").count() + page.matches("\\fI").count(),
        page.matches("\\fR").count()
    );
}

#[test]
fn groff_finds_nothing_wrong_with_the_manual() {
    needs!(Groff);
    let groff = Command::new("groff")
        .args(["-man", "-ww", "-Tutf8"])
        .env("GROFF_NO_SGR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut groff = groff.expect("groff runs");
    let mut stdin = groff.stdin.take().expect("a pipe");
    stdin
        .write_all(man::page().as_bytes())
        .expect("groff reads");
    drop(stdin);
    let output = groff.wait_with_output().expect("groff ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).expect("text");
    // Bold letters are printed twice, one over the other.
    let mut text = String::new();
    for letter in printed.chars() {
        match letter {
            '\u{8}' => drop(text.pop()),
            // Where nobody says otherwise, groff makes a dash of an option a minus sign.
            '−' => text.push('-'),
            other => text.push(other),
        }
    }
    for wanted in [
        "route add",
        "--algorithm",
        "[[proxies]]",
        "EXIT STATUS",
    ] {
        assert!(text.contains(wanted), "{wanted}");
    }
}

/// Packages take the page from the tree, without building anything.
#[test]
fn the_manual_in_the_tree_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/man/bpfsmith-proxy.8");
    if std::env::var_os("BPFSMITH_WRITE_MAN").is_some() {
        std::fs::write(path, man::page()).expect("the page is written");
    }
    let there = std::fs::read_to_string(path).expect("the page is there");
    assert_eq!(
        there,
        man::page(),
        "write it again: BPFSMITH_WRITE_MAN=1 cargo test"
    );
}
