//! What each sync makes durable.

use std::collections::BTreeSet;
use std::path::Path;

use engine::host::Kind;

use super::{Disk, Object, Op, bind};

impl Disk {
    /// Makes a file's bytes durable.
    pub fn sync_file(&mut self, path: &Path) -> Result<(), String> {
        let object = self.find_a(Kind::File, path)?;
        self.sync_object(object);
        Ok(())
    }

    /// Makes an object's bytes durable.
    pub fn sync_object(&mut self, object: Object) {
        if let Some(inode) = self.inodes.get_mut(&object) {
            inode.durable = inode.now.clone();
        }
        self.pending
            .retain(|op| !matches!(op, Op::Data { object: o, .. } if *o == object));
    }

    /// Makes a folder's names durable.
    pub fn sync_dir(&mut self, dir: &Path) -> Result<(), String> {
        let dir = self.find_a(Kind::Dir, dir)?;
        self.sync_names(|d| d == dir);
        Ok(())
    }

    fn sync_names(&mut self, is: impl Fn(Object) -> bool) {
        for n in 0..self.pending.len() {
            let Some(Op::Names { changes, unsynced }) = self.pending.get_mut(n) else {
                continue;
            };
            unsynced.retain(|d| !is(*d));
            if !unsynced.is_empty() {
                continue;
            }
            let changes = std::mem::take(changes);
            for (name, object) in &changes {
                // Of a folder that is durably gone, no name is left to be made durable.
                if let Some(gone) = self.durable.get(name).copied().filter(|_| object.is_none())
                    && self.inodes.get(&gone).is_some_and(|i| i.kind == Kind::Dir)
                {
                    for op in &mut self.pending {
                        if let Op::Names { unsynced, .. } = op {
                            unsynced.remove(&gone);
                        }
                    }
                }
                bind(&mut self.durable, name, *object);
                // What came to the same name earlier and is not durable yet has been overtaken.
                for earlier in &mut self.pending[..n] {
                    if let Op::Names { changes, .. } = earlier {
                        changes.retain(|(other, _)| other != name);
                    }
                }
            }
        }
        self.pending
            .retain(|op| !matches!(op, Op::Names { changes, .. } if changes.is_empty()));
    }

    /// Makes the whole filesystem that holds a folder durable.
    pub fn sync_filesystem(&mut self, dir: &Path) -> Result<(), String> {
        let dev = self.dev(self.find_a(Kind::Dir, dir)?);
        self.sync_dev(|d| d == dev);
        Ok(())
    }

    /// Makes everything durable.
    pub fn sync_all(&mut self) {
        self.sync_dev(|_| true);
    }

    fn sync_dev(&mut self, is: impl Fn(u64) -> bool) {
        let inodes = &mut self.inodes;
        self.pending.retain(|op| match op {
            Op::Data { object, .. } => match inodes.get_mut(object) {
                Some(inode) if is(inode.dev) => {
                    inode.durable = inode.now.clone();
                    false
                }
                Some(_) => true,
                None => false,
            },
            Op::Names { .. } => true,
        });
        let on: BTreeSet<Object> = self
            .inodes
            .iter()
            .filter(|(_, i)| is(i.dev))
            .map(|(o, _)| *o)
            .collect();
        self.sync_names(|d| on.contains(&d));
    }
}
