//! Mounts of one filesystem, and what files have beside bytes, owner and mode: on a real gateway whose folders are bind-mounted,
//! as container volumes are.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use fixtures::Misbehaviour;
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

use crate::on_a_gateway::{Gateway, files_below, path};

/// A small gateway with one of its folders bind-mounted, a backup, and changed after it.
fn changed(mounted: impl Fn(&Gateway) -> PathBuf) -> Option<(Gateway, PathBuf)> {
    let gateway = Gateway::small()?;
    let folder = mounted(&gateway);
    gateway.run(&["mount", "--bind", path(&folder), path(&folder)]);
    let backup = gateway.backup();
    let sample = gateway.sample();
    for name in sample.clients().unwrap() {
        let config = sample.config(&name);
        if let Ok(text) = std::fs::read_to_string(&config) {
            std::fs::write(&config, text + "# changed\n").unwrap();
        }
    }
    Some((gateway, backup))
}

fn active_config(gateway: &Gateway) -> PathBuf {
    let sample = gateway.sample();
    sample.config(&sample.active().unwrap()[0])
}

/// Names of the staging, or of what else of Holdfast's, beside the targets.
fn left_beside(gateway: &Gateway) -> Vec<PathBuf> {
    let sample = gateway.sample();
    let root = files_below(sample.root()).into_iter();
    let state_dir = sample.state_dir();
    root.filter(|p| !p.starts_with(&state_dir))
        .filter(|p| {
            p.components()
                .any(|c| c.as_os_str().to_string_lossy().contains(".holdfast-"))
        })
        .collect()
}

fn forward_and_back(mounted: impl Fn(&Gateway) -> PathBuf) {
    let Some((gateway, backup)) = changed(mounted) else {
        return;
    };
    let first = active_config(&gateway);
    let old = std::fs::read(&first).unwrap();
    let before = gateway.picture();

    // Turned back after the exchange.
    let once = Misbehaviour::FailStart { times: Some(2) };
    gateway.sample().misbehave(once).unwrap();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 4, "{done}");
    assert!(!done.stdout.contains("with warnings"), "{done}");
    assert_eq!(left_beside(&gateway), Vec::<PathBuf>::new());
    gateway.is(&before);
    gateway.is_settled();

    let done = gateway.restore(&backup);
    assert!(!done.stdout.contains("with warnings"), "{done}");
    assert_eq!(left_beside(&gateway), Vec::<PathBuf>::new());
    assert_ne!(std::fs::read(&first).unwrap(), old);
    let kept = gateway.last_restore().join("originals");
    let kept = kept.join(first.strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(kept).unwrap(), old);
    gateway.is_settled();
}

#[test]
fn with_a_bind_mounted_state_folder_no_old_key_is_left_beside_a_target() {
    forward_and_back(|gateway| {
        let folder = gateway.sample().state_dir();
        gateway.run(&["mkdir", "-m", "700", path(&folder)]);
        folder
    });
}

#[test]
fn with_a_bind_mounted_folder_of_configs_no_old_key_is_left_beside_a_target() {
    forward_and_back(|gateway| gateway.sample().wireguard_dir());
}

const LIST: &str = "system.posix_acl_access";

/// What `setfacl -m u:12345:r` makes of mode 0640.
fn list() -> Vec<u8> {
    let none = u32::MAX;
    let entries = [
        (1_u16, 6_u16, none),
        (2, 4, 12345),
        (4, 4, none),
        (16, 4, none),
        (32, 0, none),
    ];
    let one = |(tag, rights, id): (u16, u16, u32)| {
        [
            &tag.to_le_bytes()[..],
            &rights.to_le_bytes(),
            &id.to_le_bytes(),
        ]
        .concat()
    };
    let entries = entries.into_iter().flat_map(one);
    2_u32.to_le_bytes().into_iter().chain(entries).collect()
}

fn attribute(path: &Path, name: &str) -> Vec<u8> {
    let mut value = vec![0; 4096];
    let size = lgetxattr(path, name, &mut value).unwrap();
    value.truncate(size);
    value
}

#[test]
fn a_list_of_who_may_and_attributes_of_a_replaced_file_are_there_after_a_restore() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let config = active_config(&gateway);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}# changed\n")).unwrap();
    let database = gateway.sample().client_database();
    for file in [&config, &database] {
        lsetxattr(file, LIST, &list(), XattrFlags::empty()).unwrap();
        lsetxattr(file, "user.note", b"mine", XattrFlags::empty()).unwrap();
    }
    // What the mode gives, the restore may close.
    let named = [&2_u16.to_le_bytes()[..], &[4, 0], &12345_u32.to_le_bytes()].concat();
    let done = gateway.restore(&backup);
    assert_eq!(std::fs::read_to_string(&config).unwrap(), text, "{done}");
    for file in [&config, &database] {
        let list = attribute(file, LIST);
        assert!(list[4..].chunks(8).any(|e| e == named), "{list:?}");
        assert_eq!(attribute(file, "user.note"), b"mine", "{done}");
    }
    gateway.is_settled();
}

#[test]
fn a_list_that_the_backups_mode_does_not_let_act_is_named() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let config = active_config(&gateway);
    let only_owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&config, only_owner).unwrap();
    let backup = gateway.backup();
    lsetxattr(&config, LIST, &list(), XattrFlags::empty()).unwrap();
    let told = gateway.told_by_restore(&backup);
    let named = format!(
        "{}: the new file has not as the old one has them: {LIST}",
        path(&config)
    );
    assert!(told.contains(&named), "{told}");
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_ends_nothing() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let config = active_config(&gateway);
    std::fs::write(
        &config,
        std::fs::read_to_string(&config).unwrap() + "# changed\n",
    )
    .unwrap();
    let before = gateway.picture();
    for words in [vec!["backup"], vec!["restore", path(&backup), "--yes"]] {
        let argv = gateway.argv(&words);
        let limited = format!("ulimit -f 20; exec {}", argv.join(" "));
        let done = gateway.sandbox.run(&["sh", "-c", &limited]).unwrap();
        // No signal: that would be no code, or 128 and more. An incomplete backup is named as such.
        assert!([1, 3, 4, 8].contains(&done.code()), "{done}");
        gateway.is(&before);
    }
}
