//! Making a backup to be downloaded: one at a time, on a thread of its own, for everybody who asks meanwhile. It is made
//! to its end whoever still waits; one that nobody got whole is removed, and of the others the newest few are kept. An
//! incomplete one waits to be asked for by name, and has places of its own: it takes none of a good one's. Backups that were
//! made otherwise are not touched.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use agent_protocol::{Refusal, Running, WireError};
use journal_format::Problem;

use super::refusal::{self, Unanswered};
use super::{Agent, keep, locked, now_ms, removed, spawn, warned};
use crate::backup::{Made, Progress};
use crate::error::{Fault, bug};
use crate::gateway::backup_kind::BackupKind;
use crate::gateway::parts;
use crate::gateway::profile::Profile;
use crate::state_dir::lock::{Lock, LockedFor};

/// Downloaded backups that are kept.
const KEPT: usize = 5;
/// Incomplete ones that wait to be downloaded all the same.
const KEPT_INCOMPLETE: usize = 2;

pub struct BackupDesk {
    running: Mutex<Option<Arc<Job>>>,
    downloads: Arc<Downloads>,
}

struct Job {
    began_ms: i64,
    progress: Mutex<(String, u64, u64)>,
    result: Mutex<JobResult>,
    ended: Condvar,
}

/// How a backup ended, and for whom it was made.
#[derive(Default)]
struct JobResult {
    made: Option<Result<Made, Refusal>>,
    /// Those who wait for it, or are being given it.
    takers: usize,
    /// One of them got it whole.
    given: bool,
}

/// A backup that was asked for, until it was given or not.
pub struct Taken {
    job: Arc<Job>,
    downloads: Arc<Downloads>,
}

impl Taken {
    /// Its bytes were taken to their end.
    pub fn given(&self) {
        locked(&self.job.result).given = true;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut result = locked(&self.job.result);
        result.takers -= 1;
        self.downloads.settle(&result);
    }
}

/// The names of the backups that were made to be downloaded, oldest first, in a file beside them for each kind.
struct Downloads {
    dir: PathBuf,
    changing: Mutex<()>,
}

/// The two kinds of downloads.
#[derive(Debug, Clone, Copy)]
enum DownloadKind {
    Good,
    Incomplete,
}

impl DownloadKind {
    fn of(made: &Made) -> DownloadKind {
        match made.lacks.is_empty() {
            true => DownloadKind::Good,
            false => DownloadKind::Incomplete,
        }
    }

    fn list(self) -> &'static str {
        match self {
            DownloadKind::Good => ".downloads",
            DownloadKind::Incomplete => ".downloads-incomplete",
        }
    }

    fn kept(self) -> usize {
        match self {
            DownloadKind::Good => KEPT,
            DownloadKind::Incomplete => KEPT_INCOMPLETE,
        }
    }
}

impl Downloads {
    fn list(&self, kind: DownloadKind) -> PathBuf {
        self.dir.join(kind.list())
    }

    fn names(&self, kind: DownloadKind) -> Vec<String> {
        let list = self.list(kind);
        let text = std::fs::read_to_string(&list).unwrap_or_else(|e| {
            if e.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!("cannot read {}: {e}", list.display());
            }
            String::new()
        });
        // Only plain names of backups: what is listed here is removed some day.
        let backup = |n: &&str| {
            n.starts_with("wireguard_backup_") && n.ends_with(".zip") && !n.contains('/')
        };
        text.lines().filter(backup).map(str::to_owned).collect()
    }

    /// Lists one more, and removes those that are too many.
    fn add(&self, made: &Made) {
        let Some(name) = made.path.file_name().and_then(|n| n.to_str()) else {
            return;
        };
        let kind = DownloadKind::of(made);
        let _one = locked(&self.changing);
        let mut names = self.names(kind);
        names.retain(|n| n != name && self.dir.join(n).exists());
        names.push(name.to_owned());
        while names.len() > kind.kept() && self.remove(&names[0]) {
            names.remove(0);
        }
        self.write(kind, &names);
    }

    fn remove(&self, name: &str) -> bool {
        let shown = format_args!("the downloaded backup {name}");
        removed(&self.dir.join(name), shown)
    }

    fn write(&self, kind: DownloadKind, names: &[String]) {
        let text: String = names.iter().map(|n| format!("{n}\n")).collect();
        // One that is not listed is kept for good, which loses nothing.
        warned(keep(&self.list(kind), text.as_bytes()));
    }

    /// Removes a backup that nobody got whole and nobody waits for any more; an incomplete one is given to nobody unasked,
    /// and waits.
    fn settle(&self, result: &JobResult) {
        let Some(Ok(made)) = &result.made else { return };
        let kind = DownloadKind::of(made);
        if result.takers > 0 || result.given || matches!(kind, DownloadKind::Incomplete) {
            return;
        }
        let Some(name) = made.path.file_name().and_then(|n| n.to_str()) else {
            return;
        };
        let _one = locked(&self.changing);
        if self.remove(name) {
            tracing::info!("the download of {name} broke off; it is removed");
            let mut names = self.names(kind);
            names.retain(|n| n != name);
            self.write(kind, &names);
        }
    }
}

impl BackupDesk {
    /// For this profile.
    pub fn open(profile: &Profile) -> BackupDesk {
        BackupDesk {
            running: Mutex::default(),
            downloads: Arc::new(Downloads {
                dir: profile.backups_dir(),
                changing: Mutex::new(()),
            }),
        }
    }

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
    ) -> Result<(Made, Taken), Unanswered> {
        let taken = self.begin(agent)?;
        loop {
            let result = locked(&taken.job.result);
            let waited = taken
                .job
                .ended
                .wait_timeout_while(result, every, |r| r.made.is_none());
            let (result, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            let made = result.made.clone();
            // Given up before anything is sent, and before `taken` may be dropped: that takes it again.
            drop(result);
            match made {
                Some(made) => return Ok((made?, taken)),
                None => alive()?,
            }
        }
    }

    fn take(&self, job: &Arc<Job>) -> Taken {
        locked(&job.result).takers += 1;
        Taken {
            job: job.clone(),
            downloads: self.downloads.clone(),
        }
    }

    fn begin(&self, agent: &Arc<Agent>) -> Result<Taken, Problem> {
        let mut running = locked(&self.running);
        if let Some(job) = &*running {
            return Ok(self.take(job));
        }
        let job = Arc::new(Job {
            began_ms: now_ms(),
            progress: Mutex::new(("looking at the gateway".into(), 0, 0)),
            result: Mutex::default(),
            ended: Condvar::new(),
        });
        let taken = self.take(&job);
        let (agent, mine) = (agent.clone(), job.clone());
        spawn("backup", move || {
            let mut end = End {
                agent: &agent,
                job: &mine,
                made: None,
            };
            let made = work(&agent, &mine);
            if let Ok(made) = &made {
                agent.backups.downloads.add(made);
            }
            end.made = Some(made);
        })?;
        *running = Some(job);
        Ok(taken)
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
        let mut result = locked(&self.job.result);
        result.made = Some(made);
        self.agent.backups.downloads.settle(&result);
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
    if !made.lacks.is_empty() {
        let incomplete = parts::incomplete(&made.lacks);
        tracing::warn!("{}", journal_format::visible(&incomplete));
    }
    for warning in &made.warnings {
        tracing::warn!("{}", journal_format::visible(&warning.to_string()));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn downloads(folder: &tempfile::TempDir) -> Arc<Downloads> {
        Arc::new(Downloads {
            dir: folder.path().into(),
            changing: Mutex::new(()),
        })
    }

    fn made(folder: &tempfile::TempDir, n: usize) -> Made {
        let path = folder
            .path()
            .join(format!("wireguard_backup_20261122_18000{n}.zip"));
        std::fs::write(&path, "zip").unwrap();
        Made {
            path,
            size: 3,
            sha256: journal_format::Digest::new("0".repeat(64)).unwrap(),
            created_at: String::new(),
            lacks: vec![],
            unread: Default::default(),
            warnings: vec![],
        }
    }

    fn backups(folder: &tempfile::TempDir) -> usize {
        let entries = folder.path().read_dir().unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.ends_with(".zip")).count()
    }

    #[test]
    fn the_newest_downloads_are_kept_and_backups_made_otherwise_are_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("wireguard_backup_20200101_000000.zip");
        std::fs::write(&other, "zip").unwrap();
        let all: Vec<Made> = (0..8)
            .map(|n| {
                let made = made(&folder, n);
                // Each by an agent that started again.
                downloads(&folder).add(&made);
                made
            })
            .collect();
        assert!(other.exists());
        assert_eq!(backups(&folder), 1 + KEPT);
        assert!(all[8 - KEPT..].iter().all(|m| m.path.exists()));
    }

    fn incomplete(folder: &tempfile::TempDir, n: usize) -> Made {
        let lack = parts::Lack {
            part: parts::Part::Configs,
            why: "permission denied".into(),
        };
        Made {
            lacks: vec![lack],
            ..made(folder, n)
        }
    }

    #[test]
    fn incomplete_backups_take_no_place_of_a_good_one_and_do_not_pile_up() {
        let folder = tempfile::tempdir().unwrap();
        let good: Vec<Made> = (0..KEPT).map(|n| made(&folder, n)).collect();
        for made in &good {
            downloads(&folder).add(made);
        }
        let bad: Vec<Made> = (KEPT..9).map(|n| incomplete(&folder, n)).collect();
        for made in &bad {
            downloads(&folder).add(made);
        }
        assert!(good.iter().all(|m| m.path.exists()));
        let there: Vec<bool> = bad.iter().map(|m| m.path.exists()).collect();
        assert_eq!(there, [false, false, true, true]);
    }

    #[test]
    fn an_incomplete_backup_that_nobody_was_given_waits_to_be_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let downloads = downloads(&folder);
        let made = incomplete(&folder, 1);
        downloads.add(&made);
        let outcome = JobResult {
            made: Some(Ok(made)),
            ..JobResult::default()
        };
        downloads.settle(&outcome);
        assert_eq!(backups(&folder), 1);
    }

    #[test]
    fn a_backup_that_nobody_got_whole_is_removed_once_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let downloads = downloads(&folder);
        let taken = |outcome: JobResult, n: usize| -> Vec<Taken> {
            let job = Arc::new(Job {
                began_ms: 0,
                progress: Mutex::default(),
                result: Mutex::new(outcome),
                ended: Condvar::new(),
            });
            locked(&job.result).takers = n;
            let one = || Taken {
                job: job.clone(),
                downloads: downloads.clone(),
            };
            (0..n).map(|_| one()).collect()
        };
        let outcome = |n| JobResult {
            made: Some(Ok(made(&folder, n))),
            ..JobResult::default()
        };
        let mut broken = taken(outcome(1), 2);
        drop(broken.pop());
        assert_eq!(backups(&folder), 1, "one still takes it");
        drop(broken);
        assert_eq!(backups(&folder), 0);
        let mut got = taken(outcome(2), 2);
        got.pop().unwrap().given();
        drop(got);
        assert_eq!(backups(&folder), 1);
        downloads.settle(&outcome(3));
        assert_eq!(backups(&folder), 1, "nobody waited for this one");
    }
}
