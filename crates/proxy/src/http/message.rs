//! Requests and responses.

use bpfsmith_config::{Value, json};
use std::fmt;

/// What a request wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Tell.
    GET,
    /// Make, or do.
    POST,
    /// Put in place of what is there.
    PUT,
    /// Change a part.
    PATCH,
    /// Take away.
    DELETE,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 5] = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];

    /// As it stands in a request.
    pub const fn name(self) -> &'static str {
        match self {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
        }
    }

    pub(super) fn of(token: &[u8]) -> Option<Method> {
        let mut all = Method::ALL.into_iter();
        all.find(|method| method.name().as_bytes() == token)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What somebody wants. It prints without the values of its fields, which may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// With what: the segments of the path, decoded each, so that one may hold a slash. None for `/`.
    pub path: Vec<String>,
    /// Names and values after the question mark, decoded, in their order.
    pub query: Vec<(String, String)>,
    /// Names, in small letters, and values of the head.
    pub fields: Vec<(String, String)>,
    /// What came after the head.
    pub body: Vec<u8>,
    /// Whether the connection is of use for another one.
    pub(super) keep: bool,
}

impl Request {
    /// A request without parameters, fields and body, as tests of a handler need it.
    pub fn new(method: Method, path: &[&str]) -> Request {
        Request {
            method,
            path: path.iter().map(|&segment| segment.to_owned()).collect(),
            query: Vec::new(),
            fields: Vec::new(),
            body: Vec::new(),
            keep: true,
        }
    }

    /// The path, to match patterns with.
    pub fn segments(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// The first value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let pair = self.query.iter().find(|(n, _)| n == name);
        pair.map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub fn parameters<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let pairs = self.query.iter().filter(move |(n, _)| n == name);
        pairs.map(|(_, value)| value.as_str())
    }

    /// The value of the first field of the name, which is written in small letters.
    pub fn field(&self, name: &str) -> Option<&str> {
        let row = self.fields.iter().find(|(n, _)| n == name);
        row.map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<&str> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("query", &self.query)
            .field("fields", &fields)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish_non_exhaustive()
    }
}

/// What is answered, all at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The number that says how it went.
    pub status: u16,
    /// What the body is.
    pub content_type: &'static str,
    /// What is told.
    pub body: Vec<u8>,
    /// More fields. They are constants, so that no request can write one.
    pub fields: Vec<(&'static str, &'static str)>,
}

impl Response {
    /// An answer of any type.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Response {
        Response {
            status,
            content_type,
            body: body.into(),
            fields: Vec::new(),
        }
    }

    /// JSON that is written already.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Response {
        Response::new(status, "application/json", body)
    }

    /// Text.
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Response {
        Response::new(status, "text/plain; charset=utf-8", body)
    }

    /// Done, and there is nothing to tell.
    pub fn empty() -> Response {
        Response::new(204, "", [])
    }

    /// `{"error":"…"}`: why not, in one line.
    pub fn error(status: u16, message: &str) -> Response {
        let error = Value::table([("error", message.into())]);
        Response::json(status, json::write(&error) + "\n")
    }

    /// One more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &'static str) -> Response {
        self.fields.push((name, value));
        self
    }

    /// All of it as it goes out.
    pub(super) fn bytes(&self, after: After) -> Vec<u8> {
        let mut head = opening(self.status);
        if has_body(self.status) {
            let (kind, length) = (self.content_type, self.body.len());
            head.push_str(&format!(
                "Content-Type: {kind}\r\nContent-Length: {length}\r\n"
            ));
        }
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(after.line());
        let mut bytes = head.into_bytes();
        if has_body(self.status) {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// The head before a body that comes piece by piece.
pub(super) fn stream_head(content_type: &str, after: After) -> Vec<u8> {
    let mut head = opening(200);
    head.push_str(&format!(
        "Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"
    ));
    head.push_str(after.line());
    head.into_bytes()
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It waits for the next request.
    Keep,
    /// It ends.
    Close,
}

impl After {
    const fn line(self) -> &'static str {
        match self {
            After::Keep => "\r\n",
            After::Close => "Connection: close\r\n\r\n",
        }
    }
}

fn opening(status: u16) -> String {
    let reason = reason(status);
    format!(
        "HTTP/1.1 {status} {reason}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
    )
}

/// False for answers that are over with their head.
pub(super) const fn has_body(status: u16) -> bool {
    !(matches!(status, 204 | 304) || status < 200)
}

/// The words after a status, which no program reads.
const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_says_its_length() {
        let bytes = Response::text(200, "hi").bytes(After::Keep);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("\r\nContent-Length: 2\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nhi"), "{text}");
        assert!(!text.contains("Connection"), "{text}");
        assert!(!text.to_lowercase().contains("access-control"), "{text}");
    }

    #[test]
    fn nothing_follows_where_nothing_may() {
        let mut response = Response::empty().with("X-A", "b");
        response.body = b"lost".to_vec();
        let text = String::from_utf8(response.bytes(After::Close)).unwrap();
        assert!(
            text.ends_with("X-A: b\r\nConnection: close\r\n\r\n"),
            "{text}"
        );
        assert!(!text.contains("Content-Length"), "{text}");
    }

    #[test]
    fn errors_are_json() {
        let response = Response::error(400, "a \"b\" \\ \n\u{e4}");
        assert_eq!(
            String::from_utf8(response.body).unwrap(),
            "{\"error\":\"a \\\"b\\\" \\\\ \\n\u{e4}\"}\n"
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut request = Request::new(Method::GET, &["a"]);
        let field = ("authorization".to_owned(), "Bearer s3cret".to_owned());
        request.fields.push(field);
        request.body = b"s3cret".to_vec();
        let text = format!("{request:?}");
        assert!(
            text.contains("authorization") && !text.contains("s3cret"),
            "{text}"
        );
    }
}
