//! Each chapter of the tutorials says what its text says.

use bpfsmith::dsl::Program;

#[expect(unreachable_pub, reason = "a chapter is a program of its own")]
#[path = "../tutorials/part-1-fundamentals/03-checker.rs"]
mod checker;
#[expect(unreachable_pub, reason = "a chapter is a program of its own")]
#[path = "../tutorials/part-1-fundamentals/01-first-listing.rs"]
mod first_listing;
#[expect(unreachable_pub, reason = "a chapter is a program of its own")]
#[path = "../tutorials/part-1-fundamentals/02-fragments.rs"]
mod fragments;

/// A program without warnings, as its stable listing.
#[track_caller]
fn listing(program: &Program) -> String {
    assert_eq!(program.warnings(), [], "{} has warnings", program.name());
    program.listing()
}

#[test]
fn the_first_listing() {
    first_listing::run();
    insta::assert_snapshot!(listing(&first_listing::program()));
}

#[test]
fn fragments_compose() {
    fragments::run();
    insta::assert_snapshot!(listing(&fragments::program()));
    let config = fragments::Config {
        closed: vec![7],
        count: false,
    };
    let plain = fragments::specialised(&config);
    assert!(plain.maps().is_empty(), "what is not counted needs no map");
    insta::assert_snapshot!(listing(&plain));
}

#[test]
fn the_checker_tells_all() {
    checker::run();
    insta::assert_snapshot!(checker::report());
    insta::assert_snapshot!(listing(&checker::program()));
}
