//! Looking at an uploaded archive, and starting the restore that an admin approved: the same program in a process of its
//! own, which neither the agent's end nor the web's touches. A request that is repeated finds the same restore.

mod preview;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use agent_protocol::{Refusal, RequestId, RootCommands, UploadId, WireError};
use journal_format::{Digest, Problem, RestoreId, WITHOUT_SAFETY_BACKUP_OF};

use super::refusal::{Unanswered, bounded_problems, busy};
use super::uploads::{RestoreProcess, StoredUpload, UsedBy};
use super::{Agent, locked, now_ms, recover, spawn};
use crate::error::{Code, OrCannot, cannot, cause};
use crate::gateway::parts::{self, Part};
use crate::host::programs;
use crate::state_dir;
use crate::state_dir::lock::{Lock, LockedFor};
use preview::may_be_tried_again;
pub use preview::{again, look};

/// How often a restore that was started is looked for.
const LOOK: Duration = Duration::from_millis(50);

pub struct Starts {
    config: PathBuf,
    /// Each restore gets a scope of systemd's.
    scopes: bool,
    /// One start at a time: a second click must find what the first began.
    one: Mutex<()>,
    /// The processes that this agent started, and how those ended that began nothing.
    children: Mutex<BTreeMap<RestoreId, Option<Refusal>>>,
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
    /// What others may write or read stays as open as it is.
    pub keep_open_folders: bool,
    /// The safety backup may lack these.
    pub without_safety_backup_of: BTreeSet<Part>,
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
                "go back to the first page and begin anew",
            )],
        }
    })
}

/// This same program, with this profile; in a scope of systemd's of its own if it is named.
///
/// A scope takes the very process that is started here, so its number stays. What ends a scope (a shutdown) does so by a
/// kill: a restore that is cut off is settled at the next boot, while one that were asked to turn back could not start
/// services any more.
#[expect(
    clippy::disallowed_methods,
    reason = "Holdfast starts itself: the restore is a process of its own"
)]
pub fn program(config: &Path, scope: Option<String>) -> Result<Command, Problem> {
    let program = std::env::current_exe().or_cannot(
        Code::MISSING_PROGRAM,
        "find this program",
        "see that the holdfast program is where it was",
    )?;
    let mut command = match scope {
        None => Command::new(program),
        Some(name) => {
            let mut command = Command::new("systemd-run");
            command
                .args(["--scope", "--quiet", "--collect"])
                .arg(format!("--unit=holdfast-{name}"))
                .args(["--property=KillSignal=SIGKILL", "--"])
                .arg(program);
            command
        }
    };
    command.arg("--config").arg(config);
    Ok(command)
}

/// Whether the gateway's databases may be looked at: no restore is open and none runs.
pub fn check_quiet(agent: &Agent) -> Result<(), Refusal> {
    if let Some(open) = state_dir::open_restore(&agent.profile)? {
        return Err(Refusal::Busy {
            problem: cannot(
                Code::RESTORE_OPEN,
                format!("look at an archive now: restore {} is open", open.id),
                "wait for its end; if nothing works on it: holdfast recover",
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
        _ => Ok(()),
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
    pub fn new(config: PathBuf, scopes: bool) -> Starts {
        Starts {
            config,
            scopes,
            one: Mutex::new(()),
            children: Mutex::default(),
        }
    }

    /// Starts the restore, or finds the one that the same request started. `alive` is called while that takes.
    pub fn start(
        &self,
        agent: &Arc<Agent>,
        approved: &Approved,
        mut alive: impl FnMut() -> Result<(), WireError>,
    ) -> Result<RestoreId, Unanswered> {
        let _one = loop {
            match self.one.try_lock() {
                Ok(one) => break one,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    alive()?;
                    std::thread::sleep(LOOK);
                }
            }
        };
        let (id, process) = match self.begin(agent, approved)? {
            Begun::Before(id) => return Ok(id),
            Begun::Runs(id, process) => (id, process),
        };
        loop {
            // Looked at before the journal: what an ended process wrote is then all there.
            let ended = self.ended(agent, &id, &process, &approved.upload);
            if has_begun(agent, &id) {
                return Ok(id);
            }
            if let Some(refusal) = ended {
                // Nothing began: the upload may be confirmed again.
                agent.uploads.free(&approved.upload, &id)?;
                return Err(refusal.into());
            }
            // The restore goes on by itself if the web is gone; its next question finds it.
            alive()?;
            std::thread::sleep(LOOK);
        }
    }

    /// How a restore's process ended; none while it lives.
    fn ended(
        &self,
        agent: &Agent,
        id: &RestoreId,
        process: &RestoreProcess,
        upload: &UploadId,
    ) -> Option<Refusal> {
        match locked(&self.children).get(id) {
            Some(ended) => ended.clone(),
            // An agent that has ended started it.
            None if lives(agent, process) => None,
            None => Some(first(said(agent, upload), ENDED).into()),
        }
    }

    fn begin(&self, agent: &Arc<Agent>, approved: &Approved) -> Result<Begun, Refusal> {
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
            Some(UsedBy {
                request,
                restore,
                process: Some(process),
            }) if lives(agent, process) => {
                return if *request == approved.request {
                    Ok(Begun::Runs(restore.clone(), process.clone()))
                } else {
                    Err(Refusal::busy(cannot(
                        Code::BUSY,
                        "start a restore from this upload: another confirmation is starting one",
                        "wait for a moment, then look at the first page",
                    )))
                };
            }
            // It was noted, and then its process or the agent ended before anything began.
            Some(_) | None => {}
        }
        check_quiet(agent)?;
        let id = state_dir::id_at(now_ms(), suffix(&approved.request))?;
        let mut used = UsedBy {
            request: approved.request.clone(),
            restore: id.clone(),
            process: None,
        };
        agent.uploads.use_for(&approved.upload, used.clone())?;
        let child = self.spawn(agent, approved, &kept, &id)?;
        let process = process_of(agent, &child);
        {
            let mut children = locked(&self.children);
            children.retain(|_, ended| ended.is_none());
            children.insert(id.clone(), None);
        }
        used.process = Some(process.clone());
        if let Err(refusal) = agent.uploads.use_for(&approved.upload, used) {
            // It runs, and this agent knows it; only an agent that starts again would not.
            tracing::warn!("the process of restore {id} is not written down: {refusal:?}");
        }
        // Said once it is known for whichever agent comes next.
        tracing::info!("restore {id} is started, process {}", child.id());
        let (agent, upload, named) = (agent.clone(), approved.upload.clone(), id.clone());
        spawn("restore", move || wait(&agent, child, &upload, &named)).inspect_err(|_| {
            // Nobody will say how it ended: then only whether it lives counts.
            locked(&self.children).remove(&id);
        })?;
        Ok(Begun::Runs(id, process))
    }

    fn spawn(
        &self,
        agent: &Agent,
        approved: &Approved,
        kept: &StoredUpload,
        id: &RestoreId,
    ) -> Result<Child, Problem> {
        use std::os::unix::fs::OpenOptionsExt;
        let failed = |e: std::io::Error| {
            let what = format!("start restore {id}: {e}");
            cannot(cause(&e), what, "try again; nothing was changed")
        };
        let log = agent.uploads.log(&approved.upload);
        let log = std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(log)
            .map_err(failed)?;
        let scope = self.scopes.then(|| format!("restore-{id}"));
        let mut command = program(&self.config, scope)?;
        command
            .arg("--json")
            .arg("restore")
            .arg(agent.uploads.archive(&approved.upload))
            .args(["--yes", "--unattended"]);
        command.args([
            "--approved-plan",
            &approved.plan.to_string(),
            "--restore-id",
            id.as_str(),
        ]);
        // As one word: a name that begins with a dash is still a name.
        command.arg(format!("--shown-name={}", kept.preview.name));
        if approved.keep_going_without_firewall {
            command.arg("--keep-going-without-firewall");
        }
        if approved.keep_open_folders {
            command.arg("--keep-open-folders");
        }
        for part in &approved.without_safety_backup_of {
            command.arg(format!("{WITHOUT_SAFETY_BACKUP_OF}={part}"));
        }
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::from(log))
            .stderr(Stdio::null());
        command.spawn().map_err(failed)
    }
}

enum Begun {
    Before(RestoreId),
    Runs(RestoreId, RestoreProcess),
}

const ENDED: &str = "start the restore: its process ended at once";

/// A child as it can be found again. One that has ended already is found by nobody, and that is as true.
fn process_of(agent: &Agent, child: &Child) -> RestoreProcess {
    RestoreProcess {
        pid: child.id(),
        started_ticks: programs::process(child.id()).map_or(0, |p| p.started_ticks),
        boot: agent.boot.clone(),
    }
}

fn lives(agent: &Agent, process: &RestoreProcess) -> bool {
    process.boot == agent.boot
        && programs::process(process.pid)
            .is_some_and(|p| p.started_ticks == process.started_ticks && !p.gone)
}

/// Waits for a restore's process, so that it does not stay as a zombie, and tells how it ended.
fn wait(agent: &Agent, mut child: Child, upload: &UploadId, id: &RestoreId) {
    let status = match child.wait() {
        Ok(status) => {
            tracing::info!("the process of restore {id} ended: {status}");
            status.code()
        }
        Err(e) => {
            tracing::error!("cannot wait for the process of restore {id}: {e}");
            None
        }
    };
    let said = said(agent, upload);
    let refusal = match status {
        Some(3) => Refusal::Unacceptable {
            problems: bounded_problems(said),
        },
        Some(6) => busy(agent, first(said, "start the restore: something else runs")),
        _ => first(said, ENDED).into(),
    };
    if has_begun(agent, id) && !may_be_tried_again(agent, id) {
        agent.uploads.spent(upload);
    }
    locked(&agent.starts.children).insert(id.clone(), Some(refusal));
    // It was killed. A recovery that is killed as well is left for the next start, so that this has an end.
    if status.is_none()
        && let Err(problem) = recover(
            &agent.profile,
            agent.starts.config.clone(),
            agent.starts.scopes,
        )
    {
        tracing::error!("{problem}");
    }
}

fn first(problems: Vec<Problem>, otherwise: &str) -> Problem {
    bounded_problems(problems)
        .into_iter()
        .next()
        .unwrap_or_else(|| {
            cannot(
                Code::INTERRUPTED,
                otherwise,
                "see the agent's log, then try again",
            )
        })
}

/// What a restore's process said of why it did not begin.
fn said(agent: &Agent, upload: &UploadId) -> Vec<Problem> {
    #[derive(serde::Deserialize)]
    struct SaidLine {
        problems: Vec<Problem>,
    }
    let text = std::fs::read_to_string(agent.uploads.log(upload)).unwrap_or_default();
    let mut last_first = text.lines().rev();
    let last = last_first.find_map(|line| serde_json::from_str::<SaidLine>(line).ok());
    last.map_or_else(Vec::new, |s| s.problems)
}

#[cfg(test)]
mod tests;
