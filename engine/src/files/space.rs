//! Free space, per filesystem: what is there, and whether it is enough for what will be written. Must not write.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Code, OrCannot, Problem, cannot, cause};
use journal_format::size;

use crate::files::open::again;
use crate::text::wording::quoted_path;

/// What stays free whatever is written, for everything else on the box.
pub const RESERVE: u64 = 16 << 20;
/// A file takes whole blocks.
const BLOCK: u64 = 4096;

/// How much is needed and how much is there, for a person.
pub fn lacking(need: u64, free: u64) -> String {
    format!(
        "{} needed ({} for what is written, {} in reserve), {} free",
        size(need.saturating_add(RESERVE)),
        size(need),
        size(RESERVE),
        size(free)
    )
}

/// What helps where a filesystem has too little.
pub fn make_room(folder: &Path) -> String {
    format!(
        "free some space there (`df -h {}`, `holdfast prune --dry-run`), or set `state_dir` in the profile to a larger filesystem",
        quoted_path(folder)
    )
}

/// What is going to be written, by filesystem.
#[derive(Debug, Default)]
pub struct Needs {
    by_device: BTreeMap<u64, (PathBuf, u64)>,
    /// Folders that were looked at, and their devices: thousands of files go into a handful.
    seen: Vec<(PathBuf, u64)>,
}

impl Needs {
    /// A file of `size` bytes will be made in `folder` (or, where that is not there yet, in what is above it).
    pub fn file(&mut self, folder: &Path, size: u64) -> Result<(), Problem> {
        self.bytes(folder, whole_blocks(size))
    }

    /// So many bytes will be written in `folder`.
    pub fn bytes(&mut self, folder: &Path, bytes: u64) -> Result<(), Problem> {
        let device = match self.seen.iter().find(|(seen, _)| seen == folder) {
            Some((_, device)) => *device,
            None => {
                let (above, device) = existing(folder)?;
                self.seen.push((folder.to_owned(), device));
                self.on(device, &above, 0);
                device
            }
        };
        self.on(device, folder, bytes);
        Ok(())
    }

    fn on(&mut self, device: u64, folder: &Path, bytes: u64) {
        let new = || (folder.to_owned(), 0);
        let need = &mut self.by_device.entry(device).or_insert_with(new).1;
        *need = need.saturating_add(bytes);
    }

    /// Each filesystem that has too little, by a folder on it: bytes that will be written, and that are free.
    fn short(&self) -> Result<Vec<(&Path, u64, u64)>, Problem> {
        let mut short = Vec::new();
        for (folder, need) in self.by_device.values() {
            let free = free(folder)?;
            if free < need.saturating_add(RESERVE) {
                short.push((folder.as_path(), *need, free));
            }
        }
        Ok(short)
    }

    /// A problem for each filesystem that has too little, with the numbers.
    pub fn check(&self, what: &str) -> Result<(), Vec<Problem>> {
        let mut found = Vec::new();
        for (folder, need, free) in self.short().map_err(|p| vec![p])? {
            found.push(cannot(
                Code::NO_SPACE,
                format!(
                    "{what}: not enough space in {}: {}",
                    folder.display(),
                    lacking(need, free)
                ),
                make_room(folder),
            ));
        }
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    /// The first problem of [`Needs::check`].
    pub fn check_first(&self, what: &str) -> Result<(), Problem> {
        let problems = self.check(what).err().unwrap_or_default();
        problems.into_iter().next().map_or(Ok(()), Err)
    }
}

/// What a file of so many bytes takes on the disk.
pub fn whole_blocks(size: u64) -> u64 {
    size.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// Bytes that are free for this process on the filesystem of `folder`, or of what is above it.
pub fn free(folder: &Path) -> Result<u64, Problem> {
    let (folder, _) = existing(folder)?;
    let what = format!("see how much space is free at {}", folder.display());
    free_of(&folder).or_cannot(Code::IO, what, "see to that filesystem")
}

/// The same of a folder that is there.
pub fn free_of(folder: &Path) -> nix::Result<u64> {
    let stat = again(|| nix::sys::statvfs::statvfs(folder))?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

fn existing(folder: &Path) -> Result<(PathBuf, u64), Problem> {
    for above in folder.ancestors() {
        match above.metadata() {
            Ok(facts) => return Ok((above.to_owned(), facts.dev())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => {
                let what = format!("look at {}: {e}", above.display());
                return Err(cannot(cause(&e), what, "see to that folder"));
            }
        }
    }
    Err(cannot(
        Code::BAD_PROFILE,
        format!("find any folder above {}", folder.display()),
        "name an absolute path",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_does_not_fit_is_a_problem_with_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let mut needs = Needs::default();
        needs.file(&dir.path().join("not/yet/there"), 1).unwrap();
        assert!(needs.check("restore").is_ok());
        needs.bytes(dir.path(), u64::MAX / 2).unwrap();
        let problems = needs.check("restore").unwrap_err();
        assert_eq!(problems.len(), 1, "one filesystem, one problem");
        assert!(problems[0].is(&Code::NO_SPACE));
    }
}
