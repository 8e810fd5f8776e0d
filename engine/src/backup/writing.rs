//! The file of a backup: its entries in their fixed order, and what its metadata say of them. Must not read the gateway, but for
//! the kept rules.

mod configs;
mod metadata;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;

use journal_format::{Digest, Problem};

use super::configs::{ConfigBytes, Lying, look_at};
use super::databases::{Copy, Saving};
use super::pack::{Packer, Sum, Zip};
use super::{Progress, TOLD, rules_text};
use crate::archive::manifest::{Contents, EntryFacts, escaped};
use crate::archive::{KEPT, RULES_FORWARD, RULES_NAT, RULES_V4, RULES_V6, raw_database};
use crate::error::{Fault, cannot};
use crate::gateway::kernel_facts::Facts;
use crate::gateway::owner::{Names, OwnerFacts};
use crate::gateway::parts::{Part, PartFate};
use crate::gateway::profile::Profile;
use crate::survey;
use crate::survey::kept_rules::KeptPlace;
use crate::text::iptables::Family;
use crate::text::octets;

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
                Ok(KeptPlace::At(path)) => look_at(&path),
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
        let facts = EntryFacts {
            size: sum.size,
            sha256: Digest::of_bytes(sum.sha256),
            owner,
        };
        let before = self.done;
        self.done += sum.size;
        if before / TOLD != self.done / TOLD {
            self.tell(entry);
        }
        self.entries.insert(entry.to_owned(), facts);
        Ok(())
    }

    fn add_file(&mut self, entry: &str, file: &File, size: u64, owner: usize) -> Result<(), Fault> {
        let (before, of, progress) = (self.done, self.of, &mut self.progress);
        let mut told = |done| {
            let done = before + done;
            progress(Progress::Saving { entry, done, of });
        };
        let packed = self.zip.add_file(entry, file, size, &mut told);
        self.done += size;
        let mut facts = packed.map_err(|e| packing(entry, &e))?;
        facts.owner = Some(owner);
        self.entries.insert(entry.to_owned(), facts);
        Ok(())
    }

    fn tell(&mut self, entry: &str) {
        let (done, of) = (self.done, self.of);
        (self.progress)(Progress::Saving { entry, done, of });
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

/// A path of any bytes as plain ASCII: each piece between slashes as [`escaped`] writes it.
fn escaped_path(path: &[u8]) -> String {
    let pieces: Vec<String> = path.split(|b| *b == b'/').map(escaped).collect();
    pieces.join("/")
}
