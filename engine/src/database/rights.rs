//! Whose rights SQLite gets on a file of the gateway's: root's only where nobody else could have put anything there.
//!
//! A hot journal beside a database may name any file, and the SQLite that rolls it back deletes that file with the rights
//! of whoever runs it; so does one that reads a copy with its copied journal (seen with SQLite 3.40 and 3.53). So the work
//! is done as the database's owner, who could delete no more by himself. Looks only; must not open what it looks at.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::side_files;
use crate::fault::{Problem, cannot};

/// Write permission of the group and of everybody.
const GROUP_WRITES: u32 = 0o020;
const ALL_WRITE: u32 = 0o002;

/// With whose rights a database is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    /// Root's: file, folder and side files are root's, and nobody else may write them.
    Root,
    /// This user's.
    Of(u32),
}

/// The account for a database, by its file, its folder and the files beside it; `owner` is the profile's, if there is such a
/// one on this box.
pub(super) fn of(path: &Path, owner: Result<(u32, u32), Problem>) -> Result<Rights, Problem> {
    let file = looked_at(path)?.ok_or_else(|| {
        cannot(
            format!("read the database {}: it is not there", path.display()),
            "name the gateway's database in the profile",
        )
    })?;
    if !file.is_file() {
        return Err(cannot(
            format!(
                "read the database {}: it is not a regular file",
                path.display()
            ),
            "name the file itself in the profile",
        ));
    }
    let mut closed = belongs_to_root_alone(&file);
    // Whoever may rename a folder on the way can put another one in its place.
    for folder in path.ancestors().skip(1) {
        if let Some(folder) = looked_at(folder)? {
            let sticky = folder.mode() & 0o1000 != 0;
            closed &= belongs_to_root_alone(&folder) || sticky && folder.uid() == 0;
        }
    }
    // A file can be made in a sticky folder by everybody.
    if let Some(folder) = path.parent().map(looked_at).transpose()?.flatten() {
        closed &= belongs_to_root_alone(&folder);
    }
    for side in side_files(path) {
        let Some(meta) = looked_at(&side)? else {
            continue;
        };
        closed &= belongs_to_root_alone(&meta);
        let profiles = owner.as_ref().is_ok_and(|o| o.0 == meta.uid());
        let known = profiles || [0, file.uid()].contains(&meta.uid());
        if !meta.is_file() || meta.nlink() != 1 || !known {
            return Err(planted(path, &side, &meta));
        }
    }
    if closed {
        return Ok(Rights::Root);
    }
    match file.uid() {
        0 if owner.as_ref().is_ok_and(|o| o.0 == 0) => Err(cannot(
            format!(
                "read the database {}: it is root's, others may write to it or beside it, and the profile's owner is root as \
                 well",
                path.display()
            ),
            "run `holdfast secure`, or name the account of the gateway's service as `owner` under [gateway] in the profile",
        )),
        0 => owner.map(|o| Rights::Of(o.0)),
        uid => Ok(Rights::Of(uid)),
    }
}

fn planted(path: &Path, side: &Path, meta: &Metadata) -> Problem {
    let why = if !meta.is_file() {
        "is no regular file".to_owned()
    } else if meta.nlink() != 1 {
        "has a second name elsewhere (a hard link)".to_owned()
    } else {
        format!(
            "belongs to user {}, neither the database's owner nor the profile's",
            meta.uid()
        )
    };
    cannot(
        format!(
            "read the database {}: {} beside it {why}; somebody else put it there",
            path.display(),
            side.display()
        ),
        format!("look at it, then: rm {}", quoted(side)),
    )
}

/// As one word of a shell's.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// What lies under a name; links are not followed.
fn looked_at(path: &Path) -> Result<Option<Metadata>, Problem> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(cannot(
            format!("look at {}: {e}", path.display()),
            "run it as root",
        )),
    }
}

/// Root's, and nobody else may write it. The group root is root's.
fn belongs_to_root_alone(meta: &Metadata) -> bool {
    meta.uid() == 0
        && meta.mode() & ALL_WRITE == 0
        && (meta.mode() & GROUP_WRITES == 0 || meta.gid() == 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    const GATEWAY: (u32, u32) = (61_000, 61_000);

    /// A database in a folder, each with owner and mode; none where this is not root's to make.
    fn database(
        folder: (u32, u32),
        file: (u32, u32),
    ) -> Option<(tempfile::TempDir, std::path::PathBuf)> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("place");
        std::fs::create_dir(&place).unwrap();
        let path = place.join("x.db");
        std::fs::write(&path, "x").unwrap();
        for (path, (uid, mode)) in [(&path, file), (&place, folder)] {
            chown(path, Some(uid), Some(uid)).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }
        Some((dir, path))
    }

    #[test]
    fn root_opens_only_what_is_roots_and_closed_and_else_the_owner_does() {
        for (folder, file, expected) in [
            ((0, 0o755), (0, 0o644), Rights::Root),
            ((0, 0o775), (0, 0o664), Rights::Root),
            ((0, 0o777), (0, 0o644), Rights::Of(GATEWAY.0)),
            ((0, 0o1777), (0, 0o644), Rights::Of(GATEWAY.0)),
            ((0, 0o755), (0, 0o666), Rights::Of(GATEWAY.0)),
            ((61_000, 0o755), (0, 0o644), Rights::Of(GATEWAY.0)),
            ((0, 0o755), (61_000, 0o644), Rights::Of(GATEWAY.0)),
            ((0, 0o777), (4_711, 0o644), Rights::Of(4_711)),
        ] {
            let Some((_dir, path)) = database(folder, file) else {
                return;
            };
            assert_eq!(
                of(&path, Ok(GATEWAY)).unwrap(),
                expected,
                "{folder:?} {file:?}"
            );
        }
    }

    #[test]
    fn a_side_file_of_somebody_else_or_that_is_no_plain_file_is_named_with_the_command_that_removes_it()
     {
        let Some((_dir, path)) = database((0, 0o777), (61_000, 0o666)) else {
            return;
        };
        let side = side_files(&path)[2].clone();
        std::fs::write(&side, "x").unwrap();
        for uid in [0, 61_000] {
            chown(&side, Some(uid), None).unwrap();
            assert_eq!(of(&path, Ok(GATEWAY)).unwrap(), Rights::Of(61_000));
        }
        chown(&side, Some(4_711), None).unwrap();
        let problem = of(&path, Ok(GATEWAY)).unwrap_err();
        assert!(problem.what.contains("belongs to user 4711"), "{problem}");
        assert!(problem.advice.contains(&format!("rm '{}'", side.display())));
        chown(&side, Some(0), None).unwrap();
        std::fs::hard_link(&side, path.with_file_name("other")).unwrap();
        assert!(
            of(&path, Ok(GATEWAY))
                .unwrap_err()
                .what
                .contains("hard link")
        );
        std::fs::remove_file(&side).unwrap();
        symlink("/etc/passwd", &side).unwrap();
        assert!(
            of(&path, Ok(GATEWAY))
                .unwrap_err()
                .what
                .contains("no regular file")
        );
    }

    #[test]
    fn a_database_that_is_a_link_is_refused_and_so_is_one_with_no_account_left() {
        let Some((_dir, path)) = database((0, 0o777), (0, 0o666)) else {
            return;
        };
        let problem = of(&path, Ok((0, 0))).unwrap_err();
        assert!(problem.advice.contains("holdfast secure"), "{problem}");
        let link = path.with_file_name("link.db");
        symlink(&path, &link).unwrap();
        assert!(of(&link, Ok(GATEWAY)).is_err());
    }
}
