//! A reader of JSON that is as strict as its definition, for what commands print.

#![allow(
    dead_code,
    reason = "each test that includes this file uses another part"
)]

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(i128),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
}

impl Value {
    #[track_caller]
    pub(crate) fn at(&self, name: &str) -> &Value {
        match self {
            Value::Object(members) => {
                let found = members.iter().find(|member| member.0 == name);
                &found.unwrap_or_else(|| panic!("no {name} in {self:?}")).1
            }
            other => panic!("no object: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn list(&self) -> &[Value] {
        match self {
            Value::List(items) => items,
            other => panic!("no list: {other:?}"),
        }
    }

    /// The item of a list whose member is this number.
    #[track_caller]
    pub(crate) fn find(&self, name: &str, number: i128) -> &Value {
        let found = self
            .list()
            .iter()
            .find(|item| item.at(name).number() == number);
        found.unwrap_or_else(|| panic!("no {name} {number}"))
    }

    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        match self {
            Value::Text(text) => text,
            other => panic!("no text: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn number(&self) -> i128 {
        match self {
            Value::Number(number) => *number,
            other => panic!("no number: {other:?}"),
        }
    }
}

/// Reads one value and the white space around it, or says where it is none.
pub(crate) fn parse(text: &str) -> Result<Value, usize> {
    let mut reader = Reader {
        bytes: text.as_bytes(),
        at: 0,
    };
    let value = reader.value()?;
    reader.blank();
    match reader.at == text.len() {
        true => Ok(value),
        false => Err(reader.at),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn take(&mut self, token: &str) -> Result<(), usize> {
        self.blank();
        match self.bytes[self.at..].starts_with(token.as_bytes()) {
            true => {
                self.at += token.len();
                Ok(())
            }
            false => Err(self.at),
        }
    }

    fn value(&mut self) -> Result<Value, usize> {
        self.blank();
        match self.peek() {
            Some(b'n') => self.take("null").map(|()| Value::Null),
            Some(b't') => self.take("true").map(|()| Value::Bool(true)),
            Some(b'f') => self.take("false").map(|()| Value::Bool(false)),
            Some(b'"') => self.text().map(Value::Text),
            Some(b'[') => self.list(),
            Some(b'{') => self.object(),
            _ => self.number(),
        }
    }

    fn number(&mut self) -> Result<Value, usize> {
        let start = self.at;
        let is_part = |b: &u8| b.is_ascii_digit() || *b == b'-';
        let count = self.bytes[start..]
            .iter()
            .take_while(|b| is_part(b))
            .count();
        self.at += count;
        let text = std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| start)?;
        let number: i128 = text.parse().map_err(|_| start)?;
        // No zeros in front.
        match number.to_string() == text {
            true => Ok(Value::Number(number)),
            false => Err(start),
        }
    }

    fn text(&mut self) -> Result<String, usize> {
        self.take("\"")?;
        let mut out = Vec::new();
        loop {
            let at = self.at;
            let byte = self.peek().ok_or(at)?;
            self.at += 1;
            match byte {
                b'"' => return String::from_utf8(out).map_err(|_| at),
                b'\\' => out.extend(self.escape()?.to_string().bytes()),
                0..0x20 => return Err(at),
                byte => out.push(byte),
            }
        }
    }

    fn escape(&mut self) -> Result<char, usize> {
        let at = self.at;
        let byte = self.peek().ok_or(at)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'u' => {
                let digits = self.bytes.get(self.at..self.at + 4).ok_or(at)?;
                let digits = std::str::from_utf8(digits).map_err(|_| at)?;
                self.at += 4;
                let code = u32::from_str_radix(digits, 16).map_err(|_| at)?;
                char::from_u32(code).ok_or(at)?
            }
            _ => return Err(at),
        })
    }

    fn list(&mut self) -> Result<Value, usize> {
        self.take("[")?;
        let mut items = Vec::new();
        if self.take("]").is_ok() {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value()?);
            if self.take(",").is_err() {
                return self.take("]").map(|()| Value::List(items));
            }
        }
    }

    fn object(&mut self) -> Result<Value, usize> {
        self.take("{")?;
        let mut members: Vec<(String, Value)> = Vec::new();
        if self.take("}").is_ok() {
            return Ok(Value::Object(members));
        }
        loop {
            self.blank();
            let (at, name) = (self.at, self.text()?);
            if members.iter().any(|member| member.0 == name) {
                return Err(at);
            }
            self.take(":")?;
            members.push((name, self.value()?));
            if self.take(",").is_err() {
                return self.take("}").map(|()| Value::Object(members));
            }
        }
    }
}
