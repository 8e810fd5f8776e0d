//! A gateway that is not whole can still be backed up and restored: that is when people restore.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use fixtures::{Finished, Sample, Sandbox, Shape, program, skip};

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
    assert_eq!(made.code(), 0, "{made:?}");
    assert!(made.stderr.contains("left out: app.db"), "{}", made.stderr);

    let restored = holdfast(&sandbox, &["restore", good.to_str().unwrap(), "--yes"]);
    assert_eq!(restored.code(), 0, "{restored:?}");
    let intact = rusqlite::Connection::open(&app).unwrap();
    let users: i64 = intact
        .query_row("SELECT count(*) FROM user", [], |row| row.get(0))
        .unwrap();
    assert!(users > 0);
}

#[test]
fn a_config_that_a_backup_could_not_take_is_not_removed_by_restoring_that_backup() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sandbox = gateway(folder.path());
    let sample = sandbox.sample();
    let odd =
        b"[Interface]\n# B\xfcro, in Latin-1\nPrivateKey = x\n[Peer]\nPublicKey = y\n".to_vec();
    let name = format!("{}.conf", sample.clients().unwrap().last().unwrap());
    for dir in [sample.configs_dir(), sample.wireguard_dir()] {
        fs::write(dir.join(&name), &odd).unwrap();
    }
    let made = holdfast(&sandbox, &["backup"]);
    assert!(made.stderr.contains("left out"), "{}", made.stderr);

    let restored = holdfast(&sandbox, &["restore", made.stdout.trim(), "--yes"]);
    assert_eq!(restored.code(), 0, "{restored:?}");
    assert!(
        restored.stdout.contains("stays as it is"),
        "{}",
        restored.stdout
    );
    for dir in [sample.configs_dir(), sample.wireguard_dir()] {
        assert_eq!(fs::read(dir.join(&name)).unwrap(), odd, "{}", dir.display());
    }
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
