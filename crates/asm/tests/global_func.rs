//! Functions that the verifier looks at by themselves.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_asm::text;

fn program() -> Program {
    let find = func("find")
        .global([Param::Bytes(12), Param::Number])
        .body(code![
            mov(R0, 0),
            R1.ne(0).then([load(R0, R1.u32(8)), add(R0, R2)]),
            exit(),
        ]);
    let plain = func("plain").body(code![ret(1)]);
    let key = slot::<[u32; 3]>("key");
    let code = code![
        [0, 4, 8].map(|at| store(key.u32(at), at)),
        addr(R1, key),
        mov(R2, 7),
        call(&find),
        mov(R6, R0),
        call(&plain),
        add(R0, R6),
        exit(),
    ];
    Program::new(ProgType::XDP, "global", code).unwrap()
}

#[test]
fn a_listing_says_what_they_take() {
    let program = program();
    let listing = program.listing();
    assert!(
        listing.contains("\nfunc find takes 12 number\n"),
        "{listing}"
    );
    assert!(listing.contains("\nfunc plain\n"), "{listing}");
    let read = text::program(&listing).unwrap();
    assert_eq!(read.funcs(), program.funcs());
    assert_eq!(read.insns(), program.insns());
}

#[test]
fn what_they_take_is_read_strictly() {
    let listing = program().listing();
    for (wrong, says) in [
        (
            "takes 12 5000000000",
            "5000000000 is not within 0 to 4294967295",
        ),
        ("takes -1", "found `-`"),
        ("takes 12 letters", "found `letters`"),
    ] {
        let spoilt = listing.replace("takes 12 number", wrong);
        let report = text::program(&spoilt).unwrap_err().to_string();
        assert!(report.contains(says), "{wrong}: {report}");
    }
}
