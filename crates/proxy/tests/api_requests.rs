//! Requests of the control API, whatever they ask for: read or refused in words, and what they change stays whole.

#[path = "support/api_exercise.rs"]
mod exercise;

use exercise::ask;
use proptest::prelude::*;
use std::path::Path;

fn request(method: &str, target: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    head.into_bytes()
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "proxies",
            "groups",
            "values",
            "web",
            "routes",
            "targets",
            "settings",
            "timeouts",
            "udp",
            "drain",
            "health",
            "10.0.0.0%2F8",
            "10.2.0.2:8080",
            "config",
            "connections",
            "events",
        ])
        .prop_map(str::to_owned),
        "[a-z0-9.:%-]{0,6}",
    ]
}

fn body() -> impl Strategy<Value = String> {
    let json = prop_oneof![
        Just("null".to_owned()),
        Just("{\"port\": 443}".to_owned()),
        Just("{\"name\": \"api\", \"port\": 81, \"target\": \"10.2.0.4:3000\"}".to_owned()),
        Just("{\"targets\": [\"10.2.0.4:80\"], \"algorithm\": \"maglev\"}".to_owned()),
        Just("{\"source\": \"10.9.0.0/16\", \"group\": \"web\"}".to_owned()),
        Just("\"10.2.0.7:80\"".to_owned()),
        Just("{\"kinds\": [\"new\"]}".to_owned()),
        Just("{\"target\": \"10.2.0.2:8080\", \"group\": \"web\"}".to_owned()),
        Just("\"1m\"".to_owned()),
        "[\\[\\]{}\",:0-9a-z ]{0,20}",
        ".{0,20}",
    ];
    json
}

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE"]);
    let path = prop::collection::vec(segment(), 0..5);
    let query = prop_oneof![
        Just(String::new()),
        "[?](client|target|state|sort|limit|by|kind|past|form|save)=[a-z0-9./:%,]{0,10}",
    ];
    (method, path, query, body()).prop_map(|(method, path, query, body)| {
        request(method, &format!("/v1/{}{query}", path.join("/")), &body)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_requests(requests in prop::collection::vec(any_request(), 1..6)) {
        ask(&requests.concat());
    }

    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        ask(&bytes);
    }
}

/// All that can be changed is.
#[test]
fn each_change_is_made() {
    let changes = [
        (
            "POST",
            "/v1/proxies",
            r#"{"name": "api", "port": 81, "target": "10.2.0.4:3000"}"#,
        ),
        ("PATCH", "/v1/proxies/web", r#"{"port": 8080}"#),
        (
            "POST",
            "/v1/proxies/web/routes",
            r#"{"source": "10.9.0.0/16", "group": "web"}"#,
        ),
        ("DELETE", "/v1/proxies/web/routes/10.0.0.0%2F8", ""),
        ("PUT", "/v1/groups/more", r#"{"targets": ["10.2.0.4:80"]}"#),
        ("PATCH", "/v1/groups/more", r#"{"drain": "5s"}"#),
        ("POST", "/v1/groups/more/targets", r#""10.2.0.5:80""#),
        ("DELETE", "/v1/groups/more/targets/10.2.0.5:80", ""),
        ("PUT", "/v1/values/settings/timeouts/udp", r#""1m""#),
        ("DELETE", "/v1/groups/more", ""),
        ("DELETE", "/v1/proxies/api", ""),
    ];
    let requests: Vec<Vec<u8>> = changes
        .iter()
        .map(|(method, target, body)| request(method, target, body))
        .collect();
    for count in 1..=requests.len() {
        let asked = ask(&requests[..count].concat());
        assert_eq!(
            (asked.requests, asked.changes),
            (count, count),
            "{:?}",
            changes[count - 1]
        );
    }
}

#[test]
fn inputs_of_the_fuzzer_are_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/api_request");
    let (mut count, mut changes) = (0, 0);
    for entry in std::fs::read_dir(corpus).expect("the corpus") {
        let input = std::fs::read(entry.expect("an input").path()).expect("an input");
        changes += ask(&input).changes;
        count += 1;
    }
    assert!(changes > 5, "{changes} changes of {count} inputs");
}
