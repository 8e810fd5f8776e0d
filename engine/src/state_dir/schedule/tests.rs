#![allow(clippy::unwrap_used)]
use super::*;
use crate::error::cannot;
use crate::gateway::parts::Part;

const DAY_MS: i64 = 24 * 3_600_000;
const BEGAN_MS: i64 = 1_795_000_000_000;

struct Timetable {
    dir: tempfile::TempDir,
    profile: Profile,
}

impl Timetable {
    fn new() -> Timetable {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile {
            state_dir: dir.path().to_owned(),
            ..Profile::default()
        };
        Timetable { dir, profile }
    }

    fn link(&self) -> PathBuf {
        self.dir.path().join("timer")
    }

    /// As `systemctl enable` does: the link leads nowhere here, and counts all the same.
    fn enable(&self) -> &Timetable {
        std::os::unix::fs::symlink("/nowhere", self.link()).unwrap();
        self
    }

    fn ran(&self, result: RunResult) -> ScheduledRun {
        let run = ScheduledRun {
            began_ms: BEGAN_MS,
            pid: 1,
            result,
            backup: Some("wireguard_backup_20261118_030000.zip".into()),
            lacks: Vec::new(),
            problems: Vec::new(),
            pruned: Vec::new(),
            not_pruned: Vec::new(),
        };
        keep_run(&self.profile, &run).unwrap();
        std::fs::create_dir_all(self.profile.backups_dir()).unwrap();
        std::fs::write(self.backup(&run), "").unwrap();
        run
    }

    fn backup(&self, run: &ScheduledRun) -> PathBuf {
        self.profile
            .backups_dir()
            .join(run.backup.as_ref().unwrap())
    }

    fn at(&self, later_ms: i64) -> Schedule {
        stands_at(&self.profile, &self.link(), BEGAN_MS + later_ms)
    }

    fn line(&self, later_ms: i64) -> String {
        self.at(later_ms).line().unwrap_or_else(|| "no line".into())
    }
}

#[test]
fn of_a_gateway_without_a_schedule_nothing_is_said_and_of_each_end_of_a_run_what_to_do() {
    let table = Timetable::new();
    let mut lines = vec![table.line(0)];
    table.enable();
    lines.push(table.line(0));
    assert!(!table.at(0).needs_somebody());
    table.ran(RunResult::Good);
    lines.push(table.line(3 * 3_600_000));
    assert!(!table.at(0).needs_somebody());
    lines.push(table.line(2 * DAY_MS));
    lines.push(table.line(2 * DAY_MS + 1));
    assert!(!table.at(2 * DAY_MS).needs_somebody());
    assert!(table.at(2 * DAY_MS + 1).needs_somebody());
    let lack = Lack {
        part: "configs.db".parse::<Part>().unwrap(),
        why: "database is locked".into(),
    };
    let incomplete = ScheduledRun {
        lacks: vec![lack],
        ..table.ran(RunResult::Incomplete)
    };
    keep_run(&table.profile, &incomplete).unwrap();
    lines.push(table.line(60_000));
    assert!(table.at(0).needs_somebody());
    let full = cannot(
        Code::NO_SPACE,
        "write the backup: no space is left",
        "free some space",
    );
    let failed = ScheduledRun {
        backup: None,
        problems: vec![full.clone()],
        ..table.ran(RunResult::Failed)
    };
    keep_run(&table.profile, &failed).unwrap();
    lines.push(table.line(60_000));
    lines.push(table.line(3 * DAY_MS));
    assert!(table.at(0).needs_somebody());
    table.ran(RunResult::Begun);
    lines.push(table.line(60_000));
    assert!(table.at(0).needs_somebody());
    // What fails beside a good backup is said, and makes it no worse.
    let unpruned = ScheduledRun {
        not_pruned: vec![full.clone()],
        ..table.ran(RunResult::Good)
    };
    keep_run(&table.profile, &unpruned).unwrap();
    let told = ToldProgram {
        result: Some(RunResult::Good),
        since_ms: BEGAN_MS,
        problem: Some(cannot(
            Code::ON_BACKUP_FAILED,
            "tell the program: it ended with status 3",
            "run it by hand",
        )),
    };
    keep_told(&table.profile, &told).unwrap();
    std::fs::remove_file(table.link()).unwrap();
    lines.push(table.line(60_000));
    assert!(!table.at(9 * DAY_MS).needs_somebody());
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_timer_that_never_came_is_overdue_two_periods_after_it_was_enabled_unless_the_profile_says_never()
 {
    let mut table = Timetable::new();
    table.enable();
    let enabled_ms = table.link().symlink_metadata().unwrap().mtime() * 1000;
    let overdue = |table: &Timetable, later| {
        let stands = stands_at(&table.profile, &table.link(), enabled_ms + later);
        stands.overdue_since_ms
    };
    assert_eq!(overdue(&table, 2 * DAY_MS), None);
    assert_eq!(overdue(&table, 2 * DAY_MS + 1), Some(enabled_ms));
    table.profile.schedule.every_hours = 1;
    assert_eq!(overdue(&table, 7_200_001), Some(enabled_ms));
    table.profile.schedule.every_hours = 0;
    assert_eq!(overdue(&table, 900 * DAY_MS), None);
    table.profile.schedule.every_hours = u64::MAX;
    assert_eq!(overdue(&table, 900 * DAY_MS), None);
}

#[test]
fn a_run_goes_on_only_while_its_own_process_holds_the_lock() {
    use crate::state_dir::lock::LockedFor;
    let table = Timetable::new();
    let own = ScheduledRun {
        pid: std::process::id(),
        ..table.ran(RunResult::Begun)
    };
    keep_run(&table.profile, &own).unwrap();
    assert!(table.at(0).needs_somebody());
    let profile = Profile {
        state_dir: table.profile.state_dir.join("state"),
        ..Profile::default()
    };
    crate::state_dir::make(&profile).unwrap();
    let lock = Lock::take(&profile, LockedFor::Backup).unwrap();
    keep_run(&profile, &own).unwrap();
    let stands = stands_at(&profile, &table.link(), BEGAN_MS);
    assert!(stands.runs && !stands.needs_somebody());
    drop(lock);
    assert!(!stands_at(&profile, &table.link(), BEGAN_MS).runs);
}

#[test]
fn a_record_that_cannot_be_read_is_no_good_run_and_the_next_run_writes_it_anew() {
    let table = Timetable::new();
    for broken in ["", "{\"began_ms\":", "{\"result\":\"excellent\"}"] {
        std::fs::write(record(&table.profile), broken).unwrap();
        std::fs::write(told(&table.profile), broken).unwrap();
        let stands = table.at(0);
        assert!(stands.needs_somebody() && stands.last.is_none(), "{broken}");
        let line = stands.line().unwrap();
        assert!(line.contains("run `holdfast backup --scheduled`"), "{line}");
    }
    table.ran(RunResult::Good);
    assert!(!table.at(0).needs_somebody());
}

#[test]
fn a_good_run_whose_backup_is_gone_or_whose_time_is_yet_to_come_is_not_called_good_alone() {
    let table = Timetable::new();
    table.enable();
    let run = table.ran(RunResult::Good);
    std::fs::remove_file(table.backup(&run)).unwrap();
    assert!(table.at(0).needs_somebody());
    assert!(
        table.line(0).contains("but its backup is gone"),
        "{}",
        table.line(0)
    );
    table.ran(RunResult::Good);
    assert!(!table.at(0).needs_somebody());
    // The clock stood in the future, and no run came since the timer was enabled.
    let link = table.link().symlink_metadata().unwrap().mtime() * 1000;
    let run = ScheduledRun {
        began_ms: link + 30 * DAY_MS,
        ..table.ran(RunResult::Good)
    };
    keep_run(&table.profile, &run).unwrap();
    let stands = |days| stands_at(&table.profile, &table.link(), link + days * DAY_MS);
    assert!(!stands(1).needs_somebody());
    assert_eq!(stands(3).overdue_since_ms, Some(link));
}
