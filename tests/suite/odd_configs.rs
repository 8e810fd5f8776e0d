//! Configs that no upload makes and that people have all the same: a restore brings each back as it was, here and on another
//! box, or names it and leaves what is here alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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

/// The folders of both copies.
fn folders(gateway: &Gateway) -> [PathBuf; 2] {
    let sample = gateway.sample();
    [sample.configs_dir(), sample.wireguard_dir()]
}

#[test]
fn a_comment_that_is_not_utf8_comes_back_with_its_tunnel_here_and_on_a_new_box() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let old = gateway.backup();
    let sample = gateway.sample();
    let tunnel = &sample.active().unwrap()[0];
    let file = format!("{tunnel}.conf");
    let text = fs::read(sample.config(tunnel)).unwrap();
    let odd = [b"# B\xfcro\n[Interface]\nPostDown = true \xfc\n", &text[..]].concat();
    for folder in folders(&gateway) {
        fs::write(folder.join(&file), &odd).unwrap();
    }
    let picture = gateway.picture();
    gateway.told_by_restore(&old);
    let safety = gateway.backups().pop().unwrap();
    let said = gateway.told_by_restore(&safety);
    gateway.is(&picture);
    assert!(
        said.contains("PostDown (\\x: bytes that are not UTF-8) = true \\xfc"),
        "{said}"
    );

    let new = Gateway::start(small).unwrap();
    let there = new.beside("safety.zip");
    fs::copy(&safety, &there).unwrap();
    new.told_by_restore(&there);
    for folder in folders(&new) {
        assert_eq!(fs::read(folder.join(&file)).unwrap(), odd);
    }
    new.run(&["ip", "link", "show", tunnel]);
}

/// Configs that the gateway's own reader would not take, and names that no plan can name.
fn odd() -> Vec<(&'static [u8], Vec<u8>)> {
    vec![
        (b"empty.conf", Vec::new()),
        (b"no_peer.conf", b"[Interface]\nListenPort = 1\n".to_vec()),
        (b"text.conf", b"hello \xfe".to_vec()),
        (b"nul.conf", b"[Interface]\nPost\0Up = true\n".to_vec()),
        (b"long.conf", vec![b'#'; 2 << 20]),
        (b"a..b.conf", b"[Interface]\n[Peer]\n".to_vec()),
        (b"back\\slash.conf", b"[Interface]\n[Peer]\n".to_vec()),
        (b"b\xfcro.conf", b"[Interface]\n[Peer]\n".to_vec()),
        (b"bell\x07.conf", b"[Interface]\n[Peer]\n".to_vec()),
    ]
}

#[test]
fn whatever_lies_among_the_configs_is_as_it_was_once_its_backup_is_restored_here_and_there() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    for folder in folders(&gateway) {
        for (name, bytes) in odd() {
            fs::write(folder.join(OsStr::from_bytes(name)), bytes).unwrap();
        }
    }
    let picture = gateway.picture();
    let backup = gateway.backup();
    gateway.told_by_restore(&backup);
    gateway.is(&picture);
    let by_hand = [&b"b\xfcro.conf"[..], b"bell\x07.conf"];
    for folder in folders(&gateway) {
        for (name, _) in odd().iter().filter(|(n, _)| !by_hand.contains(n)) {
            fs::write(folder.join(OsStr::from_bytes(name)), b"changed").unwrap();
        }
        fs::remove_file(folder.join("empty.conf")).unwrap();
    }
    let said = gateway.told_by_restore(&backup);
    gateway.is(&picture);
    for command in [
        "holdfast/raw/configs/b%FCro.conf > $'b\\xfcro.conf'",
        "bell%07.conf",
    ] {
        assert!(said.contains(command), "{said}");
    }
    assert!(
        said.contains("anything = cannot be vetted: line 2 holds a NUL byte"),
        "{said}"
    );

    let new = Gateway::start(small).unwrap();
    let there = new.beside("odd.zip");
    fs::copy(&backup, &there).unwrap();
    new.told_by_restore(&there);
    for folder in folders(&new) {
        for (name, bytes) in odd() {
            let file = folder.join(OsStr::from_bytes(name));
            match by_hand.contains(&name) {
                true => assert!(!file.exists()),
                false => assert_eq!(fs::read(&file).unwrap(), bytes, "{file:?}"),
            }
        }
    }
}

#[test]
fn a_link_a_folder_and_a_pipe_among_the_configs_are_left_as_they_are_and_named() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sample = gateway.sample();
    let sound = gateway.backup();
    let client = sample.active().unwrap().remove(0);
    let target = gateway.beside("target");
    fs::write(&target, "somebody's").unwrap();
    let link = sample.config(&client);
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let first = sample.configs_dir();
    std::os::unix::fs::symlink("../nowhere", first.join("link.conf")).unwrap();
    fs::create_dir(first.join("folder.conf")).unwrap();
    gateway.run(&["mkfifo", path(&first.join("pipe.conf"))]);

    let picture = gateway.picture();
    let made = gateway.holdfast(&["backup"]);
    gateway.told_by_restore(Path::new(made.stdout.trim()));
    gateway.is(&picture);
    // In this one there is a config in the place of the link.
    let said = gateway.told_by_restore(&sound);
    for file in [&link, &first.join("folder.conf"), &first.join("pipe.conf")] {
        assert!(said.contains(&file.display().to_string()), "{said}");
    }
    assert!(said.contains(" is not a regular file"), "{said}");
    assert!(
        said.contains("lost: ") && said.contains("is not put there"),
        "{said}"
    );
    // Neither does the verdict say that the gateway is as that backup says.
    for what in [
        format!("1 file ({})", link.display()),
        "3 places without a regular file (".to_owned(),
    ] {
        let line = format!("left out: {what}");
        let of_plan = said.lines().any(|l| l.starts_with(&format!("  {line}")));
        assert!(
            of_plan && said.lines().any(|l| l.starts_with(&line)),
            "{said}"
        );
        let verdict = said.lines().find(|l| l.starts_with("Restored in part"));
        assert!(verdict.is_some_and(|v| v.contains(&what)), "{said}");
    }
    gateway.is(&picture);
    assert_eq!(fs::read_to_string(target).unwrap(), "somebody's");
}

#[test]
fn what_lies_in_the_folder_of_wg_quick_under_a_clients_name_and_is_no_file_is_named_by_a_backup() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sample = gateway.sample();
    let [first, second] = folders(&gateway);
    let up = sample.active().unwrap();
    let clients = sample.clients().unwrap();
    let down: Vec<&String> = clients.iter().filter(|c| !up.contains(c)).collect();
    let file = |folder: &Path, client: &str| folder.join(format!("{client}.conf"));
    let [link, folder, pipe] = [down[0], down[1], &up[0]].map(|client| file(&second, client));
    for path in [&link, &folder, &pipe] {
        fs::remove_file(path).unwrap();
    }
    std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
    fs::create_dir(&folder).unwrap();
    gateway.run(&["mkfifo", path(&pipe)]);
    // Only its row says that it is a client's.
    fs::remove_file(file(&first, down[0])).unwrap();
    let made = gateway.holdfast(&["backup"]);
    for path in [&link, &folder, &pipe] {
        assert!(made.stderr.contains(&path.display().to_string()), "{made}");
    }

    // Of rows that nobody can read none says whose it is.
    fs::write(sample.client_database(), "no database").unwrap();
    let made = gateway.holdfast(&["backup"]);
    let said = format!("in {}: the clients cannot be read", second.display());
    assert_eq!(made.code(), 8, "{made}");
    assert!(made.stderr.contains(&said), "{made}");
    for path in [&link, &folder, &pipe] {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(made.stderr.contains(name), "{made}");
    }
}

#[test]
fn what_a_backup_could_not_save_is_never_taken_for_what_was_not_there() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sample = gateway.sample();
    let large = sample.configs_dir().join("large.conf");
    fs::File::create(&large).unwrap().set_len(17 << 20).unwrap();
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 8, "{made}");
    let said = gateway.told_by_restore(Path::new(made.stdout.trim()));
    assert!(said.contains("the configs could not be saved: "), "{said}");
    assert_eq!(large.metadata().unwrap().len(), 17 << 20);
    fs::remove_file(large).unwrap();

    // Neither is the database of clients, nor any other part.
    let picture = gateway.picture();
    let sound = Backup::read(&gateway.backup()).unwrap();
    let parts = [
        "configs.db",
        "wireguard.db",
        "configs",
        "rules-v4",
        "kept-v4",
    ];
    for part in parts {
        let mut lacks = sound.clone();
        let gone = |name: &str| match part {
            "configs" => name.starts_with("configs/") || name.starts_with("wireguard/"),
            "rules-v4" => name.starts_with("iptables_"),
            "kept-v4" => name == "holdfast/kept/rules.v4",
            database => name == database,
        };
        lacks.entries.retain(|(name, _)| !gone(name));
        let metadata = &mut lacks.metadata;
        for list in ["databases", "configs", "iptables_rules"] {
            let names = metadata["contents"][list].as_array_mut().unwrap();
            let folder = if list == "configs" { "configs/" } else { "" };
            names.retain(|n| !gone(&format!("{folder}{}", n.as_str().unwrap())));
        }
        let manifest = &mut metadata["holdfast"];
        manifest["entries"]
            .as_object_mut()
            .unwrap()
            .retain(|name, _| !gone(name));
        if part == "configs" {
            manifest["wireguard"] = serde_json::json!({});
        }
        manifest["parts"][part] = serde_json::json!({ "is": "not-saved", "why": "it was busy" });
        let file = archive(&gateway, &lacks);
        let said = gateway.told_by_restore(&file);
        let first = said.find("could not be saved: it was busy").unwrap();
        let others = said.find("  warning: ").unwrap_or(usize::MAX);
        assert!(first < others, "{part}: {said}");
        // Without rules to load, tunnels and services add theirs to those of now.
        let added = |name: &str| part == "rules-v4" && name.starts_with("iptables-save");
        let now = gateway.picture().without(added);
        let then = picture.clone().without(added);
        assert_eq!(then.diff(&now), Vec::<String>::new(), "{part}");
    }
}

#[test]
fn a_tunnel_that_cannot_come_up_holds_nobody_else_up() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sample = gateway.sample();
    let active = sample.active().unwrap();
    let sound = Backup::read(&gateway.backup()).unwrap();
    let entry = format!("configs/{}.conf", active[0]);
    let text = String::from_utf8(sound.entry(&entry).unwrap().to_vec()).unwrap();
    let bad = text.replace("PrivateKey = ", "PrivateKey = x");
    let odd = with_config(&sound, &active[0], bad.as_bytes());
    let file = archive(&gateway, &odd);
    let done = gateway.holdfast(&["restore", path(&file), "--yes"]);
    assert_eq!(done.code(), 7, "{done}");
    let said = done.to_string();
    let lost = format!(
        "does not work: the tunnel {} was up and stays down: line ",
        active[0]
    );
    assert!(
        said.contains(&lost) && said.contains("PrivateKey is no key"),
        "{said}"
    );
    let up = gateway.run(&["wg", "show", "interfaces"]);
    let up: Vec<&str> = up.split_whitespace().collect();
    assert!(
        !up.contains(&active[0].as_str()) && up.contains(&active[1].as_str()),
        "{up:?}"
    );
    assert_eq!(sample.active().unwrap(), active[1..]);
    assert_eq!(fs::read_to_string(sample.config(&active[0])).unwrap(), bad);
}

#[test]
fn a_backup_of_a_gateway_without_clients_takes_those_of_now_away_and_says_that_all_is_as_it_says() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sample = gateway.sample();
    let good = gateway.backup();
    let picture = gateway.picture();
    let configs = |folder: &Path| -> Vec<PathBuf> {
        let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        names
            .filter(|p| p.extension() == Some(OsStr::new("conf")))
            .collect()
    };
    let [first, second] = folders(&gateway);
    for tunnel in sample.active().unwrap() {
        gateway.run(&["ip", "link", "del", "dev", &tunnel]);
    }
    let ours: Vec<OsString> = configs(&first)
        .iter()
        .map(|p| p.file_name().unwrap().to_owned())
        .collect();
    for name in &ours {
        for folder in [&first, &second] {
            let _ = fs::remove_file(folder.join(name));
        }
    }
    let clients = rusqlite::Connection::open(sample.client_database()).unwrap();
    clients
        .execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM clients")
        .unwrap();
    drop(clients);
    let empty = gateway.backup();
    gateway.told_by_restore(&good);
    assert_eq!(configs(&first).len(), ours.len());
    let said = gateway.told_by_restore(&empty);
    assert_eq!(configs(&first), Vec::<PathBuf>::new());
    assert!(
        configs(&second)
            .iter()
            .all(|p| !ours.contains(&p.file_name().unwrap().to_owned()))
    );
    assert!(
        said.contains("Restored: the gateway is as the backup says."),
        "{said}"
    );
    gateway.told_by_restore(&good);
    gateway.is(&picture);
}
