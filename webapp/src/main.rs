//! The `holdfast-web` program: reads its settings and serves the page.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use rocket::fairing::AdHoc;
use webapp::{App, Args, FrontLimits, Settings};

fn main() -> ExitCode {
    let settings = match Settings::from_args(&Args::parse()) {
        Ok(settings) => settings,
        Err(e) => {
            eprintln!("holdfast-web: {e}");
            return ExitCode::from(2);
        }
    };
    let (address, port) = (settings.address, settings.port);
    let bound = std::net::TcpListener::bind((address, port))
        .and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (bound, listener) = match bound {
        Ok(bound) => bound,
        Err(e) => {
            eprintln!(
                "holdfast-web: cannot serve on {address} port {port}: {e}\n  what to do: choose a free address and port with --address and --port"
            );
            return ExitCode::FAILURE;
        }
    };
    rocket::execute(async {
        let rocket = match webapp::behind_front(App { settings }, listener, FrontLimits::default())
        {
            Ok(rocket) => rocket,
            Err(e) => {
                eprintln!(
                    "holdfast-web: cannot make its temporary folder: {e}\n  what to do: make room in TMPDIR, or name another"
                );
                return ExitCode::FAILURE;
            }
        };
        let rocket = rocket.attach(AdHoc::on_liftoff("said", move |_| {
            Box::pin(async move {
                // Where nobody reads it, nobody misses it.
                let _ = writeln!(std::io::stdout(), "holdfast-web serves http://{bound}");
            })
        }));
        match rocket.launch().await {
            Ok(_) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!(
                    "holdfast-web: cannot serve: {e}\n  what to do: check that this gateway has 127.0.0.1: ip address show lo"
                );
                ExitCode::FAILURE
            }
        }
    })
}
