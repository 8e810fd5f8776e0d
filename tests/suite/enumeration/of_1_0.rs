//! Journals of format 1.0, as its first programs left them: with the lists of their golden journals, cut at each record, and
//! finished by today's engine by their own rules. The plan has nothing of 1.1, and no record that is added says anything of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use journal_format::{Format, Plan, Policy, Step, scan};
use serde_json::Value;
use tests::oracle;
use tests::sim::gateway::{Kind, Scenario};
use tests::sim::host::Moment;
use tests::sim::trial::Start;
use tests::sim::world::World;

use super::ends::{Images, after_a_crash, ended};
use super::every;
use super::tally::{Taken, Tally, each};

const GOLDEN: [&[u8]; 7] = [
    include_bytes!("../../../journal-format/golden/1.0/nothing-changed.journal"),
    include_bytes!("../../../journal-format/golden/1.0/open.journal"),
    include_bytes!("../../../journal-format/golden/1.0/recovered-by-hand.journal"),
    include_bytes!("../../../journal-format/golden/1.0/restored.journal"),
    include_bytes!("../../../journal-format/golden/1.0/resumed-after-power-cut.journal"),
    include_bytes!("../../../journal-format/golden/1.0/rolled-back.journal"),
    include_bytes!("../../../journal-format/golden/1.0/stuck.journal"),
];

fn golden_plan() -> Arc<Plan> {
    scan(GOLDEN[0]).state.unwrap().plan.unwrap()
}

/// A gateway whose restore's plan has the lists of the first programs, and says nothing that format 1.0 does not know.
fn scenario_of_1_0() -> Scenario {
    let mut shape = Kind::Everything.shape();
    (shape.peers, shape.forwards[1]) = (None, None);
    let mut s = Scenario::of(&shape, Policy::Auto).expect("a plan");
    let (plan, golden) = (Arc::make_mut(&mut s.plan), golden_plan());
    plan.forward.clone_from(&golden.forward);
    plan.back.clone_from(&golden.back);
    plan.left_out.clear();
    plan.may_stay_down.clear();
    plan.stays_up.clear();
    for note in &mut plan.warnings {
        *note = note.clone().within(Format::FIRST);
    }
    s.format = Format::FIRST;
    assert_eq!(plan.format(), Format::FIRST);
    let lists = (plan.forward.clone(), plan.back.clone());
    assert_ne!(
        lists,
        engine::plan::order::lists(engine::plan::order::PlannedWork::ALL),
        "the lists of today"
    );
    s
}

/// Every path to a field in a journal; what lies in a list has one path.
fn fields(journal: &[u8]) -> BTreeSet<String> {
    fn of(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = format!("{path}.{name}");
                    of(value, &path, found);
                    found.insert(path);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| of(item, path, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = BTreeSet::new();
    for line in journal.split(|b| *b == b'\n').filter(|l| l.len() > 65) {
        of(
            &serde_json::from_slice(&line[65..]).unwrap(),
            "",
            &mut found,
        );
    }
    found
}

/// The fields that the golden journals have, and those that they could have and do not.
fn fields_of_1_0() -> BTreeSet<String> {
    let problems = ["failed", "turned", "stuck"].iter().flat_map(|entry| {
        ["command", "stderr"].map(|field| format!(".entry.{entry}.problem.{field}"))
    });
    let others = [".entry.done.warnings", ".entry.driver.policy"].map(str::to_owned);
    let golden = GOLDEN.iter().flat_map(|journal| fields(journal));
    golden.chain(problems).chain(others).collect()
}

/// The world whenever another record is durable.
fn cut_at_each_record(s: &Scenario, moments: Vec<Moment>) -> Vec<Moment> {
    let records = |world: &World| {
        let journal = world.disk.read_durable(&s.places.journal);
        scan(&journal.unwrap_or_default()).records.len()
    };
    let mut last = 0;
    let mut cut = moments;
    cut.retain(|moment| {
        let now = records(&moment.world);
        now > std::mem::replace(&mut last, now)
    });
    cut
}

/// Recovers from each record on, and judges how that ends.
fn finished(s: &Scenario, moments: &[Moment], taken: &Taken) -> Tally {
    let known = fields_of_1_0();
    each(moments, |moment, tally| {
        for (image, world, booted) in after_a_crash(s, moment, Images::Two) {
            for start in &Start::ALL {
                if !taken.is_new(&world, booted, start) {
                    continue;
                }
                let place = format!("after `{}`, {image}, {start:?}", moment.what);
                let run = s.recover(world.clone(), *start, None, false);
                let journal = run.world.disk.read(&s.places.journal).unwrap_or_default();
                let format = scan(&journal).state.map(|state| state.header.format);
                let mut wrong: Vec<String> = fields(&journal).difference(&known).cloned().collect();
                if format.is_some_and(|format| format != Format::FIRST) {
                    wrong.push(format!("its version is {format:?}"));
                }
                tally.judge(&place, wrong);
                ended(s, run, booted, &place, tally);
            }
        }
    })
}

#[test]
fn a_journal_of_1_0_cut_at_each_record_is_finished_by_its_own_rules() {
    let s = scenario_of_1_0();
    let taken = Taken::default();
    let mut total = Tally::default();
    for asked_at in [None, Some(31)] {
        let run = s.restore_on(s.world.clone(), None, true, asked_at);
        let cut = cut_at_each_record(&s, run.moments);
        assert!(cut.len() > 30, "{}", cut.len());
        total.add(finished(&s, &cut, &taken));
        // And once more in the middle of a recovery.
        for moment in &every(cut, 9) {
            let first = s.recover(moment.world.clone(), Start::AUTO, None, true);
            let again = every(cut_at_each_record(&s, first.moments), 3);
            total.add(finished(&s, &again, &taken));
        }
    }
    assert_eq!(total.wrong, Default::default());
    for verdict in oracle_verdicts() {
        assert!(total.counts.contains_key(&verdict), "{:?}", total.counts);
    }
}

fn oracle_verdicts() -> [String; 3] {
    use journal_format::Verdict::{NothingChanged, Restored, RolledBack};
    [NothingChanged, Restored, RolledBack].map(|v| v.to_string())
}

#[test]
fn the_steps_of_a_journal_of_1_0_are_made_in_the_order_of_its_own_plan() {
    let s = scenario_of_1_0();
    let run = s.restore(None, false);
    let journal = oracle::Journal::of(&s, &run.world);
    let made: Vec<Step> = journal.done().collect();
    assert_eq!(made, golden_plan().forward);
}
