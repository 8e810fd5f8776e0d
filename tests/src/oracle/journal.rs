//! What the judges ask of a restore's journal. Owns these answers; judges nothing.

use journal_format::{Code, Entry, Note, Record, Soundness, State, Step, scan};

use crate::sim::gateway::Scenario;
use crate::sim::world::World;

/// The records of the journal, and how sound it is.
pub struct Journal {
    /// All that are sound.
    pub records: Vec<Record>,
    /// What it says does not work.
    pub(super) lacks: Vec<Note>,
    pub(super) soundness: Option<Soundness>,
}

impl Journal {
    /// Reads it; none of either if there is none.
    pub fn of(s: &Scenario, world: &World) -> Journal {
        let scan = world.disk.read(&s.places.journal).map(|b| scan(&b));
        Journal {
            soundness: scan.as_ref().map(|s| s.soundness()),
            lacks: scan
                .as_ref()
                .and_then(|s| s.state.as_ref())
                .map_or_else(Vec::new, State::lacks),
            records: scan.map(|s| s.records).unwrap_or_default(),
        }
    }

    /// Whether a driver of this boot began to bring the gateway's running part back.
    pub(super) fn rebuilt_in(&self, boot: u32) -> bool {
        let boot = format!("boot-{boot}");
        let mut now = false;
        self.records.iter().any(|r| match &r.entry {
            Entry::Driver(driver) => {
                now = driver.boot.to_string() == boot;
                false
            }
            Entry::Intent { r#move, .. } => {
                now && matches!(r#move.step, Step::LoadFirewall | Step::StartServices)
            }
            _ => false,
        })
    }

    /// Whether it had its verdict, and what it lacked was tried again.
    pub(super) fn was_tried_again(&self) -> bool {
        let mut entries = self.records.iter().map(|r| &r.entry);
        let again = [Step::StartServices, Step::TunnelsUp];
        entries.any(|e| matches!(e, Entry::Closed { .. }))
            && entries
                .any(|e| matches!(e, Entry::Intent { r#move, .. } if again.contains(&r#move.step)))
    }

    /// Whether this step says this, the last time that it was done.
    pub(super) fn says(&self, step: Step, code: &Code) -> bool {
        let last = self.records.iter().rev().find_map(|r| match &r.entry {
            Entry::Done {
                r#move, warnings, ..
            } if r#move.step == step => Some(warnings),
            _ => None,
        });
        last.is_some_and(|warnings| warnings.iter().any(|w| w.is(code)))
    }

    /// The steps that were done, in order.
    pub fn done(&self) -> impl Iterator<Item = Step> {
        let entries = self.records.iter().map(|r| &r.entry);
        entries.filter_map(|e| match e {
            Entry::Done { r#move, .. } => Some(r#move.step),
            _ => None,
        })
    }

    /// Whether a move of this step failed.
    pub fn failed(&self, step: Step) -> bool {
        let mut entries = self.records.iter().map(|r| &r.entry);
        entries.any(|e| matches!(e, Entry::Failed { r#move, .. } if r#move.step == step))
    }
}
