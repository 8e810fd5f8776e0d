//! The one loop: asks `decide` what to do next and does it, for a restore and for a recovery alike. Owns the order
//! intent, effect, observation, outcome. Knows no step from another.

use std::path::Path;

use journal_format::{
    BootId, Direction, Fate, Move, MoveState, Note, Phase, Problem, Role, State, Step, Target,
    Verdict,
};

use crate::error::{Code, bug, cannot};
use crate::gateway::kernel_facts::Facts;
use crate::restore::copied;
use crate::restore::decide::{self, ATTEMPTS, Decision, Inputs, Observed, STARTS, Swaps};
use crate::restore::doubts::{self, unlike};
use crate::restore::journal::JournalWriter;
use crate::restore::next;
use crate::restore::step::{Env, Lacking, Machine, Source, ops};
use crate::restore::swap;
use crate::state_dir::barrier;

/// How a drive ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With a verdict.
    Closed(Verdict),
    /// The operator is needed.
    Stuck(Problem),
    /// Files and databases are settled, and the rest waits for the network.
    BeforeNetwork,
}

/// How far a drive goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootStage {
    /// To the end.
    Whole,
    /// At boot, before the network: the fence, files and databases; nothing that needs more.
    BeforeNetwork,
}

/// What a drive works with.
pub struct Drive<'a> {
    /// The system.
    pub host: &'a dyn Machine,
    /// The restore's folder.
    pub dir: &'a Path,
    /// The barrier's path.
    pub barrier: &'a Path,
    /// Kernel facts as they were before.
    pub facts: &'a Facts,
    /// The backup; only for a restore.
    pub source: Option<&'a dyn Source>,
    /// Whether someone asked to turn back.
    pub asked: &'a dyn Fn() -> bool,
    /// How far it goes.
    pub stage: BootStage,
}

/// The folder and the file that hold the kernel facts of before.
pub const FACTS: &str = "before/facts.json";

/// A pause before a step back is tried again, ms: what failed may pass.
const AGAIN_MS: u64 = 1000;

impl Drive<'_> {
    /// Runs to the end. An error is the journal's: nothing more may be done in this process.
    pub fn run(&self, journal: &mut JournalWriter) -> Result<Ending, Problem> {
        let boot = self.host.boot()?;
        let role = journal.state().driver.as_ref().map(|d| d.role);
        let mut recovering = matches!(role, Some(Role::Recover | Role::RecoverByHand));
        let mut cleaned = false;
        // What a driver did itself it believes, until the services start: their own start may undo it.
        let mut doubts = recovering;
        loop {
            let lost = match self.stage {
                BootStage::Whole => self.lost(journal, &boot, doubts),
                BootStage::BeforeNetwork => None,
            };
            // Whoever started a service has let it do more.
            doubts = lost.is_some();
            let swaps = match recovering && journal.state().phase == Phase::Forward {
                true => self.swaps(journal)?,
                false => Swaps::NotAll,
            };
            let inputs = self.inputs(journal, &boot, (recovering, cleaned), swaps, lost);
            let (label, decision) = decide::decide(&inputs);
            tracing::debug!(label, ?decision, "decided");
            match decision {
                Decision::Do(step, _)
                    if self.stage == BootStage::BeforeNetwork && !next::before_network(step) =>
                {
                    return Ok(Ending::BeforeNetwork);
                }
                Decision::Do(step, direction) => {
                    self.make(journal, step, direction, &boot)?;
                    cleaned |= step == Step::CleanUp;
                    doubts |= step == Step::StartServices || failed_back(journal.state(), step);
                    // Whoever cleans up has chosen no direction: it gives up what had no effect.
                    recovering &= step == Step::CleanUp;
                }
                Decision::Arm => self.arm(journal)?,
                Decision::Turn => {
                    let problem = self.why_back(journal, label);
                    journal.turn(problem)?;
                    recovering = false;
                }
                Decision::Anew => journal.anew()?,
                Decision::Commit if self.stage == BootStage::BeforeNetwork => {
                    return Ok(Ending::BeforeNetwork);
                }
                Decision::Commit => journal.commit()?,
                Decision::Close(verdict) => {
                    self.close(journal, verdict)?;
                }
                Decision::Finish => {
                    self.host.discard(self.barrier)?;
                    self.host.release_services();
                    return Ok(match journal.state().verdict() {
                        Some(verdict) => Ending::Closed(verdict),
                        None => Ending::Stuck(self.why_stuck(journal, label)),
                    });
                }
                Decision::Stick => {
                    let problem = self.why_stuck(journal, label);
                    journal.stuck(problem.clone())?;
                    return Ok(Ending::Stuck(problem));
                }
                Decision::Halt => return Ok(Ending::Stuck(self.why_stuck(journal, label))),
            }
        }
    }

    /// Cleans up again after a restore that is over. It changes nothing that the gateway uses.
    pub fn tidy(&self, journal: &mut JournalWriter) -> Result<(), Problem> {
        if journal.state().verdict().is_none() {
            return Err(cannot(
                Code::RESTORE_OPEN,
                "clean up after a restore that is still open",
                "run `holdfast recover`",
            ));
        }
        let direction = journal.state().direction();
        let boot = self.host.boot()?;
        self.make(journal, Step::CleanUp, direction, &boot)?;
        let last = journal.state().find(Step::CleanUp, direction);
        last.and_then(|m| m.problem.clone()).map_or(Ok(()), Err)
    }

    /// Closes it; the closing names again what lacks, so that it is known by the journal's end.
    pub fn close(&self, journal: &mut JournalWriter, verdict: Verdict) -> Result<(), Problem> {
        let state = journal.state();
        let mut notes = state.lacks();
        notes.extend(leftovers(journal));
        journal.close(verdict, notes)
    }

    fn inputs(
        &self,
        journal: &JournalWriter,
        boot: &BootId,
        (recovering, cleaned): (bool, bool),
        swaps: Swaps,
        lost: Option<Step>,
    ) -> Inputs {
        let state = journal.state();
        let plan = state.plan.as_ref();
        let next = plan.and_then(|plan| next::next_step(state, plan, boot, lost));
        let direction = match state.phase == Phase::Back {
            true => Direction::Back,
            false => Direction::Forward,
        };
        Inputs {
            phase: state.phase,
            stuck: state.stuck.is_some(),
            recovering,
            effects: state.has_effects(),
            failed: decide::forward_failed(state),
            asked: (self.asked)() || decide::given_up(state),
            kernel_kept: state.header.boot == *boot || decide::given_up(state),
            swaps,
            policy: journal.policy(),
            next,
            anew: next.is_some_and(|step| state.is_past(step, direction)),
            attempts_left: next.is_none_or(|step| state.attempts(step, direction) < ATTEMPTS),
            starts_left: state.starts <= STARTS,
            cleaned,
        }
    }

    /// The first step whose work is not there any more; none if all is.
    fn lost(&self, journal: &JournalWriter, boot: &BootId, doubts: bool) -> Option<Step> {
        let state = journal.state();
        let plan = state.plan.as_ref()?;
        doubts::lost(&self.env(plan, state, boot), state, plan, boot, doubts)
    }

    /// The move that cannot be made again although what it did is gone, and why that is.
    fn ran_out(&self, state: &State) -> Option<(Step, Direction, Problem)> {
        let (plan, boot) = (state.plan.as_ref()?, self.host.boot().ok()?);
        doubts::ran_out(&self.env(plan, state, &boot), state, plan, &boot)
    }

    /// What a step works with.
    pub fn env<'e>(
        &'e self,
        plan: &'e journal_format::Plan,
        state: &State,
        boot: &BootId,
    ) -> Env<'e> {
        Env {
            host: self.host,
            plan,
            dir: self.dir,
            facts: self.facts,
            source: self.source,
            same_boot: state.header.boot == *boot,
            served: state.begun(Step::StartServices, Direction::Forward),
            exchanged: [Step::SwapDatabases, Step::SwapConfigs]
                .iter()
                .any(|step| state.begun(*step, Direction::Forward)),
            untouched: !state.has_effects(),
            may_have_taken_down: next::may_have_taken_down(state),
            loaded: state
                .find(Step::LoadFirewall, Direction::Forward)
                .is_some_and(|m| m.boot.as_ref() == Some(boot)),
            again: false,
            attempt: 1,
            lacking: Lacking::of(&state.lacks()),
            over: state.verdict().is_some(),
            started: state.begun_since_closing(Step::StartServices, state.direction()),
            left: state.verdict() == Some(Verdict::Left),
            exchanges: &[],
            asked: self.asked,
        }
    }

    /// One move: its intent is durable before it acts, and it is done only once the host is seen to be as it should be.
    pub fn make(
        &self,
        journal: &mut JournalWriter,
        step: Step,
        direction: Direction,
        boot: &BootId,
    ) -> Result<(), Problem> {
        let state = journal.state();
        let Some(plan) = state.plan.clone() else {
            return Err(bug("act without a plan"));
        };
        let r#move = Move {
            step,
            direction,
            attempt: state.next_attempt(step, direction),
        };
        let env = Env {
            attempt: state.attempts(step, direction) + 1,
            ..self.env(&plan, state, boot)
        };
        let noted = state.shared_exchanges(step);
        let again = state.is_done(step, direction, boot);
        if direction == Direction::Back && state.attempts(step, direction) > 0 {
            self.host.sleep(AGAIN_MS);
        }
        let ops = ops(step);
        let prepared = ops.prepare(&env, r#move);
        // Exchanges are noted once: later they may be half made.
        let (note, refused) = match (&noted, direction) {
            (Some(noted), Direction::Forward) => (noted.to_vec(), None),
            (_, Direction::Back) => (Vec::new(), None),
            (None, Direction::Forward) => match ops.exchanges(&env) {
                Ok(exchanges) => (exchanges, None),
                Err(problem) => (Vec::new(), Some(problem)),
            },
        };
        let permit = journal.intend(r#move, note)?;
        // From the journal, also those that were noted just now: there they are shared.
        let noted = journal.state().shared_exchanges(step).unwrap_or_default();
        let exchanges = noted.as_slice();
        let env = Env {
            exchanges,
            again,
            ..env
        };
        let acted = match (refused, direction) {
            (Some(problem), _) => Err(problem),
            (None, Direction::Forward) => ops.forward(&env, &permit),
            (None, Direction::Back) => ops.back(&env, &permit),
        };
        let acted = acted.map(|mut report| {
            report.warnings.extend(prepared);
            report
        });
        let env = match &acted {
            // What it just found out counts, not what an earlier start did.
            Ok(report) => Env {
                lacking: env.lacking.clone().once(step, &report.warnings),
                ..env
            },
            Err(_) => env,
        };
        let outcome = acted.and_then(|report| match ops.observe(&env, direction)? {
            Observed::After => Ok(report),
            Observed::Before => Err(unlike("it is as if nothing had been done")),
            Observed::Between(what) | Observed::Unknown(what) => Err(unlike(&what)),
        });
        journal.settle(permit, outcome)
    }

    /// The barrier is durable before the first effect: without this program it still closes the fence at boot.
    fn arm(&self, journal: &mut JournalWriter) -> Result<(), Problem> {
        let facts = self.host.sha256(&self.dir.join(FACTS))?;
        self.raise(journal.state())?;
        journal.armed(facts)
    }

    /// Puts the barrier up, or up again.
    pub fn raise(&self, state: &State) -> Result<(), Problem> {
        let barrier = barrier::text(state);
        self.host.keep(self.barrier, barrier.as_bytes())
    }

    /// Where databases and configs stand together, by their noted objects.
    fn swaps(&self, journal: &JournalWriter) -> Result<Swaps, Problem> {
        let state = journal.state();
        let mut all = true;
        let plan = state.plan.as_ref();
        for (step, targets) in [
            (Step::SwapDatabases, plan.map(|p| &p.databases)),
            (Step::SwapConfigs, plan.map(|p| &p.files)),
        ] {
            let targets = targets.map(Vec::as_slice).unwrap_or_default();
            match state.exchanges(step) {
                Some(exchanges) => match swap::seen(self.host, exchanges)? {
                    Observed::After => {}
                    // The way back needs the old objects alone, whatever lies in their places.
                    Observed::Before | Observed::Between(_) | Observed::Unknown(_) => all = false,
                },
                // A last line that was acknowledged and then damaged looks like one that was never written: what it
                // permitted may have been done.
                None if self.touched(targets)?.is_some() => return Ok(Swaps::Unknown),
                None => all &= targets.is_empty(),
            }
        }
        Ok(match all {
            true => Swaps::AllInPlace,
            false => Swaps::NotAll,
        })
    }

    fn touched<'t>(&self, targets: &'t [Target]) -> Result<Option<&'t Target>, Problem> {
        copied::touched(self.host, targets, || copied::what_was(self.host, self.dir))
    }

    /// Of the first target whose swap was never noted and that looks as if it had been made, what is seen.
    fn unlike(&self, state: &State) -> Option<String> {
        let plan = state.plan.as_ref()?;
        let steps = [
            (Step::SwapDatabases, &plan.databases),
            (Step::SwapConfigs, &plan.files),
        ];
        let unnoted = steps
            .into_iter()
            .filter(|(step, _)| state.exchanges(*step).is_none());
        let mut unlike = unnoted.map(|(_, targets)| self.touched(targets).ok().flatten());
        let target = unlike.find_map(|target| target)?;
        Some(match &target.new {
            Some(_) => format!(
                "{} may have been replaced: its new file {} is gone, or not as the restore made it",
                target.path, target.staged
            ),
            None => format!(
                "{} may have been removed: {} is there, or it is gone",
                target.path, target.staged
            ),
        })
    }

    fn why_back(&self, journal: &JournalWriter, label: &str) -> Problem {
        let in_step = |step: Step, p: Problem| Problem {
            what: format!(
                "{} (in the step \"{}\")",
                p.what,
                step.title(Direction::Forward)
            ),
            advice: format!("{}; then restore again", p.advice),
            ..p
        };
        match last_failure(journal.state()) {
            Some((m, p)) => in_step(m.step, p.clone()),
            None if (self.asked)() => asked("finish the restore"),
            None => match self.ran_out(journal.state()) {
                Some((step, _, p)) => in_step(step, p),
                None => cannot(
                    Code::INTERRUPTED,
                    format!("finish the restore: it was interrupted ({label})"),
                    "find out what ended it (the power, a kill, a failing disk), then restore again",
                ),
            },
        }
    }

    fn why_stuck(&self, journal: &JournalWriter, label: &str) -> Problem {
        let state = journal.state();
        if let Some(problem) = &state.stuck {
            return problem.clone();
        }
        // What failed earlier did not keep the way back from going on.
        let failed = || {
            let (m, p) = last_failure(state)?;
            Some((m.step, m.direction, p.clone()))
        };
        let ran_out = self.ran_out(state).filter(|_| state.phase == Phase::Back);
        match ran_out.or_else(failed) {
            Some((step, direction, p)) => Problem {
                what: format!(
                    "{} ({}in the step \"{}\": {label})",
                    p.what,
                    match direction {
                        Direction::Forward => "",
                        Direction::Back => "rolling back, ",
                    },
                    step.title(direction)
                ),
                advice: format!("{}; then run `holdfast recover`", p.advice),
                ..p
            },
            None => {
                let what = match self.unlike(state) {
                    Some(seen) => format!("{label}: {seen}; the journal has no record of that"),
                    None => label.to_owned(),
                };
                cannot(
                    Code::UNDECIDED,
                    format!("recover this restore: {what}"),
                    "compare with `holdfast journal show`, fix what differs, then run `holdfast recover`",
                )
            }
        }
    }
}

/// The last move that the journal has a problem of.
fn last_failure(state: &State) -> Option<(&MoveState, &Problem)> {
    let mut moves = state.moves.iter().rev();
    moves.find_map(|m| Some((m, m.problem.as_ref()?)))
}

/// Whether this step back failed: somebody may have undone what it needs.
fn failed_back(state: &State, step: Step) -> bool {
    let last = state.find(step, Direction::Back);
    last.is_some_and(|m| m.fate == Fate::Failed) && state.phase == Phase::Back
}

/// Why something was not done that nothing kept from being done.
pub fn asked(what: &str) -> Problem {
    cannot(
        Code::ASKED_TO_ROLL_BACK,
        format!("{what}: it was stopped on request (Ctrl-C, SIGINT or SIGTERM)"),
        "restore again when you want it",
    )
}

/// What a clean-up that failed left behind.
fn leftovers(journal: &JournalWriter) -> Vec<Note> {
    let moves = journal.state().moves.iter();
    let cleaned = moves.filter(|m| m.step == Step::CleanUp);
    let failed = cleaned.filter_map(|m| m.problem.as_ref());
    let told = failed.map(|p| {
        let text = format!("the clean-up is not complete: cannot {}", p.what);
        Note::known(Code::LEFT_OVER, text).advising(&p.advice)
    });
    told.collect()
}
