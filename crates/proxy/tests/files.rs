//! Commands that read files, and the files that come with the program.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_config::{Document, Value, json};
use bpfsmith_gate::needs;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bpfsmith-proxy");

/// A directory that is gone in the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("bs-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Dir(path)
    }

    /// A file of that name, with this in it.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What is right and what is wrong is told as JSON, each problem with its place.
#[test]
fn files_are_checked_in_json() {
    let dir = Dir::new("check");
    let right = dir.file("right.toml", "port = 80\ntarget = \"10.0.0.1:80\"\n");
    let wrong = dir.file(
        "wrong.toml",
        "port = 80000\ntarget = \"10.0.0.1:80\"\nprt = 1\n",
    );
    let none = dir.file("none.toml", "port = \n");
    let output = run(&["check", "--json", &right]);
    assert_eq!(output.status.code(), Some(0));
    let output = run(&["check", "--json", &right, &wrong, &none]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(4), ""));
    let told = json::read(text(&output.stdout)).unwrap();
    let problem = |line: u32, column: u32, problem: &str| {
        Value::table([
            ("line", Value::from(line)),
            ("column", column.into()),
            ("problem", problem.into()),
        ])
    };
    let file = |name: &str, counts: Option<u32>, problems: Vec<Value>| {
        Value::table([
            ("name", Value::from(name)),
            ("right", counts.is_some().into()),
            ("proxies", counts.into()),
            ("groups", counts.into()),
            ("problems", Value::list(problems)),
        ])
    };
    let files = told.get("files").unwrap().each();
    let wanted = [
        file(&right, Some(1), vec![]),
        file(
            &wrong,
            None,
            vec![
                problem(1, 8, "port is 80000: it is from 1 to 65535"),
                problem(3, 1, "there is no prt here: did you mean port?"),
            ],
        ),
    ];
    assert_eq!(files[0].bare(), wanted[0].bare());
    assert_eq!(files[1].bare(), wanted[1].bare());
    assert_eq!(files[2].get("right").unwrap().bare(), Value::from(false));
}

/// Ports that are none are told once.
#[test]
fn ports_are_told_once() {
    let dir = Dir::new("ports");
    for port in ["80000", "0", "-1", "80.5", "\"80\""] {
        let path = dir.file(
            "it.toml",
            &format!("port = {port}\ntarget = \"10.0.0.1:80\"\n"),
        );
        let output = run(&["check", &path]);
        let wanted = format!(
            "bpfsmith-proxy: {path}: line 1, column 8: port is {port}: it is from 1 to 65535\n"
        );
        assert_eq!(text(&output.stderr), wanted);
    }
}

/// What clj-ebpf's proxies are configured with becomes TOML: at the terminal, from standard input, and in a file that
/// was not there before.
#[test]
fn configurations_are_imported() {
    let dir = Dir::new("import");
    let edn = "{:listen-interfaces [\"eth0\"] :listen-port 80\n :default-target {:ip \"10.0.0.1\" :port 8080}}";
    let path = dir.file("lb.edn", edn);
    let output = run(&["import", &path]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let printed = text(&output.stdout).to_owned();
    let read = Document::read(&printed).unwrap();
    let proxy = &read.desired().proxies[0];
    assert_eq!(
        (proxy.port, proxy.devices.as_slice()),
        (80, ["eth0".to_owned()].as_slice())
    );
    let to = dir.0.join("proxy.toml");
    let to = to.to_str().unwrap();
    let output = run(&["import", &path, "--output", to]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read_to_string(to).unwrap(), printed);
    assert_eq!(run(&["check", to]).status.code(), Some(0));
    // What is there is not written over.
    let output = run(&["import", &path, "--output", to]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("exists"), "{output:?}");
    let wrong = dir.file(
        "wrong.edn",
        "{:listen-interfaces [\"eth0\"] :listen-port 800000}",
    );
    let output = run(&["import", &wrong]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(4), ""));
    assert!(text(&output.stderr).contains("line 1"), "{output:?}");
}

/// systemd finds nothing to complain of in the unit, whatever its version.
#[test]
fn the_unit_is_right() {
    needs!(SystemdAnalyze);
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist");
    let unit = fs::read_to_string(dist.join("bpfsmith-proxy.service")).unwrap();
    let installed = "/usr/local/sbin/bpfsmith-proxy";
    assert!(unit.contains(&format!("ExecStart={installed} run ")));
    let dir = Dir::new("unit");
    // The program is not installed here, and neither is its manual.
    let unit = unit.replace(installed, PROGRAM);
    let path = dir.file("bpfsmith-proxy.service", &unit);
    let mut command = Command::new("systemd-analyze");
    let output = command
        .args(["verify", "--man=no", &path])
        .output()
        .unwrap();
    let said = text(&output.stderr);
    // What it does not understand it passes over, and ends well.
    let is_understood = !said.contains("Failed to parse");
    assert!(
        output.status.success() && is_understood && !said.contains("bpfsmith-proxy"),
        "{said}"
    );
}
