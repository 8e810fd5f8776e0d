//! A run of the schedule: it makes a backup, prunes after a complete one, says how it went to `status` and to `on_backup`, and leaves a
//! record that can be read wherever it is cut off.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use fixtures::{Finished, skip};
use serde_json::Value;

use crate::on_a_gateway::{Gateway, hold_clients, json, path};

const RUN: [&str; 2] = ["backup", "--scheduled"];

/// More of the profile.
fn profile_says(gateway: &Gateway, more: &str) {
    let file = gateway.sample().profile();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n{more}\n")).unwrap();
}

/// Every document of `on_backup` goes to a file; what the program does then.
fn on_backup(gateway: &Gateway, then: &str) {
    let said = gateway.beside("said");
    let script = format!("cat >> {}; {then}", path(&said));
    let argv = serde_json::to_string(&["/bin/sh", "-c", &script]).unwrap();
    profile_says(
        gateway,
        &format!("[schedule]\non_backup = {argv}\non_backup_seconds = 1"),
    );
}

fn told(gateway: &Gateway) -> Vec<Value> {
    let said = std::fs::read_to_string(gateway.beside("said")).unwrap_or_default();
    said.lines().map(json).collect()
}

/// All that is said, with how it ended; on a busy machine a run may be minutes old.
fn said(gateway: &Gateway, done: &Finished) -> String {
    let text = gateway.plain(&format!("{}{}", done.stdout, done.stderr));
    let lines = text.lines().map(|line| {
        let line = match line.split_once("; ") {
            Some((told, free)) if free.ends_with("are free there") => format!("{told}; FREE"),
            Some(_) | None => line.to_owned(),
        };
        let words: Vec<&str> = line.split(' ').collect();
        let aged = words
            .windows(3)
            .find(|w| w[1].starts_with("minute") && w[2].starts_with("ago"));
        match aged {
            Some(w) => line.replace(&format!("{} {} ago", w[0], w[1]), "just now") + "\n",
            None => line + "\n",
        }
    });
    format!("{}exit status {}\n", lines.collect::<String>(), done.code())
}

fn schedule(gateway: &Gateway) -> (i32, Value) {
    let status = gateway.holdfast(&["status", "--json"]);
    let all = json(&status.stdout);
    assert_eq!(all["exit_status"], status.code());
    (status.code(), all["schedule"].clone())
}

#[test]
fn a_good_run_prunes_and_is_told_and_one_that_lacks_a_part_or_fails_prunes_nothing_and_stands_at_login()
 {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    gateway.is_impatient();
    on_backup(&gateway, "true");
    profile_says(&gateway, "[retention]\nscheduled = { last = 1 }");
    let state_dir = gateway.sample().state_dir();
    assert_eq!(schedule(&gateway).1["text"], Value::Null);
    let mut texts = vec![said(&gateway, &gateway.holdfast(&RUN))];
    let first = gateway.backups();
    let run = gateway.holdfast(&RUN).ok().unwrap();
    let lines = said(&gateway, &run);
    texts.push(lines.replace(&run_size(&lines), "SIZE"));
    let second = gateway.backups();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second);
    texts.push(said(&gateway, &gateway.holdfast(&["status"])));

    let held = hold_clients(gateway.sample());
    texts.push(said(&gateway, &gateway.holdfast(&RUN)));
    drop(held);
    assert_eq!(
        gateway.backups().len(),
        2,
        "a run that lacks a part prunes nothing"
    );
    texts.push(said(&gateway, &gateway.holdfast(&["status", "--short"])));

    let backups = state_dir.join("backups");
    let full = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=16k,mode=700",
        "full",
        path(&backups),
    ];
    gateway.run(&full);
    let failed = gateway.holdfast(&RUN);
    assert!(![0, 6, 8].contains(&failed.code()), "{failed}");
    gateway.run(&["umount", path(&backups)]);
    assert_eq!(
        gateway.backups().len(),
        2,
        "a run that fails prunes nothing"
    );
    let line = failure_at_login(&gateway);

    let told = told(&gateway);
    let results: Vec<&str> = told.iter().map(|t| t["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["good", "good", "incomplete", "failed"]);
    assert_eq!(told[1]["backup"], path(&second[0]));
    let name = first[0].file_name().unwrap().to_str().unwrap();
    assert_eq!(told[1]["pruned"], serde_json::json!([name]));
    assert_eq!(told[2]["lacks"][0]["part"], "configs.db");
    assert_eq!(told[3]["backup"], Value::Null);
    assert!(line.contains(told[3]["text"].as_str().unwrap()), "{line}");
    gateway.holdfast(&RUN).ok().unwrap();
    assert_eq!(schedule(&gateway).0, 0);
    let audited = gateway.holdfast(&["audit", "show"]).ok().unwrap().stdout;
    let removed = audited
        .lines()
        .find(|l| l.contains(" prune ") && l.contains(name));
    assert!(removed.is_some(), "{audited}");
    insta::assert_snapshot!(texts.join("---\n"));
}

/// The line of a run that failed, as `status` says it within the lines that it may take, and a login too.
fn failure_at_login(gateway: &Gateway) -> String {
    let status = gateway.holdfast(&["status"]);
    assert_eq!(status.code(), 8, "{status}");
    assert!(status.stdout.lines().count() <= 15, "{status}");
    let mut lines = status.stdout.lines();
    let line =
        lines.find(|l| l.starts_with("scheduled backup: NO TIMER ") && l.contains("FAILED, "));
    let line = line.expect("it does not say so").to_owned();
    assert!(line.contains("What to do: "), "{line}");
    let short = gateway.holdfast(&["status", "--short"]).stdout;
    assert!(
        short.contains(&line) && short.lines().count() <= 4,
        "{short}"
    );
    line
}

/// What was removed is as large as the machine makes it.
fn run_size(said: &str) -> String {
    let line = said.lines().find(|l| l.starts_with("removed ")).unwrap();
    line.rsplit_once(", ").unwrap().1.to_owned()
}

#[test]
fn a_program_that_hangs_or_fails_is_named_and_makes_the_backup_no_worse() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let mut texts = Vec::new();
    on_backup(&gateway, "sleep 1000000");
    let profile = gateway.sample().profile();
    for (then, now) in [("", ""), ("sleep 1000000", "echo no route >&2; exit 3")] {
        let text = std::fs::read_to_string(&profile).unwrap();
        std::fs::write(&profile, text.replace(then, now)).unwrap();
        texts.push(said(&gateway, &gateway.holdfast(&RUN)));
        texts.push(said(&gateway, &gateway.holdfast(&["status"])));
    }
    assert_eq!(told(&gateway).len(), 2);
    insta::assert_snapshot!(texts.join("---\n"));
}

#[test]
fn a_gateway_that_is_busy_has_no_run_and_what_the_last_one_said_stays() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    on_backup(&gateway, "true");
    gateway.holdfast(&RUN).ok().unwrap();
    let (_, before) = schedule(&gateway);
    let backup = gateway.backups().pop().unwrap();
    // A restore that asks holds the lock.
    let mut restore = gateway.begin(&["restore", path(&backup), "--yes"]);
    assert!(gateway.barrier_is_up(&mut restore), "it ended before");
    let busy = gateway.holdfast(&RUN);
    assert_eq!(busy.code(), 6, "{busy}");
    assert!(
        busy.stderr.contains("tries again every ten minutes"),
        "{busy}"
    );
    restore.wait().unwrap();
    let (_, after) = schedule(&gateway);
    assert_eq!(after["last"], before["last"]);
    assert_eq!(told(&gateway).len(), 1);
}

#[test]
fn a_timer_without_a_run_for_two_days_is_overdue_until_one_comes() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    gateway.run(&["mount", "-t", "tmpfs", "units", "/etc/systemd/system"]);
    let enable = "cd /etc/systemd/system && mkdir timers.target.wants && ln -s /nowhere timers.target.wants/holdfast-backup.timer \
                  && touch -h -d '2026-01-01 UTC' timers.target.wants/holdfast-backup.timer";
    gateway.run(&["sh", "-c", enable]);
    let short = gateway.holdfast(&["status", "--short"]);
    insta::assert_snapshot!(said(&gateway, &short));
    let (status, overdue) = schedule(&gateway);
    assert_eq!(
        (status, &overdue["overdue_since"]),
        (8, &"2026-01-01T00:00:00Z".into())
    );
    gateway.holdfast(&RUN).ok().unwrap();
    let (status, good) = schedule(&gateway);
    assert_eq!((status, &good["overdue_since"]), (0, &Value::Null));
}

#[test]
fn a_run_that_is_killed_at_any_call_leaves_a_record_that_says_so_and_the_next_one_is_good() {
    if skip::lacks(&["strace"]) {
        return;
    }
    let Some(gateway) = Gateway::small() else {
        return;
    };
    on_backup(&gateway, "true");
    gateway.holdfast(&RUN).ok().unwrap();
    let log = gateway.beside("calls");
    let mut seen = std::collections::BTreeSet::new();
    // Each rename of the run's own: what it notes, and the backup's name.
    for n in 1.. {
        let words = gateway.argv(&RUN);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let inject = format!("inject=?rename,?renameat,?renameat2,?linkat:signal=KILL:when={n}");
        let strace = ["strace", "-f", "-qq", "-o", path(&log), "-e", &inject];
        let done = gateway
            .sandbox
            .run(&[&strace[..], &words].concat())
            .unwrap();
        let (status, stands) = schedule(&gateway);
        assert_eq!(stands["problem"], Value::Null, "{n}: {done}");
        let result = stands["last"]["result"].as_str().unwrap().to_owned();
        assert_eq!(status == 0, result == "good", "{n}: {stands}");
        seen.insert(result);
        if done.code() == 0 {
            break;
        }
        assert!(n < 100, "{done}");
    }
    assert!(seen.contains("begun"), "{seen:?}");
    gateway.holdfast(&RUN).ok().unwrap();
    assert_eq!(schedule(&gateway).0, 0);
}
