//! Decisions about devices that are not here.

use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::look::{Driver, Present};
use crate::programs::{Hook, program};
use crate::shape::Shape;

fn device(index: u32, medium: Medium) -> Interface {
    Interface {
        index: IfIndex(index),
        name: format!("dev{index}"),
        medium,
        has_ethernet: true,
        mtu: 1500,
        xdp: Some(XdpFeatures(0)),
        xdp_program: None,
        tcx_programs: Vec::new(),
        forwards: [Family::V4, Family::V6].into(),
        rp_filter: 0,
        routes_localnet: false,
        watches_output: false,
    }
}

fn driver(bus: &str, name: &str) -> Driver {
    Driver {
        bus: bus.to_owned(),
        name: Some(name.to_owned()),
    }
}

fn card(index: u32) -> Interface {
    Interface {
        xdp: Some(XdpFeatures(0x7f)),
        ..device(index, Medium::Card(driver("pci", "ice")))
    }
}

fn cable(index: u32) -> Interface {
    let cable = Cable {
        kind: "veth".to_owned(),
        far: Some(IfIndex(2)),
        leaves_namespace: true,
        end: Some(FarEnd {
            name: "eth0".to_owned(),
            leaves_sums: true,
            takes_redirected: false,
            has_program: false,
            has_native: false,
        }),
    };
    Interface {
        xdp: Some(XdpFeatures(
            xdp_act::NETDEV_XDP_ACT_BASIC | xdp_act::NETDEV_XDP_ACT_REDIRECT,
        )),
        ..device(index, Medium::Cable(cable))
    }
}

fn need() -> Need {
    Need {
        families: [Family::V4].into(),
        own_backends: Vec::new(),
    }
}

fn best(devices: &[Interface]) -> Vec<String> {
    let devices: Vec<_> = devices.iter().map(|it| (it.clone(), Wish::Best)).collect();
    let choices = choose(&devices, &need()).unwrap();
    choices.iter().map(ToString::to_string).collect()
}

fn refusal(devices: &[Interface], wish: Wish) -> String {
    let devices: Vec<_> = devices.iter().map(|it| (it.clone(), wish)).collect();
    choose(&devices, &need()).unwrap_err().to_string()
}

#[test]
fn cards_get_programs_in_their_drivers_and_virtual_devices_do_not() {
    assert_eq!(
        best(&[card(2), card(3)]),
        [
            "dev2: native XDP, TCX: driver ice runs XDP programs",
            "dev3: native XDP, TCX: driver ice runs XDP programs",
        ]
    );
    let virtio = device(4, Medium::Paravirtual(driver("virtio", "virtio_net")));
    let bridge = device(5, Medium::Virtual("bridge".to_owned()));
    let texts = best(&[
        virtio,
        bridge,
        device(1, Medium::Loopback),
    ]);
    assert!(texts[0].starts_with("dev4: TCX: virtio_net is a hypervisor's: "));
    assert!(texts[1].starts_with("dev5: TCX: bridge is virtual: "));
    assert_eq!(
        texts[2],
        "dev1: TCX: packets of the loopback device are the kernel's own"
    );
}

#[test]
fn what_speaks_against_a_program_in_the_driver_of_a_card() {
    let old = Interface {
        xdp: None,
        ..card(2)
    };
    let plain = Interface {
        xdp: Some(XdpFeatures(0)),
        ..card(2)
    };
    let long = Interface {
        mtu: 9000,
        xdp: Some(XdpFeatures(0x7)),
        ..card(2)
    };
    let taken = Interface {
        xdp_program: Some(77),
        ..card(2)
    };
    for (device, why) in [
        (
            old,
            "this kernel does not tell whether the driver runs XDP programs (Linux 6.3 does)",
        ),
        (plain, "driver ice runs no XDP programs"),
        (
            long,
            "packets of 9000 bytes are longer than XDP programs on all devices in use can pass on",
        ),
        (taken, "XDP program 77 is there already"),
    ] {
        assert_eq!(best(&[device]), [format!("dev2: TCX: {why}")]);
    }
    assert_eq!(
        best(&[card(2), cable(3)])[0],
        "dev2: TCX: dev3 does not take packets from XDP programs"
    );
    // A driver that takes packets only once it has a program of its own.
    let late = Interface {
        xdp: Some(XdpFeatures(0x3)),
        ..card(3)
    };
    assert!(best(&[card(2), late])[0].starts_with("dev2: native XDP"));
}

#[test]
fn packets_go_to_far_ends_where_nobody_watches_them() {
    let peers = |device: Interface, wish| goes_to_peer(&device, wish);
    assert!(peers(cable(3), Wish::Best) && !peers(cable(3), Wish::Visible));
    assert!(!peers(card(3), Wish::Best));
    let watched = Interface {
        watches_output: true,
        ..cable(3)
    };
    assert!(!peers(watched, Wish::Best));
    let with = |change: fn(&mut Cable)| {
        let mut device = cable(3);
        if let Medium::Cable(cable) = &mut device.medium {
            change(cable);
        }
        device
    };
    assert!(!peers(with(|it| it.leaves_namespace = false), Wish::Best));
    let has_program = |it: &mut Cable| {
        if let Some(end) = &mut it.end {
            end.has_program = true;
        }
    };
    assert!(!peers(with(has_program), Wish::Best));
    assert!(peers(with(|it| it.end = None), Wish::Best));
}

#[test]
fn the_usual_way_is_that_of_most_other_devices() {
    let usual = |devices: &[Interface]| {
        let devices: Vec<_> = devices.iter().map(|it| (it.clone(), Wish::Best)).collect();
        let choices = choose(&devices, &need()).unwrap();
        choices
            .iter()
            .map(|it| (it.usual, it.xdp_usual))
            .collect::<Vec<_>>()
    };
    use Usual::{Back, Device, Peer};
    assert_eq!(
        usual(&[card(2), cable(3)]),
        [(Peer, Device), (Device, Device)]
    );
    assert_eq!(usual(&[card(2)]), [(Device, Back)]);
    assert_eq!(usual(&[cable(2)]), [(Peer, Device)]);
    let four = [card(2), card(3), card(4), cable(5)];
    assert_eq!(usual(&four)[0].0, Device);
}

#[test]
fn refusals_say_what_to_do() {
    assert_eq!(
        refusal(&[cable(3)], Wish::Native),
        "XDP on dev3: its far end eth0 leaves checksums to the device, and packets would arrive \
         without (in the namespace of eth0: ethtool -K eth0 tx off)"
    );
    let bridge = device(5, Medium::Virtual("bridge".to_owned()));
    assert_eq!(
        refusal(std::slice::from_ref(&bridge), Wish::Native),
        "native XDP on dev5: its driver runs no XDP programs (wish for TCX)"
    );
    assert_eq!(
        refusal(&[card(2), bridge], Wish::Native),
        "XDP on dev2: packets to dev5 would be dropped (wish for TCX)"
    );
    let dotted = Interface {
        name: "eth0.7".to_owned(),
        forwards: [Family::V6].into(),
        ..card(2)
    };
    assert_eq!(
        refusal(&[dotted], Wish::Best),
        "eth0.7 does not forward IPv4: sysctl -w net.ipv4.conf.eth0/7.forwarding=1"
    );
    let tun = Interface {
        has_ethernet: false,
        ..device(6, Medium::Virtual("tun".to_owned()))
    };
    assert_eq!(
        refusal(&[tun], Wish::Best),
        "dev6 has no Ethernet addresses: only devices that have are supported"
    );
    let long = Interface {
        mtu: 9000,
        xdp: Some(XdpFeatures(0x7)),
        ..card(2)
    };
    assert_eq!(
        refusal(&[long], Wish::Native),
        "native XDP on dev2: packets of 9000 bytes do not fit (at most 3498: ip link set dev2 mtu)"
    );
}

#[test]
fn what_could_not_be_seen_is_noted() {
    let unseen = {
        let mut device = cable(3);
        if let Medium::Cable(cable) = &mut device.medium {
            cable.end = None;
        }
        Interface {
            xdp: None,
            rp_filter: 1,
            ..device
        }
    };
    let need = Need {
        own_backends: vec![own("10.0.0.1")],
        ..need()
    };
    let choices = choose(&[(unseen, Wish::Native)], &need).unwrap();
    assert_eq!(
        choices[0].to_string(),
        "dev3: native XDP, TCX: as wished; its far end was not seen: there, ethtool must have tx off \
         and gro on; this kernel does not tell whether dev3 takes packets from XDP programs; rp_filter \
         is 1: clients whose answers leave by another device do not reach backends of this machine"
    );
}

fn own(address: &str) -> OwnBackend {
    OwnBackend {
        address: address.parse().unwrap(),
        has_own_source: false,
    }
}

#[test]
fn own_backends_that_nobody_would_reach() {
    let refusal = |backend: OwnBackend| {
        let need = Need {
            own_backends: vec![backend],
            ..need()
        };
        choose(&[(card(2), Wish::Best)], &need)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refusal(own("127.0.0.1")),
        "backend 127.0.0.1 is not reached from dev2: sysctl -w net.ipv4.conf.dev2.route_localnet=1, or \
         another address"
    );
    assert_eq!(
        refusal(own("::1")),
        "backend ::1 is never reached from outside: give it another address of this machine"
    );
    let source = OwnBackend {
        has_own_source: true,
        ..own("10.0.0.1")
    };
    assert_eq!(
        refusal(source),
        "backend 10.0.0.1 is on this machine, and its group gives packets a source of this machine's: \
         answers would not leave (put it into a group with Mode::Dnat)"
    );
}

#[test]
fn a_program_that_is_there_before_is_told() {
    let named = |name: Option<&str>| Present {
        program: 7,
        name: name.map(str::to_owned),
    };
    let with = |name| Interface {
        tcx_programs: vec![named(name)],
        ..device(3, Medium::Virtual("bridge".to_owned()))
    };
    for (name, said) in [
        (None, "another TCX program (id 7) is before this one"),
        (
            Some("cil_from_netdev"),
            "another TCX program (id 7, name cil_from_netdev) is before this one",
        ),
        (
            Some(why::PROXY),
            "another TCX program (id 7, name proxy_tcx) is before this one: what it takes never \
             comes here (it is of a proxy, too: end one of the two)",
        ),
    ] {
        let [text] = best(&[with(name)]).try_into().unwrap();
        assert!(text.contains(said), "{text}");
    }
    let shape = Shape::of(&Config::default(), 251, Clock::new(250));
    let ours = program(Hook::Tcx, Usual::Device, &shape).unwrap();
    assert_eq!(ours.name(), why::PROXY);
}

#[test]
fn a_device_is_listed_once() {
    let bridge = device(3, Medium::Virtual("bridge".to_owned()));
    assert_eq!(
        refusal(&[bridge.clone(), bridge], Wish::Best),
        "dev3 is listed twice: list each device once"
    );
}
