//! Looking at an uploaded archive, and starting the restore that an admin approved: by a worker, which neither
//! the agent's end nor the web's touches. A request that is repeated finds the same restore.

mod preview;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use agent_protocol::{Refusal, RequestId, RootCommands, UploadId, WireError};
use journal_format::{AskedBy, Digest, Problem, RestoreId};

use super::recoveries::{log_end, recover};
use super::refusal::{Unanswered, bounded_problems, busy};
use super::uploads::UsedBy;
use super::{Agent, now_ms, spawn};
use crate::error::{Code, Fault, cannot};
use crate::gateway::parts::{self, Part};
use crate::plan::planner::Choices;
use crate::restore::cut_off::{self, CutOff};
use crate::restore::launch::{self, ProcessEnd, Worker};
use crate::restore::order::{RestoreOrder, WorkOrder, WorkReport, WorkerState};
use crate::state_dir::follow::Follower;
use crate::state_dir::lock::{Lock, LockedFor};
use crate::state_dir::{self, targets, traces};
use preview::may_be_tried_again;
pub use preview::{again, look};

/// How often a restore that was started is looked for.
const LOOK: Duration = Duration::from_millis(50);

pub struct Starts {
    /// The profile's file.
    pub config: PathBuf,
    /// One start at a time: a second click must find what the first began.
    one: Mutex<()>,
}

/// What an admin approved.
pub struct Approved {
    /// The upload.
    pub upload: UploadId,
    /// The plan.
    pub plan: Digest,
    /// The wish.
    pub request: RequestId,
    /// A firewall that cannot be loaded is accepted.
    pub keep_going_without_firewall: bool,
    /// A service that does not run afterwards is accepted.
    pub keep_going_without_services: bool,
    /// What others may write or read stays as open as it is.
    pub keep_open_folders: bool,
    /// The safety backup may lack these.
    pub without_safety_backup_of: BTreeSet<Part>,
    /// These tunnels may be down afterwards.
    pub leave_down: BTreeSet<String>,
}

/// The parts that were ticked.
pub fn parts(names: &[String]) -> Result<BTreeSet<Part>, Refusal> {
    let parts = names.iter().map(|name| parts::done_without(name));
    parts.collect::<Result<_, _>>().map_err(|e| {
        let what = format!("accept a safety backup without that: {e}");
        Refusal::Unacceptable {
            problems: vec![cannot(
                Code::BAD_REQUEST,
                what,
                "go back to the overview and start again",
            )],
        }
    })
}

/// Whether the gateway's databases may be looked at: no restore is open and none runs.
pub fn check_quiet(agent: &Agent) -> Result<(), Refusal> {
    if let Some(open) = state_dir::open_restore(&agent.profile)? {
        return Err(Refusal::Busy {
            problem: cannot(
                Code::RESTORE_OPEN,
                format!("look at an archive now: restore {} is open", open.id),
                "wait for its end. If no process works on it, run `holdfast recover` on the gateway",
            ),
            restore: Some(open.id),
        });
    }
    match Lock::holder(&agent.profile) {
        Some((pid, work)) if work != LockedFor::Backup => Err(Refusal::busy(cannot(
            Code::BUSY,
            format!("look at an archive now: {work} runs, process {pid}"),
            "wait for its end",
        ))),
        Some(_) => Ok(()),
        None => match targets::worked_on(&agent.profile) {
            Some(elsewhere) if elsewhere.work != LockedFor::Backup => Err(Refusal::busy(cannot(
                Code::BUSY,
                format!("look at an archive now: {elsewhere}"),
                "wait for its end",
            ))),
            Some(_) => Ok(()),
            None => traces::none(&agent.profile, &agent.host).map_err(Refusal::busy),
        },
    }
}

/// The last digits of the name of the restore that a request starts.
fn suffix(request: &RequestId) -> u32 {
    let hash = blake3::derive_key(
        "holdfast 2026-11-22 restore of a request",
        request.as_str().as_bytes(),
    );
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// The restore that a request started before.
fn started_before(agent: &Agent, request: &RequestId) -> Result<Option<RestoreId>, Problem> {
    let end = format!("-{:08x}", suffix(request));
    let mut newest_first = state_dir::restores(&agent.profile)?.into_iter().rev();
    Ok(newest_first.find(|id| id.as_str().ends_with(&end) && has_begun(agent, id)))
}

fn has_begun(agent: &Agent, id: &RestoreId) -> bool {
    std::fs::metadata(state_dir::journal(&agent.profile, id)).is_ok_and(|m| m.len() > 0)
}

impl Starts {
    /// For this profile.
    pub fn new(config: PathBuf) -> Starts {
        Starts {
            config,
            one: Mutex::new(()),
        }
    }

    /// The turn to start a worker. `alive` is called until it comes.
    pub fn only(
        &self,
        alive: &mut impl FnMut() -> Result<(), WireError>,
    ) -> Result<MutexGuard<'_, ()>, WireError> {
        loop {
            match self.one.try_lock() {
                Ok(one) => return Ok(one),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => {
                    alive()?;
                    std::thread::sleep(LOOK);
                }
            }
        }
    }

    /// Starts the restore, or finds the one that the same request started. `alive` is called while that takes.
    pub fn start(
        &self,
        agent: &Arc<Agent>,
        approved: &Approved,
        asked_by: AskedBy,
        mut alive: impl FnMut() -> Result<(), WireError>,
    ) -> Result<RestoreId, Unanswered> {
        let _one = self.only(&mut alive)?;
        let (id, worker) = match self.begin(agent, approved, asked_by)? {
            Begun::Before(id) => return Ok(id),
            Begun::Runs(id, worker) => (id, worker),
        };
        loop {
            // Looked at before the journal: what an ended worker wrote is then all there.
            let at_it = match &worker {
                Some(worker) => worker.ended().is_none(),
                // An agent that has ended started it.
                None => runs(launch::said(&name(&id)).as_ref()),
            };
            if has_begun(agent, &id) {
                return Ok(id);
            }
            if !at_it {
                // Nothing began: the upload may be confirmed again.
                agent.uploads.free(&approved.upload, &id)?;
                let report = match &worker {
                    Some(worker) => worker.report(),
                    None => launch::report(&name(&id)),
                };
                let ended = worker.and_then(|worker| worker.ended());
                return Err(not_begun(agent, report, ended).into());
            }
            // The restore goes on by itself if the web is gone; its next question finds it.
            alive()?;
            std::thread::sleep(LOOK);
        }
    }

    fn begin(
        &self,
        agent: &Arc<Agent>,
        approved: &Approved,
        asked_by: AskedBy,
    ) -> Result<Begun, Refusal> {
        if let Some(id) = started_before(agent, &approved.request)? {
            return Ok(Begun::Before(id));
        }
        let kept = agent.uploads.find(&approved.upload)?;
        if let RootCommands::TooMany { count } = kept.preview.commands {
            return Err(Refusal::Unacceptable {
                problems: vec![cannot(
                    Code::COMMAND_LINE_ONLY,
                    format!(
                        "start this restore from a page: {count} commands would run as root, too many to be read here"
                    ),
                    "on the gateway, run `holdfast restore ARCHIVE`: it shows them all, and asks",
                )],
            });
        }
        match &kept.used {
            Some(used)
                if has_begun(agent, &used.restore) && !may_be_tried_again(agent, &used.restore) =>
            {
                return Err(Refusal::Used {
                    restore: used.restore.clone(),
                });
            }
            Some(UsedBy { request, restore }) if runs(launch::said(&name(restore)).as_ref()) => {
                return if *request == approved.request {
                    Ok(Begun::Runs(restore.clone(), None))
                } else {
                    Err(Refusal::busy(cannot(
                        Code::BUSY,
                        "start a restore from this upload: another confirmation is starting one",
                        "wait for a moment, then look at the first page",
                    )))
                };
            }
            // It was noted, and then its worker or the agent ended before anything began.
            Some(_) | None => {}
        }
        check_quiet(agent)?;
        let id = state_dir::id_at(now_ms(), suffix(&approved.request))?;
        let used = UsedBy {
            request: approved.request.clone(),
            restore: id.clone(),
        };
        agent.uploads.use_for(&approved.upload, used)?;
        let order = WorkOrder::Restore(RestoreOrder {
            id: id.clone(),
            archive: agent.uploads.archive(&approved.upload),
            shown: kept.preview.name.clone(),
            choices: Choices {
                keep_going_without_firewall: approved.keep_going_without_firewall,
                policy: agent.profile.recovery.policy,
                keep_open_folders: approved.keep_open_folders,
                without_safety_backup_of: approved.without_safety_backup_of.clone(),
                keep_going_without_services: approved.keep_going_without_services,
                leave_down: approved.leave_down.clone(),
                full_stop: true,
            },
            approved: Some(approved.plan.clone()),
            asked_by: Some(asked_by),
        });
        let worker = Arc::new(launch::launch(&self.config, &name(&id), &order)?);
        // Said once it is known for whichever agent comes next.
        tracing::info!("restore {id} is started, process {}", worker.pid());
        let (agent, upload, restore) = (agent.clone(), approved.upload.clone(), id.clone());
        let waited_for = worker.clone();
        spawn("restore", move || {
            wait(&agent, &waited_for, &upload, &restore);
        })?;
        Ok(Begun::Runs(id, Some(worker)))
    }
}

enum Begun {
    Before(RestoreId),
    Runs(RestoreId, Option<Arc<Worker>>),
}

/// The name of a restore's worker.
fn name(id: &RestoreId) -> String {
    format!("restore-{id}")
}

/// Whether a worker is at it. One of an agent that has ended is found by what it said.
fn runs(said: Option<&WorkerState>) -> bool {
    matches!(said, Some(WorkerState::Runs(process)) if process.runs())
}

/// Why a restore did not begin.
fn not_begun(agent: &Agent, report: Option<WorkReport>, ended: Option<ProcessEnd>) -> Refusal {
    let report = report.unwrap_or_else(|| {
        // Nobody could ask how the process of an agent that has ended went: without a word, as if it were killed.
        let ended = CutOff::Process(ended.unwrap_or(ProcessEnd::Unknown));
        cut_off::report(&agent.profile, None, ended, None)
    });
    match report.outcome {
        Err(Fault::Refused(problems)) => Refusal::Unacceptable {
            problems: bounded_problems(problems),
        },
        Err(Fault::Busy(problem)) => busy(agent, first(vec![problem])),
        Err(fault) => first(fault.problems().to_vec()).into(),
        Ok(_) => first(Vec::new()).into(),
    }
}

/// Waits for a restore's worker, so that it does not stay as a zombie.
fn wait(agent: &Agent, worker: &Worker, upload: &UploadId, id: &RestoreId) {
    log_end(&format!("restore {id}"), worker);
    if has_begun(agent, id) && !may_be_tried_again(agent, id) {
        agent.uploads.spent(upload);
    }
    // Killed, or ended by a fault of its own. A recovery that ends so as well is left for the next start, so that this has an end.
    if is_cut_off(agent, id)
        && let Err(problem) = recover(&agent.profile, agent.starts.config.clone())
    {
        tracing::error!("{problem}");
    }
}

/// Whether a restore that nothing works on is open, and its journal does not say that only an operator can go on.
fn is_cut_off(agent: &Agent, id: &RestoreId) -> bool {
    if matches!(state_dir::open_restore(&agent.profile), Ok(None)) {
        return false;
    }
    let mut follower = Follower::new(&agent.profile, id);
    let _ = follower.look(|_, _| ());
    follower.state().is_none_or(|state| state.stuck.is_none())
}

fn first(problems: Vec<Problem>) -> Problem {
    bounded_problems(problems)
        .into_iter()
        .next()
        .unwrap_or_else(|| {
            cannot(
                Code::INTERRUPTED,
                "start the restore: its process ended at once",
                "see the agent's log, then try again",
            )
        })
}

#[cfg(test)]
mod tests;
