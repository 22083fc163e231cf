//! Running on request: packets, contexts, repetitions, and what cannot be run.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use bpfsmith_asm::dsl::*;
use bpfsmith_gate::needs;
use bpfsmith_prog::{Load, Prog, list};

fn load_program(kind: ProgType, name: &str, code: Code) -> Prog {
    let program = Program::new(kind, name, code).unwrap();
    Load::new(&program).load().unwrap()
}

/// Moves the packet's start by `delta` and writes 0x2a to its first byte.
fn shift(delta: i32) -> Code {
    let pass = label("pass");
    code![
        mov(R6, R1),
        mov(R2, delta),
        xdp_adjust_head(R6, R2),
        jne(R0, 0, pass),
        load(R7, R6.get(xdp_md::data)),
        load(R8, R6.get(xdp_md::data_end)),
        mov(R2, R7),
        add(R2, 14),
        jgt(R2, R8, pass),
        store(R7.u8(0), 0x2a),
        ret(XDP_TX),
        bind(pass),
        ret(XDP_PASS),
    ]
}

#[test]
fn a_packet_comes_back_as_the_program_left_it() {
    needs!(Root, Bpf);
    let packet: Vec<u8> = (0..64).collect();
    let longer = load_program(ProgType::XDP, "longer", shift(-8));
    let outcome = longer.run().data(&packet).go().unwrap();
    assert_eq!(outcome.xdp(), XdpAction::TX);
    assert_eq!((outcome.data.len(), outcome.data[0]), (72, 0x2a));
    assert_eq!(outcome.data[8..], packet[..]);

    let shorter = load_program(ProgType::XDP, "shorter", shift(8));
    let outcome = shorter.run().data(&packet).go().unwrap();
    assert_eq!((outcome.data.len(), outcome.data[0]), (56, 0x2a));
    assert_eq!(outcome.data[1..], packet[9..]);
}

#[test]
fn a_packet_without_room_is_an_error_with_advice() {
    needs!(Root, Bpf);
    let longer = load_program(ProgType::XDP, "longer", shift(-8));
    let error = longer.run().data(&[0; 64]).room(64).go().unwrap_err();
    assert_eq!(
        error.to_string(),
        "BPF_PROG_TEST_RUN run \"longer\": ENOSPC (the packet grew beyond the room for it: give \
         more with Run::room; or the context is shorter than the type's)"
    );
}

#[test]
fn a_system_call_program_writes_to_its_context() {
    needs!(Root, Bpf);
    let code = code![
        load(R2, R1.u64(0)),
        mul(R2, 2),
        store(R1.u64(8), R2),
        ret(7),
    ];
    let program = Program::new(ProgType::SYSCALL, "double", code).unwrap();
    let double = Load::new(&program).load().unwrap();
    let mut ctx = 21_u64.to_ne_bytes().to_vec();
    ctx.extend([0; 8]);
    let outcome = double.run().ctx(ctx).go().unwrap();
    assert_eq!(outcome.retval, 7);
    assert_eq!(outcome.ctx[8..], 42_u64.to_ne_bytes());
}

#[test]
fn a_packet_program_sees_its_context() {
    needs!(Root, Bpf);
    let code = code![
        load(R0, R1.get(__sk_buff::mark)),
        add(R0, 1),
        exit()
    ];
    let mark = load_program(ProgType::SCHED_CLS, "mark", code);
    let mut ctx = vec![0; usize::try_from(__sk_buff::SIZE).unwrap()];
    let at = usize::from(__sk_buff::mark.offset);
    ctx[at..at + 4].copy_from_slice(&41_u32.to_ne_bytes());
    let outcome = mark.run().data(&[0; 64]).ctx(ctx).go().unwrap();
    assert_eq!(outcome.retval, 42);
    assert_eq!(outcome.ctx[at..at + 4], 41_u32.to_ne_bytes());
}

#[test]
fn repetitions_are_counted_by_the_program() {
    needs!(Root, Bpf);
    static RUNS: Global<u64> = Global::bss("runs");
    let code = code![
        ld_global(R1, &RUNS),
        load(R2, R1.u64(0)),
        add(R2, 1),
        store(R1.u64(0), R2),
        ret(XDP_DROP),
    ];
    let counted = load_program(ProgType::XDP, "counted", code);
    let outcome = counted.run().data(&[0; 64]).repeat(1000).go().unwrap();
    assert_eq!(outcome.xdp(), XdpAction::DROP);
    assert_eq!(counted.read(&RUNS).unwrap(), 1000);
}

#[test]
fn constants_are_frozen_and_variables_are_not() {
    needs!(Root, Bpf);
    static LIMIT: Global<u32> = Global::rodata("limit", 7);
    static STATE: Global<u32> = Global::data("state", 9);
    let code = code![
        ld_global(R1, &LIMIT),
        load(R0, R1.u32(0)),
        ld_global(R1, &STATE),
        load(R2, R1.u32(0)),
        mul(R0, R2),
        exit(),
    ];
    let program = Program::new(ProgType::XDP, "product", code).unwrap();
    let product = Load::new(&program).set(&LIMIT, &8).unwrap().load().unwrap();
    let retval = || product.run().data(&[0; 64]).go().unwrap().retval;
    assert_eq!(retval(), 72);
    product.write(&STATE, &5).unwrap();
    assert_eq!((retval(), product.read(&STATE).unwrap()), (40, 5));
    assert_eq!(product.read(&LIMIT).unwrap(), 8);
    assert_eq!(
        product.write(&LIMIT, &1).unwrap_err().to_string(),
        "global variable: \"limit\" is a constant: set it with Load::set before loading, or make it \
         a .data variable"
    );
    let limit = product.section(".rodata").unwrap();
    let refused = limit.raw().update(&[0; 4], &1_u32.to_ne_bytes(), 0);
    assert_eq!(refused.unwrap_err().errno, Errno::EPERM);
}

#[test]
fn a_loaded_program_is_listed_counted_and_dumped() {
    needs!(Root, Bpf);
    let code = code![mov(R0, 5), add(R0, 1), exit()];
    let listed = load_program(ProgType::XDP, "listed", code);
    let about = list::prog_info(&listed).unwrap();
    assert!(
        list::progs()
            .unwrap()
            .iter()
            .any(|prog| prog.id == about.id)
    );
    assert_eq!(
        (about.name.as_str(), about.kind, about.is_gpl),
        ("listed", ProgType::XDP, true)
    );
    assert_eq!(
        list::xlated_text(&listed).unwrap(),
        "    0: r0 = 5\n    1: r0 += 1\n    2: exit\n"
    );
    let functions = list::jited(&listed).unwrap();
    let bytes: usize = functions.iter().map(|function| function.code.len()).sum();
    assert_eq!(bytes, usize::try_from(about.jited).unwrap());

    let counting = list::RunStats::enable().unwrap();
    listed.run().data(&[0; 64]).repeat(10).go().unwrap();
    drop(counting);
    let runs = list::prog_info(&listed).unwrap().runs;
    assert_eq!(runs, 10);
    drop(listed);
    let gone = |id: u32| list::progs().unwrap().iter().all(|prog| prog.id != id);
    let patience = std::time::Duration::from_secs(20);
    bpfsmith_gate::deadline(patience, || gone(about.id).then_some(()));
}
