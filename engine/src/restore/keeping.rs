//! Keeps what leaves the gateway's places: in the restore's folder, under the path that it had. Each file is durable under its
//! new name before it leaves the old one, and each run may be cut off anywhere. Decides nothing about what is kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use journal_format::Note;

use crate::error::{Code, Problem};
use crate::host::{Kind, Meta, Permit, parent};
use crate::restore::step::Env;

/// What a restore replaced or removed.
pub const ORIGINALS: &str = "originals";
/// What others left where the restore put a file, or in place of one.
pub const FOUND: &str = "found";
/// What `wg-quick` wrote over configs that say `SaveConfig`.
pub const SAVED_OVER: &str = "found/by-saveconfig";

/// How the names of copies end that are not yet whole.
const HALF: &str = ".half";

/// What is said of a file whose extended attributes another has not as it has them.
pub fn unkept_note(path: &str, unkept: &[String]) -> Option<Note> {
    (!unkept.is_empty()).then(|| {
        let text = format!(
            "{path}: the new file has not as the old one has them: {}",
            unkept.join(", ")
        );
        let note = Note::known(Code::ATTRIBUTES_NOT_KEPT, text).about(path);
        note.advising("compare `getfacl` and `getfattr -d -m -` of both, and set them by hand")
    })
}

/// A run that moves files into one folder of the restore's.
pub struct Keeping<'a> {
    env: &'a Env<'a>,
    permit: &'a Permit,
    root: PathBuf,
    // Both ends of every rename and every folder on the way, also those of an earlier attempt that was cut off before it
    // synced them: the staging goes next, and what was moved out of it must be durable by then.
    folders: BTreeSet<PathBuf>,
    made: BTreeSet<PathBuf>,
    /// Files that it moved.
    pub moved: usize,
    /// What a person is told of them.
    pub notes: Vec<Note>,
}

impl<'a> Keeping<'a> {
    /// Into the folder with this name.
    pub fn new(env: &'a Env<'a>, permit: &'a Permit, name: &str) -> Keeping<'a> {
        Keeping {
            env,
            permit,
            root: env.dir.join(name),
            folders: BTreeSet::from([env.dir.to_owned()]),
            made: BTreeSet::new(),
            moved: 0,
            notes: Vec::new(),
        }
    }

    /// Where it keeps files.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where an earlier attempt has put what lay under this name.
    pub fn kept_before(&self, path: &str) -> Result<Vec<PathBuf>, Problem> {
        let mut kept = Vec::new();
        let mut there = self.root.join(path.trim_start_matches('/'));
        while self.env.host.stat(&there)?.is_some() {
            kept.push(there.clone());
            there.as_mut_os_string().push("~");
        }
        Ok(kept)
    }

    /// Moves what lies under the first name to where it keeps what had the second, and says where that is. Nothing there is no
    /// fault: an earlier run may have moved it.
    pub fn take(&mut self, from: &Path, path: &str) -> Result<PathBuf, Problem> {
        let (host, permit) = (self.env.host, self.permit);
        let to = self.root.join(path.trim_start_matches('/'));
        let folder = parent(&to)?;
        if !self.folders.contains(parent(from)?) {
            self.folders.insert(parent(from)?.to_owned());
        }
        let Some(meta) = host.stat(from)? else {
            // What an earlier attempt moved lies in a folder that it may not have synced.
            self.folders.extend(self.on_the_way(folder));
            return Ok(to);
        };
        if self.made.insert(folder.to_owned()) {
            host.keep_dir(folder)?;
            // Also where an earlier attempt made them: before the first file leaves its old place, the way to its new one is
            // durable.
            for dir in self.on_the_way(folder) {
                host.sync_dir(permit, &dir)?;
                self.folders.insert(dir);
            }
        }
        // An original is moved once; others may have left something there twice.
        let free = match self.root.ends_with(ORIGINALS) {
            true => to.clone(),
            false => self.free(to.clone())?,
        };
        // The kernel alone knows: two mounts of one filesystem have one device number.
        let kept = match (host.rename(permit, from, &free), meta.kind) {
            (Ok(()), _) => free,
            (Err(p), Kind::File) if p.is(&Code::CROSSES_MOUNTS) => self.carry(from, to, path)?,
            // What is no file cannot be copied with all that it is: it stays on its mount.
            (Err(p), _) if p.is(&Code::CROSSES_MOUNTS) => {
                let beside = self.free(PathBuf::from(format!("{path}.{FOUND}")))?;
                host.rename(permit, from, &beside)?;
                self.folders.insert(parent(&beside)?.to_owned());
                beside
            }
            (Err(p), _) => return Err(p),
        };
        self.moved += 1;
        Ok(kept)
    }

    /// Moves a file from another mount. A crash leaves it under its old name until it is whole and durable under the new one.
    fn carry(&mut self, from: &Path, to: PathBuf, path: &str) -> Result<PathBuf, Problem> {
        let (host, permit) = (self.env.host, self.permit);
        let mut kept = to.clone();
        if !self.is_carried(from, &to)? {
            // Half a copy of an earlier attempt.
            let mut half = kept.clone();
            half.as_mut_os_string().push(HALF);
            host.remove_file(permit, &half)?;
            let unkept = host.copy(permit, from, &half)?;
            kept = self.free(to)?;
            host.rename(permit, &half, &kept)?;
            self.notes.extend(unkept_note(path, &unkept));
        }
        host.sync_dir(permit, parent(&kept)?)?;
        host.remove_file(permit, from)?;
        Ok(kept)
    }

    /// Whether an earlier attempt carried this very file, and was cut off before it removed the first.
    fn is_carried(&self, from: &Path, to: &Path) -> Result<bool, Problem> {
        let host = self.env.host;
        let (Some(old), Some(new)) = (host.stat(from)?, host.stat(to)?) else {
            return Ok(false);
        };
        let facts = |m: &Meta| (m.kind, m.size, m.uid, m.gid, m.mode);
        Ok(facts(&old) == facts(&new) && host.sha256(from)? == host.sha256(to)?)
    }

    /// A name that nothing has.
    fn free(&self, to: PathBuf) -> Result<PathBuf, Problem> {
        let mut free = to;
        while self.env.host.stat(&free)?.is_some() {
            free.as_mut_os_string().push("~");
        }
        Ok(free)
    }

    /// The folders from the root down to this one.
    fn on_the_way(&self, folder: &Path) -> Vec<PathBuf> {
        let way = folder.ancestors().take_while(|d| d.starts_with(&self.root));
        let mut way: Vec<PathBuf> = way.map(Path::to_owned).collect();
        way.reverse();
        way
    }

    /// Makes every name durable.
    pub fn sync(&self) -> Result<(), Problem> {
        for folder in &self.folders {
            if self.env.host.stat(folder)?.is_some() {
                self.env.host.sync_dir(self.permit, folder)?;
            }
        }
        Ok(())
    }
}
