//! The files in which a box keeps its rules over a reboot: as they were, never the rules that are loaded, whoever restores and
//! boots however often.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use fixtures::hostile::Backup;
use fixtures::program;

use crate::on_a_gateway::{Gateway, path};

const POLICIES: &str =
    "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";

fn write(file: &Path, text: &str, mode: u32) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, PermissionsExt::from_mode(mode)).unwrap();
}

/// What a boot does with rules: those that are kept are loaded, then the service starts and adds its own.
fn boot(gateway: &Gateway) {
    let service = program("sample-gateway-service").unwrap();
    let root = gateway.sample().root().to_path_buf();
    gateway.run(&[path(&service), "stop", path(&root)]);
    let tables = "for t in filter nat; do iptables -t $t -F; ip6tables -t $t -F; done";
    gateway.run(&["bash", "-c", tables]);
    for (file, load) in gateway
        .sample()
        .kept_rules()
        .iter()
        .zip(["iptables-restore", "ip6tables-restore"])
    {
        gateway.run(&[
            "bash",
            "-c",
            &format!("[ ! -e {0} ] || {load} < {0}", path(file)),
        ]);
    }
    gateway.run(&[path(&service), "start", path(&root)]);
}

fn rules(gateway: &Gateway) -> Vec<String> {
    let text = gateway.run(&["iptables-save"]) + &gateway.run(&["ip6tables-save"]);
    let lines = text.lines().filter(|l| l.starts_with("-A "));
    lines.map(str::to_owned).collect()
}

#[test]
fn three_restores_and_boots_leave_rules_and_kept_files_as_they_were() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let kept = gateway.sample().kept_rules();
    for file in &kept {
        write(file, POLICIES, 0o640);
    }
    boot(&gateway);
    let before = rules(&gateway);
    assert!(
        before.iter().any(|r| r.contains("MASQUERADE")),
        "{before:?}"
    );
    let backup = gateway.backup();
    for _ in 0..3 {
        gateway.told_by_restore(&backup);
        assert_eq!(rules(&gateway), before);
        boot(&gateway);
        assert_eq!(rules(&gateway), before);
        for file in &kept {
            assert_eq!(fs::read_to_string(file).unwrap(), POLICIES);
        }
    }
}

#[test]
fn kept_files_come_back_with_their_mode_go_where_they_were_not_there_and_stay_where_nobody_says() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let [v4, v6] = gateway.sample().kept_rules();
    write(&v4, POLICIES, 0o600);
    let _ = fs::remove_file(&v6);
    let backup = gateway.backup();
    let other = POLICIES.replace("ACCEPT", "DROP");
    let change = || {
        write(&v4, &other, 0o644);
        write(&v6, &other, 0o644);
    };
    let text = |file: &Path| fs::read_to_string(file).unwrap();
    change();
    let said = gateway.told_by_restore(&backup);
    assert!(
        said.contains("becomes what it was when the backup was made"),
        "{said}"
    );
    assert_eq!(text(&v4), POLICIES);
    assert_eq!(v4.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!v6.exists());
    // What went is kept.
    let originals = gateway.last_restore().join("originals");
    let name = v6.strip_prefix("/").unwrap();
    assert_eq!(text(&originals.join(name)), other);

    // The same words from elsewhere take nothing away.
    change();
    let mut elsewhere = Backup::read(&backup).unwrap();
    elsewhere.metadata["holdfast"]["host"] = "elsewhere".into();
    let file = gateway.beside("elsewhere.zip");
    fs::write(&file, elsewhere.bytes().unwrap()).unwrap();
    let said = gateway.told_by_restore(&file);
    assert_eq!((text(&v4).as_str(), text(&v6)), (POLICIES, other.clone()));
    let stays = format!("{} stays as it is", v6.display());
    assert!(said.contains(&stays), "{said}");

    // One that names a program is none to load at a boot.
    let evil = POLICIES.replace("COMMIT", "-A INPUT -M /tmp/evil -j ACCEPT\nCOMMIT");
    let hostile = elsewhere.with("holdfast/kept/rules.v4", evil.as_bytes());
    fs::write(&file, hostile.bytes().unwrap()).unwrap();
    change();
    let said = gateway.told_by_restore(&file);
    assert!(
        said.contains("kept its IPv4 rules is not put in place"),
        "{said}"
    );
    assert_eq!(text(&v4), other);

    // A backup that has none, as all were once, leaves them alone.
    let mut old = elsewhere;
    old.entries
        .retain(|(name, _)| !name.starts_with("holdfast/"));
    let manifest = old.metadata["holdfast"].as_object_mut().unwrap();
    manifest.remove("parts");
    let entries = manifest["entries"].as_object_mut().unwrap();
    entries.retain(|name, _| !name.starts_with("holdfast/"));
    fs::write(&file, old.bytes().unwrap()).unwrap();
    change();
    gateway.told_by_restore(&file);
    assert_eq!((text(&v4), text(&v6)), (other.clone(), other));
}

/// The files of kept rules lie here, where all above is root's.
fn kept_in(gateway: &Gateway, folder: &Path) -> PathBuf {
    let [v4, v6] = ["rules.v4", "rules.v6"].map(|name| folder.join(name));
    let profile = gateway.sample().profile();
    let text = fs::read_to_string(&profile).unwrap();
    let here = |line: &str| match line.starts_with("kept = ") {
        true => format!("kept = [{v4:?}, {v6:?}]"),
        false => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(here).collect();
    fs::write(&profile, lines.join("\n") + "\n").unwrap();
    v4
}

#[test]
fn a_folder_or_a_file_that_is_a_link_of_roots_is_followed_there_and_back_and_stays_a_link() {
    for of_the_folder in [true, false] {
        let Some(gateway) = Gateway::small() else {
            return;
        };
        let place = tempfile::tempdir_in("/var/lib").unwrap();
        let folder = place.path().join("etc");
        let v4 = kept_in(&gateway, &folder);
        let real = folder.with_file_name("really");
        fs::create_dir(&real).unwrap();
        let (link, held) = match of_the_folder {
            true => {
                symlink("really", &folder).unwrap();
                (folder, real.join("rules.v4"))
            }
            false => {
                fs::create_dir(&folder).unwrap();
                symlink(real.join("current"), &v4).unwrap();
                (v4.clone(), real.join("current"))
            }
        };
        write(&held, POLICIES, 0o640);
        let made = gateway.holdfast(&["backup"]);
        assert_eq!(made.code(), 0, "{made}");
        let backup = made.stdout.trim().to_owned();
        let other = POLICIES.replace("ACCEPT", "DROP");
        write(&held, &other, 0o600);
        let said = gateway.restore(Path::new(&backup));
        assert_eq!(fs::read_to_string(&held).unwrap(), POLICIES, "{said}");
        assert_eq!(held.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.symlink_metadata().unwrap().is_symlink());
        // Its safety backup has what it replaced.
        let safety = gateway.backups().pop().unwrap();
        gateway.restore(&safety);
        assert_eq!(fs::read_to_string(&held).unwrap(), other);
        assert!(link.symlink_metadata().unwrap().is_symlink());
    }
}

#[test]
fn a_link_to_what_others_may_write_or_to_nothing_is_named_and_left_alone() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let [v4, v6] = gateway.sample().kept_rules();
    write(&v4, POLICIES, 0o640);
    let _ = fs::remove_file(&v6);
    let whole = gateway.backup();
    let others = v4.parent().unwrap().with_file_name("others");
    fs::create_dir(&others).unwrap();
    chown(&others, Some(61_000), None).unwrap();
    let target = others.join("rules");
    let other = POLICIES.replace("ACCEPT", "DROP");
    write(&target, &other, 0o644);
    fs::remove_file(&v4).unwrap();
    symlink(&target, &v4).unwrap();
    symlink("nowhere", &v6).unwrap();
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 0, "{made}");
    for link in [&v4, &v6] {
        let said = format!("{} is a link to ", link.display());
        assert!(made.stderr.contains(&said), "{made}");
    }
    let backup = made.stdout.trim().to_owned();
    let read = Backup::read(Path::new(&backup)).unwrap();
    let links = &read.metadata["holdfast"]["links"];
    assert_eq!(links.as_object().unwrap().len(), 2, "{links}");
    for archive in [whole.as_path(), Path::new(&backup)] {
        gateway.restore(archive);
        assert_eq!(fs::read_to_string(&target).unwrap(), other);
        assert_eq!(fs::read_link(&v4).unwrap(), target);
        assert!(v6.symlink_metadata().unwrap().is_symlink());
    }
    // Where there is a file by then, a backup that had a link there does not take it away.
    for link in [&v4, &v6] {
        fs::remove_file(link).unwrap();
        write(link, POLICIES, 0o640);
    }
    gateway.restore(Path::new(&backup));
    for file in [&v4, &v6] {
        assert_eq!(fs::read_to_string(file).unwrap(), POLICIES);
    }
}
