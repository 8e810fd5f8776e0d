//! One backup as one open file: its structure, its names and its limits are checked before any of it is used, and its
//! entries are read from that same open file, never by its path again.
//!
//! An allow-list of names is read; the metadata never decide what is checked. Nothing is allocated from a size that the
//! file declares, and bytes count as they are really inflated. Must not: write any file, or follow any name.

mod cursor;
mod layout;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use journal_format::Digest;
use sha2::{Digest as _, Sha256};
use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};

use crate::fault::{Fault, Problem, cannot};
use crate::firewall::Family;
use crate::manifest::{self, Metadata};
use crate::profile::Limits;
use cursor::Cursor;
use layout::Unfit;

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

/// Longest name of a file, as filesystems have it.
const NAME: usize = 255;
/// Problems named for one archive before the rest is only counted.
const NAMED: usize = 20;
const BUFFER: usize = 64 * 1024;
/// Metadata are read whole: this much, for what is listed and is no entry, and so much for each entry.
const METADATA: u64 = 4 << 20;
const METADATA_EACH: u64 = 2048;

/// One entry of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its whole name, as `configs/a.conf`.
    pub name: String,
    /// What it is.
    pub part: Part,
    /// Its declared size; true once it has been copied without complaint.
    pub size: u64,
    index: usize,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `backup_metadata.json`.
    Metadata,
    /// A database, by its name in the profile.
    Database(String),
    /// The first copy of a config, by file name.
    Config(String),
    /// The second copy of a config, where it differs, by file name.
    SecondCopy(String),
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

/// Small entries that were read together.
#[derive(Debug)]
pub struct ReadMany {
    /// Their bytes, one behind the other.
    pub bytes: Vec<u8>,
    /// Where each ends in these bytes, and what it proved to be.
    pub entries: Vec<(usize, Copied)>,
}

/// An open, checked backup.
pub struct Archive {
    name: String,
    file: Arc<File>,
    size: u64,
    sha256: Option<Digest>,
    zip: ZipArchive<Cursor>,
    entries: Vec<Entry>,
    by_name: BTreeMap<String, usize>,
    /// Bytes inflated so far, of each entry and of all.
    inflated: Vec<u64>,
    inflated_all: u64,
    unpacked_most: u64,
    buffer: Vec<u8>,
    metadata: Metadata,
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
        let refuse = |why: String| Fault::Refused(vec![refused(name, &why)]);
        let broken = |e: &dyn fmt::Display| Fault::Failed(unreadable(name, e));
        let facts = file.metadata().map_err(|e| broken(&e))?;
        if !facts.is_file() {
            return Err(refuse("it is not a regular file".into()));
        }
        let size = facts.len();
        let file = Arc::new(file);
        let listed = layout::read(&mut Cursor::new(file.clone(), size), size, limits.entries)
            .map_err(|unfit| match unfit {
                Unfit::Refused(why) => refuse(why),
                Unfit::Io(e) => broken(&e),
            })?;
        let unpacked_most = limits.unpacked_mib.saturating_mul(1 << 20);
        let entries = accept(&listed, databases, unpacked_most)
            .map_err(|whys| Fault::Refused(whys.iter().map(|why| refused(name, why)).collect()))?;
        drop(listed);
        // A second pair of eyes on the same bytes, and the one that inflates.
        let config = Config {
            archive_offset: ArchiveOffset::Known(0),
        };
        let structure = |e: zip::result::ZipError| match e {
            zip::result::ZipError::Io(e) => broken(&e),
            e => refuse(format!("its structure is damaged: {e}")),
        };
        let mut zip =
            ZipArchive::with_config(config, Cursor::new(file.clone(), size)).map_err(structure)?;
        zip.validate_header_consistency().map_err(structure)?;
        let same = entries
            .iter()
            .all(|e| zip.index_for_name_raw(e.name.as_bytes()) == Some(e.index));
        if !same {
            return Err(refuse("two readers see two archives in it".into()));
        }
        let by_name: BTreeMap<String, usize> = entries
            .iter()
            .enumerate()
            .map(|(i, e)| (e.name.clone(), i))
            .collect();
        if !by_name.contains_key(manifest::ENTRY) {
            return Err(refuse(format!(
                "it has no {}, so it is not a backup of a gateway",
                manifest::ENTRY
            )));
        }
        let mut archive = Archive {
            name: name.to_owned(),
            file,
            size,
            sha256: None,
            inflated: vec![0; entries.len()],
            inflated_all: 0,
            zip,
            entries,
            by_name,
            unpacked_most,
            buffer: Vec::new(),
            // Replaced right below; there is no reading an entry without an archive.
            metadata: Metadata {
                backup_version: String::new(),
                created_at: String::new(),
                timestamp: None,
                system_info: None,
                contents: manifest::Contents::default(),
                holdfast: None,
            },
        };
        let most = METADATA + METADATA_EACH * archive.entries.len() as u64;
        let bytes = archive.read_small(manifest::ENTRY, most)?;
        archive.metadata = Metadata::parse(&bytes).map_err(Fault::Refused)?;
        let found = archive.against_metadata();
        if !found.is_empty() {
            return Err(Fault::Refused(
                found.iter().map(|why| refused(name, why)).collect(),
            ));
        }
        Ok(archive)
    }

    /// The name that people are shown.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Every entry, in the order of the archive.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of this name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name).map(|i| &self.entries[*i])
    }

    /// The metadata.
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
        let mut hash = Sha256::new();
        let mut cursor = Cursor::new(self.file.clone(), self.size);
        let mut buffer = vec![0u8; BUFFER];
        let mut read = 0u64;
        loop {
            let n = cursor
                .read(&mut buffer)
                .map_err(|e| Fault::Failed(unreadable(&self.name, &e)))?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            read += n as u64;
        }
        if read != self.size {
            return Err(Fault::Refused(vec![refused(
                &self.name,
                "it changes while it is read",
            )]));
        }
        let digest = Digest::of_bytes(hash.finalize().into());
        self.sha256 = Some(digest.clone());
        Ok(digest)
    }

    /// A small entry whole; one of more than `most` bytes is refused.
    pub fn read_small(&mut self, name: &str, most: u64) -> Result<Vec<u8>, Fault> {
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
    pub fn copy(&mut self, name: &str, out: &mut dyn Write) -> Result<Copied, Fault> {
        let (size, sha256) = self.copy_bytes(name, out)?;
        Ok(Copied {
            size,
            sha256: Digest::of_bytes(sha256),
        })
    }

    /// Small entries whole, one behind the other: where each ends, and what each is. The caller bounds their sizes.
    ///
    /// Thousands of small results kept between the large buffers that inflating takes and gives back would leave the heap
    /// in shreds (four times the memory, measured): here nothing small is kept before all are read.
    pub fn read_many(&mut self, names: &[String]) -> Result<ReadMany, Fault> {
        let mut bytes = Vec::new();
        let mut read = Vec::with_capacity(names.len());
        for name in names {
            let (size, sha256) = self.copy_bytes(name, &mut bytes)?;
            read.push((bytes.len(), size, sha256));
        }
        let copied = |(end, size, sha256)| {
            (
                end,
                Copied {
                    size,
                    sha256: Digest::of_bytes(sha256),
                },
            )
        };
        let entries = read.into_iter().map(copied).collect();
        Ok(ReadMany { bytes, entries })
    }

    fn copy_bytes(&mut self, name: &str, out: &mut dyn Write) -> Result<(u64, [u8; 32]), Fault> {
        let refuse = |archive: &str, why: &str| {
            Fault::Refused(vec![refused(
                archive,
                &format!("its entry {} {why}", name.escape_debug()),
            )])
        };
        let Some(&i) = self.by_name.get(name) else {
            return Err(refuse(&self.name, "is not there"));
        };
        let (index, declared) = (self.entries[i].index, self.entries[i].size);
        // Copying an entry again costs no more of the limit than the first time.
        let before = self.inflated[i];
        let most = self
            .unpacked_most
            .saturating_sub(self.inflated_all - before);
        let mut input = self
            .zip
            .by_index(index)
            .map_err(|e| refuse(&self.name, &format!("cannot be read: {e}")))?;
        let mut hash = Sha256::new();
        let mut size = 0u64;
        self.buffer.resize(BUFFER, 0);
        loop {
            let n = match input.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if damaged(&e) => {
                    return Err(refuse(&self.name, &format!("is damaged: {e}")));
                }
                Err(e) => return Err(Fault::Failed(unreadable(&self.name, &e))),
            };
            size += n as u64;
            if size > self.inflated[i] {
                self.inflated_all += size - self.inflated[i];
                self.inflated[i] = size;
            }
            if size > most {
                return Err(refuse(
                    &self.name,
                    "unpacks to more than the limit (unpacked_mib under [limits] in the profile)",
                ));
            }
            if size > declared {
                return Err(refuse(&self.name, "unpacks to more than it says"));
            }
            hash.update(&self.buffer[..n]);
            out.write_all(&self.buffer[..n]).map_err(|e| {
                Fault::Failed(cannot(
                    format!(
                        "write what entry {} of the backup {} holds: {e}",
                        name.escape_debug(),
                        self.name
                    ),
                    "see whether the disk that holds the state folder is full or failing",
                ))
            })?;
        }
        drop(input);
        if size != declared {
            return Err(refuse(&self.name, "unpacks to less than it says"));
        }
        let sha256: [u8; 32] = hash.finalize().into();
        let promised = self
            .metadata
            .holdfast
            .as_ref()
            .and_then(|m| m.entries.get(name));
        if promised.is_some_and(|p| p.size != size || p.sha256 != Digest::of_bytes(sha256)) {
            return Err(refuse(
                &self.name,
                "is not what the manifest says: it was changed after the backup was made",
            ));
        }
        Ok((size, sha256))
    }

    /// What metadata and entries do not agree about.
    fn against_metadata(&self) -> Vec<String> {
        let mut found = Vec::new();
        let contents = &self.metadata.contents;
        let configs: BTreeSet<String> = contents
            .configs
            .iter()
            .map(|c| format!("{CONFIGS}{c}"))
            .collect();
        let databases: BTreeSet<String> = contents.databases.iter().cloned().collect();
        for listed in configs.iter().chain(&databases) {
            if !self.by_name.contains_key(listed) {
                found.push(format!(
                    "its metadata list {}, which is not in it",
                    layout::shown(listed.as_bytes())
                ));
            }
        }
        let manifest = self.metadata.holdfast.as_ref();
        for entry in &self.entries {
            let shown = layout::shown(entry.name.as_bytes());
            let unlisted = match &entry.part {
                Part::Database(_) => !databases.contains(&entry.name),
                Part::Config(_) => !configs.contains(&entry.name),
                // Only the manifest lists these.
                Part::SecondCopy(name) => !manifest.is_some_and(|m| m.wireguard.contains_key(name)),
                Part::RawConfig(_) | Part::RawSecondCopy(_) | Part::Kept(_) => manifest.is_none(),
                Part::RawDatabase { name, side } => {
                    let twice = self.by_name.contains_key(name);
                    let alone = !self.by_name.contains_key(&raw_database(name, ""));
                    if twice && side.is_empty() || alone {
                        let why = if alone {
                            "without the database itself"
                        } else {
                            "besides the database"
                        };
                        found.push(format!("it has {shown} {why}"));
                    }
                    let part = crate::parts::Part::Database(name.clone());
                    let fate = manifest.and_then(|m| m.parts.get(&part));
                    !matches!(fate, Some(crate::parts::Fate::SavedRaw { .. }))
                }
                Part::Metadata
                | Part::RulesV4
                | Part::RulesNat
                | Part::RulesForward
                | Part::RulesV6 => false,
            };
            if self.plain_twin(&entry.part).is_some() {
                found.push(format!(
                    "it has its entry {shown} once more, in a form for the gateway's own reader"
                ));
            }
            if unlisted {
                found.push(format!("its metadata do not list its entry {shown}"));
            }
            if let Some(manifest) = manifest
                && entry.part != Part::Metadata
            {
                match manifest.entries.get(&entry.name) {
                    None => found.push(format!("its manifest does not list its entry {shown}")),
                    Some(facts) if facts.size != entry.size => {
                        found.push(format!(
                            "its entry {shown} has {} bytes, and its manifest says {}",
                            entry.size, facts.size
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        if let Some(manifest) = manifest {
            for name in manifest
                .entries
                .keys()
                .filter(|n| !self.by_name.contains_key(*n))
            {
                found.push(format!(
                    "its manifest lists {}, which is not in it",
                    layout::shown(name.as_bytes())
                ));
            }
            for name in manifest.wireguard.keys() {
                let raw = manifest::escaped(name.as_bytes());
                let there = [
                    format!("{CONFIGS}{name}"),
                    format!("{WIREGUARD}{name}"),
                    format!("{RAW_CONFIGS}{raw}"),
                    format!("{RAW_WIREGUARD}{raw}"),
                ]
                .iter()
                .any(|entry| self.by_name.contains_key(entry));
                if !there {
                    found.push(format!(
                        "its manifest lists a second copy of {}, which is not in it",
                        layout::shown(name.as_bytes())
                    ));
                }
            }
        }
        shortened(found)
    }

    /// The entry that holds the same file in its plain form, beside this raw one: nobody could say which of the two it is.
    fn plain_twin(&self, part: &Part) -> Option<&Entry> {
        let plain = |dir: &str, name: &[u8]| {
            let name = std::str::from_utf8(name).ok()?;
            self.entry(&format!("{dir}{name}"))
        };
        match part {
            Part::RawDatabase { name, .. } => self.entry(name),
            Part::RawConfig(name) => plain(CONFIGS, name),
            Part::RawSecondCopy(name) => plain(WIREGUARD, name),
            Part::Metadata
            | Part::Database(_)
            | Part::Config(_)
            | Part::SecondCopy(_)
            | Part::RulesV4
            | Part::RulesNat
            | Part::RulesForward
            | Part::RulesV6
            | Part::Kept(_) => None,
        }
    }
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

fn unreadable(archive: &str, e: &dyn fmt::Display) -> Problem {
    cannot(
        format!("read the backup {}: {e}", archive.escape_debug()),
        "see to the disk that holds it",
    )
}

/// Whether a failed read says something about the bytes and not about the disk.
fn damaged(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
    ) || (e.kind() == io::ErrorKind::Other && e.raw_os_error().is_none())
}

fn shortened(mut found: Vec<String>) -> Vec<String> {
    if found.len() > NAMED {
        let more = found.len() - NAMED;
        found.truncate(NAMED);
        found.push(format!("and {more} more of the kind"));
    }
    found
}

/// Every entry that is listed, if all are acceptable; else why not.
fn accept(
    listed: &[layout::Listed],
    databases: &[&str],
    unpacked_most: u64,
) -> Result<Vec<Entry>, Vec<String>> {
    let mut found = Vec::new();
    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    let mut total = 0u64;
    for (index, l) in listed.iter().enumerate() {
        let shown = layout::shown(&l.name);
        match acceptable(l, databases) {
            Ok(part) => {
                total = total.saturating_add(l.sizes.size);
                let name = String::from_utf8_lossy(&l.name).into_owned();
                // Names on Linux have case, and umlauts of one sign or two: others are other files.
                if !seen.insert(name.clone()) {
                    found.push(format!("it has two entries named {shown}"));
                }
                if let Some(part) = part {
                    entries.push(Entry {
                        name,
                        part,
                        size: l.sizes.size,
                        index,
                    });
                }
            }
            Err(why) => found.push(format!("its entry {shown} {why}")),
        }
    }
    if total > unpacked_most {
        found.push(format!(
            "unpacked it has {} MiB, and the limit is {} MiB (unpacked_mib under [limits] in the profile)",
            total.div_ceil(1 << 20),
            unpacked_most >> 20
        ));
    }
    if found.is_empty() {
        Ok(entries)
    } else {
        Err(shortened(found))
    }
}

/// What one entry is, or why it is not acceptable; none for a folder that may be there.
fn acceptable(l: &layout::Listed, databases: &[&str]) -> Result<Option<Part>, String> {
    const TYPE: u32 = 0o170_000;
    const REGULAR: u32 = 0o100_000;
    const FOLDER: u32 = 0o040_000;
    if l.flags & (1 | 1 << 6 | 1 << 13) != 0 {
        return Err("is encrypted".into());
    }
    const STORED: u16 = 0;
    const DEFLATED: u16 = 8;
    if l.method != STORED && l.method != DEFLATED {
        return Err(format!(
            "is packed with method {}, and only stored and deflated are known",
            l.method
        ));
    }
    let Ok(name) = std::str::from_utf8(&l.name) else {
        return Err("has a name that is not UTF-8".into());
    };
    if !name.is_ascii() && l.flags & 1 << 11 == 0 {
        return Err("has a name beyond ASCII that is not marked as UTF-8".into());
    }
    // As long as a file's name may be, in each of its folders; escaped it may be three times as long.
    let most = if name.starts_with(RAW) {
        3 * NAME
    } else {
        NAME
    };
    let longest = name.split('/').map(str::len).max().unwrap_or_default();
    if longest > most {
        return Err(format!(
            "has a name of {longest} bytes, and the limit is {most}"
        ));
    }
    if l.unix_mode & 0o7000 != 0 {
        return Err("has set-id or sticky bits".into());
    }
    let kind = l.unix_mode & TYPE;
    if is_folder(name) {
        return if (kind == 0 || kind == FOLDER) && l.sizes.size == 0 && l.sizes.packed <= 2 {
            Ok(None)
        } else {
            Err("is named like a folder and is not one".into())
        };
    }
    if kind != 0 && kind != REGULAR {
        return Err(
            "is not a regular file: links, folders and devices have no place in a backup".into(),
        );
    }
    part(name, databases).map(Some)
}

/// The folders that a backup's entries lie in, and those above them: a tool that packs folders makes entries of them.
fn is_folder(name: &str) -> bool {
    let places = [
        CONFIGS,
        WIREGUARD,
        KEPT,
        RAW_CONFIGS,
        RAW_WIREGUARD,
        RAW_DATABASES,
    ];
    name.ends_with('/') && places.iter().any(|place| place.starts_with(name))
}

/// The name of a config, as an entry in a form for the gateway's own reader can have it; none if its bytes stand below
/// [`RAW`], whatever is in it.
pub fn plain_config_name(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    let stem = name.strip_suffix(".conf")?;
    let plain = !stem.is_empty()
        && name.len() <= NAME
        // The gateway's own reader takes no name that could lead out.
        && !name.contains("..")
        && !name.contains(['/', '\\'])
        && !name.chars().any(char::is_control);
    plain.then_some(name)
}

/// What an entry below [`RAW`] is.
fn raw_part(name: &str, databases: &[&str]) -> Result<Part, String> {
    let file = |escaped: &str| {
        manifest::unescaped(escaped)
            .filter(|name| !name.is_empty() && name.len() <= NAME)
            .filter(|name| !name.contains(&b'/') && !name.contains(&0))
            .ok_or_else(|| "has a name that is not that of a file, escaped".to_owned())
    };
    let config = |escaped: &str| {
        let name = file(escaped)?;
        if name.ends_with(b".conf") {
            Ok(name)
        } else {
            Err("is not a config: its name does not end in .conf".to_owned())
        }
    };
    if let Some(escaped) = name.strip_prefix(RAW_CONFIGS) {
        config(escaped).map(Part::RawConfig)
    } else if let Some(escaped) = name.strip_prefix(RAW_WIREGUARD) {
        config(escaped).map(Part::RawSecondCopy)
    } else if let Some(escaped) = name.strip_prefix(RAW_DATABASES) {
        raw_file(escaped, databases)
    } else {
        Err("has no place in a backup of a gateway".into())
    }
}

/// The allow-list.
fn part(name: &str, databases: &[&str]) -> Result<Part, String> {
    let config = |file: &str| -> Result<String, String> {
        let stem = file
            .strip_suffix(".conf")
            .ok_or("is not a config: its name does not end in .conf")?;
        let bad =
            stem.is_empty() || file.contains(['/', '\\']) || file.chars().any(char::is_control);
        if bad {
            Err("has a name that is not the name of a plain file".into())
        } else {
            Ok(file.to_owned())
        }
    };
    match name {
        manifest::ENTRY => Ok(Part::Metadata),
        RULES_V4 => Ok(Part::RulesV4),
        RULES_NAT => Ok(Part::RulesNat),
        RULES_FORWARD => Ok(Part::RulesForward),
        RULES_V6 => Ok(Part::RulesV6),
        KEPT_V4 => Ok(Part::Kept(Family::V4)),
        KEPT_V6 => Ok(Part::Kept(Family::V6)),
        _ if name.starts_with(RAW) => raw_part(name, databases),
        _ if databases.contains(&name) => Ok(Part::Database(name.to_owned())),
        _ => {
            if let Some(file) = name.strip_prefix(CONFIGS) {
                config(file).map(Part::Config)
            } else if let Some(file) = name.strip_prefix(WIREGUARD) {
                config(file).map(Part::SecondCopy)
            } else if name.ends_with(".db")
                && !name.contains(['/', '\\'])
                && !name.chars().any(char::is_control)
            {
                Err("is a database that the profile does not know ([[gateway.database]])".into())
            } else {
                Err("has no place in a backup of a gateway".into())
            }
        }
    }
}

/// A file of a database whose bytes are saved, by its escaped name.
fn raw_file(escaped: &str, databases: &[&str]) -> Result<Part, String> {
    let file = manifest::unescaped(escaped).and_then(|name| String::from_utf8(name).ok());
    let known = file.and_then(|file| {
        SIDES.into_iter().find_map(|side| {
            let name = file.strip_suffix(side)?;
            databases.contains(&name).then(|| Part::RawDatabase {
                name: name.to_owned(),
                side,
            })
        })
    });
    known.ok_or_else(|| {
        "is a file of a database that the profile does not know ([[gateway.database]])".into()
    })
}

#[cfg(test)]
mod tests;
