//! Configs in the folder of `wg-quick` of which nobody can tell whether they are a client's: the rows cannot be read, and there
//! is no first copy. They may be another program's, with its keys, and so are not saved; that they may lack is said.

use std::collections::BTreeSet;

use super::Making;
use crate::parts::{Fate, Part};
use crate::wording::names;

impl Making<'_, '_> {
    /// Says of these that they may be missing.
    pub(super) fn unclaimed(&mut self, unclaimed: &BTreeSet<String>) {
        let dir = &self.profile.gateway.wireguard_dir;
        let left = |name: &&String| !self.left_out.contains(*name);
        let unclaimed: BTreeSet<String> = unclaimed.iter().filter(left).cloned().collect();
        if unclaimed.is_empty() {
            return;
        }
        let why = format!(
            "whether {} in {} are clients' is not known, since the rows of clients cannot be read",
            names(&unclaimed),
            dir.display()
        );
        let fate = self.parts.entry(Part::Configs).or_insert(Fate::Saved);
        match fate {
            // All of them may lack already.
            Fate::NotSaved { .. } if self.unread.is_empty() => {}
            Fate::NotSaved { why: already } => {
                already.push_str(&format!("; {why}"));
                self.unread.extend(unclaimed.iter().cloned());
            }
            Fate::Saved | Fate::SavedRaw { .. } | Fate::NotThere => {
                *fate = Fate::NotSaved { why };
                self.unread.extend(unclaimed.iter().cloned());
            }
        }
        self.left_out.extend(unclaimed);
    }
}
