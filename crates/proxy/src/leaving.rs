//! [`Leaving`]: backends that get no connections any more, until those that they have are over.

use bpfsmith_datapath::config::BackendId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Who leaves, and how far they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaving {
    backends: BTreeMap<BackendId, Stage>,
}

/// How far a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its connections may go on until then.
    Until(Instant),
    /// They are being ended; by then, none is left.
    Ending(Instant),
    /// Nothing of it is left.
    Gone,
}

/// So many rounds of the kernel's, and no flow is left that has been over since before the first.
const ROUNDS: u32 = 3;

impl Leaving {
    /// These leave from now on, each within its time, and all others stay.
    pub(crate) fn set(&mut self, times: &BTreeMap<BackendId, Duration>, now: Instant) {
        self.backends
            .retain(|backend, _| times.contains_key(backend));
        for (backend, time) in times {
            // A time that has no end never does.
            if let Some(until) = now.checked_add(*time) {
                self.backends.entry(*backend).or_insert(Stage::Until(until));
            }
        }
    }

    /// When there is something to do next.
    pub(crate) fn due(&self) -> Option<Instant> {
        let times = self.backends.values().filter_map(|stage| match stage {
            Stage::Until(time) | Stage::Ending(time) => Some(*time),
            Stage::Gone => None,
        });
        times.min()
    }

    /// Those whose connections are to be ended now, and those of whom nothing is left from now on.
    pub(crate) fn step(
        &mut self,
        now: Instant,
        round: Duration,
    ) -> (BTreeSet<BackendId>, BTreeSet<u16>) {
        let (mut over, mut forgotten) = (BTreeSet::new(), BTreeSet::new());
        for (backend, stage) in &mut self.backends {
            match *stage {
                Stage::Until(time) if time <= now => {
                    over.insert(*backend);
                    *stage = Stage::Ending(now + round * ROUNDS);
                }
                Stage::Ending(time) if time <= now => {
                    forgotten.insert(backend.0);
                    *stage = Stage::Gone;
                }
                _ => {}
            }
        }
        (over, forgotten)
    }

    /// Who leaves, and how long they have; nothing for those whose connections are being ended.
    pub(crate) fn backends(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (BackendId, Option<Duration>)> + '_ {
        self.backends
            .iter()
            .filter_map(move |(backend, stage)| match stage {
                Stage::Until(time) => Some((*backend, Some(time.saturating_duration_since(now)))),
                Stage::Ending(_) => Some((*backend, None)),
                Stage::Gone => None,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::Leaving;
    use bpfsmith_datapath::config::BackendId;
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::{Duration, Instant};

    #[test]
    fn backends_leave_step_by_step() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let (one, two) = (BackendId(1), BackendId(2));
        let mut leaving = Leaving::default();
        leaving.set(&BTreeMap::from([(one, second), (two, 5 * second)]), now);
        assert_eq!(leaving.due(), Some(now + second));
        assert_eq!(
            leaving.step(now, second),
            (BTreeSet::new(), BTreeSet::new())
        );
        // What is said again changes nothing.
        leaving.set(&BTreeMap::from([(one, 9 * second), (two, 5 * second)]), now);
        let later = now + second;
        assert_eq!(
            leaving.step(later, second),
            (BTreeSet::from([one]), BTreeSet::new())
        );
        assert_eq!(leaving.due(), Some(later + 3 * second));
        let last = now + 4 * second;
        assert_eq!(
            leaving.step(last, second),
            (BTreeSet::new(), BTreeSet::from([1]))
        );
        assert_eq!(leaving.due(), Some(now + 5 * second));
        // Who comes back has left for nothing.
        leaving.set(&BTreeMap::new(), last);
        assert_eq!(leaving.due(), None);
    }
}
