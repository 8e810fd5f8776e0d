//! What a restore advises where a part cannot be saved or read leads to a restore, once it is done as it is said.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use fixtures::Finished;

use crate::on_a_gateway::{Gateway, path, stand_in};

/// A backup, what a restore from it says, and that it changed and left nothing.
struct Refused {
    backup: PathBuf,
    said: String,
}

impl Refused {
    fn by(gateway: &Gateway, backup: &Path, status: i32) -> Refused {
        let backups = gateway.backups();
        let refused = gateway.holdfast(&["restore", path(backup), "--yes"]);
        assert_eq!(refused.code(), status, "{refused}");
        assert_eq!(gateway.backups(), backups, "it leaves a backup: {refused}");
        assert_eq!(gateway.restores().is_empty(), status == 3);
        Refused {
            backup: backup.to_owned(),
            said: refused.stderr,
        }
    }

    /// The advice behind these words, up to the end of its line.
    fn advice(&self, words: &str) -> &str {
        let (_, rest) = self.said.split_once(words).expect(&self.said);
        rest.lines().next().unwrap()
    }

    fn again(&self, gateway: &Gateway, more: &[&str]) -> Finished {
        let words = ["restore", path(&self.backup), "--yes"];
        let done = gateway.holdfast(&[&words[..], more].concat());
        assert_eq!(done.code(), 0, "{done}");
        gateway.is_settled();
        done
    }
}

fn app(gateway: &Gateway) -> PathBuf {
    let mut databases = gateway.sample().databases().into_iter();
    databases.find(|d| d.name == "app.db").unwrap().path
}

#[test]
fn a_database_with_a_second_name_is_refused_with_the_command_that_finds_it() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let (app, second) = (app(&gateway), gateway.beside("second"));
    fs::hard_link(&app, &second).unwrap();
    let refused = Refused::by(&gateway, &backup, 3);
    assert!(
        !refused.said.contains("--without-safety"),
        "{}",
        refused.said
    );
    let command = refused.advice("find all its names: ");
    let (find, _) = command.split_once(';').unwrap();
    let found = gateway.run(&["sh", "-c", &format!("{find} 2>/dev/null; true")]);
    let names: Vec<&str> = found.lines().filter(|name| *name != path(&app)).collect();
    assert_eq!(names, [path(&second)]);
    fs::remove_file(second).unwrap();
    refused.again(&gateway, &[]);
}

#[test]
fn a_database_that_its_account_may_not_read_is_refused_beforehand_with_the_command_that_helps() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let app = app(&gateway);
    chown(&app, Some(0), Some(0)).unwrap();
    fs::set_permissions(&app, PermissionsExt::from_mode(0o600)).unwrap();
    let refused = Refused::by(&gateway, &backup, 3);
    assert!(
        !refused.said.contains("--without-safety"),
        "{}",
        refused.said
    );
    let command = refused.advice("give it back: ");
    gateway.run(&["sh", "-c", command]);
    refused.again(&gateway, &[]);
}

#[test]
fn files_that_are_too_large_to_be_saved_are_accepted_by_the_flag_and_kept_as_originals() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sample = gateway.sample();
    let [kept, _] = sample.kept_rules();
    fs::create_dir_all(kept.parent().unwrap()).unwrap();
    fs::write(&kept, gateway.run(&["iptables-save"])).unwrap();
    let backup = gateway.backup();
    let up = sample.active().unwrap();
    let clients = sample.clients().unwrap();
    let down = clients.iter().find(|c| !up.contains(c)).unwrap();
    let config = sample.configs_dir().join(format!("{down}.conf"));
    let is = [&config, &kept].map(|file| fs::read(file).unwrap());
    for file in [&config, &kept] {
        File::create(file).unwrap().set_len(17 << 20).unwrap();
    }
    let refused = Refused::by(&gateway, &backup, 1);
    let flags: Vec<&str> = refused.advice("restore with ").split(' ').collect();
    assert_eq!(flags.len(), 4, "{flags:?}");
    refused.again(&gateway, &flags);
    assert!([&config, &kept].map(|file| fs::read(file).unwrap()) == is);
    // Two restores of one second have no order by their names.
    let restores = gateway.restores().into_iter().map(|r| r.join("originals"));
    let kept: Vec<PathBuf> = restores
        .flat_map(|originals| crate::on_a_gateway::files_below(&originals))
        .collect();
    let large = kept
        .iter()
        .filter(|f| f.metadata().unwrap().len() == 17 << 20);
    assert_eq!(large.count(), 2, "{kept:?}");
}

#[test]
fn rules_that_cannot_be_read_are_not_accepted_by_that_flag_and_the_refusal_names_the_one_that_helps()
 {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let script = "#!/bin/sh\necho \"# Table \\`filter' is incompatible, use 'nft' tool.\"\n";
    stand_in(&gateway, "iptables-save", script);
    let refused = Refused::by(&gateway, &backup, 3);
    let flag = "--keep-going-without-firewall";
    assert!(
        refused.said.contains(&format!("add {flag}")),
        "{}",
        refused.said
    );
    let words = ["restore", path(&backup), "--yes"];
    let other = [&words[..], &["--without-safety-backup-of", "rules-v4"]].concat();
    let usage = gateway.holdfast(&other);
    assert_eq!(usage.code(), 2, "{usage}");
    assert!(usage.stderr.contains(&format!("add {flag}")), "{usage}");
    refused.again(&gateway, &[flag]);
}

#[test]
fn an_own_backup_of_a_database_that_the_profile_names_no_more_is_restored_without_it_and_named_again_with_it()
 {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let profile = gateway.sample().profile();
    let whole = fs::read_to_string(&profile).unwrap();
    let (before, app) = whole.split_at(
        whole
            .find("\n[[gateway.database]]\nname = \"app.db\"")
            .unwrap(),
    );
    let behind = app[1..].find("\n[").map_or("", |end| &app[1 + end..]);
    fs::write(&profile, format!("{before}{behind}")).unwrap();
    let said = "the database app.db of the backup will not be restored: the profile has no [[gateway.database]] of that name";
    let verified = gateway.holdfast(&["verify", path(&backup)]);
    assert_eq!(verified.code(), 0, "{verified}");
    assert!(verified.stdout.contains(said), "{verified}");
    let words = ["restore", path(&backup), "--yes"];
    let done = gateway.holdfast(&words);
    assert_eq!(done.code(), 0, "{done}");
    assert!(done.stdout.contains(said), "{done}");
    fs::write(&profile, whole).unwrap();
    let done = gateway.holdfast(&words);
    assert_eq!(done.code(), 0, "{done}");
    assert!(!done.stdout.contains(said), "{done}");
    gateway.is_settled();
}
