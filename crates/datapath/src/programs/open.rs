//! A packet without an established flow.

use super::enter::NO_ROOM;
use super::lane::{Lane, copy};
use super::tuple::swap_ports;
use super::{CTX, FLOW, L4};
use crate::config::{Family, MidStream, Mode};
use crate::layout::{ANSWER, Backend, Group, Listener, RouteKey4, Word, way};
use crate::reason::Reason;
use crate::shape::{BACKEND_TABLE, Form, PORTS};
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::event::zero;

/// What the packet's listener is, until a group was chosen; the group, until a backend was; the
/// backend, until its flow is filled.
const CHOICE: Reg = FLOW;

/// What is known of a flow that is being made.
#[derive(Clone, Copy)]
pub(super) struct New {
    /// The listener's number.
    pub(super) listener: Slot,
    /// The group's mode; then where its sources begin, and how many there are.
    pub(super) mode: Slot,
    /// The number of the backend.
    pub(super) backend: Slot,
    /// What becomes of its packets.
    pub(super) flow: Slot,
    /// What becomes of answers.
    pub(super) answer: Slot,
    /// How answers arrive.
    pub(super) answer_key: Slot,
}

impl Lane<'_> {
    /// Ends with the packet sent or left.
    pub(super) fn open(&self) -> Code {
        let pass = self.context.exits.pass(Reason::NotOurs);
        if !self.has_listeners() {
            return code![ja(pass)];
        }
        let (found, taken) = (label("found"), label("taken"));
        code![
            self.port(pass),
            self.find_listener(found),
            ja(pass),
            bind(found),
            mov(CHOICE, R0),
            self.takes_cookie(taken),
            self.is_tcp().then(|| self.begins()),
            self.limits(),
            bind(taken),
            self.make(),
            self.context.exits.count(Reason::Opened),
            self.begins_by_cookie(),
            ja(self.send),
        ]
    }

    /// Whether packets of this family may have a listener at all.
    fn has_listeners(&self) -> bool {
        let mut forms = self.context.shape.forms.iter();
        forms.any(|(family, _)| *family == self.path.family)
    }

    /// Goes on if some listener has the port that the packet goes to; else jumps to `other`. Most packets
    /// that are not ours end here. Clobbers R0 to R2.
    fn port(&self, other: Label) -> Code {
        code![
            ld_map_value(R0, &PORTS, 0),
            load(R1, L4.u16(2)),
            mov(R2, R1),
            rsh(R2, 3),
            add(R2, R0),
            load(R2, R2.u8(0)),
            and(R1, 7),
            rsh(R2, R1),
            and(R2, 1),
            jeq(R2, 0, other),
        ]
    }

    /// Jumps to `found` with the listener in R0, if there is one. The narrowest counts. Clobbers R0 to
    /// R5.
    fn find_listener(&self, found: Label) -> Code {
        let key = slot::<[u64; 3]>("listener");
        let shape = self.context.shape;
        let table = shape.listeners(self.path.family);
        let address = self.address();
        let forms = shape
            .forms
            .iter()
            .filter(|(family, _)| *family == self.path.family);
        // Nobody listens alone where all or many do.
        let many = match self.path.family {
            Family::V4 => 0xe0,
            Family::V6 => 0xff,
        };
        let look = |form: &Form| {
            let narrower = label("narrower");
            code![
                form.any_address.then(|| [
                    load(R1, self.addresses().at(address).u8(0)),
                    jge(R1, many, narrower),
                ]),
                if form.any_device {
                    code![store(key.u32(0), 0)]
                } else {
                    code![
                        load(R1, CTX.get(self.context.hook.device())),
                        store(key.u32(0), R1),
                    ]
                },
                if form.any_address {
                    code![(0..address / 4).map(|n| store(key.u32(4 + 4 * n), 0))]
                } else {
                    let to = self.addresses().at(address);
                    code![(0..address / 4).map(|n| [
                        load(R1, to.u32(4 * n)),
                        store(key.u32(4 + 4 * n), R1),
                    ])]
                },
                map_lookup_elem(&table, key),
                jne(R0, 0, found),
                bind(narrower),
            ]
        };
        code![
            load(R1, L4.u16(2)),
            store(key.u16(4 + address), R1),
            store(key.u16(6 + address), self.ip_protocol()),
            forms.map(|(_, form)| look(form)),
        ]
    }

    /// Goes on if the packet begins a TCP connection.
    fn begins(&self) -> Code {
        let exits = &self.context.exits;
        let otherwise = match self.context.shape.mid_stream {
            MidStream::Pass => exits.pass(Reason::MidStream),
            MidStream::Drop => exits.drop(Reason::MidStream),
            MidStream::Adopt => return code![],
        };
        code![
            load(R1, L4.get(tcp::flags)),
            and(R1, TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN),
            jne(R1, TCP_SYN, otherwise),
        ]
    }

    /// Makes a flow for the packet of the listener at CHOICE, and leaves FLOW at what becomes of the
    /// packet, on the stack.
    fn make(&self) -> Code {
        let new = New {
            listener: slot::<u32>("number"),
            mode: slot::<u32>("mode"),
            backend: slot::<u32>("backend"),
            flow: self.context.flow,
            answer: self.context.answer,
            answer_key: self.context.other,
        };
        code![
            self.group(new),
            self.backend(new),
            self.fill(new),
            self.marks_cookie(new.flow, new.answer),
            self.tuples(new),
            addr(FLOW, new.flow),
            self.next_hop(),
            self.enters(new),
        ]
    }

    /// CHOICE becomes the group. Clobbers R0 to R5.
    fn group(&self, new: New) -> Code {
        let index = slot::<u32>("group");
        let shape = self.context.shape;
        let none = self.declined(Reason::NoBackend);
        let has_routes = shape.routes.contains(&self.path.family);
        code![
            load(R1, CHOICE.get(Listener::number)),
            store(new.listener.u32(0), R1),
            load(R1, CHOICE.get(Listener::group)),
            store(index.u32(0), R1),
            has_routes.then(|| self.route(new, index)),
            map_lookup_elem(&shape.groups(), index),
            jeq(R0, 0, none),
            load(R1, R0.get(Group::places)),
            jeq(R1, 0, none),
            mov(CHOICE, R0),
            load(R1, CHOICE.u32(i32::from(Group::algorithm.offset))),
            store(new.mode.u32(0), R1),
        ]
    }

    /// The group of the packet's source, if it has one of its own. Clobbers R0 to R5.
    fn route(&self, new: New, group: Slot) -> Code {
        let key = slot::<[u64; 3]>("route");
        let bits = 32 + 8 * self.address();
        let none = label("no_route");
        let at = |field: Field| i32::from(field.offset);
        code![
            load(R1, CHOICE.get(Listener::has_routes)),
            jeq(R1, 0, none),
            store(key.u32(at(RouteKey4::bits)), bits),
            load(R1, new.listener.u32(0)),
            store(key.u32(at(RouteKey4::listener)), R1),
            (self.address() == 16).then(|| copy(key.at(8), self.addresses(), 16, R1)),
            (self.address() == 4).then(|| copy(key.at(8), self.addresses(), 4, R1)),
            map_lookup_elem(&self.context.shape.routes(self.path.family), key),
            R0.ne(0).then([
                load(R1, R0.u32(0)),
                store(group.u32(0), R1)
            ]),
            bind(none),
        ]
    }

    /// CHOICE becomes the backend. Clobbers R0 to R5.
    fn backend(&self, new: New) -> Code {
        let place = slot::<u32>("place");
        let none = self.declined(Reason::NoBackend);
        code![
            self.choose(place),
            map_lookup_elem(&self.context.shape.ring(), place),
            jeq(R0, 0, none),
            load(R1, R0.u32(0)),
            store(new.backend.u32(0), R1),
            map_lookup_elem(&BACKEND_TABLE, new.backend),
            jeq(R0, 0, none),
            mov(CHOICE, R0),
        ]
    }

    /// Both directions, but for what depends on the tuple that the backend sees. Clobbers R0 to R5.
    fn fill(&self, new: New) -> Code {
        let fields = self.fields;
        let address = self.address();
        let (flow, answer) = (new.flow, new.answer);
        let ports = 2 * address;
        let port = Backend::port;
        let clear = |flow: Slot| match address {
            4 => zero::<crate::layout::Flow4>(flow),
            _ => zero::<crate::layout::Flow6>(flow),
        };
        let modes = &self.context.shape.modes;
        let stays = label("stays");
        code![
            clear(flow),
            clear(answer),
            copy(flow.to(fields.saddr), self.key.at(0), 2 * address, R1),
            copy(flow.to(fields.ports), self.key.at(ports), 4, R1),
            modes.contains(&Mode::DirectReturn).then(|| code![
                load(R1, new.mode.u8(1)),
                jeq(R1, i32::from(Mode::DirectReturn.number()), stays),
            ]),
            copy(
                flow.to(fields.daddr),
                CHOICE.to(Backend::address),
                address,
                R1
            ),
            load(R1, CHOICE.u16(i32::from(port.offset))),
            R1.ne(0).then(store(flow.to(fields.ports).u16(2), R1)),
            bind(stays),
            copy(answer.to(fields.saddr), self.key.at(address), address, R1),
            copy(answer.to(fields.daddr), self.key.at(0), address, R1),
            swap_ports(answer.to(fields.ports), self.key.at(ports)),
            load(R1, new.backend.u32(0)),
            store(flow.get(fields.tag), R1),
            load(R1, new.listener.u32(0)),
            or(R1, i32::from(ANSWER)),
            store(answer.get(fields.tag), R1),
            jiffies64(),
            store(flow.get(fields.seen), R0),
            store(flow.get(fields.born), R0),
            store(answer.get(fields.seen), R0),
            store(flow.get(fields.word), Word::HALF),
            store(answer.get(fields.born), R0),
            // Asked for with the first answer, which comes by another device.
            sub(R0, 1 << self.context.shape.clock.shift()),
            self.tick(R0),
            or(R0, Word::HALF),
            store(answer.get(fields.word), R0),
        ]
    }

    /// Enters the flow whose answers are entered, unless its packet cannot go anywhere. Clobbers R0 to
    /// R5.
    fn enters(&self, new: New) -> Code {
        let exits = &self.context.exits;
        let why = slot::<u64>("why");
        let erase = || {
            code![
                self.answers_of(new),
                self.erase(new.answer_key)
            ]
        };
        let back = |to: Label| code![erase(), ja(to)];
        let (counts, entered) = (label("counts"), label("entered"));
        code![
            load(R1, FLOW.get(self.fields.word)),
            rsh(R1, Word::WAY.cast_signed()),
            R1.eq(way::NOWHERE.cast_signed())
                .then(back(self.declined(Reason::NoRoute))),
            self.is_xdp()
                .then(|| R1.eq(way::NEIGHBOUR.cast_signed()).then(code![
                    self.give_back(new.listener),
                    back(exits.pass(Reason::NoNeighbour)),
                ])),
            // This packet counts among the flow's, which from here on is not the one on the stack; unless the
            // program behind this one has it next.
            self.is_xdp()
                .then(|| jeq(R1, way::LOCAL.cast_signed(), counts)),
            self.length(R1),
            store(new.flow.get(self.fields.bytes), R1),
            store(new.flow.get(self.fields.packets), 1),
            bind(counts),
            self.enter(self.key, new.flow),
            jeq(R0, 0, entered),
            store(why.u64(0), R0),
            erase(),
            load(R0, why.u64(0)),
            jeq(R0, NO_ROOM, self.declined(Reason::Full)),
            // Another packet of the same flow is faster.
            ja(exits.drop(Reason::Leaving)),
            bind(entered),
        ]
    }
}
