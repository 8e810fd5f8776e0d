//! What a journal's records add up to. Owns the fold; which record may follow which is its part `grammar`.
//!
//! [`State::apply`] is the only way in. Refused when writing, a record is a bug of the driver; refused when reading, the
//! journal is corrupt.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::lean::LeanSwap;
use crate::{
    AskedBy, BootId, Code, Digest, Direction, Driver, Entry, Exchange, Header, Move, Note, Plan,
    Problem, Record, Role, Seq, Step, Verdict,
};

mod grammar;
#[cfg(test)]
mod tests;

/// Why a record may not stand where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} may not stand here: {why}")]
pub struct Illegal {
    /// The record's place.
    pub seq: Seq,
    /// The rule that it breaks.
    pub why: String,
}

/// How far a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Only the header is there.
    Opening,
    /// Nothing that the gateway uses has changed: the safety backup and the staging.
    Preparing,
    /// The barrier is up; it goes forward.
    Forward,
    /// It turned; it goes back.
    Back,
    /// It will end `restored`; the clean-up is left.
    Committed,
    /// It is over.
    Closed(Verdict),
}

/// What became of one move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is acting, or its driver died while it was.
    Open,
    /// It acted, and the host was seen to be as it should be.
    Done,
    /// It failed.
    Failed,
}

/// One step in one direction as the journal tells it: its last attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveState {
    /// The step.
    pub step: Step,
    /// The direction.
    pub direction: Direction,
    /// The last attempt's number.
    pub attempt: u32,
    /// The place of the last attempt's intent.
    pub seq: Seq,
    /// What became of it.
    pub fate: Fate,
    /// The boot in which it began; none if no driver record stood before it.
    pub boot: Option<BootId>,
    /// When it began: wall clock, milliseconds since 1970 UTC.
    pub began_ms: i64,
    /// When it began: milliseconds since boot.
    pub began_up_ms: u64,
    /// How long it took, milliseconds; none while it is open.
    pub took_ms: Option<u64>,
    /// What it did, a line each.
    pub did: Vec<String>,
    /// What a person should know of it; of a clean-up what every attempt said, since what one has moved the next does not find.
    pub warnings: Vec<Note>,
    /// What it came to lack, as the last attempt says that was done.
    pub lacked: Option<Lacked>,
    /// Why it failed.
    pub problem: Option<Problem>,
}

/// What a step could not bring up, or put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacked {
    /// A note for each.
    pub notes: Vec<Note>,
    /// The boot of the attempt that first came to lack something.
    pub boot: Option<BootId>,
    /// When that attempt began: wall clock, milliseconds since 1970 UTC.
    pub since_ms: i64,
    /// When that attempt began: milliseconds since boot.
    pub since_up_ms: u64,
}

impl MoveState {
    fn take_warnings(&mut self, warnings: &[Note]) {
        if self.step != Step::CleanUp {
            self.warnings.clear();
        }
        self.warnings
            .retain(|note| !note.is_lack() && !warnings.contains(note));
        self.warnings.extend(warnings.iter().cloned());
        let notes: Vec<Note> = warnings.iter().filter(|n| n.is_lack()).cloned().collect();
        let first = self.lacked.take().filter(|_| !notes.is_empty());
        self.lacked = match first {
            Some(first) => Some(Lacked { notes, ..first }),
            None if notes.is_empty() => None,
            None => Some(Lacked {
                notes,
                boot: self.boot.clone(),
                since_ms: self.began_ms,
                since_up_ms: self.began_up_ms,
            }),
        };
    }
}

/// What the records up to one point add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The journal's header.
    pub header: Header,
    /// Who asked for the restore, if the header says so.
    pub asked_by: Option<AskedBy>,
    /// The plan; none while only the header is there. Shared, since it is large and states are cloned.
    pub plan: Option<Arc<Plan>>,
    /// The last record's place.
    pub seq: Seq,
    /// When the first record was written: wall clock, milliseconds since 1970 UTC.
    pub began_ms: i64,
    /// When the last record was written: wall clock, milliseconds since 1970 UTC.
    pub last_ms: i64,
    /// How far it is.
    pub phase: Phase,
    /// The last driver that started.
    pub driver: Option<Driver>,
    /// How many drivers started since the operator last began a new count.
    pub starts: u32,
    /// Digest of the kernel facts, once the barrier was up.
    pub armed: Option<Digest>,
    /// A move whose intent stands without an outcome.
    pub in_doubt: Option<Move>,
    /// Why it turned back.
    pub turned: Option<Problem>,
    /// Why it waits for the operator.
    pub stuck: Option<Problem>,
    /// The first record that this program does not understand, in a journal of a newer version: how the restore stands
    /// from there on is not known.
    pub stops_at: Option<Seq>,
    /// What was left to do or to know at the end.
    pub closing_warnings: Vec<Note>,
    /// Every step in every direction that was begun, in the order in which each first began.
    pub moves: Vec<MoveState>,
    exchanges: BTreeMap<Step, Arc<Vec<Exchange>>>,
    /// The swaps of a state that is only shown, in place of the lists in plan and exchanges.
    lean: Option<BTreeMap<Step, LeanSwap>>,
    attempts: BTreeMap<(Step, Direction), u32>,
    position: usize,
    /// No move was begun since the last driver started.
    stale: bool,
    /// It was over, and what lacks is tried again.
    reopened: bool,
    /// The place of its last closing.
    closed_at: Option<Seq>,
    /// A decisive record whose second copy has not come.
    single: Option<Entry>,
}

impl State {
    /// The state after the header, which is the first record.
    pub fn begin(record: &Record) -> Result<State, Illegal> {
        let illegal = |why: &str| Illegal {
            seq: record.seq,
            why: why.into(),
        };
        let Entry::Header(header) = &record.entry else {
            return Err(illegal("a journal begins with its header"));
        };
        if record.seq != Seq(0) {
            return Err(illegal("the header is record 0"));
        }
        Ok(State {
            header: header.clone(),
            asked_by: record.asked_by().cloned(),
            plan: None,
            seq: record.seq,
            began_ms: record.at_ms,
            last_ms: record.at_ms,
            phase: Phase::Opening,
            driver: None,
            starts: 0,
            armed: None,
            in_doubt: None,
            turned: None,
            stuck: None,
            stops_at: None,
            closing_warnings: Vec::new(),
            moves: Vec::new(),
            exchanges: BTreeMap::new(),
            lean: None,
            attempts: BTreeMap::new(),
            position: 0,
            stale: false,
            reopened: false,
            closed_at: None,
            single: None,
        })
    }

    /// The state after one more record, or the rule that the record breaks. The state is unchanged then.
    pub fn apply(&mut self, record: &Record) -> Result<(), Illegal> {
        self.check(record).map_err(|why| Illegal {
            seq: record.seq,
            why,
        })?;
        self.take(record);
        Ok(())
    }

    /// From its beginning on it keeps no list of files: it will be shown, and not acted on.
    pub(crate) fn make_lean(&mut self) {
        self.lean = Some(BTreeMap::new());
    }

    /// This record is not understood: the fold ends before it.
    pub(crate) fn stop(&mut self, at: Seq) {
        self.stops_at.get_or_insert(at);
    }

    /// Every exchange of a swap with the objects as they were before the first of them, from its first intent.
    pub fn exchanges(&self, step: Step) -> Option<&[Exchange]> {
        self.exchanges.get(&step).map(|e| e.as_slice())
    }

    /// The same, shared: those of a large gateway are not to be held twice.
    pub fn shared_exchanges(&self, step: Step) -> Option<Arc<Vec<Exchange>>> {
        self.exchanges.get(&step).cloned()
    }

    /// How often a step was tried in a direction in this boot, since the operator last began a new count. An attempt whose driver
    /// ended in it is none.
    pub fn attempts(&self, step: Step, direction: Direction) -> u32 {
        self.attempts.get(&(step, direction)).copied().unwrap_or(0)
    }

    /// The number that the next attempt of a step in a direction gets.
    pub fn next_attempt(&self, step: Step, direction: Direction) -> u32 {
        self.find(step, direction).map_or(1, |m| m.attempt + 1)
    }

    /// The move that acts now, as far as the journal tells: its intent stands without an outcome, no driver started
    /// since, and nothing stopped it. Whether the driver still lives is for others to find out.
    pub fn running(&self) -> Option<Move> {
        self.in_doubt
            .filter(|_| !self.stale && self.stuck.is_none() && self.stops_at.is_none())
    }

    /// Whether a step was begun since the last closing.
    pub fn begun_since_closing(&self, step: Step, direction: Direction) -> bool {
        let begun = self.find(step, direction).map(|m| m.seq);
        begun > self.closed_at
    }

    /// Whether a step was ever begun in a direction.
    pub fn begun(&self, step: Step, direction: Direction) -> bool {
        self.find(step, direction).is_some()
    }

    /// Whether the last of these steps that was begun, in whichever direction, is this one.
    pub fn is_last_of(&self, step: Step, steps: &[Step]) -> bool {
        let these = self.moves.iter().filter(|m| steps.contains(&m.step));
        these.max_by_key(|m| m.seq).is_some_and(|m| m.step == step)
    }

    /// Whether only a driver that begins anew may make this step: this one is past it.
    pub fn is_past(&self, step: Step, direction: Direction) -> bool {
        let place = |plan: &Arc<Plan>| plan.steps(direction).iter().position(|s| *s == step);
        let is_done = direction == Direction::Forward && self.is_done(step, direction, self.boot());
        let past = |place| place < self.position || place == self.position && is_done;
        !self.stale && self.plan.as_ref().and_then(place).is_some_and(past)
    }

    /// Whether a step is done in a direction and still counts in this boot.
    pub fn is_done(&self, step: Step, direction: Direction, boot: &BootId) -> bool {
        self.find(step, direction).is_some_and(|m| {
            m.fate == Fate::Done && (step.is_durable() || m.boot.as_ref() == Some(boot))
        })
    }

    /// Whether it was over, and something was made again since that was not closed anew.
    pub fn is_reopened(&self) -> bool {
        self.reopened
    }

    /// Whether anything that the gateway uses may have been changed.
    pub fn has_effects(&self) -> bool {
        self.moves
            .iter()
            .any(|m| !m.step.is_preparation() && m.step != Step::CleanUp)
    }

    /// How the restore ended, if it is over, and nothing stands behind the end that this program does not understand.
    pub fn verdict(&self) -> Option<Verdict> {
        match self.phase {
            Phase::Closed(verdict) => Some(verdict).filter(|_| self.stops_at.is_none()),
            Phase::Opening | Phase::Preparing | Phase::Forward | Phase::Back | Phase::Committed => {
                None
            }
        }
    }

    /// The move of a step in a direction, if it was ever begun.
    pub fn find(&self, step: Step, direction: Direction) -> Option<&MoveState> {
        self.moves
            .iter()
            .find(|m| m.step == step && m.direction == direction)
    }

    /// Whether this record, which was applied last, is the second copy of a decisive one: it says nothing new.
    pub fn repeats(&self, record: &Record) -> bool {
        let decisive = matches!(
            record.entry,
            Entry::Turned { .. } | Entry::Committed | Entry::Closed { .. }
        );
        decisive && self.single.is_none()
    }

    fn find_mut(&mut self, m: Move) -> Option<&mut MoveState> {
        let mut moves = self.moves.iter_mut();
        moves.find(|o| o.step == m.step && o.direction == m.direction)
    }

    fn boot(&self) -> &BootId {
        self.driver.as_ref().map_or(&self.header.boot, |d| &d.boot)
    }

    fn take(&mut self, record: &Record) {
        self.seq = record.seq;
        self.last_ms = record.at_ms;
        if self.single.take().as_ref() == Some(&record.entry) {
            return; // the second copy says nothing new
        }
        match &record.entry {
            Entry::Header(_) => {}
            Entry::Plan(plan) => {
                self.take_plan(plan);
                self.phase = Phase::Preparing;
            }
            Entry::Driver(driver) => self.take_driver(driver),
            Entry::Armed { facts } => {
                self.armed = Some(facts.clone());
                self.phase = Phase::Forward;
            }
            Entry::Intent {
                r#move: m,
                exchanges,
            } => self.take_intent(record, *m, exchanges),
            Entry::Done {
                r#move: m,
                did,
                warnings,
            } => {
                if let Some(open) = self.settle(*m, Fate::Done, record.up_ms) {
                    open.did = did.clone();
                    open.take_warnings(warnings);
                }
                if matches!(self.phase, Phase::Closed(_)) && m.step == Step::CleanUp {
                    // The closing warns of what its clean-up left over, in 1.0 without a code, and that is gone now.
                    self.closing_warnings
                        .retain(|note| note.code.is_some() && !note.is(&Code::LEFT_OVER));
                }
            }
            Entry::Failed { r#move: m, problem } => {
                if let Some(open) = self.settle(*m, Fate::Failed, record.up_ms) {
                    open.problem = Some(problem.clone());
                }
            }
            Entry::Turned { problem } => {
                self.turned = Some(problem.clone());
                self.phase = Phase::Back;
                self.position = 0;
                self.in_doubt = None;
                self.single = Some(record.entry.clone());
            }
            Entry::Committed => {
                self.phase = Phase::Committed;
                self.single = Some(Entry::Committed);
            }
            Entry::Stuck { problem } => {
                self.stuck = Some(problem.clone());
            }
            Entry::Closed { verdict, warnings } => {
                self.phase = Phase::Closed(*verdict);
                self.reopened = false;
                self.closed_at = Some(record.seq);
                self.closing_warnings = warnings.clone();
                self.single = Some(record.entry.clone());
            }
        }
    }

    fn take_driver(&mut self, driver: &Driver) {
        if matches!(driver.role, Role::RecoverByHand | Role::Leave) {
            self.stuck = None;
            self.starts = 0;
            self.attempts.clear();
        }
        // What a power cut ended says nothing against the step: over boots the starts alone are counted. Nor, on the way back, does
        // what the end of its driver cut off: there is no other way. Forward there is one.
        let cut_off = self.in_doubt.filter(|_| !self.stale);
        if *self.boot() != driver.boot {
            self.attempts.clear();
        } else if let Some(cut_off) = cut_off.filter(|m| m.direction == Direction::Back) {
            let attempts = self.attempts.get_mut(&(cut_off.step, cut_off.direction));
            attempts.into_iter().for_each(|n| *n = n.saturating_sub(1));
        }
        self.starts += 1;
        self.driver = Some(driver.clone());
        self.position = 0;
        self.stale = true;
    }

    fn take_plan(&mut self, plan: &Arc<Plan>) {
        let Some(lean) = &mut self.lean else {
            self.plan = Some(plan.clone());
            return;
        };
        let swap = |step: &Step| Some((*step, LeanSwap::of(plan.targets(*step)?)));
        lean.extend(plan.forward.iter().filter_map(swap));
        self.plan = Some(Arc::new(plan.without_targets()));
    }

    fn take_intent(&mut self, record: &Record, m: Move, exchanges: &[Exchange]) {
        if !exchanges.is_empty() {
            self.note(m.step, exchanges);
        }
        *self.attempts.entry((m.step, m.direction)).or_insert(0) += 1;
        self.reopened |= matches!(self.phase, Phase::Closed(_)) && m.step != Step::CleanUp;
        self.in_doubt = Some(m);
        self.stale = false;
        let list = self.plan.as_ref().map(|p| p.steps(m.direction));
        self.position = list
            .and_then(|l| l.iter().position(|s| *s == m.step))
            .unwrap_or(self.position);
        let fresh = MoveState {
            step: m.step,
            direction: m.direction,
            attempt: m.attempt,
            seq: record.seq,
            fate: Fate::Open,
            boot: self.driver.as_ref().map(|d| d.boot.clone()),
            began_ms: record.at_ms,
            began_up_ms: record.up_ms,
            took_ms: None,
            did: Vec::new(),
            warnings: Vec::new(),
            lacked: None,
            problem: None,
        };
        match self.find_mut(m) {
            Some(old) => {
                let said = std::mem::take(&mut old.warnings);
                *old = MoveState {
                    warnings: match m.step == Step::CleanUp {
                        true => said,
                        false => Vec::new(),
                    },
                    lacked: old.lacked.take(),
                    ..fresh
                };
            }
            None => self.moves.push(fresh),
        }
    }

    fn note(&mut self, step: Step, exchanges: &[Exchange]) {
        let Some(lean) = &mut self.lean else {
            let whole = || Arc::new(exchanges.to_vec());
            self.exchanges.entry(step).or_insert_with(whole);
            return;
        };
        if let Some(swap) = lean.get_mut(&step) {
            swap.noted = Some(Digest::of_json(&exchanges));
        }
    }

    fn settle(&mut self, m: Move, fate: Fate, up_ms: u64) -> Option<&mut MoveState> {
        self.in_doubt = None;
        let open = self.find_mut(m)?;
        open.fate = fate;
        open.took_ms = Some(up_ms.saturating_sub(open.began_up_ms));
        Some(open)
    }
}
