//! The recoveries that the agent starts: of what it finds open at its start, of its own restores that were killed, of restores that
//! the command line began and that nothing works on any more, and those that an admin asks for. Each by a worker; none here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_protocol::WireError;
use journal_format::{AskedBy, Policy, Problem, RestoreId, Role, Seq};

use super::gateway_lines::policy;
use super::refusal::{self, Unanswered};
use super::{Agent, spawn};
use crate::error::{Code, Fault, cannot};
use crate::gateway::profile::Profile;
use crate::host::linux::Linux;
use crate::host::programs;
use crate::restore::driver::BootStage;
use crate::restore::gateway_state::Condition;
use crate::restore::gateway_state::look::look;
use crate::restore::launch::{self, ProcessEnd, Worker};
use crate::restore::order::WorkOrder;
use crate::restore::recover::RecoveryOrder;
use crate::state_dir::follow::Follower;
use crate::state_dir::lock::{Lock, LockedFor};
use crate::state_dir::{self, traces};

/// How often it is looked whether the driver of an open restore still lives.
const WATCH: Duration = Duration::from_millis(200);
/// How often a restore is looked for that nothing works on, at most.
const ORPHANS: Duration = Duration::from_secs(10);
/// How often it is looked whether a recovery has begun.
const LOOK: Duration = Duration::from_millis(50);

/// Settles an open restore in a process of its own, once nothing works on it any more: a driver that was killed lives on
/// for a moment, and one that this agent did not start may be killed later.
pub fn recover(profile: &Profile, config: PathBuf) -> Result<(), Problem> {
    let open = match state_dir::open_restore(profile) {
        Ok(open) => open,
        // The page must still come up, to say so.
        Err(problem) => {
            tracing::error!("{problem}");
            return Ok(());
        }
    };
    // One that has not begun its journal yet may be killed behind it.
    if let Some((pid, what)) = driver(profile).filter(|(_, what)| *what != LockedFor::Backup) {
        tracing::info!("{what} runs, process {pid}: it is left alone until that ends");
        let profile = profile.clone();
        return spawn("watch", move || {
            while driver(&profile).is_some_and(|(it, _)| it == pid) {
                std::thread::sleep(WATCH);
            }
            if let Err(problem) = recover(&profile, config) {
                tracing::error!("{problem}");
            }
        });
    }
    let Some(open) = open else {
        if let Err(problem) = traces::none(profile, &Linux::new(profile)) {
            tracing::error!("{problem}");
        }
        return Ok(());
    };
    by_itself(&config, &open.id)
}

/// Starts a recovery that nobody asked for: its journal counts it, and ends that by asking for the operator.
fn by_itself(config: &Path, id: &RestoreId) -> Result<(), Problem> {
    tracing::info!("restore {id} is open and nothing works on it: recovering");
    let worker = launched(config, id, Role::Recover, None, AskedBy::Agent)?;
    log(id, Arc::new(worker))
}

fn launched(
    config: &Path,
    id: &RestoreId,
    by: Role,
    policy: Option<Policy>,
    asked_by: AskedBy,
) -> Result<Worker, Problem> {
    let order = WorkOrder::Recover(RecoveryOrder {
        by,
        policy,
        stage: BootStage::Whole,
        asked_by: Some(asked_by),
    });
    launch::launch(config, &format!("recovery-{id}"), &order)
}

/// Waits for its end beside this, so that it does not stay as a zombie.
fn log(id: &RestoreId, worker: Arc<Worker>) -> Result<(), Problem> {
    let what = format!("the recovery of restore {id}");
    spawn("recovery", move || log_end(&what, &worker))
}

/// Waits for the end of a worker, and writes into the log how it ended and what no journal tells of it.
pub fn log_end(what: &str, worker: &Worker) {
    let ended = worker.wait();
    tracing::info!("the process of {what} ended: {ended}");
    let Some(report) = worker.report() else {
        if ended == ProcessEnd::Unknown {
            tracing::error!("{what} was cut off: its process was killed");
        }
        return;
    };
    for line in &report.aside {
        tracing::warn!("{what}: {line}");
    }
    for problem in report.outcome.err().iter().flat_map(Fault::problems) {
        tracing::warn!("{what}: {problem}");
    }
}

/// Who holds the lock and lives. It may outlive its holder in a child that ends with it: a recovery waits for that.
fn driver(profile: &Profile) -> Option<(u32, LockedFor)> {
    let lives = |pid: u32| programs::process(pid).is_some_and(|p| !p.gone);
    Lock::holder(profile).filter(|(pid, _)| lives(*pid))
}

/// What nothing works on, and since when.
struct Left {
    id: RestoreId,
    seq: Option<Seq>,
    since: Instant,
}

/// Recovers restores that nothing works on, once an admin has had the time to choose for themselves: a tunnel that is down may be
/// the only way to the gateway. Each once: a recovery that is cut off as well waits for an admin, or for the next start.
pub fn of_orphans(agent: &Agent) {
    let waits = Duration::from_secs(agent.profile.recovery.agent_after_seconds);
    let mut left: Option<Left> = None;
    let mut tried = BTreeSet::new();
    loop {
        std::thread::sleep(waits.clamp(WATCH, ORPHANS));
        left = orphan(agent, left);
        let due = left.as_ref().filter(|left| left.since.elapsed() >= waits);
        if let Some(Left { id, .. }) = due
            && tried.insert(id.clone())
            && let Err(problem) = by_itself(&agent.starts.config, id)
        {
            tracing::error!("{problem}");
        }
    }
}

/// The restore that is open without anything that works on it, by now: the same as before, if it has come no further.
fn orphan(agent: &Agent, before: Option<Left>) -> Option<Left> {
    let open = state_dir::open_restore(&agent.profile).ok().flatten()?;
    if driver(&agent.profile).is_some() {
        return None;
    }
    let mut follower = Follower::new(&agent.profile, &open.id);
    let _ = follower.look(|_, _| ());
    // What waits for the operator, and what cannot be read, is no orphan.
    let state = follower.state()?;
    if state.stuck.is_some() || state.stops_at.is_some() || follower.damage().is_some() {
        return None;
    }
    let now = Left {
        seq: Some(state.seq),
        since: Instant::now(),
        id: open.id,
    };
    let same = before.filter(|b| b.id == now.id && b.seq == now.seq);
    Some(same.unwrap_or(now))
}

/// Starts the recovery that an admin asked for, or finds the one that runs. `alive` is called while it starts.
pub fn by_hand(
    agent: &Arc<Agent>,
    id: &RestoreId,
    chosen: Option<Policy>,
    asked_by: AskedBy,
    mut alive: impl FnMut() -> Result<(), WireError>,
) -> Result<RestoreId, Unanswered> {
    let _one = agent.starts.only(&mut alive)?;
    let state = look(&agent.profile, &agent.host);
    let is_it = state.restore.as_ref() == Some(id);
    match state.condition {
        // A second click, or another admin was first: its page shows what becomes of it.
        Condition::Running if is_it => return Ok(id.clone()),
        Condition::Interrupted | Condition::Stuck | Condition::Lacking
            if is_it && state.recoveries.contains(&chosen.unwrap_or_default()) => {}
        Condition::Idle
        | Condition::Busy
        | Condition::Running
        | Condition::Interrupted
        | Condition::Stuck
        | Condition::Lacking
        | Condition::Left
        | Condition::Lost
        | Condition::Unreadable => {
            let problem = state.problem.unwrap_or_else(|| nothing_to_recover(id));
            return Err(refusal::busy(agent, problem).into());
        }
    }
    let length = || length(agent, id);
    let before = length();
    let worker = launched(
        &agent.starts.config,
        id,
        Role::RecoverByHand,
        policy(chosen),
        asked_by,
    )?;
    let worker = Arc::new(worker);
    tracing::info!("restore {id} is being recovered, process {}", worker.pid());
    log(id, worker.clone())?;
    loop {
        // Looked at before the journal: what an ended worker wrote is then all there.
        let ended = worker.ended().is_some();
        if length() != before {
            return Ok(id.clone());
        }
        if ended {
            return match worker.report().map(|report| report.outcome) {
                Some(Ok(_)) => Ok(id.clone()),
                Some(Err(fault)) => Err(refusal::of(agent, fault).into()),
                None => Err(refusal::of(agent, Fault::Failed(cut_off(id))).into()),
            };
        }
        alive()?;
        std::thread::sleep(LOOK);
    }
}

fn length(agent: &Agent, id: &RestoreId) -> Option<u64> {
    let journal = state_dir::journal(&agent.profile, id);
    std::fs::metadata(journal).ok().map(|m| m.len())
}

fn nothing_to_recover(id: &RestoreId) -> Problem {
    cannot(
        Code::BUSY,
        format!(
            "recover restore {id} in that way: something else works on the gateway, or nothing is left to recover"
        ),
        "look at the first page for what runs now",
    )
}

fn cut_off(id: &RestoreId) -> Problem {
    cannot(
        Code::INTERRUPTED,
        format!("recover restore {id}: the process of the recovery ended at once"),
        "see the agent's log, then try again",
    )
}
