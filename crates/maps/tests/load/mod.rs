//! Loads small programs that fill maps.

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::isa::Order;
use bpfsmith_asm::program::Target;
use bpfsmith_sys::prog::{self, Load, Log, Records, TestRun};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Loads a program; each name stands for the map behind the fd.
pub(crate) fn load(
    program: &Program,
    attach_type: u32,
    maps: &[(&str, BorrowedFd<'_>)],
) -> OwnedFd {
    let mut bytes = program.to_bytes(Order::HOST);
    for reloc in program.relocs() {
        let Target::Map(name) = &reloc.target else {
            panic!("{:?}", reloc.target);
        };
        let map = maps.iter().find(|map| map.0 == name.as_str()).unwrap();
        let slot = &mut bytes[reloc.at as usize * 8..][..8];
        slot[1] = slot[1] & 0x0f | 0x10;
        slot[4..].copy_from_slice(&map.1.as_raw_fd().to_ne_bytes());
    }
    let mut name = [0; 16];
    name[..7].copy_from_slice(b"bs_maps");
    let load = Load {
        kind: program.kind().0,
        insns: &bytes,
        license: c"GPL",
        name,
        flags: 0,
        ifindex: 0,
        attach_type,
        btf: None,
        funcs: Records::default(),
        lines: Records::default(),
        attach_btf_id: 0,
        attach_to: None,
        fd_array: &[],
        is_fd_array_counted: prog::IsCounted::No,
        token: None,
        signature: None,
    };
    let mut text = vec![0; 65536];
    let mut log = Log {
        level: 1,
        buffer: &mut text,
        true_size: 0,
    };
    prog::load(&load, &mut log).unwrap_or_else(|failed| {
        let end = text.iter().position(|&byte| byte == 0).unwrap();
        panic!("{failed}\n{}", String::from_utf8_lossy(&text[..end]))
    })
}

/// Runs a program on a packet of 64 zeros, and returns what it returns.
pub(crate) fn run(program: &OwnedFd) -> u32 {
    let mut test = TestRun {
        data: &[0; 64],
        ..TestRun::default()
    };
    prog::test_run(program.as_fd(), &mut test).unwrap().retval
}
