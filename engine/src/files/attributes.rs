//! What a file has beside bytes, owner and mode: extended attributes, an access control list among them, and what keeps root
//! itself from changing it. Follows no link, and decides nothing.

use std::ffi::CStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, StatVfs, StatVfsMountFlags, StatxAttributes, StatxFlags, XattrFlags,
};

use super::open::if_there;

/// The most that the kernel gives of names, and of one value.
const MOST: usize = 64 << 10;
/// An access control list.
const LIST: &CStr = c"system.posix_acl_access";

/// What keeps root itself from changing what is under a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fixed {
    /// It can be neither written nor renamed nor removed, and in a folder nothing can be made (`chattr +i`).
    pub immutable: bool,
    /// It can only grow, and in a folder things can only be made (`chattr +a`).
    pub append_only: bool,
    /// It is a folder, and its mount is read-only.
    pub read_only: bool,
}

/// What keeps root from changing what is under a name; none if nothing is. A link is looked at itself.
pub fn fixed(path: &Path) -> io::Result<Option<Fixed>> {
    let link_itself = AtFlags::SYMLINK_NOFOLLOW;
    let seen = rustix::fs::statx(rustix::fs::CWD, path, link_itself, StatxFlags::TYPE);
    let Some(seen) = if_there(seen.map_err(io::Error::from))? else {
        return Ok(None);
    };
    let is_dir = FileType::from_raw_mode(seen.stx_mode.into()) == FileType::Directory;
    let is_read_only = |mount: StatVfs| mount.f_flag.contains(StatVfsMountFlags::RDONLY);
    Ok(Some(Fixed {
        immutable: seen.stx_attributes.contains(StatxAttributes::IMMUTABLE),
        append_only: seen.stx_attributes.contains(StatxAttributes::APPEND),
        read_only: is_dir && is_read_only(rustix::fs::statvfs(path)?),
    }))
}

/// Whether a file may have attributes: one question, of thousands of files that mostly have none.
pub fn may_have(path: &Path) -> bool {
    rustix::fs::llistxattr_query(path) != Ok(0)
}

/// Whether an attribute goes with the file's bytes, or is its filesystem's own business: on other bytes it would be wrong.
fn stays_behind(name: &CStr) -> bool {
    let name = name.to_bytes();
    let of_the_bytes: [&[u8]; 2] = [b"security.ima", b"security.evm"];
    name.starts_with(b"trusted.") || of_the_bytes.contains(&name)
}

/// Gives the second file the attributes of the first, within the mode that the second has. The names of those that it has not
/// as the first has them: they were refused, or its mode gives less than the list of the first did.
pub fn copy(from: &File, to: &File) -> io::Result<Vec<String>> {
    // So that the first may be one that is open as a path alone.
    let at = format!("/proc/self/fd/{}", from.as_raw_fd());
    let mut names = vec![0; MOST];
    let size = match rustix::fs::listxattr(&at, &mut names) {
        Ok(size) => size,
        // A filesystem that has none.
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(e.into()),
    };
    if size == 0 {
        return Ok(Vec::new());
    }
    let mode = to.metadata()?.mode() & 0o7777;
    let less = from.metadata()?.mode() & !mode & 0o070 != 0;
    let mut unkept = Vec::new();
    let mut value = vec![0; MOST];
    for name in names[..size].split_inclusive(|b| *b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        if stays_behind(name) {
            continue;
        }
        let set = rustix::fs::getxattr(&at, name, &mut value)
            .and_then(|size| rustix::fs::fsetxattr(to, name, &value[..size], XattrFlags::empty()));
        match set {
            Ok(()) if name == LIST && less => unkept.push(name.to_string_lossy().into_owned()),
            // Removed meanwhile.
            Ok(()) | Err(rustix::io::Errno::NODATA) => {}
            Err(_) => unkept.push(name.to_string_lossy().into_owned()),
        }
    }
    // A list takes the mode's group bits with it, and those are the plan's to say.
    to.set_permissions(Permissions::from_mode(mode))?;
    Ok(unkept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use nix::fcntl::OFlag;

    use super::*;
    use crate::files::open::open_without_links;

    /// user::rw- user:990:r-- group::--- mask::r-- other::---
    fn list() -> Vec<u8> {
        let mut list = 2_u32.to_le_bytes().to_vec();
        let none = u32::MAX;
        let entries = [
            (1_u16, 6_u16, none),
            (2, 4, 990),
            (4, 0, none),
            (16, 4, none),
            (32, 0, none),
        ];
        for (tag, rights, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(rights.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        list
    }

    fn made(path: &Path, mode: u32) -> File {
        std::fs::write(path, "x").unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        File::open(path).unwrap()
    }

    fn of(file: &File, name: &CStr) -> Option<Vec<u8>> {
        let mut value = vec![0; MOST];
        let size = rustix::fs::fgetxattr(file, name, &mut value).ok()?;
        Some(value[..size].to_vec())
    }

    #[test]
    fn a_list_and_attributes_are_taken_over_and_the_mode_stays() {
        let dir = tempfile::tempdir().unwrap();
        let old = made(&dir.path().join("old"), 0o600);
        rustix::fs::fsetxattr(&old, LIST, &list(), XattrFlags::empty()).unwrap();
        rustix::fs::fsetxattr(&old, c"user.note", b"mine", XattrFlags::empty()).unwrap();
        assert_eq!(old.metadata().unwrap().mode() & 0o777, 0o640);
        let same = made(&dir.path().join("same"), 0o640);
        let path = open_without_links(&dir.path().join("old"), OFlag::O_PATH).unwrap();
        assert_eq!(copy(&path, &same).unwrap(), Vec::<String>::new());
        assert_eq!(of(&same, LIST), Some(list()));
        assert_eq!(of(&same, c"user.note"), Some(b"mine".to_vec()));
        assert!(may_have(&dir.path().join("old")));
        let closer = made(&dir.path().join("closer"), 0o600);
        assert_eq!(copy(&old, &closer).unwrap(), ["system.posix_acl_access"]);
        assert_eq!(closer.metadata().unwrap().mode() & 0o777, 0o600);
        let plain = made(&dir.path().join("plain"), 0o644);
        assert_eq!(copy(&plain, &old).unwrap(), Vec::<String>::new());
        assert_eq!(of(&old, LIST), Some(list()), "none is taken away");
    }

    #[test]
    fn what_nothing_fixes_is_free_and_what_is_not_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(fixed(dir.path()).unwrap(), Some(Fixed::default()));
        assert_eq!(fixed(&dir.path().join("gone")).unwrap(), None);
    }
}
