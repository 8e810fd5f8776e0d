//! Whatever happens to a restore at whatever moment, recovery leads to Before or After: every crash, every state that a
//! power cut may leave, every failing call, one by one on a simulated machine. `docs/crash-safety.md` says what is
//! enumerated, and how many states that is: these tests compare its table. `scripts/enumerate` enumerates all of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use journal_format::{Direction, Entry, Phase, Policy, Verdict, scan};
use tests::oracle;
use tests::sim::disk::Disk;
use tests::sim::gateway::{Kind, Scenario, Shape};
use tests::sim::host::{How, Moment, Trouble};
use tests::sim::trial::{End, Run, Start};
use tests::sim::world::World;

use crate::counted;

/// Worlds that were taken up before: each is run once, and counted once.
#[derive(Default)]
struct Taken(Mutex<HashSet<(u64, bool, String)>>);

impl Taken {
    /// Whether this world was not yet taken up in this way.
    fn is_new(&self, world: &World, booted: bool, how: &impl std::fmt::Debug) -> bool {
        let key = (world.fingerprint(STATE), booted, format!("{how:?}"));
        self.0.lock().unwrap().insert(key)
    }
}

const STATE: &str = "/var/lib/holdfast";

/// What was counted, and what went wrong.
#[derive(Default)]
struct Tally {
    counts: BTreeMap<String, u64>,
    /// Of these states, how many asked for the operator on the way to their end.
    asked: u64,
    /// What is wrong: how often, and where first.
    wrong: BTreeMap<String, (u64, String)>,
}

impl Tally {
    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_insert(0) += 1;
    }

    fn judge(&mut self, place: &str, wrong: Vec<String>) {
        for what in wrong {
            self.wrong.entry(what).or_insert((0, place.to_owned())).0 += 1;
        }
    }

    fn add(&mut self, other: Tally) {
        self.asked += other.asked;
        for (what, n) in other.counts {
            *self.counts.entry(what).or_insert(0) += n;
        }
        for (what, (n, place)) in other.wrong {
            let there = self.wrong.entry(what).or_insert((0, place.clone()));
            there.0 += n;
            there.1 = there.1.clone().min(place);
        }
    }

    fn states(&self) -> u64 {
        self.counts.values().sum()
    }

    fn finish(&self, name: &str) {
        let shown: Vec<String> = self
            .wrong
            .iter()
            .take(30)
            .map(|(what, (n, place))| format!("{n} times: {what}\n      first {place}"))
            .collect();
        let shown = shown.join("\n");
        assert!(
            shown.is_empty(),
            "{name}, {} states:\n{shown}",
            self.states()
        );
        let mut lines = vec![format!("{} states", self.states())];
        lines.extend(self.counts.iter().map(|(what, n)| format!("{n:>7} {what}")));
        lines.push(format!(
            "{:>7} of them asked for the operator first",
            self.asked
        ));
        println!("{name}: {}", lines.join("\n"));
        counted::compare(name, self.states(), all());
    }
}

fn all() -> bool {
    std::env::var("HOLDFAST_ENUMERATE").is_ok_and(|v| v == "all")
}

/// An enumeration takes every processor: of those that run side by side one at a time does, and leaves room for other tests.
static ALONE: Mutex<()> = Mutex::new(());

/// Does this for every item, on every processor; with `HOLDFAST_ENUMERATE=first`, until the first that goes wrong, with
/// `some` also for every seventh alone.
fn each<T: Sync>(items: &[T], one: impl Fn(&T, &mut Tally) + Sync) -> Tally {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let next = AtomicUsize::new(0);
    let mode = std::env::var("HOLDFAST_ENUMERATE").unwrap_or_default();
    let first_only = mode == "first" || mode == "some";
    let step = if mode == "some" { 7 } else { 1 };
    let total = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut tally = Tally::default();
                while let Some(item) = items.get(next.fetch_add(step, Ordering::Relaxed)) {
                    one(item, &mut tally);
                    if first_only && !tally.wrong.is_empty() {
                        next.store(items.len(), Ordering::Relaxed);
                    }
                }
                total.lock().unwrap().add(tally);
            });
        }
    });
    total.into_inner().unwrap()
}

/// How much of what a power cut may leave is taken.
#[derive(Clone, Copy)]
enum Images {
    /// Everything unsynced lost, and everything kept.
    Two,
    /// Each write and rename alone besides, and the last write torn.
    Each,
}

/// What a crash at this moment may leave: the same boot goes on, or the power goes.
fn after_a_crash(s: &Scenario, moment: &Moment, images: Images) -> Vec<(String, World, bool)> {
    let most = match (images, all()) {
        (Images::Two, _) => 0,
        (Images::Each, false) => 4,
        (Images::Each, true) => 99,
    };
    let mut worlds = vec![("the process dies".to_owned(), moment.world.clone(), false)];
    let world = &moment.world;
    for (what, disk) in world.disk.images(most, &world.databases) {
        worlds.push((what, power_cut(s, world, disk), true));
    }
    worlds
}

/// The power goes and comes again. A gateway behind a barrier is not started.
fn power_cut(s: &Scenario, world: &World, disk: Disk) -> World {
    let mut world = world.reboot(disk);
    if world.disk.find(&s.places.barrier).is_none() {
        world.start_gateway();
    }
    world
}

/// Judges a run that should have come to an end, and recovers again.
fn ended(s: &Scenario, run: Run, booted: bool, place: &str, tally: &mut Tally) {
    let mut world = run.world;
    if world.disk.find(&s.places.barrier).is_none() && booted {
        world.start_gateway();
    }
    match &run.end {
        End::Closed(_) | End::Over | End::Idle => {
            let journal = oracle::Journal::of(s, &world);
            tally.count(&oracle::verdict(&journal).to_string());
            tally.judge(place, oracle::settled(s, &journal, &world, booted));
            let second = s.recover(world.clone(), Start::AUTO, None, false);
            tally.judge(place, oracle::i5_twice_is_once(&world, &second));
        }
        End::BeforeNetwork => {
            tally.judge(place, oracle::files_are_one_set(s, &world));
            ended(
                s,
                s.recover(world, Start::AUTO, None, false),
                booted,
                place,
                tally,
            );
        }
        End::Stuck(why) | End::Broken(why) => {
            tally.count("does not end");
            tally.judge(place, vec![format!("it does not end: {why}")]);
        }
    }
}

fn recovered(
    s: &Scenario,
    world: World,
    booted: bool,
    start: Start,
    place: &str,
    taken: &Taken,
    tally: &mut Tally,
) {
    if !taken.is_new(&world, booted, &start) {
        return;
    }
    ended(
        s,
        s.recover(world, start, None, false),
        booted,
        place,
        tally,
    );
}

/// Judges a run in which calls failed. What it left open is settled once nothing fails any more: by the recovery that it
/// hands over to, or, if it asks for the operator, by hand.
fn ended_in_trouble(
    s: &Scenario,
    run: Run,
    booted: bool,
    place: &str,
    taken: &Taken,
    tally: &mut Tally,
) {
    if !taken.is_new(&run.world, booted, &run.end) {
        return;
    }
    match &run.end {
        End::Closed(_) | End::Over | End::Idle | End::BeforeNetwork => {
            ended(s, run, booted, place, tally);
        }
        End::Broken(why) | End::Stuck(why) => {
            let journal = oracle::Journal::of(s, &run.world);
            if matches!(run.end, End::Stuck(_)) {
                tally.judge(place, oracle::stuck(s, &journal, &run.world, why));
            }
            let mut next = s.recover(run.world, Start::AUTO, None, false);
            if let End::Stuck(why) = &next.end {
                let journal = oracle::Journal::of(s, &next.world);
                tally.judge(place, oracle::stuck(s, &journal, &next.world, why));
                tally.asked += 1;
                next = s.recover(next.world, Start::ROLL_BACK, None, false);
            }
            ended(s, next, booted, place, tally);
        }
    }
}

fn scenario(kind: Kind, policy: Policy) -> Scenario {
    Scenario::new(kind, policy).expect("a plan")
}

/// Every one of them, or in the quick enumeration every n-th, beginning with the first.
fn every<T>(items: Vec<T>, n: usize) -> Vec<T> {
    let n = if all() { 1 } else { n };
    items.into_iter().step_by(n).collect()
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
        let s = scenario(kind, Policy::Auto);
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
                for second in every(first.moments, 7) {
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

/// How a recovery should end that finds this, if nothing disturbs it.
fn expected(s: &Scenario, world: &World, booted: bool, start: &Start) -> Option<Verdict> {
    let state = scan(&world.disk.read(&s.places.journal)?).state?;
    let (have, after) = (world.picture(&[STATE]), &s.after);
    // What lies beside a database that nobody can read may go once the gateway has started.
    let mut started = world.clone();
    started.start_gateway();
    let in_place = [&have, &started.picture(&[STATE])]
        .iter()
        .any(|picture| picture.databases == after.databases)
        && after
            .files
            .iter()
            .all(|(p, f)| have.files.get(p) == Some(f))
        && s.before
            .files
            .keys()
            .all(|p| after.files.contains_key(p) || !have.files.contains_key(p));
    let rebuilt = booted && state.phase == Phase::Forward;
    Some(match (state.verdict(), state.phase) {
        (Some(verdict), _) => verdict,
        (None, Phase::Committed) => Verdict::Restored,
        (None, Phase::Back) => Verdict::RolledBack,
        (None, _) if !state.has_effects() && !rebuilt => Verdict::NothingChanged,
        (None, _) => match start.policy.unwrap_or(state.plan?.policy) {
            Policy::Resume => Verdict::Restored,
            Policy::Auto if in_place => Verdict::Restored,
            Policy::Auto | Policy::RollBack => Verdict::RolledBack,
        },
    })
}

#[test]
fn recovery_goes_the_way_it_was_told_and_by_itself_forward_where_everything_new_is_in_place() {
    let mut verdicts = Tally::default();
    // Without rules in the backup those of before stay, and after a reboot somebody must load them.
    let without_rules = Shape {
        v4: false,
        ..Kind::Everything.shape()
    };
    for shape in KINDS.map(|k| k.shape()).into_iter().chain([without_rules]) {
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
            ended_in_trouble(&s, run, false, &format!("{at} {how:?}"), &taken, tally);
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
