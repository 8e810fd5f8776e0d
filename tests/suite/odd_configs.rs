//! Configs that no upload makes and that people have all the same: a restore brings each back as it was, here and on another
//! box, or names it and leaves what is here alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use fixtures::hostile::Backup;

use crate::on_a_gateway::{Gateway, path, small};

/// A config of the small gateway whose tunnel is down, and its text.
fn a_config(backup: &Backup) -> (String, Vec<u8>) {
    let up = backup.tunnels_up();
    let mut configs = backup.entries.iter().filter_map(|(name, bytes)| {
        let stem = name.strip_prefix("configs/")?.strip_suffix(".conf")?;
        let down = !up.iter().any(|name| name == stem);
        down.then(|| (stem.to_owned(), bytes.clone()))
    });
    configs.next_back().unwrap()
}

/// Writes an archive outside the gateway.
fn archive(gateway: &Gateway, backup: &Backup) -> PathBuf {
    let file = gateway.beside("odd.zip");
    std::fs::write(&file, backup.bytes().unwrap()).unwrap();
    file
}

/// With this config in both places.
fn with_config(backup: &Backup, name: &str, bytes: &[u8]) -> Backup {
    let entry = format!("configs/{name}.conf");
    backup.with(&entry, bytes).with_metadata(|m| {
        m["holdfast"]["wireguard"][format!("{name}.conf")] = 0.into();
    })
}

#[test]
fn configs_whose_names_differ_only_in_case_are_two_files_here_and_on_a_new_box() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sound = Backup::read(&gateway.backup()).unwrap();
    let (_, text) = a_config(&sound);
    let names = ["Site", "site", "S\u{f6}", "So\u{308}"];
    let bytes = |name: &str| [&text[..], b"# ", name.as_bytes(), b"\n"].concat();
    let odd = names.iter().fold(sound, |backup, name| {
        with_config(&backup, name, &bytes(name))
    });
    let new = Gateway::start(small).unwrap();
    for gateway in [&gateway, &new] {
        let file = archive(gateway, &odd);
        gateway
            .holdfast(&["restore", path(&file), "--yes"])
            .ok()
            .unwrap();
        for name in names {
            let file = format!("{name}.conf");
            for folder in [
                gateway.sample().configs_dir(),
                gateway.sample().wireguard_dir(),
            ] {
                assert_eq!(std::fs::read(folder.join(&file)).unwrap(), bytes(name));
            }
        }
        gateway.is_settled();
    }
}
