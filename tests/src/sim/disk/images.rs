//! What a power cut may leave of a disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::{Disk, Held, Object, Op, ROOT, SECTOR_BYTES, bind};

impl Disk {
    /// Takes this text out of every file: what programs see, what is durable, and what is on its way.
    pub fn without(&mut self, text: &str) {
        let strip = |held: &mut Held| {
            let now = String::from_utf8_lossy(&held.data);
            if now.contains(text) {
                held.data = now.replace(text, "").into_bytes().into();
            }
        };
        for inode in self.inodes.values_mut() {
            strip(&mut inode.now);
            strip(&mut inode.durable);
        }
        for op in &mut self.pending {
            if let Op::Data { before, after, .. } = op {
                strip(before);
                strip(after);
            }
        }
    }

    /// What a power cut may leave: everything unsynced lost, everything kept, each alone lost, each alone kept, the last
    /// write torn in the middle or its second half zeros. With more than `most` unsynced, only the first and the last
    /// ones are taken alone. What mends itself (`sound`) is not torn.
    pub fn images(&self, most: usize, sound: &[String]) -> Vec<(String, Disk)> {
        let sound: Vec<Object> = sound
            .iter()
            .filter_map(|path| self.find(Path::new(path)))
            .collect();
        let count = self.pending.len();
        let mut images = vec![("all lost".to_owned(), self.image(|_| false, None))];
        if count > 0 {
            images.push(("all kept".to_owned(), self.image(|_| true, None)));
        }
        if count > 1 && most > 0 {
            for n in (0..count).filter(|n| count <= most || *n < most / 2 || *n >= count - most / 2)
            {
                images.push((format!("{n} of {count} lost"), self.image(|m| m != n, None)));
                images.push((format!("{n} of {count} kept"), self.image(|m| m == n, None)));
            }
        }
        if let Some(last) = self
            .pending
            .iter()
            .rposition(|op| matches!(op, Op::Data { object, .. } if !sound.contains(object)))
            .filter(|_| most > 0)
        {
            for how in [Torn::Half, Torn::Zeros] {
                images.push((
                    format!("the last write {how:?}"),
                    self.image(|_| true, Some((last, how))),
                ));
            }
        }
        images
    }

    fn image(&self, kept: impl Fn(usize) -> bool, torn: Option<(usize, Torn)>) -> Disk {
        let mut disk = self.clone();
        disk.names.clone_from(&self.durable);
        for (n, op) in self.pending.iter().enumerate().filter(|(n, _)| kept(*n)) {
            match op {
                Op::Names { changes, .. } => {
                    for (name, object) in changes {
                        bind(&mut disk.names, name, *object);
                    }
                }
                Op::Data {
                    object,
                    before,
                    after,
                } => {
                    let mut held = after.clone();
                    if let Some((_, how)) = torn.filter(|(at, _)| *at == n) {
                        held.data = how.tear(&before.data, &after.data);
                    }
                    if let Some(inode) = disk.inodes.get_mut(object) {
                        inode.durable = held;
                    }
                }
            }
        }
        let mut reached = BTreeSet::from([ROOT]);
        let mut dirs = vec![ROOT];
        while let Some(dir) = dirs.pop() {
            for (_, object) in disk
                .names
                .range((dir, Arc::from(""))..(dir + 1, Arc::from("")))
            {
                if reached.insert(*object) {
                    dirs.push(*object);
                }
            }
        }
        disk.inodes.retain(|object, _| reached.contains(object));
        disk.names
            .retain(|(dir, _), object| reached.contains(dir) && disk.inodes.contains_key(object));
        for inode in disk.inodes.values_mut() {
            inode.now.clone_from(&inode.durable);
        }
        disk.durable.clone_from(&disk.names);
        disk.pending.clear();
        disk
    }
}

#[derive(Debug, Clone, Copy)]
enum Torn {
    Half,
    Zeros,
}

impl Torn {
    fn tear(self, before: &[u8], after: &[u8]) -> Arc<[u8]> {
        let same = if after.starts_with(before) {
            before.len()
        } else {
            0
        };
        let middle = same + (after.len() - same) / 2;
        match self {
            Torn::Half => after[..middle].into(),
            Torn::Zeros => {
                // A disk writes whole sectors; the size may be there before any of them.
                let whole = middle.next_multiple_of(SECTOR_BYTES);
                let from = if whole < after.len() { whole } else { same };
                let mut bytes = after[..from].to_vec();
                bytes.resize(after.len(), 0);
                bytes.into()
            }
        }
    }
}
