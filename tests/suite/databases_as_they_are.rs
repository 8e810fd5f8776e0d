//! Databases of a real gateway that nobody can read, that somebody holds, with rows that are no text and tables that nobody
//! knows: saved as they are, and back as they were.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod unnamed;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fixtures::{Finished, program};

use crate::on_a_gateway::{Gateway, path, stand_in};

fn database(gateway: &Gateway, name: &str) -> PathBuf {
    let databases = gateway.sample().databases();
    databases.into_iter().find(|d| d.name == name).unwrap().path
}

/// The gateway's service does this.
fn service(gateway: &Gateway, what: &str) {
    let program = program("sample-gateway-service").unwrap();
    gateway.run(&[path(&program), what, path(gateway.sample().root())]);
}

fn sql(database: &Path, sql: &str) {
    let conn = rusqlite::Connection::open(database).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(60))
        .unwrap();
    conn.pragma_update(None, "foreign_keys", false).unwrap();
    conn.execute_batch(sql).unwrap();
}

/// Digest, size, owner, group and mode of a database and of what lies beside it.
fn held(database: &Path) -> Vec<(String, String, u32, u32, u32)> {
    let mut held = Vec::new();
    for side in ["", "-wal", "-shm", "-journal"] {
        let file = PathBuf::from(format!("{}{side}", database.display()));
        if let Ok(meta) = file.symlink_metadata() {
            let bytes = std::fs::read(&file).unwrap();
            let bytes = format!("{} bytes, {}", bytes.len(), blake3::hash(&bytes));
            held.push((
                side.to_owned(),
                bytes,
                meta.uid(),
                meta.gid(),
                meta.mode() & 0o777,
            ));
        }
    }
    held
}

fn restore(gateway: &Gateway, backup: &Path) -> Finished {
    let done = gateway.restore(backup);
    gateway.is_settled();
    done
}

/// The safety backup that was made last.
fn safety_backup(gateway: &Gateway, known: &[PathBuf]) -> PathBuf {
    let mut new = gateway.backups();
    new.retain(|b| !known.contains(b));
    new.pop().expect("no safety backup")
}

#[test]
fn a_gateway_whose_client_database_nobody_can_read_is_restored_and_gets_every_byte_of_it_back() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let good = gateway.backup();
    let clients = database(&gateway, "configs.db");
    let rows = |path: &Path| {
        let conn = rusqlite::Connection::open(path).unwrap();
        conn.query_row("SELECT count(*) FROM clients", [], |r| r.get::<_, i64>(0))
    };
    let count = rows(&clients).unwrap();
    // The service does not run on that.
    service(&gateway, "stop");
    let own = clients.metadata().unwrap();
    let garbage: Vec<u8> = (0..20_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    std::fs::write(&clients, &garbage).unwrap();
    // A restore closes what stands open to all.
    std::fs::set_permissions(&clients, PermissionsExt::from_mode(0o660)).unwrap();
    for (side, bytes) in [
        ("-wal", &b"half a log"[..]),
        ("-journal", b"half a journal"),
    ] {
        let file = PathBuf::from(format!("{}{side}", clients.display()));
        std::fs::write(&file, bytes).unwrap();
        std::os::unix::fs::chown(&file, Some(own.uid()), Some(0)).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    }
    let before = held(&clients);
    assert_eq!(before.len(), 3);

    let known = gateway.backups();
    restore(&gateway, &good);
    assert_eq!(rows(&clients).unwrap(), count);
    assert_eq!(held(&clients).len(), 1);
    let safety = safety_backup(&gateway, &known);

    let done = restore(&gateway, &safety);
    assert_eq!(held(&clients), before, "{done}");
    // All that it lacks is what nobody could tell to be a client's.
    let verified = gateway.holdfast(&["verify", path(&safety)]);
    assert_eq!(verified.code(), 8, "{verified}");
    assert!(
        verified
            .stdout
            .contains("lacks the configs (wg-admin.conf in "),
        "{verified}"
    );

    // Over a database that nobody can read either, and back to one that all can.
    std::fs::write(&clients, b"still garbage, of another kind").unwrap();
    let done = restore(&gateway, &safety);
    assert_eq!(held(&clients), before, "{done}");
    restore(&gateway, &good);
    assert_eq!(rows(&clients).unwrap(), count);
}

#[test]
fn from_elsewhere_a_database_that_is_bytes_alone_counts_as_absent_and_the_others_come() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let app = database(&gateway, "app.db");
    let sound = std::fs::read(&app).unwrap();
    std::fs::write(&app, b"SQLite format 3\0 and then nothing").unwrap();
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 8, "{made}");
    let backup = PathBuf::from(made.stdout.trim());
    std::fs::write(&app, sound).unwrap();
    let clients = database(&gateway, "configs.db");
    sql(&clients, "DELETE FROM clients");
    std::fs::remove_file(gateway.sample().state_dir().join("made")).unwrap();
    let before = held(&app);
    let done = restore(&gateway, &backup);
    let says = "the database app.db of the backup will not be restored";
    assert!(done.stdout.contains(says), "{done}");
    assert_eq!(held(&app)[0].1, before[0].1);
    let conn = rusqlite::Connection::open(&clients).unwrap();
    let rows: i64 = conn
        .query_row("SELECT count(*) FROM clients", [], |r| r.get(0))
        .unwrap();
    assert_eq!(rows, 6);
}

#[test]
fn rows_that_are_no_text_stop_nothing_and_come_back_as_they_were() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let old = gateway.backup();
    let (clients, users) = (
        database(&gateway, "configs.db"),
        database(&gateway, "wireguard.db"),
    );
    let latin = "CAST(x'42fc726f' AS TEXT)";
    sql(
        &clients,
        &format!(
            "UPDATE clients SET name = {latin} WHERE rowid = 3; UPDATE clients SET subnet = x'00ff' WHERE rowid = 4"
        ),
    );
    sql(
        &users,
        &format!(
            "UPDATE user SET username = {latin} WHERE id = (SELECT max(id) FROM user WHERE username <> 'admin'); \
         UPDATE email_settings SET smtp_host = {latin}, smtp_username = x'ff'"
        ),
    );
    let odd = |path: &Path, table: &str, column: &str| -> Vec<String> {
        let conn = rusqlite::Connection::open(path).unwrap();
        let sql =
            format!("SELECT typeof({column}) || ' ' || hex({column}) FROM {table} ORDER BY rowid");
        let mut read = conn.prepare(&sql).unwrap();
        let rows = read.query_map([], |r| r.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let all = || {
        [
            odd(&clients, "clients", "name"),
            odd(&clients, "clients", "subnet"),
            odd(&users, "user", "username"),
            odd(&users, "email_settings", "smtp_host"),
        ]
        .concat()
    };
    let before = all();
    assert!(before.contains(&"text 42FC726F".to_owned()), "{before:?}");
    assert_eq!(gateway.holdfast(&["survey"]).code(), 0);
    let backup = gateway.backup();
    let verified = gateway.holdfast(&["verify", path(&backup)]);
    assert_eq!(verified.code(), 0, "{verified}");
    // A good older one can be restored, and the safety backup brings these back; so does the same backup from elsewhere.
    let known = gateway.backups();
    restore(&gateway, &old);
    assert_ne!(all(), before);
    let safety = safety_backup(&gateway, &known);
    restore(&gateway, &safety);
    assert_eq!(all(), before);
    restore(&gateway, &old);
    std::fs::remove_file(gateway.sample().state_dir().join("made")).unwrap();
    restore(&gateway, &backup);
    assert_eq!(all(), before);
}

#[test]
fn tables_views_and_triggers_that_nobody_knows_come_back_here_and_are_named_elsewhere() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let old = gateway.backup();
    let users = database(&gateway, "wireguard.db");
    sql(
        &users,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL); INSERT INTO alembic_version VALUES ('4b1'); \
         CREATE VIEW admins AS SELECT * FROM user; CREATE TRIGGER t AFTER INSERT ON user BEGIN SELECT 1; END; \
         CREATE INDEX by_lower ON user (lower(username)); UPDATE user SET login_count = 77",
    );
    let schema = || -> Vec<String> {
        let conn = rusqlite::Connection::open(&users).unwrap();
        let mut read = conn
            .prepare("SELECT name FROM sqlite_schema ORDER BY name")
            .unwrap();
        let rows = read.query_map([], |r| r.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let before = schema();
    let known = gateway.backups();
    let backup = restore_and_back(&gateway, &old, &known);
    assert_eq!(schema(), before);

    // The same archive on a gateway that never saw it.
    let Some(other) = Gateway::small() else {
        return;
    };
    let carried = other.beside("carried.zip");
    std::fs::copy(&backup, &carried).unwrap();
    let done = other.holdfast(&["restore", path(&carried), "--yes"]);
    assert_eq!(done.code(), 0, "{done}");
    for named in [
        "it has a view, admins",
        "it has a trigger, t",
        "an index over an expression",
        "no table alembic_version",
    ] {
        assert!(done.stdout.contains(named), "{named}: {done}");
    }
    let conn = rusqlite::Connection::open(database(&other, "wireguard.db")).unwrap();
    let counts = "SELECT count(*), sum(login_count = 77) FROM user";
    let (all, came): (i64, i64) = conn
        .query_row(counts, [], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap();
    assert!(all > 0 && all == came);
}

/// Restores this backup and then the safety backup, which is given.
fn restore_and_back(gateway: &Gateway, old: &Path, known: &[PathBuf]) -> PathBuf {
    restore(gateway, old);
    let safety = safety_backup(gateway, known);
    restore(gateway, &safety);
    safety
}

#[test]
fn a_lock_is_waited_for_and_one_that_stays_is_a_failure_that_names_who_holds_it() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    service(&gateway, "stop");
    let clients = database(&gateway, "configs.db");
    let hold = |seconds: u32| {
        let shell = format!(
            ".shell touch {}/held; sleep {seconds}",
            gateway.sample().root().display()
        );
        let holder = gateway
            .sandbox
            .spawn(&["sqlite3", path(&clients), "BEGIN EXCLUSIVE", &shell])
            .unwrap();
        let held = gateway.sample().root().join("held");
        while !held.exists() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        std::fs::remove_file(held).unwrap();
        holder
    };
    let holder = hold(10);
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 0, "{made}");
    assert!(!made.stderr.contains("configs.db"), "{made}");
    holder.wait().unwrap();

    gateway.is_impatient();
    let mut holder = hold(600);
    let made = gateway.holdfast(&["backup"]);
    let said = format!("{}{}", made.stdout, made.stderr);
    // As long as the profile says, once.
    assert!(said.contains("(sqlite3) holds it (waited 1 s)"), "{made}");
    assert_eq!(made.code(), 8, "{made}");
    holder.kill9().unwrap();
}
