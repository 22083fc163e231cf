//! What is changed in a part of a text is what it is when it is changed in the whole of it.

use super::change::{answer, at};
use super::{Document, Step};
use crate::json;
use crate::problem::Problems;
use crate::spot::Holder;
use crate::value::{Kind, Value};
use proptest::prelude::*;

/// Parts of texts, with a number for `@`.
const PARTS: [&str; 9] = [
    "# About nothing.\n\n",
    "[[proxies]] # One.\nname = \"a@\"\nport = 1\ngroup = \"z\"\n",
    "\n# Two.\n[[proxies]]\nname = \"b@\"\nport = 2\ntargets = [\n  \"a:1\", # first\n  \"b:1\" # last\n]\n\n",
    "[[proxies]]\nname = \"c@\"\nport = 3\ntarget = \"a:1\"\nroutes = [\n  { source = \"::/0\", group = \"z\" },\n  { source = \"10.0.0.0/8\", group = \"z\" },\n]\n",
    "[[proxies]]\nname = \"d@\"\nport = 4\ngroup = \"z\"\n\n# Ours.\n[[proxies.routes]]\nsource = \"::/0\"\ngroup = \"z\"\n[[proxies.routes]]\nsource = [\"10.0.0.0/8\", \"a.example\"]\ntarget = \"b:1\"\n[proxies.limit]\nrate = 7\n",
    "\n[groups.e@]\ntargets = [\"a:1\", { address = \"b:1\", weight = 2 }] # both\n",
    "[groups.f@]\ntarget = \"a:1\"\ndrain = 5\n[groups.f@.health]\nkind = \"tcp\"\n",
    "# Many.\n[groups.\"g @\"]\n[[groups.\"g @\".targets]]\naddress = \"a:1\"\n[[groups.\"g @\".targets]]\naddress = \"b:1\"\nweight = 3\n",
    "[groups.h@]\ntargets = [] # none yet",
];

fn documents() -> impl Strategy<Value = Document> {
    let parts = prop::collection::vec(prop::sample::select(PARTS.to_vec()), 1..9);
    let z = prop::sample::select(vec![
        "[groups.z]\ntargets = []\n",
        "[settings]\nevents = true\n[groups.z]\ntargets = []\n[settings.timeouts]\nudp = 5\n",
        "[groups.z.health]\nkind = \"tcp\"\n[groups.z]\n",
    ]);
    (parts, z, any::<bool>()).prop_map(|(parts, z, is_first)| {
        let mut text = if is_first {
            z.to_owned()
        } else {
            String::new()
        };
        for (number, part) in parts.iter().enumerate() {
            text += &part.replace('@', &number.to_string());
            if !text.ends_with('\n') {
                text += "\n";
            }
        }
        if !is_first {
            text += z;
        }
        Document::read(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
    })
}

/// What is done to a table.
#[derive(Clone, Debug)]
enum Edit {
    Answer(Value),
    Set(&'static str, Value),
    Push(&'static str, Value),
    Pull(&'static str, usize),
    Rename(&'static str, &'static str),
}

impl Edit {
    fn make(&self, table: &mut Holder<'_>) -> Result<(), Problems> {
        match self {
            Edit::Answer(fields) => match &fields.kind {
                Kind::Table(fields) => answer(table, fields),
                _ => Ok(()),
            },
            Edit::Set(key, value) => table.set(key, value),
            Edit::Push(key, value) => table.push(key, value),
            Edit::Pull(key, number) => {
                table.pull(key, *number);
                Ok(())
            }
            Edit::Rename(old, new) => {
                table.rename(old, new);
                Ok(())
            }
        }
    }
}

fn edits() -> impl Strategy<Value = Edit> {
    let value = |texts: Vec<&'static str>| {
        prop::sample::select(texts).prop_map(|text| json::read(text).unwrap())
    };
    let fields = value(vec![
        "{\"port\": 443}",
        "{\"name\": \"new\", \"limit\": {\"rate\": 9}}",
        "{\"targets\": [\"c:1\", {\"address\": \"a:1\", \"weight\": 7}]}",
        "{\"targets\": [{\"address\": \"c:1\", \"weight\": 7}]}",
        "{\"target\": \"c:1\", \"drain\": \"5m\", \"health\": {\"kind\": \"http\"}}",
        "{\"group\": \"z\"}",
        "{\"health\": null, \"limit\": null, \"routes\": null}",
        "{\"routes\": [{\"source\": \"::/0\", \"target\": \"c:1\"}, {\"source\": \"10.1.0.0/16\", \"group\": \"z\"}]}",
        "{\"nonsense\": 5}",
        "{\"group\": \"nowhere\"}",
    ]);
    let more = value(vec![
        "\"c:1\"",
        "{\"address\": \"c:1\", \"weight\": 5}",
        "{\"source\": \"10.2.0.0/16\", \"target\": \"c:1\"}",
        "{\"source\": \"10.3.0.0/16\", \"group\": \"z\"}",
        "[]",
        "5",
    ]);
    let key = || {
        prop::sample::select(vec![
            "target", "targets", "routes", "source", "drain", "kind",
        ])
    };
    prop_oneof![
        fields.prop_map(Edit::Answer),
        (key(), more.clone()).prop_map(|(key, value)| Edit::Set(key, value)),
        (key(), more).prop_map(|(key, value)| Edit::Push(key, value)),
        (key(), 0..3_usize).prop_map(|(key, number)| Edit::Pull(key, number)),
        Just(Edit::Rename("target", "targets")),
    ]
}

/// Where tables are, and where they are not.
fn places(document: &Document) -> Vec<Vec<Step>> {
    let mut places = vec![vec!["settings".into()]];
    for number in 0..=document.desired().proxies.len() {
        let proxy = vec!["proxies".into(), Step::Index(number)];
        for route in 0..2 {
            let inner = ["routes".into(), Step::Index(route)];
            places.push(proxy.iter().cloned().chain(inner).collect());
        }
        places.push(proxy);
    }
    for group in &document.desired().groups {
        let group = vec![
            "groups".into(),
            group.name.as_str().into(),
        ];
        let health = ["health".into()];
        places.push(group.iter().cloned().chain(health).collect());
        places.push(group);
    }
    places
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn an_edit_of_a_part_is_one_of_the_whole(
        document in documents(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), edits()), 1..6),
    ) {
        let mut now = document;
        for (place, edit) in edits {
            let path = place.get(&places(&now)).clone();
            let (mut part, mut whole) = (now.clone(), now.clone());
            let of_part = part.change_at(&path, |table| edit.make(table));
            let of_whole = whole.change(|root| at(root, &path, |table| edit.make(table)));
            prop_assert_eq!(of_part, of_whole, "{:?} {:?} of\n{:?}", edit, path, now);
            prop_assert_eq!(part.text(), whole.text(), "{:?} {:?} of\n{:?}", edit, path, now);
            prop_assert_eq!(part.value(), whole.value(), "{:?} {:?} of\n{:?}", edit, path, now);
            prop_assert_eq!(part.desired(), whole.desired());
            now = part;
        }
    }
}
