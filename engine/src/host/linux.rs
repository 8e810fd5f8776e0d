//! The machine that this program runs on: the one place that changes the system. Owns what its parts share; decides nothing.
#![expect(
    clippy::disallowed_methods,
    reason = "the one place that changes the system"
)]

mod act;
mod ask;
mod hold;
mod look;
mod own;

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{OFlag, RenameFlags};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;

use super::programs::PATH;
use super::{Family, parent};
use crate::error::{Code, Problem, cannot};
use crate::files::open::{again, errno, open_at, open_dir};
use crate::gateway::profile::Profile;

const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// The machine that this program runs on.
pub struct Linux {
    profile: Profile,
}

impl Linux {
    /// The machine, with a gateway on it as the profile says.
    pub fn new(profile: &Profile) -> Linux {
        Linux {
            profile: profile.clone(),
        }
    }

    /// What gateway is on it.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }
}

fn rename(from: &Path, to: &Path, flags: RenameFlags, what: &str) -> Result<(), Problem> {
    let (from_dir, from_name) = split(from, what)?;
    let (to_dir, to_name) = split(to, what)?;
    nix::fcntl::renameat2(&from_dir, from_name, &to_dir, to_name, flags)
        .map_err(|e| errno(format!("{what} {} and", from.display()), to, e))
}

fn remove(path: &Path, flags: UnlinkatFlags) -> Result<(), Problem> {
    let (dir, name) = match open_dir(parent(path)?) {
        Ok(dir) => (dir, path.file_name().unwrap_or_default()),
        Err(nix::Error::ENOENT) => return Ok(()),
        Err(e) => return Err(errno("remove", path, e)),
    };
    match nix::unistd::unlinkat(&dir, name, flags) {
        Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
        Err(e) => Err(errno("remove", path, e)),
    }
}

fn sync_dir(dir: &Path) -> Result<(), Problem> {
    let fd = open_dir(dir).map_err(|e| errno("sync the folder", dir, e))?;
    again(|| nix::unistd::fsync(fd.as_fd())).map_err(|e| errno("sync the folder", dir, e))
}

fn split<'p>(path: &'p Path, what: &str) -> Result<(OwnedFd, &'p OsStr), Problem> {
    let dir = parent(path)?;
    let name = path.file_name().ok_or_else(|| {
        cannot(
            Code::BAD_PROFILE,
            format!("{what} {}: it has no name", path.display()),
            "name a file",
        )
    })?;
    Ok((open_dir(dir).map_err(|e| errno(what, path, e))?, name))
}

fn forwarding(family: Family) -> &'static str {
    match family {
        Family::V4 => "/proc/sys/net/ipv4/ip_forward",
        Family::V6 => "/proc/sys/net/ipv6/conf/all/forwarding",
    }
}

fn forwarding_of(family: Family, interface: &str) -> PathBuf {
    let folder = Path::new("/proc/sys").join(family.interfaces());
    folder.join(interface).join("forwarding")
}

fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|s| (*s).to_owned()).collect()
}

fn open_file(path: &Path) -> Result<File, Problem> {
    let fd = open_at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())
        .map_err(|e| errno("read", path, e))?;
    let file = File::from(fd);
    let meta = file.metadata().map_err(|e| errno("read", path, e))?;
    if meta.is_file() {
        Ok(file)
    } else {
        Err(cannot(
            Code::WRONG_KIND,
            format!("read {}: it is not a regular file", path.display()),
            "take it away, or name another place",
        ))
    }
}

fn is_gone(e: &std::io::Error) -> bool {
    e.kind() == std::io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH)
}

fn on_path(program: &str) -> bool {
    PATH.split(':')
        .any(|dir| Path::new(dir).join(program).exists())
}

fn make_private_dir(dir: &Path) -> Result<(), Problem> {
    let (at, name) = split(dir, "make the folder")?;
    match nix::sys::stat::mkdirat(&at, name, Mode::from_bits_truncate(0o700)) {
        Ok(()) => Ok(()),
        Err(nix::Error::EEXIST) => {
            // Someone else's folder of that name could be read or written by them.
            let meta = std::fs::symlink_metadata(dir).map_err(|e| errno("look at", dir, e))?;
            if meta.is_dir()
                && meta.uid() == nix::unistd::geteuid().as_raw()
                && meta.mode() & 0o077 == 0
            {
                Ok(())
            } else {
                Err(cannot(
                    Code::OPEN_TO_OTHERS,
                    format!(
                        "use the folder {}: it is there already and not root's alone",
                        dir.display()
                    ),
                    "look at what is in it, then take it away or make it root's with mode 0700",
                ))
            }
        }
        Err(e) => Err(errno("make the folder", dir, e)),
    }
}
