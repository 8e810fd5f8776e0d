//! What is told of the backups in the folder, and which one a person means.

use super::*;
use crate::archive::catalog::{self, About, ListedBackup};

fn list(gateway: &Gateway) -> Vec<ListedBackup> {
    catalog::list(&gateway.profile).unwrap()
}

fn catalog_file(gateway: &Gateway) -> PathBuf {
    gateway.profile.state_dir.join("catalog")
}

#[test]
fn a_backup_is_listed_with_what_it_says_of_itself_and_with_or_without_the_side_file_the_same() {
    let gateway = Gateway::new();
    assert_eq!(list(&gateway), []);
    let made = gateway.make().unwrap();
    let all = list(&gateway);
    let [one] = all.as_slice() else {
        panic!("{all:?}")
    };
    let About::Backup(summary) = &one.about else {
        panic!("{one:?}")
    };
    assert_eq!(one.size, made.size);
    assert_eq!(summary.sha256, made.sha256);
    assert_eq!((summary.configs, summary.rules), (2, true));
    assert_eq!(summary.databases, ["configs.db", "wireguard.db"]);
    assert_eq!(one.kind, Some(BackupKind::ByHand));
    assert!(one.made_here && one.verified_ms == one.made_ms && one.made_ms.is_some());
    for damage in ["", "{", "{\"x\":1}", "[]"] {
        std::fs::write(catalog_file(&gateway), damage).unwrap();
        assert_eq!(list(&gateway), all);
    }
    let rebuilt = std::fs::read(catalog_file(&gateway)).unwrap();
    assert_eq!(list(&gateway), all);
    assert_eq!(std::fs::read(catalog_file(&gateway)).unwrap(), rebuilt);
    // A side file that cannot be written is no reason to say nothing.
    std::fs::remove_file(catalog_file(&gateway)).unwrap();
    std::fs::create_dir(catalog_file(&gateway)).unwrap();
    assert_eq!(list(&gateway), all);
}

#[test]
fn what_is_put_in_the_place_of_a_backup_is_read_anew_and_what_is_none_says_why() {
    let gateway = Gateway::new();
    let made = gateway.make().unwrap();
    let before = list(&gateway);
    let bytes = std::fs::read(&made.path).unwrap();
    // Of the same length and under the same name, and cut short.
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    for bytes in [&other[..], &bytes[..100], b""] {
        std::fs::write(&made.path, bytes).unwrap();
        let now = list(&gateway);
        assert!(matches!(now[0].about, About::Unreadable(_)), "{now:?}");
        assert!(!now[0].made_here && now[0].kind.is_none());
    }
    std::fs::write(&made.path, &bytes).unwrap();
    assert_eq!(list(&gateway), before);
    // Not a file of its own, hidden, or no backup at all: not listed.
    std::os::unix::fs::symlink(&made.path, gateway.backups().join("link.zip")).unwrap();
    std::fs::write(gateway.backups().join(".hidden.zip"), &bytes).unwrap();
    std::fs::write(gateway.backups().join("notes.txt"), "x").unwrap();
    assert_eq!(list(&gateway), before);
}

#[test]
fn a_backup_of_another_box_is_told_from_those_made_here_and_its_kind_is_what_it_says() {
    let (here, other) = (Gateway::new(), Gateway::new());
    let theirs = other.make().unwrap();
    std::fs::create_dir_all(here.backups()).unwrap();
    std::fs::copy(&theirs.path, here.backups().join("copied.zip")).unwrap();
    let all = list(&here);
    assert_eq!(all[0].name, "copied.zip");
    assert!(!all[0].made_here);
    assert_eq!(all[0].kind, Some(BackupKind::ByHand));
    assert!(all[0].made_ms.is_some() && all[0].verified_ms.is_none());
    let copied = here.backups().join("copied.zip");
    catalog::verified(&here.profile, &copied, &theirs.sha256, 77);
    assert_eq!(list(&here)[0].verified_ms, Some(77));
    // Elsewhere nothing is remembered, and a change takes it away.
    catalog::verified(&here.profile, &theirs.path, &theirs.sha256, 78);
    assert_eq!(list(&here)[0].verified_ms, Some(77));
    std::fs::copy(here.make().unwrap().path, &copied).unwrap();
    let all = list(&here);
    let changed = all.iter().find(|b| b.name == "copied.zip").unwrap();
    assert_ne!(changed.verified_ms, Some(77));
}

#[test]
fn a_backup_is_found_by_how_its_name_begins_and_the_last_good_one_as_latest() {
    let gateway = Gateway::new();
    let find = |asked: &str| {
        let found = catalog::find(&gateway.profile, Path::new(asked));
        found.map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
    };
    let no = |asked: &str| find(asked).unwrap_err().to_string();
    let none = no("latest");
    assert!(
        none.contains("those that restores make do not count"),
        "{none}"
    );
    let made = gateway.make().unwrap();
    let name = made.path.file_name().unwrap().to_str().unwrap().to_owned();
    let dir = gateway.backups();
    for n in 1..=12 {
        std::fs::copy(
            &made.path,
            dir.join(format!("wireguard_backup_19990101_0000{n:02}.zip")),
        )
        .unwrap();
    }
    assert_eq!(find("latest").unwrap(), name);
    assert_eq!(find(&name).unwrap(), name);
    assert_eq!(
        find(name.strip_prefix("wireguard_backup_").unwrap()).unwrap(),
        name
    );
    assert_eq!(
        find("19990101_000003").unwrap(),
        "wireguard_backup_19990101_000003.zip"
    );
    // A path is a path, whether it is there or not.
    assert_eq!(find("./19990101").unwrap(), "19990101");
    assert_eq!(find("/nowhere/latest").unwrap(), "latest");
    // A whole name is that one's, also where another begins so.
    std::fs::copy(&made.path, dir.join(format!("{name}.old.zip"))).unwrap();
    assert_eq!(find(&name).unwrap(), name);
    // The tests' working folder has this: a bare name that is here alone is a path, and one that is also there is nobody's.
    assert_eq!(find("Cargo.toml").unwrap(), "Cargo.toml");
    std::fs::copy(&made.path, dir.join("Cargo.toml.zip")).unwrap();
    assert!(no("Cargo.toml").contains("is in the working folder"));
    let ambiguous = no("1999");
    assert!(
        ambiguous.contains("12 begin so") && ambiguous.contains("and 2 more"),
        "{ambiguous}"
    );
    for asked in ["", "2000", "zip"] {
        let problem = no(asked);
        assert!(problem.contains("no backup in"), "{asked}: {problem}");
    }
}

#[test]
fn what_a_restore_saved_before_it_changed_anything_is_never_the_latest() {
    let gateway = Gateway::new();
    let good = gateway.make().unwrap();
    let safety = make(
        &gateway.profile,
        &Kernel::Known(&gateway.facts),
        BackupKind::Safety,
        &gateway.backups(),
        &mut |_| (),
    )
    .unwrap();
    let latest = catalog::find(&gateway.profile, Path::new("latest")).unwrap();
    assert_eq!(latest, good.path);
    assert_ne!(latest, safety.path);
    let kinds: Vec<_> = list(&gateway).iter().map(|b| b.kind).collect();
    assert!(kinds.contains(&Some(BackupKind::Safety)), "{kinds:?}");
}
