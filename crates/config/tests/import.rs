//! Configurations of clj-ebpf's proxies.

use bpfsmith_config::desired::*;
use bpfsmith_config::edn;
use proptest::prelude::*;
use std::time::Duration;

fn import(text: &str) -> Result<Desired, String> {
    let value = edn::read(text).map_err(|problems| problems.to_string())?;
    Desired::import(&value).map_err(|problems| problems.to_string())
}

fn places(desired: &Desired, group: &str) -> Vec<(String, u32)> {
    let group = desired.group(group).expect("a group");
    let targets = group.targets.iter();
    targets
        .map(|it| (it.place.to_string(), it.weight))
        .collect()
}

#[test]
fn the_simple_form() {
    let text = r#"{:listen-interfaces ["eth0" "eth1"] :listen-port 80
                   :default-target {:ip "10.0.0.1" :port 8080}}"#;
    let read = import(text).expect("a configuration");
    let proxy = &read.proxies[0];
    assert_eq!((proxy.port, proxy.devices.len()), (80, 2));
    assert_eq!(proxy.protocols, [Protocol::Tcp, Protocol::Udp]);
    assert_eq!(
        places(&read, &proxy.group),
        [("10.0.0.1:8080".to_owned(), 1)]
    );
}

#[test]
fn the_form_with_routes() {
    let text = r#"{:listen-interfaces ["eth0"]
        :listen-port 443
        :default-target {:ip "10.0.0.1" :port 8443}
        :source-routes
        [{:source "192.168.1.0/24"    ;; CIDR notation
          :target {:ip "10.0.0.2" :port 8443}}
         {:source "192.168.2.100"     ;; Single IP (implies /32)
          :target {:ip "10.0.0.3" :port 9443}}
         {:source "customer-a.example.com"
          :target {:host "d.example" :port 8443}}]}"#;
    let read = import(text).expect("a configuration");
    let routes = &read.proxies[0].routes;
    let sources: Vec<_> = routes.iter().map(|it| it.sources[0].to_string()).collect();
    assert_eq!(
        sources,
        [
            "192.168.1.0/24",
            "192.168.2.100/32",
            "customer-a.example.com"
        ]
    );
    assert_eq!(
        places(&read, &routes[2].group),
        [("d.example:8443".to_owned(), 1)]
    );
}

#[test]
fn the_full_form() {
    let text = r#"{:proxies
        [{:name "web-proxy" :listen {:interfaces ["eth0"] :port 80}
          :default-target [{:ip "10.0.0.1" :port 8080 :weight 30}
                           {:ip "10.0.0.2" :port 8080 :weight 70}]
          :session-persistence true
          :health-check {:type :http :path "/up" :interval-ms 2000 :expected-codes [200]}}
         {:name "api-proxy" :listen {:interfaces ["eth0" "eth1"] :port 8080}
          :default-target {:ip "10.0.1.1" :port 3000}}]
        :settings {:stats-enabled true :connection-timeout-sec 300 :max-connections 100000
                   :default-drain-timeout-ms 1000
                   :load-balancing {:algorithm :least-connections}}}"#;
    let read = import(text).expect("a configuration");
    let web = read.group("web-proxy").expect("a group");
    assert_eq!(web.algorithm, Algorithm::Source);
    assert_eq!(web.drain, Duration::from_secs(1));
    let health = web.health.as_ref().expect("a check");
    assert_eq!(health.interval, Duration::from_secs(2));
    assert_eq!(
        read.group("api-proxy").map(|it| it.algorithm),
        Some(Algorithm::Fewest)
    );
    assert_eq!(
        places(&read, "web-proxy")[1],
        ("10.0.0.2:8080".to_owned(), 70)
    );
    let settings = &read.settings;
    assert_eq!((settings.events, settings.flows), (true, Some(100_000)));
    assert_eq!(
        settings.timeouts.established,
        Some(Duration::from_secs(300))
    );
}

#[test]
fn what_has_no_counterpart_is_told() {
    let rows = [
        (
            "[]",
            "line 1, column 1: a list of 0 is here where a table should be",
        ),
        (
            "{:listen-port 80}",
            "line 1, column 1: default-target is missing: nobody answers",
        ),
        (
            "{:listen-port 80 :default-target {:ip \"10.0.0.1\" :port 1} :sni-routes []}",
            "line 1, column 59: there is no sni-routes here: did you mean source-routes?",
        ),
        (
            "{:listen-port 80 :default-target {:ip \"10.0.0\" :port 1}}",
            "line 1, column 39: \"10.0.0\" is neither an address nor a host",
        ),
        (
            "{:listen-port 80 :default-target {:ip \"10.0.0.1\" :port 1}\n :health-check {:type :https}}",
            "line 2, column 23: type is \"https\": here it is :tcp, :http or :none",
        ),
    ];
    for (text, told) in rows {
        assert_eq!(import(text).err().as_deref(), Some(told), "{text}");
    }
}

fn texts() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":proxies",
        ":listen",
        ":listen-port",
        "80",
        ":default-target",
        ":ip",
        "\"10.0.0.1\"",
        ":port",
        ":settings",
        ":source-routes",
        ":source",
        ":health-check",
        ":type",
        ":tcp",
        ":name",
        "\"a\"",
        ":weight",
        "nil",
        "-1",
    ]);
    prop::collection::vec(pieces, 0..32).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #[test]
    fn no_text_makes_the_importer_panic(text in texts()) {
        let _ = import(&text);
        let _ = import(&format!("{{:listen-port 80 :default-target {text}}}"));
    }
}
