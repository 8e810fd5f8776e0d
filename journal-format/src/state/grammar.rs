//! The grammar: which record may follow which. Owns every rule, and changes nothing.

use crate::lean::{self, LeanSwap};
use crate::{
    Digest, Direction, Driver, Entry, Exchange, Fate, Move, MoveState, Phase, Plan, Record, Role,
    State, Step, Verdict,
};

/// What may be made again once it is over, where the gateway lacks something.
const TRIED_AGAIN: [Step; 3] = [Step::TunnelsUp, Step::LoadFirewall, Step::StartServices];

impl State {
    pub(super) fn check(&self, record: &Record) -> Result<(), String> {
        if record.seq != self.seq.next() {
            return Err(format!("record {} was expected", self.seq.next()));
        }
        if let Some(at) = self.stops_at {
            return Err(format!("record {at} before it is not understood"));
        }
        if let Some(first) = &self.single
            && !matches!(record.entry, Entry::Driver(_))
        {
            let why = "a decisive record is followed by its second copy";
            return must(record.entry == *first, why);
        }
        if record.entry.format() > self.header.format {
            let known = self.header.format;
            return Err(format!("it says what format {known} does not know"));
        }
        let by_hand = |d: &Driver| matches!(d.role, Role::RecoverByHand | Role::Leave);
        if self.stuck.is_some() && !matches!(&record.entry, Entry::Driver(d) if by_hand(d)) {
            return Err("it is stuck: only a recovery by hand may follow".into());
        }
        let Some(plan) = &self.plan else {
            return self.check_opening(&record.entry);
        };
        match &record.entry {
            Entry::Header(_) => Err("there is one header".into()),
            Entry::Plan(_) => Err("there is one plan".into()),
            Entry::Driver(driver) if driver.role == Role::Restore && self.driver.is_some() => {
                Err("a restore starts once; what starts after it is a recovery".into())
            }
            Entry::Driver(driver) if driver.role == Role::Leave => self.check_may_be_left(),
            Entry::Driver(_) => Ok(()),
            Entry::Intent { r#move, .. } if self.is_leaving() => self.check_leaves(plan, *r#move),
            Entry::Closed {
                verdict: Verdict::Left,
                ..
            } => self.check_left(),
            Entry::Armed { .. }
            | Entry::Turned { .. }
            | Entry::Committed
            | Entry::Stuck { .. }
            | Entry::Closed { .. }
                if self.is_leaving() =>
            {
                Err("it is left as it is".into())
            }
            Entry::Stuck { .. } => match self.phase {
                Phase::Closed(_) => Err("it is over".into()),
                Phase::Opening
                | Phase::Preparing
                | Phase::Forward
                | Phase::Back
                | Phase::Committed => Ok(()),
            },
            Entry::Intent { .. }
            | Entry::Done { .. }
            | Entry::Failed { .. }
            | Entry::Armed { .. }
            | Entry::Turned { .. }
            | Entry::Committed
            | Entry::Closed { .. }
                if self.driver.is_none() =>
            {
                Err("no driver has started".into())
            }
            Entry::Intent { r#move, exchanges } => self.check_intent(plan, *r#move, exchanges),
            Entry::Done { r#move, .. } => {
                self.check_outcome(*r#move)?;
                let forward = r#move.direction == Direction::Forward;
                if forward && self.swaps(plan, r#move.step) && !self.has_noted(r#move.step) {
                    return Err("a swap notes its exchanges before it is done".into());
                }
                Ok(())
            }
            Entry::Failed { r#move, .. } => self.check_outcome(*r#move),
            Entry::Armed { .. } => self.check_armed(plan),
            Entry::Turned { .. } => self.check_turned(),
            Entry::Committed => self.check_committed(plan),
            Entry::Closed { verdict, .. } => self.check_closed(plan, *verdict),
        }
    }

    fn check_armed(&self, plan: &Plan) -> Result<(), String> {
        if self.phase != Phase::Preparing {
            return Err("the barrier goes up once, after the preparation".into());
        }
        self.check_prepares()?;
        self.check_settled()?;
        self.check_done_before(plan.forward.iter().filter(|s| s.is_preparation()))
    }

    fn check_turned(&self) -> Result<(), String> {
        if self.phase != Phase::Forward {
            return Err("only a restore that goes forward behind its barrier turns back".into());
        }
        if self.in_doubt.is_some() && !self.stale {
            return Err("the move before it is not settled".into());
        }
        self.check_not_abandoned()
    }

    fn check_committed(&self, plan: &Plan) -> Result<(), String> {
        if self.phase != Phase::Forward {
            return Err("only a restore that goes forward commits".into());
        }
        self.check_not_abandoned()?;
        self.check_settled()?;
        self.check_done_before(plan.forward.iter().filter(|s| **s != Step::CleanUp))
    }

    /// Before the plan there is nothing to do: a recovery that finds no more than a header closes it.
    fn check_opening(&self, entry: &Entry) -> Result<(), String> {
        match entry {
            Entry::Plan(_) if self.driver.is_some() => Err("a recovery makes no plan".into()),
            Entry::Plan(plan) if plan.digest() != self.header.plan => {
                Err("the plan is not the one that the header names".into())
            }
            Entry::Plan(plan) => check_lists(plan),
            Entry::Driver(driver) if driver.role == Role::Leave => self.check_may_be_left(),
            Entry::Driver(driver) if driver.role != Role::Restore => Ok(()),
            Entry::Stuck { .. }
            | Entry::Closed {
                verdict: Verdict::NothingChanged,
                ..
            } if self.driver.is_some() && self.phase == Phase::Opening => Ok(()),
            Entry::Header(_)
            | Entry::Driver(_)
            | Entry::Armed { .. }
            | Entry::Intent { .. }
            | Entry::Done { .. }
            | Entry::Failed { .. }
            | Entry::Turned { .. }
            | Entry::Committed
            | Entry::Stuck { .. }
            | Entry::Closed { .. } => Err("the plan follows the header".into()),
        }
    }

    fn check_closed(&self, plan: &Plan, verdict: Verdict) -> Result<(), String> {
        self.check_settled()?;
        let cleaned = match (self.phase, verdict) {
            (Phase::Committed, Verdict::Restored) => self.begun(Step::CleanUp, Direction::Forward),
            (Phase::Back, Verdict::RolledBack) => {
                self.check_is_back(plan, Step::CleanUp)?;
                self.begun(Step::CleanUp, Direction::Back)
            }
            (Phase::Preparing | Phase::Forward, Verdict::NothingChanged) if !self.has_effects() => {
                self.begun(Step::CleanUp, Direction::Back)
            }
            (
                Phase::Opening | Phase::Preparing | Phase::Forward | Phase::Back | Phase::Committed,
                _,
            ) => {
                return Err(format!("it cannot end as {verdict} here"));
            }
            (Phase::Closed(closed), verdict) if self.reopened && closed == verdict => true,
            (Phase::Closed(_), _) => return Err("it is over".into()),
        };
        must(cleaned, "nothing was cleaned up")
    }

    fn check_outcome(&self, m: Move) -> Result<(), String> {
        let why = "an outcome follows its intent, from the same driver";
        must(self.in_doubt == Some(m) && !self.stale, why)
    }

    fn check_settled(&self) -> Result<(), String> {
        match self.in_doubt {
            Some(m) => Err(format!("{} {} is not settled", m.step, m.direction)),
            None => Ok(()),
        }
    }

    /// The operator ends it where it stands; until it is closed so.
    fn is_leaving(&self) -> bool {
        let leaves = self.driver.as_ref().is_some_and(|d| d.role == Role::Leave);
        leaves && !matches!(self.phase, Phase::Closed(_))
    }

    /// Without an effect there is nothing to leave.
    fn check_may_be_left(&self) -> Result<(), String> {
        let is_open = !matches!(self.phase, Phase::Closed(_));
        must(
            is_open && self.has_effects(),
            "nothing that was changed is open",
        )
    }

    /// Who leaves it as it is lifts the fence, and makes no other move before the closing.
    fn check_leaves(&self, plan: &Plan, m: Move) -> Result<(), String> {
        let lifts = m.step == Step::LiftFence && m.direction == self.direction();
        must(
            lifts && plan.steps(m.direction).contains(&m.step),
            "it is left as it is",
        )?;
        let is_next = m.attempt == self.next_attempt(m.step, m.direction);
        must(is_next, "the next attempt was expected")?;
        must(
            self.in_doubt.is_none() || self.stale,
            "the move before it is not settled",
        )
    }

    /// What a dead driver left unsettled stays so.
    fn check_left(&self) -> Result<(), String> {
        must(self.is_leaving(), "only the operator leaves it as it is")?;
        must(
            self.in_doubt.is_none() || self.stale,
            "the move before it is not settled",
        )?;
        let lifted = self.is_done(Step::LiftFence, self.direction(), self.boot());
        must(lifted, "the fence was not lifted")
    }

    /// The preparation belongs to the restore itself: what a recovery finds unprepared it gives up.
    fn check_prepares(&self) -> Result<(), String> {
        let driver = self.driver.as_ref();
        let recovers = driver.is_some_and(|d| d.role != Role::Restore);
        must(!recovers, "a recovery prepares nothing")?;
        self.check_not_abandoned()
    }

    /// Once the staging is being removed without a commit, there is nothing left to go forward with.
    fn check_not_abandoned(&self) -> Result<(), String> {
        let given_up = self.begun(Step::CleanUp, Direction::Back);
        must(!given_up, "it was given up before the first effect")
    }

    fn check_done_before<'s>(
        &self,
        mut steps: impl Iterator<Item = &'s Step>,
    ) -> Result<(), String> {
        match steps.find(|s| !self.is_done(**s, Direction::Forward, self.boot())) {
            Some(step) => Err(format!("{step} is not done in this boot")),
            None => Ok(()),
        }
    }

    /// Whether all is back that must be before this step back: what was begun on the way back is done in this boot,
    /// every swap that was begun forward is swapped back, and the gateway was looked at.
    fn check_is_back(&self, plan: &Plan, until: Step) -> Result<(), String> {
        for step in plan.back.iter().take_while(|s| **s != until) {
            let swapped = plan.targets(*step).is_some() && self.begun(*step, Direction::Forward);
            let always = matches!(
                step,
                Step::VerifyAtRest | Step::VerifyRunning | Step::LiftFence
            );
            let needed = swapped || always || self.begun(*step, Direction::Back);
            if needed && !self.is_done(*step, Direction::Back, self.boot()) {
                return Err(format!("{step} is not done on the way back"));
            }
        }
        Ok(())
    }

    fn check_intent(&self, plan: &Plan, m: Move, exchanges: &[Exchange]) -> Result<(), String> {
        if self.in_doubt.is_some() && !self.stale {
            return Err("the move before it is not settled".into());
        }
        let attempt = self.next_attempt(m.step, m.direction);
        if m.attempt != attempt {
            return Err(format!("attempt {attempt} was expected"));
        }
        self.check_exchanges(plan, m, exchanges)?;
        let list = plan.steps(m.direction);
        let Some(position) = list.iter().position(|s| *s == m.step) else {
            return Err(format!("the plan has no step {} {}", m.step, m.direction));
        };
        let cleaning = m.step == Step::CleanUp;
        match (self.phase, m.direction) {
            (Phase::Opening, _) => Err("the plan follows the header".into()),
            (Phase::Preparing, Direction::Forward) if m.step.is_preparation() => {
                self.check_prepares()?;
                self.check_order(list, position)
            }
            (Phase::Preparing, Direction::Forward) => {
                Err("effects begin behind the barrier".into())
            }
            (Phase::Forward, Direction::Forward) if cleaning => {
                Err("the clean-up follows the commit".into())
            }
            (Phase::Forward, Direction::Forward) if m.step.is_preparation() => {
                Err("the preparation ended with the barrier".into())
            }
            (Phase::Forward, Direction::Forward) => {
                self.check_not_abandoned()?;
                self.check_order(list, position)
            }
            (Phase::Preparing | Phase::Forward, Direction::Back)
                if cleaning && !self.has_effects() =>
            {
                Ok(())
            }
            (Phase::Preparing | Phase::Forward, Direction::Back) => {
                Err("it has not turned back".into())
            }
            (Phase::Back, Direction::Forward) => Err("it turned back".into()),
            (Phase::Back, Direction::Back) if position < self.position => {
                Err("steps back follow the plan's order".into())
            }
            (Phase::Back, Direction::Back) => self.check_is_back(plan, m.step),
            (Phase::Committed, Direction::Forward) if cleaning => Ok(()),
            (Phase::Committed, Direction::Forward) if !m.step.is_durable() => {
                must(
                    !self.is_done(m.step, m.direction, self.boot()),
                    "it is done",
                )?;
                self.check_done_before(list[..position].iter())
            }
            (Phase::Committed, _) => {
                Err("after the commit nothing but what a boot took is made anew".into())
            }
            (Phase::Closed(verdict), direction) => {
                let lacks = self.reopened || !self.lacks().is_empty();
                let lacks = lacks && verdict != Verdict::Left;
                let again = lacks && TRIED_AGAIN.contains(&m.step);
                must(
                    (cleaning || again) && direction == self.direction(),
                    "it is over",
                )
            }
        }
    }

    /// A step forward follows those before it, done in this boot. A fresh driver may begin anew at any of them.
    fn check_order(&self, list: &[Step], position: usize) -> Result<(), String> {
        if position < self.position {
            return Err("steps forward follow the plan's order".into());
        }
        let failed = |m: &&MoveState| m.fate == Fate::Failed && m.direction == Direction::Forward;
        if let Some(failed) = self.moves.iter().find(failed) {
            return Err(format!("{} failed: there is no going on", failed.step));
        }
        self.check_done_before(list[..position].iter())?;
        let is_next = position == self.position && !self.stale;
        let done = is_next && self.is_done(list[position], Direction::Forward, self.boot());
        must(!done, "it is done")
    }

    /// Whether a step exchanges anything.
    fn swaps(&self, plan: &Plan, step: Step) -> bool {
        match self.lean_swap(step) {
            Some(swap) => !swap.is_empty,
            None => plan.targets(step).is_some_and(|t| !t.is_empty()),
        }
    }

    fn has_noted(&self, step: Step) -> bool {
        self.exchanges(step).is_some() || self.lean_swap(step).is_some_and(|s| s.noted.is_some())
    }

    fn lean_swap(&self, step: Step) -> Option<&LeanSwap> {
        self.lean.as_ref()?.get(&step)
    }

    fn check_exchanges(&self, plan: &Plan, m: Move, exchanges: &[Exchange]) -> Result<(), String> {
        if exchanges.is_empty() {
            return Ok(());
        }
        let targets = plan.targets(m.step);
        let Some(targets) = targets.filter(|_| m.direction == Direction::Forward) else {
            return Err("only a swap forward notes exchanges".into());
        };
        let (same, planned) = match self.lean_swap(m.step) {
            Some(swap) => {
                let noted = swap.noted.as_ref();
                let same = noted.is_none_or(|noted| *noted == Digest::of_json(&exchanges));
                (same, swap.plans(exchanges))
            }
            None => {
                let noted = self.exchanges(m.step);
                let same = noted.is_none_or(|noted| noted == exchanges);
                (same, lean::agree(targets, exchanges))
            }
        };
        must(same, "the exchanges are those of the swap's first intent")?;
        must(planned, "the exchanges are not those of the plan")
    }
}

/// A rule, and what is said where it does not hold.
fn must(holds: bool, why: &str) -> Result<(), String> {
    holds.then_some(()).ok_or_else(|| why.into())
}

/// Step lists that the grammar can walk to an end.
fn check_lists(plan: &Plan) -> Result<(), String> {
    for (name, list) in [("forward", &plan.forward), ("back", &plan.back)] {
        let mut before = list.iter().enumerate();
        if before.any(|(at, step)| list[..at].contains(step)) {
            return Err(format!("a step is twice in the list {name}"));
        }
        if list.last() != Some(&Step::CleanUp) {
            return Err(format!("the list {name} does not end with the clean-up"));
        }
    }
    let behind = plan.forward.iter().skip_while(|s| s.is_preparation());
    if behind.chain(&plan.back).any(|s| s.is_preparation()) {
        return Err("the preparation comes first, and only forward".into());
    }
    if !plan.back.contains(&Step::LiftFence) {
        return Err("the list back does not lift the fence".into());
    }
    let one_way = |s: &&Step| plan.targets(**s).is_some() && !plan.back.contains(s);
    match plan.forward.iter().find(one_way) {
        Some(step) => Err(format!("{step} has no way back")),
        None => Ok(()),
    }
}
