//! SIGKILL at any moment, then `holdfast recover`: the gateway is as before or as the backup says, and the journal says
//! which. Two ways to choose the moment: by the records that a real `holdfast restore` has written, and by the effects of
//! one on a host that dies at a chosen one (`holdfast-crash`), which hits every gap between two effects.
//!
//! Over all moments either takes many minutes: the suite runs a spread of them, and with `HOLDFAST_EVERY_CRASH=1`
//! in the environment every one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use engine::plan::order;
use fixtures::{Finished, Shape, program};
use journal_format::{Phase, RestoreId, Step, Verdict};

use crate::two_states::TwoStates;

/// Two tunnels, one of them with hooks.
pub fn small() -> Shape {
    Shape {
        active: 2,
        hooks: true,
        ..Shape::of(5)
    }
}

/// The databases in WAL mode, with rows that only the `-wal` has.
fn small_wal() -> Shape {
    Shape {
        wal: true,
        ..small()
    }
}

/// Kills a restore once it has written `records` records, and `later` after that.
fn killed_at(two: &TwoStates, records: usize, later: Duration) {
    let holdfast = program("holdfast").unwrap();
    let mut restore = two
        .sandbox()
        .spawn(&[
            holdfast.to_str().unwrap(),
            "--config",
            two.sample().profile().to_str().unwrap(),
            "--json",
            "restore",
            &two.other(),
            "--yes",
        ])
        .unwrap();
    while restore.stdout_so_far().unwrap().lines().count() < records
        && !restore.has_ended().unwrap()
    {
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(later);
    restore.kill_worker().unwrap();
    restore.wait().unwrap();
}

/// The restore or recovery on a host that dies at this moment.
pub fn crash(two: &TwoStates, moment: &str, what: &[&str]) -> Finished {
    let program = program("holdfast-crash").unwrap();
    let profile = two.sample().profile();
    let argv = [
        &[program.to_str().unwrap(), profile.to_str().unwrap(), moment],
        what,
    ]
    .concat();
    two.sandbox().run(&argv).unwrap()
}

/// What a crash left, as its journal has it.
fn phase(two: &TwoStates, began: &BTreeSet<RestoreId>) -> (Phase, bool) {
    let bytes = std::fs::read(two.journal(&two.fresh(began).unwrap())).unwrap();
    let state = journal_format::scan(&bytes).state.unwrap();
    (state.phase, state.has_effects())
}

/// Whether every moment is asked for, and not a spread of them.
fn every_moment() -> bool {
    std::env::var("HOLDFAST_EVERY_CRASH").as_deref() == Ok("1")
}

/// At records, and at some delays after one that are no multiples of anything.
#[test]
fn killed_at_any_record_a_gateway_with_wal_databases_is_as_before_or_as_the_backup_says() {
    let Some(mut two) = TwoStates::make(&small_wal()) else {
        return;
    };
    let apart = if every_moment() { 1 } else { 5 };
    let at_records = (2..41).step_by(apart).map(|n| (n, 0));
    let later = [(8, 1_700), (19, 2_900), (25, 31_000), (29, 170_000)];
    let mut verdicts = Vec::new();
    for (records, us) in at_records.chain(later) {
        let began = two.restores();
        killed_at(&two, records, Duration::from_micros(us));
        let recovered = two.holdfast(&["recover"]);
        let what = format!("killed {us} µs after record {records}");
        verdicts.extend(two.is_settled(&began, &recovered, &what));
    }
    for verdict in [
        Verdict::NothingChanged,
        Verdict::RolledBack,
        Verdict::Restored,
    ] {
        assert!(
            verdicts.contains(&verdict),
            "no kill ended as {verdict}: {verdicts:?}"
        );
    }
}

#[test]
fn the_operator_chooses_the_direction_where_the_journal_leaves_it() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    for records in [5, 9, 11, 15, 18, 21, 24, 30, 34, 36] {
        for choice in ["--resume", "--roll-back"] {
            let began = two.restores();
            killed_at(&two, records, Duration::ZERO);
            let left = phase(&two, &began);
            let recovered = two.holdfast(&["recover", choice]);
            let what = format!("killed at record {records}, {choice}");
            let verdict = two.is_settled(&began, &recovered, &what);
            let expected = match (left, choice) {
                ((Phase::Closed(verdict), _), _) => verdict,
                ((Phase::Committed, _), _) | ((Phase::Forward, true), "--resume") => {
                    Verdict::Restored
                }
                ((Phase::Forward, true), _) | ((Phase::Back, _), _) => Verdict::RolledBack,
                ((Phase::Opening | Phase::Preparing | Phase::Forward, _), _) => {
                    Verdict::NothingChanged
                }
            };
            assert_eq!(verdict, Some(expected), "{what}: {left:?}: {recovered}");
        }
    }
}

/// The moments at which a run of these effects is cut off: before each, and within those that take time. Every one if
/// the environment asks for it; else so many, spread evenly, and those within the start of a tunnel: what is cut off there
/// looks whole.
fn moments(effects: &str, most: usize) -> Vec<String> {
    let (mut always, mut others) = (Vec::new(), Vec::new());
    for (k, name) in (1..).zip(effects.lines()) {
        others.push(format!("before:{k}"));
        let (short, long) = (&[4][..], &[15, 45, 80, 120][..]);
        let within = match name {
            "append" | "append an outcome" | "create a file" => &[0],
            "load rules" | "edit rules" | "nft" => short,
            "tunnel down" | "service start" | "service stop" => long,
            "tunnel up" => {
                always.extend(long.iter().map(|ms| format!("within:{k}:{ms}")));
                continue;
            }
            _ => &[],
        };
        others.extend(within.iter().map(|ms| format!("within:{k}:{ms}")));
    }
    assert!(others.len() > 40 && !always.is_empty(), "{effects}");
    if every_moment() {
        always.extend(others);
    } else {
        let total = others.len();
        always.extend((0..most).map(|i| others[i * total / most].clone()));
    }
    always
}

#[test]
fn no_gap_between_two_effects_of_a_restore_leaves_a_mixture() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let began = two.restores();
    let dry = crash(&two, "never", &["restore", &two.other()])
        .ok()
        .unwrap();
    two.at = 1 - two.at;
    assert!(two.fresh(&began).is_some());
    for moment in moments(&dry.stdout, 16) {
        let began = two.restores();
        let died = crash(&two, &moment, &["restore", &two.other()]);
        let recovered = two.holdfast(&["recover"]);
        two.is_settled(&began, &recovered, &format!("{moment}: {died}"));
    }
}

#[test]
fn no_gap_between_two_effects_of_a_recovery_leaves_a_mixture() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    // Killed in the middle of its way forward, then recovered in either direction.
    for (choice, records) in [("resume", 19), ("roll-back", 24)] {
        let left = |two: &TwoStates| killed_at(two, records, Duration::from_millis(1));
        let began = two.restores();
        left(&two);
        let dry = crash(&two, "never", &["recover", choice]);
        let recovered = two.holdfast(&["recover"]);
        let to_other = dry.code() == 0;
        assert!(to_other == (choice == "resume"), "{dry}");
        assert!(recovered.stdout.contains("nothing to do"), "{recovered}");
        assert!(two.fresh(&began).is_some());
        if to_other {
            two.at = 1 - two.at;
        }
        for moment in moments(&dry.stdout, 6) {
            let began = two.restores();
            left(&two);
            let died = crash(&two, &moment, &["recover", choice]);
            let recovered = two.holdfast(&["recover"]);
            two.is_settled(&began, &recovered, &format!("{choice} {moment}: {died}"));
        }
    }
}

/// The moments right before a move that acted is noted as done: recovery makes it a second time.
fn before_outcomes(effects: &str) -> Vec<String> {
    (1..)
        .zip(effects.lines())
        .filter(|(_, name)| *name == "append an outcome")
        .map(|(k, _)| format!("before:{k}"))
        .collect()
}

#[test]
fn every_move_forward_may_be_made_twice() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    // A restore of the one state may have an effect more than one of the other.
    let mut moments = [Vec::new(), Vec::new()];
    for _ in 0..2 {
        let dry = crash(&two, "never", &["restore", &two.other()]);
        moments[two.at] = before_outcomes(&dry.ok().unwrap().stdout);
        assert_eq!(moments[two.at].len(), order::FORWARD.len());
        two.at = 1 - two.at;
    }
    for (nth, step) in order::FORWARD.into_iter().enumerate() {
        let moment = &moments[two.at][nth];
        let began = two.restores();
        crash(&two, moment, &["restore", &two.other()]);
        let recovered = two.holdfast(&["recover", "--resume"]);
        let verdict = two.is_settled(&began, &recovered, step.slug());
        let expected = if step.is_preparation() {
            Verdict::NothingChanged
        } else {
            assert!(
                recovered.stdout.contains("(attempt 2)"),
                "{step}: {recovered}"
            );
            Verdict::Restored
        };
        assert_eq!(verdict, Some(expected), "{step}: {recovered}");
    }
}

#[test]
fn every_move_back_may_be_made_twice() {
    let Some(mut two) = TwoStates::make(&small_wal()) else {
        return;
    };
    // Left at the same effect each time, so that the way back has the same effects each time.
    let way = crash(&two, "never", &["restore", &two.other()])
        .ok()
        .unwrap();
    let mine = two.backups[two.at].display().to_string();
    crash(&two, "never", &["restore", &mine]).ok().unwrap();
    let outcomes = order::FORWARD.into_iter().zip(before_outcomes(&way.stdout));
    let (_, moment) = outcomes
        .into_iter()
        .find(|(s, _)| *s == Step::VerifyAtRest)
        .unwrap();
    let left = |two: &TwoStates| drop(crash(two, &moment, &["restore", &two.other()]));
    let began = two.restores();
    left(&two);
    let dry = crash(&two, "never", &["recover", "roll-back"]);
    let id = two.fresh(&began).unwrap();
    let shown = two.holdfast(&["journal", "show", id.as_str()]);
    assert_eq!(dry.code(), 4, "{dry}{shown}");
    let moments = before_outcomes(&dry.stdout);
    assert_eq!(moments.len(), order::BACK.len() + 1, "{dry}{shown}");
    for moment in moments {
        let began = two.restores();
        left(&two);
        crash(&two, &moment, &["recover", "roll-back"]);
        let recovered = two.holdfast(&["recover"]);
        assert!(
            recovered.stdout.contains("(attempt 2)"),
            "{moment}: {recovered}"
        );
        let verdict = two.is_settled(&began, &recovered, &moment);
        assert_eq!(verdict, Some(Verdict::RolledBack), "{moment}: {recovered}");
    }
}
