//! `holdfast prune` on a gateway: what past restores keep goes with its time, the newest can still be undone, and what is given up leaves
//! nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::on_a_gateway::{Gateway, path};

fn age(file: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    let file = std::fs::File::options().append(true).open(file).unwrap();
    file.set_modified(then).unwrap();
}

#[test]
fn what_old_restores_keep_is_removed_and_the_newest_completed_one_can_still_be_undone() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let state_dir = gateway.sample().state_dir();
    let profile = gateway.sample().profile();
    let text = std::fs::read_to_string(&profile).unwrap();
    let days = "{ within_days = 7 }";
    let rules = format!("{text}\n[retention]\nsafety = {days}\nrestores = {days}\n");
    std::fs::write(&profile, rules).unwrap();
    let then = gateway.picture();
    let backup = gateway.backup();
    for _ in 0..3 {
        gateway
            .holdfast(&["restore", path(&backup), "--yes"])
            .ok()
            .unwrap();
    }
    // The backups' own times are what the box noted of them: as if they were made a month ago.
    let made = state_dir.join("made");
    let noted: String = std::fs::read_to_string(&made)
        .unwrap()
        .lines()
        .map(|line| {
            let (before, rest) = line.split_once("\"made_ms\":").unwrap();
            let (ms, rest) = rest.split_once(',').unwrap();
            let ms = ms.parse::<i64>().unwrap() - 30 * 86_400_000;
            format!("{before}\"made_ms\":{ms},{rest}\n")
        })
        .collect();
    std::fs::write(&made, noted).unwrap();
    let restores = gateway.restores();
    for restore in &restores {
        age(&restore.join("journal"), 30);
    }
    let dry = gateway.holdfast(&["prune", "--dry-run"]);
    assert_eq!(dry.status.code(), Some(10), "{dry}");
    assert_eq!(gateway.restores(), restores);
    insta::assert_snapshot!("dry", gateway.plain(&dry.stdout));
    let said = gateway.holdfast(&["prune"]).ok().unwrap();
    insta::assert_snapshot!("pruned", gateway.plain(&said.stdout));
    assert_eq!(gateway.restores(), restores[2..]);
    assert_eq!(gateway.backups().len(), 2);
    let again = gateway.holdfast(&["prune"]).ok().unwrap();
    assert!(
        again.stdout.starts_with("nothing to remove; 2 backups"),
        "{again}"
    );
    gateway.holdfast(&["undo", "--yes"]).ok().unwrap();
    gateway.is(&then);
    gateway.is_settled();
    assert_eq!(
        gateway
            .holdfast(&["status"])
            .ok()
            .unwrap()
            .stdout
            .lines()
            .next(),
        Some("idle")
    );
}
