//! A line while it is edited: what keys do to it. No terminal is needed for that.

use super::complete::{self, Completions};
use super::keys::Key;
use super::search::Search;
use super::view::{self, View};

/// The longest line that can be typed, in bytes.
pub const LONGEST_LINE: usize = 64 * 1024;

/// What a key led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The line may look different now.
    Shown,
    /// There was nothing to do.
    Refused,
    /// The line is finished.
    Accepted(String),
    /// The line was given up, by Ctrl-C.
    Interrupted,
    /// There will be no more lines: Ctrl-D on an empty one.
    End,
    /// These could stand here; they were asked for by a second tabulator.
    Listed(Vec<String>),
    /// The screen is to be cleared.
    Cleared,
    /// The program is to be stopped, as Ctrl-Z does outside.
    Stopped,
}

/// Where in the history somebody looks.
#[derive(Debug)]
struct Browse {
    /// The entry that is shown.
    at: usize,
    /// What entries begin with.
    prefix: String,
    /// What was typed before.
    draft: String,
}

/// What the last key was, where the next one depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Any,
    Killed,
    Tab,
}

/// A line that is being edited.
///
/// Emacs keys: Ctrl-A E B F D H K U W Y L, Alt-B F D and Backspace, arrows, Home, End, Delete. Up and Down (or
/// Ctrl-P and N) show the older lines that begin like this one up to the cursor; Ctrl-R searches in all.
#[derive(Debug, Default)]
pub struct Editor {
    text: String,
    /// In bytes, at a boundary of characters.
    cursor: usize,
    killed: String,
    last: Last,
    browse: Option<Browse>,
    search: Option<Search>,
}

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Back,
    On,
}

impl Editor {
    /// An empty line.
    #[must_use]
    pub fn new() -> Editor {
        Editor::default()
    }

    /// What the line says now.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the cursor is, in bytes.
    #[must_use]
    pub const fn cursor(&self) -> usize {
        self.cursor
    }

    /// Does what a key asks for. `history` has the oldest line first. After [`Step::Accepted`] and
    /// [`Step::Interrupted`] the line is empty again.
    pub fn press(
        &mut self,
        key: Key,
        history: &[String],
        complete: &dyn Fn(&str, usize) -> Completions,
    ) -> Step {
        if let Some(search) = self.search.take()
            && let Some(step) = self.searching(search, key, history)
        {
            return step;
        }
        let last = std::mem::take(&mut self.last);
        if !is_browsing(key) {
            self.browse = None;
        }
        match key {
            Key::Enter => return Step::Accepted(self.taken()),
            Key::Ctrl('c') => {
                self.taken();
                return Step::Interrupted;
            }
            Key::Ctrl('d') if self.text.is_empty() => return Step::End,
            Key::Ctrl('l') => return Step::Cleared,
            Key::Ctrl('z') => return Step::Stopped,
            Key::Ctrl('r') => {
                self.search = Some(Search::new());
                return Step::Shown;
            }
            Key::Tab => return self.complete(last, complete),
            Key::Up | Key::Ctrl('p') => return self.browse(Way::Back, history),
            Key::Down | Key::Ctrl('n') => return self.browse(Way::On, history),
            _ => {}
        }
        self.edit(key, last)
    }

    /// The line as it is shown in a window of so many columns, behind a prompt.
    #[must_use]
    pub fn view(&self, prompt: &str, history: &[String], columns: usize) -> View {
        match &self.search {
            None => view::window(prompt, &self.text, self.cursor, columns),
            Some(search) => {
                let (prompt, line, cursor) = search.shown(history, &self.text, self.cursor);
                view::window(&prompt, line, cursor, columns)
            }
        }
    }

    fn taken(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    fn set(&mut self, text: &str) {
        text.clone_into(&mut self.text);
        self.cursor = self.text.len();
    }

    /// Keys that move or change the line.
    fn edit(&mut self, key: Key, last: Last) -> Step {
        let here = self.cursor;
        match key {
            Key::Char(char) => return self.insert(char.encode_utf8(&mut [0; 4])),
            Key::Ctrl('y') => return self.insert(&self.killed.clone()),
            Key::Left | Key::Ctrl('b') => return self.go(self.char_before()),
            Key::Right | Key::Ctrl('f') => return self.go(self.char_after()),
            Key::WordLeft | Key::Alt('b') => return self.go(self.word_before()),
            Key::WordRight | Key::Alt('f') => return self.go(self.word_after()),
            Key::Home | Key::Ctrl('a') => return self.go(0),
            Key::End | Key::Ctrl('e') => return self.go(self.text.len()),
            Key::Backspace => {
                let from = self.last_char_before();
                return self.delete(from, here);
            }
            Key::Delete | Key::Ctrl('d') => return self.delete(here, self.char_after()),
            _ => {}
        }
        match key {
            Key::Ctrl('k') => self.kill(here, self.text.len(), Way::On, last),
            Key::Ctrl('u') => self.kill(0, here, Way::Back, last),
            Key::Ctrl('w') => self.kill(self.blank_before(), here, Way::Back, last),
            Key::AltBackspace => self.kill(self.word_before(), here, Way::Back, last),
            Key::Alt('d') => self.kill(here, self.word_after(), Way::On, last),
            _ => Step::Refused,
        }
    }

    fn insert(&mut self, text: &str) -> Step {
        if text.is_empty() || self.text.len() + text.len() > LONGEST_LINE {
            return Step::Refused;
        }
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
        Step::Shown
    }

    fn go(&mut self, to: usize) -> Step {
        if to == self.cursor {
            return Step::Refused;
        }
        self.cursor = to;
        Step::Shown
    }

    fn delete(&mut self, from: usize, to: usize) -> Step {
        if from >= to {
            return Step::Refused;
        }
        self.text.replace_range(from..to, "");
        self.cursor = from;
        Step::Shown
    }

    /// Deletes into the place that Ctrl-Y takes from. What one such key after the other deletes is kept
    /// together.
    fn kill(&mut self, from: usize, to: usize, way: Way, last: Last) -> Step {
        if from >= to {
            self.last = last;
            return Step::Refused;
        }
        if last != Last::Killed {
            self.killed.clear();
        }
        let part = self.text.get(from..to).unwrap_or_default();
        match way {
            Way::Back => self.killed.insert_str(0, part),
            Way::On => self.killed.push_str(part),
        }
        self.last = Last::Killed;
        self.delete(from, to)
    }

    fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    fn after(&self) -> &str {
        self.text.get(self.cursor..).unwrap_or_default()
    }

    /// Marks that are drawn over a character belong to it.
    fn char_before(&self) -> usize {
        let mut chars = self.before().char_indices().rev();
        let found = chars.find(|(_, char)| !view::is_mark(*char));
        found.map_or(0, |(at, _)| at)
    }

    fn char_after(&self) -> usize {
        let mut chars = self.after().char_indices().skip(1);
        let found = chars.find(|(_, char)| !view::is_mark(*char));
        found.map_or(self.text.len(), |(at, _)| self.cursor + at)
    }

    /// A mark alone can be deleted.
    fn last_char_before(&self) -> usize {
        let last = self.before().char_indices().next_back();
        last.map_or(0, |(at, _)| at)
    }

    fn word_before(&self) -> usize {
        let rest = self.before().trim_end_matches(|c: char| !is_word(c));
        rest.trim_end_matches(is_word).len()
    }

    fn word_after(&self) -> usize {
        let rest = self.after().trim_start_matches(|c: char| !is_word(c));
        self.text.len() - rest.trim_start_matches(is_word).len()
    }

    fn blank_before(&self) -> usize {
        let rest = self.before().trim_end_matches(char::is_whitespace);
        rest.trim_end_matches(|c: char| !c.is_whitespace()).len()
    }

    fn browse(&mut self, way: Way, history: &[String]) -> Step {
        let browse = self.browse.get_or_insert_with(|| Browse {
            at: history.len(),
            prefix: self.text.get(..self.cursor).unwrap_or_default().to_owned(),
            draft: self.text.clone(),
        });
        let fits =
            |(_, line): &(usize, &String)| line.starts_with(&browse.prefix) && **line != self.text;
        let mut lines = history.iter().enumerate();
        let found = match way {
            Way::Back => lines.take(browse.at).rfind(fits),
            Way::On => lines.by_ref().skip(browse.at.saturating_add(1)).find(fits),
        };
        let text = match (found, way) {
            (Some((at, line)), _) => {
                browse.at = at;
                line.clone()
            }
            // Behind the newest line is what was typed.
            (None, Way::On) if browse.at < history.len() => {
                browse.at = history.len();
                browse.draft.clone()
            }
            (None, _) => return Step::Refused,
        };
        self.set(&text);
        Step::Shown
    }

    fn complete(&mut self, last: Last, complete: &dyn Fn(&str, usize) -> Completions) -> Step {
        let found = complete(&self.text, self.cursor);
        let Some(typed) = self.text.get(found.start..self.cursor) else {
            return Step::Refused;
        };
        match complete::extension(typed, &found.candidates) {
            Some(text) if self.text.len() - typed.len() + text.len() <= LONGEST_LINE => {
                self.text.replace_range(found.start..self.cursor, &text);
                self.cursor = found.start + text.len();
                Step::Shown
            }
            None if found.candidates.len() > 1 && last == Last::Tab => {
                self.last = Last::Tab;
                Step::Listed(found.candidates)
            }
            _ => {
                self.last = Last::Tab;
                Step::Refused
            }
        }
    }

    /// A key while the history is searched. `None` if the search is over and the key still to be done.
    fn searching(&mut self, mut search: Search, key: Key, history: &[String]) -> Option<Step> {
        match key {
            Key::Ctrl('g') => return Some(Step::Shown),
            Key::Ctrl('c' | 'z' | 'l') => return None,
            _ => {}
        }
        if let Some(step) = search.press(key, history) {
            self.search = Some(search);
            return Some(step);
        }
        if let Some((line, cursor)) = search.found(history) {
            self.set(line);
            self.cursor = cursor;
        }
        // Escape only ends the search.
        (key == Key::Escape).then_some(Step::Shown)
    }
}

const fn is_browsing(key: Key) -> bool {
    matches!(key, Key::Up | Key::Down | Key::Ctrl('p' | 'n'))
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric()
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
