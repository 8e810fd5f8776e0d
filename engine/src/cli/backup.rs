//! `holdfast backup`.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use journal_format::{note_line, visible};

use super::{Context, print_json};
use crate::backup::{Made, Progress};
use crate::error::{Fault, INCOMPLETE};
use crate::gateway::backup_kind::BackupKind;
use crate::host::linux::Linux;
use crate::state_dir;
use crate::state_dir::audit::entry::{AuditResult, AuditedDeed};
use crate::state_dir::lock::{Lock, LockedFor};

pub(super) fn run(context: &Context, output: Option<PathBuf>) -> Result<u8, Fault> {
    let made = make(context, output);
    let result = AuditResult::of(&made);
    let path = made
        .as_ref()
        .ok()
        .map(|made| made.path.display().to_string());
    context.audited(AuditedDeed::Backup, path.as_deref(), result);
    Ok(tell_of(context, made?))
}

fn make(context: &Context, output: Option<PathBuf>) -> Result<Made, Fault> {
    let _lock = Lock::take(&context.profile, LockedFor::Backup)?;
    let host = Linux::new(&context.profile);
    state_dir::none_open(&context.profile, &host, "back the gateway up")?;
    let dir = output.unwrap_or_else(|| context.profile.backups_dir());
    crate::backup::of_gateway(
        &context.profile,
        &host,
        BackupKind::ByHand,
        &dir,
        &mut |progress| {
            if let Progress::Estimated { bytes, free } = progress {
                tell!("the backup takes at most {bytes} bytes; {free} are free there");
            }
        },
    )
}

/// Prints where it is and what it lacks. Says the exit status.
fn tell_of(context: &Context, made: Made) -> u8 {
    let complete = made.lacks.is_empty();
    if context.json {
        print_json(&serde_json::json!({
            "path": made.path.display().to_string(),
            "bytes": made.size,
            "complete": complete,
            "lacks": made.lacks,
            "warnings": made.warnings,
        }));
    } else {
        // Its very bytes: others are to find it by them.
        let line = [made.path.as_os_str().as_bytes(), b"\n"].concat();
        let _ = std::io::stdout().write_all(&line);
    }
    for lack in &made.lacks {
        tell!("lacks: {}", visible(&lack.to_string()));
    }
    if !complete {
        tell!(
            "holdfast: the backup is incomplete and does not count as a good one\n  \
             what to do: see to what is named above, then run `holdfast backup` again; what is in {} can be restored",
            made.path.display()
        );
    }
    for warning in &made.warnings {
        tell!("{}", note_line(warning));
    }
    if complete { 0 } else { INCOMPLETE }
}
