//! How the gateway's own service starts: each kind of start alone, on the way forward and on the way back, and after a crash. The
//! table in the snapshot says how each ends, and what is wrong then and a minute later, once its manager has done what it does.
//! What it wrote into a client's row is named by the oracle, which wants it to be exactly that; the rest stands in the table with
//! its count.

use journal_format::Policy;
use tests::oracle;
use tests::sim::gateway::{Kind, NEW, OLD, Scenario};
use tests::sim::trial::{Run, Start};
use tests::sim::world::{ServiceStart, World};

use super::every;
use super::others::{BY_HAND, holds_an_old_object, is_as_kept, kind, to_the_end, told};
use super::tally::{Tally, each};

const A_MINUTE: u64 = 60_000;

/// Each kind of start. All but the first see to every active client, and fail where they cannot bring one up.
fn starts() -> Vec<(&'static str, ServiceStart)> {
    let with_any = |start: ServiceStart| ServiceStart {
        with: None,
        ..start
    };
    let once = |start: ServiceStart| ServiceStart { times: 1, ..start };
    let dies = |after_ms, start: ServiceStart| ServiceStart {
        dies_after_ms: Some(after_ms),
        ..start
    };
    let again = |again_ms, start: ServiceStart| ServiceStart { again_ms, ..start };
    let (none, old) = (ServiceStart::lifelike(&[], OLD), &["gone"]);
    let all = ServiceStart::lifelike(&["stay", "gone", "new"], OLD);
    vec![
        ("polite", ServiceStart::polite()),
        ("well", none.clone()),
        (
            "fails with a client of before",
            ServiceStart::lifelike(old, OLD),
        ),
        (
            "fails with a client of the backup",
            ServiceStart::lifelike(&["new"], NEW),
        ),
        (
            "fails once with a client of the backup",
            once(ServiceStart::lifelike(&["new"], NEW)),
        ),
        (
            "fails with three clients, whatever is there",
            with_any(all.clone()),
        ),
        ("fails once with three clients", once(with_any(all))),
        (
            "fails with a client of before, and is started again at once",
            again(200, ServiceStart::lifelike(old, OLD)),
        ),
        (
            "fails with a client of before, and is started again after a second",
            again(1000, ServiceStart::lifelike(old, OLD)),
        ),
        (
            "fails with a client of the backup, and is started again at once",
            again(200, ServiceStart::lifelike(&["new"], NEW)),
        ),
        (
            "fails with a client whose config going down writes over",
            ServiceStart::lifelike(&["change"], OLD),
        ),
        (
            "fails once with such a client of the backup",
            once(ServiceStart::lifelike(&["change"], NEW)),
        ),
        (
            "fails with such a client of the backup that is as it was",
            ServiceStart::lifelike(&["stay"], NEW),
        ),
        (
            "fails once with such clients, whatever is there",
            once(with_any(ServiceStart::lifelike(&["stay", "change"], OLD))),
        ),
        (
            "dies at once, once",
            once(dies(200, with_any(none.clone()))),
        ),
        (
            "dies at once, with the backup's database",
            dies(200, ServiceStart::lifelike(&[], NEW)),
        ),
        ("dies at once, always", dies(200, with_any(none.clone()))),
        ("dies after 2 s, once", once(dies(2000, with_any(none)))),
    ]
}

/// The kinds of what is wrong with this world now.
fn kinds_of_wrong(s: &Scenario, end: &str, world: &World) -> Vec<String> {
    let journal = oracle::Journal::of(s, world);
    let mut wrong = holds_an_old_object(world);
    match end.ends_with("stuck for good") {
        true => {
            wrong.push("stuck for good".to_owned());
            wrong.extend(oracle::stuck(s, &journal, world, ""));
        }
        false => wrong.extend(oracle::settled(s, &journal, world, false)),
    }
    let mut kinds: Vec<String> = wrong.iter().map(|w| kind(w).to_owned()).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// What is wrong with a run that was brought to its end: there, and what else is a minute later.
fn judged(s: &Scenario, run: Run, tally: &mut Tally) {
    let (end, mut world) = to_the_end(s, run);
    tally.count(&end);
    let wrong = kinds_of_wrong(s, &end, &world);
    world.time_passes(A_MINUTE);
    let mut later = kinds_of_wrong(s, &end, &world);
    later.retain(|kind| !wrong.contains(kind));
    if wrong.is_empty() && later.is_empty() {
        tally.count("  as it should be");
    }
    tally.judge("", wrong);
    let later = later
        .into_iter()
        .map(|kind| format!("{kind}, a minute later"));
    tally.judge("", later.collect());
}

#[test]
fn however_the_service_starts_a_restore_and_its_recoveries_end_as_this_table_says() {
    let mut table = String::new();
    for (name, start) in starts() {
        let mut shape = Kind::Everything.shape();
        shape.start = start;
        if name.contains("such") {
            for client in &mut shape.clients {
                client.saves |= client.name == "stay";
                client.saves_after = true;
            }
        }
        let s = Scenario::of(&shape, Policy::Auto).expect("a plan");
        for (way, asked_at) in [("forward", None), ("there and back", Some(31))] {
            let run = s.restore_on(s.world.clone(), None, true, asked_at);
            let moments = every(run.moments.clone(), 7);
            let mut tally = each(&moments, |moment, tally| {
                let run = s.recover(moment.world.clone(), Start::AUTO, None, false);
                judged(&s, run, tally);
            });
            judged(&s, run, &mut tally);
            told(&mut table, &format!("{name}, {way}"), &tally);
        }
    }
    is_as_kept("starts", &table);
}

/// A service that lacks is started again, and that takes a tunnel down: whoever brings it up again may die before it is whole.
#[test]
fn a_retry_of_what_lacks_that_dies_anywhere_leaves_no_tunnel_half_up() {
    let mut shape = Kind::Everything.shape();
    shape.start = ServiceStart::polite();
    let s = Scenario::of(&shape, Policy::Auto).expect("a plan");
    let mut world = s.world.clone();
    world.start = ServiceStart {
        never_runs: true,
        ..ServiceStart::lifelike(&["gone"], OLD)
    };
    let run = s.restore_on(world, None, false, Some(31));
    assert!(oracle::lacks(&oracle::Journal::of(&s, &run.world)));
    let mut retried = s.recover(run.world, BY_HAND, None, true);
    let moments = std::mem::take(&mut retried.moments);
    let tally = each(&moments, |moment, tally| {
        let mut world = moment.world.clone();
        world.start.times = 0;
        let run = s.recover(world, BY_HAND, None, false);
        judged(&s, run, tally);
    });
    assert!(tally.states() > 10, "{} moments", tally.states());
    assert_eq!(tally.wrong, std::collections::BTreeMap::new());
}
