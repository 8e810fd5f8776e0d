//! Entries below holdfast/raw and holdfast/kept: what the gateway's own reader would not take.

use super::*;

/// A backup with a manifest, and these entries, which the manifest lists.
fn with_raw(more: &[(&str, &[u8])]) -> Vec<u8> {
    let facts = |bytes: &[u8]| {
        let sha256 = Digest::of_bytes(Sha256::digest(bytes).into());
        serde_json::json!({ "size": bytes.len(), "sha256": sha256 })
    };
    let mut listed = serde_json::json!({ "configs/a.conf": facts(CONFIG) });
    for (name, bytes) in more {
        listed[*name] = facts(bytes);
    }
    let mut metadata: serde_json::Value =
        serde_json::from_slice(&metadata(&[], &["a.conf"])).unwrap();
    metadata["holdfast"] = serde_json::json!({
        "format": 2, "program": "holdfast 0.1.0", "host": "gw", "ip_forward": true, "tunnels_up": [],
        "owners": [], "entries": listed, "wireguard": {},
    });
    let mut entries = vec![
        Raw::new(
            "backup_metadata.json",
            &serde_json::to_vec(&metadata).unwrap(),
        ),
        Raw::new("configs/a.conf", CONFIG),
    ];
    entries.extend(more.iter().map(|(name, bytes)| Raw::new(name, bytes)));
    build(&entries).bytes
}

#[test]
fn what_the_gateways_own_reader_would_not_take_stands_below_raw_with_its_name_escaped() {
    let archive = open(&with_raw(&[
        ("holdfast/raw/configs/%FC.conf", b"\xfc"),
        ("holdfast/raw/wireguard/b.conf", b"\xfc"),
        ("holdfast/kept/rules.v6", b""),
    ]))
    .unwrap();
    let part = |name: &str| archive.entry(name).unwrap().part();
    assert_eq!(
        part("holdfast/raw/configs/%FC.conf"),
        EntryKind::RawConfig(b"\xfc.conf".to_vec())
    );
    assert_eq!(
        part("holdfast/raw/wireguard/b.conf"),
        EntryKind::RawSecondCopy(b"b.conf".to_vec())
    );
    assert_eq!(part("holdfast/kept/rules.v6"), EntryKind::Kept(Family::V6));
}

#[test]
fn raw_entries_have_names_of_files_escaped_in_one_way_and_no_others() {
    for name in [
        "configs/%2E%2E%2Fevil.conf",
        "configs/..%2Fevil.conf",
        "configs/%66.conf",
        "configs/a/b.conf",
        "configs/a%00.conf",
        "configs/a.txt",
        "configs/",
        "wireguard/a b.conf",
        "databases/other.db",
        "databases/configs.db-old",
        "databases/../configs.db",
        "x/configs.db",
        "configs.db",
        "../kept/rules.v4",
    ] {
        let said = refusal(&with_raw(&[(&format!("holdfast/raw/{name}"), b"x")]));
        assert!(said.contains("its entry"), "{name:?}: {said}");
    }
    let long = format!("holdfast/raw/configs/{}.conf", "n".repeat(251));
    assert_refused(&with_raw(&[(&long, b"x")]), "not that of a file, escaped");
    for name in ["holdfast/kept/rules.v5", "holdfast/x", "holdfast/kept/v4/x"] {
        assert_refused(&with_raw(&[(name, b"x")]), "has no place");
    }
}

#[test]
fn no_raw_entry_is_taken_without_a_manifest_or_beside_a_plain_one_of_the_same_file() {
    for name in [
        "holdfast/raw/configs/b.conf",
        "holdfast/raw/wireguard/b.conf",
        "holdfast/raw/databases/configs.db",
        "holdfast/kept/rules.v4",
    ] {
        assert_refused(
            &with(&[Raw::new(name, b"x")]).bytes,
            "do not list its entry",
        );
    }
    assert_refused(
        &with_raw(&[("holdfast/raw/configs/a.conf", b"x")]),
        "once more",
    );
}

#[test]
fn folders_of_raw_entries_may_be_entries() {
    let folders = [
        "holdfast/",
        "holdfast/raw/",
        "holdfast/raw/configs/",
        "holdfast/kept/",
    ];
    let folders = folders.map(|name| {
        let mut folder = Raw::new(name, b"");
        folder.mode = 0o040_755;
        folder
    });
    assert_eq!(open(&with(&folders).bytes).unwrap().entries().len(), 2);
}

/// A backup whose manifest says that the database was saved by its bytes, with these entries.
fn with_raw_database(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let digest = |bytes: &[u8]| Digest::of_bytes(Sha256::digest(bytes).into());
    let facts: serde_json::Map<String, serde_json::Value> = entries
        .iter()
        .chain(&[("configs/a.conf", CONFIG)])
        .map(|(name, bytes)| {
            let facts =
                serde_json::json!({ "size": bytes.len(), "sha256": digest(bytes), "owner": 0 });
            ((*name).to_owned(), facts)
        })
        .collect();
    let databases: Vec<&str> = entries
        .iter()
        .filter_map(|(name, _)| DATABASES.into_iter().find(|d| d == name))
        .collect();
    let metadata = serde_json::json!({
        "backup_version": "1.0",
        "created_at": "2026-11-22T18:52:20.618214+00:00",
        "contents": { "databases": databases, "configs": ["a.conf"], "iptables_rules": [] },
        "holdfast": {
            "format": 2, "program": "holdfast 0.1.0", "host": "gw", "ip_forward": null, "tunnels_up": [],
            "owners": [{ "uid": 1, "gid": 2, "user": "wireguard", "mode": "0640" }],
            "entries": facts, "wireguard": {},
            "parts": { "configs.db": { "is": "saved-raw", "why": "file is not a database" } },
        },
    });
    let mut all = vec![
        Raw::new(
            "backup_metadata.json",
            &serde_json::to_vec(&metadata).unwrap(),
        ),
        Raw::new("configs/a.conf", CONFIG),
    ];
    all.extend(entries.iter().map(|(name, bytes)| Raw::new(name, bytes)));
    build(&all).bytes
}

#[test]
fn the_bytes_of_a_database_are_entries_of_their_own_with_those_of_the_files_beside_it() {
    let raw = "holdfast/raw/databases/configs.db";
    let wal = &format!("{raw}-wal");
    let archive = open(&with_raw_database(&[(raw, b"garbage"), (wal, b"")])).unwrap();
    assert_eq!(raw_database("configs.db", "-wal"), *wal);
    assert_eq!(
        archive.entry(wal).unwrap().part(),
        EntryKind::RawDatabase {
            name: "configs.db".into(),
            side: "-wal"
        }
    );
    assert_eq!(archive.read_small(raw, 100).unwrap(), b"garbage");
    for (entries, says) in [
        (
            vec![(wal.as_str(), &b"x"[..])],
            "without the database itself",
        ),
        (
            vec![(raw, b"x"), ("configs.db", b"x")],
            "besides the database",
        ),
        (
            vec![("holdfast/raw/databases/app.db", b"x")],
            "do not list its entry",
        ),
        (
            vec![("holdfast/raw/databases/other.db", b"x")],
            "the profile does not know",
        ),
        (
            vec![("holdfast/raw/databases/configs.db-shm-wal", b"x")],
            "the profile does not know",
        ),
        (
            vec![("holdfast/raw/databases/%63onfigs.db", b"x")],
            "the profile does not know",
        ),
    ] {
        assert_refused(&with_raw_database(&entries), says);
    }
    // A database that was saved so, and that the profile does not name any more.
    let bytes = with_raw_database(&[(raw, b"garbage"), (wal, b"")]);
    let archive = Archive::open(
        file(&bytes),
        "b.zip",
        &Limits::default(),
        &["app.db"],
        &|_| Ok(false),
    )
    .unwrap();
    assert_eq!(archive.unknown_databases(), ["configs.db"]);
    for entries in [
        vec![(wal.as_str(), &b"x"[..])],
        vec![(raw, b"x"), ("configs.db", b"x")],
    ] {
        let bytes = with_raw_database(&entries);
        let refused = Archive::open(
            file(&bytes),
            "b.zip",
            &Limits::default(),
            &["app.db"],
            &|_| Ok(false),
        );
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("the profile does not know"), "{said}");
    }
    // Only a manifest can say that they are meant.
    assert_refused(&with(&[Raw::new(raw, b"x")]).bytes, "do not list its entry");
}
