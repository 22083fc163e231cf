//! A terminal tried by hand, and by `tests/terminal.rs`: lines that are read and a screen that is drawn.
//!
//! ```text
//! terminal_demo lines [HISTORY]    echoes lines; `quit` ends, `drain APP` is completed
//! terminal_demo screen             shows the last key; `q` ends, `p` panics, `t` in another thread
//! terminal_demo busy               a screen that never asks for keys
//! ```

use bpfsmith_proxy::terminal::{
    Colour, Completions, Error, Key, Line, Reader, Result, Row, Screen, Style,
};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let done = match args.next().as_deref() {
        Some("lines") => lines(args.next().map(PathBuf::from)),
        Some("screen") => screen(),
        Some("busy") => busy(),
        _ => {
            eprintln!("usage: terminal_demo lines [HISTORY] | screen | busy");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn complete(line: &str, cursor: usize) -> Completions {
    match line.split_once(' ') {
        Some(("drain", _)) => Completions::of_words(line, cursor, ["app-1", "app-2", "żółw"]),
        Some(_) => Completions::none(),
        None => Completions::of_words(line, cursor, ["drain", "quit", "status"]),
    }
}

fn lines(history: Option<PathBuf>) -> Result<()> {
    let mut reader = Reader::open(history);
    if reader.is_terminal() {
        println!("ready");
    }
    loop {
        match reader.read("demo> ", &complete)? {
            Line::Text(line) if line == "quit" => return Ok(()),
            Line::Text(line) => println!("line [{}]", line.escape_debug()),
            Line::Interrupted => println!("interrupted"),
            Line::End => {
                println!("end");
                return Ok(());
            }
        }
    }
}

fn screen() -> Result<()> {
    let mut screen = Screen::open()?;
    let mut last = String::from("none");
    loop {
        let size = screen.size()?;
        let title = Style::PLAIN.bold().reverse();
        let good = Style::PLAIN.colour(Colour::Green);
        screen.draw(&[
            Row::new().column(title, "demo", size.columns),
            Row::new().text(format!("size {}x{}", size.columns, size.rows)),
            Row::new()
                .column(Style::PLAIN, "日本語", 8)
                .styled(good, "up"),
            Row::new().text("hostile \x1b[31m\x1b]0;title\x07\r\nname"),
            Row::new().text(format!("key {last}")),
            Row::new().text(format!("{}|", "=".repeat(size.columns.saturating_sub(1)))),
        ])?;
        // Long, so that nothing is shown anew only because time went by.
        match screen.next_key(Duration::from_secs(3600))? {
            Some(Key::Char('q') | Key::Ctrl('c')) => return Ok(()),
            Some(Key::Char('p')) => panic!("a panic that can be read"),
            Some(Key::Char('t')) => {
                let thread = std::thread::spawn(|| panic!("a panic elsewhere"));
                last = format!("after {:?}", thread.join().is_err());
            }
            Some(Key::Char('2')) => {
                let error = Screen::open().err().map(|error: Error| error.to_string());
                last = error.unwrap_or_default();
            }
            Some(key) => last = format!("{key:?}"),
            None => {}
        }
    }
}

fn busy() -> Result<()> {
    let mut screen = Screen::open()?;
    screen.draw(&[Row::new().text("busy")])?;
    loop {
        std::thread::park();
    }
}
