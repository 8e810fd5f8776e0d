//! Whatever happens to a restore at whatever moment, recovery leads to Before or After: every crash, every state that a
//! power cut may leave, every failing call, one by one on a simulated machine. `docs/crash-safety.md` says what is
//! enumerated, and how many states that is: these tests compare its table. `scripts/enumerate` enumerates all of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod again;
mod ends;
mod of_1_0;
mod others;
mod regressions;
mod starts;
mod tally;
mod tunnels;

use std::collections::BTreeMap;

use journal_format::{Direction, Entry, Policy, Step, Verdict};
use tests::oracle;
use tests::sim::gateway::{Kind, NEW, Scenario, Shape};
use tests::sim::host::{How, Moment, Trouble};
use tests::sim::trial::{End, Start};
use tests::sim::world::{ServiceStart, World};

use ends::{Images, after_a_crash, ended, ended_in_trouble, expected, power_cut, recovered};
use tally::{Taken, Tally, all, each};

fn scenario(kind: Kind, policy: Policy) -> Scenario {
    Scenario::new(kind, policy).expect("a plan")
}

/// Every one of them, or in the quick enumeration every n-th, beginning with the first.
fn every<T>(items: Vec<T>, n: usize) -> Vec<T> {
    let n = if all() { 1 } else { n };
    items.into_iter().step_by(n).collect()
}

/// A gateway of this kind, with a service that starts as it should once the restore has put its database in place.
fn starts_well_forward(kind: Kind) -> Shape {
    let mut shape = kind.shape();
    if shape.start.with == Some(NEW) {
        shape.start = ServiceStart::polite();
    }
    shape
}

const KINDS: [Kind; 4] = [
    Kind::Everything,
    Kind::PartsMissing,
    Kind::Unreadable,
    Kind::Raw,
];

#[test]
fn a_restore_that_nothing_disturbs_ends_in_after() {
    for kind in KINDS {
        let s = Scenario::of(&starts_well_forward(kind), Policy::Auto).expect("a plan");
        let run = s.restore(None, true);
        assert_eq!(run.end, End::Closed(Verdict::Restored), "{kind:?}");
        let journal = oracle::Journal::of(&s, &run.world);
        let wrong = oracle::settled(&s, &journal, &run.world, false);
        assert!(wrong.is_empty(), "{kind:?}: {}", wrong.join("\n"));
        assert!(!oracle::names_leftovers(&journal), "{kind:?}");
        println!(
            "{kind:?}: {} effects, {} calls",
            run.moments.len(),
            run.calls
        );
    }
}

#[test]
fn after_a_crash_at_any_effect_recovery_leads_to_before_or_after() {
    let mut total = Tally::default();
    for kind in KINDS {
        let s = scenario(kind, Policy::Auto);
        let moments = s.restore(None, true).moments;
        let taken = Taken::default();
        total.add(each(&moments, |moment, tally| {
            for (image, world, booted) in after_a_crash(&s, moment, Images::Each) {
                for start in &Start::ALL {
                    let place = format!("{kind:?}, after `{}`, {image}, {start:?}", moment.what);
                    recovered(&s, world.clone(), booted, *start, &place, &taken, tally);
                }
            }
        }));
    }
    total.finish("a crash of a restore");
}

#[test]
fn after_a_crash_at_any_effect_on_the_way_back_recovery_leads_to_before() {
    let mut total = Tally::default();
    for kind in KINDS {
        let s = scenario(kind, Policy::Auto);
        // Turned at the last moment, so that all of the way back is gone.
        let lifted = 31;
        let run = s.restore_on(s.world.clone(), None, true, Some(lifted));
        assert_eq!(run.end, End::Closed(Verdict::RolledBack), "{kind:?}");
        let is_turned = |m: &Moment| {
            let journal = m.world.disk.read(&s.places.journal);
            journal.is_some_and(|j| String::from_utf8_lossy(&j).contains(r#"{"turned""#))
        };
        let moments: Vec<Moment> = run.moments.into_iter().filter(is_turned).collect();
        let images = Images::Each;
        let taken = Taken::default();
        total.add(each(&moments, |moment, tally| {
            for (image, world, booted) in after_a_crash(&s, moment, images) {
                let place = format!("{kind:?}, back, after `{}`, {image}", moment.what);
                recovered(&s, world, booted, Start::AUTO, &place, &taken, tally);
            }
        }));
    }
    total.finish("a crash on the way back");
}

#[test]
fn after_a_crash_of_a_recovery_at_any_effect_another_one_leads_to_before_or_after() {
    let s = scenario(Kind::Everything, Policy::Auto);
    let moments = every(s.restore(None, true).moments, 23);
    let (firsts, taken) = (Taken::default(), Taken::default());
    let total = each(&moments, |moment, tally| {
        for (image, world, booted) in after_a_crash(&s, moment, Images::Two) {
            for start in if all() {
                &Start::ALL[..]
            } else {
                &Start::ALL[..1]
            } {
                if !firsts.is_new(&world, booted, start) {
                    continue;
                }
                let first = s.recover(world.clone(), *start, None, true);
                for second in every(first.moments, 8) {
                    for (again, world, rebooted) in after_a_crash(&s, &second, Images::Two) {
                        let place = format!(
                            "after `{}`, {image}, {start:?}, then `{}`, {again}",
                            moment.what, second.what
                        );
                        let booted = booted || rebooted;
                        recovered(&s, world, booted, Start::AUTO, &place, &taken, tally);
                    }
                }
            }
        }
    });
    total.finish("a crash of a recovery");
}

#[test]
fn recovery_goes_the_way_it_was_told_and_by_itself_forward_where_everything_new_is_in_place() {
    let mut verdicts = Tally::default();
    // Without rules in the backup those of before stay, and after a reboot somebody must load them.
    let without_rules = Shape {
        v4: false,
        ..Kind::Everything.shape()
    };
    for shape in KINDS
        .map(starts_well_forward)
        .into_iter()
        .chain([without_rules])
    {
        let s = Scenario::of(&shape, Policy::Auto).expect("a plan");
        let moments = s.restore(None, true).moments;
        verdicts.add(each(&every(moments, 2), |moment, tally| {
            for (image, world, booted) in after_a_crash(&s, moment, Images::Two) {
                for start in &Start::ALL {
                    let Some(expected) = expected(&s, &world, booted, start) else {
                        tally.count("no journal yet");
                        continue;
                    };
                    let run = s.recover(world.clone(), *start, None, false);
                    let journal = oracle::Journal::of(&s, &run.world);
                    tally.count(&expected.to_string());
                    if oracle::verdict(&journal) != expected {
                        let place =
                            format!("{shape:?}, after `{}`, {image}, {start:?}", moment.what);
                        tally.judge(
                            &place,
                            vec![format!("wanted {expected}, it ended {:?}", run.end)],
                        );
                    }
                }
            }
        }));
    }
    assert_eq!(verdicts.wrong, BTreeMap::new());
    assert_eq!(verdicts.counts.len(), 4, "{:?}", verdicts.counts);
}

#[test]
fn a_boot_in_two_stages_has_one_set_of_files_before_the_network_and_leads_to_before_or_after() {
    let s = scenario(Kind::Everything, Policy::Auto);
    let moments = every(s.restore(None, true).moments, 3);
    let (firsts, taken) = (Taken::default(), Taken::default());
    let total = each(&moments, |moment, tally| {
        for (image, world, booted) in after_a_crash(&s, moment, Images::Two) {
            if !booted || !firsts.is_new(&world, booted, &Start::BEFORE_NETWORK) {
                continue;
            }
            let mut booted = world.picture(&[]).running;
            let first = s.recover(world, Start::BEFORE_NETWORK, None, true);
            let place = format!("after `{}`, {image}", moment.what);
            let after = first.world.picture(&[]).running;
            // Only the fence may change: the network is not there yet, nor are the services of the box.
            booted.fence = after.fence;
            if after != booted {
                tally.judge(&place, vec![format!("before the network: {after:?}")]);
            }
            for second in every(first.moments.clone(), 11) {
                for (again, world, _) in after_a_crash(&s, &second, Images::Two) {
                    let place = format!(
                        "after `{}`, {image}, then `{}`, {again}",
                        moment.what, second.what
                    );
                    let start = Start::BEFORE_NETWORK;
                    recovered(&s, world, true, start, &place, &taken, tally);
                }
            }
            ended(&s, first, true, &place, tally);
        }
    });
    total.finish("a boot in two stages");
}

#[test]
fn three_power_cuts_during_recovery_and_the_fourth_boot_settles() {
    let s = scenario(Kind::Everything, Policy::Auto);
    let moments = every(s.restore(None, true).moments, 13);
    let taken = Taken::default();
    let total = each(&moments, |moment, tally| {
        for back in [false, true] {
            let Some((_, disk)) = moment.world.disk.images(0, &[]).into_iter().next() else {
                continue;
            };
            let mut world = power_cut(&s, &moment.world, disk);
            for cut in 0..3 {
                let first = s.recover(world.clone(), Start::BEFORE_NETWORK, None, true);
                let second = s.recover(first.world, Start::AUTO, None, true);
                let mut moments = first.moments;
                moments.extend(second.moments);
                // At the same place each time, or each time further on.
                let at = if back {
                    moments.len() / 2
                } else {
                    moments.len() * (cut + 1) / 4
                };
                let Some(at) = moments.get(at) else {
                    continue;
                };
                let Some((_, disk)) = at.world.disk.images(0, &[]).into_iter().next() else {
                    continue;
                };
                world = power_cut(&s, &at.world, disk);
            }
            let place = format!("after `{}`, three cuts", moment.what);
            let start = Start::BEFORE_NETWORK;
            recovered(&s, world, true, start, &place, &taken, tally);
        }
    });
    total.finish("three power cuts during recovery");
}

fn troubles(calls: u64, every_nth: usize) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    for at in every((0..calls).collect(), every_nth) {
        for how in [How::Refused, How::AfterTheFact, How::HalfWay, How::Hangs] {
            for for_ever in [false, true] {
                troubles.push(Trouble { at, for_ever, how });
            }
        }
    }
    troubles
}

/// Each of these commands says that it worked and does nothing; it alone, or all from there on.
fn lies(commands: &[u64]) -> Vec<Trouble> {
    let lie = |for_ever| {
        move |at: &u64| Trouble {
            at: *at,
            for_ever,
            how: How::Lies,
        }
    };
    let (one, all) = (lie(false), lie(true));
    commands.iter().flat_map(|at| [one(at), all(at)]).collect()
}

#[test]
fn before_a_step_back_is_tried_again_there_is_a_pause_and_before_nothing_else() {
    let s = scenario(Kind::Everything, Policy::Auto);
    let back = |trouble| s.restore_on(s.world.clone(), trouble, false, Some(31));
    let (mut again, mut first) = (0, 0);
    for at in back(None).commands {
        for for_ever in [false, true] {
            let how = How::Refused;
            let run = back(Some(Trouble { at, for_ever, how }));
            let records = oracle::Journal::of(&s, &run.world).records;
            for pair in records.windows(2) {
                let Entry::Intent { r#move, .. } = &pair[1].entry else {
                    continue;
                };
                let paused = pair[1].up_ms - pair[0].up_ms >= 1000;
                let is_again = r#move.direction == Direction::Back && r#move.attempt > 1;
                assert_eq!(paused, is_again, "{at}, {for_ever}: {move:?}");
                *(if is_again { &mut again } else { &mut first }) += 1;
            }
        }
    }
    assert!(again > 10 && first > again, "{again}, {first}");
}

#[test]
fn whichever_call_of_a_restore_fails_the_gateway_ends_in_before_or_after() {
    let mut total = Tally::default();
    for kind in KINDS {
        let s = scenario(kind, Policy::Auto);
        let calls = s.restore(None, false).calls;
        let taken = Taken::default();
        total.add(each(&troubles(calls, 5), |trouble, tally| {
            let run = s.restore(Some(*trouble), false);
            let place = format!("{kind:?}, {trouble:?}");
            ended_in_trouble(&s, run, false, &place, &taken, tally);
        }));
        // There and, turned at the last moment, all the way back.
        for asked_at in [None, Some(31)] {
            let restore = |trouble| s.restore_on(s.world.clone(), trouble, false, asked_at);
            let commands = restore(None).commands;
            assert!(commands.len() > 10, "{commands:?}");
            total.add(each(&lies(&commands), |trouble, tally| {
                let place = format!("{kind:?}, asked at {asked_at:?}, {trouble:?}");
                ended_in_trouble(&s, restore(Some(*trouble)), false, &place, &taken, tally);
            }));
        }
    }
    total.finish("a failing call of a restore");
}

#[test]
fn whichever_call_of_a_recovery_fails_the_gateway_ends_in_before_or_after() {
    let s = scenario(Kind::Everything, Policy::Auto);
    let moments = s.restore(None, true).moments;
    let step = if all() { 10 } else { 60 };
    let some: Vec<Moment> = moments.into_iter().step_by(step).collect();
    let (firsts, taken) = (Taken::default(), Taken::default());
    let total = each(&some, |moment, tally| {
        for (image, world, booted) in after_a_crash(&s, moment, Images::Two) {
            if !firsts.is_new(&world, booted, &Start::AUTO) {
                continue;
            }
            let calls = s.recover(world.clone(), Start::AUTO, None, false).calls;
            for trouble in troubles(calls, 29) {
                let place = format!("after `{}`, {image}, {trouble:?}", moment.what);
                let run = s.recover(world.clone(), Start::AUTO, Some(trouble), false);
                ended_in_trouble(&s, run, booted, &place, &taken, tally);
            }
        }
    });
    total.finish("a failing call of a recovery");
}

#[test]
fn whenever_someone_asks_to_turn_back_the_gateway_ends_in_before_or_after() {
    let mut total = Tally::default();
    for kind in KINDS {
        let s = scenario(kind, Policy::Auto);
        let records: Vec<u64> = (2..60).collect();
        let taken = Taken::default();
        total.add(each(&records, |record, tally| {
            let run = s.restore_on(s.world.clone(), None, false, Some(*record));
            if taken.is_new(&run.world, false, &run.end) {
                let place = format!("{kind:?}, asked at {record}");
                ended(&s, run, false, &place, tally);
            }
        }));
    }
    total.finish("asked to turn back");
}

#[test]
fn someone_who_asks_to_turn_back_while_files_are_staged_waits_for_none_of_the_others() {
    let s = scenario(Kind::Everything, Policy::Auto);
    let staged = |asked_at| {
        let run = s.restore_on(s.world.clone(), None, true, asked_at);
        let targets = || s.plan.databases.iter().chain(&s.plan.files);
        let is_staged = |m: &&Moment| {
            targets().any(|t| m.what.starts_with("create") && m.what.ends_with(&t.staged))
        };
        (run.moments.iter().filter(is_staged).count(), run.end)
    };
    let (all, _) = staged(None);
    let begun = s.begun(Step::Stage).unwrap();
    let journal = begun.disk.read(&s.places.journal).unwrap();
    let intent = journal_format::scan(&journal).state.unwrap().seq.0;
    assert!(all > 5, "{all}");
    assert_eq!(
        staged(Some(intent)),
        (0, End::Closed(Verdict::NothingChanged))
    );
}

/// Recovers again and again, and dies each time as soon as it has done something: by itself, or with the machine.
fn asks_in_the_end(died: impl Fn(&Scenario, &Moment) -> World) {
    let s = scenario(Kind::Everything, Policy::Auto);
    let moments = s.restore(None, true).moments;
    let mut world = died(&s, &moments[moments.len() / 2]);
    for starts in 1.. {
        assert!(starts < 20, "it never asks");
        let run = s.recover(world, Start::AUTO, None, true);
        if let End::Stuck(why) = &run.end {
            let journal = oracle::Journal::of(&s, &run.world);
            assert_eq!(oracle::stuck(&s, &journal, &run.world, why), [""; 0]);
            let again = s.recover(run.world.clone(), Start::AUTO, None, false);
            assert!(matches!(again.end, End::Stuck(_)), "only by hand");
            let by_hand = s.recover(again.world, Start::ROLL_BACK, None, false);
            assert_eq!(by_hand.end, End::Closed(Verdict::RolledBack));
            return;
        }
        world = died(&s, &run.moments[run.moments.len() / 3]);
    }
}

#[test]
fn a_recovery_that_dies_every_time_asks_for_the_operator_in_the_end() {
    asks_in_the_end(|_, moment| moment.world.clone());
}

#[test]
fn a_machine_that_dies_in_every_recovery_asks_for_the_operator_in_the_end() {
    asks_in_the_end(|s, moment| {
        let (_, disk) = moment.world.disk.images(0, &[]).swap_remove(0);
        power_cut(s, &moment.world, disk)
    });
}
