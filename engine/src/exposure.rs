//! What of the gateway accounts other than root's and the gateway's own may write, or read although it holds keys; and how
//! that is closed: a database to 0660 at most, a config to 0640, a folder of theirs to 0750.
//!
//! Modes are no part of what a restore puts back or takes away: closing comes before a restore's journal begins, and stays
//! whatever becomes of the restore. Must not: give anything to an account that is neither root's nor the profile's, open
//! what is closed, or touch what is not the gateway's.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::fault::{Problem, cannot};
use crate::owner::{self, CONFIG_MODE, DATABASE_MODE};
use crate::profile::{Database, Profile};

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
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
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

/// Everything of the gateway that is too open, as it is now. `clients` are the names of configs in the WireGuard folder that
/// are the gateway's; other files there are not.
pub fn look(profile: &Profile, managed: &BTreeSet<String>) -> Exposure {
    let gateway = &profile.gateway;
    let owner = owner::resolve(&gateway.owner).ok();
    let mut found = Exposure::default();
    let mut folders: BTreeSet<&Path> = [&gateway.configs_dir, &gateway.wireguard_dir]
        .map(PathBuf::as_path)
        .into();
    folders.extend(gateway.database.iter().filter_map(|d| d.path.parent()));
    for folder in folders {
        if let Some(meta) = looked_at(folder).filter(Metadata::is_dir) {
            found.folder(
                folder,
                &meta,
                owner,
                holds_the_gateways(profile, folder, owner),
            );
        }
    }
    for database in &gateway.database {
        if let Some(meta) = looked_at(&database.path) {
            found.file(&database.path, &meta, owner, DATABASE_MODE);
        }
    }
    for (folder, all) in [
        (&gateway.configs_dir, true),
        (&gateway.wireguard_dir, false),
    ] {
        for name in configs_in(folder) {
            let path = folder.join(&name);
            if (all || managed.contains(&name))
                && let Some(meta) = looked_at(&path)
            {
                found.file(&path, &meta, owner, CONFIG_MODE);
            }
        }
    }
    found
}

/// Why nobody can be trusted to be who the users' database says: others may write it or put another in its place.
pub fn of_database(profile: &Profile, database: &Database) -> Option<Problem> {
    let owner = owner::resolve(&profile.gateway.owner).ok();
    let folder = database.path.parent().unwrap_or(Path::new("/"));
    let open = |path: &Path| {
        looked_at(path)
            .filter(|m| others_write(m, owner))
            .map(|m| format!("{} (mode {:04o})", path.display(), m.mode() & 0o7777))
    };
    let open: Vec<String> = [folder, &database.path]
        .into_iter()
        .filter_map(open)
        .collect();
    if open.is_empty() {
        return None;
    }
    Some(cannot(
        format!(
            "trust the users in {}: accounts that are not the gateway's may write to {}",
            database.path.display(),
            open.join(" and to ")
        ),
        format!("run `{COMMAND}` on the gateway"),
    ))
}

/// Closes what was found, and says what it did. What changed its nature meanwhile is left alone, and said.
pub fn close(exposed: &[Exposed]) -> Result<Vec<String>, Problem> {
    let mut did = Vec::new();
    for one in exposed {
        let failed = |e: std::io::Error| {
            cannot(
                format!("close {}: {e}", one.path.display()),
                format!("by hand: chmod {:o} {}", one.closed, one.path.display()),
            )
        };
        let directory = match one.kind {
            Kind::Folder => OFlag::O_DIRECTORY,
            Kind::File => OFlag::O_NONBLOCK,
        };
        let file = File::options()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | directory).bits())
            .open(&one.path)
            .map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        let plain = match one.kind {
            Kind::Folder => meta.is_dir(),
            Kind::File => meta.is_file() && meta.nlink() == 1,
        };
        if !plain || meta.mode() & 0o7777 != one.mode {
            return Err(failed(std::io::Error::other(
                "somebody changed it meanwhile",
            )));
        }
        // Closed first: nobody gets at it between the two.
        file.set_permissions(PermissionsExt::from_mode(one.closed))
            .map_err(failed)?;
        if let Some((uid, gid)) = one.given_to {
            fchown(&file, Some(uid), Some(gid)).map_err(failed)?;
        }
        did.push(one.change());
    }
    Ok(did)
}

impl Exposure {
    /// What is too open, in a sentence for what others may write and one for what they may read, without full stops.
    pub fn sentences(&self) -> Vec<String> {
        [(true, "write to"), (false, "read")]
            .into_iter()
            .filter_map(|(writable, verb)| {
                let of_kind = self.exposed.iter().filter(|e| e.writable == writable);
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

    fn folder(
        &mut self,
        path: &Path,
        meta: &Metadata,
        owner: Option<(u32, u32)>,
        holds_the_gateways: bool,
    ) {
        let mode = meta.mode() & 0o7777;
        let writable = others_write(meta, owner);
        let the_gateways = owner.is_some_and(|o| o.0 == meta.uid());
        // A folder of root's that nobody else may write to may be the system's, and others' as well.
        if !writable && (mode & !FOLDER_MODE == 0 || !the_gateways) {
            return;
        }
        if mode & 0o1000 != 0 || !the_gateways && meta.uid() != 0 {
            self.problems.push(cannot(
                format!(
                    "close the folder {} (user {}, mode {mode:04o}): it is not the gateway's alone",
                    path.display(),
                    meta.uid()
                ),
                "move the gateway's files to a folder of its account's, and name that in the profile",
            ));
            return;
        }
        self.exposed.push(Exposed {
            path: path.to_owned(),
            mode,
            closed: mode & FOLDER_MODE,
            given_to: owner.filter(|_| holds_the_gateways && !the_gateways),
            writable,
            kind: Kind::Folder,
        });
    }

    fn file(&mut self, path: &Path, meta: &Metadata, owner: Option<(u32, u32)>, most: u32) {
        let mode = meta.mode() & 0o7777;
        if !meta.is_file() || meta.nlink() != 1 {
            self.problems.push(cannot(
                format!(
                    "close {}: it is a link, or has a second name elsewhere",
                    path.display()
                ),
                "put the file itself there",
            ));
            return;
        }
        if owner.is_some_and(|o| ![0, o.0].contains(&meta.uid())) {
            self.problems.push(cannot(
                format!(
                    "trust {}: it belongs to user {}, who is neither root nor the profile's owner",
                    path.display(),
                    meta.uid()
                ),
                format!(
                    "see who put it there; then: chown {}, or name that account as `owner` under [gateway] in the profile",
                    path.display()
                ),
            ));
        }
        if mode & !most == 0 {
            return;
        }
        self.exposed.push(Exposed {
            path: path.to_owned(),
            mode,
            closed: mode & most,
            given_to: None,
            writable: others_write(meta, owner),
            kind: Kind::File,
        });
    }
}

/// Whether a database of the profile's owner lies in this folder, or a config: then that account must get at it.
fn holds_the_gateways(profile: &Profile, folder: &Path, owner: Option<(u32, u32)>) -> bool {
    let of_owner =
        |path: &Path| looked_at(path).is_some_and(|m| owner.is_some_and(|o| o.0 == m.uid()));
    let databases = profile.gateway.database.iter();
    databases
        .filter(|d| d.path.parent() == Some(folder))
        .any(|d| of_owner(&d.path))
        || configs_in(folder)
            .iter()
            .any(|name| of_owner(&folder.join(name)))
}

fn configs_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = folder.read_dir() else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok());
    names.filter(|n| n.ends_with(".conf")).collect()
}

/// Not root and not the profile's owner, with or without a group of theirs.
fn others_write(meta: &Metadata, owner: Option<(u32, u32)>) -> bool {
    let (uids, gids) = match owner {
        Some((uid, gid)) => ([0, uid], [0, gid]),
        None => ([0, 0], [0, 0]),
    };
    meta.mode() & 0o002 != 0
        || meta.mode() & 0o020 != 0 && !gids.contains(&meta.gid())
        || !uids.contains(&meta.uid())
}

/// What lies under a name, if it can be looked at; links are not followed.
fn looked_at(path: &Path) -> Option<Metadata> {
    std::fs::symlink_metadata(path).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::chown;

    use super::*;

    const GATEWAY: u32 = 61_000;

    struct Box {
        dir: tempfile::TempDir,
        profile: Profile,
    }

    /// A gateway as its installer leaves it; none where this is not root's to make.
    fn installed() -> Option<Box> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut profile = Profile::default();
        profile.gateway.owner = format!("{GATEWAY}:{GATEWAY}");
        profile.gateway.configs_dir = dir.path().join("instance/configs");
        profile.gateway.wireguard_dir = dir.path().join("wireguard");
        profile.gateway.database.truncate(2);
        profile.gateway.database[0].path = dir.path().join("instance/configs.db");
        profile.gateway.database[1].path = dir.path().join("var/wireguard.db");
        let made = Box { dir, profile };
        for (folder, uid, mode) in [
            ("instance", GATEWAY, 0o755),
            ("instance/configs", GATEWAY, 0o750),
            ("wireguard", 0, 0o700),
            ("var", 0, 0o777),
        ] {
            std::fs::create_dir(made.at(folder)).unwrap();
            made.set(folder, uid, mode);
        }
        for (file, uid, mode) in [
            ("instance/configs.db", GATEWAY, 0o666),
            ("var/wireguard.db", GATEWAY, 0o666),
            ("instance/configs/a.conf", GATEWAY, 0o644),
            ("wireguard/a.conf", 0, 0o644),
            ("wireguard/strange.conf", 0, 0o644),
        ] {
            std::fs::write(made.at(file), "x").unwrap();
            made.set(file, uid, mode);
        }
        Some(made)
    }

    impl Box {
        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn set(&self, name: &str, uid: u32, mode: u32) {
            chown(self.at(name), Some(uid), Some(uid)).unwrap();
            std::fs::set_permissions(self.at(name), PermissionsExt::from_mode(mode)).unwrap();
        }

        fn look(&self) -> Exposure {
            look(&self.profile, &BTreeSet::from(["a.conf".to_owned()]))
        }

        fn said(&self) -> String {
            let found = self.look();
            let changes = found.exposed.iter().map(Exposed::change);
            let problems = found.problems.iter().map(|p| p.to_string());
            let root = format!("{}/", self.dir.path().display());
            let lines: Vec<String> = changes.chain(problems).collect();
            lines.join("\n").replace(&root, "")
        }
    }

    #[test]
    fn what_the_installer_leaves_open_is_closed_and_the_gateways_account_still_gets_at_it() {
        let Some(gateway) = installed() else { return };
        insta::assert_snapshot!(gateway.said(), @r"
        instance: mode 0755 -> 0750
        var: owner 61000:61000, mode 0777 -> 0750
        instance/configs.db: mode 0666 -> 0660
        var/wireguard.db: mode 0666 -> 0660
        instance/configs/a.conf: mode 0644 -> 0640
        wireguard/a.conf: mode 0644 -> 0640
        ");
        close(&gateway.look().exposed).unwrap();
        assert_eq!(gateway.said(), "");
        let var = gateway.at("var").metadata().unwrap();
        assert_eq!((var.uid(), var.mode() & 0o7777), (GATEWAY, 0o750));
        let strange = gateway.at("wireguard/strange.conf").metadata().unwrap();
        assert_eq!(strange.mode() & 0o7777, 0o644, "it is not the gateway's");
    }

    #[test]
    fn a_users_database_opens_no_page_while_others_may_write_it_or_its_folder() {
        let Some(gateway) = installed() else { return };
        let users = &gateway.profile.gateway.database[1];
        let exposed = || of_database(&gateway.profile, users);
        let problem = exposed().unwrap();
        assert!(problem.what.contains("var (mode 0777) and to"), "{problem}");
        assert!(problem.advice.contains(COMMAND), "{problem}");
        for (folder, file, open) in [
            ((GATEWAY, 0o750), (GATEWAY, 0o660), false),
            ((0, 0o755), (0, 0o644), false),
            ((GATEWAY, 0o750), (GATEWAY, 0o666), true),
            ((GATEWAY, 0o757), (GATEWAY, 0o660), true),
            ((0, 0o1777), (GATEWAY, 0o660), true),
            ((GATEWAY, 0o750), (4_711, 0o600), true),
            ((4_711, 0o750), (GATEWAY, 0o660), true),
        ] {
            gateway.set("var", folder.0, folder.1);
            gateway.set("var/wireguard.db", file.0, file.1);
            assert_eq!(exposed().is_some(), open, "{folder:?} {file:?}");
        }
        // A group that is neither root's nor the gateway's.
        gateway.set("var", GATEWAY, 0o770);
        gateway.set("var/wireguard.db", GATEWAY, 0o660);
        assert!(exposed().is_none());
        chown(gateway.at("var"), None, Some(4_711)).unwrap();
        assert!(exposed().is_some());
    }

    #[test]
    fn nothing_is_given_to_a_stranger_and_no_folder_of_everybodys_is_closed() {
        let Some(gateway) = installed() else { return };
        gateway.set("var/wireguard.db", 4_711, 0o660);
        let found = gateway.look();
        assert!(found.exposed.iter().all(|e| e.given_to.is_none()));
        assert!(gateway.said().contains("belongs to user 4711"));
        gateway.set("var", 0, 0o1777);
        let said = gateway.said();
        assert!(!said.contains("var: "), "{said}");
        assert!(said.contains("it is not the gateway's alone"), "{said}");
    }

    #[test]
    fn what_was_swapped_after_it_was_looked_at_is_not_touched() {
        let Some(gateway) = installed() else { return };
        let found = gateway.look();
        let victim = gateway.at("victim");
        std::fs::write(&victim, "x").unwrap();
        std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o666)).unwrap();
        let config = gateway.at("instance/configs/a.conf");
        for plant in [0, 1] {
            std::fs::remove_file(&config).unwrap();
            match plant {
                0 => std::os::unix::fs::symlink(&victim, &config).unwrap(),
                _ => std::fs::hard_link(&victim, &config).unwrap(),
            }
            assert!(close(&found.exposed).is_err());
            assert_eq!(victim.metadata().unwrap().mode() & 0o7777, 0o666);
        }
    }
}
