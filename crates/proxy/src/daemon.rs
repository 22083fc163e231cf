//! [`Daemon`]: a proxy, the file that it was configured by, and what it writes and answers.

use crate::access_log::{Log, Writer};
use crate::error::{Error, Result};
use crate::feed::Sink;
use crate::file;
use crate::keeper::Turn;
use crate::lock::locked;
use crate::metrics::Tally;
use crate::powerless;
use crate::proxy::{Life, Proxy};
use crate::status::Status;
use bpfsmith_config::desired::{Desired, Settings};
use bpfsmith_config::edit::{Document, EditError, Effect};
use bpfsmith_config::json;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// A proxy with all that is around it.
#[derive(Debug)]
pub struct Daemon {
    proxy: Proxy,
    tally: Tally,
    /// The file of configuration.
    path: Option<PathBuf>,
    /// What the file said when it was read or written last.
    known: Mutex<String>,
    /// Whoever changes the configuration has it until all has changed.
    changing: Mutex<()>,
    log: Mutex<Option<Log>>,
    /// What the settings were at the beginning: some of them are of the process.
    begun: Settings,
    /// What the present ones want otherwise.
    waiting: Mutex<Vec<String>>,
}

/// Reads a configuration: JSON if the file's name ends so, and TOML else.
///
/// # Errors
/// When the file cannot be read, or is wrong.
pub fn read(path: &Path) -> Result<Document> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
    parse(path, &text)
}

/// What a file says that will be read again, and therefore is no pipe.
fn contents(path: &Path) -> Result<String> {
    file::read_text(path).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::File {
        path: path.to_owned(),
        error,
        hint: "name a file of configuration that can be read",
    }
}

/// The settings that a file begins with.
///
/// # Errors
/// As for [`read`], and when it is no file.
pub fn settings(path: &Path) -> Result<Settings> {
    let document = parse(path, &contents(path)?)?;
    Ok(document.desired().settings.clone())
}

fn parse(path: &Path, text: &str) -> Result<Document> {
    match path.extension().and_then(|end| end.to_str()) {
        Some("json") => of_json(text),
        _ => Ok(Document::read(text)?),
    }
}

/// A configuration that is written as JSON: from now on it is TOML.
///
/// # Errors
/// When it is wrong.
pub fn of_json(text: &str) -> Result<Document> {
    let desired = Desired::read(&json::read(text)?)?;
    Ok(Document::read(&desired.text()?)?)
}

impl Daemon {
    /// Begins to do what a file says.
    ///
    /// # Errors
    /// When the file is wrong, or the kernel refuses.
    pub fn open(path: &Path, life: Life) -> Result<Daemon> {
        let text = contents(path)?;
        let document = parse(path, &text)?;
        let tally = Tally::default();
        let mut log = None;
        let mut begun = Settings::default();
        let proxy = Proxy::open_with(document, life, |desired| {
            let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(tally.clone())];
            if let Some(wanted) = &desired.settings.access_log {
                let (opened, writer) = powerless::start(|| Log::open(wanted))?;
                sinks.push(Box::new(writer));
                log = Some(opened);
            }
            begun = desired.settings.clone();
            Ok(sinks)
        })?;
        Ok(Daemon {
            proxy,
            tally,
            path: Some(path.to_owned()),
            known: Mutex::new(text),
            changing: Mutex::new(()),
            log: Mutex::new(log),
            begun,
            waiting: Mutex::default(),
        })
    }

    /// The proxy.
    #[must_use]
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// What its events add up to.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The file of configuration.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Does what the file says now.
    ///
    /// # Errors
    /// When it is wrong, or the kernel refuses: everything is as before then.
    pub fn reload(&self) -> Result<Turn> {
        let path = self.path.as_ref().ok_or(Error::NoFile)?;
        let mut known = self.known();
        let text = contents(path)?;
        let turn = self.apply(parse(path, &text)?)?;
        *known = text;
        Ok(turn)
    }

    /// Whether this is what the file said when it was read or written last. Whoever watches the file does not read it
    /// for that: it would take back what has been changed since.
    #[must_use]
    pub fn knows(&self, contents: &[u8]) -> bool {
        self.known().as_bytes() == contents
    }

    /// Writes the configuration to its file, at once or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> Result<PathBuf> {
        let path = self.path.as_ref().ok_or(Error::NoFile)?;
        if path.extension().is_some_and(|end| end == "json") {
            return Err(Error::NoToml(path.clone()));
        }
        let mut known = self.known();
        let text = self.proxy.document().text().to_owned();
        write(path, text.as_bytes())?;
        self.proxy.saved(&text);
        *known = text;
        Ok(path.clone())
    }

    /// Does what this configuration says from now on, at once or not at all.
    ///
    /// # Errors
    /// When it is not possible, or the kernel refuses: everything is as before then.
    pub fn apply(&self, document: Document) -> Result<Turn> {
        self.with_log(|prepare| self.proxy.apply_prepared(document, prepare))
    }

    /// Changes the configuration, at once or not at all; what it says of the log comes true, too.
    ///
    /// # Errors
    /// When the change is refused, or the configuration that it makes, or a log cannot be opened: everything is as
    /// before then.
    pub fn change(
        &self,
        edit: impl FnOnce(&mut Document) -> std::result::Result<Effect, EditError>,
    ) -> Result<Turn> {
        self.with_log(|prepare| self.proxy.change_prepared(edit, prepare))
    }

    /// What a change says of the log comes true with it, and what takes another process is found out.
    fn with_log(
        &self,
        change: impl FnOnce(&mut dyn FnMut(&Desired) -> Result<Other>) -> Result<(Turn, Other)>,
    ) -> Result<Turn> {
        let _one = locked(&self.changing);
        let mut waiting = Vec::new();
        let (turn, other) = change(&mut |desired| {
            waiting = waits(&self.begun, &desired.settings);
            other_log(self.log().as_ref(), desired)
        })?;
        *locked(&self.waiting) = waiting;
        match other {
            Other::Same => {}
            Other::None => *self.log() = None,
            Other::Opened(opened, writer) => {
                self.proxy.add_sink(writer);
                *self.log() = Some(opened);
            }
        }
        Ok(turn)
    }

    /// Settings that are of the process, and that the present configuration wants otherwise than it was when the
    /// process began.
    #[must_use]
    pub fn waiting(&self) -> Vec<String> {
        locked(&self.waiting).clone()
    }

    /// How everything stands.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn status(&self) -> Result<Status> {
        let mut status = self.proxy.status()?;
        status.notes.extend(self.waiting());
        status.notes.extend(self.log().as_ref().and_then(Log::note));
        Ok(status)
    }

    /// The file of the log is opened again: somebody has moved it away.
    pub fn reopen_log(&self) {
        if let Some(log) = self.log().as_ref() {
            log.reopen();
        }
    }

    fn known(&self) -> MutexGuard<'_, String> {
        locked(&self.known)
    }

    fn log(&self) -> MutexGuard<'_, Option<Log>> {
        locked(&self.log)
    }
}

/// What becomes of the log.
enum Other {
    Same,
    None,
    Opened(Log, Writer),
}

/// The log that is wanted, opened if it is not the present one.
fn other_log(log: Option<&Log>, desired: &Desired) -> Result<Other> {
    let wanted = desired.settings.access_log.as_ref();
    if log.map(Log::settings) == wanted {
        return Ok(Other::Same);
    }
    let Some(wanted) = wanted else {
        return Ok(Other::None);
    };
    let (opened, writer) = powerless::start(|| Log::open(wanted))?;
    Ok(Other::Opened(opened, writer))
}

/// What is said of settings that only another process follows.
fn waits(begun: &Settings, now: &Settings) -> Vec<String> {
    let rows = [
        ("control", begun.control == now.control),
        ("pins", begun.pins == now.pins),
        ("metrics", begun.metrics == now.metrics),
        ("admin", begun.admin == now.admin),
    ];
    let other = rows.into_iter().filter(|(_, is_same)| !is_same);
    other
        .map(|(name, _)| {
            format!("settings.{name} is not followed yet: end this process and run it again")
        })
        .collect()
}

/// Puts a text in a file's place: whoever reads it finds the old one or the new one.
fn write(path: &Path, text: &[u8]) -> Result<()> {
    // The file that a link leads to is what is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let failed = |error| Error::File {
        path: path.clone(),
        error,
        hint: "the configuration is not saved: is there room, and may its directory be written?",
    };
    let mut name = path.clone().into_os_string();
    name.push(".new");
    let new = PathBuf::from(name);
    let written = write_new(&new, &path, text).and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        // What is left of it is of no use; why it is left was told.
        let _ = fs::remove_file(&new);
    }
    written.map_err(failed)
}

/// Writes another file for the place of an old one, whose owner and mode it gets.
fn write_new(new: &Path, path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(new)?;
    if let Ok(old) = fs::metadata(path) {
        let mode = fs::Permissions::from_mode(old.mode() & 0o7777);
        file.set_permissions(mode)?;
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.write_all(text)?;
    file.sync_all()
}
