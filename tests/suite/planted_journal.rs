//! A journal that somebody planted beside a database has no file of root's deleted, whoever it was and whatever is asked of
//! the gateway.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use fixtures::planted::{hot_journal, hot_journal_that_deletes};

use crate::on_a_gateway::{Gateway, path};

const NOBODY: u32 = 65_534;

/// A file of root's alone that nothing but root may delete.
fn canary(gateway: &Gateway) -> PathBuf {
    let folder = gateway.beside("roots");
    std::fs::create_dir(&folder).unwrap();
    let canary = folder.join("canary");
    std::fs::write(&canary, "sings").unwrap();
    std::fs::set_permissions(&canary, PermissionsExt::from_mode(0o600)).unwrap();
    canary
}

/// Each database of the sample, with the journal planted beside it that deletes this file, or that deletes none.
fn plant(gateway: &Gateway, victim: Option<&Path>, uid: u32) -> Vec<(PathBuf, PathBuf)> {
    let databases = gateway.sample().databases().into_iter();
    databases
        .map(|d| {
            let journal = PathBuf::from(format!("{}-journal", path(&d.path)));
            let pages = u32::try_from(d.path.metadata().unwrap().len() / 4096).unwrap();
            let bytes = match victim {
                Some(victim) => hot_journal_that_deletes(victim, pages),
                None => hot_journal(pages),
            };
            std::fs::write(&journal, bytes).unwrap();
            chown(&journal, Some(uid), Some(uid)).unwrap();
            (d.path, journal)
        })
        .collect()
}

fn owner(gateway: &Gateway) -> u32 {
    let uid = gateway.sample().client_database().metadata().unwrap().uid();
    assert_ne!(uid, 0, "the sample is not as installed");
    uid
}

/// Bytes and time of change of each of these files.
fn as_they_are(files: &[(PathBuf, PathBuf)]) -> Vec<(Vec<u8>, i64, i64)> {
    let all = files.iter().flat_map(|(a, b)| [a, b]);
    all.map(|file| {
        let meta = file.metadata().unwrap();
        (
            std::fs::read(file).unwrap(),
            meta.ctime(),
            meta.ctime_nsec(),
        )
    })
    .collect()
}

#[test]
fn sqlite_run_by_root_would_delete_the_file_that_the_planted_journal_names() {
    let Some(gateway) = Gateway::bare(crate::on_a_gateway::small) else {
        return;
    };
    let canary = canary(&gateway);
    let planted = plant(&gateway, Some(&canary), NOBODY);
    let database = rusqlite::Connection::open(&planted[0].0).unwrap();
    let _: i64 = database
        .query_row("SELECT count(*) FROM clients", [], |row| row.get(0))
        .unwrap();
    assert!(!canary.exists(), "else nothing here proves anything");
}

#[test]
fn a_journal_that_a_stranger_planted_is_named_with_its_rm_and_neither_opened_nor_deleted() {
    let Some(gateway) = Gateway::bare(crate::on_a_gateway::small) else {
        return;
    };
    let canary = canary(&gateway);
    let planted = plant(&gateway, Some(&canary), NOBODY);
    let before = as_they_are(&planted);
    for words in [&["survey"][..], &["backup"]] {
        let said = gateway.holdfast(words);
        let said = format!("{}{}", said.stdout, said.stderr);
        for (_, journal) in &planted {
            assert!(
                said.contains(&format!("{} beside it", path(journal))),
                "{said}"
            );
        }
    }
    assert!(canary.exists());
    assert_eq!(as_they_are(&planted), before);
}

#[test]
fn a_restore_is_refused_where_a_stranger_planted_a_journal_before_it() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let canary = canary(&gateway);
    let archive = gateway.holdfast(&["backup"]).ok().unwrap().stdout;
    let planted = plant(&gateway, Some(&canary), NOBODY);
    let before = as_they_are(&planted);
    let refused = gateway.holdfast(&["restore", archive.trim(), "--yes"]);
    assert_eq!(refused.code(), 3, "{refused}");
    assert!(refused.stderr.contains("then: rm "), "{refused}");
    assert!(canary.exists());
    assert_eq!(as_they_are(&planted), before);
}

#[test]
fn a_journal_by_which_the_gateways_own_account_would_delete_a_file_of_roots_deletes_it_not() {
    let Some(gateway) = Gateway::bare(crate::on_a_gateway::small) else {
        return;
    };
    let canary = canary(&gateway);
    let planted = plant(&gateway, Some(&canary), owner(&gateway));
    let before = as_they_are(&planted);
    for words in [&["survey"][..], &["backup"]] {
        let said = gateway.holdfast(words);
        let said = format!("{}{}", said.stdout, said.stderr);
        // The gateway itself could not open it either.
        assert!(
            said.contains("an interrupted change lies beside it"),
            "{said}"
        );
    }
    assert!(canary.exists());
    assert_eq!(as_they_are(&planted), before);
}

#[test]
fn what_a_dead_writer_left_is_read_as_it_will_be_and_rolled_back_by_a_restore_alone() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let service = fixtures::program("sample-gateway-service").unwrap();
    gateway.run(&[path(&service), "stop", path(gateway.sample().root())]);
    let planted = plant(&gateway, None, owner(&gateway));
    let before = as_they_are(&planted);
    let survey = gateway.holdfast(&["survey"]).ok().unwrap();
    assert!(
        survey.stdout.contains("6, of which 2 are active"),
        "{survey}"
    );
    let made = gateway.holdfast(&["backup"]).ok().unwrap();
    for database in gateway.sample().databases() {
        let left_out = format!("left out: {}", database.name);
        assert!(!made.stderr.contains(&left_out), "{made}");
    }
    assert_eq!(as_they_are(&planted), before);
    let archive = made.stdout.trim();
    gateway
        .holdfast(&["restore", archive, "--yes"])
        .ok()
        .unwrap();
    for (_, journal) in planted {
        assert!(!journal.exists(), "{} was left", journal.display());
    }
}
