//! Which mount and which filesystem a name is on: two mounts may be of one filesystem.

use std::path::Path;

use super::{Disk, Object};

impl Disk {
    /// Mounts a folder of the same filesystem on one that is empty; for setting up.
    pub fn bind(&mut self, dir: &Path) {
        self.make_dirs(dir);
        let mount = self.next;
        self.next += 1;
        if let Some(inode) = self.find(dir).and_then(|o| self.inodes.get_mut(&o)) {
            inode.mount = mount;
            self.mounts.push(dir.display().to_string());
        }
    }

    /// Every path that a filesystem is mounted on.
    pub fn mounts(&self) -> &[String] {
        &self.mounts
    }

    pub(super) fn dev(&self, dir: Object) -> u64 {
        self.inodes.get(&dir).map_or(0, |i| i.dev)
    }

    pub(super) fn mount(&self, dir: Object) -> u64 {
        self.inodes.get(&dir).map_or(0, |i| i.mount)
    }
}
