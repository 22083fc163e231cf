//! How backends are reached from here, told before packets are lost.

use crate::choice::Note;
use crate::config::Mode;
use crate::error::Result;
use crate::generation::Generation;
use crate::look::{Look, Watched, Way};
use bpfsmith_net::IfIndex;
use std::collections::BTreeSet;

/// What is wrong with the ways to backends, where these devices have programs.
///
/// Backends that answer clients themselves are left out: their answers are not to come back.
pub(crate) fn notes(
    look: &Look<'_>,
    generation: &Generation,
    programs: &BTreeSet<IfIndex>,
) -> Result<Vec<Note>> {
    let mut notes = Vec::new();
    for (backend, modes) in generation.backends() {
        if modes.iter().all(|mode| *mode == Mode::DirectReturn) {
            continue;
        }
        let backend = *backend;
        match look.way_to(backend)? {
            Way::Here => {}
            Way::Nowhere => notes.push(Note::NoWay { backend }),
            Way::By(device) => match look.watched(device, programs)? {
                Watched::Yes => {}
                Watched::No { name: device } => notes.push(Note::Bypass { backend, device }),
            },
        }
    }
    Ok(notes)
}
