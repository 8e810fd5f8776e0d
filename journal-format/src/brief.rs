//! Many notes and records in few lines. Owns how many lines each takes at a terminal and the words for the rest; what one note or
//! record says is `render`'s. Must not leave a loss unsaid: its number and its first names stand in any case.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::civil::{duration, utc};
use crate::render::{did_lines, move_text, note_line, problem_text, record_text, summary, visible};
use crate::{Code, Entry, Note, Record, Role, State, Weight};

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What fits on a screen or two, whatever the size of the gateway.
    Brief,
    /// All of it.
    Whole,
}

/// Notes of one kind: of one weight and one code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlikeNotes {
    /// The first of them; never empty.
    pub first: Vec<Note>,
    /// How many more there are.
    pub more: u64,
}

impl AlikeNotes {
    /// How much they matter.
    pub fn weight(&self) -> Weight {
        self.first.first().map_or(Weight::Known, |n| n.weight)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let more = usize::try_from(self.more).unwrap_or(usize::MAX);
        self.first.len().saturating_add(more)
    }
}

/// Notes by kind: what matters more first, and of one weight in their order.
pub fn alike(notes: &[Note]) -> Vec<AlikeNotes> {
    let mut kinds: Vec<AlikeNotes> = Vec::new();
    let mut places: HashMap<(Weight, Option<&Code>), usize> = HashMap::new();
    for note in notes {
        let kind = (note.weight, note.code.as_ref());
        let place = *places.entry(kind).or_insert(kinds.len());
        match kinds.get_mut(place) {
            Some(found) => found.first.push(note.clone()),
            None => kinds.push(AlikeNotes {
                first: vec![note.clone()],
                more: 0,
            }),
        }
    }
    kinds.sort_by_key(AlikeNotes::weight);
    kinds
}

/// Notes of one kind that are told each by itself.
pub const ALIKE: usize = 4;
/// Names in a sentence.
const NAMES: usize = 10;
/// Characters of a line of names.
const WIDTH: usize = 110;
/// Lines of names below a sentence.
const NAME_LINES: usize = 5;

/// Lines that the notes of one weight take.
fn most(weight: Weight) -> usize {
    match weight {
        Weight::Lost => 12,
        Weight::Down => 6,
        Weight::Known => 12,
    }
}

/// Notes as a terminal shows them: what is lost first, and of what is alike the first, how many more there are, and their names.
pub fn note_lines(notes: &[Note], detail: Detail) -> Vec<String> {
    let kinds = alike(notes);
    let mut lines = Vec::new();
    for weight in [Weight::Lost, Weight::Down, Weight::Known] {
        let kinds: Vec<&AlikeNotes> = kinds.iter().filter(|k| k.weight() == weight).collect();
        match detail {
            Detail::Whole => lines.extend(kinds.iter().flat_map(|k| whole(k))),
            Detail::Brief => lines.extend(brief(&kinds, most(weight))),
        }
    }
    lines
}

fn whole(kind: &AlikeNotes) -> Vec<String> {
    let mut lines = Vec::new();
    for note in &kind.first {
        lines.push(note_line(note));
        if note.names.len() > NAMES {
            lines.extend(names(&note.names, usize::MAX).0);
        }
    }
    lines
}

/// Each kind has its line before any has a second one.
fn brief(kinds: &[&AlikeNotes], most: usize) -> Vec<String> {
    let told = kinds.len().min(most);
    let mut spare = most - told;
    let mut lines = Vec::new();
    for kind in &kinds[..told] {
        let each = told_each(kind, spare);
        spare -= each - 1;
        for (at, note) in kind.first[..each].iter().enumerate() {
            let mut line = note_line(note);
            if at + 1 == each && each < kind.count() {
                line.push_str(&the_rest(kind, each));
            }
            lines.push(line);
            let lines_of_names = match note.weight {
                Weight::Lost => NAME_LINES.min(spare),
                Weight::Down | Weight::Known => 0,
            };
            if note.names.len() > NAMES && lines_of_names > 0 {
                let (named, more) = names(&note.names[NAMES..], lines_of_names);
                spare -= named.len();
                lines.extend(named);
                if let (Some(last), 1..) = (lines.last_mut(), more) {
                    last.push_str(&format!(" and {more} more (--verbose names all)"));
                }
            }
        }
    }
    let untold: usize = kinds[told..].iter().map(|kind| kind.count()).sum();
    if let (Some(last), 1..) = (lines.last_mut(), untold) {
        last.push_str(&format!(
            "; and {untold} of other kinds (--verbose lists all)"
        ));
    }
    lines
}

/// How many of a kind are told each by itself. A loss is not told by another one's words: all are, as long as there is room.
fn told_each(kind: &AlikeNotes, spare: usize) -> usize {
    let room = kind.first.len().min(1 + spare);
    match kind.weight() {
        Weight::Lost => room,
        Weight::Down | Weight::Known if kind.count() <= ALIKE.min(room) => kind.count(),
        Weight::Down | Weight::Known => 1,
    }
}

/// How many more of a kind there are than are told, and the first names.
pub(crate) fn the_rest(kind: &AlikeNotes, told: usize) -> String {
    let more = kind.count() - told;
    let named = kind.first[told..].iter().filter_map(|n| n.name.as_deref());
    let mut named: Vec<String> = named.take(NAMES).map(visible).collect();
    named.dedup();
    let alike = if more == 1 { "one more" } else { "more" };
    let number = if more == 1 {
        String::new()
    } else {
        format!("{more} ")
    };
    let names = match named.is_empty() {
        true => String::new(),
        false if named.len() < more => format!(", as for {}", named.join(", ")),
        false => format!(", for {}", named.join(", ")),
    };
    format!(" (and {number}{alike} of this kind{names}; --verbose lists all)")
}

/// Names in lines, and how many more there are.
fn names(all: &[String], most: usize) -> (Vec<String>, usize) {
    let mut lines: Vec<String> = Vec::new();
    for (at, name) in all.iter().enumerate() {
        let name = visible(name);
        let full = lines.len() >= most;
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + name.chars().count() <= WIDTH => {
                line.push_str(", ");
                line.push_str(&name);
            }
            _ if !full => lines.push(format!("    {name}")),
            _ => return (lines, all.len() - at),
        }
    }
    (lines, 0)
}

/// Lines of a problem: the rest is in the journal.
const PROBLEM: usize = 8;

/// A record as whoever watches a restore reads it: a line for each step, once it is done; more of what went wrong. Nothing of what
/// only the journal needs.
pub fn progress_lines(record: &Record, state: &State, detail: Detail) -> Vec<String> {
    if detail == Detail::Whole {
        return vec![record_text(record, detail)];
    }
    if state.repeats(record) {
        return Vec::new();
    }
    let line = |text: &str| format!("{}  {text}", utc(record.at_ms));
    let problem = |problem| -> Vec<String> {
        let text = problem_text(problem);
        text.lines()
            .take(PROBLEM)
            .map(|l| format!("  {l}"))
            .collect()
    };
    let summary = || line(&summary(record));
    match &record.entry {
        Entry::Header(_) => {
            let who = record.asked_by();
            let who = who.map_or_else(String::new, |who| format!(", asked by {who}"));
            vec![line(&format!("restore {}{who}", state.header.restore))]
        }
        Entry::Driver(driver) if driver.role == Role::Restore => Vec::new(),
        // What it does is told once it has done it.
        Entry::Intent { .. } => Vec::new(),
        Entry::Plan(plan) => {
            let mut notes = plan.warnings.clone();
            notes.retain(|note| note.weight < Weight::Known);
            let notes = note_lines(&notes, detail);
            let notes = notes.into_iter().map(|note| format!("  {note}"));
            std::iter::once(summary()).chain(notes).collect()
        }
        Entry::Driver(_) | Entry::Armed { .. } | Entry::Committed => vec![summary()],
        Entry::Done {
            r#move,
            did,
            warnings,
        } => {
            let title = move_text(*r#move);
            let took = state.find(r#move.step, r#move.direction);
            let took = took.and_then(|m| m.took_ms);
            let took = took.map_or_else(String::new, |ms| format!(" ({})", duration(ms)));
            let did = did_lines(did, Detail::Brief).join("; ");
            let mut lines = vec![line(&format!("{title:<28}  {did}{took}"))];
            let notes = note_lines(warnings, detail);
            lines.extend(notes.into_iter().map(|note| format!("  {note}")));
            lines
        }
        Entry::Failed { problem: why, .. } => [vec![summary()], problem(why)].concat(),
        // The step that failed has said why, a line above.
        Entry::Turned { problem: why } => match failed_by(state, &why.what) {
            true => vec![summary()],
            false => [vec![summary()], problem(why)].concat(),
        },
        Entry::Stuck { problem: why } => match failed_by(state, &why.what) {
            true => vec![summary()],
            false => [vec![summary()], problem(why)].concat(),
        },
        Entry::Closed { warnings, .. } => {
            let notes = note_lines(warnings, detail);
            let notes = notes.into_iter().map(|note| format!("  {note}"));
            std::iter::once(summary()).chain(notes).collect()
        }
    }
}

/// The step that a record begins, for as long as it runs.
pub fn running_line(record: &Record) -> Option<String> {
    match &record.entry {
        Entry::Intent { r#move, .. } => {
            Some(format!("{}  {} ...", utc(record.at_ms), move_text(*r#move)))
        }
        Entry::Header(_)
        | Entry::Plan(_)
        | Entry::Driver(_)
        | Entry::Armed { .. }
        | Entry::Done { .. }
        | Entry::Failed { .. }
        | Entry::Turned { .. }
        | Entry::Committed
        | Entry::Stuck { .. }
        | Entry::Closed { .. } => None,
    }
}

/// Whether a step failed of that very problem: what stops a restore says it again, with the step's name behind it.
fn failed_by(state: &State, what: &str) -> bool {
    let mut problems = state.moves.iter().filter_map(|m| m.problem.as_ref());
    problems.any(|problem| what.starts_with(&problem.what))
}

#[cfg(test)]
mod tests;
