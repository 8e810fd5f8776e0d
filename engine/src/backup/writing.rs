//! The file of a backup: its entries in their fixed order, and what its metadata say of them. Must not read the gateway, but for
//! the kept rules.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use journal_format::Digest;

use super::aside::Aside;
use super::configs::{self, ConfigBytes, Configs, Folder, Lying, There};
use super::databases::{Copy, Saving};
use super::growing::Growing;
use super::moment;
use super::pack::{Packer, Sum, Zip};
use super::{Progress, TOLD, rules_text};
use crate::archive::manifest::{
    self, Contents, EntryFacts, Manifest, Metadata, SystemInfo, escaped,
};
use crate::archive::{
    CONFIGS, Copied, KEPT, RAW, RULES_FORWARD, RULES_NAT, RULES_V4, RULES_V6, WIREGUARD,
    raw_database,
};
use crate::error::{Fault, Problem, cannot};
use crate::gateway::kernel_facts::Facts;
use crate::gateway::owner::{Names, OwnerFacts};
use crate::gateway::parts::{Lack, Part, PartFate};
use crate::gateway::peers::Peers;
use crate::gateway::profile::Profile;
use crate::host::this_box;
use crate::survey;
use crate::survey::kept_rules::KeptPlace;
use crate::text::iptables::Family;
use crate::text::octets;
use crate::text::wording::{counted, names};

/// A backup on its way.
pub(super) struct Making<'a, 'p> {
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
    parts: BTreeMap<Part, PartFate>,
    warnings: Vec<String>,
    done: u64,
    of: u64,
    progress: &'a mut (dyn FnMut(Progress<'_>) + 'p),
}

impl<'a, 'p> Making<'a, 'p> {
    /// With nothing in it yet. Of about `of` bytes, unpacked.
    pub(super) fn new(
        profile: &'a Profile,
        file: File,
        of: u64,
        progress: &'a mut (dyn FnMut(Progress<'_>) + 'p),
    ) -> Making<'a, 'p> {
        Making {
            profile,
            zip: Zip::new(file),
            names: Names::default(),
            owners: Vec::new(),
            contents: Contents::default(),
            entries: BTreeMap::new(),
            wireguard: BTreeMap::new(),
            links: BTreeMap::new(),
            left_out: BTreeSet::new(),
            unread: BTreeSet::new(),
            parts: BTreeMap::new(),
            warnings: Vec::new(),
            done: 0,
            of,
            progress,
        }
    }

    pub(super) fn databases(&mut self, mut savings: Vec<Saving>) -> Result<(), Fault> {
        for database in &self.profile.gateway.database {
            if let Some(at) = savings.iter().position(|s| s.name == database.name) {
                self.database(savings.swap_remove(at))?;
            }
        }
        Ok(())
    }

    fn database(&mut self, saving: Saving) -> Result<(), Fault> {
        let name = &saving.name;
        self.warnings
            .extend(saving.warnings.iter().map(|w| format!("{name}: {w}")));
        let raw = matches!(saving.fate, PartFate::SavedRaw { .. });
        for Copy { side, file, owner } in &saving.copies {
            let owner = self.owner(*owner);
            let entry = match raw {
                true => raw_database(name, side),
                false => name.clone(),
            };
            let size = file.metadata().map_err(|e| {
                cannot(
                    format!("read the copy of {name}: {e}"),
                    "see to the disk of the state folder",
                )
            })?;
            self.add_file(&entry, file, size.len(), owner)?;
        }
        match &saving.fate {
            PartFate::Saved => self.contents.databases.push(name.clone()),
            PartFate::SavedRaw { why } => self.warnings.push(format!(
                "SQLite cannot read {name} ({why}): its bytes are in the backup as they are, and so a restore of it puts them back"
            )),
            PartFate::NotThere | PartFate::NotSaved { .. } => {}
        }
        let part = Part::Database(name.clone());
        self.parts.insert(part, saving.fate);
        Ok(())
    }

    pub(super) fn configs(&mut self, configs: Configs) -> Result<(), Fault> {
        let Configs {
            paths,
            folders,
            mut found,
            mut aside,
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
        let [first, second] = &paths;
        for (name, [lying, _]) in &mut found {
            if let Some(lying) = lying.take() {
                self.config(Folder::First, first, name, lying, &mut aside, &mut unread)?;
            }
        }
        for (name, [_, lying]) in found {
            if let Some(lying) = lying {
                self.config(
                    Folder::Second,
                    second,
                    &name,
                    lying,
                    &mut aside,
                    &mut unread,
                )?;
            }
        }
        if folders.iter().any(|f| !matches!(f, There::Open(_))) {
            self.unread.clear();
        }
        let fate = match unread.as_slice() {
            [] if there => PartFate::Saved,
            [] => PartFate::NotThere,
            [one] => PartFate::NotSaved { why: one.clone() },
            [one, more @ ..] => PartFate::NotSaved {
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
        aside: &mut Aside,
        unread: &mut Vec<String>,
    ) -> Result<(), Fault> {
        let path = || dir.join(name);
        let shown = || journal_format::visible(&path().to_string_lossy());
        let (plain_folder, raw_folder) = match folder {
            Folder::First => (CONFIGS, "configs/"),
            Folder::Second => (WIREGUARD, "wireguard/"),
        };
        match lying {
            Lying::File {
                owner,
                bytes,
                plain,
                ..
            } => {
                let owner = self.owner(owner);
                let plain = name.to_str().filter(|_| plain);
                if let ConfigBytes::Packed(sum, place) = bytes {
                    let entry = match plain {
                        Some(plain) => format!("{plain_folder}{plain}"),
                        None => format!("{RAW}{raw_folder}{}", escaped(name.as_bytes())),
                    };
                    self.add(&entry, &sum, aside.get(place)?, Some(owner))?;
                }
                match (folder, plain) {
                    (Folder::First, Some(plain)) => self.contents.configs.push(plain.to_owned()),
                    (Folder::Second, Some(plain)) => {
                        self.wireguard.insert(plain.to_owned(), owner);
                    }
                    (_, None) => {}
                }
                return Ok(());
            }
            Lying::Link { target, .. } => {
                let target = escaped_path(&target);
                self.warnings.push(format!(
                    "{} is a link to {target}: neither is saved, and a restore leaves both as they are",
                    shown()
                ));
                let path = escaped_path(path().as_os_str().as_bytes());
                self.links.insert(path, target);
            }
            Lying::NoFile { what, .. } => self.warnings.push(format!(
                "{} is not saved: {what}; a restore leaves it as it is",
                shown()
            )),
            Lying::Unread { why, .. } => {
                unread.push(format!("{}: {why}", shown()));
                self.unread.insert(name.to_string_lossy().into_owned());
            }
        }
        self.left_out.insert(name.to_string_lossy().into_owned());
        Ok(())
    }

    /// Configs in the second folder that are the gateway's only if a client of that name is: they may be another program's, with
    /// its keys, and so are not saved.
    pub(super) fn unknown(&mut self, unknown: &BTreeSet<OsString>) {
        if unknown.is_empty() {
            return;
        }
        let shown: BTreeSet<String> = unknown
            .iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        let why = format!(
            "the clients cannot be read, and so nobody can tell whether these in {} are a client's; they are not saved, and a \
             restore leaves them as they are: {}",
            self.profile.gateway.wireguard_dir.display(),
            names(&shown)
        );
        let clients = self.profile.client_database();
        let clients = clients.and_then(|c| self.parts.get(&Part::Database(c.name.clone())));
        let not_saved = |fate: Option<&PartFate>| matches!(fate, Some(PartFate::NotSaved { .. }));
        // Beside a greater loss it is no part of its own.
        if not_saved(clients) || not_saved(self.parts.get(&Part::Configs)) {
            self.warnings.push(why);
        } else {
            self.parts.insert(Part::Configs, PartFate::NotSaved { why });
            self.unread.extend(shown.iter().cloned());
        }
        self.left_out.extend(shown);
    }

    /// Says this of the backup.
    pub(super) fn warn(&mut self, warnings: Vec<String>) {
        self.warnings.extend(warnings);
    }

    /// Whether there is nothing to be had so far, and nothing lacks.
    pub(super) fn is_empty(&self) -> bool {
        let lacks = |fate: &PartFate| matches!(fate, PartFate::NotSaved { .. });
        self.entries.is_empty() && !self.parts.values().any(lacks)
    }

    /// The files in which the box keeps rules over a reboot.
    pub(super) fn kept(&mut self) -> Result<(), Fault> {
        for (family, path) in Family::BOTH
            .into_iter()
            .zip(&self.profile.gateway.firewall.kept)
        {
            let looked = match KeptPlace::of(path) {
                Ok(KeptPlace::At(path)) => configs::look_at(&path),
                Err(problem) => {
                    let why = format!("cannot {}", problem.what);
                    self.parts
                        .insert(Part::Kept(family), PartFate::NotSaved { why });
                    continue;
                }
                Ok(KeptPlace::Link(link, target)) => {
                    let target = escaped_path(&target);
                    self.warnings.push(format!(
                        "{} is a link to {target}, where others than root may write, or nothing is: neither is saved, and a \
                         restore leaves both as they are",
                        journal_format::visible(&link.to_string_lossy())
                    ));
                    let link = escaped_path(link.as_os_str().as_bytes());
                    self.links.insert(link, target);
                    // Nothing is said of the part: it is not saved, and what is said not to have been there a restore takes away.
                    continue;
                }
            };
            let fate = match looked {
                None => PartFate::NotThere,
                Some((
                    Lying::File {
                        owner,
                        bytes: ConfigBytes::Packed(sum, _),
                        ..
                    },
                    deflated,
                )) => {
                    let owner = self.owner(owner);
                    let entry = format!("{KEPT}{}", family.rules_file());
                    self.add(&entry, &sum, &deflated, Some(owner))?;
                    PartFate::Saved
                }
                Some((Lying::Unread { why, .. }, _)) => PartFate::NotSaved {
                    why: format!("{}: {why}", path.display()),
                },
                Some(_) => PartFate::NotSaved {
                    why: format!("{} is not a regular file", path.display()),
                },
            };
            self.parts.insert(Part::Kept(family), fate);
        }
        Ok(())
    }

    /// Rules, forwarding, tunnels and peers, as the kernel had them.
    pub(super) fn rules(&mut self, facts: &Facts) -> Result<(), Fault> {
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
            Some(_) => PartFate::Saved,
            None if facts.lack_protocol(family) => PartFate::NotThere,
            None => PartFate::NotSaved {
                why: survey::UNREADABLE.into(),
            },
        };
        let forwarding = |on: Option<bool>| match on {
            Some(_) => PartFate::Saved,
            // A kernel without that family.
            None => PartFate::NotThere,
        };
        let fates = [
            (Part::Rules(Family::V4), rules(Family::V4, &facts.rules_v4)),
            (Part::Rules(Family::V6), rules(Family::V6, &facts.rules_v6)),
            (Part::Forwarding(Family::V4), forwarding(facts.ip_forward)),
            (Part::Forwarding(Family::V6), forwarding(facts.ipv6_forward)),
            (Part::Tunnels, PartFate::Saved),
            (Part::Peers, PartFate::Saved),
        ];
        for (part, read) in fates {
            let fate = match facts.unread.get(&part) {
                Some(why) => PartFate::NotSaved { why: why.clone() },
                None => read,
            };
            self.parts.insert(part, fate);
        }
        for (part, why) in &facts.unread {
            let lacks = || PartFate::NotSaved { why: why.clone() };
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
        let mut packer = Packer::new();
        let (sum, deflated) = packer
            .pack(&octets::bytes(text))
            .map_err(|e| packing(entry, &e))?;
        self.add(entry, &sum, deflated, None)
    }

    fn add(
        &mut self,
        entry: &str,
        sum: &Sum,
        deflated: &[u8],
        owner: Option<usize>,
    ) -> Result<(), Fault> {
        self.zip
            .add(entry, sum, deflated)
            .map_err(|e| packing(entry, &e))?;
        let sha256 = Digest::of_bytes(sum.sha256);
        let size = sum.size;
        let before = self.done;
        self.done += size;
        if before / TOLD != self.done / TOLD {
            self.tell(entry);
        }
        self.note(entry, Copied { size, sha256 }, owner);
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
        let plain = |fate: &PartFate| matches!(fate, PartFate::Saved | PartFate::NotThere);
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

    /// Writes the metadata as the last entry.
    pub(super) fn finish(
        mut self,
        facts: &Facts,
        peers: BTreeMap<String, Peers>,
        unpaired: &BTreeSet<OsString>,
        created_at: String,
        growing: &Growing,
    ) -> Result<Finished, Fault> {
        let unpaired: BTreeSet<String> = unpaired
            .iter()
            .map(|file| client_of(file).to_string_lossy().into_owned())
            .collect();
        if !unpaired.is_empty() {
            self.warnings.push(format!(
                "row and files of {} may be of two moments: each of the {} times that the backup looked, they had changed since, or one of them was missing: {}",
                counted(unpaired.len(), "client"),
                moment::ANEW + 1,
                names(&unpaired)
            ));
        }
        self.warnings.extend(facts.beyond.iter().cloned());
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
                host: this_box::host_name(),
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
                warnings: self.warnings.iter().map(|w| shortened(w)).collect(),
            }),
        };
        let failed = |e: io::Error| {
            cannot(
                format!("write the backup {}: {e}", growing.path.display()),
                "see whether the disk is full or failing",
            )
        };
        let write = || -> io::Result<(File, u64)> {
            let mut text = tempfile::tempfile_in(self.profile.spool_dir())?;
            let mut out = io::BufWriter::new(&mut text);
            serde_json::to_writer(&mut out, &metadata)?;
            out.flush()?;
            drop(out);
            let size = text.metadata()?.len();
            Ok((text, size))
        };
        let (text, size) = write().map_err(|e| {
            cannot(
                format!("write what the backup has to say: {e}"),
                "see whether the disk of the state folder is full or failing",
            )
        })?;
        self.zip
            .add_file(manifest::ENTRY, &text, size, &mut |_| {})
            .map_err(failed)?;
        let file = self.zip.finish().map_err(failed)?;
        let (lacks, warnings) = metadata
            .holdfast
            .map(|m| (m.lacks(), m.warnings))
            .unwrap_or_default();
        Ok(Finished {
            file,
            lacks,
            unread: self.unread,
            warnings,
        })
    }
}

/// A backup that is written, and not yet synced or looked at.
pub(super) struct Finished {
    pub(super) file: File,
    pub(super) lacks: Vec<Lack>,
    /// The names of configs that could not be read, where it lacks only some of them.
    pub(super) unread: BTreeSet<String>,
    pub(super) warnings: Vec<String>,
}

/// What is only said must not become more than a reader takes: names in it are as long as those who gave them liked.
fn shortened(said: &str) -> String {
    const MOST: usize = 4000;
    match said.char_indices().nth(MOST) {
        None => said.to_owned(),
        Some((end, _)) => format!("{}...", &said[..end]),
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
