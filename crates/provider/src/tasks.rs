//! What the daemon has under way: one duty for each job, a bounded number of each kind, and one look around.

use std::{collections::HashMap, future::Future};

use alloy_primitives::Address;
use roadstead_core::{
    Duty,
    ports::{Mined, WriteError},
};
use roadstead_types::JobId;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::{
    deploy::{DeployError, RemoveError},
    event::ProviderEvent,
    holdings::ReleaseError,
};

/// How many deployments are under way at once.
const MAX_DEPLOYMENTS: usize = 8;

/// How many of them for one publisher, whose blocks may be slow in coming.
const MAX_DEPLOYMENTS_OF_ONE: usize = 2;

/// How many removals are under way at once: each may take as long as its container is given to stop.
const MAX_REMOVALS: usize = 64;

/// How many transactions are under way at once.
const MAX_CALLS: usize = 16;

/// A duty that is being done.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pub(crate) job: JobId,
    pub(crate) duty: Duty,
    publisher: Option<Address>,
    abort: AbortHandle,
}

/// What came of a task.
pub(crate) enum Done {
    Deployed(Result<ProviderEvent, DeployError>),
    Removed(Result<(), RemoveError>),
    Called(Result<Mined, WriteError>),
    /// What an earlier process has signed.
    Resumed(Result<(), WriteError>),
    /// Instances that ended, with their exit status.
    Looked(Vec<(JobId, Option<i32>)>),
    /// Whether there was nothing in the way of it.
    Swept(Result<bool, ReleaseError>),
}

/// Everything under way.
#[derive(Default)]
pub(crate) struct Tasks {
    set: JoinSet<Done>,
    duties: HashMap<Id, UnderWay>,
    looking: Option<Id>,
    resuming: Option<Id>,
}

impl Tasks {
    /// Whether a look around is under way.
    pub(crate) const fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// Whether transactions of an earlier process are being brought to their end.
    pub(crate) const fn is_resuming(&self) -> bool {
        self.resuming.is_some()
    }

    /// The duty that is being done for a job.
    pub(crate) fn of(&self, job: JobId) -> Option<&UnderWay> {
        self.duties.values().find(|task| task.job == job)
    }

    /// Whether one more of this duty may begin, for a job of this publisher.
    pub(crate) fn has_room(&self, duty: Duty, publisher: Option<Address>) -> bool {
        let count = |is_counted: &dyn Fn(&UnderWay) -> bool| {
            self.duties.values().filter(|task| is_counted(task)).count()
        };
        match duty {
            Duty::Remove => count(&|task| task.duty == Duty::Remove) < MAX_REMOVALS,
            Duty::ClaimStartFee | Duty::Settle | Duty::SettleAndClose | Duty::Decline => {
                count(&|task| !matches!(task.duty, Duty::Deploy | Duty::Remove)) < MAX_CALLS
            }
            Duty::Deploy => {
                let is_deployment = |task: &UnderWay| task.duty == Duty::Deploy;
                let is_of_one =
                    |task: &UnderWay| is_deployment(task) && task.publisher == publisher;
                count(&is_deployment) < MAX_DEPLOYMENTS
                    && count(&is_of_one) < MAX_DEPLOYMENTS_OF_ONE
            }
        }
    }

    /// Begins a duty.
    pub(crate) fn begin(
        &mut self,
        job: JobId,
        duty: Duty,
        publisher: Option<Address>,
        task: impl Future<Output = Done> + Send + 'static,
    ) {
        let abort = self.set.spawn(task);
        self.duties.insert(abort.id(), UnderWay { job, duty, publisher, abort });
    }

    /// Begins a look around.
    pub(crate) fn look(&mut self, task: impl Future<Output = Done> + Send + 'static) {
        self.looking = Some(self.set.spawn(task).id());
    }

    /// Begins to bring transactions of an earlier process to their end.
    pub(crate) fn resume(&mut self, task: impl Future<Output = Done> + Send + 'static) {
        self.resuming = Some(self.set.spawn(task).id());
    }

    /// The next task that ends: the duty that it was, if it was one, and what came of it, if it came to an end. `None`
    /// where nothing is under way. Cancel-safe: a finished task stays until it is taken.
    pub(crate) async fn next(&mut self) -> Option<(Option<UnderWay>, Option<Done>)> {
        let done = self.set.join_next_with_id().await?;
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        if self.looking == Some(id) {
            self.looking = None;
        }
        if self.resuming == Some(id) {
            self.resuming = None;
        }
        if let Err(error) = &done
            && !error.is_cancelled()
        {
            tracing::error!(%error, "a task did not come to an end");
        }
        Some((self.duties.remove(&id), done.ok().map(|(_, done)| done)))
    }

    /// Cuts everything off.
    pub(crate) async fn shutdown(&mut self) {
        self.set.shutdown().await;
    }
}

impl UnderWay {
    /// Cuts it off; it then ends without an outcome.
    pub(crate) fn cut_off(&self) {
        self.abort.abort();
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    fn job(number: u8) -> JobId {
        JobId(B256::repeat_byte(number))
    }

    #[tokio::test]
    async fn one_publisher_does_not_take_all_the_room() {
        let mut tasks = Tasks::default();
        let publisher = |number| Some(Address::repeat_byte(number));
        let never = std::future::pending;
        for number in 0..2 {
            assert!(tasks.has_room(Duty::Deploy, publisher(1)));
            tasks.begin(job(number), Duty::Deploy, publisher(1), never());
        }
        assert!(!tasks.has_room(Duty::Deploy, publisher(1)));
        for number in 2..8 {
            assert!(tasks.has_room(Duty::Deploy, publisher(number)));
            tasks.begin(job(number), Duty::Deploy, publisher(number), never());
        }
        assert!(!tasks.has_room(Duty::Deploy, publisher(9)));
        for duty in [Duty::Remove, Duty::ClaimStartFee, Duty::Settle, Duty::Decline] {
            assert!(tasks.has_room(duty, publisher(1)));
        }
        tasks.of(job(0)).unwrap().cut_off();
        let (cut_off, outcome) = tasks.next().await.unwrap();
        assert_eq!(cut_off.unwrap().job, job(0));
        assert!(outcome.is_none());
        assert!(tasks.has_room(Duty::Deploy, publisher(1)));
        tasks.shutdown().await;
    }
}
