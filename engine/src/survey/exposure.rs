//! What of the gateway accounts other than root's and the gateway's own may write, or read although it holds keys; and how
//! that is closed: a database to 0660 at most, a config to 0640, a folder of theirs to 0750.
//!
//! Modes are no part of what a restore puts back or takes away: closing comes before a restore's journal begins, and stays
//! whatever becomes of the restore. Must not: give anything to an account that is neither root's nor the profile's, open
//! what is closed, or touch what is not the gateway's.

mod close;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::configs_in;
use crate::error::{Code, Problem, cannot, cause};
use crate::gateway::database::side_files;
use crate::gateway::owner::{CONFIG_MODE, DATABASE_MODE};
use crate::gateway::profile::{Database, Profile};
use crate::host::{self, FoundFile, Kind, Look};

pub use close::close;

/// The most that a folder of databases or configs allows.
pub const FOLDER_MODE: u32 = 0o750;

/// So many files and folders are named; folders come first, configs last.
const NAMED: usize = 8;

/// The command that closes all of it, for advice.
pub const COMMAND: &str = "holdfast secure";

/// A file or a folder of the gateway that is more open than it needs to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// Where it is.
    pub path: PathBuf,
    /// Its permission bits now.
    pub mode: u32,
    /// Those that it gets.
    pub closed: u32,
    /// Owner and group that it gets: a folder of root's whose database is the gateway's, which could not get at it any more.
    pub given_to: Option<(u32, u32)>,
    /// Somebody else may write it.
    pub writable: bool,
    kind: ExposedKind,
    /// The very object, by device and inode.
    object: (u64, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExposedKind {
    Folder,
    File,
}

impl Exposed {
    /// What closing does to it.
    pub fn change(&self) -> String {
        let given = match self.given_to {
            Some((uid, gid)) => format!("owner {uid}:{gid}, "),
            None => String::new(),
        };
        format!(
            "{}: {given}mode {:04o} -> {:04o}",
            self.path.display(),
            self.mode,
            self.closed
        )
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exposure {
    /// What can be closed, folders first: then nobody can put anything else in the place of their files.
    pub exposed: Vec<Exposed>,
    /// What cannot be closed here, and what to do.
    pub problems: Vec<Problem>,
}

/// Everything of the gateway that is too open, as it is now. `managed` are the names of configs in the WireGuard folder that
/// are the gateway's; other files there are not.
pub fn look(host: &dyn Look, profile: &Profile, managed: &BTreeSet<String>) -> Exposure {
    let gateway = &profile.gateway;
    let mut found = ExposureLook {
        host,
        owner: host.owner(&gateway.owner).ok(),
        profile,
        found: Exposure::default(),
    };
    let mut folders: BTreeSet<&Path> = [&gateway.configs_dir, &gateway.wireguard_dir]
        .map(PathBuf::as_path)
        .into();
    folders.extend(gateway.database.iter().filter_map(|d| d.path.parent()));
    let above: BTreeSet<&Path> = folders.iter().flat_map(|f| f.ancestors().skip(1)).collect();
    for folder in above.difference(&folders) {
        found.above(folder);
    }
    for folder in &folders {
        found.folder(folder);
    }
    for database in &gateway.database {
        found.file(&database.path, DATABASE_MODE);
        for side in side_files(&database.path) {
            found.file(&side, DATABASE_MODE);
        }
    }
    for (folder, all) in [
        (&gateway.configs_dir, true),
        (&gateway.wireguard_dir, false),
    ] {
        for name in configs_in(host, folder).unwrap_or_default() {
            if all || managed.contains(&name) {
                found.file(&folder.join(&name), CONFIG_MODE);
            }
        }
    }
    found.found
}

/// Why nobody can be trusted to be who the users' database says: others may write it or put another in its place.
pub fn of_database(host: &dyn Look, profile: &Profile, database: &Database) -> Option<Problem> {
    let owner = host.owner(&profile.gateway.owner);
    let (uids, gids) = known(owner.as_ref().ok());
    let path = database.path.as_path();
    let mut open = Vec::new();
    let sides = side_files(path);
    let beside = sides.iter().map(PathBuf::as_path);
    let own = path.parent().into_iter().chain([path]).chain(beside);
    let above = path.ancestors().skip(2).map(|p| (p, true));
    for (one, above) in own.map(|p| (p, false)).chain(above) {
        match host.access(one) {
            Ok(None) => {}
            Ok(Some(seen)) => {
                let others = match above {
                    true => seen.others_replace(&uids, &gids),
                    false => seen.others_write(&uids, &gids),
                };
                open.extend(others.then(|| seen.shown()));
            }
            Err(e) => open.push(format!("{} ({e})", one.display())),
        }
    }
    if open.is_empty() {
        return None;
    }
    let first = match owner {
        Ok(_) => String::new(),
        Err(problem) => format!(
            "Holdfast cannot {}: {}; then ",
            problem.what, problem.advice
        ),
    };
    Some(cannot(
        Code::OPEN_TO_OTHERS,
        format!(
            "trust the users in {}: accounts that are not the gateway's may write to {}",
            path.display(),
            open.join(" and to ")
        ),
        format!(
            "{first}run `{COMMAND}` on the gateway: it closes that, and says of what it cannot close what to do"
        ),
    ))
}

/// Processes of other accounts that have a database open: closing it takes nothing away from them.
pub fn still_held(profile: &Profile, host: &dyn Look) -> Result<Vec<Problem>, Problem> {
    let (uids, _) = known(host.owner(&profile.gateway.owner).ok().as_ref());
    let databases = profile.gateway.database.iter();
    let files: Vec<PathBuf> = databases
        .flat_map(|d| std::iter::once(d.path.clone()).chain(side_files(&d.path)))
        .collect();
    let mut foreign = host.holders(&files)?;
    foreign.retain(|holder| !uids.contains(&holder.uid));
    let problems = foreign.into_iter().map(|holder| {
        cannot(
            Code::OPEN_TO_OTHERS,
            format!(
                "keep user {} from {}: {} (pid {}) has had it open since before",
                holder.uid,
                holder.path.display(),
                holder.command,
                holder.pid
            ),
            format!(
                "see what it is, then: kill {}; look at the gateway's users, and give its admins new passwords",
                holder.pid
            ),
        )
    });
    Ok(problems.collect())
}

/// The users and groups that may write the gateway's files.
fn known(owner: Option<&(u32, u32)>) -> ([u32; 2], [u32; 2]) {
    let (uid, gid) = owner.copied().unwrap_or((0, 0));
    ([0, uid], [0, gid])
}

impl Exposure {
    /// Whether this is a file that SQLite keeps beside a database which is as open. It comes and goes, and has that database's mode.
    fn comes_and_goes(&self, file: &Exposed) -> bool {
        self.exposed
            .iter()
            .any(|e| e.writable == file.writable && side_files(&e.path).contains(&file.path))
    }

    /// What is too open, in a sentence for what others may write and one for what they may read, without full stops.
    pub fn sentences(&self) -> Vec<String> {
        [(true, "write to"), (false, "read")]
            .into_iter()
            .filter_map(|(writable, verb)| {
                let of_kind = self.exposed.iter().filter(|e| e.writable == writable);
                // An application that writes is no reason to tell it otherwise a moment later.
                let of_kind = of_kind.filter(|e| !self.comes_and_goes(e));
                let shown: Vec<String> = of_kind
                    .map(|e| format!("{} (mode {:04o})", e.path.display(), e.mode))
                    .collect();
                let (first, more) = shown.split_at(shown.len().min(NAMED));
                let more = match more.len() {
                    0 => String::new(),
                    n => format!(" and {n} more"),
                };
                (!first.is_empty()).then(|| {
                    format!(
                        "accounts that are not the gateway's may {verb} {}{more}",
                        first.join(", ")
                    )
                })
            })
            .collect()
    }
}

/// What has been found so far.
struct ExposureLook<'p> {
    host: &'p dyn Look,
    owner: Option<(u32, u32)>,
    profile: &'p Profile,
    found: Exposure,
}

impl ExposureLook<'_> {
    /// What lies there; that it cannot be looked at is a problem of its own.
    fn seen(&mut self, path: &Path) -> Option<FoundFile> {
        match self.host.access(path) {
            Ok(seen) => seen,
            Err(e) => {
                self.problem(
                    cause(&e),
                    format!("look at {}: {e}", path.display()),
                    "a link on the way leads elsewhere: name the real path in the profile, or put the file itself there",
                );
                None
            }
        }
    }

    fn problem(&mut self, code: Code, what: String, advice: impl Into<String>) {
        self.found.problems.push(cannot(code, what, advice));
    }

    fn is_the_gateways(&self, seen: &FoundFile) -> bool {
        self.owner.is_some_and(|o| o.0 == seen.uid)
    }

    /// A folder above those of the gateway: the box's, not ours to close.
    fn above(&mut self, path: &Path) {
        let (uids, gids) = known(self.owner.as_ref());
        if let Some(seen) = self.seen(path)
            && seen.others_replace(&uids, &gids)
        {
            self.problem(
                Code::OPEN_TO_OTHERS,
                format!(
                    "keep others from the gateway's files: they may write to {}, above them",
                    seen.shown()
                ),
                format!("if nobody needs that: chmod go-w {}", path.display()),
            );
        }
    }

    fn folder(&mut self, path: &Path) {
        let Some(seen) = self.seen(path).filter(|s| s.kind == Kind::Dir) else {
            return;
        };
        let (uids, gids) = known(self.owner.as_ref());
        let writable = seen.others_write(&uids, &gids);
        let the_gateways = self.is_the_gateways(&seen);
        self.list(&seen);
        // A folder of root's that nobody else may write to may be the system's, and others' as well.
        if seen.mode & !FOLDER_MODE == 0 && uids.contains(&seen.uid) || !writable && !the_gateways {
            return;
        }
        if seen.mode & 0o1000 != 0 || !uids.contains(&seen.uid) {
            self.problem(
                Code::OPEN_TO_OTHERS,
                format!(
                    "close the folder {} of user {}: it is not the gateway's alone",
                    seen.shown(),
                    seen.uid
                ),
                "move the gateway's files to a folder of its account's, and name that in the profile",
            );
            return;
        }
        let given = self.owner.filter(|_| !the_gateways && self.uses(path));
        self.open(&seen, FOLDER_MODE, given, writable, ExposedKind::Folder);
    }

    fn file(&mut self, path: &Path, most: u32) {
        let Some(seen) = self.seen(path) else {
            return;
        };
        if seen.kind != Kind::File || seen.names != 1 {
            self.problem(
                Code::WRONG_KIND,
                format!(
                    "close {}: it is no regular file, or has a second name elsewhere",
                    path.display()
                ),
                "put the file itself there",
            );
            return;
        }
        let (uids, gids) = known(self.owner.as_ref());
        if self.owner.is_some() && !uids.contains(&seen.uid) {
            let owner = &self.profile.gateway.owner;
            self.problem(
                Code::FOREIGN_OWNER,
                format!(
                    "trust {}: it belongs to user {}, who is neither root nor the profile's owner {owner}",
                    path.display(),
                    seen.uid
                ),
                format!(
                    "see who put it there; then: chown {owner} {}; or name that account as `owner` under [gateway] in the \
                     profile",
                    path.display()
                ),
            );
        }
        self.list(&seen);
        if seen.mode & !most != 0 {
            // What the gateway's account could read and write as everybody it then can by its group.
            let given = self.owner.filter(|_| seen.uid == 0).map(|o| (0, o.1));
            let writable = seen.others_write(&uids, &gids);
            self.open(&seen, most, given, writable, ExposedKind::File);
        }
    }

    /// A list of who may is not in the mode, and whether it is meant is not ours to say.
    fn list(&mut self, seen: &FoundFile) {
        if seen.has_list {
            let path = seen.path.display();
            self.problem(
                Code::OPEN_TO_OTHERS,
                format!("say who may write {path}: it has an access control list"),
                format!("see `getfacl {path}`; if nobody needs it: setfacl -b {path}"),
            );
        }
    }

    fn open(
        &mut self,
        seen: &FoundFile,
        most: u32,
        given_to: Option<(u32, u32)>,
        writable: bool,
        kind: ExposedKind,
    ) {
        self.found.exposed.push(Exposed {
            path: seen.path.clone(),
            mode: seen.mode,
            closed: seen.mode & most,
            given_to,
            writable,
            kind,
            object: seen.object,
        });
    }

    /// Whether the gateway's account works in this folder of root's: it keeps a database or its configs there.
    fn uses(&self, folder: &Path) -> bool {
        let gateway = &self.profile.gateway;
        let mut databases = gateway.database.iter().map(|d| &d.path);
        let is_there = |path: &Path| host::real_path(self.host, path).is_some();
        let configs = configs_in(self.host, folder).unwrap_or_default();
        let seen = |name: String| self.host.access(&folder.join(name)).ok().flatten();
        databases.any(|path| path.parent() == Some(folder) && is_there(path))
            || gateway.configs_dir == folder
            || configs
                .into_iter()
                .filter_map(seen)
                .any(|c| self.is_the_gateways(&c))
    }
}

#[cfg(test)]
mod tests;
