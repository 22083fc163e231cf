//! Connections by cookie: how they come to be, and what each of their packets becomes.

use super::row::{Row, Step, all, check, is, story};
use super::stage::{At, Ground, Stage, Verdict};
use super::talk::{Plan, Talk, back, backend};
use crate::support::judge::{L4, good};
use crate::support::packet::Frame;
use bpfsmith_datapath::config::{Above, Family, ListenerLimit, Protocol, Rate};
use bpfsmith_datapath::reason::Reason;
use std::collections::BTreeMap;

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// What a client of today says about itself.
pub(super) const OPTIONS: [u8; 20] = [
    2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7,
];

/// No flow begins at listeners of TCP but by cookie.
pub(super) fn by_cookie(mut plan: Plan) -> Plan {
    let limit = ListenerLimit {
        rate: Rate {
            per_second: 0,
            burst: 0,
        },
        above: Above::Cookies,
    };
    for listener in &plan.0.listeners {
        if listener.protocol == Protocol::Tcp {
            plan.0.limits.listeners.insert(listener.number, limit);
        }
    }
    plan
}

/// A connection by cookie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) talk: Talk,
    /// The client's first number.
    pub(super) isn: u32,
    pub(super) cookie: u32,
    /// The backend's first number.
    pub(super) own: u32,
    pub(super) mss: u16,
}

pub(super) fn talk(family: Family, port: u16) -> Talk {
    Talk::new((family, Protocol::Tcp), port)
}

fn counted(reasons: &[Reason]) -> BTreeMap<Reason, u64> {
    reasons.iter().map(|reason| (*reason, 1)).collect()
}

/// The bytes of an option for the largest segment.
pub(super) fn mss_option(mss: u16) -> [u8; 4] {
    let [high, low] = mss.to_be_bytes();
    [2, 4, high, low]
}

/// Sends a SYN, and reads the cookie out of the answer, which is compared to the last byte.
pub(super) fn sends(
    stage: &mut Stage<'_>,
    talk: Talk,
    syn: &Frame,
    isn: u32,
) -> Result<Taken, String> {
    stage.is_summed = false;
    let out = stage.send(At::Front, &syn.build());
    is("verdict", out.verdict, Verdict::Sent)?;
    is("counts", out.counts.clone(), counted(&[Reason::CookieSent]))?;
    let view = good(&out.frame);
    let L4::Tcp { seq, options, .. } = view.l4.clone() else {
        return Err(format!("no TCP: {view:?}"));
    };
    let [2, 4, high, low] = options[..] else {
        return Err(format!("options {options:?}"));
    };
    let mss = u16::from_be_bytes([high, low]);
    let wanted = talk
        .answered()
        .ident(0)
        .df()
        .flags("SA")
        .seq(seq)
        .ack(isn.wrapping_add(1))
        .window(65_535)
        .tcp_options(&mss_option(mss));
    is("answer", view, good(&wanted.build()))?;
    is("bytes", out.frame, wanted.build())?;
    Ok(Taken {
        talk,
        isn,
        cookie: seq,
        own: 0,
        mss,
    })
}

pub(super) fn syn(talk: &Talk, isn: u32) -> Frame {
    talk.asks().flags("S").seq(isn).tcp_options(&OPTIONS)
}

impl Taken {
    /// The client's first packet after the handshake, as it comes.
    pub(super) fn acks(&self) -> Frame {
        let frame = self.talk.asks().flags("A").window(4321);
        frame
            .seq(self.isn.wrapping_add(1))
            .ack(self.cookie.wrapping_add(1))
    }

    /// What it becomes.
    fn begins(&self) -> Frame {
        let frame = self.talk.asked().flags("S").seq(self.isn).window(4321);
        frame.tcp_options(&mss_option(self.mss)).ttl(63)
    }

    /// The packet brings the cookie back, and becomes the SYN.
    pub(super) fn brings(&self, frame: &Frame) -> Step {
        let counts = [
            Reason::CookieTaken,
            Reason::Opened,
            Reason::Forwarded,
        ];
        Step::new(At::Front, frame)
            .becomes(&self.begins())
            .counts(&counts)
            .cut()
    }

    /// The backend accepts: the proxy acknowledges.
    pub(super) fn accepts(&self, counts: &[Reason]) -> Step {
        let answer = self
            .talk
            .answers()
            .flags("SA")
            .seq(self.own)
            .ack(self.isn.wrapping_add(1))
            .tcp_options(&mss_option(1460));
        let macs = (back(self.talk.host), backend(self.talk.host));
        let becomes = self
            .talk
            .asked()
            .macs(macs.0, macs.1)
            .ident(0)
            .df()
            .flags("A")
            .seq(self.isn.wrapping_add(1))
            .ack(self.own.wrapping_add(1))
            .window(4321)
            .tcp_options(&[1; 4]);
        Step::new(At::Back(self.talk.host), &answer)
            .becomes(&becomes)
            .counts(counts)
            .cut()
    }

    /// A packet of the client's, `sent` bytes after its first one, which has `heard` so many.
    pub(super) fn there(
        &self,
        sent: u32,
        heard: u32,
        shape: impl Fn(Frame) -> Frame,
    ) -> [Frame; 2] {
        let seq = self.isn.wrapping_add(1).wrapping_add(sent);
        let ack = |first: u32| first.wrapping_add(1).wrapping_add(heard);
        let ask = self.talk.asks().seq(seq).ack(ack(self.cookie));
        let asked = self.talk.asked().seq(seq).ack(ack(self.own)).ttl(63);
        [shape(ask), shape(asked)]
    }

    /// A packet of the backend's.
    pub(super) fn back(&self, sent: u32, heard: u32, shape: impl Fn(Frame) -> Frame) -> [Frame; 2] {
        let seq = |first: u32| first.wrapping_add(1).wrapping_add(sent);
        let ack = self.isn.wrapping_add(1).wrapping_add(heard);
        let answer = self.talk.answers().seq(seq(self.own)).ack(ack);
        let answered = self.talk.answered().seq(seq(self.cookie)).ack(ack).ttl(63);
        [shape(answer), shape(answered)]
    }

    pub(super) fn asks(&self, sent: u32, heard: u32, shape: impl Fn(Frame) -> Frame) -> Step {
        let [ask, asked] = self.there(sent, heard, shape);
        Step::new(At::Front, &ask).becomes(&asked)
    }

    pub(super) fn answers(&self, sent: u32, heard: u32, shape: impl Fn(Frame) -> Frame) -> Step {
        let [answer, answered] = self.back(sent, heard, shape);
        Step::new(At::Back(self.talk.host), &answer).becomes(&answered)
    }
}

/// A connection by cookie, up to where data may go both ways.
pub(super) fn established(stage: &mut Stage<'_>, talk: Talk, own: u32) -> Result<Taken, String> {
    let isn = 0xffff_fff0;
    let mut taken = sends(stage, talk, &syn(&talk, isn), isn)?;
    taken.own = own;
    all(
        stage,
        &[
            taken.brings(&taken.acks()),
            taken.accepts(&[Reason::Answered, Reason::CookieAnswered]),
        ],
    )?;
    Ok(taken)
}

/// Tells a story in each family, at each hook.
#[track_caller]
pub(super) fn check_families(
    ground: &Ground,
    plan: &Plan,
    tell: impl Fn(&mut Stage<'_>, Family) -> Result<(), String> + Copy + Send + Sync + 'static,
) {
    let rows: [Row; 2] =
        FAMILIES.map(|family| story(format!("{family:?}"), move |stage| tell(stage, family)));
    check(ground, plan, &rows);
}
