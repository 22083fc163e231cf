//! JSON, as RFC 8259 has it.

use crate::problem::Problems;
use crate::scan::{self, Scan};
use crate::value::{Entry, Kind, Value};
use std::fmt::Write;

/// Reads a text that is one value.
///
/// # Errors
/// When it is not, or a table has a name twice, or it is very deep.
pub fn read(text: &str) -> Result<Value, Problems> {
    let mut scan = Scan::new(text);
    space(&mut scan);
    let value = value(&mut scan)?;
    space(&mut scan);
    match scan.peek() {
        None => Ok(value),
        Some(_) => Err(scan.not("the end of the text")),
    }
}

fn space(scan: &mut Scan<'_>) {
    scan.take_while(|it| matches!(it, ' ' | '\t' | '\r' | '\n'));
}

fn value(scan: &mut Scan<'_>) -> Result<Value, Problems> {
    let at = scan.at();
    let kind = match scan.peek() {
        Some('{') => scan.deeper(table)?,
        Some('[') => scan.deeper(list)?,
        Some('"') => Kind::Text(text(scan)?),
        Some('-' | '0'..='9') => number(scan)?,
        Some('a'..='z') => word(scan)?,
        _ => return Err(scan.not("a value")),
    };
    Ok(Value { at, kind })
}

fn word(scan: &mut Scan<'_>) -> Result<Kind, Problems> {
    let wrong = scan.not("a value");
    match scan.take_while(|it| it.is_ascii_alphanumeric()) {
        "null" => Ok(Kind::Null),
        "true" => Ok(Kind::Bool(true)),
        "false" => Ok(Kind::Bool(false)),
        _ => Err(wrong),
    }
}

/// What is between an opening and a closing bracket, with commas.
fn items(
    scan: &mut Scan<'_>,
    end: char,
    mut item: impl FnMut(&mut Scan<'_>) -> Result<(), Problems>,
) -> Result<(), Problems> {
    scan.next();
    space(scan);
    if scan.took(end) {
        return Ok(());
    }
    loop {
        item(scan)?;
        space(scan);
        if scan.took(end) {
            return Ok(());
        }
        if !scan.took(',') {
            return Err(scan.not(&format!("a comma or {end:?}")));
        }
        space(scan);
    }
}

fn table(scan: &mut Scan<'_>) -> Result<Kind, Problems> {
    let mut entries = Vec::new();
    items(scan, '}', |scan| {
        let at = scan.at();
        if scan.peek() != Some('"') {
            return Err(scan.not("a name in quotes"));
        }
        let key = text(scan)?;
        space(scan);
        if !scan.took(':') {
            return Err(scan.not("a colon"));
        }
        space(scan);
        let value = value(scan)?;
        entries.push(Entry { at, key, value });
        Ok(())
    })?;
    scan::table(entries)
}

fn list(scan: &mut Scan<'_>) -> Result<Kind, Problems> {
    let mut list = Vec::new();
    items(scan, ']', |scan| {
        list.push(value(scan)?);
        Ok(())
    })?;
    Ok(Kind::List(list))
}

fn number(scan: &mut Scan<'_>) -> Result<Kind, Problems> {
    let wrong = scan.not("a number");
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let text = scan.take_while(|it| matches!(it, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, part) = match mantissa.split_once('.') {
        Some((whole, part)) => (whole, Some(part)),
        None => (mantissa, None),
    };
    let whole = whole.strip_prefix('-').unwrap_or(whole);
    let is_one = digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && part.is_none_or(digits)
        && exponent.is_none_or(|it| digits(it.strip_prefix(['+', '-']).unwrap_or(it)));
    if !is_one {
        return Err(wrong);
    }
    if part.is_none()
        && exponent.is_none()
        && let Ok(number) = text.parse()
    {
        return Ok(Kind::Int(number));
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Kind::Float(number)),
        _ => Err(wrong),
    }
}

fn text(scan: &mut Scan<'_>) -> Result<String, Problems> {
    scan.next();
    let mut text = String::new();
    loop {
        text.push_str(scan.take_while(|it| it >= ' ' && it != '"' && it != '\\'));
        match scan.peek() {
            Some('"') => {
                scan.next();
                return Ok(text);
            }
            Some('\\') => {
                scan.next();
                text.push(escaped(scan)?);
            }
            _ => return Err(scan.not("the closing quote")),
        }
    }
}

fn escaped(scan: &mut Scan<'_>) -> Result<char, Problems> {
    let wrong = scan.not("one of \" \\ / b f n r t u");
    match scan.next() {
        Some(it @ ('"' | '\\' | '/')) => Ok(it),
        Some('b') => Ok('\u{8}'),
        Some('f') => Ok('\u{c}'),
        Some('n') => Ok('\n'),
        Some('r') => Ok('\r'),
        Some('t') => Ok('\t'),
        Some('u') => {
            let first = scan.unit()?;
            let code = match first {
                0xd800..0xdc00 if scan.took('\\') && scan.took('u') => match scan.unit()? {
                    second @ 0xdc00..0xe000 => {
                        0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    _ => first,
                },
                _ => first,
            };
            let half = || scan.wrong("this is half of a character: its other half is missing");
            char::from_u32(code).ok_or_else(half)
        }
        _ => Err(wrong),
    }
}

/// The value on one line.
#[must_use]
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    put(&mut out, value);
    out
}

fn put(out: &mut String, value: &Value) {
    match &value.kind {
        Kind::Null => out.push_str("null"),
        Kind::Bool(it) => out.push_str(if *it { "true" } else { "false" }),
        Kind::Int(it) => put_display(out, it),
        // JSON has no others.
        Kind::Float(it) if !it.is_finite() => out.push_str("null"),
        // A whole one stays one that is not.
        Kind::Float(it) => put_display(out, format_args!("{it:?}")),
        Kind::Text(it) => put_text(out, it),
        Kind::List(list) => {
            put_all(out, ['[', ']'], list, put);
        }
        Kind::Table(entries) => put_all(out, ['{', '}'], entries, |out, entry| {
            put_text(out, &entry.key);
            out.push(':');
            put(out, &entry.value);
        }),
    }
}

fn put_display(out: &mut String, it: impl std::fmt::Display) {
    out.push_str(&it.to_string());
}

fn put_all<T>(
    out: &mut String,
    [open, close]: [char; 2],
    items: &[T],
    mut each: impl FnMut(&mut String, &T),
) {
    out.push(open);
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        each(out, item);
    }
    out.push(close);
}

fn put_text(out: &mut String, text: &str) {
    out.push('"');
    for it in text.chars() {
        match it {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            it if it < ' ' => {
                // Writing into a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(it));
            }
            it => out.push(it),
        }
    }
    out.push('"');
}
