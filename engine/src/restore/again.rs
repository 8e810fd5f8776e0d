//! After the verdict: what the gateway lacks is tried again, in the boot in which it came to lack it. A later boot starts the
//! gateway as any boot does. Touches no file and no database; closes no fence.

use journal_format::{Driver, Fate, RestoreId, Role, Soundness, State, Step, Verdict};

use super::driver::Drive;
use super::journal::JournalWriter;
use super::recover::{self, Recovered};
use super::step::Machine;
use crate::error::Problem;
use crate::gateway::profile::Profile;
use crate::restore::decide::STARTS;
use crate::state_dir;

/// Tries again what this restore lacks, which is the newest; none if there is nothing to try. The caller holds the lock, and no
/// restore is open. Sees everything through the host.
pub fn run(
    profile: &Profile,
    host: &dyn Machine,
    id: &RestoreId,
    driver: Driver,
) -> Result<Option<Recovered>, Problem> {
    let path = state_dir::journal(profile, id);
    let bytes = host.read(&path, recover::JOURNAL_BYTES)?;
    let scan = journal_format::scan_of(id, &bytes);
    let Some(state) = &scan.state else {
        return Ok(None);
    };
    let counts = state.starts < STARTS || driver.role == Role::RecoverByHand;
    let is_sound = match scan.soundness() {
        Soundness::Closed(_) | Soundness::Open | Soundness::Torn => true,
        Soundness::Empty | Soundness::Corrupt | Soundness::Newer => false,
    };
    if !is_sound || !counts || !lacks_now(state, &driver) {
        return Ok(None);
    }
    let dir = profile.restore_dir(id);
    let facts = recover::facts(host, &dir, state)?;
    let mut journal = JournalWriter::reopen(host, &path, &bytes, scan, driver)?;
    let verdict = Drive {
        host,
        dir: &dir,
        barrier: &profile.barrier(),
        facts: &facts,
        source: None,
        asked: &|| false,
        stage: super::driver::BootStage::Whole,
    }
    .try_again(&mut journal)?;
    Ok(Some(Recovered::TriedAgain {
        id: id.clone(),
        verdict,
        lacks: journal.state().lacks(),
    }))
}

/// Whether it is over, and came to lack something in this boot.
fn lacks_now(state: &State, driver: &Driver) -> bool {
    let direction = state.direction();
    let lacks = |step| {
        let made = state.find(step, direction);
        made.is_some_and(|m| {
            m.boot.as_ref() == Some(&driver.boot) && m.warnings.iter().any(|w| w.is_lack())
        })
    };
    // What was left as it is has become the operator's.
    let verdict = state.verdict().filter(|v| *v != Verdict::Left);
    verdict.is_some()
        && [Step::TunnelsUp, Step::StartServices]
            .into_iter()
            .any(lacks)
}

impl Drive<'_> {
    /// Makes again the steps that lack something, and closes anew with the same verdict.
    fn try_again(&self, journal: &mut JournalWriter) -> Result<Verdict, Problem> {
        let state = journal.state();
        let direction = state.direction();
        let Some(verdict) = state.verdict() else {
            return Err(crate::error::bug("try again what is not over"));
        };
        let boot = self.host.boot()?;
        let lacks = |step: &Step| {
            let made = state.find(*step, direction);
            made.is_some_and(|m| m.warnings.iter().any(|w| w.is_lack()))
        };
        let mut steps: Vec<Step> = [Step::TunnelsUp, Step::StartServices]
            .into_iter()
            .filter(lacks)
            .collect();
        // The hooks of a tunnel add rules that may be in force already, and so does a service.
        if state.begun(Step::LoadFirewall, direction) {
            steps.push(Step::LoadFirewall);
        }
        for step in steps {
            self.make(journal, step, direction, &boot)?;
        }
        let cleaned = journal.state().find(Step::CleanUp, direction);
        if cleaned.is_none_or(|m| m.fate != Fate::Done) {
            self.make(journal, Step::CleanUp, direction, &boot)?;
        }
        self.close(journal, verdict)?;
        Ok(verdict)
    }
}
