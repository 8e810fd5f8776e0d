//! Courses that once led elsewhere than to Before or After, each by itself.

use std::path::Path;

use journal_format::{Code, Direction, Fate, Step, scan};
use tests::sim::actor::Deed;
use tests::sim::trial::Run;

use super::*;

#[test]
fn after_a_reboot_a_service_whose_start_failed_half_way_leaves_no_rule_twice_on_the_way_back() {
    // Its first start added its rules and then failed; the second one added them again.
    let s = scenario(Kind::Everything, Policy::Auto);
    let moments = s.restore(None, true).moments;
    let mut twice = 0;
    for stopped in ["stop the service ", "sync /etc/wireguard"] {
        let moment = moments.iter().find(|m| m.what == stopped).unwrap();
        for (image, world, booted) in after_a_crash(&s, moment, Images::Two) {
            let calls = s.recover(world.clone(), Start::AUTO, None, false).calls;
            for at in 0..calls {
                let trouble = Trouble {
                    at,
                    for_ever: false,
                    how: How::HalfWay,
                };
                let run = s.recover(world.clone(), Start::AUTO, Some(trouble), false);
                let journal = oracle::Journal::of(&s, &run.world);
                if run.end == End::Closed(Verdict::RolledBack) && booted {
                    let wrong = oracle::settled(&s, &journal, &run.world, booted);
                    assert_eq!(wrong, [""; 0], "after `{stopped}`, {image}, {trouble:?}");
                    twice += u32::from(journal.failed(journal_format::Step::StartServices));
                }
            }
        }
    }
    assert!(twice > 0, "no start of the service failed");
}

#[test]
fn a_restore_that_went_on_after_a_reboot_and_then_turned_leaves_none_of_the_backups_rules() {
    let s = scenario(Kind::Everything, Policy::Resume);
    let moments = s.restore(None, true).moments;
    let moment = moments.iter().find(|m| m.what == "stop the service ");
    let worlds = after_a_crash(&s, moment.unwrap(), Images::Two);
    let (taken, mut total) = (Taken::default(), Tally::default());
    for (image, world, booted) in worlds.into_iter().filter(|(.., booted)| *booted) {
        let calls = s.recover(world.clone(), Start::AUTO, None, false).calls;
        // The rules are loaded late.
        let mut late = troubles(calls, 3);
        late.retain(|t| !t.for_ever && t.at > calls / 2);
        total.add(each(&late, |trouble, tally| {
            let place = format!("{image}, {trouble:?}");
            let run = s.recover(world.clone(), Start::AUTO, Some(*trouble), false);
            ended_in_trouble(&s, run, booted, &place, &taken, tally);
        }));
    }
    assert_eq!(total.wrong, BTreeMap::new());
    let came = |v: Verdict| total.counts.contains_key(&v.to_string());
    assert!(came(Verdict::Restored) && came(Verdict::RolledBack));
}

#[test]
fn a_service_that_failed_before_may_fail_again_on_the_way_back_and_runs_after_a_restore() {
    let s = scenario(Kind::Faltering, Policy::Auto);
    assert!(!s.before.running.service && s.after.running.service);
    let run = s.restore(None, true);
    assert_eq!(run.end, End::Closed(Verdict::Restored));
    let taken = Taken::default();
    let verdicts = each(&every(run.moments, 3), |moment, tally| {
        for (image, world, booted) in after_a_crash(&s, moment, Images::Two) {
            for start in &Start::ALL {
                let place = format!("after `{}`, {image}, {start:?}", moment.what);
                recovered(&s, world.clone(), booted, *start, &place, &taken, tally);
            }
        }
    });
    assert_eq!(verdicts.wrong, BTreeMap::new());
    let came = |v: Verdict| verdicts.counts.get(&v.to_string()).is_some_and(|n| *n > 0);
    assert!(came(Verdict::Restored) && came(Verdict::RolledBack));
}

/// Whether a restore ended well without the rules of its backup, and says so.
fn is_without_the_firewall(s: &Scenario, run: &Run) -> bool {
    let journal = oracle::Journal::of(s, &run.world);
    let said = journal.records.iter().any(|r| match &r.entry {
        Entry::Done { warnings, .. } => warnings.iter().any(|w| w.is(&Code::RULES_NOT_LOADED)),
        _ => false,
    });
    said && run.end == End::Closed(Verdict::Restored)
}

#[test]
fn rules_that_cannot_be_read_are_touched_by_nobody_whatever_becomes_of_the_restore() {
    let s = scenario(Kind::RulesUnread, Policy::Auto);
    let run = s.restore(None, true);
    assert_eq!(run.end, End::Closed(Verdict::Restored));
    assert!(
        run.world.kernel.v6 != s.world.kernel.v6,
        "no hook did anything"
    );
    let taken = Taken::default();
    let mut total = each(&every(run.moments, 11), |moment, tally| {
        for (image, world, booted) in after_a_crash(&s, moment, Images::Two) {
            for start in &Start::ALL {
                let place = format!("after `{}`, {image}, {start:?}", moment.what);
                recovered(&s, world.clone(), booted, *start, &place, &taken, tally);
            }
        }
    });
    total.add(each(&every(run.commands, 3), |at, tally| {
        for how in [How::Refused, How::AfterTheFact, How::HalfWay] {
            let (at, for_ever) = (*at, false);
            let run = s.restore(Some(Trouble { at, for_ever, how }), false);
            let place = format!("{at} {how:?}");
            if is_without_the_firewall(&s, &run) {
                // The admin accepted that beforehand: then no rules of the backup are in force, and the verdict names that.
                tally.count("restored without the firewall");
                tally.judge(&place, oracle::files_are_one_set(&s, &run.world));
                continue;
            }
            ended_in_trouble(&s, run, false, &place, &taken, tally);
        }
    }));
    assert_eq!(total.wrong, BTreeMap::new());
    let came = |v: Verdict| total.counts.contains_key(&v.to_string());
    assert!(came(Verdict::Restored) && came(Verdict::RolledBack));
}

#[test]
fn on_the_way_back_a_service_that_failed_before_is_started_until_its_manager_tried() {
    // A start that was refused once left it at rest: started by hand, or by the rest of the boot, it then added its rules to
    // those that were already back.
    let s = scenario(Kind::Faltering, Policy::RollBack);
    let moments = s.restore(None, true).moments;
    let taken = Taken::default();
    let total = each(&every(moments, 20), |moment, tally| {
        for (image, world, booted) in after_a_crash(&s, moment, Images::Two) {
            let commands = s.recover(world.clone(), Start::AUTO, None, false).commands;
            for at in commands {
                for how in [How::Refused, How::AfterTheFact, How::HalfWay, How::Hangs] {
                    let for_ever = false;
                    let trouble = Trouble { at, for_ever, how };
                    let place = format!("after `{}`, {image}, {trouble:?}", moment.what);
                    let run = s.recover(world.clone(), Start::AUTO, Some(trouble), false);
                    ended_in_trouble(&s, run, booted, &place, &taken, tally);
                }
            }
        }
    });
    assert_eq!(total.wrong, BTreeMap::new());
    assert!(total.counts.contains_key(&Verdict::RolledBack.to_string()));
}

#[test]
fn a_fence_that_a_boot_closed_by_the_barrier_is_lifted_wherever_recovery_ends() {
    let s = scenario(Kind::Everything, Policy::Auto);
    let (mut committed, mut over) = (0, 0);
    for moment in &every(s.restore(None, true).moments, 3) {
        for (image, mut world, booted) in after_a_crash(&s, moment, Images::Two) {
            let Some(barrier) = world.disk.read(&s.places.barrier).filter(|_| booted) else {
                continue;
            };
            let barrier = String::from_utf8_lossy(&barrier).into_owned();
            assert!(barrier.contains("chain forward"), "{barrier}");
            world.kernel.fence = Some(barrier);
            let journal = world.disk.read(&s.places.journal).unwrap_or_default();
            let journal = String::from_utf8_lossy(&journal);
            committed += u32::from(journal.contains(r#""entry":"committed""#));
            let run = s.recover(world, Start::AUTO, None, false);
            over += u32::from(run.end == End::Over);
            let place = format!("after `{}`, {image}", moment.what);
            assert!(run.world.kernel.fence.is_none(), "{place}: {:?}", run.end);
            let mut tally = Tally::default();
            ended(&s, run, true, &place, &mut tally);
            assert!(tally.wrong.is_empty(), "{:?}", tally.wrong);
        }
    }
    assert!(committed > 0 && over > 0, "{committed}, {over}");
}

/// A restore dies after each of these effects, and the machine goes on; then in its recovery the power goes after each of
/// its own, and all that was not synced is lost. How often the second recovery ended.
fn dies_and_then_loses_all(is: impl Fn(&Scenario, &Moment) -> bool) -> u32 {
    let s = scenario(Kind::Everything, Policy::Auto);
    let mut ends = 0;
    let moments = s.restore(None, true).moments;
    for died in moments.iter().filter(|m| is(&s, m)) {
        let recovery = s.recover(died.world.clone(), Start::AUTO, None, true);
        for cut in &recovery.moments {
            let (_, disk) = cut.world.disk.images(0, &[]).swap_remove(0);
            let world = power_cut(&s, &cut.world, disk);
            let run = s.recover(world, Start::AUTO, None, false);
            let place = format!("after `{}`, then `{}`", died.what, cut.what);
            let mut tally = Tally::default();
            ended(&s, run, true, &place, &mut tally);
            assert!(tally.wrong.is_empty(), "{:?}", tally.wrong);
            ends += 1;
        }
    }
    ends
}

#[test]
fn before_an_original_leaves_its_old_place_the_way_to_its_new_one_is_durable() {
    // The folder was made and not yet synced; the recovery found it there.
    let makes_a_folder =
        |_: &Scenario, m: &Moment| m.what.starts_with("make ") && m.what.contains("/originals/");
    assert!(dies_and_then_loses_all(makes_a_folder) > 0);
}

#[test]
fn before_the_barrier_goes_the_closing_is_durable() {
    // The closing was written and not yet synced; the recovery read it.
    let closing = |s: &Scenario, m: &Moment| {
        let journal = m.world.disk.read(&s.places.journal).unwrap_or_default();
        m.what.starts_with("append to ")
            && String::from_utf8_lossy(&journal).contains(r#"{"closed""#)
    };
    assert!(dies_and_then_loses_all(closing) > 0);
}

#[test]
fn a_recovery_that_cannot_look_at_what_was_done_still_goes_back_when_told_so() {
    let s = scenario(Kind::Everything, Policy::Auto);
    // The rules are loaded, and the file that says which they are is gone: whether they still stand cannot be seen.
    let mut world = s.begun(Step::LiftFence).unwrap();
    let rules = s.profile.restore_dir(&s.id).join("after/rules.v4");
    world.disk.remove(&rules).unwrap();
    let run = s.recover(world, Start::ROLL_BACK, None, false);
    assert_eq!(run.end, End::Closed(Verdict::RolledBack));
    let journal = oracle::Journal::of(&s, &run.world);
    assert_eq!(oracle::settled(&s, &journal, &run.world, false), [""; 0]);
}

#[test]
fn a_clean_up_that_is_made_again_revives_no_client_that_an_admin_called_inactive() {
    let s = scenario(Kind::Everything, Policy::Auto);
    let calls = s.restore(None, false).calls;
    let mut tried = 0;
    for at in 0..calls {
        let trouble = Trouble {
            at,
            for_ever: false,
            how: How::Refused,
        };
        let mut run = s.restore(Some(trouble), false);
        let journal = oracle::Journal::of(&s, &run.world);
        if run.end != End::Closed(Verdict::Restored) || !oracle::names_leftovers(&journal) {
            continue;
        }
        let database = run.world.databases[0].clone();
        let text = run.world.disk.read(Path::new(&database)).unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        let revoked = text.replace("client stay active", "client stay inactive");
        assert_ne!(text, revoked, "{trouble:?}");
        let disk = &mut run.world.disk;
        disk.rewrite(Path::new(&database), revoked.into_bytes())
            .unwrap();
        let again = s.recover(run.world, Start::AUTO, None, false);
        let rows = again.world.rows(&database).unwrap();
        let revoked = |row: &String| row == "client stay inactive";
        assert!(rows.iter().any(revoked), "{trouble:?}: {rows:?}");
        tried += 1;
    }
    assert!(tried > 0, "no clean-up left anything over");
}

#[test]
fn what_a_clean_up_that_was_cut_off_has_moved_is_named_by_the_next() {
    let s = scenario(Kind::Everything, Policy::Auto);
    let moments = s.restore(None, true).moments;
    let journal = |world: &World| world.disk.read(&s.places.journal).unwrap_or_default();
    let swapped = |m: &&Moment| {
        let state = scan(&journal(&m.world)).state;
        let swap = state.and_then(|s| s.find(Step::SwapConfigs, Direction::Forward).cloned());
        swap.is_some_and(|m| m.fate == Fate::Done)
    };
    let mut world = moments.iter().find(swapped).unwrap().world.clone();
    Deed::SavesAnew.act(&mut world);
    let back = s.recover(world, Start::ROLL_BACK, None, true);
    assert_eq!(back.end, End::Closed(Verdict::RolledBack));
    let is_moved = |m: &&Moment| {
        m.world
            .disk
            .files()
            .keys()
            .any(|path| path.contains("/found/"))
    };
    let (mut cut_off, mut said) = (0, 0);
    for moment in back.moments.iter().filter(is_moved) {
        cut_off += 1;
        let next = s.recover(moment.world.clone(), Start::AUTO, None, false);
        let state = scan(&journal(&next.world)).state.unwrap();
        let cleaned = state.find(Step::CleanUp, Direction::Back).unwrap();
        let notes = cleaned.warnings.iter().filter(|n| n.is(&Code::FOUND_KEPT));
        said += u32::from(notes.count() == 1);
    }
    assert!(cut_off > 3, "{cut_off}");
    assert_eq!(said, cut_off);
}
