//! The examples that need no kernel: what they build and what they print.

use insta::assert_snapshot;

#[expect(
    unreachable_pub,
    dead_code,
    reason = "an example is a program of its own"
)]
#[path = "../examples/checker.rs"]
mod checker;
#[expect(
    unreachable_pub,
    dead_code,
    reason = "an example is a program of its own"
)]
#[path = "../examples/hello_listing.rs"]
mod hello_listing;

#[test]
fn hello_listing() {
    let program = hello_listing::program();
    assert_eq!(program.warnings(), []);
    assert_snapshot!(program.listing());
    hello_listing::run();
}

#[test]
fn checker() {
    assert_snapshot!("checker_layout", checker::layout_report());
    assert_snapshot!("checker_paths", checker::report());
    checker::run();
}
