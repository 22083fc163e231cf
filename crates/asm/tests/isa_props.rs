//! Instructions to bytes and back, for every instruction and for any bytes.

mod support;

use bpfsmith_asm::decode::{DecodeError, decode, ops};
use bpfsmith_asm::isa::{Op, Order, Raw, Refused};
use proptest::prelude::*;
use support::{all_ops, any_op, encode};

const ORDERS: [Order; 2] = [Order::Little, Order::Big];

fn to_bytes(raws: &[Raw], order: Order) -> Vec<u8> {
    raws.iter().flat_map(|raw| raw.to_bytes(order)).collect()
}

#[track_caller]
fn there_and_back(op: Op) {
    let slots = op.encode();
    assert_eq!(Op::decode(slots.first, slots.second), Ok(op));
    let raws = encode(&[op]);
    assert_eq!(raws.len(), op.slots());
    for order in ORDERS {
        assert_eq!(
            decode(&to_bytes(&raws, order), order).as_ref(),
            Ok(&raws),
            "{op:?}"
        );
    }
}

#[test]
fn every_form_of_every_operation_comes_back() {
    let all = all_ops();
    assert!(all.len() > 3000, "{}", all.len());
    all.into_iter().for_each(there_and_back);
}

/// Every opcode and both register nibbles, with the values of the other fields that matter: what
/// `decode` accepts is what `Op::decode` accepts, and encodes to the same slot again.
#[test]
fn both_decoders_agree_on_every_opcode() {
    let mut valid = 0;
    for code in 0..=255 {
        for regs in 0..=255u8 {
            for off in [0, 1, 7, 8, 16, 32, -1] {
                for imm in [
                    0, 1, 16, 32, 64, 65, 0xe1, 0xf1, 0x100, 0x110, -1,
                ] {
                    let raw = Raw {
                        code,
                        regs,
                        off,
                        imm,
                    };
                    let typed = Op::decode(raw, None);
                    let bytes = raw.to_bytes(Order::Little);
                    match decode(&bytes, Order::Little) {
                        Ok(raws) => assert_eq!(raws, [raw]),
                        Err(DecodeError { at: 0, why }) => assert_eq!(typed, Err(why), "{raw:?}"),
                        Err(other) => panic!("{raw:?}: {other}"),
                    }
                    if let Ok(op) = typed {
                        valid += 1;
                        assert_eq!(op.encode().first, raw, "{op:?}");
                    }
                }
            }
        }
    }
    assert!(valid > 50_000, "{valid}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_instruction_comes_back(op in any_op()) {
        there_and_back(op);
    }

    #[test]
    fn any_program_comes_back(list in prop::collection::vec(any_op(), 0..40)) {
        let raws = encode(&list);
        for order in ORDERS {
            prop_assert_eq!(decode(&to_bytes(&raws, order), order), Ok(raws.clone()));
        }
        let typed: Result<Vec<Op>, _> = ops(&raws).map(|item| item.map(|(_, op)| op)).collect();
        prop_assert_eq!(typed, Ok(list));
    }

    #[test]
    fn any_bytes_are_the_same_bytes_or_a_refusal(
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        order in prop::sample::select(&ORDERS[..]),
    ) {
        same_or_refused(&bytes, order)?;
    }

    /// One byte of a valid instruction is replaced: most of the refusals are one byte away.
    #[test]
    fn nearly_valid_bytes_are_the_same_bytes_or_a_refusal(
        list in prop::collection::vec(any_op(), 1..4),
        order in prop::sample::select(&ORDERS[..]),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = to_bytes(&encode(&list), order);
        let place = place.index(bytes.len());
        bytes[place] = byte;
        same_or_refused(&bytes, order)?;
    }
}

fn same_or_refused(bytes: &[u8], order: Order) -> Result<(), TestCaseError> {
    match decode(bytes, order) {
        Ok(raws) => {
            prop_assert_eq!(to_bytes(&raws, order), bytes);
            let list: Result<Vec<Op>, _> = ops(&raws).map(|item| item.map(|(_, op)| op)).collect();
            prop_assert_eq!(encode(&list?), raws);
        }
        Err(DecodeError {
            at,
            why: Refused::Length(n),
        }) => {
            prop_assert_eq!((at, n), (bytes.len() / 8, bytes.len() % 8));
        }
        Err(e) => {
            let start = e.at * 8;
            let cut = decode(&bytes[..start], order);
            prop_assert!(cut.is_ok(), "{e} but {cut:?}");
        }
    }
    Ok(())
}

#[track_caller]
fn refused(bytes: &[u8], message: &str) {
    let error = decode(bytes, Order::Little).expect_err(message);
    assert_eq!(error.to_string(), message);
    let source = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(source, Some(error.why.to_string()));
}

#[test]
fn every_refusal_says_why() {
    refused(
        &[0x8d, 0, 0, 0, 0, 0, 0, 0],
        "instruction 0: opcode 0x8d is no BPF instruction",
    );
    refused(&[0; 8], "instruction 0: opcode 0x00 is no BPF instruction");
    refused(
        &[0xff; 8],
        "instruction 0: r15 is no register: BPF has r0 to r10",
    );
    refused(
        &[0xb7, 0x0b, 0, 0, 0, 0, 0, 0],
        "instruction 0: r11 is no register: BPF has r0 to r10",
    );
    refused(
        &[0xb7, 0x10, 0, 0, 0, 0, 0, 0],
        "instruction 0: src must be zero here: this instruction does not use it",
    );
    refused(
        &[0x95, 1, 0, 0, 0, 0, 0, 0],
        "instruction 0: dst must be zero here: this instruction does not use it",
    );
    refused(
        &[0x07, 1, 1, 0, 0, 0, 0, 0],
        "instruction 0: off must be zero here: this instruction does not use it",
    );
    refused(
        &[0x0f, 0x21, 0, 0, 0, 0, 0, 1],
        "instruction 0: imm must be zero here: this instruction does not use it",
    );
    refused(
        &[
            0x18, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
        ],
        "instruction 0: imm of slot two must be zero here: this instruction does not use it",
    );
    refused(
        &[0xdc, 1, 0, 0, 24, 0, 0, 0],
        "instruction 0: a byte swap to 24 bits: use 16, 32 or 64",
    );
    refused(
        &[0xdb, 0x21, 0, 0, 0x20, 0, 0, 0],
        "instruction 0: imm 0x20 is no atomic operation",
    );
    refused(
        &[0x85, 0x30, 0, 0, 0, 0, 0, 0],
        "instruction 0: src 3 is no kind of call: use 0 (helper), 1 (local), 2 (kfunc)",
    );
    refused(
        &[
            0x18, 0x71, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        "instruction 0: src 7 is no source of a 64-bit constant: use 0 to 6",
    );
    let exit = [0x95, 0, 0, 0, 0, 0, 0, 0];
    refused(
        &[exit, [0x18, 1, 0, 0, 0, 0, 0, 0]].concat(),
        "instruction 1: the second half of lddw is missing: append its slot",
    );
    refused(
        &[[0x18, 1, 0, 0, 0, 0, 0, 0], exit].concat(),
        "instruction 0: lddw is followed by a slot that is not its second half",
    );
    refused(
        &[0x95, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3],
        "instruction 1: 3 bytes left over: instructions are 8 bytes each",
    );
}

#[test]
fn typed_decoding_goes_on_behind_an_error() {
    let exit = Op::Exit.encode().first;
    let cut = Raw::new(0x18, 1, 0, 0, 0);
    let found: Vec<_> = ops(&[cut, exit, cut]).collect();
    assert_eq!(
        found,
        [
            Err(DecodeError {
                at: 0,
                why: Refused::WideSecond
            }),
            Ok((1, Op::Exit)),
            Err(DecodeError {
                at: 2,
                why: Refused::WideCut
            }),
        ]
    );
}
