//! JSON, written.

use std::fmt::{self, Write};

/// A value. `Display` writes it on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number. Readers that know only floating point lose digits above 2^53.
    Number(i128),
    /// Text.
    Text(String),
    /// Values in an order.
    List(Vec<Json>),
    /// Values with names, in an order.
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    /// A list of what can become values.
    pub fn list<T: Into<Json>>(items: impl IntoIterator<Item = T>) -> Json {
        Json::List(items.into_iter().map(Into::into).collect())
    }

    /// Bytes as pairs of digits.
    #[must_use]
    pub fn hex(bytes: &[u8]) -> Json {
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            text.push_str(&format!("{byte:02x}"));
        }
        Json::Text(text)
    }
}

impl From<u32> for Json {
    fn from(number: u32) -> Json {
        Json::Number(number.into())
    }
}

impl From<i32> for Json {
    fn from(number: i32) -> Json {
        Json::Number(number.into())
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Json {
        Json::Number(number.into())
    }
}

impl From<u128> for Json {
    fn from(number: u128) -> Json {
        // No time or count of the kernel is that large.
        Json::Number(i128::try_from(number).unwrap_or(i128::MAX))
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Json {
        Json::Bool(value)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::Text(text)
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Json {
        value.map_or(Json::Null, Into::into)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => write!(f, "{value}"),
            Json::Number(number) => write!(f, "{number}"),
            Json::Text(text) => quote(f, text),
            Json::List(items) => {
                f.write_char('[')?;
                for (index, item) in items.iter().enumerate() {
                    f.write_str(if index > 0 { "," } else { "" })?;
                    item.fmt(f)?;
                }
                f.write_char(']')
            }
            Json::Object(members) => {
                f.write_char('{')?;
                for (index, (name, value)) in members.iter().enumerate() {
                    f.write_str(if index > 0 { "," } else { "" })?;
                    quote(f, name)?;
                    f.write_char(':')?;
                    value.fmt(f)?;
                }
                f.write_char('}')
            }
        }
    }
}

fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            // Those that terminals obey are spelled out too, and so are line ends of JavaScript.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                write!(f, "\\u{:04x}", u32::from(c))?;
            }
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::Json;

    #[test]
    fn values_are_written_on_one_line() {
        let value = Json::Object(vec![
            ("none", Json::Null),
            ("yes", true.into()),
            ("numbers", Json::list([0_u64, u64::MAX])),
            ("empty", Json::List(Vec::new())),
            ("nested", Json::Object(vec![("a", Json::from(-1_i32))])),
            ("bytes", Json::hex(&[0, 0xab])),
            ("nothing", None::<u32>.into()),
        ]);
        let expected = "{\"none\":null,\"yes\":true,\"numbers\":[0,18446744073709551615],\
                        \"empty\":[],\"nested\":{\"a\":-1},\"bytes\":\"00ab\",\"nothing\":null}";
        assert_eq!(value.to_string(), expected);
    }

    #[test]
    fn text_is_escaped() {
        let text = Json::from("a\"b\\c\n\t\r\0\u{1b}\u{7f}\u{9b}\u{2028}é😀");
        let expected = "\"a\\\"b\\\\c\\n\\t\\r\\u0000\\u001b\\u007f\\u009b\\u2028é😀\"";
        assert_eq!(text.to_string(), expected);
    }
}
