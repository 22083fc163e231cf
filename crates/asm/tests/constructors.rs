//! Every constructor of the DSL makes the instruction that its text says.
//!
//! The text on the right is LLVM's and the kernel's syntax, written by hand; `llvm.rs` proves that
//! LLVM assembles the same text to the same bytes as the parser used here.

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::isa::{Order, Raw};
use bpfsmith_asm::text;

/// The slots of a fragment that jumps nowhere; `end` is bound behind the instruction under test.
fn slots(code: Code) -> Vec<Raw> {
    let program = Program::assemble(Isa::V4, ProgType::XDP, "one", code);
    program.expect("the instruction is right").insns().to_vec()
}

#[track_caller]
fn check(item: impl Splice, text: &str) {
    let made = slots(code![item]);
    let mut printed = String::new();
    for op in bpfsmith_asm::decode::ops(&made) {
        text::write_op(
            &mut printed,
            op.expect("a constructor makes what decodes").1,
        );
    }
    assert_eq!(printed, text);
    let parsed = text::parse(text).expect("the text is right").insns;
    assert_eq!(made, parsed, "{text}");
}

/// Operations with two operands: `constructor symbol`.
macro_rules! both {
    ($($f:ident $symbol:literal;)*) => { $(
        check($f(R1, R2), &format!("r1 {} r2", $symbol));
        check($f(R9, R0), &format!("r9 {} r0", $symbol));
        check($f(R1, 5), &format!("r1 {} 5", $symbol));
        check($f(R1, -1), &format!("r1 {} -1", $symbol));
        check($f(R1, i32::MIN), &format!("r1 {} -2147483648", $symbol));
        check($f(R1, u64::MAX), &format!("r1 {} -1", $symbol));
        check($f(W1, W2), &format!("w1 {} w2", $symbol));
        check($f(W1, 5_u8), &format!("w1 {} 5", $symbol));
        check($f(W1, u32::MAX), &format!("w1 {} -1", $symbol));
    )* };
}

#[test]
fn arithmetic() {
    both! {
        add "+="; sub "-="; mul "*="; div "/="; sdiv "s/="; or "|="; and "&="; lsh "<<="; rsh ">>=";
        rem "%="; srem "s%="; xor "^="; mov "="; arsh "s>>=";
    }
    check(movsx8(R1, R2), "r1 = (s8)r2");
    check(movsx16(R1, R2), "r1 = (s16)r2");
    check(movsx32(R1, R2), "r1 = (s32)r2");
    check(movsx8(W1, W2), "w1 = (s8)w2");
    check(movsx16(W1, W2), "w1 = (s16)w2");
    check(neg(R1), "r1 = -r1");
    check(neg(W1), "w1 = -w1");
    check(to_be16(R1), "r1 = be16 r1");
    check(to_be32(R1), "r1 = be32 r1");
    check(to_be64(R1), "r1 = be64 r1");
    check(to_le16(R1), "r1 = le16 r1");
    check(to_le32(R1), "r1 = le32 r1");
    check(to_le64(R1), "r1 = le64 r1");
    check(bswap16(R1), "r1 = bswap16 r1");
    check(bswap32(R1), "r1 = bswap32 r1");
    check(bswap64(R1), "r1 = bswap64 r1");
    check(
        addr_space_cast(R1, R2, 0, 1),
        "r1 = addr_space_cast(r2, 0, 1)",
    );
    check(
        addr_space_cast(R1, R2, 1, 0),
        "r1 = addr_space_cast(r2, 1, 0)",
    );
}

#[test]
fn memory() {
    let at = R2.at(8);
    check(load(R1, at.u8(0)), "r1 = *(u8 *)(r2 + 8)");
    check(load(R1, at.u16(-16)), "r1 = *(u16 *)(r2 - 8)");
    check(load(R1, at.u32(32759)), "r1 = *(u32 *)(r2 + 32767)");
    check(load(R1, at.u64(-32776)), "r1 = *(u64 *)(r2 - 32768)");
    check(load(R1, R2.u8(0).signed()), "r1 = *(s8 *)(r2 + 0)");
    check(load(R1, R2.u16(0).signed()), "r1 = *(s16 *)(r2 + 0)");
    check(load(R1, R2.u32(0).signed()), "r1 = *(s32 *)(r2 + 0)");
    check(store(at.u8(0), R3), "*(u8 *)(r2 + 8) = r3");
    check(store(at.u16(0), R3), "*(u16 *)(r2 + 8) = r3");
    check(store(at.u32(0), R3), "*(u32 *)(r2 + 8) = r3");
    check(store(at.u64(0), R3), "*(u64 *)(r2 + 8) = r3");
    check(store(at.u8(0), 1), "*(u8 *)(r2 + 8) = 1");
    check(store(at.u16(0), 1), "*(u16 *)(r2 + 8) = 1");
    check(store(at.u32(0), u32::MAX), "*(u32 *)(r2 + 8) = -1");
    check(store(at.u64(0), -1), "*(u64 *)(r2 + 8) = -1");
    check(ld_abs(Size::B, 12), "r0 = *(u8 *)skb[12]");
    check(ld_abs(Size::H, 12), "r0 = *(u16 *)skb[12]");
    check(ld_abs(Size::W, 12), "r0 = *(u32 *)skb[12]");
    check(ld_ind(Size::H, R2, 12), "r0 = *(u16 *)skb[r2 + 12]");
    check(
        load_acquire(R1, R2.u8(0)),
        "r1 = load_acquire((u8 *)(r2 + 0))",
    );
    check(
        load_acquire(R1, R2.u64(8)),
        "r1 = load_acquire((u64 *)(r2 + 8))",
    );
    check(
        store_release(R1.u16(0), R2),
        "store_release((u16 *)(r1 + 0), r2)",
    );
    check(
        store_release(R1.u32(-4), R2),
        "store_release((u32 *)(r1 - 4), r2)",
    );
}

/// Atomic operations: `constructor`, then the texts of the 64-bit and the 32-bit form.
macro_rules! atomics {
    ($($f:ident $wide:literal $narrow:literal;)*) => { $(
        check($f(R1.u64(8), R2), $wide);
        check($f(R1.u32(8), R2), $narrow);
    )* };
}

#[test]
fn atomic_operations() {
    atomics! {
        atomic_add "lock *(u64 *)(r1 + 8) += r2" "lock *(u32 *)(r1 + 8) += w2";
        atomic_or "lock *(u64 *)(r1 + 8) |= r2" "lock *(u32 *)(r1 + 8) |= w2";
        atomic_and "lock *(u64 *)(r1 + 8) &= r2" "lock *(u32 *)(r1 + 8) &= w2";
        atomic_xor "lock *(u64 *)(r1 + 8) ^= r2" "lock *(u32 *)(r1 + 8) ^= w2";
        fetch_add "r2 = atomic_fetch_add((u64 *)(r1 + 8), r2)"
            "w2 = atomic_fetch_add((u32 *)(r1 + 8), w2)";
        fetch_or "r2 = atomic_fetch_or((u64 *)(r1 + 8), r2)"
            "w2 = atomic_fetch_or((u32 *)(r1 + 8), w2)";
        fetch_and "r2 = atomic_fetch_and((u64 *)(r1 + 8), r2)"
            "w2 = atomic_fetch_and((u32 *)(r1 + 8), w2)";
        fetch_xor "r2 = atomic_fetch_xor((u64 *)(r1 + 8), r2)"
            "w2 = atomic_fetch_xor((u32 *)(r1 + 8), w2)";
        xchg "r2 = xchg_64(r1 + 8, r2)" "w2 = xchg32_32(r1 + 8, w2)";
        cmpxchg "r0 = cmpxchg_64(r1 + 8, r0, r2)" "w0 = cmpxchg32_32(r1 + 8, w0, w2)";
    }
}

/// Conditional jumps over one instruction: `constructor symbol`.
macro_rules! jumps {
    ($($f:ident $m:ident $symbol:literal;)*) => { $(
        let over = |make: &dyn Fn(Label) -> Insn| {
            let end = label("end");
            slots(code![make(end), exit(), bind(end), exit()])
        };
        let text = |condition: String| {
            text::parse(&format!("if {condition} goto +1\nexit\nexit")).expect("right").insns
        };
        assert_eq!(over(&|to| $f(R1, R2, to)), text(format!("r1 {} r2", $symbol)));
        assert_eq!(over(&|to| $f(R1, -5, to)), text(format!("r1 {} -5", $symbol)));
        assert_eq!(over(&|to| $f(W1, W2, to)), text(format!("w1 {} w2", $symbol)));
        assert_eq!(over(&|to| $f(W1, 5, to)), text(format!("w1 {} 5", $symbol)));
        // `then` jumps over its body unless the condition holds.
        let then = slots(code![R1.$m(R2).then(exit()), exit()]);
        let narrow = slots(code![W1.$m(7).then(exit()), exit()]);
        if $symbol == "&" {
            assert_eq!(then, parse("if r1 & r2 goto +1\ngoto +1\nexit\nexit"));
            assert_eq!(narrow, parse("if w1 & 7 goto +1\ngoto +1\nexit\nexit"));
        } else {
            assert_eq!(then, text(format!("r1 {} r2", inverse($symbol))));
            assert_eq!(narrow, text(format!("w1 {} 7", inverse($symbol))));
        }
    )* };
}

fn parse(source: &str) -> Vec<Raw> {
    text::parse(source).expect("the text is right").insns
}

fn inverse(symbol: &str) -> &'static str {
    let pairs = [
        ("==", "!="),
        (">", "<="),
        (">=", "<"),
        ("s>", "s<="),
        ("s>=", "s<"),
    ];
    let both = pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
    both.into_iter()
        .find(|&(a, _)| a == symbol)
        .expect("has an inverse")
        .1
}

#[test]
fn jumps() {
    jumps! {
        jeq eq "=="; jne ne "!="; jgt gt ">"; jge ge ">="; jlt lt "<"; jle le "<="; jset has "&";
        jsgt sgt "s>"; jsge sge "s>="; jslt slt "s<"; jsle sle "s<=";
    }
    let end = label("end");
    let made = slots(code![
        may_goto(end),
        ja(end),
        bind(end),
        exit()
    ]);
    assert_eq!(made, parse("may_goto +1\ngoto +0\nexit"));
}

#[test]
fn constants_and_calls() {
    check(
        lddw(R1, 0x1122_3344_5566_7788),
        "r1 = 0x1122334455667788 ll",
    );
    check(ld_wide(R1, Wide::MapFd(5)), "r1 = map[fd:5]");
    check(ld_wide(R1, Wide::MapValue(5, 8)), "r1 = map[fd:5] + 8");
    check(ld_wide(R1, Wide::MapIdx(5)), "r1 = map[idx:5]");
    check(ld_wide(R1, Wide::MapIdxValue(5, 8)), "r1 = map[idx:5] + 8");
    check(ld_wide(R1, Wide::BtfId(12, 0)), "r1 = btf_id[12]");
    check(ld_wide(R1, Wide::BtfId(12, 3)), "r1 = btf_id[12:3]");
    check(ld_wide(R1, Wide::Func(7)), "r1 = func[pc+7]");
    check(call_helper(1), "call 1");
    check(exit(), "exit");
    assert_eq!(slots(code![ret(2)]), parse("r0 = 2\nexit"));
}

#[test]
fn network_order_follows_the_target() {
    let code = code![
        R2.eq(be16(0x1234)).then(exit()),
        W2.eq(be32(0x1234_5678_u32)).then(exit()),
        store(R10.u32(-4), be32(0xc0a8_0001_u32)),
        ret(0),
    ];
    let program = Program::assemble(Isa::V4, ProgType::XDP, "net", code).expect("right");
    let bytes = |order| -> Vec<[u8; 4]> {
        let all = program.to_bytes(order);
        let imms = all
            .chunks(8)
            .map(|slot| <[u8; 4]>::try_from(&slot[4..]).expect("four"));
        imms.collect()
    };
    // What the loads of a packet give: its bytes in the machine's order. So the constants, read in
    // the machine's order, must spell the packet's bytes on either machine.
    let little = bytes(Order::Little);
    assert_eq!(i32::from_le_bytes(little[0]), 0x3412);
    assert_eq!(i32::from_le_bytes(little[2]), 0x7856_3412);
    assert_eq!(little[4], [0xc0, 0xa8, 0x00, 0x01]);
    let big = bytes(Order::Big);
    assert_eq!(i32::from_be_bytes(big[0]), 0x1234);
    assert_eq!(i32::from_be_bytes(big[2]), 0x1234_5678);
    assert_eq!(big[4], [0xc0, 0xa8, 0x00, 0x01]);
}

#[test]
fn references_by_name() {
    static HITS: MapDef<u32, u64> = MapDef::array("hits", 1);
    static LIMIT: Global<u64> = Global::rodata("limit", 100);
    static SEEN: Global<u32> = Global::bss("seen");
    static FLAG: Global<u8> = Global::data("flag", 1);
    let inc = func("inc").body(code![mov(R0, R1), add(R0, 1), exit()]);
    let code = code![
        ld_map(R1, &HITS),
        ld_map_value(R2, &HITS, 4),
        ld_global(R3, &LIMIT),
        ld_global(R4, &FLAG),
        ld_global(R5, &SEEN),
        ld_func(R6, &inc),
        ld_ksym(R7, "jiffies"),
        mov(R1, 1),
        call(&inc),
        call_kfunc("bpf_rcu_read_lock"),
        call(&inc),
        ret(0),
    ];
    let program = Program::assemble(Isa::V4, ProgType::XDP, "names", code).expect("right");
    insta::assert_snapshot!(program.listing());
    assert_eq!(
        program.funcs().len(),
        2,
        "a function that is called twice comes once"
    );
}

#[test]
fn names_that_a_listing_cannot_hold() {
    let (odd, digit) = (label("not ip: why?"), label("5"));
    let code = code![
        jeq(R1, 0, odd),
        jeq(R1, 1, digit),
        ret(0),
        bind(odd),
        ret(1),
        bind(digit),
        ret(2),
    ];
    let program = Program::new(ProgType::XDP, "odd", code.clone()).expect("right");
    let listing = program.listing();
    assert!(
        listing.contains("\nnot_ip__why_:\n") && listing.contains("\n_5:\n"),
        "{listing}"
    );
    assert_eq!(text::program(&listing).expect("reads back"), program);
    let report = Program::new(ProgType::XDP, "drop it", code).expect_err("a name with a space");
    let message = "`drop it` cannot name a program or function: take A-Za-z0-9_. and start with a \
                   letter";
    assert_eq!(report.findings[0].message, message);
}
