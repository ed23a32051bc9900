//! Mutexes that are locked in one order. A debug build panics where a thread locks one while it
//! holds another of the same or of a higher rank, so that every test is a test of the order.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use parking_lot::{Mutex, MutexGuard};

thread_local! {
    /// The ranks that this thread holds, a bit each.
    static HELD: Cell<u8> = const { Cell::new(0) };
}

/// A mutex of the rank `RANK`, below 8.
#[derive(Debug, Default)]
pub struct Ranked<T, const RANK: u8>(Mutex<T>);

/// A [`Ranked`] mutex is locked until this is dropped.
pub struct Guard<'a, T> {
    inner: MutexGuard<'a, T>,
    _held: Held,
}

/// A rank that this thread holds; where the order is not checked, 0.
struct Held(u8);

impl Held {
    fn new(rank: u8) -> Self {
        if !cfg!(debug_assertions) {
            return Self(0);
        }
        let held = HELD.get();
        assert_eq!(
            held >> rank,
            0,
            "a lock of rank {rank} is taken while those of {held:#b} are held"
        );
        HELD.set(held | 1 << rank);
        Self(1 << rank)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(HELD.get() & !self.0);
    }
}

impl<T, const RANK: u8> Ranked<T, RANK> {
    /// A mutex that holds `value`.
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Locks it.
    pub fn lock(&self) -> Guard<'_, T> {
        let _held = Held::new(RANK);
        Guard { inner: self.0.lock(), _held }
    }
}

impl<'a, T> Guard<'a, T> {
    /// For a condition variable, which gives the lock away and gets it back: the thread does
    /// nothing else meanwhile.
    pub fn inner(&mut self) -> &mut MutexGuard<'a, T> {
        &mut self.inner
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn locks_out_of_order_are_found_without_a_deadlock() {
        let (low, high, other) =
            (Ranked::<_, 1>::new(1), Ranked::<_, 2>::new(2), Ranked::<_, 2>::new(3));
        let in_order = || *low.lock() + *high.lock();
        assert_eq!(in_order(), 3);
        let wrong = |first: &dyn Fn() -> i32| catch_unwind(AssertUnwindSafe(first)).is_err();
        assert!(wrong(&|| *high.lock() + *low.lock()));
        assert!(wrong(&|| *high.lock() + *other.lock()), "two of one rank");
        // Nothing of that is left behind, and each lock may be taken again.
        assert_eq!(in_order() + *other.lock(), 6);
    }
}
