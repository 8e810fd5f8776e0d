//! One of a bounded number of places: whoever finds none is turned away. Owns only the count.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A place; given back when dropped.
pub struct Slot<C: Deref<Target = AtomicUsize>>(C);

impl<C: Deref<Target = AtomicUsize>> Slot<C> {
    /// One of so many; none if all are taken.
    pub fn take(taken: C, most: usize) -> Option<Slot<C>> {
        let slot = Slot(taken);
        (slot.0.fetch_add(1, Ordering::SeqCst) < most).then_some(slot)
    }
}

impl<C: Deref<Target = AtomicUsize>> Drop for Slot<C> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
