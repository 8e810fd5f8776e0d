//! Where a file in which the box keeps rules really lies. It is the box's own, in folders of root's: a link that nobody but root
//! could have put there, to what nobody but root may write, is followed, since it only says where the file is. Any other link is
//! named and left alone, with what it leads to. Looks only.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Problem, cannot, cause};
use crate::host::{FoundFile, Look};

/// Links on one path, before it is taken to lead nowhere.
const LINKS: u32 = 40;

/// What a path of the profile comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptPlace {
    /// The file is there, or would be.
    At(PathBuf),
    /// This link is not followed; it leads to these bytes.
    Link(PathBuf, Vec<u8>),
}

impl KeptPlace {
    /// Where a file of kept rules lies. A look that failed says neither that nothing is there nor whose it is.
    pub fn of(host: &dyn Look, path: &Path) -> Result<KeptPlace, Problem> {
        KeptPlace::looked(host, path).map_err(|e| {
            cannot(
                cause(&e),
                format!(
                    "see where the file of kept rules {} lies: {e}",
                    path.display()
                ),
                "see to that path, and to the disk it is on",
            )
        })
    }

    fn looked(host: &dyn Look, path: &Path) -> io::Result<KeptPlace> {
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
            let Some(target) = host.link_target(&next)? else {
                at = next;
                continue;
            };
            let bytes = target.as_os_str().as_bytes().to_vec();
            let link = first.get_or_insert((next, bytes));
            followed += 1;
            if followed > LINKS || !is_roots(host, &at)? {
                return Ok(KeptPlace::Link(link.0.clone(), link.1.clone()));
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for name in names(&target).into_iter().rev() {
                left.push_front(name);
            }
        }
        let Some((link, target)) = first else {
            return Ok(KeptPlace::At(path.to_owned()));
        };
        // A link of its own that leads to nothing says nothing of where the file would be.
        let to_nothing = host.link_target(path)?.is_some() && look(host, &at)?.is_none();
        let roots = match at.parent() {
            Some(folder) => is_roots(host, folder)? && is_roots_file(host, &at)?,
            None => false,
        };
        Ok(match roots && !to_nothing {
            true => KeptPlace::At(at),
            false => KeptPlace::Link(link, target),
        })
    }

    /// The path, if it is to be looked at.
    pub fn path(&self) -> Option<&Path> {
        match self {
            KeptPlace::At(path) => Some(path),
            KeptPlace::Link(..) => None,
        }
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

/// Nobody but root may put anything into this folder, or another one in its place.
fn is_roots(host: &dyn Look, folder: &Path) -> io::Result<bool> {
    for (above, folder) in folder.ancestors().enumerate() {
        let roots = look(host, folder)?.is_some_and(|seen| match above {
            0 => !seen.others_write(&[0], &[0]),
            _ => !seen.others_replace(&[0], &[0]),
        });
        if !roots {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Nobody but root may write it; or it is not there.
fn is_roots_file(host: &dyn Look, path: &Path) -> io::Result<bool> {
    Ok(look(host, path)?.is_none_or(|seen| !seen.others_write(&[0], &[0])))
}

fn look(host: &dyn Look, path: &Path) -> io::Result<Option<FoundFile>> {
    host.access(path).or_else(|e| match e.kind() {
        // Then nothing is there.
        io::ErrorKind::NotADirectory => Ok(None),
        _ => Err(e),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;
    use crate::gateway::profile::Profile;
    use crate::host::linux::Linux;

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
        let at = |path: &Path| KeptPlace::At(path.to_owned());
        let link = |from: &Path, to: &str| KeptPlace::Link(from.to_owned(), to.as_bytes().to_vec());
        let host = Linux::new(&Profile::default());
        let of = |path: &Path| KeptPlace::of(&host, path).unwrap();
        let plain = real.join("rules.v4");
        assert_eq!(of(&plain), at(&plain));
        assert_eq!(of(&dir.join("no/rules.v4")), at(&dir.join("no/rules.v4")));

        let folder = dir.join("folder");
        symlink("real", &folder).unwrap();
        assert_eq!(of(&folder.join("rules.v4")), at(&plain));
        // One that is not there yet would be there.
        let new = real.join("rules.v6");
        assert_eq!(of(&folder.join("rules.v6")), at(&new));
        symlink(&plain, dir.join("rules.v4")).unwrap();
        assert_eq!(of(&dir.join("rules.v4")), at(&plain));
        symlink("../real/rules.v4", real.join("again.v4")).unwrap();
        assert_eq!(of(&folder.join("again.v4")), at(&plain));

        for (name, to) in [
            ("a.v4", "open/rules.v4"),
            ("b.v4", "real/nothing"),
            ("c.v4", "c.v4"),
        ] {
            symlink(to, dir.join(name)).unwrap();
            assert_eq!(of(&dir.join(name)), link(&dir.join(name), to));
        }
        // Not even the name can be looked at: that says nothing of what is there.
        let long = dir.join("long.v4");
        symlink(format!("real/{}", "x".repeat(300)), &long).unwrap();
        let said = KeptPlace::of(&host, &long).unwrap_err().to_string();
        assert!(said.contains(long.to_str().unwrap()), "{said}");
        // Anybody can make a link in a folder that is open to all.
        let planted = open.join("planted.v4");
        let to = plain.to_str().unwrap();
        symlink(to, &planted).unwrap();
        assert_eq!(of(&planted), link(&planted, to));
        // And what somebody else may write is not what root keeps.
        chown(&plain, Some(61_000), None).unwrap();
        let there = of(&folder.join("rules.v4"));
        assert_eq!(there, link(&folder, "real"));
        assert_eq!(of(&plain), at(&plain));
    }
}
