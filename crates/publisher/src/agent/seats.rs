//! How many questions a provider keeps open at once.
//!
//! A provider bears only so many questions of one peer, and each that it has nothing to say to stays open for long. The jobs
//! that find no seat ask briefly instead, which takes a place at the provider for a moment only, and take turns with the
//! others. Nothing of it is durable.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use alloy_primitives::Address;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many questions one provider keeps open: half of what it bears, so that the other half is left for brief ones.
const SEATS: usize = 16;

/// The seats at every provider.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<BTreeMap<Address, Arc<Semaphore>>>);

impl Seats {
    /// A seat at a provider until it is dropped, if one is free.
    pub(super) fn take(&self, provider: Address) -> Option<OwnedSemaphorePermit> {
        let mut providers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seats = providers.entry(provider).or_insert_with(|| Arc::new(Semaphore::new(SEATS)));
        seats.clone().try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_has_its_seats_and_they_come_back() {
        let seats = Seats::default();
        let (one, other) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let mut taken: Vec<_> = (0..SEATS).map(|_| seats.take(one).unwrap()).collect();
        assert!(seats.take(one).is_none());
        assert!(seats.take(other).is_some());
        taken.pop();
        assert!(seats.take(one).is_some());
    }
}
