//! Debian's kernels, fetched by apt without touching the machine's own settings.

use crate::error::output;
use crate::vm::modules;
use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel that tests can run on.
struct Row {
    version: &'static str,
    /// The part of Debian that has it.
    suite: &'static str,
    /// The package that depends on the latest.
    package: &'static str,
}

const KERNELS: &[Row] = &[
    Row {
        version: "6.1",
        suite: "bookworm",
        package: "linux-image-cloud-amd64",
    },
    Row {
        version: "6.12",
        suite: "bookworm-backports",
        package: "linux-image-cloud-amd64",
    },
];

const MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel, unpacked.
#[derive(Debug)]
pub(super) struct Kernel {
    /// As `uname -r` prints it.
    pub(super) release: String,
    pub(super) image: PathBuf,
    pub(super) config: PathBuf,
    /// In the order of loading.
    pub(super) modules: Vec<PathBuf>,
}

/// Fetches and unpacks a kernel below `cache`, unless it is there.
pub(super) fn fetch(version: &str, cache: &Path) -> Result<Kernel> {
    let row = KERNELS.iter().find(|row| row.version == version);
    let row = row.ok_or_else(|| Error::Kernel {
        asked: version.to_owned(),
        known: KERNELS
            .iter()
            .map(|row| row.version)
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    let dir = cache.join(version);
    // Written last, so that half a kernel is fetched again; another list of modules unpacks again.
    let (stamp, facts) = (dir.join("complete"), modules::WANTED.join(" "));
    if fs::read_to_string(&stamp).ok().as_ref() != Some(&facts) {
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(Error::file(&dir))?;
        }
        unpack(&download(row, &dir)?, &dir)?;
        fs::write(&stamp, facts).map_err(Error::file(&stamp))?;
    }
    find(&dir)
}

/// The package, in `dir`.
fn download(row: &Row, dir: &Path) -> Result<PathBuf> {
    let apt = dir.join("apt");
    for sub in [
        "lists/partial",
        "cache/archives/partial",
    ] {
        let sub = apt.join(sub);
        fs::create_dir_all(&sub).map_err(Error::file(&sub))?;
    }
    let sources = apt.join("sources.list");
    if !Path::new(KEYRING).exists() {
        return Err(Error::Program {
            program: KEYRING,
            package: "debian-archive-keyring",
        });
    }
    let (mirror, suite) = (mirror(), row.suite);
    let line = format!("deb [arch=amd64 signed-by={KEYRING}] {mirror} {suite} main\n");
    fs::write(&sources, line).map_err(Error::file(&sources))?;
    let command = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(dir);
        for (key, value) in [
            ("Dir::Etc::SourceList", sources.as_path()),
            ("Dir::Etc::SourceParts", Path::new("/dev/null")),
            ("Dir::State::Lists", &apt.join("lists")),
            ("Dir::Cache", &apt.join("cache")),
            ("Acquire::Languages", Path::new("none")),
            ("APT::Sandbox::User", Path::new("root")),
            ("APT::Architecture", Path::new("amd64")),
        ] {
            command.arg("-o").arg(format!("{key}={}", value.display()));
        }
        command
    };
    output(command("apt-get").args(["--quiet", "update"]))?;
    let depends = output(command("apt-cache").args(["depends", row.package]))?;
    let depends = String::from_utf8_lossy(&depends.stdout).into_owned();
    let package = latest(&depends).ok_or(Error::Package {
        what: "package of a kernel in the suite",
        dir: apt.clone(),
    })?;
    output(command("apt-get").args(["--quiet", "download", package]))?;
    entry(dir, "package of a kernel", |name| {
        name.starts_with("linux-image-")
    })
}

fn unpack(package: &Path, dir: &Path) -> Result<()> {
    let tree = dir.join("tree");
    output(Command::new("dpkg-deb").arg("-x").arg(package).arg(&tree))?;
    let to = dir.join("modules");
    fs::create_dir_all(&to).map_err(Error::file(&to))?;
    let libs = [
        tree.join("lib/modules"),
        tree.join("usr/lib/modules"),
    ];
    let from = libs.iter().find(|dir| dir.is_dir());
    let from = from.ok_or_else(|| missing("directory lib/modules", &tree))?;
    modules::unpack(from, &to)
}

fn find(dir: &Path) -> Result<Kernel> {
    let boot = dir.join("tree/boot");
    let image = entry(&boot, "vmlinuz", |name| name.starts_with("vmlinuz-"))?;
    let name = image.to_string_lossy();
    let release = name.rsplit_once("/vmlinuz-").map_or("", |(_, name)| name);
    let files = dir.join("modules");
    let mut modules = Vec::new();
    for entry in fs::read_dir(&files).map_err(Error::file(&files))? {
        modules.push(entry.map_err(Error::file(&files))?.path());
    }
    modules.sort();
    Ok(Kernel {
        release: release.to_owned(),
        config: boot.join(format!("config-{release}")),
        image,
        modules,
    })
}

fn missing(what: &'static str, dir: &Path) -> Error {
    let dir = dir.to_owned();
    Error::Package { what, dir }
}

/// The file whose name fits.
fn entry(dir: &Path, what: &'static str, fits: fn(&str) -> bool) -> Result<PathBuf> {
    fs::read_dir(dir)
        .map_err(Error::file(dir))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(fits))
        .ok_or_else(|| missing(what, dir))
}

/// The kernel among the dependencies of the package that stands for the latest.
fn latest(depends: &str) -> Option<&str> {
    depends.lines().find_map(|line| {
        let package = line.trim().strip_prefix("Depends: ")?;
        package.starts_with("linux-image-").then_some(package)
    })
}

/// The mirror that the machine uses, or Debian's own.
fn mirror() -> String {
    let parts = fs::read_dir("/etc/apt/sources.list.d");
    let parts = parts.into_iter().flatten();
    let mut files: Vec<PathBuf> = parts.filter_map(|part| Some(part.ok()?.path())).collect();
    files.push(PathBuf::from("/etc/apt/sources.list"));
    files.sort();
    files
        .iter()
        .filter(|file| {
            file.extension()
                .is_some_and(|e| e == "list" || e == "sources")
        })
        .filter_map(|file| fs::read_to_string(file).ok())
        .find_map(|text| mirror_in(&text))
        .unwrap_or_else(|| MIRROR.to_owned())
}

/// The first archive of Debian itself that a list of sources names, in either of its two forms.
fn mirror_in(sources: &str) -> Option<String> {
    sources
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.contains("://") && word.ends_with("/debian"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_machines() {
        let check = |sources: &str, expected: Option<&str>| {
            assert_eq!(mirror_in(sources).as_deref(), expected, "{sources}");
        };
        check(
            "Types: deb\n# http://old.example/debian\nURIs: http://near.example/debian/\n",
            Some("http://near.example/debian"),
        );
        check(
            "deb http://x.example/debian-security s main\ndeb [a=b] https://y.example/debian s main",
            Some("https://y.example/debian"),
        );
        check("deb https://packages.example/apt stable main", None);
        check("", None);
    }

    #[test]
    fn the_latest_kernel_is_a_dependency() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.12.95+deb12-cloud-amd64\n";
        assert_eq!(latest(text), Some("linux-image-6.12.95+deb12-cloud-amd64"));
        assert_eq!(latest("x\n  Depends: linux-base\n"), None);
    }

    #[test]
    fn an_unknown_kernel_names_the_known() {
        let error = fetch("5.4", Path::new("/nowhere")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no kernel 5.4 in the table; there are 6.1, 6.12"
        );
    }
}
