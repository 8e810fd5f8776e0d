//! A restore as it is shown: the fold of a state that page, `status` and `journal show` have in common, and the event
//! that brings a page from one record to the next. Owns the words that say where a restore stands; formats no text.

use serde::{Deserialize, Serialize};

use crate::civil::utc;
use crate::render::summary;
use crate::{
    AskedBy, Direction, Entry, Fate, Move, MoveState, Note, Phase, Problem, Record, RestoreId, Seq,
    State, Step, Verdict,
};

mod headline;
#[cfg(test)]
mod tests;

use headline::headline;

/// One restore, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The restore.
    pub id: RestoreId,
    /// The last record that it takes in: what comes after it is news.
    pub seq: Seq,
    /// Where it stands, as one word for programs and styles.
    pub standing: Standing,
    /// Where it stands, as a sentence.
    pub headline: String,
    /// Whether nothing more is to come by itself: it is closed, or stuck.
    pub over: bool,
    /// How it ended, if it did.
    pub verdict: Option<Verdict>,
    /// What stands in its way: why it is stuck, or went back, or ended before it began.
    pub problem: Option<Problem>,
    /// The backup's file name; empty until the plan is there.
    pub archive: String,
    /// When the backup was made, as it says itself; empty until the plan is there.
    pub archive_made: String,
    /// The host that the backup was made on, if it says so.
    pub archive_host: Option<String>,
    /// The program that wrote the journal.
    pub program: String,
    /// When the restore began, UTC, RFC 3339.
    pub began: String,
    /// When the restore began, milliseconds since 1970 UTC.
    pub began_ms: i64,
    /// When the last record was written, UTC, RFC 3339.
    pub last: String,
    /// When the last record was written, milliseconds since 1970 UTC.
    pub last_ms: i64,
    /// Who asked for the restore, if that is known.
    pub asked_by: Option<AskedBy>,
    /// The process of the last driver.
    pub pid: Option<u32>,
    /// What the plan warned of before it was approved, what matters more first.
    pub warnings: Vec<Note>,
    /// What is left to do or to know at the end.
    pub leftovers: Vec<Note>,
    /// What was left out, once it is restored.
    pub left_out: Vec<Note>,
    /// What does not work although everything else is one set's.
    pub lacks: Vec<Note>,
    /// The parts, by name, that the safety backup lacked, where that ended it: accepted, it would have gone on.
    pub unsaved: Vec<String>,
    /// The steps forward, and behind them, once it goes back, the steps back.
    pub steps: Vec<StepView>,
}

/// One step in one direction, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// Tells it apart within its restore, as `forward-swap-configs`.
    pub id: String,
    /// The step.
    pub slug: Step,
    /// The direction.
    pub direction: Direction,
    /// What a person reads.
    pub title: String,
    /// What became of it.
    pub state: StepState,
    /// The last attempt's number; 0 before the first.
    pub attempt: u32,
    /// When the last attempt began, UTC, RFC 3339.
    pub began: Option<String>,
    /// When the last attempt began, milliseconds since 1970 UTC.
    pub began_ms: Option<i64>,
    /// How long it took, milliseconds; none while it runs.
    pub took_ms: Option<u64>,
    /// What it did, a line each.
    pub did: Vec<String>,
    /// What a person should know of it.
    pub warnings: Vec<Note>,
    /// Why it failed.
    pub problem: Option<Problem>,
}

/// What became of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// It has not begun.
    Waiting,
    /// It is acting.
    Running,
    /// It acted, and the gateway was seen to be as it should be.
    Done,
    /// It failed.
    Failed,
    /// It began, and its driver went away or turned back before it ended.
    Interrupted,
    /// It is not going to begin.
    NotNeeded,
}

impl StepState {
    /// What a person reads.
    pub fn words(self) -> &'static str {
        match self {
            StepState::Waiting => "waiting",
            StepState::Running => "running",
            StepState::Done => "done",
            StepState::Failed => "failed",
            StepState::Interrupted => "interrupted",
            StepState::NotNeeded => "not needed",
        }
    }
}

/// What is said of a restore that was over before its first effect.
pub const NOTHING_CHANGED: &str = "Nothing was changed: the gateway is as it was before.";

/// Where a restore stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Its plan is not there yet.
    Starting,
    /// Nothing that the gateway uses has changed.
    Preparing,
    /// It changes the gateway.
    Forward,
    /// It puts the gateway back.
    Back,
    /// The gateway is as the backup says; the clean-up is left.
    Finishing,
    /// The operator is needed.
    Stuck,
    /// Over: the gateway is as the backup says.
    Restored,
    /// Over: the gateway is as it was before.
    RolledBack,
    /// Over before the first effect.
    NothingChanged,
    /// Over: the operator left the gateway as it was then.
    Left,
    /// A newer version wrote its journal, and this one understands it only in part.
    Unknown,
}

impl Standing {
    /// Where a state stands.
    pub fn of(state: &State) -> Standing {
        if state.stops_at.is_some() {
            return Standing::Unknown;
        }
        if state.stuck.is_some() {
            return Standing::Stuck;
        }
        match state.phase {
            Phase::Opening => Standing::Starting,
            Phase::Preparing => Standing::Preparing,
            Phase::Forward => Standing::Forward,
            Phase::Back => Standing::Back,
            Phase::Committed => Standing::Finishing,
            Phase::Closed(verdict) => Standing::after(verdict),
        }
    }

    /// Where a restore stands that ended so.
    pub fn after(verdict: Verdict) -> Standing {
        match verdict {
            Verdict::Restored => Standing::Restored,
            Verdict::RolledBack => Standing::RolledBack,
            Verdict::NothingChanged => Standing::NothingChanged,
            Verdict::Left => Standing::Left,
        }
    }

    /// Whether nothing more is to come by itself.
    pub fn is_over(self) -> bool {
        match self {
            Standing::Stuck
            | Standing::Restored
            | Standing::RolledBack
            | Standing::NothingChanged
            | Standing::Left => true,
            Standing::Starting
            | Standing::Preparing
            | Standing::Forward
            | Standing::Back
            | Standing::Finishing
            | Standing::Unknown => false,
        }
    }

    /// What a person reads, in a few words.
    pub fn words(self) -> &'static str {
        match self {
            Standing::Starting => "starting",
            Standing::Preparing => "preparing",
            Standing::Forward => "restoring",
            Standing::Back => "rolling back",
            Standing::Finishing => "cleaning up",
            Standing::Stuck => "stuck",
            Standing::Restored => "restored",
            Standing::RolledBack => "rolled back",
            Standing::NothingChanged => "nothing changed",
            Standing::Left => "left as it is",
            Standing::Unknown => "not understood",
        }
    }
}

impl View {
    /// The state as it is shown.
    pub fn of(state: &State) -> View {
        let standing = Standing::of(state);
        let plan = state.plan.as_ref();
        View {
            id: state.header.restore.clone(),
            seq: state.seq,
            standing,
            headline: headline(state, standing),
            over: standing.is_over(),
            verdict: state.verdict(),
            problem: obstacle(state),
            archive: plan.map_or_else(String::new, |p| p.archive.name.clone()),
            archive_made: plan.map_or_else(String::new, |p| p.archive.created_at.clone()),
            archive_host: plan.and_then(|p| p.archive.host.clone()),
            program: state.header.program.clone(),
            began: utc(state.began_ms),
            began_ms: state.began_ms,
            last: utc(state.last_ms),
            last_ms: state.last_ms,
            asked_by: state.asked_by.clone(),
            pid: state.driver.as_ref().map(|d| d.pid),
            warnings: plan.map_or_else(Vec::new, |p| p.warnings.clone()),
            leftovers: leftovers(state),
            left_out: state.left_out(),
            lacks: state.lacks(),
            unsaved: state.unsaved(),
            steps: steps(state),
        }
    }
}

impl View {
    /// The direction in which it goes, or went last.
    pub fn direction(&self) -> Direction {
        match self.steps.iter().any(|s| s.direction == Direction::Back) {
            true => Direction::Back,
            false => Direction::Forward,
        }
    }

    /// The steps in that direction which it needs.
    pub fn needed(&self) -> impl Iterator<Item = &StepView> {
        let direction = self.direction();
        let steps = self.steps.iter();
        steps.filter(move |s| s.direction == direction && s.state != StepState::NotNeeded)
    }

    /// How many of these are done.
    pub fn done(&self) -> usize {
        let done = |s: &&StepView| s.state == StepState::Done;
        self.needed().filter(done).count()
    }
}

/// What one record changes on a page. Its number is the record's, so a reader that has seen number n asks for what
/// is after n. Taking the events in order, and one of them twice, gives what [`View::of`] gives at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The record's place: the id of the event.
    pub seq: Seq,
    /// When the record was written, UTC, RFC 3339.
    pub at: String,
    /// What the record says, on one line.
    pub text: String,
    /// Where the restore stands now.
    pub standing: Standing,
    /// Where it stands now, as a sentence.
    pub headline: String,
    /// Whether nothing more is to come by itself.
    pub over: bool,
    /// How it ended, if it did.
    pub verdict: Option<Verdict>,
    /// What stands in its way.
    pub problem: Option<Problem>,
    /// What is left to do or to know at the end.
    pub leftovers: Vec<Note>,
    /// What was left out, once it is restored.
    pub left_out: Vec<Note>,
    /// What does not work although everything else is one set's.
    pub lacks: Vec<Note>,
    /// The parts, by name, that the safety backup lacked, where that ended it.
    pub unsaved: Vec<String>,
    /// The steps that may look different now, whole, in the order of the list. One whose id is new goes to the end.
    pub steps: Vec<StepView>,
}

impl Event {
    /// The event of one record, given the state right behind it.
    pub fn of(state: &State, record: &Record) -> Event {
        let standing = Standing::of(state);
        let mut steps = steps(state);
        match &record.entry {
            // What comes later shows that some before it are not needed.
            Entry::Intent { r#move, .. }
            | Entry::Done { r#move, .. }
            | Entry::Failed { r#move, .. } => {
                steps.retain(|s| s.is_of(*r#move) || s.state == StepState::NotNeeded);
            }
            Entry::Header(_)
            | Entry::Plan(_)
            | Entry::Driver(_)
            | Entry::Armed { .. }
            | Entry::Turned { .. }
            | Entry::Committed
            | Entry::Stuck { .. }
            | Entry::Closed { .. } => {}
        }
        Event {
            seq: record.seq,
            at: utc(record.at_ms),
            text: summary(record),
            standing,
            headline: headline(state, standing),
            over: standing.is_over(),
            verdict: state.verdict(),
            problem: obstacle(state),
            leftovers: leftovers(state),
            left_out: state.left_out(),
            lacks: state.lacks(),
            unsaved: state.unsaved(),
            steps,
        }
    }
}

impl StepView {
    fn is_of(&self, m: Move) -> bool {
        self.slug == m.step && self.direction == m.direction
    }

    fn unbegun(step: Step, direction: Direction, state: StepState) -> StepView {
        StepView {
            id: format!("{direction}-{step}"),
            slug: step,
            direction,
            title: step.title(direction).into(),
            state,
            attempt: 0,
            began: None,
            began_ms: None,
            took_ms: None,
            did: Vec::new(),
            warnings: Vec::new(),
            problem: None,
        }
    }

    fn begun(m: &MoveState, state: StepState) -> StepView {
        StepView {
            attempt: m.attempt,
            began: Some(utc(m.began_ms)),
            began_ms: Some(m.began_ms),
            took_ms: m.took_ms,
            did: m.did.clone(),
            warnings: m.warnings.clone(),
            problem: m.problem.clone(),
            ..StepView::unbegun(m.step, m.direction, state)
        }
    }
}

fn steps(state: &State) -> Vec<StepView> {
    let Some(plan) = &state.plan else {
        return Vec::new();
    };
    let runs = |m: &MoveState| {
        let running = state.running();
        running.is_some_and(|r| r.step == m.step && r.direction == m.direction)
    };
    let view = |step: Step, direction: Direction, needed: bool| {
        let Some(m) = state.find(step, direction) else {
            let unbegun = match needed {
                true => StepState::Waiting,
                false => StepState::NotNeeded,
            };
            return StepView::unbegun(step, direction, unbegun);
        };
        let state = match m.fate {
            Fate::Done => StepState::Done,
            Fate::Failed => StepState::Failed,
            Fate::Open if runs(m) => StepState::Running,
            Fate::Open => StepState::Interrupted,
        };
        StepView::begun(m, state)
    };
    // Without an effect there is nothing to go back from: of the steps back only the clean-up can begin.
    let ends_early = state.begun(Step::CleanUp, Direction::Back) && state.turned.is_none();
    let forward_ended = ends_early || state.turned.is_some() || state.verdict().is_some();
    let forward = plan.forward.iter();
    let mut views: Vec<StepView> = forward
        .map(|s| view(*s, Direction::Forward, !forward_ended))
        .collect();
    if state.turned.is_some() {
        let begun = |s: &Step| state.begun(*s, Direction::Back);
        let last_begun = plan.back.iter().rposition(begun);
        views.extend(plan.back.iter().enumerate().map(|(at, step)| {
            let passed = last_begun.is_some_and(|last| at < last) || state.verdict().is_some();
            view(*step, Direction::Back, !passed)
        }));
    } else if ends_early {
        views.push(view(Step::CleanUp, Direction::Back, true));
    }
    views
}

fn obstacle(state: &State) -> Option<Problem> {
    let failed = || {
        let moves = state.moves.iter().rev();
        moves
            .filter(|m| m.fate == Fate::Failed && m.step != Step::CleanUp)
            .find_map(|m| m.problem.clone())
    };
    let restored = matches!(
        state.phase,
        Phase::Committed | Phase::Closed(Verdict::Restored)
    );
    let stopped = state.stuck.as_ref().or(state.turned.as_ref()).cloned();
    stopped.or_else(|| if restored { None } else { failed() })
}

/// What the closing says besides what lacks.
fn leftovers(state: &State) -> Vec<Note> {
    let all = state.closing_warnings.iter();
    all.filter(|w| !w.is_lack()).cloned().collect()
}
