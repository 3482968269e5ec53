//! When to look at what instances have written, where Docker does not bound it.
//!
//! Docker walks through all files of a container for that, which takes as long as whoever runs there likes. So a walk is
//! waited for beside everything else, for a bounded time, and the next one keeps a distance that grows with its length.
//! A container whose walk comes to no end again and again counts as one that has written too much. Nothing of it is
//! kept: a crash begins anew.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roadstead_types::InstanceId;
use tokio::time::Instant;

/// How long a walk may take.
pub(super) const WALK_TIME: Duration = Duration::from_secs(60);

/// The least time from the end of a walk to the next one.
const DISTANCE: Duration = Duration::from_secs(10);

/// How much longer than a walk the time to the next one is.
const REST: u32 = 2;

/// After how many walks without an end in a row it is too much.
const MAX_ENDLESS: u32 = 3;

/// What came of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walked {
    /// The container has written so many bytes.
    Bytes(u64),
    /// It did not end in time.
    Endless,
    /// Docker does not say.
    Unknown,
}

#[derive(Debug)]
struct Walk {
    container: String,
    began: Instant,
    /// When the next one may begin; `None` while it is under way.
    next: Option<Instant>,
    endless: u32,
}

/// The walks of all instances.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    walks: Mutex<HashMap<InstanceId, Walk>>,
}

impl Sizes {
    /// Whether a walk through `container` of an instance is to begin now; whoever is told so tells its end.
    pub(super) fn begin(&self, id: InstanceId, container: &str, now: Instant) -> bool {
        let mut walks = self.walks();
        let known = walks.get(&id).filter(|walk| walk.container == container);
        if known.is_some_and(|walk| walk.next.is_none_or(|next| now < next)) {
            return false;
        }
        let endless = known.map_or(0, |walk| walk.endless);
        let container = container.to_owned();
        walks.insert(id, Walk { container, began: now, next: None, endless });
        true
    }

    /// Takes what came of a walk. Returns whether the instance, which may have written `most` bytes, has to end.
    pub(super) fn end(
        &self,
        id: &InstanceId,
        container: &str,
        walked: Walked,
        most: u64,
        now: Instant,
    ) -> bool {
        let mut walks = self.walks();
        let known = walks.get_mut(id).filter(|walk| walk.container == container);
        let Some(walk) = known else { return false };
        walk.next = Some(now + DISTANCE.max((now - walk.began) * REST));
        match walked {
            Walked::Bytes(bytes) => {
                walk.endless = 0;
                bytes > most
            }
            Walked::Endless => {
                walk.endless = walk.endless.saturating_add(1);
                walk.endless >= MAX_ENDLESS
            }
            Walked::Unknown => false,
        }
    }

    /// Forgets an instance that is gone.
    pub(super) fn forget(&self, id: &InstanceId) {
        self.walks().remove(id);
    }

    fn walks(&self) -> MutexGuard<'_, HashMap<InstanceId, Walk>> {
        // Nothing panics while it is held.
        self.walks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use roadstead_types::JobId;

    use super::*;

    fn id() -> InstanceId {
        InstanceId::first(JobId(B256::ZERO))
    }

    #[test]
    fn walks_keep_their_distance() {
        let (sizes, start) = (Sizes::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(sizes.begin(id(), "a", start));
        assert!(!sizes.begin(id(), "a", at(1_000)), "one is under way");
        assert!(!sizes.end(&id(), "a", Walked::Bytes(5), 5, at(1)));
        assert!(!sizes.begin(id(), "a", at(10)));
        assert!(sizes.begin(id(), "a", at(11)));
        assert!(sizes.end(&id(), "a", Walked::Bytes(6), 5, at(41)));
        assert!(!sizes.begin(id(), "a", at(100)), "a long one is followed by a longer rest");
        assert!(sizes.begin(id(), "b", at(100)), "another container has nothing to do with it");
        assert!(!sizes.end(&id(), "a", Walked::Bytes(6), 5, at(101)));
        sizes.forget(&id());
        assert!(sizes.begin(id(), "b", at(102)));
    }

    #[test]
    fn walks_without_an_end_in_a_row_are_too_much() {
        let (sizes, mut now) = (Sizes::default(), Instant::now());
        let mut walk = |walked| {
            now += 4 * WALK_TIME;
            assert!(sizes.begin(id(), "a", now));
            sizes.end(&id(), "a", walked, 5, now + WALK_TIME)
        };
        assert!(!walk(Walked::Endless));
        assert!(!walk(Walked::Endless));
        assert!(!walk(Walked::Bytes(1)), "it came to an end again");
        assert!(!walk(Walked::Endless));
        assert!(!walk(Walked::Unknown));
        assert!(!walk(Walked::Endless));
        assert!(walk(Walked::Endless));
    }
}
