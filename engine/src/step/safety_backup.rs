//! Makes a backup of the gateway as it is, before anything is staged. Changes nothing.

use journal_format::{Direction, Exchange, Step};

use super::{Env, Report, StepOps, no_way_back};
use crate::decide::Seen;
use crate::fault::{Fault, Problem};
use crate::journal::Permit;

pub struct SafetyBackup;

/// The name of the file in the restore's folder that holds the path of the safety backup.
const MADE: &str = "safety-backup";

impl StepOps for SafetyBackup {
    fn forward(&self, env: &Env, _: &Permit, _: &[Exchange]) -> Result<Report, Problem> {
        let (path, warnings) = env
            .host
            .safety_backup(env.facts)
            .map_err(|fault| match fault {
                Fault::Failed(p) | Fault::Busy(p) | Fault::RolledBack(p) | Fault::Stuck(p) => p,
                Fault::Refused(mut problems) if !problems.is_empty() => problems.remove(0),
                other => crate::fault::cannot(
                    format!("make the safety backup: {other}"),
                    "see `holdfast backup`",
                ),
            })?;
        env.host
            .keep(&env.dir.join(MADE), path.display().to_string().as_bytes())?;
        Ok(Report {
            did: vec![format!("wrote {}", path.display())],
            warnings,
        })
    }

    fn back(&self, _: &Env, _: &Permit, _: &[Exchange]) -> Result<Report, Problem> {
        Err(no_way_back(Step::SafetyBackup))
    }

    fn observe(&self, env: &Env, _: Direction, _: &[Exchange]) -> Result<Seen, Problem> {
        let note = env.dir.join(MADE);
        if env.host.stat(&note)?.is_none() {
            return Ok(Seen::Before);
        }
        let path = String::from_utf8_lossy(&env.host.read(&note, 1 << 16)?).into_owned();
        Ok(match env.host.stat(std::path::Path::new(&path))? {
            Some(_) => Seen::After,
            None => Seen::Between(format!("{path} is gone")),
        })
    }
}
