//! Errors of all crates as a `main` prints them: `Debug` is what `{:#}` is, with what to do next.

use bpfsmith::datapath::choice::Obstacle;
use bpfsmith::datapath::config::Family;
use bpfsmith::datapath::error::Error as ProxyError;
use bpfsmith::dsl::*;
use bpfsmith::maps::{Error as MapError, Options};
use bpfsmith::net::{IfIndex, Netlink, Prefix};
use bpfsmith::prog::probe::Group;
use bpfsmith::splice::Error as SpliceError;
use bpfsmith::steer::{Binding, Error as SteerError, Label};
use std::fmt::{Debug, Display};

#[track_caller]
fn check(error: impl Debug + Display, advice: &str) {
    let printed = format!("{error:?}");
    assert_eq!(printed, format!("{error:#}"));
    assert!(printed.contains(advice), "{printed}");
}

/// An error of a map, made without one: the definition has no inner map.
fn map_error() -> MapError {
    let def: MapDef<u32, u32> = MapDef::array("none", 0);
    bpfsmith::maps::Handle::create_with(def.shape(), &Options::default()).expect_err("no entries")
}

#[test]
fn what_a_main_prints_has_advice() {
    let obstacle = || Obstacle::NotForwarding {
        name: "eth0".to_owned(),
        family: Family::V4,
    };
    check(obstacle(), "sysctl -w net.ipv4.conf.eth0.forwarding=1");
    check(ProxyError::from(obstacle()), "sysctl -w");
    check(ProxyError::from(map_error()), "BPF_MAP_CREATE");
    check(SpliceError::from(map_error()), "BPF_MAP_CREATE");
    check(SteerError::Map(map_error()), "BPF_MAP_CREATE");
    check(map_error(), "(");
    let net = Netlink::open().expect("netlink");
    check(net.link_at(IfIndex(0)).expect_err("no device"), "ip link");
    check(
        "tcp 80".parse::<Binding>().expect_err("two words"),
        "three words",
    );
    check(Label::new("").expect_err("no name"), "1 to 63 bytes");
    check(
        "10.0.0.0/40".parse::<Prefix>().expect_err("too long"),
        "32 bits",
    );
    check("none".parse::<Group>().expect_err("no group"), "use prog");
    let wrong = Program::new(ProgType::XDP, "wrong", code![mov(R0, R6), exit()]);
    check(wrong.expect_err("never written"), "write it first");
}
