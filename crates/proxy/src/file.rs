//! Files that somebody else writes, and may put anything in the place of.

use nix::fcntl::OFlag;
use std::fs::OpenOptions;
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A file has so many bytes at most: the largest configurations have a few of a million.
const MOST: u64 = 64 << 20;

/// What is in a file. Nobody waits for who writes into a pipe, and nothing that has no end is read to it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    // Of pipes, opening alone may take for ever.
    let flags = OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is no file"));
    }
    let mut contents = Vec::new();
    // One more tells that there is more.
    let count = file.take(MOST + 1).read_to_end(&mut contents)?;
    match u64::try_from(count).is_ok_and(|count| count <= MOST) {
        true => Ok(contents),
        false => {
            let what = format!("it has more than {} MiB", MOST >> 20);
            Err(Error::new(ErrorKind::FileTooLarge, what))
        }
    }
}

/// The same, and it is text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let text = String::from_utf8(read(path)?);
    text.map_err(|_| Error::new(ErrorKind::InvalidData, "it is no text in UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::{MOST, read, read_text};
    use nix::sys::stat::Mode;
    use std::fs::{self, File};

    #[test]
    fn only_files_are_read() {
        let dir = std::env::temp_dir().join(format!("bs-file-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let path = dir.join("it");
        let error = |path| read_text(path).unwrap_err().to_string();
        assert!(error(&dir).contains("it is no file"), "{}", error(&dir));
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert!(error(&path).contains("it is no file"), "{}", error(&path));
        fs::remove_file(&path).unwrap();
        fs::write(&path, [0xff]).unwrap();
        assert!(error(&path).contains("UTF-8"), "{}", error(&path));
        assert_eq!(read(&path).unwrap(), [0xff]);
        File::create(&path).unwrap().set_len(MOST + 1).unwrap();
        assert!(error(&path).contains("64 MiB"), "{}", error(&path));
        fs::remove_dir_all(&dir).unwrap();
    }
}
