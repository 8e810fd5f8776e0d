//! Whose rights SQLite gets on a file of the gateway's: root's only where nobody else could have put anything there.
//!
//! A hot journal beside a database may name any file, and the SQLite that rolls it back deletes that file with the rights
//! of whoever runs it; so does one that reads a copy with its copied journal (seen with SQLite 3.40 and 3.53). So the work
//! is done as the profile's owner, who could delete no more by himself; no third account's rights are taken. Looks only;
//! must not open what it looks at.

use std::path::Path;

use nix::libc;

use super::side_files;
use crate::error::{Code, Problem, cannot, cause};
use crate::files::Kind;
use crate::files::access::{self, FoundFile};
use crate::text::wording::quoted_path;

/// With whose rights a database is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Root's: file, folder and side files are root's, and nobody else may write them.
    Root,
    /// This user's.
    Of(u32),
}

/// The account for a database, by its file, its folder and the files beside it; `owner` is the profile's, if there is such a
/// one on this box.
pub(crate) fn of(path: &Path, owner: Result<(u32, u32), Problem>) -> Result<Rights, Problem> {
    let file = looked_at(path)?.ok_or_else(|| {
        let advice = "name the gateway's database in the profile";
        unread(Code::NOT_THERE, path, "it is not there", advice)
    })?;
    if file.kind != Kind::File {
        let advice = "name the file itself in the profile";
        return Err(unread(
            Code::WRONG_KIND,
            path,
            "it is not a regular file",
            advice,
        ));
    }
    if file.names != 1 {
        return Err(unread(
            Code::DATABASE_OUT_OF_REACH,
            path,
            "it has a second name (a hard link), and whoever made that could write to it there",
            format!(
                "find all its names: find / -samefile {}; then remove those that are not the gateway's",
                quoted_path(path)
            ),
        ));
    }
    // The group root is root's.
    let others_write = |seen: &FoundFile| seen.others_write(&[0], &[0]);
    let mut closed = !others_write(&file);
    for (above, folder) in path.ancestors().skip(1).enumerate() {
        if let Some(folder) = looked_at(folder)? {
            closed &= match above {
                // Everybody can make a file in a sticky folder.
                0 => !others_write(&folder),
                _ => !folder.others_replace(&[0], &[0]),
            };
        }
    }
    for side in side_files(path) {
        let Some(seen) = looked_at(&side)? else {
            continue;
        };
        closed &= !others_write(&seen);
        let profiles = owner.as_ref().is_ok_and(|o| o.0 == seen.uid);
        let known = profiles || seen.uid == 0;
        if seen.kind != Kind::File || seen.names != 1 || !known {
            return Err(planted(path, &seen));
        }
    }
    if closed {
        return Ok(Rights::Root);
    }
    let owner = owner?;
    match file.uid {
        // No other account: somebody could lend himself its rights by a link to a file of its own.
        uid if uid != 0 && uid != owner.0 => Err(unread(
            Code::DATABASE_OUT_OF_REACH,
            path,
            &format!("it belongs to user {uid}, who is neither root nor the profile's owner"),
            "see who put it there; if the gateway's service is that user, name it as `owner` under [gateway] in the profile",
        )),
        _ if owner.0 == 0 => Err(unread(
            Code::OPEN_TO_OTHERS,
            path,
            "it is root's, others may write to it or beside it, and the profile's owner is root as well",
            "run `holdfast secure`, or name the account of the gateway's service as `owner` under [gateway] in the profile",
        )),
        _ => Ok(Rights::Of(owner.0)),
    }
}

fn planted(path: &Path, side: &FoundFile) -> Problem {
    let why = if side.kind != Kind::File {
        "is no regular file".to_owned()
    } else if side.names != 1 {
        "has a second name elsewhere (a hard link)".to_owned()
    } else {
        format!(
            "belongs to user {}, who is neither root nor the profile's owner",
            side.uid
        )
    };
    let shown = side.path.display();
    unread(
        Code::DATABASE_OUT_OF_REACH,
        path,
        &format!("{shown} beside it {why}; somebody else put it there"),
        format!(
            "look at it with `ls -l`, then: rm {}",
            quoted_path(&side.path)
        ),
    )
}

fn unread(code: Code, path: &Path, why: &str, advice: impl Into<String>) -> Problem {
    let what = format!("read the database {}: {why}", path.display());
    cannot(code, what, advice)
}

fn looked_at(path: &Path) -> Result<Option<FoundFile>, Problem> {
    access::look(path).map_err(|e| {
        let advice = match e.raw_os_error() {
            Some(libc::ELOOP) => "a part of that path is a link: name the real path in the profile",
            _ => "run it as root",
        };
        cannot(
            cause(&e),
            format!("look at {}: {e}", path.display()),
            advice,
        )
    })
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
        assert!(problem.advice.contains(&format!("rm {}", side.display())));
        chown(&side, Some(0), None).unwrap();
        std::fs::hard_link(&side, path.with_file_name("other")).unwrap();
        assert!(
            of(&path, Ok(GATEWAY))
                .unwrap_err()
                .what
                .contains("hard link")
        );
        std::fs::remove_file(&side).unwrap();
        std::fs::create_dir(&side).unwrap();
        assert!(
            of(&path, Ok(GATEWAY))
                .unwrap_err()
                .what
                .contains("no regular file")
        );
    }

    #[test]
    fn nobody_lends_himself_the_rights_of_a_third_account() {
        let Some((_dir, path)) = database((0, 0o777), (4_711, 0o666)) else {
            return;
        };
        let problem = of(&path, Ok(GATEWAY)).unwrap_err();
        assert!(problem.what.contains("belongs to user 4711"), "{problem}");
    }

    #[test]
    fn a_database_that_is_a_link_is_refused_and_so_is_one_with_no_account_left() {
        let Some((_dir, path)) = database((0, 0o777), (0, 0o666)) else {
            return;
        };
        let problem = of(&path, Ok((0, 0))).unwrap_err();
        assert!(problem.is(&Code::OPEN_TO_OTHERS), "{problem}");
        for plant in [
            |from: &Path, to: &Path| symlink(from, to).unwrap(),
            |from: &Path, to: &Path| std::fs::hard_link(from, to).unwrap(),
        ] {
            let other = path.with_file_name("other.db");
            plant(&path, &other);
            assert!(of(&other, Ok(GATEWAY)).is_err());
            std::fs::remove_file(&other).unwrap();
        }
    }
}
