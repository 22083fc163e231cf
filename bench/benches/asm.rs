//! The assembler beside its peers: `cargo bench --bench asm [-- build|decode|print|parse]…`

use bpfsmith_asm::isa::Order;
use bpfsmith_asm::{decode, text};
use bpfsmith_bench::arguments::{number, words};
use bpfsmith_bench::programs::*;
use bpfsmith_bench::rounds::{Peer, measure};

fn main() {
    let chosen = words();
    let wants = |name: &str| chosen.is_empty() || chosen.iter().any(|arg| arg == name);
    let rounds = number("ROUNDS", 11);
    for blocks in BLOCKS {
        compare_builders(blocks);
        if wants("build") {
            build(blocks, rounds);
        }
        if blocks > 6_250 {
            continue;
        }
        compare_readers(blocks);
        if wants("decode") {
            decode(blocks, rounds);
        }
        if wants("print") {
            print(blocks, rounds);
        }
        if wants("parse") {
            parse(blocks, rounds);
        }
    }
}

fn build(blocks: usize, rounds: usize) {
    let bytes = |program: bpfsmith_asm::dsl::Program| program.to_bytes(Order::Little);
    let peers = vec![
        Peer::new("floor (no sources, no checks)", || floor_bytes(blocks)),
        Peer::new("rbpf insn_builder (no labels)", || rbpf_bytes(blocks)),
        Peer::new("bpfsmith code! to bytes", || {
            bytes(smith_assemble(smith_code(blocks)))
        }),
        Peer::new("  the same, typed helper calls", || {
            bytes(smith_assemble(smith_typed_code(blocks)))
        }),
        Peer::new("  the same, checked", || {
            bytes(smith_checked(smith_code(blocks)))
        }),
        Peer::new("  code! alone", || smith_code(blocks)),
        Peer::with("  assemble alone", || smith_code(blocks), smith_assemble),
    ];
    let name = "rbpf insn_builder (no labels)";
    measure(
        "build",
        (slots(blocks), "slot"),
        rounds,
        400_000,
        name,
        peers,
    );
}

fn decode(blocks: usize, rounds: usize) {
    let bytes = smith_assemble(smith_code(blocks)).to_bytes(Order::Little);
    let peers = vec![
        Peer::new("rbpf to_insn_vec (no checks)", || {
            rbpf::ebpf::to_insn_vec(&bytes)
        }),
        Peer::new("bpfsmith decode, validated", || {
            decode::decode(&bytes, Order::Little)
        }),
    ];
    let name = "rbpf to_insn_vec (no checks)";
    measure(
        "decode",
        (slots(blocks), "slot"),
        rounds,
        2_000_000,
        name,
        peers,
    );
}

fn print(blocks: usize, rounds: usize) {
    let program = smith_assemble(smith_code(blocks));
    let bytes = program.to_bytes(Order::Little);
    let ops = ops(&program);
    let mut peers = vec![
        Peer::new("rbpf disassembler::to_insn_vec", || {
            rbpf::disassembler::to_insn_vec(&bytes)
        }),
        Peer::new("bpfsmith write_op", || plain_text(&ops)),
        Peer::new("  from slots: decode and write_op", || {
            let mut out = String::new();
            for op in decode::ops(program.insns()) {
                let (_, op) = op.expect("a built program decodes");
                text::write_op(&mut out, op);
                out.push('\n');
            }
            out
        }),
    ];
    // All labels have one name here, and numbering them takes time that grows with their square.
    if blocks <= 62 {
        peers.push(Peer::new("  Program::listing", || program.listing()));
    }
    let name = "rbpf disassembler::to_insn_vec";
    measure(
        "print",
        (slots(blocks), "slot"),
        rounds,
        200_000,
        name,
        peers,
    );
}

fn parse(blocks: usize, rounds: usize) {
    let program = smith_assemble(smith_code(blocks));
    let bytes = program.to_bytes(Order::Little);
    let plain = plain_text(&ops(&program));
    let named = named_text(&program);
    let peer = rbpf_text(&bytes);
    let peers = vec![
        Peer::new("rbpf assembler::assemble", || {
            rbpf::assembler::assemble(&peer)
        }),
        Peer::new("bpfsmith parse, distances", || text::parse(&plain)),
        Peer::new("  labels and names (listing)", || text::parse(&named)),
    ];
    let name = "rbpf assembler::assemble";
    measure(
        "parse",
        (slots(blocks), "slot"),
        rounds,
        100_000,
        name,
        peers,
    );
}
