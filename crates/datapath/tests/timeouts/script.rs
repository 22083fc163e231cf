//! What the two sides of a flow do, one after the other.

use crate::dice::Dice;
use bpfsmith_datapath::config::Protocol;

/// Who sends a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Backend,
}

/// A packet, and when it comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// The part of the flow's timeout that passes before it.
    pub(crate) after: f64,
    pub(crate) side: Side,
    pub(crate) flags: &'static str,
}

impl Step {
    fn at_once(side: Side, flags: &'static str) -> Step {
        Step {
            after: 0.0,
            side,
            flags,
        }
    }

    /// Some time later, but in time: short times are as frequent as long ones.
    fn later(dice: &mut Dice, side: Side, flags: &'static str) -> Step {
        Step {
            after: 0.9 * 10_f64.powf(-3.0 * dice.part()),
            side,
            flags,
        }
    }
}

use Side::{Backend, Client};

const SIDES: [Side; 2] = [Client, Backend];

/// What becomes of a flow that has begun, up to its last packet.
pub(crate) fn life(dice: &mut Dice, protocol: Protocol) -> Vec<Step> {
    let mut steps = Vec::new();
    match protocol {
        Protocol::Udp => datagrams(dice, &mut steps),
        Protocol::Tcp => connection(dice, &mut steps),
    }
    steps
}

fn datagrams(dice: &mut Dice, steps: &mut Vec<Step>) {
    if dice.one_of(3) {
        // Nobody answers, however often it asks.
        for _ in 0..dice.below(5) {
            steps.push(Step::later(dice, Client, ""));
        }
        return;
    }
    steps.push(Step::later(dice, Backend, ""));
    kept(dice, steps, "");
}

/// Some packets of both sides, or of one alone.
fn kept(dice: &mut Dice, steps: &mut Vec<Step>, flags: &'static str) {
    let sides: &[Side] = dice.of(&[&SIDES[..], &SIDES[..1], &SIDES[1..]]);
    for _ in 0..dice.below(6) {
        let side = dice.of(sides);
        steps.push(Step::later(dice, side, flags));
    }
}

fn connection(dice: &mut Dice, steps: &mut Vec<Step>) {
    let again = |dice: &mut Dice, steps: &mut Vec<Step>, side, flags| {
        for _ in 0..dice.below(3) {
            steps.push(Step::later(dice, side, flags));
        }
    };
    again(dice, steps, Client, "S");
    if dice.one_of(5) {
        return;
    }
    steps.push(Step::later(dice, Backend, "SA"));
    again(dice, steps, Backend, "SA");
    if dice.one_of(5) {
        return;
    }
    let first = dice.of(&["A", "A", "A", "PA", "FA"]);
    steps.push(Step::later(dice, Client, first));
    kept(dice, steps, "A");
    ending(dice, steps);
    if dice.one_of(4) {
        kept(dice, steps, "A");
        return;
    }
    // What has ended may begin anew.
    if dice.one_of(3) && has_ended(steps) {
        steps.push(Step::later(dice, Client, "S"));
        steps.push(Step::at_once(Backend, "SA"));
        steps.push(Step::at_once(Client, "A"));
        kept(dice, steps, "PA");
        ending(dice, steps);
    }
}

fn ending(dice: &mut Dice, steps: &mut Vec<Step>) {
    let side = dice.of(&SIDES);
    let other = if side == Client { Backend } else { Client };
    match dice.below(6) {
        0 => {}
        1 => {
            steps.push(Step::later(dice, side, "FA"));
            kept(dice, steps, "A");
        }
        2 | 3 => {
            steps.push(Step::later(dice, side, "FA"));
            kept(dice, steps, "A");
            steps.push(Step::later(dice, other, "FA"));
        }
        4 => steps.push(Step::later(dice, side, "R")),
        _ => {
            steps.push(Step::later(dice, side, "FA"));
            steps.push(Step::later(dice, other, "R"));
        }
    }
}

/// Whether the last packet ended the flow.
fn has_ended(steps: &[Step]) -> bool {
    let fins = |side| {
        steps
            .iter()
            .any(|step| step.side == side && step.flags == "FA")
    };
    match steps.last() {
        Some(step) if step.flags == "R" => true,
        Some(step) if step.flags == "FA" => fins(Client) && fins(Backend),
        _ => false,
    }
}
