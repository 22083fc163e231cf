//! The BPF helpers: ids, signatures, first versions, and who may call them.

use crate::{ProgSet, ProgType};
use core::fmt;

/// What the kernel expects in one argument register of a helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ArgKind {
    /// The program's context: R1 as it was at the start.
    Ctx,
    /// The context, or 0.
    CtxOrNull,
    /// The context; in some program types another typed pointer, such as a socket.
    CtxOrPtr,
    /// A map.
    MapPtr,
    /// Readable memory of the map's key size.
    Key,
    /// Readable memory of the map's value size.
    Value,
    /// `Value`, or 0.
    ValueOrNull,
    /// Memory of the map's value size that the helper fills.
    ValueOut,
    /// Readable memory; the next argument is its size.
    Mem,
    /// `Mem`, or 0.
    MemOrNull,
    /// Memory that the helper fills; the next argument is its size.
    MemOut,
    /// `MemOut`, or 0.
    MemOutOrNull,
    /// Readable memory of a size that the helper knows.
    FixedMem,
    /// Memory of a size that the helper knows and fills.
    FixedMemOut,
    /// Size of the memory before it, at least 1.
    Size,
    /// Size of the memory before it.
    SizeOrZero,
    /// A size that must be a constant for the verifier.
    ConstSize,
    /// Any number, flags included.
    Scalar,
    /// A pointer of another type: socket, task, inode, ring buffer record and so on.
    Ptr,
    /// `Ptr`, or 0.
    PtrOrNull,
    /// A per-CPU kernel variable or allocated per-CPU object.
    PerCpuPtr,
    /// The place of a typed pointer in a map value.
    KptrSlot,
    /// Memory on the stack that is passed on to a callback, or 0.
    StackOrNull,
    /// A function of the same program.
    Func,
    /// An initialised dynptr.
    Dynptr,
    /// A dynptr on the stack that the helper initialises.
    DynptrOut,
    /// A `bpf_timer` in a map value.
    Timer,
    /// A `bpf_spin_lock` in a map value or allocated object.
    SpinLock,
    /// A null-terminated string in a read-only map.
    ConstStr,
}

/// What a helper leaves in R0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetKind {
    /// 0, or a negative errno.
    Errno,
    /// A number; its meaning is the helper's own.
    Scalar,
    /// A pointer that must be compared with 0 before use.
    PtrOrNull,
    /// A pointer.
    Ptr,
    /// Nothing of use.
    Void,
}

/// One argument of a helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arg {
    /// Its name, as the kernel's header spells it where Rust permits.
    pub name: &'static str,
    /// What it must be.
    pub kind: ArgKind,
}

/// A kernel version, `major.minor`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The number before the dot.
    pub major: u32,
    /// The number after the dot.
    pub minor: u32,
}

impl Version {
    /// Reads `"6.18"`.
    ///
    /// # Panics
    ///
    /// When the text is not two decimal numbers with a dot between them. It is meant for tables,
    /// where the compiler evaluates it.
    #[must_use]
    pub const fn new(text: &str) -> Version {
        let text = text.as_bytes();
        let mut parts = [0_u32; 2];
        let (mut at, mut part) = (0, 0);
        while at < text.len() {
            match text[at] {
                b'.' => part += 1,
                digit @ b'0'..=b'9' => parts[part] = parts[part] * 10 + (digit - b'0') as u32,
                _ => panic!("not a kernel version"),
            }
            at += 1;
        }
        assert!(part == 1, "a kernel version has one dot");
        Version {
            major: parts[0],
            minor: parts[1],
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which program types may call a helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Allowed {
    /// All of them.
    Any,
    /// At most these.
    Only(ProgSet),
}

/// One BPF helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Helper {
    /// The immediate of the call instruction.
    pub id: u32,
    /// The name without `bpf_`.
    pub name: &'static str,
    /// R1 and up. `trace_printk` takes up to three more numbers than its list says.
    pub args: &'static [Arg],
    /// R0 afterwards.
    pub ret: RetKind,
    /// The first kernel that has it.
    pub since: Version,
    /// Who may call it.
    pub allowed: Allowed,
}

impl Helper {
    /// The helper with this id.
    #[must_use]
    pub fn by_id(id: u32) -> Option<&'static Helper> {
        let index = usize::try_from(id).ok()?.checked_sub(1)?;
        HELPERS.get(index)
    }

    /// The helper of this name, with or without `bpf_`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Helper> {
        // `bpf_sys_bpf` keeps its tail: only the front is a prefix.
        let short = name.strip_prefix("bpf_").unwrap_or(name);
        HELPERS.iter().find(|helper| helper.name == short)
    }

    /// Whether a program of this type may call the helper, as far as the table knows: no is
    /// certain, yes may still depend on the attach type, the kernel's configuration or privilege.
    #[must_use]
    pub const fn allows(&self, prog: ProgType) -> bool {
        match self.allowed {
            Allowed::Any => true,
            Allowed::Only(set) => {
                // An extension may call what its target may, and the target is not known here.
                // Neither is anything known about types newer than the table.
                prog.0 == ProgType::EXT.0 || prog.name().is_none() || set.contains(prog)
            }
        }
    }
}

/// The name of a row: `r#loop` is `loop`.
const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', rest @ ..] => match core::str::from_utf8(rest) {
            Ok(name) => name,
            Err(_) => panic!("a name is ASCII"),
        },
        _ => name,
    }
}

macro_rules! allowed {
    (Any) => {
        Allowed::Any
    };
    (Only[$($set:ident),* $(,)?]) => {
        Allowed::Only(ProgSet::NONE$(.or(ProgSet::$set))*)
    };
}

macro_rules! rows {
    ($(
        $(#[$doc:meta])*
        $id:literal $name:ident($($arg:ident: $kind:ident),* $(,)?)
            -> $ret:ident, $since:literal, $allowed:ident $([$($set:ident),* $(,)?])?;
    )*) => {
        /// Every helper of Linux 6.18, in order of id, starting at 1.
        pub static HELPERS: &[Helper] = &[$(
            Helper {
                id: $id,
                name: plain(stringify!($name)),
                args: &[$(Arg { name: stringify!($arg), kind: ArgKind::$kind }),*],
                ret: RetKind::$ret,
                since: const { Version::new($since) },
                allowed: allowed!($allowed $([$($set),*])?),
            },
        )*];
    };
}

crate::for_each_helper!(rows);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_count_from_one_to_211() {
        assert_eq!(HELPERS.len(), 211);
        for (helper, id) in HELPERS.iter().zip(1..) {
            assert_eq!(helper.id, id, "{}", helper.name);
            assert_eq!(Helper::by_id(id), Some(helper));
        }
        assert_eq!(Helper::by_id(0), None);
        assert_eq!(Helper::by_id(212), None);
    }

    #[test]
    fn names_are_unique_and_lead_back() {
        let names: HashSet<_> = HELPERS.iter().map(|helper| helper.name).collect();
        assert_eq!(names.len(), HELPERS.len());
        for helper in HELPERS {
            assert_eq!(Helper::by_name(helper.name), Some(helper));
            assert_eq!(
                Helper::by_name(&format!("bpf_{}", helper.name)),
                Some(helper)
            );
        }
        assert_eq!(
            Helper::by_name("bpf_loop").map(|helper| helper.id),
            Some(181)
        );
        assert_eq!(Helper::by_name("nonsense"), None);
    }

    #[test]
    fn sizes_follow_memory() {
        for helper in HELPERS {
            assert!(helper.args.len() <= 5, "{}", helper.name);
            for (index, arg) in helper.args.iter().enumerate() {
                let before = index.checked_sub(1).map(|index| helper.args[index].kind);
                let memory = matches!(
                    before,
                    Some(
                        ArgKind::Mem | ArgKind::MemOrNull | ArgKind::MemOut | ArgKind::MemOutOrNull
                    )
                );
                let size = matches!(arg.kind, ArgKind::Size | ArgKind::SizeOrZero);
                assert_eq!(memory, size, "{} {}", helper.name, arg.name);
            }
        }
    }

    #[test]
    fn lists_restrict_program_types() {
        let adjust = Helper::by_name("xdp_adjust_head").expect("a row");
        assert!(adjust.allows(ProgType::XDP));
        assert!(adjust.allows(ProgType::EXT));
        assert!(adjust.allows(ProgType(99)));
        assert!(!adjust.allows(ProgType::SCHED_CLS));
        assert!(HELPERS[0].allows(ProgType::NETFILTER));
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(Version::new("4.9") < Version::new("4.10"));
        assert_eq!(Version::new("6.18").to_string(), "6.18");
        let earliest = HELPERS.iter().map(|helper| helper.since).min();
        assert_eq!(earliest, Some(Version::new("3.19")));
    }
}
