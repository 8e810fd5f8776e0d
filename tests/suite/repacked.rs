//! A backup that an honest tool packed again is the same backup: taken, or refused with the command that helps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use engine::archive::Archive;
use engine::gateway::profile::Limits;
use fixtures::hostile::Backup;
use fixtures::skip;
use serde_json::json;

use crate::on_a_gateway::path;

const CONFIG: &[u8] = b"[Interface]\nPrivateKey = x\n\n[Peer]\nPublicKey = y\n";

/// A backup with a name beyond ASCII and one that is escaped, unpacked in a folder.
fn unpacked(folder: &Path) -> Backup {
    let metadata = json!({
        "backup_version": "1.0",
        "created_at": "2026-11-22T18:52:20Z",
        "contents": { "databases": [], "configs": [], "iptables_rules": [] },
        "holdfast": {
            "format": 2, "program": "holdfast 0.1.0", "host": "gw", "ip_forward": true, "tunnels_up": [],
            "owners": [{ "uid": 0, "gid": 0, "mode": "0640" }], "entries": {}, "wireguard": {},
        },
    });
    let backup = Backup {
        metadata,
        entries: Vec::new(),
    };
    let backup = backup
        .with("configs/b\u{fc}ro.conf", CONFIG)
        .with("configs/a.conf", CONFIG)
        .with("holdfast/raw/configs/b%FCro.conf", b"\xfc")
        .with("holdfast/kept/rules.v4", b"*filter\nCOMMIT\n");
    for (name, bytes) in &backup.entries {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
    let metadata = serde_json::to_vec(&backup.metadata).unwrap();
    fs::write(folder.join("backup_metadata.json"), metadata).unwrap();
    backup
}

/// What Holdfast reads of an archive; or what it says.
fn read(file: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let archive = Archive::open(
        File::open(file).unwrap(),
        "b.zip",
        &Limits::default(),
        &[],
        &|_| Ok(false),
    )
    .map_err(|e| e.to_string())?;
    let names = archive
        .entries()
        .iter()
        .map(|e| String::from(e.name.clone()));
    let mut entries: Vec<(String, Vec<u8>)> = names
        .filter(|n| n != "backup_metadata.json")
        .map(|n| (n.clone(), archive.read_small(&n, 1000).unwrap()))
        .collect();
    entries.sort();
    Ok(entries)
}

#[test]
fn a_backup_that_zip_packed_again_in_whatever_way_is_the_same_backup() {
    if skip::lacks(&["zip"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("backup");
    let mut sound = unpacked(&inside).entries;
    sound.sort();
    let again = folder.path().join("again.zip");
    let zip = |dir: &Path, locale: &str, words: &[&str]| -> PathBuf {
        let mut zip = Command::new("zip");
        zip.current_dir(dir).env("LC_ALL", locale).args(words);
        let done = zip.output().unwrap();
        assert!(done.status.success(), "{done:?}");
        again.clone()
    };
    let into = path(&again).to_owned();
    for (locale, options) in [
        ("C.UTF-8", "-r"),
        ("C.UTF-8", "-r0"),
        ("C.UTF-8", "-rD"),
        ("C.UTF-8", "-r9X"),
    ] {
        let _ = fs::remove_file(&again);
        let file = zip(&inside, locale, &[options, &into, "."]);
        assert_eq!(read(&file).unwrap(), sound, "{options}");
    }
    // Into a pipe, where it cannot go back to say the sizes.
    let piped = format!("cd {} && zip -qr - * | cat > {into}", path(&inside));
    let done = Command::new("sh").args(["-c", &piped]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(read(&again).unwrap(), sound);
    // As a Mac leaves it, and with what was advised then.
    fs::write(inside.join(".DS_Store"), "x").unwrap();
    fs::create_dir(inside.join("__MACOSX")).unwrap();
    fs::write(inside.join("__MACOSX/._configs"), "x").unwrap();
    let _ = fs::remove_file(&again);
    let file = zip(&inside, "C.UTF-8", &["-r", &into, "."]);
    assert_eq!(read(&file).unwrap(), sound);
    let _ = fs::remove_file(&again);
    let said = read(&zip(folder.path(), "C.UTF-8", &["-r", &into, "backup"])).unwrap_err();
    assert!(said.contains("zip -r ../again.zip ."), "{said}");
    fs::write(inside.join("notes.txt"), "x").unwrap();
    let _ = fs::remove_file(&again);
    let said = read(&zip(&inside, "C.UTF-8", &["-r", &into, "."])).unwrap_err();
    assert!(said.contains("zip -d COPY 'notes.txt'"), "{said}");
    let file = zip(&inside, "C.UTF-8", &["-d", &into, "notes.txt"]);
    assert_eq!(read(&file).unwrap(), sound);
    let commented = format!("echo hello | zip -z {into}");
    Command::new("sh")
        .args(["-c", &commented])
        .output()
        .unwrap();
    let said = read(&again).unwrap_err();
    assert!(said.contains("zip -z FILE < /dev/null"), "{said}");
    let undone = format!("zip -z {into} < /dev/null");
    Command::new("sh").args(["-c", &undone]).output().unwrap();
    assert_eq!(read(&again).unwrap(), sound);
}
