//! A disk that forgets: file data, file names and renames are durable only after the sync that POSIX asks for. Owns the
//! images that a power cut may leave; knows nothing of gateways.
//!
//! Stricter than ext4, xfs and btrfs are: syncing a file does not make its name durable, a rename between two folders is
//! durable only once both folders are synced, and what is not synced reaches the disk in any order. Each rename or
//! exchange by itself is atomic, as those filesystems promise.

mod images;
mod mounts;
mod syncs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use engine::host::Kind;

/// What never is used again, unlike the number that programs see.
pub type Object = u64;
type Name = (Object, Arc<str>);
/// Extended attributes by their names.
pub type Attributes = Arc<BTreeMap<String, Vec<u8>>>;

const ROOT: Object = 1;
/// What is said where two names are not on one mount, be they on one filesystem.
pub const CROSSES: &str = "invalid cross-device link";
const SECTOR_BYTES: usize = 512;

/// What an object holds, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its bytes.
    pub data: Arc<[u8]>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Extended attributes.
    pub attributes: Attributes,
}

impl Held {
    fn fresh(mode: u32) -> Held {
        Held {
            data: Arc::from([]),
            uid: 0,
            gid: 0,
            mode,
            attributes: Attributes::default(),
        }
    }
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// The filesystem that it is on.
    pub dev: u64,
    mount: u64,
    /// Its number, which is used again once it is gone.
    pub number: u64,
    /// The newest object when names in this folder last changed: what programs see as a time.
    pub changed: Object,
    /// What programs see.
    pub now: Held,
    durable: Held,
}

#[derive(Debug, Clone)]
enum Op {
    Data {
        object: Object,
        before: Held,
        after: Held,
    },
    Names {
        changes: Vec<(Name, Option<Object>)>,
        unsynced: BTreeSet<Object>,
    },
}

/// Filesystems with what of them is durable and what is not yet.
#[derive(Debug, Clone)]
pub struct Disk {
    inodes: BTreeMap<Object, Inode>,
    names: BTreeMap<Name, Object>,
    durable: BTreeMap<Name, Object>,
    pending: Vec<Op>,
    next: Object,
    mounts: Vec<String>,
}

fn no(what: &str, path: &Path) -> String {
    format!("{what}: {}", path.display())
}

impl Disk {
    /// An empty root, and further filesystems mounted below it.
    pub fn new(mounts: &[&str]) -> Disk {
        let root = Inode {
            kind: Kind::Dir,
            dev: 1,
            mount: 1,
            number: 2,
            changed: 0,
            now: Held::fresh(0o755),
            durable: Held::fresh(0o755),
        };
        let mut disk = Disk {
            inodes: BTreeMap::from([(ROOT, root)]),
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            next: ROOT + 1,
            mounts: mounts.iter().map(|m| (*m).to_owned()).collect(),
        };
        for (n, mount) in mounts.iter().enumerate() {
            disk.make_dirs(Path::new(mount));
            if let Some(inode) = disk
                .find(Path::new(mount))
                .and_then(|o| disk.inodes.get_mut(&o))
            {
                inode.dev = n as u64 + 2;
                inode.mount = inode.dev;
            }
        }
        disk
    }

    fn walk(&self, names: &BTreeMap<Name, Object>, path: &Path) -> Option<Object> {
        let mut at = ROOT;
        for part in path.to_str()?.split('/').filter(|p| !p.is_empty()) {
            at = *names.get(&(at, Arc::from(part)))?;
        }
        Some(at)
    }

    /// The object under a name.
    pub fn find(&self, path: &Path) -> Option<Object> {
        self.walk(&self.names, path)
    }

    /// The object itself.
    pub fn inode(&self, object: Object) -> Option<&Inode> {
        self.inodes.get(&object)
    }

    /// What is under a name.
    pub fn get(&self, path: &Path) -> Option<&Inode> {
        self.inodes.get(&self.find(path)?)
    }

    /// The bytes under a name.
    pub fn read(&self, path: &Path) -> Option<Arc<[u8]>> {
        self.get(path)
            .filter(|i| i.kind == Kind::File)
            .map(|i| i.now.data.clone())
    }

    /// The bytes under a name, as far as nothing can take them away any more.
    pub fn read_durable(&self, path: &Path) -> Option<Arc<[u8]>> {
        let object = self.walk(&self.durable, path)?;
        Some(self.inodes.get(&object)?.durable.data.clone())
    }

    /// The names in a folder.
    pub fn list(&self, dir: &Path) -> Option<Vec<String>> {
        let at = self.find_a(Kind::Dir, dir).ok()?;
        Some(
            self.names
                .keys()
                .filter(|(d, _)| *d == at)
                .map(|(_, n)| n.to_string())
                .collect(),
        )
    }

    /// Every file, with its path.
    pub fn files(&self) -> BTreeMap<String, &Inode> {
        let mut found = BTreeMap::new();
        let mut dirs = vec![(ROOT, String::new())];
        while let Some((dir, path)) = dirs.pop() {
            for ((_, name), object) in self
                .names
                .range((dir, Arc::from(""))..(dir + 1, Arc::from("")))
            {
                let path = format!("{path}/{name}");
                let Some(inode) = self.inodes.get(object) else {
                    continue;
                };
                if inode.kind == Kind::Dir {
                    dirs.push((*object, path));
                } else {
                    found.insert(path, inode);
                }
            }
        }
        found
    }

    /// Every folder.
    pub fn dirs(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut dirs = vec![(ROOT, String::new())];
        while let Some((dir, path)) = dirs.pop() {
            for ((_, name), object) in self
                .names
                .range((dir, Arc::from(""))..(dir + 1, Arc::from("")))
            {
                if self.inodes.get(object).is_some_and(|i| i.kind == Kind::Dir) {
                    let path = format!("{path}/{name}");
                    found.insert(path.clone());
                    dirs.push((*object, path));
                }
            }
        }
        found
    }

    fn is(&self, object: Object, kind: Kind) -> bool {
        self.inodes.get(&object).is_some_and(|i| i.kind == kind)
    }

    /// The object under a name, if it is of this kind.
    fn find_a(&self, kind: Kind, path: &Path) -> Result<Object, String> {
        let object = self.find(path).filter(|o| self.is(*o, kind));
        object.ok_or_else(|| no("nothing of that kind", path))
    }

    fn slot(&self, path: &Path) -> Result<Name, String> {
        let dir = path
            .parent()
            .and_then(|p| self.find(p))
            .filter(|dir| self.is(*dir, Kind::Dir))
            .ok_or_else(|| no("no such folder", path))?;
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .ok_or_else(|| no("no name", path))?;
        Ok((dir, Arc::from(name)))
    }

    fn change(&mut self, changes: Vec<(Name, Option<Object>)>) {
        let unsynced = changes.iter().map(|((dir, _), _)| *dir).collect();
        for (name, object) in &changes {
            bind(&mut self.names, name, *object);
            let dir = self.inodes.get_mut(&name.0);
            dir.into_iter().for_each(|d| d.changed = self.next - 1);
        }
        self.pending.push(Op::Names { changes, unsynced });
    }

    fn new_inode(&mut self, kind: Kind, dir: Object, mode: u32) -> Object {
        let (dev, mount) = (self.dev(dir), self.mount(dir));
        // An object that no name leads to any more is gone, and its number is given to the next one.
        let kept: BTreeSet<Object> = self
            .names
            .values()
            .chain(self.durable.values())
            .copied()
            .chain(self.pending.iter().flat_map(|op| match op {
                Op::Names { changes, .. } => changes.iter().filter_map(|(_, o)| *o).collect(),
                Op::Data { .. } => Vec::new(),
            }))
            .chain([ROOT])
            .collect();
        self.inodes.retain(|object, _| kept.contains(object));
        let used: BTreeSet<u64> = self
            .inodes
            .values()
            .filter(|i| i.dev == dev)
            .map(|i| i.number)
            .collect();
        let number = (11..).find(|n| !used.contains(n)).unwrap_or(11);
        let object = self.next;
        self.next += 1;
        self.inodes.insert(
            object,
            Inode {
                kind,
                dev,
                mount,
                number,
                changed: 0,
                now: Held::fresh(mode),
                durable: Held::fresh(mode),
            },
        );
        object
    }

    /// Makes a folder and all above it; for setting up.
    pub fn make_dirs(&mut self, dir: &Path) {
        let mut above: Vec<&Path> = dir.ancestors().collect();
        above.reverse();
        for dir in above {
            if self.find(dir).is_none() && self.make_dir(dir, 0o755).is_err() {
                return;
            }
        }
    }

    /// Makes a folder.
    pub fn make_dir(&mut self, dir: &Path, mode: u32) -> Result<(), String> {
        let slot = self.slot(dir)?;
        if self.names.contains_key(&slot) {
            return Err(no("there already", dir));
        }
        let object = self.new_inode(Kind::Dir, slot.0, mode);
        self.change(vec![(slot, Some(object))]);
        Ok(())
    }

    /// Makes an empty file.
    pub fn create(&mut self, path: &Path) -> Result<Object, String> {
        let slot = self.slot(path)?;
        if self.names.contains_key(&slot) {
            return Err(no("there already", path));
        }
        let object = self.new_inode(Kind::File, slot.0, 0o600);
        self.change(vec![(slot, Some(object))]);
        Ok(object)
    }

    /// Gives an object other bytes, owner and mode.
    pub fn write(&mut self, object: Object, after: Held) {
        if let Some(inode) = self.inodes.get_mut(&object) {
            let before = std::mem::replace(&mut inode.now, after.clone());
            self.pending.push(Op::Data {
                object,
                before,
                after,
            });
        }
    }

    /// Gives a file other bytes.
    pub fn rewrite(&mut self, path: &Path, data: Vec<u8>) -> Result<(), String> {
        let object = self.find(path).ok_or_else(|| no("no such file", path))?;
        let inode = self.inodes.get(&object);
        let now = inode.ok_or_else(|| no("no such file", path))?.now.clone();
        let data = data.into();
        self.write(object, Held { data, ..now });
        Ok(())
    }

    /// Writes a file whole, made if it is not there; for setting up.
    pub fn put(&mut self, path: &str, data: &[u8], mode: u32) {
        let path = Path::new(path);
        if let Some(dir) = path.parent() {
            self.make_dirs(dir);
        }
        let object = match self.find(path) {
            Some(object) => Ok(object),
            None => self.create(path),
        };
        if let Ok(object) = object {
            let (uid, gid) = (990, 990);
            self.write(
                object,
                Held {
                    data: data.into(),
                    uid,
                    gid,
                    mode,
                    attributes: Attributes::default(),
                },
            );
        }
    }

    fn two(&self, a: &Path, b: &Path) -> Result<(Name, Object, Name), String> {
        let (one, two) = (self.slot(a)?, self.slot(b)?);
        let object = *self.names.get(&one).ok_or_else(|| no("no such file", a))?;
        if self.mount(one.0) != self.mount(two.0) {
            return Err(no(CROSSES, b));
        }
        if a != b && (a.starts_with(b) || b.starts_with(a)) {
            return Err(no("a folder into itself", b));
        }
        Ok((one, object, two))
    }

    /// Renames, and refuses if the new name is taken.
    pub fn rename(&mut self, from: &Path, to: &Path) -> Result<(), String> {
        let (old, object, new) = self.two(from, to)?;
        if self.names.contains_key(&new) {
            return Err(no("there already", to));
        }
        self.change(vec![(old, None), (new, Some(object))]);
        Ok(())
    }

    /// Renames over what is there.
    pub fn rename_over(&mut self, from: &Path, to: &Path) -> Result<(), String> {
        let (old, object, new) = self.two(from, to)?;
        if self.names.get(&new).is_some_and(|o| self.is(*o, Kind::Dir)) {
            return Err(no("a folder is there", to));
        }
        self.change(vec![(old, None), (new, Some(object))]);
        Ok(())
    }

    /// Puts each of two objects under the other's name.
    pub fn exchange(&mut self, a: &Path, b: &Path) -> Result<(), String> {
        let (one, first, two) = self.two(a, b)?;
        let second = *self.names.get(&two).ok_or_else(|| no("no such file", b))?;
        self.change(vec![(one, Some(second)), (two, Some(first))]);
        Ok(())
    }

    /// Removes a file. One that is not there is no error.
    pub fn remove(&mut self, path: &Path) -> Result<(), String> {
        self.unlink(path, Kind::File)
    }

    /// Removes a folder that is empty. One that is not there is no error.
    pub fn remove_dir(&mut self, path: &Path) -> Result<(), String> {
        self.unlink(path, Kind::Dir)
    }

    fn unlink(&mut self, path: &Path, kind: Kind) -> Result<(), String> {
        let above = path.parent().and_then(|p| self.find(p));
        if above.is_some_and(|dir| !self.is(dir, Kind::Dir)) {
            return Err(no("not a folder", path));
        }
        let Ok(slot) = self.slot(path) else {
            return Ok(());
        };
        let Some(object) = self.names.get(&slot) else {
            return Ok(());
        };
        if !self.is(*object, kind) {
            return Err(no("not of that kind", path));
        }
        if self.names.keys().any(|(dir, _)| dir == object) {
            return Err(no("folder not empty", path));
        }
        self.change(vec![(slot, None)]);
        Ok(())
    }

    /// Tells a hasher all that a program or a power cut could find. `plain` gives the bytes of a file without what makes no
    /// difference, and whether the object itself does.
    pub fn tell(&self, hasher: &mut impl Hasher, plain: impl Fn(&str, &[u8]) -> (Vec<u8>, bool)) {
        let mut plainly = BTreeMap::new();
        for (path, inode) in self.files() {
            let (bytes, counts) = plain(&path, &inode.now.data);
            let object = self.find(Path::new(&path)).unwrap_or_default();
            (&path, &bytes, inode.now.uid, inode.now.gid, inode.now.mode).hash(hasher);
            inode.now.attributes.hash(hasher);
            if counts {
                object.hash(hasher);
            }
            plainly.insert(object, path);
        }
        self.dirs().hash(hasher);
        if self.pending.is_empty() {
            return;
        }
        self.durable.hash(hasher);
        let bytes = |object: &Object, held: &Held| match plainly.get(object) {
            Some(path) => plain(path, &held.data).0,
            None => held.data.to_vec(),
        };
        for (object, inode) in &self.inodes {
            (object, bytes(object, &inode.durable)).hash(hasher);
        }
        for op in &self.pending {
            match op {
                Op::Data { object, after, .. } => (object, bytes(object, after)).hash(hasher),
                Op::Names { changes, unsynced } => (changes, unsynced).hash(hasher),
            }
        }
    }

    /// How many writes and renames are not durable.
    pub fn unsynced(&self) -> usize {
        self.pending.len()
    }
}

fn bind(names: &mut BTreeMap<Name, Object>, name: &Name, object: Option<Object>) {
    match object {
        Some(object) => names.insert(name.clone(), object),
        None => names.remove(name),
    };
}
