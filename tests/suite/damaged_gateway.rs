//! A gateway that is not whole can still be backed up and restored: that is when people restore.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use fixtures::{Finished, Misbehaviour, Sample, Sandbox, Shape, program, skip};

use crate::on_a_gateway::{Gateway, path, stand_in};

fn holdfast(sandbox: &Sandbox, words: &[&str]) -> Finished {
    let program = program("holdfast").unwrap();
    let config = sandbox.sample().profile();
    let mut argv = vec![
        program.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    argv.extend(words);
    sandbox.run(&argv).unwrap()
}

fn backup(sandbox: &Sandbox) -> PathBuf {
    let made = holdfast(sandbox, &["backup"]);
    assert_eq!(made.code(), 0, "{made:?}");
    PathBuf::from(made.stdout.trim())
}

fn gateway(folder: &Path) -> Sandbox {
    let sample = Sample::generate(&folder.join("gateway"), &Shape::of(3)).unwrap();
    Sandbox::start(&sample).unwrap()
}

#[test]
fn a_damaged_database_keeps_nothing_else_from_being_saved_and_is_replaced_by_a_restore() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sandbox = gateway(folder.path());
    let good = backup(&sandbox);
    let app = sandbox
        .sample()
        .databases()
        .into_iter()
        .find(|d| d.name == "app.db")
        .unwrap()
        .path;
    fs::write(
        &app,
        b"SQLite format 3\0 and then nothing that is a database",
    )
    .unwrap();

    let made = holdfast(&sandbox, &["backup"]);
    assert_eq!(made.code(), 8, "{made:?}");
    let says = "SQLite cannot read app.db";
    assert!(made.stderr.contains(says), "{}", made.stderr);

    let restored = holdfast(&sandbox, &["restore", good.to_str().unwrap(), "--yes"]);
    assert_eq!(restored.code(), 0, "{restored:?}");
    let intact = rusqlite::Connection::open(&app).unwrap();
    let users: i64 = intact
        .query_row("SELECT count(*) FROM user", [], |row| row.get(0))
        .unwrap();
    assert!(users > 0);
}

#[test]
fn a_service_that_a_restore_started_hears_every_signal() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sandbox = gateway(folder.path());
    let good = backup(&sandbox);
    let mask = folder.path().join("mask");
    // A start command that notes which signals it was started with, blocked and ignored, then starts the real one.
    let config = sandbox.sample().profile();
    let text = fs::read_to_string(&config).unwrap();
    let start = text.lines().find(|l| l.starts_with("start = ")).unwrap();
    let argv = start
        .trim_start_matches("start = [")
        .trim_end_matches(']')
        .replace(['"', ','], "");
    let script = folder.path().join("start");
    fs::write(
        &script,
        format!(
            "#!/bin/sh\ngrep -E '^Sig(Blk|Ign)' /proc/self/status > {}\nexec {argv}\n",
            mask.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(
        &config,
        text.replace(
            start,
            &format!("start = [{:?}]", script.display().to_string()),
        ),
    )
    .unwrap();

    let restored = holdfast(&sandbox, &["restore", good.to_str().unwrap(), "--yes"]);
    assert_eq!(restored.code(), 0, "{restored:?}");
    let mask = fs::read_to_string(mask).unwrap();
    for line in mask.lines() {
        let bits = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        for signal in [1, 2, 15] {
            assert_eq!(bits & (1 << (signal - 1)), 0, "{line}");
        }
    }
    assert_eq!(mask.lines().count(), 2);
}

/// `systemctl` for one unit, which is the sample's service; with a file `flapping` it fails and is started again.
const SYSTEMCTL: &str = r#"#!/bin/sh
service() { BIN "$1" ROOT; }
[ "$1" != --no-ask-password ] || shift
case $1 in
    is-active) [ ! -e ROOT/flapping ] && service active ;;
    show)
        if [ -e ROOT/flapping ]; then echo activating
        elif service active; then echo active
        else echo inactive; fi ;;
    stop) rm -f ROOT/flapping; service stop ;;
    start) service start || { touch ROOT/flapping; exit 1; } ;;
esac
"#;

/// A gateway whose service is a unit that fails again and again; and a backup of when it ran.
fn flapping() -> Option<(Gateway, std::path::PathBuf)> {
    let gateway = Gateway::small()?;
    let sample = gateway.sample();
    let profile = std::fs::read_to_string(sample.profile()).unwrap();
    let (before, service) = profile.split_once("name = \"sample-gateway\"\n").unwrap();
    let rest = &service[service.find("\n\n").unwrap()..];
    std::fs::write(
        sample.profile(),
        format!("{before}unit = \"sample.service\"{rest}"),
    )
    .unwrap();
    let program = program("sample-gateway-service").unwrap();
    let text = SYSTEMCTL
        .replace("BIN", path(&program))
        .replace("ROOT", path(sample.root()));
    stand_in(&gateway, "systemctl", &text);
    let backup = gateway.backup();
    gateway.run(&["systemctl", "stop"]);
    std::fs::write(sample.root().join("flapping"), "").unwrap();
    Some((gateway, backup))
}

#[test]
fn a_service_that_fails_again_and_again_is_stopped_and_runs_after_the_restore() {
    let Some((gateway, backup)) = flapping() else {
        return;
    };
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 0, "{done}");
    assert_eq!(gateway.run(&["systemctl", "show"]), "active\n");
    gateway.is_settled();
}

#[test]
fn a_service_that_failed_before_and_fails_still_is_no_reason_to_be_stuck() {
    let Some((gateway, backup)) = flapping() else {
        return;
    };
    let how = Misbehaviour::FailStart { times: None };
    gateway.sample().misbehave(how).unwrap();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 4, "{done}");
    assert!(
        done.stderr.contains("(in the step \"start services\")"),
        "{done}"
    );
    assert!(
        done.stdout
            .contains("does not run, as it did not before; what to do: see why in its log"),
        "{done}"
    );
    assert_eq!(gateway.run(&["systemctl", "show"]), "activating\n");
    gateway.is_settled();
}

#[test]
fn rules_that_iptables_cannot_show_are_left_out_of_a_backup_and_refuse_a_restore() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let script = "#!/bin/sh\necho \"# Table \\`filter' is incompatible, use 'nft' tool.\"\n";
    stand_in(&gateway, "iptables-save", script);
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 8, "{made}");
    let why = "the IPv4 firewall rules could not be saved: cannot show all of them: a table has rules that iptables cannot show";
    assert!(made.stderr.contains(why), "{made}");
    let refused = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(refused.code(), 3, "{refused}");
    assert!(
        refused
            .stderr
            .contains("a table has rules that iptables cannot show"),
        "{refused}"
    );
    assert!(gateway.restores().is_empty());
}

#[test]
fn of_clients_in_a_database_that_nobody_can_read_no_start_is_said_to_change_any() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    // The service has it open, and does not start with it again.
    let damaged = b"SQLite format 3\0 and then nothing that is a database";
    fs::write(gateway.sample().client_database(), damaged).unwrap();
    let how = Misbehaviour::FailStart { times: Some(2) };
    gateway.sample().misbehave(how).unwrap();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 4, "{done}");
    let journal = fs::read_to_string(gateway.last_restore().join("journal")).unwrap();
    let starts = "\"direction\":\"back\",\"attempt\":2";
    let again = format!("\"step\":\"start-services\",{starts}");
    assert!(journal.contains(&again), "{done}");
    assert!(!journal.contains("will not notice clients"), "{done}");
}
