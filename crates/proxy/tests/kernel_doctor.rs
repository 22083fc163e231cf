//! What the doctor finds in a small network: everything right, and one thing after the other wrong.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_config::Document;
use bpfsmith_gate::needs;
use bpfsmith_net::{Address, Chain, IfIndex, Prefix};
use bpfsmith_prog::target::Tcx;
use bpfsmith_proxy::doctor::{Finding, Grade, Report, examine};
use std::net::TcpListener;
use std::path::Path;

const CONFIG: &str = r#"
[[proxies]]
name = "web"
address = "192.0.2.80"
port = 80
protocol = ["tcp", "udp"]
group = "app"

[groups.app]
targets = ["10.2.0.2:8080"]

[settings]
devices = ["left0", "right0"]
flows = 4096
"#;

/// What the doctor finds at the machine in the middle.
fn examined(net: &Chain, config: &str) -> Report {
    let document = Document::read(config).unwrap();
    let desired = document.desired();
    let nobody = Path::new("/nonexistent-bpfsmith/sock");
    let examined = net.proxy.run(|| examine(Some(desired), nobody)).unwrap();
    examined.unwrap_or_else(|error| panic!("{error}"))
}

fn find<'a>(report: &'a Report, about: &str, text: &str) -> &'a Finding {
    let mut findings = report.findings.iter();
    let found = findings.find(|it| it.about == about && it.what.contains(text));
    found.unwrap_or_else(|| panic!("no {text:?} of {about} in\n{}", report.text()))
}

/// Programs at a device.
fn programs(net: &Chain, device: IfIndex) -> usize {
    let query = || Tcx::ingress(device).query().map(|it| it.progs.len());
    net.proxy.run(query).unwrap().unwrap()
}

#[test]
fn what_is_right_and_what_is_not() {
    needs!(Root, NetNs, Veth, Tcx);
    let net = Chain::new().unwrap();
    let vip = Prefix::host("192.0.2.80".parse().unwrap());
    let proxy = &net.proxy.node.net;
    proxy
        .add_address(&Address::new(IfIndex::LOOPBACK, vip))
        .unwrap();
    let server = net
        .server
        .run(|| TcpListener::bind("10.2.0.2:8080"))
        .unwrap()
        .unwrap();

    let report = examined(&net, CONFIG);
    for (about, text) in [
        ("left0", "it is up"),
        ("left0", "veth, whose far end is"),
        ("right0", "it forwards IPv4"),
        ("left0", "it would get TCX"),
        ("MTU", "all devices take"),
        ("address", "192.0.2.80 of web is this machine's"),
        ("targets", "10.2.0.2:8080 of app answers"),
        ("trial", "the kernel takes proxy_tcx"),
    ] {
        assert_eq!(
            find(&report, about, text).grade,
            Grade::Right,
            "{}",
            report.text()
        );
    }
    // Whoever asked the target knows its neighbour now.
    for what in ["a SYN", "a packet of UDP"] {
        let trial = find(&report, "trial", what);
        assert!(
            trial
                .what
                .contains("goes to 10.2.0.2:8080 as 198.51.100.7:"),
            "{}",
            trial.what
        );
        assert_eq!(trial.grade, Grade::Right, "{}", report.text());
    }
    assert_eq!(find(&report, "daemon", "none answers").grade, Grade::Note);
    let wrong = report.findings.iter().filter(|it| it.grade == Grade::Wrong);
    // The machine that tests may have no BPF file system.
    let wrong: Vec<_> = wrong
        .filter(|it| it.about != "names" && it.about != "kernel")
        .collect();
    assert!(wrong.is_empty(), "{}", report.text());
    // Nothing stays.
    assert_eq!(programs(&net, net.proxy.left.index), 0);

    drop(server);
    let report = examined(&net, CONFIG);
    assert_eq!(
        find(&report, "targets", "takes no connection").grade,
        Grade::Note
    );
    let checked = CONFIG.replace("[groups.app]", "[groups.app]\nhealth = { kind = \"tcp\" }");
    let report = examined(&net, &checked);
    assert_eq!(
        find(&report, "targets", "fails its check").grade,
        Grade::Wrong
    );

    net.proxy
        .node
        .ns
        .set_sysctl("ipv4/conf/left0/forwarding", "0")
        .unwrap();
    let report = examined(&net, CONFIG);
    let told = find(&report, "left0", "does not forward IPv4");
    assert_eq!(
        told.hint.as_deref(),
        Some("sysctl -w net.ipv4.conf.left0.forwarding=1")
    );
    assert!(!report.is_right());
    // It is told once.
    assert!(report.findings.iter().all(|it| it.about != "programs"));
    net.proxy
        .node
        .ns
        .set_sysctl("ipv4/conf/left0/forwarding", "1")
        .unwrap();

    proxy.set_mtu(net.proxy.right.index, 1400).unwrap();
    let report = examined(&net, CONFIG);
    assert_eq!(find(&report, "MTU", "right0 only 1400").grade, Grade::Note);

    let elsewhere = CONFIG.replace("10.2.0.2:8080", "203.0.113.9:80");
    let report = examined(&net, &elsewhere);
    assert_eq!(
        find(&report, "ways", "no route leads there").grade,
        Grade::Wrong
    );
    assert_eq!(find(&report, "trial", "a SYN").grade, Grade::Wrong);

    let one = CONFIG.replace("[\"left0\", \"right0\"]", "[\"left0\", \"gone0\"]");
    let report = examined(&net, &one);
    assert_eq!(
        find(&report, "gone0", "not on this machine").grade,
        Grade::Wrong
    );
    assert_eq!(
        find(&report, "ways", "answers bypass the proxy").grade,
        Grade::Wrong
    );
}

#[test]
fn without_a_configuration_the_machine_is_looked_at() {
    needs!(Root);
    let report = examine(None, Path::new("/nonexistent-bpfsmith/sock")).unwrap();
    find(&report, "kernel", "Linux");
    find(&report, "configuration", "none was looked at");
}
