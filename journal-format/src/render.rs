//! Records and views as text for terminals, and records as JSON for programs. Owns the wording of both and the
//! escaping of what came from outside; decides nothing.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use crate::brief::the_rest;
use crate::civil::{duration, moment_in, size, utc};
use crate::{
    Detail, Direction, Entry, Exchange, Info, Move, Note, Plan, Policy, Problem, Record, Role, Seq,
    StepView, Target, View, alike, note_lines,
};

/// Text in which everything that could steer a terminal or reorder a line is made visible: `\u{1b}` for an escape.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let steers = c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steers {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
    }
    out
}

/// The words as they begin a line of their own.
pub fn capitalized(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// A problem as a terminal shows it: what, command, standard error, advice, a line each; lines of its own within the latter two.
pub fn problem_text(problem: &Problem) -> String {
    let lines = |text: &str| text.lines().map(visible).collect::<Vec<_>>().join("\n");
    let shown = Problem {
        code: None,
        what: visible(&problem.what),
        command: problem.command.as_deref().map(visible),
        stderr: problem.stderr.as_deref().map(lines),
        advice: lines(&problem.advice),
        about: Vec::new(),
    };
    shown.to_string()
}

/// A note as a terminal shows it, on one line: how much it matters, the sentence, and what to do.
pub fn note_line(note: &Note) -> String {
    format!("{}: {}", note.weight.words(), visible(&note.to_string()))
}

/// A record as a person reads it: place, time and what it says; below it, indented, the details.
pub fn record_text(record: &Record, detail: Detail) -> String {
    let mut text = format!(
        "{:>4}  {}  {}",
        record.seq.0,
        utc(record.at_ms),
        summary(record)
    );
    for line in details(&record.entry, detail) {
        let _ = write!(text, "\n{:28}{line}", "");
    }
    text
}

/// A line of a newer version, for which there are no words.
pub fn opaque_text(seq: Seq, json: &Value) -> String {
    format!(
        "{:>4}  (unknown to this version) {}",
        seq.0,
        visible(&json.to_string())
    )
}

/// A record as a program reads it: all of it, its time as text, and its one-line text.
///
/// To be written as it is, never by way of a [`Value`]: the plan of a large gateway has megabytes.
#[derive(Debug, Serialize)]
pub struct RecordJson<'r> {
    seq: Seq,
    at: String,
    at_ms: i64,
    up_ms: u64,
    text: String,
    entry: &'r Entry,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'r Info>,
}

/// A record as a program reads it.
pub fn record_json(record: &Record) -> RecordJson<'_> {
    RecordJson {
        seq: record.seq,
        at: utc(record.at_ms),
        at_ms: record.at_ms,
        up_ms: record.up_ms,
        text: summary(record),
        entry: &record.entry,
        info: record.info.as_ref(),
    }
}

/// What a record says, on one line.
pub(crate) fn summary(record: &Record) -> String {
    let says = entry_summary(&record.entry);
    match record.asked_by() {
        Some(who) => format!("{says}, asked by {who}"),
        None => says,
    }
}

fn entry_summary(entry: &Entry) -> String {
    match entry {
        Entry::Header(h) => format!(
            "restore {}, format {}, written by {}",
            h.restore,
            h.format,
            visible(&h.program)
        ),
        Entry::Plan(plan) => plan_summary(plan),
        Entry::Driver(d) => {
            let who = match d.role {
                Role::Restore => "the restore started",
                Role::Recover => "a recovery started by itself",
                Role::RecoverByHand => "a recovery started by hand",
                Role::Leave => "the operator leaves the gateway as it is",
            };
            let policy = match d.policy {
                None => "",
                Some(Policy::Auto) => ", policy auto",
                Some(Policy::Resume) => ", policy resume",
                Some(Policy::RollBack) => ", policy roll-back",
            };
            format!("{who}, process {}{policy}", d.pid)
        }
        Entry::Armed { .. } => "the restore marker is set: changes to the gateway may begin".into(),
        Entry::Intent { r#move, .. } => format!("{}: begins", move_text(*r#move)),
        Entry::Done { r#move, .. } => format!("{}: done", move_text(*r#move)),
        Entry::Failed { r#move, .. } => format!("{}: failed", move_text(*r#move)),
        Entry::Turned { .. } => "rolling back".into(),
        Entry::Committed => "committed: from here on a boot uses the new files".into(),
        Entry::Stuck { .. } => "stuck: an operator must fix the cause".into(),
        Entry::Closed { verdict, .. } => format!("closed: {verdict}"),
    }
}

pub(crate) fn move_text(m: Move) -> String {
    let back = match m.direction {
        Direction::Forward => "",
        Direction::Back => "roll back: ",
    };
    let attempt = if m.attempt > 1 {
        format!(" (attempt {})", m.attempt)
    } else {
        String::new()
    };
    capitalized(&format!("{back}{}{attempt}", m.step.title(m.direction)))
}

fn plan_summary(plan: &Plan) -> String {
    let count =
        |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    // Files beside a database that cannot be read come with it.
    let is_database = |path: &str| plan.databases.iter().any(|d| d.path == path);
    let is_beside = |target: &&Target| {
        let sides = ["-wal", "-shm", "-journal"].iter();
        let mut stems = sides.filter_map(|side| target.path.strip_suffix(side));
        stems.any(is_database)
    };
    let databases = plan.databases.len() - plan.databases.iter().filter(is_beside).count();
    format!(
        "plan for {}: {}, {}, {} down, {} up",
        visible(&plan.archive.name),
        count(databases, "database", "databases"),
        count(plan.files.len(), "file", "files"),
        count(
            plan.tunnels_down.len().saturating_sub(plan.stays_up.len()),
            "tunnel",
            "tunnels"
        ),
        plan.tunnels_up.len().saturating_sub(plan.stays_up.len()),
    )
}

fn details(entry: &Entry, detail: Detail) -> Vec<String> {
    match entry {
        Entry::Header(_) | Entry::Driver(_) | Entry::Armed { .. } | Entry::Committed => Vec::new(),
        Entry::Plan(plan) => {
            let host = plan.archive.host.as_deref();
            let host = host.map_or_else(String::new, |h| format!(" on {}", visible(h)));
            let made = format!(
                "backup made {}{host} by {}, {}",
                moment_in(&plan.archive.created_at),
                visible(&plan.archive.made_by),
                size(plan.archive.size)
            );
            let mut lines = vec![made];
            lines.extend(note_lines(&plan.warnings, detail));
            lines.extend(left_out_lines(&plan.left_out, detail));
            lines
        }
        Entry::Intent { exchanges, .. } => {
            let shown = |e: &Exchange| format!("{} <-> {}", visible(&e.path), visible(&e.staged));
            first_lines(exchanges.iter().map(shown), detail)
        }
        Entry::Done { did, warnings, .. } => {
            let mut lines = did_lines(did, detail);
            lines.extend(note_lines(warnings, detail));
            lines
        }
        Entry::Failed { problem, .. } | Entry::Turned { problem } | Entry::Stuck { problem } => {
            problem_text(problem).lines().map(str::to_owned).collect()
        }
        Entry::Closed { warnings, .. } => note_lines(warnings, detail),
    }
}

/// Things of one step that are told each by itself.
const FIRST: usize = 4;

/// The first of these lines, and how many more there are.
fn first_lines(lines: impl ExactSizeIterator<Item = String>, detail: Detail) -> Vec<String> {
    let count = lines.len();
    match detail {
        Detail::Brief if count > FIRST => {
            let mut lines: Vec<String> = lines.take(FIRST - 1).collect();
            lines.push(format!(
                "and {} more (--verbose lists all)",
                count - lines.len()
            ));
            lines
        }
        Detail::Brief | Detail::Whole => lines.collect(),
    }
}

/// What a step did.
pub(crate) fn did_lines(did: &[String], detail: Detail) -> Vec<String> {
    first_lines(did.iter().map(|d| visible(d)), detail)
}

/// What a restore leaves out, a line each; of many alike the first.
pub fn left_out_lines(left_out: &[Note], detail: Detail) -> Vec<String> {
    let line = |note: &Note| format!("left out: {}", visible(&note.to_string()));
    if detail == Detail::Whole {
        return left_out.iter().map(line).collect();
    }
    let mut lines = Vec::new();
    for kind in alike(left_out) {
        let told = match kind.count() <= LEFT_OUT {
            true => kind.count(),
            false => 1,
        };
        lines.extend(kind.first[..told].iter().map(line));
        if let (Some(last), false) = (lines.last_mut(), told == kind.count()) {
            last.push_str(&the_rest(&kind, told));
        }
    }
    lines
}

/// Left-out things of one kind that are told each by itself.
const LEFT_OUT: usize = 6;

/// Who asked for a restore, behind when it began; empty where that is not known.
pub fn asked_by_clause(view: &View) -> String {
    let who = view.asked_by.as_ref();
    who.map_or_else(String::new, |who| format!(", asked by {who}"))
}

/// A restore as a terminal shows it: where it stands, its steps, and what is to be done.
pub fn view_text(view: &View, detail: Detail) -> String {
    let mut text = format!("restore {}", view.id);
    if !view.archive.is_empty() {
        let _ = write!(text, " from {}", visible(&view.archive));
    }
    let _ = write!(
        text,
        "\nbegan {}{}, last news {}\n\n{}\n",
        view.began,
        asked_by_clause(view),
        view.last,
        view.headline
    );
    if let Some(problem) = &view.problem {
        let _ = writeln!(text, "{}", problem_text(problem));
    }
    let left_out = left_out_lines(&view.left_out, detail);
    let notes = [&view.warnings, &view.leftovers].map(|notes| note_lines(notes, detail));
    for line in left_out.iter().chain(notes.iter().flatten()) {
        let _ = writeln!(text, "{line}");
    }
    let mut direction = Direction::Forward;
    for (i, step) in view.steps.iter().enumerate() {
        if i == 0 || step.direction != direction {
            direction = step.direction;
            text.push_str(match direction {
                Direction::Forward => "\n",
                Direction::Back => "\nroll back\n",
            });
        }
        step_text(&mut text, step, detail);
    }
    text
}

fn step_text(text: &mut String, step: &StepView, detail: Detail) {
    let mut line = format!(
        "  {:<11}  {:<28}",
        step.state.words(),
        capitalized(&step.title)
    );
    if let Some(began) = &step.began {
        let _ = write!(line, "  {began}");
    }
    if let Some(took) = step.took_ms {
        let _ = write!(line, "  {}", duration(took));
    }
    if step.attempt > 1 {
        let _ = write!(line, "  attempt {}", step.attempt);
    }
    let _ = writeln!(text, "{}", line.trim_end());
    let notes = note_lines(&step.warnings, detail);
    for line in did_lines(&step.did, detail).iter().chain(&notes) {
        let _ = writeln!(text, "{:15}{line}", "");
    }
    let problem = step.problem.as_ref().map(problem_text).unwrap_or_default();
    for line in problem.lines() {
        let _ = writeln!(text, "{:15}{line}", "");
    }
}

#[cfg(test)]
mod tests {
    use crate::Code;

    use super::*;

    #[test]
    fn what_steers_a_terminal_or_reorders_a_line_is_made_visible() {
        assert_eq!(
            visible("a\u{1b}[2Jb\r\n\u{202e}c\u{9b}\u{7f}"),
            r"a\u{1b}[2Jb\r\n\u{202e}c\u{9b}\u{7f}"
        );
        assert_eq!(visible("Zürich → 東京 \"x\""), "Zürich → 東京 \"x\"");
        let problem = Problem {
            stderr: Some("one\ntwo\u{1b}\n".into()),
            ..Problem::new(Code::IO, "read a\nb", "fix \u{1b}it")
        };
        insta::assert_snapshot!(problem_text(&problem), @r"
        cannot read a\nb
          | one
          | two\u{1b}
          what to do: fix \u{1b}it
        ");
    }
}
