//! What an install leaves open to every account of the box is named, and closed: by hand, and by a restore before it begins.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use fixtures::Misbehaviour;

use crate::on_a_gateway::{Gateway, path};

/// The users' database and its folder: 0666 in 0777, as installed.
fn open_places(gateway: &Gateway) -> [PathBuf; 2] {
    let database = gateway.sample().databases()[1].path.clone();
    [database.parent().unwrap().to_owned(), database]
}

fn modes(gateway: &Gateway) -> [u32; 2] {
    open_places(gateway).map(|p| p.metadata().unwrap().permissions().mode() & 0o7777)
}

const AS_INSTALLED: [u32; 2] = [0o777, 0o666];
const CLOSED: [u32; 2] = [0o750, 0o660];

#[test]
fn survey_names_folder_and_file_and_the_one_command_that_closes_them() {
    let Some(gateway) = Gateway::bare(crate::on_a_gateway::small) else {
        return;
    };
    assert_eq!(
        modes(&gateway),
        AS_INSTALLED,
        "the sample is not as installed"
    );
    let survey = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    for place in open_places(&gateway) {
        let line = survey
            .lines()
            .find(|l| l.contains(&format!("{} (mode", path(&place))));
        assert!(line.unwrap().contains("`holdfast secure`"), "{survey}");
    }
    let dry = gateway.holdfast(&["secure", "--dry-run"]);
    assert_eq!((dry.code(), modes(&gateway)), (10, AS_INSTALLED), "{dry}");
    gateway.holdfast(&["secure"]).ok().unwrap();
    assert_eq!(modes(&gateway), CLOSED);
    for words in [&["secure", "--dry-run"][..], &["secure"]] {
        let nothing = gateway.holdfast(words).ok().unwrap().stdout;
        assert!(nothing.starts_with("only root and"), "{nothing}");
    }
    let survey = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
    assert!(!survey.contains("holdfast secure"), "{survey}");
    // The gateway's own account still gets at what is its own.
    gateway.holdfast(&["backup"]).ok().unwrap();
    // Of many files the first are told, and the number.
    for n in 0..30 {
        let config = gateway.sample().configs_dir().join(format!("x{n}.conf"));
        std::fs::write(&config, "").unwrap();
        std::fs::set_permissions(config, PermissionsExt::from_mode(0o644)).unwrap();
    }
    for (words, lines) in [
        (&["secure", "--dry-run"][..], 21),
        (&["secure", "--verbose"], 30),
    ] {
        let told = gateway.holdfast(words).stdout;
        assert_eq!(told.lines().count(), lines, "{told}");
        assert_eq!(
            told.contains("would close 10 more files (--verbose lists all)"),
            lines == 21
        );
    }
}

#[test]
fn a_restore_says_and_closes_what_is_open_and_it_stays_closed_when_the_restore_goes_back() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let archive = gateway.holdfast(&["backup"]).ok().unwrap().stdout;
    gateway
        .sample()
        .misbehave(Misbehaviour::FailStart { times: Some(2) })
        .unwrap();
    let back = gateway.holdfast(&["restore", archive.trim(), "--yes"]);
    assert_eq!(back.code(), 4, "{back}");
    let folder = open_places(&gateway)[0].clone();
    let planned = format!("may write to {} (mode 0777)", path(&folder));
    let closed = format!("{}: mode 0777 -> 0750", path(&folder));
    for said in [
        planned.as_str(),
        "A restore removes this access first",
        &closed,
    ] {
        assert!(back.stdout.contains(said), "{back}");
    }
    assert_eq!(modes(&gateway), CLOSED);
}

#[test]
fn a_restore_leaves_open_what_it_is_told_to_leave() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let archive = gateway.holdfast(&["backup"]).ok().unwrap().stdout;
    gateway
        .holdfast(&["restore", archive.trim(), "--yes", "--keep-open-folders"])
        .ok()
        .unwrap();
    assert_eq!(modes(&gateway)[0], AS_INSTALLED[0]);
}
