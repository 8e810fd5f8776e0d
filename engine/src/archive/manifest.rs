//! `backup_metadata.json`: the gateway's own metadata of a backup (format 1.0) and, under one key of them, Holdfast's
//! manifest. Owns their form and its check against the JSON schema. Must not: trust them; the archive is checked entry by
//! entry, whatever they say.

mod fit;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use journal_format::Digest;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Problem, cannot};
use crate::gateway::owner::OwnerFacts;
use crate::gateway::parts::{Lack, Part, PartFate};
use crate::gateway::peers::Peers;
use schema::Outline;

/// The entry that holds the metadata.
pub const ENTRY: &str = "backup_metadata.json";
/// The version of the gateway's format.
pub const VERSION: &str = "1.0";
/// The newest version of the manifest. A manifest that has nothing but what version 1 knows says 1.
pub const FORMAT: u32 = 2;
/// The manifest of a backup that has every part, and nothing that the gateway's own reader would not take.
pub const FORMAT_WHOLE: u32 = 1;

/// The metadata of a backup, keys in the gateway's order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// `1.0`.
    pub backup_version: String,
    /// When it was made: ISO 8601, UTC.
    pub created_at: String,
    /// The same, as it is in the file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// Where it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_info: Option<SystemInfo>,
    /// What is in it.
    pub contents: Contents,
    /// Holdfast's own; none in a backup that the gateway made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holdfast: Option<Manifest>,
}

/// Where a backup was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemInfo {
    /// `posix`.
    pub platform: String,
    /// The gateway's instance folder.
    pub instance_path: String,
}

/// What the gateway's reader wants to know is in a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Databases, by entry.
    #[serde(default)]
    pub databases: Vec<String>,
    /// Configs, by name: `configs/` goes before each. Without this list the backup does not say which configs there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configs: Option<Vec<String>>,
    /// Rules, by entry.
    #[serde(default)]
    pub iptables_rules: Vec<String>,
}

/// What Holdfast adds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the manifest.
    pub format: u32,
    /// What made the backup, as `holdfast 0.1.0`.
    pub program: String,
    /// On what occasion it was made, by the name of a [`BackupKind`](crate::gateway::backup_kind::BackupKind) of the version that
    /// made it; none in manifests made before they said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The host it was made on.
    #[serde(default)]
    pub host: Option<String>,
    /// `net.ipv4.ip_forward`; none if it could not be read.
    pub ip_forward: Option<bool>,
    /// The gateway's tunnels that were up.
    pub tunnels_up: Vec<String>,
    /// Owners and modes, each once: a gateway has thousands of files and a handful of these.
    pub owners: Vec<OwnerFacts>,
    /// Every entry but the metadata.
    pub entries: BTreeMap<String, EntryFacts>,
    /// The managed copies that lay in the folder of `wg-quick`, whether they differ from the first copy (then they are
    /// entries, too) or not, each with its place in `owners`. A config that is not here had no copy there.
    pub wireguard: BTreeMap<String, usize>,
    /// Managed configs that were there and that the backup could not take, in either folder: a restore leaves them as it
    /// finds them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left_out: BTreeSet<String>,
    /// What became of each part; empty in manifests made before there was such a list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<Part, PartFate>,
    /// `net.ipv6.conf.all.forwarding`; none if it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_forward: Option<bool>,
    /// The peers of tunnels whose peers the kernel had otherwise than their config, all of them, by interface and public key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<String, Peers>,
    /// Links among the configs: path and target, each piece between slashes as [`escaped`] writes it. They are not followed,
    /// and a restore leaves both as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
    /// Clients whose row and files are not of one moment, or one without the other, by name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unpaired: BTreeSet<String>,
    /// State of kinds that Holdfast does not save, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beyond: Vec<String>,
    /// What else a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A file name of any bytes as plain ASCII: what is neither a letter, a digit nor one of `._=+-` stands as `%` and two hex
/// digits, and so does a dot behind a dot, since the gateway's own reader takes no name with two of them.
pub fn escaped(name: &[u8]) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._=+-".contains(&b);
    let mut text = String::with_capacity(name.len());
    for b in name {
        if plain(*b) && !(*b == b'.' && text.ends_with('.')) {
            text.push(char::from(*b));
        } else {
            text.push_str(&format!("%{b:02X}"));
        }
    }
    text
}

/// The name that [`escaped`] made this of; none if it did not.
pub fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let (byte, behind) = match (first, behind) {
            (b'%', [a, b, behind @ ..]) => {
                let digits = [*a, *b];
                let hex = std::str::from_utf8(&digits).ok()?;
                (u8::from_str_radix(hex, 16).ok()?, behind)
            }
            (plain, behind) => (*plain, behind),
        };
        name.push(byte);
        rest = behind;
    }
    // One way to write each name, and no other.
    (escaped(&name) == text).then_some(name)
}

/// The file behind one entry of a backup: as the manifest says, and as reading it proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryFacts {
    /// Bytes, unpacked.
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
    /// Whose the file was, as a place in `owners`; none for what was not a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<usize>,
}

impl<'de> Deserialize<'de> for EntryFacts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<EntryFacts, D::Error> {
        from.deserialize_map(StrictFacts)
    }
}

/// Reads an entry's facts as strictly as the schema says, and names what is wrong: there are too many for the schema.
struct StrictFacts;

impl<'de> Visitor<'de> for StrictFacts {
    type Value = EntryFacts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<EntryFacts, A::Error> {
        let (mut size, mut sha256, mut owner) = (None, None, None::<u16>);
        while let Some(key) = members.next_key::<Key>()? {
            let read = match key {
                Key::Size => members.next_value().map(|v| size.replace(v).is_some()),
                Key::Sha256 => members.next_value().map(|v| sha256.replace(v).is_some()),
                Key::Owner => members.next_value().map(|v| owner.replace(v).is_some()),
                Key::Unknown => members.next_value::<IgnoredAny>().map(|_| false),
            };
            let said = |e: &dyn fmt::Display| de::Error::custom(format!("{key}: {e}"));
            if read.map_err(|e| said(&e))? {
                return Err(said(&"it is said twice"));
            }
        }
        let lacks = |key: Key| de::Error::custom(format!("{key}: it is not there"));
        Ok(EntryFacts {
            size: size.ok_or_else(|| lacks(Key::Size))?,
            sha256: sha256.ok_or_else(|| lacks(Key::Sha256))?,
            owner: owner.map(usize::from),
        })
    }
}

/// What is said of an entry.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Key {
    Size,
    Sha256,
    Owner,
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Key::Size => "size",
            Key::Sha256 => "sha256",
            Key::Owner => "owner",
            Key::Unknown => "what is not known",
        })
    }
}

impl Manifest {
    /// The parts that the backup should have and lacks.
    pub fn lacks(&self) -> Vec<Lack> {
        let parts = self.parts.iter();
        let lacks = parts.filter_map(|(part, fate)| match fate {
            PartFate::NotSaved { why } => Some(Lack {
                part: part.clone(),
                why: why.clone(),
            }),
            PartFate::Saved | PartFate::SavedRaw { .. } | PartFate::NotThere => None,
        });
        lacks.collect()
    }

    /// The first place that is named and is not one of `owners`.
    fn place_out_of_bounds(&self) -> Option<usize> {
        let owners = self.entries.values().filter_map(|e| e.owner);
        let mut places = owners.chain(self.wireguard.values().copied());
        places.find(|place| *place >= self.owners.len())
    }
}

fn refuse(why: String) -> Problem {
    cannot(
        Code::ARCHIVE_DAMAGED,
        format!("accept {ENTRY} of the backup: {why}"),
        "make a new backup, or take another one",
    )
}

/// Whether it is of versions that are known here.
fn known_version(value: &serde_json::Value) -> Result<(), Vec<Problem>> {
    match value.get("backup_version") {
        Some(serde_json::Value::String(version)) if version == VERSION => {}
        Some(version) => {
            let shown: String = version.to_string().chars().take(40).collect();
            return Err(vec![cannot(
                Code::ARCHIVE_VERSION,
                format!(
                    "read this backup: its version is {shown}, and only \"{VERSION}\" is known"
                ),
                "restore it with the program that made it, or with a newer Holdfast",
            )]);
        }
        None => return Err(vec![refuse("it names no backup_version".into())]),
    }
    let format = value.pointer("/holdfast/format");
    match format.and_then(serde_json::Value::as_u64) {
        Some(format) if !(1..=u64::from(FORMAT)).contains(&format) => Err(vec![cannot(
            Code::ARCHIVE_VERSION,
            format!(
                "read this backup: its manifest has format {format}, and only those up to {FORMAT} are known"
            ),
            "restore it with the Holdfast that made it, or with a newer one",
        )]),
        _ => Ok(()),
    }
}

impl Metadata {
    /// Reads the metadata of an archive with so many entries, and checks them against the schema. Keys that are not known are
    /// ignored.
    pub fn parse(bytes: &[u8], entries: usize) -> Result<Metadata, Vec<Problem>> {
        let outline = Outline::read(bytes, entries).or_else(|why| {
            // Of another version anything may be otherwise.
            let versions = Outline::versions(bytes);
            versions
                .ok()
                .map_or(Ok(()), |value| known_version(&value))?;
            Err(vec![refuse(why)])
        })?;
        // Said by itself, before the schema says it in its own words.
        known_version(&outline.value)?;
        let found = outline.against_schema().map_err(|e| vec![refuse(e)])?;
        if !found.is_empty() {
            return Err(found.into_iter().map(refuse).collect());
        }
        let Outline { value, large, .. } = outline;
        let mut metadata: Metadata =
            serde_json::from_value(value).map_err(|e| vec![refuse(e.to_string())])?;
        metadata.contents.configs = large.configs;
        if let Some(manifest) = &mut metadata.holdfast {
            manifest.entries = large.entries.into_iter().collect();
            manifest.wireguard = large.wireguard.into_iter().collect();
        }
        let manifest = metadata.holdfast.as_ref();
        match manifest.and_then(Manifest::place_out_of_bounds) {
            Some(place) => Err(vec![refuse(format!(
                "it names the owner {place}, and has no such owner"
            ))]),
            None => Ok(metadata),
        }
    }

    /// Who made it, for people.
    pub fn made_by(&self) -> &str {
        self.holdfast.as_ref().map_or("gateway", |h| &h.program)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "backup_version": "1.0",
            "created_at": "2026-11-22T18:52:20.618214+00:00",
            "contents": { "databases": ["configs.db"], "configs": ["a.conf"], "iptables_rules": [] },
            "holdfast": {
                "format": 1, "program": "holdfast 0.1.0", "host": "gw", "ip_forward": null, "tunnels_up": ["a"],
                "owners": [{ "uid": 1, "gid": 2, "user": "wireguard", "mode": "0640" }],
                "entries": { "configs/a.conf": { "size": 1, "sha256": "0".repeat(64), "owner": 0 } },
                "wireguard": {},
            },
        })
    }

    fn said(value: &Value) -> String {
        let problems = Metadata::parse(&serde_json::to_vec(value).unwrap(), 9).unwrap_err();
        problems
            .iter()
            .map(|p| p.what.clone())
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn metadata_are_read_and_keys_that_nobody_knows_are_ignored() {
        let mut value = good();
        value["x"] = json!(1);
        value["holdfast"]["x"] = json!({});
        value["contents"]["x"] = json!([]);
        let metadata = Metadata::parse(&serde_json::to_vec(&value).unwrap(), 9).unwrap();
        assert_eq!(metadata.made_by(), "holdfast 0.1.0");
        let manifest = metadata.holdfast.unwrap();
        assert_eq!(
            manifest.owners[manifest.entries["configs/a.conf"].owner.unwrap()].mode,
            0o640
        );
    }

    #[test]
    fn what_is_only_shown_is_of_any_length() {
        let mut value = good();
        for shown in ["warnings", "beyond"] {
            value["holdfast"][shown] = json!(["x".repeat(100_000)]);
        }
        let metadata = Metadata::parse(&serde_json::to_vec(&value).unwrap(), 9).unwrap();
        assert_eq!(metadata.holdfast.unwrap().warnings[0].len(), 100_000);
    }

    #[test]
    fn what_is_written_is_read_back_and_fits_the_schema() {
        let metadata = Metadata::parse(&serde_json::to_vec(&good()).unwrap(), 9).unwrap();
        assert_eq!(
            Metadata::parse(&serde_json::to_vec_pretty(&metadata).unwrap(), 9).unwrap(),
            metadata
        );
    }

    #[test]
    fn a_name_of_any_bytes_is_escaped_in_one_way_and_comes_back() {
        let every: Vec<u8> = (0..=255).collect();
        for name in [
            &b""[..],
            b"a.conf",
            b"a%b.conf",
            "\u{fc}.conf".as_bytes(),
            b"\xfc/..",
            b"a...conf",
            &every,
        ] {
            let text = escaped(name);
            assert!(text.is_ascii() && !text.contains('/') && !text.contains(".."));
            assert_eq!(unescaped(&text).unwrap(), name);
        }
        for other in ["%61", "%fc", "%", "%4", "a b", "a/b", "%+1", "a..b"] {
            assert_eq!(unescaped(other), None, "{other}");
        }
    }

    #[test]
    fn other_versions_are_named() {
        let mut value = good();
        value["backup_version"] = json!("1.1");
        insta::assert_snapshot!(said(&value), @r#"read this backup: its version is "1.1", and only "1.0" is known"#);
        value = good();
        value["holdfast"]["format"] = json!(3);
        insta::assert_snapshot!(said(&value), @"read this backup: its manifest has format 3, and only those up to 2 are known");
    }

    #[test]
    fn what_does_not_fit_is_named_by_its_place() {
        for (place, bad, says) in [
            ("/created_at", json!("yesterday"), "/created_at"),
            ("/contents", json!([]), "/contents"),
            ("/contents/databases", json!("a.db"), "/contents/databases"),
            ("/contents/configs", json!([7]), "/contents/configs/0"),
            (
                "/holdfast/entries/configs~1a.conf/sha256",
                json!("00"),
                "sha256",
            ),
            ("/holdfast/entries/configs~1a.conf/size", json!(-1), "size"),
            ("/holdfast/owners/0/mode", json!("rwx"), "mode"),
            (
                "/holdfast/entries/configs~1a.conf/owner",
                json!(1),
                "the owner 1",
            ),
            ("/holdfast/tunnels_up", json!(["../x"]), "tunnels_up"),
        ] {
            let mut value = good();
            *value.pointer_mut(place).unwrap() = bad;
            let said = said(&value);
            assert!(said.contains(says), "{place}: {said}");
        }
        for bytes in [
            &b""[..],
            b"[]",
            b"{",
            b"\xff",
            b"{\"backup_version\": \"1.0\"}",
            b"{\"created_at\": 1}",
        ] {
            assert!(Metadata::parse(bytes, 9).is_err());
        }
    }
}
