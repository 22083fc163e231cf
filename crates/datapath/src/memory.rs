//! What a process wants the next one to know, in a map with a name.
//!
//! The file systems of a machine may be full, read-only or gone when a process is killed, and stay when the machine
//! starts again and no flow is left. A map is there exactly as long as the programs that it is about.

use crate::error::{Error, Result};
use crate::pins::{Entries, Pins, make_all, map, unlink};
use bpfsmith_maps::Map;
use bpfsmith_uapi::flags::map_create::BPF_F_MMAPABLE;
use bpfsmith_uapi::map::MapDef;
use std::fs;
use std::path::PathBuf;

const PAGE: usize = 4096;
/// How many bytes there are, in little-endian order, stands in front of them.
const HEAD: usize = size_of::<u64>();

fn pages(entries: u32) -> MapDef<u32, [u8; PAGE]> {
    MapDef::array("memory", entries).flags(BPF_F_MMAPABLE)
}

impl Pins {
    fn memory(&self) -> PathBuf {
        self.layout().join("memory")
    }

    /// What a map is called until it is whole. Names have no dots there.
    fn coming_memory(&self) -> PathBuf {
        self.layout().join("memory-new")
    }

    /// Keeps these bytes for the next process, instead of those that were kept before. Whoever is killed meanwhile
    /// leaves the former or the latter.
    ///
    /// # Errors
    /// When the kernel has no room; [`Error::TooMuch`] for more than 16 TB.
    pub fn remember(&self, bytes: &[u8]) -> Result<()> {
        let whole = [
            &(bytes.len() as u64).to_le_bytes(),
            bytes,
        ]
        .concat();
        let entries = u32::try_from(whole.len().div_ceil(PAGE)).ok();
        let entries = entries.ok_or(Error::TooMuch { bytes: bytes.len() })?;
        let map: Map<u32, [u8; PAGE]> = Map::create(&pages(entries))?;
        let mapped = map.mapped()?;
        for (index, part) in whole.chunks(PAGE).enumerate() {
            let mut page = [0; PAGE];
            page[..part.len()].copy_from_slice(part);
            // It has as many pages as the bytes take.
            mapped.store(index, &page);
        }
        make_all(self.path(), &self.layout())?;
        let (path, new) = (self.memory(), self.coming_memory());
        // Somebody may have been killed between the next two steps.
        unlink(&new)?;
        map.pin(&new)?;
        fs::rename(&new, &path).map_err(|error| Error::file("rename", &path, &error))
    }

    /// What was kept last, if anything was.
    ///
    /// # Errors
    /// When the map cannot be read, or is another one than [`remember`](Pins::remember) makes.
    pub fn remembered(&self) -> Result<Option<Vec<u8>>> {
        let path = self.memory();
        let Some(found) = map(&path, pages(1).shape(), Entries::Found)? else {
            return Ok(None);
        };
        let map: Map<u32, [u8; PAGE]> = Map::from_handle(found)?;
        let mapped = map.mapped_to_read()?;
        let pages = (0..mapped.len()).filter_map(|index| mapped.load(index));
        let whole: Vec<u8> = pages.flatten().collect();
        let kept = whole
            .split_first_chunk()
            .and_then(|(head, rest): (&[u8; HEAD], _)| {
                let bytes = usize::try_from(u64::from_le_bytes(*head)).ok()?;
                rest.get(..bytes)
            });
        match kept {
            Some(kept) => Ok(Some(kept.to_vec())),
            None => Err(Error::Foreign { path }),
        }
    }
}
