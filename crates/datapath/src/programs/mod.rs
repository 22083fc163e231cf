//! The programs: what becomes of a packet.
//!
//! A packet's flow is looked up first. The configuration is asked only for packets without one:
//! `open.rs` finds their listener, chooses a backend, and writes down what becomes of both directions.
//! Nobody has answered such a flow yet, so it makes room for others where there is none; the first answer
//! makes it one that stays.

mod check;
mod claim;
mod close;
mod cookie;
mod enter;
mod established;
mod event;
mod exits;
mod fewest;
mod fragment;
mod icmp;
mod lane;
mod limit;
mod local;
mod made;
mod next_hop;
mod open;
mod parse;
mod promote;
mod search;
mod select;
mod shift;
mod sweep;
mod table;
mod tell;
mod tuple;

use crate::config::{Family, Protocol};
use crate::layout::{Flow4, Flow6, Key4, Key6, way};
use crate::reason::Reason;
use crate::shape::{Path, Shape};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::report::Report;
use exits::Exits;
pub use sweep::sweep;
use table::Table;
use tell::Tell;

/// The context, for the whole program.
const CTX: Reg = R6;
/// The IP header of the packet.
const IP: Reg = R7;
/// Its TCP or UDP header.
const L4: Reg = R8;
/// The direction of the flow that it belongs to; before there is one, what the choice is made from.
const FLOW: Reg = R9;

/// Where a program sees packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// In the driver: for network cards, and where packets are many and small.
    Xdp,
    /// Behind the driver, where large packets stay whole and checksums may be left to the device: for
    /// virtual devices.
    Tcx,
    /// Behind this machine's own stack, where backends on this machine answer: what it sends to their
    /// clients comes from the listener's address. Everything else passes.
    TcxEgress,
}

impl Hook {
    /// The type of its programs.
    #[must_use]
    pub const fn prog_type(self) -> ProgType {
        match self {
            Hook::Xdp => ProgType::XDP,
            Hook::Tcx | Hook::TcxEgress => ProgType::SCHED_CLS,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Hook::Xdp => "proxy_xdp",
            Hook::Tcx => "proxy_tcx",
            Hook::TcxEgress => "proxy_out",
        }
    }

    const fn data(self) -> Field {
        match self {
            Hook::Xdp => xdp_md::data,
            Hook::Tcx | Hook::TcxEgress => __sk_buff::data,
        }
    }

    const fn data_end(self) -> Field {
        match self {
            Hook::Xdp => xdp_md::data_end,
            Hook::Tcx | Hook::TcxEgress => __sk_buff::data_end,
        }
    }

    /// The device that a packet came by.
    const fn device(self) -> Field {
        match self {
            Hook::Xdp => xdp_md::ingress_ifindex,
            Hook::Tcx | Hook::TcxEgress => __sk_buff::ifindex,
        }
    }
}

/// How most packets go out: others cost a few nanoseconds more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usual {
    /// By a device, with Ethernet addresses.
    #[default]
    Device,
    /// Straight into the far end of a virtual device. TCX only.
    Peer,
    /// By the device that they came by, where the proxy has only one. XDP only.
    Back,
}

impl Usual {
    /// The same, or what the hook has instead.
    const fn at(self, hook: Hook) -> Usual {
        match (self, hook) {
            (Usual::Peer, Hook::Tcx) | (Usual::Back, Hook::Xdp) => self,
            _ => Usual::Device,
        }
    }

    const fn way(self) -> u32 {
        match self {
            Usual::Device => way::DEVICE,
            Usual::Peer => way::PEER,
            Usual::Back => way::BACK,
        }
    }
}

/// What the fragments of one program share.
#[derive(Debug)]
struct Context<'a> {
    hook: Hook,
    usual: Usual,
    shape: &'a Shape,
    exits: Exits,
    /// How the packet arrived, and how those of the other direction do. The addresses of these, and of what
    /// follows, are taken, so that they live as long as the program: all lanes share them.
    key: Slot,
    other: Slot,
    /// Both directions of a flow that is made.
    flow: Slot,
    answer: Slot,
    /// The tables of flows, of all paths.
    tables: [Table; 4],
    /// Compares members of a group by their flows.
    compare: Func,
    /// Where senders are told why their packets do not go on.
    tell: Tell,
    /// The first byte of the frame, where it may have VLAN tags.
    front: Slot,
}

impl Context<'_> {
    fn new(hook: Hook, usual: Usual, shape: &Shape) -> Context<'_> {
        let exits = Exits::new(hook);
        Context {
            hook,
            usual: usual.at(hook),
            shape,
            tables: Path::ALL.map(|path| Table::new(path, shape, exits.count(Reason::MadeRoom))),
            exits,
            key: key_slot(shape, "key"),
            other: key_slot(shape, "other"),
            flow: flow_slot(shape, "flow"),
            answer: flow_slot(shape, "answer"),
            compare: fewest::compare(shape),
            tell: Tell::new(),
            front: slot::<u64>("frame"),
        }
    }

    fn table(&self, path: Path) -> &Table {
        let [v4_tcp, v4_udp, v6_tcp, v6_udp] = &self.tables;
        match (path.family, path.protocol) {
            (Family::V4, Protocol::Tcp) => v4_tcp,
            (Family::V4, Protocol::Udp) => v4_udp,
            (Family::V6, Protocol::Tcp) => v6_tcp,
            (Family::V6, Protocol::Udp) => v6_udp,
        }
    }

    /// Whether there may be something between Ethernet addresses and the IP header.
    fn has_tags(&self) -> bool {
        self.shape.has_vlan && self.hook == Hook::Xdp
    }

    /// Where the Ethernet addresses are, after the code, which may use the register for it.
    fn frame(&self, reg: Reg) -> (Option<Insn>, Place) {
        match self.has_tags() {
            true => (Some(load(reg, self.front.u64(0))), reg.at(0)),
            false => (None, IP.at(-eth::SIZE)),
        }
    }
}

/// A place for a key of the largest family. Aligned to eight bytes, unlike the key: two addresses of
/// IPv4 are copied at once.
fn key_slot(shape: &Shape, name: &'static str) -> Slot {
    match shape.has(Family::V6) {
        true => slot::<[u64; size_of::<Key6>().div_ceil(8)]>(name),
        false => slot::<[u64; size_of::<Key4>().div_ceil(8)]>(name),
    }
}

/// A place for a flow of the largest family.
fn flow_slot(shape: &Shape, name: &'static str) -> Slot {
    match shape.has(Family::V6) {
        true => slot::<Flow6>(name),
        false => slot::<Flow4>(name),
    }
}

/// The program for a hook.
///
/// # Errors
/// If the checker finds anything wrong with it, which for shapes of a configuration does not happen.
pub fn program(hook: Hook, usual: Usual, shape: &Shape) -> Result<Program, Report> {
    program_with(code![], hook, usual, shape)
}

/// The same behind a prelude, which runs before anything of the packet is read: to measure the program, or
/// to test it, on packets that the prelude makes. It finds the context in [`R6`] and must leave it there;
/// all other registers are its own.
///
/// # Errors
/// If the checker finds anything wrong with the prelude.
pub fn program_with(
    prelude: Code,
    hook: Hook,
    usual: Usual,
    shape: &Shape,
) -> Result<Program, Report> {
    let context = Context::new(hook, usual, shape);
    let code = code![
        mov(CTX, R1),
        prelude,
        parse::packet(&context),
        (hook != Hook::TcxEgress).then(|| context.tell.code(&context)),
        context.exits.code(),
    ];
    Program::new(hook.prog_type(), hook.name(), code)
}
