//! What the program tells: for a person, text that reads well at three in the morning; with `--json`, one document, or a line
//! for each record with the verdict last.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use fixtures::{Finished, Misbehaviour};
use serde_json::Value;

use crate::on_a_gateway::{Gateway, json, path, stand_in};

/// One JSON document and nothing else.
fn document(done: &Finished) -> Value {
    assert_eq!(done.stdout.lines().count(), 1, "{done}");
    json(&done.stdout)
}

/// A JSON line for each record, and the verdict.
fn lines(done: &Finished) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = done.stdout.lines().map(json).collect();
    let verdict = lines.pop().unwrap();
    let numbers: Vec<u64> = lines.iter().map(|l| l["seq"].as_u64().unwrap()).collect();
    let whole: Vec<u64> = (0..numbers.len() as u64).collect();
    assert_eq!(numbers, whole);
    (lines, verdict)
}

#[test]
fn a_person_reads_what_is_what_will_be_and_what_was() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let say = |words: &[&str]| {
        let done = gateway.holdfast(words).ok().unwrap();
        gateway.plain(&(done.stdout + &done.stderr))
    };
    insta::assert_snapshot!("survey", say(&["survey"]));
    let none = "state_dir is GATEWAY/state, which is not there: no backup and no restore was made with this profile, or `state_dir` in \
                GATEWAY/holdfast.toml names the wrong folder\n";
    assert_eq!(
        say(&["journal", "list"]),
        format!("no restore has been made on this gateway; {none}")
    );
    assert_eq!(
        say(&["recover"]),
        format!("nothing to do: no restore is open; {none}")
    );
    // The question makes no folder.
    assert!(!gateway.sample().state_dir().exists());
    let backup = gateway.backup();
    insta::assert_snapshot!("verify", say(&["verify", path(&backup)]));
    insta::assert_snapshot!("restore", say(&["restore", path(&backup), "--yes"]));
    let id = gateway.last_restore();
    let id = id.file_name().unwrap().to_str().unwrap();
    insta::assert_snapshot!("list", say(&["journal", "list"]));
    let shown = say(&["journal", "show", id]);
    insta::assert_snapshot!("show", shown.split("\n\n   0  ").next().unwrap());
    assert!(
        shown.ends_with("\njournal: sound, closed: restored\n"),
        "{shown}"
    );
    let followed = say(&["journal", "follow", id]);
    assert!(
        followed.contains(
            "\nRestored: the gateway is as the backup says.\nin place:    files and databases are"
        ),
        "{followed}"
    );
}

#[test]
fn a_program_reads_one_document_or_a_line_for_each_record_with_the_verdict_last() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let tell = |words: &[&str]| gateway.holdfast(&[&["--json"], words].concat());
    let survey = document(&tell(&["survey"]));
    assert_eq!(survey["clients"], 6);
    assert_eq!(survey["tunnels_up"].as_array().unwrap().len(), 2);
    assert_eq!(document(&tell(&["status"]))["status"], "idle");
    assert_eq!(document(&tell(&["recover"]))["found"], "idle");

    let made = document(&tell(&["backup"]));
    let backup = made["path"].as_str().unwrap();
    assert_eq!(document(&tell(&["verify", backup]))["verdict"], "sound");
    let refused = tell(&["verify", "/not/there.zip"]);
    assert_eq!(refused.code(), 3);
    let told = document(&refused);
    assert_eq!(
        (&told["verdict"], &told["exit_status"]),
        (&"refused".into(), &3.into())
    );
    assert_eq!(told["problems"][0]["code"], "not-there");
    let asked = tell(&["restore", backup]);
    assert_eq!(asked.code(), 2);
    assert_eq!(document(&asked)["verdict"], "usage");

    let restored = tell(&["restore", backup, "--yes"]);
    assert_eq!(restored.code(), 0, "{restored}");
    let (records, verdict) = lines(&restored);
    assert_eq!(verdict["verdict"], "restored");
    assert_eq!(verdict["exit_status"], 0);
    let id = verdict["restore"].as_str().unwrap();
    assert_eq!(
        document(&tell(&["journal", "list"]))["restores"][0]["restore"],
        id
    );
    assert_eq!(
        document(&tell(&["journal", "verify", id]))["exit_status"],
        0
    );
    let shown = document(&tell(&["journal", "show", id]));
    assert_eq!(shown["records"].as_array().unwrap(), &records);
    let (followed, verdict) = lines(&tell(&["journal", "follow", id]));
    assert_eq!(followed, records);
    assert_eq!(verdict["verdict"], "restored");

    let how = Misbehaviour::FailStart { times: Some(2) };
    gateway.sample().misbehave(how).unwrap();
    let back = tell(&["restore", backup, "--yes"]);
    assert_eq!(back.code(), 4, "{back}");
    let (_, verdict) = lines(&back);
    assert_eq!(verdict["exit_status"], 4);
    let problem = &verdict["problem"];
    assert!(
        problem["what"]
            .as_str()
            .unwrap()
            .starts_with("start sample-gateway"),
        "{problem}"
    );
    assert!(
        problem["command"]
            .as_str()
            .unwrap()
            .contains("sample-gateway-service start")
    );
    assert_eq!(
        problem["stderr"],
        "the sample gateway was told not to start\n"
    );
    assert!(problem["advice"].is_string());
}

/// `iptables-restore` takes rules in a rehearsal, and none that count until that is mended.
const TAKES_NONE: &str = r#"#!/bin/sh
if [ "$1" = --noflush ] && ! [ -e /run/lock/mended ]; then
    cat > /dev/null
    echo "iptables-restore: line 1 failed" >&2
    exit 1
fi
exec /usr/sbin/iptables-restore "$@"
"#;

#[test]
fn a_restore_that_waits_for_the_operator_says_so_and_what_to_do() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let before = gateway.picture();
    let backup = gateway.backup();
    stand_in(&gateway, "iptables-restore", TAKES_NONE);
    let stuck = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(stuck.code(), 5, "{stuck}");
    insta::assert_snapshot!("stuck", gateway.plain(&stuck.stderr));
    let status = gateway.holdfast(&["status"]);
    assert_eq!(status.code(), 5, "{status}");
    insta::assert_snapshot!("status_stuck", gateway.plain(&status.stdout));
    let short = gateway.holdfast(&["status", "--short"]);
    let four: Vec<&str> = status.stdout.lines().skip(1).take(4).collect();
    let labels = |text: &str| -> Vec<String> {
        text.lines().map(|l| l.chars().take(12).collect()).collect()
    };
    assert_eq!(labels(&short.stdout), labels(&four.join("\n")));
    let whole = gateway.holdfast(&["status", "--verbose"]);
    insta::assert_snapshot!("status_verbose", gateway.plain(&whole.stdout));
    let told = document(&gateway.holdfast(&["--json", "status"]));
    let state = &told["state"];
    assert_eq!(
        (&told["status"], &state["condition"]),
        (&"open".into(), &"stuck".into())
    );
    assert_eq!(state["lines"].as_array().unwrap().len(), 4);
    assert_eq!(state["databases"]["before"]["count"], 3, "{state}");
    assert!(
        state["traffic"]["blocked"]["since"]["at_ms"].is_i64(),
        "{state}"
    );
    let next = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(next.code(), 6, "{next}");
    insta::assert_snapshot!("next", gateway.plain(&next.stderr));

    gateway.run(&["touch", "/run/lock/mended"]);
    let recovered = gateway.holdfast(&["recover"]);
    gateway.run(&["rm", "/run/lock/mended"]);
    assert_eq!(recovered.code(), 4, "{recovered}");
    insta::assert_snapshot!(
        "recover",
        gateway.plain(&(recovered.stdout + &recovered.stderr))
    );
    gateway.is(&before);
    gateway.is_settled();
}
