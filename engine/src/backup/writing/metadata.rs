//! What the metadata of a backup say, written as its last entry. Decides nothing but which version of the manifest has words
//! for all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use journal_format::Note;

use super::Making;
use crate::archive::manifest::{self, Manifest, Metadata, SystemInfo};
use crate::backup::growing::Growing;
use crate::backup::moment;
use crate::error::{Code, Fault, OrCannot};
use crate::gateway::kernel_facts::Facts;
use crate::gateway::parts::{Lack, PartFate};
use crate::gateway::peers::Peers;
use crate::gateway::profile::Profile;
use crate::host::this_box;
use crate::text::wording::{counted, names};

/// A backup that is written, and not yet synced or looked at.
pub(in crate::backup) struct Finished {
    pub(in crate::backup) file: File,
    pub(in crate::backup) lacks: Vec<Lack>,
    /// The names of configs that could not be read, where it lacks only some of them.
    pub(in crate::backup) unread: BTreeSet<String>,
    pub(in crate::backup) warnings: Vec<Note>,
}

impl Making<'_, '_> {
    /// Writes the metadata as the last entry.
    pub(in crate::backup) fn finish(
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
            let (file, row) = match unpaired.len() {
                1 => ("its config file", "Its database row or its files"),
                _ => ("their config files", "Their database rows or files"),
            };
            let text = format!(
                "{} may not match {file}: {}. {row} changed, or one was missing, during each of {} attempts to read them",
                counted(unpaired.len(), "client"),
                names(&unpaired),
                moment::ANEW + 1
            );
            let note = Note::known(Code::NOT_OF_ONE_MOMENT, text);
            self.warnings.push(note);
        }
        let beyond = facts.beyond.iter();
        self.warnings
            .extend(beyond.map(|said| Note::known(Code::NOT_SAVED, said)));
        for note in &mut self.warnings {
            note.text = shortened(&note.text);
        }
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
                ipv6_forward: facts.ipv6_forward,
                peers,
                unpaired,
                beyond: facts.beyond.clone(),
                // Its format has sentences.
                warnings: self.warnings.iter().map(Note::to_string).collect(),
                ..self.manifest
            }),
        };
        let (text, size) = written(self.profile, &metadata).or_cannot(
            Code::IO,
            "write what the backup has to say",
            "check the disk of `state_dir`: `df -h` shows whether it is full, `dmesg` whether it fails",
        )?;
        let added = self.zip.add_file(manifest::ENTRY, &text, size, &mut |_| {});
        let file = added.and_then(|_| self.zip.finish()).or_cannot(
            Code::IO,
            format!("write the backup {}", growing.path.display()),
            "check the disk: `df -h` shows whether it is full, `dmesg` whether it fails",
        )?;
        let manifest = metadata.holdfast;
        Ok(Finished {
            file,
            lacks: manifest.map(|m| m.lacks()).unwrap_or_default(),
            unread: self.unread,
            warnings: self.warnings,
        })
    }

    /// Whether the manifest says something that its first version has no words for.
    fn format(
        &self,
        unpaired: &BTreeSet<String>,
        facts: &Facts,
        peers: &BTreeMap<String, Peers>,
    ) -> u32 {
        let Manifest {
            entries,
            links,
            parts,
            ..
        } = &self.manifest;
        let plain = |fate: &PartFate| matches!(fate, PartFate::Saved | PartFate::NotThere);
        let known = !entries.keys().any(|entry| entry.starts_with("holdfast/"))
            && links.is_empty()
            && unpaired.is_empty()
            && facts.ipv6_forward.is_none()
            && peers.is_empty()
            && parts.values().all(plain);
        match known {
            true => manifest::FORMAT_WHOLE,
            false => manifest::FORMAT,
        }
    }
}

fn written(profile: &Profile, metadata: &Metadata) -> io::Result<(File, u64)> {
    let mut text = tempfile::tempfile_in(profile.spool_dir())?;
    let mut out = io::BufWriter::new(&mut text);
    serde_json::to_writer(&mut out, metadata)?;
    out.flush()?;
    drop(out);
    let size = text.metadata()?.len();
    Ok((text, size))
}

/// What is only said must not become more than a reader takes: names in it are as long as those who gave them liked.
fn shortened(said: &str) -> String {
    const MOST: usize = 4000;
    match said.char_indices().nth(MOST) {
        None => said.to_owned(),
        Some((end, _)) => format!("{}...", &said[..end]),
    }
}

/// The client to whom a file belongs.
fn client_of(file: &OsStr) -> &OsStr {
    let bytes = file.as_bytes();
    OsStr::from_bytes(bytes.strip_suffix(b".conf").unwrap_or(bytes))
}
