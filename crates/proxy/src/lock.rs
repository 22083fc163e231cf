//! Locks that go on after a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is behind the lock. Whoever panicked with it left it whole, for each change of what this crate locks is one step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
