//! What a provider knows of the money of one job: its meter, the receipts it signed, the bills that were accepted.
//!
//! ```text
//!            receipt            two unaccepted, or the deposit used up
//!  current ──────────> unaccepted ─────────────────────────────────────> paused
//!     ^                    │                                               │
//!     └───── voucher ──────┴──────────────── voucher, top-up ──────────────┘
//!
//!  any ── ordered, closing, or paused for too long ──> ending ── last receipt ──> final
//! ```
//!
//! Whoever keeps it writes it down, together with the receipt that a step made, before acting on the step. A process that
//! ends in between has signed nothing, and the counters went on: the next reading covers the longer span. A number of
//! a receipt is used once.

mod settlement;

use std::fmt;

use alloy_primitives::B256;
use roadstead_abi::{receipt_root, recover, voucher_digest};
use roadstead_types::{
    Domain, Job, JobId, JobStatus, Receipt, Resources, Seconds, SignedReceipt, Tariff, Terms,
    Timestamp, TokenAmount, Voucher,
};
use serde::{Deserialize, Serialize};

use crate::{
    billing::{cost_of, due_for, rate_per_hour},
    metering::{Meter, Sighting},
    payment::{Unpayable, advance},
};

pub use settlement::{LAST_VOUCHER, SettlePolicy, Settlement};

/// How many receipts may wait for their voucher before the job is paused.
pub const MAX_UNACCEPTED: u32 = 2;

/// The account of one job at its provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobAccount {
    job: JobId,
    tariff: Tariff,
    meter: Meter,
    has_begun: bool,
    head: Option<ReceiptHead>,
    accepted: Option<Accepted>,
    /// Since when it is being ended.
    ending: Option<Timestamp>,
    /// When the last receipt was made, or found needless.
    final_at: Option<Timestamp>,
    is_paused: bool,
}

/// The newest receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptHead {
    /// Its number.
    pub seq: u32,
    /// Its struct hash.
    pub root: B256,
    /// Where its interval ends.
    pub to: Timestamp,
    /// Its totals.
    pub total: Resources<u64>,
    /// All that it bills.
    pub cumulative: TokenAmount,
}

impl From<&Receipt> for ReceiptHead {
    fn from(receipt: &Receipt) -> Self {
        Self {
            seq: receipt.seq,
            root: receipt_root(receipt),
            to: receipt.to,
            total: receipt.total,
            cumulative: receipt.cumulative,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    seq: u32,
    /// What the receipt bills; the voucher may be for less.
    billed: TokenAmount,
    voucher: Voucher,
    /// What the contract would pay for it in all. Less than the voucher says where too little time has passed since the
    /// last settlement, which forgets what it cannot pay.
    payable: TokenAmount,
}

/// Why a job should not go on for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PauseReason {
    /// What was metered is not accepted.
    Unaccepted,
    /// The deposit does not cover one more interval.
    Exhausted,
}

impl fmt::Display for PauseReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unaccepted => "receipts wait for their vouchers",
            Self::Exhausted => "the deposit is used up",
        })
    }
}

/// Why a voucher counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoucherProblem {
    /// Of somebody else.
    #[error("it is not signed by the job's signer")]
    Signature,
    /// It follows from no receipt of this job.
    #[error("it does not follow from a receipt of this job")]
    Unknown,
    /// It is not dated as its receipt, or is for more.
    #[error("it differs from its receipt")]
    Differs,
    /// It takes back what an earlier one accepted.
    #[error("it is for less than an earlier one")]
    Less,
    /// It is for more than the deposit, or for a time too near to the end of the notice or after it.
    #[error("the contract would not pay it")]
    Unpayable,
}

impl JobAccount {
    /// An account whose instance is ready now.
    pub fn open(job: JobId, tariff: Tariff, now: Timestamp) -> Self {
        let meter = Meter::starting_at(now);
        Self {
            job,
            tariff,
            meter,
            has_begun: true,
            head: None,
            accepted: None,
            ending: None,
            final_at: None,
            is_paused: false,
        }
    }

    /// An account whose instance is about to be started.
    pub fn prepared(job: JobId, tariff: Tariff, now: Timestamp) -> Self {
        let mut account = Self::open(job, tariff, now);
        account.see(now, Sighting::Stopped(None));
        account.has_begun = false;
        account
    }

    /// The account of a provider that lost its journal, from the newest of its own receipts, which were checked by
    /// [`check_chain`]. Nothing is read before the instance is seen again.
    pub fn restored(tariff: Tariff, newest: &Receipt) -> Self {
        let meter = Meter::resuming(newest.to, newest.total);
        Self { meter, head: Some(newest.into()), ..Self::open(newest.job, tariff, newest.to) }
    }

    /// Takes in that newer receipts were signed than it knows of, up to this one. Nothing is read before the instance is seen
    /// again, and what was used since the newest is not charged.
    pub fn catch_up(&mut self, newest: &Receipt) {
        self.meter = Meter::resuming(newest.to, newest.total);
        self.head = Some(newest.into());
    }

    /// Whether its instance ever ran.
    pub const fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether its instance ran when it was last seen.
    pub const fn was_running(&self) -> bool {
        self.meter.was_running()
    }

    /// Whether a reading has been due for so long that one without counters is better than none.
    pub fn is_reading_overdue(&self, now: Timestamp) -> bool {
        let span = self.tariff.interval.0.saturating_mul(MAX_UNACCEPTED);
        now >= self.meter.read_at().after(Seconds(span))
    }

    /// Of which job it is.
    pub const fn job(&self) -> JobId {
        self.job
    }

    /// What it is metered by.
    pub const fn tariff(&self) -> &Tariff {
        &self.tariff
    }

    /// The newest receipt.
    pub const fn head(&self) -> Option<&ReceiptHead> {
        self.head.as_ref()
    }

    /// The newest voucher that counts, and the number of its receipt.
    pub fn accepted(&self) -> Option<(u32, &Voucher)> {
        self.accepted.as_ref().map(|accepted| (accepted.seq, &accepted.voucher))
    }

    /// Whether it is being ended.
    pub const fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether its last receipt was made.
    pub const fn is_final(&self) -> bool {
        self.final_at.is_some()
    }

    /// Whether its instance is to be frozen.
    pub const fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether a reading is due.
    pub fn is_reading_due(&self, now: Timestamp) -> bool {
        let is_used = self.meter.was_running() && !self.is_paused;
        self.is_interval_over(now) && is_used && !self.is_final()
    }

    /// Whether a paused job needs a reading although nothing was used: its accepted bill is worth less than it says, and the
    /// contract pays more for one of a later time. The instance is to be seen as frozen then.
    pub fn is_redating_due(&self, now: Timestamp) -> bool {
        let is_worth_less =
            self.accepted.is_some_and(|last| last.payable < last.voucher.bill.cumulative);
        let is_awaited = self.is_paused && self.unaccepted() == 0 && is_worth_less;
        self.is_interval_over(now) && is_awaited && !self.is_final()
    }

    fn is_interval_over(&self, now: Timestamp) -> bool {
        now >= self.meter.read_at().after(self.tariff.interval)
    }

    /// Takes in how the instance was found.
    pub fn see(&mut self, now: Timestamp, sighting: Sighting) {
        self.has_begun |= matches!(sighting, Sighting::Running(_));
        self.meter.see(now, sighting, &self.tariff.reservation);
    }

    /// The instance began a new life.
    pub fn restarted(&mut self, now: Timestamp) {
        self.has_begun = true;
        self.meter.restarted(now);
    }

    /// Ends an interval: the next receipt, to be signed. `None` where no whole second has passed, or where the sum is
    /// beyond 96 bits.
    pub fn read(&mut self, now: Timestamp) -> Option<Receipt> {
        if self.is_final() {
            return None;
        }
        let mut meter = self.meter;
        let reading = meter.read(now, &self.tariff.reservation)?;
        let (seq, prev) = match &self.head {
            Some(head) => (head.seq.checked_add(1)?, head.root),
            None => (0, self.job.0),
        };
        let receipt = Receipt {
            job: self.job,
            seq,
            from: reading.from,
            to: reading.to,
            total: reading.total,
            cumulative: due_for(&reading.total, &self.tariff.prices)?,
            prev,
        };
        self.meter = meter;
        self.head = Some((&receipt).into());
        Some(receipt)
    }

    /// Takes in a voucher for `receipt`, which is one of this account's. Whether it is a new one: an older one, or the
    /// same again, changes nothing. A fuller one for the same receipt follows a short one after a top-up.
    pub fn accept(
        &mut self,
        voucher: &Voucher,
        receipt: &Receipt,
        domain: &Domain,
        terms: &Terms,
        job: &Job,
    ) -> Result<bool, VoucherProblem> {
        let bill = &voucher.bill;
        if receipt.job != self.job || bill.usage_root != receipt_root(receipt) {
            return Err(VoucherProblem::Unknown);
        }
        let digest = voucher_digest(domain, self.job, bill);
        if recover(&digest, &voucher.signature) != Some(terms.signer) {
            return Err(VoucherProblem::Signature);
        }
        if bill.until != receipt.to || bill.cumulative > receipt.cumulative {
            return Err(VoucherProblem::Differs);
        }
        if let Some(accepted) = &self.accepted {
            let known = &accepted.voucher.bill;
            if (bill.until, bill.cumulative) <= (known.until, known.cumulative) {
                return Ok(false);
            }
            if bill.cumulative < known.cumulative {
                return Err(VoucherProblem::Less);
            }
        }
        if bill.cumulative > job.deposit || !self.is_in_time(bill.until, terms, job) {
            return Err(VoucherProblem::Unpayable);
        }
        let payable = match advance(terms, job, bill, bill.until) {
            Ok(paid) => paid,
            Err(Unpayable::TooEarly { .. } | Unpayable::Nothing) => job.paid.min(bill.cumulative),
            Err(Unpayable::NotLive | Unpayable::TooLate { .. }) => {
                return Err(VoucherProblem::Unpayable);
            }
        };
        let billed = receipt.cumulative;
        self.accepted = Some(Accepted { seq: receipt.seq, billed, voucher: *voucher, payable });
        Ok(true)
    }

    /// Whether a voucher can be mined before the deposit may be taken back. Two intervals are kept free, as far as the
    /// first half of the notice is never cut: whoever saw the notice begin ends the job by then.
    fn is_in_time(&self, until: Timestamp, terms: &Terms, job: &Job) -> bool {
        if job.status() != JobStatus::Closing {
            return true;
        }
        let intervals = self.tariff.interval.0.saturating_mul(MAX_UNACCEPTED);
        let margin = Seconds(intervals.min(terms.notice.0 / 2));
        until.after(margin) <= job.close_at
    }

    /// What was metered and neither accepted nor paid.
    pub fn owed(&self, job: &Job) -> TokenAmount {
        let accepted = self.accepted.map(|accepted| accepted.voucher.bill.cumulative);
        self.billed().saturating_sub(accepted.unwrap_or_default().max(job.paid))
    }

    fn billed(&self) -> TokenAmount {
        self.head.map(|head| head.cumulative).unwrap_or_default()
    }

    /// How many receipts were not accepted.
    pub fn unaccepted(&self) -> u32 {
        let signed = self.head.map_or(0, |head| head.seq.saturating_add(1));
        let accepted = self.accepted.map_or(0, |accepted| accepted.seq.saturating_add(1));
        signed.saturating_sub(accepted)
    }

    /// Why the job should not go on, if it should not.
    pub fn pause_reason(&self, job: &Job) -> Option<PauseReason> {
        if self.left(job) < self.cost_of_intervals(1) {
            return Some(PauseReason::Exhausted);
        }
        let is_silent = self.unaccepted() >= MAX_UNACCEPTED && !self.owed(job).is_zero();
        // One long reading is given time to be accepted. What is not accepted in full after it was looked at is not.
        let worth = self.accepted.map(|last| last.payable).unwrap_or_default().max(job.paid);
        let is_short = self.accepted.is_some_and(|last| last.billed > worth);
        let at_risk = self.billed().saturating_sub(worth);
        let is_over = is_short && at_risk >= self.cost_of_intervals(MAX_UNACCEPTED);
        (is_silent || is_over).then_some(PauseReason::Unaccepted)
    }

    /// What of the deposit was not metered yet. What was paid in advance counts as the rest does.
    fn left(&self, job: &Job) -> TokenAmount {
        job.deposit.saturating_sub(self.billed())
    }

    /// What so many intervals of full use cost.
    fn cost_of_intervals(&self, intervals: u32) -> TokenAmount {
        cost_of(self.rate(), Seconds(self.tariff.interval.0.saturating_mul(intervals)))
    }

    fn rate(&self) -> TokenAmount {
        rate_per_hour(&self.tariff.reservation, &self.tariff.prices).unwrap_or(TokenAmount::MAX)
    }

    /// For how long the rest of the deposit lasts at full use.
    pub fn runway(&self, job: &Job) -> Seconds {
        let rate = self.rate().units();
        let seconds = self.left(job).units().saturating_mul(3_600).checked_div(rate);
        Seconds(seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(u32::MAX))
    }

    /// What the publisher should know, before it bites.
    pub fn note(&self, job: &Job, now: Timestamp) -> Option<String> {
        if self.is_final() {
            return None;
        }
        let interval = self.tariff.interval;
        if self.is_paused {
            let reason = self.pause_reason(job).unwrap_or(PauseReason::Unaccepted);
            return Some(format!("paused: {reason}"));
        }
        if self.runway(job) < Seconds(interval.0.saturating_mul(4)) {
            let left = self.runway(job);
            return Some(format!("the deposit lasts for {left} more at full use; top it up"));
        }
        let waiting = self.unaccepted();
        // One that was only just signed is on its way.
        let is_late = |head: ReceiptHead| now.since(head.to) >= Seconds(interval.0.div_ceil(2));
        (waiting > 0 && self.head.is_some_and(is_late) && !self.owed(job).is_zero()).then(|| {
            format!("{waiting} receipts wait for a voucher; at {MAX_UNACCEPTED} the job is paused")
        })
    }

    /// Notes whether the instance is frozen for money.
    pub const fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// Whether it has been paused for longer than is waited: for `grace` where the deposit is used up, for `silence` where
    /// nobody accepts its bills.
    pub fn is_given_up(&self, job: &Job, now: Timestamp, grace: Seconds, silence: Seconds) -> bool {
        let patience = match self.pause_reason(job) {
            Some(PauseReason::Exhausted) => grace,
            Some(PauseReason::Unaccepted) => silence,
            None => return false,
        };
        self.is_paused && now.since(self.meter.read_at()) >= patience
    }

    /// Begins to end it; nothing changes where that was begun before.
    pub fn end(&mut self, now: Timestamp) {
        self.ending.get_or_insert(now);
    }

    /// Makes the last receipt, if there is time to read; nothing is billed after it. Also where nothing was used since:
    /// what is accepted later is never worth less.
    pub fn finish(&mut self, now: Timestamp) -> Option<Receipt> {
        self.end(now);
        let last = self.read(now);
        self.final_at.get_or_insert(now);
        last
    }
}

/// Why receipts are not a chain of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("receipt {seq} does not follow from the one before, or is signed by somebody else")]
pub struct BrokenChain {
    /// Where.
    pub seq: u32,
}

/// Checks that receipts follow on `head` and that `is_own` says yes to each of them; returns the newest.
pub fn check_chain(
    job: JobId,
    head: Option<&ReceiptHead>,
    receipts: &[SignedReceipt],
    is_own: impl Fn(&SignedReceipt) -> bool,
) -> Result<Option<ReceiptHead>, BrokenChain> {
    let mut head = head.copied();
    for signed in receipts {
        let receipt = &signed.receipt;
        let (seq, prev, to) = match &head {
            Some(head) => (head.seq.checked_add(1), head.root, head.to),
            None => (Some(0), job.0, receipt.from),
        };
        let follows = Some(receipt.seq) == seq && receipt.prev == prev && receipt.from == to;
        if receipt.job != job || !follows || receipt.to <= receipt.from || !is_own(signed) {
            return Err(BrokenChain { seq: receipt.seq });
        }
        head = Some(receipt.into());
    }
    Ok(head)
}
