//! Questions that requests are asked, whatever their bytes are: for tests and the fuzzer.

use bpfsmith_proxy::http::{BadRequest, Parser, Request, Sizes, Step, target};

/// Small, so that they are reached.
pub(crate) const SIZES: Sizes = Sizes {
    head: 600,
    body: 300,
};

/// What came out, and how it ended.
#[derive(Debug, PartialEq)]
pub(crate) struct Read {
    pub(crate) requests: Vec<Request>,
    pub(crate) end: Result<(), BadRequest>,
}

/// Reads what comes in pieces.
pub(crate) fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let mut parser = Parser::new(SIZES);
    let mut requests = Vec::new();
    let mut heads = 0;
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.step() {
                Ok(Step::More) => break,
                Ok(Step::Head) => {
                    heads += 1;
                    assert!(parser.head().is_some_and(|head| head.body.is_empty()));
                }
                Ok(Step::Whole(request)) => {
                    requests.push(request);
                    assert_eq!(heads, requests.len(), "each has a head, told once");
                }
                Err(bad) => {
                    assert_eq!(parser.step(), Err(bad), "it stays that way");
                    let end = Err(bad);
                    return Read { requests, end };
                }
            }
        }
    }
    Read {
        requests,
        end: Ok(()),
    }
}

/// As a client would write it.
fn written(request: &Request) -> Vec<u8> {
    let path: Vec<&str> = request.segments();
    let query: Vec<(&str, &str)> = request
        .query
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, target(&path, &query));
    for (name, value) in &request.fields {
        head.push_str(&format!("{name}:{value}\r\n"));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&request.body);
    bytes
}

/// Reads bytes in several ways, which must agree, and looks at what came out.
pub(crate) fn ask(bytes: &[u8]) -> Read {
    let whole = read([bytes]);
    assert_eq!(read(bytes.chunks(1)), whole, "byte by byte");
    let at = bytes.first().map_or(0, |&b| usize::from(b)) % (bytes.len() + 1);
    let (one, other) = bytes.split_at(at);
    assert_eq!(read([one, other]), whole, "split at {at}");
    for request in &whole.requests {
        assert!(request.body.len() <= SIZES.body);
        let texts = request.path.iter().chain(
            request
                .query
                .iter()
                .chain(&request.fields)
                .flat_map(|(name, value)| [name, value]),
        );
        let mut size = 0;
        for text in texts {
            assert!(!text.chars().any(|c| c.is_control() && c != '\t'));
            size += text.len();
        }
        assert!(size <= SIZES.head);
        assert!(!request.path.iter().any(|s| s == "." || s == ".."));
        // Percent signs make it longer, so that it might not fit any more.
        let mut parser = Parser::new(Sizes {
            head: 16 << 10,
            ..SIZES
        });
        parser.push(&written(request));
        assert_eq!(parser.step(), Ok(Step::Head));
        assert_eq!(parser.step(), Ok(Step::Whole(request.clone())));
    }
    whole
}
