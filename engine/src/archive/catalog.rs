//! The backups that lie in the profile's folder for backups: what each is, and which one a person means. Owns the file
//! `state_dir/catalog`, which only spares reading them again: a row that does not fit its file any more is made anew. What it
//! says of contents is what the metadata of a backup say; it checks none of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use journal_format::{Digest, Problem};
use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::{Archive, EntryKind};
use crate::error::{Code, Fault, OrCannot, cannot};
use crate::files::open::if_there;
use crate::files::whole;
use crate::gateway::backup_kind::BackupKind;
use crate::gateway::parts::Lack;
use crate::gateway::profile::Profile;
use crate::state_dir::made::{self, NotedBackup};
use crate::state_dir::pins;

/// What every backup's name begins with; a person may leave it out.
const PREFIX: &str = "wireguard_backup_";
/// For the last good backup.
const LATEST: &str = "latest";
/// Names in a message.
const NAMED: usize = 10;

/// A backup in the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedBackup {
    /// Its file's name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970 UTC: by this machine's clock when it made it, else as the backup says; none where it does not say.
    pub made_ms: Option<i64>,
    /// On what occasion; none where nobody says, or a newer version does.
    pub kind: Option<BackupKind>,
    /// This box made it.
    pub made_here: bool,
    /// No prune removes it.
    pub pinned: bool,
    /// When it was last read whole and found sound, milliseconds since 1970 UTC, as far as is remembered.
    pub verified_ms: Option<i64>,
    /// What it says of itself.
    #[serde(flatten)]
    pub about: About,
}

impl ListedBackup {
    /// SHA-256 of the file; none where it is no backup.
    pub fn sha256(&self) -> Option<&Digest> {
        self.about.sha256()
    }
}

/// What a file in the folder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// A backup.
    Backup(Summary),
    /// It cannot be opened as one, and why.
    Unreadable(Problem),
}

impl About {
    fn sha256(&self) -> Option<&Digest> {
        match self {
            About::Backup(summary) => Some(&summary.sha256),
            About::Unreadable(_) => None,
        }
    }
}

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// As its metadata say.
    pub created_at: String,
    /// By its manifest, where it has one that says so.
    pub kind: Option<String>,
    /// The host that it was made on.
    pub host: Option<String>,
    /// What made it: `gateway`, or `holdfast 0.1.0`.
    pub made_by: String,
    /// Configs of clients.
    pub configs: usize,
    /// Databases, by name.
    pub databases: Vec<String>,
    /// Those of them that SQLite could not read, whose bytes were saved.
    pub unread: Vec<String>,
    /// It has firewall rules.
    pub rules: bool,
    /// The parts that it should have and lacks, as far as it has a manifest.
    pub lacks: Vec<Lack>,
}

/// A row of the file: what a file in the folder was found to be, and by what it is known to be still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    size: u64,
    inode: u64,
    /// Seconds and nanoseconds of its last change of any kind.
    changed: (i64, i64),
    about: About,
}

impl Row {
    fn is_of(&self, meta: &Metadata) -> bool {
        let now = (meta.len(), meta.ino(), (meta.ctime(), meta.ctime_nsec()));
        (self.size, self.inode, self.changed) == now
    }
}

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Remembered {
    /// By name.
    files: BTreeMap<String, Row>,
    /// When a backup was read whole and found sound, by its SHA-256.
    verified: BTreeMap<Digest, i64>,
}

/// Every backup in the folder, the newest first.
pub fn list(profile: &Profile) -> Result<Vec<ListedBackup>, Problem> {
    let Remembered { files, verified } = known(profile)?;
    let made = made::all(profile)?;
    let made: HashMap<Digest, Option<NotedBackup>> = made.into_iter().collect();
    let pinned = pins::all(profile)?;
    let listed = |(name, row)| {
        let mut listed = listed(name, row, &made);
        if let Some(sha256) = listed.sha256() {
            let verified_ms = verified.get(sha256).copied();
            listed.pinned = pinned.contains(sha256);
            listed.verified_ms = listed.verified_ms.max(verified_ms);
        }
        listed
    };
    let mut all: Vec<ListedBackup> = files.into_iter().map(listed).collect();
    all.sort_by(|a, b| b.made_ms.cmp(&a.made_ms).then_with(|| b.name.cmp(&a.name)));
    Ok(all)
}

fn listed(name: String, row: Row, made: &HashMap<Digest, Option<NotedBackup>>) -> ListedBackup {
    let summary = match &row.about {
        About::Backup(summary) => Some(summary),
        About::Unreadable(_) => None,
    };
    let known = summary.and_then(|s| made.get(&s.sha256));
    let note = known.and_then(Option::as_ref);
    let kind = summary.and_then(|s| s.kind.as_deref());
    ListedBackup {
        name,
        size: row.size,
        made_ms: note
            .map(|n| n.made_ms)
            .or_else(|| moment(&summary?.created_at)),
        kind: note
            .and_then(|n| n.kind)
            .or_else(|| kind.and_then(BackupKind::named)),
        made_here: known.is_some(),
        pinned: false,
        // It was read back when it was made.
        verified_ms: note.map(|n| n.made_ms),
        about: row.about,
    }
}

/// A moment as metadata have it; the gateway's own backups name no zone, and mean the box's own, which was UTC for all that is
/// known.
fn moment(created_at: &str) -> Option<i64> {
    let zoned = created_at.parse::<jiff::Timestamp>().ok();
    let bare = || {
        let time = created_at.parse::<jiff::civil::DateTime>().ok()?;
        Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    zoned.or_else(bare).map(|t| t.as_millisecond())
}

/// Remembers that the backup of this SHA-256 was read whole and found sound. Of one that lies elsewhere nothing is remembered.
pub fn verified(profile: &Profile, path: &Path, sha256: &Digest, now_ms: i64) {
    if name_in_folder(profile, path).is_some() {
        let before = read(profile);
        let mut now = before.clone();
        now.verified.insert(sha256.clone(), now_ms);
        write(profile, &before, &now);
    }
}

/// The name under which a path lies in the folder for backups; none if it lies elsewhere.
fn name_in_folder<'p>(profile: &Profile, path: &'p Path) -> Option<&'p str> {
    let dir = match path.parent()? {
        dir if dir.as_os_str().is_empty() => Path::new("."),
        dir => dir,
    };
    let here = dir.canonicalize().ok()? == profile.backups_dir().canonicalize().ok()?;
    path.file_name()?.to_str().filter(|_| here)
}

/// The backup in the folder that lies under this path; none if it is none of them.
pub fn at(profile: &Profile, path: &Path) -> Result<Option<ListedBackup>, Problem> {
    let name = name_in_folder(profile, path);
    let mut all = list(profile)?.into_iter();
    Ok(all.find(|backup| Some(&*backup.name) == name))
}

/// The path of the backup that a person means: a path, `latest` for the last good one, or how a name in the folder begins.
pub fn find(profile: &Profile, asked: &Path) -> Result<PathBuf, Problem> {
    let dir = profile.backups_dir();
    let name = match asked.to_str() {
        Some(name) if !name.contains('/') => name,
        Some(_) | None => return Ok(asked.to_owned()),
    };
    if name == LATEST {
        return latest(profile);
    }
    let begins = |n: &String| {
        let short = n.strip_prefix(PREFIX).unwrap_or(n);
        !name.is_empty() && (n.starts_with(name) || short.starts_with(name))
    };
    let mut found: Vec<String> = names(&dir)?.into_iter().filter(begins).collect();
    if found.iter().any(|n| n == name) {
        found.retain(|n| n == name);
    }
    let is_beside = std::fs::symlink_metadata(asked).is_ok();
    if is_beside && !found.is_empty() && name_in_folder(profile, asked).is_none() {
        return Err(both(asked, &dir));
    }
    let shown = journal_format::visible(name);
    match found.as_slice() {
        [one] => Ok(dir.join(one)),
        [] if is_beside => Ok(asked.to_owned()),
        [] => Err(cannot(
            Code::NO_SUCH_BACKUP,
            format!(
                "find the backup {shown}: no file of this name is here, and no backup in {} begins so",
                dir.display()
            ),
            "see `holdfast backups`, and name one of them, `latest`, or the path of a backup",
        )),
        many => {
            let mut names: Vec<String> = many.iter().map(|n| journal_format::visible(n)).collect();
            names.sort();
            let more = names.len().saturating_sub(NAMED);
            names.truncate(NAMED);
            names.extend((more > 0).then(|| format!("and {more} more")));
            Err(cannot(
                Code::NO_SUCH_BACKUP,
                format!(
                    "tell which backup {shown} is: {} begin so: {}",
                    many.len(),
                    names.join(", ")
                ),
                "name more of it; `holdfast backups` lists them",
            ))
        }
    }
}

/// Whoever may write to the working folder would choose what a bare name is.
fn both(asked: &Path, dir: &Path) -> Problem {
    let shown = journal_format::visible(&asked.to_string_lossy());
    cannot(
        Code::NO_SUCH_BACKUP,
        format!(
            "tell which backup {shown} is: a file of this name is in the working folder, and a backup in {} begins so",
            dir.display()
        ),
        format!("name the file here as ./{shown}, or the backup by its path"),
    )
}

/// Complete backups that this box made, read as they were made, and that no restore made: the newest first, by the order in which
/// they were made. The first is the last good one.
pub fn good<'a>(
    profile: &Profile,
    all: &'a [ListedBackup],
) -> Result<Vec<&'a ListedBackup>, Problem> {
    let made = made::all(profile)?.into_iter().rev();
    let good = made.filter_map(|(digest, note)| {
        let note = note.filter(|n| n.is_complete() && n.kind != Some(BackupKind::Safety))?;
        Some((digest, note))
    });
    let found = good.filter_map(|(digest, note)| {
        // Under its own name rather than a copy of it.
        let mut there: Vec<&ListedBackup> =
            all.iter().filter(|b| b.sha256() == Some(&digest)).collect();
        there.sort_by_key(|b| b.name != note.name);
        there.first().copied()
    });
    Ok(found.collect())
}

fn latest(profile: &Profile) -> Result<PathBuf, Problem> {
    let all = list(profile)?;
    let good = good(profile, &all)?;
    let path = good.first().map(|b| profile.backups_dir().join(&b.name));
    path.ok_or_else(|| {
        cannot(
            Code::NO_SUCH_BACKUP,
            format!(
                "find the latest backup: none that this gateway made and that has every part is in {} (those that restores make do \
                 not count)",
                profile.backups_dir().display()
            ),
            "see `holdfast backups`, and name one of them",
        )
    })
}

/// The names in the folder of what is a backup, or is meant to be one.
fn names(dir: &Path) -> Result<Vec<String>, Problem> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in if_there(dir.read_dir())?.into_iter().flatten() {
            names.extend(entry?.file_name().into_string());
        }
        names.retain(|name| name.ends_with(".zip") && !name.starts_with('.'));
        Ok(names)
    };
    list().or_cannot(
        Code::IO,
        format!("list {}", dir.display()),
        "run it as root, and see to the disk of the state folder",
    )
}

/// What is known of each backup that is there now. What was learned is written down, which may fail: then it is learned again.
fn known(profile: &Profile) -> Result<Remembered, Problem> {
    let dir = profile.backups_dir();
    let before = read(profile);
    let mut files = BTreeMap::new();
    for name in names(&dir)? {
        let path = dir.join(&name);
        // One that goes meanwhile is not there.
        let Some(meta) = std::fs::symlink_metadata(&path)
            .ok()
            .filter(Metadata::is_file)
        else {
            continue;
        };
        let row = match before.files.get(&name) {
            Some(row) if row.is_of(&meta) => row.clone(),
            Some(_) | None => Row {
                size: meta.len(),
                inode: meta.ino(),
                changed: (meta.ctime(), meta.ctime_nsec()),
                about: about(profile, &path, &name),
            },
        };
        files.insert(name, row);
    }
    let there: BTreeSet<&Digest> = files
        .values()
        .filter_map(|row| row.about.sha256())
        .collect();
    let mut verified = before.verified.clone();
    verified.retain(|sha256, _| there.contains(sha256));
    let now = Remembered { files, verified };
    write(profile, &before, &now);
    Ok(now)
}

fn about(profile: &Profile, path: &Path, name: &str) -> About {
    let databases = profile.gateway.database_names();
    let opened = || -> Result<Summary, Fault> {
        let file = File::open(path).or_cannot(
            Code::IO,
            format_args!("open the backup {}", path.display()),
            "see to the disk of the state folder",
        )?;
        let mut archive = Archive::open(file, name, &profile.limits, &databases, &|digest| {
            made::knows(profile, digest)
        })?;
        let sha256 = archive.sha256()?;
        let (mut configs, mut databases_in_it, mut rules) = (0, BTreeSet::new(), false);
        let mut unread = BTreeSet::new();
        for entry in archive.entries() {
            match entry.part() {
                EntryKind::Config(_) | EntryKind::RawConfig(_) => configs += 1,
                EntryKind::Database(name) => drop(databases_in_it.insert(name.to_owned())),
                EntryKind::RawDatabase { name, .. } => {
                    unread.insert(name.clone());
                    databases_in_it.insert(name);
                }
                EntryKind::Rules => rules = true,
                EntryKind::Metadata
                | EntryKind::SecondCopy(_)
                | EntryKind::RawSecondCopy(_)
                | EntryKind::RulesText
                | EntryKind::Kept(_)
                | EntryKind::UnknownDatabase => {}
            }
        }
        let metadata = archive.metadata();
        let manifest = metadata.holdfast.as_ref();
        Ok(Summary {
            sha256,
            created_at: metadata.created_at.clone(),
            kind: manifest.and_then(|m| m.kind.clone()),
            host: manifest.and_then(|m| m.host.clone()),
            made_by: metadata.made_by().to_owned(),
            configs,
            databases: databases_in_it.into_iter().collect(),
            unread: unread.into_iter().collect(),
            rules,
            lacks: manifest.map(Manifest::lacks).unwrap_or_default(),
        })
    };
    match opened() {
        Ok(summary) => About::Backup(summary),
        Err(fault) => {
            let problem = fault.problems().first().cloned();
            About::Unreadable(problem.unwrap_or_else(|| {
                cannot(
                    Code::BACKUP_UNREADABLE,
                    format!("read the backup {name}"),
                    "see `holdfast verify`",
                )
            }))
        }
    }
}

fn path(profile: &Profile) -> PathBuf {
    profile.state_dir.join("catalog")
}

/// What is remembered; nothing where that cannot be read or understood.
fn read(profile: &Profile) -> Remembered {
    let read = || -> io::Result<Remembered> {
        let bytes = if_there(std::fs::read(path(profile)))?;
        Ok(bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default())
    };
    read().unwrap_or_default()
}

/// Writes down what is new, less what could not be read: that may be another time. What cannot be written is learned again.
fn write(profile: &Profile, before: &Remembered, now: &Remembered) {
    let keep = |known: &Remembered| -> Remembered {
        let mut known = known.clone();
        known.files.retain(|_, row| row.about.sha256().is_some());
        known
    };
    let (before, now) = (keep(before), keep(now));
    if now == before {
        return;
    }
    let path = path(profile);
    let write = || whole::write(&path, &serde_json::to_vec(&now)?, 0o600);
    if let Err(e) = write() {
        tracing::warn!(
            "cannot note in {} what the backups are: {e}",
            path.display()
        );
    }
}
