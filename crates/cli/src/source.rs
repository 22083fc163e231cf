//! Input of any form to instruction slots, each of which knows where it was written.

use crate::{hex, visible};
use bpfsmith_asm::decode::ops;
use bpfsmith_asm::isa::{Order, Raw, Refused};
use bpfsmith_asm::program::Reloc;
use bpfsmith_asm::text;
use bpfsmith_uapi::ProgType;

/// How many errors are told before the rest is only counted.
const MAX_ERRORS: usize = 100;

/// A form that instructions are read or written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The kernel's syntax.
    Text,
    /// Pairs of hexadecimal digits.
    Hex,
    /// The bytes that a little-endian machine reads.
    Raw,
}

/// Where the slots of an input were written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Places {
    /// Line and column of each slot's instruction.
    Text(Vec<(u32, u32)>),
    /// Line and column of each slot's first digit.
    Hex(Vec<(u32, u32)>),
    /// Bytes have no lines.
    Raw,
}

/// The instructions of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Source {
    /// The file's name, for messages.
    pub name: String,
    /// The slots: every one is a valid instruction or half of one.
    pub insns: Vec<Raw>,
    /// The names that a kernel must fill in, whose slots are zero until then.
    pub relocs: Vec<Reloc>,
    /// Type and text of a whole listing, one with a `program` line.
    pub listing: Option<(ProgType, String)>,
    /// The text of one without that line.
    pub bare: Option<String>,
    places: Places,
}

impl Source {
    /// Reads an input of any form. `name` stands for the file in messages.
    ///
    /// # Errors
    /// One line for each thing that is wrong, with its place.
    pub fn read(name: &str, format: Format, input: &[u8]) -> Result<Source, Vec<String>> {
        let mut source = Source {
            name: name.to_owned(),
            insns: Vec::new(),
            relocs: Vec::new(),
            listing: None,
            bare: None,
            places: Places::Raw,
        };
        match format {
            Format::Text => source.text(utf8(name, input, "is not UTF-8, so this is no text")?)?,
            Format::Hex => {
                let hex = hex::read(utf8(name, input, HEX_HINT)?).map_err(|error| {
                    let (line, column) = (error.line, error.column);
                    vec![format!(
                        "{name}:{line}:{column}: {}",
                        visible(&error.message)
                    )]
                })?;
                source.places = Places::Hex(hex.positions);
                source.bytes(&hex.bytes)?;
            }
            Format::Raw => source.bytes(input)?,
        }
        Ok(source)
    }

    /// Where a slot was written: `file:line:column`, `file: instruction 5` or both.
    #[must_use]
    pub fn place(&self, slot: u32) -> String {
        let name = &self.name;
        let at = |positions: &[(u32, u32)]| positions.get(slot as usize).copied();
        match &self.places {
            Places::Text(positions) => match at(positions) {
                Some((line, column)) => format!("{name}:{line}:{column}"),
                // A finding about an empty program.
                None => name.clone(),
            },
            Places::Hex(positions) => match at(positions) {
                Some((line, column)) => format!("{name}:{line}:{column}: instruction {slot}"),
                None => name.clone(),
            },
            Places::Raw if self.insns.is_empty() => name.clone(),
            Places::Raw => format!("{name}: instruction {slot}"),
        }
    }

    fn text(&mut self, source: &str) -> Result<(), Vec<String>> {
        let text = text::parse(source).map_err(|errors| {
            let line = |error| visible(&format!("{}:{error}", self.name));
            errors.iter().map(line).collect::<Vec<_>>()
        })?;
        self.insns = text.insns;
        self.relocs = text.relocs;
        match text.program {
            Some((_, kind)) => self.listing = Some((kind, source.to_owned())),
            None => self.bare = Some(source.to_owned()),
        }
        self.places = Places::Text(text.positions);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Vec<String>> {
        let (slots, rest) = bytes.as_chunks::<8>();
        self.insns = slots
            .iter()
            .map(|slot| Raw::from_bytes(*slot, Order::Little))
            .collect();
        let wrong = ops(&self.insns).filter_map(Result::err);
        let mut errors: Vec<(usize, Refused)> = wrong.map(|error| (error.at, error.why)).collect();
        if !rest.is_empty() {
            errors.push((slots.len(), Refused::Length(rest.len())));
        }
        if errors.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = errors
            .iter()
            .take(MAX_ERRORS)
            .map(|(at, why)| {
                let place = self.place(u32::try_from(*at).unwrap_or(u32::MAX));
                format!("{place}: {why}")
            })
            .collect();
        if let more @ 1.. = errors.len() - lines.len() {
            lines.push(format!("{}: and {more} more errors", self.name));
        }
        Err(lines)
    }
}

/// What to do about a byte that is in no text.
const HEX_HINT: &str = "is no hexadecimal digit: for bytes as they are use --format raw";

/// The input as text; or the place of the first byte that is in no text, with `what` behind it.
fn utf8<'a>(name: &str, input: &'a [u8], what: &str) -> Result<&'a str, Vec<String>> {
    std::str::from_utf8(input).map_err(|error| {
        let (good, bad) = input.split_at(error.valid_up_to());
        let good = std::str::from_utf8(good).unwrap_or_default();
        let line = good.matches('\n').count() + 1;
        let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let byte = bad.first().copied().unwrap_or_default();
        vec![format!(
            "{name}:{line}:{column}: byte {byte:#04x} {what}"
        )]
    })
}
