//! [`Daemon`]: a proxy, the file that it was configured by, and what it writes and answers.

use crate::access_log::Log;
use crate::error::{Error, Result};
use crate::feed::Sink;
use crate::keeper::Turn;
use crate::metrics::Tally;
use crate::powerless;
use crate::proxy::{Life, Proxy};
use bpfsmith_config::desired::Desired;
use bpfsmith_config::edit::Document;
use bpfsmith_config::json;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A proxy with all that is around it.
#[derive(Debug)]
pub struct Daemon {
    proxy: Proxy,
    tally: Tally,
    /// The file of configuration.
    path: Option<PathBuf>,
    /// What the file said when it was read or written last.
    known: Mutex<String>,
    log: Mutex<Option<Log>>,
}

/// Reads a configuration: JSON if the file's name ends so, and TOML else.
///
/// # Errors
/// When the file cannot be read, or is wrong.
pub fn read(path: &Path) -> Result<Document> {
    parse(path, &contents(path)?)
}

fn contents(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::File {
        path: path.to_owned(),
        error,
        hint: "name a file of configuration that can be read",
    })
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
        let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(tally.clone())];
        let mut log = None;
        if let Some(wanted) = &document.desired().settings.access_log {
            let (opened, writer) = powerless::start(|| Log::open(wanted))?;
            sinks.push(Box::new(writer));
            log = Some(opened);
        }
        Ok(Daemon {
            proxy: Proxy::open_with(document, life, sinks)?,
            tally,
            path: Some(path.to_owned()),
            known: Mutex::new(text),
            log: Mutex::new(log),
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
        let turn = self.proxy.apply(parse(path, &text)?)?;
        *known = text;
        drop(known);
        self.changed()?;
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

    /// The configuration is another one: what it says of the log comes true.
    ///
    /// # Errors
    /// When the file of the log cannot be opened; then the log is as it was.
    pub fn changed(&self) -> Result<()> {
        let wanted = self
            .proxy
            .with_keeper(|keeper| keeper.desired().settings.access_log.clone());
        let mut log = self.log();
        if log.as_ref().map(Log::settings) == wanted.as_ref() {
            return Ok(());
        }
        *log = match wanted {
            None => None,
            Some(wanted) => {
                let (opened, writer) = powerless::start(|| Log::open(&wanted))?;
                self.proxy.add_sink(writer);
                Some(opened)
            }
        };
        Ok(())
    }

    /// The file of the log is opened again: somebody has moved it away.
    pub fn reopen_log(&self) {
        if let Some(log) = self.log().as_ref() {
            log.reopen();
        }
    }

    fn known(&self) -> MutexGuard<'_, String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Option<Log>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    let mut file = File::create(&new).map_err(failed)?;
    if let Ok(old) = fs::metadata(&path) {
        let mode = fs::Permissions::from_mode(old.mode() & 0o7777);
        file.set_permissions(mode).map_err(failed)?;
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid())).map_err(failed)?;
    }
    file.write_all(text).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&new, &path).map_err(failed)
}
