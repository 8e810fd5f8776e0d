//! The configs of a backup as entries, plain or raw, and what is said of those that are none: links, folders, what could not be
//! read. Reads none of them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use journal_format::Note;

use super::Making;
use crate::archive::manifest::escaped;
use crate::archive::{CONFIGS, RAW, WIREGUARD};
use crate::backup::aside::Aside;
use crate::backup::configs::{ConfigBytes, Configs, Folder, Lying, There};
use crate::error::{Code, Fault};
use crate::gateway::parts::{Part, PartFate};
use crate::text::wording::names;

impl Making<'_, '_> {
    pub(in crate::backup) fn configs(&mut self, configs: Configs) -> Result<(), Fault> {
        let Configs {
            paths,
            folders,
            mut found,
            mut aside,
        } = configs;
        let mut unread: Vec<String> = Vec::new();
        let there = folders.iter().any(|f| matches!(f, There::Open(_)));
        for (path, folder) in paths.iter().zip(&folders) {
            let path = path.display();
            match folder {
                // Whoever has the one had the other.
                There::Missing if there => unread.push(format!("the folder {path} is gone")),
                There::Open(_) | There::Missing => {}
                There::Unread(why) => {
                    unread.push(format!("the folder {path} cannot be read: {why}"));
                }
            }
        }
        for (folder, dir) in [Folder::First, Folder::Second].into_iter().zip(&paths) {
            for (name, both) in &mut found {
                if let Some(lying) = both[folder as usize].take() {
                    self.config(folder, dir, name, lying, &mut aside, &mut unread)?;
                }
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
        self.found(Part::Configs, fate);
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
                    (Folder::First, Some(plain)) => {
                        let listed = &mut self.contents.configs;
                        listed.get_or_insert_default().push(plain.to_owned());
                    }
                    (Folder::Second, Some(plain)) => {
                        self.manifest.wireguard.insert(plain.to_owned(), owner);
                    }
                    (_, None) => {}
                }
                return Ok(());
            }
            Lying::Link { target, .. } => {
                let target = self.link(&path(), &target);
                let text = format!(
                    "{} is a link to {target}: neither is saved, and a restore leaves both as they are",
                    shown()
                );
                let note = Note::known(Code::WRONG_KIND, text);
                self.warnings.push(note.about(shown()));
            }
            Lying::NoFile { what, .. } => {
                let text = format!(
                    "{} is not saved: {what}; a restore leaves it as it is",
                    shown()
                );
                let note = Note::known(Code::WRONG_KIND, text);
                self.warnings.push(note.about(shown()));
            }
            Lying::Unread { why, .. } => {
                unread.push(format!("{}: {why}", shown()));
                self.unread.insert(name.to_string_lossy().into_owned());
            }
        }
        let name = name.to_string_lossy().into_owned();
        self.manifest.left_out.insert(name);
        Ok(())
    }

    /// Configs in the second folder that are the gateway's only if a client of that name is: they may be another program's, with
    /// its keys, and so are not saved.
    pub(in crate::backup) fn unknown(&mut self, unknown: &BTreeSet<OsString>) {
        if unknown.is_empty() {
            return;
        }
        let shown = unknown.iter().map(|name| name.to_string_lossy().into());
        let shown: BTreeSet<String> = shown.collect();
        let why = format!(
            "{} in {}: the clients cannot be read, so Holdfast does not know whether such a config is a client's. It is not saved, \
             and a restore leaves it as it is",
            names(&shown),
            self.profile.gateway.wireguard_dir.display()
        );
        let clients = self.profile.client_database();
        let clients = clients.map(|c| Part::Database(c.name.clone()));
        let parts = &self.manifest.parts;
        let lacks = |part: Part| matches!(parts.get(&part), Some(PartFate::NotSaved { .. }));
        // Beside a greater loss it is no part of its own.
        if clients.is_some_and(lacks) || lacks(Part::Configs) {
            self.warnings.push(Note::known(Code::NOT_SAVED, why));
        } else {
            self.found(Part::Configs, PartFate::NotSaved { why });
            self.unread.extend(shown.iter().cloned());
        }
        self.manifest.left_out.extend(shown);
    }
}
