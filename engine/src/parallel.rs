//! The same work on many things at once, on all processors, its results in the order of the things. Owns the threads; knows
//! nothing of the work.

use std::num::NonZero;
use std::sync::mpsc::sync_channel;
use std::{panic, thread};

/// Results that wait for those before them, for each thread.
const AHEAD: usize = 2;

/// Does `work` on each item and hands what came of it to `take`, in the order of the items, whatever the number of
/// processors; the first error of `take` ends it. `new` makes what one thread keeps from item to item.
pub fn in_order<T: Sync, S, R: Send, E>(
    items: &[T],
    new: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> R + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(items.len());
    let (new, work) = (&new, &work);
    thread::scope(|scope| {
        let hand = |first: usize| {
            let (give, get) = sync_channel(AHEAD);
            let each = move || {
                let mut kept = new();
                for item in items.iter().skip(first).step_by(threads) {
                    // Nobody takes it any more after an error.
                    if give.send(work(&mut kept, item)).is_err() {
                        break;
                    }
                }
            };
            let started = thread::Builder::new().spawn_scoped(scope, each);
            started.ok().map(|_| get)
        };
        let hands: Option<Vec<_>> = match threads {
            0 | 1 => None,
            _ => (0..threads).map(hand).collect(),
        };
        // Where there is no thread to be had, this one does it all.
        let Some(hands) = hands else {
            let mut kept = new();
            return items
                .iter()
                .try_for_each(|item| take(work(&mut kept, item)));
        };
        for hand in (0..items.len()).map(|i| &hands[i % threads]) {
            match hand.recv() {
                Ok(done) => take(done)?,
                // That thread panicked, and the scope will.
                Err(_) => break,
            }
        }
        Ok(())
    })
}

/// Does both at once: `other` on a thread of its own, and `this` on the caller's.
pub fn both<A: Send, B>(other: impl Fn() -> A + Sync, this: impl FnOnce() -> B) -> (A, B) {
    let several = thread::available_parallelism().is_ok_and(|n| n.get() > 1);
    thread::scope(|scope| {
        let start = || thread::Builder::new().spawn_scoped(scope, &other).ok();
        let beside = several.then(start).flatten();
        let this = this();
        let other = match beside.map(thread::ScopedJoinHandle::join) {
            Some(Ok(done)) => done,
            Some(Err(panicked)) => panic::resume_unwind(panicked),
            // Where there is no thread to be had, this one does it all.
            None => other(),
        };
        (other, this)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_and_none_is_missing() {
        for count in [0, 1, 2, 3, 100, 1001] {
            let items: Vec<usize> = (0..count).collect();
            let mut taken = Vec::new();
            let work = |kept: &mut usize, item: &usize| {
                *kept += 1;
                // The first of each thread is the slowest.
                if *kept == 1 {
                    thread::sleep(std::time::Duration::from_millis(3));
                }
                item * 2
            };
            let take = |done| {
                taken.push(done);
                Ok::<(), ()>(())
            };
            in_order(&items, || 0, work, take).unwrap();
            let wanted: Vec<usize> = (0..count).map(|i| i * 2).collect();
            assert_eq!(taken, wanted);
        }
    }

    #[test]
    fn an_error_ends_it_at_its_place() {
        let items: Vec<usize> = (0..10_000).collect();
        let mut taken = 0;
        let take = |done| {
            taken += 1;
            if done == 500 { Err("enough") } else { Ok(()) }
        };
        let ended = in_order(&items, || (), |(), item| *item, take);
        assert_eq!(ended, Err("enough"));
        assert_eq!(taken, 501);
    }

    #[test]
    fn both_are_done_and_each_gives_its_own() {
        let mut mine = 1;
        let (other, ()) = both(|| 2, || mine += 2);
        assert_eq!((other, mine), (2, 3));
    }
}
