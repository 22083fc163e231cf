//! One load of a program of 1,000 slots, the first in its process, by each peer.

use crate::peers::libbpf_load;
use bpfsmith_asm::dsl::*;
use bpfsmith_asm::isa::Order as Bytes;
use bpfsmith_prog::{Lines, Load};
use object::write::{Object, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};
use std::time::{Duration, Instant};

/// What the environment variable is called that makes a process a peer.
pub const PEER: &str = "BPFSMITH_BENCH_LOAD";

/// The peers, by name.
pub const PEERS: [&str; 6] = [
    "libbpf bpf_prog_load, slots",
    "libbpf ELF",
    "aya ELF, without the kernel's BTF",
    "bpfsmith Program, without lines",
    "bpfsmith Program",
    "bpfsmith code! to loaded",
];

const SLOTS: usize = 1000;

fn code() -> Code {
    let step = |i: usize| match i % 3 {
        0 => add(R0, 7),
        1 => xor(R0, 0x55),
        _ => mul(R0, 3),
    };
    code![
        mov(R0, 1),
        each((0..SLOTS - 2).map(step)),
        exit()
    ]
}

fn program() -> Program {
    Program::new(ProgType::SOCKET_FILTER, "sock1k", code()).unwrap_or_else(|r| panic!("{r}"))
}

/// The same slots in an object file, as a C compiler would write it.
fn elf() -> Vec<u8> {
    let mut file = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let bytes = program().to_bytes(Bytes::Little);
    let text = file.add_section(Vec::new(), b"socket".to_vec(), SectionKind::Text);
    let size = bytes.len() as u64;
    file.append_section_data(text, &bytes, 8);
    let license = file.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    file.append_section_data(license, b"GPL\0", 1);
    file.add_symbol(Symbol {
        name: b"sock1k".to_vec(),
        value: 0,
        size,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(text),
        flags: SymbolFlags::None,
    });
    file.write().expect("an ELF file")
}

/// Loads as that peer, and says how long it took. Everything that is no part of loading is ready
/// before.
///
/// # Panics
/// When the peer does not exist, or cannot load.
#[must_use]
pub fn as_peer(name: &str) -> Duration {
    match PEERS.iter().position(|peer| *peer == name) {
        Some(0) => {
            let bytes = program().to_bytes(Bytes::Little);
            timed(|| assert!(libbpf_load(&bytes) >= 0))
        }
        Some(1) => {
            let bytes = elf();
            timed(|| {
                let open = libbpf_rs::ObjectBuilder::default().open_memory(&bytes);
                open.expect("libbpf reads it")
                    .load()
                    .expect("libbpf loads it")
            })
        }
        Some(2) => {
            let bytes = elf();
            timed(|| {
                // As `Ebpf::load` does it, but without reading 5 MB of BTF that nothing here needs.
                let mut loader = aya::EbpfLoader::new();
                let mut ebpf = loader.btf(None).load(&bytes).expect("aya reads it");
                let program = ebpf.program_mut("sock1k").expect("it is there");
                let filter: &mut aya::programs::SocketFilter =
                    program.try_into().expect("a socket filter");
                filter.load().expect("aya loads it");
                ebpf
            })
        }
        Some(3) => {
            let program = program();
            timed(|| {
                Load::new(&program)
                    .lines(Lines::Kept)
                    .load()
                    .expect("it loads")
            })
        }
        Some(4) => {
            let program = program();
            timed(|| Load::new(&program).load().expect("it loads"))
        }
        Some(5) => timed(|| {
            let program = program();
            Load::new(&program).load().expect("it loads")
        }),
        _ => panic!("there is no peer {name:?}"),
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let result = work();
    let time = start.elapsed();
    drop(result);
    time
}
