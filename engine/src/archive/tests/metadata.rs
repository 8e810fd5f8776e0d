//! What the metadata and the manifest list is there, and is what they say.

use super::*;

#[test]
fn what_the_metadata_list_must_be_there_and_the_other_way_round() {
    let missing = build(&[Raw::new(
        "backup_metadata.json",
        &metadata(&["configs.db"], &["a.conf"]),
    )])
    .bytes;
    assert_refused(&missing, "list configs.db, which is not in it");
    assert_refused(&missing, "list configs/a.conf, which is not in it");
    assert_refused(
        &with(&[Raw::new("configs/b.conf", CONFIG)]).bytes,
        "do not list its entry configs/b.conf",
    );
    assert_refused(
        &with(&[Raw::new("wireguard/a.conf", CONFIG)]).bytes,
        "do not list its entry wireguard/a.conf",
    );
    assert_refused(
        &build(&[Raw::new("configs/a.conf", CONFIG)]).bytes,
        "no backup_metadata.json",
    );
}

#[test]
fn another_version_is_refused_and_named() {
    let newer = String::from_utf8(metadata(&[], &[]))
        .unwrap()
        .replace("\"1.0\"", "\"2.0\"");
    assert_refused(
        &build(&[Raw::new("backup_metadata.json", newer.as_bytes())]).bytes,
        "its version is \"2.0\"",
    );
}

/// A backup with a manifest that says `sha256` of the one config.
fn with_manifest(sha256: &Digest, size: usize) -> Vec<u8> {
    let metadata = serde_json::json!({
        "backup_version": "1.0",
        "created_at": "2026-11-22T18:52:20Z",
        "contents": { "databases": [], "configs": ["a.conf"] },
        "holdfast": {
            "format": 1, "program": "holdfast 0.1.0", "host": "gw", "ip_forward": true, "tunnels_up": [],
            "owners": [], "entries": { "configs/a.conf": { "size": size, "sha256": sha256 } },
            "wireguard": {},
        },
    });
    build(&[
        Raw::new(
            "backup_metadata.json",
            &serde_json::to_vec(&metadata).unwrap(),
        ),
        Raw::new("configs/a.conf", CONFIG),
    ])
    .bytes
}

#[test]
fn an_entry_that_is_not_what_the_manifest_says_is_refused() {
    let right = Digest::of_bytes(Sha256::digest(CONFIG).into());
    assert!(open_all(&with_manifest(&right, CONFIG.len())).is_ok());
    let wrong = Digest::of_bytes([0; 32]);
    assert_refused(
        &with_manifest(&wrong, CONFIG.len()),
        "changed after the backup was made",
    );
    assert_refused(
        &with_manifest(&right, CONFIG.len() + 1),
        "and its manifest says",
    );
}
