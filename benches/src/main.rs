//! Holdfast's work, measured side by side with what a user would run instead, in one run: time as a ratio, memory, files.
//!
//! `scripts/bench` installs what is missing, builds with optimisation and runs it; arguments go through. By hand, as root:
//!
//! ```text
//! cargo build --release --workspace && target/release/benches --json result.json
//! ```
//!
//! Gateways are made for it in a folder of its own (`--dir`, on a disk: speed of a `tmpfs` says nothing) and run in
//! namespaces of their own. Ours and theirs take turns, and medians are compared: a machine that is busy with something
//! else slows both. `README.md` of this folder has figures.
#![forbid(unsafe_code)]

mod gateway;
mod measure;
mod options;
mod record;
mod report;
mod settle;
mod viewers;
mod work;

use std::process::ExitCode;

use fixtures::{Result, Trouble, skip};

use options::{Asked, Options, Part};
use report::Report;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match options::parse(&words) {
        Ok(Asked::Measured { to, argv }) => return measure::child(to, &argv),
        Ok(Asked::Help) => {
            println!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        Ok(Asked::Benches(options)) => run(&options),
        Err(trouble) => {
            eprintln!("{trouble}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("{trouble}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if let Some(reason) = skip::no_sandbox() {
        return Err(Trouble::new(format!("cannot run gateways here: {reason}")));
    }
    for tool in ["zip", "unzip", "tar", "zstd", "sqlite3", "strace", "xargs"] {
        if !skip::has(tool) {
            return Err(Trouble::new(format!(
                "{tool} is missing; scripts/bench installs it"
            )));
        }
    }
    let folder = match &options.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let mut report = Report::new(options);
    if options.wants(Part::Record) {
        record::measure(folder.path(), options.runs, &mut report)?;
    }
    for &clients in &options.clients {
        work::live(folder.path(), clients, options, &mut report)?;
        work::files(folder.path(), clients, options, &mut report)?;
        settle::measure(folder.path(), clients, options, &mut report)?;
        viewers::measure(folder.path(), clients, options, &mut report)?;
    }
    if options.wants(Part::Padded) && options.padding_mib > 0 {
        work::padded(folder.path(), options, &mut report)?;
    }
    println!("{report}");
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report.json())?)?;
    }
    Ok(())
}
