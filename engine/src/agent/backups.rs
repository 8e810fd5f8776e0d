//! Making a backup: one at a time, on a thread of its own, for everybody who asks meanwhile. Whether somebody still
//! waits for it makes no difference to it.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use agent_protocol::{Refusal, Running};
use journal_format::Problem;

use super::{Agent, locked, now_ms, spawn};
use crate::backup::{Made, Progress};
use crate::fault::{Fault, cannot};
use crate::process::Lock;

#[derive(Default)]
pub struct Backups {
    running: Mutex<Option<Arc<Job>>>,
}

struct Job {
    began_ms: i64,
    progress: Mutex<(String, u64, u64)>,
    outcome: Mutex<Option<Result<Made, Refusal>>>,
    ended: Condvar,
}

impl Backups {
    /// What runs here.
    pub fn running(&self) -> Option<Running> {
        let job = locked(&self.running).clone()?;
        let (step, done, total) = locked(&job.progress).clone();
        Some(Running::Backup {
            began_ms: job.began_ms,
            step,
            done,
            total,
        })
    }

    /// Makes a backup, or joins the one that is being made. `alive` is called every few seconds until it is there.
    pub fn make(
        &self,
        agent: &Arc<Agent>,
        every: Duration,
        mut alive: impl FnMut() -> Result<(), agent_protocol::WireError>,
    ) -> Result<Result<Made, Refusal>, agent_protocol::WireError> {
        let job = match self.begin(agent) {
            Ok(job) => job,
            Err(problem) => return Ok(Err(Refusal::Failed { problem })),
        };
        let mut outcome = locked(&job.outcome);
        loop {
            if let Some(outcome) = &*outcome {
                return Ok(outcome.clone());
            }
            let waited = job.ended.wait_timeout(outcome, every);
            let (guard, timeout) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            outcome = guard;
            if timeout.timed_out() && outcome.is_none() {
                alive()?;
            }
        }
    }

    fn begin(&self, agent: &Arc<Agent>) -> Result<Arc<Job>, Problem> {
        let mut running = locked(&self.running);
        if let Some(job) = &*running {
            return Ok(job.clone());
        }
        let job = Arc::new(Job {
            began_ms: now_ms(),
            progress: Mutex::new(("looking at the gateway".into(), 0, 0)),
            outcome: Mutex::new(None),
            ended: Condvar::new(),
        });
        let (agent, mine) = (agent.clone(), job.clone());
        spawn("backup", move || {
            let end = End {
                agent: &agent,
                job: &mine,
            };
            let made = work(&agent, &mine);
            *locked(&mine.outcome) = Some(made);
            drop(end);
        })?;
        *running = Some(job.clone());
        Ok(job)
    }
}

/// Lets those who wait go on, also after a panic, and lets the next backup begin.
struct End<'a> {
    agent: &'a Agent,
    job: &'a Job,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        *locked(&self.agent.backups.running) = None;
        let mut outcome = locked(&self.job.outcome);
        if outcome.is_none() {
            let problem = cannot(
                "make the backup: its thread ended early",
                "this is a fault in holdfast; report it",
            );
            *outcome = Some(Err(Refusal::Failed { problem }));
        }
        self.job.ended.notify_all();
    }
}

fn work(agent: &Agent, job: &Job) -> Result<Made, Refusal> {
    let profile = &agent.profile;
    let make = || -> Result<Made, Fault> {
        let _lock = Lock::take(profile, "a backup")?;
        let mut tell = |progress: Progress<'_>| {
            *locked(&job.progress) = match progress {
                Progress::Estimated { bytes, .. } => ("estimated".into(), 0, bytes),
                Progress::Saving { entry, done, of } => (
                    format!("saving {}", journal_format::visible(entry)),
                    done,
                    of,
                ),
                Progress::Verifying { done, of } => ("reading it back".into(), done, of),
            };
        };
        crate::backup::of_gateway(profile, &agent.host, &profile.backups_dir(), &mut tell)
    };
    match make() {
        Ok(made) => {
            tracing::info!(
                "made the backup {}, {} bytes",
                made.path.display(),
                made.size
            );
            for warning in &made.warnings {
                tracing::warn!("{}", journal_format::visible(warning));
            }
            Ok(made)
        }
        Err(fault) => {
            tracing::warn!("no backup was made: {fault}");
            Err(super::answer::refusal(agent, fault))
        }
    }
}
