//! The ends of a program.

use super::Hook;
use crate::reason::Reason;
use crate::shape::COUNTERS;
use bpfsmith_asm::dsl::*;
use std::cell::RefCell;

/// What becomes of a packet that the proxy does not send on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next program has it, then the kernel.
    Pass,
    /// Nobody has it.
    Drop,
}

/// Ends of a program, each written once however many jumps lead to it.
#[derive(Debug)]
pub(super) struct Exits {
    hook: Hook,
    used: RefCell<Vec<(Reason, Verdict, Label)>>,
    index: Slot,
}

impl Exits {
    pub(super) fn new(hook: Hook) -> Exits {
        Exits {
            hook,
            used: RefCell::default(),
            index: slot::<u32>("reason"),
        }
    }

    /// The place that counts a packet under this reason, and passes it.
    pub(super) fn pass(&self, reason: Reason) -> Label {
        self.to(reason, Verdict::Pass)
    }

    /// The place that counts a packet under this reason, and drops it.
    pub(super) fn drop(&self, reason: Reason) -> Label {
        self.to(reason, Verdict::Drop)
    }

    pub(super) fn to(&self, reason: Reason, verdict: Verdict) -> Label {
        let mut used = self.used.borrow_mut();
        let known = used
            .iter()
            .find(|known| (known.0, known.1) == (reason, verdict));
        if let Some((_, _, label)) = known {
            return *label;
        }
        let to = label(reason.name());
        used.push((reason, verdict, to));
        to
    }

    /// The number that a verdict is at this hook.
    pub(super) const fn number(&self, verdict: Verdict) -> i32 {
        match (self.hook, verdict) {
            (Hook::Xdp, Verdict::Pass) => XDP_PASS,
            (Hook::Xdp, Verdict::Drop) => XDP_DROP,
            (Hook::Tcx | Hook::TcxEgress, Verdict::Pass) => TCX_NEXT,
            (Hook::Tcx | Hook::TcxEgress, Verdict::Drop) => TCX_DROP,
        }
    }

    /// One more packet with this reason. Clobbers R0 to R5.
    pub(super) fn count(&self, reason: Reason) -> Code {
        code![
            store(self.index.u32(0), reason.number()),
            map_lookup_elem(&COUNTERS, self.index),
            R0.ne(0).then([
                load(R1, R0.u64(0)),
                add(R1, 1),
                store(R0.u64(0), R1),
            ]),
        ]
    }

    /// All that jumps lead to.
    pub(super) fn code(&self) -> Code {
        let used = self.used.borrow().clone();
        code![
            used.into_iter().map(|(reason, verdict, at)| code![
                bind(at),
                // What this machine sends was counted when it came, if it is any of ours.
                (self.hook != Hook::TcxEgress).then(|| self.count(reason)),
                ret(self.number(verdict)),
            ])
        ]
    }
}
