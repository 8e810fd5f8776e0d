//! What the journal of a simulated restore says to a person, of each step and of each way that it may go: snapshots.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use journal_format::{Detail, Direction, Entry, Policy, Role, Step, record_text};
use tests::oracle;
use tests::sim::gateway::{Kind, Scenario};
use tests::sim::host::{How, Moment, Trouble};
use tests::sim::trial::{Run, Start};

/// What the records say, from the plan's on; without the place and the time of each.
fn whole(s: &Scenario, run: &Run) -> String {
    from(s, run, |entry| {
        !matches!(entry, Entry::Header(_) | Entry::Plan(_))
    })
}

/// What the records say, from the first on that is not that of a restore which nothing disturbs.
fn disturbed(s: &Scenario, run: &Run) -> String {
    from(s, run, |entry| match entry {
        Entry::Failed { .. } | Entry::Turned { .. } => true,
        Entry::Driver(driver) => driver.role != Role::Restore,
        _ => false,
    })
}

fn from(s: &Scenario, run: &Run, begins: impl Fn(&Entry) -> bool) -> String {
    let records = oracle::Journal::of(s, &run.world).records;
    let said = records
        .iter()
        .skip_while(|r| !begins(&r.entry))
        .map(|record| {
            let text = record_text(record, Detail::Whole);
            let lines = text.lines().map(|l| l.chars().skip(28).collect::<String>());
            lines.collect::<Vec<_>>().join("\n    ")
        });
    format!("{:?}\n\n{}\n", run.end, said.collect::<Vec<_>>().join("\n"))
}

#[test]
fn each_step_says_what_it_did_there_and_back() {
    let s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    insta::assert_snapshot!("there", whole(&s, &s.restore(None, false)));
    let back = s.restore_on(s.world.clone(), None, false, Some(31));
    insta::assert_snapshot!("there_and_back", disturbed(&s, &back));
    let s = Scenario::new(Kind::Unreadable, Policy::Auto).unwrap();
    insta::assert_snapshot!("unreadable", whole(&s, &s.restore(None, false)));
}

#[test]
fn a_recovery_says_why_it_goes_which_way() {
    let s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    let moments = s.restore(None, true).moments;
    let is_open = |m: &&Moment| {
        let journal = m.world.disk.read(&s.places.journal).unwrap_or_default();
        !String::from_utf8_lossy(&journal).contains(r#"{"closed""#)
    };
    let cleaned = moments.iter().rev().find(is_open).unwrap().world.clone();
    let run = s.recover(cleaned, Start::AUTO, None, false);
    insta::assert_snapshot!("cleaned", disturbed(&s, &run));
    for (name, step) in [
        ("nothing_done", Step::Stage),
        ("half_way", Step::SwapConfigs),
        ("in_place", Step::TunnelsUp),
        ("committed", Step::CleanUp),
    ] {
        let run = s.recover(s.begun(step).unwrap(), Start::AUTO, None, false);
        insta::assert_snapshot!(name, disturbed(&s, &run));
    }
}

/// The first run of this restore in which a command fails while this step is made, in this direction.
fn failed(s: &Scenario, asked_at: Option<u64>, step: Step, direction: Direction) -> Run {
    let restore = |trouble| s.restore_on(s.world.clone(), trouble, false, asked_at);
    let mut runs = restore(None).commands.into_iter().map(|at| {
        restore(Some(Trouble {
            at,
            for_ever: false,
            how: How::Refused,
        }))
    });
    let found = runs.find(|run| {
        let records = oracle::Journal::of(s, &run.world).records;
        let first = records.into_iter().find_map(|r| match r.entry {
            Entry::Failed { r#move, .. } => Some((r#move.step, r#move.direction)),
            _ => None,
        });
        first == Some((step, direction))
    });
    found.expect("no command fails there")
}

#[test]
fn a_step_that_fails_says_what_failed_and_what_becomes_of_the_restore() {
    let s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    let there = failed(&s, None, Step::TunnelsUp, Direction::Forward);
    insta::assert_snapshot!("failed_there", disturbed(&s, &there));
    let back = failed(&s, Some(31), Step::TunnelsUp, Direction::Back);
    insta::assert_snapshot!("failed_back", disturbed(&s, &back));
    let s = Scenario::new(Kind::Faltering, Policy::Auto).unwrap();
    let back = s.restore_on(s.world.clone(), None, false, Some(31));
    insta::assert_snapshot!("failed_before", disturbed(&s, &back));
}

#[test]
fn the_barrier_names_its_restore_and_each_tunnel_that_a_boot_must_not_start_and_holds_the_fence() {
    let s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    let moments = s.restore(None, true).moments;
    let barrier = |m: &Moment| m.world.disk.read_durable(&s.places.barrier);
    let barrier = moments.iter().find_map(barrier).unwrap();
    insta::assert_snapshot!("barrier", String::from_utf8_lossy(&barrier));
}
