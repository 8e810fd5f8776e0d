//! Opening without following a link anywhere on the way, making what was not there, and what to say where a call fails.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag};
use nix::libc;
use nix::sys::stat::Mode;

use crate::error::{Problem, cannot, cause};
use crate::text::wording::quoted_path;

/// What to say of a call that failed, with what helps.
pub fn errno(what: impl std::fmt::Display, path: &Path, error: impl Into<io::Error>) -> Problem {
    let error = error.into();
    let shown = quoted_path(path);
    let as_root = format!(
        "run it as root; as root, `lsattr -d {shown}` shows whether it is immutable (`chattr -i {shown}` ends that), and `findmnt -T \
         {shown}` whether its mount is read-only"
    );
    let advice = match error.raw_os_error() {
        Some(libc::ENOSPC) => "make room on that filesystem, then try again",
        Some(libc::EACCES | libc::EPERM) => as_root.as_str(),
        Some(libc::EROFS) => "that filesystem is mounted read-only: mount it for writing",
        Some(libc::ELOOP) => {
            "a part of that path is a symbolic link: name the real path in the profile"
        }
        Some(libc::EIO) => {
            "the disk reports an error: look at the kernel's log before anything else"
        }
        _ => "check the file and its folder: `ls -l` of the path, `df -h`, `dmesg`",
    };
    cannot(
        cause(&error),
        format!("{what} {}: {error}", path.display()),
        advice,
    )
}

/// Opens a folder without following any link on the way.
pub fn open_dir(dir: &Path) -> nix::Result<OwnedFd> {
    open_at(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
}

/// Opens a path without following any link on the way.
pub fn open_at(path: &Path, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .mode(mode)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    again(|| nix::fcntl::openat2(nix::fcntl::AT_FDCWD, path, how))
}

/// A call that a signal interrupts is made again.
pub fn again<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(nix::errno::Errno::EINTR) => {}
            done => return done,
        }
    }
}

/// What a call found; none if there is nothing of that name.
pub fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Makes a file, root's alone, where nothing was.
pub fn new_private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path)
}

/// Opens the file of a lock, which is made where it is not there. It is root's alone: whoever may read it could hold a lock
/// on it, and keep from their work those for whom it is.
pub fn lock_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).mode(0o600);
    let file = options.truncate(false).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Makes a file durable, or the names in a folder.
pub fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Opens what lies under a name; a link anywhere on the way is an error.
pub fn open_without_links(path: &Path, flags: OFlag) -> io::Result<File> {
    Ok(File::from(open_at(path, flags, Mode::empty())?))
}

/// The names in a folder, sorted; those that are not UTF-8 are left out. A link anywhere on the way is an error.
pub fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let mut handle = nix::dir::Dir::from_fd(open_dir(dir)?)?;
    let mut names = Vec::new();
    for entry in handle.iter() {
        match entry?.file_name().to_str() {
            Ok("." | "..") | Err(_) => {}
            Ok(name) => names.push(name.to_owned()),
        }
    }
    names.sort();
    Ok(names)
}
