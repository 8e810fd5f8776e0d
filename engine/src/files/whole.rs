//! Files as wholes: written so that they are there whole or as they were, and hashed from end to end. Knows nothing of what is
//! in them.

use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use journal_format::Digest;
use nix::libc;
use sha2::Digest as _;

use super::open::sync;

/// How the names of files begin that are not yet whole.
pub const ASIDE: &str = ".keep-";

/// Writes a file aside, with these permission bits, syncs it, renames it into place, and syncs the folder.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let made = tempfile::Builder::new().prefix(ASIDE).tempfile_in(dir);
    let mut file = made.map_err(without_path)?;
    file.as_file_mut().write_all(bytes)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    sync(dir)
}

/// The error alone: the name aside that `tempfile` adds to it says nothing to anybody, and is another each time.
fn without_path(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::StorageFull => io::Error::from_raw_os_error(libc::ENOSPC),
        io::ErrorKind::ReadOnlyFilesystem => io::Error::from_raw_os_error(libc::EROFS),
        io::ErrorKind::NotFound => io::Error::from_raw_os_error(libc::ENOENT),
        io::ErrorKind::PermissionDenied => io::Error::from_raw_os_error(libc::EACCES),
        _ => error,
    }
}

/// SHA-256 of an open file that is expected to have this size: a small one in one read.
pub fn sha256(mut file: impl Read, size: u64, buffer: &mut Vec<u8>) -> io::Result<Digest> {
    let mut hasher = sha2::Sha256::new();
    let portion = usize::try_from(size)
        .unwrap_or(usize::MAX)
        .clamp(1, 64 << 10);
    if buffer.len() < portion {
        buffer.resize(portion, 0);
    }
    let mut left = size;
    while left > 0 {
        let portion = usize::try_from(left).unwrap_or(usize::MAX).min(portion);
        match file.read(&mut buffer[..portion]) {
            // It is shorter by now.
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                left = left.saturating_sub(n as u64);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(Digest::of_bytes(hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn why_a_file_could_not_be_written_names_no_file_that_nobody_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let error = write(&dir.path().join("gone/a"), b"x", 0o600).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert!(!error.to_string().contains(ASIDE), "{error}");
    }

    #[test]
    fn a_file_is_written_whole_with_the_mode_that_was_asked_for_and_nothing_stays_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for (text, mode) in [("one", 0o644), ("another", 0o600)] {
            write(&path, text.as_bytes(), mode).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            let has = path.metadata().unwrap().permissions().mode();
            assert_eq!(has & 0o7777, mode);
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
    }

    /// A file whose reads a signal interrupts every other time.
    struct Interrupted(&'static [u8], bool);

    impl Read for Interrupted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            match self.1 {
                true => Err(io::ErrorKind::Interrupted.into()),
                false => {
                    let most = buffer.len().min(3);
                    self.0.read(&mut buffer[..most])
                }
            }
        }
    }

    #[test]
    fn a_signal_during_a_read_changes_no_digest() {
        let bytes = b"[Interface]\n";
        let digest = sha256(
            Interrupted(bytes, false),
            bytes.len() as u64,
            &mut Vec::new(),
        );
        let wanted = Digest::of_bytes(sha2::Sha256::digest(bytes).into());
        assert_eq!(digest.unwrap(), wanted);
    }
}
