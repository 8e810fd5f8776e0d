//! The flag by which an admin accepts that a safety backup lacks a part: put into the advice where that stopped a restore, and
//! read from it again by whoever shows how it ended. Owns the flag's spelling; knows no part.

use crate::{Direction, Fate, State, Step, Verdict};

/// The flag, before the name of a part.
pub const WITHOUT_SAFETY_BACKUP_OF: &str = "--without-safety-backup-of";

/// The flags that accept these parts, as they are typed.
pub fn accepting(parts: impl IntoIterator<Item = String>) -> String {
    let one = |part: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let shown = match part.chars().all(plain) {
            true => part,
            false => format!("'{}'", part.replace('\'', r"'\''")),
        };
        format!("{WITHOUT_SAFETY_BACKUP_OF} {shown}")
    };
    parts.into_iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The parts that a text with such flags names.
fn accepted(text: &str) -> Vec<String> {
    let mut flags = text.split(WITHOUT_SAFETY_BACKUP_OF);
    flags.next();
    flags
        .filter_map(|behind| word(behind.trim_start()))
        .collect()
}

/// The first word, as a shell reads it.
fn word(text: &str) -> Option<String> {
    let mut word = String::new();
    let mut letters = text.chars();
    let mut quoted = false;
    while let Some(c) = letters.next() {
        match c {
            '\'' => quoted = !quoted,
            '\\' if !quoted => word.extend(letters.next()),
            ' ' if !quoted => break,
            c => word.push(c),
        }
    }
    Some(word).filter(|w| !w.is_empty())
}

impl State {
    /// The parts for want of which the safety backup ended this restore before it changed anything: accepted by name, it would
    /// have gone on.
    pub fn unsaved(&self) -> Vec<String> {
        let ended = self.verdict() == Some(Verdict::NothingChanged);
        let safety = self.find(Step::SafetyBackup, Direction::Forward);
        let failed = safety.filter(|m| ended && m.fate == Fate::Failed);
        let problem = failed.and_then(|m| m.problem.as_ref());
        problem.map_or_else(Vec::new, |p| accepted(&p.advice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_that_an_advice_names_are_read_from_it_again() {
        let parts = ["configs.db", "rules-v4", "it's a \\ odd.db", "--x.db"].map(String::from);
        let advice = format!("mend it; or restore with {}", accepting(parts.clone()));
        assert_eq!(accepted(&advice), parts);
        assert_eq!(accepted("mend it, and restore again"), Vec::<String>::new());
        assert_eq!(accepted(WITHOUT_SAFETY_BACKUP_OF), Vec::<String>::new());
        assert_eq!(
            accepting(["configs.db".into(), "a b.db".into()]),
            "--without-safety-backup-of configs.db --without-safety-backup-of 'a b.db'"
        );
    }
}
