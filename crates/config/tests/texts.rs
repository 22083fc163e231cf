//! Three texts become one tree; what is wrong with them is told where it is.

use bpfsmith_config::{At, Entry, Kind, Problems, Read, Value, edn, json, toml};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const TOML: &str = r#"
# A proxy.
port = 80
devices = ["eth0", "eth1"]
share = 0.5
has_tags = false

[target]
address = "10.0.0.1"

[[route]]
source = "10.0.0.0/8"
[[route]]
source = { host = "a.example" }
"#;

const JSON: &str = r#"{"port": 80, "devices": ["eth0", "eth1"], "share": 5e-1, "has_tags": false,
    "target": {"address": "10.0.0.\u0031"},
    "route": [{"source": "10.0.0.0\/8"}, {"source": {"host": "a.example"}}]}"#;

const EDN: &str = r#"
;; A proxy.
{:port 80N, :devices #{"eth0" "eth1"} :share 0.5M
 :has_tags false #_ (left out)
 :target {:address "10.0.0.1"}
 :route ({"source" "10.0.0.0/8"} {:source {:host "a.example"}})}"#;

#[test]
fn three_texts_say_the_same() {
    let read = toml::read(TOML).unwrap();
    assert_eq!(read.bare(), json::read(JSON).unwrap().bare());
    // What is left out is read all the same, and a symbol is no value.
    let what = edn::read(EDN).unwrap_err().to_string();
    assert_eq!(
        what,
        "line 4, column 22: left is neither a number nor nil, true or false: put text in quotes"
    );
    let edn = EDN.replace("(left out)", "(:left :out)");
    assert_eq!(read.bare(), edn::read(&edn).unwrap().bare());
    let at = |line, column| At { line, column };
    let places = [
        read.get("port").unwrap().at,
        read.get("devices").unwrap().each()[1].at,
        read.get("target").unwrap().get("address").unwrap().at,
        read.get("route").unwrap().each()[1]
            .get("source")
            .unwrap()
            .at,
    ];
    assert_eq!(
        places,
        [
            at(3, 8),
            at(4, 20),
            at(9, 11),
            at(14, 10)
        ]
    );
}

/// A text, how it is read, and what is said of it.
type Wrong = (
    fn(&str) -> Result<Value, Problems>,
    &'static str,
    &'static str,
);

#[test]
fn what_is_no_text_of_its_kind() {
    let rows: [Wrong; 24] = [
        (
            json::read,
            "",
            "line 1, column 1: the text ends where a value should be",
        ),
        (
            json::read,
            "[1,\n 2",
            "line 2, column 3: the text ends where a comma or ']' should be",
        ),
        (
            json::read,
            "[1 2]",
            "line 1, column 4: '2' is here where a comma or ']' should be",
        ),
        (
            json::read,
            "[1,]",
            "line 1, column 4: ']' is here where a value should be",
        ),
        (
            json::read,
            "{\"a\" 1}",
            "line 1, column 6: '1' is here where a colon should be",
        ),
        (
            json::read,
            "{a: 1}",
            "line 1, column 2: 'a' is here where a name in quotes should be",
        ),
        (
            json::read,
            "nul",
            "line 1, column 1: 'n' is here where a value should be",
        ),
        (
            json::read,
            "01",
            "line 1, column 1: '0' is here where a number should be",
        ),
        (
            json::read,
            "1.",
            "line 1, column 1: '1' is here where a number should be",
        ),
        (
            json::read,
            "1e999",
            "line 1, column 1: '1' is here where a number should be",
        ),
        (
            json::read,
            "1 1",
            "line 1, column 3: '1' is here where the end of the text should be",
        ),
        (
            json::read,
            "\"a\nb\"",
            "line 1, column 3: '\\n' is here where the closing quote should be",
        ),
        (
            json::read,
            r#""\x""#,
            "line 1, column 3: 'x' is here where one of \" \\ / b f n r t u should be",
        ),
        (
            json::read,
            r#""\ud800""#,
            "line 1, column 8: this is half of a character: its other half is missing",
        ),
        (
            json::read,
            r#""\u00g0""#,
            "line 1, column 6: 'g' is here where a hexadecimal digit should be",
        ),
        (
            json::read,
            "{\"a\": 1,\n \"a\": 2}",
            "line 2, column 2: a is here twice: first on line 1",
        ),
        (
            edn::read,
            "{:a}",
            "line 1, column 4: '}' is here where a value should be",
        ),
        (
            edn::read,
            "{1 2}",
            "line 1, column 2: a name is a keyword or a string",
        ),
        (
            edn::read,
            "[:a",
            "line 1, column 4: the text ends where a value should be",
        ),
        (
            edn::read,
            "[: a]",
            "line 1, column 3: ' ' is here where the name of a keyword should be",
        ),
        (
            edn::read,
            "#inst \"2020\"",
            "line 1, column 1: '#' is here where a value should be",
        ),
        (
            edn::read,
            "{:a 1 :a 2}",
            "line 1, column 7: a is here twice: first on line 1",
        ),
        (
            toml::read,
            "a = 1\na = 2",
            "line 2, column 1: duplicate key",
        ),
        (
            toml::read,
            "# ä\n[t]\nb = [2020-01-01]",
            "line 3, column 6: dates mean nothing here: put text in quotes",
        ),
    ];
    for (read, text, said) in rows {
        match read(text) {
            Ok(value) => panic!("{text:?} is {value:?}"),
            Err(problems) => assert_eq!(problems.to_string(), said, "{text:?}"),
        }
    }
}

#[test]
fn nothing_is_endlessly_deep() {
    let deep = |open: &str, close: &str, n| [open.repeat(n), close.repeat(n)].concat();
    for n in [64, 65, 100_000] {
        let list = deep("[", "]", n);
        assert_eq!(json::read(&list).is_ok(), n == 64);
        assert_eq!(edn::read(&list).is_ok(), n == 64);
        assert!(edn::read(&"#_".repeat(n)).is_err());
        assert!(toml::read(&format!("a = {list}")).is_err() || n == 64);
        let table = ["[", &["a"; 100].join("."), "]"].concat();
        assert!(toml::read(&table).is_err());
    }
}

#[test]
fn values_are_read_as_what_is_allowed() {
    fn read<T: Read>(text: &str) -> Option<T> {
        T::read(&json::read(text).unwrap())
    }
    assert_eq!(read::<u16>("65535"), Some(65535));
    assert_eq!(read::<u16>("65536"), None);
    assert_eq!(read::<u16>("-1"), None);
    assert_eq!(read::<u16>("1.0"), None);
    assert_eq!(read::<f64>("1"), Some(1.0));
    assert_eq!(read::<bool>("1"), None);
    assert_eq!(read::<IpAddr>("\"::1\""), Some("::1".parse().unwrap()));
    assert_eq!(read::<SocketAddr>("\"::1\""), None);
    let times = [
        ("\"500ms\"", Some(500)),
        ("\"30s\"", Some(30_000)),
        ("\"5m\"", Some(300_000)),
        ("\"6h\"", Some(21_600_000)),
        ("\"1d\"", Some(86_400_000)),
        ("2", Some(2000)),
        ("-2", None),
        ("\"2\"", None),
        ("\"s\"", None),
        ("\"2 s\"", None),
        ("\"2w\"", None),
        ("\"99999999999999999999s\"", None),
        ("\"18446744073709551615d\"", None),
    ];
    for (text, millis) in times {
        assert_eq!(
            read::<Duration>(text),
            millis.map(Duration::from_millis),
            "{text}"
        );
    }
}

#[test]
fn all_problems_are_told_with_their_places() {
    let text =
        "port = 99999\nadress = \"10.0.0.1\"\ntime = \"soon\"\nnothing_like_it = 1\n\n[deep]\n";
    let value = toml::read(text).unwrap();
    let problems = Problems::new();
    let mut fields = value.fields(&problems);
    assert_eq!(fields.get::<u16>("port"), None);
    assert_eq!(fields.get::<IpAddr>("address"), None);
    assert_eq!(
        fields.get_or("time", Duration::from_secs(1)),
        Duration::from_secs(1)
    );
    assert_eq!(fields.need::<String>("name"), None);
    assert_eq!(fields.all::<u16>("deep"), []);
    fields.end();
    let told = problems.end().unwrap_err().to_string();
    let wanted = [
        "line 1, column 1: name is missing: it is text in quotes",
        "line 1, column 8: port is 99999: it is a whole number from 0 to 65535",
        "line 2, column 1: there is no adress here: did you mean address?",
        "line 3, column 8: time is \"soon\": it is a time like \"500ms\", \"30s\", \"5m\", \"6h\" or \"1d\", or a number of seconds",
        "line 4, column 1: there is no nothing_like_it here: there are port, address, time, name, deep",
        "line 6, column 1: deep is a table of 0: it is a whole number from 0 to 65535",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), wanted);
}

fn trees() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Kind::Null),
        any::<bool>().prop_map(Kind::Bool),
        any::<i64>().prop_map(Kind::Int),
        prop::num::f64::NORMAL.prop_map(Kind::Float),
        ".*".prop_map(Kind::Text),
    ];
    let kind = leaf.prop_recursive(4, 64, 8, |inner| {
        let value = inner.prop_map(Value::new);
        let entries = prop::collection::btree_map(".*", value.clone(), 0..6);
        prop_oneof![
            prop::collection::vec(value, 0..6).prop_map(Kind::List),
            entries.prop_map(|entries| {
                let entries = entries.into_iter();
                let entry = |(key, value)| Entry {
                    at: At::default(),
                    key,
                    value,
                };
                Kind::Table(entries.map(entry).collect())
            }),
        ]
    });
    kind.prop_map(Value::new)
}

/// Texts that are nearly right.
fn texts() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "#{",
        "#_",
        ":a",
        "\"",
        "\\u",
        "d800",
        "\\",
        ",",
        ":",
        "=",
        "\n",
        " ",
        "a",
        "b.c",
        "1",
        "-",
        "1.5e3",
        "null",
        "nil",
        "true",
        "[[",
        "]]",
        "'''",
        "\"\"\"",
        "#",
        ";",
        "2020-01-01",
        "ä",
        "\u{0}",
    ]);
    prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn json_comes_back(tree in trees()) {
        let text = json::write(&tree);
        prop_assert!(!text.contains('\n'));
        prop_assert_eq!(json::read(&text).unwrap().bare(), tree);
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in prop_oneof![any::<String>(), texts()]) {
        for read in [json::read, edn::read, toml::read] {
            if let Err(problems) = read(&text) {
                prop_assert!(!problems.is_empty());
                for problem in problems.list() {
                    prop_assert!(problem.at.line >= 1 && problem.at.column >= 1, "{problem}");
                    prop_assert!(problem.at.line as usize <= text.matches('\n').count() + 1, "{problem}");
                }
            }
        }
    }
}
