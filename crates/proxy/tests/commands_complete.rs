//! Completions, in real shells where they are there, and in the shell of its own.

use bpfsmith_gate::needs;
use bpfsmith_proxy::commands::complete::{Names, complete, script};
use bpfsmith_proxy::commands::table::{self, Section};
use bpfsmith_proxy::commands::words::{Names as Known, Shell};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::process::Command;

struct There;

impl Names for There {
    fn names(&self, kind: Known) -> Vec<String> {
        let names: &[&str] = match kind {
            Known::Proxies => &["web", "websocket", "dns"],
            Known::Groups => &["blue", "green"],
            Known::Targets => &["10.0.0.1:80", "10.0.0.2:80"],
            Known::Devices => &["eth0"],
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }
}

/// What shells and the function have to agree on: a line, and what is offered at its end.
const LINES: &[(&str, &[&str])] = &[
    ("sta", &["status"]),
    ("route ", &["add", "remove"]),
    ("help rou", &["route"]),
    ("help route a", &["add"]),
    ("help drain ", &[]),
    ("run --con", &["--config"]),
    (
        "add web --algorithm ",
        &["fewest", "maglev", "source", "turns"],
    ),
    ("add web --nat d", &["direct", "dnat"]),
    ("remove w", &["web", "websocket"]),
    ("--socket /run/x remove d", &["dns"]),
    ("route add web 10.0.0.0/8 -g g", &["green"]),
    ("--json target remove blue 10.0.0.1", &["10.0.0.1:80"]),
    ("explain --hook x", &["xdp"]),
    ("conns --by t", &["target"]),
    ("route add --sa", &["--save"]),
    ("completions f", &["fish"]),
    ("status ", &[]),
    ("frobnicate x", &[]),
    ("add --port ", &[]),
];

#[test]
fn lines_are_completed() {
    for (line, wanted) in LINES {
        let (start, found) = complete(line, line.len(), &There);
        assert_eq!(&found, wanted, "{line}");
        assert!(found.iter().all(|it| it.starts_with(&line[start..])));
    }
    assert_eq!(complete("sta x", 3, &There), (0, vec!["status".to_owned()]));
    let line = "events --kind new,re";
    assert_eq!(
        complete(line, line.len(), &There),
        (18, vec!["refused".to_owned()])
    );
    let line = "conns --state=o";
    assert_eq!(
        complete(line, line.len(), &There),
        (14, vec!["opening".to_owned()])
    );
    let (_, all) = complete("", 0, &There);
    let alone = table::all().filter(|it| it.section != Section::Hidden && it.family().is_none());
    assert_eq!(all.len(), alone.count() + table::FAMILIES.len());
    let (_, options) = complete("add -", 5, &There);
    assert_eq!(options.len(), 15);
}

proptest! {
    #[test]
    fn any_line_is_completed(line in ".{0,40}|(route|add|events|--kind|-|=|web| |,){0,9}", cursor in 0_usize..60) {
        let (start, found) = complete(&line, cursor, &There);
        prop_assert!(line.is_char_boundary(start) && start <= line.len());
        let end = (0..=cursor.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap();
        prop_assert!(found.iter().all(|it| it.starts_with(&line[start..end])));
    }
}

/// A directory of its own with a program that knows names, which is gone in the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let directory = std::env::temp_dir().join(format!("bs-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let mut program = "#!/bin/sh\n".to_owned();
        // It may be told where the daemon listens, and answers nothing but questions for names.
        program += "[ \"$1\" = --socket ] && shift 2\n[ \"$1\" = __names ] || exit 1\ncase $2 in\n";
        for kind in [
            Known::Proxies,
            Known::Groups,
            Known::Targets,
            Known::Devices,
        ] {
            program += &format!("{kind}) printf '%s\\n' {};;\n", There.names(kind).join(" "));
        }
        program += "esac\n";
        let place = Place(directory);
        place.write("bpfsmith-proxy", &program);
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(place.0.join("bpfsmith-proxy"), executable)
            .expect("it may be run");
        place
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    fn run(&self, shell: &str, args: &[&str]) -> String {
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new(shell)
            .args(args)
            .current_dir(&self.0)
            .env("PATH", format!("{}:{path}", self.0.display()))
            .env("HOME", &self.0)
            .env("XDG_CONFIG_HOME", &self.0)
            .env("TERM", "dumb")
            .output()
            .expect("the shell runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors, "", "{args:?}");
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What stays of a directory for tests does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bash(place: &Place, file: &Path, line: &str) -> Vec<String> {
    let line = format!("bpfsmith-proxy {line}");
    let run = format!(
        "source '{}'; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _bpfsmith_proxy; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        file.display()
    );
    let output = place.run("bash", &["--norc", "-c", &run]);
    let mut found: Vec<String> = output.split_whitespace().map(str::to_owned).collect();
    found.sort();
    found
}

#[test]
fn bash_completes() {
    needs!(Bash);
    let place = Place::new("bash");
    let file = place.write("script", &script(Shell::Bash));
    place.run("bash", &["-n", file.to_str().unwrap()]);
    for (line, wanted) in LINES {
        // Bash replaces only what is behind the last colon.
        let wanted: Vec<&str> = wanted.iter().map(|it| &it[line_break(line)..]).collect();
        assert_eq!(bash(&place, &file, line), wanted, "{line}");
    }
    assert_eq!(bash(&place, &file, "drain 10.0.0.1:8"), ["80"]);
    assert_eq!(bash(&place, &file, "conns --state=o"), ["opening"]);
    assert_eq!(bash(&place, &file, "events --kind new,re"), ["new,refused"]);
    place.write("there.toml", "");
    assert_eq!(bash(&place, &file, "check th"), ["there.toml"]);
    assert_eq!(bash(&place, &file, "run -c th"), ["there.toml"]);
}

/// How much of a candidate stands in front of the last colon.
fn line_break(line: &str) -> usize {
    let word = line.rsplit(' ').next().unwrap_or_default();
    word.rfind(':').map_or(0, |at| at + 1)
}

#[test]
fn names_are_never_run_by_bash() {
    needs!(Bash);
    let place = Place::new("hostile");
    let file = place.write("script", &script(Shell::Bash));
    place.write(
        "bpfsmith-proxy",
        "#!/bin/sh\nprintf '%s\\n' 'w$(touch<hit)' 'w`touch<hit`'\n",
    );
    assert_eq!(bash(&place, &file, "remove w").len(), 2);
    assert!(!place.0.join("hit").exists());
}

#[test]
fn zsh_reads_its_script() {
    needs!(Zsh);
    let place = Place::new("zsh");
    let file = place.write("_bpfsmith-proxy", &script(Shell::Zsh));
    place.run("zsh", &["-f", "-n", file.to_str().unwrap()]);
    for (line, wanted) in LINES {
        // Functions of the completion system are replaced by ones that print.
        let words: Vec<&str> = line.split(' ').collect();
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let run = format!(
            "compdef() {{ }}; compset() {{ }}; _files() {{ }}\n\
             compadd() {{ if [[ $1 == -a ]]; then print -rl -- ${{(P)2}}; else shift; print -rl -- $@; fi }}\n\
             _describe() {{ local -a l; l=(${{(P)@[-1]}}); print -rl -- ${{l%%:*}} }}\n\
             source '{}'\nwords=(bpfsmith-proxy {})\nCURRENT=$#words\n_bpfsmith_proxy",
            file.display(),
            words.join(" ")
        );
        let begun = line.rsplit(' ').next().unwrap_or_default();
        let output = place.run("zsh", &["-f", "-c", &run]);
        let mut found: Vec<&str> = output.split_whitespace().collect();
        found.retain(|it| it.starts_with(begun));
        found.sort_unstable();
        assert_eq!(&found, wanted, "{line}");
    }
}

#[test]
fn fish_completes() {
    needs!(Fish);
    let place = Place::new("fish");
    let file = place.write("script.fish", &script(Shell::Fish));
    place.run(
        "fish",
        &[
            "--no-config",
            "-n",
            file.to_str().unwrap(),
        ],
    );
    let fish = |line: &str| {
        let run = format!(
            "source '{}'; complete -C 'bpfsmith-proxy {line}'",
            file.display()
        );
        let output = place.run("fish", &["--no-config", "-c", &run]);
        let words = output
            .lines()
            .map(|line| line.split('\t').next().unwrap_or_default());
        let mut found: Vec<String> = words.map(str::to_owned).collect();
        found.sort();
        found
    };
    for (line, wanted) in LINES {
        assert_eq!(&fish(line), wanted, "{line}");
    }
    assert_eq!(fish("conns --state=o"), ["--state=opening"]);
    assert_eq!(fish("events --kind new,re"), ["new,refused"]);
}

#[test]
fn hidden_commands_stay_hidden() {
    for shell in Shell::ALL {
        let script = script(*shell);
        assert!(!script.contains("'__names'"), "{shell}");
        // No table is left out.
        for mark in ["_ROWS@", "_LISTS@", "@FAMILIES@"] {
            assert!(!script.contains(mark), "{shell}");
        }
    }
}
