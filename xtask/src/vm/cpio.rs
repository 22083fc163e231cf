//! Writes the archive that a kernel unpacks as its first file system: cpio of the "newc" kind.

use crate::{Error, Result};
use std::io::Write;
use std::path::Path;

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive that grows.
#[derive(Debug, Default)]
pub(super) struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
    directories: Vec<String>,
}

impl Cpio {
    /// A file with these bytes.
    pub(super) fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.parents(path)?;
        self.entry(path, FILE, (0, 0), bytes)
    }

    /// A file that can be executed, copied from the machine.
    pub(super) fn program(&mut self, path: &str, from: &Path) -> Result<()> {
        let bytes = std::fs::read(from).map_err(Error::file(from))?;
        self.parents(path)?;
        self.entry(path, PROGRAM, (0, 0), &bytes)
    }

    /// An empty directory.
    pub(super) fn directory(&mut self, path: &str) -> Result<()> {
        self.parents(path)?;
        if self.directories.iter().any(|known| known == path) {
            return Ok(());
        }
        self.directories.push(path.to_owned());
        self.entry(path, DIRECTORY, (0, 0), &[])
    }

    /// A character device with a major and a minor number.
    pub(super) fn character_device(&mut self, path: &str, number: (u32, u32)) -> Result<()> {
        self.parents(path)?;
        self.entry(path, CHARACTER_DEVICE, number, &[])
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    /// The kernel makes no directory that the archive does not name.
    fn parents(&mut self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => self.directory(parent),
            _ => Ok(()),
        }
    }

    /// A head of 13 numbers as eight hexadecimal digits, the name, the content; both padded to four.
    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), bytes: &[u8]) -> Result<()> {
        let name = path.trim_start_matches('/');
        let length = |length: usize| {
            let large = || std::io::Error::from(std::io::ErrorKind::FileTooLarge);
            u32::try_from(length).map_err(|_| Error::file(Path::new(path))(large()))
        };
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0, // owner
            0, // group
            1, // links
            0, // time
            length(bytes.len())?,
            0, // major and minor of the device it is on
            0,
            device.0,
            device.1,
            length(name.len() + 1)?,
            0, // no checksum
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            // Writing to memory does not fail.
            let _ = write!(self.bytes, "{field:08X}");
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(bytes);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode, device and content.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// Each entry, read back by the format's description.
    fn read(mut bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |at: usize| {
                let digits = std::str::from_utf8(&bytes[6 + at * 8..14 + at * 8]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (name, size) = (110..110 + field(11) as usize - 1, field(6) as usize);
            let content = (name.end + 1).next_multiple_of(4);
            let text = String::from_utf8(bytes[name.clone()].to_vec()).unwrap();
            assert_eq!(bytes[name.end], 0);
            if text == "TRAILER!!!" {
                return entries;
            }
            let data = bytes[content..content + size].to_vec();
            entries.push((text, field(1), (field(9), field(10)), data));
            bytes = &bytes[(content + size).next_multiple_of(4)..];
        }
    }

    fn sample() -> Vec<u8> {
        let mut cpio = Cpio::default();
        cpio.file("/a/b/three", b"123").unwrap();
        cpio.file("/a/empty", b"").unwrap();
        cpio.character_device("/dev/console", (5, 1)).unwrap();
        cpio.finish().unwrap()
    }

    #[test]
    fn entries_come_back_with_their_parents_once() {
        let entries = read(&sample());
        let names: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(
            names,
            [
                "a",
                "a/b",
                "a/b/three",
                "a/empty",
                "dev",
                "dev/console",
            ]
        );
        assert_eq!(entries[1].1, DIRECTORY);
        assert_eq!((entries[2].1, &entries[2].3[..]), (FILE, &b"123"[..]));
        assert_eq!((entries[5].1, entries[5].2), (CHARACTER_DEVICE, (5, 1)));
    }
}
