//! What can be wrong with BTF.

use crate::graph::{DEPTH, STEPS};
use crate::kind::{Kind, TypeId};
use core::fmt;

/// A part of a BTF blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Section {
    /// The records.
    Types,
    /// The names.
    Strings,
    /// Sizes of records by kind.
    Layout,
    /// Which instruction starts which function.
    FuncInfo,
    /// Which instruction comes from which line.
    LineInfo,
    /// Fields whose offsets are looked up at load.
    CoreRelo,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Section::Types => "type section",
            Section::Strings => "string section",
            Section::Layout => "layout section",
            Section::FuncInfo => "func_info section",
            Section::LineInfo => "line_info section",
            Section::CoreRelo => "core_relo section",
        })
    }
}

/// Why bytes are not BTF, or why a question about types has no answer.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end inside the header.
    #[error("read BTF: {have} bytes, but the header alone needs {need}")]
    TooShort {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        need: usize,
    },
    /// The magic number is another one.
    #[error("read BTF: it starts with {:02x} {:02x} instead of eb9f in either order", start[0], start[1])]
    NotBtf {
        /// The first two bytes.
        start: [u8; 2],
    },
    /// A version that does not exist yet.
    #[error("read BTF: version {0}, but only version 1 is known")]
    Version(u8),
    /// The header says that it is shorter than it can be.
    #[error("read BTF: a header of {length} bytes is shorter than the {least} it must have")]
    HeaderLength {
        /// What it says.
        length: usize,
        /// The least it can be.
        least: usize,
    },
    /// A section does not lie inside the bytes.
    #[error(
        "read BTF: {length} bytes at {offset} for the {section}, but {have} bytes follow the header"
    )]
    SectionOutside {
        /// Which one.
        section: Section,
        /// Where it starts, behind the header.
        offset: usize,
        /// How long it is.
        length: usize,
        /// Bytes behind the header.
        have: usize,
    },
    /// Names must start with an empty one and end with a zero byte, and have a reasonable length.
    #[error("read BTF: the string section {0}")]
    Strings(&'static str),
    /// A kind that neither we nor the layout section know: the types behind it cannot be found.
    #[error("read BTF: type {id} at {offset} is of the unknown kind {}", kind.0)]
    UnknownKind {
        /// The type.
        id: TypeId,
        /// Where its record starts in the type section.
        offset: usize,
        /// Its kind.
        kind: Kind,
    },
    /// A record reaches behind the end of the type section.
    #[error("read BTF: type {id} at {offset} does not end before the type section does")]
    TypeTruncated {
        /// The type.
        id: TypeId,
        /// Where its record starts in the type section.
        offset: usize,
    },
    /// More types than an id of this crate's index can tell apart.
    #[error("read BTF: more than {limit} types")]
    TooManyTypes {
        /// The most that are read; the kernel's own limit is lower.
        limit: u32,
    },
    /// A name that is not in the string section.
    #[error("read BTF: type {id} has a name at {offset}, behind the strings")]
    NameOutside {
        /// The type.
        id: TypeId,
        /// Where the name would be.
        offset: u32,
    },
    /// The base of split BTF is split itself.
    #[error("read split BTF: its base is itself split")]
    SplitBase,
    /// Split BTF in another byte order than its base.
    #[error("read split BTF: its byte order is not that of its base")]
    SplitOrder,
    /// Function, line or relocation records that do not fill their section.
    #[error("read BTF.ext: the records of the {0} do not fill it")]
    Records(Section),
    /// Fewer bytes than a value of the type has.
    #[error("show a value of type {id}: {have} bytes, but it has {need}")]
    ShortValue {
        /// The type.
        id: TypeId,
        /// Bytes of a value.
        need: u32,
        /// Bytes there are.
        have: usize,
    },
    /// An id without a type.
    #[error("find type {0}: there is no such type")]
    NoType(TypeId),
    /// No type of that name.
    #[error("find {}{name}: there is no such type", kind_word(*kind))]
    NoName {
        /// The name.
        name: String,
        /// The kind that was asked for.
        kind: Kind,
    },
    /// A type that contains itself, or refers to others too deeply or too often to follow.
    #[error(
        "follow type {0}: it contains itself, nests more than {DEPTH} deep, or takes more than {STEPS} steps"
    )]
    TooDeep(TypeId),
    /// A type whose text would be too long, as when many members share one long name.
    #[error("write type {id}: its text has more than {limit} bytes")]
    TooLong {
        /// The type.
        id: TypeId,
        /// The most bytes.
        limit: usize,
    },
    /// A type without a size.
    #[error("size of type {id}: a {kind} has no size")]
    NoSize {
        /// The type.
        id: TypeId,
        /// Its kind.
        kind: Kind,
    },
    /// A size beyond 32 bits.
    #[error("size of type {0}: it does not fit in 32 bits")]
    TooLarge(TypeId),
    /// A path names a member that is not there.
    #[error("find member {path}: {parent} has no member {part}")]
    NoMember {
        /// The whole path.
        path: String,
        /// The part that was not found.
        part: String,
        /// Where it was looked for.
        parent: String,
    },
    /// A path goes on behind something that has no members or elements.
    #[error("find member {path}: {part} is neither a structure nor an array")]
    NotComposite {
        /// The whole path.
        path: String,
        /// The part that ends the way.
        part: String,
    },
    /// A path that is not `a.b[3].c`.
    #[error("find member {path}: it is not a path of the form a.b[3].c")]
    Path {
        /// The path.
        path: String,
    },
    /// An index behind the end of an array.
    #[error("find member {path}: [{index}] is outside of an array of {len}")]
    Index {
        /// The path.
        path: String,
        /// The index.
        index: u32,
        /// The length of the array.
        len: u32,
    },
}

bpfsmith_uapi::debug_as_display!(Error);

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::STRUCT => "struct ",
        Kind::UNION => "union ",
        Kind::ENUM | Kind::ENUM64 => "enum ",
        Kind::TYPEDEF => "typedef ",
        Kind::FUNC => "function ",
        Kind::VAR => "variable ",
        Kind::DATASEC => "section ",
        _ => "",
    }
}

impl Error {
    /// What to do next, for the errors where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Error::TooShort { .. } | Error::NotBtf { .. } => {
                "pass the bytes of /sys/kernel/btf/* or of an ELF file's .BTF section"
            }
            Error::UnknownKind { .. } => "the BTF is newer than this library",
            Error::NameOutside { .. } | Error::NoType(_) => {
                "BTF of a module continues the kernel's: read it with `parse_split`"
            }
            Error::SplitBase => "pass the kernel's own BTF as the base",
            Error::NoName { .. } => {
                "the running kernel may lack the option or module, or name it otherwise"
            }
            Error::NoMember { .. } => "members differ between kernels: offer an alternative",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Error> {
        let (id, kind, path) = (TypeId(7), Kind::FUNC, String::from("a.b"));
        vec![
            Error::TooShort { have: 3, need: 24 },
            Error::NotBtf { start: [1, 2] },
            Error::UnknownKind {
                id,
                offset: 9,
                kind: Kind(20),
            },
            Error::NoType(id),
            Error::TooDeep(id),
            Error::TooLong { id, limit: 9 },
            Error::SplitBase,
            Error::NoName {
                name: "go".into(),
                kind,
            },
            Error::NoSize { id, kind },
            Error::NoMember {
                path: path.clone(),
                part: "b".into(),
                parent: "struct a".into(),
            },
            Error::Index {
                path,
                index: 4,
                len: 3,
            },
        ]
    }

    #[test]
    fn errors_name_what_was_done_in_one_line() {
        for error in samples() {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.contains(": "), "{text}");
            assert!(!text.ends_with('.'), "{text}");
        }
        let unknown = Error::UnknownKind {
            id: TypeId(7),
            offset: 9,
            kind: Kind(20),
        };
        assert_eq!(
            unknown.to_string(),
            "read BTF: type #7 at 9 is of the unknown kind 20"
        );
    }

    #[test]
    fn hints_are_single_sentences() {
        let hints: Vec<_> = samples().iter().filter_map(Error::hint).collect();
        assert_eq!(hints.len(), 7);
        for hint in hints {
            assert!(
                hint.starts_with(char::is_lowercase) || hint.starts_with("BTF"),
                "{hint}"
            );
            assert!(!hint.ends_with('.') && !hint.contains('\n'), "{hint}");
        }
    }
}
