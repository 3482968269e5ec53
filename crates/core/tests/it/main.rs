//! The rules of money between two parties that do not trust each other: meters, receipts, vouchers, sessions,
//! settlements and bills, each by what it must refuse; and a market of one provider and its agents, over a network that
//! loses messages and through crashes of both.

#![expect(clippy::unwrap_used, reason = "a test stops where something is not as it has to be")]

mod accounts;
mod bills;
mod fixture;
mod market;
mod meters;
mod parties;
mod payments;
mod receipts;
mod sessions;
mod settlements;
mod vouchers;
mod world;
