//! `holdfast backup`.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use journal_format::{problem_text, size, visible};
use serde_json::{Value, json};

use super::{Context, print_json, prune};
use crate::backup::{self, Made, Progress, on_backup, scheduled};
use crate::error::{Code, Fault, INCOMPLETE, Problem, cannot};
use crate::files::space::RESERVE;
use crate::gateway::backup_kind::BackupKind;
use crate::gateway::parts::Part;
use crate::gateway::profile::Profile;
use crate::host::linux::Linux;
use crate::state_dir;
use crate::state_dir::audit::entry::{AuditResult, AuditedDeed};
use crate::state_dir::lock::{Lock, LockedFor};
use crate::text::wording::quoted_path;

pub(super) fn run(context: &Context, output: Option<PathBuf>) -> Result<u8, Fault> {
    let made = make(context, output);
    audit(context, &made);
    let made = made?;
    if context.json {
        print_json(&as_json(&made));
    }
    Ok(tell_of(context, &made, "holdfast backup"))
}

fn make(context: &Context, output: Option<PathBuf>) -> Result<Made, Fault> {
    let profile = &context.profile;
    let _lock = Lock::take(profile, LockedFor::Backup)?;
    let host = Linux::new(profile);
    state_dir::none_open(profile, &host, "back the gateway up")?;
    let dir = match output {
        Some(dir) => folder_of(dir)?,
        None => profile.backups_dir(),
    };
    backup::of_gateway(profile, &host, BackupKind::ByHand, &dir, &mut progress)
}

/// The folder that an admin names: it is there, or its parent is. A slip in a path must not make folders.
fn folder_of(dir: PathBuf) -> Result<PathBuf, Fault> {
    let refused =
        |what: String, advice: String| Err(Fault::refused(cannot(Code::BAD_REQUEST, what, advice)));
    let shown = dir.display();
    if dir.is_dir() {
        return Ok(dir);
    }
    if dir.extension().is_some_and(|end| end == "zip") {
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty());
        let folder = parent.map_or_else(|| ".".into(), quoted_path);
        return refused(
            format!(
                "write the backup to {shown}: --output names a folder, and Holdfast names the file"
            ),
            format!("name its folder: --output {folder}"),
        );
    }
    match dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(parent) if !parent.is_dir() => refused(
            format!(
                "write the backup to {shown}: the folder {} is not there",
                parent.display()
            ),
            format!(
                "correct the path, or make the folder: mkdir -p {}",
                quoted_path(&dir)
            ),
        ),
        Some(_) | None => Ok(dir),
    }
}

fn audit(context: &Context, made: &Result<Made, Fault>) {
    let path = made
        .as_ref()
        .ok()
        .map(|made| made.path.display().to_string());
    let result = AuditResult::of(made);
    let result = match made {
        Ok(made) if !made.not_good().is_empty() => AuditResult::Not(Code::BACKUP_INCOMPLETE),
        Ok(_) | Err(_) => result,
    };
    context.audited(AuditedDeed::Backup, path.as_deref(), result);
}

/// The same for the timer, with all that belongs to a run of the schedule.
pub(super) fn scheduled(context: &Context) -> Result<u8, Fault> {
    let profile = &context.profile;
    let ran = scheduled::run(profile, &Linux::new(profile), &mut progress).inspect_err(|_| {
        tell!(
            "no scheduled backup was made, since the gateway is busy; the last one counts as before. \
             holdfast-backup.service tries again every ten minutes"
        );
    })?;
    // Of a run that came to nothing since the gateway is busy no line is kept: one comes every ten minutes.
    audit(context, &ran.made);
    prune::audit(context, &ran.pruned);
    prune::problems(&ran.pruned);
    let told = on_backup::tell_of_run(profile, &ran.run);
    let beside: Vec<Problem> = ran.unnoted.into_iter().chain(told).collect();
    for problem in &beside {
        tell!("holdfast: {}", problem_text(problem));
    }
    let made = ran.made?;
    if context.json {
        let mut all = as_json(&made);
        let removed = ran.pruned.gone.iter().map(|(what, _)| what);
        all["removed"] = json!(removed.collect::<Vec<_>>());
        all["in_use"] = json!(ran.pruned.in_use);
        all["problems"] = json!(ran.pruned.failed.iter().chain(&beside).collect::<Vec<_>>());
        print_json(&all);
    }
    let status = tell_of(context, &made, "holdfast backup --scheduled");
    let pruned = prune::lines(&ran.pruned, "removed");
    pruned.iter().for_each(|line| context.watched(line));
    Ok(status)
}

fn progress(progress: Progress<'_>) {
    // What there is plenty of needs no word.
    if let Progress::Estimated { bytes, free } = progress
        && bytes > free / 4
    {
        tell!(
            "The backup needs at most {}, and {} stay in reserve; {} are free there.",
            size(bytes),
            size(RESERVE),
            size(free)
        );
    }
}

fn as_json(made: &Made) -> Value {
    let lacks = made.not_good();
    json!({
        "path": made.path.display().to_string(),
        "bytes": made.size,
        "complete": lacks.is_empty(),
        "lacks": lacks,
        "warnings": made.warnings,
    })
}

/// What a person reads of a backup, and the exit status.
fn tell_of(context: &Context, made: &Made, again: &str) -> u8 {
    if !context.json {
        // Its very bytes: others are to find it by them.
        let line = [made.path.as_os_str().as_bytes(), b"\n"].concat();
        let _ = std::io::stdout().write_all(&line);
    }
    // Of what SQLite could not read its own note tells.
    for lack in &made.lacks {
        tell!("lacks: {}", visible(&lack.to_string()));
    }
    let complete = made.not_good().is_empty();
    if !complete {
        tell!(
            "holdfast: the backup is incomplete and does not count as a good one\n  \
             what to do: {}fix what is named above. Then run `{again}` again. The parts that are in {} can be restored",
            users_of(&context.profile, made),
            made.path.display()
        );
    }
    context.tell_notes(&made.warnings);
    if complete { 0 } else { INCOMPLETE }
}

/// How to find who works on the databases that could not be saved.
fn users_of(profile: &Profile, made: &Made) -> String {
    let lacks = |name: &str| {
        made.lacks
            .iter()
            .any(|lack| matches!(&lack.part, Part::Database(it) if it == name))
    };
    let databases = profile.gateway.database.iter().filter(|d| lacks(&d.name));
    let paths: Vec<String> = databases.map(|d| quoted_path(&d.path)).collect();
    match paths.is_empty() {
        true => String::new(),
        false => format!(
            "`fuser -v {}` shows which processes have the database open; ",
            paths.join(" ")
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_slip_in_the_path_of_a_backup_makes_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let said = |path: &str| match folder_of(dir.path().join(path)) {
            Ok(found) => found.display().to_string(),
            Err(fault) => fault.problems()[0].advice.clone(),
        };
        assert!(said("").ends_with('/') && said("new").ends_with("/new"));
        assert!(said("a/b").contains("mkdir -p "), "{}", said("a/b"));
        assert!(
            said("x.zip").starts_with("name its folder: --output /"),
            "{}",
            said("x.zip")
        );
        std::fs::create_dir(dir.path().join("odd.zip")).unwrap();
        assert!(
            said("odd.zip").ends_with("/odd.zip"),
            "a folder may be called so"
        );
    }
}
