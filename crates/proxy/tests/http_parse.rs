//! Requests out of any bytes: the same ones wherever they are split, and no panic.

#[path = "support/http_exercise.rs"]
mod exercise;

use bpfsmith_proxy::http::BadRequest;
use exercise::{SIZES, ask, read};
use proptest::prelude::*;
use std::path::Path;

/// Something that looks like requests, with mistakes in it.
fn almost() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("GET / HTTP/1.1\r\n".to_owned()),
        Just("Host: x\r\n".to_owned()),
        Just("\r\n".to_owned()),
        "(GET|POST|PUT|PATCH|DELETE|HEAD) /[a-z%0-9./?&=+]{0,12} HTTP/1\\.[01]\r\n",
        "(Host|Content-Length|Transfer-Encoding|Connection|Expect|X): ?[a-z0-9, -]{0,6}\r\n",
        "Content-Length: [0-9]{1,3}\r\n",
        "[\\x00-\\x7f]{0,5}",
        Just("\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
    ];
    prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        ask(&bytes);
    }

    #[test]
    fn almost_requests(bytes in almost()) {
        ask(&bytes);
    }

    #[test]
    fn requests_with_one_byte_changed(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..4),
        at: prop::sample::Index,
        noise: u8,
        piece in 1_usize..50,
    ) {
        let mut bytes = Vec::new();
        for body in &bodies {
            let head = format!("PUT /a/b%20c?d=e HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(body);
        }
        let good = ask(&bytes);
        prop_assert_eq!(good.end, Ok(()));
        let came: Vec<Vec<u8>> = good.requests.into_iter().map(|request| request.body).collect();
        prop_assert_eq!(&came, &bodies);
        let at = at.index(bytes.len());
        bytes[at] = noise;
        let whole = ask(&bytes);
        prop_assert_eq!(read(bytes.chunks(piece)), whole);
    }

    #[test]
    fn no_more_than_there_is_room_for(name in "[a-z]{1,9}", size in 0_usize..1200, body in 0_usize..600) {
        let text = format!(
            "PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: {body}\r\n{name}: {}\r\n\r\n{}",
            "v".repeat(size),
            "b".repeat(body),
        );
        let head = text.len() - body;
        let expected = if head > SIZES.head {
            Err(BadRequest::HeadLong)
        } else if body > SIZES.body {
            Err(BadRequest::BodyLong)
        } else {
            Ok(())
        };
        prop_assert_eq!(ask(text.as_bytes()).end, expected);
    }
}

#[test]
fn inputs_of_the_fuzzer_are_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/http_request");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).expect("the corpus") {
        ask(&std::fs::read(entry.expect("an input").path()).expect("an input"));
        count += 1;
    }
    assert!(count > 5, "{count} inputs");
}
