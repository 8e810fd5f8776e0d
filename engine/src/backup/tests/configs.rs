//! Configs of every kind: which are saved, and as what.

use super::*;

#[test]
fn a_second_copy_is_an_entry_only_where_it_differs_and_strangers_stay_out() {
    let gateway = Gateway::new();
    gateway.write("wireguard", "b_00000002", &config(9));
    gateway.write("wireguard", "wg0", &config(10));
    gateway
        .open("configs.db")
        .execute_batch("INSERT INTO clients (id, name, config_path, subnet, public_key, status) VALUES ('c','c_00000003','p','s','k','inactive')")
        .unwrap();
    gateway.write("wireguard", "c_00000003", &config(11));
    std::fs::remove_file(
        gateway
            .profile
            .gateway
            .wireguard_dir
            .join("a_00000001.conf"),
    )
    .unwrap();
    let made = gateway.make().unwrap();
    let second: Vec<_> = entries(&made.path)
        .into_iter()
        .filter(|e| e.starts_with("wireguard/"))
        .collect();
    assert_eq!(
        second,
        ["wireguard/b_00000002.conf", "wireguard/c_00000003.conf"]
    );
    let (checked, _) = verify::archive(
        &gateway.profile,
        &shapes(&gateway.profile),
        File::open(&made.path).unwrap(),
        "b.zip",
    )
    .unwrap();
    assert!(
        checked.configs["a_00000001.conf"].second.is_none(),
        "it had no second copy"
    );
    assert!(
        checked.configs["c_00000003.conf"].first.is_none(),
        "it had no first copy"
    );
    assert_eq!(checked.configs["b_00000002.conf"].listen_port, Some(9));
}

#[test]
fn what_is_no_config_is_named_and_left_as_it_is_and_the_backup_is_whole() {
    let gateway = Gateway::new();
    let dir = &gateway.profile.gateway.configs_dir;
    std::os::unix::fs::symlink("/etc/host name", dir.join("link.conf")).unwrap();
    std::fs::create_dir(dir.join("folder.conf")).unwrap();
    nix::unistd::mkfifo(&dir.join("fifo.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::net::UnixListener::bind(dir.join("socket.conf")).unwrap();
    let old = std::time::UNIX_EPOCH - Duration::from_secs(400_000_000);
    gateway.write("instance/configs", "ancient_1", &config(8));
    let ancient = File::options().write(true).open(dir.join("ancient_1.conf"));
    ancient.unwrap().set_modified(old).unwrap();
    half_is_old();
    let made = gateway.make().unwrap();
    let said: Vec<&str> = made.warnings.iter().map(|note| &*note.text).collect();
    let said = said.join("\n").replace(dir.to_str().unwrap(), "CONFIGS");
    insta::assert_snapshot!(said, @r"
    CONFIGS/fifo.conf is not saved: it is not a regular file; a restore leaves it as it is
    CONFIGS/folder.conf is not saved: it is a folder; a restore leaves it as it is
    CONFIGS/link.conf is a link to /etc/host%20name: neither is saved, and a restore leaves both as they are
    CONFIGS/socket.conf is not saved: it is not a regular file; a restore leaves it as it is
    ");
    assert_eq!(made.lacks, []);
    let manifest = manifest_of(&made.path);
    let link = dir.join("link.conf").display().to_string();
    let links = BTreeMap::from([(link, "/etc/host%20name".to_owned())]);
    assert_eq!(manifest.links, links);
    let left: Vec<&str> = manifest.left_out.iter().map(String::as_str).collect();
    assert_eq!(
        left,
        ["fifo.conf", "folder.conf", "link.conf", "socket.conf"]
    );
    assert!(
        entries(&made.path).contains(&"configs/ancient_1.conf".to_owned()),
        "a time before 1980 is no obstacle"
    );
}

#[test]
fn every_config_is_saved_as_it_is_whoever_could_read_it() {
    let gateway = Gateway::new();
    let there = unusual(&gateway);
    let made = gateway.make().unwrap();
    assert_eq!(made.lacks, []);
    let manifest = manifest_of(&made.path);
    for (entry, bytes) in there {
        assert_eq!(bytes_of(&made.path, entry), bytes, "{entry}");
        let owner = manifest.entries[entry].owner.unwrap();
        assert_eq!(manifest.owners[owner].mode & 0o600, 0o600);
    }
    assert_eq!(manifest.format, 2);
    assert!(!manifest.wireguard.contains_key("a_00000001.conf"));
    assert!(manifest.wireguard.contains_key("b_00000002.conf"));
}

#[test]
fn names_that_differ_only_in_case_are_two_files() {
    let gateway = Gateway::new();
    for (name, port) in [("Site_1", 7), ("site_1", 8), ("SITE_1", 9)] {
        gateway.write("instance/configs", name, &config(port));
        gateway.write("wireguard", name, &config(port + 100));
    }
    half_is_old();
    let made = gateway.make().unwrap();
    assert_eq!(made.warnings, []);
    for (name, port) in [("Site_1", 7), ("site_1", 8), ("SITE_1", 9)] {
        let of = |folder: &str| bytes_of(&made.path, &format!("{folder}/{name}.conf"));
        assert_eq!(of("configs"), config(port).into_bytes());
        assert_eq!(of("wireguard"), config(port + 100).into_bytes());
    }
}

#[test]
fn a_folder_of_configs_that_is_a_link_makes_the_backup_incomplete() {
    let gateway = Gateway::new();
    let dir = &gateway.profile.gateway.wireguard_dir;
    let moved = gateway.dir.path().join("moved");
    std::fs::rename(dir, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, dir).unwrap();
    let made = gateway.make().unwrap();
    let [lack] = made.lacks.as_slice() else {
        panic!("{:?}", made.lacks)
    };
    assert_eq!(lack.part, Part::Configs);
    assert!(lack.why.contains(dir.to_str().unwrap()), "{lack}");
    assert!(entries(&made.path).contains(&"configs/a_00000001.conf".to_owned()));
}

#[test]
fn a_folder_of_configs_that_is_gone_makes_the_backup_incomplete() {
    let gateway = Gateway::new();
    for dir in [
        &gateway.profile.gateway.configs_dir,
        &gateway.profile.gateway.wireguard_dir,
    ] {
        let aside = dir.with_extension("aside");
        std::fs::rename(dir, &aside).unwrap();
        let made = gateway.make().unwrap();
        assert_eq!(made.lacks[0].part, Part::Configs);
        assert!(made.lacks[0].why.contains(dir.to_str().unwrap()));
        std::fs::rename(&aside, dir).unwrap();
    }
}
