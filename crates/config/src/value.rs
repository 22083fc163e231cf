//! Values that know where they come from.

use std::fmt;

/// Where something begins in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// The line, from 1.
    pub line: u32,
    /// The character in it, from 1.
    pub column: u32,
}

impl At {
    /// The place of a byte of a text.
    #[must_use]
    pub fn of(text: &str, byte: usize) -> At {
        let mut end = byte.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line = before.rsplit('\n').next().unwrap_or_default();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
        At {
            line: number(before.matches('\n').count()),
            column: number(line.chars().count()),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A value in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Where it begins.
    pub at: At,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Nothing. TOML has none.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Text; of EDN, also a keyword, without its colon.
    Text(String),
    /// Values in order.
    List(Vec<Value>),
    /// Values by name, in the order of the text. No name is there twice.
    Table(Vec<Entry>),
}

/// A value with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where the name begins.
    pub at: At,
    /// The name.
    pub key: String,
    /// The value.
    pub value: Value,
}

impl Value {
    /// A value that comes from no text.
    #[must_use]
    pub const fn new(kind: Kind) -> Value {
        Value {
            at: At { line: 0, column: 0 },
            kind,
        }
    }

    /// A table of these, in their order. Names are not looked at.
    #[must_use]
    pub fn table<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
        let entry = |(key, value): (K, Value)| Entry {
            at: At::default(),
            key: key.into(),
            value,
        };
        Value::new(Kind::Table(entries.into_iter().map(entry).collect()))
    }

    /// A list of these.
    #[must_use]
    pub fn list(values: impl IntoIterator<Item = Value>) -> Value {
        Value::new(Kind::List(values.into_iter().collect()))
    }

    /// Text, as something is shown.
    #[must_use]
    pub fn shown(it: impl fmt::Display) -> Value {
        Value::new(Kind::Text(it.to_string()))
    }

    /// The value of that name, if this is a table and has one.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        match &self.kind {
            Kind::Table(entries) => {
                let mut entries = entries.iter();
                entries.find(|it| it.key == key).map(|it| &it.value)
            }
            _ => None,
        }
    }

    /// The same value without its places, to be compared.
    #[must_use]
    pub fn bare(&self) -> Value {
        let kind = match &self.kind {
            Kind::List(list) => Kind::List(list.iter().map(Value::bare).collect()),
            Kind::Table(entries) => {
                let bare = |entry: &Entry| Entry {
                    at: At::default(),
                    key: entry.key.clone(),
                    value: entry.value.bare(),
                };
                Kind::Table(entries.iter().map(bare).collect())
            }
            other => other.clone(),
        };
        Value::new(kind)
    }
}

impl From<bool> for Value {
    fn from(it: bool) -> Value {
        Value::new(Kind::Bool(it))
    }
}

impl From<&str> for Value {
    fn from(it: &str) -> Value {
        Value::new(Kind::Text(it.to_owned()))
    }
}

impl From<String> for Value {
    fn from(it: String) -> Value {
        Value::new(Kind::Text(it))
    }
}

impl From<f64> for Value {
    fn from(it: f64) -> Value {
        Value::new(Kind::Float(it))
    }
}

macro_rules! whole {
    ($($name:ident)+) => {$(
        impl From<$name> for Value {
            /// The largest number stands for those above it.
            fn from(it: $name) -> Value {
                Value::new(Kind::Int(i64::try_from(it).unwrap_or(i64::MAX)))
            }
        }
    )+};
}

whole! { u8 u16 u32 u64 usize i64 }

impl<T: Into<Value>> From<Option<T>> for Value {
    /// Nothing is `null`.
    fn from(it: Option<T>) -> Value {
        it.map_or(Value::new(Kind::Null), Into::into)
    }
}

/// As an error tells it: short, whatever it is.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 40;
        match &self.kind {
            Kind::Null => f.write_str("nothing"),
            Kind::Bool(it) => write!(f, "{it}"),
            Kind::Int(it) => write!(f, "{it}"),
            Kind::Float(it) => write!(f, "{it}"),
            Kind::Text(it) if it.chars().count() > MOST => {
                let begin: String = it.chars().take(MOST).collect();
                write!(f, "{begin:?}…")
            }
            Kind::Text(it) => write!(f, "{it:?}"),
            Kind::List(list) => write!(f, "a list of {}", list.len()),
            Kind::Table(entries) => write!(f, "a table of {}", entries.len()),
        }
    }
}
