//! Where a file in which the box keeps rules really lies. It is the box's own, in folders of root's: a link that nobody but root
//! could have put there, to what nobody but root may write, is followed, since it only says where the file is. Any other link is
//! named and left alone, with what it leads to. Looks only.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::access;

/// Links on one path, before it is taken to lead nowhere.
const LINKS: u32 = 40;

/// What a path of the profile comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The file is there, or would be.
    At(PathBuf),
    /// This link is not followed; it leads to these bytes.
    Link(PathBuf, Vec<u8>),
}

impl Place {
    /// Where a file of kept rules lies. What cannot be looked at is met by whoever opens it.
    pub fn of(path: &Path) -> Place {
        let mut at = PathBuf::from("/");
        let mut left: VecDeque<OsString> = names(path);
        let mut first: Option<(PathBuf, Vec<u8>)> = None;
        let mut followed = 0;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let target = match next.symlink_metadata() {
                Ok(meta) if meta.is_symlink() => std::fs::read_link(&next).ok(),
                Ok(_) => None,
                // What is not there is no link.
                Err(_) => None,
            };
            let Some(target) = target else {
                at = next;
                continue;
            };
            let bytes = target.as_os_str().as_bytes().to_vec();
            let link = first.get_or_insert((next, bytes));
            followed += 1;
            if followed > LINKS || !is_roots(&at) {
                return Place::Link(link.0.clone(), link.1.clone());
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for name in names(&target).into_iter().rev() {
                left.push_front(name);
            }
        }
        match first {
            None => Place::At(path.to_owned()),
            // A link of its own that leads to nothing says nothing of where the file would be.
            Some(_) if is_link(path) && at.symlink_metadata().is_err() => not_followed(first, path),
            Some(_) if !at.parent().is_some_and(is_roots) || !is_roots_file(&at) => {
                not_followed(first, path)
            }
            Some(_) => Place::At(at),
        }
    }

    /// The path, if it is to be looked at.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Place::At(path) => Some(path),
            Place::Link(..) => None,
        }
    }
}

fn not_followed(first: Option<(PathBuf, Vec<u8>)>, path: &Path) -> Place {
    match first {
        Some((link, target)) => Place::Link(link, target),
        None => Place::At(path.to_owned()),
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| m.is_symlink())
}

/// Nobody but root may put anything into this folder, or another one in its place.
fn is_roots(folder: &Path) -> bool {
    folder.ancestors().enumerate().all(|(above, folder)| {
        access::look(folder).is_ok_and(|seen| {
            seen.is_some_and(|seen| match above {
                0 => !seen.others_write(&[0], &[0]),
                _ => !seen.others_replace(&[0], &[0]),
            })
        })
    })
}

/// Nobody but root may write it; or it is not there.
fn is_roots_file(path: &Path) -> bool {
    access::look(path).is_ok_and(|seen| seen.is_none_or(|seen| !seen.others_write(&[0], &[0])))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn a_link_is_followed_where_all_is_roots_and_named_where_not() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        // In a folder of root's: nothing below the one for all is.
        let dir = tempfile::tempdir_in("/var/lib").unwrap();
        let dir = dir.path();
        let (real, open) = (dir.join("real"), dir.join("open"));
        for (folder, mode) in [(&real, 0o755), (&open, 0o777)] {
            std::fs::create_dir(folder).unwrap();
            std::fs::set_permissions(folder, PermissionsExt::from_mode(mode)).unwrap();
            std::fs::write(folder.join("rules.v4"), "x").unwrap();
        }
        let at = |path: &Path| Place::At(path.to_owned());
        let link = |from: &Path, to: &str| Place::Link(from.to_owned(), to.as_bytes().to_vec());
        let plain = real.join("rules.v4");
        assert_eq!(Place::of(&plain), at(&plain));
        assert_eq!(
            Place::of(&dir.join("no/rules.v4")),
            at(&dir.join("no/rules.v4"))
        );

        let folder = dir.join("folder");
        symlink("real", &folder).unwrap();
        assert_eq!(Place::of(&folder.join("rules.v4")), at(&plain));
        // One that is not there yet would be there.
        let new = real.join("rules.v6");
        assert_eq!(Place::of(&folder.join("rules.v6")), at(&new));
        symlink(&plain, dir.join("rules.v4")).unwrap();
        assert_eq!(Place::of(&dir.join("rules.v4")), at(&plain));
        symlink("../real/rules.v4", real.join("again.v4")).unwrap();
        assert_eq!(Place::of(&folder.join("again.v4")), at(&plain));

        for (name, to) in [
            ("a.v4", "open/rules.v4"),
            ("b.v4", "real/nothing"),
            ("c.v4", "c.v4"),
        ] {
            symlink(to, dir.join(name)).unwrap();
            assert_eq!(Place::of(&dir.join(name)), link(&dir.join(name), to));
        }
        // Anybody can make a link in a folder that is open to all.
        let planted = open.join("planted.v4");
        let to = plain.to_str().unwrap();
        symlink(to, &planted).unwrap();
        assert_eq!(Place::of(&planted), link(&planted, to));
        // And what somebody else may write is not what root keeps.
        chown(&plain, Some(61_000), None).unwrap();
        let there = Place::of(&folder.join("rules.v4"));
        assert_eq!(there, link(&folder, "real"));
        assert_eq!(Place::of(&plain), at(&plain));
    }
}
