//! Keeps what leaves the gateway's places: in the restore's folder, under the path that it had. Each file is durable under its
//! new name before it leaves the old one, and each run may be cut off anywhere. Decides nothing about what is kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::Problem;
use crate::host::{Kind, Permit, parent};
use crate::restore::step::Env;

/// What a restore replaced or removed.
pub const ORIGINALS: &str = "originals";
/// What others left where the restore put a file, or in place of one.
pub const FOUND: &str = "found";

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
        }
    }

    /// Where it keeps files.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Moves what lies under the first name to where it keeps what had the second. Nothing there is no fault: an earlier run
    /// may have moved it.
    pub fn take(&mut self, from: &Path, path: &str) -> Result<(), Problem> {
        let (host, permit) = (self.env.host, self.permit);
        let to = self.kept(path);
        let folder = parent(&to)?;
        if !self.folders.contains(parent(from)?) {
            self.folders.insert(parent(from)?.to_owned());
        }
        let Some(meta) = host.stat(from)? else {
            // What an earlier attempt moved lies in a folder that it may not have synced.
            self.folders.extend(self.on_the_way(folder));
            return Ok(());
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
        if host.stat(folder)?.is_some_and(|f| f.dev == meta.dev) {
            host.rename(permit, from, &to)?;
        } else if meta.kind == Kind::File {
            // A crash between the copy and the removal leaves a copy that may be half: it is made anew.
            host.remove_file(permit, &to)?;
            host.copy(permit, from, &to)?;
            host.sync_dir(permit, folder)?;
            host.remove_file(permit, from)?;
        } else {
            return Ok(());
        }
        self.moved += 1;
        Ok(())
    }

    /// The path, or one like it, under which nothing is kept yet: others may have left something there twice.
    pub fn free(&self, path: &str) -> Result<String, Problem> {
        let mut free = path.to_owned();
        while self.env.host.stat(&self.kept(&free))?.is_some() {
            free.push('~');
        }
        Ok(free)
    }

    /// Where what had this path is kept.
    pub fn kept(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
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
