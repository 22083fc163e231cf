//! Proxies without a process: rules or programs in the kernel, which are there only while they are used, so
//! that packets of the others do not pass them.

use bpfsmith_datapath::attach::Attached;
use bpfsmith_datapath::choice::Wish;
use bpfsmith_datapath::config::{
    Algorithm, Backend, BackendId, Config, Group, GroupId, Listener, Member, Mode, Protocol,
};
use bpfsmith_datapath::generation::Generation;
use bpfsmith_datapath::look::Look;
use bpfsmith_net::Router;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

/// What the last packets of connections get before the rules go. If it is too short, the server keeps a
/// connection that nobody uses.
const GRACE: Duration = Duration::from_millis(30);

/// How nftables changes packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// The target's address: the client's stays.
    Dnat,
    /// Both addresses.
    Masquerade,
}

/// What becomes of packets to an address of the proxy's own.
#[derive(Debug)]
pub enum Rules {
    /// The text that nftables reads.
    Nft(String),
    /// Programs of `bpfsmith_datapath`.
    Packets(Box<Generation>, Wish),
}

impl Rules {
    /// Those of nftables.
    #[must_use]
    pub fn nft(nat: Nat, listen: SocketAddr, target: SocketAddr) -> Rules {
        Rules::Nft(table(nat, listen, target))
    }

    /// Those of `bpfsmith_datapath`.
    ///
    /// # Errors
    /// When the kernel does not make maps.
    pub fn packets(
        mode: Mode,
        wish: Wish,
        listen: SocketAddr,
        target: SocketAddr,
        source: Ipv4Addr,
    ) -> Result<Rules, String> {
        let generation = Generation::first(&config(mode, listen, target, source));
        let generation = generation.map_err(|error| error.to_string())?;
        Ok(Rules::Packets(Box::new(generation), wish))
    }

    /// Runs `body` while packets are changed.
    ///
    /// # Errors
    /// When the kernel refuses to change them.
    pub fn during<T>(&self, router: &Router, body: impl FnOnce() -> T) -> Result<T, String> {
        match self {
            Rules::Nft(text) => {
                nft(router, text)?;
                let result = body();
                thread::sleep(GRACE);
                nft(router, "delete table ip relay\n")?;
                Ok(result)
            }
            Rules::Packets(generation, wish) => {
                let attached = attach(router, generation, *wish)?;
                let result = body();
                thread::sleep(GRACE);
                drop(attached);
                Ok(result)
            }
        }
    }

    /// What to say of them at first.
    ///
    /// # Errors
    /// When the kernel refuses them.
    pub fn description(&self, router: &Router) -> Result<Vec<String>, String> {
        match self {
            Rules::Nft(text) => {
                self.during(router, || ())?;
                Ok(text.lines().map(str::to_owned).collect())
            }
            Rules::Packets(generation, wish) => {
                let attached = attach(router, generation, *wish)?;
                Ok(attached.choices().iter().map(ToString::to_string).collect())
            }
        }
    }
}

fn table(nat: Nat, listen: SocketAddr, target: SocketAddr) -> String {
    let (at, to) = (listen.ip(), target.ip());
    let (port, target_port) = (listen.port(), target.port());
    let both = "meta l4proto { tcp, udp }";
    let mut text = format!(
        "table ip relay {{\n\
         chain in {{ type nat hook prerouting priority -100; \
         ip daddr {at} {both} th dport {port} dnat to {target}; }}\n"
    );
    if nat == Nat::Masquerade {
        text.push_str(&format!(
            "chain out {{ type nat hook postrouting priority 100; \
             ip daddr {to} {both} th dport {target_port} masquerade; }}\n"
        ));
    }
    text.push_str("}\n");
    text
}

fn nft(router: &Router, text: &str) -> Result<(), String> {
    let run = || -> io::Result<Output> {
        let mut command = Command::new("nft");
        let pipes = command.args(["-f", "-"]).stdin(Stdio::piped());
        let mut child = pipes.stderr(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(text.as_bytes())?;
        drop(input);
        child.wait_with_output()
    };
    let output = router.run(run).expect("a namespace");
    let output = output.map_err(|error| format!("nft: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn config(mode: Mode, listen: SocketAddr, target: SocketAddr, source: Ipv4Addr) -> Config {
    let id = BackendId(1);
    let listener = |number, protocol| Listener {
        number,
        devices: Vec::new(),
        address: listen,
        protocol,
        routes: Vec::new(),
        group: GroupId(0),
    };
    Config {
        listeners: vec![
            listener(1, Protocol::Tcp),
            listener(2, Protocol::Udp),
        ],
        groups: vec![Group {
            algorithm: Algorithm::Maglev,
            mode,
            members: vec![Member {
                backend: id,
                weight: 1,
            }],
        }],
        backends: vec![Backend {
            id,
            address: target,
        }],
        sources: match mode {
            Mode::FullNat => vec![IpAddr::V4(source)],
            Mode::Dnat | Mode::DirectReturn => Vec::new(),
        },
        // Nobody else has connections from there: so clients keep their ports.
        source_ports: 1024..=u16::MAX,
        ..Config::default()
    }
}

fn attach(router: &Router, generation: &Generation, wish: Wish) -> Result<Attached, String> {
    let devices = [&router.left, &router.right].map(|port| (port.index, wish));
    let run = || Attached::new(&Look::here()?, generation, &devices);
    let attached = router.run(run).expect("a namespace");
    attached.map_err(|error| error.to_string())
}
