//! The configs of both folders, read as they lie there and packed: every file whose name ends in `.conf` in the folder of
//! configs, and of those in the folder of `wg-quick` the ones that the gateway manages. Owns what of a file tells that it was
//! changed. Their bytes are put aside, deflated. Follows no link, refuses no content, and must not change anything.

mod hand;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::Mode;

use super::aside::{Aside, AsidePlace};
use super::pack::Sum;
use crate::error::Problem;
use crate::files::open::{again, open_without_links};
use crate::parallel;
use hand::Hand;

/// Names that one thread reads at a time.
const BATCH: usize = 64;
/// A config has some hundred bytes. What is larger than this is none, and is not saved.
pub(super) const MOST: u64 = 16 << 20;

/// What of a file tells that it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Nanoseconds since 1970: of its bytes, names, owner or mode.
    pub(super) changed: i64,
}

impl Stamp {
    pub(super) fn of(meta: &Metadata) -> Stamp {
        Stamp {
            inode: meta.ino(),
            size: meta.size(),
            changed: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

pub(super) fn nanoseconds(seconds: i64, more: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(more)
}

/// The two folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Folder {
    First,
    Second,
}

/// What lies under one name in one folder.
#[derive(Debug)]
pub(super) enum Lying {
    /// A regular file.
    File {
        stamp: Stamp,
        owner: (u32, u32, u32),
        bytes: ConfigBytes,
        /// Whether the gateway's own reader would take it.
        plain: bool,
    },
    /// A link, and where it leads.
    Link { stamp: Stamp, target: Vec<u8> },
    /// Something that no config ever was: a folder, a pipe.
    NoFile { stamp: Stamp, what: &'static str },
    /// It is there and could not be read; it may not even have been looked at.
    Unread { stamp: Option<Stamp>, why: String },
}

/// The bytes of a file.
#[derive(Debug, Clone, Copy)]
pub(super) enum ConfigBytes {
    /// Put aside.
    Packed(Sum, AsidePlace),
    /// Those of the file of the same name in the first folder.
    OfFirst,
}

impl Lying {
    /// None: it could not even be looked at, and may have changed.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        match self {
            Lying::File { stamp, .. } | Lying::Link { stamp, .. } | Lying::NoFile { stamp, .. } => {
                Some(*stamp)
            }
            Lying::Unread { stamp, .. } => *stamp,
        }
    }
}

/// Whether a folder is there.
#[derive(Debug, Default)]
pub(super) enum There {
    Open(File),
    #[default]
    Missing,
    Unread(String),
}

/// All of them.
#[derive(Debug)]
pub(super) struct Configs {
    pub(super) paths: [PathBuf; 2],
    pub(super) folders: [There; 2],
    /// What lies under each name in either folder.
    pub(super) found: BTreeMap<OsString, [Option<Lying>; 2]>,
    pub(super) aside: Aside,
}

impl Configs {
    /// Nothing yet.
    pub(super) fn of(first: &Path, second: &Path, aside: Aside) -> Configs {
        Configs {
            paths: [first.to_owned(), second.to_owned()],
            folders: Default::default(),
            found: BTreeMap::new(),
            aside,
        }
    }

    pub(super) fn path(&self, folder: Folder) -> &Path {
        &self.paths[folder as usize]
    }

    pub(super) fn folder(&self, folder: Folder) -> &There {
        &self.folders[folder as usize]
    }

    /// Whether anything lies there under this name.
    pub(super) fn has(&self, folder: Folder, name: &OsStr) -> bool {
        let both = self.found.get(name);
        both.is_some_and(|both| both[folder as usize].is_some())
    }

    /// Reads the first copies, and the second copies of the same names.
    pub(super) fn read(&mut self) -> Result<(), Problem> {
        self.folders = [Folder::First, Folder::Second].map(|folder| open(self.path(folder)));
        let first = self.names(Folder::First);
        self.take(first)
    }

    /// Reads the second copies of these as well, where there is no first copy: the files of clients.
    pub(super) fn read_more(&mut self, mut clients: BTreeSet<OsString>) -> Result<(), Problem> {
        clients.retain(|name| !self.found.contains_key(name));
        self.take(clients.into_iter().collect())
    }

    /// Reads these anew, in both folders.
    pub(super) fn read_again(&mut self, names: &BTreeSet<OsString>) -> Result<(), Problem> {
        self.found.retain(|name, _| !names.contains(name));
        self.take(names.iter().cloned().collect())
    }

    /// The names in the second folder of which nothing is known.
    pub(super) fn others(&mut self) -> BTreeSet<OsString> {
        let mut names: BTreeSet<OsString> = self.names(Folder::Second).into_iter().collect();
        names.retain(|name| !self.found.contains_key(name));
        names
    }

    /// The names under which something else lies than what was read, in either folder.
    pub(super) fn changed(
        &self,
        clients: &BTreeSet<OsString>,
    ) -> Result<BTreeSet<OsString>, String> {
        let mut changed = BTreeSet::new();
        let mut managed = clients.clone();
        for folder in [Folder::First, Folder::Second] {
            let before = &self.folders[folder as usize];
            let lying = |name: &OsStr| self.found.get(name)?[folder as usize].as_ref();
            let known = || self.found.keys().filter(|name| lying(name).is_some());
            // One that was not there may be by now.
            let now = match open(self.path(folder)) {
                There::Open(now) => now,
                There::Missing => {
                    changed.extend(known().cloned());
                    continue;
                }
                // As it was not read before: that is told of already.
                There::Unread(_) if matches!(before, There::Unread(_)) => continue,
                There::Unread(why) => return Err(why),
            };
            let names = match listed(&now) {
                Ok(names) => names,
                Err(_) if matches!(before, There::Unread(_)) => continue,
                Err(e) => return Err(e.to_string()),
            };
            let names: BTreeSet<OsString> = names.into_iter().collect();
            if folder == Folder::First {
                managed.extend(names.iter().cloned());
            }
            changed.extend(known().filter(|name| !names.contains(*name)).cloned());
            for name in names.into_iter().filter(|name| managed.contains(name)) {
                let stamp = lying(&name).and_then(Lying::stamp);
                if stamp.is_none() || stamp_of(&now, &name) != stamp {
                    changed.insert(name);
                }
            }
        }
        Ok(changed)
    }

    /// The names of files that were changed in this time, in nanoseconds since 1970.
    pub(super) fn changed_in(&self, time: &Range<i64>) -> BTreeSet<OsString> {
        let within = |both: &[Option<Lying>; 2]| {
            let mut stamps = both.iter().flatten().filter_map(Lying::stamp);
            stamps.any(|stamp| time.contains(&stamp.changed))
        };
        let late = self.found.iter().filter(|(_, both)| within(both));
        late.map(|(name, _)| name.clone()).collect()
    }

    /// When what lies under a name was changed last, in nanoseconds since 1970; none if nothing lies there.
    pub(super) fn newest(&self, name: &OsStr) -> Option<i64> {
        newest(self.found.get(name)?)
    }

    /// Whether there is any first copy.
    pub(super) fn are_there(&self) -> bool {
        let mut lying = self.found.values();
        lying.any(|[first, _]| matches!(first, Some(Lying::File { .. })))
    }

    /// Bytes of all of them, with what an archive adds.
    pub(super) fn size(&self) -> u64 {
        let lying = self.found.values().flatten().flatten();
        let size = |l: &Lying| match l {
            Lying::File {
                bytes: ConfigBytes::Packed(sum, _),
                ..
            } => sum.size + super::ENTRY_OVERHEAD,
            _ => 0,
        };
        lying.map(size).sum()
    }

    /// The names in a folder; what cannot be listed is noted.
    fn names(&mut self, folder: Folder) -> Vec<OsString> {
        let There::Open(open) = &self.folders[folder as usize] else {
            return Vec::new();
        };
        match listed(open) {
            Ok(names) => names,
            Err(e) => {
                self.folders[folder as usize] = There::Unread(e.to_string());
                Vec::new()
            }
        }
    }

    /// Reads these of both folders; what is not there is passed over.
    fn take(&mut self, mut names: Vec<OsString>) -> Result<(), Problem> {
        names.sort();
        let batches: Vec<&[OsString]> = names.chunks(BATCH).collect();
        let (folders, found, aside) = (&self.folders, &mut self.found, &mut self.aside);
        let work = |hand: &mut Hand, names: &&[OsString]| {
            let looked = names.iter().map(|name| hand.look_in(folders, name));
            let looked: Vec<[Option<Lying>; 2]> = looked.collect();
            (looked, std::mem::take(&mut hand.packed))
        };
        let mut named = names.iter();
        parallel::in_order(&batches, Hand::new, work, |(looked, packed)| {
            let before = aside.put(&packed)?;
            // The names are in the same order.
            for (mut lying, name) in looked.into_iter().zip(named.by_ref()) {
                for lying in lying.iter_mut().flatten() {
                    if let Lying::File {
                        bytes: ConfigBytes::Packed(_, place),
                        ..
                    } = lying
                    {
                        place.at += before;
                    }
                }
                if lying.iter().any(Option::is_some) {
                    found.insert(name.clone(), lying);
                }
            }
            Ok(())
        })
    }
}

fn newest(lying: &[Option<Lying>; 2]) -> Option<i64> {
    let stamps = lying.iter().flatten().filter_map(Lying::stamp);
    stamps.map(|stamp| stamp.changed).max()
}

fn open(path: &Path) -> There {
    // No link on the way: whoever may rename that folder chooses what root packs.
    match open_without_links(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(folder) => There::Open(folder),
        Err(e) if e.kind() == io::ErrorKind::NotFound => There::Missing,
        Err(e) => There::Unread(match e.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOTDIR | Errno::ELOOP) => format!(
                "it is no folder, or a link leads there; name the real folder in the profile (realpath {})",
                path.display()
            ),
            _ => e.to_string(),
        }),
    }
}

/// The names that end in `.conf`, from the beginning of the folder.
fn listed(folder: &File) -> io::Result<Vec<OsString>> {
    // A descriptor of its own: a shared one would go on where another listing ended.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let own = again(|| nix::fcntl::openat(folder, ".", flags, Mode::empty()))?;
    let mut listed = nix::dir::Dir::from_fd(own)?;
    let mut names = Vec::new();
    for entry in listed.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name.ends_with(b".conf") {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

fn stamp_of(folder: &File, name: &OsStr) -> Option<Stamp> {
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
    let meta = again(|| nix::sys::stat::fstatat(folder, name, flags)).ok()?;
    Some(Stamp {
        inode: meta.st_ino,
        size: meta.st_size.unsigned_abs(),
        changed: nanoseconds(meta.st_ctime, meta.st_ctime_nsec),
    })
}

/// The bytes of a config; none if it cannot be read.
pub(super) fn bytes(path: &Path) -> Option<Vec<u8>> {
    let file = open_without_links(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK).ok()?;
    file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut bytes = Vec::new();
    (&file).take(MOST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// What lies where a file of the box's own is, as a config is looked at, and its bytes, deflated: for kept rules.
pub(super) fn look_at(path: &Path) -> Option<(Lying, Vec<u8>)> {
    let unread = |why: String| Some((Lying::Unread { stamp: None, why }, Vec::new()));
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return unread("it has no name".into());
    };
    let mut hand = Hand::new();
    match open(folder) {
        There::Open(folder) => Some((hand.look(&folder, name, None)?, hand.packed)),
        There::Missing => None,
        There::Unread(why) => unread(why),
    }
}

/// The time by which a stamp is told to be fresh.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |s| i64::try_from(s.as_nanos()).unwrap_or(i64::MAX))
}
