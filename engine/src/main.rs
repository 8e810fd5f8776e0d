//! The `holdfast` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    engine::cli::run()
}
