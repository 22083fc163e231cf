//! Requests out of bytes.

use super::feed::{Broken, Feed};
use super::message::{Method, Request, Response};
use super::{fields, target};

/// How many bytes a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The request line and the fields.
    pub head: usize,
    /// What comes after them.
    pub body: usize,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            head: 16 << 10,
            body: 16 << 20,
        }
    }
}

/// A request line may have a target of so many bytes.
const TARGET: usize = 8 << 10;
/// A head may have so many fields.
const FIELDS: usize = 64;

/// Why bytes are no request. The connection is of no more use, because nobody knows where the
/// next one would begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.row().1)]
#[non_exhaustive]
pub enum BadRequest {
    /// A line ends in something else than a carriage return and a line feed.
    LineEnding,
    /// The first line is not a method, a target and a version with one space between them.
    RequestLine,
    /// Not one of [`Method`].
    Method,
    /// Not a path, or one with dots, control characters, or bytes that are no text.
    Target,
    /// The target is too long.
    TargetLong,
    /// Not HTTP/1.1.
    Version,
    /// A line of the head is no name with a value.
    Field,
    /// A field that decides something is there twice.
    Twice,
    /// The head is too long.
    HeadLong,
    /// No host is named.
    Host,
    /// The length is no number.
    Length,
    /// There is a length and a transfer coding.
    LengthAndCoding,
    /// The body comes in chunks.
    Chunked,
    /// The body comes in some other coding.
    Coding,
    /// The body is too long.
    BodyLong,
    /// Something else is expected than to be told to continue.
    Expectation,
}

impl BadRequest {
    /// All of them.
    pub const ALL: [BadRequest; 16] = [
        BadRequest::LineEnding,
        BadRequest::RequestLine,
        BadRequest::Method,
        BadRequest::Target,
        BadRequest::TargetLong,
        BadRequest::Version,
        BadRequest::Field,
        BadRequest::Twice,
        BadRequest::HeadLong,
        BadRequest::Host,
        BadRequest::Length,
        BadRequest::LengthAndCoding,
        BadRequest::Chunked,
        BadRequest::Coding,
        BadRequest::BodyLong,
        BadRequest::Expectation,
    ];

    /// The status that it is answered with.
    pub const fn status(self) -> u16 {
        self.row().0
    }

    const fn row(self) -> (u16, &'static str) {
        match self {
            BadRequest::LineEnding => (400, "each line of a head ends in CR LF"),
            BadRequest::RequestLine => (400, "the first line is METHOD /path HTTP/1.1"),
            BadRequest::Method => (405, "the method is GET, POST, PUT, PATCH or DELETE"),
            BadRequest::Target => (
                400,
                "the target is a path whose segments are text, none of them dots",
            ),
            BadRequest::TargetLong => (414, "the target may have 8 KiB"),
            BadRequest::Version => (505, "only HTTP/1.1 is spoken here"),
            BadRequest::Field => (
                400,
                "each line of a head is a name, a colon, and a value in ASCII",
            ),
            BadRequest::Twice => (400, "host, length, coding and authorization are told once"),
            BadRequest::HeadLong => (431, "the head is too long"),
            BadRequest::Host => (400, "a request names its host"),
            BadRequest::Length => (400, "the content length is a number"),
            BadRequest::LengthAndCoding => (400, "there is a content length and a transfer coding"),
            BadRequest::Chunked => (
                411,
                "chunks are not read: send the body with its content length",
            ),
            BadRequest::Coding => (
                501,
                "no transfer coding is read: send the body with its content length",
            ),
            BadRequest::BodyLong => (413, "the body is too long"),
            BadRequest::Expectation => (417, "only 100-continue can be expected"),
        }
    }

    pub(super) fn response(self) -> Response {
        let response = Response::error(self.status(), self.row().1);
        match self {
            BadRequest::Method => response.with("Allow", "GET, POST, PUT, PATCH, DELETE"),
            _ => response,
        }
    }
}

/// What [`Parser::step`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing new: it takes more bytes.
    More,
    /// A head is complete, told once for each request: see [`Parser::head`].
    Head,
    /// A request is complete.
    Whole(Request),
}

/// Where a [`Parser`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing of the next request has come.
    Between,
    /// In a head.
    Head,
    /// In a body.
    Body,
}

/// Takes bytes in pieces of any size, gives requests.
///
/// ```
/// use bpfsmith_proxy::http::{Parser, Sizes, Step};
///
/// let mut parser = Parser::new(Sizes::default());
/// parser.push(b"GET /routes/10.0.0.0%2F8?all=1 HTTP/1.1\r\nHost: ");
/// assert_eq!(parser.step(), Ok(Step::More));
/// parser.push(b"x\r\n\r\n");
/// assert_eq!(parser.step(), Ok(Step::Head));
/// let Ok(Step::Whole(request)) = parser.step() else { panic!() };
/// assert_eq!(request.segments(), ["routes", "10.0.0.0/8"]);
/// assert_eq!(request.parameter("all"), Some("1"));
/// ```
#[derive(Debug)]
pub struct Parser {
    sizes: Sizes,
    feed: Feed,
    /// Bytes of the head so far.
    used: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Before the first line is complete.
    Line,
    /// In the fields.
    Fields(Request),
    /// In the body, of which so much is to come.
    Body(Request, usize),
    Failed(BadRequest),
}

impl Parser {
    /// One for a connection.
    pub fn new(sizes: Sizes) -> Parser {
        Parser {
            sizes,
            feed: Feed::default(),
            used: 0,
            state: State::Line,
        }
    }

    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.feed.push(bytes);
    }

    /// What is next. Requests come out in their order.
    ///
    /// # Errors
    /// When the bytes are no request; from then on always the same.
    pub fn step(&mut self) -> Result<Step, BadRequest> {
        let stepped = self.advance();
        if let Err(bad) = stepped {
            self.state = State::Failed(bad);
        }
        stepped
    }

    /// The request whose body is being read, still without it.
    pub fn head(&self) -> Option<&Request> {
        match &self.state {
            State::Body(request, _) => Some(request),
            _ => None,
        }
    }

    /// True if the body is not sent before somebody says that it may be.
    pub fn waits_for_continue(&self) -> bool {
        match &self.state {
            State::Body(request, left) => {
                *left > 0
                    && self.feed.is_empty()
                    && request.body.is_empty()
                    && request.field("expect").is_some()
            }
            _ => false,
        }
    }

    /// Where it is.
    pub fn stage(&self) -> Stage {
        match self.state {
            State::Line if self.feed.is_empty() => Stage::Between,
            State::Body(..) => Stage::Body,
            _ => Stage::Head,
        }
    }

    fn advance(&mut self) -> Result<Step, BadRequest> {
        loop {
            match std::mem::replace(&mut self.state, State::Line) {
                State::Failed(bad) => return Err(bad),
                State::Line => {
                    let Some(line) = self.line()? else {
                        return Ok(Step::More);
                    };
                    self.state = State::Fields(request_line(line)?);
                }
                State::Fields(mut request) => {
                    let Some(line) = self.line()? else {
                        self.state = State::Fields(request);
                        return Ok(Step::More);
                    };
                    if line.is_empty() {
                        self.used = 0;
                        let length = body_length(&request, self.sizes.body)?;
                        request.keep = !closes(&request);
                        self.state = State::Body(request, length);
                        return Ok(Step::Head);
                    }
                    let field = fields::field(line).ok_or(BadRequest::Field)?;
                    add(&mut request, field)?;
                    self.state = State::Fields(request);
                }
                State::Body(mut request, left) => {
                    let bytes = self.feed.take(left);
                    let left = left - bytes.len();
                    request.body.extend_from_slice(bytes);
                    if left == 0 {
                        return Ok(Step::Whole(request));
                    }
                    self.state = State::Body(request, left);
                    return Ok(Step::More);
                }
            }
        }
    }

    fn line(&mut self) -> Result<Option<&[u8]>, BadRequest> {
        let room = self.sizes.head.saturating_sub(self.used);
        match self.feed.line(room) {
            Ok(Some(line)) => {
                self.used += line.len() + 2;
                Ok(Some(line))
            }
            Ok(None) => Ok(None),
            Err(Broken::Ending) => Err(BadRequest::LineEnding),
            Err(Broken::Long) => Err(BadRequest::HeadLong),
        }
    }
}

fn request_line(line: &[u8]) -> Result<Request, BadRequest> {
    let mut words = line.split(|&b| b == b' ');
    let (Some(method), Some(text), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BadRequest::RequestLine);
    };
    if !fields::is_token(method) || !version.starts_with(b"HTTP/") {
        return Err(BadRequest::RequestLine);
    }
    if version != b"HTTP/1.1" {
        return Err(BadRequest::Version);
    }
    let method = Method::of(method).ok_or(BadRequest::Method)?;
    if text.len() > TARGET {
        return Err(BadRequest::TargetLong);
    }
    let (path, query) = target::parts(text).ok_or(BadRequest::Target)?;
    let mut request = Request::new(method, &[]);
    (request.path, request.query) = (path, query);
    Ok(request)
}

/// Fields that decide something, and of which a second one might decide otherwise.
const ONCE: [&str; 5] = [
    "host",
    "content-length",
    "transfer-encoding",
    "authorization",
    "expect",
];

fn add(request: &mut Request, field: (String, String)) -> Result<(), BadRequest> {
    if ONCE.contains(&field.0.as_str()) && request.field(&field.0).is_some() {
        return Err(BadRequest::Twice);
    }
    if request.fields.len() == FIELDS {
        return Err(BadRequest::HeadLong);
    }
    request.fields.push(field);
    Ok(())
}

fn body_length(request: &Request, most: usize) -> Result<usize, BadRequest> {
    if request.field("host").is_none() {
        return Err(BadRequest::Host);
    }
    let length = match (
        request.field("content-length"),
        request.field("transfer-encoding"),
    ) {
        (None, None) => 0,
        (Some(_), Some(_)) => return Err(BadRequest::LengthAndCoding),
        (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => {
            return Err(BadRequest::Chunked);
        }
        (None, Some(_)) => return Err(BadRequest::Coding),
        (Some(text), None) => {
            let length = fields::length(text).ok_or(BadRequest::Length)?;
            let fits = length.filter(|&length| length <= most);
            fits.ok_or(BadRequest::BodyLong)?
        }
    };
    match request.field("expect") {
        Some(what) if !what.eq_ignore_ascii_case("100-continue") => Err(BadRequest::Expectation),
        _ => Ok(length),
    }
}

fn closes(request: &Request) -> bool {
    let mut connection = request
        .fields
        .iter()
        .filter(|(name, _)| name == "connection");
    connection.any(|(_, value)| fields::lists(value, "close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(bytes: &[u8]) -> Result<Step, BadRequest> {
        let mut parser = Parser::new(Sizes {
            head: 1000,
            body: 10,
        });
        parser.push(bytes);
        match parser.step()? {
            Step::Head => parser.step(),
            step => Ok(step),
        }
    }

    #[test]
    fn what_is_refused_and_how() {
        let long = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
            "a".repeat(1000)
        );
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A:\r\n".repeat(64));
        let rows: &[(&str, BadRequest)] = &[
            ("GET / HTTP/1.1\nHost: x\n\n", BadRequest::LineEnding),
            ("GET / HTTP/1.1\r\nHost: x\n\r\n", BadRequest::LineEnding),
            ("\r\nGET / HTTP/1.1\r\n", BadRequest::RequestLine),
            ("GET  / HTTP/1.1\r\n", BadRequest::RequestLine),
            ("GET / HTTP/1.1 \r\n", BadRequest::RequestLine),
            ("GET\t/ HTTP/1.1\r\n", BadRequest::RequestLine),
            ("GET /\r\n", BadRequest::RequestLine),
            ("G\u{1}T / HTTP/1.1\r\n", BadRequest::RequestLine),
            ("GET / HTTP/1.0\r\n", BadRequest::Version),
            ("PRI * HTTP/2.0\r\n", BadRequest::Version),
            ("HEAD / HTTP/1.1\r\n", BadRequest::Method),
            ("get / HTTP/1.1\r\n", BadRequest::Method),
            ("GET http://x/ HTTP/1.1\r\n", BadRequest::Target),
            ("GET /.. HTTP/1.1\r\n", BadRequest::Target),
            ("GET / HTTP/1.1\r\nHost : x\r\n", BadRequest::Field),
            ("GET / HTTP/1.1\r\nHost: x\r\n y\r\n", BadRequest::Field),
            ("GET / HTTP/1.1\r\nHost: x\ry\r\n", BadRequest::Field),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nhost: x\r\n",
                BadRequest::Twice,
            ),
            ("GET / HTTP/1.1\r\n\r\n", BadRequest::Host),
            (&long, BadRequest::HeadLong),
            (&many, BadRequest::HeadLong),
        ];
        for (text, expected) in rows {
            assert_eq!(first(text.as_bytes()), Err(*expected), "{text:?}");
        }
        let fields: &[(&str, BadRequest)] = &[
            ("Content-Length: 1\r\nContent-Length: 1", BadRequest::Twice),
            ("Content-Length: 1, 1", BadRequest::Length),
            ("Content-Length: +1", BadRequest::Length),
            ("Content-Length:", BadRequest::Length),
            ("Content-Length: 11", BadRequest::BodyLong),
            (
                "Content-Length: 99999999999999999999999",
                BadRequest::BodyLong,
            ),
            (
                "Content-Length: 1\r\nTransfer-Encoding: chunked",
                BadRequest::LengthAndCoding,
            ),
            ("Transfer-Encoding: Chunked", BadRequest::Chunked),
            ("Transfer-Encoding: gzip, chunked", BadRequest::Coding),
            ("Transfer-Encoding:", BadRequest::Coding),
            (
                "Transfer-Encoding: a\r\nTransfer-Encoding: a",
                BadRequest::Twice,
            ),
            ("Authorization: a\r\nAuthorization: b", BadRequest::Twice),
            ("Expect: more", BadRequest::Expectation),
        ];
        for (lines, expected) in fields {
            let text = format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n");
            assert_eq!(first(text.as_bytes()), Err(*expected), "{text:?}");
        }
    }

    #[test]
    fn a_long_target_has_its_own_answer() {
        let mut parser = Parser::new(Sizes::default());
        parser.push(format!("GET /{} HTTP/1.1\r\n", "a".repeat(TARGET)).as_bytes());
        assert_eq!(parser.step(), Err(BadRequest::TargetLong));
        // It stays that way.
        parser.push(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(parser.step(), Err(BadRequest::TargetLong));
    }

    #[test]
    fn requests_come_out_in_their_order() {
        let mut parser = Parser::new(Sizes::default());
        assert_eq!(parser.stage(), Stage::Between);
        parser.push(b"PUT /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab");
        assert_eq!(parser.step(), Ok(Step::Head));
        assert_eq!(parser.head().unwrap().path, ["1"]);
        assert_eq!(parser.step(), Ok(Step::More));
        assert_eq!(parser.stage(), Stage::Body);
        parser.push(b"cDELETE /2 HTTP/1.1\r\nHost: x\r\nConnection: x, Close\r\n\r\nG");
        let Ok(Step::Whole(one)) = parser.step() else {
            panic!()
        };
        assert_eq!((one.body.as_slice(), one.keep), (b"abc".as_slice(), true));
        assert_eq!(parser.step(), Ok(Step::Head));
        let Ok(Step::Whole(two)) = parser.step() else {
            panic!()
        };
        assert_eq!((two.method, two.keep), (Method::DELETE, false));
        assert_eq!(parser.step(), Ok(Step::More));
        assert_eq!(parser.stage(), Stage::Head);
    }

    #[test]
    fn whoever_expects_to_be_told_is_known() {
        let mut parser = Parser::new(Sizes::default());
        parser.push(
            b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n",
        );
        assert_eq!(parser.step(), Ok(Step::Head));
        assert!(parser.waits_for_continue());
        parser.push(b"a");
        assert!(!parser.waits_for_continue());
        assert!(matches!(parser.step(), Ok(Step::Whole(_))));
        assert!(!parser.waits_for_continue());
    }

    #[test]
    fn each_refusal_has_a_status_and_a_line() {
        for bad in BadRequest::ALL {
            assert!((400..600).contains(&bad.status()), "{bad}");
            assert!(!bad.to_string().is_empty() && !bad.to_string().contains('\n'));
        }
    }
}
