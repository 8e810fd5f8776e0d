//! One run of the schedule: a backup, and after a complete one a prune under the same lock. Keeps what it says before it does anything
//! and when it is done, so that a run that is cut off is known. Must print nothing. A run that finds the gateway busy is none.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use journal_format::Problem;

use super::prune::{self, Outcome};
use super::{Made, Progress, of_gateway};
use crate::error::Fault;
use crate::gateway::backup_kind::BackupKind;
use crate::gateway::profile::Profile;
use crate::host::Host;
use crate::state_dir;
use crate::state_dir::lock::{Lock, LockedFor};
use crate::state_dir::schedule::{self, RunResult, ScheduledRun};

/// What came of a run.
pub struct RunOutcome {
    /// Its backup.
    pub made: Result<Made, Fault>,
    /// What was pruned behind it.
    pub pruned: Outcome,
    /// What it says, for `on_backup` as well, which the caller tells once the lock is free.
    pub run: ScheduledRun,
    /// Why that could not be noted.
    pub unnoted: Option<Problem>,
}

/// Makes a run; a fault where it is none: something else works on the gateway, or a restore is open.
pub fn run(
    profile: &Profile,
    host: &dyn Host,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<RunOutcome, Fault> {
    let mut run = ScheduledRun {
        began_ms: Timestamp::now().as_millisecond(),
        pid: std::process::id(),
        result: RunResult::Begun,
        backup: None,
        lacks: Vec::new(),
        problems: Vec::new(),
        pruned: Vec::new(),
        not_pruned: Vec::new(),
    };
    let (made, pruned, unnoted) = under_lock(profile, host, &mut run, progress)?;
    Ok(RunOutcome {
        made,
        pruned,
        run,
        unnoted,
    })
}

/// The backup, what was pruned, and why it could not be noted, if so.
type Worked = (Result<Made, Fault>, Outcome, Option<Problem>);

fn under_lock(
    profile: &Profile,
    host: &dyn Host,
    run: &mut ScheduledRun,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Worked, Fault> {
    let begin = || -> Result<Lock, Fault> {
        let lock = Lock::take(profile, LockedFor::Backup)?;
        state_dir::none_open(profile, host, "back the gateway up")?;
        schedule::keep_run(profile, run)?;
        Ok(lock)
    };
    let begun = begin();
    if let Err(Fault::Busy(problem)) = begun {
        return Err(Fault::Busy(problem));
    }
    let dir = profile.backups_dir();
    let made = begun.and_then(|lock| {
        of_gateway(profile, host, BackupKind::Scheduled, &dir, progress).map(|made| (made, lock))
    });
    let mut pruned = Outcome::default();
    match &made {
        Ok((made, _)) => {
            let name = made.path.file_name();
            run.backup = name.map(|name| name.to_string_lossy().into_owned());
            run.lacks = made.not_good();
            run.result = match run.lacks.is_empty() {
                true => RunResult::Good,
                false => RunResult::Incomplete,
            };
            if run.result == RunResult::Good {
                pruned = prune(profile, host);
            }
        }
        Err(fault) => {
            run.problems = fault.problems().to_vec();
            run.result = RunResult::Failed;
        }
    }
    run.pruned = pruned.gone.iter().map(|(what, _)| what.name()).collect();
    run.not_pruned = pruned.failed.clone();
    let unnoted = schedule::keep_run(profile, run).err();
    Ok((made.map(|(made, _lock)| made), pruned, unnoted))
}

/// What the rules say is removed now. Nothing of that makes the backup a worse one.
fn prune(profile: &Profile, host: &dyn Host) -> Outcome {
    let now_ms = Timestamp::now().as_millisecond();
    match prune::plan(profile, host, now_ms, &TimeZone::system()) {
        Ok(pruning) => prune::carry_out(profile, &pruning),
        Err(fault) => Outcome {
            failed: fault.problems().to_vec(),
            ..Outcome::default()
        },
    }
}
