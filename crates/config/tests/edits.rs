//! Any edits of any configuration: it stays readable, and all that an edit is not about stays as it was.

#[path = "support/exercise.rs"]
mod exercise;

use bpfsmith_config::Document;
use proptest::prelude::*;

/// Configurations in all of the forms in which the same may be written.
const TEXTS: [&str; 9] = [
    "",
    "# Only a comment.",
    "port = 80\ntarget = \"10.0.0.1:80\"\n",
    "# One.\n\nname = \"a\" # two\nport = 80\ngroup = \"b\"\nroutes = [{ source = \"10.0.0.0/8\", target = \"a:1\" }, # three\n  { source = [\"::/0\", \"c.example\"], group = \"b\" } ]\n[groups]\nb = { targets = [\"a:1\", # four\n \"b:1\" ] } # five\n",
    "port = 80\ntarget = { address = \"a:1\", weight = 2 }\nlimit.rate = 5\n[settings]\ntimeouts.udp = 5 # six\n[[routes]]\nsource = \"10.0.0.0/8\"\ntarget = \"b:1\"\n[routes.health]\nkind = \"tcp\"\n[[proxies]]\nname = \"a\"\nport = 1\ngroup = \"b\"\n[groups.b]\n[[groups.b.targets]]\naddress = \"a:1\" # seven\n",
    "groups.b.targets = [\"a:1\"]\ngroups.b.drain = 5\nproxies = [{ name = \"a\", port = 1, group = \"b\" }, { name = \"proxy\", port = 2, targets = [\"a:1\", \"b:1\"] }]\n",
    "[proxies]\nname = \"a\"\nport = 1\ngroup = \"b\"\n[proxies.routes]\nsource = \"10.0.0.0/8\"\ntarget = \"a:1\"\n[groups.b.target]\naddress = \"b:1\"\n[settings.timeouts]\nudp = \"1m\"\n",
    "[groups.c]\ntargets = []\n[[proxies]]\nname = \"b\"\nport = 2\ntargets = [\n  \"a:1\", # eight\n  \"b:1\" # nine\n]\n[groups.d]\ntargets = [\n  # ten\n  \"a:1\",\n  \"b:1\", # eleven\n]\n[[proxies]]\nname = \"a\"\nport = 3\ngroup = \"d\"\n[[proxies.routes]]\nsource = \"10.0.0.0/8\"\ntarget = \"a:1\"\n[[proxies.routes]]\nsource = \"::/0\"\ntarget = \"b:1\"\n[[proxies.routes]]\nsource = \"c.example\"\ngroup = \"c\"\n",
    "proxies = { name = \"a\", port = 1, target = \"a:1\", routes = { source = \"::/0\", target = [\"b:1\", \"a:1\"] } }\nsettings = { events = true }\n",
];

fn fields() -> impl Strategy<Value = String> {
    let field = prop::sample::select(vec![
        "\"name\": \"a\"",
        "\"name\": \"b\"",
        "\"name\": \"proxy\"",
        "\"port\": 80",
        "\"port\": 443",
        "\"port\": null",
        "\"port\": 443",
        "\"target\": \"a:1\"",
        "\"targets\": [\"b:1\", {\"address\": \"a:1\", \"weight\": 2}]",
        "\"target\": null",
        "\"group\": \"b\"",
        "\"group\": \"d\"",
        "\"group\": null",
        "\"algorithm\": \"turns\"",
        "\"health\": {\"kind\": \"http\", \"expect\": [200]}",
        "\"health\": null",
        "\"drain\": 5",
        "\"source\": \"10.0.0.0/8\"",
        "\"source\": [\"::/0\", \"c.example\"]",
        "\"routes\": [{\"source\": \"::/0\", \"target\": \"a:1\"}]",
        "\"routes\": {\"source\": [], \"group\": \"b\"}",
        "\"routes\": [{\"source\": \"10.0.0.0/8\", \"target\": \"b:1\"}, {\"source\": \"::/0\", \"target\": \"b:1\"}]",
        "\"routes\": []",
        "\"routes\": null",
        "\"limit\": {\"rate\": 5}",
        "\"settings\": null",
        "\"groups\": {}",
        "\"x\": 1",
    ]);
    prop::collection::btree_set(field, 0..4).prop_map(|all| {
        let all: Vec<_> = all.into_iter().collect();
        format!("{{{}}}", all.join(", "))
    })
}

/// One that is mostly right.
fn proxies() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "proxy", "e"]);
    let rest = prop::sample::select(vec![
        "\"target\": \"a:1\"",
        "\"group\": \"b\"",
        "\"targets\": [], \"routes\": [{\"source\": \"::/0\", \"target\": \"a:1\"}]",
        "\"target\": \"a:1\", \"limit\": null",
    ]);
    (name, rest).prop_map(|(name, rest)| format!("{{\"name\": \"{name}\", \"port\": 9, {rest}}}"))
}

fn edits() -> impl Strategy<Value = String> {
    let name = || {
        prop::sample::select(vec![
            "a",
            "b",
            "c",
            "d",
            "proxy",
            "a-route-1",
            "a-route-2",
            "proxy-route-1",
        ])
    };
    let source = prop::sample::select(vec!["10.0.0.0/8", "::/0", "c.example", "x y"]);
    let place = prop::sample::select(vec!["a:1", "b:1", "10.0.0.1:80", "c:1"]);
    let path = prop::sample::select(vec![
        "settings",
        "settings.timeouts",
        "settings.timeouts.udp",
        "settings.events",
        "settings.access_log.path",
        "groups.b.drain",
        "groups.b.health.kind",
        "groups.a-route-1.drain",
        "proxies.a.limit.rate",
        "proxies.proxy.limit.cookies",
        "proxies.proxy.settings.events",
        "proxies.a",
        "x..y",
    ]);
    let value = prop::sample::select(vec![
        "null",
        "true",
        "5",
        "\"1m\"",
        "\"tcp\"",
        "{}",
        "{\"udp\": 7, \"closed\": \"1s\"}",
    ]);
    let change = prop::sample::select(vec![
        "add_proxy",
        "update_proxy",
        "add_route",
        "put_group",
        "update_group",
    ]);
    let remove = prop::sample::select(vec!["remove_proxy", "remove_group"]);
    let target = prop::sample::select(vec!["add_target", "remove_target"]);
    prop_oneof![
        3 => (change, name(), fields()).prop_map(|(edit, name, fields)| format!("{edit} {name} {fields}")),
        1 => proxies().prop_map(|proxy| format!("add_proxy - {proxy}")),
        1 => (remove, name()).prop_map(|(edit, name)| format!("{edit} {name}")),
        1 => (name(), source).prop_map(|(name, source)| format!("remove_route {name} {source}")),
        2 => (target, name(), place).prop_map(|(edit, name, place)| format!("{edit} {name} {place}")),
        2 => (path, value).prop_map(|(path, value)| format!("set {path} {value}")),
    ]
}

proptest! {
    #[test]
    fn a_configuration_stays_one(
        text in prop::sample::select(TEXTS.to_vec()),
        edits in prop::collection::vec(edits(), 1..12),
    ) {
        exercise::edit(&format!("{text}\n---\n{}", edits.join("\n")));
    }

    #[test]
    fn no_text_of_an_edit_is_too_strange(edit in "[a-z_]{0,12} ?.{0,40}") {
        for text in TEXTS {
            exercise::edit(&format!("{text}\n---\n{edit}"));
        }
    }

    #[test]
    fn texts_come_back(text in "[\\[\\]{}\":=,a-z0-9 \n.#]{0,60}") {
        exercise::toml(&text);
        exercise::json(&text);
        exercise::edn(&text);
    }
}

/// All of these must be possible in every form, wherever the names are.
#[test]
fn every_form_takes_every_edit() {
    for text in TEXTS {
        exercise::toml(text);
        let document = Document::read(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
        let mut edits = vec![
            "add_proxy - {\"name\": \"new\", \"port\": 9, \"target\": \"a:1\"}".to_owned(),
            "put_group new {\"targets\": []}".to_owned(),
            "set settings.timeouts.closed 5".to_owned(),
            "set settings.timeouts.udp 5".to_owned(),
            "set settings.access_log.path \"/x\"".to_owned(),
            "set settings null".to_owned(),
        ];
        for proxy in &document.desired().proxies {
            let name = &proxy.name;
            edits.extend([
                format!("update_proxy {name} {{\"port\": 7, \"limit\": {{\"rate\": 5}}}}"),
                format!("update_proxy {name} {{\"name\": \"other\"}}"),
                format!("add_route {name} {{\"source\": \"192.0.2.1\", \"target\": \"a:1\"}}"),
                format!("remove_proxy {name}"),
                format!("set proxies.{name}.limit.rate 5"),
            ]);
            let sources = proxy.routes.iter().flat_map(|route| &route.sources);
            edits.extend(sources.map(|source| format!("remove_route {name} {source}")));
        }
        for group in &document.desired().groups {
            let name = &group.name;
            edits.extend([
                format!("add_target {name} new:1"),
                format!("add_target {name} {{\"address\": \"new:1\", \"weight\": 3}}"),
                format!("update_group {name} {{\"drain\": \"5m\"}}"),
                format!("set groups.{name}.health \"tcp\""),
            ]);
            let targets = group.targets.iter().map(|target| &target.place);
            edits.extend(targets.map(|place| format!("remove_target {name} {place}")));
        }
        for edit in edits {
            let mut document = document.clone();
            let done = exercise::edit_one(&mut document, &edit);
            assert!(done, "{text}\n---\n{edit}");
            // Comments stay, but for those of what goes.
            if !edit.contains("remove") && !edit.contains("null") {
                let count = |text: &str| text.matches("# ").count();
                assert!(
                    count(document.text()) >= count(text),
                    "{edit}\n{document:?}"
                );
            }
        }
    }
}
