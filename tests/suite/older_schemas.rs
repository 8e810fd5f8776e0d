//! The application has no version number in its databases, and adds some of the columns that it needs and never others. A
//! backup of each shape that `configs.db` has had is restored, and then the application's queries find all that they ask for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use fixtures::{Sample, Shape, format_1_0};
use rusqlite::Connection;

use crate::on_a_gateway::{Gateway, path, small};

const NO_TIMES: &str = "ALTER TABLE clients DROP COLUMN last_activated; ALTER TABLE clients DROP COLUMN last_deactivated;";
const TIMES_AT_THE_END: &str = "ALTER TABLE clients ADD COLUMN last_activated TIMESTAMP; ALTER TABLE clients ADD COLUMN last_deactivated TIMESTAMP;";
const NO_LOGS: &str = "DROP TABLE monitoring_logs;";
const NO_TARGETS: &str =
    "ALTER TABLE test_history DROP COLUMN target; ALTER TABLE test_history DROP COLUMN error;";

/// The shapes, the oldest first, and how one of now becomes each.
fn shapes() -> [(&'static str, String); 5] {
    [
        ("april-a", [NO_TIMES, NO_LOGS, NO_TARGETS].concat()),
        ("april-b", [NO_TIMES, NO_LOGS].concat()),
        ("june", NO_TIMES.to_owned()),
        ("july-altered", [NO_TIMES, TIMES_AT_THE_END].concat()),
        ("july", String::new()),
    ]
}

/// What the application asks of its databases at its pages, its monitor and its tests; of the rows of clients, all columns.
const OF_CLIENTS: &str = "
    SELECT id, name, config_path, subnet, public_key, status, last_handshake, last_activated, last_deactivated, created_at,
        updated_at FROM clients WHERE id = (SELECT min(id) FROM clients);
    UPDATE clients SET status = status, last_activated = '2026-11-28T10:00:00', updated_at = '2026-11-28T10:00:00';
    UPDATE clients SET status = status, last_deactivated = '2026-11-28T10:00:00', last_handshake = NULL;
    INSERT INTO test_history (client_id, latency_ms, success, target, error, timestamp)
        SELECT id, 12, 1, '10.2.0.1', NULL, '2026-11-28T10:00:00' FROM clients;
    SELECT timestamp, latency_ms, success, target, error FROM test_history ORDER BY timestamp DESC LIMIT 5;
    INSERT INTO monitoring_logs (client_id, client_name, event_type, message, details, timestamp)
        SELECT id, name, 'event', 'message', NULL, '2026-11-28T10:00:00' FROM clients;
    SELECT id, client_id, client_name, event_type, message, details, timestamp FROM monitoring_logs ORDER BY timestamp DESC;
    INSERT INTO clients (id, name, config_path, subnet, public_key, status, created_at, updated_at)
        VALUES ('new', 'new_00000001', '/etc/wireguard/new_00000001.conf', '10.99.0.0/24', 'k', 'inactive', 'now', 'now');
    DELETE FROM clients WHERE id = 'new';
    DELETE FROM test_history WHERE client_id = 'new';
    DELETE FROM monitoring_logs WHERE client_id = 'new';";

const OF_USERS: &str = "
    SELECT id, username, password, active, last_login_at, current_login_at, last_login_ip, current_login_ip, login_count,
        must_change_password FROM user;
    UPDATE user SET login_count = login_count + 1, current_login_at = last_login_at, current_login_ip = '10.1.0.7';
    SELECT id, smtp_host, smtp_port, smtp_username, smtp_password, smtp_from, smtp_use_tls, alert_recipients, created_at,
        updated_at FROM email_settings;
    INSERT INTO alert_history (client_name, peer_key, subject, message, sent_at, success) VALUES ('c', 'k', 's', 'm', 'now', 1);
    SELECT id, client_name, peer_key, subject, message, sent_at, success FROM alert_history ORDER BY sent_at DESC;";

/// Runs these statements one by one, to the last row of each, and leaves nothing of them behind.
fn asked(database: &Path, statements: &str) -> rusqlite::Result<()> {
    let conn = Connection::open(database)?;
    conn.busy_timeout(std::time::Duration::from_secs(20))?;
    conn.execute_batch("PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE")?;
    for sql in statements.split(';').filter(|s| !s.trim().is_empty()) {
        let mut statement = conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
    }
    conn.execute_batch("ROLLBACK")
}

fn count(database: &Path, table: &str) -> i64 {
    let conn = Connection::open(database).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(20))
        .unwrap();
    let sql = format!("SELECT count(*) FROM {table}");
    conn.query_row(&sql, [], |row| row.get(0)).unwrap()
}

/// Of every database what the application asks for.
fn the_application_works(sample: &Sample) -> Result<(), String> {
    for database in sample.databases() {
        let statements = match database.kind {
            "clients" => OF_CLIENTS,
            _ => OF_USERS,
        };
        asked(&database.path, statements).map_err(|e| format!("{}: {e}", database.name))?;
    }
    Ok(())
}

fn reshaped(sample: &Sample, sql: &str) {
    let conn = Connection::open(sample.client_database()).unwrap();
    conn.execute_batch(sql).unwrap();
}

#[test]
fn a_backup_of_every_shape_of_the_databases_is_restored_and_the_applications_queries_work() {
    let Some(newest) = Gateway::small() else {
        return;
    };
    let tests = count(&newest.sample().client_database(), "test_history");
    let names = newest.sample().clients().unwrap();
    the_application_works(newest.sample()).unwrap();
    let works = |gateway: &Gateway, backup: &Path, shown: &str| {
        let said = gateway.told_by_restore(backup);
        let sample = gateway.sample();
        assert_eq!(the_application_works(sample), Ok(()), "{shown}: {said}");
        assert_eq!(sample.clients().unwrap(), names, "{shown}: {said}");
        let history = count(&sample.client_database(), "test_history");
        assert_eq!(history, tests, "{shown}: {said}");
    };
    for (shape, sql) in shapes() {
        let then = Gateway::start(|folder| {
            let sample = small(folder);
            reshaped(&sample, &sql);
            sample
        })
        .unwrap();
        let as_made = the_application_works(then.sample());
        assert_eq!(
            as_made.is_ok(),
            shape.starts_with("july"),
            "{shape}: {as_made:?}"
        );
        let own = then.backup();
        let application = then.beside("application.zip");
        format_1_0::write(then.sample(), &application, false).unwrap();
        // Of another box: what it says of the others' rows is its own affair.
        let others: [(&str, &PathBuf); 2] = [("Holdfast", &own), ("application", &application)];
        for (whose, backup) in others {
            works(
                &newest,
                backup,
                &format!("{shape}, made elsewhere by {whose}"),
            );
        }
        // On the gateway that made it, whose application is the newest by now.
        works(&then, &own, &format!("{shape}, made here"));
    }
}

#[test]
fn the_backup_of_a_gateway_without_clients_database_leaves_this_ones_and_one_that_is_gone_comes_back()
 {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sample = gateway.sample();
    let good = gateway.backup();
    // The application makes the database with its first page: a gateway that was just installed has none.
    let installed = Gateway::bare(|folder| {
        let shape = Shape::of(0);
        let sample = Sample::generate(&folder.join("fresh"), &shape).unwrap();
        std::fs::remove_file(sample.client_database()).unwrap();
        sample
    });
    let installed = installed.unwrap();
    let (names, active) = (sample.clients().unwrap(), sample.active().unwrap());
    let without = [installed.backup(), installed.beside("application.zip")];
    format_1_0::write(installed.sample(), &without[1], false).unwrap();
    for backup in &without {
        let said = gateway.told_by_restore(backup);
        assert_eq!(sample.clients().unwrap(), names, "{said}");
        assert_eq!(sample.active().unwrap(), active, "{said}");
        let up = gateway.run(&["wg", "show", "interfaces"]);
        let is_up = |name: &String| up.split_whitespace().any(|up| up == name);
        assert!(active.iter().all(is_up), "{up}: {said}");
        let config = |name: &String| sample.config(name);
        assert!(names.iter().all(|name| config(name).exists()), "{said}");
        assert_eq!(the_application_works(sample), Ok(()), "{said}");
    }
    // And there it is restored, too: to a gateway that has nothing of what it says nothing of.
    let said = installed.told_by_restore(&without[0]);
    assert!(!installed.sample().client_database().exists(), "{said}");

    let helper = fixtures::program("sample-gateway-service").unwrap();
    gateway.run(&[path(&helper), "stop", path(sample.root())]);
    std::fs::remove_file(sample.client_database()).unwrap();
    let said = gateway.told_by_restore(&good);
    assert_eq!(the_application_works(sample), Ok(()), "{said}");
    assert_eq!(sample.clients().unwrap(), names, "{said}");
    assert_eq!(sample.active().unwrap(), active, "{said}");
}
