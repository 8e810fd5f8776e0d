//! What to do next: a pure, labelled case table. Knows the journal's state and what was observed; never the host.

use journal_format::{Direction, Fate, Phase, Policy, State, Step, Verdict};

/// How often one step is tried in one direction and one boot before the operator is asked (I6).
pub const ATTEMPTS: u32 = 3;
/// How often a driver starts by itself on one restore before the operator is asked (I6).
pub const STARTS: u32 = 16;

/// What the host shows of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// As if the move had not begun.
    Before,
    /// As it should be once the move is done.
    After,
    /// Neither: what differs.
    Between(String),
    /// Not what either should look like: acting on it could lose something.
    Unknown(String),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Make this move.
    Do(Step, Direction),
    /// Raise the barrier.
    Arm,
    /// Turn back.
    Turn,
    /// Begin the list anew, to do again what is gone.
    Anew,
    /// Pass the one commit point.
    Commit,
    /// Close with this verdict.
    Close(Verdict),
    /// Remove the barrier: it is over.
    Finish,
    /// Ask for the operator.
    Stick,
    /// It waits for the operator: do nothing.
    Halt,
}

/// What a decision depends on besides the plan's own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inputs {
    /// How far it is.
    pub phase: Phase,
    /// It waits for the operator.
    pub stuck: bool,
    /// A recovery that has not chosen its direction yet.
    pub recovering: bool,
    /// Anything that the gateway uses may have been changed.
    pub effects: bool,
    /// A move forward failed.
    pub failed: bool,
    /// Someone asked to turn back, or it was given up before the first effect.
    pub asked: bool,
    /// The kernel still has what it had before; or, after a reboot, it was given up all the same.
    pub kernel_kept: bool,
    /// Databases and configs together, if `recovering`.
    pub swaps: Swaps,
    /// What recovery does where the journal leaves the choice.
    pub policy: Policy,
    /// The next step in the direction that the phase goes; the clean-up is not one.
    pub next: Option<Step>,
    /// That step was done, is to be done again, and only a driver that begins anew may do it.
    pub anew: bool,
    /// It has attempts left.
    pub attempts_left: bool,
    /// Another start of a driver is allowed.
    pub starts_left: bool,
    /// The clean-up was tried by this driver.
    pub cleaned: bool,
}

/// Databases and configs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Swaps {
    AllInPlace,
    NotAll,
    Unknown,
}

/// The case table: the first row that fits decides. The label names the row, for logs and tests.
pub fn decide(i: &Inputs) -> (&'static str, Decision) {
    use Direction::{Back, Forward};
    match i.phase {
        Phase::Closed(_) => return ("over", Decision::Finish),
        _ if i.stuck => return ("waits for the operator", Decision::Halt),
        _ if !i.starts_left => return ("started over 16 times", Decision::Stick),
        Phase::Opening | Phase::Preparing | Phase::Forward | Phase::Back | Phase::Committed => {}
    }
    match i.phase {
        Phase::Closed(_) => ("over", Decision::Finish),
        Phase::Opening | Phase::Preparing if i.recovering || i.failed || i.asked => abandon(i),
        Phase::Opening | Phase::Preparing => match i.next {
            Some(step) => ("prepare", Decision::Do(step, Forward)),
            None => ("prepared", Decision::Arm),
        },
        // Behind the barrier a boot does not start the gateway: after a reboot it is rebuilt, not given up.
        Phase::Forward if !i.effects && i.kernel_kept && (i.asked || i.recovering) => abandon(i),
        Phase::Forward if i.failed => ("a step failed", Decision::Turn),
        Phase::Forward if i.asked => ("asked to turn back", Decision::Turn),
        Phase::Forward if i.recovering && i.swaps == Swaps::Unknown => {
            ("not what either set looks like", Decision::Stick)
        }
        Phase::Forward if i.recovering && turns_back(i.policy, i.swaps) => {
            ("recovery rolls back", Decision::Turn)
        }
        Phase::Forward | Phase::Back if i.anew && i.attempts_left => {
            ("what was done is gone", Decision::Anew)
        }
        Phase::Forward => match i.next {
            Some(step) if i.attempts_left => ("go on", Decision::Do(step, Forward)),
            Some(_) => ("tried 3 times", Decision::Turn),
            None => ("all done", Decision::Commit),
        },
        Phase::Back => match i.next {
            Some(step) if i.attempts_left => ("go back", Decision::Do(step, Back)),
            Some(_) => ("tried 3 times", Decision::Stick),
            None if i.cleaned => ("back and clean", Decision::Close(Verdict::RolledBack)),
            None => ("back", Decision::Do(Step::CleanUp, Back)),
        },
        // Where another boot came after the commit, that boot is an ordinary one: it starts the gateway as it is now.
        Phase::Committed if i.cleaned => ("restored and clean", Decision::Close(Verdict::Restored)),
        Phase::Committed => ("committed", Decision::Do(Step::CleanUp, Forward)),
    }
}

/// Whether the journal leaves the direction of a recovery to whoever starts it: not once a step failed, it turned or committed, and
/// not where nothing was changed and the kernel still has what it had. `kernel_kept`: the machine has not booted since.
pub fn leaves_the_choice(state: &State, kernel_kept: bool) -> bool {
    match state.phase {
        Phase::Forward if !state.has_effects() => {
            !kernel_kept && !given_up(state) && !forward_failed(state)
        }
        Phase::Forward => !forward_failed(state),
        Phase::Opening | Phase::Preparing | Phase::Back | Phase::Committed | Phase::Closed(_) => {
            false
        }
    }
}

/// Where a recovery leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Heading {
    /// It closes the restore: nothing was changed.
    Nowhere,
    /// It completes the restore.
    Forward,
    /// It rolls back.
    Back,
    /// It cleans up: the gateway is as the backup says already.
    ToTheEnd,
}

/// Where a recovery leads for which nobody chooses a direction; none where it would stop at once. `kernel_kept`: the machine has not
/// booted since.
pub fn heading(state: &State, swaps: Swaps, kernel_kept: bool) -> Option<Heading> {
    let inputs = Inputs {
        phase: state.phase,
        stuck: false,
        recovering: true,
        effects: state.has_effects(),
        failed: forward_failed(state),
        asked: given_up(state),
        kernel_kept: kernel_kept || given_up(state),
        swaps,
        policy: state.plan.as_ref().map(|p| p.policy).unwrap_or_default(),
        next: None,
        anew: false,
        attempts_left: true,
        starts_left: true,
        cleaned: false,
    };
    match (decide(&inputs).1, state.phase) {
        (Decision::Commit, _) => Some(Heading::Forward),
        (Decision::Turn, _) | (Decision::Do(_, Direction::Back), Phase::Back) => {
            Some(Heading::Back)
        }
        (Decision::Do(_, Direction::Back), _) => Some(Heading::Nowhere),
        (Decision::Do(_, Direction::Forward), _) => Some(Heading::ToTheEnd),
        (
            Decision::Arm
            | Decision::Anew
            | Decision::Close(_)
            | Decision::Finish
            | Decision::Stick
            | Decision::Halt,
            _,
        ) => None,
    }
}

fn abandon(i: &Inputs) -> (&'static str, Decision) {
    if i.cleaned {
        (
            "nothing changed and clean",
            Decision::Close(Verdict::NothingChanged),
        )
    } else {
        (
            "nothing changed",
            Decision::Do(Step::CleanUp, Direction::Back),
        )
    }
}

fn turns_back(policy: Policy, swaps: Swaps) -> bool {
    match (policy, swaps) {
        (Policy::RollBack, _) | (Policy::Auto, Swaps::NotAll | Swaps::Unknown) => true,
        (Policy::Auto, Swaps::AllInPlace) | (Policy::Resume, _) => false,
    }
}

/// Whether it was given up before the first effect: its staging may be gone, so nothing goes forward any more.
pub fn given_up(state: &State) -> bool {
    state.turned.is_none() && state.begun(Step::CleanUp, Direction::Back)
}

/// Whether a move forward failed and nothing was tried again since.
pub fn forward_failed(state: &State) -> bool {
    state.moves.iter().any(|m| {
        m.direction == Direction::Forward && m.step != Step::CleanUp && m.fate == Fate::Failed
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    fn all_inputs() -> Vec<Inputs> {
        let phases = [
            Phase::Opening,
            Phase::Preparing,
            Phase::Forward,
            Phase::Back,
            Phase::Committed,
            Phase::Closed(Verdict::Restored),
            Phase::Closed(Verdict::RolledBack),
            Phase::Closed(Verdict::NothingChanged),
            Phase::Closed(Verdict::Left),
        ];
        let swaps = [Swaps::AllInPlace, Swaps::NotAll, Swaps::Unknown];
        let policies = [Policy::Auto, Policy::Resume, Policy::RollBack];
        let next = [None, Some(Step::Stage), Some(Step::SwapDatabases)];
        let mut cases = Vec::new();
        for phase in phases {
            for swaps in swaps {
                for policy in policies {
                    cases.extend(next.map(|next| (phase, swaps, policy, next)));
                }
            }
        }
        let mut all = Vec::new();
        for (phase, swaps, policy, next) in cases {
            for bits in 0..1024_u32 {
                let bit = |n: u32| bits & (1 << n) != 0;
                all.push(Inputs {
                    phase,
                    swaps,
                    policy,
                    next,
                    stuck: bit(0),
                    recovering: bit(1),
                    effects: bit(2),
                    failed: bit(3),
                    asked: bit(4),
                    attempts_left: bit(5),
                    starts_left: bit(6),
                    cleaned: bit(7),
                    kernel_kept: bit(8),
                    anew: bit(9),
                });
            }
        }
        all
    }

    #[test]
    fn over_all_inputs_no_decision_breaks_a_law() {
        for i in all_inputs() {
            let (label, decision) = decide(&i);
            let why = format!("{label}: {i:?} -> {decision:?}");
            let acts = !matches!(
                decision,
                Decision::Close(_) | Decision::Finish | Decision::Stick | Decision::Halt
            );
            // Nothing acts while it waits for the operator, once it is over, or when it started too often.
            assert!(
                !acts || !i.stuck && i.starts_left && !matches!(i.phase, Phase::Closed(_)),
                "{why}"
            );
            match decision {
                // I3: forward only before it turned; back only after, or where nothing had changed.
                Decision::Do(step, Direction::Forward) => {
                    assert!(!matches!(i.phase, Phase::Back | Phase::Closed(_)), "{why}");
                    assert!(!i.failed || i.phase == Phase::Committed, "{why}");
                    assert!(
                        step != Step::CleanUp || i.phase == Phase::Committed,
                        "{why}"
                    );
                }
                Decision::Do(step, Direction::Back) => {
                    let nothing_changed = step == Step::CleanUp
                        && (matches!(i.phase, Phase::Opening | Phase::Preparing)
                            || i.phase == Phase::Forward && !i.effects);
                    assert!(i.phase == Phase::Back || nothing_changed, "{why}");
                }
                Decision::Arm => {
                    assert!(
                        matches!(i.phase, Phase::Opening | Phase::Preparing),
                        "{why}"
                    );
                }
                Decision::Turn => assert_eq!(i.phase, Phase::Forward, "{why}"),
                Decision::Anew => {
                    assert!(matches!(i.phase, Phase::Forward | Phase::Back), "{why}");
                    assert!(!i.failed || i.phase == Phase::Back, "{why}");
                }
                Decision::Commit => {
                    assert_eq!(i.phase, Phase::Forward, "{why}");
                    assert!(!i.failed && !i.asked && i.next.is_none(), "{why}");
                }
                Decision::Close(Verdict::Restored) => {
                    assert_eq!(i.phase, Phase::Committed, "{why}")
                }
                Decision::Close(Verdict::RolledBack) => assert_eq!(i.phase, Phase::Back, "{why}"),
                Decision::Close(Verdict::NothingChanged) => {
                    assert!(
                        !i.effects || matches!(i.phase, Phase::Opening | Phase::Preparing),
                        "{why}"
                    );
                }
                // Nothing but the operator leaves a gateway as it is.
                Decision::Close(Verdict::Left) => panic!("{why}"),
                Decision::Finish => assert!(matches!(i.phase, Phase::Closed(_)), "{why}"),
                Decision::Stick => assert!(!matches!(i.phase, Phase::Closed(_)), "{why}"),
                Decision::Halt => assert!(i.stuck, "{why}"),
            }
            // A recovery never goes on over objects that are neither set.
            if i.recovering && i.phase == Phase::Forward && i.effects && i.swaps == Swaps::Unknown {
                assert!(
                    !matches!(
                        decision,
                        Decision::Do(_, Direction::Forward) | Decision::Commit
                    ),
                    "{why}"
                );
            }
            // I6: a step that was tried too often is not tried again.
            if let Decision::Do(step, _) = decision
                && step != Step::CleanUp
                && matches!(i.phase, Phase::Forward | Phase::Back)
            {
                assert!(i.attempts_left, "{why}");
            }
        }
    }

    #[test]
    fn every_row_of_the_table_is_reached() {
        let mut labels: Vec<&str> = all_inputs().iter().map(|i| decide(i).0).collect();
        labels.sort_unstable();
        labels.dedup();
        insta::assert_snapshot!(labels.join("\n"), @r"
        a step failed
        all done
        asked to turn back
        back
        back and clean
        committed
        go back
        go on
        not what either set looks like
        nothing changed
        nothing changed and clean
        over
        prepare
        prepared
        recovery rolls back
        restored and clean
        started over 16 times
        tried 3 times
        waits for the operator
        what was done is gone
        ");
    }

    #[test]
    fn after_the_commit_nothing_of_the_kernel_is_rebuilt() {
        for i in all_inputs().iter().filter(|i| i.phase == Phase::Committed) {
            let (label, decision) = decide(i);
            assert!(
                matches!(
                    decision,
                    Decision::Do(Step::CleanUp, Direction::Forward)
                        | Decision::Close(Verdict::Restored)
                        | Decision::Stick
                        | Decision::Halt
                ),
                "{label}: {i:?} -> {decision:?}"
            );
        }
    }

    #[test]
    fn where_the_journal_leaves_the_choice_the_policy_decides() {
        let inputs = |policy, swaps| Inputs {
            phase: Phase::Forward,
            stuck: false,
            recovering: true,
            effects: true,
            failed: false,
            asked: false,
            swaps,
            policy,
            next: Some(Step::SwapConfigs),
            anew: false,
            attempts_left: true,
            starts_left: true,
            cleaned: false,
            kernel_kept: true,
        };
        let on = Decision::Do(Step::SwapConfigs, Direction::Forward);
        for (policy, swaps, expected) in [
            (Policy::Auto, Swaps::AllInPlace, on),
            (Policy::Auto, Swaps::NotAll, Decision::Turn),
            (Policy::Resume, Swaps::AllInPlace, on),
            (Policy::Resume, Swaps::NotAll, on),
            (Policy::RollBack, Swaps::AllInPlace, Decision::Turn),
            (Policy::RollBack, Swaps::NotAll, Decision::Turn),
            (Policy::Resume, Swaps::Unknown, Decision::Stick),
            (Policy::RollBack, Swaps::Unknown, Decision::Stick),
        ] {
            assert_eq!(
                decide(&inputs(policy, swaps)).1,
                expected,
                "{policy:?} {swaps:?}"
            );
        }
    }

    #[test]
    fn behind_the_barrier_a_reboot_is_never_nothing_changed() {
        let inputs = |kernel_kept| Inputs {
            phase: Phase::Forward,
            stuck: false,
            recovering: true,
            effects: false,
            failed: false,
            asked: false,
            swaps: Swaps::NotAll,
            policy: Policy::Auto,
            next: Some(Step::Fence),
            anew: false,
            attempts_left: true,
            starts_left: true,
            cleaned: false,
            kernel_kept,
        };
        assert_eq!(
            decide(&inputs(true)).1,
            Decision::Do(Step::CleanUp, Direction::Back)
        );
        assert_eq!(decide(&inputs(false)).1, Decision::Turn);
    }
}
