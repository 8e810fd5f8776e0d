//! Who may write a file or a folder: by its owner, its group, its mode, and whether it has an access control list. Looks
//! only; follows no link. What is to be done about it is `exposure`'s and `database`'s.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::files::Kind;
use crate::files::open::{if_there, open_without_links};

/// What lies under a name, of the very object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// The name.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Device and inode.
    pub object: (u64, u64),
    /// How many names it has.
    pub names: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Its permission bits, set-id and sticky bits among them.
    pub mode: u32,
    /// It has an access control list beyond its mode: then the mode's group bits are only the most that the list gives.
    pub has_list: bool,
}

/// What lies under a name; none if nothing does. A link anywhere on the way is an error.
pub fn look(path: &Path) -> io::Result<Option<FoundFile>> {
    let Some(file) = if_there(open_without_links(path, nix::fcntl::OFlag::O_PATH))? else {
        return Ok(None);
    };
    found(path, &file)
}

/// What was opened by this name; none if its last name went meanwhile, as that of a journal which its writer removes.
fn found(path: &Path, file: &File) -> io::Result<Option<FoundFile>> {
    let size = rustix::fs::lgetxattr_query(path, "system.posix_acl_access");
    let meta = file.metadata()?;
    if meta.nlink() == 0 {
        return Ok(None);
    }
    Ok(Some(FoundFile {
        path: path.to_owned(),
        kind: Kind::of(&meta),
        object: (meta.dev(), meta.ino()),
        names: meta.nlink(),
        uid: meta.uid(),
        gid: meta.gid(),
        mode: meta.mode() & 0o7777,
        has_list: size.is_ok_and(|bytes| bytes > 0),
    }))
}

/// The groups of a user; of one without an account, a group of its own.
pub fn groups_of(uid: u32) -> Vec<u32> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    let Some(user) = user.ok().flatten() else {
        return vec![uid];
    };
    let own = user.gid;
    let listed = std::ffi::CString::new(user.name)
        .ok()
        .and_then(|name| nix::unistd::getgrouplist(&name, own).ok());
    let groups = listed.unwrap_or_else(|| vec![own]);
    groups.into_iter().map(nix::unistd::Gid::as_raw).collect()
}

/// The first folder on the way to a path that this user cannot go through.
pub fn closed_on_the_way(path: &Path, uid: u32) -> io::Result<Option<FoundFile>> {
    let groups = groups_of(uid);
    let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
    folders.reverse();
    for folder in folders {
        if let Some(seen) = look(folder)?
            && !seen.gives(uid, &groups, 0o1)
        {
            return Ok(Some(seen));
        }
    }
    Ok(None)
}

impl FoundFile {
    /// Whether this user with these groups has these rights (4: read, 2: write, 1: go through). What an access control list
    /// takes away from the mode is not looked for.
    pub fn gives(&self, uid: u32, groups: &[u32], rights: u32) -> bool {
        let class = match () {
            () if uid == 0 => return true,
            () if self.uid == uid => self.mode >> 6,
            () if groups.contains(&self.gid) => self.mode >> 3,
            () => self.mode,
        };
        self.has_list || class & rights == rights
    }

    /// Somebody besides these users and groups may write it, or own it and so let himself.
    pub fn others_write(&self, uids: &[u32], gids: &[u32]) -> bool {
        self.has_list
            || self.mode & 0o002 != 0
            || self.mode & 0o020 != 0 && !gids.contains(&self.gid)
            || !uids.contains(&self.uid)
    }

    /// As a folder on the way to something: somebody besides these may put another thing in the place of what is below it.
    /// In a sticky folder (`/tmp`) only the owners of a thing may.
    pub fn others_replace(&self, uids: &[u32], gids: &[u32]) -> bool {
        let sticky = self.mode & 0o1000 != 0 && uids.contains(&self.uid);
        self.others_write(uids, gids) && !sticky
    }

    /// The name with its mode, for a sentence.
    pub fn shown(&self) -> String {
        let list = if self.has_list {
            ", and an access control list"
        } else {
            ""
        };
        format!("{} (mode {:04o}{list})", self.path.display(), self.mode)
    }
}

/// A folder into which nobody but root can have put anything.
pub fn is_own(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| {
        m.is_dir() && m.uid() == nix::unistd::geteuid().as_raw() && m.mode() & 0o022 == 0
    })
}

/// A folder must be there and root's alone before anything is trusted in it. Others may walk through it to what is lent
/// to them below, if anything is; they may not list it.
pub fn is_private(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| {
        m.is_dir() && m.uid() == nix::unistd::geteuid().as_raw() && m.mode() & 0o066 == 0
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_goes_while_it_is_looked_at_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("configs.db-journal");
        std::fs::write(&path, "x").unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(found(&path, &file).unwrap().unwrap().names, 1);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found(&path, &file).unwrap(), None);
        assert_eq!(look(&path).unwrap(), None);
    }
}
