//! The worker: the process that restores or recovers, apart from whoever started it. It prints nothing: what it does is in the
//! journal, and what no journal tells it leaves as its report. Plans and decides nothing itself.

use std::io::Read;
use std::panic::AssertUnwindSafe;

use journal_format::{AskedBy, Policy, RestoreId, Role};

use super::audited::{self, Ordered};
use super::driver::{self, BootStage};
use super::launch::{say, say_first};
use super::order::{RestoreOrder, WorkOrder, WorkReport, WorkerState, policy_of_hand_over};
use super::process::{self, Signals};
use super::recover::{self, FoundAtRecovery, Recovered, RecoveryOrder};
use super::{Ended, aside, cut_off, run};
use crate::archive;
use crate::error::{Code, Fault, OrCannot, Problem, cannot};
use crate::gateway::profile::Profile;
use crate::host::linux::Linux;
use crate::plan::prepare::{RestoreRequest, prepare};
use crate::state_dir::lock::{Lock, LockedFor};
use crate::state_dir::{self, barrier, targets, traces};

/// Takes the order from standard input.
pub fn order() -> Result<WorkOrder, Problem> {
    let no_order = "holdfast starts it for itself; run `holdfast restore` or `holdfast recover`";
    let mut text = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut text);
    read.or_cannot(Code::BAD_REQUEST, "read the order of a worker", no_order)?;
    serde_json::from_slice(&text).or_cannot(
        Code::BAD_REQUEST,
        "read the order of a worker",
        no_order,
    )
}

/// The order of a boot.
pub fn at_boot(stage: BootStage) -> WorkOrder {
    WorkOrder::Recover(RecoveryOrder {
        by: Role::Recover,
        policy: None,
        stage,
        asked_by: Some(AskedBy::Boot),
    })
}

/// Carries the order out, and leaves a report under this name. Says its exit status. `heard`: somebody waits for its first word.
/// An error where nothing was begun, and before that word: from then on nobody hears anything but the report.
pub fn work(profile: &Profile, name: &str, order: WorkOrder, heard: bool) -> Result<u8, Fault> {
    // Before anybody knows that it runs: from then on it may be asked to turn back.
    process::own_session()?;
    process::forget_the_callers_habits()?;
    let signals = Signals::hold()?;
    let asked = || signals.asked();
    let runs = WorkerState::Runs(process::this()?);
    // Others may come back to it; without it they only know less.
    let _ = say(name, &runs);
    if heard {
        say_first(&runs).or_cannot(
            Code::UNFIT_SYSTEM,
            "tell whoever started this worker that it runs",
            "start it by `holdfast restore` or `holdfast recover`",
        )?;
    }
    let of = match &order {
        WorkOrder::Restore(order) => Some(order.id.clone()),
        WorkOrder::Recover(_) => None,
    };
    let ordered = Ordered::by(&order);
    let mut report = whole(profile, of.as_ref(), || match (process::detach(), order) {
        (Err(problem), _) => WorkReport::of(Err(problem.into())),
        (Ok(()), WorkOrder::Restore(order)) => restored(profile, order, &asked),
        (Ok(()), WorkOrder::Recover(order)) => recovered(profile, order, &asked),
    });
    ordered.ended(profile, &report);
    report.aside = aside::said();
    let status = report.exit_status();
    // Without it the journal and the exit status still say how it ended.
    let _ = say(name, &WorkerState::Ended(Box::new(report)));
    Ok(status)
}

/// Does the work; a fault in Holdfast ends it alone, and leaves the journal as it is for a recovery.
fn whole(
    profile: &Profile,
    of: Option<&RestoreId>,
    work: impl FnOnce() -> WorkReport,
) -> WorkReport {
    // What the work had it took along; what is left is on the disk.
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let at = aside::fault().unwrap_or_else(|| "nothing is known of it".into());
        cut_off::by_fault(profile, of, &at)
    })
}

fn restored(profile: &Profile, order: RestoreOrder, asked: &dyn Fn() -> bool) -> WorkReport {
    let mut closed = Vec::new();
    let asked_by = order.asked_by.clone();
    let mut report = match restore(profile, order, asked, &mut closed) {
        Ok(outcome) => WorkReport::of(Ok(outcome)),
        Err(Unfinished::Fault(fault)) => WorkReport::of(Err(fault)),
        Err(Unfinished::HandOver(problem, policy, lock)) => {
            let order = RecoveryOrder {
                by: Role::Recover,
                policy: policy_of_hand_over(policy),
                stage: BootStage::Whole,
                asked_by,
            };
            // The same process with fresh eyes: it reads what the disk holds.
            let report = recover(profile, order, asked, lock);
            WorkReport {
                handed_over: Some(problem),
                ..report
            }
        }
    };
    report.closed = closed;
    report
}

/// Why a restore has no verdict of its own.
enum Unfinished {
    Fault(Fault),
    HandOver(Problem, Policy, Lock),
}

impl<F: Into<Fault>> From<F> for Unfinished {
    fn from(fault: F) -> Unfinished {
        Unfinished::Fault(fault.into())
    }
}

fn restore(
    profile: &Profile,
    order: RestoreOrder,
    asked: &dyn Fn() -> bool,
    closed: &mut Vec<String>,
) -> Result<Recovered, Unfinished> {
    let lock = Lock::take(profile, LockedFor::Restore)?;
    let host = Linux::new(profile);
    let policy = order.choices.policy;
    let prepared = prepare(
        profile,
        &host,
        RestoreRequest {
            file: archive::opened(&order.archive).map_err(Fault::refused)?,
            name: order.shown,
            choices: order.choices,
            id: Some(order.id.clone()),
            approved: order.approved,
        },
    )?;
    if asked() {
        return Err(driver::asked("begin the restore").into());
    }
    if prepared.changes_nothing() {
        return Ok(Recovered::NothingToDo(order.id));
    }
    // None is lost, or the plan would not have been made.
    hold_back(false);
    audited::begins(profile, &order.id, order.asked_by.as_ref());
    prepared.close_what_is_open(|one| closed.push(one))?;
    match run(profile, &host, prepared, order.asked_by, asked)? {
        Ended::Restored { warnings } => Ok(Recovered::Settled {
            id: order.id,
            result: Ok(warnings),
        }),
        Ended::HandOver(problem) => Err(Unfinished::HandOver(problem, policy, lock)),
    }
}

fn recovered(profile: &Profile, order: RecoveryOrder, asked: &dyn Fn() -> bool) -> WorkReport {
    // Where a restore is lost, nothing is made: its folder is to be put back there.
    let is_lost =
        || !profile.state_dir.exists() && traces::none(profile, &Linux::new(profile)).is_err();
    let at_boot = order.stage == BootStage::BeforeNetwork && !profile.sentinel().exists();
    if at_boot || is_lost() {
        // Another profile's restore that is under way is not lost.
        if let Some(problem) = targets::busy_elsewhere(profile) {
            return WorkReport::of(Err(Fault::Busy(problem)));
        }
        let host = Linux::new(profile);
        let problem = traces::none(profile, &host).err();
        let problem = problem.unwrap_or_else(|| no_state_dir(profile));
        if problem.is(&Code::RESTORE_LOST) {
            hold_back(true);
        }
        return WorkReport::of(Err(Fault::Stuck(problem)));
    }
    match Lock::take(profile, LockedFor::Recovery) {
        Ok(lock) => recover(profile, order, asked, lock),
        Err(fault) => WorkReport::of(Err(fault)),
    }
}

fn no_state_dir(profile: &Profile) -> Problem {
    cannot(
        Code::NOT_THERE,
        format!(
            "look for an open restore: {} is not there, so state_dir is missing or not mounted",
            profile.sentinel().display()
        ),
        "mount it and reboot; if it is new, `holdfast boot-units --init` makes it. Until then a boot starts nothing of the \
         gateway",
    )
}

fn recover(
    profile: &Profile,
    order: RecoveryOrder,
    asked: &dyn Fn() -> bool,
    _: Lock,
) -> WorkReport {
    let mut found: Option<FoundAtRecovery> = None;
    let host = Linux::new(profile);
    if matches!(state_dir::open_restore(profile), Ok(Some(_))) {
        // It starts the services itself.
        hold_back(false);
    }
    let outcome = recover::run(profile, &host, order, asked, |it| found = Some(it));
    match &outcome {
        Err(Fault::Stuck(problem)) if problem.code == Some(Code::RESTORE_LOST) => hold_back(true),
        Ok(Recovered::Idle(_)) => hold_back(false),
        Ok(_) | Err(_) => {}
    }
    WorkReport {
        found,
        ..WorkReport::of(outcome)
    }
}

fn hold_back(lost: bool) {
    if let Err(e) = barrier::hold_back(lost) {
        tracing::warn!("cannot write {}: {e}", barrier::LOST);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const ID: &str = "20261122T185220Z-0a1b2c3d";

    /// What is left behind when the work ends in a fault after so many records, and the journal then.
    fn faulty(records: usize) -> (WorkReport, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let profile = Profile {
            state_dir: folder.path().into(),
            ..Profile::default()
        };
        let id = RestoreId::new(ID).unwrap();
        let golden = include_str!("../../../journal-format/golden/1.1/restored.journal");
        let lines: Vec<&str> = golden.split_inclusive('\n').collect();
        let journal = state_dir::journal(&profile, &id);
        let written = lines[..records.min(lines.len())].concat();
        std::fs::create_dir_all(journal.parent().unwrap()).unwrap();
        aside::hear_of_faults();
        let report = whole(&profile, Some(&id), || {
            std::fs::write(&journal, &written).unwrap();
            panic!("no such step");
        });
        let _ = std::panic::take_hook();
        (report, std::fs::read(&journal).unwrap())
    }

    #[test]
    fn a_fault_of_the_program_is_reported_by_what_it_left_behind_and_the_journal_stays_as_it_is() {
        let (open, journal) = faulty(8);
        let Err(Fault::Stuck(problem)) = &open.outcome else {
            panic!("{open:?}");
        };
        assert_eq!(problem.code, Some(Code::INTERNAL));
        assert!(problem.what.contains("a fault in holdfast"), "{problem}");
        assert!(problem.what.contains("no such step"), "{problem}");
        assert!(problem.what.contains("work.rs"), "{problem}");
        assert!(problem.advice.contains("holdfast recover"), "{problem}");
        assert_eq!(open.exit_status(), 5);
        assert_eq!(journal.iter().filter(|b| **b == b'\n').count(), 8);

        // It was over by then: that is what counts.
        let (over, _) = faulty(usize::MAX);
        assert!(
            matches!(over.outcome, Ok(Recovered::Settled { result: Ok(_), .. })),
            "{over:?}"
        );
        assert_eq!(over.exit_status(), 0);
    }
}
