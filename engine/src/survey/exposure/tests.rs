#![allow(clippy::unwrap_used)]
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::*;
use crate::host::linux::Linux;

const GATEWAY: u32 = 61_000;

struct Box {
    dir: tempfile::TempDir,
    profile: Profile,
}

/// A gateway as its installer leaves it; none where this is not root's to make.
fn installed() -> Option<Box> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut profile = Profile::default();
    profile.gateway.owner = format!("{GATEWAY}:{GATEWAY}");
    profile.gateway.configs_dir = dir.path().join("instance/configs");
    profile.gateway.wireguard_dir = dir.path().join("wireguard");
    profile.gateway.database.truncate(2);
    profile.gateway.database[0].path = dir.path().join("instance/configs.db");
    profile.gateway.database[1].path = dir.path().join("var/wireguard.db");
    let made = Box { dir, profile };
    for (folder, uid, mode) in [
        ("instance", GATEWAY, 0o755),
        ("instance/configs", GATEWAY, 0o750),
        ("wireguard", 0, 0o700),
        ("var", 0, 0o777),
    ] {
        std::fs::create_dir(made.at(folder)).unwrap();
        made.set(folder, uid, mode);
    }
    for (file, uid, mode) in [
        ("instance/configs.db", GATEWAY, 0o666),
        ("var/wireguard.db", GATEWAY, 0o666),
        ("instance/configs/a.conf", GATEWAY, 0o644),
        ("wireguard/a.conf", 0, 0o644),
        ("wireguard/strange.conf", 0, 0o644),
    ] {
        std::fs::write(made.at(file), "x").unwrap();
        made.set(file, uid, mode);
    }
    Some(made)
}

impl Box {
    fn host(&self) -> Linux {
        Linux::new(&self.profile)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn set(&self, name: &str, uid: u32, mode: u32) {
        chown(self.at(name), Some(uid), Some(uid)).unwrap();
        std::fs::set_permissions(self.at(name), PermissionsExt::from_mode(mode)).unwrap();
    }

    fn look(&self) -> Exposure {
        look(
            &self.host(),
            &self.profile,
            &BTreeSet::from(["a.conf".to_owned()]),
        )
    }

    fn said(&self) -> String {
        let found = self.look();
        let changes = found.exposed.iter().map(Exposed::change);
        let problems = found.problems.iter().map(|p| p.to_string());
        let root = format!("{}/", self.dir.path().display());
        let lines: Vec<String> = changes.chain(problems).collect();
        lines.join("\n").replace(&root, "")
    }
}

#[test]
fn what_the_installer_leaves_open_is_closed_and_the_gateways_account_still_gets_at_it() {
    let Some(gateway) = installed() else { return };
    insta::assert_snapshot!(gateway.said(), @r"
    instance: mode 0755 -> 0750
    var: owner 61000:61000, mode 0777 -> 0750
    instance/configs.db: mode 0666 -> 0660
    var/wireguard.db: mode 0666 -> 0660
    instance/configs/a.conf: mode 0644 -> 0640
    wireguard/a.conf: owner 0:61000, mode 0644 -> 0640
    ");
    close(&gateway.look().exposed, |_| ()).unwrap();
    assert_eq!(gateway.said(), "");
    let var = gateway.at("var").metadata().unwrap();
    assert_eq!((var.uid(), var.mode() & 0o7777), (GATEWAY, 0o750));
    let strange = gateway.at("wireguard/strange.conf").metadata().unwrap();
    assert_eq!(strange.mode() & 0o7777, 0o644, "it is not the gateway's");
}

#[test]
fn a_users_database_opens_no_page_while_others_may_write_it_or_its_folder() {
    let Some(gateway) = installed() else { return };
    let users = &gateway.profile.gateway.database[1];
    let exposed = || of_database(&gateway.host(), &gateway.profile, users);
    let problem = exposed().unwrap();
    assert!(problem.what.contains("var (mode 0777) and to"), "{problem}");
    assert!(problem.advice.contains(COMMAND), "{problem}");
    for (folder, file, open) in [
        ((GATEWAY, 0o750), (GATEWAY, 0o660), false),
        ((0, 0o755), (0, 0o644), false),
        ((GATEWAY, 0o750), (GATEWAY, 0o666), true),
        ((GATEWAY, 0o757), (GATEWAY, 0o660), true),
        ((0, 0o1777), (GATEWAY, 0o660), true),
        ((GATEWAY, 0o750), (4_711, 0o600), true),
        ((4_711, 0o750), (GATEWAY, 0o660), true),
    ] {
        gateway.set("var", folder.0, folder.1);
        gateway.set("var/wireguard.db", file.0, file.1);
        assert_eq!(exposed().is_some(), open, "{folder:?} {file:?}");
    }
    // A group that is neither root's nor the gateway's.
    gateway.set("var", GATEWAY, 0o770);
    gateway.set("var/wireguard.db", GATEWAY, 0o660);
    assert!(exposed().is_none());
    chown(gateway.at("var"), None, Some(4_711)).unwrap();
    assert!(exposed().is_some());
}

#[test]
fn nothing_is_given_to_a_stranger_and_no_folder_of_everybodys_is_closed() {
    let Some(gateway) = installed() else { return };
    gateway.set("var/wireguard.db", 4_711, 0o660);
    let found = gateway.look();
    let given: Vec<u32> = found
        .exposed
        .iter()
        .filter_map(|e| Some(e.given_to?.0))
        .collect();
    assert!(!given.contains(&4_711), "{given:?}");
    assert!(gateway.said().contains("belongs to user 4711"));
    gateway.set("var", 0, 0o1777);
    let said = gateway.said();
    assert!(!said.contains("var: "), "{said}");
    assert!(said.contains("it is not the gateway's alone"), "{said}");
}

#[test]
fn what_was_swapped_after_it_was_looked_at_is_not_touched() {
    let Some(gateway) = installed() else { return };
    let victim = gateway.at("victim");
    std::fs::write(&victim, "x").unwrap();
    std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o666)).unwrap();
    let config = gateway.at("instance/configs/a.conf");
    // This one alone: what comes before it would be closed the first time.
    let mut found = gateway.look().exposed;
    found.retain(|e| e.path == config);
    assert_eq!(found.len(), 1);
    // Kept, so that no other file gets its number.
    std::fs::rename(&config, gateway.at("aside")).unwrap();
    for plant in ["link", "second name", "another file"] {
        match plant {
            "link" => std::os::unix::fs::symlink(&victim, &config).unwrap(),
            "second name" => std::fs::hard_link(&victim, &config).unwrap(),
            _ => {
                std::fs::write(&config, "of the same mode").unwrap();
                gateway.set("instance/configs/a.conf", GATEWAY, 0o644);
            }
        }
        assert!(close(&found, |_| ()).is_err(), "{plant}");
        std::fs::remove_file(&config).unwrap();
        assert_eq!(victim.metadata().unwrap().mode() & 0o7777, 0o666);
    }
}

#[test]
fn a_folder_on_the_way_that_was_swapped_for_a_link_leads_nowhere() {
    let Some(gateway) = installed() else { return };
    let found = gateway.look();
    let elsewhere = gateway.at("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("a.conf"), "x").unwrap();
    std::fs::set_permissions(elsewhere.join("a.conf"), PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::rename(gateway.at("instance/configs"), gateway.at("instance/aside")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, gateway.at("instance/configs")).unwrap();
    assert!(close(&found.exposed, |_| ()).is_err());
    let again = gateway.look();
    assert!(
        again
            .exposed
            .iter()
            .all(|e| !e.path.ends_with("configs/a.conf"))
    );
    let _ = close(&again.exposed, |_| ());
    let mode = elsewhere.join("a.conf").metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o644);
}

#[test]
fn a_database_of_roots_that_the_gateway_writes_as_everybody_it_writes_afterwards_by_its_group() {
    let Some(gateway) = installed() else { return };
    gateway.set("var/wireguard.db", 0, 0o666);
    close(&gateway.look().exposed, |_| ()).unwrap();
    let (folder, file) = (gateway.at("var"), gateway.at("var/wireguard.db"));
    let of = |p: &Path| {
        let m = p.metadata().unwrap();
        (m.uid(), m.gid(), m.mode() & 0o7777)
    };
    assert_eq!(of(&folder), (GATEWAY, GATEWAY, 0o750));
    assert_eq!(of(&file), (0, GATEWAY, 0o660));
    let users = &gateway.profile.gateway.database[1];
    assert!(of_database(&gateway.host(), &gateway.profile, users).is_none());
}

#[test]
fn side_files_lists_and_folders_above_count_as_ways_in() {
    let Some(gateway) = installed() else { return };
    close(&gateway.look().exposed, |_| ()).unwrap();
    let users = &gateway.profile.gateway.database[1];
    let exposed = || of_database(&gateway.host(), &gateway.profile, users).map(|p| p.what);
    assert_eq!(exposed(), None);
    let wal = gateway.at("var/wireguard.db-wal");
    std::fs::write(&wal, "x").unwrap();
    gateway.set("var/wireguard.db-wal", GATEWAY, 0o666);
    assert!(exposed().unwrap().contains("wireguard.db-wal"));
    close(&gateway.look().exposed, |_| ()).unwrap();
    assert_eq!(exposed(), None);
    let above = gateway.dir.path();
    std::fs::set_permissions(above, PermissionsExt::from_mode(0o777)).unwrap();
    assert!(exposed().unwrap().contains("(mode 0777)"));
    assert!(gateway.said().contains("chmod go-w"));
    std::fs::set_permissions(above, PermissionsExt::from_mode(0o700)).unwrap();
    // Version 2; the owner rw, user 4711 rw, the group r, the mask rw, others nothing.
    let entry = |tag: u16, perm: u16, id: u32| {
        [
            &tag.to_le_bytes()[..],
            &perm.to_le_bytes(),
            &id.to_le_bytes(),
        ]
        .concat()
    };
    let list = [
        2u32.to_le_bytes().to_vec(),
        entry(1, 6, u32::MAX),
        entry(2, 6, 4_711),
        entry(4, 4, u32::MAX),
        entry(16, 6, u32::MAX),
        entry(32, 0, u32::MAX),
    ];
    let database = gateway.at("var/wireguard.db");
    let set = rustix::fs::setxattr(
        &database,
        "system.posix_acl_access",
        &list.concat(),
        rustix::fs::XattrFlags::empty(),
    );
    // Not every filesystem keeps such lists.
    if set.is_ok() {
        assert!(exposed().unwrap().contains("access control list"));
        assert!(gateway.said().contains("setfacl -b"));
    }
}

/// Else a plan that was approved would be refused a moment later, for the application writes all the time.
#[test]
fn a_file_that_sqlite_keeps_beside_an_open_database_is_closed_with_it_and_changes_no_word() {
    let Some(gateway) = installed() else { return };
    let before = gateway.look().sentences();
    let journal = "instance/configs.db-journal";
    std::fs::write(gateway.at(journal), "x").unwrap();
    gateway.set(journal, GATEWAY, 0o666);
    let found = gateway.look();
    assert_eq!(found.sentences(), before);
    assert!(found.exposed.iter().any(|e| e.path.ends_with(journal)));
    // By now it is another one.
    std::fs::remove_file(gateway.at(journal)).unwrap();
    std::fs::write(gateway.at("instance/other"), "keeps its number").unwrap();
    std::fs::write(gateway.at(journal), "another").unwrap();
    gateway.set(journal, GATEWAY, 0o660);
    close(&found.exposed, |_| ()).unwrap();
    // One that is open beside a closed database is told.
    gateway.set(journal, GATEWAY, 0o666);
    let said = gateway.look().sentences().join("\n");
    assert!(said.contains("configs.db-journal"), "{said}");
}
