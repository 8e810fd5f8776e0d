//! The permission to change the gateway. Says for which move; that one is given only behind a synced intent is the journal's.

use journal_format::Move;

/// The permission to change the gateway: there is one only between a synced intent and its outcome.
#[derive(Debug)]
pub struct Permit {
    r#move: Move,
}

impl Permit {
    /// The move that it permits.
    pub fn r#move(&self) -> Move {
        self.r#move
    }

    /// One for this move. Only the journal's writer may ask, after the intent is synced.
    pub(crate) fn after_intent(r#move: Move) -> Permit {
        Permit { r#move }
    }
}
