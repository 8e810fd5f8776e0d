//! What the agent says when it does not do what it was asked, and how much fits into a message. Owns both bounds.

use agent_protocol::{Refusal, WireError};
use journal_format::{AlikeNotes, Note, Problem, Weight, alike};

use super::Agent;
use crate::error::{Code, Fault, cannot};
use crate::state_dir;

/// What the page says of a fault.
pub fn of(agent: &Agent, fault: Fault) -> Refusal {
    match fault {
        Fault::Refused(problems) => Refusal::Unacceptable {
            problems: bounded_problems(problems),
        },
        Fault::Busy(problem) => busy(agent, problem),
        Fault::Failed(problem) | Fault::RolledBack(problem) | Fault::Stuck(problem) => {
            problem.into()
        }
        Fault::Declined => cannot(Code::BAD_REQUEST, "do that: it was declined", "").into(),
        Fault::Usage(text) => cannot(Code::BAD_REQUEST, text, "").into(),
    }
}

/// Something else runs: the open restore, if there is one.
pub fn busy(agent: &Agent, problem: Problem) -> Refusal {
    let open = state_dir::open_restore(&agent.profile).ok().flatten();
    let restore = open.map(|o| o.id);
    Refusal::Busy { problem, restore }
}

/// Why a request does not get what it asked for.
pub enum Unanswered {
    /// The agent says no.
    Refused(Refusal),
    /// The other side is gone, or gave up: nobody is left to be told.
    Lost(WireError),
}

impl From<Refusal> for Unanswered {
    fn from(refusal: Refusal) -> Unanswered {
        Unanswered::Refused(refusal)
    }
}

impl From<Problem> for Unanswered {
    fn from(problem: Problem) -> Unanswered {
        Unanswered::Refused(problem.into())
    }
}

impl From<WireError> for Unanswered {
    fn from(error: WireError) -> Unanswered {
        Unanswered::Lost(error)
    }
}

/// The largest serialized form of one list in a message, bytes; a message may be over three times as long.
const LARGEST: usize = 300 << 10;
/// Characters of one line, or of one part of a problem.
const LINE: usize = 500;
/// Characters of a paragraph, and of what is lost: its count and ten names, each as long as names are shown.
const LOSS: usize = 2000;
/// Lines of one list.
const LINES: usize = 500;

fn size(shown: &impl serde::Serialize) -> usize {
    serde_json::to_vec(shown).map_or(LARGEST, |v| v.len() + 1)
}

/// A line as it is sent.
pub fn short(text: &str) -> String {
    within(text, LINE)
}

/// What says how the gateway stands, as it is sent: its end is the last way out.
pub fn paragraph(text: &str) -> String {
    within(text, LOSS)
}

/// A note as it is sent.
pub fn short_note(note: &Note) -> Note {
    let most = match note.weight {
        Weight::Lost => LOSS,
        Weight::Down | Weight::Known => LINE,
    };
    Note {
        code: note.code.clone(),
        weight: note.weight,
        name: note.name.as_deref().map(short),
        names: shown_names(&note.names),
        text: within(&note.text, most),
        advice: note.advice.as_deref().map(short),
    }
}

/// Bytes of the names of one note, as they are sent.
const NAMES: usize = 40 << 10;

/// What fits of names, and how many more there are.
fn shown_names(all: &[String]) -> Vec<String> {
    let mut left = NAMES;
    let fits = |name: &&String| {
        let size = name.len() + 3;
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    };
    let mut shown: Vec<String> = all.iter().take_while(fits).cloned().collect();
    let more = all.len() - shown.len();
    shown.extend((more > 0).then(|| format!("and {more} more ({ALL})")));
    shown
}

/// Where everything stands that a page has no room for.
const ALL: &str =
    "`holdfast restore ARCHIVE --verbose` lists all and asks before it changes anything";

fn within(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

/// What fits into a message, and how much does not.
fn fitting<T: serde::Serialize>(all: Vec<T>, most: usize) -> (Vec<T>, usize) {
    let count = all.len();
    let mut left = LARGEST;
    let kept: Vec<T> = all
        .into_iter()
        .take(most)
        .take_while(|one| {
            let size = size(one);
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        })
        .collect();
    let more = count - kept.len();
    (kept, more)
}

/// What fits into a message; a plan of a large gateway may warn of thousands of things.
pub fn bounded(lines: Vec<String>) -> Vec<String> {
    and_more(fitting(lines.iter().map(|l| short(l)).collect(), LINES))
}

/// The same of notes, by kind: of each kind one is sent before any has a second one, what matters more first.
pub fn bounded_notes(notes: &[Note]) -> Vec<AlikeNotes> {
    let kinds = alike(notes);
    let mut left = LARGEST;
    let mut sent: Vec<AlikeNotes> = Vec::new();
    for round in 0..ALIKE {
        for (at, kind) in kinds.iter().enumerate() {
            let Some(note) = kind.first.get(round) else {
                continue;
            };
            let mut note = short_note(note);
            if size(&note) > left {
                if round > 0 {
                    continue;
                }
                // Of each kind the first one is sent, if need be without its names.
                note.names.clear();
            }
            left = left.saturating_sub(size(&note));
            match sent.get_mut(at) {
                Some(kind) => kind.first.push(note),
                None => sent.push(AlikeNotes {
                    first: vec![note],
                    more: 0,
                }),
            }
        }
    }
    for (sent, kind) in sent.iter_mut().zip(&kinds) {
        let more = kind.count().saturating_sub(sent.first.len());
        sent.more = u64::try_from(more).unwrap_or(u64::MAX);
    }
    sent
}

/// Notes of one kind that are sent.
const ALIKE: usize = 100;

fn and_more((mut shown, more): (Vec<String>, usize)) -> Vec<String> {
    shown.extend((more > 0).then(|| format!("and {more} more: {ALL}")));
    shown
}

/// What fits into a refusal; a large archive may have thousands of faults.
pub fn bounded_problems(problems: Vec<Problem>) -> Vec<Problem> {
    const PROBLEMS: usize = 50;
    let shortened = problems.into_iter().map(|p| Problem {
        code: p.code,
        what: short(&p.what),
        command: p.command.as_deref().map(short),
        stderr: p.stderr.as_deref().map(short),
        advice: short(&p.advice),
        about: p.about,
    });
    let (mut problems, more) = fitting(shortened.collect(), PROBLEMS);
    if more > 0 {
        problems.push(cannot(
            Code::COMMAND_LINE_ONLY,
            format!("show {more} more problems here"),
            "on the gateway, `holdfast verify` lists all",
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_plan_that_warns_of_thousands_of_things_fits_into_a_message() {
        let lines = bounded(
            (0..9000)
                .map(|i| format!("{i} {}", "ü".repeat(4000)))
                .collect(),
        );
        assert!(
            lines.last().unwrap().starts_with("and 8"),
            "{:?}",
            lines.last()
        );
        assert!(size(&lines) < agent_protocol::MAX_MESSAGE / 3);
        assert_eq!(bounded(vec!["one".into()]), ["one"]);
        // What grows when it is written as JSON counts as what it grows to.
        let escaped = bounded(vec!["\u{1}".repeat(LINE); 500]);
        assert!(size(&escaped) < agent_protocol::MAX_MESSAGE / 3);
    }

    #[test]
    fn of_thousands_of_notes_each_loss_is_told_with_its_count_and_its_names() {
        let names = vec!["n".repeat(120); 10].join(", ");
        let text =
            format!("4711 clients are not in the backup and will be gone: {names} and 4701 more");
        let gone = (0..4711).map(|i| format!("client{i:0100}"));
        let lost = Note::lost(Code::CLIENTS_GONE, text).naming(gone);
        let known = Note::known(Code::BACKUP_OLD, "k".repeat(9000));
        let notes = [vec![known; 9000], vec![lost.clone()]].concat();
        let sent = bounded_notes(&notes);
        assert_eq!(sent[0].first[0].text, lost.text);
        let last = sent[0].first[0].names.last().unwrap();
        assert!(
            last.starts_with("and 4") && last.contains("--verbose"),
            "{last}"
        );
        assert!(size(&sent) < agent_protocol::MAX_MESSAGE / 3);
        assert!(sent[1].first[0].text.len() < 600);
        assert_eq!((sent.len(), sent[1].count()), (2, 9000));
    }

    #[test]
    fn a_refusal_for_thousands_of_reasons_fits_into_a_message_and_says_that_there_are_more() {
        let problem = Problem {
            command: Some("c".repeat(9000)),
            stderr: Some("\u{1}".repeat(9000)),
            ..cannot(Code::IO, "ü".repeat(9000), "a".repeat(9000))
        };
        let problems = bounded_problems(vec![problem; 9000]);
        assert!(size(&problems) < agent_protocol::MAX_MESSAGE / 2);
        assert!(problems.len() > 10);
        let last = &problems.last().unwrap().what;
        assert!(last.starts_with("show 89"), "{last}");
    }
}
