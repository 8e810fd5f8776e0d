#![allow(clippy::unwrap_used, clippy::expect_used)]
use sha2::Digest as _;

use super::*;
use crate::host::live_database::shapes;

fn profile(dir: &Path) -> Profile {
    let mut profile = Profile {
        state_dir: dir.join("state"),
        ..Profile::default()
    };
    profile.gateway.configs_dir = dir.join("configs");
    profile.gateway.wireguard_dir = dir.join("wireguard");
    for database in &mut profile.gateway.database {
        database.path = dir.join(&database.name);
    }
    profile
}

fn fixture(name: &str) -> File {
    File::open(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fixtures/data")
            .join(name),
    )
    .unwrap()
}

fn left_in_spool(profile: &Profile) -> usize {
    profile.spool_dir().read_dir().unwrap().count()
}

/// What of a backup is said to be lost.
/// What a person reads of these, a line each.
fn lines<'n>(notes: impl Iterator<Item = &'n Note>) -> String {
    let lines: Vec<&str> = notes.map(|note| &*note.text).collect();
    lines.join("\n")
}

fn said_of(checked: &Checked) -> Vec<String> {
    checked.lost.iter().map(|l| l.note.text.clone()).collect()
}

#[test]
fn a_backup_that_the_gateway_made_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let profile = profile(dir.path());
    let (checked, opened) = archive(
        &profile,
        &shapes(&profile),
        fixture("gateway-5-own-backup.zip"),
        "b.zip",
    )
    .unwrap();
    let names: Vec<_> = checked.databases.keys().collect();
    assert_eq!(names, ["app.db", "configs.db", "wireguard.db"]);
    assert_eq!(checked.clients.as_ref().unwrap().len(), 5);
    assert_eq!(checked.configs.len(), 5);
    assert!(
        checked.configs.values().all(|c| c.first == c.second),
        "one copy serves both places"
    );
    assert_eq!(checked.tunnels_up, ["c00000_30058fa2"]);
    assert!(checked.rules.v4.as_ref().unwrap().contains("*nat"));
    assert_eq!(checked.rules.v6, None);
    assert_eq!(checked.forwards(Family::V4), None);
    assert_eq!(checked.databases["wireguard.db"].users[0].username, "admin");
    let [no_ipv6] = checked.missing.as_slice() else {
        panic!("{:?}", checked.missing)
    };
    assert!(no_ipv6.is(&Code::NOT_IN_BACKUP), "{no_ipv6:?}");
    assert_eq!(no_ipv6.name, Some(Part::Rules(Family::V6).to_string()));
    drop(opened);
    assert_eq!(left_in_spool(&profile), 0);
}

/// A backup like the gateway's own, of these active clients with these configs.
fn of_configs(dir: &Path, configs: &[(&str, String)]) -> Result<(Checked, Opened), Fault> {
    let profile = profile(dir);
    let database = dir.join("clients.db");
    let conn = rusqlite::Connection::open(&database).unwrap();
    conn.execute_batch("CREATE TABLE clients (id TEXT, name TEXT, config_path TEXT, subnet TEXT, public_key TEXT, status TEXT)")
        .unwrap();
    for (client, _) in configs {
        let row = "INSERT INTO clients VALUES (?1, ?1, '/etc/wireguard/' || ?1 || '.conf', '10.9.0.0/24', 'k', 'active')";
        conn.execute(row, [client]).unwrap();
    }
    conn.close().unwrap();
    let names: Vec<String> = configs.iter().map(|(c, _)| format!("{c}.conf")).collect();
    let metadata = serde_json::json!({
        "backup_version": "1.0",
        "created_at": "2026-11-22T18:52:20.618214+00:00",
        "contents": {"databases": ["configs.db"], "configs": names, "iptables_rules": []},
    });
    let path = dir.join("b.zip");
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    let mut put = |name: &str, bytes: &[u8]| {
        use std::io::Write;
        zip.start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(bytes).unwrap();
    };
    put("configs.db", &std::fs::read(&database).unwrap());
    for (name, (_, text)) in names.iter().zip(configs) {
        put(&format!("configs/{name}"), text.as_bytes());
    }
    put("backup_metadata.json", metadata.to_string().as_bytes());
    zip.finish().unwrap();
    archive(
        &profile,
        &shapes(&profile),
        File::open(&path).unwrap(),
        "b.zip",
    )
}

fn config(key: char, interface: &str, allowed: &str) -> String {
    let key = format!("{}A=", key.to_string().repeat(42));
    format!(
        "[Interface]\nPrivateKey = {key}\n{interface}\n[Peer]\nPublicKey = {key}\nAllowedIPs = {allowed}\n"
    )
}

#[test]
fn tunnels_that_could_not_come_up_beside_each_other_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let beside = |a: String, b: String| {
        let made = dir.path().join("made");
        if made.exists() {
            std::fs::remove_dir_all(&made).unwrap();
        }
        std::fs::create_dir(&made).unwrap();
        match of_configs(&made, &[("a", a), ("b", b)]) {
            Ok(_) => String::new(),
            Err(Fault::Refused(problems)) => {
                problems.iter().map(|p| format!("{}\n", p.what)).collect()
            }
            Err(other) => panic!("{other:?}"),
        }
    };
    let a = || config('x', "ListenPort = 5000", "10.9.0.0/24");
    assert_eq!(
        beside(a(), config('y', "ListenPort = 5001", "10.9.1.0/24")),
        ""
    );
    assert_eq!(
        beside(a(), config('x', "", "10.9.1.0/24")),
        "bring b of the backup up: it has the private key of a\n"
    );
    assert_eq!(
        beside(a(), config('y', "ListenPort = 5000", "10.9.1.0/24")),
        "bring b of the backup up: a listens on the same port, 5000\n"
    );
    assert_eq!(
        beside(a(), config('y', "", "10.9.1.0/24, 10.9.0.7/24")),
        "bring b of the backup up: a has the network 10.9.0.0/24 in its AllowedIPs as well\n"
    );
    assert_eq!(beside(a(), config('y', "Table = off", "10.9.0.0/24")), "");
    assert_eq!(
        beside(a(), config('y', "ListenPort = 0", "10.9.0.0/16")),
        ""
    );
}

#[test]
fn a_tunnel_whose_own_config_is_the_reason_stays_down_by_name_and_its_client_is_inactive() {
    let dir = tempfile::tempdir().unwrap();
    let bad = config('y', "Address = $(id)\nFoo = 1", "10.9.1.0/24");
    let nul = config('z', "PostUp = a\0b", "10.9.2.0/24");
    let good = config('x', "ListenPort = 5000", "10.9.0.0/24");
    let configs = [("a", good), ("b", bad), ("c", nul)];
    let (checked, opened) = of_configs(dir.path(), &configs).unwrap();
    assert_eq!(checked.tunnels_up, ["a"]);
    insta::assert_snapshot!(said_of(&checked).join("\n"), @r"
    the tunnel b was up and stays down: line 3: Address $(id) is not an address, and 1 more reason; its config is put in place and its client is called inactive
    the tunnel c was up and stays down: line 3 holds a NUL byte; its config is put in place and its client is called inactive
    ");
    assert_eq!(checked.configs.len(), 3);
    let made = opened.rebuilt.file("configs.db").unwrap();
    let clients = database::clients_of_copy(&made).unwrap();
    let status = |c: &database::Client| (c.name.clone(), c.status.clone().into_owned());
    let status: BTreeMap<String, String> = clients.iter().map(status).collect();
    assert_eq!(
        (status["a"].as_str(), status["b"].as_str()),
        ("active", "inactive")
    );
    let database = &checked.databases["configs.db"];
    assert_eq!(digest(&made, None).unwrap(), database.file.facts);
    let shown = checked.consent(|_| Vec::new()).lines();
    assert!(
        shown[0]
            .0
            .starts_with("anything = cannot be vetted: line 3 holds a NUL byte (configs/c.conf, "),
        "{shown:?}"
    );
}

#[test]
fn a_tunnel_that_takes_all_traffic_is_named_also_in_halves() {
    let dir = tempfile::tempdir().unwrap();
    let configs = [
        ("a", config('x', "", "0.0.0.0/1, 128.0.0.0/1")),
        ("b", config('y', "", "127.0.0.0/8")),
        ("c", config('z', "", "10.9.0.0/24, ::/0")),
    ];
    let (checked, _) = of_configs(dir.path(), &configs).unwrap();
    let taken = checked.warnings.iter();
    let taken = taken.filter(|note| note.is(&Code::TRAFFIC_TAKEN));
    insta::assert_snapshot!(lines(taken), @r"
    2 configs send all traffic into their tunnels (AllowedIPs): a.conf, c.conf
    b.conf sends the box's traffic with itself (127.0.0.0/8 or ::1) into its tunnel (AllowedIPs)
    ");
}

#[test]
fn a_backup_without_rules_is_accepted_with_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let profile = profile(dir.path());
    let (checked, _) = archive(
        &profile,
        &shapes(&profile),
        fixture("backup_without_iptables.zip"),
        "b.zip",
    )
    .unwrap();
    assert_eq!(checked.rules.v4, None);
    insta::assert_snapshot!(lines(checked.warnings.iter().chain(&checked.missing)), @r"
    the backup has no manifest of Holdfast's (the gateway's own backups have none): nothing vouches for what is in it, and nobody can tell whether it was changed since it was made
    the config Zweigstelle Köln_e16e2613.conf can never come up: Zweigstelle Köln_e16e2613 cannot be the name of an interface: it has 26 bytes, 1 to 15 are allowed
    the config branch-office-3_2308c6cb.conf can never come up: branch-office-3_2308c6cb cannot be the name of an interface: it has 24 bytes, 1 to 15 are allowed
    the backup has no rules for IPv4: they stay as they are
    the backup has no rules for IPv6: they stay as they are
    ");
}

/// A backup with this client database, and no manifest, as a file.
fn packed(dir: &Path, sql: &str) -> PathBuf {
    let bytes = database(dir, sql);
    zipped(dir, &bytes, &[])
}

fn database(dir: &Path, sql: &str) -> Vec<u8> {
    let database = dir.join("packed.db");
    let _ = std::fs::remove_file(&database);
    let conn = rusqlite::Connection::open(&database).unwrap();
    conn.execute_batch(include_str!("../../../../fixtures/data/clients.sql"))
        .unwrap();
    conn.execute_batch(sql).unwrap();
    conn.close().unwrap();
    std::fs::read(&database).unwrap()
}

fn zipped(dir: &Path, database: &[u8], configs: &[(&str, &str)]) -> PathBuf {
    let path = dir.join("packed.zip");
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    let names: Vec<&str> = configs.iter().map(|(name, _)| *name).collect();
    let metadata = serde_json::json!({
        "backup_version": "1.0", "created_at": "2026-11-22T18:52:20+00:00",
        "contents": { "databases": ["configs.db"], "configs": names, "iptables_rules": [] },
    });
    let mut entries = vec![
        ("configs.db".to_owned(), database.to_vec()),
        (
            "backup_metadata.json".to_owned(),
            metadata.to_string().into(),
        ),
    ];
    entries.extend(
        configs
            .iter()
            .map(|(name, text)| (format!("configs/{name}"), text.as_bytes().to_vec())),
    );
    for (name, bytes) in entries {
        zip.start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        io::Write::write_all(&mut zip, &bytes).unwrap();
    }
    zip.finish().unwrap();
    path
}

const ROWS: &str = "INSERT INTO clients (id, name, config_path, subnet, public_key) VALUES
      ('1', 'beta', '/tmp/evil.conf', '10.2.0.0/24', 'k');
    CREATE TABLE own (a CHECK (a > 0)); INSERT INTO own VALUES (1);
    CREATE TRIGGER t AFTER INSERT ON own BEGIN SELECT 1; END;";

#[test]
fn a_backup_of_this_box_goes_back_as_it_is_and_the_same_one_from_elsewhere_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let profile = profile(dir.path());
    let path = packed(dir.path(), ROWS);
    let (foreign, opened) = archive(
        &profile,
        &shapes(&profile),
        File::open(&path).unwrap(),
        "b.zip",
    )
    .unwrap();
    assert!(opened.rebuilt.file("configs.db").is_some());
    let lost = "configs.db: it has a trigger, t, which does not come back";
    assert!(
        foreign.lost.iter().any(|l| l.note.text == lost),
        "{:?}",
        foreign.lost
    );
    drop(opened);
    let sha256 = digest(&path, None).unwrap().sha256;
    std::fs::create_dir_all(&profile.state_dir).unwrap();
    made::remember(&profile, &sha256, None).unwrap();
    let (checked, opened) = archive(
        &profile,
        &shapes(&profile),
        File::open(&path).unwrap(),
        "b.zip",
    )
    .unwrap();
    assert_eq!(opened.rebuilt.file("configs.db"), None);
    let packed = digest(&dir.path().join("packed.db"), None).unwrap();
    assert_eq!(checked.databases["configs.db"].file.facts, packed);
    assert!(
        checked
            .warnings
            .iter()
            .any(|note| note.is(&Code::CLIENT_ODD) && note.name.as_deref() == Some("beta")),
        "{:?}",
        checked.warnings
    );
}

#[test]
fn of_a_backup_from_elsewhere_the_plan_gets_the_fresh_file_twice_the_same_and_none_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let profile = profile(dir.path());
    let rows = ROWS.split("CREATE TRIGGER").next().unwrap();
    let path = packed(dir.path(), rows);
    let checked = || {
        archive(
            &profile,
            &shapes(&profile),
            File::open(&path).unwrap(),
            "b.zip",
        )
        .unwrap()
    };
    let ((one, opened), (two, other)) = (checked(), checked());
    let planned = &one.databases["configs.db"].file;
    assert_eq!(*planned, two.databases["configs.db"].file);
    assert_eq!(one.warnings, two.warnings);
    let fresh = opened.rebuilt.file("configs.db").unwrap();
    assert_eq!(digest(&fresh, None).unwrap(), planned.facts);
    let own = profile.gateway.wireguard_dir.join("beta.conf");
    let clients = database::clients_of_copy(&fresh).unwrap();
    assert_eq!(Path::new(&clients[0].config_path), own);
    let odd = |note: &&Note| note.is(&Code::DATABASE_ODD);
    let folder = profile.gateway.wireguard_dir.display().to_string();
    let said = lines(one.warnings.iter().filter(odd)).replace(&folder, "WIREGUARD");
    insta::assert_snapshot!(said, @"configs.db: the backup names a place for the config of 1 client where none lies; the database will name WIREGUARD instead: beta");
    insta::assert_snapshot!(said_of(&one).join("\n"), @"configs.db: the gateway has no table own: its 1 row will not come back");
    drop((opened, other));
    assert_eq!(left_in_spool(&profile), 0);
}

#[test]
fn a_database_that_cannot_be_restored_counts_as_absent_and_keeps_nothing_else_back() {
    const CONFIG: &str = "[Interface]\nPrivateKey = x\n\n[Peer]\nPublicKey = y\n";
    let dir = tempfile::tempdir().unwrap();
    let profile = profile(dir.path());
    let sound = database(dir.path(), ROWS);
    let virtual_table = database(dir.path(), "CREATE VIRTUAL TABLE f USING fts5(x)");
    let mut damaged = sound.clone();
    let end = damaged.len();
    damaged[end - 4096..].fill(0xAB);
    std::fs::create_dir_all(&profile.state_dir).unwrap();
    for (bytes, why) in [
        (
            &b"no database at all"[..],
            "too short for a SQLite database",
        ),
        (b"", "too short for a SQLite database"),
        (&damaged, "it is damaged"),
        (&virtual_table, "it has a virtual table, f"),
    ] {
        let alone = zipped(dir.path(), bytes, &[]);
        let refused = archive(
            &profile,
            &shapes(&profile),
            File::open(&alone).unwrap(),
            "b.zip",
        )
        .unwrap_err();
        assert!(
            matches!(refused, Fault::Refused(_)) && refused.to_string().contains(why),
            "{refused}"
        );

        let path = zipped(dir.path(), bytes, &[("a.conf", CONFIG)]);
        let (checked, opened) = archive(
            &profile,
            &shapes(&profile),
            File::open(&path).unwrap(),
            "b.zip",
        )
        .unwrap();
        assert!(checked.databases.is_empty() && checked.clients.is_none());
        assert!(checked.configs.contains_key("a.conf"));
        let first = &checked.lost[0].note.text;
        let what = checked.lost[0].what.as_deref();
        assert_eq!(what, Some("the database configs.db"));
        assert!(
            first.starts_with("the database configs.db of the backup will not be restored"),
            "{first}"
        );
        assert!(first.contains(why), "{first}");
        drop(opened);
        assert_eq!(left_in_spool(&profile), 0);

        // What this box made it takes back, whatever it is.
        made::remember(&profile, &digest(&path, None).unwrap().sha256, None).unwrap();
        let (own, opened) = archive(
            &profile,
            &shapes(&profile),
            File::open(&path).unwrap(),
            "b.zip",
        )
        .unwrap();
        let sha256 = Digest::of_bytes(sha2::Sha256::digest(bytes).into());
        assert_eq!(own.databases["configs.db"].file.facts.sha256, sha256);
        assert!(opened.rebuilt.file("configs.db").is_none());
        assert!(own.lost.is_empty(), "{:?}", own.lost);
    }
}

#[test]
fn a_database_that_the_profile_does_not_name_any_more_is_left_out_by_name_and_keeps_nothing_else_back()
 {
    const CONFIG: &str = "[Interface]\nPrivateKey = x\n\n[Peer]\nPublicKey = y\n";
    let dir = tempfile::tempdir().unwrap();
    let mut profile = profile(dir.path());
    profile.gateway.database.retain(|d| d.name != "configs.db");
    std::fs::create_dir_all(&profile.state_dir).unwrap();
    let sound = database(dir.path(), ROWS);
    let open = |path: &Path| {
        archive(
            &profile,
            &shapes(&profile),
            File::open(path).unwrap(),
            "b.zip",
        )
    };

    let alone = zipped(dir.path(), &sound, &[]);
    let refused = open(&alone).unwrap_err().to_string();
    let why = "the profile has no [[gateway.database]] of that name";
    assert!(refused.contains(why), "{refused}");

    let path = zipped(dir.path(), &sound, &[("a.conf", CONFIG)]);
    let elsewhere = open(&path).unwrap();
    made::remember(&profile, &digest(&path, None).unwrap().sha256, None).unwrap();
    for (checked, _) in [elsewhere, open(&path).unwrap()] {
        assert!(checked.databases.is_empty() && checked.configs.contains_key("a.conf"));
        let [lost] = checked.lost.as_slice() else {
            panic!("{:?}", checked.lost);
        };
        assert_eq!(lost.what.as_deref(), Some("the database configs.db"));
        assert!(lost.note.text.contains(why), "{lost}");
    }
}
