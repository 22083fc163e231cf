//! The program, as text. When it changes in what it reads from maps, their layout gets a new version.

#[test]
fn the_program_is_as_it_was() {
    let program = bpfsmith_steer::program();
    assert_eq!(program.warnings(), []);
    insta::assert_snapshot!(program.listing());
}
