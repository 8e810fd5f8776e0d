use std::path::Path;

use crate::backup::on_backup;
use crate::gateway::profile::Profile;
use crate::state_dir::schedule::{self, Schedule};

fn profile(state_dir: &Path, script: &str) -> Profile {
    let mut profile = Profile {
        state_dir: state_dir.to_owned(),
        ..Profile::default()
    };
    profile.schedule.on_backup = ["/bin/sh", "-c", script].map(str::to_owned).into();
    profile
}

/// The timer was enabled now, and this much time is over.
fn later(profile: &Profile, days: i64) -> Schedule {
    let link = profile.state_dir.join("timer");
    if link.symlink_metadata().is_err() {
        std::os::unix::fs::symlink("/nowhere", &link).unwrap();
    }
    let now_ms = jiff::Timestamp::now().as_millisecond();
    schedule::stands_at(profile, &link, now_ms + days * 86_400_000)
}

#[test]
fn that_no_run_came_is_told_once_and_again_after_the_next_run_that_was_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    let profile = profile(dir.path(), &format!("cat >> {}", said.display()));
    on_backup::tell_if_overdue(&profile, later(&profile, 1), &mut None);
    assert!(!said.exists());
    for _ in 0..3 {
        on_backup::tell_if_overdue(&profile, later(&profile, 4), &mut None);
    }
    let text = std::fs::read_to_string(&said).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["result"], "overdue");
    let line = told["text"].as_str().unwrap();
    assert!(line.starts_with("OVERDUE: no run since "), "{line}");
    // A run came, and then none any more.
    let run = schedule::ScheduledRun {
        began_ms: jiff::Timestamp::now().as_millisecond(),
        pid: 1,
        result: schedule::RunResult::Good,
        backup: None,
        lacks: Vec::new(),
        problems: Vec::new(),
        pruned: Vec::new(),
        not_pruned: Vec::new(),
    };
    schedule::keep_run(&profile, &run).unwrap();
    on_backup::tell_if_overdue(&profile, later(&profile, 1), &mut None);
    on_backup::tell_if_overdue(&profile, later(&profile, 4), &mut None);
    let text = std::fs::read_to_string(&said).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn a_program_that_fails_is_noted_without_its_arguments_and_not_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let profile = profile(
        dir.path(),
        "echo no route >&2; exit 3 # https://hook/SECRET",
    );
    on_backup::tell_if_overdue(&profile, later(&profile, 4), &mut None);
    let stands = later(&profile, 4);
    let line = stands.line().unwrap();
    assert!(
        line.contains(" on_backup: cannot run the on_backup program to its end (no scheduled backup came): /bin/sh ended with status 3: no route."),
        "{line}"
    );
    assert!(!format!("{stands:?}").contains("SECRET"));
}

#[test]
fn a_run_is_told_by_its_own_words_also_where_the_disk_took_none_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    let profile = profile(dir.path(), &format!("cat > {}", said.display()));
    let run = |result| schedule::ScheduledRun {
        began_ms: jiff::Timestamp::now().as_millisecond(),
        pid: 1,
        result,
        backup: Some("wireguard_backup_1.zip".into()),
        lacks: Vec::new(),
        problems: Vec::new(),
        pruned: Vec::new(),
        not_pruned: Vec::new(),
    };
    schedule::keep_run(&profile, &run(schedule::RunResult::Good)).unwrap();
    on_backup::tell_of_run(&profile, &run(schedule::RunResult::Failed));
    let told: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&said).unwrap()).unwrap();
    let line = told["text"].as_str().unwrap();
    assert!(line.contains(" Last run: FAILED, "), "{line}");
}

#[test]
fn that_no_run_came_is_told_once_also_where_the_disk_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    let profile = profile(dir.path(), &format!("cat >> {}", said.display()));
    std::fs::create_dir(dir.path().join("on-backup")).unwrap();
    let mut told_ms = None;
    for _ in 0..3 {
        on_backup::tell_if_overdue(&profile, later(&profile, 4), &mut told_ms);
    }
    let text = std::fs::read_to_string(&said).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
}
