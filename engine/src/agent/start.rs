//! Looking at an uploaded archive, and starting the restore that an admin approved: the same program in a process of its
//! own, which neither the agent's end nor the web's touches. A request that is repeated finds the same restore.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, TryLockError, mpsc};
use std::time::Duration;

use agent_protocol::{Preview, Refusal, RequestId, UploadId, WireError};
use journal_format::{Digest, Problem, RestoreId};

use super::uploads::{Fresh, Kept};
use super::{Agent, answer, now_ms, overview, recover, spawn};
use crate::fault::{Fault, cannot};
use crate::planner::Choices;
use crate::process::Lock;
use crate::restore::{self, Request};
use crate::state_dir;

/// How often a restore that was started is looked for.
const LOOK: Duration = Duration::from_millis(50);

pub struct Starts {
    config: PathBuf,
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
}

/// This same program, with this profile.
pub fn program(config: &Path) -> Result<Command, Problem> {
    let program = std::env::current_exe().map_err(|e| {
        cannot(
            format!("find this program: {e}"),
            "see that the holdfast program is where it was",
        )
    })?;
    let mut command = Command::new(program);
    command.arg("--config").arg(config);
    Ok(command)
}

/// Whether the gateway's databases may be looked at: no restore is open and none runs.
fn check_quiet(agent: &Agent) -> Result<(), Refusal> {
    let open =
        state_dir::open_restore(&agent.profile).map_err(|problem| Refusal::Failed { problem })?;
    if let Some(open) = open {
        return Err(Refusal::Busy {
            problem: cannot(
                format!("look at an archive now: restore {} is open", open.id),
                "wait for its end; if nothing works on it: holdfast recover",
            ),
            restore: Some(open.id),
        });
    }
    match Lock::holder(&agent.profile) {
        Some((pid, what)) if what != "a backup" => Err(Refusal::Busy {
            problem: cannot(
                format!("look at an archive now: {what} runs, process {pid}"),
                "wait for its end",
            ),
            restore: None,
        }),
        _ => Ok(()),
    }
}

/// What a restore from a fresh upload would do. The archive is checked and the rules are rehearsed; nothing changes.
pub fn look(agent: &Agent, fresh: Fresh, name: &str) -> Result<Preview, Refusal> {
    check_quiet(agent)?;
    let prepare = |keep_going_without_firewall| -> Result<_, Fault> {
        let file = fresh.open()?;
        let choices = Choices {
            keep_going_without_firewall,
            policy: agent.profile.recovery.policy,
        };
        let request = Request {
            file,
            name: name.into(),
            choices,
            id: None,
            approved: None,
        };
        Ok(restore::prepare(&agent.profile, &agent.host, request)?.plan)
    };
    let (plan, needs_keep_going) = match prepare(false) {
        // It may be the firewall alone that is not acceptable, and that the admin may accept.
        Err(refused @ Fault::Refused(_)) => match prepare(true) {
            Ok(plan) => (plan, true),
            Err(_) => return Err(answer::refusal(agent, refused)),
        },
        other => (other.map_err(|fault| answer::refusal(agent, fault))?, false),
    };
    let (upload, size) = (fresh.id.clone(), fresh.size);
    let preview = |until_ms| Preview {
        upload,
        gateway: overview::host_name(),
        name: name.into(),
        size,
        created_at: plan.archive.created_at.clone(),
        host: plan.archive.host.clone(),
        made_by: plan.archive.made_by.clone(),
        changes: bounded(restore::preview(&plan)),
        warnings: bounded(plan.warnings.clone()),
        plan: restore::approval(&plan),
        needs_keep_going,
        until_ms,
    };
    agent
        .uploads
        .keep(fresh, preview)
        .map_err(|problem| Refusal::Failed { problem })
}

/// What fits into a message; a plan of a large gateway may warn of thousands of things.
fn bounded(lines: Vec<String>) -> Vec<String> {
    const LINES: usize = 500;
    const LINE: usize = 500;
    let more = lines.len().saturating_sub(LINES);
    let mut lines: Vec<String> = lines
        .into_iter()
        .take(LINES)
        .map(|l| l.chars().take(LINE).collect())
        .collect();
    if more > 0 {
        lines.push(format!(
            "and {more} more: on the gateway, `holdfast verify` lists all"
        ));
    }
    lines
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
    let restores = state_dir::restores(&agent.profile)?;
    Ok(restores
        .into_iter()
        .rev()
        .find(|id| id.as_str().ends_with(&end) && has_begun(agent, id)))
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

    /// Starts the restore, or finds the one that the same request started. `alive` is called while that takes.
    pub fn start(
        &self,
        agent: &Arc<Agent>,
        approved: &Approved,
        mut alive: impl FnMut() -> Result<(), WireError>,
    ) -> Result<Result<RestoreId, Refusal>, WireError> {
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
        let (id, ended) = match self.begin(agent, approved) {
            Ok(Begun::Before(id)) => return Ok(Ok(id)),
            Ok(Begun::Now(id, ended)) => (id, ended),
            Err(refusal) => return Ok(Err(refusal)),
        };
        loop {
            match ended.recv_timeout(LOOK) {
                Ok(refusal) if has_begun(agent, &id) => {
                    drop(refusal);
                    return Ok(Ok(id));
                }
                Ok(refusal) => {
                    // Nothing began: the upload may be confirmed again.
                    let freed = agent.uploads.use_for(&approved.upload, None);
                    return Ok(Err(freed.err().unwrap_or(refusal)));
                }
                Err(mpsc::RecvTimeoutError::Timeout) if has_begun(agent, &id) => return Ok(Ok(id)),
                // The restore goes on by itself if the web is gone; its next question finds it.
                Err(mpsc::RecvTimeoutError::Timeout) => alive()?,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let problem = cannot(
                        "follow the start of the restore",
                        "look at `holdfast status`",
                    );
                    return Ok(Err(Refusal::Failed { problem }));
                }
            }
        }
    }

    fn begin(&self, agent: &Arc<Agent>, approved: &Approved) -> Result<Begun, Refusal> {
        let failed = |problem| Refusal::Failed { problem };
        if let Some(id) = started_before(agent, &approved.request).map_err(failed)? {
            return Ok(Begun::Before(id));
        }
        let kept = agent.uploads.find(&approved.upload)?;
        match &kept.used {
            Some((_, restore)) if has_begun(agent, restore) => {
                return Err(Refusal::Used {
                    restore: restore.clone(),
                });
            }
            // It was noted, and then the agent ended before anything began.
            Some(_) | None => {}
        }
        check_quiet(agent)?;
        let id = restore::id_at(now_ms(), suffix(&approved.request)).map_err(failed)?;
        agent.uploads.use_for(
            &approved.upload,
            Some((approved.request.clone(), id.clone())),
        )?;
        let child = self.spawn(agent, approved, &kept, &id).map_err(failed)?;
        tracing::info!("restore {id} is started, process {}", child.id());
        let (tell, ended) = mpsc::channel();
        let (agent, upload, named) = (agent.clone(), approved.upload.clone(), id.clone());
        spawn("restore", move || {
            wait(&agent, child, &upload, &named, &tell)
        })
        .map_err(failed)?;
        Ok(Begun::Now(id, ended))
    }

    fn spawn(
        &self,
        agent: &Agent,
        approved: &Approved,
        kept: &Kept,
        id: &RestoreId,
    ) -> Result<Child, Problem> {
        use std::os::unix::fs::OpenOptionsExt;
        let failed = |e: std::io::Error| {
            cannot(
                format!("start restore {id}: {e}"),
                "try again; nothing was changed",
            )
        };
        let log = agent.uploads.log(&approved.upload);
        let log = std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(log)
            .map_err(failed)?;
        let mut command = program(&self.config)?;
        command
            .arg("--json")
            .arg("restore")
            .arg(agent.uploads.archive(&approved.upload))
            .arg("--yes");
        command.args([
            "--approved-plan",
            approved.plan.as_str(),
            "--restore-id",
            id.as_str(),
        ]);
        // As one word: a name that begins with a dash is still a name.
        command.arg(format!("--shown-name={}", kept.preview.name));
        if approved.keep_going_without_firewall {
            command.arg("--keep-going-without-firewall");
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
    Now(RestoreId, mpsc::Receiver<Refusal>),
}

/// Waits for a restore's process, so that it does not stay as a zombie, and tells how it ended.
fn wait(
    agent: &Agent,
    mut child: Child,
    upload: &UploadId,
    id: &RestoreId,
    tell: &mpsc::Sender<Refusal>,
) {
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
        Some(3) => Refusal::Unacceptable { problems: said },
        Some(6) => Refusal::Busy {
            problem: first(said, "start the restore: something else runs"),
            restore: state_dir::open_restore(&agent.profile)
                .ok()
                .flatten()
                .map(|o| o.id),
        },
        _ => Refusal::Failed {
            problem: first(said, "start the restore: its process ended at once"),
        },
    };
    if has_begun(agent, id) {
        agent.uploads.spent(upload);
    }
    // Whoever started it may have gone on long ago: it has begun.
    drop(tell.send(refusal));
    // It was killed. A recovery that is killed as well is left for the next start, so that this has an end.
    if status.is_none()
        && let Err(problem) = recover(&agent.profile, agent.starts.config.clone())
    {
        tracing::error!("{problem}");
    }
}

fn first(problems: Vec<Problem>, otherwise: &str) -> Problem {
    problems
        .into_iter()
        .next()
        .unwrap_or_else(|| cannot(otherwise, "see the agent's log, then try again"))
}

/// What a restore's process said of why it did not begin.
fn said(agent: &Agent, upload: &UploadId) -> Vec<Problem> {
    #[derive(serde::Deserialize)]
    struct Said {
        problems: Vec<Problem>,
    }
    let text = std::fs::read_to_string(agent.uploads.log(upload)).unwrap_or_default();
    let last = text
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<Said>(line).ok());
    last.map_or_else(Vec::new, |s| s.problems)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_names_its_restore_and_another_request_another() {
        let a = RequestId::new("00112233445566778899aabbccddeeff").unwrap();
        let b = RequestId::new("00112233445566778899aabbccddeefe").unwrap();
        assert_eq!(suffix(&a), suffix(&a));
        assert_ne!(suffix(&a), suffix(&b));
        let id = restore::id_at(1_795_373_540_000, suffix(&a)).unwrap();
        assert!(id.as_str().ends_with(&format!("-{:08x}", suffix(&a))));
    }

    #[test]
    fn a_plan_that_warns_of_thousands_of_things_fits_into_a_message() {
        let lines = bounded(
            (0..9000)
                .map(|i| format!("{i} {}", "ü".repeat(4000)))
                .collect(),
        );
        assert_eq!(lines.len(), 501);
        assert!(lines[500].starts_with("and 8500 more"));
        assert!(serde_json::to_vec(&lines).unwrap().len() < agent_protocol::MAX_MESSAGE);
    }
}
