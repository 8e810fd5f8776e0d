//! Locks on what a restore replaces and a backup reads: `state_dir/lock` is one profile's, and two profiles may name the same
//! places. Owns their files below `/run`; who takes them, and when, is `lock`'s.
//!
//! They are root's files, and not the places themselves: whoever may read a folder can hold a lock on it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::locked_file::{LockedFor, is_taken, named, try_take, written};
use crate::error::{Code, Problem, cannot};
use crate::files::access;
use crate::files::open::lock_file;
use crate::gateway::profile::Profile;

/// Where the files are. For this boot alone: no lock outlives its holder.
const PLACE: &str = "/run/holdfast/targets";

/// Who works by another profile on what this one names, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// Its process.
    pub pid: u32,
    /// What it does.
    pub work: LockedFor,
    /// The `state_dir` of its profile.
    pub state_dir: String,
    /// What both profiles name.
    pub target: PathBuf,
}

impl std::fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} runs, process {}, by the profile whose state_dir is {}; both profiles name {}",
            self.work,
            self.pid,
            self.state_dir,
            self.target.display()
        )
    }
}

/// Takes the locks on all that the profile names and that is there, in one order, or says who has one of them. Without a `/run`
/// that can be written to there are none: that keeps no work from being done.
pub(super) fn take(profile: &Profile, work: LockedFor) -> Result<Vec<File>, Problem> {
    if !made() {
        return Ok(Vec::new());
    }
    let who = format!(
        "{} {work}\n{}\n",
        std::process::id(),
        profile.state_dir.display()
    );
    let mut taken = Vec::new();
    for (name, target) in targets(profile) {
        let Ok(mut file) = lock_file(&Path::new(PLACE).join(name)) else {
            continue;
        };
        match try_take(&mut file, &who) {
            Ok(false) => return Err(busy(&mut file, target)),
            Ok(true) => taken.push(file),
            Err(_) => {}
        }
    }
    Ok(taken)
}

/// Who works on what this profile names, by any profile. To be asked where nobody has the lock of this one.
pub fn worked_on(profile: &Profile) -> Option<Elsewhere> {
    taken(profile).find_map(|(mut file, target)| elsewhere(&mut file, target))
}

/// Why nothing can begin while somebody works on what this profile names, by any profile; none where nobody does.
pub fn busy_elsewhere(profile: &Profile) -> Option<Problem> {
    let (mut file, target) = taken(profile).next()?;
    Some(busy(&mut file, target))
}

/// The profile's targets that somebody works on, each with its lock.
fn taken(profile: &Profile) -> impl Iterator<Item = (File, PathBuf)> {
    targets(profile).into_iter().filter_map(|(name, target)| {
        let file = File::open(Path::new(PLACE).join(name)).ok()?;
        is_taken(&file).then_some((file, target))
    })
}

/// Whether any process but this one restores or recovers, by whatever profile.
pub fn somebody_restores() -> bool {
    let entries = std::fs::read_dir(PLACE).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let Ok(mut file) = File::open(entry.path()) else {
            return false;
        };
        let restores = |(pid, work): (u32, LockedFor)| {
            pid != std::process::id() && [LockedFor::Restore, LockedFor::Recovery].contains(&work)
        };
        is_taken(&file) && named(&mut file).is_some_and(restores)
    })
}

/// Makes the folder; false if that cannot be, or if it is not root's alone.
fn made() -> bool {
    let place = Path::new(PLACE);
    for (folder, mode) in [(place.parent().unwrap_or(place), 0o755), (place, 0o700)] {
        // One that is there is as good, and one that is not is found below.
        let _ = DirBuilder::new().mode(mode).create(folder);
    }
    access::is_private(place)
}

/// What is locked, by the name of its file: folders and databases by their real paths.
fn targets(profile: &Profile) -> BTreeMap<String, PathBuf> {
    let gateway = &profile.gateway;
    let folders = [&gateway.configs_dir, &gateway.wireguard_dir];
    let folders = folders
        .into_iter()
        .filter_map(|dir| dir.canonicalize().ok());
    let databases = gateway.database.iter().map(|d| &d.path);
    let files = databases.chain(&gateway.firewall.kept).filter_map(|file| {
        let folder = file.parent()?.canonicalize().ok()?;
        Some(folder.join(file.file_name()?))
    });
    let named = |path: PathBuf| {
        let name = blake3::hash(path.as_os_str().as_encoded_bytes());
        (name.to_hex().to_string(), path)
    };
    folders.chain(files).map(named).collect()
}

fn elsewhere(file: &mut File, target: PathBuf) -> Option<Elsewhere> {
    let (pid, work) = named(file)?;
    let text = written(file)?;
    Some(Elsewhere {
        pid,
        work,
        state_dir: text.lines().nth(1).unwrap_or("?").to_owned(),
        target,
    })
}

fn busy(file: &mut File, target: PathBuf) -> Problem {
    let shown = target.display().to_string();
    let who = match elsewhere(file, target) {
        Some(elsewhere) => elsewhere.to_string(),
        None => format!("another holdfast works on {shown}"),
    };
    cannot(
        Code::BUSY,
        format!("begin: {who}"),
        "wait for its end; `holdfast status` with that profile (--config) says where it stands",
    )
}
