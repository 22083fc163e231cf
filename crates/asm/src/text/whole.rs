//! Whole programs: the lines of a listing that are no instructions.

use super::parse::{Parser, Text, parse};
use super::scan::{Res, fail, hex_digit, shorten};
use crate::code::Param;
use crate::program::{Function, Program, Section, Target};
use crate::report::{Finding, Kind, Place, Report, Severity};
use bpfsmith_uapi::map::{MapShape, Name};
use bpfsmith_uapi::{MapType, ProgType};

/// The program in a listing, checked as one that was written in Rust.
///
/// # Errors
/// Everything that is wrong with the text or, if that is nothing, with the program; each with its
/// line and column.
pub fn program(source: &str) -> Result<Program, Report> {
    let text = parse(source).map_err(|errors| Report {
        program: String::new(),
        findings: errors
            .into_iter()
            .map(|e| malformed(e.line, e.column, e.message))
            .collect(),
    })?;
    let mut findings = undeclared(&text);
    let (name, kind) = text.program.clone().unwrap_or_else(|| {
        let message = "the program's name and type are missing: start with `program NAME XDP`";
        findings.push(malformed(1, 1, message.to_owned()));
        (String::new(), ProgType(0))
    });
    if !findings.is_empty() {
        return Err(Report {
            program: name,
            findings,
        });
    }
    let mut funcs = text.funcs;
    if funcs.first().is_none_or(|func| func.at != 0) {
        funcs.insert(
            0,
            Function {
                at: 0,
                name: name.clone(),
                params: None,
            },
        );
    }
    let mut program = Program {
        name,
        kind,
        insns: text.insns,
        relocs: text.relocs,
        labels: text
            .labels
            .into_iter()
            .map(|(at, name)| (at, name.into()))
            .collect(),
        funcs,
        maps: text.maps,
        sections: text.sections,
        types: Vec::new(),
        records: Vec::new(),
        lines: Vec::new(),
        frames: Vec::new(),
        net: Vec::new(),
        warnings: Vec::new(),
    };
    let mut report = crate::check::check(&program);
    for finding in &mut report.findings {
        if let Place::Slot(slot) = finding.place
            && let Some(&(line, column)) = text.positions.get(slot as usize)
        {
            finding.place = Place::Text(line, column);
        }
    }
    if report.has_errors() {
        return Err(report);
    }
    program.warnings = report.findings;
    Ok(program)
}

fn malformed(line: u32, column: u32, message: String) -> Finding {
    Finding {
        severity: Severity::Error,
        kind: Kind::Malformed,
        place: Place::Text(line, column),
        message,
    }
}

/// References to maps and sections that no line describes.
fn undeclared(text: &Text) -> Vec<Finding> {
    let mut findings = Vec::new();
    for reloc in &text.relocs {
        let message = match reloc.target {
            Target::Map(name) | Target::MapValue(name, _)
                if !text.maps.iter().any(|map| map.name == name) =>
            {
                format!(
                    "map `{name}` is not described: add `map {name} ARRAY key 4 value 8 entries 1`"
                )
            }
            Target::Section(name, _) if !text.sections.iter().any(|s| s.name == name) => {
                format!(
                    "section {name} is not described: add `section {name}` and its bytes in hex"
                )
            }
            _ => continue,
        };
        let (line, column) = text
            .positions
            .get(reloc.at as usize)
            .copied()
            .unwrap_or((1, 1));
        findings.push(malformed(line, column, message));
    }
    findings
}

impl<'a> Parser<'a> {
    /// Takes a line that is no instruction, if it is one.
    #[inline]
    pub(super) fn directive(&mut self) -> Res<bool> {
        // No instruction starts with these letters but `may_goto`.
        if !matches!(self.scan.peek(), b'p' | b'm' | b's' | b'v' | b'f') {
            return Ok(false);
        }
        let start = self.scan.at;
        match self.scan.word() {
            "program" => self.program_line(start)?,
            "map" => self.map_line()?,
            "section" => self.section_line()?,
            "var" => self.var_line()?,
            "func" => self.func_line()?,
            _ => {
                self.scan.at = start;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn program_line(&mut self, start: usize) -> Res<()> {
        if self.text.program.is_some() {
            return fail(start, "a text holds one program: remove this line");
        }
        let name = self.token("the program's name")?.to_owned();
        self.scan.space();
        let at = self.scan.at;
        let kind = self.token("the program's type, such as XDP")?;
        let number = || kind.parse().ok().map(ProgType);
        let Some(kind) = ProgType::from_name(kind).or_else(number) else {
            let kind = shorten(kind);
            return fail(
                at,
                format!("`{kind}` is no program type: write one such as XDP"),
            );
        };
        self.text.program = Some((name, kind));
        Ok(())
    }

    fn map_line(&mut self) -> Res<()> {
        self.scan.space();
        let start = self.scan.at;
        let token = self.token("the map's name")?;
        let Some(name) = Name::new(token) else {
            let token = shorten(token);
            return fail(
                start,
                format!("`{token}` is no map's name: 1 to 15 of A-Za-z0-9_."),
            );
        };
        if self.text.maps.iter().any(|map| map.name == name) {
            return fail(
                start,
                format!("map `{name}` is described twice: remove one"),
            );
        }
        self.scan.space();
        let at = self.scan.at;
        let kind = self.token("the map's type, such as HASH")?;
        let number = || kind.parse().ok().map(MapType);
        let Some(kind) = MapType::from_name(kind).or_else(number) else {
            let kind = shorten(kind);
            return fail(
                at,
                format!("`{kind}` is no map type: write one such as HASH"),
            );
        };
        let key = self.field_of("key")?;
        let value = self.field_of("value")?;
        let entries = self.field_of("entries")?;
        self.scan.space();
        let flags = if self.scan.is_at_end() {
            0
        } else {
            self.field_of("flags")?
        };
        self.text.maps.push(MapShape {
            flags,
            ..MapShape::new(kind, name, key, value, entries)
        });
        Ok(())
    }

    fn section_line(&mut self) -> Res<()> {
        self.scan.space();
        let start = self.scan.at;
        let name = self.section_name()?;
        if self
            .text
            .sections
            .iter()
            .any(|section| section.name == name)
        {
            return fail(
                start,
                format!("section {name} is described twice: remove one"),
            );
        }
        self.scan.space();
        let mut bytes = Vec::new();
        while let (Some(high), Some(low)) =
            (hex_digit(self.scan.peek()), hex_digit(self.scan.peek_at(1)))
        {
            bytes.push(high << 4 | low);
            self.scan.at += 2;
        }
        self.scan.space();
        if !self.scan.is_at_end() {
            return self.scan.expected("bytes of two hexadecimal digits each");
        }
        self.text.sections.push(Section {
            name,
            bytes,
            symbols: Vec::new(),
        });
        Ok(())
    }

    fn var_line(&mut self) -> Res<()> {
        let name = self.token("the variable's name")?.to_owned();
        self.scan.space();
        let start = self.scan.at;
        let section = self.section_name()?;
        let offset = self.field_of("offset")?;
        let size = self.field_of("size")?;
        let Some(section) = self.text.sections.iter_mut().find(|s| s.name == section) else {
            return fail(
                start,
                format!("section {section} is not described above: move its line up"),
            );
        };
        let end = u64::from(offset) + u64::from(size);
        if end > u64::try_from(section.bytes.len()).unwrap_or(u64::MAX) {
            let (name, length) = (section.name, section.bytes.len());
            return fail(
                start,
                format!("section {name} has {length} bytes, this ends at {end}"),
            );
        }
        section.symbols.push((name, offset, size));
        Ok(())
    }

    fn func_line(&mut self) -> Res<()> {
        self.scan.space();
        let start = self.scan.at;
        let name = self.scan.word();
        if name.is_empty() {
            return self.scan.expected("the function's name");
        }
        let at = self.place_name(start, name)?;
        let params = self.params()?;
        self.text.funcs.push(Function {
            at,
            name: name.to_owned(),
            params,
        });
        Ok(())
    }

    /// What a global function takes.
    fn params(&mut self) -> Res<Option<Vec<Param>>> {
        if !self.scan.eat_word("takes") {
            return Ok(None);
        }
        let mut params = Vec::new();
        loop {
            self.scan.space();
            if self.scan.eat_word("number") {
                params.push(Param::Number);
            } else if self.scan.peek().is_ascii_digit() {
                params.push(Param::Bytes(self.small()?));
            } else {
                return Ok(Some(params));
            }
        }
    }

    /// Anything up to white space.
    fn token(&mut self, what: &str) -> Res<&'a str> {
        self.scan.space();
        let from = self.scan.at;
        while !matches!(self.scan.peek(), b' ' | b'\t' | b'\r' | b'\n' | b';') {
            self.scan.at += 1;
        }
        match self.scan.between(from, self.scan.at) {
            "" => self.scan.expected(what),
            token => Ok(token),
        }
    }

    /// `name 12`
    fn field_of(&mut self, name: &str) -> Res<u32> {
        if !self.scan.eat_word(name) {
            return self.scan.expected(&format!("`{name}` and a number"));
        }
        self.small()
    }

    /// A number of 32 bits.
    fn small(&mut self) -> Res<u32> {
        let number = self.scan.number("a number")?;
        match u32::try_from(number.magnitude) {
            Ok(v) if !number.negative => Ok(v),
            _ => fail(number.at, format!("{number} is not within 0 to 4294967295")),
        }
    }
}
