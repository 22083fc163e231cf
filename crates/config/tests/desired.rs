//! What configurations say, and what is said of those that are wrong.

use bpfsmith_config::desired::*;
use bpfsmith_config::{json, toml};
use proptest::prelude::*;
use std::time::Duration;

fn read(text: &str) -> Desired {
    let value = toml::read(text).unwrap_or_else(|problems| panic!("{problems}"));
    Desired::read(&value).unwrap_or_else(|problems| panic!("{problems}"))
}

fn place(text: &str) -> Place {
    text.parse().expect("a place")
}

#[test]
fn the_short_form() {
    let read = read("devices = [\"eth0\", \"eth1\"]\nport = 80\ntarget = \"10.0.0.1:8080\"\n");
    let [proxy] = read.proxies.as_slice() else {
        panic!("{read:?}");
    };
    assert_eq!((proxy.name.as_str(), proxy.port), ("proxy", 80));
    assert_eq!(proxy.devices, ["eth0", "eth1"]);
    assert_eq!(proxy.protocols, [Protocol::Tcp]);
    let group = read.group(&proxy.group).expect("its own group");
    assert_eq!(group.targets.len(), 1);
    assert_eq!(group.targets[0].place, place("10.0.0.1:8080"));
    assert_eq!((group.algorithm, group.nat), (Algorithm::Maglev, Nat::Dnat));
    assert_eq!(read.settings, Settings::default());
}

#[test]
fn sources_have_routes_of_their_own() {
    let read = read(
        r#"
        devices = "eth0"
        port = 443
        target = "10.0.0.1:8443"

        [[routes]]
        source = "192.168.1.0/24"
        target = "10.0.0.2:8443"
        [[routes]]
        source = ["192.168.2.100", "customer-a.example.com", "2001:db8::/32"]
        targets = [{ address = "10.0.0.3:9443", weight = 3 }, "b.example:9443"]
        algorithm = "fewest"
        "#,
    );
    let routes = &read.proxies[0].routes;
    assert_eq!(
        routes[0].sources,
        ["192.168.1.0/24".parse().expect("a source")]
    );
    assert_eq!(
        routes[1].sources,
        [
            Source::Prefix("192.168.2.100".parse().expect("an address"), 32),
            Source::Host("customer-a.example.com".to_owned()),
            Source::Prefix("2001:db8::".parse().expect("an address"), 32),
        ]
    );
    let group = read.group(&routes[1].group).expect("a group");
    assert_eq!(group.algorithm, Algorithm::Fewest);
    let targets: Vec<_> = group
        .targets
        .iter()
        .map(|it| (it.place.to_string(), it.weight))
        .collect();
    assert_eq!(
        targets,
        [
            ("10.0.0.3:9443".to_owned(), 3),
            ("b.example:9443".to_owned(), 1)
        ]
    );
    assert_eq!(routes[1].at.line, 9);
}

#[test]
fn the_full_form() {
    let read = read(
        r#"
        [[proxies]]
        name = "web"
        devices = ["eth0"]
        address = ["192.0.2.80", "2001:db8::80"]
        port = 80
        protocol = ["tcp", "udp"]
        group = "web"
        limit = { rate = 1000, cookies = true }

        [[proxies]]
        name = "api"
        port = 8080
        group = "web"

        [groups.web]
        targets = ["10.0.0.1:8080"]
        algorithm = "source"
        nat = "full"
        drain = "1m"
        health = { kind = "http", path = "/up", expect = [200], interval = "2s", jitter = 0, slow_start = "30s" }

        [settings]
        sources = ["192.0.2.1"]
        source_ports = "2000 - 30000"
        flows = 1000
        timeouts = { established = "1h", udp = 60 }
        source_limit = { rate = 10, bits4 = 24, room = 5 }
        events = true
        metrics = "127.0.0.1:9100"
        admin = { listen = "127.0.0.1:8081", token_file = "/etc/bpfsmith-proxy/token" }
        fragments = "follow-or-drop"
        mid_stream = "adopt"
        vlan = true
        access_log = { path = "/var/log/proxy.log", format = "common" }
        "#,
    );
    let web = read.proxy("web").expect("a proxy");
    assert_eq!(web.protocols, [Protocol::Tcp, Protocol::Udp]);
    let limit = Limit {
        rate: 1000,
        burst: 1000,
        cookies: true,
    };
    assert_eq!(web.limit, Some(limit));
    let group = read.group("web").expect("a group");
    assert_eq!(group.drain, Duration::from_secs(60));
    let health = group.health.as_ref().expect("a check");
    assert_eq!(health.interval, Duration::from_secs(2));
    assert_eq!((health.up, health.down), (2, 3));
    let check = Check::Http {
        path: "/up".to_owned(),
        host: None,
        expect: vec![200],
    };
    assert_eq!(health.check, check);
    let settings = read.settings;
    assert_eq!(settings.source_ports, Some(2000..=30000));
    assert_eq!(
        settings.timeouts.established,
        Some(Duration::from_secs(3600))
    );
    assert_eq!(settings.timeouts.udp, Some(Duration::from_secs(60)));
    assert_eq!(
        settings
            .source_limit
            .map(|it| (it.bits4, it.bits6, it.burst, it.room)),
        Some((24, 64, 10, Some(5)))
    );
    let admin = Admin {
        listen: "127.0.0.1:8081".parse().expect("an address"),
        token_file: "/etc/bpfsmith-proxy/token".into(),
    };
    assert_eq!(settings.admin, Some(admin));
    assert_eq!(settings.fragments, Some(Fragments::FollowOrDrop));
    assert_eq!(settings.mid_stream, Some(MidStream::Adopt));
    assert_eq!(settings.vlan, Some(true));
    assert_eq!(
        settings.access_log.map(|it| it.format),
        Some(Format::Common)
    );
}

#[test]
fn what_is_wrong_is_told_where_it_is() {
    let rows = [
        (
            "port = 80",
            "line 1, column 1: nobody answers: name a target, targets or a group",
        ),
        (
            "port = 0\ntarget = \"10.0.0.1:1\"",
            "line 1, column 8: port is 0: it is from 1 to 65535",
        ),
        (
            "port = 80\ntarget = \"10.0.0.1\"",
            "line 2, column 10: target is \"10.0.0.1\": it is \"10.0.0.1:8080\", \"[fd00::1]:8080\" or \"host.example:8080\"",
        ),
        (
            "port = 80\ntarget = \"10.0.0.256:1\"",
            "line 2, column 10: target is \"10.0.0.256:1\": it is \"10.0.0.1:8080\", \"[fd00::1]:8080\" or \"host.example:8080\"",
        ),
        (
            "port = 80\ntarget = \"a:1\"\n[[routes]]\nsource = \"10.0.0.1/8\"\ntarget = \"a:1\"",
            "line 4, column 10: source is \"10.0.0.1/8\": it is a prefix like \"10.0.0.0/8\" with nothing set behind its bits, an address, or the name of a host",
        ),
        (
            "port = 80\ntarget = \"a:1\"\ngroup = \"b\"",
            "line 3, column 9: a group or targets: both are here",
        ),
        (
            "port = 80\ngroup = \"b\"\n[groups.web]\ntargets = []",
            "line 1, column 1: proxy names group b: there are web",
        ),
        (
            "port = 80\ngroup = \"b\"",
            "line 1, column 1: proxy names group b: there are none",
        ),
        (
            "[[proxies]]\nname = \"a\"\nport = 1\ntarget = \"a:1\"\n[[proxies]]\nname = \"a\"\nport = 2\ngroup = \"a\"",
            "line 5, column 1: there are two proxies a: the other one is on line 1",
        ),
        (
            "port = 80\ntarget = \"a:1\"\nalgorithm = \"random\"",
            "line 3, column 13: algorithm is \"random\": it is \"maglev\", \"source\", \"turns\" or \"fewest\"",
        ),
        (
            "port = 80\ntarget = \"a:1\"\nhealth = { kind = \"tcp\", interval = 0, down = 0 }",
            "line 3, column 37: interval: it is from \"10ms\" to \"1d\"\nline 3, column 47: down: it is 1 or more",
        ),
        (
            "port = 80\ntarget = \"a:1\"\n[settings]\nsource_ports = \"5-4\"",
            "line 4, column 16: source_ports is \"5-4\": it is like \"1024-32767\"",
        ),
        (
            "port = 80\ntarget = \"a:1\"\n[settings.timeouts]\nestablished = \"0s\"",
            "line 4, column 15: established is nothing: flows would be forgotten at once",
        ),
        (
            "port = 80\ntarget = \"a:1\"\n[settings]\nadmin = { listen = \"127.0.0.1:1\" }\nflows = 0",
            "line 4, column 9: token_file is missing: it is a path in quotes\nline 5, column 9: flows is 0: it is 1 or more",
        ),
        (
            "port = 80\ntarget = \"a:1\"\n[settings]\nadmin = \"127.0.0.1:1\"\nsource_limit = { rate = 1, room = 0 }",
            "line 4, column 9: \"127.0.0.1:1\" is here where a table should be\nline 4, column 9: listen is missing: it is an address with a port, like \"192.0.2.1:80\" or \"[2001:db8::1]:80\"\nline 4, column 9: token_file is missing: it is a path in quotes\nline 5, column 35: room is 0: it is 1 or more",
        ),
        (
            "port = 80\ntarget = \"a:1\"\n[settings]\nfragments = \"drop\"\nmid_stream = 1\nvlan = \"yes\"",
            "line 4, column 13: fragments is \"drop\": it is \"follow\", \"follow-or-drop\" or \"pass\"\nline 5, column 14: mid_stream is 1: it is \"pass\", \"drop\" or \"adopt\"\nline 6, column 8: vlan is \"yes\": it is true or false",
        ),
        (
            "[[proxies]]\nport = 80\ntarget = \"a:1\"\n[[proxies]]\nport = 0\ntarget = \"a:1\"",
            "line 1, column 1: name is missing: it is text in quotes\nline 4, column 1: name is missing: it is text in quotes\nline 5, column 8: port is 0: it is from 1 to 65535",
        ),
        (
            "name = \"\"\nport = 80\ngroup = \"a\\u0007\"\n[groups.\"a\\u0007\"]\ntargets = []",
            "line 1, column 1: the name of a proxy is \"\": it has a character at least, and only such as can be seen\nline 4, column 1: the name of a group is \"a\\u{7}\": it has a character at least, and only such as can be seen",
        ),
        (
            "port = 80\ntarget = \"a:1\"\n[groups.proxy]\ntargets = []",
            "line 3, column 1: there are two groups proxy: the other one is on line 1",
        ),
        (
            "port = 80\ntarget = \"a:1\"\n[[proxy]]\nname = \"a\"",
            "line 3, column 3: there is no proxy here: did you mean proxies?",
        ),
        (
            "port = 80\ntarget = { adress = \"a:1\" }",
            "line 2, column 10: address is missing: it is \"10.0.0.1:8080\", \"[fd00::1]:8080\" or \"host.example:8080\"\nline 2, column 12: there is no adress here: did you mean address?",
        ),
    ];
    for (text, told) in rows {
        let value = toml::read(text).unwrap_or_else(|problems| panic!("{text}: {problems}"));
        match Desired::read(&value) {
            Ok(read) => panic!("{text:?} is {read:?}"),
            Err(problems) => assert_eq!(problems.to_string(), told, "{text}"),
        }
    }
}

#[test]
fn places_and_sources_are_written_as_they_are_read() {
    for text in [
        "10.0.0.1:80",
        "[fd00::1]:80",
        "a.example:80",
        "a-b.c_d.example.:1",
    ] {
        assert_eq!(
            text.parse::<Place>().map(|it| it.to_string()),
            Ok(text.to_owned())
        );
    }
    for text in [
        "10.0.0.0/8",
        "10.1.2.3/32",
        "::/0",
        "a.example",
        "0.0.0.0/0",
        "fd00::/8",
    ] {
        assert_eq!(
            text.parse::<Source>().map(|it| it.to_string()),
            Ok(text.to_owned())
        );
    }
    for text in [
        "", ":80", "a:", "a b:1", "-a:1", "a..b:1", "1.2.3:80", "fd00::1", "a:65536",
    ] {
        assert_eq!(text.parse::<Place>(), Err(()), "{text}");
    }
    for text in [
        "",
        "10.0.0.0/33",
        "10.0.0.1/31",
        "::1/127",
        "a/8",
        "10.0.0",
        "10.0.0.0/",
        "10.0.0.0/-1",
    ] {
        assert_eq!(text.parse::<Source>(), Err(()), "{text}");
    }
}

/// Tables with the names that mean something, and values that may not.
fn tables() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "port",
        "target",
        "targets",
        "group",
        "groups",
        "proxies",
        "routes",
        "source",
        "name",
        "settings",
        "health",
        "kind",
        "limit",
        "rate",
        "address",
        "weight",
        "timeouts",
        "access_log",
        "source_ports",
        "devices",
        "x",
    ]);
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|it| it.to_string()),
        prop::sample::select(vec![
            "a:1",
            "10.0.0.1:80",
            "tcp",
            "http",
            "10.0.0.0/8",
            "5-4",
            "1h",
            ""
        ])
        .prop_map(|it| format!("{it:?}")),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        let entries = prop::collection::btree_map(name.clone(), inner.clone(), 0..6);
        let table = entries.prop_map(|entries| {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| format!("{key:?}:{value}"))
                .collect();
            format!("{{{}}}", entries.join(","))
        });
        let list =
            prop::collection::vec(inner, 0..4).prop_map(|list| format!("[{}]", list.join(",")));
        prop_oneof![3 => table, 1 => list]
    })
}

proptest! {
    #[test]
    fn no_table_makes_the_reader_panic(text in tables()) {
        let value = json::read(&text).map_err(|problems| TestCaseError::fail(problems.to_string()))?;
        if let Err(problems) = Desired::read(&value) {
            prop_assert!(!problems.is_empty());
        }
    }
}

/// Commands could not name these.
#[test]
fn names_are_no_dots() {
    for name in [".", ".."] {
        let text =
            format!("name = \"{name}\"\nport = 80\ngroup = \"g\"\n[groups.g]\ntargets = []\n");
        let value = bpfsmith_config::toml::read(&text).expect("a text");
        let problems = Desired::read(&value).expect_err("a refusal").to_string();
        let wanted = format!(
            "line 1, column 1: the name of a proxy is {name:?}: it is neither \".\" nor \"..\""
        );
        assert_eq!(problems, wanted);
    }
}
