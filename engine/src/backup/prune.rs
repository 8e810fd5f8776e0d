//! Removes old backups, and what past restores keep, as the profile's rules say. Only what this box made, whose kind it knows itself, is
//! ever removed. Owns the order in which that is safe: each thing goes in one step that a crash can only leave undone, and
//! whatever a recovery or `undo` may still need stays, whatever the rules say. The caller holds the lock.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::tz::TimeZone;
use journal_format::{Digest, RestoreId};
use serde::Serialize;

use crate::archive::catalog::{self, About, ListedBackup};
use crate::error::{Code, Fault, OrCannot, Problem};
use crate::files::open::{if_there, sync};
use crate::gateway::backup_kind::BackupKind;
use crate::gateway::profile::Profile;
use crate::gateway::retention::KeepRule;
use crate::host::Look;
use crate::state_dir::audit::old::{self, OldAuditFile};
use crate::state_dir::pins::PinsHeld;
use crate::state_dir::{self, audit, made, pins, traces};

/// What the folder of a restore is called while it is removed: no restore's name any more.
const GOING: &str = ".pruned-";
/// So many days every file of the audit log stays, whatever restores stay.
const AUDIT_DAYS: i64 = 90;
const DAY_MS: i64 = 86_400_000;

/// Something that is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pruned {
    /// A backup, by its file's name.
    Backup(String),
    /// What a restore kept, by its id.
    Restore(RestoreId),
    /// A file of the audit log, by its number.
    Audit(u64),
}

impl Pruned {
    /// What it is called in a list.
    pub fn name(&self) -> String {
        match self {
            Pruned::Backup(name) => name.clone(),
            Pruned::Restore(id) => id.to_string(),
            Pruned::Audit(number) => format!("audit/{number:06}.log"),
        }
    }
}

/// What the rules say of what is there now.
#[derive(Debug, Default)]
pub struct Pruning {
    /// What goes, the oldest first, with its size in bytes.
    pub going: Vec<(Pruned, u64)>,
    /// So many backups stay.
    pub backups_stay: usize,
    /// So many past restores stay.
    pub restores_stay: usize,
    /// Nobody pins a backup that is about to go.
    _pins: Option<PinsHeld>,
}

/// How it went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is gone now, with its size in bytes.
    pub gone: Vec<(Pruned, u64)>,
    /// Backups that somebody reads just now: they stay until the next time.
    pub in_use: Vec<String>,
    /// What could not be removed, and why.
    pub failed: Vec<Problem>,
}

/// What would go now. Changes nothing.
pub fn plan(
    profile: &Profile,
    host: &dyn Look,
    now_ms: i64,
    zone: &TimeZone,
) -> Result<Pruning, Fault> {
    traces::none_in_the_way(profile, host)?;
    let past = state_dir::past(profile)?;
    let needed = needed(profile, now_ms)?;
    let mut pruning = Pruning {
        _pins: Some(pins::hold(profile)?),
        ..Pruning::default()
    };
    backups(profile, host, &needed, now_ms, zone, &mut pruning)?;
    let times: Vec<i64> = past.iter().map(|p| p.closed_ms).collect();
    let rule = &profile.retention.restores;
    for (past, kept) in past.iter().zip(rule.kept(&times, now_ms, zone)) {
        match kept || needed.contains(&past.id) {
            true => pruning.restores_stay += 1,
            false => {
                let size = size_below(&profile.restore_dir(&past.id));
                pruning.going.push((Pruned::Restore(past.id.clone()), size));
            }
        }
    }
    pruning.going.reverse();
    let oldest_stays = past
        .iter()
        .filter(|p| !pruning.removes(&p.id))
        .map(|p| p.closed_ms)
        .min();
    let until_ms = oldest_stays
        .unwrap_or(now_ms)
        .min(now_ms - AUDIT_DAYS * DAY_MS);
    let is_old = |file: &OldAuditFile| !rule.keeps_all() && file.last_ms < until_ms;
    // One after the other from the oldest on: none is missing in between.
    let files = audit_files(profile)?.into_iter().take_while(is_old);
    pruning
        .going
        .extend(files.map(|file| (Pruned::Audit(file.number), file.size)));
    Ok(pruning)
}

fn audit_files(profile: &Profile) -> Result<Vec<OldAuditFile>, Problem> {
    let dir = audit::dir(profile);
    old::files(&dir).or_cannot(
        Code::IO,
        format!("read the audit log {}", dir.display()),
        "see to the disk of the state folder",
    )
}

impl Pruning {
    fn removes(&self, id: &RestoreId) -> bool {
        let mut going = self.going.iter();
        going.any(|(what, _)| matches!(what, Pruned::Restore(going) if going == id))
    }
}

/// The restores that a recovery or `undo` may still need: the open one, the newest one, and the newest one that was completed. Their ids
/// are of the wall clock: of those that began in the future and of the others one each.
fn needed(profile: &Profile, now_ms: i64) -> Result<HashSet<RestoreId>, Problem> {
    let mut needed = HashSet::new();
    needed.extend(state_dir::open_restore(profile)?.map(|open| open.id));
    needed.extend(state_dir::restores(profile)?.pop());
    for until_ms in [i64::MAX, now_ms] {
        let completed = state_dir::newest_completed(profile, until_ms)?;
        needed.extend(completed.map(|state| state.header.restore.clone()));
    }
    Ok(needed)
}

/// A backup that a rule holds for.
struct Candidate<'a> {
    made_ms: i64,
    backup: &'a ListedBackup,
    /// Whatever the rule says.
    stays: bool,
}

/// Backups by their kinds. Of one kind the complete ones and the others are looked at apart: neither takes a place of the other.
fn backups(
    profile: &Profile,
    host: &dyn Look,
    needed: &HashSet<RestoreId>,
    now_ms: i64,
    zone: &TimeZone,
    pruning: &mut Pruning,
) -> Result<(), Problem> {
    let pinned = pins::all(profile)?;
    let of_restores: BTreeSet<OsString> = needed
        .iter()
        .filter_map(|id| {
            Some(
                state_dir::safety_backup(profile, host, id)?
                    .file_name()?
                    .to_owned(),
            )
        })
        .collect();
    let all = catalog::list(profile)?;
    let last_good = last_good(profile, &all)?;
    let mut by_digest: HashMap<&Digest, Vec<&ListedBackup>> = HashMap::new();
    for backup in &all {
        if let About::Backup(summary) = &backup.about {
            by_digest.entry(&summary.sha256).or_default().push(backup);
        }
    }
    let mut groups: HashMap<(BackupKind, bool), Vec<Candidate<'_>>> = HashMap::new();
    // By when this box made them, the newest first. What it did not make, or knows no kind of, is nobody's to remove.
    for (digest, note) in made::all(profile)?.into_iter().rev() {
        let Some((note, kind)) = note.and_then(|note| note.kind.map(|kind| (note, kind))) else {
            continue;
        };
        for backup in by_digest.remove(&digest).unwrap_or_default() {
            let stays = pinned.contains(&digest)
                || last_good.contains(&digest)
                || of_restores.contains(OsStr::new(&backup.name));
            let group = groups.entry((kind, note.is_complete())).or_default();
            let made_ms = note.made_ms;
            group.push(Candidate {
                made_ms,
                backup,
                stays,
            });
        }
    }
    let mut going: Vec<(i64, &ListedBackup)> = Vec::new();
    for ((kind, _), group) in groups {
        let rule: &KeepRule = profile.retention.of(kind);
        let times: Vec<i64> = group.iter().map(|c| c.made_ms).collect();
        let kept = rule.kept(&times, now_ms, zone);
        let rest = group
            .into_iter()
            .zip(kept)
            .filter(|(c, kept)| !c.stays && !kept);
        going.extend(rest.map(|(c, _)| (c.made_ms, c.backup)));
    }
    going.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| y.name.cmp(&x.name)));
    pruning.backups_stay = all.len() - going.len();
    let entry =
        |(_, backup): (i64, &ListedBackup)| (Pruned::Backup(backup.name.clone()), backup.size);
    pruning.going.extend(going.into_iter().map(entry));
    Ok(())
}

/// The last good backup, and for each database the last one that has it as SQLite reads it: a database that is gone or damaged by now
/// is in no newer one.
fn last_good(profile: &Profile, all: &[ListedBackup]) -> Result<HashSet<Digest>, Problem> {
    let mut stay = HashSet::new();
    let mut seen = HashSet::new();
    for (place, backup) in catalog::good(profile, all)?.into_iter().enumerate() {
        let About::Backup(summary) = &backup.about else {
            continue;
        };
        let read = summary
            .databases
            .iter()
            .filter(|name| !summary.unread.contains(name));
        let is_last_of_one = read.filter(|name| seen.insert((*name).clone())).count() > 0;
        if place == 0 || is_last_of_one {
            stay.insert(summary.sha256.clone());
        }
    }
    Ok(stay)
}

/// Removes what a plan says, and what a prune that was cut off left half removed. Goes on over what cannot be removed.
pub fn carry_out(profile: &Profile, pruning: &Pruning) -> Outcome {
    let mut outcome = Outcome::default();
    if let Err(problem) = sweep(profile) {
        outcome.failed.push(problem);
    }
    let mut log_stays = false;
    for (what, size) in &pruning.going {
        // Behind a file of the audit log that could not be removed the others stay: none may be missing in between.
        if log_stays && matches!(what, Pruned::Audit(_)) {
            continue;
        }
        match remove(profile, what) {
            Ok(true) => outcome.gone.push((what.clone(), *size)),
            Ok(false) => {
                if let Pruned::Backup(name) = what {
                    outcome.in_use.push(name.clone());
                }
            }
            Err(problem) => {
                log_stays |= matches!(what, Pruned::Audit(_));
                outcome.failed.push(problem);
            }
        }
    }
    outcome
}

/// Removes one thing; false where somebody reads it.
fn remove(profile: &Profile, what: &Pruned) -> Result<bool, Problem> {
    let (path, removed) = match what {
        Pruned::Backup(name) => {
            let path = profile.backups_dir().join(name);
            let removed = remove_backup(&path);
            (path, removed)
        }
        Pruned::Restore(id) => {
            let path = profile.restore_dir(id);
            let removed = remove_restore(&path);
            (path, removed)
        }
        Pruned::Audit(number) => {
            let dir = audit::dir(profile);
            let removed = old::remove(&dir, *number).map(|()| true);
            (audit::file(&dir, *number), removed)
        }
    };
    removed.or_cannot(
        Code::IO,
        format!("remove {}", path.display()),
        "see to the disk of the state folder, then run `holdfast prune` again",
    )
}

fn remove_backup(path: &Path) -> io::Result<bool> {
    let Some(file) = if_there(File::open(path))? else {
        return Ok(true);
    };
    // Whoever reads a backup to its end has it locked (`archive::opened`).
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Ok(false),
        Err(std::fs::TryLockError::Error(e)) => return Err(e),
    }
    std::fs::remove_file(path)?;
    sync_parent(path)?;
    Ok(true)
}

/// Its name goes first, and durably: from then on no restore is there, and what is left of it is only room on a disk.
fn remove_restore(path: &Path) -> io::Result<bool> {
    let Some(name) = path.file_name() else {
        return Ok(true);
    };
    let mut going = std::ffi::OsString::from(GOING);
    going.push(name);
    let going = path.with_file_name(going);
    std::fs::rename(path, &going)?;
    sync_parent(path)?;
    std::fs::remove_dir_all(&going)?;
    Ok(true)
}

/// What was half removed.
fn sweep(profile: &Profile) -> Result<(), Problem> {
    let dir = profile.restores_dir();
    let sweep = || -> io::Result<()> {
        for entry in if_there(dir.read_dir())?.into_iter().flatten() {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(GOING) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    };
    sweep().or_cannot(
        Code::IO,
        format!("remove what is left of old restores in {}", dir.display()),
        "see to the disk of the state folder, then run `holdfast prune` again",
    )
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync)
}

/// Bytes of the files below a folder; what cannot be looked at counts nothing.
fn size_below(dir: &Path) -> u64 {
    let entries = dir.read_dir().into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_below(&entry.path()),
            // What it takes on the disk: the reserve of a journal is not written to its end.
            Ok(meta) => meta.blocks().saturating_mul(512),
            Err(_) => 0,
        })
        .sum()
}
