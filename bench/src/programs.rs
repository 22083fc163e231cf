//! The program that is measured: blocks of 16 slots and a tail of three.
//!
//! A block loads, stores, calculates, calls a helper with a map, and jumps to the next three blocks:
//! four references to labels and one label. Every peer writes the same bytes.

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::isa::{Op, Order};
use bpfsmith_asm::{decode, text};
use rbpf::insn_builder::{
    Arch, BpfCode, Cond as Condition, Instruction, IntoBytes, MemSize, Source,
};

/// The sizes that figures are quoted for, in blocks.
pub const BLOCKS: [usize; 4] = [6, 62, 6_250, 62_500];

/// How many slots that many blocks have.
#[must_use]
pub const fn slots(blocks: usize) -> usize {
    blocks * 16 + 3
}

static HITS: MapDef<u32, u64> = MapDef::array("hits", 1);

/// One block, its own label first.
fn block(to: &[Label]) -> Code {
    code![
        bind(to[0]),
        load(R2, R10.u32(-8)),
        mov(R7, R2),
        jeq(R2, 7, to[1]),
        store(R10.u32(-4), R2),
        ld_map(R1, &HITS),
        mov(R2, R10),
        add(R2, -4),
        call_helper(1),
        jeq(R0, 0, to[2]),
        load(R8, R0.u64(0)),
        xor(R8, R7),
        add(W8, 42),
        jgt(R8, R7, to[1]),
        mov(R9, R8),
        ja(to[3]),
    ]
}

/// The same block, the helper called by its typed function.
fn block_typed(to: &[Label]) -> Code {
    code![
        bind(to[0]),
        load(R2, R10.u32(-8)),
        mov(R7, R2),
        jeq(R2, 7, to[1]),
        store(R10.u32(-4), R2),
        map_lookup_elem(&HITS, R10.at(-4)),
        jeq(R0, 0, to[2]),
        load(R8, R0.u64(0)),
        xor(R8, R7),
        add(W8, 42),
        jgt(R8, R7, to[1]),
        mov(R9, R8),
        ja(to[3]),
    ]
}

fn with_blocks(blocks: usize, block: fn(&[Label]) -> Code) -> Code {
    let labels: Vec<Label> = (0..blocks + 3).map(|_| label("next")).collect();
    code![
        each((0..blocks).map(|i| block(&labels[i..]))),
        bind(labels[blocks]),
        mov(R0, 0),
        bind(labels[blocks + 1]),
        mov(R9, R0),
        bind(labels[blocks + 2]),
        exit(),
    ]
}

/// The program as a fragment: one `code!` per block.
pub fn smith_code(blocks: usize) -> Code {
    with_blocks(blocks, block)
}

/// The same, with typed helper calls.
pub fn smith_typed_code(blocks: usize) -> Code {
    with_blocks(blocks, block_typed)
}

/// Labels, maps and source lines resolved; the control flow is not followed.
#[must_use]
pub fn smith_assemble(code: Code) -> Program {
    Program::assemble(Isa::V4, ProgType::SOCKET_FILTER, "bench", code)
        .unwrap_or_else(|report| panic!("{report}"))
}

/// Checked as well.
#[must_use]
pub fn smith_checked(code: Code) -> Program {
    Program::new(ProgType::SOCKET_FILTER, "bench", code).unwrap_or_else(|report| panic!("{report}"))
}

/// rbpf's builder. It has no labels: the distances are written by hand.
#[must_use]
pub fn rbpf_code(blocks: usize) -> BpfCode {
    let mut code = BpfCode::new();
    for i in 0..blocks {
        // Behind the last block come three labels, one slot apart.
        let at = |n: usize| if n <= blocks { n * 16 } else { blocks * 15 + n };
        let to = |slot: usize, ahead: usize| {
            let distance = at(i + ahead) - (i * 16 + slot + 1);
            i16::try_from(distance).expect("blocks are near")
        };
        code.load_x(MemSize::Word)
            .set_dst(2)
            .set_src(10)
            .set_off(-8)
            .push()
            .mov(Source::Reg, Arch::X64)
            .set_dst(7)
            .set_src(2)
            .push()
            .jump_conditional(Condition::Equals, Source::Imm)
            .set_dst(2)
            .set_imm(7)
            .set_off(to(2, 1))
            .push()
            .store_x(MemSize::Word)
            .set_dst(10)
            .set_src(2)
            .set_off(-4)
            .push()
            .load(MemSize::DoubleWord)
            .set_dst(1)
            .set_src(1)
            .push()
            .load(MemSize::Word)
            .push()
            .mov(Source::Reg, Arch::X64)
            .set_dst(2)
            .set_src(10)
            .push()
            .add(Source::Imm, Arch::X64)
            .set_dst(2)
            .set_imm(-4)
            .push()
            .call()
            .set_imm(1)
            .push()
            .jump_conditional(Condition::Equals, Source::Imm)
            .set_dst(0)
            .set_imm(0)
            .set_off(to(9, 2))
            .push()
            .load_x(MemSize::DoubleWord)
            .set_dst(8)
            .set_src(0)
            .set_off(0)
            .push()
            .bit_xor(Source::Reg, Arch::X64)
            .set_dst(8)
            .set_src(7)
            .push()
            .add(Source::Imm, Arch::X32)
            .set_dst(8)
            .set_imm(42)
            .push()
            .jump_conditional(Condition::Greater, Source::Reg)
            .set_dst(8)
            .set_src(7)
            .set_off(to(13, 1))
            .push()
            .mov(Source::Reg, Arch::X64)
            .set_dst(9)
            .set_src(8)
            .push()
            .jump_unconditional()
            .set_off(to(15, 3))
            .push();
    }
    code.mov(Source::Imm, Arch::X64)
        .set_dst(0)
        .set_imm(0)
        .push()
        .mov(Source::Reg, Arch::X64)
        .set_dst(9)
        .set_src(0)
        .push()
        .exit()
        .push();
    code
}

/// rbpf's bytes, copied out of the builder as a `Vec`, because everybody else returns one too.
#[must_use]
pub fn rbpf_bytes(blocks: usize) -> Vec<u8> {
    rbpf_code(blocks).into_bytes().to_vec()
}

/// The least that an assembler with labels does: slots into a growing array, labels by number, one
/// pass over the references. No source lines, no maps, no checks but the range of jumps.
#[must_use]
pub fn floor_bytes(blocks: usize) -> Vec<u8> {
    let mut floor = Floor::default();
    floor.labels.resize(blocks + 3, 0);
    for i in 0..blocks {
        floor.bind(i);
        floor.put(0x61, 2, 10, -8, 0);
        floor.put(0xbf, 7, 2, 0, 0);
        floor.jump(0x15, 2, 0, 7, i + 1);
        floor.put(0x63, 10, 2, -4, 0);
        floor.put(0x18, 1, 1, 0, 0);
        floor.put(0, 0, 0, 0, 0);
        floor.put(0xbf, 2, 10, 0, 0);
        floor.put(0x07, 2, 0, 0, -4);
        floor.put(0x85, 0, 0, 0, 1);
        floor.jump(0x15, 0, 0, 0, i + 2);
        floor.put(0x79, 8, 0, 0, 0);
        floor.put(0xaf, 8, 7, 0, 0);
        floor.put(0x04, 8, 0, 0, 42);
        floor.jump(0x2d, 8, 7, 0, i + 1);
        floor.put(0xbf, 9, 8, 0, 0);
        floor.jump(0x05, 0, 0, 0, i + 3);
    }
    floor.bind(blocks);
    floor.put(0xb7, 0, 0, 0, 0);
    floor.bind(blocks + 1);
    floor.put(0xbf, 9, 0, 0, 0);
    floor.bind(blocks + 2);
    floor.put(0x95, 0, 0, 0, 0);
    floor.finish()
}

#[derive(Default)]
struct Floor {
    bytes: Vec<u8>,
    labels: Vec<usize>,
    fixups: Vec<(usize, usize)>,
}

impl Floor {
    #[inline]
    fn put(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        let [o0, o1] = off.to_le_bytes();
        let [i0, i1, i2, i3] = imm.to_le_bytes();
        self.bytes.extend_from_slice(&[
            code,
            src << 4 | dst,
            o0,
            o1,
            i0,
            i1,
            i2,
            i3,
        ]);
    }

    #[inline]
    fn jump(&mut self, code: u8, dst: u8, src: u8, imm: i32, to: usize) {
        self.fixups.push((self.bytes.len(), to));
        self.put(code, dst, src, 0, imm);
    }

    #[inline]
    fn bind(&mut self, label: usize) {
        self.labels[label] = self.bytes.len();
    }

    fn finish(mut self) -> Vec<u8> {
        for (at, label) in self.fixups {
            let distance = (self.labels[label] as isize - at as isize) / 8 - 1;
            let off = i16::try_from(distance).expect("blocks are near");
            self.bytes[at + 2..at + 4].copy_from_slice(&off.to_le_bytes());
        }
        self.bytes
    }
}

/// The typed instructions of a program.
#[must_use]
pub fn ops(program: &Program) -> Vec<Op> {
    decode::ops(program.insns())
        .map(|op| op.expect("a built program decodes").1)
        .collect()
}

/// One line per instruction, jumps by distance and helpers by number: what `write_op` prints.
#[must_use]
pub fn plain_text(ops: &[Op]) -> String {
    let mut out = String::new();
    for op in ops {
        text::write_op(&mut out, *op);
        out.push('\n');
    }
    out
}

/// The instructions of the listing, jumps by label, helpers and maps by name.
#[must_use]
pub fn named_text(program: &Program) -> String {
    let listing = program.listing();
    let body = listing.split_once("\nfunc ").map_or("", |(_, body)| body);
    let (_, instructions) = body.split_once('\n').unwrap_or_default();
    instructions.to_owned()
}

/// What rbpf's disassembler prints, one line per instruction.
#[must_use]
pub fn rbpf_text(bytes: &[u8]) -> String {
    let mut out = String::new();
    for insn in rbpf::disassembler::to_insn_vec(bytes) {
        out.push_str(&insn.desc);
        out.push('\n');
    }
    // It prints negative constants as large ones, which its assembler refuses.
    out.replace("0xfffffffc", "-0x4")
}

/// The bytes without the source register of `lddw`, for peers that cannot say "this is a map".
#[must_use]
pub fn without_maps(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for slot in out.chunks_exact_mut(8).filter(|slot| slot[0] == 0x18) {
        slot[1] &= 0x0f;
    }
    out
}

/// The bytes of every builder, compared.
///
/// # Panics
/// If one of them writes something else.
pub fn compare_builders(blocks: usize) {
    let program = smith_checked(smith_code(blocks));
    let bytes = program.to_bytes(Order::Little);
    assert_eq!(bytes.len(), slots(blocks) * 8);
    assert_eq!(
        program.lines().len(),
        slots(blocks),
        "a source line per slot"
    );
    assert!(program.warnings().is_empty());
    let same = |what: &str, other: &[u8]| assert!(bytes == other, "{what} differs");
    let unchecked = smith_assemble(smith_code(blocks));
    same("unchecked", &unchecked.to_bytes(Order::Little));
    let typed = smith_assemble(smith_typed_code(blocks));
    same("typed calls", &typed.to_bytes(Order::Little));
    same("floor", &floor_bytes(blocks));
    same("rbpf insn_builder", &rbpf_bytes(blocks));
}

/// The decoders and text assemblers, compared.
///
/// # Panics
/// If one of them makes something else of it.
pub fn compare_readers(blocks: usize) {
    let program = smith_assemble(smith_code(blocks));
    let bytes = program.to_bytes(Order::Little);
    let raws = decode::decode(&bytes, Order::Little).expect("valid");
    assert!(raws == program.insns(), "decode differs");
    let peer = rbpf::ebpf::to_insn_vec(&bytes);
    let peer: Vec<u8> = peer.iter().flat_map(rbpf::ebpf::Insn::to_array).collect();
    assert!(peer == bytes, "rbpf to_insn_vec differs");

    let plain = text::parse(&plain_text(&ops(&program))).expect("its own text");
    assert!(
        plain.insns == program.insns(),
        "parse of plain text differs"
    );
    let named = text::parse(&named_text(&program)).expect("its own listing");
    assert!(
        named.insns == program.insns(),
        "parse of the listing differs"
    );
    let peer = rbpf::assembler::assemble(&rbpf_text(&bytes)).expect("its own text");
    assert!(peer == without_maps(&bytes), "rbpf assemble differs");
}
