//! What a worker is told to do, and what it says of itself to whoever started it. Forms alone: starts nothing, does nothing.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use journal_format::{AskedBy, Digest, Note, Policy, RestoreId, Verdict};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::process::ProcessId;
use super::recover::{FoundAtRecovery, Recovered, RecoveryOrder};
use crate::error::{Fault, Problem};
use crate::plan::planner::Choices;
use crate::text::octets;

/// What a worker is to do. Given to it on its standard input, so that it is nowhere but with its worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkOrder {
    /// Restore the gateway from a backup.
    Restore(RestoreOrder),
    /// Settle the restore that is open.
    Recover(RecoveryOrder),
}

/// A restore that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOrder {
    /// The name that it gets.
    pub id: RestoreId,
    /// The backup, by its whole path.
    #[serde(with = "any_path")]
    pub archive: PathBuf,
    /// The name of the backup that is shown.
    pub shown: String,
    /// What the admin chose.
    pub choices: Choices,
    /// The plan that was approved; any other is refused. None where nobody was asked.
    pub approved: Option<Digest>,
    /// Who asked for it; older programs do not say.
    #[serde(default)]
    pub asked_by: Option<AskedBy>,
}

/// What a worker says: first that it runs, at its end how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerState {
    /// It has its order. Nothing more came of it yet, or ever, if this process is gone.
    Runs(ProcessId),
    /// It has ended.
    Ended(Box<WorkReport>),
}

/// How a worker ended. What a journal tells is not told again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkReport {
    /// What was closed to other accounts before the restore began; it stays so.
    pub closed: Vec<String>,
    /// Why the restore's journal could not be written, so that a recovery took over.
    pub handed_over: Option<Problem>,
    /// What a recovery found before it did anything.
    pub found: Option<FoundAtRecovery>,
    /// What came of it.
    pub outcome: Result<Recovered, Fault>,
    /// What it warned of that stands in no journal, a line each.
    pub aside: Vec<String>,
}

impl WorkReport {
    /// Of a worker that ended with this, and had nothing else to say.
    pub fn of(outcome: Result<Recovered, Fault>) -> WorkReport {
        WorkReport {
            closed: Vec::new(),
            handed_over: None,
            found: None,
            outcome,
            aside: Vec::new(),
        }
    }

    /// The restore that a recovery worked on, or found over.
    pub fn restore(&self) -> Option<&RestoreId> {
        match &self.outcome {
            Ok(Recovered::Over(id, _) | Recovered::BeforeNetwork(id)) => Some(id),
            Ok(Recovered::NothingToDo(_)) => None,
            Ok(Recovered::TriedAgain { id, .. } | Recovered::Settled { id, .. }) => Some(id),
            Ok(Recovered::Idle(_)) | Err(_) => self.found.as_ref().map(|found| &found.id),
        }
    }

    /// The exit status that tells it. What a recovery finds settled it tells by the verdict; a restore that a recovery took over
    /// tells as a restore does.
    pub fn exit_status(&self) -> u8 {
        let of_restore = self.handed_over.is_some();
        match &self.outcome {
            Err(fault) => fault.exit_status(),
            Ok(Recovered::Idle(_) | Recovered::BeforeNetwork(_) | Recovered::NothingToDo(_)) => 0,
            Ok(Recovered::Over(_, verdict)) => match verdict {
                Some(Verdict::Restored | Verdict::Left) => 0,
                Some(Verdict::RolledBack) => 4,
                Some(Verdict::NothingChanged) if !of_restore => 4,
                None if !of_restore => 0,
                Some(Verdict::NothingChanged) | None => 1,
            },
            Ok(Recovered::TriedAgain { verdict, lacks, .. }) => match verdict {
                _ if lacks.is_empty() => 0,
                Verdict::Restored => 7,
                Verdict::RolledBack | Verdict::NothingChanged | Verdict::Left => 4,
            },
            Ok(Recovered::Settled { result, .. }) => match result {
                Ok(notes) if notes.iter().any(Note::is_lack) => 7,
                Ok(_) => 0,
                // As before is as before, whether it changed anything on the way or not; a restore tells the two apart.
                Err(Fault::Failed(_)) if !of_restore => 4,
                Err(fault) => fault.exit_status(),
            },
        }
    }
}

/// The choice of a recovery that takes over from a restore whose journal could not be written: a disk that failed once is not
/// one to go forward on.
pub(super) fn policy_of_hand_over(policy: Policy) -> Option<Policy> {
    (policy == Policy::Auto).then_some(Policy::RollBack)
}

/// A path in JSON: it need not be UTF-8, and each of its bytes counts.
mod any_path {
    use super::*;

    pub fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&octets::text(path.as_os_str().as_bytes()))
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(from)?;
        Ok(OsString::from_vec(octets::bytes(&text).into_owned()).into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use journal_format::Policy;

    use super::*;

    #[test]
    fn a_backup_at_any_path_is_the_same_for_the_worker() {
        for path in [
            &b"/var/backups/a.zip"[..],
            b"/srv/L\xfcbeck/\xff.zip",
            "/srv/Lübeck/\u{10FEFC}.zip".as_bytes(),
        ] {
            let order = WorkOrder::Restore(RestoreOrder {
                id: RestoreId::new("20261122T185220Z-0a1b2c3d").unwrap(),
                archive: OsString::from_vec(path.to_vec()).into(),
                shown: "a.zip".into(),
                choices: Choices {
                    keep_going_without_firewall: false,
                    policy: Policy::Auto,
                    keep_open_folders: false,
                    without_safety_backup_of: [].into(),
                    keep_going_without_services: false,
                    leave_down: Default::default(),
                    full_stop: true,
                },
                approved: None,
                asked_by: Some(AskedBy::Agent),
            });
            let json = serde_json::to_vec(&order).unwrap();
            assert_eq!(serde_json::from_slice::<WorkOrder>(&json).unwrap(), order);
        }
    }
}
