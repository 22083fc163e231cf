//! Connections that ended, written down: one line each.

use crate::error::{Error, Result};
use crate::feed::{Sink, Told};
use crate::lock::locked;
use crate::status;
use bpfsmith_config::desired::{AccessLog, Format};
use bpfsmith_config::json;
use bpfsmith_datapath::event::What;
use nix::time::{ClockId, clock_gettime};
use std::fs::{File, OpenOptions, rename};
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lines that wait for the disk at most: of more, those that come last are lost, and counted.
const ROOM: usize = 1 << 16;

/// How long a line waits in memory at most.
const FLUSH: Duration = Duration::from_secs(1);

/// The log of a configuration, while it is written.
#[derive(Debug)]
pub struct Log {
    settings: AccessLog,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    lines: SyncSender<Line>,
}

#[derive(Debug, Default)]
struct Shared {
    lost: AtomicU64,
    failure: Mutex<Option<String>>,
}

#[derive(Debug)]
enum Line {
    Text(String),
    Reopen,
    End,
}

/// What takes events for a log.
#[derive(Debug)]
pub struct Writer {
    format: Format,
    lines: SyncSender<Line>,
    shared: Arc<Shared>,
}

impl Log {
    /// Opens the file, which is made if there is none, and only its owner and group may read it.
    ///
    /// # Errors
    /// When it cannot be opened, or no thread started.
    pub fn open(settings: &AccessLog) -> Result<(Log, Writer)> {
        let file = Lines::open(settings)?;
        let shared = Arc::new(Shared::default());
        let (lines, theirs) = sync_channel(ROOM);
        let told = Arc::clone(&shared);
        let writer = std::thread::Builder::new().name("access log".to_owned());
        let writer = writer.spawn(move || write(file, &theirs, &told));
        let writer = writer.map_err(|error| Error::Machine {
            call: "start a thread for the access log",
            error,
            hint: "the limit of processes is reached: see ulimit -u",
        })?;
        let log = Log {
            settings: settings.clone(),
            shared: Arc::clone(&shared),
            writer: Some(writer),
            lines: lines.clone(),
        };
        let format = settings.format;
        Ok((
            log,
            Writer {
                format,
                lines,
                shared,
            },
        ))
    }

    /// What it was opened with.
    #[must_use]
    pub fn settings(&self) -> &AccessLog {
        &self.settings
    }

    /// Lines that were lost because the disk was too slow, or full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Why nothing can be written, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        locked(&self.shared.failure).clone()
    }

    /// What is not as it should be.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let lost = match self.lost() {
            0 => None,
            lost => Some(format!("{lost} lines of the access log are lost")),
        };
        let said: Vec<String> = lost.into_iter().chain(self.failure()).collect();
        (!said.is_empty()).then(|| said.join(": "))
    }

    /// Opens the file again: somebody has moved it away.
    pub fn reopen(&self) {
        // A writer that is gone has told why.
        let _ = self.lines.send(Line::Reopen);
    }
}

impl Drop for Log {
    /// Everything that came before is written.
    fn drop(&mut self) {
        let _ = self.lines.send(Line::End);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Sink for Writer {
    fn take(&mut self, told: &Told) -> ControlFlow<()> {
        let What::Closed(..) = told.event.what else {
            return ControlFlow::Continue(());
        };
        match self.lines.try_send(Line::Text(line(self.format, told))) {
            Ok(()) => ControlFlow::Continue(()),
            Err(TrySendError::Full(_)) => {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                ControlFlow::Continue(())
            }
            Err(TrySendError::Disconnected(_)) => ControlFlow::Break(()),
        }
    }
}

/// A connection that ended, on a line.
#[must_use]
pub fn line(format: Format, told: &Told) -> String {
    let proxy = told.proxy.as_deref();
    match (format, told.event.what) {
        (Format::Common, What::Closed(flow, end)) => {
            let event = &told.event;
            // The time at which it began, as that of a request is written.
            let begun = began(told.read, told.event.at).checked_sub(flow.age);
            format!(
                "{} - - [{}] \"{} {} {} {}\" {} {}",
                event.client.ip(),
                common_time(begun.unwrap_or(UNIX_EPOCH)),
                status::protocol(event.protocol).to_uppercase(),
                event.service,
                proxy.unwrap_or("-"),
                flow.target,
                status::end_name(end),
                flow.there.bytes.saturating_add(flow.back.bytes),
            )
        }
        _ => json::write(&status::event(told.read, proxy, &told.event)),
    }
}

/// When an event happened: it was read then, and told at that time of the monotonic clock.
fn began(read: SystemTime, at: Duration) -> SystemTime {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(at, Duration::from);
    read.checked_sub(now.saturating_sub(at)).unwrap_or(read)
}

/// A time as the common log format writes it, in UTC.
fn common_time(time: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March, so that the day that is there sometimes is the last one.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 2
    } else {
        from_march - 10
    };
    let year = year_of_era + era * 400 + u64::from(month < 2);
    let name = usize::try_from(month).ok().and_then(|it| MONTHS.get(it));
    format!(
        "{day:02}/{}/{year:04}:{:02}:{:02}:{:02} +0000",
        name.unwrap_or(&"Jan"),
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// A file of lines that is moved on when it is full.
#[derive(Debug)]
struct Lines {
    settings: AccessLog,
    file: BufWriter<File>,
    bytes: u64,
}

impl Lines {
    fn open(settings: &AccessLog) -> Result<Lines> {
        let path = &settings.path;
        let failed = |error| Error::File {
            path: path.clone(),
            error,
            hint: "it is access_log.path of the settings: is its directory there, and may it be written?",
        };
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)
            .map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok(Lines {
            settings: settings.clone(),
            file: BufWriter::new(file),
            bytes,
        })
    }

    fn write(&mut self, line: &str) -> Result<()> {
        let bytes = u64::try_from(line.len() + 1).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.bytes.saturating_add(bytes) > self.settings.bytes {
            self.rotate()?;
        }
        // A line is there as a whole or not at all.
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| self.failed(error))?;
        self.bytes += bytes;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| self.failed(error))
    }

    /// The file gets the number 1, and each that has one the next; the last one goes.
    fn rotate(&mut self) -> Result<()> {
        self.flush()?;
        let path = &self.settings.path;
        let numbered = |number: u32| match number {
            0 => path.clone(),
            _ => {
                let mut name = path.clone().into_os_string();
                name.push(format!(".{number}"));
                PathBuf::from(name)
            }
        };
        // It was moved on already, and no other could be made: those before it are not to be lost for that.
        let is_moved = !path.exists();
        for number in (0..self.settings.files).rev().filter(|_| !is_moved) {
            let (from, to) = (numbered(number), numbered(number + 1));
            if from.exists() {
                rename(&from, &to).map_err(|error| self.failed(error))?;
            }
        }
        if self.settings.files == 0 && !is_moved {
            std::fs::remove_file(path).map_err(|error| self.failed(error))?;
        }
        *self = Lines::open(&self.settings)?;
        Ok(())
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::File {
            path: Path::to_path_buf(&self.settings.path),
            error,
            hint: "connections are not written down until there is room, and the file is opened again",
        }
    }
}

/// Writes lines until nobody sends any more.
fn write(mut file: Lines, lines: &Receiver<Line>, told: &Shared) {
    loop {
        let done = match lines.recv_timeout(FLUSH) {
            Ok(Line::Text(line)) => file.write(&line).inspect_err(|_| {
                told.lost.fetch_add(1, Ordering::Relaxed);
            }),
            Ok(Line::Reopen) => file.flush().and_then(|()| {
                file = Lines::open(&file.settings)?;
                Ok(())
            }),
            Err(RecvTimeoutError::Timeout) => file.flush(),
            Ok(Line::End) | Err(RecvTimeoutError::Disconnected) => break,
        };
        let failure = done.err().map(|error| error.to_string());
        *locked(&told.failure) = failure;
    }
    if let Err(error) = file.flush() {
        let failure = Some(error.to_string());
        *locked(&told.failure) = failure;
    }
}

#[cfg(test)]
mod tests {
    use super::common_time;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |seconds| common_time(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "01/Jan/1970:00:00:00 +0000");
        assert_eq!(at(951_782_400), "29/Feb/2000:00:00:00 +0000");
        assert_eq!(at(951_868_799), "29/Feb/2000:23:59:59 +0000");
        assert_eq!(at(951_868_800), "01/Mar/2000:00:00:00 +0000");
        assert_eq!(at(1_735_689_599), "31/Dec/2024:23:59:59 +0000");
        assert_eq!(at(4_107_542_400), "01/Mar/2100:00:00:00 +0000");
    }
}
