//! Notes as lists of a page show them: of many alike a line, and the rest in a fold. Decides nothing about how much they matter.

use journal_format::{ALIKE, AlikeNotes, Code, Note, Weight};
use serde::Serialize;

/// A note as a list shows it.
#[derive(Debug, Serialize)]
pub(super) struct NoteLine {
    /// How much it matters, where no heading says so.
    word: Option<&'static str>,
    text: String,
    advice: Option<String>,
    code: Option<Code>,
    /// All that it is about, where the sentence names only the first.
    names: Vec<String>,
}

impl NoteLine {
    pub(super) fn below_heading(note: &Note) -> NoteLine {
        NoteLine {
            word: None,
            text: note.text.clone(),
            advice: note.advice.clone(),
            code: note.code.clone(),
            names: match note.names.len() > IN_A_SENTENCE {
                true => note.names.clone(),
                false => Vec::new(),
            },
        }
    }

    pub(super) fn by_itself(note: &Note) -> NoteLine {
        let word = (note.weight < Weight::Known).then(|| note.weight.words());
        NoteLine {
            word,
            ..NoteLine::below_heading(note)
        }
    }
}

/// Names that a sentence has itself.
const IN_A_SENTENCE: usize = 10;

/// Losses of one kind that no fold hides.
const LOSSES: usize = 12;

/// Notes of one kind as a page shows them: a line or two, and of more the first, with the rest in a fold.
#[derive(Debug, Serialize)]
pub(super) struct KindLines {
    lines: Vec<NoteLine>,
    /// How many stand in the fold, or would.
    folded: usize,
    rest: Vec<NoteLine>,
    /// How many of them do not.
    untold: u64,
}

pub(super) fn kind_lines(kinds: &[AlikeNotes], line: fn(&Note) -> NoteLine) -> Vec<KindLines> {
    let lines = |notes: &[Note]| notes.iter().map(line).collect();
    let kind = |kind: &AlikeNotes| {
        let alone = match (kind.weight(), kind.count()) {
            // A loss is not told by another one's words.
            (Weight::Lost, _) => kind.first.len().min(LOSSES),
            (Weight::Down | Weight::Known, ..=ALIKE) => kind.first.len(),
            (Weight::Down | Weight::Known, _) => kind.first.len().min(1),
        };
        KindLines {
            lines: lines(&kind.first[..alone]),
            folded: kind.count() - alone,
            rest: lines(&kind.first[alone..]),
            untold: kind.more,
        }
    };
    kinds.iter().map(kind).collect()
}
