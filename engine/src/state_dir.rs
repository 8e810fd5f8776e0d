//! Holdfast's own folder: made root's alone, and searched for restores. Owns the layout's upkeep; the names are the
//! profile's.

pub mod audit;
pub mod barrier;
pub mod boot_units;
pub mod follow;
pub mod lock;
mod locked_file;
pub mod made;
pub mod pins;
pub mod schedule;
pub mod targets;
pub mod traces;

use std::path::{Path, PathBuf};

use journal_format::{Closing, Fate, RestoreId, Scan, State, Step, Verdict};

use crate::error::{Code, Fault, OrCannot, Problem, cannot};
use crate::files::access;
use crate::files::open::{if_there, sync};
use crate::gateway::profile::Profile;
use crate::host::Look;
use crate::state_dir::lock::{Lock, LockedFor};

const JOURNAL: &str = "journal";
/// How a person calls the newest restore.
const LATEST: &str = "latest";
/// The name of the file in a restore's folder that holds the path of its safety backup.
pub const SAFETY_BACKUP: &str = "safety-backup";
/// The path of a safety backup is no longer.
const PATH_BYTES: u64 = 1 << 16;
/// Behind the last line of a closed journal nothing is longer than this.
const TAIL_BYTES: u64 = 64 << 10;

/// Makes `state_dir` and its folders; refuses one that others could write to.
#[expect(
    clippy::disallowed_methods,
    reason = "the folder is Holdfast's own, made by this call"
)]
pub fn make(profile: &Profile) -> Result<(), Problem> {
    for dir in [
        &profile.state_dir,
        &profile.backups_dir(),
        &profile.restores_dir(),
        &profile.spool_dir(),
    ] {
        let made = || -> std::io::Result<()> {
            std::fs::create_dir_all(dir)?;
            std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
            sync(dir.parent().unwrap_or(Path::new("/")))
        };
        // An administrator who makes it beforehand gives it the usual mode: nobody has put anything in it yet.
        let is_new = || {
            access::is_own(dir) && std::fs::read_dir(dir).is_ok_and(|mut all| all.next().is_none())
        };
        if !dir.exists() || !access::is_private(dir) && is_new() {
            made().or_cannot(
                Code::IO,
                format!("make {}", dir.display()),
                "run it as root, or name another state_dir in the profile",
            )?;
        }
        if !access::is_private(dir) {
            return Err(cannot(
                Code::OPEN_TO_OTHERS,
                format!(
                    "trust {}: others could read or write what is in it, or it is not the user's own",
                    dir.display()
                ),
                format!(
                    "look at what is in it, then: chown root: {0}; chmod 700 {0}",
                    dir.display()
                ),
            ));
        }
    }
    audit::make(profile);
    Ok(())
}

/// Says of `state_dir`, for every boot to come, that it is there.
pub fn mark(profile: &Profile) -> Result<(), Problem> {
    let path = profile.sentinel();
    let all = || -> std::io::Result<()> {
        std::fs::File::create(&path)?.sync_all()?;
        sync(&profile.state_dir)
    };
    all().or_cannot(
        Code::IO,
        format!("make {}", path.display()),
        "run it as root; check the disk: `df -h` shows whether it is full, `findmnt` whether it is read-only",
    )
}

/// Every restore that left a folder, oldest first.
pub fn restores(profile: &Profile) -> Result<Vec<RestoreId>, Problem> {
    let dir = profile.restores_dir();
    let entries = if_there(std::fs::read_dir(&dir)).or_cannot(
        Code::IO,
        format!("list {}", dir.display()),
        "run it as root",
    )?;
    let mut ids: Vec<RestoreId> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| RestoreId::new(e.file_name().to_str()?).ok())
        .collect();
    ids.sort();
    Ok(ids)
}

/// The restore that a person means: `latest`, its id, or how that begins.
pub fn restore_named(profile: &Profile, asked: &str) -> Result<RestoreId, Problem> {
    if let Ok(id) = RestoreId::new(asked) {
        return Ok(id);
    }
    let ids = restores(profile)?;
    let newest = ids.last().filter(|_| asked == LATEST);
    let begins = |id: &&RestoreId| !asked.is_empty() && id.as_str().starts_with(asked);
    let found: Vec<&RestoreId> =
        newest.map_or_else(|| ids.iter().filter(begins).collect(), |id| vec![id]);
    let shown = journal_format::visible(asked);
    let what = match found.as_slice() {
        [one] => return Ok((*one).clone()),
        [] => format!("find the restore {shown}: no restore's id begins so"),
        [first, .., last] => format!(
            "tell which restore {shown} is: the ids of {} begin so, {first} to {last}",
            found.len()
        ),
    };
    Err(cannot(
        Code::NO_SUCH_RESTORE,
        what,
        "see `holdfast journal list`, and name more of an id, or `latest`",
    ))
}

/// The journal of a restore.
pub fn journal(profile: &Profile, id: &RestoreId) -> PathBuf {
    profile.restore_dir(id).join(JOURNAL)
}

/// The safety backup that a restore made, if it is still there.
pub fn safety_backup(profile: &Profile, host: &dyn Look, id: &RestoreId) -> Option<PathBuf> {
    let noted = profile.restore_dir(id).join(SAFETY_BACKUP);
    let path = host.read(&noted, PATH_BYTES).ok()?;
    let path = PathBuf::from(String::from_utf8(path).ok()?);
    // The state folder may have moved since.
    let here = profile.backups_dir().join(path.file_name()?);
    let mut places = [path, here].into_iter();
    places.find(|path| matches!(host.stat(path), Ok(Some(_))))
}

/// Reads a restore's journal whole; one that names another restore is corrupt here. Its records take as much again in
/// memory.
pub fn read(profile: &Profile, id: &RestoreId) -> Result<Scan, Problem> {
    let path = journal(profile, id);
    let bytes = match std::fs::symlink_metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(no_journal(&path, id)),
        Ok(_) | Err(_) => bytes_of(&path)?,
    };
    Ok(journal_format::scan_of(id, &bytes))
}

fn no_journal(path: &Path, id: &RestoreId) -> Problem {
    cannot(
        Code::IO,
        format!("read the journal of restore {id}: there is none"),
        format!(
            "the restore ended before it wrote one and changed nothing, or somebody moved it away: `ls {}` shows what is there, \
             `holdfast status` says how the gateway stands",
            crate::text::wording::quoted_path(path.parent().unwrap_or(Path::new("/")))
        ),
    )
}

/// Reads a journal that lies anywhere, of whichever restore.
pub fn read_file(path: &Path) -> Result<Scan, Problem> {
    Ok(journal_format::scan(&bytes_of(path)?))
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(path).or_cannot(
        Code::IO,
        format!("read the journal {}", path.display()),
        "see `holdfast journal list`",
    )
}

/// The restore that is not over: the barrier's, else one whose journal does not end with its closing. A barrier that names none, or
/// one that is over while another is not, is somebody's edit and hides no restore.
pub fn open_restore(profile: &Profile) -> Result<Option<OpenRestore>, Problem> {
    let named = barrier::named(profile);
    let is_over = |id: &RestoreId| {
        let path = journal(profile, id);
        path.exists() && end(&path) != JournalEnd::Open
    };
    if let Ok(Some(id)) = &named
        && !is_over(id)
    {
        let id = id.clone();
        return Ok(Some(OpenRestore { id, barrier: true }));
    }
    for id in restores(profile)?.into_iter().rev() {
        let path = journal(profile, &id);
        if path.exists() && end(&path) == JournalEnd::Open {
            let scan = read(profile, &id)?;
            if scan.state.as_ref().is_none_or(|s| s.verdict().is_none()) {
                let barrier = named
                    .as_ref()
                    .is_ok_and(|named| named.as_ref() == Some(&id));
                return Ok(Some(OpenRestore { id, barrier }));
            }
        }
    }
    Ok(named?.map(|id| OpenRestore { id, barrier: true }))
}

/// Refuses while a restore is open, here or by its traces: `what` would work on a gateway that is neither as before nor as a
/// backup says.
pub fn none_open(profile: &Profile, host: &dyn Look, what: &str) -> Result<(), Fault> {
    match open_restore(profile)? {
        None => traces::none_in_the_way(profile, host),
        Some(open) if Lock::holder(profile).is_some_and(somebody_else) => Err(Fault::Busy(cannot(
            Code::BUSY,
            format!("{what}: restore {} runs", open.id),
            format!(
                "wait until it is over: `holdfast journal follow {}`",
                open.id
            ),
        ))),
        Some(open) => Err(Fault::Busy(cannot(
            Code::RESTORE_OPEN,
            format!("{what}: restore {} is still open", open.id),
            "nothing was changed. Run `holdfast recover` first; `holdfast status` says where it stands",
        ))),
    }
}

/// Whether a holder of the lock is another process that works on a restore.
fn somebody_else((pid, work): (u32, LockedFor)) -> bool {
    pid != std::process::id() && matches!(work, LockedFor::Restore | LockedFor::Recovery)
}

/// A restore that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRestore {
    /// Its name.
    pub id: RestoreId,
    /// The barrier is up.
    pub barrier: bool,
}

/// Restores that are over, but for a clean-up that failed, or that was cut off when it was tried again; oldest first.
pub fn left_over(profile: &Profile) -> Result<Vec<RestoreId>, Problem> {
    let mut found = Vec::new();
    for id in restores(profile)? {
        let path = journal(profile, &id);
        if !path.exists() || end(&path) == JournalEnd::Clean {
            continue;
        }
        let scan = read(profile, &id)?;
        let Some(state) = scan.state.filter(|s| s.verdict().is_some()) else {
            continue;
        };
        if is_left_over(&state) {
            found.push(id);
        }
    }
    Ok(found)
}

/// Whether the clean-up of a restore that is over is still to be made.
fn is_left_over(state: &State) -> bool {
    let cleaned = state.moves.iter().rev().find(|m| m.step == Step::CleanUp);
    let was_left = state.verdict() == Some(Verdict::Left);
    cleaned.map_or(was_left, |m| m.fate != Fate::Done)
}

/// Restores that were completed, or left as they are, the newest first: one that changed nothing, or that rolled back, led to what was
/// there.
fn completed(
    profile: &Profile,
) -> Result<impl Iterator<Item = Result<(RestoreId, Verdict), Problem>>, Problem> {
    let verdict = |id: &RestoreId| {
        let path = journal(profile, id);
        match tail(&path) {
            Some(closing) => Ok(Some(closing.verdict)),
            // Something was done behind its closing.
            None if path.exists() => Ok(read(profile, id)?.state.and_then(|s| s.verdict())),
            None => Ok(None),
        }
    };
    let all = restores(profile)?.into_iter().rev();
    Ok(all.filter_map(move |id| match verdict(&id) {
        Ok(Some(verdict @ (Verdict::Restored | Verdict::Left))) => Some(Ok((id, verdict))),
        Ok(Some(Verdict::RolledBack | Verdict::NothingChanged) | None) => None,
        Err(problem) => Some(Err(problem)),
    }))
}

/// The newest of these of those that began until then (milliseconds since 1970 UTC).
pub fn newest_completed(profile: &Profile, until_ms: i64) -> Result<Option<State>, Problem> {
    for found in completed(profile)? {
        let state = read(profile, &found?.0)?.state;
        if state.as_ref().is_some_and(|s| s.began_ms <= until_ms) {
            return Ok(state);
        }
    }
    Ok(None)
}

/// A restore that is over, with nothing left to clean up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRestore {
    /// Its name.
    pub id: RestoreId,
    /// When its journal was last written to, milliseconds since 1970 UTC.
    pub closed_ms: i64,
}

/// Those restores, the newest first.
pub fn past(profile: &Profile) -> Result<Vec<PastRestore>, Problem> {
    use std::os::unix::fs::MetadataExt;
    let mut past = Vec::new();
    for id in restores(profile)?.into_iter().rev() {
        let path = journal(profile, &id);
        let Ok(meta) = std::fs::metadata(&path) else {
            continue;
        };
        let is_clean = match tail(&path) {
            Some(closing) => !closing.left_over,
            // A clean-up was made behind the closing.
            None => {
                let state = read(profile, &id)?.state;
                state.is_some_and(|s| s.verdict().is_some() && !is_left_over(&s))
            }
        };
        if is_clean {
            past.push(PastRestore {
                id,
                closed_ms: meta.mtime().saturating_mul(1000),
            });
        }
    }
    Ok(past)
}

/// The newest restore, if it is over and its closing says that there is more to do than to forget it.
pub fn newest(profile: &Profile) -> Result<Option<RestoreId>, Problem> {
    let mut newest = restores(profile)?.into_iter().rev();
    let newest = newest.find(|id| journal(profile, id).exists());
    Ok(newest.filter(|id| end(&journal(profile, id)) != JournalEnd::Clean))
}

/// The restore that was left as it is, unless a later one was completed.
pub fn newest_left(profile: &Profile) -> Result<Option<State>, Problem> {
    match completed(profile)?.next().transpose()? {
        Some((id, Verdict::Left)) => Ok(read(profile, &id)?.state),
        Some(_) | None => Ok(None),
    }
}

/// The newest restore that is over and changed something, whatever its verdict.
pub fn last_with_effect(profile: &Profile) -> Result<Option<State>, Problem> {
    for id in restores(profile)?.into_iter().rev() {
        let path = journal(profile, &id);
        let closing = tail(&path).map(|closing| closing.verdict);
        if closing == Some(Verdict::NothingChanged) || !path.exists() {
            continue;
        }
        let state = read(profile, &id)?.state;
        if let Some(state) = state
            && !matches!(state.verdict(), Some(Verdict::NothingChanged) | None)
        {
            return Ok(Some(state));
        }
    }
    Ok(None)
}

/// How a journal ends, by its last line alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JournalEnd {
    /// With its closing, and nothing was left over.
    Clean,
    /// With its closing; something was left over, or lacks.
    LeftOver,
    /// With something else: it is open, or something was done after its closing.
    Open,
}

/// Looks at the end alone, so that many old journals cost little.
fn end(path: &Path) -> JournalEnd {
    match tail(path) {
        None => JournalEnd::Open,
        Some(closing) if closing.left_over || closing.lacks => JournalEnd::LeftOver,
        Some(_) => JournalEnd::Clean,
    }
}

/// Its closing, if it ends with that.
fn tail(path: &Path) -> Option<Closing> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail)?;
        Ok(tail)
    };
    journal_format::closing(&read().unwrap_or_default())
}

/// A name for a new restore, from the wall clock and random bytes.
pub fn new_id(host: &dyn Look) -> Result<RestoreId, Problem> {
    let mut random = [0_u8; 4];
    getrandom::fill(&mut random).or_cannot(
        Code::UNFIT_SYSTEM,
        "get random bytes",
        "mount /dev: `ls -l /dev/urandom` shows whether the file is there",
    )?;
    id_at(host.now().at_ms, u32::from_be_bytes(random))
}

/// The name of a restore that begins at this wall clock time (milliseconds since 1970 UTC).
pub fn id_at(at_ms: i64, random: u32) -> Result<RestoreId, Problem> {
    let (what, advice) = ("name the restore", "set the clock");
    let time =
        jiff::Timestamp::from_millisecond(at_ms).or_cannot(Code::UNFIT_SYSTEM, what, advice)?;
    RestoreId::new(format!("{}-{random:08x}", time.strftime("%Y%m%dT%H%M%SZ"))).or_cannot(
        Code::UNFIT_SYSTEM,
        what,
        advice,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_state_folder_that_an_administrator_made_empty_is_taken_and_closed_and_one_with_something_in_it_is_refused()
     {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let dir = folder.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
            dir
        };
        let profile = |state_dir: &Path| Profile {
            state_dir: state_dir.into(),
            ..Profile::default()
        };
        let (empty, used) = (open("empty"), open("used"));
        std::fs::write(used.join("is-mounted"), "").unwrap();
        make(&profile(&empty)).unwrap();
        assert!(access::is_private(&empty));
        let refused = make(&profile(&used)).unwrap_err();
        assert!(refused.is(&Code::OPEN_TO_OTHERS), "{refused}");
    }
}
