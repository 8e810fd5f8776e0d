//! What the templates show, made from what the agent says: words, times and sizes as people read them. Decides nothing
//! about a restore: `journal_format` says where it stands.

use agent_protocol::{BackupLine, GatewayLines, Halt, Overview, RestoreLine, Running};
use journal_format::{
    Direction, Problem, Standing, StepState, StepView, View, alike, capitalized, duration,
    moment_of, size, utc, visible,
};
use rocket_dyn_templates::minijinja::{self, Output, State, escape_formatter};
use serde::Serialize;
use serde_json::{Value, json};

mod confirm;
mod gateway;
mod notes;
#[cfg(test)]
mod tests;

pub use confirm::preview;
use gateway::gateway_lines;
use notes::{KindLines, NoteLine, kind_lines};

/// How the templates print a value: text from outside steers neither the page nor the order of its lines. Line ends and
/// tabs stay.
pub fn visible_formatter(
    out: &mut Output,
    state: &State,
    value: &minijinja::Value,
) -> Result<(), minijinja::Error> {
    match value.as_str().filter(|_| !value.is_safe()) {
        Some(text) => {
            let mut shown = String::with_capacity(text.len());
            for part in text.split_inclusive(['\n', '\t']) {
                let plain = part.trim_end_matches(['\n', '\t']);
                shown.push_str(&visible(plain));
                shown.push_str(&part[plain.len()..]);
            }
            escape_formatter(out, state, &shown.into())
        }
        None => escape_formatter(out, state, value),
    }
}

/// A moment as `2026-11-22 18:52:20 UTC`.
pub fn moment(ms: i64) -> String {
    utc(ms).replace('T', " ").replace('Z', " UTC")
}

fn time_of_day(ms: i64) -> String {
    let text = utc(ms);
    let time = text.split_once('T').map_or(&*text, |(_, time)| time);
    time.trim_end_matches('Z').into()
}

/// How long something has run by now, in whole seconds.
fn so_far(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..60 => format!("{s} s"),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

/// A restore as its page shows it.
#[derive(Debug, Serialize)]
pub struct LiveRestore {
    id: String,
    seq: u64,
    over: bool,
    tone: &'static str,
    icon: &'static str,
    /// How it stands, in a word or two; also the page's title.
    pub title: &'static str,
    headline: String,
    /// One sentence for those who listen.
    pub summary: String,
    problem: Option<Problem>,
    /// How the gateway stands, where somebody has to do something.
    now: Option<Value>,
    closing_warnings: Vec<NoteLine>,
    /// What does not work although everything else is one set's, a line each.
    lacks: Vec<NoteLine>,
    /// What was left out, a line each.
    left_out: Vec<NoteLine>,
    /// Parts that the safety backup lacked, where that ended it.
    unsaved: Vec<String>,
    /// What heads the lines of the plan, by how it ended: nothing of them may read as if it were still to come.
    plan_title: &'static str,
    plan_warnings: Vec<KindLines>,
    archive: String,
    done: usize,
    total: usize,
    count: String,
    span: String,
    lists: Vec<List>,
}

#[derive(Debug, Serialize)]
struct List {
    name: &'static str,
    title: &'static str,
    /// What these steps did has been, or is being, undone.
    past: bool,
    rows: Vec<StepRow>,
}

#[derive(Debug, Serialize)]
struct StepRow {
    key: String,
    title: String,
    state: &'static str,
    word: &'static str,
    began: Option<String>,
    began_iso: Option<String>,
    took: Option<String>,
    elapsed: Option<String>,
    elapsed_ms: Option<u64>,
    attempt: u32,
    did: Vec<String>,
    warnings: Vec<NoteLine>,
    problem: Option<Problem>,
    /// Of a problem that the page tells in full further up, what could not be done.
    cannot: Option<String>,
}

/// The restore as its page shows it at a moment.
pub fn live(
    view: &View,
    halt: Option<&Halt>,
    now: Option<&GatewayLines>,
    now_ms: i64,
) -> LiveRestore {
    let in_part = !view.left_out.is_empty();
    // Of a journal that is understood only so far, the restore itself says that, as on the command line.
    let halted = halt.filter(|_| view.standing != Standing::Unknown);
    let (tone, icon, title) = halted.map_or_else(|| tone(view.standing, in_part), tone_of_halt);
    let sentence = match halted {
        None => view.headline.clone(),
        // What to do stands in the lines, and the buttons below them.
        Some(Halt::Interrupted) if now.is_some() => {
            format!("{title}: no process works on this restore, and it must be recovered.")
        }
        Some(Halt::Interrupted) => {
            format!(
                "{title}: no process works on this restore. On the gateway, run `holdfast recover`."
            )
        }
        Some(Halt::Unreadable { .. }) => {
            format!(
                "{title}: what is below is all that can be read of it. An operator must decide."
            )
        }
    };
    let problem = match halt {
        Some(Halt::Unreadable { problem }) => Some(problem.clone()),
        Some(Halt::Interrupted) | None => view.problem.clone(),
    };
    let (done, total) = (view.done(), view.needed().count());
    let count = match (total, view.direction()) {
        (0, _) => "No step has begun".into(),
        (_, Direction::Forward) => format!("{done} of {total} steps done"),
        (_, Direction::Back) => format!("{done} of {total} rollback steps done"),
    };
    LiveRestore {
        id: view.id.to_string(),
        seq: view.seq.0,
        over: view.over,
        tone,
        icon,
        title,
        headline: below_title(&sentence, title),
        summary: sentence,
        problem,
        now: now.map(gateway_lines),
        lacks: view.lacks.iter().map(NoteLine::below_heading).collect(),
        closing_warnings: view.leftovers.iter().map(NoteLine::by_itself).collect(),
        left_out: view.left_out.iter().map(NoteLine::below_heading).collect(),
        unsaved: view.unsaved.clone(),
        plan_title: match view.standing {
            Standing::RolledBack
            | Standing::NothingChanged
            | Standing::Restored
            | Standing::Left
            | Standing::Finishing
            | Standing::Stuck => "The plan had said",
            Standing::Starting
            | Standing::Preparing
            | Standing::Forward
            | Standing::Back
            | Standing::Unknown => "Known beforehand",
        },
        plan_warnings: kind_lines(&alike(&view.warnings), NoteLine::by_itself),
        archive: {
            let made = moment_of(&view.archive_made);
            let made = made.map_or_else(|| view.archive_made.clone(), moment);
            let host = view.archive_host.as_ref();
            let host = host.map_or_else(String::new, |host| format!(" on {host}"));
            format!("{}, made {made}{host}", view.archive)
        },
        done,
        total,
        count,
        span: times(view),
        lists: lists(view, halt.is_some(), now_ms),
    }
}

/// The sentence without the word that stands above it already.
fn below_title(headline: &str, title: &str) -> String {
    let rest = [title, "Nothing was changed"]
        .iter()
        .find_map(|t| headline.strip_prefix(t)?.strip_prefix(": "));
    let Some(rest) = rest else {
        return headline.into();
    };
    capitalized(rest)
}

fn times(view: &View) -> String {
    let began = format!("Began {}", moment(view.began_ms));
    if view.over {
        let took = u64::try_from(view.last_ms.saturating_sub(view.began_ms)).unwrap_or(0);
        format!("{began}, took {}", duration(took))
    } else {
        began
    }
}

/// The style, the sign and the title of a standing; of one that is restored, whether it is so only in part.
fn tone(standing: Standing, in_part: bool) -> (&'static str, &'static str, &'static str) {
    match standing {
        Standing::Restored if in_part => ("in-part", "warning", "Restored in part"),
        Standing::Starting => ("running", "running", "Starting"),
        Standing::Preparing => ("running", "running", "Preparing"),
        Standing::Forward => ("running", "running", "Restoring"),
        Standing::Finishing => ("running", "running", "Cleaning up"),
        Standing::Back => ("going-back", "undone", "Rolling back"),
        Standing::Stuck => ("stuck", "warning", "Stuck"),
        Standing::Restored => ("restored", "done", "Restored"),
        Standing::RolledBack => ("rolled-back", "undone", "Rolled back"),
        Standing::NothingChanged => ("nothing-changed", "skipped", "Nothing changed"),
        Standing::Left => ("in-part", "warning", "Left as it is"),
        Standing::Unknown => ("unreadable", "warning", "Not understood"),
    }
}

/// The same of a restore that gets no further.
fn tone_of_halt(halt: &Halt) -> (&'static str, &'static str, &'static str) {
    match halt {
        Halt::Interrupted => ("interrupted", "interrupted", "Interrupted"),
        Halt::Unreadable { .. } => ("stuck", "warning", "Journal unreadable"),
    }
}

fn lists(view: &View, halts: bool, now_ms: i64) -> Vec<List> {
    let rows = |direction| -> Vec<StepRow> {
        view.steps
            .iter()
            .filter(|s| s.direction == direction)
            .map(|s| row(s, view, halts, now_ms))
            .collect()
    };
    let (forward, back) = (rows(Direction::Forward), rows(Direction::Back));
    let went_back = !back.is_empty();
    let forward = List {
        name: "forward",
        title: match went_back {
            true => "Before it rolled back",
            false => "Steps",
        },
        past: went_back,
        rows: forward,
    };
    let back = List {
        name: "back",
        title: "Rolling back",
        past: false,
        rows: back,
    };
    // What happens now comes first.
    let lists = [back, forward].into_iter();
    lists.filter(|list| !list.rows.is_empty()).collect()
}

fn row(step: &StepView, view: &View, halts: bool, now_ms: i64) -> StepRow {
    let shown = match step.state {
        StepState::Running if halts => StepState::Interrupted,
        state => state,
    };
    let state = match shown {
        StepState::Waiting => "waiting",
        StepState::Running => "running",
        StepState::Done => "done",
        StepState::Failed => "failed",
        StepState::Interrupted => "interrupted",
        StepState::NotNeeded => "skipped",
    };
    let running_for = match (shown, step.began_ms) {
        (StepState::Running, Some(began)) if !view.over => {
            Some(u64::try_from(now_ms.saturating_sub(began)).unwrap_or(0))
        }
        _ => None,
    };
    let told = step.problem.is_some() && step.problem == view.problem;
    let cannot = step.problem.as_ref().filter(|_| told);
    StepRow {
        key: step.id.clone(),
        title: capitalized(&step.title),
        state,
        word: shown.words(),
        began: step.began_ms.map(time_of_day),
        began_iso: step.began_ms.map(utc),
        took: step.took_ms.map(duration),
        elapsed: running_for.map(so_far),
        elapsed_ms: running_for,
        attempt: step.attempt,
        did: step.did.clone(),
        warnings: step.warnings.iter().map(NoteLine::by_itself).collect(),
        problem: step.problem.clone().filter(|_| !told),
        cannot: cannot.map(|p| p.what.clone()),
    }
}

/// The first page.
pub fn home(overview: &Overview) -> Value {
    json!({
        "host": overview.host,
        "upload_mib": overview.upload_mib,
        "backup": overview.backups.last_backup.as_ref().map(backup),
        "incomplete": overview.backups.incomplete_backup.as_ref().map(backup),
        "unknown": overview.backups.unknown_backups,
        "schedule": overview.backups.schedule,
        "running": overview.running.as_ref().map(running),
        "restores": overview.restores.iter().map(restore_line).collect::<Vec<_>>(),
    })
}

/// A backup as the pages show it.
pub fn backup(backup: &BackupLine) -> Value {
    json!({
        "name": backup.name,
        "size": size(backup.size),
        "made": moment(backup.made_ms),
        "made_iso": utc(backup.made_ms),
        "in_future": backup.in_future,
        "lacks": backup.lacks,
        "sha256": backup.sha256,
    })
}

fn running(running: &Running) -> Value {
    match running {
        Running::Backup {
            began_ms,
            step,
            done,
            total,
        } => {
            let share = done
                .saturating_mul(100)
                .checked_div(*total)
                .map_or_else(String::new, |p| format!(", {}%", p.min(100)));
            json!({
                "tone": "running",
                "icon": "running",
                "title": "A backup is being made",
                "says": format!("Since {}: {step}{share}.", moment(*began_ms)),
                "address": null,
            })
        }
        Running::Restore {
            id,
            standing,
            interrupted,
            step,
            done,
            total,
            now,
        } => {
            let (tone, icon, title) = match *interrupted && *standing != Standing::Stuck {
                true => tone_of_halt(&Halt::Interrupted),
                false => tone(*standing, false),
            };
            let at = step.as_ref().map_or_else(String::new, |s| format!(": {s}"));
            let steps = format!("{title}{at} ({done} of {total} steps done).");
            let (runs, says) = match standing {
                Standing::Stuck => ("A restore is stuck", "An operator must fix the cause."),
                _ if *interrupted => ("A restore was interrupted", "It must be recovered."),
                Standing::Unknown => (
                    "A restore by a newer Holdfast",
                    "This program does not understand its journal. Run holdfast status on the gateway.",
                ),
                _ => ("A restore runs", steps.as_str()),
            };
            json!({
                "tone": tone,
                "icon": icon,
                "title": runs,
                "says": says,
                "address": format!("/restores/{id}"),
                "link": "Show its steps live",
                "id": id,
                "now": now.as_ref().map(gateway_lines),
            })
        }
        Running::Lacking { id, now } => json!({
            "tone": "interrupted",
            "icon": "warning",
            "title": "Something is not right since the last restore",
            "says": "It is named below, with what to do.",
            "address": format!("/restores/{id}"),
            "link": "Show its steps",
            "id": id,
            "now": gateway_lines(now),
        }),
        // Without its journal there is no page of it, and no button could find it.
        Running::Lost { now, problem } => json!({
            "tone": "stuck",
            "icon": "warning",
            "title": "A restore is lost",
            "says": "It was under way, and its journal is not here.",
            "address": null,
            "now": gateway_lines(now),
            "problem": problem,
        }),
    }
}

fn restore_line(line: &RestoreLine) -> Value {
    let (tone, word) = match line.standing {
        None => ("unreadable", "journal unreadable"),
        Some(Standing::Stuck) => ("stuck", Standing::Stuck.words()),
        Some(_) if line.interrupted => ("interrupted", "interrupted"),
        Some(Standing::Restored) if line.in_part => ("in-part", "restored in part"),
        Some(standing) => (tone(standing, false).0, standing.words()),
    };
    json!({
        "id": line.id,
        "began": moment(line.began_ms),
        "began_iso": utc(line.began_ms),
        "in_future": line.in_future,
        "archive": line.archive,
        "tone": tone,
        "word": word,
    })
}
