//! The flags by which an admin accepts that a safety backup lacks a part, or that a tunnel is left down, and the parts for want
//! of which a restore was stopped. Owns how the flags are spelled; knows no part.

use crate::{Code, Direction, Fate, State, Step, Verdict};

/// The flag, before the name of a part.
pub const WITHOUT_SAFETY_BACKUP_OF: &str = "--without-safety-backup-of";

/// The flag, before the name of a tunnel.
pub const LEAVE_DOWN: &str = "--leave-down";

/// The flags that accept these parts, as they are typed.
pub fn accepting(parts: impl IntoIterator<Item = String>) -> String {
    flags(WITHOUT_SAFETY_BACKUP_OF, parts)
}

/// The flags that leave these tunnels down, as they are typed.
pub fn leaving_down(tunnels: impl IntoIterator<Item = impl Into<String>>) -> String {
    flags(LEAVE_DOWN, tunnels.into_iter().map(Into::into))
}

fn flags(flag: &str, names: impl IntoIterator<Item = String>) -> String {
    let one = |name: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let shown = match name.chars().all(plain) {
            true => name,
            false => format!("'{}'", name.replace('\'', r"'\''")),
        };
        format!("{flag} {shown}")
    };
    names.into_iter().map(one).collect::<Vec<_>>().join(" ")
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
