//! The last receipts of a job that is over.
//!
//! Its provider is asked until it says too that the job is over and it has no more receipts. That is durable, so that it is
//! asked no more after it. A provider that does not get there is asked more and more rarely, and given up for this process.

use std::time::Duration;

use super::{FIRST_PAUSE, Follow, FollowError, Round, Standing};

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How often they are looked for in vain: for more than an hour.
const ATTEMPTS: u32 = 16;

impl Follow {
    /// One step of a job that is over, to see whether a receipt is missing; says how long to rest before the next one,
    /// if there is one.
    pub(super) async fn catch_up(&mut self, standing: Standing) -> Option<Duration> {
        if self.follower.is_complete() || self.late_attempts >= ATTEMPTS {
            return None;
        }
        if self.late_attempts == 0 {
            self.pause = FIRST_PAUSE;
        }
        // What was left of the deposit is gone from the escrow; it was there when the receipts were made.
        let standing = Standing { deposit: self.deposit.max(standing.deposit), ..standing };
        self.known = None;
        let found = match self.round(standing).await {
            Ok(Round::Last) => self.complete().await.map(|()| None),
            Ok(Round::Again | Round::Accepted) => Ok(Some(Duration::ZERO)),
            Ok(Round::Refused | Round::Rest(_)) => Ok(Some(self.late_pause())),
            Err(error) => Err(error),
        };
        found.unwrap_or_else(|error| {
            tracing::debug!(job = %self.job, %error, "its last receipts cannot be looked for");
            self.forget_state();
            Some(self.late_pause())
        })
    }

    async fn complete(&mut self) -> Result<(), FollowError> {
        let mut follower = self.follower.clone();
        follower.set_complete(true);
        self.office.journal.save_follower(self.job, &follower, None).await?;
        self.follower = follower;
        Ok(())
    }

    fn late_pause(&mut self) -> Duration {
        self.late_attempts += 1;
        self.longer_pause(LONGEST_PAUSE)
    }
}
