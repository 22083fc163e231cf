//! What the verifier says about its own effort.

use super::line::number;

/// The verifier's effort for one program. Each number is missing where the kernel does not tell it.
///
/// The kernel writes these lines at the end of every log, also of a program that it accepts if the
/// log level has bit 2 (`BPF_LOG_STATS`, Linux 5.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// How many instructions it looked at; one that is reached twice counts twice.
    pub processed: Option<u64>,
    /// How many it would look at.
    pub limit: Option<u64>,
    /// The most states it kept for one instruction.
    pub max_states_per_insn: Option<u64>,
    /// How many states it kept in all.
    pub total_states: Option<u64>,
    /// How many it kept at one time.
    pub peak_states: Option<u64>,
    /// How often it marked registers as read, at the most in one go.
    pub mark_read: Option<u64>,
    /// How long it took, in microseconds.
    pub micros: Option<u64>,
    /// The bytes of stack of each function, the main one first.
    pub stack: Vec<u32>,
}

/// How many lines at the end may hold statistics.
const LINES: usize = 64;

impl Stats {
    /// Reads the statistics at the end of a log. What is not there stays `None`.
    #[must_use]
    pub fn parse(log: &[u8]) -> Stats {
        let tail = &log[log.len().saturating_sub(16 << 10)..];
        Stats::of(&String::from_utf8_lossy(tail))
    }

    pub(crate) fn of(log: &str) -> Stats {
        let mut stats = Stats::default();
        for line in log.rsplit('\n').take(LINES) {
            let line = line.trim_end_matches(['\r', '\0', ' ']);
            if let Some(rest) = line.strip_prefix("processed ") {
                stats.processed_line(rest);
            } else if let Some(rest) = line.strip_prefix("verification time ") {
                stats.micros = stats.micros.or(leading(rest));
            } else if let Some(rest) = line.strip_prefix("stack depth ")
                && stats.stack.is_empty()
            {
                let depths = rest.split(' ').next().unwrap_or_default();
                stats.stack = depths.split('+').map_while(|n| n.parse().ok()).collect();
            }
        }
        stats
    }

    /// `7 insns (limit 1000000) max_states_per_insn 0 …`.
    fn processed_line(&mut self, rest: &str) {
        if self.processed.is_some() {
            return;
        }
        self.processed = leading(rest);
        let mut words = rest.split([' ', '(', ')']).filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            let field = match word {
                "limit" => &mut self.limit,
                "max_states_per_insn" => &mut self.max_states_per_insn,
                "total_states" => &mut self.total_states,
                "peak_states" => &mut self.peak_states,
                "mark_read" => &mut self.mark_read,
                _ => continue,
            };
            *field = words.next().and_then(|word| word.parse().ok());
        }
    }
}

fn leading(text: &str) -> Option<u64> {
    u64::try_from(number(text)?.0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_of_a_program_that_was_accepted() {
        let log = b"verification time 47 usec\nstack depth 0+8\nprocessed 7 insns (limit 1000000) \
                    max_states_per_insn 1 total_states 2 peak_states 3 mark_read 4\n\0";
        let expect = Stats {
            processed: Some(7),
            limit: Some(1_000_000),
            max_states_per_insn: Some(1),
            total_states: Some(2),
            peak_states: Some(3),
            mark_read: Some(4),
            micros: Some(47),
            stack: vec![0, 8],
        };
        assert_eq!(Stats::parse(log), expect);
    }

    #[test]
    fn old_and_broken_lines() {
        let old = Stats::parse(b"processed 12 insns, stack depth 16");
        assert_eq!(old.processed, Some(12));
        assert_eq!(old.limit, None);
        assert_eq!(Stats::parse(b""), Stats::default());
        assert_eq!(
            Stats::parse(b"processed x insns (limit \xff) peak_states"),
            Stats::default()
        );
        let depth = Stats::parse(b"stack depth 8+x+16\n");
        assert_eq!(depth.stack, [8]);
    }
}
