//! Checksums that a device, or the receiver, is to finish are right when somebody does.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_datapath::config::*;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::programs::{Hook, Usual};
use bpfsmith_gate::needs;
use bpfsmith_net::{Chain, Feature};
use bpfsmith_prog::target::Tcx;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// Listeners of both families and protocols in front of the server.
fn config(net: &Chain) -> Config {
    let (left, server) = (&net.proxy.left, &net.server);
    let mut config = Config::default();
    let families: [(IpAddr, IpAddr); 2] = [
        (left.v4.into(), server.v4().into()),
        (left.v6.into(), server.v6().into()),
    ];
    for (number, (listen, backend)) in (0..).zip(families) {
        for (protocol, other) in [(Protocol::Tcp, 0), (Protocol::Udp, 2)] {
            config.listeners.push(Listener {
                number: number + other,
                devices: Vec::new(),
                address: SocketAddr::new(listen, 80),
                protocol,
                routes: Vec::new(),
                group: GroupId(number.into()),
            });
        }
        config.backends.push(Backend {
            id: BackendId(number),
            address: SocketAddr::new(backend, 8080),
        });
        config.groups.push(Group {
            algorithm: Algorithm::Maglev,
            mode: Mode::Dnat,
            members: vec![Member {
                backend: BackendId(number),
                weight: 1,
            }],
        });
    }
    config
}

/// Bytes go there and back: whoever sees a wrong checksum drops the packet.
fn exchange(net: &Chain, listen: SocketAddr, backend: SocketAddr) {
    let bytes: Vec<u8> = (0..300_000_u32)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    let server = net.server.run(|| TcpListener::bind(backend));
    let server = server.unwrap().unwrap();
    let client = net
        .client
        .run(|| TcpStream::connect_timeout(&listen, PATIENCE));
    let mut client = client.unwrap().unwrap();
    let (mut accepted, _) = server.accept().unwrap();
    for (from, to) in [
        (&client, &accepted),
        (&accepted, &client),
    ] {
        to.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut from, mut to) = (from, to);
        let mut seen = vec![0; bytes.len()];
        std::thread::scope(|scope| {
            scope.spawn(|| from.write_all(&bytes).unwrap());
            to.read_exact(&mut seen).unwrap();
        });
        assert!(seen == bytes);
    }
    client.write_all(b"end").unwrap();
    let mut end = [0; 3];
    accepted.read_exact(&mut end).unwrap();

    let server = net.server.run(|| UdpSocket::bind(backend));
    let server = server.unwrap().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = SocketAddr::new(net_client(net, listen), 0);
    let client = net.client.run(|| UdpSocket::bind(client));
    let client = client.unwrap().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for text in [b"one", b"two"] {
        client.send_to(text, listen).unwrap();
        let mut seen = [0; 3];
        let (_, from) = server.recv_from(&mut seen).unwrap();
        assert_eq!(&seen, text);
        server.send_to(text, from).unwrap();
        assert_eq!(client.recv_from(&mut seen).unwrap(), (3, listen));
        assert_eq!(&seen, text);
    }
}

fn net_client(net: &Chain, like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => net.client.v4().into(),
        SocketAddr::V6(_) => net.client.v6().into(),
    }
}

#[test]
fn unfinished_sums_are_finished_rightly() {
    needs!(NetNs, Veth, Tcx);
    // Whether the senders leave sums to others, and whether the proxy's devices finish them.
    for (leaves, finishes) in [
        (true, true),
        (true, false),
        (false, true),
    ] {
        let net = Chain::new().unwrap();
        let generation = Generation::first(&config(&net)).unwrap();
        let prog = generation.load(Hook::Tcx, Usual::Device).unwrap();
        let devices = [
            net.proxy.left.index,
            net.proxy.right.index,
        ];
        if !leaves {
            for host in [&net.client, &net.server] {
                let device = host.node.ethtool().unwrap();
                device
                    .disable(host.port.index, Feature::TX_CHECKSUM)
                    .unwrap();
            }
        }
        if !finishes {
            let ethtool = net.proxy.node.ethtool().unwrap();
            for device in devices {
                ethtool.disable(device, Feature::TX_CHECKSUM).unwrap();
            }
        }
        let attach = || devices.map(|device| prog.attach(&Tcx::ingress(device)).unwrap());
        let links = net.proxy.run(attach).unwrap();
        let (left, server) = (&net.proxy.left, &net.server);
        let families: [(IpAddr, IpAddr); 2] = [
            (left.v4.into(), server.v4().into()),
            (left.v6.into(), server.v6().into()),
        ];
        for (listen, backend) in families {
            exchange(
                &net,
                SocketAddr::new(listen, 80),
                SocketAddr::new(backend, 8080),
            );
        }
        drop(links);
    }
}
