#![allow(clippy::unwrap_used, clippy::expect_used)]
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

#[test]
fn a_backup_holds_databases_configs_rules_and_metadata_in_order_and_verifies() {
    let gateway = Gateway::new();
    let mut told = Vec::new();
    let made = make(
        &gateway.profile,
        &Kernel::Known(&gateway.facts),
        &gateway.backups(),
        &mut |p| told.push(format!("{p:?}")),
    )
    .unwrap();
    assert_eq!(made.warnings, Vec::<String>::new());
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
    let checked = verify::archive(
        &gateway.profile,
        &shapes(&gateway.profile),
        File::open(&made.path).unwrap(),
        "b.zip",
    )
    .unwrap();
    assert_eq!(checked.sha256, made.sha256);
    assert_eq!(checked.warnings, Vec::<String>::new());
    assert_eq!(checked.tunnels_up, ["a_00000001"]);
    assert_eq!(checked.ip_forward, Some(true));
    assert_eq!(checked.rules.v4, gateway.facts.rules_v4);
    assert_eq!(checked.rules.v6, gateway.facts.rules_v6);
    let a = &checked.configs["a_00000001.conf"];
    let owners = &checked.archive.metadata().holdfast.as_ref().unwrap().owners;
    assert_eq!(
        owners[usize::from(a.first.unwrap().owner.unwrap())].mode,
        0o640
    );
    assert_eq!(
        a.second.unwrap().file(&checked.archive).unwrap().entry,
        "configs/a_00000001.conf"
    );
    assert!(
        told[0].starts_with("Estimated"),
        "it says beforehand how large it will be"
    );
    assert!(told.last().unwrap().starts_with("Verifying"));
    let facts = made.path.metadata().unwrap();
    assert_eq!((facts.mode() & 0o7777, facts.len()), (0o600, made.size));
    drop(checked);
    gateway.assert_clean();
}

#[test]
fn the_metadata_are_the_gateways_with_one_key_more() {
    let gateway = Gateway::new();
    let made = gateway.make().unwrap();
    let mut zip = zip::ZipArchive::new(File::open(&made.path).unwrap()).unwrap();
    let mut text = String::new();
    zip.by_name("backup_metadata.json")
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut places: Vec<usize> = [
        "backup_version",
        "created_at",
        "timestamp",
        "system_info",
        "contents",
        "holdfast",
    ]
    .iter()
    .map(|k| text.find(&format!("\"{k}\":")).unwrap())
    .collect();
    assert!(places.is_sorted());
    places.dedup();
    assert_eq!(places.len(), 6);
    assert_eq!(
        value["contents"]["configs"],
        serde_json::json!(["a_00000001.conf", "b_00000002.conf"])
    );
    assert_eq!(
        made.path.file_name().unwrap().to_str().unwrap(),
        format!(
            "wireguard_backup_{}.zip",
            value["timestamp"].as_str().unwrap()
        )
    );
    let entry = &value["holdfast"]["entries"]["configs/a_00000001.conf"];
    let owner = entry["owner"].as_u64().unwrap() as usize;
    assert_eq!(value["holdfast"]["owners"][owner]["mode"], "0640");
    assert_eq!(
        entry["sha256"],
        Digest::of_bytes(Sha256::digest(config(1000)).into()).to_string()
    );
}

#[test]
fn a_second_copy_is_an_entry_only_where_it_differs_and_strangers_stay_out() {
    let gateway = Gateway::new();
    gateway.write("wireguard", "b_00000002", &config(9));
    gateway.write("wireguard", "wg0", &config(10));
    gateway
        .open("configs.db")
        .execute_batch("INSERT INTO clients (id, name, config_path, subnet, public_key, status) VALUES ('c','c_00000003','p','s','k','inactive')")
        .unwrap();
    gateway.write("wireguard", "c_00000003", &config(11));
    std::fs::remove_file(
        gateway
            .profile
            .gateway
            .wireguard_dir
            .join("a_00000001.conf"),
    )
    .unwrap();
    let made = gateway.make().unwrap();
    let second: Vec<_> = entries(&made.path)
        .into_iter()
        .filter(|e| e.starts_with("wireguard/"))
        .collect();
    assert_eq!(
        second,
        ["wireguard/b_00000002.conf", "wireguard/c_00000003.conf"]
    );
    let checked = verify::archive(
        &gateway.profile,
        &shapes(&gateway.profile),
        File::open(&made.path).unwrap(),
        "b.zip",
    )
    .unwrap();
    assert!(
        checked.configs["a_00000001.conf"].second.is_none(),
        "it had no second copy"
    );
    assert!(
        checked.configs["c_00000003.conf"].first.is_none(),
        "it had no first copy"
    );
    assert_eq!(checked.configs["b_00000002.conf"].listen_port, Some(9));
}

#[test]
fn no_committed_row_of_a_wal_database_with_a_writer_is_lost() {
    let gateway = Gateway::new();
    let writer = gateway.open("configs.db");
    writer.pragma_update(None, "journal_mode", "wal").unwrap();
    writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    for i in 0..500 {
        writer
            .execute(
                "INSERT INTO test_history (client_id, latency_ms) VALUES ('a_00000001', ?1)",
                [i],
            )
            .unwrap();
    }
    writer
        .execute_batch(
            "BEGIN IMMEDIATE; INSERT INTO test_history (client_id) VALUES ('a_00000001');",
        )
        .unwrap();
    let made = gateway.make().unwrap();
    let checked = verify::archive(
        &gateway.profile,
        &shapes(&gateway.profile),
        File::open(&made.path).unwrap(),
        "b.zip",
    )
    .unwrap();
    let copy = tempfile::NamedTempFile::new().unwrap();
    checked
        .archive
        .copy("configs.db", &mut copy.as_file())
        .unwrap();
    let content = database::content_of_copy(copy.path()).unwrap();
    assert_eq!(
        content.tables["test_history"].rows, 500,
        "what is committed, and only that"
    );
    writer.execute_batch("COMMIT").unwrap();
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

#[test]
fn what_is_no_config_is_named_and_left_as_it_is_and_the_backup_is_whole() {
    let gateway = Gateway::new();
    let dir = &gateway.profile.gateway.configs_dir;
    std::os::unix::fs::symlink("/etc/host name", dir.join("link.conf")).unwrap();
    std::fs::create_dir(dir.join("folder.conf")).unwrap();
    nix::unistd::mkfifo(&dir.join("fifo.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::net::UnixListener::bind(dir.join("socket.conf")).unwrap();
    let old = std::time::UNIX_EPOCH - Duration::from_secs(400_000_000);
    gateway.write("instance/configs", "ancient_1", &config(8));
    let ancient = File::options().write(true).open(dir.join("ancient_1.conf"));
    ancient.unwrap().set_modified(old).unwrap();
    half_is_old();
    let made = gateway.make().unwrap();
    let said = made
        .warnings
        .join("\n")
        .replace(dir.to_str().unwrap(), "CONFIGS");
    insta::assert_snapshot!(said, @r"
    CONFIGS/fifo.conf is not saved: it is not a regular file; a restore leaves it as it is
    CONFIGS/folder.conf is not saved: it is a folder; a restore leaves it as it is
    CONFIGS/link.conf is a link to /etc/host%20name: neither is saved, and a restore leaves both as they are
    CONFIGS/socket.conf is not saved: it is not a regular file; a restore leaves it as it is
    ");
    assert_eq!(made.lacks, []);
    let manifest = manifest_of(&made.path);
    let link = dir.join("link.conf").display().to_string();
    let links = BTreeMap::from([(link, "/etc/host%20name".to_owned())]);
    assert_eq!(manifest.links, links);
    let left: Vec<&str> = manifest.left_out.iter().map(String::as_str).collect();
    assert_eq!(
        left,
        ["fifo.conf", "folder.conf", "link.conf", "socket.conf"]
    );
    assert!(
        entries(&made.path).contains(&"configs/ancient_1.conf".to_owned()),
        "a time before 1980 is no obstacle"
    );
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
fn every_config_is_saved_as_it_is_whoever_could_read_it() {
    let gateway = Gateway::new();
    let there = unusual(&gateway);
    let made = gateway.make().unwrap();
    assert_eq!(made.lacks, []);
    let manifest = manifest_of(&made.path);
    for (entry, bytes) in there {
        assert_eq!(bytes_of(&made.path, entry), bytes, "{entry}");
        let owner = manifest.owner_of_entry(entry).unwrap();
        assert_eq!(manifest.owners[owner].mode & 0o600, 0o600);
    }
    assert_eq!(manifest.format, 2);
    assert!(!manifest.wireguard.contains_key("a_00000001.conf"));
    assert!(manifest.wireguard.contains_key("b_00000002.conf"));
}

#[test]
fn names_that_differ_only_in_case_are_two_files() {
    let gateway = Gateway::new();
    for (name, port) in [("Site_1", 7), ("site_1", 8), ("SITE_1", 9)] {
        gateway.write("instance/configs", name, &config(port));
        gateway.write("wireguard", name, &config(port + 100));
    }
    half_is_old();
    let made = gateway.make().unwrap();
    assert_eq!(made.warnings, Vec::<String>::new());
    for (name, port) in [("Site_1", 7), ("site_1", 8), ("SITE_1", 9)] {
        let of = |folder: &str| bytes_of(&made.path, &format!("{folder}/{name}.conf"));
        assert_eq!(of("configs"), config(port).into_bytes());
        assert_eq!(of("wireguard"), config(port + 100).into_bytes());
    }
}

#[test]
fn the_files_that_keep_rules_over_a_reboot_are_saved_as_they_are_or_said_not_to_be_there() {
    let gateway = Gateway::new();
    let [v4, v6] = gateway.profile.gateway.firewall.kept.as_slice() else {
        panic!()
    };
    std::fs::create_dir_all(v4.parent().unwrap()).unwrap();
    let bytes = b"# kept by hand \xfc\n*filter\nCOMMIT\n";
    std::fs::write(v4, bytes).unwrap();
    let made = gateway.make().unwrap();
    assert_eq!(bytes_of(&made.path, "holdfast/kept/rules.v4"), bytes);
    let parts = manifest_of(&made.path).parts;
    assert_eq!(parts[&Part::Kept(Family::V4)], PartFate::Saved);
    assert_eq!(parts[&Part::Kept(Family::V6)], PartFate::NotThere);
    // A link may lead to anything: it is named, and what it leads to is not saved.
    let elsewhere = v4.with_file_name("elsewhere");
    std::fs::write(&elsewhere, bytes).unwrap();
    std::fs::set_permissions(&elsewhere, PermissionsExt::from_mode(0o666)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, v6).unwrap();
    let made = gateway.make().unwrap();
    assert_eq!(made.lacks, []);
    let manifest = manifest_of(&made.path);
    assert!(!manifest.entries.contains_key("holdfast/kept/rules.v6"));
    assert_eq!(manifest.links.len(), 1);
    assert!(made.warnings.iter().any(|w| w.contains("is a link to")));
    // What is not in it is neither called saved, nor something that a restore takes away.
    assert!(!manifest.parts.contains_key(&Part::Kept(Family::V6)));
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // What could not be looked at is not left alone in silence.
    std::fs::remove_file(v6).unwrap();
    std::os::unix::fs::symlink("x".repeat(300), v6).unwrap();
    let made = gateway.make().unwrap();
    let lacks: Vec<&Part> = made.lacks.iter().map(|l| &l.part).collect();
    assert_eq!(lacks, [&Part::Kept(Family::V6)]);
}

#[test]
fn a_folder_of_configs_that_is_a_link_makes_the_backup_incomplete() {
    let gateway = Gateway::new();
    let dir = &gateway.profile.gateway.wireguard_dir;
    let moved = gateway.dir.path().join("moved");
    std::fs::rename(dir, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, dir).unwrap();
    let made = gateway.make().unwrap();
    let [lack] = made.lacks.as_slice() else {
        panic!("{:?}", made.lacks)
    };
    assert_eq!(lack.part, Part::Configs);
    assert!(lack.why.contains(dir.to_str().unwrap()), "{lack}");
    assert!(entries(&made.path).contains(&"configs/a_00000001.conf".to_owned()));
}

#[test]
fn the_bytes_of_a_database_that_sqlite_cannot_read_are_saved_with_its_side_files() {
    let gateway = Gateway::new();
    let path = |side: &str| {
        gateway
            .dir
            .path()
            .join(format!("instance/configs.db{side}"))
    };
    let files: [(&str, &[u8]); 3] = [
        ("", b"not a database, and longer than a header would be"),
        ("-wal", b"\xff log"),
        ("-journal", b""),
    ];
    for (side, bytes) in files {
        std::fs::write(path(side), bytes).unwrap();
    }
    let made = gateway.make().unwrap();
    assert_eq!(made.lacks, [], "it can be put back as it is");
    for (side, bytes) in files {
        let entry = format!("holdfast/raw/databases/configs.db{side}");
        assert_eq!(bytes_of(&made.path, &entry), bytes);
    }
    let manifest = manifest_of(&made.path);
    let fate = &manifest.parts[&Part::Database("configs.db".into())];
    assert!(matches!(fate, PartFate::SavedRaw { .. }), "{fate:?}");
    assert!(!entries(&made.path).contains(&"configs.db".to_owned()));
    gateway_reads(&made.path).unwrap();
}

#[test]
fn a_folder_of_configs_that_is_gone_makes_the_backup_incomplete() {
    let gateway = Gateway::new();
    for dir in [
        &gateway.profile.gateway.configs_dir,
        &gateway.profile.gateway.wireguard_dir,
    ] {
        let aside = dir.with_extension("aside");
        std::fs::rename(dir, &aside).unwrap();
        let made = gateway.make().unwrap();
        assert_eq!(made.lacks[0].part, Part::Configs);
        assert!(made.lacks[0].why.contains(dir.to_str().unwrap()));
        std::fs::rename(&aside, dir).unwrap();
    }
}

#[test]
fn a_database_that_is_gone_is_no_database_that_never_was() {
    let gateway = Gateway::new();
    let at = |name: &str| gateway.dir.path().join("instance").join(name);
    let lacks = || -> Vec<String> {
        let made = gateway.make().unwrap();
        made.lacks.iter().map(|l| l.part.to_string()).collect()
    };
    // The users' databases that a gateway of this kind has none of.
    assert_eq!(lacks(), Vec::<String>::new());
    // Only its log is left of it.
    std::fs::write(at("app.db-wal"), b"a log").unwrap();
    assert_eq!(lacks(), ["app.db"]);
    std::fs::remove_file(at("app.db-wal")).unwrap();
    // A link to a disk that is not mounted.
    std::os::unix::fs::symlink("/nowhere/app.db", at("app.db")).unwrap();
    assert_eq!(lacks(), ["app.db"]);
    std::fs::remove_file(at("app.db")).unwrap();
    // Clients have configs, and no rows.
    std::fs::remove_file(at("configs.db")).unwrap();
    assert_eq!(lacks(), ["configs.db"]);
}

#[test]
fn a_database_that_stays_locked_makes_the_backup_incomplete_and_one_that_is_freed_does_not() {
    let mut gateway = Gateway::new();
    gateway.profile.gateway.busy_seconds = 1;
    let holder = gateway.open("configs.db");
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let made = gateway.make().unwrap();
    let [lack] = made.lacks.as_slice() else {
        panic!("{:?}", made.lacks)
    };
    assert_eq!(lack.part, Part::Database("configs.db".into()));
    assert!(lack.why.contains("locked"), "{lack}");
    assert!(!entries(&made.path).contains(&"configs.db".to_owned()));
    gateway.profile.gateway.busy_seconds = 30;
    let freed = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        holder.execute_batch("COMMIT").unwrap();
    });
    let made = gateway.make().unwrap();
    freed.join().unwrap();
    assert_eq!(made.lacks, []);
    assert!(entries(&made.path).contains(&"configs.db".to_owned()));
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
    let made = make(&gateway.profile, &known, &gateway.backups(), &mut |_| ());
    assert!(matches!(made, Err(Fault::Failed(_))), "{made:?}");
    gateway.assert_clean();
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
fn a_reader_of_the_gateways_format_reads_it_whatever_else_is_in_it() {
    let gateway = Gateway::new();
    unusual(&gateway);
    let kept = &gateway.profile.gateway.firewall.kept[0];
    std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
    std::fs::write(kept, b"\xff").unwrap();
    gateway.write("wireguard", "b_00000002", &config(9));
    let made = gateway.make().unwrap();
    gateway_reads(&made.path).unwrap();
}

#[test]
fn rules_that_are_none_are_saved_as_none_and_rules_that_could_not_be_read_are_not_saved() {
    let mut gateway = Gateway::new();
    gateway.facts.rules_v4 = Some(String::new());
    gateway.facts.rules_v6 = None;
    let rules_v6 = Part::Rules(Family::V6);
    gateway.facts.unread = BTreeMap::from([(rules_v6, "of no shape".to_owned())]);
    let made = gateway.make().unwrap();
    let [lack] = &made.lacks[..] else {
        panic!("{:?}", made.lacks);
    };
    assert_eq!(lack.part, Part::Rules(Family::V6));
    assert_eq!(lack.why, "of no shape");
    let checked = verify::archive(
        &gateway.profile,
        &shapes(&gateway.profile),
        File::open(&made.path).unwrap(),
        "b.zip",
    )
    .unwrap();
    assert_eq!(checked.rules.v4.as_deref(), Some(""));
    assert_eq!(checked.rules.v6, None);
}

#[test]
fn where_the_kernel_has_no_ipv6_there_is_nothing_of_it_to_save_and_the_backup_is_whole() {
    let mut gateway = Gateway::new();
    gateway.facts.rules_v6 = None;
    let made = gateway.make().unwrap();
    assert_eq!(made.lacks, []);
}

#[test]
fn peers_that_only_the_kernel_has_are_in_the_backup_and_those_of_the_config_are_not_there_twice() {
    let mut gateway = Gateway::new();
    let checked = |gateway: &Gateway| {
        let made = gateway.make().unwrap();
        verify::archive(
            &gateway.profile,
            &shapes(&gateway.profile),
            File::open(&made.path).unwrap(),
            "b.zip",
        )
        .unwrap()
    };
    assert_eq!(checked(&gateway).peers, BTreeMap::new());
    for otherwise in [peers(&["10.2.0.0/24", "10.9.0.0/16"]), BTreeMap::new()] {
        gateway.facts.peers = otherwise.clone();
        let then = checked(&gateway).peers;
        let had = otherwise.get("a_00000001").cloned().unwrap_or_default();
        assert_eq!(then, BTreeMap::from([("a_00000001".to_owned(), had)]));
    }
    // What was not read is not taken to be none.
    gateway.facts.unread = BTreeMap::from([(Part::Peers, "no wg".to_owned())]);
    assert_eq!(checked(&gateway).peers, BTreeMap::new());
}

#[test]
fn however_many_peers_only_the_kernel_has_the_backup_of_this_box_is_taken_back_with_them() {
    let mut gateway = Gateway::new();
    let peers = |count: u32| -> BTreeMap<String, Peers> {
        let line = |n: u32| {
            let [_, a, b, c] = n.to_be_bytes();
            let key = format!("{n:042x}0=");
            format!(
                "a_00000001\t{key}\t{key}\t198.51.100.7:51820\t10.{a}.{b}.{c}/32\t0\t0\t0\t25\n"
            )
        };
        let dump: String = (0..count).map(line).collect();
        peers::in_dump(&dump, &["a_00000001".to_owned()])
    };
    gateway.facts.peers = peers(30_000);
    let made = gateway.make().unwrap();
    let metadata = bytes_of(&made.path, crate::archive::manifest::ENTRY).len();
    assert!(metadata > 5 << 20, "{metadata}");
    let open = || File::open(&made.path).unwrap();
    let checked =
        verify::archive(&gateway.profile, &shapes(&gateway.profile), open(), "b.zip").unwrap();
    assert_eq!(checked.peers["a_00000001"].len(), 30_000);
    assert!(checked.lost.is_empty(), "{:?}", checked.lost);
    // A restore opens it once more, to unpack it.
    let databases = ["configs.db", "wireguard.db"];
    let limits = Limits::default();
    Archive::open_again(open(), "b.zip", &limits, &databases).unwrap();
    // From elsewhere there are bounds, and they are named.
    gateway.facts.peers = peers(4_001);
    let made = gateway.make().unwrap();
    gateway.profile.state_dir = gateway.dir.path().join("other");
    let file = File::open(&made.path).unwrap();
    let checked =
        verify::archive(&gateway.profile, &shapes(&gateway.profile), file, "b.zip").unwrap();
    assert!(checked.peers.is_empty());
    let named = |l: &crate::archive::lost::Lost| l.said.contains("they are 4001, and of");
    assert!(checked.lost.iter().any(named), "{:?}", checked.lost);
}

/// Adds and removes clients as the gateway's application does, row first, until it is dropped.
fn uploads(
    gateway: &Gateway,
    pause: Duration,
) -> (Arc<AtomicBool>, std::thread::JoinHandle<usize>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let connection = gateway.open("configs.db");
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    let folders = [
        gateway.profile.gateway.configs_dir.clone(),
        gateway.profile.gateway.wireguard_dir.clone(),
    ];
    let prefix = format!("up{}", pause.as_millis());
    let work = move || {
        let mut n = 0;
        while !stopped.load(Ordering::Relaxed) {
            n += 1;
            let name = format!("{prefix}_{n:08x}");
            let row = "INSERT INTO clients (id, name, config_path, subnet, public_key) VALUES (?1, ?1, 'p', 's', ?1)";
            connection.execute(row, [&name]).unwrap();
            for folder in &folders {
                std::thread::sleep(Duration::from_millis(2));
                std::fs::write(folder.join(format!("{name}.conf")), config(2000)).unwrap();
            }
            if n > 3 && n % 3 == 0 {
                let gone = format!("{prefix}_{:08x}", n - 3);
                connection
                    .execute("DELETE FROM clients WHERE name = ?1", [&gone])
                    .unwrap();
                for folder in &folders {
                    std::fs::remove_file(folder.join(format!("{gone}.conf"))).unwrap();
                }
            }
            std::thread::sleep(pause);
        }
        n
    };
    (stop, std::thread::spawn(work))
}

#[test]
fn rows_and_files_of_a_gateway_that_is_written_to_are_of_one_moment_or_named() {
    let gateway = Gateway::new();
    for pause in [3, 300] {
        let (stop, thread) = uploads(&gateway, Duration::from_millis(pause));
        let mut named = 0;
        for _ in 0..5 {
            let made = gateway.make().unwrap();
            let unpaired = manifest_of(&made.path).unpaired;
            named += usize::from(!unpaired.is_empty());
            let file = File::open(&made.path).unwrap();
            let checked =
                verify::archive(&gateway.profile, &shapes(&gateway.profile), file, "b.zip")
                    .unwrap();
            let clients = checked.clients.unwrap();
            let rows: BTreeSet<String> = clients.into_iter().map(|c| c.name).collect();
            let whole = |c: &verify::CheckedConfig| c.first.is_some() && c.second.is_some();
            let files = checked.configs.iter().filter(|(_, c)| whole(c));
            let files = files.map(|(name, _)| name.strip_suffix(".conf").unwrap().to_owned());
            let files: BTreeSet<String> = files.collect();
            let differ = rows.symmetric_difference(&files);
            let silent: Vec<&String> = differ.filter(|n| !unpaired.contains(*n)).collect();
            assert_eq!(silent, Vec::<&String>::new(), "{unpaired:?}");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(thread.join().unwrap() > 3);
        // At three a second some one is caught now and then; at a hundred all of the time.
        assert!(pause < 100 || named <= 3, "{named}");
    }
}

#[test]
fn what_the_gateway_writes_all_the_time_pairs_as_it_is() {
    let gateway = Gateway::new();
    let connection = gateway.open("configs.db");
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            let writes = "UPDATE clients SET status = 'inactive', updated_at = CURRENT_TIMESTAMP;
                INSERT INTO monitoring_logs (event_type, message) VALUES ('x', 'y');";
            connection.execute_batch(writes).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    for _ in 0..3 {
        let made = gateway.make().unwrap();
        assert_eq!(manifest_of(&made.path).unpaired, BTreeSet::new());
        assert_eq!(made.warnings, Vec::<String>::new());
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}

#[test]
fn configs_that_may_be_of_clients_are_named_where_nobody_can_tell_which_clients_there_are() {
    let gateway = Gateway::new();
    gateway.write("wireguard", "c_00000003", &config(11));
    gateway
        .open("configs.db")
        .execute_batch("DROP TABLE clients")
        .unwrap();
    let made = gateway.make().unwrap();
    let [lack] = made.lacks.as_slice() else {
        panic!("{:?}", made.lacks)
    };
    assert_eq!(lack.part, Part::Configs);
    assert!(lack.why.contains("c_00000003.conf"), "{}", lack.why);
    assert_eq!(made.unread, BTreeSet::from(["c_00000003.conf".into()]));
    let manifest = manifest_of(&made.path);
    assert!(manifest.left_out.contains("c_00000003.conf"));
}

#[test]
fn where_the_clients_cannot_be_read_what_changes_meanwhile_is_named() {
    let gateway = Gateway::new();
    gateway
        .open("configs.db")
        .execute_batch("DROP TABLE clients")
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let file = gateway.profile.gateway.configs_dir.join("a_00000001.conf");
    let thread = std::thread::spawn(move || {
        let mut port = 1;
        while !stopped.load(Ordering::Relaxed) {
            port += 1;
            std::fs::write(&file, config(port % 1000)).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let made = gateway.make().unwrap();
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    let unpaired = manifest_of(&made.path).unpaired;
    assert!(unpaired.contains("a_00000001"), "{unpaired:?}");
    let says = |text: &str| made.warnings.iter().any(|w| w.contains(text));
    assert!(says("of one moment is not known"), "{:?}", made.warnings);
    assert!(says("its clients cannot be read"), "{:?}", made.warnings);
}

#[test]
fn a_row_whose_files_are_still_to_come_is_named() {
    let gateway = Gateway::new();
    let sql = "INSERT INTO clients (id, name, config_path, subnet, public_key, status) VALUES ('z','z_1','p','s','k','active')";
    gateway.open("configs.db").execute_batch(sql).unwrap();
    let made = gateway.make().unwrap();
    let unpaired = manifest_of(&made.path).unpaired;
    assert!(unpaired.contains("z_1"), "{unpaired:?}");
}

#[test]
fn a_row_whose_name_no_file_can_have_leads_to_none_and_stops_nothing() {
    let gateway = Gateway::new();
    let outside = gateway.dir.path().join("outside");
    std::fs::write(outside.with_extension("conf"), config(12)).unwrap();
    let database = gateway.open("configs.db");
    let long = "e".repeat(300);
    for name in [
        outside.to_str().unwrap(),
        "../outside",
        &long,
        "a\0b",
        "a_00000001.conf/x",
    ] {
        let sql = "INSERT INTO clients (id, name, config_path, subnet, public_key) VALUES (?1, ?1, 'p', 's', 'k')";
        database.execute(sql, [name]).unwrap();
    }
    let made = gateway.make().unwrap();
    assert_eq!(made.lacks, []);
    let manifest = manifest_of(&made.path);
    let strange = |entry: &&String| entry.contains("outside") || entry.starts_with("holdfast/raw/");
    assert_eq!(manifest.entries.keys().find(strange), None);
    let told = made
        .warnings
        .iter()
        .find(|w| w.contains("that no file can have"));
    assert!(told.unwrap().starts_with("5 clients"), "{told:?}");
}

#[test]
fn what_is_only_said_is_shortened_and_one_database_that_has_no_room_keeps_nothing_else_back() {
    let gateway = Gateway::new();
    let target = OsStr::from_bytes(&[0xff; 1400]);
    let link = gateway.profile.gateway.configs_dir.join("l.conf");
    std::os::unix::fs::symlink(target, link).unwrap();
    let wal = &database::side_files(&gateway.profile.gateway.database[1].path)[0];
    File::create(wal).unwrap().set_len(1 << 43).unwrap();
    let made = gateway.make().unwrap();
    let [lack] = made.lacks.as_slice() else {
        panic!("{:?}", made.lacks)
    };
    assert!(lack.why.contains("MiB are needed"), "{}", lack.why);
    let manifest = manifest_of(&made.path);
    assert!(manifest.entries.contains_key("configs/a_00000001.conf"));
    assert!(manifest.warnings.iter().any(|w| w.ends_with("...")));
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
