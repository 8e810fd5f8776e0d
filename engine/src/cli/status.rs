//! `holdfast status`: idle and the last backups, or the restore that is open, where it stands, its process. Always ends with
//! 0: it tells.

use journal_format::{Digest, Soundness, View, problem_text, utc, view_text, visible};

use super::{Context, print_json};
use crate::error::Fault;
use crate::gateway::parts;
use crate::gateway::profile::Profile;
use crate::host::linux::Linux;
use crate::state_dir::lock::Lock;
use crate::state_dir::made::{self, NotedBackup};
use crate::state_dir::{self, targets, traces};

pub(super) fn run(context: &Context) -> Result<u8, Fault> {
    let holder = Lock::holder(&context.profile);
    let open = state_dir::open_restore(&context.profile)?;
    let Some(open) = open else {
        if holder.is_none()
            && let Some(status) = not_here(context)?
        {
            return Ok(status);
        }
        let last = made::last(&context.profile)?;
        if context.json {
            let told = |found: &Option<(Digest, NotedBackup)>| {
                let (sha256, note) = found.as_ref()?;
                Some(serde_json::json!({
                    "path": context.profile.backups_dir().join(&note.name),
                    "bytes": note.size,
                    "sha256": sha256,
                    "made": utc(note.made_ms),
                    "in_future": note.lies_in_the_future(),
                    "complete": note.is_complete(),
                    "lacks": note.lacks,
                }))
            };
            print_json(&serde_json::json!({
                "status": if holder.is_some() { "busy" } else { "idle" },
                "pid": holder.as_ref().map(|(pid, _)| pid),
                "what": holder.as_ref().map(|(_, work)| work.words()),
                "last_backup": told(&last.good),
                "incomplete_backup": told(&last.incomplete),
                "unknown_backups": last.unknown,
            }));
            return Ok(0);
        }
        match &holder {
            Some((pid, what)) => say!("busy: {what} runs, process {pid}"),
            None => say!("idle"),
        }
        for line in backups(&context.profile, &last) {
            say!("{}", visible(&line));
        }
        return Ok(0);
    };
    let path = state_dir::journal(&context.profile, &open.id);
    let scan = state_dir::read(&context.profile, &open.id)?;
    let view = scan.state.as_ref().map(View::of);
    if context.json {
        print_json(&serde_json::json!({
            "status": if holder.is_some() { "running" } else { "open" },
            "restore": open.id,
            "barrier": open.barrier,
            "pid": holder.as_ref().map(|(pid, _)| pid),
            "journal": path,
            "view": view,
        }));
        return Ok(0);
    }
    match &holder {
        Some((pid, what)) => say!("{what} runs, process {pid}"),
        None if scan.soundness() == Soundness::Newer => say!(
            "a newer Holdfast began restore {}, and nothing works on it: run `holdfast recover` of that version",
            open.id
        ),
        None => say!(
            "restore {} is open and nothing works on it: run `holdfast recover`",
            open.id
        ),
    }
    match view {
        Some(view) => say!("{}", view_text(&view)),
        None if scan.soundness() == Soundness::Newer => say!(
            "this program does not understand its journal {}",
            path.display()
        ),
        None => say!("its journal {} says nothing yet", path.display()),
    }
    Ok(0)
}

/// What somebody does by another profile, or what is left of a restore whose journal is not here; none where it is neither.
fn not_here(context: &Context) -> Result<Option<u8>, Fault> {
    let profile = &context.profile;
    if let Some(elsewhere) = targets::worked_on(profile) {
        match context.json {
            true => print_json(&serde_json::json!({
                "status": "busy",
                "pid": elsewhere.pid,
                "what": elsewhere.work.words(),
                "state_dir": elsewhere.state_dir,
            })),
            false => say!("busy: {}", visible(&elsewhere.to_string())),
        }
        return Ok(Some(0));
    }
    let Some(found) = traces::find(profile, &Linux::new(profile))? else {
        return Ok(None);
    };
    let problem = found.problem(profile);
    match context.json {
        true => print_json(&serde_json::json!({
            "status": "lost",
            "restores": found.staging.keys().collect::<Vec<_>>(),
            "folders": found.staging.values().flatten().collect::<Vec<_>>(),
            "fence": found.fence,
            "problem": problem,
        })),
        false => say!("lost: {}", problem_text(&problem)),
    }
    Ok(Some(0))
}

/// The last backups, a line each.
fn backups(profile: &Profile, last: &made::Last) -> Vec<String> {
    let made = |note: &NotedBackup| {
        let future = match note.lies_in_the_future() {
            true => " (in the future: the clock was wrong then, or is wrong now)",
            false => "",
        };
        let path = profile.backups_dir().join(&note.name);
        format!("{}, made {}{future}", path.display(), utc(note.made_ms))
    };
    let mut lines = vec![match &last.good {
        Some((_, note)) => format!("last good backup: {}", made(note)),
        None if last.unknown => format!(
            "last good backup: unknown; those in {} were made by an older version or brought here, and may lack parts \
             (`holdfast backup` makes a new one)",
            profile.backups_dir().display()
        ),
        None => "last good backup: none yet".into(),
    }];
    lines.extend(last.incomplete.as_ref().map(|(_, note)| {
        format!(
            "after it: {}, {}",
            made(note),
            parts::incomplete(&note.lacks)
        )
    }));
    lines
}
