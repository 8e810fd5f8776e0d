//! Makes a backup of a live gateway, in the gateway's own format 1.0 and a little more.
//!
//! Every part is saved, or not there, or could not be saved; with one of the last the backup is incomplete, and says so. What
//! may be restored does not decide what is saved: bytes are taken as they are. Configs are read and packed first and kept in
//! memory, until they and the clients' rows are of one moment; then everything is written in a fixed order. The file grows
//! under a hidden name, is read back and checked as a restore would, synced, and only then gets its name, never over another
//! file. Must not change anything of the gateway.

mod configs;
mod growing;
mod moment;
mod pack;
mod rules_text;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use journal_format::Digest;

use crate::archive::{
    Archive, CONFIGS, Copied, KEPT, RAW, RULES_FORWARD, RULES_NAT, RULES_V4, RULES_V6, WIREGUARD,
    raw_database,
};
use crate::database::{self, Live, Trouble};
use crate::facts::Facts;
use crate::fault::{Fault, Problem, cannot};
use crate::firewall::Family;
use crate::host::Host;
use crate::manifest::{self, Contents, EntryFacts, Manifest, Metadata, SystemInfo, escaped};
use crate::owner::{Names, OwnerFacts};
use crate::parts::{Fate, Lack, Part};
use crate::peers::Peers;
use crate::profile::{self, DatabaseKind, Limits, Profile};
use crate::space::{self, Needs};
use crate::spool::{Room, private_folder};
use crate::wording::{counted, names};
use crate::{made, octets, parallel, peers, state_dir, survey, wgconf};
use configs::{Configs, Folder, Lying, There};
use growing::{Growing, sweep};
use moment::{Look, Rows};
use pack::{Packed, Packer, Zip};

/// Progress is told at least this often.
const TOLD: u64 = 4 << 20;
/// What a zip adds to each entry, at most: two headers and two names.
const ENTRY_OVERHEAD: u64 = 1024;

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
    /// The names of configs that could not be read, where it lacks only some of them; empty where it may lack any.
    pub unread: BTreeSet<String>,
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
    let managed = survey::managed(host, profile);
    let ours = |name: &str| managed.as_ref().is_ok_and(|m| m.contains(name));
    let mut facts = survey::facts(host, profile, &ours)?;
    if let Err(problem) = &managed {
        // The configs are said to lack in their turn; this keeps nothing else from being saved.
        let why = format!(
            "which of them are the gateway's is not known: cannot {}",
            problem.what
        );
        facts.unread.insert(Part::Peers, why.clone());
        facts.unread.insert(Part::Tunnels, why);
    }
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
    let databases = room_for_databases(profile)?;
    let room = Room::new(&profile.spool_dir())?;
    let mut growing = Growing::reserve(dest_dir)?;
    let created_at = growing
        .at
        .strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00")
        .to_string();
    // The others have nothing to do with configs, and so may be of another moment.
    let (others, taken) = parallel::both(|| save_others(profile, &room), || take(profile, &room));
    let (others, mut taken) = (others?, taken?);
    if let Some(clients) = &mut taken.clients
        && clients.fate == Fate::NotThere
        && taken.configs.are_there()
    {
        // No gateway has configs and no clients.
        let why = "it is gone, and configs of clients are there".to_owned();
        clients.fate = Fate::NotSaved { why };
    }
    let of = databases.saturating_add(taken.configs.size());
    let mut needs = Needs::default();
    needs.bytes(dest_dir, of)?;
    progress(Progress::Estimated {
        bytes: of,
        free: space::free(dest_dir)?,
    });
    enough(&needs)?;
    let mut making = Making {
        profile,
        zip: Zip::new(growing.writer()?),
        names: Names::default(),
        owners: Vec::new(),
        contents: Contents::default(),
        entries: BTreeMap::new(),
        wireguard: BTreeMap::new(),
        links: BTreeMap::new(),
        left_out: BTreeSet::new(),
        unread: BTreeSet::new(),
        parts: BTreeMap::new(),
        warnings: taken.warnings,
        done: 0,
        of,
        progress,
    };
    making.databases(taken.clients.into_iter().chain(others).collect())?;
    making.configs(taken.configs)?;
    let nothing = making.entries.is_empty();
    making.kept()?;
    making.rules(facts)?;
    let lacks = |fate: &Fate| matches!(fate, Fate::NotSaved { .. });
    if nothing && !making.parts.values().any(lacks) {
        return Err(Fault::Failed(cannot(
            "make a backup: none of the profile's databases and configs is there".to_owned(),
            "see whether the profile describes this gateway",
        )));
    }
    let unread = std::mem::take(&mut making.unread);
    let (lacks, warnings) = making.finish(facts, taken.unpaired, created_at.clone(), &growing)?;
    drop(room);
    let (size, sha256, more) = read_back(profile, &growing, progress)?;
    let note = made::Note {
        name: growing.name.clone(),
        size,
        made_ms: growing.at.timestamp().as_millisecond(),
        lacks: lacks.clone(),
    };
    let note = made::Note::in_folder(profile, dest_dir, note);
    made::remember(profile, &sha256, note)?;
    let path = growing.publish()?;
    Ok(Made {
        path,
        size,
        sha256,
        created_at,
        lacks,
        unread,
        warnings: warnings.into_iter().chain(more).collect(),
    })
}

/// Whether there is room for the copies of databases; bytes of all of them, at most.
fn room_for_databases(profile: &Profile) -> Result<u64, Fault> {
    let mut all = 0u64;
    for database in &profile.gateway.database {
        // What may not be opened is not packed; its turn comes, and its reason.
        if Live::new(profile).has_rights(&database.path).is_err() {
            continue;
        }
        // What is in the log may come on top of what is in the file.
        let [wal, ..] = database::side_files(&database.path);
        let files = [&database.path, &wal];
        let sizes = files.iter().filter_map(|p| Some(p.metadata().ok()?.len()));
        all = all.saturating_add(sizes.sum());
    }
    let mut needs = Needs::default();
    needs.bytes(&profile.spool_dir(), all)?;
    enough(&needs)?;
    Ok(all)
}

fn enough(needs: &Needs) -> Result<(), Fault> {
    needs.check("make a backup").map_err(|problems| {
        let all: Vec<String> = problems.into_iter().map(|p| p.what).collect();
        Fault::Failed(cannot(
            all.join("; "),
            "make room there, remove old backups, or move the state folder by the profile",
        ))
    })
}

/// What has to be of one moment.
struct Taken {
    clients: Option<Saving>,
    configs: Configs,
    /// Clients that kept moving.
    unpaired: BTreeSet<OsString>,
    warnings: Vec<String>,
}

/// A database on its way into the archive.
struct Saving {
    name: String,
    /// The copy, and the side files' copies by how their names go on; those only of a database that is saved raw. Each with
    /// owner, group and mode of what was copied.
    copies: Vec<(&'static str, PathBuf, (u32, u32, u32))>,
    fate: Fate,
    warnings: Vec<String>,
}

/// Copies all databases but that of the clients.
fn save_others(profile: &Profile, room: &Room) -> Result<Vec<Saving>, Fault> {
    let clients = profile.client_database().map(|c| &c.name);
    let all = profile.gateway.database.iter();
    all.filter(|database| Some(&database.name) != clients)
        .map(|database| save(profile, database, room, &database.name))
        .collect()
}

/// Takes rows and configs, and again what moves meanwhile, until they are of one moment or it was tried often enough.
fn take(profile: &Profile, room: &Room) -> Result<Taken, Fault> {
    let database = profile.client_database();
    let copy = |n: usize| match database {
        Some(database) => save(profile, database, room, &format!("clients-{n}")).map(Some),
        None => Ok(None),
    };
    let mut look = Look::at(profile);
    let g = &profile.gateway;
    let mut configs = Configs::of(&g.configs_dir, &g.wireguard_dir);
    let (clients, ()) = parallel::both(|| copy(0), || configs.read());
    let mut clients = clients?;
    let mut rows = rows_of(clients.as_ref())?;
    configs.read_more(files(rows.as_ref()));
    let (mut unpaired, mut warnings) = (BTreeSet::new(), Vec::new());
    let all_along = rows.as_ref().map(|rows| moment::half_there(rows, &configs));
    for anew in 0..=moment::ANEW {
        let later = Look::at(profile);
        let mut half = match &rows {
            Some(rows) if later.is_busy() => moment::half_there(rows, &configs),
            _ => BTreeSet::new(),
        };
        // What is old and half stays half.
        half.retain(|name| match configs.newest(name) {
            Some(changed) => later.is_fresh(changed),
            None => true,
        });
        if look.is_still(&later, configs.newest_of_all()) && half.is_empty() {
            break;
        }
        // A file that was changed since the rows were copied may belong to a later row.
        let late = configs.changed_since(look.since());
        look = later;
        // Of a database that cannot be read there are no rows to be compared.
        let now = match (&rows, database) {
            (Some(_), Some(database)) => match Live::new(profile).clients(&database.path) {
                Ok(clients) => Some(moment::rows(clients)),
                Err(problem) => {
                    warnings.push(unknown(&format!("cannot {}", problem.what)));
                    break;
                }
            },
            _ => None,
        };
        let differing = match (&rows, &now) {
            (Some(rows), Some(now)) => moment::differing(rows, now),
            _ => BTreeSet::new(),
        };
        let mut managed = files(rows.as_ref());
        managed.extend(files(now.as_ref()));
        let mut moved = match configs.changed(&managed) {
            Ok(moved) => moved,
            Err(why) => {
                warnings.push(unknown(&why));
                break;
            }
        };
        moved.extend(differing.iter().chain(&late).cloned());
        if moved.is_empty() && half.is_empty() {
            break;
        }
        if anew == moment::ANEW {
            // What has been half there all along is no news.
            let known = all_along.unwrap_or_default();
            half.retain(|name| !known.contains(name));
            unpaired = moved;
            unpaired.extend(half);
            break;
        }
        if moved.is_empty() {
            std::thread::sleep(moment::PAUSE);
        }
        if !late.is_empty() {
            look.wait_a_tick();
        }
        if rows.is_some() && !(differing.is_empty() && late.is_empty()) {
            let newer = copy(anew + 1)?;
            // The earlier copy is better than none.
            if !matches!(&newer, Some(newer) if newer.fate == Fate::Saved) {
                unpaired = moved;
                break;
            }
            for (_, superseded, _) in clients.iter().flat_map(|c| &c.copies) {
                remove_if_there(superseded)?;
            }
            clients = newer;
            let before = rows.take();
            rows = rows_of(clients.as_ref())?;
            if let (Some(before), Some(rows)) = (&before, &rows) {
                moved.extend(moment::differing(before, rows));
            }
        }
        configs.read_again(&moved);
    }
    Ok(Taken {
        clients,
        configs,
        unpaired,
        warnings,
    })
}

fn unknown(why: &str) -> String {
    format!("whether the clients' rows and files are of one moment is not known: {why}")
}

/// The names of the files of these rows.
fn files(rows: Option<&Rows>) -> BTreeSet<OsString> {
    rows.iter().flat_map(|rows| rows.keys().cloned()).collect()
}

/// The rows in the copy of a database of clients; none where SQLite cannot read it.
fn rows_of(clients: Option<&Saving>) -> Result<Option<Rows>, Fault> {
    let copy = clients.and_then(|c| match (&c.fate, c.copies.as_slice()) {
        (Fate::Saved, [(_, copy, _), ..]) => Some(copy),
        _ => None,
    });
    // One without a table of clients is saved all the same.
    Ok(copy.and_then(|copy| Some(moment::rows(database::clients_of_copy(copy).ok()?))))
}

/// Copies a database as it is: by SQLite, or else its bytes.
fn save(
    profile: &Profile,
    database: &profile::Database,
    room: &Room,
    place: &str,
) -> Result<Saving, Fault> {
    let mut saving = Saving {
        name: database.name.clone(),
        copies: Vec::new(),
        fate: Fate::NotThere,
        warnings: Vec::new(),
    };
    let meta = match database.path.symlink_metadata() {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let left = database::side_files(&database.path);
            if let Some(left) = left.iter().find(|p| p.symlink_metadata().is_ok()) {
                let (path, left) = (database.path.display(), left.display());
                let why = format!("{path} is gone, and {left} is there");
                saving.fate = Fate::NotSaved { why };
            }
            return Ok(saving);
        }
        Err(e) => {
            let why = format!("{} cannot be looked at: {e}", database.path.display());
            saving.fate = Fate::NotSaved { why };
            return Ok(saving);
        }
    };
    let owner = |meta: &std::fs::Metadata| (meta.uid(), meta.gid(), meta.mode() & 0o7777);
    let copy = room.file(place);
    match Live::new(profile).snapshot(&database.path, &copy) {
        Ok(warnings) => {
            saving.warnings = warnings;
            saving.copies = vec![("", copy, owner(&meta))];
            saving.fate = Fate::Saved;
        }
        Err(trouble) => {
            remove_if_there(&copy)?;
            let why = format!("cannot {}", trouble.problem().what);
            saving.fate = match &trouble {
                Trouble::Unreadable(_) => {
                    match database::raw_bytes(profile, &database.path, room, place) {
                        Ok(raw) => {
                            if !raw.of_one_moment {
                                saving.warnings.push(
                                "its files were written while their bytes were copied, and may be of different moments".into(),
                            );
                            }
                            let files = raw.files.into_iter();
                            let copies = files.map(|f| (f.side, f.copy, owner(&f.facts)));
                            saving.copies = copies.collect();
                            Fate::SavedRaw { why }
                        }
                        Err(problem) => Fate::NotSaved {
                            why: format!(
                                "{why}; nor can its bytes be saved: cannot {}",
                                problem.what
                            ),
                        },
                    }
                }
                Trouble::Busy(_) | Trouble::Failed(_) => Fate::NotSaved { why },
            };
        }
    }
    Ok(saving)
}

/// What a copy that failed left.
fn remove_if_there(path: &Path) -> Result<(), Problem> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(cannot(
            format!("remove {}: {e}", path.display()),
            "see to the disk of the state folder",
        )),
        _ => Ok(()),
    }
}

struct Making<'a, 'p> {
    profile: &'a Profile,
    zip: Zip,
    names: Names,
    owners: Vec<OwnerFacts>,
    contents: Contents,
    entries: BTreeMap<String, EntryFacts>,
    wireguard: BTreeMap<String, usize>,
    links: BTreeMap<String, String>,
    left_out: BTreeSet<String>,
    unread: BTreeSet<String>,
    parts: BTreeMap<Part, Fate>,
    warnings: Vec<String>,
    done: u64,
    of: u64,
    progress: &'a mut (dyn FnMut(Progress<'_>) + 'p),
}

impl Making<'_, '_> {
    fn databases(&mut self, mut savings: Vec<Saving>) -> Result<(), Fault> {
        for database in &self.profile.gateway.database {
            if let Some(at) = savings.iter().position(|s| s.name == database.name) {
                self.database(savings.swap_remove(at), database.kind)?;
            }
        }
        Ok(())
    }

    fn database(&mut self, saving: Saving, kind: DatabaseKind) -> Result<(), Fault> {
        let name = &saving.name;
        self.warnings
            .extend(saving.warnings.iter().map(|w| format!("{name}: {w}")));
        let raw = matches!(saving.fate, Fate::SavedRaw { .. });
        for (side, copy, owner) in &saving.copies {
            let owner = self.owner(*owner);
            if !raw {
                let says = database::check_snapshot(copy, name, kind);
                self.warnings.extend(says);
            }
            let entry = match raw {
                true => raw_database(name, side),
                false => name.clone(),
            };
            let read = |e: io::Error| {
                cannot(
                    format!("read the copy of {name}: {e}"),
                    "see to the disk of the state folder",
                )
            };
            let file = File::open(copy).map_err(read)?;
            let size = file.metadata().map_err(read)?.len();
            self.add_file(&entry, &file, size, owner)?;
            remove_if_there(copy)?;
        }
        match &saving.fate {
            Fate::Saved => self.contents.databases.push(name.clone()),
            Fate::SavedRaw { why } => self.warnings.push(format!(
                "SQLite cannot read {name} ({why}): its bytes are in the backup as they are, and so a restore of it puts them back"
            )),
            Fate::NotThere | Fate::NotSaved { .. } => {}
        }
        let part = Part::Database(name.clone());
        self.parts.insert(part, saving.fate);
        Ok(())
    }

    fn configs(&mut self, configs: Configs) -> Result<(), Fault> {
        let Configs {
            paths,
            folders,
            found: [first, second],
        } = configs;
        let mut unread: Vec<String> = Vec::new();
        let there = folders.iter().any(|f| matches!(f, There::Open(_)));
        for (path, folder) in paths.iter().zip(&folders) {
            match folder {
                There::Open(_) => {}
                // Whoever has the one had the other.
                There::Missing if there => {
                    unread.push(format!("the folder {} is gone", path.display()));
                }
                There::Missing => {}
                There::Unread(why) => {
                    unread.push(format!(
                        "the folder {} cannot be read: {why}",
                        path.display()
                    ));
                }
            }
        }
        let [first_path, second_path] = &paths;
        // What the second copies are compared with.
        let mut saved: BTreeMap<OsString, ([u8; 32], bool)> = BTreeMap::new();
        for (name, lying) in first {
            if let Lying::File { packed, plain, .. } = &lying {
                saved.insert(name.clone(), (packed.sha256, *plain));
            }
            self.config(Folder::First, first_path, &name, lying, &mut unread)?;
        }
        for (name, lying) in second {
            if let (
                Lying::File {
                    packed,
                    owner,
                    plain: true,
                    ..
                },
                Some((sha256, true)),
                Some(plain),
            ) = (&lying, saved.get(&name), name.to_str())
                && packed.sha256 == *sha256
            {
                let owner = self.owner(*owner);
                self.wireguard.insert(plain.to_owned(), owner);
                continue;
            }
            self.config(Folder::Second, second_path, &name, lying, &mut unread)?;
        }
        if folders.iter().any(|f| !matches!(f, There::Open(_))) {
            self.unread.clear();
        }
        let fate = match unread.as_slice() {
            [] if there => Fate::Saved,
            [] => Fate::NotThere,
            [one] => Fate::NotSaved { why: one.clone() },
            [one, more @ ..] => Fate::NotSaved {
                why: format!("{one}, and {} more like it", more.len()),
            },
        };
        self.parts.insert(Part::Configs, fate);
        Ok(())
    }

    fn config(
        &mut self,
        folder: Folder,
        dir: &Path,
        name: &OsStr,
        lying: Lying,
        unread: &mut Vec<String>,
    ) -> Result<(), Fault> {
        let path = dir.join(name);
        let shown = journal_format::visible(&path.to_string_lossy());
        let (plain_folder, raw_folder) = match folder {
            Folder::First => (CONFIGS, "configs/"),
            Folder::Second => (WIREGUARD, "wireguard/"),
        };
        match lying {
            Lying::File {
                owner,
                packed,
                plain,
                ..
            } => {
                let owner = self.owner(owner);
                match name.to_str().filter(|_| plain) {
                    Some(text) => {
                        self.add_packed(&format!("{plain_folder}{text}"), &packed, owner)?;
                        match folder {
                            Folder::First => self.contents.configs.push(text.to_owned()),
                            Folder::Second => {
                                self.wireguard.insert(text.to_owned(), owner);
                            }
                        }
                    }
                    None => {
                        let entry = format!("{RAW}{raw_folder}{}", escaped(name.as_bytes()));
                        self.add_packed(&entry, &packed, owner)?;
                    }
                }
                return Ok(());
            }
            Lying::Link { target, .. } => {
                let target = escaped_path(&target);
                self.warnings.push(format!(
                    "{shown} is a link to {target}: neither is saved, and a restore leaves both as they are"
                ));
                let path = escaped_path(path.as_os_str().as_bytes());
                self.links.insert(path, target);
            }
            Lying::NoFile { what, .. } => self.warnings.push(format!(
                "{shown} is not saved: {what}; a restore leaves it as it is"
            )),
            Lying::Unread { why } => {
                unread.push(format!("{shown}: {why}"));
                self.unread.insert(name.to_string_lossy().into_owned());
            }
        }
        self.left_out.insert(name.to_string_lossy().into_owned());
        Ok(())
    }

    /// The files in which the box keeps rules over a reboot.
    fn kept(&mut self) -> Result<(), Fault> {
        for (family, path) in Family::BOTH
            .into_iter()
            .zip(&self.profile.gateway.firewall.kept)
        {
            let fate = match configs::look_at(path) {
                None => Fate::NotThere,
                Some(Lying::File { owner, packed, .. }) => {
                    let owner = self.owner(owner);
                    let entry = format!("{KEPT}{}", family.rules_file());
                    self.add_packed(&entry, &packed, owner)?;
                    Fate::Saved
                }
                Some(Lying::Unread { why }) => Fate::NotSaved {
                    why: format!("{}: {why}", path.display()),
                },
                Some(Lying::Link { .. } | Lying::NoFile { .. }) => Fate::NotSaved {
                    why: format!("{} is not a regular file", path.display()),
                },
            };
            self.parts.insert(Part::Kept(family), fate);
        }
        Ok(())
    }

    /// Rules, forwarding, tunnels and peers, as the kernel had them.
    fn rules(&mut self, facts: &Facts) -> Result<(), Fault> {
        if let Some(save) = &facts.rules_v4 {
            for (entry, text) in [
                (RULES_V4, save.clone()),
                (RULES_NAT, rules_text::nat(save)),
                (RULES_FORWARD, rules_text::forward(save)),
            ] {
                self.add_text(entry, &text)?;
                self.contents.iptables_rules.push(entry.to_owned());
            }
        }
        if let Some(save) = &facts.rules_v6 {
            self.add_text(RULES_V6, save)?;
        }
        let rules = |family, text: &Option<String>| match text {
            Some(_) => Fate::Saved,
            None if facts.lack_protocol(family) => Fate::NotThere,
            None => Fate::NotSaved {
                why: survey::UNREADABLE.into(),
            },
        };
        let forwarding = |on: Option<bool>| match on {
            Some(_) => Fate::Saved,
            // A kernel without that family.
            None => Fate::NotThere,
        };
        let fates = [
            (Part::Rules(Family::V4), rules(Family::V4, &facts.rules_v4)),
            (Part::Rules(Family::V6), rules(Family::V6, &facts.rules_v6)),
            (Part::Forwarding(Family::V4), forwarding(facts.ip_forward)),
            (Part::Forwarding(Family::V6), forwarding(facts.ipv6_forward)),
            (Part::Tunnels, Fate::Saved),
            (Part::Peers, Fate::Saved),
        ];
        for (part, read) in fates {
            let fate = match facts.unread.get(&part) {
                Some(why) => Fate::NotSaved { why: why.clone() },
                None => read,
            };
            self.parts.insert(part, fate);
        }
        for (part, why) in &facts.unread {
            let lacks = || Fate::NotSaved { why: why.clone() };
            self.parts.entry(part.clone()).or_insert_with(lacks);
        }
        Ok(())
    }

    /// The place of a file's owner and mode among those that were seen.
    fn owner(&mut self, (uid, gid, mode): (u32, u32, u32)) -> usize {
        let known = |o: &OwnerFacts| (o.uid, o.gid, o.mode) == (uid, gid, mode);
        if let Some(place) = self.owners.iter().position(known) {
            return place;
        }
        self.owners.push(self.names.of(uid, gid, mode));
        self.owners.len() - 1
    }

    fn add_text(&mut self, entry: &str, text: &str) -> Result<(), Fault> {
        let packed = Packer::new().pack(&octets::bytes(text));
        let packed = packed.map_err(|e| packing(entry, &e))?;
        self.add(entry, &packed, None)
    }

    fn add_packed(&mut self, entry: &str, packed: &Packed, owner: usize) -> Result<(), Fault> {
        self.add(entry, packed, Some(owner))
    }

    fn add(&mut self, entry: &str, packed: &Packed, owner: Option<usize>) -> Result<(), Fault> {
        self.zip
            .add(entry, packed)
            .map_err(|e| packing(entry, &e))?;
        let sha256 = Digest::of_bytes(packed.sha256);
        let copied = Copied {
            size: packed.size,
            sha256,
        };
        let before = self.done;
        self.done += packed.size;
        if before / TOLD != self.done / TOLD {
            self.tell(entry);
        }
        self.note(entry, copied, owner);
        Ok(())
    }

    fn add_file(&mut self, entry: &str, file: &File, size: u64, owner: usize) -> Result<(), Fault> {
        let (before, of, progress) = (self.done, self.of, &mut self.progress);
        let mut told = |done| {
            let done = before + done;
            progress(Progress::Saving { entry, done, of });
        };
        let copied = self.zip.add_file(entry, file, size, &mut told);
        self.done += size;
        self.note(entry, copied.map_err(|e| packing(entry, &e))?, Some(owner));
        Ok(())
    }

    fn tell(&mut self, entry: &str) {
        let (done, of) = (self.done, self.of);
        (self.progress)(Progress::Saving { entry, done, of });
    }

    fn note(&mut self, entry: &str, Copied { size, sha256 }: Copied, owner: Option<usize>) {
        let facts = EntryFacts {
            size,
            sha256,
            owner,
        };
        self.entries.insert(entry.to_owned(), facts);
    }

    /// Whether the manifest says something that its first version has no words for.
    fn format(
        &self,
        unpaired: &BTreeSet<String>,
        facts: &Facts,
        peers: &BTreeMap<String, Peers>,
    ) -> u32 {
        let beyond = self
            .entries
            .keys()
            .any(|entry| entry.starts_with("holdfast/"));
        let plain = |fate: &Fate| matches!(fate, Fate::Saved | Fate::NotThere);
        let known = !beyond
            && self.links.is_empty()
            && unpaired.is_empty()
            && facts.ipv6_forward.is_none()
            && peers.is_empty()
            && self.parts.values().all(plain);
        match known {
            true => manifest::FORMAT_WHOLE,
            false => manifest::FORMAT,
        }
    }

    /// Writes the metadata as the last entry and syncs the file. Gives what lacks, and the warnings.
    fn finish(
        mut self,
        facts: &Facts,
        unpaired: BTreeSet<OsString>,
        created_at: String,
        growing: &Growing,
    ) -> Result<(Vec<Lack>, Vec<String>), Fault> {
        let unpaired: BTreeSet<String> = unpaired
            .iter()
            .map(|file| client_of(file).to_string_lossy().into_owned())
            .collect();
        if !unpaired.is_empty() {
            self.warnings.push(format!(
                "{} changed while the backup was made, {} times over; in it, row and files may be of two moments: {}",
                counted(unpaired.len(), "client"),
                moment::ANEW + 1,
                names(&unpaired)
            ));
        }
        self.warnings.extend(facts.beyond.iter().cloned());
        let peers = beyond_configs(self.profile, facts);
        let format = self.format(&unpaired, facts, &peers);
        let gateway = &self.profile.gateway;
        let instance = gateway.configs_dir.parent().unwrap_or(Path::new("/"));
        let metadata = Metadata {
            backup_version: manifest::VERSION.into(),
            created_at,
            timestamp: Some(growing.timestamp()),
            system_info: Some(SystemInfo {
                platform: "posix".into(),
                instance_path: instance.display().to_string(),
            }),
            contents: self.contents,
            holdfast: Some(Manifest {
                format,
                program: concat!("holdfast ", env!("CARGO_PKG_VERSION")).into(),
                host: host_name(),
                ip_forward: facts.ip_forward,
                tunnels_up: facts.tunnels.clone(),
                owners: self.owners,
                entries: self.entries,
                wireguard: self.wireguard,
                left_out: self.left_out,
                parts: self.parts,
                ipv6_forward: facts.ipv6_forward,
                peers,
                links: self.links,
                unpaired,
                beyond: facts.beyond.clone(),
                warnings: self.warnings,
            }),
        };
        let failed = |e: io::Error| {
            cannot(
                format!("write the backup {}: {e}", growing.path.display()),
                "see whether the disk is full or failing",
            )
        };
        let write = |out: &mut dyn io::Write| {
            serde_json::to_writer(out, &metadata).map_err(io::Error::from)
        };
        self.zip
            .add_written(manifest::ENTRY, write)
            .map_err(failed)?;
        let file = self.zip.finish().map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let said = metadata.holdfast.map(|m| (m.lacks(), m.warnings));
        Ok(said.unwrap_or_default())
    }
}

fn packing(entry: &str, e: &io::Error) -> Problem {
    cannot(
        format!(
            "write the backup at its entry {}: {e}",
            entry.escape_debug()
        ),
        "see whether the disk is full or failing",
    )
}

/// The client to whom a file belongs.
fn client_of(file: &OsStr) -> &OsStr {
    let bytes = file.as_bytes();
    OsStr::from_bytes(bytes.strip_suffix(b".conf").unwrap_or(bytes))
}

/// A path of any bytes as plain ASCII: each piece between slashes as [`escaped`] writes it.
fn escaped_path(path: &[u8]) -> String {
    let pieces: Vec<String> = path.split(|b| *b == b'/').map(escaped).collect();
    pieces.join("/")
}

/// The peers of tunnels that run with others than those of the config that `wg-quick` reads.
fn beyond_configs(profile: &Profile, facts: &Facts) -> BTreeMap<String, Peers> {
    let gateway = &profile.gateway;
    peers::beyond_configs(facts, |tunnel| {
        let file = format!("{tunnel}.conf");
        let folders = [&gateway.wireguard_dir, &gateway.configs_dir];
        let bytes = folders
            .iter()
            .find_map(|dir| configs::bytes(&dir.join(&file)))?;
        wgconf::read(&bytes).ok()
    })
}

/// The name of this box.
pub fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}

/// Reads all of it back by a fresh descriptor, as a restore would. Gives size, digest, and what a restore would mind.
fn read_back(
    profile: &Profile,
    growing: &Growing,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(u64, Digest, Vec<String>), Fault> {
    let failed = |why: &dyn std::fmt::Display| {
        Fault::Failed(cannot(
            format!("make a backup that can be read back: {why}"),
            "try again; if it happens again, the disk or the memory of this box may be failing",
        ))
    };
    let file = growing.reader().map_err(|e| failed(&e))?;
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
    let mut archive = Archive::open_hashed(file, &growing.name, &all, &known, &|_| Ok(false))
        .map_err(|e| failed(&e))?;
    let of = archive.unpacked_size();
    let mut told = 0;
    let read = archive.read_all(&mut |done| {
        if done - told >= TOLD || done == of {
            told = done;
            progress(Progress::Verifying { done, of });
        }
    });
    read.map_err(|e| failed(&e))?;
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
        (
            "entries",
            archive.entries().len() as u64,
            limits.entries,
            "entries",
        ),
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
