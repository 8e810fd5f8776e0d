//! What the audit log says of a worker's work: that a restore begins, and how a restore or a recovery ended. Owns when there is
//! nothing to say; decides and delays nothing.

use journal_format::{AskedBy, RestoreId};

use super::order::{WorkOrder, WorkReport};
use super::recover::Recovered;
use crate::error::{Code, Fault, Problem};
use crate::gateway::profile::Profile;
use crate::state_dir::audit::entry::{AuditEnd, AuditResult, Audited, AuditedDeed};
use crate::state_dir::audit::note;

/// A restore is planned, and from here on changes something.
pub(super) fn begins(profile: &Profile, id: &RestoreId, asked_by: Option<&AskedBy>) {
    let (who, what) = (who(asked_by), AuditedDeed::RestoreBegins);
    let begins = Audited::new(who, what, Some(id.as_str()), AuditResult::Done);
    note(profile, begins);
}

/// An agent that was not yet renewed says nothing of who asked.
fn who(asked_by: Option<&AskedBy>) -> AskedBy {
    asked_by.cloned().unwrap_or(AskedBy::Agent)
}

/// What of an order its end is told with.
pub(super) struct Ordered {
    who: AskedBy,
    restore: Option<RestoreId>,
}

impl Ordered {
    pub(super) fn by(order: &WorkOrder) -> Ordered {
        let (asked_by, restore) = match order {
            WorkOrder::Restore(order) => (&order.asked_by, Some(order.id.clone())),
            WorkOrder::Recover(order) => (&order.asked_by, None),
        };
        Ordered {
            who: who(asked_by.as_ref()),
            restore,
        }
    }

    /// How it ended.
    pub(super) fn ended(self, profile: &Profile, report: &WorkReport) {
        // What lies under a mount that is not there is nobody's.
        if self.who == AskedBy::Boot && !profile.sentinel().exists() {
            return;
        }
        for audited in self.entries(report) {
            note(profile, audited);
        }
    }

    fn entries(self, report: &WorkReport) -> Vec<Audited> {
        let Ordered { who, restore } = self;
        if let Some(id) = restore {
            let result = of_restore(report);
            let restore = Audited::new(who, AuditedDeed::Restore, Some(id.as_str()), result);
            return vec![Audited {
                ended: ended(report),
                ..restore
            }];
        }
        let entry = |id: Option<&RestoreId>, result| {
            let id = id.map(RestoreId::as_str);
            Audited::new(who.clone(), AuditedDeed::Recovery, id, result)
        };
        let by_itself = matches!(who, AskedBy::Boot | AskedBy::Agent);
        match &report.outcome {
            // Every boot finds that.
            Ok(Recovered::Idle(tidied)) if tidied.is_empty() && by_itself => Vec::new(),
            Ok(Recovered::Idle(tidied)) if tidied.is_empty() => {
                vec![entry(None, AuditResult::Done)]
            }
            Ok(Recovered::Idle(tidied)) => {
                let result = |result: &Result<(), Problem>| match result {
                    Ok(()) => AuditResult::Done,
                    Err(problem) => AuditResult::by(std::slice::from_ref(problem)),
                };
                let each = tidied.iter();
                each.map(|it| entry(Some(&it.id), result(&it.result)))
                    .collect()
            }
            // The second stage of the boot ends it.
            Ok(Recovered::BeforeNetwork(_)) => Vec::new(),
            Ok(
                Recovered::Over(..)
                | Recovered::NothingToDo(_)
                | Recovered::TriedAgain { .. }
                | Recovered::Settled { .. },
            )
            | Err(_) => vec![Audited {
                ended: ended(report),
                ..entry(report.restore(), of_recovery(report))
            }],
        }
    }
}

fn of_restore(report: &WorkReport) -> AuditResult {
    match (&report.outcome, &report.handed_over) {
        (Ok(Recovered::Over(..)), Some(problem)) => AuditResult::by(std::slice::from_ref(problem)),
        _ => of_recovery(report),
    }
}

/// How it ended where it did not complete.
fn ended(report: &WorkReport) -> Option<AuditEnd> {
    match &report.outcome {
        Err(fault)
        | Ok(Recovered::Settled {
            result: Err(fault), ..
        }) => Some(AuditEnd::of(fault)),
        Ok(_) => None,
    }
}

fn of_recovery(report: &WorkReport) -> AuditResult {
    match &report.outcome {
        Err(fault) => AuditResult::of(&Err::<(), &Fault>(fault)),
        Ok(Recovered::Settled { result, .. }) => AuditResult::of(&result.as_ref()),
        Ok(Recovered::TriedAgain { lacks, .. }) => match lacks.first() {
            None => AuditResult::Done,
            Some(lack) => AuditResult::Not(lack.code.clone().unwrap_or(Code::INTERRUPTED)),
        },
        Ok(
            Recovered::Idle(_)
            | Recovered::Over(..)
            | Recovered::NothingToDo(_)
            | Recovered::BeforeNetwork(_),
        ) => AuditResult::Done,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use journal_format::Verdict;

    use super::*;
    use crate::error::cannot;
    use crate::restore::recover::Tidied;

    fn told(who: AskedBy, restore: bool, outcome: Result<Recovered, Fault>) -> Vec<String> {
        let id = RestoreId::new("20261122T185220Z-0a1b2c3d").unwrap();
        let ordered = Ordered {
            who,
            restore: restore.then_some(id),
        };
        let report = WorkReport {
            handed_over: Some(cannot(Code::DISK_FAILS, "write the journal", "")),
            ..WorkReport::of(outcome)
        };
        let entries = ordered.entries(&report).into_iter();
        let told = entries.map(|e| {
            let text = e.to_string();
            let words: Vec<&str> = text.split("  ").map(str::trim).collect();
            let told = words.into_iter().filter(|w| !w.is_empty()).take(2);
            told.collect::<Vec<_>>().join(" ")
        });
        told.collect()
    }

    #[test]
    fn every_end_of_a_restore_and_every_end_of_a_recovery_that_did_something_is_told() {
        let id = || RestoreId::new("20261122T185220Z-0a1b2c3d").unwrap();
        let settled = |result| Ok(Recovered::Settled { id: id(), result });
        let problem = || cannot(Code::NO_SPACE, "write", "make room");
        let by_hand = || AskedBy::on_command_line(0, None);
        let tidied = |result| Ok(Recovered::Idle(vec![Tidied { id: id(), result }]));
        for (who, restore, outcome, says) in [
            (by_hand(), true, settled(Ok(vec![])), vec!["restore done"]),
            (
                by_hand(),
                true,
                settled(Err(Fault::RolledBack(problem()))),
                vec!["restore rolled-back (no-space)"],
            ),
            (
                by_hand(),
                true,
                settled(Err(Fault::Stuck(problem()))),
                vec!["restore stuck (no-space)"],
            ),
            (
                by_hand(),
                true,
                Err(Fault::Refused(vec![problem()])),
                vec!["restore nothing-changed (no-space)"],
            ),
            (
                by_hand(),
                true,
                Ok(Recovered::Over(id(), None)),
                vec!["restore disk-fails"],
            ),
            (
                AskedBy::Boot,
                false,
                settled(Ok(vec![])),
                vec!["recovery done"],
            ),
            (AskedBy::Boot, false, Ok(Recovered::Idle(vec![])), vec![]),
            (
                AskedBy::Boot,
                false,
                Ok(Recovered::BeforeNetwork(id())),
                vec![],
            ),
            (
                AskedBy::Agent,
                false,
                Err(Fault::Stuck(problem())),
                vec!["recovery stuck (no-space)"],
            ),
            (
                AskedBy::Boot,
                false,
                tidied(Err(problem())),
                vec!["recovery no-space"],
            ),
            (
                by_hand(),
                false,
                Ok(Recovered::Idle(vec![])),
                vec!["recovery done"],
            ),
            (
                by_hand(),
                false,
                Ok(Recovered::Over(id(), Some(Verdict::RolledBack))),
                vec!["recovery done"],
            ),
        ] {
            assert_eq!(told(who, restore, outcome.clone()), says, "{outcome:?}");
        }
    }
}
