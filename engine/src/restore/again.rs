//! After the verdict: what the gateway lacks is tried again, in the boot in which it came to lack it. A later boot starts the
//! gateway as any boot does. Touches no file, and of a database only the rows that a start of the services changes; closes no fence.

use journal_format::{BootId, Fate, Note, RestoreId, Role, Soundness, State, Step, Verdict};

use super::driver::Drive;
use super::journal::{DriverStart, JOURNAL_BYTES, JournalWriter};
use super::step::{Machine, ops};
use super::{before, process};
use crate::error::{Code, Problem};
use crate::gateway::profile::Profile;
use crate::restore::decide::{Observed, STARTS};
use crate::state_dir;

/// What came of it.
pub struct TriedAnew {
    /// How the restore had ended.
    pub verdict: Verdict,
    /// What it lacks still.
    pub lacks: Vec<Note>,
    /// What it lacks no more, for it was deleted since.
    pub gone: Vec<Note>,
    /// Processes of a recovery that died over it, which were ended.
    pub ended: Vec<String>,
}

/// Tries again what this restore lacks, which is the newest; none if there is nothing to
/// try. The caller holds the lock, and no restore is open. Sees everything through the host.
pub fn run(
    profile: &Profile,
    host: &dyn Machine,
    id: &RestoreId,
    start: impl Into<DriverStart>,
) -> Result<Option<TriedAnew>, Problem> {
    let start = start.into();
    let driver = &start.driver;
    let path = state_dir::journal(profile, id);
    let bytes = host.read(&path, JOURNAL_BYTES)?;
    let scan = journal_format::scan_of(id, &bytes);
    let Some(state) = &scan.state else {
        return Ok(None);
    };
    let counts = state.starts < STARTS || driver.role == Role::RecoverByHand;
    let is_sound = match scan.soundness() {
        Soundness::Closed(_) | Soundness::Open | Soundness::Torn => true,
        Soundness::Empty | Soundness::Corrupt | Soundness::Newer => false,
    };
    if !is_sound || !counts || !lacks_now(state, &driver.boot) {
        return Ok(None);
    }
    let dir = profile.restore_dir(id);
    let facts = before::facts(host, &dir, state)?;
    let ended = process::end_what_it_left(host, state, driver)?;
    let mut journal = JournalWriter::reopen(host, &path, &bytes, scan, start)?;
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
    let state = journal.state();
    let tunnels = state.find(Step::TunnelsUp, state.direction());
    let said = tunnels.iter().flat_map(|m| &m.warnings);
    Ok(Some(TriedAnew {
        verdict,
        lacks: state.lacks(),
        gone: said
            .filter(|n| n.is(&Code::TUNNEL_IS_GONE))
            .cloned()
            .collect(),
        ended,
    }))
}

/// Whether it is over, and lacks something that can be tried again.
fn lacks_now(state: &State, boot: &BootId) -> bool {
    // What was left as it is has become the operator's.
    let verdict = state.verdict().filter(|v| *v != Verdict::Left);
    // One that was cut off may have worked in part: the start of a service that lacks no more undoes what others did.
    let may_lack = state.is_reopened() || lacks_statuses(state);
    verdict.is_some() && (may_lack || !lacking(state, boot).is_empty())
}

/// No boot sets the status of a client right.
fn lacks_statuses(state: &State) -> bool {
    let lacks = state.lacks();
    lacks.iter().any(|l| l.is(&Code::STATUS_STAYS_CHANGED))
}

/// The steps that came to lack something in this boot, in their order.
fn lacking(state: &State, boot: &BootId) -> Vec<Step> {
    let lacks = state.lacks();
    let all = [
        (Step::TunnelsUp, Code::TUNNEL_STAYS_DOWN),
        (Step::StartServices, Code::SERVICE_STAYS_DOWN),
    ];
    let lacks = |code: &Code| lacks.iter().any(|l| l.is(code));
    let in_this_boot = |step: &Step| {
        let made = state.find(*step, state.direction());
        made.is_some_and(|m| m.boot.as_ref() == Some(boot))
    };
    let lacking = all.into_iter().filter(|(_, code)| lacks(code));
    let steps = lacking.map(|(step, _)| step);
    steps.filter(in_this_boot).collect()
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
        // What an admin took down since stays down; what the start takes down is brought up again.
        let stands = |journal: &JournalWriter| {
            let state = journal.state();
            let plan = state.plan.as_ref()?;
            let env = self.env(plan, state, &boot);
            Some(ops(Step::TunnelsUp).observe(&env, direction) == Ok(Observed::After))
        };
        let was_cut_off = state.is_reopened();
        let in_this_boot = state.driver.as_ref().is_some_and(|d| d.boot == boot);
        let stood = stands(journal).map(|stood| stood || was_cut_off && in_this_boot);
        let mut steps = lacking(state, &boot);
        let lacks_statuses = lacks_statuses(state);
        // The hooks of a tunnel add rules that may be in force already, and so does a service.
        let may_be_twice = !steps.is_empty() || was_cut_off && in_this_boot;
        if may_be_twice && state.begun(Step::LoadFirewall, direction) {
            steps.push(Step::LoadFirewall);
        }
        for step in &steps {
            self.make(journal, *step, direction, &boot)?;
            // As before the verdict: a start that could not bring a client up has called it inactive, and the next goes well.
            let lacks = lacking(journal.state(), &boot).contains(step);
            if *step == Step::StartServices && lacks {
                self.make(journal, *step, direction, &boot)?;
            }
        }
        if stood == Some(true) && stands(journal) == Some(false) {
            self.make(journal, Step::TunnelsUp, direction, &boot)?;
            self.make(journal, Step::LoadFirewall, direction, &boot)?;
        }
        let state = journal.state();
        let cleaned = state.find(Step::CleanUp, direction);
        let is_clean = cleaned.is_some_and(|m| m.fate == Fate::Done);
        // A start may have written to the clients' rows.
        let started = state.begun_since_closing(Step::StartServices, direction);
        if !is_clean || started || lacks_statuses || was_cut_off {
            self.make(journal, Step::CleanUp, direction, &boot)?;
        }
        // A clean-up alone opens nothing that would have to be closed.
        if !steps.is_empty() || was_cut_off {
            self.close(journal, verdict)?;
        }
        Ok(verdict)
    }
}
