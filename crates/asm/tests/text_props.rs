//! Instructions to text and back.

mod support;

use bpfsmith_asm::isa::Op;
use bpfsmith_asm::text::{Text, parse, write_op};
use proptest::prelude::*;
use support::{all_ops, any_op, encode};

fn print(list: &[Op]) -> String {
    let mut out = String::new();
    for op in list {
        write_op(&mut out, *op);
        out.push('\n');
    }
    out
}

#[track_caller]
fn parsed(source: &str) -> Text {
    match parse(source) {
        Ok(text) => text,
        Err(errors) => {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            panic!("{source}\n{}", errors.join("\n"))
        }
    }
}

#[test]
fn every_form_of_every_operation_comes_back() {
    for op in all_ops() {
        let text = op.to_string();
        assert_eq!(parsed(&text).insns, encode(&[op]), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_program_comes_back(list in prop::collection::vec(any_op(), 0..20)) {
        let source = print(&list);
        let text = parsed(&source);
        prop_assert_eq!(text.insns, encode(&list), "{}", source);
    }
}
