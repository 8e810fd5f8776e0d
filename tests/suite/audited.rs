//! What the audit log says of what was done on a gateway, by the command line and by the page, and who a restore was asked by.
//! How the log is kept is tested where that is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use fixtures::{Misbehaviour, Real, User, program};

use crate::on_a_gateway::{Gateway, json, path};
use crate::web_stage::{Client, Stage};

/// What the log says, an entry a line, less its time and what differs from run to run.
fn shown(gateway: &Gateway) -> String {
    gateway.plain(&gateway.holdfast(&["audit", "show"]).ok().unwrap().stdout)
}

fn newest_file(gateway: &Gateway) -> PathBuf {
    gateway.sample().state_dir().join("audit/000001.log")
}

#[test]
fn what_the_command_line_does_is_in_the_log_with_who_did_it_and_what_came_of_it() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    gateway.holdfast(&["secure"]);
    gateway.restore(&backup);
    let how = Misbehaviour::FailStart { times: Some(2) };
    gateway.sample().misbehave(how).unwrap();
    let back = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(back.code(), 4, "{back}");
    gateway.holdfast(&["recover"]).ok().unwrap();
    gateway.holdfast(&["restore", "/etc/hostname", "--yes"]);
    insta::assert_snapshot!("command_line", shown(&gateway));
    // The journal says who asked, too.
    let header = &gateway.records()[0];
    let uid = &header["info"]["asked_by"]["command-line"]["uid"];
    assert_eq!(uid, 0, "{header}");

    let none = gateway.holdfast(&["audit", "show", "--since", "2999-01-01"]);
    assert_eq!(none.ok().unwrap().stdout, "");
    let told = json(&gateway.holdfast(&["--json", "audit", "show"]).stdout);
    let entries = told["entries"].as_array().unwrap();
    assert_eq!(entries.len(), shown(&gateway).lines().count());
    assert_eq!(entries[0]["what"], "backup");
}

#[test]
fn an_entry_that_somebody_changed_is_named_and_one_that_a_power_cut_left_in_part_is_no_tampering() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    gateway.backup();
    gateway.backup();
    let sound = gateway.holdfast(&["audit", "verify"]);
    assert_eq!(sound.code(), 0, "{sound}");
    let file = newest_file(&gateway);
    let whole = std::fs::read(&file).unwrap();

    std::fs::write(&file, [&whole[..], b"3f2a"].concat()).unwrap();
    let torn = gateway.holdfast(&["audit", "verify"]);
    assert_eq!(torn.code(), 0, "{torn}");
    insta::assert_snapshot!("torn", gateway.plain(&torn.stdout));
    let next = gateway.holdfast(&["backup"]).ok().unwrap();
    assert!(next.stderr.contains("an incomplete last line"), "{next}");
    assert_eq!(gateway.holdfast(&["audit", "verify"]).code(), 0);

    let text = String::from_utf8(std::fs::read(&file).unwrap()).unwrap();
    let forged = text.replacen("\"uid\":0", "\"uid\":7", 1);
    std::fs::write(&file, forged).unwrap();
    let unsound = gateway.holdfast(&["audit", "verify"]);
    assert_eq!(unsound.code(), 3, "{unsound}");
    insta::assert_snapshot!(
        "unsound",
        gateway.plain(&(unsound.stdout + &unsound.stderr))
    );
    let told = gateway.holdfast(&["--json", "audit", "verify"]);
    assert_eq!(
        (told.code(), &json(&told.stdout)["flaws"][0]["line"]),
        (3, &1.into())
    );
}

#[test]
fn a_log_on_a_full_disk_stops_no_backup_no_restore_and_no_recovery_and_each_warns() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let audit = gateway.sample().state_dir().join("audit");
    let full = "size=8k,mode=700";
    gateway.run(&["mount", "-t", "tmpfs", "-o", full, "full", path(&audit)]);
    gateway.run(&[
        "sh",
        "-c",
        &format!(
            "cd {} && : > 000001.log && cat /dev/zero > filler || true",
            path(&audit)
        ),
    ]);
    let lacks = "lacks an entry";
    let made = gateway.holdfast(&["backup"]).ok().unwrap();
    assert!(made.stderr.contains(lacks), "{made}");
    let told = gateway.told_by_restore(&backup);
    assert!(
        told.contains("restore-begins") && told.contains(lacks),
        "{told}"
    );

    let mut restore = gateway.begin(&["restore", path(&backup), "--yes"]);
    assert!(gateway.barrier_is_up(&mut restore));
    let worker = json(&gateway.holdfast(&["--json", "status"]).stdout)["pid"].to_string();
    gateway.run(&["kill", "-9", &worker]);
    restore.wait().unwrap();
    let recovered = gateway.holdfast(&["recover"]);
    assert!([0, 4].contains(&recovered.code()), "{recovered}");
    assert!(recovered.stderr.contains(lacks), "{recovered}");
    gateway.is_settled();
}

/// `holdfast` with these words beside a page.
fn beside(stage: &Stage, words: &[&str]) -> fixtures::Finished {
    let holdfast = program("holdfast").unwrap();
    let profile = stage.sample().profile();
    let argv = [&[path(&holdfast), "--config", path(&profile)][..], words].concat();
    stage.sandbox.run(&argv).unwrap()
}

/// What, its result and who, of each entry.
fn entries(stage: &Stage) -> Vec<String> {
    let shown = beside(stage, &["--json", "audit", "show"]).ok().unwrap();
    let told = json(&shown.stdout);
    let one = |e: &serde_json::Value| {
        let page = &e["who"]["page"];
        let who = match page.is_object() {
            true => format!("{} from {}", page["user"], page["address"]),
            false => "command line".to_owned(),
        };
        let what = e["what"].as_str().unwrap();
        format!("{what} {}: {who}", e["result"].as_str().unwrap())
    };
    told["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(one)
        .collect()
}

/// A page that lets each user make so many backups an hour.
fn limited(backups: u64) -> Option<Stage> {
    Stage::with(|folder| {
        let sample = Real::gateway_5().unpack(folder).unwrap();
        let text = std::fs::read_to_string(sample.profile()).unwrap();
        assert!(!text.contains("[limits]"));
        let limits = format!("{text}\n[limits]\nbackups_an_hour = {backups}\n");
        std::fs::write(sample.profile(), limits).unwrap();
        sample
    })
}

#[test]
fn what_the_page_does_is_in_the_log_with_the_user_and_the_address_and_a_limit_on_backups_says_when_the_next_is()
 {
    let Some(stage) = limited(1) else { return };
    let user = stage.sample().admin().unwrap();
    let wrong = |name: &str, password: &str| User {
        name: name.into(),
        password: password.into(),
        ..user.clone()
    };
    stage.try_to_sign_in(&wrong("hunter2", &user.password));
    stage.try_to_sign_in(&wrong(&user.name, "no"));
    let viewer = stage.sample().plain_user().unwrap();
    stage.client_of(viewer).get("/");
    let mut admin: Client = stage.client_of(user);
    let (status, archive) = admin.get_bytes("/system/backup");
    assert_eq!(status, 200);
    let (status, refused) = admin.get_bytes("/system/backup");
    let refused = String::from_utf8(refused).unwrap();
    assert_eq!(status, 409, "{refused}");
    assert!(
        refused.contains("backup-limit") && refused.contains("when the page allows the next one"),
        "{refused}"
    );
    stage.change_gateway();
    let confirmation = admin.reach_confirmation(&archive);
    let (status, restore, said) = admin.confirm(&confirmation);
    assert_eq!(status, 303, "{said}");
    admin.events(&restore, None).for_each(drop);
    let by = format!("admin '{}' on the page from 127.0.0.1", user.name);
    let page = admin.get(&restore).1;
    assert!(
        page.contains("<dt>Asked by</dt>") && page.contains("on the page from 127.0.0.1"),
        "{page}"
    );
    let id = restore.rsplit('/').next().unwrap();
    let journal = beside(&stage, &["journal", "show", id]).ok().unwrap();
    assert!(
        journal.stdout.contains(&format!("asked by {by}")),
        "{journal}"
    );
    // Its worker has something left to do behind its journal's end.
    while !entries(&stage).iter().any(|e| e.starts_with("restore ")) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut all = entries(&stage);
    // Of an answer that is given while the next request comes, the order says nothing.
    all.sort();
    insta::assert_snapshot!("page", all.join("\n"));
    let log = std::fs::read_to_string(stage.sample().state_dir().join("audit/000001.log")).unwrap();
    assert!(
        !log.contains("hunter2") && !log.contains(&user.password),
        "{log}"
    );
    assert_eq!(beside(&stage, &["audit", "verify"]).code(), 0);
}
