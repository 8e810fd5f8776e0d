//! None means none, and what a backup does not say stays as it is: the backup of a gateway without clients leaves no config and
//! no key behind, and one without the clients or without the configs takes no tunnel down for good.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fixtures::hostile::Backup;
use fixtures::{Misbehaviour, Sample, Shape, format_1_0};
use serde_json::Value;

use crate::on_a_gateway::{Gateway, path};

/// A gateway as its installer leaves it.
fn fresh(folder: &Path) -> Sample {
    Sample::generate(&folder.join("fresh"), &Shape::of(0)).unwrap()
}

/// The backups that a fresh gateway makes: the application's own, and Holdfast's.
fn of_a_fresh_gateway(gateway: &Gateway) -> Vec<(&'static str, PathBuf)> {
    let fresh = Gateway::start(fresh).unwrap();
    let (own, made) = (
        gateway.beside("application.zip"),
        gateway.beside("holdfast.zip"),
    );
    format_1_0::write(fresh.sample(), &own, false).unwrap();
    std::fs::copy(fresh.backup(), &made).unwrap();
    vec![("the application's", own), ("Holdfast's", made)]
}

fn up(gateway: &Gateway) -> BTreeSet<String> {
    let up = gateway.run(&["wg", "show", "interfaces"]);
    up.split_whitespace().map(str::to_owned).collect()
}

/// Every file of both folders, with what it holds.
fn configs(gateway: &Gateway) -> Vec<(PathBuf, Vec<u8>)> {
    let sample = gateway.sample();
    let folders = [sample.configs_dir(), sample.wireguard_dir()];
    let files = folders.iter().flat_map(|f| std::fs::read_dir(f).unwrap());
    let mut files: Vec<PathBuf> = files.map(|e| e.unwrap().path()).collect();
    files.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
    files.into_iter().map(read).collect()
}

#[test]
fn the_backup_of_a_gateway_without_clients_leaves_no_config_no_key_and_no_tunnel_behind() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let good = gateway.backup();
    let before = gateway.picture();
    let clients = gateway.sample().clients().unwrap();
    assert_eq!(clients.len(), 6);
    for (whose, backup) in of_a_fresh_gateway(&gateway) {
        let said = gateway.told_by_restore(&backup);
        assert!(
            said.contains("6 clients are not in the backup and will be gone"),
            "{said}"
        );
        let left: Vec<String> = configs(&gateway)
            .iter()
            .map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(left, ["server.key", "wg-admin.conf"], "{whose}: {said}");
        assert_eq!(
            up(&gateway),
            BTreeSet::from(["wg-admin".to_owned()]),
            "{whose}"
        );
        assert_eq!(gateway.sample().clients().unwrap(), [""; 0], "{whose}");
        gateway.told_by_restore(&good);
        gateway.is(&before);
    }
}

/// Without the entries of these names, and without a word of them.
fn without(backup: &Backup, gone: &dyn Fn(&str) -> bool) -> Backup {
    let mut left = backup.clone();
    left.entries.retain(|(name, _)| !gone(name));
    for (list, folder) in [("databases", ""), ("configs", "configs/")] {
        let names = left.metadata["contents"][list].as_array_mut().unwrap();
        names.retain(|n| !gone(&format!("{folder}{}", n.as_str().unwrap())));
    }
    if let Some(manifest) = left.metadata.get_mut("holdfast") {
        let manifest = manifest.as_object_mut().unwrap();
        let entries = manifest["entries"].as_object_mut().unwrap();
        entries.retain(|name, _| !gone(name));
        let seconds = manifest["wireguard"].as_object_mut().unwrap();
        seconds.retain(|name, _| !gone(&format!("configs/{name}")));
        let parts = manifest["parts"].as_object_mut().unwrap();
        parts.retain(|name, _| !gone(name));
    }
    left
}

fn is_config(name: &str) -> bool {
    name.starts_with("configs/") || name.starts_with("wireguard/") || name == "configs"
}

/// Backups that say nothing of clients or of configs: what each lacks, and what makes it of a whole one.
type Lacking = (&'static str, fn(&Backup) -> Backup);

const LACKING: [Lacking; 5] = [
    ("the database of clients", |whole| {
        without(whole, &|n| n == "configs.db")
    }),
    ("every config, of which its list has none", |whole| {
        without(whole, &is_config)
    }),
    ("every config, and the list of them", |whole| {
        without(whole, &is_config).with_metadata(|m| {
            let contents = m["contents"].as_object_mut().unwrap();
            contents.remove("configs");
        })
    }),
    (
        "every config, though its manifest calls them saved",
        |whole| without(whole, &is_config).with_metadata(saved),
    ),
    (
        "clients and configs, though its manifest calls the configs saved",
        |whole| without(whole, &|n| is_config(n) || n == "configs.db").with_metadata(saved),
    ),
];

fn saved(metadata: &mut Value) {
    if let Some(manifest) = metadata.get_mut("holdfast") {
        manifest["parts"]["configs"] = serde_json::json!({ "is": "saved" });
    }
}

/// The application saves no second copy, and so cannot give back one that differs.
fn plain(folder: &Path) -> Sample {
    let shape = Shape {
        active: 2,
        second_copy_differs: false,
        ..Shape::of(6)
    };
    Sample::generate(&folder.join("gateway"), &shape).unwrap()
}

#[test]
fn a_backup_without_clients_or_without_configs_is_restored_and_tunnels_and_configs_stay() {
    let Some(gateway) = Gateway::start(plain) else {
        return;
    };
    let application = gateway.beside("application.zip");
    format_1_0::write(gateway.sample(), &application, false).unwrap();
    let holdfast = gateway.backup();
    let whole = [&application, &holdfast].map(|file| Backup::read(file).unwrap());
    let (tunnels, files) = (up(&gateway), configs(&gateway));
    let names = gateway.sample().clients().unwrap();
    for (lacks, make) in LACKING {
        for whole in &whole {
            let backup = gateway.beside("lacking.zip");
            std::fs::write(&backup, make(whole).bytes().unwrap()).unwrap();
            let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
            let who = whole.metadata["holdfast"]["program"]
                .as_str()
                .unwrap_or("the application");
            assert_eq!(done.code(), 0, "{lacks}, by {who}: {done}");
            assert_eq!(up(&gateway), tunnels, "{lacks}, by {who}: {done}");
            assert!(configs(&gateway) == files, "{lacks}, by {who}: {done}");
            assert_eq!(gateway.sample().clients().unwrap(), names);
            gateway.is_settled();
        }
    }
}

#[test]
fn where_the_rows_stay_a_client_that_a_failing_start_called_inactive_is_active_again_after_both_endings()
 {
    let Some(gateway) = Gateway::start(plain) else {
        return;
    };
    let sample = gateway.sample();
    let active = sample.active().unwrap();
    let whole = Backup::read(&gateway.backup()).unwrap();
    let backup = gateway.beside("lacking.zip");
    let (_, make) = LACKING[0];
    std::fs::write(&backup, make(&whole).bytes().unwrap()).unwrap();
    sample.starts_cannot_see_to(&[&active[0]]).unwrap();
    let tunnels = up(&gateway);
    for (fails, status) in [(None, 0), (Some(2), 4)] {
        if let Some(times) = fails {
            let how = Misbehaviour::FailStart { times: Some(times) };
            sample.misbehave(how).unwrap();
        }
        let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
        assert_eq!(done.code(), status, "{done}");
        assert_eq!(sample.active().unwrap(), active, "{done}");
        assert_eq!(up(&gateway), tunnels, "{done}");
        gateway.is_settled();
    }
}
