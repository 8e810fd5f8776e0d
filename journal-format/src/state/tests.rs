//! What the grammar allows and refuses, situation by situation.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use proptest::prelude::*;

use crate::sample::*;
use crate::*;

mod attempts;

fn name(entry: &Entry) -> String {
    match entry {
        Entry::Header(_) => "header".into(),
        Entry::Plan(_) => "plan".into(),
        Entry::Driver(d) => match d.role {
            Role::Restore => "driver: restore".into(),
            Role::Recover => "driver: recover".into(),
            Role::RecoverByHand => "driver: recover by hand".into(),
            Role::Leave => "driver: leave".into(),
        },
        Entry::Armed { .. } => "armed".into(),
        Entry::Intent { r#move, .. } => format!("{} {}", r#move.direction, r#move.step),
        Entry::Done { r#move, .. } => format!("done {} {}", r#move.direction, r#move.step),
        Entry::Failed { r#move, .. } => format!("failed {} {}", r#move.direction, r#move.step),
        Entry::Turned { .. } => "turned".into(),
        Entry::Committed => "committed".into(),
        Entry::Stuck { .. } => "stuck".into(),
        Entry::Closed { verdict, .. } => format!("closed {verdict}"),
    }
}

fn follows(pen: &Pen) -> String {
    let mut names: Vec<String> = pen.legal().iter().map(name).collect();
    names.dedup();
    names.join(" | ")
}

/// What may follow in each situation: all else of the vocabulary is refused.
#[test]
fn in_each_situation_the_grammar_allows_just_these_records() {
    let mut rows = Vec::new();
    let mut row =
        |situation: &str, pen: &Pen| rows.push(format!("{situation}\n    {}", follows(pen)));
    let opening = Pen::opened_with(header(&plan()));
    row("header", &opening);
    let mut found = opening.clone();
    found.write(driver(Role::Recover, 0));
    row("header, recovery", &found);
    let mut planned = opening.clone();
    planned.write(Entry::Plan(plan().into()));
    row("plan", &planned);
    row("plan, driver", &Pen::begun());
    let mut pen = Pen::begun();
    pen.begin(Step::SafetyBackup, Direction::Forward);
    row("a move is acting", &pen);
    pen.write(driver(Role::Recover, 0));
    row("its driver died in the preparation", &pen);
    pen.step(Step::CleanUp, Direction::Back);
    row("given up, clean", &pen);
    row("armed", &Pen::armed());
    let mut pen = Pen::armed();
    pen.step(Step::CleanUp, Direction::Back);
    row("armed, given up", &pen);
    row(
        "before the swap of databases",
        &Pen::forward_until(Step::SwapDatabases),
    );
    let mut pen = Pen::forward_until(Step::SwapDatabases);
    pen.begin(Step::SwapDatabases, Direction::Forward);
    row("swapping databases", &pen);
    let mut rebooted = pen.clone();
    rebooted.write(driver(Role::Recover, 1));
    row("swapping databases, power cut, another boot", &rebooted);
    pen.write(driver(Role::Recover, 0));
    row("swapping databases, killed, same boot", &pen);
    let mut pen = Pen::forward_until(Step::TunnelsUp);
    pen.fail(Step::TunnelsUp, Direction::Forward);
    row("a step forward failed", &pen);
    pen.write(Entry::Turned {
        problem: problem("go on"),
    });
    row("turned once", &pen);
    pen.write(Entry::Turned {
        problem: problem("go on"),
    });
    row("turned twice", &pen);
    pen.step(Step::SwapConfigs, Direction::Back);
    row("configs are back", &pen);
    pen.fail(Step::SwapDatabases, Direction::Back);
    row("databases failed to go back", &pen);
    pen.write(Entry::Stuck {
        problem: problem("go back"),
    });
    row("stuck", &pen);
    pen.write(driver(Role::RecoverByHand, 0));
    pen.all_back();
    row("all is back", &pen);
    row("all is done forward", &Pen::forward_until(Step::CleanUp));
    let mut pen = Pen::forward_until(Step::CleanUp);
    pen.write(driver(Role::Recover, 1));
    row("all is done forward, power cut, another boot", &pen);
    let mut pen = Pen::forward_until(Step::CleanUp);
    pen.twice(Entry::Committed);
    row("committed", &pen);
    row("closed", &Pen::restored());
    insta::assert_snapshot!(rows.join("\n"));
}

/// A rollback that could not start a service.
fn lacking() -> Pen {
    let mut pen = Pen::newest();
    pen.arm();
    pen.forward_between(Step::Fence, Step::TunnelsUp);
    pen.fail(Step::TunnelsUp, Direction::Forward);
    pen.turn();
    for step in plan().back {
        let r#move = pen.begin(step, Direction::Back);
        let lacks = step == Step::StartServices;
        pen.write(Entry::Done {
            r#move,
            did: Vec::new(),
            warnings: lacks.then(lack).into_iter().collect(),
        });
    }
    pen.twice(Entry::Closed {
        verdict: Verdict::RolledBack,
        warnings: vec![lack()],
    });
    pen
}

#[test]
fn what_the_operator_leaves_and_what_lacks_the_grammar_lets_end_in_just_these_ways() {
    let mut rows = Vec::new();
    let mut row =
        |situation: &str, pen: &Pen| rows.push(format!("{situation}\n    {}", follows(pen)));
    let mut left = Pen::newest();
    left.write(Entry::Stuck {
        problem: problem("go on"),
    });
    row("stuck before anything changed", &left);
    left = Pen::newest();
    left.arm();
    left.forward_between(Step::Fence, Step::TunnelsUp);
    left.fail(Step::TunnelsUp, Direction::Forward);
    left.turn();
    left.begin(Step::SwapConfigs, Direction::Back);
    left.write(driver(Role::Leave, 0));
    row("going back, left as it is", &left);
    left.step(Step::LiftFence, Direction::Back);
    row("left as it is, the fence is lifted", &left);
    left.close(Verdict::Left);
    row("left as it is, closed", &left);
    let mut pen = lacking();
    row("rolled back, a service lacks", &pen);
    pen.write(driver(Role::Recover, 0));
    pen.step(Step::StartServices, Direction::Back);
    row("rolled back, the service is started again", &pen);
    pen.close(Verdict::RolledBack);
    row("rolled back, nothing lacks any more", &pen);
    insta::assert_snapshot!(rows.join("\n"));
}

fn refused(pen: &mut Pen, entry: Entry) -> String {
    let before = pen.state.clone();
    let record = Record {
        seq: before.seq.next(),
        entry: entry.clone(),
        ..pen.records.last().unwrap().clone()
    };
    let why = pen.try_write(entry).unwrap_err().why;
    assert_eq!(pen.state, before, "a refused record changes nothing");
    let shown = pen.lean_states().pop().unwrap().apply(&record);
    assert_eq!(shown.unwrap_err().why, why, "where it is only shown, too");
    why
}

#[test]
fn a_kernel_step_of_another_boot_does_not_count_but_a_swap_does() {
    let mut pen = Pen::forward_until(Step::CleanUp);
    pen.write(driver(Role::Recover, 1));
    assert_eq!(
        refused(&mut pen, Entry::Committed),
        "fence is not done in this boot"
    );
    for step in [
        Step::Fence,
        Step::StopServices,
        Step::TunnelsDown,
        Step::ResetRules,
    ] {
        pen.step(step, Direction::Forward);
    }
    pen.forward_between(Step::TunnelsUp, Step::CleanUp);
    pen.twice(Entry::Committed);
    assert_eq!(pen.state.phase, Phase::Committed);
}

#[test]
fn after_the_commit_only_what_another_boot_took_is_made_anew_in_order() {
    let mut pen = Pen::forward_until(Step::CleanUp);
    pen.twice(Entry::Committed);
    let intent = pen.intent(Step::Fence, Direction::Forward);
    assert_eq!(refused(&mut pen, intent), "it is done");
    pen.write(driver(Role::Recover, 1));
    for step in [Step::SwapConfigs, Step::Stage] {
        let intent = pen.intent(step, Direction::Forward);
        assert_eq!(
            refused(&mut pen, intent),
            "after the commit nothing but what a boot took is made anew"
        );
    }
    let intent = pen.intent(Step::TunnelsUp, Direction::Forward);
    assert_eq!(refused(&mut pen, intent), "fence is not done in this boot");
    pen.step(Step::Fence, Direction::Forward);
    let intent = pen.intent(Step::Fence, Direction::Back);
    refused(&mut pen, intent);
    pen.fail(Step::StopServices, Direction::Forward);
    pen.step(Step::StopServices, Direction::Forward);
    pen.step(Step::CleanUp, Direction::Forward);
    pen.close(Verdict::Restored);
}

#[test]
fn originals_are_not_cleaned_away_before_every_swap_is_back() {
    let mut pen = Pen::forward_until(Step::TunnelsUp);
    pen.turn();
    pen.step(Step::SwapConfigs, Direction::Back);
    for step in [
        Step::TunnelsUp,
        Step::VerifyRunning,
        Step::LiftFence,
        Step::CleanUp,
    ] {
        let later = pen.intent(step, Direction::Back);
        assert_eq!(
            refused(&mut pen, later),
            "swap-databases is not done on the way back"
        );
    }
}

#[test]
fn a_failed_step_back_is_not_passed_over() {
    let mut pen = Pen::forward_until(Step::SwapDatabases);
    pen.turn();
    pen.step(Step::Fence, Direction::Back);
    pen.fail(Step::TunnelsUp, Direction::Back);
    let verify = pen.intent(Step::VerifyRunning, Direction::Back);
    assert_eq!(
        refused(&mut pen, verify),
        "tunnels-up is not done on the way back"
    );
    pen.step(Step::TunnelsUp, Direction::Back);
    pen.step(Step::VerifyRunning, Direction::Back);
}

#[test]
fn rolled_back_is_said_only_of_the_boot_in_which_it_was_seen() {
    let mut pen = Pen::forward_until(Step::TunnelsUp);
    pen.turn();
    pen.all_back();
    pen.step(Step::CleanUp, Direction::Back);
    pen.write(driver(Role::Recover, 1));
    let closed = Entry::Closed {
        verdict: Verdict::RolledBack,
        warnings: Vec::new(),
    };
    assert_eq!(
        refused(&mut pen, closed),
        "fence is not done on the way back"
    );
}

#[test]
fn what_was_given_up_before_the_first_effect_never_goes_forward() {
    let mut pen = Pen::armed();
    pen.step(Step::CleanUp, Direction::Back);
    pen.write(driver(Role::RecoverByHand, 0));
    let fence = pen.intent(Step::Fence, Direction::Forward);
    assert_eq!(
        refused(&mut pen, fence),
        "it was given up before the first effect"
    );
    pen.close(Verdict::NothingChanged);
}

#[test]
fn a_journal_that_ends_after_its_header_can_be_closed_and_only_that() {
    let mut pen = Pen::opened_with(header(&plan()));
    pen.write(driver(Role::Recover, 0));
    assert_eq!(
        refused(&mut pen, Entry::Plan(plan().into())),
        "a recovery makes no plan"
    );
    pen.close(Verdict::NothingChanged);
    assert_eq!(
        scan(&pen.bytes).soundness(),
        Soundness::Closed(Verdict::NothingChanged)
    );
}

#[test]
fn a_recovery_finds_the_exchanges_of_the_first_intent_and_may_not_change_them() {
    let mut pen = Pen::forward_until(Step::SwapConfigs);
    pen.begin(Step::SwapConfigs, Direction::Forward);
    let noted = exchanges(&plan().files);
    assert_eq!(pen.state.exchanges(Step::SwapConfigs), Some(&noted[..]));
    pen.write(driver(Role::Recover, 1));
    for step in [
        Step::Fence,
        Step::StopServices,
        Step::TunnelsDown,
        Step::ResetRules,
    ] {
        pen.step(step, Direction::Forward);
    }
    let mut other = noted.clone();
    other[0].old = Some(FileId {
        ino: 999,
        born_ns: 1,
    });
    let r#move = Move {
        step: Step::SwapConfigs,
        direction: Direction::Forward,
        attempt: 2,
    };
    let changed = Entry::Intent {
        r#move,
        exchanges: other,
    };
    assert_eq!(
        refused(&mut pen, changed),
        "the exchanges are those of the swap's first intent"
    );
    pen.write(Entry::Intent {
        r#move,
        exchanges: Vec::new(),
    });
    assert_eq!(pen.state.exchanges(Step::SwapConfigs), Some(&noted[..]));
}

#[test]
fn exchanges_are_just_those_of_the_plan() {
    let mut pen = Pen::forward_until(Step::SwapConfigs);
    let r#move = Move {
        step: Step::SwapConfigs,
        direction: Direction::Forward,
        attempt: 1,
    };
    let noted = exchanges(&plan().files);
    let mut elsewhere = noted.clone();
    elsewhere[0].path = "/etc/shadow".into();
    let mut overwrites = noted.clone();
    overwrites[1].old = Some(FileId { ino: 5, born_ns: 5 });
    for exchanges in [elsewhere, overwrites, noted[1..].to_vec()] {
        let why = refused(&mut pen, Entry::Intent { r#move, exchanges });
        assert_eq!(why, "the exchanges are not those of the plan");
    }
    pen.write(Entry::Intent {
        r#move,
        exchanges: Vec::new(),
    });
    let done = Entry::Done {
        r#move,
        did: Vec::new(),
        warnings: Vec::new(),
    };
    assert_eq!(
        refused(&mut pen, done),
        "a swap notes its exchanges before it is done"
    );
}

#[test]
fn a_plan_whose_lists_cannot_be_walked_is_refused() {
    let lists: [fn(&mut Plan); 6] = [
        |p| p.forward.push(Step::Fence),
        |p| p.back.insert(0, Step::CleanUp),
        |p| p.back.insert(0, Step::Stage),
        |p| p.forward.swap(0, 5),
        |p| p.back.retain(|s| *s != Step::LiftFence),
        |p| p.back.retain(|s| *s != Step::SwapConfigs),
    ];
    let mut reasons = Vec::new();
    for change in lists {
        let mut plan = plan();
        change(&mut plan);
        let mut pen = Pen::opened_with(header(&plan));
        reasons.push(refused(&mut pen, Entry::Plan(plan.into())));
    }
    insta::assert_snapshot!(reasons.join("\n"), @r"
    a step is twice in the list forward
    a step is twice in the list back
    the preparation comes first, and only forward
    the preparation comes first, and only forward
    the list back does not lift the fence
    swap-configs has no way back
    ");
    let mut other = plan();
    other.warnings.clear();
    let mut pen = Pen::opened_with(header(&plan()));
    assert_eq!(
        refused(&mut pen, Entry::Plan(other.into())),
        "the plan is not the one that the header names"
    );
}

#[test]
fn by_hand_counts_begin_anew_and_attempt_numbers_do_not() {
    let mut pen = Pen::forward_until(Step::TunnelsUp);
    pen.turn();
    pen.fail(Step::Fence, Direction::Back);
    pen.fail(Step::Fence, Direction::Back);
    assert_eq!(pen.state.attempts(Step::Fence, Direction::Back), 2);
    pen.write(Entry::Stuck {
        problem: problem("go back"),
    });
    pen.write(driver(Role::RecoverByHand, 0));
    assert_eq!(
        (
            pen.state.attempts(Step::Fence, Direction::Back),
            pen.state.starts
        ),
        (0, 1)
    );
    assert_eq!(pen.state.next_attempt(Step::Fence, Direction::Back), 3);
    assert!(pen.state.stuck.is_none());
}

#[test]
fn leftovers_may_be_cleaned_up_after_the_end_again_and_again() {
    let mut pen = Pen::forward_until(Step::CleanUp);
    pen.twice(Entry::Committed);
    pen.fail(Step::CleanUp, Direction::Forward);
    pen.twice(Entry::Closed {
        verdict: Verdict::Restored,
        warnings: vec!["staging is left".into()],
    });
    for boot in [0, 1] {
        pen.write(driver(Role::Recover, boot));
        pen.fail(Step::CleanUp, Direction::Forward);
    }
    assert_eq!(pen.state.closing_warnings, [Note::from("staging is left")]);
    pen.write(driver(Role::Recover, 1));
    pen.step(Step::CleanUp, Direction::Forward);
    assert!(pen.state.closing_warnings.is_empty());
    let back = pen.intent(Step::CleanUp, Direction::Back);
    assert_eq!(refused(&mut pen, back), "it is over");
    assert_eq!(pen.state.verdict(), Some(Verdict::Restored));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn on_every_legal_walk_the_direction_flips_at_most_once_and_no_swap_is_lost(
        choices in prop::collection::vec(any::<u16>(), 0..140)
    ) {
        let pen = Pen::walk(&choices);
        let mut turned = false;
        let mut swapped = std::collections::BTreeSet::new();
        let (mut armed, mut left) = (false, false);
        for record in &pen.records {
            match &record.entry {
                Entry::Turned { .. } => turned = true,
                Entry::Armed { .. } => {
                    prop_assert!(!armed);
                    armed = true;
                }
                Entry::Intent { r#move, .. } => {
                    prop_assert!(!turned || r#move.direction == Direction::Back);
                    prop_assert!(armed || r#move.step.is_preparation() || r#move.step == Step::CleanUp);
                    let swap = matches!(r#move.step, Step::SwapDatabases | Step::SwapConfigs);
                    if swap && r#move.direction == Direction::Forward {
                        swapped.insert(r#move.step);
                    }
                    if r#move.step == Step::CleanUp && r#move.direction == Direction::Back && !left {
                        prop_assert!(swapped.is_empty());
                    }
                }
                Entry::Done { r#move, .. } if r#move.direction == Direction::Back => {
                    swapped.remove(&r#move.step);
                }
                Entry::Committed | Entry::Closed { verdict: Verdict::Restored, .. } => prop_assert!(!turned),
                Entry::Closed { verdict: Verdict::Left, .. } => left = true,
                Entry::Closed { .. } => prop_assert!(swapped.is_empty()),
                _ => {}
            }
        }
    }
}
