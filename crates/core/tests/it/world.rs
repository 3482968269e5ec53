//! What a market stands on, as a model: a container and its counters, the escrow of one job, a network that keeps what is
//! sent until somebody delivers it.

use roadstead_abi::{recover, voucher_digest};
use roadstead_core::{advance, ports::Usage};
use roadstead_types::{
    Bill, Job, JobStatus, Receipt, Resources, Seconds, SignedReceipt, Timestamp, TokenAmount,
    Voucher,
};

use crate::fixture::{Fixture, OPENED, READY, amount, usage};

/// How often there is a block.
const BLOCK: u32 = 2;

/// The container outlives its provider's process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) is_frozen: bool,
    pub(crate) is_dead: bool,
    pub(crate) is_gone: bool,
    /// Of the present life.
    counters: Resources<u64>,
    /// Over all lives: what nobody may bill more than.
    pub(crate) used: Resources<u64>,
}

impl Machine {
    pub(crate) fn is_running(&self) -> bool {
        !self.is_frozen && !self.is_dead && !self.is_gone
    }

    /// Time passes; the container uses so much of its reservation, which it passes now and then.
    fn run(&mut self, reserved: &Resources<u64>, seconds: u32, percent: u64) {
        if !self.is_running() {
            return;
        }
        let seconds = u64::from(seconds);
        let counted = |each: u64| each * seconds * percent / 100;
        let more = Resources {
            cpu: counted(reserved.cpu),
            memory: reserved.memory * seconds,
            storage: reserved.storage * seconds,
            network_in: counted(reserved.network_in),
            network_out: counted(reserved.network_out),
            accelerator: reserved.accelerator * seconds,
        };
        let sum = |a: Resources<u64>| Resources::from_fn(|each| a.get(each) + more.get(each));
        (self.counters, self.used) = (sum(self.counters), sum(self.used));
    }

    pub(crate) fn usage(&self) -> Usage {
        usage(&self.counters)
    }

    /// The counters of the next life begin at zero, and it is not frozen.
    pub(crate) fn restart(&mut self) {
        (self.is_dead, self.is_frozen) = (false, false);
        self.counters = Resources::default();
    }
}

/// The contract.
#[derive(Clone, Debug)]
pub(crate) struct Escrow {
    pub(crate) slot: Job,
    /// All that was ever put in.
    pub(crate) deposited: TokenAmount,
    pub(crate) refund: TokenAmount,
    /// The newest bill that was settled.
    pub(crate) settled: Option<Bill>,
}

impl Escrow {
    pub(crate) fn is_closed(&self) -> bool {
        self.slot.status() == JobStatus::Closed
    }

    pub(crate) fn top_up(&mut self, more: u128) {
        if self.slot.status() == JobStatus::Open {
            self.deposited = self.deposited.checked_add(amount(more)).unwrap();
            self.slot.deposit = self.deposited;
        }
    }

    pub(crate) fn claim_start_fee(&mut self, fee: TokenAmount) {
        self.slot.paid = self.slot.paid.max(fee.min(self.slot.deposit));
    }

    /// Reverts where the contract would: a client that sends such a bill is wrong.
    pub(crate) fn settle(&mut self, market: &Fixture, voucher: &Voucher, head: Timestamp) {
        let digest = voucher_digest(&market.domain, market.job, &voucher.bill);
        assert_eq!(recover(&digest, &voucher.signature), Some(market.terms.signer));
        let paid = advance(&market.terms, &self.slot, &voucher.bill, head).unwrap();
        assert!(paid > self.slot.paid && paid <= self.slot.deposit);
        self.settled = Some(voucher.bill);
        (self.slot.paid, self.slot.paid_until) = (paid, voucher.bill.until);
    }

    pub(crate) fn begin_close(&mut self, now: Timestamp, notice: Seconds) {
        if self.slot.status() == JobStatus::Open {
            self.slot.close_at = now.after(notice);
        }
    }

    pub(crate) fn close(&mut self) {
        assert!(matches!(self.slot.status(), JobStatus::Open | JobStatus::Closing));
        self.refund = self.slot.deposit.saturating_sub(self.slot.paid);
        (self.slot.deposit, self.slot.close_at) = (self.slot.paid, Job::CLOSED);
    }
}

/// What is under way.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Sync { agent: usize, head: Option<u32>, voucher: Option<Voucher> },
    Restore { receipts: Vec<SignedReceipt>, voucher: Option<Voucher> },
    State { agent: usize, receipts: Vec<SignedReceipt>, wants_restore: bool },
}

/// Everything that is nobody's.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) market: Fixture,
    pub(crate) now: Timestamp,
    pub(crate) machine: Machine,
    pub(crate) escrow: Escrow,
    pub(crate) network: Vec<Message>,
    /// Every receipt that ever left the provider's process, by its number.
    pub(crate) published: Vec<Receipt>,
}

impl World {
    pub(crate) fn new(market: Fixture, deposit: u128) -> Self {
        let slot = market.slot(deposit);
        let (deposited, refund) = (slot.deposit, TokenAmount::ZERO);
        Self {
            market,
            now: READY,
            machine: Machine::default(),
            escrow: Escrow { slot, deposited, refund, settled: None },
            network: Vec::new(),
            published: Vec::new(),
        }
    }

    /// The time of the newest block.
    pub(crate) fn head(&self) -> Timestamp {
        Timestamp(self.now.0 - (self.now.0 - OPENED.0) % BLOCK)
    }

    pub(crate) fn pass(&mut self, seconds: u32, percent: u64) {
        self.now = self.now.after(Seconds(seconds));
        self.machine.run(&self.market.tariff.reservation, seconds, percent);
    }
}
