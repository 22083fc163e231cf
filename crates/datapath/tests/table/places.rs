//! Programs and user space agree where a key stands.

use crate::rig::{Flow, Rig, client, config, inside, listener};
use bpfsmith_datapath::config::{Algorithm, Family, Protocol};
use bpfsmith_datapath::flows::{Bucket, Flows};
use bpfsmith_datapath::layout::{Bucket4, Bucket6, Key4, Tag};
use bpfsmith_datapath::programs::Hook;
use bpfsmith_datapath::reason::Reason;
use bpfsmith_datapath::shape::Path;
use bpfsmith_gate::needs;
use bpfsmith_maps::{Map, View};
use bpfsmith_uapi::map::MapDef;
use std::net::{IpAddr, SocketAddr};

/// Takes all entries out, and enters them again in the other order, but for those without room: how many
/// that are.
fn anew<B: Bucket>(rig: &Rig, path: Path) -> usize
where
    Map<u32, B>: View<MapDef<u32, B>>,
{
    let maps = rig.generation.maps();
    let mut flows = Flows::<B>::read(maps, path).unwrap();
    let mut entries: Vec<_> = flows.iter().collect();
    for (key, _) in &entries {
        assert!(
            flows.find(key).is_some(),
            "{key:?} is not where it should be"
        );
    }
    entries.reverse();
    flows.clear();
    let refused = entries.iter().filter(|(key, flow)| !flows.enter(key, flow));
    let refused = refused.count();
    assert_eq!(flows.iter().count(), entries.len() - refused);
    flows.write(maps, path).unwrap();
    refused
}

#[test]
fn entries_of_programs_and_of_user_space() {
    needs!(Root, Bpf, NetNs, Veth);
    for room in [0, 11, 12, 1000] {
        let mut config = config(Algorithm::RoundRobin, &[1, 1, 1]);
        config.room.flows = room;
        inside(&config, Hook::Xdp, |rig| {
            for path in Path::ALL {
                let (family, protocol) = (path.family, path.protocol);
                // Half of what there is room for: each finds a place, whatever the order.
                let count = (room / 2).max(4);
                let open = |n| rig.open(protocol, client(family, n), listener(family));
                let flows: Vec<Flow> = (0..count).map(open).collect();
                let refused = match family {
                    Family::V4 => anew::<Bucket4>(rig, path),
                    Family::V6 => anew::<Bucket6>(rig, path),
                };
                assert_eq!(refused, 0, "{path:?} {room}");
                let opened = rig.count(Reason::Opened);
                for flow in &flows {
                    let ask = rig.send(&flow.ask("PA")).expect("it is known");
                    assert_eq!(ask.dst(), flow.backend.ip());
                    let answer = rig.send(&flow.answer("PA")).expect("it is known");
                    assert_eq!(answer.dst(), flow.client.ip());
                    assert_eq!(answer.src(), flow.listener.ip());
                }
                assert_eq!(rig.count(Reason::Opened), opened);
            }
        });
    }
}

/// Of a million keys one has a hash whose bits are all 0 where tags have them: it is entered like others.
#[test]
fn hashes_of_nothing_but_zeros() {
    needs!(Root, Bpf, NetNs, Veth);
    let path = Path::new(Family::V4, Protocol::Tcp);
    inside(&config(Algorithm::RoundRobin, &[1]), Hook::Xdp, |rig| {
        let flows = Flows::<Bucket4>::read(rig.generation.maps(), path).unwrap();
        let to = listener(Family::V4);
        let key = |from: SocketAddr| Key4 {
            saddr: octets(from),
            daddr: octets(to),
            ports: ports(from, to),
        };
        let bits = (Tag::USED - 1) & !((2 << Tag::HASH) - 1);
        let clients = (0..1 << 23).map(|n| client(Family::V4, n));
        let zeros = clients.filter(|from| flows.tag(&key(*from)).0 & bits == 0);
        let zeros: Vec<SocketAddr> = zeros.take(8).collect();
        assert_eq!(zeros.len(), 8);
        for from in zeros {
            let flow = rig.begin(Protocol::Tcp, from, to);
            assert!(flow.is_some(), "{from}: {:?}", rig.counts());
        }
    });
}

fn octets(address: SocketAddr) -> [u8; 4] {
    match address.ip() {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => panic!("{ip} is not of IPv4"),
    }
}

fn ports(from: SocketAddr, to: SocketAddr) -> [u8; 4] {
    let [a, b] = from.port().to_be_bytes();
    let [c, d] = to.port().to_be_bytes();
    [a, b, c, d]
}
