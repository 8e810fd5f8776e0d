//! A test of this package's own makes `cargo test` build its programs, which tests elsewhere run. They find them beside
//! themselves.
#![allow(clippy::unwrap_used)]

#[test]
fn the_program_lies_where_the_other_tests_look_for_it() {
    let this = std::env::current_exe().unwrap();
    let programs = this.parent().unwrap().parent().unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_holdfast-web"));
    assert_eq!(program, programs.join("holdfast-web"));
    assert!(program.is_file());
}
