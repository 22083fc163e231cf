//! All maps of the system.

use crate::error::{Error, Result};
use crate::handle::Handle;
use bpfsmith_sys::object::{Kind, next_id};
use bpfsmith_uapi::{Cmd, Errno};

/// The ids of all maps that are loaded, in ascending order.
///
/// It ends after an error: `EPERM` without `CAP_SYS_ADMIN`.
pub fn ids() -> impl Iterator<Item = Result<u32>> {
    let mut last = Some(0);
    std::iter::from_fn(move || match next_id(Kind::Map, last?) {
        Ok(id) => {
            last = Some(id);
            Some(Ok(id))
        }
        Err(failed) => {
            last = None;
            let refused = || {
                Error::unopened(
                    Cmd::MAP_GET_NEXT_ID,
                    "of this system".to_owned(),
                    failed.errno,
                )
            };
            (failed.errno != Errno::ENOENT).then(|| Err(refused()))
        }
    })
}

/// All maps that are loaded, open, with their ids. Those that vanish meanwhile are left out.
///
/// It goes on after the error of a map that cannot be opened.
pub fn all() -> impl Iterator<Item = Result<(u32, Handle)>> {
    ids().filter_map(|id| {
        let id = match id {
            Ok(id) => id,
            Err(error) => return Some(Err(error)),
        };
        match Handle::open_id(id) {
            Ok(handle) => Some(Ok((id, handle))),
            Err(error) if error.errno() == Some(Errno::ENOENT) => None,
            Err(error) => Some(Err(error)),
        }
    })
}
