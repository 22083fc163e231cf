//! Programs of configurations, as text. Nothing of it needs rights.

use bpfsmith_config::{Document, json};
use bpfsmith_proxy::commands::words::Hook;
use bpfsmith_proxy::explain::{Asked, Explanation, parts};

/// Devices that are on no machine.
const CONFIG: &str = r#"
[[proxies]]
name = "web"
address = "192.0.2.80"
port = 80
group = "app"

[groups.app]
targets = ["10.0.0.2:8080", "10.0.0.3:8080"]
algorithm = "fewest"

[settings]
devices = ["bs-none0", "bs-none1"]
"#;

fn explained(text: &str, asked: &Asked) -> Result<Explanation, String> {
    let document = Document::read(text).map_err(|problems| problems.to_string())?;
    Explanation::new(document.desired(), asked).map_err(|error| error.to_string())
}

#[test]
fn what_is_put_in_and_what_is_left_out() {
    let it = explained(CONFIG, &Asked::default()).unwrap();
    let part = |name: &str| {
        let all = parts(&it.foreseen.shape).into_iter();
        all.clone().find(|part| part.name == name).unwrap()
    };
    assert_eq!(part("packets").has, ["TCP over IPv4"]);
    assert_eq!(part("listeners").has, ["IPv4 at an address"]);
    assert_eq!(part("algorithms").has, ["fewest"]);
    assert_eq!(part("NAT").has, ["dnat"]);
    assert_eq!(part("NAT").lacks, ["full", "direct"]);
    assert_eq!(part("routes by source").has, <[&str; 0]>::default());
    assert_eq!(part("events").has, ["told"]);
    let text = it.text();
    assert!(text.contains("TCP over IPv4"), "{text}");
    assert!(text.contains("it is not on this machine"), "{text}");
    // Instructions come with their lines of Rust.
    let listing = &it.programs[0].listing;
    assert_eq!(
        listing
            .lines()
            .filter(|line| line.contains("programs/parse.rs:"))
            .count()
            .min(1),
        1
    );
    assert!(it.programs[0].instructions > 200);
    assert_eq!(it.programs[0].devices, ["bs-none0", "bs-none1"]);
    let summary = json::write(&it.value());
    assert!(
        summary.contains("\"name\":\"bs-none0\",\"here\":false"),
        "{summary}"
    );
    assert!(!summary.contains("parse.rs"), "{summary}");
}

#[test]
fn another_configuration_makes_other_programs() {
    let small = explained(CONFIG, &Asked::default()).unwrap();
    let text = CONFIG.replace("port = 80", "port = 80\nprotocol = [\"tcp\", \"udp\"]\nroutes = [{ source = \"10.9.0.0/16\", target = \"10.0.0.4:80\" }]");
    let large = explained(&text, &Asked::default()).unwrap();
    assert!(large.programs[0].instructions > small.programs[0].instructions);
    let text = large.text();
    assert!(text.contains("TCP over IPv4, UDP over IPv4"), "{text}");
}

#[test]
fn one_hook_and_one_device() {
    let of = |hook, device: Option<&str>| {
        let device = device.map(str::to_owned);
        explained(CONFIG, &Asked { hook, device })
    };
    let one = of(Some(Hook::Tcx), Some("bs-none1")).unwrap();
    assert_eq!(one.programs[0].devices, ["bs-none1"]);
    assert!(!one.text().contains("bs-none0"));
    // No device has one, and it is shown all the same.
    let xdp = of(Some(Hook::Xdp), None).unwrap();
    assert!(xdp.text().contains("no device would have a program at xdp"));
    assert!(xdp.programs[0].listing.contains("programs/"));
    let told = of(None, Some("eth9")).unwrap_err();
    assert!(told.contains("eth9") && told.contains("bs-none0"), "{told}");
}

#[test]
fn hosts_without_an_address_get_one() {
    let text = CONFIG.replace("10.0.0.3:8080", "nobody.invalid:8080");
    let it = explained(&text, &Asked::default()).unwrap();
    assert!(it.foreseen.hosts["nobody.invalid"].is_err());
    assert!(
        it.text().contains("198.18.0.1 stands for it"),
        "{}",
        it.text()
    );
}

#[test]
fn what_contradicts_itself_is_told() {
    let text = CONFIG.replace("devices = [\"bs-none0\", \"bs-none1\"]", "");
    let told = explained(&text, &Asked::default()).unwrap_err();
    assert!(told.contains("no device has programs"), "{told}");
}
