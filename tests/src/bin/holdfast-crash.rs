//! `holdfast restore` and `holdfast recover` on a host that dies at a chosen effect. For tests alone.
//!
//! `holdfast-crash PROFILE MOMENT restore ARCHIVE` or `... recover [resume|roll-back]`; MOMENT is `never`, `before:K` or
//! `within:K:MS`. Ends with the exit status that `holdfast` has; if it lives, prints what each effect was.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use engine::error::Fault;
use engine::gateway::profile::Profile;
use engine::host::linux::Linux;
use engine::plan::planner::Choices;
use engine::plan::prepare::{RestoreRequest, prepare};
use engine::restore::driver::BootStage;
use engine::restore::process::own_session;
use engine::restore::recover::{self, Recovered, RecoveryOrder};
use engine::restore::{self, Ended};
use engine::state_dir::lock::{Lock, LockedFor};
use journal_format::{Policy, Role};
use tests::crashing::Crashing;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::from(fault.exit_status())
        }
    }
}

fn run(words: &[&str]) -> Result<(), Fault> {
    let usage = |why: String| Fault::Usage(format!("holdfast-crash: {why}"));
    let [profile, moment, rest @ ..] = words else {
        return Err(usage("a profile and a moment are needed".into()));
    };
    let moment = match *moment {
        "never" => None,
        text => Some(text.parse().map_err(usage)?),
    };
    own_session()?;
    let this = std::env::current_exe().map_err(|e| usage(e.to_string()))?;
    engine::host::programs::program_is(this.with_file_name("holdfast"));
    let profile = Profile::read(Path::new(profile), false)?;
    let host = Crashing::new(Linux::new(&profile), moment);
    let _lock = Lock::take(&profile, LockedFor::Restore)?;
    let ended = match rest {
        ["restore", archive] => restore(&profile, &host, Path::new(archive)),
        ["recover"] => recover(&profile, &host, None),
        ["recover", "resume"] => recover(&profile, &host, Some(Policy::Resume)),
        ["recover", "roll-back"] => recover(&profile, &host, Some(Policy::RollBack)),
        _ => return Err(usage(format!("{rest:?}"))),
    };
    for name in host.effects() {
        println!("{name}");
    }
    ended
}

fn restore(profile: &Profile, host: &Crashing, archive: &Path) -> Result<(), Fault> {
    let unreadable = |e: std::io::Error| Fault::Usage(format!("{}: {e}", archive.display()));
    let prepared = prepare(
        profile,
        host,
        RestoreRequest {
            file: File::open(archive).map_err(unreadable)?,
            name: "crash.zip".into(),
            choices: Choices {
                keep_going_without_firewall: false,
                keep_open_folders: true,
                policy: profile.recovery.policy,
                without_safety_backup_of: Default::default(),
                keep_going_without_services: false,
                leave_down: Default::default(),
                full_stop: std::env::var_os("HOLDFAST_CHANGES_ONLY").is_none(),
            },
            id: None,
            approved: None,
        },
    )?;
    match restore::run(profile, host, prepared, None, &|| false)? {
        Ended::Restored { .. } => Ok(()),
        Ended::HandOver(problem) => Err(Fault::Stuck(problem)),
    }
}

fn recover(profile: &Profile, host: &Crashing, policy: Option<Policy>) -> Result<(), Fault> {
    let recovered = recover::run(
        profile,
        host,
        RecoveryOrder {
            by: Role::RecoverByHand,
            policy,
            stage: BootStage::Whole,
            asked_by: None,
        },
        &|| false,
        |_| {},
    )?;
    match recovered {
        Recovered::Idle(_)
        | Recovered::NothingToDo(_)
        | Recovered::Over(..)
        | Recovered::BeforeNetwork(_)
        | Recovered::TriedAgain { .. } => Ok(()),
        Recovered::Settled { result, .. } => result.map(drop),
    }
}
