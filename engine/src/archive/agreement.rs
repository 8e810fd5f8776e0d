//! Whether the metadata and the entries of a backup tell of the same files. What the metadata say of each entry goes to that
//! entry; no byte of any other is read here.

use std::collections::{BTreeMap, BTreeSet};

use super::accept::NOT_KNOWN;
use super::entry::What;
use super::manifest::{self, EntryFacts, Manifest};
use super::{
    Archive, ArchiveEntry, CONFIGS, EntryKind, NAMED, RAW_CONFIGS, RAW_DATABASES, RAW_WIREGUARD,
    SIDES, WIREGUARD, raw_database,
};
use crate::gateway::parts::{Part, PartFate};
use crate::text::wording::{self, Named};

/// How it is said that an entry is not in the metadata; its name follows.
pub(super) const NOT_LISTED: &str = " not list its entry ";

impl Archive {
    /// What metadata and entries do not agree about. What they say of each entry goes to it.
    pub(super) fn against_metadata(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let mut listed = vec![false; self.entries.len()];
        self.contents_are_here(&mut listed, &mut found);
        let mut manifest = self.metadata.holdfast.take();
        if let Some(manifest) = &mut manifest {
            self.take_facts(std::mem::take(&mut manifest.entries), &mut found);
            let second_copies = std::mem::take(&mut manifest.wireguard);
            self.take_second_copies(second_copies, &mut listed, &mut found);
        }
        for (entry, listed) in self.entries.iter().zip(listed) {
            self.is_listed(entry, listed, manifest.as_ref(), &mut found);
        }
        self.metadata.holdfast = manifest;
        wording::first(found, NAMED, |more| format!("and {more} more of the kind"))
    }

    /// Whether what the gateway's own part of the metadata lists is here.
    fn contents_are_here(&mut self, listed: &mut [bool], found: &mut Vec<String>) {
        let mut name = String::new();
        // That there is a list counts later, the names do not.
        let configs = self.metadata.contents.configs.as_mut();
        let configs = configs.map(std::mem::take).unwrap_or_default();
        let databases = &self.metadata.contents.databases;
        let mut next = 0;
        for (folder, names) in [(CONFIGS, &configs), ("", databases)] {
            for listing in names {
                name.clear();
                name.extend([folder, listing]);
                match self.find_next(&name, &mut next) {
                    Some(i) => listed[i] = true,
                    None => found.push(format!(
                        "its metadata list {}, which is not in it",
                        Named(&name)
                    )),
                }
            }
        }
    }

    /// What the manifest says of each entry.
    fn take_facts(&mut self, facts: BTreeMap<String, EntryFacts>, found: &mut Vec<String>) {
        let mut next = 0;
        for (name, facts) in facts {
            let shown = Named(&name);
            let Some(i) = self.find_next(&name, &mut next) else {
                found.push(format!("its manifest lists {shown}, which is not in it"));
                continue;
            };
            let entry = &mut self.entries[i];
            if facts.size != entry.size {
                found.push(format!(
                    "its entry {shown} has {} bytes, and its manifest says {}",
                    entry.size, facts.size
                ));
            }
            entry.sha256 = facts.sha256.into();
            entry.owner = facts.owner.and_then(|owner| owner.try_into().ok());
        }
    }

    /// Whose the second copies of configs were, by file.
    fn take_second_copies(
        &mut self,
        wireguard: BTreeMap<String, usize>,
        listed: &mut [bool],
        found: &mut Vec<String>,
    ) {
        let mut name = String::new();
        let mut nexts = [0; 4];
        for (file, owner) in wireguard {
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
                    Named(&file)
                ));
            }
        }
    }

    /// Whether what must list an entry does, and it is here once.
    fn is_listed(
        &self,
        entry: &ArchiveEntry,
        listed: bool,
        manifest: Option<&Manifest>,
        found: &mut Vec<String>,
    ) {
        let shown = Named(&entry.name);
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
                !saved_raw(manifest, &Part::Database(name))
            }
            EntryKind::UnknownDatabase => {
                let of = self.unknown_database(&entry.name, listed, manifest);
                if of.is_none() {
                    found.push(format!("its entry {shown} {NOT_KNOWN}"));
                }
                false
            }
            EntryKind::Metadata | EntryKind::Rules | EntryKind::RulesText => false,
        };
        if self.plain_twin(entry).is_some() {
            found.push(format!(
                "it has its entry {shown} once more, in a form for the gateway's own reader"
            ));
        }
        let unknown =
            manifest.is_some() && entry.what != What::Metadata && entry.sha256.get().is_none();
        let which = match (unlisted, unknown) {
            (false, false) => return,
            (true, false) => "its metadata do",
            (false, true) => "its manifest does",
            (true, true) => "its metadata and its manifest do",
        };
        found.push(format!("{which}{NOT_LISTED}{shown}"));
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
            | EntryKind::Rules
            | EntryKind::RulesText
            | EntryKind::Kept(_)
            | EntryKind::UnknownDatabase => None,
        }
    }

    /// The databases that were backed up and that the profile does not name.
    pub fn unknown_databases(&self) -> Vec<String> {
        let entries = self.entries.iter();
        let unknown = entries.filter(|e| e.what == What::UnknownDatabase);
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
            let part = Part::Database((*name).to_owned());
            saved_raw(manifest, &part) && self.has(&raw_database(name, "")) && !self.has(name)
        };
        names.find(saved).map(str::to_owned)
    }
}

/// Whether the manifest says that a database was saved by its bytes.
fn saved_raw(manifest: Option<&Manifest>, part: &Part) -> bool {
    let fate = manifest.and_then(|m| m.parts.get(part));
    matches!(fate, Some(PartFate::SavedRaw { .. }))
}
