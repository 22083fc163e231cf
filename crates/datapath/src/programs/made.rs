//! The packets that the proxy makes for connections by cookie, out of those that it has: nothing but an option of
//! four bytes is behind their headers.

use super::lane::{Lane, copy};
use super::parse::END;
use super::tuple::swap_ports;
use super::{CTX, IP, L4, Usual};
use crate::reason::Reason;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::kit::checksum::{fold, ipv4_header, update16};
use bpfsmith_asm::kit::packet::need;
use bpfsmith_asm::kit::rewrite::swap_macs;
use bpfsmith_uapi::record;

record! {
    /// What the TCP header of a packet is to say, but for ports and checksum, as it stands there.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Note {
        pub(super) seq: u32,
        pub(super) ack: u32,
        /// Length, flags and window.
        pub(super) control: u32,
        /// Its only option.
        pub(super) option: u32,
    }
}

/// Bytes of the TCP headers that are made here.
const TCP: i32 = tcp::SIZE + 4;
/// The time to live of what the proxy says itself.
const TTL: i32 = 64;

impl Lane<'_> {
    pub(super) fn lost(&self) -> Label {
        self.context.exits.drop(Reason::CookieLost)
    }

    /// The packet of the flow at FLOW becomes the SYN of the note, and goes on its way. Clobbers R0 to R5.
    pub(super) fn begin_there(&self) -> Code {
        let lost = self.lost();
        let entry = self.cookies.entry;
        let shifts = self.context.shape.shifts(self.path.family);
        let shorter = match self.is_v4() {
            true => code![
                load(R1, IP.get(ipv4::tot_len)),
                mov(R2, be16(ipv4::SIZE + TCP)),
                store(IP.get(ipv4::tot_len), R2),
                update16(IP.get(ipv4::check), R1, R2, R3),
            ],
            false => code![store(
                IP.get(ipv6::payload_len),
                be16(TCP)
            )],
        };
        code![
            map_update_elem(&shifts, self.key, entry, 0),
            jne(R0, 0, lost),
            self.context.exits.count(Reason::CookieTaken),
            self.resize(lost, code![]),
            shorter,
            self.write_note(),
            (!self.is_xdp()).then(|| code![
                load(END, CTX.get(self.context.hook.data_end())),
                load(IP, CTX.get(self.context.hook.data())),
                need(IP, END, eth::SIZE + self.ip_header() + TCP, R4, lost),
                add(IP, eth::SIZE),
                mov(L4, IP),
                add(L4, self.ip_header()),
            ]),
            ja(self.send),
        ]
    }

    /// The packet becomes what the note says, and goes back. Clobbers everything.
    pub(super) fn reply(&self) -> Code {
        let lost = self.lost();
        let both = 2 * self.address();
        code![
            self.resize(lost, swap_macs(IP, [R1, R2])),
            match self.is_v4() {
                true => self.header4(),
                false => self.header6(),
            },
            swap_ports(L4.at(0), self.key.at(both)),
            self.write_note(),
            // Not all devices send back otherwise: with a virtual one it depends on its far end.
            match self.context.usual {
                Usual::Back => code![mov(R0, XDP_TX)],
                _ => code![redirect(
                    CTX.get(self.context.hook.device()),
                    0
                )],
            },
            exit(),
        ]
    }

    fn header4(&self) -> Code {
        code![
            store(IP.u32(0), be32(0x4500_0000 | (ipv4::SIZE + TCP))),
            store(IP.get(ipv4::id), 0),
            store(IP.get(ipv4::frag_off), be16(IP_DF)),
            store(IP.get(ipv4::ttl), TTL),
            store(IP.get(ipv4::proto), IPPROTO_TCP),
            copy(IP.to(ipv4::saddr), self.key.at(4), 4, R1),
            copy(IP.to(ipv4::daddr), self.key.at(0), 4, R1),
            ipv4_header(IP, R1, R2),
        ]
    }

    fn header6(&self) -> Code {
        code![
            store(IP.u32(0), be32(0x6000_0000)),
            store(IP.get(ipv6::payload_len), be16(TCP)),
            store(IP.get(ipv6::next_header), IPPROTO_TCP),
            store(IP.get(ipv6::hop_limit), TTL),
            copy(IP.to(ipv6::saddr), self.key.at(16), 16, R1),
            copy(IP.to(ipv6::daddr), self.key.at(0), 16, R1),
        ]
    }

    /// The packet gets the length of one with a note. IP and L4 are where its headers go; `frame` runs when
    /// IP is where the frame begins, and may use R1 and R2. Clobbers R0 to R5.
    fn resize(&self, lost: Label, frame: Code) -> Code {
        let bytes = self.ip_header() + TCP;
        let hook = self.context.hook;
        let has_tags = self.context.has_tags();
        let front = self.context.front;
        let fits = label("fits");
        let begin = |needed: i32| {
            code![
                load(END, CTX.get(hook.data_end())),
                load(IP, CTX.get(hook.data())),
                need(IP, END, needed, R4, lost),
            ]
        };
        let l4 = || [mov(L4, IP), add(L4, self.ip_header())];
        match self.is_xdp() {
            true => code![
                match has_tags {
                    true => code![
                        load(R1, front.u64(0)),
                        mov(L4, IP),
                        sub(L4, R1),
                        and(L4, 31),
                    ],
                    false => code![mov(L4, eth::SIZE)],
                },
                xdp_get_buff_len(CTX),
                mov(R2, L4),
                add(R2, bytes),
                sub(R2, R0),
                jeq(R2, 0, fits),
                xdp_adjust_tail(CTX, R2),
                jne(R0, 0, lost),
                bind(fits),
                begin(eth::SIZE),
                has_tags.then(|| store(front.u64(0), IP)),
                frame,
                add(IP, L4),
                need(IP, END, bytes, R4, lost),
                l4(),
            ],
            // The kernel forgets what it knows of the packet's sum when the length changes, which must be so in
            // any case: in one of both, it does.
            false => code![
                skb_change_tail(CTX, eth::SIZE + bytes + 1, 0),
                jne(R0, 0, lost),
                skb_change_tail(CTX, eth::SIZE + bytes, 0),
                jne(R0, 0, lost),
                skb_pull_data(CTX, eth::SIZE + bytes),
                begin(eth::SIZE + bytes),
                frame,
                add(IP, eth::SIZE),
                l4(),
            ],
        }
    }

    /// The header at L4 says what the note says, and gets its checksum; in TCX that may be left to the device.
    /// Addresses and ports are those of the key, either way round. Clobbers R0 to R5, and in TCX what is
    /// known of packet pointers.
    fn write_note(&self) -> Code {
        const SUM: Reg = R1;
        const ADDRESSES: Reg = R4;
        let note = self.cookies.note;
        let words = self.address() / 2;
        let add_word = |word: Mem| [load(R2, word), add(SUM, R2)];
        let place = eth::SIZE + self.ip_header() + i32::from(tcp::check.offset);
        let check = L4.get(tcp::check);
        code![
            copy(L4.to(tcp::seq), note.to(Note::seq), 8, R1),
            copy(L4.at(12), note.to(Note::control), 4, R1),
            copy(L4.at(tcp::SIZE), note.to(Note::option), 4, R1),
            store(L4.u16(18), 0),
            mov(SUM, be16(IPPROTO_TCP)),
            add(SUM, be16(TCP)),
            (0..words).map(|n| add_word(self.key.u32(4 * n))),
            fold(SUM, R2, 3),
            mov(ADDRESSES, SUM),
            add_word(self.key.u32(4 * words)),
            (0..4).map(|n| add_word(note.u32(4 * n))),
            match self.is_xdp() {
                true => code![
                    fold(SUM, R2, 3),
                    xor(SUM, 0xffff),
                    store(check, SUM),
                ],
                // What a device is to complete has the addresses alone, uncomplemented, and the kernel leaves it so.
                // To it, all others are a complement: twice the addresses make up for that.
                false => code![
                    store(check, ADDRESSES),
                    add(ADDRESSES, SUM),
                    fold(ADDRESSES, R2, 3),
                    l4_csum_replace(CTX, place, 0, ADDRESSES, 0),
                ],
            },
        ]
    }
}

/// The word of a TCP header that says how long it is, what it is for, and the window.
pub(super) fn control(flags: i32, window: i32) -> Be32 {
    be32((TCP / 4) << 28 | flags << 16 | window)
}
