//! Whether an account can get at a database: walk to it, read it, and to settle it write it and what lies beside it. By owners
//! and modes, before SQLite is asked, which names neither the folder nor the file that is in the way. Looks only.

use std::path::Path;

use super::{Trouble, side_files};
use crate::error::{Code, Problem, cannot, cause};
use crate::files::access::{self, FoundFile};
use crate::text::wording::quoted_path;

const READ: u32 = 0o4;
const WRITE: u32 = 0o2;

/// What is in the way of an account: something is closed to it, and root can have the bytes; or a look failed, which says
/// nothing of the database.
#[derive(Debug)]
pub(crate) struct InTheWay(Trouble);

impl InTheWay {
    /// For whoever saves bytes where the account cannot read.
    pub(crate) fn of_a_copy(self) -> Trouble {
        self.0
    }

    fn closed(what: String, advice: String) -> InTheWay {
        InTheWay(Trouble::Unreadable(cannot(
            Code::DATABASE_OUT_OF_REACH,
            what,
            advice,
        )))
    }
}

impl From<InTheWay> for Problem {
    fn from(found: InTheWay) -> Problem {
        found.0.into()
    }
}

impl From<InTheWay> for Trouble {
    fn from(found: InTheWay) -> Trouble {
        Trouble::Failed(found.into())
    }
}

/// Why this account cannot read it; root can.
pub(crate) fn to_read(path: &Path, uid: Option<u32>) -> Result<(), InTheWay> {
    reach(path, uid, READ, "read")
}

/// Why this account cannot settle it; root can.
pub(crate) fn to_settle(path: &Path, uid: Option<u32>) -> Result<(), InTheWay> {
    reach(path, uid, READ | WRITE, "checkpoint")
}

fn reach(path: &Path, uid: Option<u32>, wanted: u32, verb: &str) -> Result<(), InTheWay> {
    let Some(uid) = uid else {
        return Ok(());
    };
    let groups = access::groups_of(uid);
    let what = format!(
        "{verb} the database {} as user {uid}, the gateway's account",
        path.display()
    );
    let failed = |e: std::io::Error| {
        let problem = cannot(cause(&e), format!("{what}: {e}"), "see to that path");
        InTheWay(Trouble::Failed(problem))
    };
    if let Some(folder) = access::closed_on_the_way(path, uid).map_err(failed)? {
        return Err(InTheWay::closed(
            format!("{what}: that user cannot go through {}", folder.shown()),
            format!(
                "open it: chmod o+x {}; or move the database, and name its place in the profile",
                quoted_path(&folder.path)
            ),
        ));
    }
    let files = side_files(path).into_iter().chain([path.to_owned()]);
    let files = files.filter_map(|p| access::look(&p).transpose());
    let files: Vec<FoundFile> = files.collect::<Result<_, _>>().map_err(failed)?;
    let closed: Vec<&FoundFile> = files
        .iter()
        .filter(|seen| !seen.gives(uid, &groups, wanted))
        .collect();
    let folder = path.parent().map_or(Ok(None), access::look);
    let folder = folder.map_err(failed)?;
    // Who settles it takes them away.
    let beside = wanted & WRITE != 0 && files.len() > 1;
    let folder = folder
        .as_ref()
        .filter(|folder| beside && !folder.gives(uid, &groups, WRITE));
    let mut advice = Vec::new();
    if !closed.is_empty() {
        let paths: Vec<String> = closed.iter().map(|seen| quoted_path(&seen.path)).collect();
        advice.push(format!(
            "somebody else made that, or gave it away; give it back: chown {uid} {}",
            paths.join(" ")
        ));
    }
    if let Some(folder) = folder {
        // The folder may be others' as well, as /srv is: it is not that account's to have.
        advice.push(format!(
            "move the database and what lies beside it out of {} into a folder of that user's, and name its place in the profile",
            folder.path.display()
        ));
    }
    if advice.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = closed
        .into_iter()
        .chain(folder)
        .map(|seen| format!("{} of user {}", seen.shown(), seen.uid))
        .collect();
    let rights = if wanted & WRITE == 0 { "read" } else { "write" };
    Err(InTheWay::closed(
        format!("{what}: that user cannot {rights} {}", shown.join(", ")),
        advice.join("; then "),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    const GATEWAY: u32 = 61_000;

    fn set(path: &Path, uid: u32, mode: u32) {
        chown(path, Some(uid), Some(uid)).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    /// What is said of a database in a folder in a folder, these with owner and mode; none where this is not root's to make.
    fn said(
        above: (u32, u32),
        folder: (u32, u32),
        files: &[(&str, u32, u32)],
    ) -> Option<[Option<Problem>; 2]> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let own = dir.path().join("above/own");
        std::fs::create_dir_all(&own).unwrap();
        let path = own.join("x.db");
        for (side, uid, mode) in files {
            let file = own.join(format!("x.db{side}"));
            std::fs::write(&file, "x").unwrap();
            set(&file, *uid, *mode);
        }
        set(&own, folder.0, folder.1);
        set(own.parent().unwrap(), above.0, above.1);
        assert!(to_settle(&path, None).is_ok(), "root is not asked");
        Some([
            to_read(&path, Some(GATEWAY)).err().map(Problem::from),
            to_settle(&path, Some(GATEWAY)).err().map(Problem::from),
        ])
    }

    #[test]
    fn what_is_in_the_way_is_named_with_the_command_that_opens_it() {
        let own = (GATEWAY, 0o750);
        let open = (0, 0o755);
        type Case<'c> = (
            (u32, u32),
            (u32, u32),
            &'c [(&'c str, u32, u32)],
            [&'c str; 2],
        );
        let cases: [Case; 10] = [
            (open, own, &[("", GATEWAY, 0o600)], ["", ""]),
            (
                open,
                own,
                &[("", GATEWAY, 0o660), ("-wal", GATEWAY, 0o600)],
                ["", ""],
            ),
            (
                (0, 0o700),
                own,
                &[("", GATEWAY, 0o600)],
                ["chmod o+x", "chmod o+x"],
            ),
            (
                open,
                (0, 0o700),
                &[("", GATEWAY, 0o600)],
                ["chmod o+x", "chmod o+x"],
            ),
            (open, own, &[("", 0, 0o600)], ["x.db", "x.db"]),
            (open, own, &[("", 0, 0o644)], ["", "x.db"]),
            (
                open,
                own,
                &[("", GATEWAY, 0o660), ("-wal", 0, 0o644), ("-shm", 0, 0o644)],
                ["", "x.db-wal"],
            ),
            (
                open,
                own,
                &[("", GATEWAY, 0o660), ("-journal", 0, 0o600)],
                ["x.db-journal", "x.db-journal"],
            ),
            // A folder of root's is in the way only of what has files beside it to be taken away, and stays root's.
            (
                open,
                open,
                &[("", GATEWAY, 0o660), ("-wal", GATEWAY, 0o600)],
                ["", "out of /"],
            ),
            (
                open,
                open,
                &[("", 0, 0o644), ("-wal", GATEWAY, 0o600)],
                ["", "x.db; then move the database"],
            ),
        ];
        for (above, folder, files, expected) in cases {
            let Some(said) = said(above, folder, files) else {
                return;
            };
            for (said, expected) in said.iter().zip(expected) {
                match said {
                    None => assert_eq!(expected, "", "{folder:?} {files:?}"),
                    Some(problem) => {
                        assert_ne!(expected, "", "{problem}");
                        assert!(problem.advice.contains(expected), "{problem}");
                        let as_whom = "x.db as user 61000, the gateway's account: ";
                        assert!(problem.what.contains(as_whom), "{problem}");
                        let way_out = ["chmod o+x", "chown 61000", "move the database and"];
                        assert!(way_out.iter().any(|w| problem.advice.contains(w)));
                        let given = problem.advice.contains("chown");
                        assert!(!given || problem.advice.contains("/x.db"), "{problem}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_look_that_failed_says_nothing_of_the_database_and_one_that_is_closed_can_be_had_by_its_bytes()
     {
        // No file can have such a name, and nobody can tell what is there.
        let long = std::env::temp_dir().join("x".repeat(300));
        let trouble = to_read(&long, Some(GATEWAY)).unwrap_err().of_a_copy();
        assert!(matches!(trouble, Trouble::Failed(_)), "{trouble}");
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let trouble = to_read(file.path(), Some(GATEWAY)).unwrap_err().of_a_copy();
        assert!(matches!(trouble, Trouble::Unreadable(_)), "{trouble}");
    }

    #[test]
    fn what_its_group_may_is_its_right_as_well_and_what_its_own_class_lacks_is_not() {
        for (uid, gid, mode, may) in [
            (0, GATEWAY, 0o640, true),
            (0, GATEWAY, 0o604, false),
            (GATEWAY, 0, 0o077, false),
            (0, 0, 0o604, true),
        ] {
            if !nix::unistd::geteuid().is_root() {
                return;
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            chown(file.path(), Some(uid), Some(gid)).unwrap();
            std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
            let seen = access::look(file.path()).unwrap().unwrap();
            let groups = access::groups_of(GATEWAY);
            assert_eq!(
                seen.gives(GATEWAY, &groups, READ),
                may,
                "{uid} {gid} {mode:o}"
            );
        }
    }
}
