//! Numbers that nobody can guess.

use super::error::Error;
use std::fs::File;
use std::io::Read;

const PATH: &str = "/dev/urandom";

/// The next one.
pub(super) fn number() -> Result<u16, Error> {
    let mut bytes = [0; 2];
    let mut file = File::open(PATH).map_err(|error| Error::file("open", PATH, &error))?;
    file.read_exact(&mut bytes)
        .map_err(|error| Error::file("read", PATH, &error))?;
    Ok(u16::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_differ() {
        let numbers: std::collections::BTreeSet<u16> =
            (0..64).map(|_| super::number().unwrap()).collect();
        assert!(numbers.len() > 32, "{numbers:?}");
    }
}
