//! Making a backup to be downloaded: one at a time, on a thread of its own, for everybody who asks meanwhile. It is made
//! to its end whoever still waits, and stays as long as the profile's rules keep it, whether anybody got it or not.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use agent_protocol::{Refusal, Running, WireError};
use journal_format::Problem;

use super::refusal::{self, Unanswered};
use super::{Agent, locked, now_ms, spawn};
use crate::backup::{Made, Progress};
use crate::error::{Fault, bug};
use crate::gateway::backup_kind::BackupKind;
use crate::gateway::parts;
use crate::state_dir::lock::{Lock, LockedFor};

#[derive(Default)]
pub struct BackupDesk {
    running: Mutex<Option<Arc<Job>>>,
}

struct Job {
    began_ms: i64,
    progress: Mutex<(String, u64, u64)>,
    made: Mutex<Option<Result<Made, Refusal>>>,
    ended: Condvar,
}

impl BackupDesk {
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
        mut alive: impl FnMut() -> Result<(), WireError>,
    ) -> Result<Made, Unanswered> {
        let job = self.begin(agent)?;
        loop {
            let made = locked(&job.made);
            let waited = job.ended.wait_timeout_while(made, every, |m| m.is_none());
            let (made, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            match made.clone() {
                Some(made) => return Ok(made?),
                // Given up before anything is sent.
                None => drop(made),
            }
            alive()?;
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
            made: Mutex::default(),
            ended: Condvar::new(),
        });
        let (agent, mine) = (agent.clone(), job.clone());
        spawn("backup", move || {
            let mut end = End {
                agent: &agent,
                job: &mine,
                made: None,
            };
            end.made = Some(work(&agent, &mine));
        })?;
        *running = Some(job.clone());
        Ok(job)
    }
}

/// Lets those who wait go on, also after a panic, and lets the next backup begin.
struct End<'a> {
    agent: &'a Agent,
    job: &'a Job,
    made: Option<Result<Made, Refusal>>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        // From here on nobody joins it.
        *locked(&self.agent.backups.running) = None;
        let made = self.made.take().unwrap_or_else(|| {
            Err(Refusal::from(bug(
                "make the backup: its thread ended early",
            )))
        });
        *locked(&self.job.made) = Some(made);
        self.job.ended.notify_all();
    }
}

fn work(agent: &Agent, job: &Job) -> Result<Made, Refusal> {
    let profile = &agent.profile;
    let make = || -> Result<Made, Fault> {
        let _lock = Lock::take(profile, LockedFor::Backup)?;
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
        let dir = profile.backups_dir();
        crate::backup::of_gateway(profile, &agent.host, BackupKind::Page, &dir, &mut tell)
    };
    let made = make().map_err(|fault| {
        tracing::warn!("no backup was made: {fault}");
        refusal::of(agent, fault)
    })?;
    let (path, size) = (made.path.display(), made.size);
    tracing::info!("made the backup {path}, {size} bytes");
    let lacks = made.not_good();
    if !lacks.is_empty() {
        let incomplete = parts::incomplete(&lacks);
        tracing::warn!("{}", journal_format::visible(&incomplete));
    }
    for warning in &made.warnings {
        tracing::warn!("{}", journal_format::visible(&warning.to_string()));
    }
    Ok(made)
}
