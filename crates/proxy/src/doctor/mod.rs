//! What a machine lacks for a proxy, and how to give it that. Nothing is changed.

mod devices;
mod kernel;
mod machine;
mod trial;
mod ways;

use crate::columns::wrapped;
use crate::error::{Error, Result};
use crate::foresee::Foreseen;
use crate::http::{Client, Method};
use crate::show::cell;
use crate::terminal::plain;
use bpfsmith_config::desired::Desired;
use bpfsmith_config::value::Kind;
use bpfsmith_config::{Value, json};
use std::path::Path;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grade {
    /// As it should be.
    Right,
    /// It may be so, but should be known; or could not be looked at.
    Note,
    /// It stands in the way.
    Wrong,
}

impl Grade {
    /// In a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Grade::Right => "ok",
            Grade::Note => "note",
            Grade::Wrong => "wrong",
        }
    }
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, in a word or two.
    pub about: String,
    /// How it is.
    pub grade: Grade,
    /// What was found.
    pub what: String,
    /// What to do; a command where there is one.
    pub hint: Option<String>,
}

/// All that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which it was looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, about: &str, grade: Grade, what: impl Into<String>, hint: Option<String>) {
        self.findings.push(Finding {
            about: about.to_owned(),
            grade,
            what: what.into(),
            hint,
        });
    }

    fn right(&mut self, about: &str, what: impl Into<String>) {
        self.add(about, Grade::Right, what, None);
    }

    fn note(&mut self, about: &str, what: impl Into<String>) {
        self.add(about, Grade::Note, what, None);
    }

    fn note_to(&mut self, about: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.add(about, Grade::Note, what, Some(hint.into()));
    }

    fn wrong(&mut self, about: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.add(about, Grade::Wrong, what, Some(hint.into()));
    }

    /// Nothing stands in the way.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.count(Grade::Wrong) == 0
    }

    /// How many are so.
    #[must_use]
    pub fn count(&self, grade: Grade) -> usize {
        let findings = self.findings.iter();
        findings.filter(|it| it.grade == grade).count()
    }

    /// For programs.
    #[must_use]
    pub fn value(&self) -> Value {
        let findings = self.findings.iter().map(|it| {
            Value::table([
                ("about", it.about.as_str().into()),
                ("grade", it.grade.word().into()),
                ("what", it.what.as_str().into()),
                ("hint", Value::from(it.hint.clone())),
            ])
        });
        Value::table([
            ("right", self.is_right().into()),
            ("findings", Value::list(findings)),
        ])
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let width = self.findings.iter().map(|it| it.about.chars().count());
        let width = width.max().unwrap_or(0);
        let mut text = String::new();
        for it in &self.findings {
            let (grade, about) = (it.grade.word(), plain(&it.about));
            let before = 5 + 2 + width + 2;
            let what = wrapped(&plain(&it.what), before, WIDTH);
            text += &format!("{grade:<5}  {about:<width$}  {what}\n");
            if let Some(hint) = &it.hint {
                text += &format!("{:<5}  {:<width$}    {}\n", "", "", plain(hint));
            }
        }
        text += &format!(
            "\n{} wrong, {} to be known, {} right\n",
            self.count(Grade::Wrong),
            self.count(Grade::Note),
            self.count(Grade::Right)
        );
        text
    }
}

/// No line is longer, but those to be typed.
const WIDTH: usize = 80;

/// Looks at this machine, for a configuration if there is one. The daemon is asked for at the socket.
///
/// # Errors
/// When the configuration contradicts itself, or the kernel does not tell of its devices.
pub fn examine(desired: Option<&Desired>, socket: &Path) -> Result<Report> {
    let mut report = Report::default();
    let usual = Desired::default();
    let settings = &desired.unwrap_or(&usual).settings;
    kernel::look(&mut report, settings);
    let daemon = daemon(&mut report, socket);
    let Some(desired) = desired else {
        report.note_to(
            "configuration",
            "none was looked at: devices, ways and targets are not known",
            "bpfsmith-proxy doctor CONFIG",
        );
        return Ok(report);
    };
    let foreseen = Foreseen::new(desired)?;
    machine::look(&mut report, desired, &foreseen);
    hosts(&mut report, &foreseen);
    devices::look(&mut report, &foreseen, daemon.as_ref())?;
    // Who was asked has neighbours afterwards.
    ways::targets(&mut report, desired, &foreseen);
    ways::look(&mut report, desired, &foreseen)?;
    for note in &foreseen.notes {
        // Those of hosts were told.
        if !foreseen.hosts.keys().any(|host| note.starts_with(host)) {
            report.note("not looked at", note);
        }
    }
    trial::run(&mut report, &foreseen);
    Ok(report)
}

/// What the daemon says of itself, if there is one.
fn daemon(report: &mut Report, socket: &Path) -> Option<Value> {
    let at = socket.display();
    let asked = Client::unix(socket).request(Method::GET, "/v1/status", b"");
    let reply = match asked {
        Ok(reply) => reply,
        Err(error) => {
            report.note("daemon", format!("none answers: {error}"));
            return None;
        }
    };
    let status = json::read(String::from_utf8_lossy(&reply.body).trim()).ok();
    match status.filter(|it| reply.is_success() && matches!(it.kind, Kind::Table(_))) {
        Some(status) => {
            let (version, pid) = (cell(&status, "version"), cell(&status, "pid"));
            report.right("daemon", format!("{version} runs at {at}, process {pid}"));
            Some(status)
        }
        None => {
            let what = format!("what answers at {at} is none (status {})", reply.status);
            report.wrong("daemon", what, "give it another socket: settings.control");
            None
        }
    }
}

fn hosts(report: &mut Report, foreseen: &Foreseen) {
    for (host, found) in &foreseen.hosts {
        match found {
            Ok(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                report.right("names", format!("{host} is {}", addresses.join(", ")));
            }
            Err(error) => report.wrong(
                "names",
                format!("{host} has no address: {error}"),
                "see /etc/resolv.conf and /etc/hosts, or name an address",
            ),
        }
    }
}

/// What a file says, without its end; the error says why it does not.
fn said(path: &str) -> std::result::Result<String, Error> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| Error::File {
        path: path.into(),
        error,
        hint: "it takes root, or another kernel",
    })?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_counts() {
        let mut report = Report::default();
        report.right("kernel", "it is new");
        report.note("eth0", "it is odd");
        assert!(report.is_right());
        report.wrong("eth1", "it is \x1b[31mdown", "ip link set eth1 up");
        assert!(!report.is_right());
        assert_eq!(
            report.text(),
            "ok     kernel  it is new\n\
             note   eth0    it is odd\n\
             wrong  eth1    it is ^[[31mdown\n\
             \x20                ip link set eth1 up\n\
             \n1 wrong, 1 to be known, 1 right\n"
        );
        assert_eq!(
            json::write(&report.value()),
            "{\"right\":false,\"findings\":[\
             {\"about\":\"kernel\",\"grade\":\"ok\",\"what\":\"it is new\",\"hint\":null},\
             {\"about\":\"eth0\",\"grade\":\"note\",\"what\":\"it is odd\",\"hint\":null},\
             {\"about\":\"eth1\",\"grade\":\"wrong\",\"what\":\"it is \\u001b[31mdown\",\"hint\":\"ip link set eth1 up\"}]}"
        );
    }
}
