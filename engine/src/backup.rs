//! Makes a backup of a live gateway, in the gateway's own format 1.0 and a little more.
//!
//! Every part is saved, or not there, or could not be saved; with one of the last the backup is incomplete, and says so. What
//! may be restored does not decide what is saved: bytes are taken as they are. Configs are read and packed first and put
//! aside, until they, the clients' rows and the tunnels are of one moment; then everything is written in a fixed order. The file
//! grows under a hidden name, is read back and checked as a restore would, synced, and only then gets its name, never over
//! another file. Must not change anything of the gateway.

mod aside;
mod configs;
mod databases;
mod growing;
mod moment;
pub mod on_backup;
mod pack;
pub mod prune;
mod rules_text;
pub mod scheduled;
mod writing;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use journal_format::{Digest, Note};

use crate::archive::Archive;

use crate::error::{Code, Fault, OrCannot, Problem, cannot};
use crate::files::space::{self, Needs};
use crate::files::spool::private_folder;
use crate::gateway::backup_kind::BackupKind;
use crate::gateway::kernel_facts::Facts;
use crate::gateway::parts::{Lack, Part, PartFate};
use crate::gateway::profile::Profile;
use crate::host::Host;
use crate::parallel;
use crate::state_dir;
use crate::state_dir::{made, traces};
use crate::survey;
use aside::Aside;
use configs::{Configs, Folder, There};
use databases::Saving;
use growing::{Growing, sweep};
use moment::{FileRows, TakenTogether};
use writing::Making;

/// Progress is told at least this often.
const TOLD: u64 = 4 << 20;
/// What a zip adds to each entry, at most: two headers and two names.
const ENTRY_OVERHEAD: u64 = 1024;

/// How far a backup is. To be shown or dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Before anything is written: at most so many bytes, and so many are free.
    Estimated {
        /// What is going to be packed, unpacked size.
        bytes: u64,
        /// What is free where the backup goes.
        free: u64,
    },
    /// Bytes packed so far, of about so many.
    Saving {
        /// The entry.
        entry: &'a str,
        /// Bytes, unpacked.
        done: u64,
        /// The estimate.
        of: u64,
    },
    /// Bytes read back so far.
    Verifying {
        /// Bytes, unpacked.
        done: u64,
        /// All of them.
        of: u64,
    },
}

/// A backup that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// When it was made, as its metadata say.
    pub created_at: String,
    /// The parts that it should have and lacks.
    pub lacks: Vec<Lack>,
    /// The names of configs that could not be read, where it lacks only some of them; empty where it may lack any.
    pub unread: BTreeSet<String>,
    /// What else is not in it, and what a restore of it will say.
    pub warnings: Vec<Note>,
}

impl Made {
    /// Why it is no good backup, and counts as incomplete: what it lacks, and the databases in it that SQLite could not read.
    pub fn not_good(&self) -> Vec<Lack> {
        not_good(&self.lacks, &self.warnings)
    }
}

/// Makes a backup of the gateway as it is now in `dest_dir`; refused while a restore is open. The caller holds the lock.
pub fn of_gateway(
    profile: &Profile,
    host: &dyn Host,
    kind: BackupKind,
    dest_dir: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Made, Fault> {
    if let Some(open) = state_dir::open_restore(profile)? {
        return Err(Fault::Busy(cannot(
            Code::RESTORE_OPEN,
            format!(
                "back up: restore {} is open, and the gateway may be half old, half new",
                open.id
            ),
            "run `holdfast recover` first",
        )));
    }
    traces::none_in_the_way(profile, host)?;
    make(profile, &Kernel::Now(host), kind, dest_dir, progress)
}

/// Whose kernel facts a backup has.
#[derive(Clone, Copy)]
pub enum Kernel<'a> {
    /// Those of now.
    Now(&'a dyn Host),
    /// Those that a restore knows already, of before it.
    Known(&'a Facts),
}

impl Kernel<'_> {
    /// All facts but those of tunnels.
    fn system(self, profile: &Profile) -> Result<Facts, Problem> {
        match self {
            Kernel::Now(host) => survey::system(host, profile),
            Kernel::Known(facts) => Ok(facts.clone()),
        }
    }

    /// Those of tunnels alone.
    fn tunnels(self, configs: &Configs, rows: Option<&FileRows>) -> Facts {
        let host = match self {
            Kernel::Now(host) => host,
            Kernel::Known(facts) => return facts.clone(),
        };
        let mut facts = Facts::default();
        let ours = |name: &str| {
            let name = OsStr::new(name);
            configs.has(Folder::First, name) || rows.is_some_and(|rows| rows.contains_key(name))
        };
        survey::tunnels(host, &ours, &mut facts);
        if let There::Unread(why) = configs.folder(Folder::First) {
            // The configs are said to lack in their turn; this keeps nothing else from being saved.
            let why = format!(
                "which of them are the gateway's is not known: {} cannot be read: {why}",
                configs.path(Folder::First).display()
            );
            facts.unread.insert(Part::Peers, why.clone());
            facts.unread.insert(Part::Tunnels, why);
        }
        facts
    }
}

/// Makes a backup in `dest_dir`. The caller holds the lock: one backup at a time, and none during a restore.
pub fn make(
    profile: &Profile,
    kernel: &Kernel<'_>,
    kind: BackupKind,
    dest_dir: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Made, Fault> {
    private_folder(dest_dir).or_cannot(
        Code::IO,
        format!("make the folder for backups {}", dest_dir.display()),
        "name another folder, or make it",
    )?;
    sweep(dest_dir);
    let aside = Aside::new(&profile.spool_dir())?;
    let growing = Growing::reserve(dest_dir)?;
    let created_at = growing
        .at
        .strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00")
        .to_string();
    let (taken, others, facts) = read_gateway(profile, *kernel, aside)?;
    let databases: u64 = taken.clients.iter().chain(&others).map(Saving::size).sum();
    let of = databases.saturating_add(taken.configs.size());
    let mut needs = Needs::default();
    needs.bytes(dest_dir, of)?;
    progress(Progress::Estimated {
        bytes: of,
        free: space::free(dest_dir)?,
    });
    enough(&needs)?;
    let mut making = Making::new(profile, kind, growing.writer()?, of, progress);
    making.warnings.extend(taken.warnings);
    making.databases(taken.clients.into_iter().chain(others).collect())?;
    making.configs(taken.configs)?;
    making.unknown(&taken.unknown);
    if making.is_empty() {
        return Err(Fault::Failed(cannot(
            Code::NOTHING_TO_BACK_UP,
            "make a backup: none of the profile's databases and configs is there",
            "correct `gateway` in the profile: `holdfast survey` shows what Holdfast finds",
        )));
    }
    making.kept()?;
    making.rules(&facts)?;
    let made = making.finish(
        &facts,
        taken.beyond,
        &taken.unpaired,
        created_at.clone(),
        &growing,
    )?;
    // The disk works while it is read back.
    let (synced, read) = parallel::both(
        || made.file.sync_all(),
        || read_back(profile, &growing, progress),
    );
    synced.or_cannot(
        Code::IO,
        format!("write the backup {}", growing.path.display()),
        "check the disk: `df -h` shows whether it is full, `dmesg` whether it fails",
    )?;
    let (size, sha256, more) = read?;
    let note = made::NotedBackup {
        name: growing.name.clone(),
        size,
        made_ms: growing.at.timestamp().as_millisecond(),
        kind: Some(kind),
        lacks: not_good(&made.lacks, &made.warnings),
    };
    made::remember_in(profile, dest_dir, &sha256, note)?;
    let path = growing.publish()?;
    Ok(Made {
        path,
        size,
        sha256,
        created_at,
        lacks: made.lacks,
        unread: made.unread,
        warnings: made.warnings.into_iter().chain(more).collect(),
    })
}

/// Why a backup is no good one: what it lacks, and the databases in it that SQLite could not read.
fn not_good(lacks: &[Lack], warnings: &[Note]) -> Vec<Lack> {
    lacks.iter().cloned().chain(unread(warnings)).collect()
}

/// The databases that SQLite could not read: the backup has their bytes, and nobody knows what those are good for.
fn unread(warnings: &[Note]) -> impl Iterator<Item = Lack> {
    let damaged = warnings
        .iter()
        .filter(|note| note.is(&Code::DATABASE_UNREADABLE));
    let lack = |name: &String| Lack {
        part: Part::Database(name.clone()),
        why: "SQLite cannot read it; its bytes are in the backup as they are".into(),
    };
    damaged.filter_map(|note| note.name.as_ref()).map(lack)
}

/// What has to be of one moment; and, with the facts that go with it, all others: they have nothing to do with configs, and so
/// may be of another moment.
fn read_gateway(
    profile: &Profile,
    kernel: Kernel<'_>,
    aside: Aside,
) -> Result<(TakenTogether, Vec<Saving>, Facts), Problem> {
    let others = || (databases::save_others(profile), kernel.system(profile));
    let take = || moment::take(profile, kernel, aside);
    let ((others, facts), taken) = parallel::both(others, take);
    let (mut facts, mut taken) = (facts?, taken?);
    let tunnels = std::mem::take(&mut taken.tunnels);
    facts.interfaces = tunnels.interfaces;
    facts.tunnels = tunnels.tunnels;
    facts.peers = tunnels.peers;
    facts.unread.extend(tunnels.unread);
    if let Some(clients) = &mut taken.clients
        && clients.fate == PartFate::NotThere
        && taken.configs.are_there()
    {
        // No gateway has configs and no clients.
        let why = "it is gone, and configs of clients are there".to_owned();
        clients.fate = PartFate::NotSaved { why };
    }
    Ok((taken, others, facts))
}

fn enough(needs: &Needs) -> Result<(), Fault> {
    needs.check("make a backup").map_err(|problems| {
        let all: Vec<String> = problems.into_iter().map(|p| p.what).collect();
        Fault::Failed(cannot(
            Code::NO_SPACE,
            all.join("; "),
            "make room there, remove old backups, or move the state folder by the profile",
        ))
    })
}

/// Reads all of it back by a fresh descriptor, as a restore would. Gives size, digest, and what a restore would mind.
fn read_back(
    profile: &Profile,
    growing: &Growing,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(u64, Digest, Vec<Note>), Fault> {
    let what = "make a backup that can be read back";
    let advice =
        "try again; if it happens again, the disk or the memory of this machine may be failing";
    let file = growing
        .reader()
        .or_cannot(Code::BACKUP_UNREADABLE, what, advice)?;
    let known = profile.gateway.database_names();
    let mut archive = Archive::open_new(file, &growing.name, &known).or_cannot(
        Code::BACKUP_UNREADABLE,
        what,
        advice,
    )?;
    let of = archive.unpacked_size();
    let mut told = 0;
    let read = archive.read_all(&mut |done| {
        if done - told >= TOLD || done == of {
            told = done;
            progress(Progress::Verifying { done, of });
        }
    });
    read.or_cannot(Code::BACKUP_UNREADABLE, what, advice)?;
    let sha256 = archive
        .sha256()
        .or_cannot(Code::BACKUP_UNREADABLE, what, advice)?;
    let size = archive.size();
    let mut warnings = Vec::new();
    // A restore will apply them.
    let limits = &profile.limits;
    let entries = archive.entries().len() as u64;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    for (what, is, most, key) in [
        ("MiB", mib(size), limits.upload_mib, "upload_mib"),
        ("MiB unpacked", mib(of), limits.unpacked_mib, "unpacked_mib"),
        ("entries", entries, limits.entries, "entries"),
    ] {
        if is > most {
            let text = format!(
                "the backup has {is} {what}, over the limit of {most}: to restore it, raise {key} under [limits] in the profile"
            );
            warnings.push(Note::known(Code::ARCHIVE_TOO_LARGE, text));
        }
    }
    Ok((size, sha256, warnings))
}

#[cfg(test)]
mod tests;
