//! Fakes of the ports, for tests: everything in memory, everything to be looked at, failures on demand.

mod content;
mod engine;

pub use content::{MemorySources, MemoryStore};
pub use engine::FakeEngine;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A test that panicked has failed already; the others may go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
