//! Tells the program that the profile calls `on_backup` how a scheduled backup ended, or that none came. What becomes of the program
//! is noted, and fails nothing else. Must not hold the lock: the program may take as long as the profile allows.

use std::time::Duration;

use journal_format::{Problem, utc};
use serde_json::{Value, json};

use crate::error::{Code, cannot};
use crate::gateway::profile::Profile;
use crate::host::{ExitKind, programs, this_box};
use crate::state_dir::schedule::{self, RunResult, Schedule, ScheduledRun, ToldProgram};

const BY_HAND: &str = "run the program by hand to see why, or change on_backup under [schedule] in the profile. The backup does not \
                       depend on it";

/// Tells how a run ended, which is noted already; what went wrong with that.
pub fn tell_of_run(profile: &Profile, run: &ScheduledRun) -> Vec<Problem> {
    let backup = run.backup.as_ref();
    let document = json!({
        "result": run.result,
        "began": utc(run.began_ms),
        "backup": backup.map(|name| profile.backups_dir().join(name)),
        "lacks": run.lacks,
        "problems": run.problems,
        "pruned": run.pruned,
        "not_pruned": run.not_pruned,
    });
    let result = Some(run.result);
    // Also where the disk did not take what this run says: the record is then of one before.
    let stands = schedule::stands(profile).after(run.clone());
    tell(profile, stands, result, run.began_ms, document)
}

/// Tells once that no run came, if so. `told_ms` is what this process told last, which a full disk may not have taken.
pub fn tell_if_overdue(profile: &Profile, stands: Schedule, told_ms: &mut Option<i64>) {
    let Some(since_ms) = stands.overdue_since_ms else {
        return;
    };
    let is_it = |told: &ToldProgram| told.result.is_none() && told.since_ms == since_ms;
    if stands.told.as_ref().is_some_and(is_it) || *told_ms == Some(since_ms) {
        return;
    }
    *told_ms = Some(since_ms);
    tracing::warn!("scheduled backup: {}", stands.line().unwrap_or_default());
    let document = json!({ "result": "overdue", "overdue_since": utc(since_ms) });
    for problem in tell(profile, stands, None, since_ms, document) {
        tracing::warn!("{problem}");
    }
}

fn tell(
    profile: &Profile,
    mut stands: Schedule,
    result: Option<RunResult>,
    since_ms: i64,
    mut document: Value,
) -> Vec<Problem> {
    // What became of the program the last time is no part of it.
    stands.told = None;
    document["host"] = json!(this_box::host_name());
    // For a mail: everything else is for programs.
    document["text"] = json!(stands.line());
    let problem = match profile.schedule.on_backup.is_empty() {
        true => None,
        false => run(profile, &document, result).err(),
    };
    let told = ToldProgram {
        result,
        since_ms,
        problem,
    };
    let unnoted = schedule::keep_told(profile, &told).err();
    told.problem.into_iter().chain(unnoted).collect()
}

fn run(profile: &Profile, document: &Value, result: Option<RunResult>) -> Result<(), Problem> {
    let settings = &profile.schedule;
    let limit = Duration::from_secs(settings.on_backup_seconds);
    let ended = programs::told(&settings.on_backup, &format!("{document}\n"), limit)?;
    let program = settings.on_backup.first().map_or("", String::as_str);
    let seconds = settings.on_backup_seconds;
    let (how, advice) = match ended.end {
        ExitKind::Exit(0) => return Ok(()),
        ExitKind::Exit(status) => (format!("ended with status {status}"), BY_HAND),
        ExitKind::Signal(signal) => (format!("was killed by signal {signal}"), BY_HAND),
        ExitKind::TimedOut => (
            format!("ran longer than {seconds} s and was stopped"),
            "make the program faster, or raise on_backup_seconds under [schedule] in the profile. The backup does not depend on it",
        ),
    };
    // An address of a webhook may hold a secret, and the line stands at login: no word of the command but the first.
    let backup = match result {
        Some(RunResult::Good) => "the backup is made",
        Some(RunResult::Incomplete) => "the backup is made, and lacks parts",
        Some(RunResult::Begun | RunResult::Failed) => "no backup was made",
        None => "no scheduled backup came",
    };
    let what = format!("run the on_backup program to its end ({backup}): {program} {how}");
    Err(Problem {
        stderr: Some(ended.stderr).filter(|said| !said.is_empty()),
        ..cannot(Code::ON_BACKUP_FAILED, what, advice)
    })
}
