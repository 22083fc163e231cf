//! Readers of the kernel's types in C: libbpf, and what a program would do that trusts every byte.

#![expect(unsafe_code, reason = "the peers are C")]

use crate::btf::{Query, Reader, Walk};
use bpfsmith_btf::Kind;
use bpfsmith_sys::mmap::KernelBtf;
use libbpf_rs::libbpf_sys as c;
use std::ffi::{CStr, c_char};

/// The header of a type, and that many 32-bit words at least behind it.
type Record = *const c::btf_type;

/// A reader of records by number, for what libbpf and the floor have in common: libbpf's own
/// helpers of this kind are inline functions of its header too.
trait Records {
    fn count(&self) -> u32;
    fn record(&self, id: u32) -> Record;
    fn length(&self, name: u32) -> u64;
}

fn kind(record: Record) -> Kind {
    // SAFETY: records come from `Records::record`, which has them for each number that is used.
    Kind(unsafe { (*record).info } >> 24 & 0x1f)
}

fn target(record: Record) -> u32 {
    // SAFETY: as above; both fields of the union are 32 bits.
    unsafe { (*record).__bindgen_anon_1.type_ }
}

#[inline]
fn skip(records: &impl Records, mut id: u32) -> u32 {
    loop {
        let record = records.record(id);
        match kind(record) {
            Kind::CONST | Kind::VOLATILE | Kind::RESTRICT | Kind::TYPE_TAG => id = target(record),
            _ => return id,
        }
    }
}

fn prototype(records: &impl Records, mut id: u32) -> Option<Record> {
    loop {
        id = skip(records, id);
        let record = records.record(id);
        match kind(record) {
            Kind::FUNC_PROTO => return Some(record),
            Kind::PTR | Kind::TYPEDEF => id = target(record),
            _ => return None,
        }
    }
}

/// What stands behind the header of a type.
///
/// # Safety
/// `T` must be what this kind of type has there.
unsafe fn elements<'a, T>(record: Record) -> &'a [T] {
    // SAFETY: as many as the header says are there, behind the header.
    unsafe {
        let count = (*record).info & 0xffff;
        std::slice::from_raw_parts(record.add(1).cast(), count as usize)
    }
}

#[inline]
fn members_of(records: &impl Records, id: u32) -> u64 {
    // SAFETY: it is a structure.
    let members: &[c::btf_member] = unsafe { elements(records.record(id)) };
    let mut sum = 0;
    for member in members {
        sum += records.length(member.name_off) + u64::from(member.offset);
        if let Some(proto) = prototype(records, member.type_) {
            // SAFETY: as for all records.
            sum += u64::from(unsafe { (*proto).info } & 0xffff);
        }
    }
    sum
}

#[inline]
fn walk(records: &impl Records) -> Walk {
    let mut walk = Walk::default();
    for id in 1..records.count() {
        let record = records.record(id);
        walk.types += 1;
        // SAFETY: as for all records; what the elements are follows from the kind.
        unsafe {
            walk.bytes += records.length((*record).name_off);
            match kind(record) {
                Kind::STRUCT | Kind::UNION => {
                    for member in elements::<c::btf_member>(record) {
                        walk.elements += 1;
                        walk.bytes += records.length(member.name_off);
                        walk.targets += u64::from(skip(records, member.type_));
                    }
                }
                Kind::ENUM => {
                    for value in elements::<c::btf_enum>(record) {
                        walk.elements += 1;
                        walk.bytes += records.length(value.name_off);
                    }
                }
                Kind::ENUM64 => {
                    for value in elements::<[u32; 3]>(record) {
                        walk.elements += 1;
                        walk.bytes += records.length(value[0]);
                    }
                }
                Kind::FUNC_PROTO => {
                    for param in elements::<c::btf_param>(record) {
                        walk.elements += 1;
                        walk.bytes += records.length(param.name_off);
                        walk.targets += u64::from(skip(records, param.type_));
                    }
                }
                _ => {}
            }
        }
    }
    walk
}

/// `btf__load_vmlinux_btf`.
pub struct Libbpf(*mut c::btf);

impl Records for Libbpf {
    fn count(&self) -> u32 {
        // SAFETY: it is open.
        unsafe { c::btf__type_cnt(self.0) }
    }

    fn record(&self, id: u32) -> Record {
        // SAFETY: it is open; the kernel's types refer to types that exist.
        unsafe { c::btf__type_by_id(self.0, id) }
    }

    fn length(&self, name: u32) -> u64 {
        // SAFETY: libbpf has checked all names.
        unsafe { CStr::from_ptr(c::btf__name_by_offset(self.0, name)).count_bytes() as u64 }
    }
}

impl Reader for Libbpf {
    fn open() -> Libbpf {
        // SAFETY: it has no preconditions.
        let btf = unsafe { c::btf__load_vmlinux_btf() };
        assert!(!btf.is_null(), "libbpf reads it");
        Libbpf(btf)
    }

    fn find(&self, query: &Query) -> u32 {
        let name = query.c_name.as_ptr();
        // SAFETY: it is open.
        let id = unsafe { c::btf__find_by_name_kind(self.0, name, query.kind.0) };
        id.try_into().unwrap_or(0)
    }

    fn members(&self, id: u32) -> u64 {
        members_of(self, id)
    }

    fn walk(&self) -> Walk {
        walk(self)
    }
}

impl Drop for Libbpf {
    fn drop(&mut self) {
        // SAFETY: it is freed once.
        unsafe { c::btf__free(self.0) };
    }
}

unsafe extern "C" {
    fn strlen(text: *const c_char) -> usize;
    fn strcmp(one: *const c_char, other: *const c_char) -> i32;
}

/// A memory map, the places of the types found in one pass, and a table of names with open
/// addressing at the first lookup. Nothing is checked.
pub struct Floor {
    map: KernelBtf,
    types: usize,
    strings: usize,
    offsets: Vec<u32>,
    index: std::cell::OnceCell<Vec<u32>>,
}

const SLOTS: usize = 1 << 18;

fn hash(name: &[u8]) -> usize {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = name.iter().fold(0x811c_9dc5, step);
    (hash ^ hash >> 15) as usize % SLOTS
}

impl Floor {
    fn word(&self, at: usize) -> u32 {
        // SAFETY: the kernel's BTF is trusted to be what it says.
        unsafe { self.map.as_ptr().add(at).cast::<u32>().read_unaligned() }
    }

    fn name(&self, offset: u32) -> *const c_char {
        // SAFETY: as above.
        unsafe { self.map.as_ptr().add(self.strings + offset as usize).cast() }
    }

    fn index(&self) -> Vec<u32> {
        let mut slots = vec![0; SLOTS];
        for id in 1..self.count() {
            // SAFETY: as above.
            let name = unsafe { (*self.record(id)).name_off };
            if name == 0 {
                continue;
            }
            // SAFETY: as above.
            let mut at = hash(unsafe { CStr::from_ptr(self.name(name)) }.to_bytes());
            while slots[at] != 0 {
                at = (at + 1) % SLOTS;
            }
            slots[at] = id;
        }
        slots
    }
}

impl Records for Floor {
    fn count(&self) -> u32 {
        self.offsets.len() as u32
    }

    fn record(&self, id: u32) -> Record {
        static VOID: [u32; 3] = [0; 3];
        if id == 0 {
            return VOID.as_ptr().cast();
        }
        // SAFETY: as above.
        unsafe {
            let offset = *self.offsets.get_unchecked(id as usize);
            self.map.as_ptr().add(self.types + offset as usize).cast()
        }
    }

    fn length(&self, name: u32) -> u64 {
        // SAFETY: as above.
        unsafe { strlen(self.name(name)) as u64 }
    }
}

impl Reader for Floor {
    fn open() -> Floor {
        let map = KernelBtf::open("vmlinux").expect("Linux 6.16 maps it");
        let mut floor = Floor {
            map,
            types: 0,
            strings: 0,
            offsets: Vec::new(),
            index: std::cell::OnceCell::new(),
        };
        let header = floor.word(4) as usize;
        floor.types = header + floor.word(8) as usize;
        let len = floor.word(12) as usize;
        floor.strings = header + floor.word(16) as usize;
        let mut offsets = Vec::with_capacity(len / 12);
        offsets.push(0);
        let mut at = 0;
        while at < len {
            offsets.push(at as u32);
            let info = floor.word(floor.types + at + 4);
            let count = (info & 0xffff) as usize;
            at += 12
                + match Kind(info >> 24 & 0x1f) {
                    Kind::INT | Kind::VAR | Kind::DECL_TAG => 4,
                    Kind::ARRAY => 12,
                    Kind::STRUCT | Kind::UNION | Kind::DATASEC | Kind::ENUM64 => 12 * count,
                    Kind::ENUM | Kind::FUNC_PROTO => 8 * count,
                    _ => 0,
                };
        }
        floor.offsets = offsets;
        floor
    }

    fn find(&self, query: &Query) -> u32 {
        let slots = self.index.get_or_init(|| self.index());
        let mut at = hash(query.c_name.to_bytes());
        loop {
            let id = slots[at];
            if id == 0 {
                return 0;
            }
            let record = self.record(id);
            // SAFETY: as above.
            let is_it = unsafe {
                kind(record) == query.kind
                    && strcmp(self.name((*record).name_off), query.c_name.as_ptr()) == 0
            };
            if is_it {
                return id;
            }
            at = (at + 1) % SLOTS;
        }
    }

    fn members(&self, id: u32) -> u64 {
        members_of(self, id)
    }

    fn walk(&self) -> Walk {
        walk(self)
    }
}
