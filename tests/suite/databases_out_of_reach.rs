//! Databases, files beside them and folders that the account with whose rights a database is worked on cannot get at: said with
//! what is in the way, before any outage; and their bytes saved by root, who can.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::on_a_gateway::{Gateway, path};

fn database(gateway: &Gateway, name: &str) -> PathBuf {
    let databases = gateway.sample().databases();
    databases.into_iter().find(|d| d.name == name).unwrap().path
}

fn mode(file: &Path, mode: u32) {
    std::fs::set_permissions(file, PermissionsExt::from_mode(mode)).unwrap();
}

fn stop(gateway: &Gateway) {
    let program = fixtures::program("sample-gateway-service").unwrap();
    gateway.run(&[path(&program), "stop", path(gateway.sample().root())]);
}

/// What is in the backup that was made, by part: raw databases by their reasons.
fn raw(backup: &Path) -> String {
    let read = fixtures::hostile::Backup::read(backup).unwrap();
    read.metadata["holdfast"]["parts"].to_string()
}

#[test]
fn a_state_folder_that_others_cannot_go_to_is_said_by_survey_and_backup_with_the_way_out() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let closed = tempfile::tempdir_in("/var/lib").unwrap();
    mode(closed.path(), 0o700);
    let profile = gateway.sample().profile();
    let text = std::fs::read_to_string(&profile).unwrap();
    let state = closed.path().join("below/state");
    let own = format!("state_dir = {:?}\n", gateway.sample().state_dir());
    assert!(text.starts_with(&own), "{text}");
    let moved = text.replacen(&own, &format!("state_dir = {state:?}\n"), 1);
    std::fs::write(&profile, moved).unwrap();
    let said = format!("cannot go through {} (mode 0700)", closed.path().display());
    let advice = format!("chmod o+x {}", closed.path().display());
    let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    assert!(
        surveyed.contains(&said) && surveyed.contains(&advice),
        "{surveyed}"
    );
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 8, "{made}");
    assert!(made.stderr.contains(&said), "{made}");
    mode(closed.path(), 0o711);
    let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    assert!(!surveyed.contains("cannot go through"), "{surveyed}");
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 0, "{made}");
}

#[test]
fn a_database_of_roots_alone_among_the_gateways_files_is_saved_by_its_bytes_and_refused_beforehand()
{
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let whole = gateway.backup();
    stop(&gateway);
    let app = database(&gateway, "app.db");
    let (uid, gid) = (app.metadata().unwrap().uid(), app.metadata().unwrap().gid());
    chown(&app, Some(0), Some(0)).unwrap();
    mode(&app, 0o600);
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 8, "{made}");
    let advice = format!("chown {uid} {}", app.display());
    assert!(made.stderr.contains("that user cannot read"), "{made}");
    let backup = PathBuf::from(made.stdout.trim());
    assert!(raw(&backup).contains("saved-raw"), "{}", raw(&backup));
    let bytes = std::fs::read(&app).unwrap();
    for archive in [&whole, &backup] {
        let refused = gateway.holdfast(&["restore", path(archive), "--yes"]);
        assert_eq!(refused.code(), 3, "{refused}");
        assert!(refused.stderr.contains(&advice), "{refused}");
    }
    assert!(gateway.restores().is_empty());
    // The way out that it names, there and back.
    chown(&app, Some(uid), Some(gid)).unwrap();
    gateway
        .holdfast(&["restore", path(&whole), "--yes"])
        .ok()
        .unwrap();
    gateway
        .holdfast(&["restore", path(&backup), "--yes"])
        .ok()
        .unwrap();
    assert_eq!(std::fs::read(&app).unwrap(), bytes);
}

#[test]
fn a_file_of_roots_beside_a_database_of_the_services_is_found_before_the_outage() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let whole = gateway.backup();
    stop(&gateway);
    let app = database(&gateway, "app.db");
    let uid = app.metadata().unwrap().uid();
    for (side, rights) in [("-wal", 0o600), ("-wal", 0o644), ("-journal", 0o600)] {
        let file = PathBuf::from(format!("{}{side}", app.display()));
        std::fs::write(&file, "").unwrap();
        chown(&file, Some(0), Some(0)).unwrap();
        mode(&file, rights);
        let refused = gateway.holdfast(&["restore", path(&whole), "--yes"]);
        assert_eq!(refused.code(), 3, "{side} {rights:o}: {refused}");
        let advice = format!("chown {uid} {}", file.display());
        assert!(refused.stderr.contains(&advice), "{refused}");
        assert!(gateway.restores().is_empty(), "{side}");
        let made = gateway.holdfast(&["backup"]);
        // What its account can read is whole.
        let code = if rights == 0o644 { 0 } else { 8 };
        assert_eq!(made.code(), code, "{side} {rights:o}: {made}");
        std::fs::remove_file(&file).unwrap();
    }
    gateway
        .holdfast(&["restore", path(&whole), "--yes"])
        .ok()
        .unwrap();
}

#[test]
fn what_lies_beside_a_database_that_is_gone_is_found_before_the_outage() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let whole = gateway.backup();
    stop(&gateway);
    let app = database(&gateway, "app.db");
    std::fs::remove_file(&app).unwrap();
    for side in ["-wal", "-journal", "-shm"] {
        let file = PathBuf::from(format!("{}{side}", app.display()));
        std::fs::write(&file, "left").unwrap();
        let refused = gateway.holdfast(&["restore", path(&whole), "--yes"]);
        assert_eq!(refused.code(), 3, "{side}: {refused}");
        let advice = format!("mv {0} {0}.left", file.display());
        assert!(refused.stderr.contains(&advice), "{refused}");
        assert!(gateway.restores().is_empty(), "{side}");
        let away = PathBuf::from(format!("{}.left", file.display()));
        std::fs::rename(&file, &away).unwrap();
    }
    gateway
        .holdfast(&["restore", path(&whole), "--yes"])
        .ok()
        .unwrap();
    assert!(app.exists());
}

#[test]
fn an_empty_file_comes_back_as_an_empty_file() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let whole = gateway.backup();
    stop(&gateway);
    for name in ["app.db", "wireguard.db", "configs.db"] {
        let file = database(&gateway, name);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, "").unwrap();
        let made = gateway.holdfast(&["backup"]);
        let empty = PathBuf::from(made.stdout.trim());
        assert!(raw(&empty).contains(&format!("\"{name}\":{{\"is\":\"saved\"}}")));
        std::fs::write(&file, &bytes).unwrap();
        let done = gateway.holdfast(&["restore", path(&empty), "--yes"]);
        assert_eq!(done.code(), 0, "{name}: {done}");
        assert_eq!(file.metadata().unwrap().len(), 0, "{name}: {done}");
        stop(&gateway);
        gateway
            .holdfast(&["restore", path(&whole), "--yes"])
            .ok()
            .unwrap();
        assert!(file.metadata().unwrap().len() > 0, "{name}");
    }
}

/// What to do, as the problem that was told has it.
fn advice(told: &str) -> &str {
    let line = told.lines().find(|l| l.contains("what to do: "));
    line.unwrap().split_once("what to do: ").unwrap().1
}

#[test]
fn a_folder_that_is_gone_and_a_link_that_leads_nowhere_refuse_with_the_command_that_helps() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let whole = gateway.backup();
    let words = ["restore", path(&whole), "--yes"];
    let configs = gateway.sample().configs_dir();
    let own = configs.metadata().unwrap();
    std::fs::remove_dir_all(&configs).unwrap();
    let refused = gateway.holdfast(&words);
    assert_eq!(refused.code(), 3, "{refused}");
    let command = advice(&refused.stderr).split_once("try again: ").unwrap().1;
    let command = command.split(';').next().unwrap();
    assert!(command.starts_with("install -d"), "{refused}");
    gateway.run(&["sh", "-c", command]);
    let made = configs.metadata().unwrap();
    assert_eq!((made.uid(), made.gid()), (own.uid(), own.gid()));

    let app = database(&gateway, "app.db");
    stop(&gateway);
    std::fs::remove_file(&app).unwrap();
    std::os::unix::fs::symlink("/nowhere/app.db", &app).unwrap();
    let refused = gateway.holdfast(&words);
    assert_eq!(refused.code(), 3, "{refused}");
    let command = advice(&refused.stderr)
        .split_once("in its place: ")
        .unwrap()
        .1;
    let command = command.split(';').next().unwrap();
    assert!(command.starts_with("rm "), "{refused}");
    gateway.run(&["sh", "-c", command]);

    gateway.holdfast(&words).ok().unwrap();
    assert!(app.exists());
    assert!(configs.read_dir().unwrap().count() > 0);
    // One that leads somewhere is told with where.
    let moved = app.with_file_name("moved");
    std::fs::rename(&app, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &app).unwrap();
    let refused = gateway.holdfast(&words);
    assert_eq!(refused.code(), 3, "{refused}");
    let name = format!("name {} as its path", moved.display());
    assert!(refused.stderr.contains(&name), "{refused}");
}
