//! After all that Holdfast does with a gateway, none of the gateway's secrets stands in anything that people or programs
//! read: journals, logs, pages, events, output, files of Holdfast's own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use fixtures::hostile::{Backup, configs};
use fixtures::{Finished, Misbehaviour, Real, Sample, Shape, program, secrets};

use crate::on_a_gateway::{files_below, path};
use crate::web_stage::{Client, Stage, field};

/// Everything that was said, with who said it.
#[derive(Default)]
struct Heard(Vec<(String, String)>);

impl Heard {
    fn add(&mut self, who: impl Into<String>, what: impl Into<String>) {
        self.0.push((who.into(), what.into()));
    }

    fn command(&mut self, stage: &Stage, words: &[&str]) -> Finished {
        let holdfast = program("holdfast").unwrap();
        let profile = stage.sample().profile();
        let argv = [&[path(&holdfast), "--config", path(&profile)], words].concat();
        let done = stage.sandbox.run(&argv).unwrap();
        self.add(words.join(" "), done.to_string());
        done
    }
}

/// Where secrets lie on purpose: in backups, in uploads that await an answer, in what was there before, in the kernel facts.
/// All of it root's alone.
fn may_hold_secrets(state: &Path, file: &Path) -> bool {
    let below = file.strip_prefix(state).unwrap();
    let parts: Vec<&str> = below.iter().map(|p| p.to_str().unwrap()).collect();
    match parts.as_slice() {
        ["backups" | "spool", ..] => true,
        ["restores", _, kept, ..] => ["originals", "before"].contains(kept),
        _ => false,
    }
}

fn gateway(folder: &Path) -> Sample {
    let shape = Shape {
        active: 2,
        hooks: true,
        ..Shape::of(12)
    };
    Sample::generate(&folder.join("gateway"), &shape).unwrap()
}

#[test]
fn no_secret_of_a_gateway_is_told_by_anything_that_a_full_run_writes_or_shows() {
    run_through(Stage::with(gateway));
}

#[test]
fn no_secret_of_a_real_gateway_is_told_by_anything_that_a_full_run_writes_or_shows() {
    run_through(Stage::with(|folder| {
        Real::gateway_5().unpack(folder).unwrap()
    }));
}

/// A backup and a restore of it.
fn by_the_page(stage: &Stage, admin: &mut Client, heard: &mut Heard) {
    let archive = admin.get_bytes("/system/backup").1;
    stage.change_gateway();
    let confirmation = admin.reach_confirmation(&archive);
    let (status, restore, said) = admin.confirm(&confirmation);
    assert_eq!(status, 303, "{said}");
    for sent in admin.events(&restore, None) {
        heard.add("an event", sent.data.to_string());
    }
    heard.add("the confirmation", confirmation);
    for address in ["/", &restore, "/system/backup-status", "/system/restore"] {
        heard.add(address, admin.get(address).1);
    }
}

/// Archives with a key where none belongs, by the page and by hand.
fn a_key_where_none_belongs(stage: &Stage, admin: &mut Client, backup: &Path, heard: &mut Heard) {
    let sound = Backup::read(backup).unwrap();
    let misplaced = configs::misplaced_key();
    for key in configs::PLACES_FOR_A_KEY {
        let archive = configs::with_value(&sound, key, misplaced).unwrap();
        let archive = archive.bytes().unwrap();
        let token = field(&admin.get("/system/restore").1, "token");
        let (_, location, said) = admin.upload(&token, &archive);
        heard.add(format!("the answer to a key as {key}"), said);
        if !location.is_empty() {
            heard.add(location.clone(), admin.get(&location).1);
        }
        let file = stage.sample().root().join("misplaced.zip");
        std::fs::write(&file, archive).unwrap();
        heard.command(stage, &["verify", path(&file)]);
        std::fs::remove_file(&file).unwrap();
    }
}

/// A restore that goes back, since the service does not start; one that is killed, and its recovery.
fn by_hand(stage: &Stage, archive: &str, heard: &mut Heard) {
    let sample = stage.sample();
    sample
        .misbehave(Misbehaviour::FailStart { times: Some(2) })
        .unwrap();
    let back = heard.command(stage, &["restore", archive, "--yes"]);
    assert_eq!(back.code(), 4, "{back}");
    sample.behave().unwrap();
    stage.change_gateway();
    let mut running = stage.start_restore();
    while !sample.state_dir().join("open").exists() {
        assert!(!running.has_ended().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    heard.command(stage, &["status"]);
    stage.kill_restore();
    let killed = running.wait().unwrap();
    heard.add("the restore that was killed", killed.to_string());
    heard.command(stage, &["recover"]);
    heard.command(stage, &["verify", archive]).ok().unwrap();
    let restores = std::fs::read_dir(sample.state_dir().join("restores")).unwrap();
    for restore in restores {
        let journal = restore.unwrap().path().join("journal");
        heard.command(stage, &["journal", "show", path(&journal)]);
        heard.command(stage, &["--json", "journal", "show", path(&journal)]);
    }
}

fn run_through(stage: Option<Stage>) {
    let Some(stage) = stage else { return };
    let sample = stage.sample().clone();
    let mut looked_for = secrets::of(&sample).unwrap();
    let mut heard = Heard::default();
    heard.command(&stage, &["survey"]).ok().unwrap();

    let mut admin = stage.client_of(sample.admin().unwrap());
    by_the_page(&stage, &mut admin, &mut heard);
    let mut backups = files_below(&sample.state_dir().join("backups"));
    backups.retain(|file| file.extension().is_some_and(|e| e == "zip"));
    a_key_where_none_belongs(&stage, &mut admin, &backups[0], &mut heard);
    looked_for.push(secrets::Secret {
        kind: "key in a wrong place",
        text: configs::misplaced_key().to_owned(),
    });
    by_hand(&stage, path(&backups[0]), &mut heard);

    heard.add("the agent's log", stage.agent_log());
    heard.add("the page's log", stage.web_log());
    let state = sample.state_dir();
    for file in files_below(&state) {
        if !may_hold_secrets(&state, &file) {
            let bytes = std::fs::read(&file).unwrap();
            heard.add(path(&file), String::from_utf8_lossy(&bytes));
        }
    }
    assert!(heard.0.len() > 30, "little was heard");
    for kind in ["private key", "password hash", "password"] {
        assert!(looked_for.iter().any(|s| s.kind == kind), "no {kind}");
    }
    for secret in &looked_for {
        for (who, what) in &heard.0 {
            assert!(
                !what.contains(secret.mark()),
                "{who} tells a {}",
                secret.kind
            );
        }
    }
}

#[test]
fn the_sample_has_a_secret_of_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    let found = secrets::of(&gateway(folder.path())).unwrap();
    for kind in [
        "private key",
        "preshared key",
        "password hash",
        "password of the mail relay",
        "password",
    ] {
        assert!(found.iter().any(|s| s.kind == kind), "no {kind}");
    }
}
