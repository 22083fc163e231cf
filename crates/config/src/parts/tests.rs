//! Part by part a text is what it is as a whole.

use super::{PartKind, split};
use crate::toml;
use proptest::prelude::*;

/// What may be anywhere, with a number for `@`.
const GOOD: [&str; 17] = [
    "\n",
    "# About what comes. [groups.no]\n",
    "\r\n",
    "x@ = \"\"\"\n[groups.no]\n\\\"\"\" \\\\\"\"\"\n",
    "x@ = '''\n[[proxies]]\n'''''\n",
    "y@ = \"[[proxies]] \\\" '\" # [[proxies]]\n",
    "y@ = 'a\"b' # '\n",
    "z@ = [\n[1, 2],\n[\n# [groups.no]\n\"]\" ]\n]\n",
    "[[proxies]] # One.\nname = \"a@\"\nport = 1\n",
    "  [[ proxies ]]\nname = \"b@\"\r\nport = 2\r\n",
    "[[\"proxies\"]]\nname = \"c@\"\n[[proxies.routes]]\nsource = \"::/0\"\ngroup = \"a\"\n[proxies.limit]\nrate = 7\n",
    "[groups.a@]\ntargets = [\n  \"a:1\",\n  { address = \"b:1\", weight = 2 },\n]\n",
    "[groups.\"x.y@\"]\ntargets = []\n",
    "[groups.'x]y@']\ntargets = []\n",
    "[groups.b@]\ndrain = 5\n[groups.b@.health]\nkind = \"tcp\"\n[[groups.b@.targets]]\naddress = \"a:1\"\n",
    "[settings@]\nevents = true\n[settings@.timeouts]\nudp = 5\n",
    "[[routes@]]\nsource = \"a\"\n",
];

/// What is wrong in most places, or makes one of what is in several.
const ODD: [&str; 22] = [
    "port = 80\ntarget = \"a:1\"\n",
    "groups.c.targets = []\n",
    "proxies = []\n",
    "w = { a = [\n] }\n",
    "[proxies]\nname = \"d\"\n",
    "[[proxies.routes]]\nsource = \"::/0\"\ngroup = \"a\"\n",
    "[proxies.limit]\nrate = 7\n",
    "[[proxies.routes.x]]\n",
    "[groups]\n",
    "[groups]\nd = { targets = [\"a:1\"] }\n",
    "[groups.a]\n",
    "[groups.a.health]\nkind = \"tcp\"\n",
    "[[groups.b.targets]]\naddress = \"a:1\"\n",
    "[[groups.a]]\n",
    "[groups.b.health.deep]\n",
    "[settings.timeouts]\nudp = 5\n",
    "[settings]\n",
    "[routes]\n",
    "[broken\n",
    "]\n",
    "d = 2020-01-01\n",
    "[[proxies]]\nname = \"no line\"",
];

fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        9 => prop::sample::select(GOOD.to_vec()),
        1 => prop::sample::select(ODD.to_vec()),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| {
        let pieces = pieces.iter().enumerate();
        pieces
            .map(|(number, piece)| piece.replace('@', &number.to_string()))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_text_in_parts_is_the_same(text in texts()) {
        prop_assert_eq!(toml::read(&text), toml::whole(&text), "{}", text);
        let Some(parts) = split(&text) else { return Ok(()) };
        // Nothing is in no part or in two.
        let mut end = 0;
        for part in &parts {
            prop_assert_eq!(part.bytes.start, end);
            end = part.bytes.end;
            let above = text[..part.bytes.start].matches('\n').count();
            prop_assert_eq!(usize::try_from(part.lines), Ok(above));
        }
        prop_assert_eq!(end, text.len());
    }

    #[test]
    fn any_text_in_parts_is_the_same(text in "[\\[\\]{}\"'\\\\=.,a#\r\n ]{0,40}") {
        prop_assert_eq!(toml::read(&text), toml::whole(&text), "{}", text);
    }
}

/// It is of use only where large configurations have parts.
#[test]
fn what_is_usual_has_parts() {
    let text = "# Ours.\n\n[settings]\nevents = true\n\n# One.\n[[proxies]]\nname = \"a\"\nport = 1\n\n\
                [[proxies.routes]]\nsource = \"::/0\"\ngroup = \"b\"\n\n[[proxies]]\nname = \"c\"\nport = 2\n\
                # Who.\n[groups.b]\ntargets = []\n[groups.b.health]\nkind = \"tcp\"\n[groups.\"d e\"]\ntargets = []\n";
    let parts = split(text).unwrap();
    let kinds: Vec<_> = parts.iter().map(|part| part.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            PartKind::Top,
            PartKind::Other("settings".to_owned()),
            PartKind::Proxy,
            PartKind::Proxy,
            PartKind::Group("b".to_owned()),
            PartKind::Group("d e".to_owned()),
        ]
    );
    assert!(text[parts[2].bytes.clone()].starts_with("\n# One.\n[[proxies]]"));
    assert!(text[parts[4].bytes.clone()].starts_with("# Who.\n[groups.b]"));
    assert!(toml::in_parts(text, &parts).is_some());
}
