//! The settings below `/proc/sys/net` of a namespace.

use crate::error::{Error, Operation, Reason};
use crate::ns::NetNs;
use std::path::PathBuf;

impl NetNs {
    /// Reads a setting, like `ipv4/ip_forward`, without the line's end.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is no such setting here.
    pub fn sysctl(&self, name: &str) -> Result<String, Error> {
        let path = path_of(name, Operation::SYSCTL_READ)?;
        let text = self
            .run(|| std::fs::read_to_string(&path))?
            .map_err(|error| Error::io(Operation::SYSCTL_READ, path.display(), &error))?;
        Ok(text.trim_end().to_owned())
    }

    /// Writes a setting, like `ipv4/ip_forward`.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is no such setting here; `EINVAL` for a value out of range.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<(), Error> {
        let path = path_of(name, Operation::SYSCTL_WRITE)?;
        self.run(|| std::fs::write(&path, value))?
            .map_err(|error| Error::io(Operation::SYSCTL_WRITE, path.display(), &error))
    }
}

/// Only what is below `net` belongs to a namespace; the rest belongs to the machine.
fn path_of(name: &str, operation: Operation) -> Result<PathBuf, Error> {
    let broken = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    if name.split('/').any(broken) {
        let why = "a sysctl is a path below /proc/sys/net, like ipv4/ip_forward";
        return Err(Error::new(
            operation,
            format_args!("{name:?}"),
            Reason::BadName { why },
        ));
    }
    Ok(PathBuf::from("/proc/sys/net").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_net() {
        for name in [
            "",
            "/kernel/x",
            "ipv4/../../kernel/x",
            "ipv4//x",
            "ipv4/x/",
            ".",
        ] {
            assert!(path_of(name, Operation::SYSCTL_READ).is_err(), "{name}");
        }
        let path = path_of("ipv4/conf/a.b/forwarding", Operation::SYSCTL_READ).unwrap();
        assert_eq!(
            path.to_str(),
            Some("/proc/sys/net/ipv4/conf/a.b/forwarding")
        );
    }
}
