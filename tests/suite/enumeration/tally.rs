//! What was enumerated: which worlds were taken up, how they ended, and what was wrong. Runs one check for many at once.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tests::sim::world::World;

use crate::counted;

/// Worlds that were taken up before: each is run once, and counted once.
#[derive(Default)]
pub struct Taken(Mutex<HashSet<(u64, bool, String)>>);

impl Taken {
    /// Whether this world was not yet taken up in this way.
    pub fn is_new(&self, world: &World, booted: bool, how: &impl std::fmt::Debug) -> bool {
        let key = (world.fingerprint(STATE), booted, format!("{how:?}"));
        self.0.lock().unwrap().insert(key)
    }
}

pub const STATE: &str = "/var/lib/holdfast";

/// What was counted, and what went wrong.
#[derive(Default)]
pub struct Tally {
    pub counts: BTreeMap<String, u64>,
    /// Of these states, how many asked for the operator on the way to their end.
    pub asked: u64,
    /// What is wrong: how often, and where first.
    pub wrong: BTreeMap<String, (u64, String)>,
}

impl Tally {
    pub fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_insert(0) += 1;
    }

    pub fn judge(&mut self, place: &str, wrong: Vec<String>) {
        for what in wrong {
            self.wrong.entry(what).or_insert((0, place.to_owned())).0 += 1;
        }
    }

    pub fn add(&mut self, other: Tally) {
        self.asked += other.asked;
        for (what, n) in other.counts {
            *self.counts.entry(what).or_insert(0) += n;
        }
        for (what, (n, place)) in other.wrong {
            let there = self.wrong.entry(what).or_insert((0, place.clone()));
            there.0 += n;
            there.1 = there.1.clone().min(place);
        }
    }

    pub fn states(&self) -> u64 {
        self.counts.values().sum()
    }

    pub fn finish(&self, name: &str) {
        let shown: Vec<String> = self
            .wrong
            .iter()
            .take(30)
            .map(|(what, (n, place))| format!("{n} times: {what}\n      first {place}"))
            .collect();
        let shown = shown.join("\n");
        assert!(
            shown.is_empty(),
            "{name}, {} states:\n{shown}",
            self.states()
        );
        let mut lines = vec![format!("{} states", self.states())];
        lines.extend(self.counts.iter().map(|(what, n)| format!("{n:>7} {what}")));
        lines.push(format!(
            "{:>7} of them asked for the operator first",
            self.asked
        ));
        println!("{name}: {}", lines.join("\n"));
        counted::compare(name, self.states(), all());
    }
}

pub fn all() -> bool {
    std::env::var("HOLDFAST_ENUMERATE").is_ok_and(|v| v == "all")
}

/// An enumeration takes every processor: of those that run side by side one at a time does, and leaves room for other tests.
static ALONE: Mutex<()> = Mutex::new(());

/// Does this for every item, on every processor; with `HOLDFAST_ENUMERATE=first`, until the first that goes wrong, with
/// `some` also for every seventh alone.
pub fn each<T: Sync>(items: &[T], one: impl Fn(&T, &mut Tally) + Sync) -> Tally {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let next = AtomicUsize::new(0);
    let mode = std::env::var("HOLDFAST_ENUMERATE").unwrap_or_default();
    let first_only = mode == "first" || mode == "some";
    let step = if mode == "some" { 7 } else { 1 };
    let total = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut tally = Tally::default();
                while let Some(item) = items.get(next.fetch_add(step, Ordering::Relaxed)) {
                    one(item, &mut tally);
                    if first_only && !tally.wrong.is_empty() {
                        next.store(items.len(), Ordering::Relaxed);
                    }
                }
                total.lock().unwrap().add(tally);
            });
        }
    });
    total.into_inner().unwrap()
}
