//! The `holdfast-web` program: reads its settings and serves the page.

use std::process::ExitCode;

use clap::Parser;
use webapp::{App, Args, Settings};

fn main() -> ExitCode {
    let settings = match Settings::from_args(&Args::parse()) {
        Ok(settings) => settings,
        Err(e) => {
            eprintln!("holdfast-web: {e}");
            return ExitCode::from(2);
        }
    };
    let rocket = match webapp::rocket(App { settings }) {
        Ok(rocket) => rocket,
        Err(e) => {
            eprintln!(
                "holdfast-web: cannot make its temporary folder: {e}\n  what to do: make room in TMPDIR, or name another"
            );
            return ExitCode::FAILURE;
        }
    };
    match rocket::execute(rocket.launch()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!(
                "holdfast-web: cannot serve: {e}\n  what to do: choose a free address and port with --address and --port"
            );
            ExitCode::FAILURE
        }
    }
}
