//! The text of Rust lines, where the sources that a program was built from are at hand.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use std::{env, fmt};

/// Why the text of a Rust line is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoSource {
    /// The file is not there, as on most machines that did not build the program.
    Absent,
    /// It was changed after the running program was built, or nothing tells when that was: its lines
    /// may be others.
    Newer,
    /// It is larger than 4 MiB.
    TooLarge,
    /// It cannot be read, or is no text.
    Unreadable,
    /// Nothing stands at that line and column: it is another file.
    Different,
}

impl fmt::Display for NoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoSource::Absent => "it is not here",
            NoSource::Newer => "it is newer than the running program",
            NoSource::TooLarge => "it is larger than 4 MiB",
            NoSource::Unreadable => "it cannot be read as text",
            NoSource::Different => "it is another file than the program was built from",
        })
    }
}

/// No file of Rust that people write is larger.
const LARGEST: u64 = 4 << 20;

/// A source file in memory.
#[derive(Debug)]
pub(crate) struct Source {
    text: String,
    /// Where each line starts.
    starts: Vec<usize>,
}

/// What was found for each file, once in a process: also that there is nothing.
static SOURCES: Mutex<BTreeMap<&'static str, Found>> = Mutex::new(BTreeMap::new());

type Found = Result<Arc<Source>, NoSource>;

/// The source file that a position speaks of.
pub(crate) fn find(file: &'static str) -> Found {
    let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
    let found = sources.entry(file);
    found
        .or_insert_with(|| read_first(places(file), built()).map(Arc::new))
        .clone()
}

/// The text of a line as it stands in the source.
pub(crate) fn line(at: &'static Location<'static>) -> Result<String, NoSource> {
    let source = find(at.file())?;
    source.line(at.line(), at.column()).map(str::to_owned)
}

/// When the running program was built.
fn built() -> Option<SystemTime> {
    fs::metadata("/proc/self/exe").ok()?.modified().ok()
}

/// Where a file may be. Cargo names files of a workspace from its root, which is above the package
/// that is run and mostly above the program; others with their whole path.
///
/// The working directory is not asked: the same name may be another file there, of another owner.
fn places(file: &'static str) -> impl Iterator<Item = PathBuf> {
    let file = Path::new(file);
    let is_whole = file.is_absolute();
    let whole = is_whole.then(|| file.to_owned());
    // Where the first root has it, the second is not asked for.
    let package = || env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let program = || env::current_exe().ok();
    let roots: [fn() -> Option<PathBuf>; 2] = [package, program];
    let roots = roots.into_iter().filter(move |_| !is_whole);
    let above = roots.filter_map(|root| root()).flat_map(|root| {
        let next = |folder: &PathBuf| folder.parent().map(Path::to_owned);
        std::iter::successors(Some(root), next)
    });
    whole
        .into_iter()
        .chain(above.map(move |folder| folder.join(file)))
}

/// Reads the first that is a file.
fn read_first(
    places: impl IntoIterator<Item = PathBuf>,
    built: Option<SystemTime>,
) -> Result<Source, NoSource> {
    for place in places {
        // To open a pipe would wait for its other end.
        match fs::metadata(&place) {
            Ok(about) if about.is_file() => {
                let changed = about.modified().map_err(|_| NoSource::Unreadable)?;
                if built.is_none_or(|built| changed > built) {
                    return Err(NoSource::Newer);
                }
                return read(&place, about.len());
            }
            _ => {}
        }
    }
    Err(NoSource::Absent)
}

fn read(place: &Path, size: u64) -> Result<Source, NoSource> {
    let unreadable = |_| NoSource::Unreadable;
    let file = File::open(place).map_err(unreadable)?;
    // One byte more shows that the file ends there: no second buffer.
    let room = usize::try_from(size.min(LARGEST)).unwrap_or(0) + 1;
    let mut text = String::with_capacity(room);
    let mut limited = file.take(LARGEST + 1);
    limited.read_to_string(&mut text).map_err(unreadable)?;
    if limited.limit() == 0 {
        return Err(NoSource::TooLarge);
    }
    Ok(Source::new(text))
}

impl Source {
    fn new(text: String) -> Source {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let starts = std::iter::once(0).chain(ends).collect();
        Source { text, starts }
    }

    /// A line, if something starts at the column there.
    pub(crate) fn line(&self, line: u32, column: u32) -> Result<&str, NoSource> {
        let whole = self.whole(line).ok_or(NoSource::Different)?;
        if !starts_at(whole, column) {
            return Err(NoSource::Different);
        }
        Ok(whole.trim_end())
    }

    fn whole(&self, line: u32) -> Option<&str> {
        let index = (line as usize).checked_sub(1)?;
        let start = *self.starts.get(index)?;
        let end = self.starts.get(index + 1).copied();
        self.text.get(start..end.unwrap_or(self.text.len()))
    }
}

/// Whether an expression or a method's name may start at a column: not in a word, nor in a gap.
fn starts_at(line: &str, column: u32) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let Some(before) = (column as usize).checked_sub(1) else {
        return false;
    };
    let mut chars = line.chars();
    let last = before.checked_sub(1).map(|last| chars.nth(last));
    match (last, chars.next()) {
        (Some(None), _) | (_, None) => false,
        (Some(Some(last)), Some(first)) if is_word(last) => {
            !is_word(first) && !first.is_whitespace()
        }
        (_, Some(first)) => !first.is_whitespace(),
    }
}

#[cfg(test)]
mod tests {
    use super::{LARGEST, NoSource, Source, line, places, read_first};
    use std::fs::{self, File};
    use std::panic::Location;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    #[test]
    fn this_file_is_found() {
        let at = Location::caller();
        let text = "        let at = Location::caller();";
        assert_eq!(line(at).as_deref(), Ok(text));
    }

    #[test]
    fn lines_are_counted_from_one() {
        let source = Source::new("a\n\tmov(R0, 1),\r\n\n  größe.add(1)".to_owned());
        for (line, column, text) in [
            (1, 1, Ok("a")),
            (2, 2, Ok("\tmov(R0, 1),")),
            (4, 3, Ok("  größe.add(1)")),
            (4, 9, Ok("  größe.add(1)")),
            // A gap, the middle of a word, the end, and what is not there.
            (2, 1, Err(NoSource::Different)),
            (2, 3, Err(NoSource::Different)),
            (1, 2, Err(NoSource::Different)),
            (3, 1, Err(NoSource::Different)),
            (4, 99, Err(NoSource::Different)),
            (5, 1, Err(NoSource::Different)),
            (0, 1, Err(NoSource::Different)),
            (1, 0, Err(NoSource::Different)),
            (u32::MAX, u32::MAX, Err(NoSource::Different)),
        ] {
            assert_eq!(source.line(line, column), text, "{line}:{column}");
        }
    }

    /// A folder of its own that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("bs-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, bytes).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_may_lie_is_refused() {
        let folder = Folder::new("sources");
        let hour = Duration::from_secs(3600);
        let (built, late) = (SystemTime::now() + hour, SystemTime::now() - hour);
        let good = folder.file("good.rs", b"fn main() {}\n");
        let bytes = folder.file("bytes.rs", b"\xff\xfe");
        let large = folder.0.join("large.rs");
        File::create(&large).unwrap().set_len(LARGEST + 1).unwrap();
        let missing = folder.0.join("missing.rs");
        let read = |places: &[&PathBuf], built| {
            let places = places.iter().map(|place| (*place).clone());
            read_first(places, built).map(|source| source.text)
        };
        let text = Ok("fn main() {}\n".to_owned());
        assert_eq!(read(&[&good], Some(built)), text);
        // A folder of that name is no file.
        assert_eq!(read(&[&missing, &folder.0, &good], Some(built)), text);
        assert_eq!(read(&[&good], Some(late)), Err(NoSource::Newer));
        assert_eq!(read(&[&good], None), Err(NoSource::Newer));
        assert_eq!(read(&[&bytes], Some(built)), Err(NoSource::Unreadable));
        assert_eq!(read(&[&large], Some(built)), Err(NoSource::TooLarge));
        assert_eq!(read(&[&missing], Some(built)), Err(NoSource::Absent));
        // A device never ends, and a pipe would wait.
        let zero = PathBuf::from("/dev/zero");
        assert_eq!(read(&[&zero], Some(built)), Err(NoSource::Absent));
    }

    #[test]
    fn a_whole_path_is_taken_as_it_is() {
        let places: Vec<_> = places("/rustc/0/library/core/src/lib.rs").collect();
        assert_eq!(
            places,
            [PathBuf::from(
                "/rustc/0/library/core/src/lib.rs"
            )]
        );
    }
}
