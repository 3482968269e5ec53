//! What happened to jobs on chain, where, and how far a client has read.

use alloy_primitives::B256;
use roadstead_types::{JobId, Terms, Timestamp, TokenAmount};

/// One block: its number, and its hash because a number alone does not survive a reorganisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// Height.
    pub number: u64,
    /// Header hash.
    pub hash: B256,
}

/// Something with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The block that holds it.
    pub block: BlockRef,
    /// The block's time.
    pub timestamp: Timestamp,
    /// Its place among the logs of the block.
    pub log_index: u64,
    /// What it is.
    pub item: T,
}

/// How a job came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What both sides agreed on.
    pub terms: Terms,
    /// The first deposit.
    pub deposit: TokenAmount,
    /// A hint where the bundle can be fetched: a stranger's input, at most 256 bytes, of any content.
    pub source: Vec<u8>,
}

/// What the escrow said about one job. Sums are totals after the event, not differences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// The job was opened.
    Opened(Box<Opening>),
    /// Somebody added to the deposit.
    ToppedUp {
        /// The deposit from now on.
        deposit: TokenAmount,
    },
    /// The provider took the start fee.
    StartFeePaid {
        /// All that was paid so far.
        paid: TokenAmount,
    },
    /// A voucher was settled.
    Settled {
        /// All that was paid so far.
        paid: TokenAmount,
        /// Up to when.
        until: Timestamp,
    },
    /// The publisher leaves.
    Closing {
        /// When the rest may be refunded.
        close_at: Timestamp,
    },
    /// The job is over, the rest is credited to the publisher.
    Closed {
        /// All that was ever paid.
        paid: TokenAmount,
        /// What went back to the publisher's balance.
        refund: TokenAmount,
    },
}

/// How far a client has read, and the blocks it remembers to notice that the chain was reorganised.
///
/// To be stored in one transaction with the effect of the batch that it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The first block that was not read yet.
    pub next: u64,
    /// Blocks already read, rising, at most [`Cursor::TRAIL`] of them.
    pub trail: Vec<BlockRef>,
}

impl Cursor {
    /// How many blocks are remembered.
    pub const TRAIL: usize = 128;

    /// Nothing read yet; reading begins with block `from`.
    pub const fn starting_at(from: u64) -> Self {
        Self { next: from, trail: Vec::new() }
    }

    /// Whether a reorganisation that reaches back to block `number` would be noticed as such.
    pub fn remembers(&self, number: u64) -> bool {
        self.is_whole() || self.trail.first().is_some_and(|oldest| oldest.number <= number)
    }

    /// Whether the trail still holds every block it ever held.
    pub const fn is_whole(&self) -> bool {
        self.trail.len() < Self::TRAIL
    }

    /// The cursor after everything up to and including `block` was read.
    pub fn advanced_to(mut self, block: BlockRef) -> Self {
        if self.trail.len() == Self::TRAIL {
            self.trail.remove(0);
        }
        self.trail.push(block);
        self.next = block.number + 1;
        self
    }
}

/// What happened since a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    /// Everything read in this block or later never happened. Applied before `events`.
    pub undone_from: Option<u64>,
    /// What happened, in the order of the chain.
    pub events: Vec<Located<(JobId, JobEvent)>>,
    /// Where to go on.
    pub cursor: Cursor,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_remembers_a_bounded_trail() {
        let block = |number| BlockRef { number, hash: B256::with_last_byte(1) };
        let cursor = (0..1_000).fold(Cursor::starting_at(0), |c, n| c.advanced_to(block(n)));
        assert_eq!(cursor.next, 1_000);
        assert_eq!(cursor.trail.len(), Cursor::TRAIL);
        assert_eq!(cursor.trail.first(), Some(&block(872)));
        assert_eq!(cursor.trail.last(), Some(&block(999)));
    }
}
