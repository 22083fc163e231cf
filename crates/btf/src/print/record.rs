//! Bodies of structures and unions in which every member has its place.

use super::layout::{Layout, Place};
use super::types::{Printer, Spot, tabs};
use crate::error::Error;
use crate::kind::Kind;
use crate::shape::{Member, Type};

/// A line of a body, and the remark behind it.
struct Line {
    text: String,
    remark: String,
}

/// What is unused in a structure.
#[derive(Default)]
struct Unused {
    holes: u32,
    bits: u64,
}

/// A gap between two bits: bits up to the next byte, bytes, and bits again.
struct Gap {
    before: u64,
    bytes: u64,
    behind: u64,
}

impl Gap {
    fn new(from: u64, to: u64) -> Gap {
        let byte = from.next_multiple_of(8);
        match to.checked_sub(byte) {
            None => Gap {
                before: to.saturating_sub(from),
                bytes: 0,
                behind: 0,
            },
            Some(rest) => Gap {
                before: byte - from,
                bytes: rest / 8,
                behind: rest % 8,
            },
        }
    }
}

fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// An amount of bits in words.
fn amount(bits: u64) -> String {
    match (bits / 8, bits % 8) {
        (0, bits) => counted(bits, "bit"),
        (bytes, 0) => counted(bytes, "byte"),
        (bytes, bits) => format!("{} and {}", counted(bytes, "byte"), counted(bits, "bit")),
    }
}

impl<B: AsRef<[u8]>> Printer<'_, B> {
    /// A member without the semicolon.
    pub(super) fn member(
        &mut self,
        member: &Member<'_>,
        spot: Spot,
        depth: u32,
    ) -> Result<String, Error> {
        self.budget.name(member.name)?;
        let mut line = self.declare(member.ty, member.name.to_string(), "", spot, depth)?;
        if let Some(bits) = member.bits {
            line += &format!(": {bits}");
        }
        Ok(line)
    }

    /// A body with the place of each member behind it.
    pub(super) fn places(
        &mut self,
        ty: &Type<'_>,
        spot: Spot,
        depth: u32,
    ) -> Result<String, Error> {
        let layout = self.layout(ty, depth)?;
        let (mut lines, mut unused, mut cursor) = (Vec::new(), Unused::default(), 0);
        for member in ty.members() {
            let place = self.place(&member, depth)?;
            let start = u64::from(member.bit_offset);
            if ty.kind() == Kind::STRUCT {
                unused.before(start, cursor, &mut lines);
            }
            let inner = Spot {
                indent: spot.indent + 1,
                start: spot.start.saturating_add(member.bit_offset),
            };
            let overlaps = ty.kind() == Kind::STRUCT && start < cursor;
            let text = self.member(&member, inner, depth)? + ";";
            lines.push(Line {
                text,
                remark: remark(inner.start, place, overlaps),
            });
            cursor = cursor.max(start + place.width());
        }
        let end = 8 * u64::from(ty.word);
        let rest = end.saturating_sub(cursor);
        let last = if spot.indent == 0 {
            summary(ty, layout, &unused, rest)
        } else if rest > 0 && ty.kind() == Kind::STRUCT {
            format!("/* {} unused at the end */", amount(rest))
        } else {
            String::new()
        };
        if !last.is_empty() {
            lines.push(Line {
                text: last,
                remark: String::new(),
            });
        }
        Ok(aligned(&lines, spot.indent))
    }

    /// A body with fillers, and what else a compiler must be told to lay it out like this.
    pub(super) fn exact(&mut self, ty: &Type<'_>, spot: Spot, depth: u32) -> Result<String, Error> {
        let layout = self.layout(ty, depth)?;
        let mut body = String::from("{\n");
        let inner = Spot {
            indent: spot.indent + 1,
            ..spot
        };
        let margin = tabs(inner.indent);
        let mut cursor = 0;
        for member in ty.members() {
            let place = self.place(&member, depth)?;
            let start = u64::from(member.bit_offset);
            if ty.kind() == Kind::STRUCT && layout.next(cursor, place) != start {
                body += &self.filler(cursor, start, &margin);
            }
            // A tag would make it a declaration of nothing, so its members are written out.
            let tagged = self.btf.unqualified(member.ty)?;
            let is_direct = member.name.is_empty() && member.bits.is_none();
            let line = match tagged.kind() {
                Kind::STRUCT | Kind::UNION if is_direct => {
                    let depth = self.budget.step(depth)?;
                    self.composite(&tagged, "", inner, depth)?
                }
                _ => self.member(&member, inner, depth)?,
            };
            body += &format!("{margin}{line};\n");
            cursor = cursor.max(start + place.width());
        }
        let natural = cursor.next_multiple_of(8 * u64::from(layout.align));
        let end = 8 * u64::from(ty.word);
        if natural < end {
            let from = if ty.kind() == Kind::STRUCT { cursor } else { 0 };
            body += &self.filler(from, end, &margin);
        }
        body += &tabs(spot.indent);
        body += if layout.is_packed {
            "} __attribute__((packed))"
        } else {
            "}"
        };
        Ok(body)
    }

    fn filler(&mut self, from: u64, to: u64, margin: &str) -> String {
        let gap = Gap::new(from, to);
        let mut text = String::new();
        if gap.before > 0 {
            text += &format!("{margin}unsigned char : {};\n", gap.before);
        }
        if gap.bytes > 0 {
            let (number, bytes) = (self.fillers, gap.bytes);
            text += &format!("{margin}unsigned char _unused{number}[{bytes}];\n");
            self.fillers += 1;
        }
        if gap.behind > 0 {
            text += &format!("{margin}unsigned char : {};\n", gap.behind);
        }
        text
    }
}

impl Unused {
    /// Counts what is unused before a member, and says so.
    fn before(&mut self, start: u64, cursor: u64, lines: &mut Vec<Line>) {
        let Some(bits @ 1..) = start.checked_sub(cursor) else {
            return;
        };
        self.holes += 1;
        self.bits += bits;
        let gap = Gap::new(cursor, start);
        for (count, what) in [
            (gap.before, "bit"),
            (gap.bytes, "byte"),
            (gap.behind, "bit"),
        ] {
            if count > 0 {
                lines.push(Line {
                    text: format!("/* hole of {} */", counted(count, what)),
                    remark: String::new(),
                });
            }
        }
    }
}

fn remark(start: u32, place: Place, overlaps: bool) -> String {
    let overlaps = if overlaps {
        ", overlaps what is before"
    } else {
        ""
    };
    let byte = start / 8;
    match place.bits {
        Some(bits) => {
            let at = format!("{byte}:{}", start % 8);
            format!("/* {at:>7} {bits:>3}{overlaps} */")
        }
        None => format!("/* {byte:>5} {:>5}{overlaps} */", place.size),
    }
}

fn summary(ty: &Type<'_>, layout: Layout, unused: &Unused, rest: u64) -> String {
    let mut text = format!("/* {}", counted(ty.word.into(), "byte"));
    text += &match layout.is_packed {
        true => ", packed".to_owned(),
        false => format!(", aligned to {}", layout.align),
    };
    if unused.holes > 0 {
        let holes = counted(unused.holes.into(), "hole");
        text += &format!("; {holes} of {}", amount(unused.bits));
        text += if unused.holes > 1 { " in all" } else { "" };
    }
    if rest > 0 {
        text += &format!("; {} unused at the end", amount(rest));
    }
    text + " */"
}

/// The lines with their remarks below one another.
fn aligned(lines: &[Line], indent: usize) -> String {
    /// Longer lines do not push the remarks of all others away.
    const WIDEST: usize = 56;
    let margin = tabs(indent + 1);
    let width = |text: &str| {
        let last = text.rsplit('\n').next().unwrap_or(text);
        last.trim_start_matches('\t').chars().count()
    };
    let remarked = lines.iter().filter(|line| !line.remark.is_empty());
    let widths = remarked.map(|line| width(&line.text));
    let column = widths.filter(|width| *width <= WIDEST).max().unwrap_or(0);
    let mut out = String::from("{\n");
    for line in lines {
        out += &margin;
        out += &line.text;
        if !line.remark.is_empty() {
            let gap = column.saturating_sub(width(&line.text)) + 1;
            out += &format!("{:gap$}{}", "", line.remark);
        }
        out.push('\n');
    }
    out + &tabs(indent) + "}"
}
