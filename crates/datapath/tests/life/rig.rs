//! A proxy whose packets are test runs.

use crate::support::judge::{View, good};
use crate::support::packet::Frame;
use crate::support::world::forward;
use bpfsmith_datapath::config::*;
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::programs::{Hook, Usual};
use bpfsmith_datapath::reason::Reason;
use bpfsmith_net::{Address, Device, IfIndex, Kind, Mac, Neighbour, Node, Prefix, Route};
use bpfsmith_prog::Prog;
use std::net::{IpAddr, SocketAddr};

/// A proxy in a machine of its own, and all the world behind one gateway.
pub(crate) struct Rig {
    pub(crate) generation: Generation,
    pub(crate) prog: Prog,
    hook: Hook,
}

/// Runs `body` in the machine of a proxy.
pub(crate) fn inside<T: Send>(
    config: &Config,
    hook: Hook,
    body: impl FnOnce(&mut Rig) -> T + Send,
) -> T {
    let node = Node::new().unwrap();
    forward(&node);
    let far = Node::new().unwrap();
    let peer = Device::new("far").netns(&far.ns);
    node.net
        .add_link(&Device::new("out"), &Kind::Veth(peer))
        .unwrap();
    let index = node.net.link("out").unwrap().index;
    far.net.set_up(far.net.link("far").unwrap().index).unwrap();
    node.net.set_up(index).unwrap();
    let families: [(&str, u8, &str); 2] = [
        ("10.3.0.1", 24, "10.3.0.2"),
        ("fd03::1", 64, "fd03::2"),
    ];
    for (own, bits, gateway) in families {
        let prefix = Prefix::new(own.parse().unwrap(), bits).unwrap();
        let gateway: IpAddr = gateway.parse().unwrap();
        node.net.add_address(&Address::new(index, prefix)).unwrap();
        let there = Neighbour::permanent(index, gateway, Mac([2, 3, 0, 0, 0, 2]));
        node.net.add_neighbour(&there).unwrap();
        node.net.add_route(&Route::default_via(gateway)).unwrap();
    }
    node.ns.set_sysctl("ipv4/conf/lo/forwarding", "1").unwrap();
    node.run(|| {
        let generation = Generation::first(config).unwrap_or_else(|error| panic!("{error:#}"));
        let prog = generation.load(hook, Usual::Device);
        let mut rig = Rig {
            prog: prog.unwrap_or_else(|error| panic!("{error:#}")),
            generation,
            hook,
        };
        body(&mut rig)
    })
    .unwrap()
}

/// A flow that was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) protocol: Protocol,
    pub(crate) client: SocketAddr,
    pub(crate) listener: SocketAddr,
    /// As the backend sees the client.
    pub(crate) source: SocketAddr,
    pub(crate) backend: SocketAddr,
}

impl Flow {
    /// A packet of the client's, with flags if it is TCP.
    pub(crate) fn ask(&self, flags: &str) -> Frame {
        frame(self.protocol, self.client, self.listener, flags)
    }

    /// A packet of the backend's.
    pub(crate) fn answer(&self, flags: &str) -> Frame {
        frame(self.protocol, self.backend, self.source, flags)
    }
}

fn frame(protocol: Protocol, from: SocketAddr, to: SocketAddr, flags: &str) -> Frame {
    let frame = Frame::ip(from.ip(), to.ip());
    match protocol {
        Protocol::Tcp => frame.tcp(from.port(), to.port()).flags(flags),
        Protocol::Udp => frame.udp(from.port(), to.port()),
    }
}

impl Rig {
    /// What the proxy makes of a packet, if it sends it on.
    #[track_caller]
    pub(crate) fn send(&self, frame: &Frame) -> Option<View> {
        self.sent(&self.prog, frame).map(|data| good(&data))
    }

    /// The same by that program of its hook, as it comes out.
    #[track_caller]
    pub(crate) fn sent(&self, prog: &Prog, frame: &Frame) -> Option<Vec<u8>> {
        let outcome = prog.run().data(&frame.build()).go().unwrap();
        let redirected = match self.hook {
            Hook::Xdp => 4,
            Hook::Tcx | Hook::TcxEgress => 7,
        };
        (outcome.retval == redirected).then_some(outcome.data)
    }

    /// Opens a flow up to the first packet, which nobody answers.
    pub(crate) fn begin(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        listener: SocketAddr,
    ) -> Option<Flow> {
        let view = self.send(&frame(protocol, client, listener, "S"))?;
        let (from, to) = view.ports().unwrap();
        Some(Flow {
            protocol,
            client,
            listener,
            source: SocketAddr::new(view.src(), from),
            backend: SocketAddr::new(view.dst(), to),
        })
    }

    /// Opens a flow: its backend answers, and a client of TCP says that it has seen that.
    #[track_caller]
    pub(crate) fn open(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        listener: SocketAddr,
    ) -> Flow {
        let flow = self.begin(protocol, client, listener);
        let flow = flow.unwrap_or_else(|| panic!("refused: {:?}", self.counts()));
        let view = self
            .send(&flow.answer("SA"))
            .expect("the answer is sent on");
        assert_eq!(view.dst(), client.ip());
        if protocol == Protocol::Tcp {
            self.send(&flow.ask("A")).expect("it is the client's turn");
        }
        flow
    }

    /// The configuration changes.
    pub(crate) fn go_on(&mut self, config: &Config) {
        self.generation = self.generation.next(config).unwrap();
        self.prog = self.generation.load(self.hook, Usual::Device).unwrap();
    }

    /// How many flows a backend has.
    pub(crate) fn flows_of(&self, backend: u16) -> u32 {
        self.generation.flows_of(BackendId(backend)).unwrap()
    }

    /// The reasons that were counted.
    pub(crate) fn counts(&self) -> Vec<(Reason, u64)> {
        let counters = self.generation.counters().unwrap();
        counters
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    pub(crate) fn count(&self, reason: Reason) -> u64 {
        self.generation.counters().unwrap()[&reason]
    }
}

/// A configuration with one group, whose listeners are TCP and UDP at [`listener`] of both families.
pub(crate) fn config(algorithm: Algorithm, weights: &[u32]) -> Config {
    let mut config = Config::default();
    for family in [Family::V4, Family::V6] {
        let group = GroupId(config.groups.len().try_into().unwrap());
        let first = u16::try_from(config.backends.len()).unwrap();
        let mut members = Vec::new();
        for (n, &weight) in (0..).zip(weights) {
            let id = BackendId(first + n);
            members.push(Member {
                backend: id,
                weight,
            });
            config.backends.push(Backend {
                id,
                address: SocketAddr::new(backend(family, n), 8080),
            });
        }
        config.groups.push(Group {
            algorithm,
            mode: Mode::Dnat,
            members,
        });
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let number = u16::try_from(config.listeners.len()).unwrap();
            config.listeners.push(Listener {
                number,
                devices: Vec::<IfIndex>::new(),
                address: listener(family),
                protocol,
                routes: Vec::new(),
                group,
            });
        }
    }
    config
}

/// Where clients go.
pub(crate) fn listener(family: Family) -> SocketAddr {
    let address = match family {
        Family::V4 => "10.99.0.1:80",
        Family::V6 => "[fd99::1]:80",
    };
    address.parse().unwrap()
}

/// The address of backend number n of that family.
pub(crate) fn backend(family: Family, n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    match family {
        Family::V4 => [10, 2, high, low].into(),
        Family::V6 => [0xfd02, 0, 0, 0, 0, 0, 0, n].into(),
    }
}

/// Client number n, with a port of its own.
pub(crate) fn client(family: Family, n: u32) -> SocketAddr {
    let [_, a, b, c] = n.to_be_bytes();
    let port = 40_000 + u16::try_from(n % 20_000).unwrap();
    let ip: IpAddr = match family {
        Family::V4 => [10, 64 + a, b, c].into(),
        Family::V6 => [
            0xfd64,
            0,
            0,
            0,
            0,
            0,
            a.into(),
            u16::from_be_bytes([b, c]),
        ]
        .into(),
    };
    SocketAddr::new(ip, port)
}
