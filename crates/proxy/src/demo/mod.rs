//! `demo`: what the proxy does, shown on a machine that has nothing but this program.
//!
//! It builds five machines of network namespaces, starts the real daemon on the one in the middle, sends real requests,
//! and judges what it sees. Nothing of this machine is touched: namespaces have no names, and what the daemon keeps
//! beyond its process is in a file system that nobody else sees. So all of it is gone when the processes are, however
//! they end; if they are killed, two directories with some small files stay where temporary files are.

mod acts;
mod backend;
mod board;
mod daemon;
mod error;
mod play;
mod stage;
mod visitor;
mod world;

pub use error::Error;

use crate::commands::parse::{Demo, Globals};
use crate::commands::words::Exit;
use board::time;
use bpfsmith_config::{Value, json};
use bpfsmith_net::Netlink;
use error::Result;
use play::{Play, Struck, Sums};
use stage::Stage;
use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;
use world::TREES;

/// How many requests an act has, where nobody says.
const ROUNDS: u32 = 200;

/// Plays all acts; what is seen goes to `out`. [`Exit::Failed`] if anything was not as it should be.
///
/// # Errors
/// When it cannot begin or go on. What it made is gone then, too.
pub fn demo(
    demo: &Demo,
    globals: &Globals,
    out: &mut dyn Write,
) -> std::result::Result<Exit, crate::error::Error> {
    daemon::become_daemon()?;
    let mut stage = Stage::new(out, globals.form, globals.colors, demo.is_plain)?;
    let rounds = demo.rounds.unwrap_or(ROUNDS).max(1);
    match whole(&mut stage, rounds) {
        Err(Error::Unread) => Ok(Exit::Done),
        played => Ok(played?),
    }
}

fn whole(stage: &mut Stage<'_>, rounds: u32) -> Result<Exit> {
    let before = traces()?;
    let mut play = Play::new(stage, rounds)?;
    let played = play.acts();
    if let Err(error) = &played {
        let why = match error {
            Error::Ended(signal) => signal.as_str(),
            _ => "it cannot go on",
        };
        // The one who reads it may be gone, which the error says then.
        let _ = play.stage.say("");
        let _ = play.stage.say(&format!("  {why}: cleaning up"));
    } else {
        let what = "The daemon is asked to end, and then programs are taken off their devices.";
        play.stage.act("The end", what)?;
        let pins = play.warden.pins.display().to_string();
        play.stage
            .command(&format!("bpfsmith-proxy detach --pins {pins}"))?;
    }
    let sums = play.strike().and_then(|(struck, sums)| {
        ended(stage, &struck, &before)?;
        Ok(sums)
    });
    // What went wrong first is what is told.
    played?;
    let sums = sums?;
    summary(stage, &sums)
}

/// What there is of this machine that a demo could leave traces in: its devices and its mounts.
fn traces() -> Result<BTreeSet<String>> {
    let links = Netlink::open()?.links()?.into_iter();
    let path = "/proc/self/mounts";
    let mounts = std::fs::read_to_string(path).map_err(|error| Error::File {
        path: path.into(),
        error,
    })?;
    let mounts = mounts.lines().map(str::to_owned);
    Ok(links.map(|link| link.name).chain(mounts).collect())
}

/// Tells what is gone, and what is not.
fn ended(stage: &mut Stage<'_>, struck: &Struck, before: &BTreeSet<String>) -> Result<()> {
    stage.say(&format!(
        "  gone: {} daemon, {} programs on devices, {} maps, {} machines with their devices,",
        struck.processes, struck.links, struck.maps, struck.machines
    ))?;
    let paths: Vec<String> = struck
        .paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    stage.say(&format!("        {}", paths.join(", ")))?;
    let now = traces()?;
    let left = now.difference(before).cloned();
    let left = left.chain(
        paths
            .into_iter()
            .filter(|it| std::path::Path::new(it).exists()),
    );
    let left: Vec<String> = left.collect();
    stage.judge(match left.as_slice() {
        [] => Ok("left on this machine: nothing".to_owned()),
        left => Err(format!("left on this machine: {}", left.join(", "))),
    })
}

/// The sums of all acts.
fn summary(stage: &mut Stage<'_>, sums: &Sums) -> Result<Exit> {
    let took = stage.begun.elapsed();
    let by = TREES.iter().zip(sums.by);
    let each: Vec<String> = by.map(|(name, count)| format!("{name} {count}")).collect();
    stage.say("")?;
    stage.say(&format!(
        "  {} requests: {}; {} refused by the dead backend, {} failed otherwise",
        sums.requests,
        each.join(", "),
        sums.expected,
        sums.failed()
    ))?;
    stage.say(&format!(
        "  {} generations of programs by {} daemons, in {}",
        sums.generations,
        sums.daemons,
        time(took)
    ))?;
    let findings = stage.findings().to_vec();
    let exit = acts::exit(&findings);
    let bad = findings.iter().filter(|finding| !finding.holds).count();
    stage.say(&match bad {
        0 => format!("  all {} findings are as they should be", findings.len()),
        bad => format!(
            "  {bad} of {} findings are NOT as they should be",
            findings.len()
        ),
    })?;
    let text = json::write(&told(sums, &findings, took, exit));
    stage.told(&format!("{text}\n"))?;
    Ok(exit)
}

/// All of it, for programs.
fn told(sums: &Sums, findings: &[stage::Finding], took: Duration, exit: Exit) -> Value {
    let by = TREES.iter().zip(sums.by);
    let findings = findings.iter().map(|finding| {
        Value::table([
            ("act", finding.act.into()),
            ("holds", finding.holds.into()),
            ("finding", finding.text.as_str().into()),
        ])
    });
    Value::table([
        ("holds", (exit == Exit::Done).into()),
        ("seconds", took.as_secs_f64().into()),
        ("requests", sums.requests.into()),
        ("failed", sums.failed().into()),
        ("refused_by_the_dead_backend", sums.expected.into()),
        (
            "answered_by",
            Value::table(by.map(|(name, count)| (*name, count.into()))),
        ),
        ("generations", sums.generations.into()),
        ("daemons", sums.daemons.into()),
        ("findings", Value::list(findings)),
    ])
}
