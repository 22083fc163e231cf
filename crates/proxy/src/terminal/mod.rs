//! Terminals: keys, lines and screens.
//!
//! | to … | see |
//! |---|---|
//! | read lines with editing, completion and history | [`Reader`] |
//! | show something live on the whole screen | [`Screen`], [`Row`] |
//! | write text of others to a terminal | [`plain()`], [`width()`] |
//! | know what keys do, without a terminal | [`Decoder`], [`Editor`] |
//!
//! The terminal is given back as it was: when a [`Reader`] has its line, when a [`Screen`] is dropped, when
//! something panics and when a signal ends or stops the process. Only `SIGKILL` leaves it as it is.

mod complete;
mod error;
mod frame;
mod history;
mod input;
mod keys;
mod line;
mod list;
mod raw;
mod reader;
mod screen;
mod search;
mod style;
mod text;
mod view;

pub use complete::Completions;
pub use error::{Error, Result, Stream};
pub use frame::Size;
pub use history::{History, MOST_LINES};
pub use keys::{Decoder, Key};
pub use line::{Editor, LONGEST_LINE, Step};
pub use reader::{Line, Reader};
pub use screen::Screen;
pub use style::{Colour, Colours, Row, Style};
pub use text::{plain, width};
pub use view::View;
