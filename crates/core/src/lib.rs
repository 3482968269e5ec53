//! What the market decides, without doing any of it.
//!
//! State machines and arithmetic that take input and time and give actions, and the ports through which the two
//! clients reach everything else. Nothing here opens a socket, a file or a clock, so every rule can be tested
//! with a seed.

mod access;
mod account;
mod admission;
mod billing;
mod book;
mod causes;
mod clock;
mod duty;
mod event;
mod follow;
mod metering;
mod payment;
pub mod ports;
pub mod protocol;
mod verify;

pub use access::{MAX_SESSION, Verb, authorise, check_session};
pub use account::{
    BrokenChain, JobAccount, LAST_VOUCHER, MAX_UNACCEPTED, PauseReason, ReceiptHead, SettlePolicy,
    Settlement, VoucherProblem, check_chain,
};
pub use admission::{Offer, Refusal, admit};
pub use billing::{PRICE_UNIT, cost_of, due_for, rate_per_hour};
pub use book::{BookChanges, ClosedJob, JobBook, JobRecord};
pub use causes::with_causes;
pub use clock::ChainClock;
pub use duty::{Duty, Presence, Situation};
pub use event::{BlockRef, Cursor, EventBatch, JobEvent, Located, Opening};
pub use follow::{Circumstances, Follower, MAX_AHEAD, Verdict};
pub use metering::{Meter, Reading, Sighting};
pub use payment::{Unpayable, advance};
pub use verify::{BillProblem, FinishedJob, Recomputed, verify_bill};
