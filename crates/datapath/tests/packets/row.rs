//! Rows of tables: packets, and what is to become of them.

use super::stage::{At, Ground, Out, Stage, Verdict, sums_are_judged};
use super::talk::{Plan, Talk};
use crate::support::judge::{L4, View, Wrong, judge};
use crate::support::packet::Frame;
use bpfsmith_datapath::programs::Hook;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::{Need, allows};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A packet, and what is to become of it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    at: At,
    frame: Vec<u8>,
    want: Want,
    counts: Vec<Reason>,
    /// On one of the hooks it is another matter.
    xdp: Option<(Want, Vec<Reason>)>,
    /// The kernel gives no such packets to the other hook.
    xdp_only: bool,
    /// It gets shorter.
    is_cut: bool,
}

#[derive(Clone, Debug)]
enum Want {
    /// It is sent, and looks so.
    Sent(Vec<u8>),
    /// It is passed, and looks so.
    Passed(Vec<u8>),
    /// It is dropped.
    Dropped,
    /// An ICMP error about it is sent to where it came from.
    TooLate,
}

impl Step {
    pub(crate) fn new(at: At, frame: &Frame) -> Step {
        Step::bytes(at, frame.build())
    }

    /// A packet that is passed as it is, until something else is said.
    pub(crate) fn bytes(at: At, frame: Vec<u8>) -> Step {
        Step {
            at,
            want: Want::Passed(frame.clone()),
            frame,
            counts: vec![Reason::NotOurs],
            xdp: None,
            xdp_only: false,
            is_cut: false,
        }
    }

    /// It is sent, and looks so.
    pub(crate) fn becomes(self, frame: &Frame) -> Step {
        self.becomes_bytes(frame.build())
    }

    pub(crate) fn becomes_bytes(mut self, frame: Vec<u8>) -> Step {
        self.want = Want::Sent(frame);
        self.counts = vec![Reason::Forwarded];
        self
    }

    /// It is passed to this machine's own stack, but looks so.
    pub(crate) fn comes_up(mut self, frame: &Frame, counts: &[Reason]) -> Step {
        self.want = Want::Passed(frame.build());
        self.counts = counts.to_vec();
        self
    }

    pub(crate) fn counts(mut self, counts: &[Reason]) -> Step {
        self.counts = counts.to_vec();
        self
    }

    /// It is passed as it is, for this reason.
    pub(crate) fn passes(self, reason: Reason) -> Step {
        self.passes_counted(&[reason])
    }

    pub(crate) fn passes_counted(mut self, counts: &[Reason]) -> Step {
        self.want = Want::Passed(self.frame.clone());
        self.counts = counts.to_vec();
        self
    }

    pub(crate) fn drops(mut self, reason: Reason) -> Step {
        self.want = Want::Dropped;
        self.counts = vec![reason];
        self
    }

    /// In XDP it is passed instead, as it is.
    pub(crate) fn but_xdp_passes(mut self, counts: &[Reason]) -> Step {
        self.xdp = Some((Want::Passed(self.frame.clone()), counts.to_vec()));
        self
    }

    /// Its sender is told, by this machine, that its time to live is over.
    pub(crate) fn comes_too_late(mut self, counts: &[Reason]) -> Step {
        self.want = Want::TooLate;
        self.counts = counts.to_vec();
        self
    }

    /// The kernel gives no such packets to the other hook.
    pub(crate) fn only_xdp(mut self) -> Step {
        self.xdp_only = true;
        self
    }

    /// It gets shorter on the way.
    #[allow(dead_code, reason = "one of the test binaries uses it")]
    pub(crate) fn cut(mut self) -> Step {
        self.is_cut = true;
        self
    }

    /// What went wrong.
    pub(crate) fn run(&self, stage: &mut Stage<'_>) -> Result<(), String> {
        stage.is_summed = !self.is_cut && !matches!(self.want, Want::TooLate) && sums_are_judged();
        if self.xdp_only && stage.hook != Hook::Xdp {
            return Ok(());
        }
        let out = stage.send(self.at, &self.frame);
        self.check(stage.hook, &out)
    }

    /// What went wrong with a packet that was sent already.
    pub(crate) fn check(&self, hook: Hook, out: &Out) -> Result<(), String> {
        let (want, counts) = match (&self.xdp, hook) {
            (Some((want, counts)), Hook::Xdp) => (want, counts),
            _ => (&self.want, &self.counts),
        };
        let verdict = match want {
            Want::Sent(_) | Want::TooLate => Verdict::Sent,
            Want::Passed(_) => Verdict::Passed,
            Want::Dropped => Verdict::Dropped,
        };
        let mut expected: BTreeMap<Reason, u64> = BTreeMap::new();
        for reason in counts {
            *expected.entry(*reason).or_default() += 1;
        }
        if out.verdict != verdict || out.counts != expected {
            return Err(format!(
                "{:?} {:?}, wanted {verdict:?} {expected:?}: of {}\nto {}",
                out.verdict,
                out.counts,
                brief(&self.frame),
                brief(&out.frame),
            ));
        }
        match want {
            Want::Sent(frame) => same(frame, &out.frame),
            Want::Passed(frame) if *frame != self.frame => same(frame, &out.frame),
            Want::Passed(frame) if *frame != out.frame => {
                Err(format!("not as it was: {:02x?}\n{:02x?}", frame, out.frame))
            }
            Want::Passed(_) | Want::Dropped => Ok(()),
            Want::TooLate => too_late(&self.frame, &out.frame),
        }
    }
}

/// Whether a frame tells the sender of another that its time to live is over.
fn too_late(about: &[u8], found: &[u8]) -> Result<(), String> {
    let (about, (view, wrong)) = (judge(about).0, judge(found));
    let kind = match &view.l4 {
        L4::Icmp { kind, code: 0, .. } => *kind,
        _ => 0,
    };
    let inner = view
        .inner
        .as_ref()
        .map(|inner| (inner.src(), inner.dst(), inner.ports()));
    is("faults", wrong, vec![])?;
    is("to", view.dst(), about.src())?;
    is("frame to", view.macs.1, about.macs.0)?;
    is("kind", kind, if about.src().is_ipv4() { 11 } else { 3 })?;
    is(
        "about",
        inner,
        Some((about.src(), about.dst(), about.ports())),
    )
}

/// Whether two frames are the same packet, with the same faults. The checksum of one that is wrong on
/// purpose stays as wrong as it was, by which it may be the other zero.
fn same(wanted: &[u8], found: &[u8]) -> Result<(), String> {
    if wanted == found {
        return Ok(());
    }
    let (want, is) = (judge(wanted), judge(found));
    let faults = |wrong: &[Wrong]| wrong.iter().map(off).collect::<Vec<_>>();
    if want.0 == is.0 && faults(&want.1) == faults(&is.1) && wanted.len() == found.len() {
        return Ok(());
    }
    let ((view, wrong), (found, faults)) = (want, is);
    Err(format!(
        "became {faults:?}\n{}, wanted {wrong:?}",
        differences(&found, &view)
    ))
}

/// A fault, by how much.
fn off(wrong: &Wrong) -> (String, u16) {
    let difference = |found: u16, right: u16| {
        let sum = u32::from(found) + u32::from(!right);
        let folded = (sum & 0xffff) + (sum >> 16);
        u16::try_from(folded % 0xffff).unwrap()
    };
    match wrong {
        Wrong::IpSum { found, right } => ("ip".to_owned(), difference(*found, *right)),
        Wrong::L4Sum { found, right } => ("l4".to_owned(), difference(*found, *right)),
        other => (format!("{other:?}"), 0),
    }
}

/// A packet in a line or so.
fn brief(frame: &[u8]) -> String {
    let (mut view, wrong) = judge(frame);
    view.payload.truncate(8);
    let mut text = format!("{view:?} {wrong:?}");
    text.truncate(600);
    text
}

/// Lines in which two views differ.
fn differences(found: &View, wanted: &View) -> String {
    let (found, wanted) = (format!("{found:#?}"), format!("{wanted:#?}"));
    let lines = found.lines().zip(wanted.lines());
    let differ = lines.filter(|(is, want)| is != want);
    differ
        .map(|(is, want)| format!("{is} wanted {want}\n"))
        .collect()
}

type Story = Box<dyn Fn(&mut Stage<'_>) -> Result<(), String> + Send + Sync>;

/// Packets that belong together. Before them no flow is known.
pub(crate) struct Row {
    name: String,
    steps: Vec<Step>,
    story: Option<Story>,
}

pub(crate) fn row(name: impl Into<String>, steps: impl IntoIterator<Item = Step>) -> Row {
    Row {
        name: name.into(),
        steps: steps.into_iter().collect(),
        story: None,
    }
}

/// What no list of packets can say.
pub(crate) fn story(
    name: impl Into<String>,
    story: impl Fn(&mut Stage<'_>) -> Result<(), String> + Send + Sync + 'static,
) -> Row {
    Row {
        name: name.into(),
        steps: Vec::new(),
        story: Some(Box::new(story)),
    }
}

impl Row {
    fn run(&self, stage: &mut Stage<'_>) -> Result<(), String> {
        for (number, step) in self.steps.iter().enumerate() {
            step.run(stage)
                .map_err(|wrong| format!("packet {}: {wrong}", number + 1))?;
        }
        match &self.story {
            Some(story) => story(stage),
            None => Ok(()),
        }
    }
}

/// Steps that are to go well, in stories.
pub(crate) fn all(stage: &mut Stage<'_>, steps: &[Step]) -> Result<(), String> {
    for (number, step) in steps.iter().enumerate() {
        step.run(stage)
            .map_err(|wrong| format!("step {}: {wrong}", number + 1))?;
    }
    Ok(())
}

/// Opens a flow, and says who it went to and how that sees the client.
pub(crate) fn opened(stage: &mut Stage<'_>, talk: Talk) -> Result<Talk, String> {
    let frame = talk.flagged(talk.asks(), "S").build();
    let out = stage.send(At::Front, &frame);
    let mut found = talk.on(out.frame[4]);
    if talk.seen.ip() != talk.client.ip() {
        let view = judge(&out.frame).0;
        let port = view.ports().map_or(0, |ports| ports.0);
        found.seen = SocketAddr::new(view.src(), port);
    }
    found.opens().check(stage.hook, &out).map(|()| found)
}

/// A claim of a story.
pub(crate) fn is<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: T,
    wanted: T,
) -> Result<(), String> {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("{what}: {found:?}, wanted {wanted:?}")),
    }
}

/// The hooks that this kernel has.
pub(crate) fn hooks() -> Vec<Hook> {
    let mut hooks = vec![Hook::Xdp];
    if allows("kernel_packets, on the second hook", &[Need::Tcx]) {
        hooks.push(Hook::Tcx);
    }
    hooks
}

/// Runs all rows of a configuration on each hook.
#[track_caller]
pub(crate) fn check(ground: &Ground, plan: &Plan, rows: &[Row]) {
    let mut wrong = Vec::new();
    for hook in hooks() {
        let run = || {
            let mut wrong = Vec::new();
            let mut stage = Stage::new(ground, hook, &plan.0);
            for row in rows {
                stage.forget();
                if let Err(why) = row.run(&mut stage) {
                    wrong.push(format!("{hook:?}: {}: {why}", row.name));
                }
            }
            wrong
        };
        wrong.extend(ground.world.proxy.node.run(run).unwrap());
    }
    assert!(
        wrong.is_empty(),
        "{} of {} rows:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
    eprintln!("{} rows", rows.len());
}
