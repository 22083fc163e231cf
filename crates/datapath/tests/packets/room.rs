//! Tables that are full.

use super::row::{all, check, is, opened, story};
use super::stage::{At, Ground, Stage, Verdict};
use super::talk::{LANES, Plan, Talk, name};
use crate::support::judge::judge;
use bpfsmith_datapath::config::Mode;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::{needs, rounds};
use std::net::SocketAddr;

/// Opens many flows that nobody answers.
fn flood(stage: &mut Stage<'_>, talk: Talk, count: u16) -> Result<(), String> {
    for number in 0..count {
        let mut other = talk;
        other.client.set_port(20000 + number);
        let frame = other.flagged(other.asks(), "S").build();
        let out = stage.send(At::Front, &frame);
        is("flood", out.verdict, Verdict::Sent)?;
    }
    Ok(())
}

/// Opens a flow where others make room for it, and uses it. Where all entries nearby are as young as its own,
/// one of them may be its own: then its client tries again.
fn crowded(stage: &mut Stage<'_>, talk: Talk) -> Result<(), String> {
    let tries = (0..8).map(|number| {
        let mut talk = talk;
        talk.client.set_port(1235 + number);
        let frame = talk.flagged(talk.asks(), "S").build();
        let out = stage.send(At::Front, &frame);
        is("opens", out.verdict, Verdict::Sent)?;
        let view = judge(&out.frame).0;
        let port = view.ports().map_or(0, |ports| ports.0);
        let mut found = talk.on(out.frame[4]);
        found.seen = SocketAddr::new(view.src(), port);
        let steps = [
            found.accepts(),
            found.there_with("PA"),
            found.back_with("PA"),
        ];
        all(stage, &steps)
    });
    let mut last = Ok(());
    for tried in tries {
        last = tried;
        if last.is_ok() {
            break;
        }
    }
    last
}

#[test]
fn flows_outlive_a_flood_of_others() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    let count = u16::try_from(rounds(1500)).unwrap();
    for mode in [Mode::Dnat, Mode::FullNat] {
        let rows = LANES.map(|lane| {
            story(format!("{} {mode:?}", name(lane)), move |stage| {
                let talk = opened(stage, Talk::new(lane, 1234).mode(mode))?;
                all(stage, &[talk.accepts(), talk.there_with("A")])?;
                flood(stage, talk, count)?;
                let path = Path::new(lane.0, lane.1);
                is("established", stage.entries(path)[0], 2)?;
                all(
                    stage,
                    &[
                        talk.there_with("PA"),
                        talk.back_with("PA"),
                    ],
                )?;
                crowded(stage, Talk::new(lane, 1235).mode(mode))?;
                all(
                    stage,
                    &[
                        talk.there_with("PA"),
                        talk.back_with("PA"),
                    ],
                )
            })
        });
        check(&ground, &Plan::new(mode), &rows);
    }
}

#[test]
fn a_full_table_of_flows() {
    needs!(Root, NetNs, Veth, XdpLink);
    let ground = Ground::new();
    for mode in [Mode::Dnat, Mode::FullNat] {
        let rows = LANES.map(|lane| {
            story(format!("{} {mode:?}", name(lane)), move |stage| {
                let begin = |port| Talk::new(lane, port).mode(mode);
                let mut talks = Vec::new();
                let full = (2000..2100).find_map(|port| {
                    let talk = begin(port);
                    let frame = talk.flagged(talk.asks(), "S").build();
                    let out = stage.send(At::Front, &frame);
                    if out.verdict == Verdict::Dropped {
                        return Some((port, out.counts));
                    }
                    // Where all others stay, its own half had to make room.
                    let talk = begin(port).on(out.frame[4]);
                    let confirms = all(stage, &[talk.accepts(), talk.there_with("A")]);
                    if confirms.is_ok() {
                        talks.push(talk);
                    }
                    None
                });
                let (port, why) = full.ok_or("there is no end to it")?;
                is("full", why.get(&Reason::Full), Some(&1))?;
                // It promises room for four, and has some to spare.
                if talks.len() < 4 {
                    return Err(format!("only {} fit", talks.len()));
                }
                let path = Path::new(lane.0, lane.1);
                is("established", stage.entries(path)[0], 2 * talks.len())?;
                for talk in &talks {
                    all(
                        stage,
                        &[
                            talk.there_with("PA"),
                            talk.back_with("PA"),
                        ],
                    )?;
                }
                let frame = begin(port).flagged(begin(port).asks(), "S").build();
                is(
                    "again",
                    stage.send(At::Front, &frame).verdict,
                    Verdict::Dropped,
                )
            })
        });
        check(&ground, &Plan::new(mode).room(4), &rows);
    }
}
