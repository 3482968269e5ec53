//! What the agent tells whoever runs it.

use roadstead_core::{
    ports::ChainError,
    protocol::{ReceiptRefusal, State},
};
use roadstead_types::{JobId, Receipt, TokenAmount};

use super::FollowError;

/// What the agent did or saw.
#[derive(Debug)]
pub enum AgentEvent {
    /// A job that names this agent, and whose prices it knows.
    Following {
        /// Which.
        job: JobId,
    },
    /// A job that names this agent and of which it knows nothing else: nothing is signed for it. Told once.
    Ignored {
        /// Which.
        job: JobId,
    },
    /// Its provider answers, for the first time or again.
    Connected {
        /// Of which job.
        job: JobId,
    },
    /// Its provider says something new of where it stands, where it can be called or what should be known.
    State {
        /// Which job.
        job: JobId,
        /// All that the provider says.
        state: Box<State>,
    },
    /// A receipt was accepted. Told once of each.
    Accepted {
        /// Of which job.
        job: JobId,
        /// The receipt.
        receipt: Receipt,
        /// All that is accepted so far; less than the receipt says where not all of it is.
        accepted: TokenAmount,
    },
    /// More of the newest receipt was accepted than before.
    MadeUp {
        /// Of which job.
        job: JobId,
        /// The receipt.
        receipt: Receipt,
        /// All that is accepted so far; less than the receipt says where not all of it is.
        accepted: TokenAmount,
    },
    /// A receipt was not accepted, or not all of it.
    Refused {
        /// Of which job.
        job: JobId,
        /// Why.
        refusal: ReceiptRefusal,
    },
    /// The provider signed two receipts with one number. Both are kept, and nothing more is signed for this job.
    Equivocation {
        /// Of which job.
        job: JobId,
        /// Their number.
        seq: u32,
    },
    /// Its provider does not answer as it should. Told once; it is asked again and again.
    Lost {
        /// Of which job.
        job: JobId,
        /// Why.
        error: FollowError,
    },
    /// Its provider had lost its journal and has its receipts back.
    Restored {
        /// Of which job.
        job: JobId,
    },
    /// The job is over, and its last receipts were looked for: none is missing, or its provider does not give them.
    Finished {
        /// Which.
        job: JobId,
        /// All that it paid.
        paid: TokenAmount,
    },
    /// The chain does not answer. Told once; it is asked again at every tick.
    ChainLost {
        /// Why.
        error: ChainError,
    },
    /// The chain answers again.
    ChainBack,
}
