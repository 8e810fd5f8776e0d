//! The file of a backup: its entries in their fixed order, and what its metadata say of them. Must not read the gateway, but for
//! the kept rules.

mod configs;
mod metadata;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use journal_format::{Digest, Note, Problem};

use super::configs::{ConfigBytes, Lying, look_at};
use super::databases::{Copy, Saving};
use super::pack::{Packer, Sum, Zip};
use super::{Progress, TOLD, rules_text};
use crate::archive::manifest::{Contents, EntryFacts, Manifest, escaped};
use crate::archive::{KEPT, RULES_FORWARD, RULES_NAT, RULES_V4, RULES_V6, raw_database};
use crate::error::{Code, Fault, OrCannot, cannot, cause};
use crate::gateway::backup_kind::BackupKind;
use crate::gateway::kernel_facts::Facts;
use crate::gateway::owner::{Names, OwnerFacts};
use crate::gateway::parts::{Part, PartFate};
use crate::gateway::profile::Profile;
use crate::host::linux::Linux;
use crate::survey;
use crate::survey::kept_rules::KeptPlace;
use crate::text::iptables::Family;
use crate::text::octets;
use crate::text::wording::Named;

/// A backup on its way.
pub(super) struct Making<'a, 'p> {
    profile: &'a Profile,
    zip: Zip,
    names: Names,
    contents: Contents,
    /// As far as it is known.
    manifest: Manifest,
    unread: BTreeSet<String>,
    pub(super) warnings: Vec<Note>,
    done: u64,
    of: u64,
    progress: &'a mut (dyn FnMut(Progress<'_>) + 'p),
}

impl<'a, 'p> Making<'a, 'p> {
    /// With nothing in it yet. Of about `of` bytes, unpacked.
    pub(super) fn new(
        profile: &'a Profile,
        kind: BackupKind,
        file: File,
        of: u64,
        progress: &'a mut (dyn FnMut(Progress<'_>) + 'p),
    ) -> Making<'a, 'p> {
        Making {
            profile,
            zip: Zip::new(file),
            names: Names::default(),
            contents: Contents {
                configs: Some(Vec::new()),
                ..Contents::default()
            },
            manifest: Manifest {
                kind: Some(kind.name().into()),
                ..Manifest::default()
            },
            unread: BTreeSet::new(),
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
        let odd = |said: &String| Note::known(Code::DATABASE_ODD, format!("{name}: {said}"));
        let odd = saving.warnings.iter().map(odd);
        self.warnings.extend(odd.map(|note| note.about(name)));
        let raw = matches!(saving.fate, PartFate::SavedRaw { .. });
        for Copy { side, file, owner } in &saving.copies {
            let owner = self.owner(*owner);
            let entry = match raw {
                true => raw_database(name, side),
                false => name.clone(),
            };
            let size = file.metadata().or_cannot(
                Code::IO,
                format!("read the copy of {name}"),
                "see to the disk of the state folder",
            )?;
            self.add_file(&entry, file, size.len(), owner)?;
        }
        match &saving.fate {
            PartFate::Saved => self.contents.databases.push(name.clone()),
            PartFate::SavedRaw { why } => {
                let text = format!(
                    "SQLite cannot read {name} ({why}): its bytes are in the backup as they are, and so a restore of it puts them back"
                );
                let note = Note::known(Code::DATABASE_UNREADABLE, text);
                self.warnings.push(note.about(name));
            }
            PartFate::NotThere | PartFate::NotSaved { .. } => {}
        }
        self.found(Part::Database(saving.name), saving.fate);
        Ok(())
    }

    /// Whether there is nothing to be had so far, and nothing lacks.
    pub(super) fn is_empty(&self) -> bool {
        let lacks = |fate: &PartFate| matches!(fate, PartFate::NotSaved { .. });
        self.manifest.entries.is_empty() && !self.manifest.parts.values().any(lacks)
    }

    /// What became of a part.
    fn found(&mut self, part: Part, fate: PartFate) {
        self.manifest.parts.insert(part, fate);
    }

    /// Names a link, in whose place nothing is saved; gives where it leads, for people.
    fn link(&mut self, path: &Path, target: &[u8]) -> String {
        let target = escaped_path(target);
        let link = escaped_path(path.as_os_str().as_bytes());
        self.manifest.links.insert(link, target.clone());
        target
    }

    /// The files in which the box keeps rules over a reboot.
    pub(super) fn kept(&mut self) -> Result<(), Fault> {
        let kept = &self.profile.gateway.firewall.kept;
        for (family, path) in Family::BOTH.into_iter().zip(kept) {
            let looked = match KeptPlace::of(&Linux::new(self.profile), path) {
                Ok(KeptPlace::At(path)) => look_at(&path),
                Err(problem) => {
                    let why = format!("cannot {}", problem.what);
                    self.found(Part::Kept(family), PartFate::NotSaved { why });
                    continue;
                }
                Ok(KeptPlace::Link(link, target)) => {
                    let target = self.link(&link, &target);
                    let link = journal_format::visible(&link.to_string_lossy());
                    let text = format!(
                        "{link} is a link to {target}, where others than root may write, or nothing is: neither is saved, and a \
                         restore leaves both as they are"
                    );
                    let note = Note::known(Code::WRONG_KIND, text);
                    self.warnings.push(note.about(link));
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
            self.found(Part::Kept(family), fate);
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
        let parts = &mut self.manifest.parts;
        // What could not be read is not saved, whatever else is known of it.
        for (part, why) in &facts.unread {
            let lacks = || PartFate::NotSaved { why: why.clone() };
            parts.entry(part.clone()).or_insert_with(lacks);
        }
        for family in Family::BOTH {
            let rules = match facts.rules(family) {
                Some(_) => PartFate::Saved,
                None if facts.lack_protocol(family) => PartFate::NotThere,
                None => PartFate::NotSaved {
                    why: survey::UNREADABLE.into(),
                },
            };
            let forwarding = match facts.forwards(family) {
                Some(_) => PartFate::Saved,
                // A kernel without that family.
                None => PartFate::NotThere,
            };
            parts.entry(Part::Rules(family)).or_insert(rules);
            parts.entry(Part::Forwarding(family)).or_insert(forwarding);
        }
        for part in [Part::Tunnels, Part::Peers] {
            parts.entry(part).or_insert(PartFate::Saved);
        }
        Ok(())
    }

    /// The place of a file's owner and mode among those that were seen.
    fn owner(&mut self, (uid, gid, mode): (u32, u32, u32)) -> usize {
        let known = |o: &OwnerFacts| (o.uid, o.gid, o.mode) == (uid, gid, mode);
        let owners = &mut self.manifest.owners;
        if let Some(place) = owners.iter().position(known) {
            return place;
        }
        owners.push(self.names.of(uid, gid, mode));
        owners.len() - 1
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
        let added = self.zip.add(entry, sum, deflated);
        added.map_err(|e| packing(entry, &e))?;
        let facts = EntryFacts {
            size: sum.size,
            sha256: Digest::of_bytes(sum.sha256),
            owner,
        };
        let before = self.done;
        self.done += sum.size;
        if before / TOLD != self.done / TOLD {
            let (done, of) = (self.done, self.of);
            (self.progress)(Progress::Saving { entry, done, of });
        }
        self.manifest.entries.insert(entry.to_owned(), facts);
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
        self.manifest.entries.insert(entry.to_owned(), facts);
        Ok(())
    }
}

fn packing(entry: &str, e: &io::Error) -> Problem {
    let entry = Named(entry);
    cannot(
        cause(e),
        format!("write the backup at its entry {entry}: {e}"),
        "check the disk: `df -h` shows whether it is full, `dmesg` whether it fails",
    )
}

/// A path of any bytes as plain ASCII: each piece between slashes as [`escaped`] writes it.
fn escaped_path(path: &[u8]) -> String {
    let pieces: Vec<String> = path.split(|b| *b == b'/').map(escaped).collect();
    pieces.join("/")
}
