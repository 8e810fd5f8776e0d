//! What others do to the gateway while a restore works on it: each deed alone, before each call, on the way forward and on
//! the way back. The table in the snapshot says how each ends and what is wrong then: what the engine does not master yet
//! stands there with its count, and no count may grow unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use journal_format::{Control, Policy, Role};
use tests::oracle;
use tests::sim::actor::{Actor, Deed};
use tests::sim::gateway::{Kind, Scenario};
use tests::sim::host::step_of;
use tests::sim::trial::{End, Run, Start};
use tests::sim::world::World;

use super::tally::{Tally, all, each};
use super::{every, scenario};

/// `holdfast recover`, by an admin who chooses no direction.
pub const BY_HAND: Start = Start {
    role: Role::RecoverByHand,
    policy: None,
    ..Start::AUTO
};

/// Goes on until it is over, as the agent and then the admin do; how it ended, and the world after it.
pub fn to_the_end(s: &Scenario, run: Run) -> (String, World) {
    let mut run = run;
    let mut way = String::new();
    for start in [Start::AUTO, BY_HAND] {
        match run.end {
            End::Broken(_) => way.push_str("broken, then "),
            End::Stuck(_) => way.push_str("stuck, then "),
            End::Closed(_) | End::Over | End::Idle | End::BeforeNetwork => break,
        }
        // What is stuck waits for the admin.
        let start = if matches!(run.end, End::Stuck(_)) {
            BY_HAND
        } else {
            start
        };
        run = s.recover(run.world, start, None, false);
    }
    // Once the cause is gone, one recovery mends what lacks.
    if matches!(run.end, End::Closed(_)) && oracle::lacks(&oracle::Journal::of(s, &run.world)) {
        way.push_str("lacking, then ");
        run = s.recover(run.world, BY_HAND, None, false);
        if oracle::lacks(&oracle::Journal::of(s, &run.world)) {
            way.push_str("lacking still: ");
        }
    }
    let end = match &run.end {
        End::Closed(_) | End::Over | End::Idle => {
            oracle::verdict(&oracle::Journal::of(s, &run.world)).to_string()
        }
        End::Stuck(_) => "stuck for good".to_owned(),
        End::Broken(why) => format!("broken: {why}"),
        End::BeforeNetwork => "before the network".to_owned(),
    };
    (way + &end, run.world)
}

/// The service has a file open that no name of a database leads to any more.
pub fn holds_an_old_object(world: &World) -> Vec<String> {
    let names = world.databases.iter();
    let in_place: Vec<_> = names.filter_map(|d| world.disk.find(d.as_ref())).collect();
    let old = world.kernel.open.iter().any(|o| !in_place.contains(o));
    let said = "the service works on an old database".to_owned();
    old.then_some(said).into_iter().collect()
}

/// What is wrong, without what is there and should be.
pub fn kind(wrong: &str) -> &str {
    wrong.split(": wanted").next().unwrap_or(wrong)
}

fn judged(s: &Scenario, deed: Deed, run: Run, tally: &mut Tally) {
    let (end, world) = to_the_end(s, run);
    let mut wrong = holds_an_old_object(&world);
    if deed.is_lost(&world) {
        wrong.push("what somebody did is lost".to_owned());
    }
    let world = deed.without_mark(world);
    let journal = oracle::Journal::of(s, &world);
    if end.ends_with("stuck for good") {
        wrong.push("stuck for good".to_owned());
        wrong.extend(oracle::stuck(s, &journal, &world, ""));
    } else {
        wrong.extend(oracle::settled(s, &journal, &world, false));
    }
    tally.count(&end);
    let mut kinds: Vec<String> = wrong.iter().map(|w| kind(w).to_owned()).collect();
    kinds.sort();
    kinds.dedup();
    if kinds.is_empty() {
        tally.count("  as it should be");
    }
    let when = world
        .acted
        .clone()
        .unwrap_or_else(|| "after the end".to_owned());
    let kinds = kinds.into_iter().map(|kind| format!("{kind} ({when})"));
    tally.judge("", kinds.collect());
}

/// How what has this name ended each time, and what was wrong.
pub fn told(table: &mut String, name: &str, tally: &Tally) {
    writeln!(table, "{name}").unwrap();
    for (what, n) in &tally.counts {
        writeln!(table, "{n:>5} {what}").unwrap();
    }
    for (what, (n, _)) in &tally.wrong {
        writeln!(table, "{n:>12} wrong: {what}").unwrap();
    }
}

/// In the quick enumeration the table must be the one that is kept.
pub fn is_as_kept(name: &str, table: &str) {
    match all() {
        true => println!("{table}"),
        false => insta::assert_snapshot!(name, table),
    }
}

/// Each deed, there and on the way back. A second start of the lifelike service fails at a client; so one more gateway has a
/// service that starts well, and then works on what it finds. Its commands are the profile's: no manager holds it back.
fn each_deed(mut one: impl FnMut(&str, &Scenario, Deed, Option<u64>)) {
    let mut starts_well = Kind::Everything.shape();
    starts_well.start.cannot.clear();
    let mut starts_well = Scenario::of(&starts_well, Policy::Auto).expect("a plan");
    let command = |what: &str| vec![format!("/usr/local/sbin/{what}")];
    for service in &mut Arc::make_mut(&mut starts_well.plan).services {
        service.control = Control::Commands {
            stop: command("stop"),
            start: command("start"),
            active: command("active"),
        };
    }
    let lifelike = scenario(Kind::Everything, Policy::Auto);
    let deeds = Deed::ALL.map(|deed| (deed, &lifelike, ""));
    let runs = (Deed::StartsTheService, &starts_well, ", and it runs");
    for (deed, s, more) in deeds.into_iter().chain([runs]) {
        for (way, asked_at) in [("forward", None), ("there and back", Some(31))] {
            one(&format!("{deed:?}{more}, {way}"), s, deed, asked_at);
        }
    }
}

#[test]
fn whatever_others_do_and_whenever_the_restore_ends_as_this_table_says() {
    let mut table = String::new();
    each_deed(|name, s, deed, asked_at| {
        let restore = |world| s.restore_on(world, None, false, asked_at);
        let calls = restore(s.world.clone()).calls;
        let tally = each(&every((0..calls).collect(), 5), |at, tally| {
            let mut world = s.world.clone();
            world.actor = Some(Actor { at: *at, deed });
            judged(s, deed, restore(world), tally);
        });
        told(&mut table, name, &tally);
    });
    is_as_kept("while_it_runs", &table);
}

/// The driver dies after an effect, and somebody does something before the recovery.
#[test]
fn whatever_others_do_between_a_crash_and_its_recovery_it_ends_as_this_table_says() {
    let mut table = String::new();
    each_deed(|name, s, deed, asked_at| {
        let moments = s.restore_on(s.world.clone(), None, true, asked_at).moments;
        let tally = each(&every(moments, 3), |moment, tally| {
            let mut world = moment.world.clone();
            let journal = world.disk.read(&s.places.journal).unwrap_or_default();
            world.acted = Some(step_of(&journal));
            deed.act(&mut world);
            let run = s.recover(world, Start::AUTO, None, false);
            judged(s, deed, run, tally);
        });
        told(&mut table, name, &tally);
    });
    is_as_kept("between_a_crash_and_its_recovery", &table);
}

fn with_a_row(s: &Scenario, at: u64, asked_at: Option<u64>, watched: bool) -> Run {
    let mut world = s.world.clone();
    let deed = Deed::WritesARow;
    world.actor = Some(Actor { at, deed });
    s.restore_on(world, None, watched, asked_at)
}

fn is_while_exchanged(world: &World) -> bool {
    let when = world.acted.as_deref();
    when.is_some_and(|step| step.starts_with("swap-databases"))
}

/// Where databases change places, a row that is lost is lost for ever: here somebody writes before each call, not before some. On the
/// way back, where a row may come to lie beside the old database, the driver dies behind it as well, after each effect of that step.
#[test]
fn a_row_that_somebody_writes_while_databases_are_exchanged_is_never_lost_nor_if_the_driver_dies_then()
 {
    const SOME: u64 = 8;
    let s = scenario(Kind::Everything, Policy::Auto);
    for asked_at in [None, Some(31)] {
        let calls = with_a_row(&s, u64::MAX, asked_at, false).calls;
        let near = Mutex::new(BTreeSet::new());
        each(&every((0..calls).collect(), SOME as usize), |at, _| {
            if is_while_exchanged(&with_a_row(&s, *at, asked_at, false).world) {
                let around = at.saturating_sub(SOME)..at + SOME;
                near.lock().unwrap().extend(around);
            }
        });
        let near: Vec<u64> = near.into_inner().unwrap().into_iter().collect();
        let tally = each(&near, |at, tally| {
            let mut run = with_a_row(&s, *at, asked_at, asked_at.is_some());
            if !is_while_exchanged(&run.world) {
                return;
            }
            for moment in every(std::mem::take(&mut run.moments), 3) {
                let journal = moment.world.disk.read(&s.places.journal);
                let is_in_it = step_of(&journal.unwrap_or_default()).starts_with("swap-databases");
                if is_while_exchanged(&moment.world) && is_in_it {
                    let run = s.recover(moment.world, Start::AUTO, None, false);
                    judged(&s, Deed::WritesARow, run, tally);
                }
            }
            judged(&s, Deed::WritesARow, run, tally);
        });
        println!("{asked_at:?}: {} states", tally.states());
        assert!(tally.states() > 10, "{} states", tally.states());
        assert_eq!(tally.wrong, BTreeMap::new(), "{asked_at:?}");
    }
}

/// What a service that somebody starts leaves beside the old database once that is back is the old one's: a hot journal, say.
#[test]
fn what_is_left_beside_a_database_after_a_crash_on_its_way_back_stays_if_it_is_its_own() {
    let mut total = Tally::default();
    each_deed(|name, s, deed, asked_at| {
        let writes = matches!(deed, Deed::StartsTheService | Deed::WritesARow);
        if !writes || asked_at.is_none() {
            return;
        }
        let mut moments = s.restore_on(s.world.clone(), None, true, asked_at).moments;
        moments.retain(|m| {
            let journal = m.world.disk.read(&s.places.journal);
            step_of(&journal.unwrap_or_default()) == "swap-databases back"
        });
        assert!(moments.len() > 10, "{name}");
        total.add(each(&moments, |moment, tally| {
            let mut world = moment.world.clone();
            deed.act(&mut world);
            let run = s.recover(world, Start::AUTO, None, false);
            judged(s, deed, run, tally);
        }));
    });
    assert_eq!(total.wrong, BTreeMap::new());
}
