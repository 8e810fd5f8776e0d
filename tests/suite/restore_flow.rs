//! A restore does what it says: on gateways and from backups of the real application, everything is afterwards as the
//! backup has it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use fixtures::{Real, Sample, format_1_0};
use rusqlite::Connection;

use crate::on_a_gateway::{Gateway, files_below, path};

/// A database beside the service that has it open.
fn open(path: &Path) -> Connection {
    let database = Connection::open(path).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database
}

/// Rows changed, added, deleted; numbers given away.
fn change_databases(sample: &Sample) {
    let clients = open(&sample.client_database());
    clients
        .execute_batch(
            "UPDATE clients SET subnet = '10.99.0.0/24', status = 'inactive' WHERE rowid = 3;
             DELETE FROM test_history WHERE client_id = (SELECT id FROM clients WHERE rowid = 5);
             DELETE FROM monitoring_logs WHERE client_id = (SELECT id FROM clients WHERE rowid = 5);
             DELETE FROM clients WHERE rowid = 5;
             INSERT INTO clients (rowid, id, name, config_path, subnet, public_key)
               VALUES (5000, 'x', 'added_00000001', '/etc/wireguard/added_00000001.conf', '10.98.0.0/24', 'none');
             DELETE FROM test_history WHERE id % 7 = 0;
             DELETE FROM monitoring_logs WHERE id = (SELECT max(id) FROM monitoring_logs WHERE event_type <> 'sample_heartbeat');
             UPDATE sqlite_sequence SET seq = seq + 5000 WHERE name = 'test_history';",
        )
        .unwrap();
    for database in sample.databases().iter().filter(|d| d.kind == "users") {
        open(&database.path)
            .execute_batch(
                "UPDATE user SET password = 'pbkdf2:sha256:1000$abcdefgh$00' WHERE username = 'admin';
                 DELETE FROM user WHERE username <> 'admin';
                 INSERT INTO user (id, username, password, active) VALUES (77, 'intruder', 'pbkdf2:sha256:1000$abcdefgh$00', 1);
                 UPDATE email_settings SET smtp_host = 'elsewhere.example';
                 DELETE FROM alert_history WHERE id % 2 = 0;",
            )
            .unwrap();
    }
}

/// Configs edited in either place, removed, added, given to others. How many files that makes.
fn change_configs(sample: &Sample) -> usize {
    let names = sample.clients().unwrap();
    let first = |name: &str| sample.configs_dir().join(format!("{name}.conf"));
    let second = |name: &str| sample.config(name);
    let edit = |file: &Path| {
        let text = std::fs::read_to_string(file).unwrap();
        std::fs::write(file, text.replace("[Peer]", "# changed\n[Peer]")).unwrap();
    };
    edit(&first(&names[0]));
    edit(&second(&names[0]));
    edit(&first(&names[11]));
    edit(&second(&names[12]));
    for file in [first(&names[4]), second(&names[4])] {
        std::fs::remove_file(file).unwrap();
    }
    let text = std::fs::read(first(&names[20])).unwrap();
    for file in [first("added_00000001"), second("added_00000001")] {
        std::fs::write(file, &text).unwrap();
    }
    std::fs::set_permissions(first(&names[15]), PermissionsExt::from_mode(0o600)).unwrap();
    chown(second(&names[16]), Some(0), Some(0)).unwrap();
    10
}

fn change_kernel(gateway: &Gateway) {
    let sample = gateway.sample();
    let active: Vec<String> = gateway
        .run(&["wg", "show", "interfaces"])
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let down = active.iter().find(|n| *n != "wg-admin").unwrap();
    gateway.run(&["wg-quick", "down", path(&sample.config(down))]);
    // The service calls it inactive at its next look; until then the gateway is still changing.
    let database = rusqlite::Connection::open(sample.client_database()).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    let status = || -> String {
        let sql = "SELECT status FROM clients WHERE name = ?1";
        database.query_row(sql, [down], |row| row.get(0)).unwrap()
    };
    while status() == "active" {
        std::thread::sleep(Duration::from_millis(50));
    }
    // Its peer's name does not resolve here: it is up without the endpoint, as after a change of resolvers.
    let up = sample
        .clients()
        .unwrap()
        .into_iter()
        .find(|name| name.len() == 15 && !active.contains(name))
        .unwrap();
    let text = std::fs::read_to_string(sample.config(&up)).unwrap();
    let without: String = text
        .lines()
        .filter(|line| !line.starts_with("Endpoint"))
        .map(|line| format!("{line}\n"))
        .collect();
    let config = gateway.beside(&format!("{up}.conf"));
    std::fs::write(&config, without).unwrap();
    gateway.run(&["wg-quick", "up", path(&config)]);
    for line in [
        "iptables -P FORWARD DROP",
        "iptables -N OTHER",
        "iptables -A OTHER -s 192.0.2.0/24 -j DROP",
        "iptables -I INPUT -j OTHER",
        "iptables -D FORWARD 1",
        "iptables -t nat -F POSTROUTING",
        "iptables -t raw -A PREROUTING -s 192.0.2.9 -j DROP",
        "ip6tables -P FORWARD DROP",
        "ip6tables -A INPUT -s 2001:db8::/32 -j ACCEPT",
        "ip6tables -t mangle -A FORWARD -s 2001:db8:1::/48 -j DROP",
        "sysctl -qw net.ipv4.ip_forward=0",
    ] {
        gateway.run(&line.split(' ').collect::<Vec<_>>());
    }
}

#[test]
fn a_gateway_of_100_clients_is_wholly_as_its_backup_says_and_its_safety_backup_leads_back() {
    let Some(gateway) = Gateway::real(Real::gateway_100()) else {
        return;
    };
    let sample = gateway.sample();
    let then = gateway.picture();
    let backup = gateway.backup();
    format_1_0::read(&backup).unwrap();

    change_databases(sample);
    let changed = change_configs(sample);
    change_kernel(&gateway);
    let before = gateway.picture();
    assert!(then.diff(&before).len() > 500, "little was changed");

    gateway
        .holdfast(&["restore", path(&backup), "--yes"])
        .ok()
        .unwrap();
    gateway.is(&then);
    gateway.is_settled();
    // What was exchanged out is kept, and no more than what changed was made anew.
    let originals = gateway.last_restore().join("originals");
    let kept = files_below(&originals);
    let is_config = |file: &&std::path::PathBuf| file.extension().is_some_and(|e| e == "conf");
    // Two of the changed files were not there before.
    assert_eq!(
        kept.iter().filter(is_config).count(),
        changed - 2,
        "{kept:?}"
    );
    assert_eq!(kept.len(), changed - 2 + 3, "{kept:?}");

    let safety = gateway.backups().pop().unwrap();
    assert_ne!(safety, backup);
    assert_eq!(std::fs::metadata(&safety).unwrap().mode() & 0o777, 0o600);
    gateway.holdfast(&["verify", path(&safety)]).ok().unwrap();
    gateway
        .holdfast(&["restore", path(&safety), "--yes"])
        .ok()
        .unwrap();
    gateway.is(&before);
    gateway.is_settled();
}

/// Restores this backup on this gateway after it was changed, with what the program said.
fn restored(gateway: &Gateway, backup: &Path) -> String {
    let done = gateway
        .holdfast(&["restore", path(backup), "--yes"])
        .ok()
        .unwrap();
    gateway.is_settled();
    done.stdout + &done.stderr
}

/// Parts of a picture that a backup holds, but for tunnels and rules.
fn at_rest(picture: fixtures::Picture) -> fixtures::Picture {
    picture.without(|name| !name.starts_with("database ") && !name.starts_with("file "))
}

#[test]
fn the_applications_own_backups_with_rules_restore() {
    for real in [Real::gateway_5(), Real::gateway_100()] {
        let Some(gateway) = Gateway::real(real) else {
            return;
        };
        let then = gateway.picture();
        let backup = gateway.sample().gateway_backup().unwrap();
        open(&gateway.sample().client_database())
            .execute_batch("DELETE FROM monitoring_logs; DELETE FROM sqlite_sequence;")
            .unwrap();
        for name in gateway.sample().clients().unwrap().iter().take(3) {
            let file = gateway.sample().config(name);
            std::fs::remove_file(&file).unwrap();
        }
        gateway.run(&["iptables", "-F"]);
        restored(&gateway, &backup);
        gateway.is(&then);
    }
}

#[test]
fn a_backup_that_lost_what_was_in_the_wal_restores_as_it_is() {
    let Some(gateway) = Gateway::real(Real::gateway_wal_100()) else {
        return;
    };
    let count = |part: &str, picture: &fixtures::Picture| {
        picture
            .parts()
            .filter(|(name, _)| name.starts_with(&format!("database {part} row")))
            .count()
    };
    let before = gateway.picture();
    assert_eq!(count("configs.db monitoring_logs", &before), 2700);
    restored(&gateway, &gateway.sample().gateway_backup().unwrap());
    let after = gateway.picture();
    assert_eq!(count("configs.db monitoring_logs", &after), 2200);
    assert_eq!(count("app.db alert_history", &after), 1000);

    // The safety backup lost nothing.
    restored(&gateway, &gateway.backups().pop().unwrap());
    assert_eq!(
        at_rest(before).diff(&at_rest(gateway.picture())),
        Vec::<String>::new()
    );
}

#[test]
fn a_backup_of_a_wal_gateway_under_a_live_writer_has_every_row_that_was_committed_before_it() {
    let Some(gateway) = Gateway::real(Real::gateway_wal_100()) else {
        return;
    };
    let database = gateway.sample().client_database();
    let writer = std::thread::spawn({
        let database = database.clone();
        move || {
            let clients = open(&database);
            for row in 0..3000 {
                clients
                    .execute(
                        "INSERT INTO monitoring_logs (event_type, message) VALUES ('busy', ?1)",
                        [row],
                    )
                    .unwrap();
            }
        }
    });
    let busy = |database: &Connection| -> i64 {
        database
            .query_row(
                "SELECT count(*) FROM monitoring_logs WHERE event_type = 'busy'",
                [],
                |r| r.get(0),
            )
            .unwrap()
    };
    let live = open(&database);
    while busy(&live) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let committed = busy(&live);
    let backup = gateway.backup();
    let after = busy(&live);
    writer.join().unwrap();

    let read = format_1_0::read(&backup).unwrap();
    let copy = gateway.beside("copy.db");
    std::fs::write(&copy, &read.databases["configs.db"]).unwrap();
    let copy = open(&copy);
    let rows: i64 = copy
        .query_row("SELECT count(*) FROM monitoring_logs WHERE event_type NOT IN ('busy', 'sample_heartbeat')", [], |r| r.get(0))
        .unwrap();
    assert_eq!(rows, 2700);
    let held = busy(&copy);
    assert!(
        (committed..=after).contains(&held),
        "{committed} <= {held} <= {after}"
    );
    let whole: String = copy
        .query_row("PRAGMA integrity_check", [], |r| r.get(0))
        .unwrap();
    assert_eq!(whole, "ok");
}

#[test]
fn without_rules_in_the_backup_those_of_before_hold_less_replaced_tunnels_plus_what_the_service_adds()
 {
    let Some(gateway) = Gateway::real(Real::gateway_5()) else {
        return;
    };
    let backup = gateway.beside("backup_without_iptables.zip");
    std::fs::write(&backup, Real::backup_without_iptables()).unwrap();
    let read = format_1_0::read(&backup).unwrap();
    gateway.run(&[
        "iptables",
        "-A",
        "FORWARD",
        "-s",
        "192.0.2.0/24",
        "-j",
        "DROP",
    ]);
    let before = gateway.picture();
    let said = restored(&gateway, &backup);
    assert!(
        said.contains(
            "left out: the IPv4 firewall rules: the backup has none. The current rules stay"
        ),
        "{said}"
    );

    let after = gateway.picture();
    let configs: Vec<String> = after
        .parts()
        .filter_map(|(name, _)| name.strip_prefix("file instance/configs/"))
        .map(str::to_owned)
        .collect();
    assert_eq!(configs, read.configs.keys().cloned().collect::<Vec<_>>());
    let up: Vec<&str> = after
        .parts()
        .filter_map(|(name, _)| name.strip_prefix("tunnel "))
        .collect();
    assert_eq!(up, ["lab_ced24d2d", "s1_5f5847bf", "site2_f4109fc7"]);
    let gone = "c00000_30058fa2";
    let rules = |picture: &fixtures::Picture| -> Vec<String> {
        ["nat", "filter", "mangle"]
            .iter()
            .filter_map(|table| picture.part(&format!("iptables-save {table}")))
            .flat_map(str::lines)
            .map(str::to_owned)
            .collect()
    };
    let mut expected: Vec<String> = rules(&before)
        .into_iter()
        .filter(|rule| !rule.contains(gone))
        .collect();
    let mut found = rules(&after);
    for tunnel in up {
        assert_eq!(
            found.iter().filter(|rule| rule.contains(tunnel)).count(),
            3,
            "{found:?}"
        );
        found.retain(|rule| !rule.contains(tunnel));
    }
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_config_that_only_the_backup_knows_and_the_box_still_has_becomes_the_backups() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sample = gateway.sample();
    let then = gateway.picture();
    let backup = gateway.backup();
    // Its client is deleted and its config in the gateway's folder with it; what wg-quick uses was forgotten, and is up.
    let name = sample.active().unwrap().remove(0);
    let database = rusqlite::Connection::open(sample.client_database()).unwrap();
    database
        .busy_timeout(std::time::Duration::from_secs(10))
        .unwrap();
    database.pragma_update(None, "foreign_keys", false).unwrap();
    database
        .execute("DELETE FROM clients WHERE name = ?1", [&name])
        .unwrap();
    std::fs::remove_file(sample.configs_dir().join(format!("{name}.conf"))).unwrap();
    let left = sample.config(&name);
    let text = std::fs::read_to_string(&left).unwrap();
    std::fs::write(&left, text + "# forgotten\n").unwrap();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 0, "{done}");
    let kept = |part: &str| part.starts_with("file etc_iptables/");
    let now = gateway.picture().without(kept);
    assert_eq!(then.without(kept).diff(&now), Vec::<String>::new());
    let original = gateway
        .last_restore()
        .join("originals")
        .join(path(&left).trim_start_matches('/'));
    assert!(
        std::fs::read_to_string(original)
            .unwrap()
            .ends_with("# forgotten\n")
    );
}

#[test]
fn a_backup_that_gives_every_file_to_everybody_opens_none() {
    let Some(gateway) = Gateway::real(Real::gateway_5()) else {
        return;
    };
    let sample = gateway.sample();
    let name = sample.clients().unwrap().remove(0);
    let configs = [
        sample.config(&name),
        sample.configs_dir().join(format!("{name}.conf")),
    ];
    let databases: Vec<_> = sample.databases().into_iter().map(|d| d.path).collect();
    let files: Vec<_> = configs.iter().chain(&databases).collect();
    let open_all = || {
        for file in &files {
            std::fs::set_permissions(file, PermissionsExt::from_mode(0o777)).unwrap();
        }
    };
    open_all();
    let backup = gateway.backup();
    for file in &configs {
        let text = std::fs::read_to_string(file).unwrap();
        std::fs::write(file, text.replace("[Peer]", "# changed\n[Peer]")).unwrap();
    }
    open_all();
    gateway
        .holdfast(&["restore", path(&backup), "--yes", "--keep-open-folders"])
        .ok()
        .unwrap();
    let mode = |file: &Path| std::fs::metadata(file).unwrap().mode() & 0o7777;
    assert!(configs.iter().all(|c| mode(c) == 0o640));
    assert!(databases.iter().all(|d| mode(d) == 0o660));
}
