//! How often the work allocates, exactly. Run with `--nocapture` to see all figures.

use bpfsmith_asm::isa::Order;
use bpfsmith_asm::{decode, text};
use bpfsmith_bench::count::{Counting, allocations};
use bpfsmith_bench::programs::*;
use std::sync::{Mutex, PoisonError};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Labels are numbered across threads: a test beside this one would leave gaps between the ids.
static ALONE: Mutex<()> = Mutex::new(());

/// The second build, as a generator's: the buffers of fragments go round.
fn build(blocks: usize) -> u64 {
    let run = || smith_assemble(smith_code(blocks)).to_bytes(Order::Little);
    run();
    allocations(run)
}

#[test]
fn building_allocates_a_number_that_grows_with_the_logarithm_only() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let counts = BLOCKS.map(build);
    let slots = BLOCKS.map(slots);
    println!("build: {counts:?} allocations for {slots:?} slots");
    assert_eq!(counts, [22, 37, 88, 107]);
}

#[test]
fn rbpf_allocates_for_every_slot() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(allocations(|| rbpf_bytes(62)) >= slots(62) as u64);
}

#[test]
fn decoding_allocates_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = smith_assemble(smith_code(6_250)).to_bytes(Order::Little);
    assert_eq!(allocations(|| decode::decode(&bytes, Order::Little)), 1);
}

#[test]
fn printing_allocates_for_the_text_alone() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let ops = ops(&smith_assemble(smith_code(6_250)));
    let mut out = String::with_capacity(ops.len() * 64);
    let work = || ops.iter().for_each(|op| text::write_op(&mut out, *op));
    assert_eq!(allocations(work), 0);
}

#[test]
fn parsing_allocates_once_for_each_label() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let program = smith_assemble(smith_code(62));
    let plain = plain_text(&ops(&program));
    let named = named_text(&program);
    let counts = [&plain, &named].map(|source| allocations(|| text::parse(source)));
    println!("parse: {counts:?} allocations, distances and labels");
    assert_eq!(counts, [4, 91]);
}
