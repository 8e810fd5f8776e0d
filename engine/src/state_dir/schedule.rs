//! The schedule of backups: what its last run said, in the file `state_dir/scheduled`; of what `on_backup` was last told, in
//! `state_dir/on-backup`; whether the timer is in force, and whether a run is overdue. Owns both files and what people read of the
//! schedule. Must make no backup and run no program.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use journal_format::{Problem, ago, utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Code, OrCannot};
use crate::files::open::if_there;
use crate::files::whole;
use crate::gateway::parts::{self, Lack};
use crate::gateway::profile::Profile;
use crate::state_dir::lock::Lock;
use crate::text::wording::in_a_line;

/// systemd's link to a timer that is enabled. Its own time is when that was done.
const ENABLED: &str = "/etc/systemd/system/timers.target.wants/holdfast-backup.timer";
/// So many periods may pass without a run.
const PERIODS: u64 = 2;
const HOUR_MS: u64 = 3_600_000;
/// Two clocks may differ by so much, as they are set again and again.
const ALLOWED_AHEAD_MS: i64 = 3_600_000;
const MAKE_ONE: &str = "`holdfast backup --scheduled`";

/// How a run of the schedule ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunResult {
    /// It has not ended: it runs, or was cut off.
    Begun,
    /// Its backup has every part.
    Good,
    /// Its backup lacks parts.
    Incomplete,
    /// There is no backup.
    Failed,
}

/// One run of the schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledRun {
    /// When it began, milliseconds since 1970 UTC.
    pub began_ms: i64,
    /// Its process.
    pub pid: u32,
    /// How it ended.
    pub result: RunResult,
    /// The backup's file name.
    pub backup: Option<String>,
    /// The parts that the backup lacks.
    pub lacks: Vec<Lack>,
    /// Why there is no backup.
    pub problems: Vec<Problem>,
    /// What was pruned after it: names of backups, ids of restores.
    pub pruned: Vec<String>,
    /// What could not be pruned, and why.
    pub not_pruned: Vec<Problem>,
}

/// What `on_backup` was last told, and what came of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldProgram {
    /// How the run ended; none where no run came.
    pub result: Option<RunResult>,
    /// When the run began; where none came, since when.
    pub since_ms: i64,
    /// Why the program did not end well.
    pub problem: Option<Problem>,
}

/// How the schedule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The timer is enabled.
    pub in_force: bool,
    /// The last run.
    pub last: Option<ScheduledRun>,
    /// That run goes on.
    pub runs: bool,
    /// Since when no run came, if that is too long.
    pub overdue_since_ms: Option<i64>,
    /// What `on_backup` was last told.
    pub told: Option<ToldProgram>,
    /// The last run's backup is not in the folder for backups any more.
    pub is_gone: bool,
    /// Why it is not known what the last run said.
    pub unreadable: Option<Problem>,
    now_ms: i64,
}

fn record(profile: &Profile) -> PathBuf {
    profile.state_dir.join("scheduled")
}

fn told(profile: &Profile) -> PathBuf {
    profile.state_dir.join("on-backup")
}

/// Keeps what a run says. The caller holds the lock.
pub fn keep_run(profile: &Profile, run: &ScheduledRun) -> Result<(), Problem> {
    keep(&record(profile), run)
}

/// Keeps what `on_backup` was told. It has a file of its own, since it is written without the lock: the program may take long.
pub fn keep_told(profile: &Profile, it: &ToldProgram) -> Result<(), Problem> {
    keep(&told(profile), it)
}

fn keep(path: &Path, what: &impl Serialize) -> Result<(), Problem> {
    let write = || -> io::Result<()> {
        let mut text = serde_json::to_vec(what)?;
        text.push(b'\n');
        whole::write(path, &text, 0o600)
    };
    write().or_cannot(
        Code::IO,
        format!("note in {} what the scheduled backup said", path.display()),
        "check the disk: `df -h` shows whether it is full, `dmesg` whether it fails",
    )
}

fn kept<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Problem> {
    let read = || -> io::Result<Option<T>> {
        let bytes = if_there(std::fs::read(path))?;
        Ok(bytes.map(|b| serde_json::from_slice(&b)).transpose()?)
    };
    read().or_cannot(
        Code::IO,
        format!("read in {} what the scheduled backup said", path.display()),
        format!("run {MAKE_ONE}: it writes the file anew"),
    )
}

/// How the schedule stands now. Changes nothing.
pub fn stands(profile: &Profile) -> Schedule {
    let now = UNIX_EPOCH.elapsed().unwrap_or_default();
    let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    stands_at(profile, Path::new(ENABLED), now_ms)
}

/// The same of a time, with the timer's link as it is found there.
pub(crate) fn stands_at(profile: &Profile, enabled: &Path, now_ms: i64) -> Schedule {
    let enabled = std::fs::symlink_metadata(enabled).ok();
    let (last, unreadable) = match kept::<ScheduledRun>(&record(profile)) {
        Ok(last) => (last, None),
        Err(problem) => (None, Some(problem)),
    };
    // A run that the clock puts into the future came all the same, at the latest when that was written down.
    let noted = || {
        let meta = std::fs::metadata(record(profile)).ok()?;
        Some(meta.mtime().saturating_mul(1000).min(now_ms))
    };
    let began_ms = last.as_ref().map(|run| run.began_ms);
    let is_ahead = |began: &i64| *began > now_ms.saturating_add(ALLOWED_AHEAD_MS);
    let began_ms = match began_ms.filter(is_ahead) {
        Some(_) => noted(),
        None => began_ms,
    };
    let allowed_ms = profile
        .schedule
        .every_hours
        .saturating_mul(HOUR_MS * PERIODS);
    let since_ms = enabled
        .as_ref()
        .map(|link| began_ms.unwrap_or(link.mtime().saturating_mul(1000)));
    let is_overdue = |since: &i64| {
        allowed_ms > 0
            && now_ms.saturating_sub(*since) > i64::try_from(allowed_ms).unwrap_or(i64::MAX)
    };
    let holder = || Lock::holder(profile).map(|(pid, _)| pid);
    Schedule {
        in_force: enabled.is_some(),
        runs: last
            .as_ref()
            .is_some_and(|run| run.result == RunResult::Begun && holder() == Some(run.pid)),
        overdue_since_ms: since_ms.filter(is_overdue),
        // What cannot be read was cut off by nobody, and says nothing.
        told: kept(&told(profile)).ok().flatten(),
        is_gone: last.as_ref().is_some_and(|run| {
            let name = run.backup.as_ref();
            name.is_some_and(|name| !profile.backups_dir().join(name).exists())
        }),
        last,
        unreadable,
        now_ms,
    }
}

impl Schedule {
    /// The same, once this run has ended.
    pub fn after(self, run: ScheduledRun) -> Schedule {
        Schedule {
            last: Some(run),
            runs: false,
            overdue_since_ms: None,
            is_gone: false,
            unreadable: None,
            ..self
        }
    }

    /// Somebody has to do something: there is no backup of the last run, it lacks something, or no run came.
    pub fn needs_somebody(&self) -> bool {
        let is_bad = |run: &ScheduledRun| match run.result {
            // An old one may have been pruned where no other comes.
            RunResult::Good => self.is_gone && self.in_force,
            RunResult::Begun => !self.runs,
            RunResult::Incomplete | RunResult::Failed => true,
        };
        self.overdue_since_ms.is_some()
            || self.unreadable.is_some()
            || self.last.as_ref().is_some_and(is_bad)
    }

    /// One line for people, the worst first, each fact a sentence with its command; none where nobody ever made a scheduled backup
    /// and nothing will.
    pub fn line(&self) -> Option<String> {
        let last = match (&self.unreadable, &self.last) {
            (Some(problem), _) => told_of(problem),
            (None, Some(run)) => self.said(run),
            (None, None) if self.in_force => "none yet.".into(),
            (None, None) => return None,
        };
        let missing = match self.overdue_since_ms {
            Some(since) => Some(format!(
                "OVERDUE: no run since {}. `systemctl status holdfast-backup.timer` shows why. {MAKE_ONE} makes a backup now.",
                utc(since)
            )),
            None => (!self.in_force).then(|| {
                "NO TIMER makes the next one. `systemctl enable --now holdfast-backup.timer` enables it.".into()
            }),
        };
        let mut sentences = match missing {
            Some(missing) => vec![missing, format!("Last run: {last}")],
            None => vec![last],
        };
        let run = self.last.as_ref();
        let not_pruned = run.and_then(|run| run.not_pruned.first());
        sentences.extend(not_pruned.map(|p| format!("Old backups stay: {}", told_of(p))));
        let not_told = self.told.as_ref().and_then(|told| told.problem.as_ref());
        sentences.extend(not_told.map(|p| format!("on_backup: {}", told_of(p))));
        Some(sentences.join(" "))
    }

    /// What a run said.
    fn said(&self, run: &ScheduledRun) -> String {
        // What is overdue is so since that run began.
        let when = match self.overdue_since_ms {
            Some(since) if since == run.began_ms => String::new(),
            Some(_) | None => format!(", {}", ago(run.began_ms, self.now_ms)),
        };
        let name = run.backup.as_deref().unwrap_or("its backup");
        match run.result {
            RunResult::Good if self.is_gone => {
                format!("good{when}, but its backup is gone: {name}. Run {MAKE_ONE}.")
            }
            RunResult::Good => format!("good{when}: {name}."),
            RunResult::Incomplete => format!(
                "INCOMPLETE{when}: {name} {}. Fix the cause, then run {MAKE_ONE}.",
                parts::incomplete(&run.lacks).trim_start_matches("incomplete: ")
            ),
            RunResult::Failed => {
                let why: Vec<String> = run.problems.iter().map(in_a_line).collect();
                let advice = run.problems.first().map_or("", |p| p.advice.as_str());
                let why = sentence(&why.join("; "));
                format!("FAILED{when}: {why}{} Then run {MAKE_ONE}.", to_do(advice))
            }
            RunResult::Begun if self.runs => format!("runs, process {}.", run.pid),
            RunResult::Begun => format!(
                "FAILED{when}: a power cut or a signal ended the run. `holdfast backups` shows whether its backup was made. Run {MAKE_ONE}."
            ),
        }
    }

    /// The same for programs.
    pub fn as_json(&self) -> Value {
        json!({
            "in_force": self.in_force,
            "last": self.last,
            "runs": self.runs,
            "overdue_since": self.overdue_since_ms.map(utc),
            "on_backup": self.told,
            "problem": self.unreadable,
            "needs_somebody": self.needs_somebody(),
            "text": self.line(),
        })
    }
}

/// A problem as sentences: what could not be done, and what to do.
fn told_of(problem: &Problem) -> String {
    format!(
        "{}{}",
        sentence(&in_a_line(problem)),
        to_do(&problem.advice)
    )
}

fn to_do(advice: &str) -> String {
    match advice {
        "" => String::new(),
        advice => format!(" What to do: {}", sentence(advice)),
    }
}

fn sentence(words: &str) -> String {
    format!("{}.", words.trim_end().trim_end_matches('.'))
}

#[cfg(test)]
mod tests;
