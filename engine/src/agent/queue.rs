//! Whose password is checked next. One at a time, since a check takes 32 MiB and a processor; whoever waits holds a
//! connection, so the places to wait are counted. Knows no password, and not who is right.
//!
//! Guesses by anybody, at any name, must not keep an admin out, and nobody can tell a guess from an admin before the check.
//! So there are lanes, each with places of its own that no other lane can take:
//! - *known*, by name: browsers in which this admin has signed in before (`devices`). They go first;
//! - *admin*, by name: any other browser that names an admin. Wide enough that dozens of guesses at once are waited out;
//! - *others*, together: names that are no admin's and can do nothing on the page, made up or not.
//!
//! Where nobody known waits, the lane goes next that waited longest for a turn; within a lane who came first. What is
//! left: more guesses at an admin's name than its lane has places keep that admin out of browsers that are new, not of
//! known ones.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

use super::locked;

/// Places of the browsers in which one admin has signed in before.
const KNOWN: usize = 4;
/// Places of all admins' names together, shared out evenly.
const ADMINS: usize = 64;
/// At least so many of them for each.
const LEAST: usize = 4;
/// Places of all other names together.
const OTHERS: usize = 32;

/// Where somebody waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// A browser in which this admin has signed in before.
    Known(String),
    /// Any other that names this admin.
    Admin(String),
    /// Who names no admin.
    Others,
}

/// Those who wait, and the one whose password is being checked.
pub struct Queue {
    admin_places: usize,
    state: Mutex<QueueState>,
    turned: Condvar,
}

#[derive(Default)]
struct QueueState {
    tickets: u64,
    waiting: Vec<(u64, Lane)>,
    checking: bool,
    /// The last ticket of each lane that had its turn, by the count of turns.
    had: BTreeMap<Lane, u64>,
    turns: u64,
}

impl QueueState {
    fn next(&self) -> Option<u64> {
        let rank = |(ticket, lane): &&(u64, Lane)| {
            let stranger = !matches!(lane, Lane::Known(_));
            (stranger, self.had.get(lane).copied(), *ticket)
        };
        self.waiting
            .iter()
            .min_by_key(rank)
            .map(|(ticket, _)| *ticket)
    }
}

/// The turn to check a password; over when dropped.
pub struct Turn<'a>(&'a Queue);

impl Queue {
    /// Nobody waits. The lanes of this many admins' names share the places.
    pub fn new(admins: usize) -> Queue {
        Queue {
            admin_places: (ADMINS / admins.max(1)).max(LEAST),
            state: Mutex::default(),
            turned: Condvar::new(),
        }
    }

    fn places(&self, lane: &Lane) -> usize {
        match lane {
            Lane::Known(_) => KNOWN,
            Lane::Admin(_) => self.admin_places,
            Lane::Others => OTHERS,
        }
    }

    /// Waits for a turn; none at once where all places of the lane are taken.
    pub fn turn(&self, lane: Lane) -> Option<Turn<'_>> {
        let mut state = locked(&self.state);
        let there = state.waiting.iter().filter(|(_, l)| *l == lane).count();
        if there >= self.places(&lane) {
            return None;
        }
        let ticket = state.tickets;
        state.tickets += 1;
        state.waiting.push((ticket, lane.clone()));
        while state.checking || state.next() != Some(ticket) {
            state = self
                .turned
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.retain(|(t, _)| *t != ticket);
        state.turns += 1;
        let turns = state.turns;
        state.had.insert(lane, turns);
        state.checking = true;
        Some(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        locked(&self.0.state).checking = false;
        self.0.turned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn admin() -> Lane {
        Lane::Admin("admin".into())
    }

    /// Somebody waits in each of these lanes, in this order, while a turn is taken; who is served is told.
    fn waiting(queue: &Arc<Queue>, lanes: &[Lane]) -> Receiver<usize> {
        let (tell, told) = channel();
        for (i, lane) in lanes.iter().enumerate() {
            let before = locked(&queue.state).waiting.len();
            let (queue_of, lane, tell) = (queue.clone(), lane.clone(), tell.clone());
            std::thread::spawn(move || {
                if let Some(_turn) = queue_of.turn(lane) {
                    tell.send(i).unwrap();
                }
            });
            while locked(&queue.state).waiting.len() == before {
                std::thread::yield_now();
            }
        }
        told
    }

    #[test]
    fn guesses_at_other_names_take_no_place_of_an_admin() {
        let queue = Arc::new(Queue::new(1));
        let first = queue.turn(Lane::Others).unwrap();
        let told = waiting(&queue, &vec![Lane::Others; OTHERS]);
        assert!(queue.turn(Lane::Others).is_none(), "its places are taken");
        let admins = waiting(&queue, &[admin()]);
        drop(first);
        assert_eq!(admins.recv().unwrap(), 0);
        assert_eq!(told.iter().count(), OTHERS, "and they have their turns");
    }

    #[test]
    fn sixty_guesses_at_the_admins_name_are_waited_out_by_a_browser_that_is_new() {
        let queue = Arc::new(Queue::new(1));
        let first = queue.turn(admin()).unwrap();
        let told = waiting(&queue, &vec![admin(); 61]);
        drop(first);
        assert_eq!(told.iter().last(), Some(60));
    }

    #[test]
    fn any_number_of_guesses_at_the_admins_name_is_overtaken_by_a_browser_that_is_known() {
        let queue = Arc::new(Queue::new(1));
        let first = queue.turn(admin()).unwrap();
        let mut lanes = vec![admin(); ADMINS];
        lanes.push(Lane::Known("admin".into()));
        let told = waiting(&queue, &lanes);
        assert!(queue.turn(admin()).is_none(), "its places are taken");
        drop(first);
        assert_eq!(told.recv().unwrap(), ADMINS, "the known one is first");
    }

    #[test]
    fn guesses_at_one_admins_name_hold_another_up_by_one_turn_at_most() {
        let queue = Arc::new(Queue::new(2));
        let first = queue.turn(admin()).unwrap();
        let mut lanes = vec![admin(); ADMINS / 2];
        lanes.push(Lane::Admin("second".into()));
        let told = waiting(&queue, &lanes);
        drop(first);
        let order: Vec<_> = told.iter().collect();
        let place = order.iter().position(|i| *i == ADMINS / 2).unwrap();
        assert!(place <= 1, "{order:?}");
    }

    #[test]
    fn places_come_back() {
        let queue = Queue::new(40);
        for _ in 0..200 {
            assert!(queue.turn(admin()).is_some());
        }
        let state = locked(&queue.state);
        assert!(state.waiting.is_empty() && !state.checking && state.had.len() == 1);
    }
}
