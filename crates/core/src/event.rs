//! What happened to jobs on chain, where, and how far a client has read.

use alloy_primitives::B256;
use roadstead_types::{JobId, Terms, Timestamp, TokenAmount};
use serde::{Deserialize, Serialize};

/// One block: its number, and its hash because a number alone does not survive a reorganisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockRef {
    /// Height.
    pub number: u64,
    /// Header hash.
    pub hash: B256,
}

/// Something with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// What both sides agreed on.
    pub terms: Terms,
    /// The first deposit.
    pub deposit: TokenAmount,
    /// A hint where the bundle can be fetched: a stranger's input, at most 256 bytes, of any content.
    pub source: Vec<u8>,
}

/// What the escrow said about one job. Sums are totals after the event, not differences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    start: u64,
    next: u64,
    trail: Vec<BlockRef>,
    has_forgotten: bool,
}

impl Cursor {
    /// How many blocks are remembered.
    pub const TRAIL: usize = 128;

    /// Nothing read yet; reading begins with block `start`.
    pub const fn starting_at(start: u64) -> Self {
        Self { start, next: start, trail: Vec::new(), has_forgotten: false }
    }

    /// The first block that was not read yet.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// The newest block that was read, if it is remembered.
    pub fn last(&self) -> Option<BlockRef> {
        self.trail.last().copied()
    }

    /// The first block whose loss a reorganisation could still show. Everything before it counts as final.
    pub fn horizon(&self) -> u64 {
        match self.trail.first() {
            Some(oldest) if self.has_forgotten => oldest.number.saturating_add(1),
            _ => self.start,
        }
    }

    /// The cursor after everything up to and including `block` was read.
    pub fn advanced_to(mut self, block: BlockRef) -> Self {
        if self.trail.len() == Self::TRAIL {
            self.trail.remove(0);
            self.has_forgotten = true;
        }
        self.trail.push(block);
        self.next = block.number.saturating_add(1);
        self
    }

    /// Forgets the newest block that is remembered, because the chain no longer has it. What was read after the one
    /// before it has to be read again. `None` where that reaches further back than is remembered.
    pub fn rewound(mut self) -> Option<Self> {
        self.trail.pop();
        self.next = match self.trail.last() {
            Some(ancestor) => ancestor.number.saturating_add(1),
            None if self.has_forgotten => return None,
            None => self.start,
        };
        Some(self)
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
    /// The time of the newest block, which may be ahead of the cursor.
    pub head: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64) -> BlockRef {
        BlockRef { number, hash: B256::with_last_byte(1) }
    }

    fn read_up_to(last: u64) -> Cursor {
        (10..=last).fold(Cursor::starting_at(10), |cursor, n| cursor.advanced_to(block(n)))
    }

    #[test]
    fn a_cursor_remembers_a_bounded_trail() {
        let cursor = read_up_to(999);
        assert_eq!((cursor.next(), cursor.last()), (1_000, Some(block(999))));
        assert_eq!(cursor.trail.len(), Cursor::TRAIL);
        assert_eq!(cursor.horizon(), 873);
    }

    #[test]
    fn a_whole_trail_rewinds_to_the_start_and_a_cut_one_does_not() {
        let rewound =
            |cursor: Cursor, times| (0..times).try_fold(cursor, |cursor, _| cursor.rewound());
        let whole = read_up_to(9 + Cursor::TRAIL as u64);
        assert_eq!(whole.horizon(), 10);
        assert_eq!(rewound(whole, Cursor::TRAIL), Some(Cursor::starting_at(10)));

        let cut = read_up_to(10 + Cursor::TRAIL as u64);
        assert_eq!(cut.horizon(), 12);
        let shorter = rewound(cut.clone(), 3).unwrap();
        assert_eq!((shorter.next(), shorter.horizon()), (136, 12), "it still has forgotten");
        assert_eq!(rewound(cut, Cursor::TRAIL), None);
    }
}
