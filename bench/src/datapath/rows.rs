//! What is measured.

use super::packet::{Frame, Transport};
use super::restore::{Client, Restore};
use super::world::{BACKEND, CLIENT, DNAT, FULL_NAT, World, client};
use bpfsmith_asm::dsl::{TCX_NEXT, XDP_PASS};
use bpfsmith_datapath::programs::Hook;
use std::net::SocketAddr;

/// What runs behind the prelude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A program that lets all pass.
    Nothing,
    /// The datapath.
    Datapath,
}

/// Packets of one kind.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is called.
    pub name: &'static str,
    /// The packet.
    pub frame: Frame,
    /// What puts it back.
    pub restore: Option<Restore>,
    /// What runs.
    pub work: Work,
    /// Whether the packet is sent on; else it passes.
    pub is_sent: bool,
    /// Whether every packet is the same, and what comes out has right checksums.
    pub is_exact: bool,
    /// How many clients have established flows.
    pub clients: u32,
    /// Where packets begin flows: how many of them, before the table has only the established ones again.
    pub opened: Option<u32>,
}

/// So many flows are opened at a time: a part of the ports that full NAT has.
const OPENED: u32 = 1 << 14;

/// How many clients have established flows.
const MANY: [(u32, &str); 4] = [
    (1_000, "established v4 TCP, any of 1,000"),
    (16_000, "established v4 TCP, any of 16,000"),
    (128_000, "established v4 TCP, any of 128,000"),
    (1_000_000, "established v4 TCP, any of 1,000,000"),
];

impl Row {
    /// The datapath with no prelude.
    #[must_use]
    pub fn plain() -> Row {
        Row {
            name: "plain",
            frame: Frame::arp(),
            restore: None,
            work: Work::Datapath,
            is_sent: false,
            is_exact: true,
            clients: 1,
            opened: None,
        }
    }

    /// What programs answer.
    #[must_use]
    pub const fn answer(&self, hook: Hook) -> i32 {
        const REDIRECT_XDP: i32 = 4;
        const REDIRECT_TC: i32 = 7;
        match (hook, self.is_sent) {
            (Hook::Xdp, true) => REDIRECT_XDP,
            (Hook::Xdp, false) => XDP_PASS,
            (_, true) => REDIRECT_TC,
            (_, false) => TCX_NEXT,
        }
    }

    /// A packet that is sent on, as it comes.
    #[must_use]
    pub fn one(frame: Frame) -> Row {
        Row {
            name: "one",
            frame,
            is_sent: true,
            ..Row::plain()
        }
    }

    fn sent(name: &'static str, frame: Frame, who: Client) -> Row {
        Row {
            restore: Some(Restore::of(&frame, who)),
            is_sent: true,
            is_exact: who == Client::One,
            name,
            frame,
            ..Row::plain()
        }
    }

    fn passed(name: &'static str, frame: Frame) -> Row {
        Row {
            name,
            frame,
            ..Row::plain()
        }
    }
}

/// All of them.
#[must_use]
pub fn rows(world: &World) -> Vec<Row> {
    const ACK: Transport = Transport::Tcp(0x10);
    const SYN: Transport = Transport::Tcp(0x02);
    let forth = |v4: bool, port, transport| {
        Frame::new(client(v4, CLIENT), world.listener(v4, port), transport)
    };
    let back = |v4: bool, to: SocketAddr, transport| Frame::new(world.backend(v4), to, transport);
    let own = |v4: bool| SocketAddr::new(world.source(v4), CLIENT);
    let elsewhere = SocketAddr::new(world.backend(true).ip(), BACKEND + 1);
    let plain = forth(true, DNAT, ACK);
    let nothing = Row {
        work: Work::Nothing,
        is_sent: false,
        ..Row::sent("restore alone", plain.clone(), Client::One)
    };
    let mut rows = vec![
        Row {
            work: Work::Nothing,
            ..Row::passed("empty program", plain.clone())
        },
        nothing,
        Row::passed("not IP", Frame::arp()),
        Row::passed("v4 TCP, port unknown", {
            Frame::new(client(true, CLIENT), elsewhere, ACK)
        }),
        Row::sent("established v4 TCP", plain.clone(), Client::One),
        Row::sent(
            "established v4 TCP, answer",
            back(true, client(true, CLIENT), ACK),
            Client::One,
        ),
        Row::sent(
            "established v4 TCP, full NAT",
            forth(true, FULL_NAT, ACK),
            Client::One,
        ),
        Row::sent(
            "established v4 TCP, full NAT, answer",
            back(true, own(true), ACK),
            Client::One,
        ),
        Row::sent(
            "established v4 UDP",
            forth(true, DNAT, Transport::Udp),
            Client::One,
        ),
        Row::sent("established v6 TCP", forth(false, DNAT, ACK), Client::One),
        Row::sent(
            "established v6 UDP",
            forth(false, DNAT, Transport::Udp),
            Client::One,
        ),
    ];
    for (clients, name) in MANY {
        rows.push(Row {
            clients,
            ..Row::sent(name, plain.clone(), Client::Any(clients))
        });
    }
    let opening = |name, port, opened| Row {
        opened,
        ..Row::sent(name, forth(true, port, SYN), Client::Any(1 << 23))
    };
    rows.extend([
        opening("new flow v4 TCP", DNAT, Some(OPENED)),
        opening("new flow v4 TCP, full NAT", FULL_NAT, Some(OPENED)),
        opening("new flow v4 TCP, no room left", DNAT, None),
    ]);
    rows
}
