//! Questions that requests of the control API are asked, whatever they contain: for tests and the fuzzer. A proxy
//! that runs is not needed for them: what is read, and what a change makes of a document.

use bpfsmith_config::Document;
use bpfsmith_config::json;
use bpfsmith_proxy::api;
use bpfsmith_proxy::change::Change;
use bpfsmith_proxy::error::Error;
use bpfsmith_proxy::http::{Parser, Request, Sizes, Step};

/// What is changed.
const FIRST: &str = r#"
[[proxies]]
name = "web"
address = "192.0.2.80"
port = 80
group = "web"
# Where the quiet ones go.
routes = [{ source = "10.0.0.0/8", targets = ["10.2.0.9:80"] }]

[groups.web]
targets = ["10.2.0.2:8080", { address = "10.2.0.3:8080", weight = 3 }]
health = "tcp"

[settings]
devices = ["eth0"]
events = true
"#;

/// What requests asked for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Those that were read.
    pub(crate) requests: usize,
    /// Changes that were made.
    pub(crate) changes: usize,
}

/// Reads bytes as requests, one after the other, each of which may change a configuration.
pub(crate) fn ask(bytes: &[u8]) -> Asked {
    let mut asked = Asked::default();
    let mut document = Document::read(FIRST).expect("a configuration");
    let mut parser = Parser::new(Sizes {
        head: 4 << 10,
        body: 16 << 10,
    });
    parser.push(bytes);
    loop {
        match parser.step() {
            Ok(Step::Whole(request)) => {
                asked.requests += 1;
                if answer(&mut document, &request) {
                    asked.changes += 1;
                }
            }
            Ok(Step::Head) => {}
            Ok(Step::More) | Err(_) => return asked,
        }
    }
}

/// All that is read of a request, and what it changes; whether it does.
fn answer(document: &mut Document, request: &Request) -> bool {
    refused(api::query(request));
    refused(api::meant(request));
    refused(api::wanted_kinds(request));
    refused(api::Wanted::of(request));
    if let Ok(other) = api::document(request) {
        stands(&other);
    }
    let segments = request.segments();
    let ["v1", path @ ..] = segments.as_slice() else {
        return false;
    };
    let change = match Change::of(request.method, path, request) {
        Ok(Some(change)) => change,
        Ok(None) => return false,
        Err(error) => {
            is_said(&error);
            return false;
        }
    };
    let before = document.clone();
    match change.make(document) {
        Ok(_) => {
            stands(document);
            true
        }
        Err(error) => {
            is_said(&Error::from(error));
            assert_eq!(*document, before, "what was refused never was");
            false
        }
    }
}

/// A document is what its text says, also as JSON.
fn stands(document: &Document) {
    let text = document.text();
    let read = Document::read(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    assert_eq!(read, *document);
    let shown = json::write(document.value());
    json::read(&shown).unwrap_or_else(|problems| panic!("{shown}\n{problems}"));
}

fn refused<T>(result: Result<T, Error>) {
    if let Err(error) = result {
        is_said(&error);
    }
}

/// An answer to a request has its error as a text of JSON.
fn is_said(error: &Error) {
    let text = error.to_string();
    assert!(!text.is_empty());
    let shown = json::write(&text.as_str().into());
    assert!(json::read(&shown).is_ok(), "{shown}");
}
