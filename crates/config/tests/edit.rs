//! Configurations that are changed: what they become, to the letter, and what is refused.

use bpfsmith_config::{Document, EditError, Effect, Value, json};

const SHORT: &str = "\
# Our site.
# Ask before you change anything.

# Clients come here.
port = 80 # for all
devices = [\"eth0\"]
target = \"10.0.0.1:8080\" # the old one
health = \"tcp\"

# Inside.
[[routes]]
source = [\"10.0.0.0/8\", \"fd00::/8\"]
target = \"10.0.0.2:8080\"

[[routes]]
source = \"192.0.2.1\"
target = \"10.0.0.3:8080\"

[settings]
events = true
";

const FULL: &str = "\
# All of them.

[[proxies]]
name = \"web\"
port = 80
group = \"web\" # three of them

# The second one.
[[proxies]]
name = \"api\"
port = 8080
targets = [
    \"10.0.1.1:3000\", # large
    # Small ones.
    { address = \"10.0.1.2:3000\", weight = 2 },
    \"api.example:3000\"
]

[[proxies.routes]]
source = \"10.0.0.0/8\"
group = \"web\"

[[proxies.routes]]
source = \"10.1.0.0/16\"
target = \"10.0.1.4:3000\"

[[proxies.routes]]
source = \"10.2.0.0/16\"
target = \"10.0.1.5:3000\"

# Who answers.
[groups.web]
targets = [\"10.0.0.1:8080\", \"10.0.0.2:8080\", \"10.0.0.3:8080\"]
drain = \"1m\" # long enough

[settings]
timeouts = { udp = \"1m\", closed = \"5s\" }
";

fn read(text: &str) -> Document {
    Document::read(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

fn value(text: &str) -> Value {
    json::read(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

type Edit = fn(&mut Document) -> Result<Effect, EditError>;

/// Lines that go and lines that come, in their order; those that stay in between are not told.
fn changes(before: &str, after: &str) -> String {
    let (before, after): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let same = before
        .iter()
        .zip(&after)
        .take_while(|(a, b)| a == b)
        .count();
    let (before, after) = (&before[same..], &after[same..]);
    let ends = before.iter().rev().zip(after.iter().rev());
    let end = ends.take_while(|(a, b)| a == b).count();
    let gone = before[..before.len() - end]
        .iter()
        .map(|it| format!("-{it}"));
    let come = after[..after.len() - end].iter().map(|it| format!("+{it}"));
    gone.chain(come).collect::<Vec<_>>().join("\n")
}

#[test]
fn only_what_is_meant_changes() {
    let rows: [(&str, Edit, &str); 22] = [
        (
            SHORT,
            |it| it.update_proxy("proxy", &value(r#"{"port": 443}"#)),
            "-port = 80 # for all\n+port = 443 # for all",
        ),
        (
            SHORT,
            |it| it.update_proxy("proxy", &value(r#"{"health": null, "limit": {"rate": 9}}"#)),
            "-health = \"tcp\"\n+limit = { rate = 9 }",
        ),
        (
            SHORT,
            |it| {
                it.add_target(
                    "proxy",
                    &value(r#"{"address": "b.example:80", "weight": 3}"#),
                )
            },
            "-target = \"10.0.0.1:8080\" # the old one\n\
             +targets = [\"10.0.0.1:8080\", { address = \"b.example:80\", weight = 3 }] # the old one",
        ),
        (
            SHORT,
            |it| it.remove_target("proxy", "10.0.0.1:8080"),
            "-target = \"10.0.0.1:8080\" # the old one\n+targets = [] # the old one",
        ),
        (
            SHORT,
            |it| it.remove_route("proxy", "fd00::/8"),
            "-source = [\"10.0.0.0/8\", \"fd00::/8\"]\n+source = [\"10.0.0.0/8\"]",
        ),
        (
            SHORT,
            |it| it.remove_route("proxy", "10.0.0.0/8"),
            "-source = [\"10.0.0.0/8\", \"fd00::/8\"]\n+source = [\"fd00::/8\"]",
        ),
        (
            SHORT,
            |it| it.remove_route("proxy", "192.0.2.1/32"),
            "-[[routes]]\n-source = \"192.0.2.1\"\n-target = \"10.0.0.3:8080\"\n-",
        ),
        (
            SHORT,
            |it| it.add_route("proxy", &value(r#"{"source": "::/0", "target": "a:1"}"#)),
            "+[[routes]]\n+source = \"::/0\"\n+target = \"a:1\"\n+",
        ),
        (
            SHORT,
            |it| it.set("settings.timeouts.established", &"1h".into()),
            "+timeouts = { established = \"1h\" }",
        ),
        (
            SHORT,
            |it| it.set("settings", &Value::from(None::<bool>)),
            "-\n-[settings]\n-events = true",
        ),
        (
            SHORT,
            |it| {
                it.put_group(
                    "a b",
                    &value(r#"{"targets": [], "health": {"kind": "http"}}"#),
                )
            },
            "+\n+[groups.\"a b\"]\n+targets = []\n+health = { kind = \"http\" }",
        ),
        (
            FULL,
            |it| it.add_target("api", &"10.0.1.3:3000".into()),
            "-    \"api.example:3000\"\n+    \"api.example:3000\",\n+    \"10.0.1.3:3000\",",
        ),
        (
            FULL,
            |it| it.remove_target("api", "10.0.1.1:3000"),
            "-    \"10.0.1.1:3000\", # large",
        ),
        (
            FULL,
            |it| it.remove_target("api", "api.example:3000"),
            "-    { address = \"10.0.1.2:3000\", weight = 2 },\n-    \"api.example:3000\"\n\
             +    { address = \"10.0.1.2:3000\", weight = 2 }",
        ),
        (
            FULL,
            |it| it.remove_target("web", "10.0.0.1:8080"),
            "-targets = [\"10.0.0.1:8080\", \"10.0.0.2:8080\", \"10.0.0.3:8080\"]\n\
             +targets = [\"10.0.0.2:8080\", \"10.0.0.3:8080\"]",
        ),
        (
            FULL,
            |it| it.set("settings.timeouts.closed", &Value::from(None::<bool>)),
            "-timeouts = { udp = \"1m\", closed = \"5s\" }\n+timeouts = { udp = \"1m\" }",
        ),
        (
            FULL,
            |it| it.set("groups.web.health.kind", &"http".into()),
            "+health = { kind = \"http\" }",
        ),
        (
            FULL,
            |it| it.update_group("web", &value(r#"{"drain": "2m"}"#)),
            "-drain = \"1m\" # long enough\n+drain = \"2m\" # long enough",
        ),
        (
            FULL,
            |it| {
                it.add_route(
                    "web",
                    &value(r#"{"source": ["10.0.0.0/8"], "group": "web"}"#),
                )
            },
            "+[[proxies.routes]]\n+source = [\"10.0.0.0/8\"]\n+group = \"web\"\n+",
        ),
        (
            FULL,
            |it| {
                it.add_proxy(&value(
                    r#"{"name": "dns", "port": 53, "protocol": "udp", "group": "web"}"#,
                ))
            },
            "+[[proxies]]\n+name = \"dns\"\n+port = 53\n+protocol = \"udp\"\n+group = \"web\"\n+",
        ),
        (
            FULL,
            |it| it.remove_proxy("web"),
            "-[[proxies]]\n-name = \"web\"\n-port = 80\n-group = \"web\" # three of them\n-",
        ),
        (
            FULL,
            |it| it.update_proxy("api", &value(r#"{"target": "a:1"}"#)),
            "-targets = [\n-    \"10.0.1.1:3000\", # large\n-    # Small ones.\n\
             -    { address = \"10.0.1.2:3000\", weight = 2 },\n-    \"api.example:3000\"\n-]\n\
             +target = \"a:1\"",
        ),
    ];
    for (text, edit, wanted) in rows {
        let mut document = read(text);
        if let Err(error) = edit(&mut document) {
            panic!("{wanted}\n{error}");
        }
        assert_eq!(
            changes(text, document.text()),
            wanted,
            "{}",
            document.text()
        );
        assert_eq!(read(document.text()), document);
    }
}

#[test]
fn a_second_proxy_makes_a_list_of_the_short_form() {
    let mut document = read(SHORT);
    let before = document.desired().clone();
    document
        .add_proxy(&value(r#"{"name": "b", "port": 1, "target": "a:1"}"#))
        .expect("a name that is free");
    let wanted = "\
# Our site.
# Ask before you change anything.

[[proxies]]
name = \"proxy\"
# Clients come here.
port = 80 # for all
devices = [\"eth0\"]
target = \"10.0.0.1:8080\" # the old one
health = \"tcp\"

# Inside.
[[proxies.routes]]
source = [\"10.0.0.0/8\", \"fd00::/8\"]
target = \"10.0.0.2:8080\"

[[proxies.routes]]
source = \"192.0.2.1\"
target = \"10.0.0.3:8080\"

[[proxies]]
name = \"b\"
port = 1
target = \"a:1\"

[settings]
events = true
";
    assert_eq!(document.text(), wanted);
    document.remove_proxy("b").expect("the second one");
    let after = document.desired();
    assert_eq!(after.proxies[0].name, before.proxies[0].name);
    assert_eq!(after.groups.len(), before.groups.len());
}

#[test]
fn what_is_refused_changes_nothing() {
    let rows: [(&str, Edit, &str); 20] = [
        (
            FULL,
            |it| it.add_proxy(&value(r#"{"name": "web", "port": 1, "group": "web"}"#)),
            "there is a proxy web already: change that one instead",
        ),
        (
            FULL,
            |it| it.add_proxy(&value(r#"{"name": "b", "port": 0, "grup": "web"}"#)),
            "nothing was changed: nobody answers: name a target, targets or a group (in [[proxies]]); \
             port is 0: it is from 1 to 65535 (in port = 0); there is no grup here: did you mean group? (in grup = \"web\")",
        ),
        (
            FULL,
            |it| it.add_proxy(&value("[1]")),
            "nothing was changed: a list of 1 is here where a table should be",
        ),
        (
            FULL,
            |it| it.add_proxy(&value(r#"{"name": "b", "port": 1, "targets": [null]}"#)),
            "nothing was changed: nothing is here where a value should be",
        ),
        (
            FULL,
            |it| it.update_proxy("wob", &value("{}")),
            "there is no proxy wob: there are web, api",
        ),
        (
            "",
            |it| it.remove_proxy("web"),
            "there is no proxy web: there are none",
        ),
        (
            FULL,
            |it| it.update_proxy("web", &value(r#"{"name": "api"}"#)),
            "there is a proxy api already: change that one instead",
        ),
        (
            SHORT,
            |it| it.update_proxy("proxy", &value(r#"{"settings": null}"#)),
            "nothing was changed: there is no settings here",
        ),
        (
            "port = 80\ntarget = \"a:1\"",
            |it| it.update_proxy("proxy", &value(r#"{"port": null, "target": null}"#)),
            "nothing was changed: nothing would be left of proxy proxy: remove it instead",
        ),
        (
            FULL,
            |it| {
                it.add_route(
                    "api",
                    &value(r#"{"source": ["::/0", "10.1.0.0/16"], "group": "web"}"#),
                )
            },
            "there is a route 10.1.0.0/16 already: change that one instead",
        ),
        (
            FULL,
            |it| it.remove_route("api", "10.3.0.0/16"),
            "there is no route 10.3.0.0/16: there are 10.0.0.0/8, 10.1.0.0/16, 10.2.0.0/16",
        ),
        (
            FULL,
            |it| it.remove_group("web"),
            "group web is named by proxy web, route 1 of proxy api: give them another group first",
        ),
        (
            FULL,
            |it| it.remove_group("api"),
            "group api has no name of its own, it is the targets of proxy api: change the proxy",
        ),
        (
            FULL,
            |it| it.put_group("api-route-2", &value(r#"{"targets": []}"#)),
            "group api-route-2 has no name of its own, it is the targets of proxy api: change the proxy",
        ),
        (
            FULL,
            |it| it.update_group("api", &value(r#"{"port": 7}"#)),
            "nothing was changed: there is no port here",
        ),
        (
            FULL,
            |it| {
                it.add_target(
                    "web",
                    &value(r#"{"address": "10.0.0.2:8080", "weight": 7}"#),
                )
            },
            "there is a target 10.0.0.2:8080 already: change that one instead",
        ),
        (
            FULL,
            |it| it.remove_target("web", "10.0.0.4"),
            "there is no target 10.0.0.4: there are 10.0.0.1:8080, 10.0.0.2:8080, 10.0.0.3:8080",
        ),
        (
            FULL,
            |it| it.set("settings.timeouts.upd", &5_u8.into()),
            "nothing was changed: there is no upd here: did you mean udp? (in timeouts = { udp = \"1m\", closed = \"5s\", upd = 5 })",
        ),
        (
            FULL,
            |it| it.set("settings.timeouts.udp.x", &5_u8.into()),
            "nothing was changed: udp is \"1m\": there is no x in it",
        ),
        (
            FULL,
            |it| it.set("setings.flows", &5_u8.into()),
            "there is no setting setings.flows: there are settings.…, groups.NAME.…, proxies.NAME.…",
        ),
    ];
    for (text, edit, wanted) in rows {
        let mut document = read(text);
        match edit(&mut document) {
            Ok(effect) => panic!("{wanted}: {effect:?}\n{document:?}"),
            Err(error) => assert_eq!(error.to_string(), wanted),
        }
        assert_eq!(document, read(text));
    }
}

#[test]
fn groups_that_are_called_otherwise_are_told() {
    let pair = |old: &str, new: &str| (old.to_owned(), new.to_owned());
    let mut document = read(FULL);
    // The first route has a named group, which somebody else names too.
    let effect = document.remove_route("api", "10.0.0.0/8").expect("a route");
    assert_eq!(
        effect.renamed,
        [
            pair("api-route-2", "api-route-1"),
            pair("api-route-3", "api-route-2")
        ]
    );
    assert!(effect.idle.is_empty());
    let effect = document.remove_proxy("web").expect("a proxy");
    assert_eq!(effect.idle, ["web"]);
    document.remove_group("web").expect("one that nobody names");
    let effect = document
        .update_proxy("api", &value(r#"{"name": "inner"}"#))
        .expect("a name that is free");
    assert_eq!(
        effect.renamed,
        [
            pair("api", "inner"),
            pair("api-route-1", "inner-route-1"),
            pair("api-route-2", "inner-route-2")
        ]
    );
    // Somebody names targets of a route that would be called otherwise.
    let other = r#"{"name": "b", "port": 9, "group": "inner-route-2"}"#;
    document
        .add_proxy(&value(other))
        .expect("a name that is free");
    let error = document.remove_route("inner", "10.1.0.0/16");
    let used = EditError::Used {
        group: "inner-route-2".to_owned(),
        by: vec!["proxy b".to_owned()],
    };
    assert_eq!(error, Err(used.clone()));
    assert_eq!(document.remove_proxy("inner"), Err(used));
}
