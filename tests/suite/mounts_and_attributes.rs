//! Mounts of one filesystem, and what files have beside bytes, owner and mode: on a real gateway whose folders are bind-mounted,
//! as container volumes are.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use fixtures::{Misbehaviour, skip};
use rustix::fs::XattrFlags;

use crate::on_a_gateway::{Gateway, files_below, path};

/// A small gateway with one of its folders bind-mounted, a backup, and changed after it.
fn changed(mounted: impl Fn(&Gateway) -> PathBuf) -> Option<(Gateway, PathBuf)> {
    let gateway = Gateway::small()?;
    let folder = mounted(&gateway);
    gateway.run(&["mount", "--bind", path(&folder), path(&folder)]);
    let backup = gateway.backup();
    let sample = gateway.sample();
    for name in sample.clients().unwrap() {
        for config in configs(&gateway, &name) {
            let text = std::fs::read_to_string(&config).unwrap();
            std::fs::write(&config, text + "# changed\n").unwrap();
        }
    }
    Some((gateway, backup))
}

/// The files of a client that are there.
fn configs(gateway: &Gateway, name: &str) -> Vec<PathBuf> {
    let sample = gateway.sample();
    let second = sample.wireguard_dir().join(format!("{name}.conf"));
    let all = [sample.config(name), second].into_iter();
    all.filter(|p| p.exists()).collect()
}

/// Names of the staging, or of what else of Holdfast's, beside the targets.
fn left_beside(gateway: &Gateway) -> Vec<PathBuf> {
    let sample = gateway.sample();
    let root = files_below(sample.root()).into_iter();
    let state_dir = sample.state_dir();
    root.filter(|p| !p.starts_with(&state_dir))
        .filter(|p| p.components().any(|c| c.as_os_str().to_string_lossy().contains(".holdfast-")))
        .collect()
}

fn forward_and_back(mounted: impl Fn(&Gateway) -> PathBuf) {
    let Some((gateway, backup)) = changed(mounted) else {
        return;
    };
    let names = gateway.sample().clients().unwrap();
    let first = configs(&gateway, &names[0]);
    let old = std::fs::read(&first[0]).unwrap();
    let before = gateway.picture();

    // Turned back after the exchange.
    gateway.sample().misbehave(Misbehaviour::DoesNotStart).unwrap();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    gateway.sample().misbehave(Misbehaviour::None).unwrap();
    assert_eq!(done.code(), 4, "{done}");
    assert!(!done.stdout.contains("with warnings"), "{done}");
    assert_eq!(left_beside(&gateway), Vec::<PathBuf>::new());
    gateway.is(&before);
    gateway.is_settled();

    let done = gateway.restore(&backup);
    assert!(!done.stdout.contains("with warnings"), "{done}");
    assert_eq!(left_beside(&gateway), Vec::<PathBuf>::new());
    assert_ne!(std::fs::read(&first[0]).unwrap(), old);
    let kept = gateway.last_restore().join("originals");
    let kept = kept.join(first[0].strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(kept).unwrap(), old);
    gateway.is_settled();
}

#[test]
fn with_a_bind_mounted_state_folder_no_old_key_is_left_beside_a_target() {
    forward_and_back(|gateway| gateway.sample().state_dir());
}

#[test]
fn with_a_bind_mounted_folder_of_configs_no_old_key_is_left_beside_a_target() {
    forward_and_back(|gateway| gateway.sample().wireguard_dir());
}
