//! The smallest programs and maps, and what the kernel says to them.

use super::Support;
use crate::blame::Refusal;
use crate::load::kernel_name;
use crate::target::default_attach;
use bpfsmith_asm::isa::{Order, Raw};
use bpfsmith_asm::program::Program;
use bpfsmith_asm::text::parse;
use bpfsmith_sys::map::{Create, Map};
use bpfsmith_sys::prog::{self, Load, Log};
use bpfsmith_uapi::{AttachType, Errno, MapType, ProgType};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The name of everything that is made for a question.
const NAME: &str = "bs_probe";

/// Room for the log of a program of a few slots. Longer logs keep their end.
const LOG: usize = 16 << 10;

/// `r0 = 0; exit`
pub(super) const RETURN: [Raw; 2] = [
    Raw::new(0xb7, 0, 0, 0, 0),
    Raw::new(0x95, 0, 0, 0, 0),
];

/// A program that stands for a question.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub(super) kind: ProgType,
    pub(super) attach_type: AttachType,
    pub(super) insns: Vec<Raw>,
    pub(super) flags: u32,
    pub(super) ifindex: u32,
    pub(super) btf_id: u32,
}

/// Why the kernel did not take a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct No {
    pub(super) errno: Errno,
    /// The verifier's sentence; empty when it did not run.
    pub(super) sentence: String,
}

impl No {
    pub(super) fn support(self) -> Support {
        match Support::because(self.errno) {
            Support::No(_) if !self.sentence.is_empty() => Support::No(self.sentence),
            other => other,
        }
    }
}

impl Trial {
    /// A program that returns 0.
    pub(super) fn new(kind: ProgType) -> Trial {
        Trial {
            kind,
            attach_type: default_attach(kind),
            insns: RETURN.to_vec(),
            flags: 0,
            ifindex: 0,
            btf_id: 0,
        }
    }

    /// A socket filter of this text, which mentions no names. A text that is none is no program,
    /// and the kernel says so.
    pub(super) fn text(text: &str) -> Trial {
        Trial::new(ProgType::SOCKET_FILTER).code(text)
    }

    pub(super) fn code(mut self, text: &str) -> Self {
        self.insns = parse(text).map(|text| text.insns).unwrap_or_default();
        self
    }

    pub(super) fn to(mut self, attach_type: AttachType) -> Self {
        self.attach_type = attach_type;
        self
    }

    pub(super) fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    pub(super) fn typed(mut self, btf_id: u32) -> Self {
        self.btf_id = btf_id;
        self
    }

    /// The same with a map's fd in the wide load at this slot.
    pub(super) fn with_map(mut self, slot: usize, map: &Map) -> Self {
        if let Some(raw) = self.insns.get_mut(slot) {
            raw.imm = map.as_fd().as_raw_fd();
        }
        self
    }

    /// Has the kernel verify it.
    pub(super) fn load(&self) -> Result<OwnedFd, No> {
        let mut buffer = vec![0; LOG];
        let mut log = Log {
            level: 1,
            buffer: &mut buffer,
            true_size: 0,
        };
        let done = match self.load_with(&mut log) {
            // The log did not fit, and that hides the answer.
            Err(Errno::ENOSPC) => self.load_with(&mut Log::default()),
            done => done,
        };
        done.map_err(|errno| {
            let end = buffer.iter().position(|&byte| byte == 0).unwrap_or(LOG);
            let program = Program::from_slots(self.kind, NAME, self.insns.clone());
            let sentence = Refusal::new(&program, errno, &buffer[..end]).sentence;
            No { errno, sentence }
        })
    }

    fn load_with(&self, log: &mut Log<'_>) -> Result<OwnedFd, Errno> {
        let slots = self.insns.iter().map(|raw| raw.to_bytes(Order::HOST));
        let slots: Vec<[u8; 8]> = slots.collect();
        let load = Load {
            kind: self.kind.0,
            insns: slots.as_flattened(),
            license: c"GPL",
            name: kernel_name(NAME),
            flags: self.flags,
            ifindex: self.ifindex,
            attach_type: self.attach_type.0,
            btf: None,
            funcs: prog::Records::default(),
            lines: prog::Records::default(),
            attach_btf_id: self.btf_id,
            attach_to: None,
            fd_array: &[],
            is_fd_array_counted: prog::IsCounted::No,
            token: None,
            signature: None,
        };
        prog::load(&load, log).map_err(|failed| failed.errno)
    }

    /// Whether the kernel takes it.
    pub(super) fn ask(&self) -> Support {
        match self.load() {
            Ok(_) => Support::Yes,
            Err(no) => no.support(),
        }
    }
}

/// Makes a map of key size, value size and number of entries.
pub(super) fn map(kind: MapType, sizes: [u32; 3], flags: u32) -> Result<Map, Errno> {
    let [key, value, entries] = sizes;
    create(&Create {
        kind: kind.0,
        key,
        value,
        entries,
        flags,
        ..Create::default()
    })
}

pub(super) fn create(create: &Create<'_>) -> Result<Map, Errno> {
    let named = Create {
        name: kernel_name(NAME),
        ..*create
    };
    Map::create(&named).map_err(|failed| failed.errno)
}
