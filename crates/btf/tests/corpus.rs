//! What the fuzzer found worth keeping, read without the fuzzer.

#[path = "support/exercise.rs"]
mod exercise;

use bpfsmith_btf::Btf;
use std::path::Path;
use std::sync::Arc;

/// Calls for each input of a fuzz target.
fn each(target: &str, ask: impl Fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(directory.join(target)).expect("the corpus") {
        let path = entry.expect("an input").path();
        ask(&std::fs::read(path).expect("an input"));
        count += 1;
    }
    assert!(count > 10, "{count} inputs for {target}");
}

/// The first two bytes say how long the first part is.
fn parts(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((&[low, high], rest)) = bytes.split_first_chunk::<2>() else {
        return (&[], &[]);
    };
    rest.split_at(usize::from(u16::from_le_bytes([low, high])).min(rest.len()))
}

#[test]
fn inputs_of_the_fuzzer_are_survived() {
    each("btf_parse", |bytes| {
        exercise::alone(bytes);
    });
    each("btf_ext", |bytes| {
        exercise::ext(bytes);
    });
    each("btf_split", |bytes| {
        let (base, top) = parts(bytes);
        if let Ok(base) = Btf::parse(base) {
            exercise::split(&Arc::new(base), top);
        }
    });
    each("btf_print", |bytes| {
        let (value, btf) = parts(bytes);
        exercise::print(btf, value);
    });
}
