//! Mutex access that survives panics.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex even if a test panicked while holding it, so that the first panic is the one
/// reported.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
