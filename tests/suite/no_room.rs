//! A disk that a restore would fill is named before the question, with the figures and with what to do, and nothing is changed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use fixtures::{Sample, Shape, program};

use crate::on_a_gateway::{Gateway, codes, path};

/// A gateway with an 8 MiB database of clients, for which its text counts as it is: it is not packed yet.
fn large(folder: &Path) -> Sample {
    let shape = Shape {
        active: 1,
        padding: 8 << 20,
        ..Shape::of(3)
    };
    Sample::generate(&folder.join("gateway"), &shape).unwrap()
}

/// Puts a filesystem of this size in the place of a folder, with what is in it.
fn on_a_disk_of(gateway: &Gateway, folder: &Path, mib: u64) {
    let (folder, size) = (path(folder), format!("size={mib}m"));
    gateway.run(&["mkdir", "-p", folder]);
    gateway.run(&["cp", "-a", folder, "/run/aside"]);
    gateway.run(&["mount", "-t", "tmpfs", "-o", &size, "disk", folder]);
    let mode = gateway.run(&["stat", "-c", "%a", "/run/aside"]);
    gateway.run(&["chmod", mode.trim(), folder]);
    gateway.run(&["chown", "--reference=/run/aside", folder]);
    gateway.run(&[
        "sh",
        "-c",
        &format!("cp -a /run/aside/. {folder} && rm -r /run/aside"),
    ]);
}

#[test]
fn a_restore_without_room_for_its_safety_backup_is_refused_with_the_figures_before_it_begins() {
    let Some(gateway) = Gateway::start(large) else {
        return;
    };
    let backup = gateway.beside("backup.zip");
    std::fs::rename(gateway.backup(), &backup).unwrap();
    // 16 MiB are to stay free, the spool takes the copies that are looked into now, and the rest does not suffice.
    on_a_disk_of(&gateway, &gateway.sample().state_dir(), 44);
    let before = gateway.picture();
    let refused = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(refused.code(), 3, "{refused}");
    let state_dir = path(&gateway.sample().state_dir()).to_owned();
    let said = &refused.stderr;
    for what in [
        format!("not enough space in {state_dir}"),
        " MiB needed (".to_owned(),
        " MiB for the safety backup, ".to_owned(),
        "16.0 MiB in reserve)".to_owned(),
        format!("`df -h {state_dir}"),
        "`holdfast prune --dry-run`".to_owned(),
    ] {
        assert!(said.contains(&what), "{what}: {said}");
    }
    gateway.is(&before);
    let json = gateway.holdfast(&["--json", "restore", path(&backup), "--yes"]);
    assert_eq!(codes(&json), ["no-space"], "{json}");
}

#[test]
fn a_restore_without_room_beside_the_files_that_it_replaces_is_refused_with_the_figures() {
    let Some(gateway) = Gateway::bare(large) else {
        return;
    };
    on_a_disk_of(&gateway, &gateway.sample().root().join("instance"), 30);
    gateway.sandbox.bring_up().unwrap();
    let backup = gateway.backup();
    let instance = gateway.sample().root().join("instance");
    let filler = path(&instance.join("filler")).to_owned();
    gateway.run(&["sh", "-c", &format!("head -c 4M /dev/zero > {filler}")]);
    let refused = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(refused.code(), 3, "{refused}");
    let said = &refused.stderr;
    // What is unpacked beside them comes first, where it already has no room.
    for what in [&format!("`df -h {}`", path(&instance)), " MiB", "free"] {
        assert!(said.contains(what), "{what}: {said}");
    }
    gateway.run(&["rm", &filler]);
}

#[test]
fn after_a_crash_on_a_disk_that_is_full_by_then_a_recovery_takes_the_room_that_the_restore_reserved()
 {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let state_dir = gateway.sample().state_dir();
    on_a_disk_of(&gateway, &state_dir, 64);
    let crash = program("holdfast-crash").unwrap();
    let profile = gateway.sample().profile();
    let words = [
        path(&crash),
        path(&profile),
        "before:60",
        "restore",
        path(&backup),
    ];
    gateway.sandbox.run(&words).unwrap();
    let open = gateway.holdfast(&["status"]);
    assert!(open.stdout.contains("interrupted"), "{open}");
    let filler = path(&state_dir.join("filler")).to_owned();
    let fill = format!("head -c 100M /dev/zero > {filler}; true");
    gateway.sandbox.run(&["sh", "-c", &fill]).unwrap();
    let recovered = gateway.holdfast(&["recover"]);
    assert!([0, 4].contains(&recovered.code()), "{recovered}");
    gateway.run(&["rm", &filler]);
    let idle = gateway.holdfast(&["status"]);
    assert!(idle.stdout.starts_with("idle"), "{idle}");
}
