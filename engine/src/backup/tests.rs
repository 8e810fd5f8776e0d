//! Backups of a gateway that lies in a folder, without a system around it: what they hold, and what is left of the making.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod catalog;
mod configs;
mod databases;
mod gateways_format;
mod kernel;
mod moment;
mod on_backup;
mod prune;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::archive::manifest::{Manifest, Metadata};
use crate::archive::verify;
use crate::gateway::database;
use crate::gateway::peers::{self, Peers};
use crate::gateway::profile::Limits;
use crate::host::live_database::shapes;
use crate::text::iptables::Family;

const CLIENTS: &str = include_str!("../../../fixtures/data/clients.sql");
const USERS: &str = concat!(
    include_str!("../../../fixtures/data/users.sql"),
    "INSERT INTO user (id, username, password, active) VALUES (1, 'admin', 'sha256$a$00', 1);"
);

/// Waits until a client of which something lacks is no more taken for one that is just being added.
fn half_is_old() {
    std::thread::sleep(Duration::from_millis(2_100));
}

fn config(port: u16) -> String {
    format!(
        "[Interface]\nPrivateKey = {port:0>42}A=\nListenPort = {port}\n[Peer]\nPublicKey = {}=\nAllowedIPs = 10.2.0.0/24\n",
        "A".repeat(43)
    )
}

/// What runs of the peers of the one tunnel: a peer of its config with these networks.
fn peers(networks: &[&str]) -> BTreeMap<String, Peers> {
    let (key, networks) = ("A".repeat(43), networks.join(","));
    let dump = format!("a_00000001\t{key}=\t(none)\t(none)\t{networks}\t0\t0\t0\toff\n");
    peers::in_dump(&dump, &["a_00000001".to_owned()])
}

struct Gateway {
    dir: tempfile::TempDir,
    profile: Profile,
    facts: Facts,
}

impl Gateway {
    fn new() -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        let mut profile = Profile {
            state_dir: dir.path().join("state"),
            ..Profile::default()
        };
        profile.gateway.configs_dir = dir.path().join("instance/configs");
        profile.gateway.wireguard_dir = dir.path().join("wireguard");
        for database in &mut profile.gateway.database {
            database.path = dir.path().join("instance").join(&database.name);
        }
        profile.gateway.firewall.kept = vec![
            dir.path().join("iptables/rules.v4"),
            dir.path().join("iptables/rules.v6"),
        ];
        std::fs::create_dir_all(&profile.gateway.configs_dir).unwrap();
        std::fs::create_dir_all(&profile.gateway.wireguard_dir).unwrap();
        let gateway = Gateway {
            dir,
            profile,
            facts: Facts {
                rules_v4: Some(
                    "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -j ACCEPT\nCOMMIT\n".into(),
                ),
                rules_v6: Some("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n".into()),
                ip_forward: Some(true),
                tunnels: vec!["a_00000001".into()],
                peers: peers(&["10.2.0.0/24"]),
                ..Facts::default()
            },
        };
        gateway.open("configs.db").execute_batch(CLIENTS).unwrap();
        gateway.open("wireguard.db").execute_batch(USERS).unwrap();
        for (i, name) in ["a_00000001", "b_00000002"].iter().enumerate() {
            gateway
                .open("configs.db")
                .execute("INSERT INTO clients (id, name, config_path, subnet, public_key, status) VALUES (?1, ?1, '/etc/wireguard/' || ?1 || '.conf', '10.2.0.0/24', 'y', 'active')", [name])
                .unwrap();
            gateway.write("instance/configs", name, &config(1000 + i as u16));
            gateway.write("wireguard", name, &config(1000 + i as u16));
        }
        gateway
    }

    fn open(&self, name: &str) -> Connection {
        Connection::open(self.dir.path().join("instance").join(name)).unwrap()
    }

    fn write(&self, dir: &str, stem: &str, text: &str) {
        let path = self.dir.path().join(dir).join(format!("{stem}.conf"));
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    }

    fn backups(&self) -> PathBuf {
        self.profile.backups_dir()
    }

    fn make(&self) -> Result<Made, Fault> {
        make(
            &self.profile,
            &Kernel::Known(&self.facts),
            BackupKind::ByHand,
            &self.backups(),
            &mut |_| (),
        )
    }

    /// Nothing is left of the making but backups.
    fn assert_clean(&self) {
        for entry in self.backups().read_dir().unwrap() {
            let name = entry.unwrap().file_name();
            assert!(
                name.to_string_lossy().starts_with("wireguard_backup_"),
                "{name:?}"
            );
        }
        if let Ok(spool) = self.profile.spool_dir().read_dir() {
            assert_eq!(spool.count(), 0);
        }
    }
}

fn entries(path: &Path) -> Vec<String> {
    let zip = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    (0..zip.len())
        .map(|i| zip.name_for_index(i).unwrap().unwrap().into_owned())
        .collect()
}

/// A reader written from the rules of format 1.0 alone: what the gateway's own restore asks of a backup.
fn gateway_reads(path: &Path) -> Result<(), String> {
    let mut zip = zip::ZipArchive::new(File::open(path).unwrap()).map_err(|e| e.to_string())?;
    let names: Vec<String> = (0..zip.len())
        .map(|i| zip.name_for_index(i).unwrap().unwrap().into_owned())
        .collect();
    if path.metadata().unwrap().len() > 50 << 20 || names.len() > 10_000 {
        return Err("over its limits".into());
    }
    let mut unpacked = 0;
    let mut read = |name: &str| -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut entry = zip.by_name(name).map_err(|e| format!("{name}: {e}"))?;
        entry.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes)
    };
    for name in &names {
        if name.contains("..") || name.starts_with('/') {
            return Err(format!("path {name}"));
        }
        unpacked += read(name)?.len();
    }
    if unpacked > 100 << 20 {
        return Err("over its limits".into());
    }
    let metadata: serde_json::Value =
        serde_json::from_slice(&read("backup_metadata.json")?).map_err(|e| e.to_string())?;
    if metadata["backup_version"] != "1.0" || !metadata["created_at"].is_string() {
        return Err("metadata".into());
    }
    let list = |key: &str| -> Vec<String> {
        let list = metadata["contents"][key].as_array().unwrap();
        list.iter()
            .map(|v| v.as_str().unwrap().to_owned())
            .collect()
    };
    for database in list("databases") {
        if !read(&database)?.starts_with(b"SQLite format 3\0") {
            return Err(database);
        }
    }
    for config in list("configs") {
        let text =
            String::from_utf8(read(&format!("configs/{config}"))?).map_err(|e| e.to_string())?;
        if !config.ends_with(".conf") || !text.contains("[Interface]") || !text.contains("[Peer]") {
            return Err(config);
        }
    }
    for rules in list("iptables_rules") {
        read(&rules)?;
    }
    Ok(())
}

#[test]
fn a_backup_holds_databases_configs_rules_and_metadata_in_order_and_verifies() {
    let gateway = Gateway::new();
    let mut told = Vec::new();
    let made = make(
        &gateway.profile,
        &Kernel::Known(&gateway.facts),
        BackupKind::ByHand,
        &gateway.backups(),
        &mut |p| told.push(format!("{p:?}")),
    )
    .unwrap();
    assert_eq!(made.warnings, []);
    insta::assert_snapshot!(entries(&made.path).join("\n"), @r"
    configs.db
    wireguard.db
    configs/a_00000001.conf
    configs/b_00000002.conf
    iptables_rules.txt
    iptables_nat_rules.txt
    iptables_forward_rules.txt
    ip6tables_rules.txt
    backup_metadata.json
    ");
    let (checked, opened) = verify::archive(
        &gateway.profile,
        &shapes(&gateway.profile),
        File::open(&made.path).unwrap(),
        "b.zip",
    )
    .unwrap();
    assert_eq!(opened.info.sha256, made.sha256);
    assert_eq!(checked.warnings, []);
    assert_eq!(checked.tunnels_up, ["a_00000001"]);
    assert_eq!(checked.forwards(Family::V4), Some(true));
    assert_eq!(checked.rules.v4, gateway.facts.rules_v4);
    assert_eq!(checked.rules.v6, gateway.facts.rules_v6);
    let a = &checked.configs["a_00000001.conf"];
    let owners = &checked.manifest.as_ref().unwrap().owners;
    assert_eq!(
        owners[a.first.as_ref().unwrap().facts.owner.unwrap()].mode,
        0o640
    );
    assert_eq!(
        &*a.second.as_ref().unwrap().entry,
        "configs/a_00000001.conf"
    );
    assert!(
        told[0].starts_with("Estimated"),
        "it says beforehand how large it will be"
    );
    assert!(told.last().unwrap().starts_with("Verifying"));
    drop(opened);
    let facts = made.path.metadata().unwrap();
    assert_eq!((facts.mode() & 0o7777, facts.len()), (0o600, made.size));
    drop(checked);
    gateway.assert_clean();
}

fn manifest_of(path: &Path) -> Manifest {
    let mut zip = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut text = Vec::new();
    let mut entry = zip.by_name("backup_metadata.json").unwrap();
    entry.read_to_end(&mut text).unwrap();
    Metadata::parse(&text, 9).unwrap().holdfast.unwrap()
}

fn bytes_of(path: &Path, entry: &str) -> Vec<u8> {
    let mut zip = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut bytes = Vec::new();
    let mut entry = zip
        .by_name(entry)
        .unwrap_or_else(|e| panic!("{entry}: {e}"));
    entry.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Files that the gateway's own reader would refuse, each with the entry that holds it.
fn unusual(gateway: &Gateway) -> Vec<(&'static str, Vec<u8>)> {
    let latin = [b"# B\xfcro\n".as_slice(), config(7).as_bytes()].concat();
    let files: Vec<(&[u8], &str, Vec<u8>)> = vec![
        (b"latin.conf", "holdfast/raw/configs/latin.conf", latin),
        (
            b"no_peer.conf",
            "holdfast/raw/configs/no_peer.conf",
            b"[Interface]\n".to_vec(),
        ),
        (b"empty.conf", "holdfast/raw/configs/empty.conf", Vec::new()),
        (
            b"text.conf",
            "holdfast/raw/configs/text.conf",
            b"hello".to_vec(),
        ),
        (
            b"b\xfcro.conf",
            "holdfast/raw/configs/b%FCro.conf",
            config(9).into_bytes(),
        ),
        (
            b"ctrl\x07.conf",
            "holdfast/raw/configs/ctrl%07.conf",
            config(10).into_bytes(),
        ),
        (
            b"large.conf",
            "holdfast/raw/configs/large.conf",
            vec![b'#'; 3 << 20],
        ),
    ];
    let dir = &gateway.profile.gateway.configs_dir;
    let mut there = Vec::new();
    for (name, entry, bytes) in files {
        std::fs::write(dir.join(OsStr::from_bytes(name)), &bytes).unwrap();
        there.push((entry, bytes));
    }
    // The second copy alone is one of these.
    let second = [b"# \xff\n".as_slice(), config(1000).as_bytes()].concat();
    let path = gateway
        .profile
        .gateway
        .wireguard_dir
        .join("a_00000001.conf");
    std::fs::write(path, &second).unwrap();
    there.push(("holdfast/raw/wireguard/a_00000001.conf", second));
    there
}

#[test]
fn two_backups_in_one_second_get_two_names() {
    let gateway = Gateway::new();
    let first = gateway.make().unwrap();
    let second = gateway.make().unwrap();
    assert_ne!(first.path, second.path);
    assert_eq!(gateway.backups().read_dir().unwrap().count(), 2);
}

#[test]
fn what_an_interrupted_backup_left_is_removed_and_what_a_running_one_writes_is_not() {
    let gateway = Gateway::new();
    std::fs::create_dir_all(gateway.backups()).unwrap();
    let stale = gateway
        .backups()
        .join(".wireguard_backup_20200101_000000.zip.part");
    let live = gateway
        .backups()
        .join(".wireguard_backup_20200101_000001.zip.part");
    std::fs::write(&stale, b"x").unwrap();
    let running = File::create(&live).unwrap();
    running.lock().unwrap();
    gateway.make().unwrap();
    assert!(!stale.exists());
    assert!(live.exists());
}

#[test]
fn without_anything_to_save_there_is_no_backup() {
    let gateway = Gateway::new();
    std::fs::remove_dir_all(gateway.dir.path().join("instance")).unwrap();
    std::fs::remove_dir_all(gateway.dir.path().join("wireguard")).unwrap();
    let facts = Facts::default();
    let known = Kernel::Known(&facts);
    let made = make(
        &gateway.profile,
        &known,
        BackupKind::ByHand,
        &gateway.backups(),
        &mut |_| (),
    );
    assert!(matches!(made, Err(Fault::Failed(_))), "{made:?}");
    gateway.assert_clean();
}

#[test]
fn the_same_gateway_gives_the_same_entries() {
    let gateway = Gateway::new();
    for n in 0..300 {
        gateway.write("instance/configs", &format!("c_{n}"), &config(n));
    }
    let packed = |path: &Path| -> Vec<(String, Vec<u8>)> {
        let mut zip = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
        let all = 0..zip.len() - 1;
        all.map(|i| {
            let mut raw = zip.by_index_raw(i).unwrap();
            let mut bytes = Vec::new();
            raw.read_to_end(&mut bytes).unwrap();
            (raw.name().unwrap().into_owned(), bytes)
        })
        .collect()
    };
    let [one, other] = [0, 1].map(|_| packed(&gateway.make().unwrap().path));
    assert_eq!(one.len(), 300 + 8);
    assert_eq!(one, other);
}
