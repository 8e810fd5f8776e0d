//! Who may write a file or a folder: by its owner, its group, its mode, and whether it has an access control list. Looks
//! only; follows no link. What is to be done about it is `exposure`'s and `database`'s.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::host::linux::open_without_links;

/// What lies under a name.
#[derive(Debug)]
pub struct Seen {
    /// The name.
    pub path: PathBuf,
    /// Its facts, of the very object.
    pub meta: Metadata,
    /// It has an access control list beyond its mode: then the mode's group bits are only the most that the list gives.
    pub has_list: bool,
}

/// What lies under a name; none if nothing does. A link anywhere on the way is an error.
pub fn look(path: &Path) -> io::Result<Option<Seen>> {
    let file: File = match open_without_links(path, nix::fcntl::OFlag::O_PATH) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let size = rustix::fs::lgetxattr_query(path, "system.posix_acl_access");
    Ok(Some(Seen {
        path: path.to_owned(),
        meta: file.metadata()?,
        has_list: size.is_ok_and(|bytes| bytes > 0),
    }))
}

impl Seen {
    /// Its permission bits, set-id and sticky bits among them.
    pub fn mode(&self) -> u32 {
        self.meta.mode() & 0o7777
    }

    /// Somebody besides these users and groups may write it, or own it and so let himself.
    pub fn others_write(&self, uids: &[u32], gids: &[u32]) -> bool {
        self.has_list
            || self.mode() & 0o002 != 0
            || self.mode() & 0o020 != 0 && !gids.contains(&self.meta.gid())
            || !uids.contains(&self.meta.uid())
    }

    /// As a folder on the way to something: somebody besides these may put another thing in the place of what is below it.
    /// In a sticky folder (`/tmp`) only the owners of a thing may.
    pub fn others_replace(&self, uids: &[u32], gids: &[u32]) -> bool {
        let sticky = self.mode() & 0o1000 != 0 && uids.contains(&self.meta.uid());
        self.others_write(uids, gids) && !sticky
    }

    /// The name with its mode, for a sentence.
    pub fn shown(&self) -> String {
        let list = if self.has_list {
            ", and an access control list"
        } else {
            ""
        };
        format!("{} (mode {:04o}{list})", self.path.display(), self.mode())
    }
}
