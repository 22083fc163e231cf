//! EDN, as far as configurations are written in it.
//!
//! Keywords are text, and maps whose names are keywords or strings are tables; vectors, lists and sets are lists.
//! Characters, symbols, ratios and tagged values mean nothing in a configuration, and are refused.

use crate::problem::Problems;
use crate::scan::{self, Scan};
use crate::value::{Entry, Kind, Value};

/// Reads a text that is one value.
///
/// # Errors
/// When it is not, or a map has a name twice, or it is very deep.
pub fn read(text: &str) -> Result<Value, Problems> {
    let mut scan = Scan::new(text);
    space(&mut scan)?;
    let value = value(&mut scan)?;
    space(&mut scan)?;
    match scan.peek() {
        None => Ok(value),
        Some(_) => Err(scan.not("the end of the text")),
    }
}

/// White space, commas, comments, and values that are to be left out.
fn space(scan: &mut Scan<'_>) -> Result<(), Problems> {
    loop {
        scan.take_while(|it| it.is_whitespace() || it == ',');
        if scan.peek() == Some(';') {
            scan.take_while(|it| it != '\n');
        } else if scan.rest().starts_with("#_") {
            scan.next();
            scan.next();
            scan.deeper(|scan| {
                space(scan)?;
                value(scan)
            })?;
        } else {
            return Ok(());
        }
    }
}

fn value(scan: &mut Scan<'_>) -> Result<Value, Problems> {
    let at = scan.at();
    let kind = match scan.peek() {
        Some('{') => scan.deeper(map)?,
        Some('[') => scan.deeper(|scan| list(scan, ']'))?,
        Some('(') => scan.deeper(|scan| list(scan, ')'))?,
        Some('#') if scan.rest().starts_with("#{") => {
            scan.next();
            scan.deeper(|scan| list(scan, '}'))?
        }
        Some('"') => Kind::Text(text(scan)?),
        Some(':') => Kind::Text(keyword(scan)?),
        Some(it) if is_word(it) => word(scan)?,
        _ => return Err(scan.not("a value")),
    };
    Ok(Value { at, kind })
}

fn is_word(it: char) -> bool {
    it.is_ascii_alphanumeric() || "*!_?$%&=<>|+-./'".contains(it)
}

fn keyword(scan: &mut Scan<'_>) -> Result<String, Problems> {
    scan.next();
    match scan.take_while(|it| is_word(it) || matches!(it, ':' | '#')) {
        "" => Err(scan.not("the name of a keyword")),
        name => Ok(name.to_owned()),
    }
}

fn word(scan: &mut Scan<'_>) -> Result<Kind, Problems> {
    let at = scan.at();
    let word = scan.take_while(is_word);
    match word {
        "nil" => return Ok(Kind::Null),
        "true" => return Ok(Kind::Bool(true)),
        "false" => return Ok(Kind::Bool(false)),
        _ => {}
    }
    let is_number = word.trim_start_matches(['+', '-']);
    if is_number.starts_with(|it: char| it.is_ascii_digit()) {
        let whole = word.strip_suffix('N').unwrap_or(word);
        if let Ok(number) = whole.parse() {
            return Ok(Kind::Int(number));
        }
        let float = word.strip_suffix('M').unwrap_or(word);
        if let Ok(number) = float.parse::<f64>()
            && number.is_finite()
        {
            return Ok(Kind::Float(number));
        }
    }
    let what = format!("{word} is neither a number nor nil, true or false: put text in quotes");
    Err(Problems::one(at, what))
}

fn list(scan: &mut Scan<'_>, end: char) -> Result<Kind, Problems> {
    scan.next();
    let mut list = Vec::new();
    loop {
        space(scan)?;
        if scan.took(end) {
            return Ok(Kind::List(list));
        }
        list.push(value(scan)?);
    }
}

fn map(scan: &mut Scan<'_>) -> Result<Kind, Problems> {
    scan.next();
    let mut entries = Vec::new();
    loop {
        space(scan)?;
        if scan.took('}') {
            return scan::table(entries);
        }
        let name = value(scan)?;
        let (at, Kind::Text(key)) = (name.at, name.kind) else {
            return Err(Problems::one(name.at, "a name is a keyword or a string"));
        };
        space(scan)?;
        let value = value(scan)?;
        entries.push(Entry { at, key, value });
    }
}

fn text(scan: &mut Scan<'_>) -> Result<String, Problems> {
    scan.next();
    let mut text = String::new();
    loop {
        text.push_str(scan.take_while(|it| it != '"' && it != '\\'));
        if scan.took('"') {
            return Ok(text);
        }
        if !scan.took('\\') {
            return Err(scan.not("the closing quote"));
        }
        let wrong = scan.not("one of \" \\ b f n r t u");
        text.push(match scan.next() {
            Some(it @ ('"' | '\\')) => it,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => char::from_u32(scan.unit()?)
                .ok_or_else(|| scan.wrong("this is half of a character"))?,
            _ => return Err(wrong),
        });
    }
}
