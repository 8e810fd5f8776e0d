//! What runs, the last good backup, and the restores there were: for one glance. Changes nothing.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use agent_protocol::{
    BackupLine, Backups, LackLine, Overview, RestoreLine, Running, ScheduleLine, Status,
};
use journal_format::{Digest, RestoreId, Seq, Standing, State, StepState, View};

use super::refusal::paragraph;
use super::{Agent, follow, gateway_lines, locked, now_ms, warned};
use crate::gateway::parts::{self, Part};
use crate::gateway::profile::Profile;
use crate::restore::gateway_state::Condition;
use crate::restore::gateway_state::look::{condition, look};
use crate::state_dir::lock::{Lock, LockedFor};
use crate::state_dir::{self, made, schedule};
use crate::text::wording::quoted_path;

/// Restores that are listed.
const LISTED: usize = 50;

/// Lines of restores that are over, so that their journals are read once.
#[derive(Default)]
pub struct Lines {
    known: Mutex<HashMap<RestoreId, (u64, RestoreLine)>>,
}

pub fn overview(agent: &Agent) -> Overview {
    Overview {
        host: crate::host::this_box::host_name().unwrap_or_else(|| "?".into()),
        backups: backups(&agent.profile),
        running: running(agent),
        restores: restores(agent),
        upload_mib: agent.uploads.limit_mib(),
    }
}

pub fn status(agent: &Agent) -> Status {
    Status {
        running: running(agent),
        backups: backups(&agent.profile),
    }
}

/// The last backups, by when they were made on this box. Under its name a backup is whole and was read back.
fn backups(profile: &Profile) -> Backups {
    let last = warned(made::last(profile)).unwrap_or_default();
    let schedule = schedule::stands(profile);
    let needs_somebody = schedule.needs_somebody();
    let told = |(sha256, note): (Digest, made::NotedBackup)| backup(profile, &sha256, &note);
    Backups {
        last_backup: last.good.map(told),
        incomplete_backup: last.incomplete.map(told),
        unknown_backups: last.unknown,
        schedule: schedule.line().map(|text| ScheduleLine {
            text: paragraph(&text),
            needs_somebody,
        }),
    }
}

/// A backup as it was noted.
pub fn backup(profile: &Profile, sha256: &Digest, note: &made::NotedBackup) -> BackupLine {
    let lacks = note.lacks.iter().map(|it| lack_with_way(profile, it));
    BackupLine {
        name: note.name.clone(),
        size: note.size,
        made_ms: note.made_ms,
        in_future: note.lies_in_the_future(),
        sha256: sha256.clone(),
        lacks: lacks.collect(),
    }
}

/// A part that a backup lacks, as it is told.
pub fn lack(lack: &parts::Lack) -> LackLine {
    LackLine {
        part: lack.part.to_string(),
        shown: lack.part.shown(),
        why: lack.why.clone(),
    }
}

/// The same, and how to find who keeps a database from being saved.
fn lack_with_way(profile: &Profile, lacks: &parts::Lack) -> LackLine {
    let mut line = lack(lacks);
    let mut databases = profile.gateway.database.iter();
    if let Some(database) = databases.find(|d| lacks.part == Part::Database(d.name.clone())) {
        line.why += &format!(
            ". `fuser -v {}` shows which processes have the database open",
            quoted_path(&database.path)
        );
    }
    line
}

fn running(agent: &Agent) -> Option<Running> {
    if let Some(backup) = agent.backups.running() {
        return Some(backup);
    }
    if let Some(open) = warned(state_dir::open_restore(&agent.profile)).flatten() {
        let state = state(agent, &open.id);
        return Some(restore(agent, open.id, state.as_ref()));
    }
    let Some((_, work)) = Lock::holder(&agent.profile) else {
        return lost_or_lacking(agent);
    };
    // One that the command line makes: how far it is, only it knows.
    let began = std::fs::metadata(agent.profile.lock())
        .ok()?
        .mtime()
        .saturating_mul(1000);
    (work == LockedFor::Backup).then(|| Running::Backup {
        began_ms: began,
        step: "on the command line".into(),
        done: 0,
        total: 0,
    })
}

/// A restore that is over and since which something does not work, or one whose journal is not here.
fn lost_or_lacking(agent: &Agent) -> Option<Running> {
    let found = condition(&agent.profile, &agent.host);
    if ![Condition::Lacking, Condition::Left, Condition::Lost].contains(&found) {
        return None;
    }
    let state = look(&agent.profile, &agent.host);
    let now = gateway_lines::lines(&state);
    match state.condition {
        Condition::Lacking | Condition::Left => Some(Running::Lacking {
            id: state.restore?,
            now,
        }),
        Condition::Lost => Some(Running::Lost {
            problem: state.problem?,
            now,
        }),
        Condition::Idle
        | Condition::Busy
        | Condition::Running
        | Condition::Interrupted
        | Condition::Stuck
        | Condition::Unreadable => None,
    }
}

fn restore(agent: &Agent, id: RestoreId, state: Option<&State>) -> Running {
    let Some(state) = state else {
        return Running::Restore {
            standing: Standing::Starting,
            interrupted: Lock::holder(&agent.profile).is_none(),
            step: None,
            done: 0,
            total: 0,
            now: gateway_lines::of(agent, &id, Seq(0)),
            id,
        };
    };
    let view = View::of(state);
    let running = view.needed().find(|s| s.state == StepState::Running);
    let interrupted = is_interrupted(agent, view.standing, state);
    Running::Restore {
        id,
        standing: view.standing,
        interrupted,
        now: gateway_lines::of_view(agent, &view, interrupted),
        step: running.map(|s| s.title.clone()),
        done: view.done() as u64,
        total: view.needed().count() as u64,
    }
}

/// Whether nothing works on an open restore. Of one that a newer version wrote that is not known to be open.
fn is_interrupted(agent: &Agent, standing: Standing, state: &State) -> bool {
    standing != Standing::Unknown && follow::is_left(agent, state)
}

fn state(agent: &Agent, id: &RestoreId) -> Option<State> {
    warned(state_dir::read(&agent.profile, id))?.state
}

fn restores(agent: &Agent) -> Vec<RestoreLine> {
    let ids = warned(state_dir::restores(&agent.profile)).unwrap_or_default();
    let newest = ids.into_iter().rev().take(LISTED);
    newest.map(|id| line(agent, id)).collect()
}

fn line(agent: &Agent, id: RestoreId) -> RestoreLine {
    let path = state_dir::journal(&agent.profile, &id);
    let length = std::fs::metadata(&path).map_or(0, |m| m.len());
    if let Some((known, line)) = locked(&agent.lines.known).get(&id)
        && *known == length
    {
        return RestoreLine {
            in_future: line.began_ms > now_ms(),
            ..line.clone()
        };
    }
    let Some(state) = state(agent, &id) else {
        let began_ms = began_by_name(&id);
        return RestoreLine {
            began_ms,
            id,
            archive: String::new(),
            standing: None,
            in_part: false,
            interrupted: false,
            in_future: began_ms > now_ms(),
        };
    };
    let standing = Standing::of(&state);
    let plan = state.plan.as_ref();
    let line = RestoreLine {
        id: id.clone(),
        began_ms: state.began_ms,
        archive: plan.map_or_else(String::new, |p| p.archive.name.clone()),
        standing: Some(standing),
        in_part: !state.left_out().is_empty(),
        interrupted: !standing.is_over() && is_interrupted(agent, standing, &state),
        in_future: state.began_ms > now_ms(),
    };
    if state.verdict().is_some() {
        locked(&agent.lines.known).insert(id, (length, line.clone()));
    }
    line
}

/// When a restore began, from its name: all that is left where its journal cannot be read.
fn began_by_name(id: &RestoreId) -> i64 {
    let text = id.as_str().split('-').next().unwrap_or_default();
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text);
    let time = time.and_then(|t| t.to_zoned(jiff::tz::TimeZone::UTC));
    time.map_or(0, |t| t.timestamp().as_millisecond())
}
