//! Which files of the gateway a restore puts in place, and whose they will be. Pure; a file that is as the backup has it is
//! no target, and neither is one that the backup leaves alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use journal_format::{Change, FileFacts, RestoreId, Target};

use super::BackupForPlan;
use crate::archive;
use crate::archive::verify::{Checked, FileInBackup};
use crate::error::{Code, Problem, cannot};
use crate::gateway::owner::{CONFIG_MODE, DATABASE_MODE, KEPT_MODE, Owner};
use crate::gateway::profile::Profile;
use crate::survey::Survey;
use crate::text::iptables::Family;

/// Databases, then files; and what they would give to somebody who has no part in the gateway.
pub(super) fn targets(
    profile: &Profile,
    survey: &Survey,
    backup: &BackupForPlan,
    id: &RestoreId,
) -> (Vec<Target>, Vec<Target>, Vec<Problem>) {
    let mut strangers = Strangers::default();
    let files = files(profile, survey, backup, id, &mut strangers);
    // A client is its row and its configs: where configs change, its rows go with them, whatever becomes of them meanwhile.
    let clients = profile
        .client_database()
        .filter(|_| files.iter().any(|f| f.path.ends_with(".conf")));
    let stays =
        |name: &str| backup.same_rows.contains(name) && clients.is_none_or(|d| d.name != name);
    let databases = databases(profile, survey, backup, id, (&stays, &mut strangers));
    (databases, files, strangers.problems(profile))
}

fn databases(
    profile: &Profile,
    survey: &Survey,
    backup: &BackupForPlan,
    id: &RestoreId,
    (stays, strangers): (&dyn Fn(&str) -> bool, &mut Strangers),
) -> Vec<Target> {
    let mut targets = Vec::new();
    for database in &profile.gateway.database {
        let Some(in_backup) = backup.checked.databases.get(&database.name) else {
            continue;
        };
        let wanted = &in_backup.file;
        let now = survey.databases.get(&database.name);
        let (is_there, place) = (now.is_some(), (database.path.as_path(), DATABASE_MODE));
        let now = now.map(|m| Owner {
            uid: m.uid,
            gid: m.gid,
            mode: m.mode,
        });
        let given = owner(wanted, survey, backup, place, now, strangers);
        // More open than the gateway's own it never is afterwards: that is `holdfast secure`'s.
        let now = now.map(|now| Owner {
            mode: now.mode & DATABASE_MODE,
            ..now
        });
        if stays(&database.name) && now == Some(given) {
            continue;
        }
        targets.extend(target(&database.path, id, is_there, Some((wanted, given))));
        // Right behind their database, and so in place and away with it. What lies there now is gone by then: it is settled
        // into the database, or set aside.
        for (side, wanted) in in_backup.beside.iter().flatten() {
            let mut path = database.path.clone().into_os_string();
            path.push(side);
            let path = PathBuf::from(path);
            let place = (path.as_path(), DATABASE_MODE);
            let given = owner(wanted, survey, backup, place, None, strangers);
            let made = target(&path, id, false, Some((wanted, given)));
            targets.extend(made.map(|made| Target {
                staged: staged_beside(profile, &database.path, &made.staged),
                ..made
            }));
        }
    }
    targets
}

/// Only what changes: bytes, owner or mode. A file that is more open now than it may be is no change: who closes it is not
/// a restore's plan to say.
fn files(
    profile: &Profile,
    survey: &Survey,
    backup: &BackupForPlan,
    id: &RestoreId,
    strangers: &mut Strangers,
) -> Vec<Target> {
    let mut targets = Vec::new();
    let leaves = |path: &Path| {
        let name = path.file_name().and_then(|n| n.to_str());
        name.is_some_and(|n| backup.leaves(profile, survey, n))
    };
    let mut one = |path: PathBuf, now: Option<&FileFacts>, wanted: Option<&FileInBackup>| {
        let place = (path.as_path(), CONFIG_MODE);
        let made = match (now, wanted) {
            (None, None) => None,
            (Some(_), None) if leaves(&path) => None,
            // What lies there, and where it may lead, is not touched.
            (None, Some(_)) if survey.no_files.contains(&path) => None,
            (now, None) => target(&path, id, now.is_some(), None),
            (now, Some(w)) => {
                let owner = owner(w, survey, backup, place, now.map(Owner::from), strangers);
                let is_so = now.is_some_and(|held| is_so(held, w, owner, CONFIG_MODE));
                target(&path, id, now.is_some(), Some((w, owner))).filter(|_| !is_so)
            }
        };
        targets.extend(made);
    };
    if backup.speaks_of_configs() {
        let gateway = &profile.gateway;
        let wanted = &backup.checked;
        for name in names(&survey.configs, wanted) {
            let path = gateway.configs_dir.join(name);
            one(path, survey.configs.get(name), wanted.first(name));
        }
        for name in names(&survey.wireguard, wanted) {
            let path = gateway.wireguard_dir.join(name);
            one(path, survey.wireguard.get(name), wanted.second(name));
        }
    }
    targets.extend(kept(profile, survey, backup, id));
    targets
}

/// The names of configs, here or in the backup.
fn names<'n>(now: &'n BTreeMap<String, FileFacts>, backup: &'n Checked) -> BTreeSet<&'n String> {
    now.keys().chain(backup.configs.keys()).collect()
}

/// Files that a backup would give to somebody who has no part in the gateway: by that somebody, how many and the first.
#[derive(Default)]
struct Strangers(BTreeMap<String, (usize, String)>);

impl Strangers {
    fn problems(self, profile: &Profile) -> Vec<Problem> {
        let more = |count: usize| match count {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let strangers = self.0.into_iter();
        strangers
            .map(|(who, (count, first))| {
                cannot(
                    Code::FOREIGN_OWNER,
                    format!(
                        "put {first}{} in place: in the backup it belongs to {who}, and that is neither root, nor the profile's \
                         owner {}, nor whose the present file is",
                        more(count),
                        profile.gateway.owner
                    ),
                    "if they are to belong to that account, name it as `owner` under [gateway] in the profile, or give it the \
                     present files (chown); else take another backup",
                )
            })
            .collect()
    }
}

/// Staged objects lie in a folder of root's beside their target, and so on the same filesystem.
fn staged(path: &Path, id: &RestoreId) -> Option<String> {
    let (dir, name) = (path.parent()?, path.file_name()?);
    Some(
        dir.join(format!(".holdfast-{id}"))
            .join(name)
            .display()
            .to_string(),
    )
}

fn target(
    path: &Path,
    id: &RestoreId,
    is_there: bool,
    wanted: Option<(&FileInBackup, Owner)>,
) -> Option<Target> {
    Some(Target {
        entry: wanted.map(|(w, _)| w.entry.to_string()).unwrap_or_default(),
        path: path.display().to_string(),
        staged: staged(path, id)?,
        change: match (is_there, wanted) {
            (_, None) => Change::Remove,
            (true, Some(_)) => Change::Replace,
            (false, Some(_)) => Change::Add,
        },
        new: wanted.map(|(w, owner)| FileFacts {
            sha256: w.facts.sha256.clone(),
            size: w.facts.size,
            uid: owner.uid,
            gid: owner.gid,
            mode: owner.mode & 0o777,
        }),
    })
}

/// As the backup has it, where that is somebody who has a part in the gateway; without a word in the backup the profile's
/// owner, and the mode of the file that it replaces. Never more open than `most`.
fn owner(
    wanted: &FileInBackup,
    survey: &Survey,
    backup: &BackupForPlan,
    (path, most): (&Path, u32),
    replaced: Option<Owner>,
    strangers: &mut Strangers,
) -> Owner {
    let (uid, gid) = survey.owner;
    let usual = || Owner {
        uid,
        gid,
        mode: replaced.map_or(most, |m| m.mode),
    };
    let known = wanted.facts.owner.and_then(|o| backup.owners.get(&o));
    let mut owner = known.map_or_else(usual, |(owner, _)| *owner);
    if !owner.is_of(survey.owner, replaced.map(|m| (m.uid, m.gid))) {
        let by_number = || format!("{}:{}", owner.uid, owner.gid);
        let who = known.map_or_else(by_number, |(_, shown)| shown.clone());
        let first = || (0, path.display().to_string());
        strangers.0.entry(who).or_insert_with(first).0 += 1;
    }
    owner.mode &= most;
    owner
}

/// Another name for the staged side file of a database: under its own lies what is set aside of the present one's.
fn staged_beside(profile: &Profile, database: &Path, staged: &str) -> String {
    let (folder, name) = staged.rsplit_once('/').unwrap_or(("", staged));
    let stem = database
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or(name);
    let mut prefix = "raw-".to_owned();
    // No other database is called so.
    let taken = |prefix: &str| {
        let mut names = profile
            .gateway
            .database
            .iter()
            .filter_map(|d| d.path.file_name()?.to_str());
        names.any(|n| n == format!("{prefix}{stem}"))
    };
    while taken(&prefix) {
        prefix.push_str("raw-");
    }
    format!("{folder}/{prefix}{name}")
}

/// Whether a file is already as the backup has it.
fn is_so(held: &FileFacts, wanted: &FileInBackup, owner: Owner, most: u32) -> bool {
    held.sha256 == wanted.facts.sha256
        && (held.uid, held.gid, held.mode & most) == (owner.uid, owner.gid, owner.mode)
}

/// The files in which the box keeps rules over a reboot, as they were: never the rules that are loaded now, of which the
/// gateway adds its own at each start.
fn kept(profile: &Profile, survey: &Survey, backup: &BackupForPlan, id: &RestoreId) -> Vec<Target> {
    let mut targets = Vec::new();
    for family in Family::BOTH {
        let Some(path) = profile.gateway.firewall.kept_file(family) else {
            continue;
        };
        let now = survey.kept.iter().find(|(f, _, _)| *f == family);
        let now = now.map(|(_, _, held)| held);
        let Some(wanted) = backup.checked.kept.get(&family) else {
            if now.is_some() && backup.checked.kept_gone(family) {
                let path = survey.kept_at.get(&family).map_or(path, PathBuf::as_path);
                let removed = target(path, id, true, None);
                // The safety backup has to know it again, and behind a link it may have any name.
                targets.extend(removed.map(|target| Target {
                    entry: archive::kept(family).into(),
                    ..target
                }));
            }
            continue;
        };
        if survey.no_files.contains(path) {
            continue;
        }
        let path = survey.kept_at.get(&family).map_or(path, PathBuf::as_path);
        // A file of the box's, not of the gateway's: root's, whoever made the backup.
        let asked = wanted.facts.owner.and_then(|o| backup.owners.get(&o));
        let asked = asked.map(|(owner, _)| *owner).filter(|o| o.uid == 0);
        let mut owner = asked.or(now.map(Owner::from)).unwrap_or(Owner {
            uid: 0,
            gid: 0,
            mode: CONFIG_MODE,
        });
        owner.mode &= KEPT_MODE;
        if !now.is_some_and(|held| is_so(held, wanted, owner, KEPT_MODE)) {
            targets.extend(target(path, id, now.is_some(), Some((wanted, owner))));
        }
    }
    targets
}
