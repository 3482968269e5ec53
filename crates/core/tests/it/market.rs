//! A market in which everything goes wrong that can: one provider, two agents of one signer, a network that loses,
//! doubles, delays and reorders, crashes, lost disks, long absences, a deposit that is used up and topped up.

use proptest::prelude::*;
use roadstead_core::{FinishedJob, SettlePolicy, cost_of, verify_bill};
use roadstead_types::{JobStatus, Receipt, Resources, Seconds, SignedReceipt, Tariff, TokenAmount};

use crate::{
    fixture::{Fixture, OPENED, amount},
    parties::{Agent, Crash, Provider},
    world::{Message, World},
};

/// The longest step of time but for those of a provider that is away.
const MOST: u32 = 70;

#[derive(Clone, Debug)]
enum Action {
    /// Time passes, and the container uses so many hundredths of its reservation.
    Pass {
        seconds: u32,
        percent: u64,
    },
    Tend(Crash),
    Ask(usize),
    Deliver {
        which: usize,
        crash: Crash,
        is_kept: bool,
    },
    Lose {
        which: usize,
    },
    ProviderRestarts,
    ProviderLosesDisk,
    AgentLosesDisk(usize),
    ContainerDies,
    TopUp(u128),
}

/// How a job ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// Ordered, or begun on chain; the agents are there.
    Agreed { is_ordered: bool },
    /// The agents are gone when the last receipt is made.
    Silent,
}

#[derive(Clone, Debug)]
struct Case {
    market: Fixture,
    deposit: u128,
    policy: SettlePolicy,
    actions: Vec<Action>,
    ending: Ending,
}

struct Play {
    world: World,
    provider: Provider,
    agents: [Agent; 2],
    paid: TokenAmount,
    /// The most receipts that an agent ever held.
    held: usize,
}

impl Play {
    fn new(case: &Case) -> Self {
        let mut world = World::new(case.market.clone(), case.deposit);
        world.escrow.claim_start_fee(case.market.terms.start_fee);
        let provider = Provider::new(&world, case.policy);
        let agents = [0, 1].map(|number| Agent::new(&world, number));
        Self { world, provider, agents, paid: TokenAmount::ZERO, held: 0 }
    }

    fn act(&mut self, action: &Action) {
        let world = &mut self.world;
        match *action {
            Action::Pass { seconds, percent } => world.pass(seconds, percent),
            Action::Tend(crash) => self.provider.tend(world, crash),
            Action::Ask(agent) => self.agents[agent].ask(world),
            Action::Deliver { which, crash, is_kept } => {
                if let Some(index) = which.checked_rem(world.network.len()) {
                    let message = if is_kept {
                        world.network[index].clone()
                    } else {
                        world.network.remove(index)
                    };
                    self.deliver(message, crash);
                }
            }
            Action::Lose { which } => {
                if let Some(index) = which.checked_rem(world.network.len()) {
                    world.network.swap_remove(index);
                }
            }
            Action::ProviderRestarts => self.provider.restart(),
            Action::ProviderLosesDisk => {
                // What every agent has forgotten cannot come back.
                let held = self.agents.iter().map(Agent::held).max().unwrap_or(0);
                if held > 0 && held == self.held {
                    self.provider.lose_disk(world, held);
                }
            }
            Action::AgentLosesDisk(agent) => {
                let others = self.agents[1 - agent].held();
                if self.provider.account.is_some() || others == self.held {
                    self.agents[agent].lose_disk();
                }
            }
            Action::ContainerDies => world.machine.is_dead |= world.machine.is_running(),
            Action::TopUp(more) => world.escrow.top_up(more),
        }
        self.check();
    }

    fn deliver(&mut self, message: Message, crash: Crash) {
        let world = &mut self.world;
        if let Message::State { agent, receipts, wants_restore } = message {
            // Of several agents the one with the most receipts gives them back: the others would make the provider sign
            // numbers again that it has signed.
            let is_best = self.agents[agent].held() == self.held;
            let wants_restore = wants_restore && is_best && self.held > 0;
            self.agents[agent].hear(world, &receipts, wants_restore, crash);
            self.held = self.held.max(self.agents[agent].held());
        } else {
            self.provider.hear(world, message, crash);
        }
    }

    /// What holds after every step.
    fn check(&mut self) {
        let (world, slot) = (&self.world, &self.world.escrow.slot);
        assert!(slot.paid >= self.paid, "paid money never falls");
        self.paid = slot.paid;
        let rate = world.market.terms.rate_per_hour;
        let earned = rate.units() * u128::from(slot.paid_until.since(OPENED).0) / 3_600;
        assert!(slot.paid.units() <= world.market.terms.start_fee.units() + earned);

        let Some(account) = &self.provider.account else { return };
        if let Some(head) = account.head() {
            for each in roadstead_types::Resource::ALL {
                assert!(head.total.get(each) <= world.machine.used.get(each), "{each}");
            }
        }
        assert!(
            account.owed(slot) <= self.bound(),
            "{:?} of {:?}",
            account.owed(slot),
            self.bound()
        );
        let [one, other] = &self.agents;
        if let (Some(a), Some(b)) = (one.follower.voucher(), other.follower.voucher()) {
            assert!(a.bill != b.bill || a.signature == b.signature, "one bill, one signature");
        }
    }

    /// Two intervals of full use, one more that ends while it is decided, and whatever a provider that was away read in
    /// longer ones that are not accepted in full.
    fn bound(&self) -> TokenAmount {
        let tariff = &self.world.market.tariff;
        let account = self.provider.account.as_ref().unwrap();
        let accepted = account.accepted().map(|(_, voucher)| voucher.bill.cumulative);
        let open = |signed: &&SignedReceipt| Some(signed.receipt.cumulative) > accepted;
        let excess: u32 = self.provider.receipts.iter().filter(open).fold(0, |sum, signed| {
            let span = signed.receipt.to.since(signed.receipt.from).0;
            sum + span.saturating_sub(tariff.interval.0)
        });
        let rate = self.world.market.terms.rate_per_hour;
        cost_of(rate, Seconds(3 * tariff.interval.0 + excess))
    }

    /// A minute in which everybody is there and nothing is lost.
    fn quiet(&mut self, with_agents: bool) {
        self.act(&Action::Pass { seconds: 30, percent: 100 });
        self.act(&Action::Tend(Crash::Never));
        for agent in 0..2 {
            if with_agents {
                self.act(&Action::Ask(agent));
            }
        }
        while !self.world.network.is_empty() {
            self.act(&Action::Deliver { which: 0, crash: Crash::Never, is_kept: false });
        }
    }

    /// Whatever happened: once everybody is back and there is money, the container runs.
    fn come_back(&mut self) {
        self.world.network.clear();
        self.provider.restart();
        if self.provider.account.is_none() && self.held == 0 {
            return;
        }
        let billed = self.world.published.last().map(|last| last.cumulative);
        let needed = billed.unwrap_or_default().units() + 100_000_000;
        self.act(&Action::TopUp(needed));
        // Receipts come in pages; and what the rate does not allow yet it allows in time.
        let longest =
            self.world.published.iter().map(|each| each.to.since(each.from).0).sum::<u32>();
        let rounds = 20 + u32::try_from(self.world.published.len()).unwrap() + longest / 30;
        for _ in 0..rounds {
            self.quiet(true);
            if self.is_well() {
                return;
            }
        }
        panic!("{rounds} rounds are not enough: {:#?}", self.provider.account);
    }

    fn is_well(&self) -> bool {
        let account = self.provider.account.as_ref();
        let in_step = self.agents.iter().all(|each| each.held() == self.provider.receipts.len());
        let is_equal = self.agents[0].follower.voucher() == self.agents[1].follower.voucher();
        let is_running = account.is_some_and(|account| !account.is_paused());
        self.world.machine.is_running() && is_running && in_step && is_equal
    }

    fn end(&mut self, ending: Ending) {
        let notice = self.world.market.terms.notice;
        match ending {
            Ending::Agreed { is_ordered: true } | Ending::Silent => self.provider.order_away(),
            Ending::Agreed { is_ordered: false } => {
                self.world.escrow.begin_close(self.world.now, notice);
            }
        }
        for _ in 0..8 {
            self.quiet(matches!(ending, Ending::Agreed { .. }));
        }
        if !self.world.escrow.is_closed() {
            assert!(matches!(ending, Ending::Silent), "the provider did not close");
            self.world.escrow.begin_close(self.world.now, notice);
            self.world.pass(notice.0, 0);
            self.quiet(false);
            if !self.world.escrow.is_closed() {
                self.world.escrow.close();
            }
        }
        self.check_bill(ending);
    }

    fn check_bill(&self, ending: Ending) {
        let (world, escrow) = (&self.world, &self.world.escrow);
        assert_eq!(escrow.slot.status(), JobStatus::Closed);
        let paid = escrow.slot.paid;
        assert_eq!(Some(escrow.deposited), paid.checked_add(escrow.refund));
        let account = self.provider.account.as_ref().unwrap();
        let voucher = account.accepted().map(|(_, voucher)| voucher);
        // Nobody accepted anything: then nothing but the start fee was due.
        let receipts: &[SignedReceipt] =
            if voucher.is_some() { &self.provider.receipts } else { &[] };
        let verified = verify_bill(&FinishedJob {
            domain: &world.market.domain,
            job: world.market.job,
            terms: &world.market.terms,
            tariff: &world.market.tariff,
            operator: None,
            opened_at: OPENED,
            deposit: escrow.deposited,
            state: escrow.slot,
            receipts,
            voucher,
        });
        // What was accepted is paid, unless the date of its bill was spent on a short one, or the rate cut it.
        let fee = world.market.terms.start_fee;
        let is_spent = |until| escrow.settled.is_some_and(|settled| settled.until == until);
        let missing = voucher.map_or(TokenAmount::ZERO, |voucher| {
            assert!(is_spent(voucher.bill.until) || voucher.bill.cumulative <= paid);
            voucher.bill.cumulative.saturating_sub(paid)
        });
        match verified {
            Ok(bill) => {
                assert_eq!(bill.unclaimed, missing, "{bill:?}");
                if matches!(ending, Ending::Agreed { .. }) {
                    assert_eq!(bill.due, bill.metered.max(fee), "all of it is accepted");
                }
            }
            Err(problem) => panic!("{problem}"),
        }
        // Without a long reading past the deposit, rounding is all that can be missing.
        let longest = world.market.tariff.interval.0 + MOST;
        let is_long = |each: &Receipt| each.to.since(each.from).0 > longest;
        if !world.published.iter().any(is_long) {
            assert!(missing.units() <= world.published.len() as u128, "{missing} is missing");
        }
    }
}

fn any_crash() -> impl Strategy<Value = Crash> {
    prop_oneof![10 => Just(Crash::Never), 1 => Just(Crash::Before), 1 => Just(Crash::After)]
}

fn any_action() -> impl Strategy<Value = Action> {
    let pass = (prop_oneof![12 => 1u32..MOST, 1 => 500u32..5_000], 0u64..150);
    prop_oneof![
        20 => pass.prop_map(|(seconds, percent)| Action::Pass { seconds, percent }),
        25 => any_crash().prop_map(Action::Tend),
        12 => (0usize..2).prop_map(Action::Ask),
        25 => (any::<usize>(), any_crash(), prop::bool::weighted(0.1))
            .prop_map(|(which, crash, is_kept)| Action::Deliver { which, crash, is_kept }),
        4 => any::<usize>().prop_map(|which| Action::Lose { which }),
        2 => Just(Action::ProviderRestarts),
        1 => Just(Action::ProviderLosesDisk),
        1 => (0usize..2).prop_map(Action::AgentLosesDisk),
        1 => Just(Action::ContainerDies),
        2 => (1u128..20_000).prop_map(Action::TopUp),
    ]
}

/// Cheap and dear, memory alone or everything, a rate without any margin or with some.
fn any_market() -> impl Strategy<Value = Fixture> {
    let price = prop_oneof![Just(300_000_000u128), Just(10_000_000_000), 1u128..30_000_000_000];
    (price, any::<bool>(), prop_oneof![Just(0u128), 1u128..200], 0u128..4_000, 5u32..90).prop_map(
        |(price, is_memory_alone, margin, start_fee, interval)| {
            let full = Fixture::new().tariff;
            let prices = if is_memory_alone {
                Resources { memory: price, ..Resources::default() }
            } else {
                Resources::from_fn(|_| price)
            };
            let tariff = Tariff { interval: Seconds(interval), prices, ..full };
            let mut market = Fixture::with(tariff, margin);
            market.terms.start_fee = amount(start_fee);
            market.job = roadstead_abi::job_id(&market.domain, &market.terms);
            market
        },
    )
}

fn any_case() -> impl Strategy<Value = Case> {
    let ending = prop_oneof![
        Just(Ending::Agreed { is_ordered: true }),
        Just(Ending::Agreed { is_ordered: false }),
        Just(Ending::Silent),
    ];
    let policy = (prop_oneof![1u128..200, 200u128..50_000], 60u32..20_000)
        .prop_map(|(value, age)| SettlePolicy { value: amount(value), age: Seconds(age) });
    let actions = prop::collection::vec(any_action(), 1..250);
    (any_market(), 4_000u128..60_000, policy, actions, ending).prop_map(
        |(market, deposit, policy, actions, ending)| Case {
            market,
            deposit,
            policy,
            actions,
            ending,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_fails_nobody_loses_more_than_the_bound_and_the_bill_is_right(case in any_case()) {
        let mut play = Play::new(&case);
        for action in &case.actions {
            play.act(action);
        }
        play.come_back();
        play.end(case.ending);
    }
}
