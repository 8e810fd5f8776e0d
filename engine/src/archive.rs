//! One backup as one open file: its structure, its names and its limits are checked before any of it is used, and its
//! entries are read from that same open file, never by its path again.
//!
//! An allow-list of names is read; the metadata never decide what is checked. Nothing is allocated from a size that the
//! file declares, and bytes count as they are really inflated. Must not: write any file, or follow any name.

mod accept;
mod agreement;
pub mod catalog;
mod cursor;
mod entry;
mod inflate;
pub mod lost;
pub mod manifest;
mod reading;
mod second_reader;
pub mod verify;
mod zip_layout;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use journal_format::Digest;
use sha2::{Digest as _, Sha256};

use crate::error::{Code, Fault, OrCannot, Problem, cannot};
use crate::gateway::profile::Limits;
use crate::parallel;
use crate::text::wording::{name, quoted};
use accept::accept;
use agreement::NOT_LISTED;
use cursor::Cursor;
pub use entry::{
    ArchiveEntry, CONFIGS, EntryKind, KEPT, KEPT_V4, KEPT_V6, RAW, RAW_CONFIGS, RAW_DATABASES,
    RAW_WIREGUARD, RULES_FORWARD, RULES_NAT, RULES_V4, RULES_V6, SIDES, WIREGUARD, kept,
    raw_database,
};
use inflate::Reader;
use manifest::Metadata;
use reading::Inflated;
use second_reader::second_opinion;
use zip::result::ZipError;
use zip_layout::Unfit;

/// Problems named for one archive before the rest is only counted.
const NAMED: usize = 20;
/// Bytes that are hashed at once.
const BUFFER: u64 = 256 << 10;
/// Metadata are read whole: this much, for what is listed and is no entry, and so much for each entry; and never more than
/// this, which is also what they may have where this box made them: the peers of tunnels are in them without an entry. Holdfast
/// itself writes some 170 bytes for a client.
const METADATA: u64 = 4 << 20;
const METADATA_EACH: u64 = 1024;
const METADATA_MOST: u64 = 64 << 20;

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

/// The file of a backup, opened once. While it is open no prune removes it.
pub fn opened(path: &Path) -> Result<File, Problem> {
    let open = || -> io::Result<File> {
        let file = File::open(path)?;
        // Where it cannot be locked, it can be read all the same: it is unlinked, if at all, and not cut short.
        let _ = file.try_lock_shared();
        Ok(file)
    };
    open().or_cannot(
        Code::IO,
        format_args!("open the backup {}", path.display()),
        "name a backup that is there (`holdfast backups` lists them); nothing was changed",
    )
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
    /// Opens a backup and checks structure, names, limits and metadata, with [`Archive::sha256`] beside it; contents are checked
    /// as they are copied.
    ///
    /// `name` is what people are shown, never a path. `databases` are the names that the profile knows. `made_here` tells of
    /// that digest whether this box made the file: then it was read by both readers when it was made.
    pub fn open(
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

    /// [`Archive::open`] for the backup that is being made: what is there fits, whatever the limits say. They are for what
    /// others send.
    pub fn open_new(file: File, name: &str, databases: &[&str]) -> Result<Archive, Fault> {
        let all = Limits {
            upload_mib: u64::MAX >> 20,
            unpacked_mib: u64::MAX >> 20,
            entries: u64::MAX,
            ..Limits::default()
        };
        let mut archive = Archive::hashed(file, name, &all, databases, &|_| Ok(false))?;
        archive.accepted = true;
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
        let listed = zip_layout::read(&mut Cursor::new(file.clone(), size), size, limits.entries)
            .map_err(|unfit| match unfit {
            Unfit::Refused(code, why) => Fault::Refused(vec![refused(code, name, &why)]),
            Unfit::Repacked(why, advice) => Fault::Refused(vec![repacked(name, &why, advice)]),
            Unfit::Io(e) => unreadable(name, &e),
        })?;
        let unpacked_most = limits.unpacked_mib.saturating_mul(1 << 20);
        let accepted = accept(listed, databases, unpacked_most).map_err(|whys| {
            let problem = |(code, why, advice): &(Code, String, Option<String>)| match advice {
                Some(advice) if *code == Code::ARCHIVE_REPACKED => repacked(name, why, advice),
                Some(advice) => Problem {
                    advice: format!("{advice} (`holdfast backups`); nothing was changed"),
                    ..refused(code.clone(), name, why)
                },
                None => refused(code.clone(), name, why),
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
            metadata: Metadata::default(),
        })
    }

    /// The same with its metadata, and as another reader sees it.
    fn looked_into(mut self) -> Result<Archive, Fault> {
        let refuse = |why: &str| refuse(&self.name, why);
        let second = || match self.made_here {
            true => Ok(true),
            false => second_opinion(&self.file, self.size, &self.entries),
        };
        let (second, metadata) = parallel::both(second, || self.read_metadata());
        match second {
            Ok(true) => {}
            Ok(false) => return Err(refuse("two readers see two archives in it")),
            Err(ZipError::Io(e)) => return Err(unreadable(&self.name, &e)),
            Err(e) => return Err(refuse(&format!("its structure is damaged: {e}"))),
        }
        self.metadata = metadata?;
        let found = self.against_metadata();
        if !found.is_empty() {
            let extra = found.iter().filter_map(|why| why.split_once(NOT_LISTED));
            let extra: Vec<String> = extra.map(|(_, entry)| quoted(entry)).collect();
            let remove = match extra.as_slice() {
                [] => String::new(),
                [one] => format!(
                    ". If you trust it, copy it and remove the extra entry: `zip -d COPY {one}` (a Mac adds entries like '*/._*')"
                ),
                all => format!(
                    ". If you trust it, copy it and remove the extra entries: `zip -d COPY {}` (a Mac adds entries like '*/._*')",
                    all.join(" ")
                ),
            };
            let advice = format!("the archive was repacked or changed{remove}");
            let problem = |why: &String| repacked(&self.name, why, &advice);
            let mut problems: Vec<Problem> = found.iter().map(problem).collect();
            // It is the same for all.
            if let [others @ .., _] = problems.as_mut_slice() {
                others.iter_mut().for_each(|other| other.advice.clear());
            }
            return Err(Fault::Refused(problems));
        }
        Ok(self)
    }

    fn read_metadata(&self) -> Result<Metadata, Fault> {
        if !self.has(manifest::ENTRY) {
            let why = format!(
                "it has no {}, so it is not a backup of a gateway",
                manifest::ENTRY
            );
            return Err(refuse(&self.name, &why));
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
        let found = self.search(name)?;
        Some(self.by_name[found] as usize)
    }

    fn search(&self, name: &str) -> Option<usize> {
        let by_name = |i: &u32| self.at(i).cmp(name);
        self.by_name.binary_search_by(by_name).ok()
    }

    fn at(&self, i: &u32) -> &str {
        &self.entries[*i as usize].name
    }

    /// The same where names are asked for in about their order: `next` is where the one behind the last stands.
    fn find_next(&self, name: &str, next: &mut usize) -> Option<usize> {
        let found = match self.by_name.get(*next) {
            Some(i) if self.at(i) == name => *next,
            _ => self.search(name)?,
        };
        *next = found + 1;
        Some(self.by_name[found] as usize)
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
}

/// A file that can be read at any place, and its size.
fn regular(file: File, name: &str) -> Result<(Arc<File>, u64), Fault> {
    let facts = file.metadata().map_err(|e| unreadable(name, &e))?;
    match facts.is_file() {
        true => Ok((Arc::new(file), facts.len())),
        false => Err(refuse(name, "it is not a regular file")),
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
                io::ErrorKind::UnexpectedEof => refuse(name, "it changes while it is read"),
                _ => unreadable(name, &e),
            })?;
        hash.update(bytes);
        at += bytes.len() as u64;
    }
    Ok(Digest::of_bytes(hash.finalize().into()))
}

fn refuse(archive: &str, why: &str) -> Fault {
    Fault::Refused(vec![refused(Code::ARCHIVE_DAMAGED, archive, why)])
}

fn refused(code: Code, archive: &str, why: &str) -> Problem {
    cannot(
        code,
        format!("accept the backup {}: {why}", name(archive)),
        "copy the file again and compare its `sha256sum`, or choose another backup (`holdfast backups`); nothing was changed",
    )
}

/// What an honest tool may have made of a backup, with how to undo that.
fn repacked(archive: &str, why: &str, advice: &str) -> Problem {
    cannot(
        Code::ARCHIVE_REPACKED,
        format!("accept the backup {}: {why}", name(archive)),
        format!("{advice}; or choose another backup (`holdfast backups`); nothing was changed"),
    )
}

fn unreadable(archive: &str, e: &dyn fmt::Display) -> Fault {
    let what = format!("read the backup {}: {e}", name(archive));
    Fault::Failed(cannot(
        Code::IO,
        what,
        "check the disk that holds it: `dmesg` shows whether it fails",
    ))
}

#[cfg(test)]
mod tests;
