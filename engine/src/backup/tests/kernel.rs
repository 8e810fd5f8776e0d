//! Rules and peers as the kernel has them, and the files that keep rules.

use super::*;

#[test]
fn the_files_that_keep_rules_over_a_reboot_are_saved_as_they_are_or_said_not_to_be_there() {
    let gateway = Gateway::new();
    let [v4, v6] = gateway.profile.gateway.firewall.kept.as_slice() else {
        panic!()
    };
    std::fs::create_dir_all(v4.parent().unwrap()).unwrap();
    let bytes = b"# kept by hand \xfc\n*filter\nCOMMIT\n";
    std::fs::write(v4, bytes).unwrap();
    let made = gateway.make().unwrap();
    assert_eq!(bytes_of(&made.path, "holdfast/kept/rules.v4"), bytes);
    let parts = manifest_of(&made.path).parts;
    assert_eq!(parts[&Part::Kept(Family::V4)], PartFate::Saved);
    assert_eq!(parts[&Part::Kept(Family::V6)], PartFate::NotThere);
    // A link may lead to anything: it is named, and what it leads to is not saved.
    let elsewhere = v4.with_file_name("elsewhere");
    std::fs::write(&elsewhere, bytes).unwrap();
    std::fs::set_permissions(&elsewhere, PermissionsExt::from_mode(0o666)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, v6).unwrap();
    let made = gateway.make().unwrap();
    assert_eq!(made.lacks, []);
    let manifest = manifest_of(&made.path);
    assert!(!manifest.entries.contains_key("holdfast/kept/rules.v6"));
    assert_eq!(manifest.links.len(), 1);
    assert!(made.warnings.iter().any(|note| note.is(&Code::WRONG_KIND)));
    // What is not in it is neither called saved, nor something that a restore takes away.
    assert!(!manifest.parts.contains_key(&Part::Kept(Family::V6)));
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // What could not be looked at is not left alone in silence.
    std::fs::remove_file(v6).unwrap();
    std::os::unix::fs::symlink("x".repeat(300), v6).unwrap();
    let made = gateway.make().unwrap();
    let lacks: Vec<&Part> = made.lacks.iter().map(|l| &l.part).collect();
    assert_eq!(lacks, [&Part::Kept(Family::V6)]);
}

#[test]
fn rules_that_are_none_are_saved_as_none_and_rules_that_could_not_be_read_are_not_saved() {
    let mut gateway = Gateway::new();
    gateway.facts.rules_v4 = Some(String::new());
    gateway.facts.rules_v6 = None;
    let rules_v6 = Part::Rules(Family::V6);
    gateway.facts.unread = BTreeMap::from([(rules_v6, "of no shape".to_owned())]);
    let made = gateway.make().unwrap();
    let [lack] = &made.lacks[..] else {
        panic!("{:?}", made.lacks);
    };
    assert_eq!(lack.part, Part::Rules(Family::V6));
    assert_eq!(lack.why, "of no shape");
    let (checked, _) = verify::archive(
        &gateway.profile,
        &shapes(&gateway.profile),
        File::open(&made.path).unwrap(),
        "b.zip",
    )
    .unwrap();
    assert_eq!(checked.rules.v4.as_deref(), Some(""));
    assert_eq!(checked.rules.v6, None);
}

#[test]
fn where_the_kernel_has_no_ipv6_there_is_nothing_of_it_to_save_and_the_backup_is_whole() {
    let mut gateway = Gateway::new();
    gateway.facts.rules_v6 = None;
    let made = gateway.make().unwrap();
    assert_eq!(made.lacks, []);
}

#[test]
fn peers_that_only_the_kernel_has_are_in_the_backup_and_those_of_the_config_are_not_there_twice() {
    let mut gateway = Gateway::new();
    let checked = |gateway: &Gateway| {
        let made = gateway.make().unwrap();
        verify::archive(
            &gateway.profile,
            &shapes(&gateway.profile),
            File::open(&made.path).unwrap(),
            "b.zip",
        )
        .unwrap()
    };
    assert_eq!(checked(&gateway).0.peers, BTreeMap::new());
    for otherwise in [peers(&["10.2.0.0/24", "10.9.0.0/16"]), BTreeMap::new()] {
        gateway.facts.peers = otherwise.clone();
        let then = checked(&gateway).0.peers;
        let had = otherwise.get("a_00000001").cloned().unwrap_or_default();
        assert_eq!(then, BTreeMap::from([("a_00000001".to_owned(), had)]));
    }
    // What was not read is not taken to be none.
    gateway.facts.unread = BTreeMap::from([(Part::Peers, "no wg".to_owned())]);
    assert_eq!(checked(&gateway).0.peers, BTreeMap::new());
}

#[test]
fn however_many_peers_only_the_kernel_has_the_backup_of_this_box_is_taken_back_with_them() {
    let mut gateway = Gateway::new();
    let peers = |count: u32| -> BTreeMap<String, Peers> {
        let line = |n: u32| {
            let [_, a, b, c] = n.to_be_bytes();
            let key = format!("{n:042x}0=");
            format!(
                "a_00000001\t{key}\t{key}\t198.51.100.7:51820\t10.{a}.{b}.{c}/32\t0\t0\t0\t25\n"
            )
        };
        let dump: String = (0..count).map(line).collect();
        peers::in_dump(&dump, &["a_00000001".to_owned()])
    };
    gateway.facts.peers = peers(30_000);
    let made = gateway.make().unwrap();
    let metadata = bytes_of(&made.path, crate::archive::manifest::ENTRY).len();
    assert!(metadata > 5 << 20, "{metadata}");
    let open = || File::open(&made.path).unwrap();
    let (checked, _) =
        verify::archive(&gateway.profile, &shapes(&gateway.profile), open(), "b.zip").unwrap();
    assert_eq!(checked.peers["a_00000001"].len(), 30_000);
    assert!(checked.lost.is_empty(), "{:?}", checked.lost);
    // A restore opens it once more, to unpack it.
    let databases = ["configs.db", "wireguard.db"];
    let limits = Limits::default();
    Archive::open_again(open(), "b.zip", &limits, &databases).unwrap();
    // From elsewhere there are bounds, and they are named.
    gateway.facts.peers = peers(4_001);
    let made = gateway.make().unwrap();
    gateway.profile.state_dir = gateway.dir.path().join("other");
    let file = File::open(&made.path).unwrap();
    let (checked, _) =
        verify::archive(&gateway.profile, &shapes(&gateway.profile), file, "b.zip").unwrap();
    assert!(checked.peers.is_empty());
    let named = |l: &crate::archive::lost::Lost| l.note.text.contains("they are 4001, and of");
    assert!(checked.lost.iter().any(named), "{:?}", checked.lost);
}
