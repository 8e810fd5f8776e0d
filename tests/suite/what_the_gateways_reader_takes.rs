//! The gateway's own reader takes a backup with everything in it that it could not read itself: raw configs and databases,
//! kept rules files, links, names of any bytes; and Holdfast reads the same archive.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::File;

use engine::archive::manifest::escaped;
use engine::archive::{Archive, EntryKind};
use engine::gateway::profile::Limits;
use engine::text::iptables::Family;
use engine::text::wg_config::plain_config_name;
use fixtures::format_1_0;
use fixtures::hostile::Backup;
use serde_json::json;

const CONFIG: &[u8] = b"[Interface]\nPrivateKey = x\n\n[Peer]\nPublicKey = y\n";
const DATABASE: &[u8] = b"SQLite format 3\0 and more";

/// A backup with one config in the gateway's form, and these entries beside it.
fn backup(more: &[(String, Vec<u8>)]) -> Backup {
    let metadata = json!({
        "backup_version": "1.0",
        "created_at": "2026-11-22T18:52:20Z",
        "contents": { "databases": [], "configs": [], "iptables_rules": [] },
        "holdfast": {
            "format": 2, "program": "holdfast 0.1.0", "host": "gw", "ip_forward": true, "tunnels_up": [],
            "owners": [{ "uid": 0, "gid": 0, "mode": "0640" }], "entries": {}, "wireguard": {},
            "parts": { "configs.db": { "is": "saved-raw", "why": "it is damaged" } },
            "links": { "/etc/wireguard/l%FCnk.conf": "../../tmp/\u{fc}..\u{1b}" },
        },
    });
    let plain = Backup {
        metadata,
        entries: Vec::new(),
    };
    let plain = plain
        .with("configs/a.conf", CONFIG)
        .with("wireguard.db", DATABASE);
    let more = more.iter();
    more.fold(plain, |backup, (name, bytes)| {
        let mut backup = backup;
        let listed = backup.metadata["contents"].clone();
        backup = backup.with(name, bytes);
        // Only the manifest lists what stands below `holdfast/`.
        backup.metadata["contents"] = listed;
        backup
    })
}

/// Every file name that a config can have on Linux and that is no plain one.
fn odd_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = (1..=255u8)
        .filter(|b| *b != b'/')
        .map(|b| [b"x", &[b][..], b".conf"].concat())
        .filter(|name| plain_config_name(name).is_none())
        .collect();
    names.extend([
        b".conf".to_vec(),
        b"..conf".to_vec(),
        b"a..b.conf".to_vec(),
        [vec![b'.'; 250], b".conf".to_vec()].concat(),
        [vec![0xFF; 250], b".conf".to_vec()].concat(),
    ]);
    names
}

fn all() -> Vec<(String, Vec<u8>)> {
    let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
    for name in odd_names() {
        for folder in ["configs", "wireguard"] {
            let entry = format!("holdfast/raw/{folder}/{}", escaped(&name));
            entries.push((entry, b"\xfc without a section".to_vec()));
        }
    }
    for file in [
        "configs.db",
        "configs.db-wal",
        "configs.db-shm",
        "configs.db-journal",
    ] {
        entries.push((
            format!("holdfast/raw/databases/{file}"),
            b"torn\0\xff".to_vec(),
        ));
    }
    entries.push(("holdfast/kept/rules.v4".into(), b"*filter\n\xfc".to_vec()));
    entries.push(("holdfast/kept/rules.v6".into(), Vec::new()));
    entries
}

fn open(file: &std::path::Path) -> Archive {
    let databases = ["configs.db", "wireguard.db"];
    let file = File::open(file).unwrap();
    Archive::open(file, "b.zip", &Limits::default(), &databases, &|_| {
        Ok(false)
    })
    .unwrap()
}

#[test]
fn a_backup_with_every_kind_of_raw_entry_is_read_by_the_gateways_own_reader_and_by_holdfast() {
    let entries = all();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.zip");
    std::fs::write(&file, backup(&entries).bytes().unwrap()).unwrap();

    let read = format_1_0::read(&file).unwrap();
    assert_eq!(read.configs.keys().collect::<Vec<_>>(), ["a.conf"]);
    assert_eq!(read.databases.keys().collect::<Vec<_>>(), ["wireguard.db"]);
    assert_eq!(read.others.len(), entries.len());

    let archive = open(&file);
    for (name, bytes) in &entries {
        assert_eq!(&archive.read_small(name, 1000).unwrap(), bytes, "{name}");
    }
    let parts: Vec<EntryKind> = archive.entries().iter().map(|e| e.part()).collect();
    for name in odd_names() {
        assert!(parts.contains(&EntryKind::RawConfig(name.clone())));
        assert!(parts.contains(&EntryKind::RawSecondCopy(name)));
    }
    for side in engine::archive::SIDES {
        let name = "configs.db".to_owned();
        assert!(parts.contains(&EntryKind::RawDatabase { name, side }));
    }
    for family in Family::BOTH {
        assert!(parts.contains(&EntryKind::Kept(family)));
    }
}
