//! Facts about the running kernel: its version and how it was built.

use std::fmt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A version of Linux, as far as features depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 6 in 6.12.
    pub major: u32,
    /// 12 in 6.12.
    pub minor: u32,
}

impl Version {
    /// Reads the start of a release such as `6.12.95+deb12-cloud-amd64`.
    #[must_use]
    pub fn parse(release: &str) -> Option<Version> {
        let (major, rest) = release.split_once('.')?;
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        Some(Version {
            major: major.parse().ok()?,
            minor: rest[..digits].parse().ok()?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The release of the running kernel, as `uname -r` prints it.
#[must_use]
pub fn release() -> &'static str {
    static RELEASE: OnceLock<String> = OnceLock::new();
    RELEASE.get_or_init(|| {
        nix::sys::utsname::uname().map_or_else(
            |_| String::new(),
            |name| name.release().to_string_lossy().into_owned(),
        )
    })
}

/// The version of the running kernel. `0.0` if its release is not a Linux version.
#[must_use]
pub fn version() -> Version {
    Version::parse(release()).unwrap_or(Version { major: 0, minor: 0 })
}

/// True if the running kernel is known to have been built without the option, which is written
/// without `CONFIG_`. False also if its configuration cannot be read.
#[must_use]
pub fn built_without(option: &str) -> bool {
    config().is_some_and(|config| lacks(config, option))
}

fn lacks(config: &str, option: &str) -> bool {
    !config.lines().any(|line| {
        let set = line
            .strip_prefix("CONFIG_")
            .and_then(|line| line.strip_prefix(option))
            .and_then(|line| line.strip_prefix('='));
        set.is_some_and(|value| value == "y" || value == "m")
    })
}

/// The configuration, from the kernel itself or from where Debian keeps it.
fn config() -> Option<&'static str> {
    static CONFIG: OnceLock<Option<String>> = OnceLock::new();
    let read = || own_config().or_else(boot_config);
    CONFIG.get_or_init(read).as_deref()
}

fn own_config() -> Option<String> {
    let file = std::fs::File::open("/proc/config.gz").ok()?;
    let output = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::from(file))
        .stderr(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8(output.stdout)
        .ok()
        .filter(|text| text.contains("CONFIG_"))
}

fn boot_config() -> Option<String> {
    std::fs::read_to_string(format!("/boot/config-{}", release())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let v = |text| Version::parse(text).unwrap();
        assert!(v("5.10") > v("5.9"));
        assert!(v("6.1.0-56-cloud-amd64") < v("6.12.95+deb12-cloud-amd64"));
        assert_eq!(v("6.18.44-fc-v669").to_string(), "6.18");
        assert_eq!(v("7.0-rc1"), Version { major: 7, minor: 0 });
        for text in ["", "6", "6.", "a.b", ".1", "6.x"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_option_is_off_unless_it_is_y_or_m() {
        let config = "# CONFIG_KPROBES is not set\nCONFIG_NET=y\nCONFIG_VETH=m\nCONFIG_HZ=250\n";
        assert!(lacks(config, "KPROBES"));
        assert!(lacks(config, "NE"));
        assert!(lacks(config, "HZ"));
        assert!(!lacks(config, "NET"));
        assert!(!lacks(config, "VETH"));
    }
}
