//! On what occasion a backup was made: what may be pruned, and what counts as a backup of a gateway that worked, depends on it. Pure.

use serde::{Deserialize, Serialize};

/// On what occasion a backup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupKind {
    /// With `holdfast backup`.
    ByHand,
    /// On the page, to be downloaded.
    Page,
    /// By the timer.
    Scheduled,
    /// By a restore, of what it was about to replace.
    Safety,
}

impl BackupKind {
    /// All of them.
    pub const ALL: [BackupKind; 4] = [
        BackupKind::ByHand,
        BackupKind::Page,
        BackupKind::Scheduled,
        BackupKind::Safety,
    ];

    /// As it stands in a manifest, and in lists.
    pub fn name(self) -> &'static str {
        match self {
            BackupKind::ByHand => "by-hand",
            BackupKind::Page => "page",
            BackupKind::Scheduled => "scheduled",
            BackupKind::Safety => "safety",
        }
    }

    /// The kind of this name; none for one that a newer version knows.
    pub fn named(name: &str) -> Option<BackupKind> {
        BackupKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_kind_is_known_again_by_its_name_wherever_it_stands() {
        for kind in BackupKind::ALL {
            assert_eq!(BackupKind::named(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert_eq!(BackupKind::named("weekly"), None);
    }
}
