//! One lock for each key, kept while somebody holds it or waits for it.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex as StdMutex, PoisonError, Weak},
};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Locks by key.
#[derive(Debug)]
pub(crate) struct Locks<K> {
    held: StdMutex<HashMap<K, Weak<Mutex<()>>>>,
}

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self { held: StdMutex::default() }
    }
}

impl<K: Eq + Hash> Locks<K> {
    /// Waits until nobody else holds the lock of `key`.
    pub(crate) async fn lock(&self, key: K) -> OwnedMutexGuard<()> {
        let lock = {
            // Nothing panics while it is held.
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.retain(|_, lock| lock.strong_count() > 0);
            let known = held.get(&key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::new(Mutex::new(()));
                held.insert(key, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_key_is_held_once_and_forgotten_when_it_is_free() {
        let locks = Locks::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = |key| {
            let mut lock = Box::pin(locks.lock(key));
            match lock.as_mut().poll(&mut context) {
                std::task::Poll::Ready(guard) => Some(guard),
                std::task::Poll::Pending => None,
            }
        };
        let first = poll(1);
        assert!(first.is_some());
        assert!(poll(1).is_none());
        let other = poll(2);
        assert!(other.is_some());
        drop((first, other));
        assert!(poll(1).is_some());
        assert_eq!(locks.held.lock().unwrap().len(), 1);
    }
}
