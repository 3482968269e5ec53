//! A provider and an agent, made of the machines under test. What is durable is kept as it is written down; the rest is
//! gone with the process.

use std::collections::BTreeMap;

use roadstead_abi::{receipt_digest, receipt_root, recover};
use roadstead_core::{
    Circumstances, Follower, JobAccount, SettlePolicy, Settlement, Sighting, Verdict, check_chain,
    protocol::RefusalCode,
};
use roadstead_types::{JobStatus, Receipt, SignedReceipt, TokenAmount, Voucher};

use crate::{
    fixture::{Key, READY},
    world::{Message, World},
};

/// The most receipts in one answer, small enough that it matters.
const PAGE: usize = 3;

/// Where a process dies, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    Never,
    /// Before what it decided is durable.
    Before,
    /// After that, and before it is acted on.
    After,
}

#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) policy: SettlePolicy,
    /// The account as it was written down; `None` once the disk was lost.
    kept: Option<String>,
    pub(crate) receipts: Vec<SignedReceipt>,
    /// Of the present process.
    pub(crate) account: Option<JobAccount>,
    is_ordered_away: bool,
}

impl Provider {
    pub(crate) fn new(world: &World, policy: SettlePolicy) -> Self {
        let account = JobAccount::open(world.market.job, world.market.tariff, READY);
        let kept = Some(serde_json::to_string(&account).unwrap());
        let account = Some(account);
        Self { policy, kept, receipts: Vec::new(), account, is_ordered_away: false }
    }

    /// The process dies and the next one begins.
    pub(crate) fn restart(&mut self) {
        self.account = self.kept.as_ref().map(|kept| serde_json::from_str(kept).unwrap());
    }

    /// Nobody else holds the receipts that no agent has: they are as good as never signed.
    pub(crate) fn lose_disk(&mut self, world: &mut World, held: usize) {
        (self.kept, self.account) = (None, None);
        self.receipts.clear();
        world.published.truncate(held);
        world.network.clear();
    }

    pub(crate) fn order_away(&mut self) {
        self.is_ordered_away = true;
    }

    /// Takes one step of the account: durable with its receipt, and only then visible.
    fn step(
        &mut self,
        world: &mut World,
        crash: Crash,
        step: impl FnOnce(&mut JobAccount) -> Option<Receipt>,
    ) -> bool {
        let mut account = self.account.clone().unwrap();
        let receipt = step(&mut account);
        if crash == Crash::Before {
            self.restart();
            return false;
        }
        if let Some(receipt) = receipt {
            let prev = self.receipts.last().map(|last| receipt_root(&last.receipt));
            assert_eq!(receipt.prev, prev.unwrap_or(world.market.job.0), "one chain");
            assert_eq!(receipt.seq as usize, world.published.len(), "a number is signed once");
            world.published.push(receipt);
            self.receipts.push(world.market.signed(receipt));
        }
        self.kept = Some(serde_json::to_string(&account).unwrap());
        self.account = Some(account);
        if crash == Crash::After {
            self.restart();
        }
        crash == Crash::Never
    }

    /// Everything that a daemon does about the job now.
    pub(crate) fn tend(&mut self, world: &mut World, crash: Crash) {
        let Some(account) = &self.account else {
            world.machine.is_frozen = true;
            return;
        };
        let slot = world.escrow.slot;
        if !matches!(slot.status(), JobStatus::Open | JobStatus::Closing) {
            return;
        }
        let (now, usage) = (world.now, world.machine.usage());
        let is_leaving = slot.status() == JobStatus::Closing || self.is_ordered_away;
        if is_leaving && !account.is_final() {
            let sighting = if world.machine.is_dead {
                Sighting::Stopped(Some(usage))
            } else if account.is_paused() {
                Sighting::Frozen(usage)
            } else {
                Sighting::Running(usage)
            };
            let is_done = self.step(world, crash, |account| {
                account.see(now, sighting);
                account.finish(now)
            });
            world.machine.is_gone |= is_done;
            return;
        }
        if !account.is_final() {
            self.meter(world, crash);
        }
        self.settle(world);
    }

    fn meter(&mut self, world: &mut World, crash: Crash) {
        let (now, usage) = (world.now, world.machine.usage());
        if world.machine.is_dead {
            let is_seen = self.step(world, crash, |account| {
                account.see(now, Sighting::Stopped(Some(usage)));
                None
            });
            if is_seen {
                world.machine.restart();
                self.step(world, Crash::Never, |account| {
                    account.restarted(now);
                    None
                });
            }
            return;
        }
        let account = self.account.as_ref().unwrap();
        let sighting = if account.is_reading_due(now) {
            Some(Sighting::Running(usage))
        } else if account.is_redating_due(now) {
            Some(Sighting::Frozen(usage))
        } else {
            None
        };
        if let Some(sighting) = sighting {
            let is_done = self.step(world, crash, |account| {
                account.see(now, sighting);
                account.read(now)
            });
            if !is_done {
                return;
            }
        }
        let account = self.account.as_ref().unwrap();
        let should_pause = account.pause_reason(&world.escrow.slot).is_some();
        if should_pause && !(account.is_paused() && world.machine.is_frozen) {
            let is_done = self.step(world, crash, |account| {
                account.see(now, Sighting::Frozen(usage));
                account.set_paused(true);
                None
            });
            world.machine.is_frozen |= is_done;
        } else if !should_pause && (account.is_paused() || world.machine.is_frozen) {
            world.machine.is_frozen = false;
            self.step(world, crash, |account| {
                account.see(now, Sighting::Running(usage));
                account.set_paused(false);
                None
            });
        }
    }

    fn settle(&mut self, world: &mut World) {
        let Some(account) = &self.account else { return };
        let (market, slot, head) = (&world.market, world.escrow.slot, world.head());
        let decided = account.settlement(&market.terms, &slot, &self.policy, head, world.now);
        match decided {
            Settlement::None => {}
            Settlement::Settle(voucher) => world.escrow.settle(market, &voucher, head),
            Settlement::SettleAndClose(voucher) => {
                world.escrow.settle(market, &voucher, head);
                world.escrow.close();
            }
            Settlement::Decline => world.escrow.close(),
        }
    }

    pub(crate) fn hear(&mut self, world: &mut World, message: Message, crash: Crash) {
        match message {
            Message::Sync { agent, head, voucher } => {
                if self.account.is_some()
                    && let Some(voucher) = voucher
                {
                    self.accept(world, &voucher, crash);
                }
                let after = head.map_or(0, |head| head as usize + 1);
                let receipts = self.receipts.iter().skip(after).take(PAGE).copied().collect();
                let wants_restore = self.account.is_none();
                world.network.push(Message::State { agent, receipts, wants_restore });
            }
            Message::Restore { receipts, voucher } if self.account.is_none() => {
                self.restore(world, receipts);
                if let Some(voucher) = voucher {
                    self.accept(world, &voucher, crash);
                }
            }
            Message::Restore { .. } | Message::State { .. } => {}
        }
    }

    fn accept(&mut self, world: &mut World, voucher: &Voucher, crash: Crash) {
        let is_of =
            |signed: &&SignedReceipt| receipt_root(&signed.receipt) == voucher.bill.usage_root;
        let Some(signed) = self.receipts.iter().find(is_of).copied() else { return };
        let before = self.money();
        let (market, slot) = (world.market.clone(), world.escrow.slot);
        self.step(world, crash, |account| {
            let taken =
                account.accept(voucher, &signed.receipt, &market.domain, &market.terms, &slot);
            let is_over = slot.status() == JobStatus::Closed;
            assert!(taken.is_ok() || is_over, "an honest voucher is refused: {taken:?}");
            None
        });
        assert!(self.money() >= before, "accepted money never falls");
    }

    fn money(&self) -> TokenAmount {
        let accepted = self.account.as_ref().and_then(JobAccount::accepted);
        accepted.map(|(_, voucher)| voucher.bill.cumulative).unwrap_or_default()
    }

    fn restore(&mut self, world: &World, receipts: Vec<SignedReceipt>) {
        let market = &world.market;
        let is_own = |signed: &SignedReceipt| {
            let digest = receipt_digest(&market.domain, &signed.receipt);
            recover(&digest, &signed.signature) == Some(market.terms.provider)
        };
        check_chain(market.job, None, &receipts, is_own).unwrap();
        let Some(newest) = receipts.last() else { return };
        let mut account = JobAccount::restored(market.tariff, &newest.receipt);
        account.set_paused(true);
        self.kept = Some(serde_json::to_string(&account).unwrap());
        self.account = Some(account);
        self.receipts = receipts;
    }
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) number: usize,
    key: Key,
    kept: Option<String>,
    pub(crate) receipts: BTreeMap<u32, SignedReceipt>,
    pub(crate) follower: Follower,
}

impl Agent {
    pub(crate) fn new(world: &World, number: usize) -> Self {
        let follower = Follower::new(world.market.job, world.market.tariff);
        let key = world.market.signer.clone();
        Self { number, key, kept: None, receipts: BTreeMap::new(), follower }
    }

    /// How many receipts it holds.
    pub(crate) fn held(&self) -> usize {
        self.receipts.len()
    }

    pub(crate) fn restart(&mut self) {
        if let Some(kept) = &self.kept {
            self.follower = serde_json::from_str(kept).unwrap();
        } else {
            self.follower = Follower::new(self.follower.job(), *self.follower.tariff());
        }
    }

    pub(crate) fn lose_disk(&mut self) {
        self.kept = None;
        self.receipts.clear();
        self.restart();
    }

    fn keep(&mut self, receipt: Option<SignedReceipt>) {
        self.kept = Some(serde_json::to_string(&self.follower).unwrap());
        if let Some(signed) = receipt {
            self.receipts.insert(signed.receipt.seq, signed);
        }
    }

    /// Asks, after it saw whether more of its newest receipt can be accepted by now.
    pub(crate) fn ask(&mut self, world: &mut World) {
        if let Some(Verdict::Accepted { bill, shortage }) =
            self.follower.examine_head(&circumstances(world))
        {
            let head = self.receipts.last_key_value().unwrap().1.receipt;
            let voucher = self.sign(world, &head, bill);
            self.follower.accept_more(voucher, shortage);
            self.keep(None);
        }
        let head = self.follower.head().map(|head| head.seq);
        let voucher = self.follower.voucher().copied();
        world.network.push(Message::Sync { agent: self.number, head, voucher });
    }

    fn sign(&self, world: &World, receipt: &Receipt, bill: roadstead_types::Bill) -> Voucher {
        let market = &world.market;
        assert!(bill.cumulative <= world.escrow.deposited, "never above the deposit");
        assert!(bill.cumulative <= market.due(&receipt.total), "never above the sum");
        assert!(bill.cumulative >= self.follower.accepted(), "accepted money never falls");
        assert_eq!(self.key.address(), market.terms.signer);
        market.voucher(bill)
    }

    pub(crate) fn hear(
        &mut self,
        world: &mut World,
        receipts: &[SignedReceipt],
        wants_restore: bool,
        crash: Crash,
    ) {
        if wants_restore {
            let receipts = self.receipts.values().copied().collect();
            let voucher = self.follower.voucher().copied();
            world.network.push(Message::Restore { receipts, voucher });
        }
        for signed in receipts {
            let known = self.receipts.get(&signed.receipt.seq);
            let known = known.map(|known| receipt_root(&known.receipt));
            match self.follower.examine(signed, known, &circumstances(world)) {
                Verdict::Accepted { bill, shortage } => {
                    let voucher = self.sign(world, &signed.receipt, bill);
                    self.follower.accept(signed, voucher, shortage);
                    if crash == Crash::Before {
                        return self.restart();
                    }
                    self.keep(Some(*signed));
                }
                Verdict::Known => {}
                Verdict::Refused { refusal, bill } => {
                    // An answer to a question of long ago, and nothing else that an honest provider could do.
                    assert_eq!((refusal.code, bill), (RefusalCode::Order, None));
                    self.follower.refuse(signed, refusal, None);
                    self.keep(None);
                    break;
                }
            }
        }
        if crash == Crash::After {
            self.restart();
        }
    }
}

fn circumstances(world: &World) -> Circumstances<'_> {
    let limit = world.escrow.deposited.units();
    Circumstances { operator: None, ..world.market.circumstances(limit, world.now) }
}
