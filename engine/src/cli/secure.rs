//! `holdfast secure`.

use journal_format::{Detail, visible};

use super::{Context, print_json};
use crate::error::{Code, Fault, Problem, cannot};
use crate::host::linux::Linux;
use crate::state_dir;
use crate::state_dir::audit::entry::{AuditResult, AuditedDeed};
use crate::state_dir::lock::{Lock, LockedFor};
use crate::survey;
use crate::survey::exposure::{self, Exposed};
use crate::text::wording::{counted, names};

/// Something is open, and was left so.
const OPEN: u8 = 10;
/// Changes that are told one by one; folders come first.
const FIRST: usize = 20;

pub(super) fn run(context: &Context, dry_run: bool) -> Result<u8, Fault> {
    let closed = close(context, dry_run);
    if !dry_run {
        let result = match &closed {
            Ok((_, problems)) if !problems.is_empty() => AuditResult::by(problems),
            Ok(_) => AuditResult::Done,
            Err(fault) => AuditResult::of(&Err::<(), _>(fault)),
        };
        context.audited(AuditedDeed::Secure, None, result);
    }
    let (changes, problems) = closed?;
    Ok(tell_of(context, dry_run, &changes, &problems))
}

/// What is closed, or would be, and what stands in the way.
fn close(context: &Context, dry_run: bool) -> Result<(Vec<String>, Vec<Problem>), Fault> {
    let profile = &context.profile;
    let _lock = Lock::take(profile, LockedFor::Secure)?;
    let host = Linux::new(profile);
    state_dir::none_open(profile, &host, "close the gateway's files")?;
    let managed = survey::managed(&host, profile)?;
    let found = exposure::look(&host, profile, &managed.names);
    let mut changes: Vec<String> = Vec::new();
    let mut problems = found.problems;
    if !managed.unclaimed.is_empty() {
        problems.push(cannot(
            Code::DATABASE_UNREADABLE,
            format!(
                "tell whether {} in {} are clients': {}",
                names(&managed.unclaimed),
                profile.gateway.wireguard_dir.display(),
                managed.unread
            ),
            "fix the reason, then run it again; until then close these files with chmod and chown",
        ));
    }
    if dry_run {
        changes.extend(found.exposed.iter().map(Exposed::change));
    } else {
        problems.extend(exposure::close(&found.exposed, |one| changes.push(one)).err());
        problems.extend(exposure::still_held(profile, &host)?);
    }
    Ok((changes, problems))
}

/// Prints it. Says the exit status.
fn tell_of(context: &Context, dry_run: bool, changes: &[String], problems: &[Problem]) -> u8 {
    let status = match (dry_run, changes.is_empty(), problems.is_empty()) {
        (_, true, true) | (false, _, true) => 0,
        (true, _, _) => OPEN,
        (false, _, false) => 1,
    };
    if context.json {
        print_json(&serde_json::json!({
            "dry_run": dry_run, "changes": changes, "problems": problems, "exit_status": status,
        }));
        return status;
    }
    let verb = if dry_run { "would close" } else { "closed" };
    let told = match context.detail {
        Detail::Brief => changes.len().min(FIRST),
        Detail::Whole => changes.len(),
    };
    for change in &changes[..told] {
        say!("{verb} {}", visible(change));
    }
    if told < changes.len() {
        let more = counted(changes.len() - told, "more file");
        say!("{verb} {more} (--verbose lists all)");
    }
    for problem in problems {
        tell!("holdfast: {}", journal_format::problem_text(problem));
    }
    if changes.is_empty() && problems.is_empty() {
        say!(
            "only root and the gateway's account can write the gateway's files, and read its keys"
        );
    }
    status
}
