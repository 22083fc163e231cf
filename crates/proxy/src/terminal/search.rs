//! Looking for an older line by a part of it.

use super::keys::Key;
use super::line::Step;

/// A search from the newest line to the oldest.
#[derive(Debug, Default)]
pub(crate) struct Search {
    query: String,
    /// The line that was found last, by its place.
    at: Option<usize>,
    /// The last step found nothing.
    failed: bool,
}

impl Search {
    pub(crate) fn new() -> Search {
        Search::default()
    }

    /// A key that belongs to the search; `None` for one that ends it.
    pub(crate) fn press(&mut self, key: Key, history: &[String]) -> Option<Step> {
        match key {
            Key::Char(char) => {
                self.query.push(char);
                // The line that is shown may go on to fit.
                self.look(history, self.at.map_or(history.len(), |at| at + 1));
            }
            Key::Backspace => {
                self.query.pop();
                self.at = None;
                self.look(history, history.len());
            }
            Key::Ctrl('r') => self.look(history, self.at.unwrap_or(history.len())),
            _ => return None,
        }
        Some(if self.failed {
            Step::Refused
        } else {
            Step::Shown
        })
    }

    fn look(&mut self, history: &[String], before: usize) {
        if self.query.is_empty() {
            self.failed = false;
            return;
        }
        let older = history.get(..before).unwrap_or(history);
        let fits = |line: &String| line.contains(&self.query);
        let found = older.iter().rposition(fits);
        self.failed = found.is_none();
        self.at = found.or(self.at);
    }

    /// The line that was found, and where in it.
    pub(crate) fn found<'a>(&self, history: &'a [String]) -> Option<(&'a str, usize)> {
        let line = history.get(self.at?)?;
        Some((line, line.find(&self.query).unwrap_or(line.len())))
    }

    /// What stands in place of prompt, line and cursor.
    pub(crate) fn shown<'a>(
        &self,
        history: &'a [String],
        text: &'a str,
        cursor: usize,
    ) -> (String, &'a str, usize) {
        let (line, cursor) = self.found(history).unwrap_or((text, cursor));
        let says = if self.failed {
            "nothing older with"
        } else {
            "search"
        };
        (format!("({says} \"{}\") ", self.query), line, cursor)
    }
}
