//! What a journal names of tunnels: those that could not be brought up, and those that do not have again what was set by hand.

use journal_format::{Code, Entry, Note};

use super::Journal;
use crate::sim::world::Picture;

/// Takes out of what is wanted what the journal says is not there; of what was set by hand no more than really is not.
pub(super) fn less_what_lacks(want: &mut Picture, journal: &Journal, have: &Picture) {
    want.running
        .tunnels
        .retain(|name, _| !names(&journal.lacks, &Code::TUNNEL_STAYS_DOWN, name));
    let done = journal.records.iter().filter_map(|r| match &r.entry {
        Entry::Done { warnings, .. } => Some(warnings.as_slice()),
        _ => None,
    });
    let done: Vec<&[Note]> = done.collect();
    for (name, up) in &mut want.running.tunnels {
        let is_named = done
            .iter()
            .any(|notes| names(notes, &Code::SET_BY_HAND, name));
        if let Some(there) = have.running.tunnels.get(name).filter(|_| is_named)
            && there.by_hand.is_part_of(&up.by_hand)
        {
            up.by_hand = there.by_hand.clone();
        }
    }
}

fn names(notes: &[Note], code: &Code, name: &str) -> bool {
    let is = |note: &Note| note.is(code) && note.name.as_deref() == Some(name);
    notes.iter().any(is)
}
