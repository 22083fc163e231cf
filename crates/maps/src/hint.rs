//! What to do about a refusal: rows of a table.

use crate::error::{Object, Operation};
use bpfsmith_uapi::{Cmd, Errno, MapType};

/// A row: which refusals it is about, and what it says.
pub(crate) struct Row {
    pub(crate) cmds: &'static [Cmd],
    /// Empty for all kinds.
    pub(crate) kinds: &'static [MapType],
    pub(crate) errno: Errno,
    when: fn(&Object) -> bool,
    pub(crate) say: &'static str,
}

/// What the first fitting row says.
pub(crate) fn find(operation: Operation, object: &Object, errno: Errno) -> Option<&'static str> {
    let Operation::Bpf(cmd) = operation else {
        return None;
    };
    let fits = |row: &&Row| {
        row.errno == errno
            && row.cmds.contains(&cmd)
            && (row.kinds.is_empty() || row.kinds.contains(&object.kind))
            && (row.when)(object)
    };
    ROWS.iter().find(fits).map(|row| row.say)
}

/// All rows; the more special come first.
pub(crate) const ROWS: &[Row] = &[Row {
    cmds: &[Cmd::MAP_CREATE],
    kinds: &[MapType::ARRAY],
    errno: Errno::EINVAL,
    when: |object| object.key != 4,
    say: "an array key is 4 bytes",
}];
