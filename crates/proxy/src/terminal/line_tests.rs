//! Keys pressed on a line.

use super::*;
use proptest::prelude::*;

fn words(line: &str, cursor: usize) -> Completions {
    Completions::of_words(line, cursor, ["status", "start", "drain", "reload"])
}

struct Typed {
    editor: Editor,
    history: Vec<String>,
}

impl Typed {
    fn new(text: &str) -> Typed {
        let mut typed = Typed {
            editor: Editor::new(),
            history: Vec::new(),
        };
        typed.text(text);
        typed
    }

    fn with_history(lines: &[&str]) -> Typed {
        let mut typed = Typed::new("");
        typed.history = lines.iter().map(|line| (*line).to_owned()).collect();
        typed
    }

    fn press(&mut self, key: Key) -> Step {
        self.editor.press(key, &self.history, &words)
    }

    fn text(&mut self, text: &str) {
        for char in text.chars() {
            assert_eq!(self.press(Key::Char(char)), Step::Shown);
        }
    }

    fn keys(&mut self, keys: &[Key]) -> &mut Typed {
        for key in keys {
            self.press(*key);
        }
        self
    }

    /// With `|` where the cursor is.
    fn line(&self) -> String {
        let mut line = self.editor.text().to_owned();
        line.insert(self.editor.cursor(), '|');
        line
    }
}

use Key::{Alt, Char, Ctrl, Down, Enter, Escape, Left, Right, Tab, Up};

#[test]
fn keys_move_and_delete() {
    for (text, keys, line) in [
        ("abc", &[Left, Char('x')][..], "abx|c"),
        ("abc", &[Ctrl('a'), Key::Delete], "|bc"),
        ("abc", &[Ctrl('a'), Ctrl('d'), Ctrl('e')], "bc|"),
        ("abc", &[Key::Backspace], "ab|"),
        ("żółw", &[Left, Key::Backspace], "żó|w"),
        ("e\u{301}a", &[Left, Left], "|e\u{301}a"),
        ("e\u{301}", &[Key::Backspace], "e|"),
        ("e\u{301}a", &[Ctrl('a'), Key::Delete], "|a"),
        ("ab", &[Key::Home, Right, Right, Right], "ab|"),
        ("one two-three ", &[Alt('b')], "one two-|three "),
        (
            "one two-three ",
            &[Key::WordLeft, Alt('b'), Alt('b')],
            "|one two-three ",
        ),
        ("one two", &[Key::Home, Alt('f'), Alt('f')], "one two|"),
        ("one two", &[Key::Home, Key::WordRight], "one| two"),
        ("one two-three ", &[Ctrl('w')], "one |"),
        ("one two-three", &[Key::AltBackspace], "one two-|"),
        ("one two", &[Key::Home, Alt('d')], "| two"),
        ("one two", &[Alt('b'), Ctrl('k')], "one |"),
        ("one two", &[Alt('b'), Ctrl('u')], "|two"),
        ("one two", &[Ctrl('w'), Key::Home, Ctrl('y')], "two|one "),
        // One kill after the other is one text, and a move between them ends it.
        ("a b c", &[Ctrl('w'), Ctrl('w'), Ctrl('y')], "a b c|"),
        ("a b c", &[Ctrl('w'), Left, Ctrl('w'), Ctrl('y')], "a b| "),
        ("ab cd", &[Left, Ctrl('u'), Ctrl('k'), Ctrl('y')], "ab cd|"),
        (
            "abc",
            &[
                Key::BackTab,
                Key::PageUp,
                Alt('x'),
                Ctrl('\\'),
            ],
            "abc|",
        ),
    ] {
        assert_eq!(
            Typed::new(text).keys(keys).line(),
            line,
            "{text:?} {keys:?}"
        );
    }
}

#[test]
fn nothing_to_do_is_told() {
    let mut typed = Typed::new("");
    for key in [
        Left,
        Right,
        Key::Backspace,
        Key::Delete,
        Up,
        Down,
        Ctrl('y'),
        Ctrl('k'),
        Alt('b'),
    ] {
        assert_eq!(typed.press(key), Step::Refused, "{key:?}");
    }
}

#[test]
fn a_line_ends() {
    let mut typed = Typed::new("status");
    assert_eq!(typed.press(Enter), Step::Accepted("status".to_owned()));
    assert_eq!(typed.line(), "|");
    typed.text("ab");
    assert_eq!(typed.press(Ctrl('c')), Step::Interrupted);
    assert_eq!(typed.line(), "|");
    assert_eq!(typed.press(Ctrl('d')), Step::End);
    assert_eq!(typed.press(Ctrl('l')), Step::Cleared);
    assert_eq!(typed.press(Ctrl('z')), Step::Stopped);
}

#[test]
fn a_line_does_not_grow_for_ever() {
    let mut typed = Typed::new(&"x".repeat(LONGEST_LINE));
    assert_eq!(typed.press(Char('y')), Step::Refused);
    typed.press(Ctrl('u'));
    typed.press(Ctrl('y'));
    assert_eq!(typed.press(Ctrl('y')), Step::Refused);
    assert_eq!(typed.editor.text().len(), LONGEST_LINE);
}

#[test]
fn older_lines_begin_as_this_one() {
    let mut typed = Typed::with_history(&["drain a", "status", "drain b", "top"]);
    assert_eq!(typed.keys(&[Up]).line(), "top|");
    assert_eq!(typed.keys(&[Up, Up]).line(), "status|");
    assert_eq!(typed.keys(&[Down, Down, Down]).line(), "|");
    assert_eq!(typed.press(Down), Step::Refused);
    typed.text("dr");
    assert_eq!(typed.keys(&[Up]).line(), "drain b|");
    assert_eq!(typed.keys(&[Ctrl('p')]).line(), "drain a|");
    assert_eq!(typed.press(Up), Step::Refused);
    assert_eq!(typed.keys(&[Ctrl('n')]).line(), "drain b|");
    assert_eq!(typed.keys(&[Down]).line(), "dr|");
    // An edit makes another beginning.
    typed.keys(&[Up, Left, Ctrl('k')]);
    assert_eq!(typed.line(), "drain |");
    assert_eq!(typed.keys(&[Up, Up]).line(), "drain a|");
}

#[test]
fn older_lines_are_found_by_a_part() {
    let mut typed = Typed::with_history(&["drain app-1", "status", "drain app-2"]);
    typed.text("dra");
    typed.keys(&[Ctrl('r'), Char('a'), Char('p')]);
    let shown = typed.editor.view("> ", &typed.history, 80);
    assert_eq!(shown.text, "(search \"ap\") drain app-2");
    assert_eq!(shown.cursor, 20);
    typed.keys(&[Ctrl('r')]);
    let shown = typed.editor.view("> ", &typed.history, 80);
    assert_eq!(shown.text, "(search \"ap\") drain app-1");
    assert_eq!(typed.press(Ctrl('r')), Step::Refused);
    let shown = typed.editor.view("> ", &typed.history, 80);
    assert_eq!(shown.text, "(nothing older with \"ap\") drain app-1");
    assert_eq!(typed.keys(&[Ctrl('e')]).line(), "drain app-1|");

    // Escape takes what was found, Ctrl-G what was there, Enter the line at once.
    typed.keys(&[Ctrl('u'), Ctrl('r'), Char('t'), Escape]);
    assert_eq!(typed.line(), "s|tatus");
    typed.keys(&[
        Ctrl('u'),
        Ctrl('k'),
        Char('x'),
        Ctrl('r'),
        Char('t'),
        Ctrl('g'),
    ]);
    assert_eq!(typed.line(), "x|");
    typed.keys(&[
        Ctrl('r'),
        Char('t'),
        Char('q'),
        Key::Backspace,
    ]);
    assert_eq!(typed.press(Enter), Step::Accepted("status".to_owned()));
    typed.keys(&[Ctrl('r'), Char('t')]);
    assert_eq!(typed.press(Ctrl('c')), Step::Interrupted);
}

#[test]
fn a_tabulator_completes_and_two_list() {
    let mut typed = Typed::new("dr");
    assert_eq!(typed.press(Tab), Step::Shown);
    assert_eq!(typed.line(), "drain |");
    let mut typed = Typed::new("s");
    assert_eq!(typed.press(Tab), Step::Shown);
    assert_eq!(typed.line(), "sta|");
    assert_eq!(typed.press(Tab), Step::Refused);
    let both = vec![
        "status ".to_owned(),
        "start ".to_owned(),
    ];
    assert_eq!(typed.press(Tab), Step::Listed(both.clone()));
    assert_eq!(typed.press(Tab), Step::Listed(both));
    typed.text("t");
    assert_eq!(typed.press(Tab), Step::Shown);
    assert_eq!(typed.line(), "status |");
    // In the middle of a line.
    let mut typed = Typed::new("re x");
    typed.keys(&[Left, Left, Tab]);
    assert_eq!(typed.line(), "reload | x");
}

#[test]
fn completions_that_make_no_sense_change_nothing() {
    for start in [0, 1, 2, 3, 99] {
        let mut editor = Editor::new();
        let wrong = |_: &str, _: usize| Completions {
            start,
            candidates: vec!["ab".to_owned(), "cd".to_owned()],
        };
        editor.press(Char('ż'), &[], &wrong);
        editor.press(Tab, &[], &wrong);
        editor.press(Tab, &[], &wrong);
        assert_eq!(editor.text(), "ż", "{start}");
    }
}

fn key() -> impl Strategy<Value = Key> {
    let fixed = prop::sample::select(vec![
        Enter,
        Tab,
        Escape,
        Up,
        Down,
        Left,
        Right,
        Key::Home,
        Key::End,
        Key::Backspace,
        Key::Delete,
        Key::AltBackspace,
        Key::WordLeft,
        Key::WordRight,
        Key::PageUp,
        Char('日'),
        Char('\u{301}'),
        Char('a'),
        Char(' '),
        Char('s'),
        Char('-'),
    ]);
    let ctrl = prop::sample::select(('a'..='z').collect::<Vec<char>>());
    let alt = prop::sample::select(vec!['b', 'f', 'd', 'x']);
    prop_oneof![4 => fixed, 2 => ctrl.prop_map(Ctrl), 1 => alt.prop_map(Alt), 1 => any::<char>().prop_map(Char)]
}

proptest! {
    #[test]
    fn any_keys_leave_a_line_and_a_cursor_in_it(keys in prop::collection::vec(key(), 0..80), columns in 0_usize..40) {
        let mut typed = Typed::with_history(&["status", "drain app-1 日本", "start 'ż'", "s"]);
        for key in keys {
            typed.press(key);
            let editor = &typed.editor;
            prop_assert!(editor.text().is_char_boundary(editor.cursor()));
            let shown = editor.view("> ", &typed.history, columns);
            prop_assert!(shown.cursor < columns.max(2));
        }
    }
}
