//! What the market decides, without doing any of it.
//!
//! State machines and arithmetic that take input and time and give actions, and the ports through which the two
//! clients reach everything else. Nothing here opens a socket, a file or a clock, so every rule can be tested
//! with a seed.

mod admission;
mod billing;
mod book;
mod duty;
mod event;
pub mod ports;
pub mod protocol;

pub use admission::{Offer, Refusal, admit};
pub use billing::{PRICE_UNIT, cost_of, rate_per_hour};
pub use book::{JobBook, JobRecord};
pub use duty::{Duty, Presence, duty_of};
pub use event::{BlockRef, Cursor, EventBatch, JobEvent, Located, Opening};
