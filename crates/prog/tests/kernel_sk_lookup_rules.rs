//! What the fragments for socket lookup match, compared with what Rust says of the same addresses and
//! ports, and what the kernel answers to wrong sockets.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod net_bench;

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::lookup::{self, End, Network};
use bpfsmith_gate::needs;
use bpfsmith_maps::{LpmKey, Map, ObjectMap};
use bpfsmith_net::{Node, Prefix};
use bpfsmith_prog::target::Netns;
use bpfsmith_prog::{Maps, Prog};
use net_bench::load_to;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;

type Key = LpmKey<[u8; 16]>;

static TABLE: MapDef<Key, u32> = MapDef::lpm_trie("table", 64);
static FOUND: MapDef<u32, u64> = MapDef::array("found", 1);
static SOCKETS: MapDef<u64, u64> = MapDef::new(MapType::SOCKHASH, "sockets", 8);

/// A packet that a program is asked about.
#[derive(Clone, Copy, Debug)]
struct Packet {
    protocol: i32,
    remote: SocketAddr,
    local: SocketAddr,
}

impl Packet {
    fn port(&self, end: End) -> u16 {
        self.end(end).port()
    }

    fn end(&self, end: End) -> SocketAddr {
        match end {
            End::Local => self.local,
            End::Remote => self.remote,
        }
    }

    /// As the kernel's structure has it.
    #[expect(
        deprecated,
        reason = "whoever fills it in, knows the order of each port"
    )]
    fn context(&self) -> Vec<u8> {
        let mut ctx = vec![0; usize::try_from(bpf_sk_lookup::SIZE).unwrap()];
        let mut put = |field: Field, bytes: &[u8]| {
            let at = usize::from(field.offset);
            ctx[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(bpf_sk_lookup::protocol, &self.protocol.to_ne_bytes());
        let family = if self.remote.is_ipv4() {
            AF_INET
        } else {
            AF_INET6
        };
        put(bpf_sk_lookup::family, &family.to_ne_bytes());
        for (address, v4, v6) in [
            (
                self.remote.ip(),
                bpf_sk_lookup::remote_ip4,
                bpf_sk_lookup::remote_ip6,
            ),
            (
                self.local.ip(),
                bpf_sk_lookup::local_ip4,
                bpf_sk_lookup::local_ip6,
            ),
        ] {
            match address {
                IpAddr::V4(address) => put(v4, &address.octets()),
                IpAddr::V6(address) => put(v6, &address.octets()),
            }
        }
        put(
            bpf_sk_lookup::remote_port,
            &self.remote.port().to_be_bytes(),
        );
        let local = u32::from(self.local.port());
        put(bpf_sk_lookup::local_port, &local.to_ne_bytes());
        ctx
    }

    fn all() -> Vec<Packet> {
        let addresses = [
            ["10.1.2.3", "192.168.255.254"],
            ["10.1.2.131", "0.0.0.0"],
            ["10.1.3.3", "255.255.255.255"],
            ["138.1.2.3", "10.1.2.3"],
            ["fd00:1:2:3:4:5:6:7", "::1"],
            [
                "fd00:1:2:3:8004:5:6:7",
                "fd00:1:2:3:4:5:6:7",
            ],
            ["::ffff:a01:203", "2001:db8::1"],
        ];
        let ports = [
            (0x1234, 0x3412),
            (0x3412, 0x1234),
            (1, 0x100),
            (0xffff, 0),
        ];
        let mut all = Vec::new();
        for [remote, local] in addresses {
            for (from, to) in ports {
                for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
                    all.push(Packet {
                        protocol,
                        remote: SocketAddr::new(remote.parse().unwrap(), from),
                        local: SocketAddr::new(local.parse().unwrap(), to),
                    });
                }
            }
        }
        all
    }
}

/// A program that passes what the test holds for.
fn holds(test: impl Fn(Label) -> Code) -> (Maps, Prog) {
    let (other, mut maps) = (label("other"), Maps::new());
    let code = code![
        mov(R6, R1),
        test(other),
        ret(SK_PASS),
        bind(other),
        ret(SK_DROP),
    ];
    let node = Node::new().unwrap();
    let on = Netns::lookup(&node.ns);
    let prog = load_to(&on, ProgType::SK_LOOKUP, "holds", code, &mut maps);
    (maps, prog)
}

fn asks(prog: &Prog, packet: &Packet) -> bool {
    let outcome = prog.run().ctx(packet.context()).go().unwrap();
    SkAction(outcome.retval.cast_signed()) == SkAction::PASS
}

#[track_caller]
fn check(what: &str, prog: &Prog, right: impl Fn(&Packet) -> bool) {
    for packet in Packet::all() {
        assert_eq!(asks(prog, &packet), right(&packet), "{what}: {packet:?}");
    }
}

#[test]
fn families_and_protocols() {
    needs!(Root, NetNs, SkLookup);
    let (_, prog) = holds(|other| lookup::family(R6, AF_INET, R2, other));
    check("IPv4", &prog, |packet| packet.local.is_ipv4());
    let (_, prog) = holds(|other| lookup::family(R6, AF_INET6, R2, other));
    check("IPv6", &prog, |packet| packet.local.is_ipv6());
    let (_, prog) = holds(|other| lookup::protocol(R6, IPPROTO_UDP, R2, other));
    check("UDP", &prog, |packet| packet.protocol == IPPROTO_UDP);
}

#[test]
fn ports() {
    needs!(Root, NetNs, SkLookup);
    let empty = std::ops::RangeInclusive::new(2, 1);
    for end in [End::Local, End::Remote] {
        for ports in [
            0..=0xffff,
            0..=0x1233,
            0..=0x1234,
            0x1234..=0x1234,
            0x3412..=0x3412,
            0x1235..=0x3411,
            0x1234..=0x3412,
            1..=0xffff,
            0xffff..=0xffff,
            0..=0,
            0x100..=0x101,
            empty.clone(),
        ] {
            let (_, prog) = holds(|other| lookup::port(R6, end, ports.clone(), R2, other));
            check(&format!("{end:?} {ports:?}"), &prog, |packet| {
                ports.contains(&packet.port(end))
            });
        }
        // In a register too, it is the number.
        let (_, prog) = holds(|other| {
            code![
                lookup::load_port(R3, R6, end),
                jne(R3, 0x1234, other)
            ]
        });
        check("loaded", &prog, |packet| packet.port(end) == 0x1234);
    }
}

const NETWORKS: [&str; 17] = [
    "0.0.0.0/0",
    "10.1.2.3/32",
    "10.1.2.77/25",
    "10.1.2.0/24",
    "10.1.0.0/15",
    "128.0.0.0/1",
    "255.255.255.255/32",
    "::/0",
    "::1/128",
    "fd00:1:2:3::/64",
    "fd00:1:2:3:4::/65",
    "fd00:1:2:3:8000::/65",
    "fd00:1:2:3:4:5:6:6/127",
    "fd00:1::/31",
    "8000::/1",
    "::ffff:0:0/96",
    "2001:db8::/33",
];

#[test]
fn networks() {
    needs!(Root, NetNs, SkLookup);
    for text in NETWORKS {
        let prefix: Prefix = text.parse().unwrap();
        let network = Network::new(prefix.addr(), prefix.len()).unwrap();
        for end in [End::Local, End::Remote] {
            let (_, prog) = holds(|other| lookup::network(R6, end, network, R2, other));
            check(&format!("{end:?} {text}"), &prog, |packet| {
                prefix.contains(packet.end(end).ip())
            });
        }
    }
    assert_eq!(Network::new("10.0.0.0".parse().unwrap(), 33), None);
    assert_eq!(Network::new("::".parse().unwrap(), 129), None);
}

#[test]
fn the_longest_prefix_is_found() {
    needs!(Root, NetNs, SkLookup);
    for end in [End::Local, End::Remote] {
        let (found, key) = (slot::<u32>("found"), slot::<u32>("key"));
        let (maps, prog) = holds(|other| {
            code![
                lookup::find(R6, end, &TABLE, found, other),
                store(key.u32(0), 0),
                map_lookup_elem(&FOUND, key),
                jeq(R0, 0, other),
                load(R1, found.u32(0)),
                store(R0.u64(0), R1),
            ]
        });
        let table: Map<Key, u32> = maps.open(&TABLE).unwrap();
        let told: Map<u32, u64> = maps.open(&FOUND).unwrap();
        check("an empty table", &prog, |_| false);
        // Without ::/0, which is the only one to cover both families.
        let networks = NETWORKS
            .iter()
            .enumerate()
            .filter(|(_, text)| **text != "::/0");
        let networks: Vec<(u32, Prefix)> = networks
            .map(|(n, text)| (u32::try_from(n).unwrap(), text.parse().unwrap()))
            .filter(|(_, prefix): &(u32, Prefix)| prefix.addr() != mapped_all().addr())
            .collect();
        for (n, prefix) in &networks {
            let key = Key::mapped(prefix.addr(), prefix.len().into());
            table.update(&key, n).unwrap();
        }
        for packet in Packet::all() {
            let address = packet.end(end).ip();
            // Mapped addresses on the wire mean IPv4 here.
            let covers = |(_, prefix): &&(u32, Prefix)| prefix.contains(address.to_canonical());
            let best = networks.iter().filter(covers).max_by_key(|(_, p)| p.len());
            told.update(&0, &u64::MAX).unwrap();
            assert_eq!(asks(&prog, &packet), best.is_some(), "{packet:?}");
            let told = told.lookup(&0).unwrap();
            let best = best.map_or(u64::MAX, |(n, _)| u64::from(*n));
            assert_eq!(told, Some(best), "{packet:?}");
        }
        table
            .update(&Key::mapped(mapped_all().addr(), 96), &99)
            .unwrap();
        assert_eq!(
            table
                .lookup(&Key::mapped("0.0.0.0".parse().unwrap(), 0))
                .unwrap(),
            Some(99),
            "the same prefix in both forms"
        );
    }
}

fn mapped_all() -> Prefix {
    "::ffff:0:0/96".parse().unwrap()
}

#[test]
fn wrong_sockets_are_refused_with_a_number() {
    needs!(Root, NetNs, Loopback, SkLookup, Sockmap);
    let (key, index) = (slot::<u64>("key"), slot::<u32>("index"));
    let (maps, prog) = holds(|other| {
        let refused = label("refused");
        code![
            lookup::load_port(R2, R6, End::Local),
            store(key.u64(0), R2),
            lookup::assign(R6, &SOCKETS, key, R7, 0, refused),
            bind(refused),
            store(index.u32(0), 0),
            map_lookup_elem(&FOUND, index),
            jeq(R0, 0, other),
            store(R0.u64(0), R7),
        ]
    });
    let sockets: ObjectMap<u64, u64> = maps.open(&SOCKETS).unwrap();
    let told: Map<u32, u64> = maps.open(&FOUND).unwrap();
    let node = Node::new().unwrap();
    let tcp = |at: &str| node.run(|| TcpListener::bind(at)).unwrap().unwrap();
    let (four, six) = (tcp("127.0.0.1:0"), tcp("[::1]:0"));
    let both = tcp("[::]:0");
    let udp = node
        .run(|| UdpSocket::bind("127.0.0.1:0"))
        .unwrap()
        .unwrap();
    let to = four.local_addr().unwrap();
    let client = node.run(|| TcpStream::connect(to)).unwrap().unwrap();
    let all = [
        four.as_fd(),
        six.as_fd(),
        both.as_fd(),
        udp.as_fd(),
        client.as_fd(),
    ];
    for (key, socket) in (1_u64..).zip(all) {
        sockets.set(&key, socket).unwrap();
    }
    let [four, six, both, udp, client] = [1, 2, 3, 4, 5];
    let none = 6;
    for (protocol, address, socket, answer) in [
        (IPPROTO_TCP, "10.0.0.1", four, 0),
        (IPPROTO_TCP, "fd00::1", six, 0),
        (IPPROTO_TCP, "fd00::1", both, 0),
        (IPPROTO_TCP, "10.0.0.1", both, 0),
        (IPPROTO_UDP, "10.0.0.1", udp, 0),
        (IPPROTO_TCP, "10.0.0.1", none, -Errno::ENOENT.0),
        (IPPROTO_TCP, "10.0.0.1", udp, -Errno::EPROTOTYPE.0),
        (IPPROTO_UDP, "10.0.0.1", four, -Errno::EPROTOTYPE.0),
        (IPPROTO_TCP, "fd00::1", four, -Errno::EAFNOSUPPORT.0),
        (IPPROTO_TCP, "10.0.0.1", client, -Errno::ESOCKTNOSUPPORT.0),
    ] {
        let end = SocketAddr::new(address.parse().unwrap(), socket);
        let packet = Packet {
            protocol,
            remote: end,
            local: end,
        };
        told.update(&0, &77).unwrap();
        assert!(asks(&prog, &packet));
        let told = told.lookup(&0).unwrap().map(u64::cast_signed);
        assert_eq!(told, Some(i64::from(answer)), "{packet:?}");
    }
}
