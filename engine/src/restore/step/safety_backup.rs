//! Makes a backup of the gateway as it is, before anything is staged. Changes nothing. One that could not bring back what is
//! about to be replaced stops the restore, unless the admin accepted that part by name.

use journal_format::{Direction, Note, Step};

use super::{Env, Report, StepOps, no_way_back};
use crate::error::{Code, Fault, Problem, cannot};
use crate::gateway::parts::{self, Lack, Part};
use crate::host::Permit;
use crate::plan::replaced::replaces;
use crate::restore::decide::Observed;
use crate::state_dir::SAFETY_BACKUP;

pub struct SafetyBackup;

fn could_not_bring_back(refused: &[&Lack]) -> Problem {
    let lacks: Vec<String> = refused.iter().map(|l| l.to_string()).collect();
    let parts: Vec<String> = refused.iter().map(|l| l.part.to_string()).collect();
    let (it, them) = match refused.len() {
        1 => ("it", "that"),
        _ => ("them", "those"),
    };
    let lock = match refused.iter().any(|l| matches!(l.part, Part::Database(_))) {
        true => {
            ". A database that another process keeps locked cannot be replaced either: end that process first"
        }
        false => "",
    };
    let mend = format!("fix {them}, then restore again");
    let can_be_accepted = parts.iter().all(|part| parts::done_without(part).is_ok());
    let what = format!(
        "make a safety backup that could bring back what the restore replaces: {}",
        lacks.join("; ")
    );
    if !can_be_accepted {
        return cannot(Code::SAFETY_BACKUP_LACKS, what, mend);
    }
    let advice = format!(
        "{mend}; or accept that no backup has {it}, and that what is replaced is kept in the restore's originals/ alone: \
         restore with {}{lock}",
        journal_format::accepting(parts.clone())
    );
    Problem {
        about: parts,
        ..cannot(Code::SAFETY_BACKUP_LACKS, what, advice)
    }
}

impl StepOps for SafetyBackup {
    fn forward(&self, env: &Env, _: &Permit) -> Result<Report, Problem> {
        let made = env.host.safety_backup(env.facts);
        let made = made.map_err(|fault| match fault {
            Fault::Failed(p) | Fault::Busy(p) | Fault::RolledBack(p) | Fault::Stuck(p) => p,
            Fault::Refused(mut problems) if !problems.is_empty() => problems.remove(0),
            other => cannot(
                Code::INTERNAL,
                format!("make the safety backup: {other}"),
                "see `holdfast backup`",
            ),
        })?;
        let mut warnings = Vec::new();
        let mut refused = Vec::new();
        for lack in &made.lacks {
            let accepted = &env.plan.without_safety_backup_of;
            let accepted = accepted.contains(&lack.part.to_string());
            if replaces(env.plan, &lack.part, &made.unread) && !accepted {
                refused.push(lack);
            }
            let text = format!("the safety backup lacks a part: {lack}");
            warnings
                .push(Note::known(Code::SAFETY_BACKUP_LACKS, text).about(lack.part.to_string()));
        }
        if !refused.is_empty() {
            // Each try would leave another one. Where it cannot be removed there is one backup more, and no harm done.
            let _ = env.host.discard(&made.path);
            return Err(could_not_bring_back(&refused));
        }
        warnings.extend(made.warnings);
        let path = made.path.display().to_string();
        env.host
            .keep(&env.dir.join(SAFETY_BACKUP), path.as_bytes())?;
        Ok(Report {
            did: vec![format!("wrote {path}")],
            warnings,
        })
    }

    fn back(&self, _: &Env, _: &Permit) -> Result<Report, Problem> {
        Err(no_way_back(Step::SafetyBackup))
    }

    fn observe(&self, env: &Env, _: Direction) -> Result<Observed, Problem> {
        let note = env.dir.join(SAFETY_BACKUP);
        if env.host.stat(&note)?.is_none() {
            return Ok(Observed::Before);
        }
        let path = String::from_utf8_lossy(&env.host.read(&note, 1 << 16)?).into_owned();
        Ok(match env.host.stat(std::path::Path::new(&path))? {
            Some(_) => Observed::After,
            None => Observed::Between(format!("{path} is gone")),
        })
    }
}
