//! Makes a backup of a live gateway, in the gateway's own format 1.0 and a little more.
//!
//! It streams: a database is copied by SQLite into a private room, packed from there and removed; a config is read whole,
//! since it is small. The file grows under a hidden name, is read back and checked as a restore would, synced, and only
//! then gets its name, never over another file. What a living gateway may do meanwhile (a config vanishes, a link
//! dangles) is told of, and the backup goes on. Must not change anything of the gateway.

mod part;
mod rules_text;
mod up_to_error;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{File, Metadata as FileMetadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use journal_format::Digest;
use nix::fcntl::OFlag;
use sha2::{Digest as _, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::archive::{Archive, CONFIGS, RULES_FORWARD, RULES_NAT, RULES_V4, RULES_V6, WIREGUARD};
use crate::database;
use crate::facts::Facts;
use crate::fault::{Fault, Problem, cannot};
use crate::host::Host;
use crate::host::linux::open_without_links;
use crate::manifest::{self, Contents, EntryFacts, Manifest, Metadata, SystemInfo};
use crate::owner::{Names, OwnerFacts};
use crate::parts::Lack;
use crate::profile::{DatabaseKind, Limits, Profile};
use crate::space::{self, Needs};
use crate::spool::{Room, private_folder};
use crate::verify::CONFIG_MOST;
use crate::{made, state_dir, survey, wgconf};
use part::{Part, sweep};
use up_to_error::UpToError;

/// Every read from a file and write into the zip has this size, so that the same content packs the same.
const BUFFER: usize = 64 * 1024;
/// Progress is told at least this often.
const TOLD: u64 = 4 << 20;
/// What a zip adds to each entry, at most: two headers and two names.
const ENTRY_OVERHEAD: u64 = 1024;
/// Files from here on get wide size fields; 32 bits hold a little more.
const WIDE: u64 = 0xF000_0000;

/// How far a backup is. To be shown or dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Before anything is written: at most so many bytes, and so many are free.
    Estimated {
        /// What is going to be packed, unpacked size.
        bytes: u64,
        /// What is free where the backup goes.
        free: u64,
    },
    /// Bytes packed so far, of about so many.
    Saving {
        /// The entry.
        entry: &'a str,
        /// Bytes, unpacked.
        done: u64,
        /// The estimate.
        of: u64,
    },
    /// Bytes read back so far.
    Verifying {
        /// Bytes, unpacked.
        done: u64,
        /// All of them.
        of: u64,
    },
}

/// A backup that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// When it was made, as its metadata say.
    pub created_at: String,
    /// The parts that it should have and lacks. With one of them it is incomplete, and no good backup.
    pub lacks: Vec<Lack>,
    /// What else is not in it, and what a restore of it will say.
    pub warnings: Vec<String>,
}

/// Makes a backup of the gateway as it is now in `dest_dir`; refused while a restore is open. The caller holds the lock.
pub fn of_gateway(
    profile: &Profile,
    host: &dyn Host,
    dest_dir: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Made, Fault> {
    if let Some(open) = state_dir::open_restore(profile)? {
        return Err(Fault::Busy(cannot(
            format!(
                "back up: restore {} is open, and the gateway may be half old, half new",
                open.id
            ),
            "run `holdfast recover` first",
        )));
    }
    let managed = survey::managed(host, profile)?;
    let facts = survey::facts(host, profile, &|name| managed.contains(name))?;
    make(profile, &facts, dest_dir, progress)
}

/// Makes a backup in `dest_dir`. The caller holds the lock: one backup at a time, and none during a restore.
pub fn make(
    profile: &Profile,
    facts: &Facts,
    dest_dir: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Made, Fault> {
    private_folder(dest_dir).map_err(|e| {
        cannot(
            format!("make the folder for backups {}: {e}", dest_dir.display()),
            "name another folder, or make it",
        )
    })?;
    sweep(dest_dir);
    let of = estimate(profile, dest_dir, progress)?;
    let room = Room::new(&profile.spool_dir())?;
    let mut part = Part::reserve(dest_dir)?;
    let created_at = part.at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string();
    let mut making = Making {
        profile,
        zip: ZipWriter::new(UpToError::new(BUFFER, part.writer()?)),
        names: Names::default(),
        contents: Contents::default(),
        entries: BTreeMap::new(),
        wireguard: BTreeMap::new(),
        owners: Vec::new(),
        left_out: BTreeSet::new(),
        warnings: Vec::new(),
        clients: BTreeSet::new(),
        buffer: vec![0; BUFFER],
        done: 0,
        of,
        progress,
    };
    making.databases(&room)?;
    let seen = making.first_copies()?;
    making.second_copies(&seen)?;
    making.rules(facts)?;
    if making.entries.is_empty() {
        return Err(Fault::Failed(cannot(
            "make a backup: none of the profile's databases and configs is there".to_owned(),
            "see whether the profile describes this gateway",
        )));
    }
    let (lacks, warnings) = making.finish(facts, created_at.clone(), &part)?;
    drop(room);
    let (size, sha256, more) = read_back(profile, &part, progress)?;
    made::remember(profile, &sha256)?;
    let path = part.publish()?;
    Ok(Made {
        path,
        size,
        sha256,
        created_at,
        lacks,
        warnings: warnings.into_iter().chain(more).collect(),
    })
}

/// What will be packed, at most; refuses where there is no room for it.
fn estimate(
    profile: &Profile,
    dest: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<u64, Fault> {
    let mut all = 0u64;
    let mut largest = 0u64;
    for database in &profile.gateway.database {
        // What may not be opened is not packed; its turn comes, and its reason.
        if database::Live::new(profile)
            .has_rights(&database.path)
            .is_err()
        {
            continue;
        }
        // What is in the log may come on top of what is in the file.
        let [wal, ..] = database::side_files(&database.path);
        let size: u64 = [&database.path, &wal]
            .iter()
            .filter_map(|p| p.metadata().ok())
            .map(|m| m.len())
            .sum();
        all += size;
        largest = largest.max(size);
    }
    for dir in [&profile.gateway.configs_dir, &profile.gateway.wireguard_dir] {
        if let Ok(entries) = dir.read_dir() {
            // A folder that cannot be walked is told of when its turn comes.
            all +=
                fs_extra::dir::get_size(dir).unwrap_or(0) + entries.count() as u64 * ENTRY_OVERHEAD;
        }
    }
    let mut needs = Needs::default();
    needs.bytes(dest, all)?;
    needs.bytes(&profile.spool_dir(), largest)?;
    progress(Progress::Estimated {
        bytes: all,
        free: space::free(dest)?,
    });
    needs.check("make a backup").map_err(|problems| {
        let all = problems
            .into_iter()
            .map(|p| p.what)
            .collect::<Vec<_>>()
            .join("; ");
        Fault::Failed(cannot(
            all,
            "make room there, remove old backups, or move the state folder by the profile",
        ))
    })?;
    Ok(all)
}

struct Making<'a, 'p> {
    profile: &'a Profile,
    zip: ZipWriter<UpToError>,
    names: Names,
    contents: Contents,
    entries: BTreeMap<String, EntryFacts>,
    wireguard: BTreeMap<String, usize>,
    owners: Vec<OwnerFacts>,
    left_out: BTreeSet<String>,
    warnings: Vec<String>,
    /// Files that belong to a client of the database.
    clients: BTreeSet<String>,
    buffer: Vec<u8>,
    done: u64,
    of: u64,
    progress: &'a mut (dyn FnMut(Progress<'_>) + 'p),
}

/// What a snapshot that failed left.
fn remove_if_there(path: &Path) -> Result<(), Problem> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(cannot(
            format!("remove {}: {e}", path.display()),
            "see to the disk of the state folder",
        )),
        _ => Ok(()),
    }
}

/// A config as it was read.
struct ReadConfig {
    bytes: Vec<u8>,
    facts: FileMetadata,
}

impl Making<'_, '_> {
    fn databases(&mut self, room: &Room) -> Result<(), Fault> {
        for database in &self.profile.gateway.database {
            let there = database.path.try_exists().map_err(|e| {
                cannot(
                    format!("look at the database {}: {e}", database.path.display()),
                    "see to that folder",
                )
            })?;
            if !there {
                continue;
            }
            let facts = database.path.metadata().map_err(|e| {
                cannot(
                    format!("look at the database {}: {e}", database.path.display()),
                    "see to that file",
                )
            })?;
            let copy = room.file("database");
            let warnings = match database::Live::new(self.profile).snapshot(&database.path, &copy) {
                Ok(warnings) => warnings,
                // A damaged database is why gateways are restored: it must not keep all else from being saved.
                Err(problem) => {
                    self.warnings.push(format!(
                        "left out: {}: cannot {}",
                        database.name,
                        problem.problem().what
                    ));
                    remove_if_there(&copy)?;
                    continue;
                }
            };
            self.warnings.extend(
                warnings
                    .into_iter()
                    .map(|w| format!("{}: {w}", database.name)),
            );
            self.warnings.extend(database::check_snapshot(
                &copy,
                &database.name,
                database.kind,
            ));
            if database.kind == DatabaseKind::Clients {
                match database::clients_of_copy(&copy) {
                    Ok(clients) => self
                        .clients
                        .extend(clients.into_iter().map(|c| format!("{}.conf", c.name))),
                    // It is saved all the same.
                    Err(problem) => self.warnings.push(format!("cannot {}", problem.what)),
                }
            }
            let owner = self.owner(&facts);
            let size = copy.metadata().map_or(u64::MAX, |m| m.len());
            let read = |e: io::Error| {
                cannot(
                    format!("read the copy of {}: {e}", database.name),
                    "see to the disk of the state folder",
                )
            };
            let mut file = File::open(&copy).map_err(read)?;
            self.add(&database.name, &mut file, size >= WIDE)?;
            drop(file);
            std::fs::remove_file(&copy).map_err(read)?;
            if let Some(entry) = self.entries.get_mut(&database.name) {
                entry.owner = Some(owner);
            }
            self.contents.databases.push(database.name.clone());
        }
        Ok(())
    }

    /// Packs the first copies; gives every name that was seen, saved or not.
    fn first_copies(&mut self) -> Result<BTreeSet<String>, Fault> {
        let dir = self.profile.gateway.configs_dir.clone();
        let mut seen = BTreeSet::new();
        let mut folded = BTreeSet::new();
        let Some((folder, names)) = self.list(&dir)? else {
            return Ok(seen);
        };
        for name in names {
            seen.insert(name.clone());
            let Some(config) = self.read_config(&folder, &dir, &name) else {
                continue;
            };
            if !folded.insert(name.to_lowercase()) {
                self.warnings.push(format!(
                    "left out: {}, since another config differs from it only in upper and lower case",
                    dir.join(&name).display()
                ));
                continue;
            }
            let entry = format!("{CONFIGS}{name}");
            self.add(&entry, &mut config.bytes.as_slice(), false)?;
            let owner = self.owner(&config.facts);
            if let Some(saved) = self.entries.get_mut(&entry) {
                saved.owner = Some(owner);
            }
            self.contents.configs.push(name);
        }
        Ok(seen)
    }

    /// Packs the second copies that differ; of all that are managed it keeps whose they are.
    fn second_copies(&mut self, first: &BTreeSet<String>) -> Result<(), Fault> {
        let dir = self.profile.gateway.wireguard_dir.clone();
        let Some((folder, names)) = self.list(&dir)? else {
            return Ok(());
        };
        let mut folded = BTreeSet::new();
        for name in names {
            // Whatever else lies there belongs to somebody else.
            if !first.contains(&name) && !self.clients.contains(&name) {
                continue;
            }
            let Some(config) = self.read_config(&folder, &dir, &name) else {
                continue;
            };
            let sha256 = Digest::of_bytes(Sha256::digest(&config.bytes).into());
            let same = self
                .entries
                .get(&format!("{CONFIGS}{name}"))
                .is_some_and(|e| e.sha256 == sha256);
            let owner = self.owner(&config.facts);
            if !same {
                if !folded.insert(name.to_lowercase()) {
                    self.warnings.push(format!(
                        "left out: {}, since another config differs from it only in upper and lower case",
                        dir.join(&name).display()
                    ));
                    continue;
                }
                let entry = format!("{WIREGUARD}{name}");
                self.add(&entry, &mut config.bytes.as_slice(), false)?;
                if let Some(saved) = self.entries.get_mut(&entry) {
                    saved.owner = Some(owner);
                }
            }
            self.wireguard.insert(name, owner);
        }
        Ok(())
    }

    /// An open folder and the configs in it, sorted; none if there is no such folder.
    fn list(&mut self, dir: &Path) -> Result<Option<(File, Vec<String>)>, Fault> {
        let failed = |e: io::Error| {
            cannot(
                format!("read the folder {}: {e}", dir.display()),
                "see to that folder",
            )
        };
        // No link on the way: whoever may rename that folder chooses what root packs.
        let folder = match open_without_links(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Ok(folder) => folder,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.warnings
                    .push(format!("there is no folder {}", dir.display()));
                return Ok(None);
            }
            Err(e) => return Err(failed(e).into()),
        };
        let mut names = Vec::new();
        let listed = nix::dir::Dir::from_fd(folder.try_clone().map_err(failed)?.into());
        let mut listed = listed.map_err(|e| failed(e.into()))?;
        for entry in listed.iter() {
            let entry = entry.map_err(|e| failed(e.into()))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            if !name.as_bytes().ends_with(b".conf") {
                continue;
            }
            match name.to_str() {
                Some(plain)
                    if plain != ".conf"
                        && !plain.contains('\\')
                        && !plain.chars().any(char::is_control) =>
                {
                    names.push(plain.to_owned());
                }
                _ => self.warnings.push(format!(
                    "left out: {} in {}, whose name is not plain text",
                    name.to_string_lossy().escape_debug(),
                    dir.display()
                )),
            }
        }
        names.sort();
        Ok(Some((folder, names)))
    }

    /// One config, if it can be read as it lies there; else a warning that names it.
    fn read_config(&mut self, folder: &File, dir: &Path, name: &str) -> Option<ReadConfig> {
        let path = dir.join(name);
        match read_plain(folder, name) {
            Ok(config) => match wgconf::parse(&path.to_string_lossy(), &config.bytes) {
                Ok(_) => Some(config),
                Err(problem) => {
                    self.left_out.insert(name.to_owned());
                    self.warnings
                        .push(format!("left out: cannot {}", problem.what));
                    None
                }
            },
            Err(why) => {
                self.left_out.insert(name.to_owned());
                self.warnings
                    .push(format!("left out: {}: {why}", path.display()));
                None
            }
        }
    }

    fn rules(&mut self, facts: &Facts) -> Result<(), Fault> {
        match &facts.rules_v4 {
            Some(save) => {
                for (entry, text) in [
                    (RULES_V4, save.clone()),
                    (RULES_NAT, rules_text::nat(save)),
                    (RULES_FORWARD, rules_text::forward(save)),
                ] {
                    self.add(entry, &mut text.as_bytes(), false)?;
                    self.contents.iptables_rules.push(entry.to_owned());
                }
            }
            None => self.warnings.push(format!(
                "the IPv4 firewall rules {}; they are not in the backup",
                survey::UNREADABLE
            )),
        }
        match &facts.rules_v6 {
            Some(save) => self.add(RULES_V6, &mut save.as_bytes(), false)?,
            None => self.warnings.push(format!(
                "the IPv6 firewall rules {}; they are not in the backup",
                survey::UNREADABLE
            )),
        }
        Ok(())
    }

    /// The place of a file's owner and mode among those that were seen.
    fn owner(&mut self, file: &FileMetadata) -> usize {
        let facts = self.names.facts(file);
        match self.owners.iter().position(|o| *o == facts) {
            Some(place) => place,
            None => {
                self.owners.push(facts);
                self.owners.len() - 1
            }
        }
    }

    /// Packs one entry in portions of a fixed size.
    fn add(&mut self, name: &str, input: &mut dyn Read, wide: bool) -> Result<(), Fault> {
        let packing = |e: &dyn std::fmt::Display| {
            cannot(
                format!("write the backup at its entry {}: {e}", name.escape_debug()),
                "see whether the disk is full or failing",
            )
        };
        self.zip
            .start_file(name, options().large_file(wide))
            .map_err(|e| packing(&e))?;
        let mut hash = Sha256::new();
        let mut size = 0u64;
        let mut told = self.done;
        loop {
            let n = match input.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    return Err(cannot(
                        format!("read {} for the backup: {e}", name.escape_debug()),
                        "see to that disk",
                    )
                    .into());
                }
            };
            hash.update(&self.buffer[..n]);
            self.zip
                .write_all(&self.buffer[..n])
                .map_err(|e| packing(&e))?;
            size += n as u64;
            self.done += n as u64;
            if self.done - told >= TOLD {
                told = self.done;
                (self.progress)(Progress::Saving {
                    entry: name,
                    done: self.done,
                    of: self.of,
                });
            }
        }
        (self.progress)(Progress::Saving {
            entry: name,
            done: self.done,
            of: self.of,
        });
        let facts = EntryFacts {
            size,
            sha256: Digest::of_bytes(hash.finalize().into()),
            owner: None,
        };
        self.entries.insert(name.to_owned(), facts);
        Ok(())
    }

    /// Writes the metadata as the last entry and syncs the file. Gives the warnings.
    fn finish(
        mut self,
        facts: &Facts,
        created_at: String,
        part: &Part,
    ) -> Result<(Vec<Lack>, Vec<String>), Fault> {
        let packing = |e: &dyn std::fmt::Display| {
            cannot(
                format!("write the backup {}: {e}", part.path.display()),
                "see whether the disk is full or failing",
            )
        };
        let instance = self
            .profile
            .gateway
            .configs_dir
            .parent()
            .unwrap_or(Path::new("/"));
        let metadata = Metadata {
            backup_version: manifest::VERSION.into(),
            created_at,
            timestamp: Some(part.timestamp()),
            system_info: Some(SystemInfo {
                platform: "posix".into(),
                instance_path: instance.display().to_string(),
            }),
            contents: self.contents,
            holdfast: Some(Manifest {
                format: manifest::FORMAT_WHOLE,
                program: concat!("holdfast ", env!("CARGO_PKG_VERSION")).into(),
                host: host_name(),
                ip_forward: facts.ip_forward,
                tunnels_up: facts.tunnels.clone(),
                owners: self.owners,
                entries: self.entries,
                wireguard: self.wireguard,
                left_out: self.left_out,
                parts: BTreeMap::new(),
                ipv6_forward: facts.ipv6_forward,
                peers: BTreeMap::new(),
                links: BTreeMap::new(),
                unpaired: BTreeSet::new(),
                beyond: facts.beyond.clone(),
                warnings: self.warnings,
            }),
        };
        self.zip
            .start_file(manifest::ENTRY, options())
            .map_err(|e| packing(&e))?;
        let mut out = BufWriter::with_capacity(BUFFER, &mut self.zip);
        serde_json::to_writer_pretty(&mut out, &metadata).map_err(|e| packing(&e))?;
        out.flush().map_err(|e| packing(&e))?;
        drop(out);
        let file = self.zip.finish().map_err(|e| packing(&e))?;
        let file = file.whole().map_err(|e| packing(&e))?;
        file.sync_all().map_err(|e| packing(&e))?;
        let said = metadata.holdfast.map(|m| (m.lacks(), m.warnings));
        Ok(said.unwrap_or_default())
    }
}

fn options() -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o600)
}

/// The name of this box.
pub fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}

/// A regular file of modest size in this folder; nothing is followed, and nothing that waits is opened to wait.
fn read_plain(folder: &File, name: &str) -> Result<ReadConfig, String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match nix::fcntl::openat(folder, name, flags, nix::sys::stat::Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(nix::errno::Errno::ELOOP) => {
            return Err("it is a link, and links are not followed".into());
        }
        Err(nix::errno::Errno::ENOENT) => {
            return Err("it went away while the backup was made".into());
        }
        Err(e) => return Err(format!("it cannot be opened: {}", e.desc())),
    };
    let facts = file
        .metadata()
        .map_err(|e| format!("it cannot be looked at: {e}"))?;
    if !facts.is_file() {
        return Err("it is not a regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(CONFIG_MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("it cannot be read: {e}"))?;
    if bytes.len() as u64 > CONFIG_MOST {
        return Err(format!(
            "it has over {CONFIG_MOST} bytes, which no config has"
        ));
    }
    Ok(ReadConfig { bytes, facts })
}

/// Reads all of it back by a fresh descriptor, as a restore would. Gives size, digest, and what a restore would mind.
fn read_back(
    profile: &Profile,
    part: &Part,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(u64, Digest, Vec<String>), Fault> {
    let failed = |why: &dyn std::fmt::Display| {
        Fault::Failed(cannot(
            format!("make a backup that can be read back: {why}"),
            "try again; if it happens again, the disk or the memory of this box may be failing",
        ))
    };
    let file = part.reader().map_err(|e| failed(&e))?;
    let known: Vec<&str> = profile
        .gateway
        .database
        .iter()
        .map(|d| d.name.as_str())
        .collect();
    // What is there fits, whatever the limits say: they are for what others send. A restore will apply them, though.
    let all = Limits {
        upload_mib: u64::MAX >> 20,
        unpacked_mib: u64::MAX >> 20,
        entries: u64::MAX,
    };
    let mut archive = Archive::open(file, &part.name, &all, &known).map_err(|e| failed(&e))?;
    let of = archive.unpacked_size();
    let names: Vec<String> = archive.entries().iter().map(|e| e.name.clone()).collect();
    let (mut done, mut told) = (0, 0);
    for name in &names {
        done += archive
            .copy(name, &mut io::sink())
            .map_err(|e| failed(&e))?
            .size;
        if done - told >= TOLD || done == of {
            told = done;
            progress(Progress::Verifying { done, of });
        }
    }
    let sha256 = archive.sha256().map_err(|e| failed(&e))?;
    let size = archive.size();
    let mut warnings = Vec::new();
    let limits = &profile.limits;
    for (what, is, most, key) in [
        (
            "MiB",
            size.div_ceil(1 << 20),
            limits.upload_mib,
            "upload_mib",
        ),
        (
            "MiB unpacked",
            of.div_ceil(1 << 20),
            limits.unpacked_mib,
            "unpacked_mib",
        ),
        ("entries", names.len() as u64, limits.entries, "entries"),
    ] {
        if is > most {
            warnings.push(format!(
                "the backup has {is} {what}, over the limit of {most}: to restore it, raise {key} under [limits] in the profile"
            ));
        }
    }
    Ok((size, sha256, warnings))
}

#[cfg(test)]
mod tests;
