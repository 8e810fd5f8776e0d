//! Whether there is room for a restore, known before the question: on each filesystem for what comes to lie there. Looks; makes
//! no room.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use journal_format::{Change, Plan, Problem, size};

use crate::error::{Code, Fault, bug, cannot};
use crate::files::space::{RESERVE, whole_blocks};
use crate::gateway::profile::Profile;
use crate::host::Host;
use crate::plan::side_files::side_files;
use crate::survey::Survey;

/// What a restore keeps for itself besides its plan: the reserve file, what is reserved of a journal, what it notes of the gateway.
const OWN: u64 = 12 << 20;
/// So many times the size of the plan is reserved in the journal.
const OF_PLAN: u64 = 4;

/// What comes to lie on a filesystem.
#[derive(Default)]
struct RoomNeeded {
    /// A folder on it, the first that was met.
    folder: PathBuf,
    /// The new files, beside the old ones.
    new: u64,
    /// The safety backup, which is made before anything is replaced.
    backup: u64,
    /// Old files, where they go to another filesystem.
    originals: u64,
    /// Copies of databases, as long as they are worked on, and Holdfast's own records.
    work: u64,
}

impl RoomNeeded {
    fn bytes(&self) -> u64 {
        let parts = [self.new, self.backup, self.originals, self.work];
        parts.into_iter().fold(RESERVE, u64::saturating_add)
    }

    /// What of it is what, for whoever wonders.
    fn parts(&self) -> String {
        let parts = [
            (self.new, "for new files"),
            (self.backup, "for the safety backup"),
            (self.originals, "for old files"),
            (self.work, "to work with"),
            (RESERVE, "in reserve"),
        ];
        let parts = parts.into_iter().filter(|(bytes, _)| *bytes > 0);
        let parts: Vec<String> = parts
            .map(|(n, what)| format!("{} {what}", size(n)))
            .collect();
        parts.join(", ")
    }
}

/// What comes to lie in a folder of this device, and what leaves it.
#[derive(Debug, Clone)]
struct Placed {
    folder: PathBuf,
    device: u64,
    /// Bytes of the new file.
    new: u64,
    /// Bytes of the old one, which goes to the restore's folder.
    old: u64,
}

/// Where Holdfast's own go, with the device, if that can be told; and how large they are, bytes.
struct OwnPlaces {
    backups: (PathBuf, Option<u64>),
    restores: (PathBuf, Option<u64>),
    spool: (PathBuf, Option<u64>),
    databases: u64,
    configs: u64,
    records: u64,
}

/// What each device needs.
fn by_device(placed: &[Placed], own: &OwnPlaces) -> BTreeMap<u64, RoomNeeded> {
    let mut needed: BTreeMap<u64, RoomNeeded> = BTreeMap::new();
    let mut at = |folder: &Path, device: u64, add: &dyn Fn(&mut RoomNeeded)| {
        let new = || RoomNeeded {
            folder: folder.to_owned(),
            ..RoomNeeded::default()
        };
        add(needed.entry(device).or_insert_with(new));
    };
    for one in placed {
        at(&one.folder, one.device, &|needed| needed.new += one.new);
        if let Some(device) = own.restores.1.filter(|device| *device != one.device) {
            at(&own.restores.0, device, &|needed| {
                needed.originals += one.old
            });
        }
    }
    if let Some(device) = own.backups.1 {
        at(&own.backups.0, device, &|needed| {
            needed.backup += own.databases + own.configs
        });
    }
    if let Some(device) = own.spool.1 {
        at(&own.spool.0, device, &|needed| needed.work += own.databases);
    }
    if let Some(device) = own.restores.1 {
        at(&own.restores.0, device, &|needed| {
            needed.work += own.records
        });
    }
    needed
}

/// Refuses, with the figures, what has no room.
pub(super) fn enough(
    profile: &Profile,
    host: &dyn Host,
    survey: &Survey,
    plan: &Plan,
) -> Result<(), Fault> {
    let own = |folder: PathBuf| -> Result<(PathBuf, Option<u64>), Problem> {
        let meta = match host.stat(&folder)? {
            None => host.stat(&profile.state_dir)?,
            there => there,
        };
        Ok((folder, meta.map(|meta| meta.dev)))
    };
    let mut placed = Vec::new();
    for target in plan.databases.iter().chain(&plan.files) {
        let path = Path::new(&target.path);
        let Some(dir) = path.parent() else { continue };
        let Some(folder) = host.stat(dir)? else {
            return Err(Fault::Refused(vec![cannot(
                Code::NOT_THERE,
                format!(
                    "put {} in place: the folder {} is not there",
                    target.path,
                    dir.display()
                ),
                "make the folder, or name another place in the profile",
            )]));
        };
        let old = match target.change {
            Change::Add => 0,
            Change::Replace | Change::Remove => {
                host.stat(path)?.map_or(0, |old| whole_blocks(old.size))
            }
        };
        placed.push(Placed {
            folder: dir.to_owned(),
            device: folder.dev,
            new: target.new.as_ref().map_or(0, |new| whole_blocks(new.size)),
            old,
        });
    }
    let (databases, configs) = sizes(profile, host, survey)?;
    let text = serde_json::to_vec(plan).map_err(|e| bug(format!("measure the plan: {e}")))?;
    let own = OwnPlaces {
        backups: own(profile.backups_dir())?,
        restores: own(profile.restores_dir())?,
        spool: own(profile.spool_dir())?,
        databases,
        configs,
        records: OWN + OF_PLAN * text.len() as u64,
    };
    let mut problems = Vec::new();
    for needed in by_device(&placed, &own).values() {
        let free = host.free_bytes(&needed.folder)?;
        if free < needed.bytes() {
            problems.push(short(profile, needed, free));
        }
    }
    super::none(problems)
}

/// How large all databases are, with what is in their logs, and all configs: the safety backup is of the whole gateway.
fn sizes(profile: &Profile, host: &dyn Host, survey: &Survey) -> Result<(u64, u64), Problem> {
    let mut databases = 0u64;
    for (name, meta) in &survey.databases {
        databases = databases.saturating_add(meta.size);
        let known = profile.gateway.database.iter().find(|d| d.name == *name);
        if let Some(known) = known {
            let [log, ..] = side_files(&known.path.display().to_string());
            let log = host.stat(Path::new(&log))?.map_or(0, |log| log.size);
            databases = databases.saturating_add(log);
        }
    }
    let configs = survey.configs.values().chain(survey.wireguard.values());
    let configs = configs.fold(0u64, |all, held| all.saturating_add(held.size));
    Ok((databases, configs))
}

fn short(profile: &Profile, needed: &RoomNeeded, free: u64) -> Problem {
    let folder = needed.folder.display();
    let of_ours = needed.folder.starts_with(&profile.state_dir);
    let prune = match of_ours || needed.backup > 0 {
        true => "; `holdfast prune --dry-run` lists old backups that can go",
        false => "",
    };
    cannot(
        Code::NO_SPACE,
        format!(
            "restore: not enough space in {folder}: {} needed ({}), {} free",
            size(needed.bytes()),
            needed.parts(),
            size(free)
        ),
        format!(
            "free some space there: `df -h {folder}` shows how much there is{prune}; nothing was changed"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_disk_needs_what_comes_to_lie_on_it_and_old_files_only_where_they_go_to_another() {
        let one = |folder: &str, device, new, old| Placed {
            folder: folder.into(),
            device,
            new,
            old,
        };
        let own = |device| OwnPlaces {
            backups: ("/s/backups".into(), Some(device)),
            restores: ("/s/restores".into(), Some(device)),
            spool: ("/s/spool".into(), Some(device)),
            databases: 1000,
            configs: 200,
            records: 30,
        };
        let placed = [
            one("/etc/wireguard", 1, 7, 5),
            one("/etc/wireguard", 1, 3, 0),
            one("/i", 2, 4, 9),
        ];
        let said = |device| -> Vec<String> {
            let needed = by_device(&placed, &own(device));
            let text = |n: &RoomNeeded| {
                format!(
                    "{} {} {} {} {}",
                    n.folder.display(),
                    n.new,
                    n.backup,
                    n.originals,
                    n.work
                )
            };
            needed.values().map(text).collect()
        };
        assert_eq!(
            said(3),
            [
                "/etc/wireguard 10 0 0 0",
                "/i 4 0 0 0",
                "/s/restores 0 1200 14 1030"
            ]
        );
        assert_eq!(
            said(2),
            ["/etc/wireguard 10 0 0 0", "/s/restores 4 1200 5 1030"]
        );
        let all = RoomNeeded {
            new: 1 << 20,
            backup: 2 << 20,
            ..RoomNeeded::default()
        };
        assert_eq!(all.bytes(), (3 << 20) + RESERVE);
        assert_eq!(
            all.parts(),
            "1.0 MiB for new files, 2.0 MiB for the safety backup, 16.0 MiB in reserve"
        );
    }
}
