//! One backup as one open file: its structure, its names and its limits are checked before any of it is used, and its
//! entries are read from that same open file, never by its path again.
//!
//! An allow-list of names is read; the metadata never decide what is checked. Nothing is allocated from a size that the
//! file declares, and bytes count as they are really inflated. Must not: write any file, or follow any name.

mod accept;
mod cursor;
mod inflate;
pub mod lost;
pub mod manifest;
pub mod verify;
mod zip_layout;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use journal_format::Digest;
use sha2::{Digest as _, Sha256};
use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};

use crate::error::{Fault, Problem, cannot};
use crate::gateway::profile::Limits;
use crate::parallel;
use crate::text::iptables::Family;
use crate::text::wg_config::NAME;
use accept::{NOT_KNOWN, accept};
use cursor::Cursor;
use inflate::{EntryPlace, Reader, UnreadBytes};
use manifest::{Manifest, Metadata};
use zip_layout::Unfit;

/// The folder of first copies in a backup.
pub const CONFIGS: &str = "configs/";
/// The folder of second copies, those that `wg-quick` uses.
pub const WIREGUARD: &str = "wireguard/";
/// `iptables-save`.
pub const RULES_V4: &str = "iptables_rules.txt";
/// `iptables -t nat -S`, for people and for the gateway.
pub const RULES_NAT: &str = "iptables_nat_rules.txt";
/// `iptables -t filter -S FORWARD`.
pub const RULES_FORWARD: &str = "iptables_forward_rules.txt";
/// `ip6tables-save`.
pub const RULES_V6: &str = "ip6tables_rules.txt";
/// The folder of what the gateway's own reader would not take: `configs/`, `wireguard/` and `databases/` in it, with names as
/// [`manifest::escaped`] writes them. A database's side files stand beside it, as `databases/configs.db-wal`.
pub const RAW: &str = "holdfast/raw/";
/// The folder of the files in which the box keeps rules over a reboot: `rules.v4` and `rules.v6` in it.
pub const KEPT: &str = "holdfast/kept/";
/// First copies, below [`RAW`].
pub const RAW_CONFIGS: &str = "holdfast/raw/configs/";
/// Second copies, below [`RAW`].
pub const RAW_WIREGUARD: &str = "holdfast/raw/wireguard/";
/// Databases and their side files, below [`RAW`].
pub const RAW_DATABASES: &str = "holdfast/raw/databases/";
/// The file that keeps the rules of IPv4, below [`KEPT`].
pub const KEPT_V4: &str = "holdfast/kept/rules.v4";
/// The file that keeps the rules of IPv6, below [`KEPT`].
pub const KEPT_V6: &str = "holdfast/kept/rules.v6";
/// What the names of a database's files have behind the database's own: the file itself first.
pub const SIDES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Problems named for one archive before the rest is only counted.
const NAMED: usize = 20;
/// Bytes that are hashed at once.
const BUFFER: u64 = 256 << 10;
/// Entries that one thread reads at a time, at most, and their bytes.
const BATCH: usize = 256;
const BATCH_BYTES: u64 = 1 << 20;
/// An entry from this size on is inflated by a thread of its own, beside the one that takes its bytes.
const LARGE: u64 = 1 << 20;
/// Portions of it that wait to be taken, and their size: what is larger the allocator gives back to the kernel each time.
const WAITING: usize = 8;
const PORTION: usize = 64 << 10;
/// Metadata are read whole: this much, for what is listed and is no entry, and so much for each entry; and never more than
/// this, which is also what they may have where this box made them: the peers of tunnels are in them without an entry. Holdfast
/// itself writes some 170 bytes for a client.
const METADATA: u64 = 4 << 20;
const METADATA_EACH: u64 = 1024;
const METADATA_MOST: u64 = 64 << 20;

/// One entry of a backup. There are as many as files: what its name says is not kept besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// Its whole name, as `configs/a.conf`.
    pub name: Box<str>,
    /// Its declared size; true once it has been copied without complaint.
    pub size: u64,
    what: What,
    /// Its place among all that the zip lists.
    index: u32,
    place: EntryPlace,
    /// What its bytes are: as the manifest says, or else as they were when they were first read.
    sha256: OnceLock<Digest>,
    /// Whose the file was, and the second copy of a config where that is the same: places in the manifest's `owners`.
    owner: Option<u16>,
    owner_of_second: Option<u16>,
}

impl ArchiveEntry {
    /// What it is.
    pub fn part(&self) -> EntryKind<'_> {
        let behind = |folder: &str| self.name.strip_prefix(folder).unwrap_or_default();
        let raw = |folder| manifest::unescaped(behind(folder)).unwrap_or_default();
        match self.what {
            What::Metadata => EntryKind::Metadata,
            What::Database => EntryKind::Database(&self.name),
            What::Config => EntryKind::Config(behind(CONFIGS)),
            What::SecondCopy => EntryKind::SecondCopy(behind(WIREGUARD)),
            What::RulesV4 => EntryKind::RulesV4,
            What::RulesNat => EntryKind::RulesNat,
            What::RulesForward => EntryKind::RulesForward,
            What::RulesV6 => EntryKind::RulesV6,
            What::RawConfig => EntryKind::RawConfig(raw(RAW_CONFIGS)),
            What::RawSecondCopy => EntryKind::RawSecondCopy(raw(RAW_WIREGUARD)),
            What::Kept(family) => EntryKind::Kept(family),
            What::RawDatabase(side) => {
                let side = SIDES[usize::from(side)];
                let name = String::from_utf8(raw(RAW_DATABASES)).unwrap_or_default();
                let name = name.strip_suffix(side).unwrap_or_default().to_owned();
                EntryKind::RawDatabase { name, side }
            }
            What::UnknownDatabase => EntryKind::UnknownDatabase,
        }
    }

    /// SHA-256 of its bytes; none before they were read where no manifest says it.
    pub fn sha256(&self) -> Option<&Digest> {
        self.sha256.get()
    }

    /// Whose the file was, as a place among the manifest's owners, if it says.
    pub fn owner(&self) -> Option<usize> {
        self.owner.map(usize::from)
    }

    /// Of the first copy of a config, whose the second copy was, if there was one and it was the same.
    pub fn owner_of_second_copy(&self) -> Option<usize> {
        self.owner_of_second.map(usize::from)
    }
}

/// What an entry is, less what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Metadata,
    Database,
    Config,
    SecondCopy,
    RulesV4,
    RulesNat,
    RulesForward,
    RulesV6,
    RawConfig,
    RawSecondCopy,
    Kept(Family),
    /// A place in [`SIDES`].
    RawDatabase(u8),
    /// In its plain form, or below [`RAW`].
    UnknownDatabase,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind<'n> {
    /// `backup_metadata.json`.
    Metadata,
    /// A database, by its name in the profile.
    Database(&'n str),
    /// The first copy of a config, by file name.
    Config(&'n str),
    /// The second copy of a config, where it differs, by file name.
    SecondCopy(&'n str),
    /// `iptables-save`.
    RulesV4,
    /// Rules of the NAT table as text.
    RulesNat,
    /// Rules of the forward chain as text.
    RulesForward,
    /// `ip6tables-save`.
    RulesV6,
    /// The first copy of a config that the gateway's own reader would not take, by file name, which may be of any bytes.
    RawConfig(Vec<u8>),
    /// The second copy of one.
    RawSecondCopy(Vec<u8>),
    /// The file in which the box keeps the rules of a family over a reboot.
    Kept(Family),
    /// The bytes of a database that SQLite could not read, or of a file beside it.
    RawDatabase {
        /// The database's name in the profile.
        name: String,
        /// Which of its files: one of [`SIDES`].
        side: &'static str,
    },
    /// A database that was backed up and that the profile does not name any more, or one of its files.
    UnknownDatabase,
}

/// The entry of the file in which the box keeps the rules of this family.
pub fn kept(family: Family) -> &'static str {
    match family {
        Family::V4 => KEPT_V4,
        Family::V6 => KEPT_V6,
    }
}

/// The entry of a file of a database whose bytes are saved: one of [`SIDES`].
pub fn raw_database(name: &str, side: &str) -> String {
    format!(
        "{RAW_DATABASES}{}{side}",
        manifest::escaped(name.as_bytes())
    )
}

/// What copying an entry proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Bytes.
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
}

/// An open, checked backup.
pub struct Archive {
    name: String,
    file: Arc<File>,
    size: u64,
    sha256: Option<Digest>,
    made_here: bool,
    /// Its metadata are this box's own, or were accepted before.
    accepted: bool,
    entries: Vec<ArchiveEntry>,
    /// Places in `entries`, sorted by name.
    by_name: Vec<u32>,
    inflated: Inflated,
    unpacked_most: u64,
    /// Entries that a tool adds of its own, which nobody reads.
    passed_over: usize,
    /// Those that nobody uses just now.
    readers: Mutex<Vec<Reader>>,
    metadata: Metadata,
}

/// Bytes inflated so far, of each entry and of all. One that is read again costs no more than the first time.
struct Inflated {
    each: Box<[AtomicU64]>,
    all: AtomicU64,
}

impl Inflated {
    fn of(entries: usize) -> Inflated {
        Inflated {
            each: (0..entries).map(|_| AtomicU64::new(0)).collect(),
            all: AtomicU64::new(0),
        }
    }

    /// Of this entry so many have come now. Gives how many of all.
    fn count(&self, entry: usize, size: u64) -> u64 {
        let before = self.each[entry].fetch_max(size, Ordering::Relaxed);
        let more = size.saturating_sub(before);
        self.all.fetch_add(more, Ordering::Relaxed) + more
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive")
            .field("name", &self.name)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Archive {
    /// Opens a backup and checks structure, names, limits and metadata; contents are checked as they are copied.
    ///
    /// `name` is what people are shown, never a path. `databases` are the names that the profile knows.
    pub fn open(
        file: File,
        name: &str,
        limits: &Limits,
        databases: &[&str],
    ) -> Result<Archive, Fault> {
        let (file, size) = regular(file, name)?;
        Archive::listed(file, size, name, limits, databases)?.looked_into()
    }

    /// [`Archive::open`] for one that was opened and accepted before.
    pub fn open_again(
        file: File,
        name: &str,
        limits: &Limits,
        databases: &[&str],
    ) -> Result<Archive, Fault> {
        let (file, size) = regular(file, name)?;
        let mut archive = Archive::listed(file, size, name, limits, databases)?;
        archive.accepted = true;
        archive.looked_into()
    }

    /// [`Archive::open_hashed`] for the backup that is being made: what is there fits, whatever the limits say. They are for what
    /// others send.
    pub fn open_new(file: File, name: &str, databases: &[&str]) -> Result<Archive, Fault> {
        let all = Limits {
            upload_mib: u64::MAX >> 20,
            unpacked_mib: u64::MAX >> 20,
            entries: u64::MAX,
        };
        let mut archive = Archive::hashed(file, name, &all, databases, &|_| Ok(false))?;
        archive.accepted = true;
        archive.looked_into()
    }

    /// [`Archive::open`] with [`Archive::sha256`] beside it. `made_here` tells of that digest whether this box made the file:
    /// then it was read by both readers when it was made.
    pub fn open_hashed(
        file: File,
        name: &str,
        limits: &Limits,
        databases: &[&str],
        made_here: &(dyn Fn(&Digest) -> Result<bool, Problem> + Sync),
    ) -> Result<Archive, Fault> {
        let mut archive = Archive::hashed(file, name, limits, databases, made_here)?;
        archive.accepted = archive.made_here;
        archive.looked_into()
    }

    fn hashed(
        file: File,
        name: &str,
        limits: &Limits,
        databases: &[&str],
        made_here: &(dyn Fn(&Digest) -> Result<bool, Problem> + Sync),
    ) -> Result<Archive, Fault> {
        let (file, size) = regular(file, name)?;
        let hashed = || -> Result<(Digest, bool), Fault> {
            let digest = digest_of(file.clone(), size, name)?;
            let made_here = made_here(&digest)?;
            Ok((digest, made_here))
        };
        let (hashed, archive) = parallel::both(hashed, || {
            Archive::listed(file.clone(), size, name, limits, databases)
        });
        let mut archive = archive?;
        let (digest, made_here) = hashed?;
        archive.sha256 = Some(digest);
        archive.made_here = made_here;
        Ok(archive)
    }

    /// Its structure, its names and its limits alone.
    fn listed(
        file: Arc<File>,
        size: u64,
        name: &str,
        limits: &Limits,
        databases: &[&str],
    ) -> Result<Archive, Fault> {
        let refuse = |why: String| Fault::Refused(vec![refused(name, &why)]);
        let listed = zip_layout::read(&mut Cursor::new(file.clone(), size), size, limits.entries)
            .map_err(|unfit| match unfit {
            Unfit::Refused(why) => refuse(why),
            Unfit::Repacked(why, advice) => Fault::Refused(vec![repacked(name, &why, advice)]),
            Unfit::Io(e) => Fault::Failed(unreadable(name, &e)),
        })?;
        let unpacked_most = limits.unpacked_mib.saturating_mul(1 << 20);
        let accepted = accept(listed, databases, unpacked_most).map_err(|whys| {
            let problem = |(why, advice): &(String, Option<String>)| match advice {
                Some(advice) => repacked(name, why, advice),
                None => refused(name, why),
            };
            Fault::Refused(whys.iter().map(problem).collect())
        })?;
        Ok(Archive {
            name: name.to_owned(),
            file,
            size,
            sha256: None,
            made_here: false,
            accepted: false,
            inflated: Inflated::of(accepted.entries.len()),
            entries: accepted.entries,
            by_name: accepted.by_name,
            unpacked_most,
            passed_over: accepted.passed_over,
            readers: Mutex::default(),
            // Replaced once they are read; there is no reading an entry without an archive.
            metadata: Metadata {
                backup_version: String::new(),
                created_at: String::new(),
                timestamp: None,
                system_info: None,
                contents: manifest::Contents::default(),
                holdfast: None,
            },
        })
    }

    /// The same with its metadata, and as another reader sees it.
    fn looked_into(mut self) -> Result<Archive, Fault> {
        let refuse = |why: String| Fault::Refused(vec![refused(&self.name, &why)]);
        let second = || match self.made_here {
            true => Ok(()),
            false => second_opinion(&self.file, self.size, &self.entries),
        };
        let (second, metadata) = parallel::both(second, || self.read_metadata());
        second.map_err(|seen| match seen {
            PassedBytes::Otherwise => refuse("two readers see two archives in it".into()),
            PassedBytes::Damaged(zip::result::ZipError::Io(e)) => {
                Fault::Failed(unreadable(&self.name, &e))
            }
            PassedBytes::Damaged(e) => refuse(format!("its structure is damaged: {e}")),
        })?;
        self.metadata = metadata?;
        let found = self.against_metadata();
        if !found.is_empty() {
            let advice = "it was packed again or changed since it was made; if a tool added what is not listed, take that out of a \
                          copy of the file: zip -d FILE ENTRY (a Mac's are '*/._*')";
            let problem = |why: &String| repacked(&self.name, why, advice);
            return Err(Fault::Refused(found.iter().map(problem).collect()));
        }
        Ok(self)
    }

    fn read_metadata(&self) -> Result<Metadata, Fault> {
        if !self.has(manifest::ENTRY) {
            let why = format!(
                "it has no {}, so it is not a backup of a gateway",
                manifest::ENTRY
            );
            return Err(Fault::Refused(vec![refused(&self.name, &why)]));
        }
        let each = METADATA_EACH * self.entries.len() as u64;
        let most = match self.accepted {
            true => METADATA_MOST,
            false => (METADATA + each).min(METADATA_MOST),
        };
        let bytes = self.read_small(manifest::ENTRY, most)?;
        Metadata::parse(&bytes, self.entries.len()).map_err(Fault::Refused)
    }

    /// The name that people are shown.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many entries a tool has added of its own (`__MACOSX/`, `.DS_Store` and the like): they are passed over.
    pub fn passed_over(&self) -> usize {
        self.passed_over
    }

    /// Every entry, in the order of the archive.
    pub fn entries(&self) -> &[ArchiveEntry] {
        &self.entries
    }

    /// The entry of this name.
    pub fn entry(&self, name: &str) -> Option<&ArchiveEntry> {
        self.find(name).map(|i| &self.entries[i])
    }

    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<usize> {
        let found = self
            .by_name
            .binary_search_by(|i| self.at(i).cmp(name))
            .ok()?;
        Some(self.by_name[found] as usize)
    }

    fn at(&self, i: &u32) -> &str {
        &self.entries[*i as usize].name
    }

    /// The same where names are asked for in about their order: `next` is where the one behind the last stands.
    fn find_next(&self, name: &str, next: &mut usize) -> Option<usize> {
        let found = match self.by_name.get(*next) {
            Some(i) if self.at(i) == name => *next,
            _ => self
                .by_name
                .binary_search_by(|i| self.at(i).cmp(name))
                .ok()?,
        };
        *next = found + 1;
        Some(self.by_name[found] as usize)
    }

    /// The databases that were backed up and that the profile does not name.
    pub fn unknown_databases(&self) -> Vec<String> {
        let unknown = self
            .entries
            .iter()
            .filter(|e| e.what == What::UnknownDatabase);
        let manifest = self.metadata.holdfast.as_ref();
        // Of what is not listed nothing was accepted.
        let names: BTreeSet<String> = unknown
            .filter_map(|e| self.unknown_database(&e.name, true, manifest))
            .collect();
        names.into_iter().collect()
    }

    /// The database that the profile does not name and that this entry is of, if the metadata say that it was backed up:
    /// they list it, or the manifest says that it was saved by its bytes.
    fn unknown_database(
        &self,
        entry: &str,
        listed: bool,
        manifest: Option<&Manifest>,
    ) -> Option<String> {
        let Some(escaped) = entry.strip_prefix(RAW_DATABASES) else {
            return listed.then(|| entry.to_owned());
        };
        let file = String::from_utf8(manifest::unescaped(escaped)?).ok()?;
        // Its name may end as that of a file beside another.
        let mut names = SIDES.iter().filter_map(|side| file.strip_suffix(side));
        let saved = |name: &&str| {
            let part = crate::gateway::parts::Part::Database((*name).to_owned());
            saved_raw(manifest, &part) && self.has(&raw_database(name, "")) && !self.has(name)
        };
        names.find(saved).map(str::to_owned)
    }

    /// Whether this box made it, as far as whoever opened it could tell.
    pub fn made_here(&self) -> bool {
        self.made_here
    }

    /// The metadata, less what they say of each entry: that stands with the entries.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Bytes that all entries declare, together.
    pub fn unpacked_size(&self) -> u64 {
        self.entries.iter().map(|e| e.size).sum()
    }

    /// SHA-256 of the whole file; it is read once.
    pub fn sha256(&mut self) -> Result<Digest, Fault> {
        if let Some(digest) = &self.sha256 {
            return Ok(digest.clone());
        }
        let digest = digest_of(self.file.clone(), self.size, &self.name)?;
        self.sha256 = Some(digest.clone());
        Ok(digest)
    }

    /// A small entry whole; one of more than `most` bytes is refused.
    pub fn read_small(&self, name: &str, most: u64) -> Result<Vec<u8>, Fault> {
        let mut bytes = Bounded {
            bytes: Vec::new(),
            most,
            over: false,
        };
        let copied = self.copy(name, &mut bytes);
        if bytes.over {
            let why = format!("its entry {} is over {most} bytes", name.escape_debug());
            return Err(Fault::Refused(vec![refused(&self.name, &why)]));
        }
        copied.map(|_| bytes.bytes)
    }

    /// Copies an entry out. What comes is as long as declared, fits its checksum and, if there is a manifest, is what the
    /// manifest says; over the whole archive no more is inflated than the limit.
    pub fn copy(&self, name: &str, out: &mut dyn Write) -> Result<Copied, Fault> {
        let Some(i) = self.find(name) else {
            return Err(self.refuse_entry(name, "is not there"));
        };
        let mut write = |bytes: &[u8]| {
            out.write_all(bytes).map_err(|e| {
                Fault::Failed(cannot(
                    format!(
                        "write what entry {} of the backup {} holds: {e}",
                        name.escape_debug(),
                        self.name
                    ),
                    "see whether the disk that holds the state folder is full or failing",
                ))
            })
        };
        if self.entries[i].size < LARGE {
            return self.with_reader(|reader| self.read(reader, i, &mut write));
        }
        self.copy_beside(i, &mut write)
    }

    /// Reads all of these entries, by their places, each whole, on all processors: `work` gets the bytes of each, and `take`
    /// what came of it, in their order. The caller bounds their sizes: two batches of entries, or one large entry, are in
    /// memory for each processor.
    pub fn read_each<R: Send>(
        &self,
        entries: &[usize],
        work: impl Fn(&ArchiveEntry, &[u8]) -> R + Sync,
        mut take: impl FnMut(usize, R),
    ) -> Result<(), Fault> {
        let batches = self.batches(entries);
        let mut taken = entries.iter();
        let whole = |reader: &mut Borrowed<'_>, batch: &&[usize]| -> Result<Vec<R>, Fault> {
            let (reader, bytes) = reader.parts();
            self.ahead(reader, batch)?;
            let mut done = Vec::with_capacity(batch.len());
            for i in *batch {
                bytes.clear();
                self.read(reader, *i, &mut |portion| {
                    bytes.extend_from_slice(portion);
                    Ok(())
                })?;
                done.push(work(&self.entries[*i], bytes));
            }
            Ok(done)
        };
        let new = || Borrowed::of(self);
        parallel::in_order(&batches, new, whole, |done| {
            for (done, i) in done?.into_iter().zip(taken.by_ref()) {
                take(*i, done);
            }
            Ok(())
        })
    }

    /// Reads every entry, on all processors, for what [`Archive::copy`] would find; tells how many bytes have come.
    pub fn read_all(&self, told: &mut dyn FnMut(u64)) -> Result<(), Fault> {
        let all: Vec<usize> = (0..self.entries.len()).collect();
        let mut done = 0;
        let pass = |reader: &mut Borrowed<'_>, batch: &&[usize]| -> Result<u64, Fault> {
            let (reader, _) = reader.parts();
            self.ahead(reader, batch)?;
            batch.iter().try_fold(0, |sum, i| {
                Ok(sum + self.read(reader, *i, &mut |_| Ok(()))?.size)
            })
        };
        let new = || Borrowed::of(self);
        parallel::in_order(&self.batches(&all), new, pass, |size| {
            done += size?;
            told(done);
            Ok(())
        })
    }

    /// In their order, such as one thread reads at a time.
    fn batches<'i>(&self, mut entries: &'i [usize]) -> Vec<&'i [usize]> {
        let mut batches = Vec::new();
        while !entries.is_empty() {
            let mut size = 0u64;
            let fits = |i: &&usize| {
                size = size.saturating_add(self.entries[**i].size);
                size <= BATCH_BYTES
            };
            let count = entries.iter().take(BATCH).take_while(fits).count().max(1);
            let (batch, rest) = entries.split_at(count);
            batches.push(batch);
            entries = rest;
        }
        batches
    }

    fn ahead(&self, reader: &mut Reader, batch: &[usize]) -> Result<(), Fault> {
        reader
            .ahead(batch.iter().map(|i| self.entries[*i].place))
            .map_err(|e| Fault::Failed(unreadable(&self.name, &e)))
    }

    /// A reader that nobody uses, for as long as this takes.
    fn with_reader<R>(&self, work: impl FnOnce(&mut Reader) -> R) -> R {
        work(Borrowed::of(self).parts().0)
    }

    /// One entry in portions, its bytes inflated beside whoever takes them.
    fn copy_beside(
        &self,
        i: usize,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<Copied, Fault> {
        let place = self.entries[i].place;
        thread::scope(|scope| {
            let (give, get) = sync_channel::<Vec<u8>>(WAITING);
            let inflate = move || {
                self.with_reader(|reader| {
                    let mut portion = Vec::with_capacity(PORTION);
                    let read = reader.read(place, |bytes| {
                        portion.extend_from_slice(bytes);
                        // Nobody takes them any more after an error.
                        if portion.len() + bytes.len() > PORTION {
                            give.send(std::mem::replace(&mut portion, Vec::with_capacity(PORTION)))
                                .map_err(drop)?;
                        }
                        Ok(())
                    });
                    match read {
                        Ok(()) => give.send(portion).map_err(|_| UnreadBytes::Stopped(())),
                        Err(e) => Err(e),
                    }
                })
            };
            let Ok(beside) = thread::Builder::new().spawn_scoped(scope, inflate) else {
                // Where there is no thread to be had, this one does it all.
                return self.with_reader(|reader| self.read(reader, i, take));
            };
            let mut taken = Taking::of(self, i);
            let took = get
                .iter()
                .try_for_each(|portion| taken.portion(&portion, take));
            drop(get);
            let read = match beside.join() {
                Ok(read) => read,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            took?;
            match read {
                Ok(()) | Err(UnreadBytes::Stopped(())) => taken.end(),
                Err(UnreadBytes::Damaged(why)) => Err(taken.damaged(&why)),
                Err(UnreadBytes::Io(e)) => Err(taken.unread(&e)),
            }
        })
    }

    /// One entry in portions.
    fn read(
        &self,
        reader: &mut Reader,
        i: usize,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<Copied, Fault> {
        let mut taken = Taking::of(self, i);
        let read = reader.read(self.entries[i].place, |portion| {
            taken.portion(portion, take)
        });
        match read {
            Ok(()) => taken.end(),
            Err(UnreadBytes::Stopped(fault)) => Err(fault),
            Err(UnreadBytes::Damaged(why)) => Err(taken.damaged(&why)),
            Err(UnreadBytes::Io(e)) => Err(taken.unread(&e)),
        }
    }

    fn refuse_entry(&self, entry: &str, why: &str) -> Fault {
        Fault::Refused(vec![refused(
            &self.name,
            &format!("its entry {} {why}", entry.escape_debug()),
        )])
    }

    /// What metadata and entries do not agree about. What they say of each entry goes to it.
    fn against_metadata(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let mut listed = vec![false; self.entries.len()];
        let mut name = String::new();
        let configs = std::mem::take(&mut self.metadata.contents.configs);
        let databases = self.metadata.contents.databases.clone();
        let mut next = 0;
        for (folder, names) in [(CONFIGS, &configs), ("", &databases)] {
            for listing in names {
                name.clear();
                name.extend([folder, listing]);
                match self.find_next(&name, &mut next) {
                    Some(i) => listed[i] = true,
                    None => found.push(format!(
                        "its metadata list {}, which is not in it",
                        zip_layout::shown(name.as_bytes())
                    )),
                }
            }
        }
        drop(configs);
        let mut manifest = self.metadata.holdfast.take();
        let entries = manifest.as_mut().map(|m| std::mem::take(&mut m.entries));
        let wireguard = manifest.as_mut().map(|m| std::mem::take(&mut m.wireguard));
        let mut next = 0;
        for (name, facts) in entries.into_iter().flatten() {
            match self.find_next(&name, &mut next) {
                Some(i) => {
                    let entry = &mut self.entries[i];
                    if facts.size != entry.size {
                        found.push(format!(
                            "its entry {} has {} bytes, and its manifest says {}",
                            zip_layout::shown(name.as_bytes()),
                            entry.size,
                            facts.size
                        ));
                    }
                    entry.sha256 = facts.sha256.into();
                    entry.owner = facts.owner.and_then(|owner| owner.try_into().ok());
                }
                None => found.push(format!(
                    "its manifest lists {}, which is not in it",
                    zip_layout::shown(name.as_bytes())
                )),
            }
        }
        let mut nexts = [0; 4];
        for (file, owner) in wireguard.into_iter().flatten() {
            let raw = manifest::escaped(file.as_bytes());
            let copies = [
                (CONFIGS, &file),
                (WIREGUARD, &file),
                (RAW_CONFIGS, &raw),
                (RAW_WIREGUARD, &raw),
            ];
            let mut there = false;
            for ((folder, file), next) in copies.into_iter().zip(&mut nexts) {
                name.clear();
                name.extend([folder, file]);
                if let Some(i) = self.find_next(&name, next) {
                    self.entries[i].owner_of_second = owner.try_into().ok();
                    // Only the manifest lists these.
                    listed[i] |= self.entries[i].what == What::SecondCopy;
                    there = true;
                }
            }
            if !there {
                found.push(format!(
                    "its manifest lists a second copy of {}, which is not in it",
                    zip_layout::shown(file.as_bytes())
                ));
            }
        }
        for (entry, listed) in self.entries.iter().zip(listed) {
            let shown = zip_layout::shown(entry.name.as_bytes());
            let unlisted = match entry.part() {
                EntryKind::Database(_) | EntryKind::Config(_) | EntryKind::SecondCopy(_) => !listed,
                EntryKind::RawConfig(_) | EntryKind::RawSecondCopy(_) | EntryKind::Kept(_) => {
                    manifest.is_none()
                }
                EntryKind::RawDatabase { name, side } => {
                    let twice = self.has(&name);
                    let alone = !self.has(&raw_database(&name, ""));
                    if twice && side.is_empty() || alone {
                        let why = if alone {
                            "without the database itself"
                        } else {
                            "besides the database"
                        };
                        found.push(format!("it has {shown} {why}"));
                    }
                    !saved_raw(
                        manifest.as_ref(),
                        &crate::gateway::parts::Part::Database(name),
                    )
                }
                EntryKind::UnknownDatabase => {
                    let of = self.unknown_database(&entry.name, listed, manifest.as_ref());
                    if of.is_none() {
                        found.push(format!("its entry {shown} {NOT_KNOWN}"));
                    }
                    false
                }
                EntryKind::Metadata
                | EntryKind::RulesV4
                | EntryKind::RulesNat
                | EntryKind::RulesForward
                | EntryKind::RulesV6 => false,
            };
            if self.plain_twin(entry).is_some() {
                found.push(format!(
                    "it has its entry {shown} once more, in a form for the gateway's own reader"
                ));
            }
            if unlisted {
                found.push(format!("its metadata do not list its entry {shown}"));
            }
            if manifest.is_some() && entry.what != What::Metadata && entry.sha256().is_none() {
                found.push(format!("its manifest does not list its entry {shown}"));
            }
        }
        self.metadata.holdfast = manifest;
        shortened(found)
    }

    /// The entry that holds the same file in its plain form, beside this raw one: nobody could say which of the two it is.
    fn plain_twin(&self, entry: &ArchiveEntry) -> Option<&ArchiveEntry> {
        let plain = |dir: &str, name: &[u8]| {
            let name = std::str::from_utf8(name).ok()?;
            self.entry(&format!("{dir}{name}"))
        };
        match entry.part() {
            EntryKind::RawDatabase { name, .. } => self.entry(&name),
            EntryKind::RawConfig(name) => plain(CONFIGS, &name),
            EntryKind::RawSecondCopy(name) => plain(WIREGUARD, &name),
            EntryKind::Metadata
            | EntryKind::Database(_)
            | EntryKind::Config(_)
            | EntryKind::SecondCopy(_)
            | EntryKind::RulesV4
            | EntryKind::RulesNat
            | EntryKind::RulesForward
            | EntryKind::RulesV6
            | EntryKind::Kept(_)
            | EntryKind::UnknownDatabase => None,
        }
    }
}

/// Whether the manifest says that a database was saved by its bytes.
fn saved_raw(manifest: Option<&Manifest>, part: &crate::gateway::parts::Part) -> bool {
    let fate = manifest.and_then(|m| m.parts.get(part));
    matches!(fate, Some(crate::gateway::parts::PartFate::SavedRaw { .. }))
}

/// What comes of one entry, counted, hashed and compared on the way.
struct Taking<'a> {
    archive: &'a Archive,
    i: usize,
    size: u64,
    hash: Sha256,
}

impl<'a> Taking<'a> {
    fn of(archive: &'a Archive, i: usize) -> Taking<'a> {
        Taking {
            archive,
            i,
            size: 0,
            hash: Sha256::new(),
        }
    }

    fn entry(&self) -> &'a ArchiveEntry {
        &self.archive.entries[self.i]
    }

    fn refuse(&self, why: &str) -> Fault {
        self.archive.refuse_entry(&self.entry().name, why)
    }

    fn damaged(&self, why: &str) -> Fault {
        self.refuse(&format!("is damaged: {why}"))
    }

    fn unread(&self, e: &io::Error) -> Fault {
        match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("the file ends before it"),
            _ => Fault::Failed(unreadable(&self.archive.name, e)),
        }
    }

    fn portion(
        &mut self,
        bytes: &[u8],
        take: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.size += bytes.len() as u64;
        let all = self.archive.inflated.count(self.i, self.size);
        if all > self.archive.unpacked_most {
            return Err(self.refuse(
                "unpacks to more than the limit (unpacked_mib under [limits] in the profile)",
            ));
        }
        if self.size > self.entry().size {
            return Err(self.refuse("unpacks to more than it says"));
        }
        self.hash.update(bytes);
        take(bytes)
    }

    fn end(self) -> Result<Copied, Fault> {
        let entry = self.entry();
        if self.size != entry.size {
            return Err(self.refuse("unpacks to less than it says"));
        }
        let copied = Copied {
            size: self.size,
            sha256: Digest::of_bytes(self.hash.finalize().into()),
        };
        let known = entry.sha256.get_or_init(|| copied.sha256.clone());
        if *known == copied.sha256 {
            return Ok(copied);
        }
        let why = match self.archive.metadata.holdfast.is_some() {
            true => "is not what the manifest says: it was changed after the backup was made",
            false => "changes while it is read",
        };
        Err(self.archive.refuse_entry(&entry.name, why))
    }
}

/// A reader of an archive's, and room for a small entry; it goes back when this is dropped.
struct Borrowed<'a> {
    archive: &'a Archive,
    reader: Option<Reader>,
    bytes: Vec<u8>,
}

impl<'a> Borrowed<'a> {
    fn of(archive: &'a Archive) -> Borrowed<'a> {
        let mut free = archive
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Borrowed {
            archive,
            reader: free.pop(),
            bytes: Vec::new(),
        }
    }

    fn parts(&mut self) -> (&mut Reader, &mut Vec<u8>) {
        let archive = self.archive;
        let new = || Reader::new(archive.file.clone(), archive.size);
        (self.reader.get_or_insert_with(new), &mut self.bytes)
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut free = self
            .archive
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        free.extend(self.reader.take());
    }
}

/// What a second pair of eyes sees on the same bytes.
enum PassedBytes {
    Otherwise,
    Damaged(zip::result::ZipError),
}

/// Reads the structure with another reader, which must see the very same entries at the very same places.
fn second_opinion(
    file: &Arc<File>,
    size: u64,
    entries: &[ArchiveEntry],
) -> Result<(), PassedBytes> {
    let config = Config {
        archive_offset: ArchiveOffset::Known(0),
    };
    let mut zip = ZipArchive::with_config(config, Cursor::new(file.clone(), size))
        .map_err(PassedBytes::Damaged)?;
    zip.validate_header_consistency()
        .map_err(PassedBytes::Damaged)?;
    for entry in entries {
        let index = entry.index as usize;
        if zip.index_for_name_raw(entry.name.as_bytes()) != Some(index) {
            return Err(PassedBytes::Otherwise);
        }
        let seen = zip.by_index_raw(index).map_err(PassedBytes::Damaged)?;
        let method = match entry.place.deflated {
            true => zip::CompressionMethod::Deflated,
            false => zip::CompressionMethod::Stored,
        };
        let same = seen.data_start() == Some(entry.place.at)
            && seen.compressed_size() == entry.place.packed
            && seen.size() == entry.size
            && seen.crc32() == entry.place.crc
            && seen.compression() == method;
        if !same {
            return Err(PassedBytes::Otherwise);
        }
    }
    Ok(())
}

/// A file that can be read at any place, and its size.
fn regular(file: File, name: &str) -> Result<(Arc<File>, u64), Fault> {
    let facts = file
        .metadata()
        .map_err(|e| Fault::Failed(unreadable(name, &e)))?;
    match facts.is_file() {
        true => Ok((Arc::new(file), facts.len())),
        false => Err(Fault::Refused(vec![refused(
            name,
            "it is not a regular file",
        )])),
    }
}

/// SHA-256 of all of a file.
fn digest_of(file: Arc<File>, size: u64, name: &str) -> Result<Digest, Fault> {
    let mut hash = Sha256::new();
    let mut cursor = Cursor::new(file, size);
    let mut at = 0u64;
    while at < size {
        let bytes = cursor
            .some(at, BUFFER.min(size - at))
            .map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => changes(name),
                _ => Fault::Failed(unreadable(name, &e)),
            })?;
        hash.update(bytes);
        at += bytes.len() as u64;
    }
    Ok(Digest::of_bytes(hash.finalize().into()))
}

fn changes(name: &str) -> Fault {
    Fault::Refused(vec![refused(name, "it changes while it is read")])
}

/// Takes what fits and notes the rest: an entry that is too long must not take memory first.
struct Bounded {
    bytes: Vec<u8>,
    most: u64,
    over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + bytes.len()) as u64 > self.most {
            self.over = true;
            return Err(io::Error::other("over the limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn refused(archive: &str, why: &str) -> Problem {
    cannot(
        format!("accept the backup {}: {why}", archive.escape_debug()),
        "fetch the file again, or take another backup; nothing was changed",
    )
}

/// What an honest tool may have made of a backup, with how to undo that.
fn repacked(archive: &str, why: &str, advice: &str) -> Problem {
    cannot(
        format!("accept the backup {}: {why}", archive.escape_debug()),
        format!("{advice}; or take another backup; nothing was changed"),
    )
}

fn unreadable(archive: &str, e: &dyn fmt::Display) -> Problem {
    cannot(
        format!("read the backup {}: {e}", archive.escape_debug()),
        "see to the disk that holds it",
    )
}

fn shortened(mut found: Vec<String>) -> Vec<String> {
    if found.len() > NAMED {
        let more = found.len() - NAMED;
        found.truncate(NAMED);
        found.push(format!("and {more} more of the kind"));
    }
    found
}

#[cfg(test)]
mod tests;
