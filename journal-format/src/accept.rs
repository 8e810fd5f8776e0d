//! The flag by which an admin accepts that a safety backup lacks a part, and the parts for want of which a restore was stopped.
//! Owns the flag's spelling; knows no part.

use crate::{Code, Direction, Fate, State, Step, Verdict};

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

impl State {
    /// The parts for want of which the safety backup ended this restore before it changed anything: accepted by name, it would
    /// have gone on.
    pub fn unsaved(&self) -> Vec<String> {
        let ended = self.verdict() == Some(Verdict::NothingChanged);
        let safety = self.find(Step::SafetyBackup, Direction::Forward);
        let failed = safety.filter(|m| ended && m.fate == Fate::Failed);
        let problem = failed.and_then(|m| m.problem.as_ref());
        let lacks = problem.filter(|p| p.is(&Code::SAFETY_BACKUP_LACKS));
        lacks.map_or_else(Vec::new, |p| p.about.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_parts_are_typed_as_a_shell_reads_them() {
        assert_eq!(
            accepting(["configs.db".into(), "a b.db".into(), "it's.db".into()]),
            r"--without-safety-backup-of configs.db --without-safety-backup-of 'a b.db' --without-safety-backup-of 'it'\''s.db'"
        );
    }
}
