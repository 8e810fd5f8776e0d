//! Peers that the kernel has and no file, and those that were taken away while their tunnel ran.

use super::*;

/// The peers of a tunnel as the kernel has them, but for where they are heard.
fn peers(gateway: &Gateway, tunnel: &str) -> Vec<String> {
    let dump = gateway.run(&["wg", "show", tunnel, "dump"]);
    let plain = |line: &str| {
        let words: Vec<&str> = line.split('\t').collect();
        [words[0], words[1], words[3], words[7]].join(" ")
    };
    let mut peers: Vec<String> = dump.lines().skip(1).map(plain).collect();
    peers.sort();
    peers
}

/// Brings a tunnel down and up by its file, as a reboot does that writes nothing.
fn from_its_file(gateway: &Gateway, tunnel: &str) {
    gateway.run(&["ip", "link", "delete", tunnel]);
    let config = gateway
        .sample()
        .wireguard_dir()
        .join(format!("{tunnel}.conf"));
    gateway.run(&["wg-quick", "up", path(&config)]);
}

#[test]
fn peers_that_are_in_no_file_are_named_and_backed_up_and_come_back_with_their_keys() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let tunnel = tunnel(&gateway);
    let secret = gateway.beside("secret");
    std::fs::write(&secret, SECRET).unwrap();
    gateway.run(&[
        "wg",
        "set",
        &tunnel,
        "peer",
        KEY,
        "allowed-ips",
        "10.77.0.0/16,fd77::/64",
        "preshared-key",
        path(&secret),
        "persistent-keepalive",
        "21",
    ]);
    let was = peers(&gateway, &tunnel);
    let backup = gateway.backup();
    let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    let named = format!("the tunnel {tunnel} has 1 peer that is in no config file");
    assert!(surveyed.contains(&named), "{surveyed}");

    from_its_file(&gateway, &tunnel);
    let is = peers(&gateway, &tunnel);
    assert_ne!(is, was);
    rolled_back(&gateway, &backup);
    assert_eq!(peers(&gateway, &tunnel), is);
    let said = restored(&gateway, &backup, &[]);
    assert_eq!(peers(&gateway, &tunnel), was);
    let gets = format!("{tunnel} gets 2 peers once it is up");
    assert!(said.contains(&gets), "{said}");

    // The way back of a restore from a backup without them has them, too, and so has its safety backup.
    from_its_file(&gateway, &tunnel);
    let without = gateway.backup();
    restored(&gateway, &backup, &[]);
    rolled_back(&gateway, &without);
    assert_eq!(peers(&gateway, &tunnel), was);
    let said = restored(&gateway, &without, &[]);
    assert!(said.contains(&named), "{said}");
    assert_eq!(peers(&gateway, &tunnel), is);

    // Nothing that is written of it says its key.
    let shown = gateway.holdfast(&[
        "journal",
        "show",
        path(&gateway.last_restore().join("journal")),
    ]);
    assert!(!said.contains(SECRET) && !shown.stdout.contains(SECRET));
    for restore in gateway.restores() {
        for file in files_below(&restore) {
            let is_for_going_back = ["before", "after"]
                .iter()
                .any(|f| file.starts_with(restore.join(f)));
            let bytes = std::fs::read(&file).unwrap();
            let told = bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes());
            assert!(!told || is_for_going_back, "{}", file.display());
        }
    }
}

#[test]
fn a_peer_that_was_taken_away_while_its_tunnel_ran_stays_away_although_its_config_has_it() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let tunnel = tunnel(&gateway);
    let all = peers(&gateway, &tunnel);
    let key = all[0].split(' ').next().unwrap();
    gateway.run(&["wg", "set", &tunnel, "peer", key, "remove"]);
    assert!(peers(&gateway, &tunnel).is_empty());
    let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    assert!(
        surveyed.contains("lacks 1 peer of its config"),
        "{surveyed}"
    );
    let backup = gateway.backup();
    from_its_file(&gateway, &tunnel);
    assert_eq!(peers(&gateway, &tunnel), all);
    restored(&gateway, &backup, &[]);
    assert!(peers(&gateway, &tunnel).is_empty());
}

#[test]
fn a_tunnel_whose_file_has_no_peer_since_all_were_set_while_it_runs_comes_back_with_them() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let tunnel = tunnel(&gateway);
    let sample = gateway.sample();
    for dir in [sample.configs_dir(), sample.wireguard_dir()] {
        let file = dir.join(format!("{tunnel}.conf"));
        let text = std::fs::read_to_string(&file).unwrap();
        let interface = text.split("[Peer]").next().unwrap();
        std::fs::write(&file, format!("{interface}SaveConfig = true\n")).unwrap();
    }
    from_its_file(&gateway, &tunnel);
    gateway.run(&[
        "wg",
        "set",
        &tunnel,
        "peer",
        KEY,
        "allowed-ips",
        "10.77.0.0/16",
    ]);
    let was = peers(&gateway, &tunnel);
    assert_eq!(was.len(), 1);
    let backup = gateway.backup();
    from_its_file(&gateway, &tunnel);
    assert!(peers(&gateway, &tunnel).is_empty());
    restored(&gateway, &backup, &[]);
    assert_eq!(peers(&gateway, &tunnel), was);
    // As before, going down writes them into the file.
    let config = sample.wireguard_dir().join(format!("{tunnel}.conf"));
    gateway.run(&["wg-quick", "down", path(&config)]);
    assert!(std::fs::read_to_string(&config).unwrap().contains(KEY));
}

#[test]
fn a_client_that_is_added_while_the_backup_is_made_is_in_it_with_its_tunnel_and_peers() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sample = gateway.sample();
    let database = sample.client_database();
    let added = gateway.beside("added");
    // The client comes right after the first look at the tunnels.
    let script = format!(
        "#!/bin/sh\n/usr/bin/wg \"$@\"; ended=$?\n\
         case \"$*\" in\n\
         'show interfaces') test ! -e {added} || echo late ;;\n\
         'show all dump') if test -e {added}\n\
           then printf 'late\\t{KEY}\\t(none)\\t(none)\\t10.9.9.9/32\\t0\\t0\\t0\\toff\\n'\n\
           else touch {added}\n\
             printf '[Interface]\\nPrivateKey = {KEY}\\n[Peer]\\nPublicKey = {SECRET}\\nAllowedIPs = 10.9.9.8/32\\n' > {configs}/late.conf\n\
             cp {configs}/late.conf {wireguard}/late.conf\n\
             sqlite3 {database} \"INSERT INTO clients (id, name, config_path, subnet, public_key, status) VALUES ('late', 'late', 'p', 's', 'k', 'active')\"\n\
           fi ;;\n\
         esac\nexit $ended\n",
        added = added.display(),
        configs = sample.configs_dir().display(),
        wireguard = sample.wireguard_dir().display(),
        database = database.display(),
    );
    crate::on_a_gateway::stand_in(&gateway, "wg", &script);
    let backup = gateway.backup();
    let mut zip = zip::ZipArchive::new(std::fs::File::open(&backup).unwrap()).unwrap();
    let metadata = zip.by_name("backup_metadata.json").unwrap();
    let metadata: serde_json::Value = serde_json::from_reader(metadata).unwrap();
    let manifest = &metadata["holdfast"];
    assert!(manifest["entries"]["configs/late.conf"].is_object());
    let up = manifest["tunnels_up"].as_array().unwrap();
    assert!(up.iter().any(|name| name == "late"), "{up:?}");
    assert!(manifest["peers"]["late"][KEY].is_object(), "{manifest}");
    assert!(manifest.get("unpaired").is_none(), "{manifest}");
}
