//! Packets of which the kernel has only the first bytes in one piece.

use crate::packets::talk::{CLIENT, FRONT, Plan, Talk};
use crate::support::world::World;
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::programs::{Hook, Usual};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_gate::{deadline, needs};
use bpfsmith_net::{IfIndex, Node};
use bpfsmith_prog::target::Tcx;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, setsockopt, socket,
};
use nix::{libc, setsockopt_impl, sockopt_impl};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

sockopt_impl!(
    /// Frames have a header in front that says how many of their bytes are to be in one piece.
    HasPieces, SetOnly, libc::SOL_PACKET, libc::PACKET_VNET_HDR, bool
);

/// A device by which frames are sent as they are.
struct Wire {
    socket: OwnedFd,
    device: LinkAddr,
}

impl Wire {
    fn new(node: &Node, name: &str) -> Wire {
        let open = || {
            let flags = SockFlag::empty();
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).unwrap();
            setsockopt(&socket, HasPieces, &true).unwrap();
            let mut devices = getifaddrs().unwrap();
            let device = devices.find_map(|device| match device.interface_name == name {
                true => device.address?.as_link_addr().copied(),
                false => None,
            });
            Wire {
                socket,
                device: device.unwrap(),
            }
        };
        node.run(open).unwrap()
    }

    /// Its first `head` bytes are in one piece.
    fn send(&self, frame: &[u8], head: u16) {
        let [a, b] = head.to_ne_bytes();
        let mut bytes = vec![0, 0, a, b, 0, 0, 0, 0, 0, 0];
        bytes.extend(frame);
        let sent = sendto(
            self.socket.as_raw_fd(),
            &bytes,
            &self.device,
            MsgFlags::empty(),
        );
        assert_eq!(sent, Ok(bytes.len()));
    }
}

/// Wherever the first piece ends, the packet opens a flow.
#[test]
fn headers_in_two_pieces() {
    needs!(Root, Bpf, NetNs, Veth, Tcx);
    // The kernel keeps shorter packets in one piece.
    const LONG: usize = 5000;
    let world = World::new(1, 1);
    let (proxy, client, backend) = (&world.proxy, world.client(), &world.backends[0]);
    let widen = |node: &Node, device: IfIndex| node.net.set_mtu(device, 9000).unwrap();
    widen(&proxy.node, proxy.front.index);
    widen(&proxy.node, proxy.backs[0].index);
    widen(&client.node, client.port.index);
    widen(&backend.node, backend.port.index);
    let generation = Generation::first(&Plan::new(Mode::Dnat).0).unwrap();
    let prog = generation.load(Hook::Tcx, Usual::Device).unwrap();
    let front = Tcx::ingress(proxy.front.index);
    let _link = proxy.node.run(|| prog.attach(&front).unwrap()).unwrap();
    let wire = Wire::new(&client.node, &client.port.name);
    let opened = || generation.counters().unwrap()[&Reason::Opened];
    let mut port = 1000;
    for (family, options) in [
        (Family::V4, 0),
        (Family::V4, 40),
        (Family::V6, 0),
    ] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for head in [14, 34, 54, 60, 73, 74, 94, 114] {
                port += 1;
                let talk = Talk::new((family, protocol), port);
                let asks = talk.flagged(talk.asks(), "S").macs(CLIENT, FRONT);
                let mut frame = asks.bytes(LONG);
                if options > 0 {
                    frame = frame.options(&vec![1; options]);
                }
                let before = opened();
                wire.send(&frame.build(), head);
                println!("{family:?} {protocol:?}, {options} bytes of options, {head}");
                // Another processor may have it first.
                deadline(Duration::from_secs(60), || {
                    (opened() == before + 1).then_some(())
                });
            }
        }
    }
}
