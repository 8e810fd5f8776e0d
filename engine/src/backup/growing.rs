//! The file that a backup grows in: hidden and locked until it is whole, and never over another file. Must not know what a
//! backup holds.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nix::fcntl::{AtFlags, RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use crate::error::{Code, Fault, OrCannot, Problem, cannot};
use crate::files::open::new_private;

/// Attempts at a free name, ten a second.
const NAMES: u32 = 600;

/// The backup while it has no name of its own: a hidden file, locked by its maker, removed when dropped.
pub(super) struct Growing {
    dir: PathBuf,
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) at: jiff::Zoned,
    file: File,
    published: bool,
}

impl Growing {
    /// Takes the name of this second, or of the next one that is free.
    pub(super) fn reserve(dir: &Path) -> Result<Growing, Problem> {
        let failed = |e: &dyn std::fmt::Display| {
            cannot(
                Code::IO,
                format!("begin a backup in {}: {e}", dir.display()),
                "see to that folder, or name another one",
            )
        };
        for _ in 0..NAMES {
            let at = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
            let name = format!("wireguard_backup_{}.zip", at.strftime("%Y%m%d_%H%M%S"));
            let path = dir.join(format!(".{name}.part"));
            if !dir.join(&name).try_exists().map_err(|e| failed(&e))? {
                match new_private(&path) {
                    Ok(file) => {
                        let part = Growing {
                            dir: dir.to_owned(),
                            path,
                            name,
                            at,
                            file,
                            published: false,
                        };
                        part.file.try_lock().map_err(|e| failed(&e))?;
                        return Ok(part);
                    }
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(failed(&e)),
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(failed(&"no name is free"))
    }

    pub(super) fn timestamp(&self) -> String {
        self.at.strftime("%Y%m%d_%H%M%S").to_string()
    }

    /// To be written from its beginning.
    pub(super) fn writer(&self) -> Result<File, Problem> {
        let what = format!("write the backup {}", self.path.display());
        self.reader()
            .or_cannot(Code::IO, what, "see to that folder")
    }

    /// What was written, from the same open file: under its name somebody may have put another.
    pub(super) fn reader(&self) -> io::Result<File> {
        (&self.file).seek(SeekFrom::Start(0))?;
        self.file.try_clone()
    }

    /// Whether the hidden name is still that of what was written, in a folder that others may write to.
    fn is_named(&self) -> io::Result<bool> {
        let written = self.file.metadata()?;
        let named = self.path.symlink_metadata()?;
        Ok((written.dev(), written.ino()) == (named.dev(), named.ino()))
    }

    /// Gives it its name, over nothing, and makes that durable.
    #[expect(
        clippy::disallowed_methods,
        reason = "the backup takes its name, without replacing one"
    )]
    pub(super) fn publish(mut self) -> Result<PathBuf, Fault> {
        let (dir, name) = (self.dir.display().to_string(), self.name.clone());
        let failed = |e: &dyn std::fmt::Display| {
            let what = format!("give the backup its name {name} in {dir}: {e}");
            cannot(Code::IO, what, "see to that folder")
        };
        if !self.is_named().map_err(|e| failed(&e))? {
            return Err(failed(&"somebody put another file in its place").into());
        }
        let folder = File::open(&self.dir).map_err(|e| failed(&e))?;
        let hidden = format!(".{}.part", self.name);
        let (from, to) = (hidden.as_str(), self.name.as_str());
        match renameat2(&folder, from, &folder, to, RenameFlags::RENAME_NOREPLACE) {
            // A filesystem that cannot do that can link, which replaces nothing either.
            Err(nix::errno::Errno::EINVAL) => linkat(&folder, from, &folder, to, AtFlags::empty())
                .and_then(|()| unlinkat(&folder, from, UnlinkatFlags::NoRemoveDir)),
            result => result,
        }
        .map_err(|e| failed(&e.desc()))?;
        self.published = true;
        folder.sync_all().map_err(|e| failed(&e))?;
        Ok(self.dir.join(&self.name))
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if !self.published
            && let Err(e) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(
                "cannot remove {}, a backup that was not finished: {e}",
                self.path.display()
            );
        }
    }
}

/// Removes what backups of dead processes left. What cannot be removed is told of and tried again next time.
pub(super) fn sweep(dir: &Path) {
    let Ok(entries) = dir.read_dir() else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name.starts_with(".wireguard_backup_") && name.ends_with(".zip.part");
        if !ours || !entry.file_type().is_ok_and(|t| t.is_file()) {
            continue;
        }
        let dead = File::open(entry.path()).is_ok_and(|f| f.try_lock().is_ok());
        if dead && let Err(e) = std::fs::remove_file(entry.path()) {
            tracing::warn!(
                "cannot remove {}, which an interrupted backup left: {e}",
                entry.path().display()
            );
        }
    }
}
