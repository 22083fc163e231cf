//! Names of kernel functions, also of those that BTF does not describe.

use crate::error::Error;
use crate::near::Nearest;

/// Names of everything in the kernel and its modules.
fn names() -> Option<String> {
    std::fs::read_to_string("/proc/kallsyms").ok()
}

/// The name on a line `address kind name [module]`, if it is that of code.
fn code(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip(1);
    let (kind, name) = (words.next()?, words.next()?);
    matches!(kind, "t" | "T" | "w" | "W").then_some(name)
}

/// An error for the first name that no kernel function has; none if all exist, or nobody knows.
pub(crate) fn missing<'a>(wanted: impl IntoIterator<Item = &'a str>) -> Option<Error> {
    let text = names().filter(|text| !text.is_empty())?;
    let known: std::collections::HashSet<&str> = text.lines().filter_map(code).collect();
    let missing = wanted.into_iter().find(|name| !known.contains(name))?;
    let mut nearest = Nearest::to(missing);
    known.iter().for_each(|name| nearest.see(name));
    Some(Error::Unknown {
        what: "function",
        name: missing.to_owned(),
        near: nearest.names(),
        hint: "`/proc/kallsyms` lists them; the compiler may have inlined it",
    })
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn only_code_counts() {
        for (line, wanted) in [
            ("0000000000000000 T vfs_read", Some("vfs_read")),
            ("0000000000000000 t xfs_read\t[xfs]", Some("xfs_read")),
            ("0000000000000000 D jiffies", None),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(code(line), wanted, "{line}");
        }
    }
}
