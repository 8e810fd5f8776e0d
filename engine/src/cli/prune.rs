//! `holdfast prune` and `holdfast pin`: what is removed, and what is never to be. Decides nothing.

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use journal_format::{problem_text, size, visible};
use serde_json::json;

use super::{Context, print_json};
use crate::archive::catalog;
use crate::backup::prune::{self, Outcome, Pruned};
use crate::error::{Code, Fault, cannot};
use crate::host::linux::Linux;
use crate::state_dir::audit::entry::{AuditResult, AuditedDeed};
use crate::state_dir::lock::{Lock, LockedFor};
use crate::state_dir::pins;
use crate::text::wording::counted;

/// Something would go, and was left.
const SOMETHING: u8 = 10;

pub(super) fn run(context: &Context, dry_run: bool) -> Result<u8, Fault> {
    let profile = &context.profile;
    let _lock = Lock::take(profile, LockedFor::Prune)?;
    let now_ms = Timestamp::now().as_millisecond();
    let pruning = prune::plan(profile, &Linux::new(profile), now_ms, &TimeZone::system())?;
    let outcome = match dry_run {
        true => Outcome {
            gone: pruning.going.clone(),
            ..Outcome::default()
        },
        false => {
            let outcome = prune::carry_out(profile, &pruning);
            audit(context, &outcome);
            outcome
        }
    };
    let status = match (dry_run, outcome.gone.is_empty(), outcome.failed.is_empty()) {
        (true, false, _) => SOMETHING,
        (_, _, false) => 1,
        (_, _, true) => 0,
    };
    if context.json {
        let gone = outcome.gone.iter();
        print_json(&json!({
            "dry_run": dry_run,
            "removed": gone.map(|(what, bytes)| json!({ "what": what, "bytes": bytes })).collect::<Vec<_>>(),
            "in_use": outcome.in_use,
            "problems": outcome.failed,
            "backups_stay": pruning.backups_stay,
            "restores_stay": pruning.restores_stay,
            "exit_status": status,
        }));
        return Ok(status);
    }
    let verb = if dry_run { "would remove" } else { "removed" };
    lines(&outcome, verb).iter().for_each(|line| say!("{line}"));
    problems(&outcome);
    let of_all = outcome.gone.iter().map(|(_, bytes)| bytes).sum();
    let freed = match outcome.gone.is_empty() {
        true => "nothing to remove".to_owned(),
        false => format!("{verb} {} in all", size(of_all)),
    };
    let backups = counted(pruning.backups_stay, "backup");
    say!(
        "{freed}; {backups} and {} stay",
        counted(pruning.restores_stay, "past restore")
    );
    Ok(status)
}

/// What went, and what stays this time, a line each.
pub(super) fn lines(outcome: &Outcome, verb: &str) -> Vec<String> {
    let gone = outcome.gone.iter().map(|(what, bytes)| {
        let what = match what {
            Pruned::Backup(name) => format!("the backup {}", visible(name)),
            Pruned::Restore(id) => format!("the journal and the old files of restore {id}"),
            Pruned::Audit(number) => format!("file {number} of the audit log"),
        };
        format!("{verb} {what}, {}", size(*bytes))
    });
    let in_use = outcome.in_use.iter().map(|name| {
        let name = visible(name);
        format!("left the backup {name}: somebody reads it just now")
    });
    gone.chain(in_use).collect()
}

/// What could not be removed.
pub(super) fn problems(outcome: &Outcome) {
    for problem in &outcome.failed {
        tell!("holdfast: {}", problem_text(problem));
    }
}

/// Each thing that went, by its name; and that something did not go.
pub(super) fn audit(context: &Context, outcome: &Outcome) {
    for (what, _) in &outcome.gone {
        context.audited(AuditedDeed::Prune, Some(&what.name()), AuditResult::Done);
    }
    if !outcome.failed.is_empty() {
        let result = AuditResult::by(&outcome.failed);
        context.audited(AuditedDeed::Prune, None, result);
    }
}

/// Pins a backup, or takes its pin away.
pub(super) fn pin(context: &Context, asked: &Path, pinned: bool) -> Result<u8, Fault> {
    let profile = &context.profile;
    let path = catalog::find(profile, asked).map_err(Fault::refused)?;
    let listed = catalog::at(profile, &path)?;
    let Some((listed, sha256)) = listed.as_ref().and_then(|b| Some((b, b.sha256()?))) else {
        return Err(Fault::refused(cannot(
            Code::NO_SUCH_BACKUP,
            format!(
                "pin {}: only a backup in {} is ever removed by Holdfast",
                path.display(),
                profile.backups_dir().display()
            ),
            "see `holdfast backups`",
        )));
    };
    let changed = pins::set(profile, sha256, pinned)?;
    if changed {
        let deed = match pinned {
            true => AuditedDeed::Pin,
            false => AuditedDeed::Unpin,
        };
        context.audited(deed, Some(&listed.name), AuditResult::Done);
    }
    let shown = visible(&listed.name);
    match (pinned, changed) {
        (true, true) => say!("pinned {shown}: no prune removes it"),
        (true, false) => say!("{shown} is pinned already"),
        (false, true) => {
            say!("{shown} is not pinned any more: the rules of [retention] hold for it")
        }
        (false, false) => say!("{shown} is not pinned"),
    }
    Ok(0)
}
