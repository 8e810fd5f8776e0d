//! A restore that is cut off at a system call, from outside and without its help: SIGKILL at the n-th call of a kind that
//! changes something, or an error from it. Then `holdfast recover`: as before or as the backup says.
//!
//! Every call takes hours: the suite runs a spread of them, and with `HOLDFAST_EVERY_CRASH=1` in the environment every one;
//! `HOLDFAST_CRASH_PART=2/8` then takes the second of eight parts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use engine::plan::planner::Choices;
use engine::restore::order::{RestoreOrder, WorkOrder};
use fixtures::{Finished, Shape, program, skip};
use journal_format::{Policy, Verdict};

use crate::two_states::TwoStates;

/// The calls that change a file, a folder, a disk, or start a program; those that open a file may make it.
const CALLS: [&str; 28] = [
    "openat",
    "openat2",
    "write",
    "pwrite64",
    "copy_file_range",
    "sendfile",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "syncfs",
    "rename",
    "renameat",
    "renameat2",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
    "fchownat",
    "clone3",
    "vfork",
];

fn shape() -> Shape {
    Shape {
        active: 2,
        hooks: true,
        wal: true,
        ..Shape::of(5)
    }
}

/// A restore to the other state, as its worker is told of it.
fn ordered(two: &TwoStates) -> WorkOrder {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    WorkOrder::Restore(RestoreOrder {
        id: engine::state_dir::id_at(now.as_millis() as i64, now.subsec_nanos()).unwrap(),
        archive: two.other().into(),
        shown: "other.zip".into(),
        choices: Choices {
            keep_going_without_firewall: false,
            policy: Policy::Auto,
            keep_open_folders: false,
            without_safety_backup_of: Default::default(),
            keep_going_without_services: false,
            leave_down: Default::default(),
            full_stop: true,
        },
        approved: None,
        asked_by: None,
    })
}

/// Runs the worker of a restore to the other state, with these options of `strace` besides; its log.
fn traced(two: &TwoStates, options: &[&str]) -> (Finished, String) {
    let beside = |name: &str| two.sample().root().join("..").join(name);
    let (log, order) = (beside("calls"), beside("order"));
    std::fs::write(&order, serde_json::to_vec(&ordered(two)).unwrap()).unwrap();
    let holdfast = program("holdfast").unwrap();
    let trace = format!("trace={}", CALLS.map(|c| format!("?{c}")).join(","));
    let profile = two.sample().profile();
    let command = [
        holdfast.to_str().unwrap(),
        "--config",
        profile.to_str().unwrap(),
        "work",
        "traced",
    ];
    // Of the one thread that holds the journal; what it starts is not slowed down, and does not count.
    let strace = [
        "strace",
        "-qq",
        "-s0",
        "-o",
        log.to_str().unwrap(),
        "-e",
        &trace,
    ];
    let line = format!("exec \"$@\" < {}", order.display());
    let shell = ["sh", "-c", &line, "sh"];
    let argv = [&shell, &strace[..], options, &command].concat();
    let done = two.sandbox().run(&argv).unwrap();
    let log = std::fs::read_to_string(log).unwrap_or_default();
    (done, log)
}

/// Each call that a restore makes, as its kind and which of that kind.
fn calls(two: &mut TwoStates) -> Vec<(&'static str, usize)> {
    let began = two.restores();
    let (done, log) = traced(two, &[]);
    assert_eq!(done.code(), 0, "{done}");
    let recovered = two.holdfast(&["recover"]);
    two.is_settled(&began, &recovered, "without a fault");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let name = line.split('(').next().unwrap_or_default();
        let Some(name) = CALLS.iter().find(|c| **c == name) else {
            continue;
        };
        let n = counts.entry(name).or_insert(0);
        *n += 1;
        // What only reads a file changes nothing.
        if !name.starts_with("openat") || line.contains("O_CREAT") {
            calls.push((*name, *n));
        }
    }
    assert!(calls.len() > 200, "{counts:?}");
    println!("{} calls: {counts:?}", calls.len());
    calls
}

/// These, or a spread of them; or a part, if the environment asks for it.
fn chosen<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    if std::env::var("HOLDFAST_EVERY_CRASH").as_deref() != Ok("1") {
        return (0..most)
            .map(|i| all[i * all.len() / most].clone())
            .collect();
    }
    let part = std::env::var("HOLDFAST_CRASH_PART").unwrap_or_else(|_| "1/1".into());
    let (part, of) = part.split_once('/').expect("HOLDFAST_CRASH_PART is N/M");
    let (part, of): (usize, usize) = (part.parse().unwrap(), of.parse().unwrap());
    all.iter().skip(part - 1).step_by(of).cloned().collect()
}

fn counted(verdicts: &[Option<Verdict>]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for verdict in verdicts {
        let name = verdict.map_or("before its journal began".to_owned(), |v| v.to_string());
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
}

#[test]
fn killed_at_a_system_call_a_restore_leaves_no_mixture() {
    if skip::lacks(&["strace"]) {
        return;
    }
    let Some(mut two) = TwoStates::make(&shape()) else {
        return;
    };
    let calls = calls(&mut two);
    let (mut killed, mut verdicts) = (0, Vec::new());
    let points = chosen(&calls, 20);
    for (call, n) in &points {
        let began = two.restores();
        let inject = format!("inject={call}:signal=SIGKILL:when={n}");
        let (died, _) = traced(&two, &["-e", &inject]);
        killed += usize::from(died.code() == 137);
        let recovered = two.holdfast(&["recover"]);
        verdicts.push(two.is_settled(&began, &recovered, &format!("killed at {call} {n}")));
    }
    println!(
        "{killed} of {} killed: {:?}",
        points.len(),
        counted(&verdicts)
    );
    // How often some calls are made differs a little from one run to the next.
    assert!(
        killed * 10 >= points.len() * 9,
        "{killed} of {}",
        points.len()
    );
}

#[test]
fn an_error_from_a_system_call_leaves_no_mixture_and_the_exit_status_says_which() {
    if skip::lacks(&["strace"]) {
        return;
    }
    let Some(mut two) = TwoStates::make(&shape()) else {
        return;
    };
    // A program that cannot be started is another matter.
    let calls: Vec<_> = calls(&mut two)
        .into_iter()
        .filter(|(call, _)| !["clone3", "vfork"].contains(call))
        .flat_map(|(call, n)| ["EIO", "ENOSPC"].map(|error| (call, n, error)))
        .collect();
    let (mut injected, mut verdicts) = (0, Vec::new());
    let points = chosen(&calls, 21);
    for (call, n, error) in &points {
        let began = two.restores();
        let inject = format!("inject={call}:error={error}:when={n}");
        let (done, log) = traced(&two, &["-e", &inject]);
        injected += usize::from(log.contains("INJECTED"));
        let recovered = two.holdfast(&["recover"]);
        let what = format!("{error} from {call} {n}: {done}");
        let verdict = two.is_settled(&began, &recovered, &what);
        let expected: &[i32] = match verdict {
            Some(Verdict::Restored) => &[0],
            Some(Verdict::RolledBack) => &[4],
            Some(Verdict::NothingChanged) | None => &[1, 3],
            // Only the operator ends it so.
            Some(Verdict::Left) => &[],
        };
        // Stuck, it waited for the recovery that came then.
        let stuck = done.code() == 5 && !recovered.stdout.contains("nothing to do");
        assert!(
            stuck || expected.contains(&done.code()),
            "{verdict:?}: {what}"
        );
        verdicts.push(verdict);
    }
    println!(
        "{injected} of {} failed: {:?}",
        points.len(),
        counted(&verdicts)
    );
    assert!(
        injected * 10 >= points.len() * 9,
        "{injected} of {}",
        points.len()
    );
}
