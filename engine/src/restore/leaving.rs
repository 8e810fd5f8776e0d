//! The last exit: the operator ends an open restore where it stands. Lifts the fence, says what is in place, and closes; every
//! original and every staged file that is not the plan's is kept. Decides nothing about what is right.

use std::collections::{BTreeMap, BTreeSet};

use journal_format::{
    Direction, Exchange, Format, Note, Phase, RestoreId, Soundness, State, Step, Verdict,
};

use super::driver::{BootStage, Drive, Ending};
use super::journal::JournalWriter;
use super::step::{Env, Machine};
use super::{before, expected_rules, swap, unusable};
use crate::error::{Code, Problem, cannot};
use crate::gateway::profile::Profile;
use crate::host::fence_is_closed;
use crate::restore::decide::Observed;
use crate::state_dir;
use crate::text::wording::{counted, start_command};

/// So many files are named that are neither set's, or another set's than most.
const NAMED: usize = 10;

/// Refuses where a restore cannot be ended where it stands.
pub fn may_be_left(id: &RestoreId, state: &State) -> Result<(), Problem> {
    let what = format!("leave the gateway as it is in restore {id}");
    if !state.has_effects() {
        return Err(cannot(
            Code::BAD_REQUEST,
            format!("{what}: it changed nothing so far"),
            "run `holdfast recover`, which closes it",
        ));
    }
    if state.phase == Phase::Committed {
        return Err(cannot(
            Code::BAD_REQUEST,
            format!("{what}: it is as the backup says already, and only the clean-up is left"),
            "run `holdfast recover`, which cleans up",
        ));
    }
    if state.header.format < Format::V1_1 {
        return Err(cannot(
            Code::BAD_REQUEST,
            format!(
                "{what}: its journal is of format {}, which has no such ending",
                state.header.format
            ),
            "run `holdfast recover --roll-back` or `holdfast recover --resume`",
        ));
    }
    Ok(())
}

/// What would be left as it is. Refuses where the last exit would refuse as well: nothing is promised that is not kept.
pub fn preview(
    profile: &Profile,
    host: &dyn Machine,
    id: &RestoreId,
) -> Result<Vec<Note>, Problem> {
    let scan = state_dir::read(profile, id)?;
    let soundness = scan.soundness();
    let state = match soundness {
        Soundness::Open | Soundness::Torn | Soundness::Closed(_) => scan.state,
        Soundness::Empty | Soundness::Corrupt | Soundness::Newer => None,
    };
    let Some(state) = state else {
        return Err(unusable::problem(profile, id, soundness));
    };
    // Of one that is over, the worker lifts the fence and removes the barrier.
    if state.verdict().is_none() {
        may_be_left(id, &state)?;
    }
    let dir = profile.restore_dir(id);
    let drive = Drive {
        host,
        dir: &dir,
        barrier: &profile.barrier(),
        facts: &before::facts(host, &dir, &state).unwrap_or_default(),
        source: None,
        asked: &|| false,
        stage: BootStage::Whole,
    };
    Ok(drive.what_differs_or_why(&state))
}

impl Drive<'_> {
    /// Ends it where it stands.
    pub fn leave(&self, journal: &mut JournalWriter) -> Result<Ending, Problem> {
        let boot = self.host.boot()?;
        let direction = journal.state().direction();
        self.make(journal, Step::LiftFence, direction, &boot)?;
        let lifted = journal.state().find(Step::LiftFence, direction);
        let failed = lifted.and_then(|m| m.problem.clone());
        if failed.is_some() || fence_is_closed(self.host)? {
            let why = failed.map_or_else(String::new, |p| format!(": cannot {}", p.what));
            return Err(cannot(
                Code::FENCE_REFUSED,
                format!("leave it as it is: tunnel traffic is still blocked{why}"),
                "run `nft list tables` to see why it fails; `nft delete table inet holdfast` unblocks the traffic; then run this again",
            ));
        }
        let notes = self.what_differs_or_why(journal.state());
        journal.close(Verdict::Left, notes)?;
        // Only now: until the closing a recovery may still need what is staged.
        self.make(journal, Step::CleanUp, direction, &boot)?;
        self.host.discard(self.barrier)?;
        Ok(Ending::Closed(Verdict::Left))
    }

    /// The same; or why it cannot be told: a look that fails stands in the way of no exit.
    fn what_differs_or_why(&self, state: &State) -> Vec<Note> {
        self.what_differs(state).unwrap_or_else(|p| {
            let text = format!("what is in place cannot be told: cannot {}", p.what);
            vec![known(text).advising(p.advice)]
        })
    }

    /// What is in place, and what is neither as before nor as the backup says; a sentence each.
    pub fn what_differs(&self, state: &State) -> Result<Vec<Note>, Problem> {
        let Some(plan) = state.plan.as_ref() else {
            return Ok(Vec::new());
        };
        let boot = self.host.boot()?;
        let env = self.env(plan, state, &boot);
        let mut notes = Vec::new();
        let mut sides = BTreeSet::new();
        for (step, what) in [
            (Step::SwapDatabases, "database"),
            (Step::SwapConfigs, "config"),
        ] {
            let (said, of_these) = files(&env, state.exchanges(step).unwrap_or_default(), what)?;
            notes.extend(said);
            sides.extend(of_these);
            if state.exchanges(step).is_none() && plan.targets(step).is_some_and(|t| !t.is_empty())
            {
                // It was never begun.
                sides.insert(AS_BEFORE);
            }
        }
        let is_one_set = !sides.contains(AS_BEFORE) || !sides.contains(AS_THE_BACKUP);
        if notes.is_empty() {
            notes.push(known("the files and databases are as before"));
        }
        let kept = before::facts(self.host, self.dir, state);
        let rules = |direction| {
            kept.clone()?;
            expected_rules::differences(&env, direction)
        };
        // What cannot be read stands in the way of no exit.
        notes.push(match (rules(Direction::Back), rules(Direction::Forward)) {
            (Ok(none), _) if none.is_empty() => known("the firewall rules are as before"),
            (_, Ok(none)) if none.is_empty() => known("the firewall rules are as the backup says"),
            // By its name a note says that something differs which no later look compares.
            (Ok(_), Ok(_)) => {
                known("the firewall rules are neither as before nor as the backup says")
                    .about(RULES)
                    .advising("the restore of the safety backup puts them right")
            }
            (Err(p), _) | (_, Err(p)) => known(format!(
                "the firewall rules cannot be compared: cannot {}",
                p.what
            ))
            .about(RULES)
            .advising(p.advice),
        });
        // Where that leads on it comes first: a start adds rules to those of two sets, and a restore starts what is named here.
        let is_mixed = notes.iter().any(|n| n.name.as_deref() == Some(RULES)) || !is_one_set;
        notes.extend(tunnels(&env, is_mixed)?);
        for service in &plan.services {
            if !env.runs(service)? {
                let text = format!("{} does not run", service.name);
                let advice = match is_mixed {
                    true => "the restore of the safety backup starts it".to_owned(),
                    false => format!("`{}`", start_command(&service.control)),
                };
                notes.push(down(text).about(&service.name).advising(advice));
            }
        }
        Ok(notes)
    }
}

/// What the note of the firewall rules is about, where they are neither set's.
pub const RULES: &str = "the firewall rules";

fn known(text: impl Into<String>) -> Note {
    Note::known(Code::LEFT_AS_IT_IS, text)
}

fn down(text: impl Into<String>) -> Note {
    Note::down(Code::LEFT_AS_IT_IS, text)
}

const AS_BEFORE: &str = "as before";
const AS_THE_BACKUP: &str = "as the backup says";

/// What is said of files, and whose they are.
type FilesLeft = (Vec<Note>, Vec<&'static str>);

/// Which set's files lie in their places: how many of each, and by name those that most are not.
fn files(env: &Env, exchanges: &[Exchange], what: &str) -> Result<FilesLeft, Problem> {
    let mut sides: BTreeMap<&'static str, Vec<&str>> = BTreeMap::new();
    for exchange in exchanges {
        let side = match swap::seen(env.host, std::slice::from_ref(exchange))? {
            Observed::Before => AS_BEFORE,
            Observed::After => AS_THE_BACKUP,
            Observed::Between(_) | Observed::Unknown(_) => "as others left it",
        };
        sides.entry(side).or_default().push(&exchange.path);
    }
    let most = sides.values().map(Vec::len).max().unwrap_or_default();
    let is_mixed = sides.len() > 1;
    let whose: Vec<&'static str> = sides.keys().copied().collect();
    let said = sides.into_iter().map(|(side, paths)| {
        let is = if paths.len() == 1 { "is" } else { "are" };
        let mut text = format!("{} {is} {side}", counted(paths.len(), what));
        if is_mixed && (paths.len() < most || paths.len() <= NAMED) {
            let named = paths.iter().take(NAMED).copied().collect::<Vec<_>>();
            text.push_str(&format!(": {}", named.join(", ")));
            if paths.len() > NAMED {
                text.push_str(&format!(" and {} more", paths.len() - NAMED));
            }
        }
        known(text)
    });
    Ok((said.collect(), whose))
}

fn tunnels(env: &Env, is_mixed: bool) -> Result<Vec<Note>, Problem> {
    let up = env.tunnels_up()?;
    let both = env.plan.tunnels_down.iter().chain(&env.plan.tunnels_up);
    let both: BTreeSet<&str> = both.map(|t| t.name.as_str()).collect();
    let down_now: Vec<&str> = both.into_iter().filter(|n| !up.contains(*n)).collect();
    Ok(match down_now.as_slice() {
        [] => Vec::new(),
        some => {
            let first: Vec<&str> = some.iter().take(NAMED).copied().collect();
            let more = match some.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let text = format!(
                "{} down: {}{more}",
                match some.len() {
                    1 => "1 tunnel is".into(),
                    n => format!("{n} tunnels are"),
                },
                first.join(", ")
            );
            let advice = match is_mixed {
                true => "the restore of the safety backup brings up those that were up before",
                false => "bring up the ones that should be: `wg-quick up NAME`",
            };
            vec![down(text).advising(advice)]
        }
    })
}
