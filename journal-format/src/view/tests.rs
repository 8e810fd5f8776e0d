//! What people and pages read, and that events bring a page to where the view is.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use proptest::prelude::*;

use crate::sample::*;
use crate::{
    Code, Detail, Entry, NOT_LOADED, Note, Role, left_out_lines, record_text, scan, view_text,
};
use crate::{Direction, Event, Plan, State, Step, StepState, StepView, Verdict, View};

/// What a page does with events: a step that is there is replaced, a new one goes to the end.
#[derive(Default)]
struct Page {
    steps: Vec<StepView>,
}

impl Page {
    fn take(&mut self, event: &Event) {
        for step in &event.steps {
            match self.steps.iter_mut().find(|s| s.id == step.id) {
                Some(old) => *old = step.clone(),
                None => self.steps.push(step.clone()),
            }
        }
    }
}

fn states(pen: &Pen) -> Vec<State> {
    let mut state = State::begin(&pen.records[0]).unwrap();
    let mut all = vec![state.clone()];
    for record in &pen.records[1..] {
        state.apply(record).unwrap();
        all.push(state.clone());
    }
    all
}

fn text(pen: &Pen) -> String {
    view_text(&View::of(&pen.state), Detail::Whole)
}

#[test]
fn a_restore_under_way_reads_as_it_stands() {
    let mut pen = Pen::forward_until(Step::TunnelsUp);
    pen.begin(Step::TunnelsUp, Direction::Forward);
    insta::assert_snapshot!(text(&pen));
}

#[test]
fn a_killed_driver_leaves_its_step_interrupted() {
    let mut pen = Pen::forward_until(Step::TunnelsUp);
    pen.begin(Step::TunnelsUp, Direction::Forward);
    let running = |pen: &Pen| {
        let views = View::of(&pen.state).steps;
        views
            .iter()
            .find(|s| s.id == "forward-tunnels-up")
            .unwrap()
            .state
    };
    assert_eq!(running(&pen), StepState::Running);
    pen.write(driver(Role::Recover, 0));
    assert_eq!(running(&pen), StepState::Interrupted);
    pen.begin(Step::TunnelsUp, Direction::Forward);
    assert_eq!(running(&pen), StepState::Running);
    pen.write(Entry::Stuck {
        problem: problem("go on"),
    });
    assert_eq!(running(&pen), StepState::Interrupted);
}

#[test]
fn a_restore_that_went_back_reads_with_its_reason() {
    insta::assert_snapshot!(text(&Pen::rolled_back()));
}

#[test]
fn a_stuck_restore_says_what_the_operator_must_do() {
    let mut pen = Pen::forward_until(Step::TunnelsUp);
    pen.turn();
    pen.step(Step::Fence, Direction::Back);
    pen.fail(Step::TunnelsDown, Direction::Back);
    pen.write(Entry::Stuck {
        problem: problem("take wg0 down: tried 3 times"),
    });
    let view = View::of(&pen.state);
    assert!(view.over);
    insta::assert_snapshot!(view.headline, @"Stuck: Holdfast cannot finish this restore by itself, and an operator must fix the cause.");
    insta::assert_snapshot!(view.problem.unwrap(), @r"
    cannot take wg0 down: tried 3 times
      command: wg-quick up wg0
      | RTNETLINK answers: Address already in use
      what to do: free the port, then restore again
    ");
}

#[test]
fn a_restore_given_up_before_the_first_effect_says_why() {
    let mut pen = Pen::begun();
    pen.step(Step::SafetyBackup, Direction::Forward);
    pen.fail(Step::Stage, Direction::Forward);
    pen.step(Step::CleanUp, Direction::Back);
    pen.close(Verdict::NothingChanged);
    insta::assert_snapshot!(text(&pen));
}

#[test]
fn the_records_of_a_restore_read_line_by_line() {
    let pen = Pen::rolled_back();
    let lines: Vec<String> = pen
        .records
        .iter()
        .map(|r| record_text(r, Detail::Whole))
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn an_event_carries_what_a_page_shows() {
    let mut pen = Pen::forward_until(Step::TunnelsUp);
    pen.fail(Step::TunnelsUp, Direction::Forward);
    let event = Event::of(&pen.state, pen.records.last().unwrap());
    insta::assert_json_snapshot!(event);
}

#[test]
fn views_and_events_read_back_from_their_json() {
    let pen = Pen::rolled_back();
    let view = View::of(&pen.state);
    assert_eq!(
        serde_json::from_str::<View>(&serde_json::to_string(&view).unwrap()).unwrap(),
        view
    );
    let event = Event::of(&pen.state, pen.records.last().unwrap());
    assert_eq!(
        serde_json::from_str::<Event>(&serde_json::to_string(&event).unwrap()).unwrap(),
        event
    );
}

/// A restore by this plan that is through, with these warnings of the step that loads the firewall.
fn restored(plan: Plan, warnings: &[&str]) -> Pen {
    let mut pen = Pen::begun_with(plan);
    pen.arm();
    pen.forward_between(Step::Fence, Step::LoadFirewall);
    let r#move = pen.begin(Step::LoadFirewall, Direction::Forward);
    pen.write(Entry::Done {
        r#move,
        did: Vec::new(),
        warnings: warnings.iter().map(|w| Note::from(*w)).collect(),
    });
    pen.forward_between(Step::VerifyRunning, Step::CleanUp);
    pen.twice(Entry::Committed);
    pen.step(Step::CleanUp, Direction::Forward);
    pen.close(Verdict::Restored);
    pen
}

fn plan_with(warnings: &[&str]) -> Plan {
    Plan {
        warnings: warnings.iter().map(|w| Note::from(*w)).collect(),
        ..plan()
    }
}

#[test]
fn a_verdict_names_what_the_plan_leaves_out() {
    let left_out = (1..=7).map(|n| {
        let why = format!("for reason {n} \u{1b}");
        Note::known(Code::NOT_IN_BACKUP, why).of(format!("part {n}"))
    });
    let plan = Plan {
        left_out: left_out.collect(),
        ..plan_with(&["the backup has no app.db: it stays as it is"])
    };
    let pen = restored(plan, &[]);
    let shown = text(&pen);
    let (above, _) = shown.split_once("\n\n  done").unwrap();
    insta::assert_snapshot!(above.split_once("\n\n").unwrap().1);
}

#[test]
fn a_journal_of_before_there_was_such_a_list_names_what_its_warnings_say_was_left_out() {
    let plan = plan_with(&[
        "1 user is not in the backup and will be gone: ann",
        "the backup has no manifest of Holdfast's (the gateway's own backups have none): nothing vouches for it",
        "app.db: the backup has no table own, which is here now: it will be empty",
        "the backup's IPv4 firewall rules will not be loaded: cannot load them: no such set",
        "the backup has no app.db: /srv/app.db stays as it is",
        "the backup has no configs: they stay as they are",
        "the backup has no IPv4 firewall rules to load: those of now stay",
        "the backup has no IPv6 firewall rules to load: those of now stay",
        "the backup does not say whether packets are forwarded: net.ipv4.ip_forward stays",
    ]);
    let lines = left_out_lines(
        &View::of(&restored(plan, &[]).state).left_out,
        Detail::Whole,
    );
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn rules_that_could_not_be_loaded_after_all_are_left_out_and_said_with_the_verdict() {
    let plan = plan_with(&[]);
    let warning = format!("{NOT_LOADED}cannot load the firewall rules: no such set");
    let headline = |pen: &Pen| View::of(&pen.state).headline;
    let fell_back = restored(plan.clone(), &[&warning]);
    insta::assert_snapshot!(headline(&fell_back), @"Restored in part: the gateway is as the backup says, but for the firewall rules.");
    let other = restored(plan, &["a rule is there twice"]);
    assert_eq!(
        headline(&other),
        "Restored: the gateway is as the backup says."
    );
}

#[test]
fn what_would_have_been_left_out_is_not_said_of_a_restore_that_went_back() {
    let pen = Pen::rolled_back();
    assert!(!pen.state.plan.as_ref().unwrap().leaves_out().is_empty());
    assert!(View::of(&pen.state).left_out.is_empty());
}

#[test]
fn a_restore_that_ended_for_want_of_a_part_in_its_safety_backup_names_the_part() {
    let mut pen = Pen::begun_with(plan_of_1_1());
    let r#move = pen.begin(Step::SafetyBackup, Direction::Forward);
    let problem = crate::Problem {
        code: Some(Code::SAFETY_BACKUP_LACKS),
        about: vec!["app.db".into(), "rules-v6".into()],
        ..problem("make a safety backup")
    };
    pen.write(Entry::Failed { r#move, problem });
    assert!(View::of(&pen.state).unsaved.is_empty(), "it is not over");
    pen.step(Step::CleanUp, Direction::Back);
    pen.close(Verdict::NothingChanged);
    assert_eq!(View::of(&pen.state).unsaved, ["app.db", "rules-v6"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn a_state_without_lists_of_files_shows_the_same(choices in prop::collection::vec(any::<u16>(), 0..60)) {
        let pen = Pen::walk(&choices);
        for (at, (whole, lean)) in states(&pen).iter().zip(pen.lean_states()).enumerate() {
            prop_assert_eq!(View::of(whole), View::of(&lean));
            let record = &pen.records[at];
            prop_assert_eq!(Event::of(whole, record), Event::of(&lean, record));
            prop_assert!(lean.plan.is_none_or(|plan| plan.files.is_empty() && plan.databases.is_empty()));
        }
    }

    #[test]
    fn events_bring_a_page_to_what_the_view_shows_from_any_place_on(
        choices in prop::collection::vec(any::<u16>(), 0..140),
        joined in any::<prop::sample::Index>(),
    ) {
        let pen = Pen::walk(&choices);
        let states = states(&pen);
        let joined = joined.index(states.len());
        let mut page = Page { steps: View::of(&states[joined]).steps };
        for (state, record) in states.iter().zip(&pen.records).skip(joined + 1) {
            let event = Event::of(state, record);
            page.take(&event);
            page.take(&event);
            let view = View::of(state);
            prop_assert_eq!(&page.steps, &view.steps, "after record {}", record.seq);
            prop_assert_eq!((&event.headline, event.over), (&view.headline, view.over));
            prop_assert_eq!((event.seq, event.standing, &event.problem), (view.seq, view.standing, &view.problem));
        }
    }

    #[test]
    fn no_text_for_a_terminal_holds_a_control_character(choices in prop::collection::vec(any::<u16>(), 0..80)) {
        let pen = Pen::walk(&choices);
        let steers = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
        for record in &pen.records {
            prop_assert!(!steers(&record_text(record, Detail::Whole)));
        }
        prop_assert!(!steers(&text(&pen)));
        prop_assert_eq!(scan(&pen.bytes).state.map(|s| View::of(&s)), Some(View::of(&pen.state)));
    }
}
