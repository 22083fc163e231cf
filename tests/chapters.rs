//! Each chapter of the tutorials says what its text says.

#[macro_use]
mod programs;

use bpfsmith::dsl::Program;

program!(checker, "../tutorials/part-1-fundamentals/03-checker.rs");
program!(
    first_listing,
    "../tutorials/part-1-fundamentals/01-first-listing.rs"
);
program!(
    fragments,
    "../tutorials/part-1-fundamentals/02-fragments.rs"
);

// What these do in the kernel, another file of tests sees.
program!(
    cpu_redirection,
    "../tutorials/part-2-kernel/06-cpu-redirection.rs"
);
program!(first_xdp, "../tutorials/part-2-kernel/02-first-xdp.rs");
program!(maps, "../tutorials/part-2-kernel/01-maps.rs");
program!(
    kernel_extension,
    "../tutorials/part-3-advanced/15-kernel-extension.rs"
);
program!(
    portable_fields,
    "../tutorials/part-3-advanced/14-portable-fields.rs"
);
program!(
    ring_buffers,
    "../tutorials/part-2-kernel/03-ring-buffers.rs"
);
program!(
    socket_lookup,
    "../tutorials/part-3-advanced/17-socket-lookup.rs"
);
program!(
    socket_redirection,
    "../tutorials/part-4-applications/08-3-socket-redirection.rs"
);
program!(testing, "../tutorials/part-2-kernel/05-testing.rs");
program!(verifier, "../tutorials/part-2-kernel/04-verifier.rs");

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

#[test]
fn maps() {
    insta::assert_snapshot!(listing(&maps::program()));
}

#[test]
fn socket_lookup() {
    insta::assert_snapshot!(listing(&socket_lookup::program()));
}

#[test]
fn socket_redirection() {
    insta::assert_snapshot!(listing(&socket_redirection::program()));
}

#[test]
fn the_first_xdp_program() {
    insta::assert_snapshot!(listing(&first_xdp::program()));
}

#[test]
fn ring_buffers() {
    insta::assert_snapshot!(listing(&ring_buffers::program()));
}

#[test]
fn what_the_verifier_refuses_passes_the_checker() {
    for (program, _) in verifier::refused() {
        assert_eq!(program.warnings(), [], "{}", program.name());
    }
    insta::assert_snapshot!(listing(&verifier::program()));
}

#[test]
fn testing() {
    insta::assert_snapshot!(listing(&testing::program()));
}

#[test]
fn cpu_redirection() {
    insta::assert_snapshot!(listing(&cpu_redirection::program(2)));
    insta::assert_snapshot!(listing(&cpu_redirection::there()));
}

#[test]
fn portable_fields() {
    for (name, program) in [
        ("portable_fields_me", portable_fields::me()),
        ("portable_fields_guarded", portable_fields::guarded()),
        ("portable_fields_switches", portable_fields::program()),
        ("portable_fields_packet", portable_fields::packet()),
    ] {
        insta::assert_snapshot!(name, listing(&program));
    }
    for (program, _) in portable_fields::mistakes() {
        assert_eq!(program.warnings(), [], "{}", program.listing());
    }
}

#[test]
fn kernel_extension() {
    insta::assert_snapshot!(listing(&kernel_extension::ssthresh()));
    insta::assert_snapshot!(listing(&kernel_extension::program()));
}
